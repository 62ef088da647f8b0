"""The losses of the three stages against values worked out by hand."""

import numpy as np
import pytest
import torch

from cepcli.abstraction.config import AbstractionConfig
from cepcli.abstraction.fitting import Fitter, Labelled, contrastive_loss, discounted
from cepcli.errors import ConfigError


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
