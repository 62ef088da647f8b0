"""The losses of the three stages against values worked out by hand."""

import numpy as np
import pytest
import torch

from cepcli.abstraction.fitting import (
    Fitter,
    Labelled,
    contrastive_loss,
    discounted,
    divergence_loss,
)
from cepcli.errors import ConfigError
from cepcli.keys.config import AbstractionConfig


def test_contrastive_loss_is_infonce_both_ways():
    keys, described = torch.eye(2), torch.tensor([[1.0, 0.0], [0.6, 0.8]])
    same = torch.eye(2, dtype=torch.bool)
    logits = np.array([[1.0, 0.6], [0.0, 0.8]]) / 0.5
    rows = np.log(np.exp(logits).sum(1)) - logits.diagonal()
    columns = np.log(np.exp(logits).sum(0)) - logits.diagonal()
    loss = contrastive_loss(keys, described, same, 0.5)
    assert float(loss) == pytest.approx((rows + columns).mean() / 2, rel=1e-5)


def test_states_of_one_description_are_no_negatives():
    keys = torch.nn.functional.normalize(torch.tensor([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0]]), dim=1)
    described = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    same = torch.tensor([[1, 1, 0], [1, 1, 0], [0, 0, 1]], dtype=torch.bool)
    found = contrastive_loss(keys, described, same, 0.07)
    unknowing = contrastive_loss(keys, described, torch.eye(3, dtype=torch.bool), 0.07)
    assert float(found) < 0.01 < float(unknowing)


def test_rewards_are_discounted_within_an_episode():
    [first, second] = discounted([np.array([1.0, 2.0, 4.0]), np.array([8.0])], 0.5)
    assert first.tolist() == [3.0, 4.0, 4.0]
    assert second.tolist() == [8.0]


def labelled():
    inputs = np.eye(4, dtype=np.float32)
    codes = np.array([[0], [1], [0], [-1]])
    vectors = np.eye(4, 8, dtype=np.float32)
    return Labelled(inputs, np.arange(4), vectors, codes, (np.eye(2, 8, dtype=np.float32),))


def fitter(**settings):
    config = AbstractionConfig(dim=4, hidden=16, batch=4, **settings)
    return Fitter(4, 8, config, np.random.default_rng(0))


def test_a_stage_learns_and_keeps_its_seed():
    first, second = fitter(steps=60), fitter(steps=60)
    early, late = first.stage(labelled()), first.stage(labelled())
    assert late.contrast < early.contrast
    assert (early.divergence, early.value) == (0.0, 0.0)
    assert second.stage(labelled()) == early


def test_divergence_is_said():
    with pytest.raises(ConfigError, match="diverged at learning_rate 1e"):
        fitter(steps=5, learning_rate=1e30).stage(labelled())


def test_keys_too_near_weigh_more_than_keys_too_far():
    keys = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])  # squared distances 0, 2, 2
    nan = torch.nan
    known = torch.tensor([[nan, 0.0, 4.0], [0.0, nan, nan], [4.0, nan, nan]])
    target = 2 * (1 - np.exp(-(4.0**2) / (8 * 0.5)))
    far = (2.0 - target) ** 2 * 0.25
    loss = divergence_loss(keys, known, kappa=0.5, lost_hit=0.25)
    assert float(loss) == pytest.approx(2 * far / 4, rel=1e-5)
    swapped = torch.tensor([[nan, 4.0, 0.0], [4.0, nan, nan], [0.0, nan, nan]])
    near = target**2 + 0.25 * 2.0**2
    found = divergence_loss(keys, swapped, kappa=0.5, lost_hit=0.25)
    assert float(found) == pytest.approx(2 * near / 4, rel=1e-5)
    assert float(divergence_loss(keys, torch.full((3, 3), nan), 0.5, 0.25)) == 0.0
