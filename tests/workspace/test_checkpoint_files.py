"""Tensors out of a checkpoint: just those that the learner has, or a sentence."""

import pytest
import torch

from cepcli.errors import ArtifactError
from cepcli.workspace.checkpoint_files import fitting, take_over


@pytest.fixture
def own():
    return {"actor": torch.zeros(2, 3), "log_alpha": torch.zeros(())}


def test_tensors_are_copied_in_place(own):
    actor = own["actor"]
    take_over({"actor": torch.ones(2, 3), "log_alpha": torch.tensor(2.0)}, own)
    assert actor.sum() == 6.0
    assert own["log_alpha"] == 2.0


@pytest.mark.parametrize(
    ("saved", "told"),
    [
        ({"log_alpha": torch.ones(())}, "lacks `actor`"),
        (
            {"actor": torch.ones(2, 3), "log_alpha": torch.ones(()), "old": torch.ones(1)},
            "has no use for `old`",
        ),
        (
            {"actor": torch.ones(1), "log_alpha": torch.ones(())},  # would be stretched to fit
            r"a `actor` of shape \(1,\), expected \(2, 3\)",
        ),
    ],
)
def test_what_does_not_fit_is_refused_and_nothing_copied(own, tmp_path, saved, told):
    with pytest.raises(ArtifactError, match=told) as error, fitting(tmp_path):
        take_over(saved, own)
    assert str(tmp_path) in error.value.message
    assert own["actor"].sum() == 0.0 == own["log_alpha"]
