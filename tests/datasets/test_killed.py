import numpy as np

from cepcli.datasets.labelling import label
from cepcli.datasets.labels import with_labels
from cepcli.datasets.load import load_dataset
from cepcli.workspace.artifacts import Workspace
from tests.datasets import dying
from tests.datasets.dying import STEPS, collected
from tests.datasets.test_labelling import config, model, text  # noqa: F401  (fixtures)
from tests.killed import killed


def test_a_killed_collection_goes_on_to_the_same_data(tmp_path):
    collected(tmp_path / "whole", STEPS + 1)
    cut = tmp_path / "cut"
    killed(dying.collect_and_die, cut, 150)
    assert list((cut / "dataset" / "made.partial" / "kept").glob("0-*.parquet"))
    collected(cut, STEPS + 1)
    whole, other = (
        load_dataset("made", workspace=Workspace(root), notify=lambda said: None)
        for root in (tmp_path / "whole", cut)
    )
    assert whole.strings == other.strings
    for name in ("goal", "text", "actions", "chosen", "rewards", "terminated", "truncated"):
        assert np.array_equal(getattr(whole, name), getattr(other, name)), name


def test_a_killed_labelling_goes_on_and_asks_nothing_twice(model, text, tmp_path):  # noqa: F811
    whole = Workspace(tmp_path / "whole")
    expected = label(text, config("certified"), whole)
    asked = model.states
    killed(dying.label_and_die, tmp_path, 10)
    found = label(text, config("certified"), Workspace(tmp_path))
    assert model.states <= asked - 10
    assert found["queries"] == expected["queries"]
    ours = with_labels(text, "it", "scripted", Workspace(tmp_path)).log_prior
    assert np.array_equal(ours, with_labels(text, "it", "scripted", whole).log_prior)
