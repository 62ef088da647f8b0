import math

import numpy as np
import pytest
import torch

from cepcli.agents.config import LearnerConfig, PosteriorConfig
from cepcli.agents.posterior_q import Policy, QLearner, temperature
from cepcli.keys.encoder import EmbeddingTable
from cepcli.prior.base import UniformPrior
from cepcli.types import TextState

STATE = TextState("walk", "You stand here.", ("left", "right", "stay"))


class FixedQ:
    """A learner that only knows three values."""

    def __init__(self, values):
        self.values = torch.tensor(values)

    def q_values(self, state):
        return self.values


def policy(corridor, q=None, **flags):
    table = EmbeddingTable(corridor.HashEncoder())
    return Policy(PosteriorConfig(**flags), UniformPrior(), table, q)


def frequencies(chooser, tau, draws=3000):
    generator = torch.Generator().manual_seed(0)
    chosen = [chooser.decide(STATE, tau, generator).action for _ in range(draws)]
    return np.bincount(chosen, minlength=3) / draws


def test_actions_are_drawn_from_prior_times_exp_q_over_tau(corridor):
    drawn = frequencies(policy(corridor, FixedQ([0.0, 1.0, 2.0])), tau=0.5)
    weights = np.exp(np.array([0.0, 2.0, 4.0]))
    assert drawn == pytest.approx(weights / weights.sum(), abs=0.03)


def test_without_a_learner_the_policy_is_the_prior(corridor):
    assert frequencies(policy(corridor), tau=0.1) == pytest.approx([1 / 3] * 3, abs=0.03)


def test_one_candidate_is_the_prior_and_all_candidates_are_the_posterior(corridor):
    q = FixedQ([0.0, 1.0, 2.0])
    one = frequencies(policy(corridor, q, mode="k-candidates", candidates=1), tau=0.5)
    assert one == pytest.approx([1 / 3] * 3, abs=0.03)
    every = frequencies(policy(corridor, q, mode="k-candidates", candidates=3), tau=0.5)
    assert every == pytest.approx(frequencies(policy(corridor, q), tau=0.5), abs=0.03)


def test_greedy_takes_the_most_probable(corridor):
    chooser = policy(corridor, FixedQ([0.0, 0.1, 0.2]))
    generator = torch.Generator().manual_seed(0)
    assert {chooser.decide(STATE, 1.0, generator, greedy=True).action for _ in range(20)} == {2}


@pytest.mark.parametrize(
    ("schedule", "hit_rate", "reliable", "progress", "expected"),
    [
        ("hit-rate", 0.0, 0.0, 0.5, 0.8),
        ("hit-rate", 1.0, 0.5, 0.5, 0.8 * math.exp(-2.0)),
        ("reliable-hit-rate", 1.0, 0.5, 0.5, 0.8 * math.exp(-1.0)),
        ("linear", 1.0, 0.0, 0.0, 0.8),
        ("linear", 0.0, 0.0, 1.0, 0.05),
        ("constant", 0.9, 0.9, 0.9, 0.8),
    ],
)
def test_temperature_schedules(schedule, hit_rate, reliable, progress, expected):
    config = PosteriorConfig(schedule=schedule)
    assert temperature(config, hit_rate, reliable, progress) == pytest.approx(expected)


def test_untrained_learner_leaves_the_prior_alone(corridor):
    table = EmbeddingTable(corridor.HashEncoder())
    learner = QLearner(LearnerConfig(), PosteriorConfig(), table, seed=0, device="cpu")
    chooser = Policy(PosteriorConfig(), UniformPrior(), table, learner)
    decision = chooser.decide(STATE, 0.8, torch.Generator().manual_seed(0))
    assert decision.kl_to_prior == pytest.approx(0.0, abs=1e-6)
    assert decision.rows.actions == tuple(table.row(a) for a in STATE.actions)


def test_scale_follows_the_spread_of_q_from_the_first_updates(corridor):
    table = EmbeddingTable(corridor.HashEncoder())
    learner = QLearner(LearnerConfig(), PosteriorConfig(), table, seed=0, device="cpu")
    valid = torch.ones(1, 3, dtype=torch.bool)
    for _ in range(5):
        learner._track_scale(torch.tensor([[[0.0, 1.0, 4.0]]]), valid)
    assert learner.scale == pytest.approx(4.0)


@pytest.mark.parametrize("normalise", [True, False])
def test_normalised_q_has_the_range_asked_for(corridor, normalise):
    config = PosteriorConfig(q_range=0.5, normalise_q=normalise)
    table = EmbeddingTable(corridor.HashEncoder())
    learner = QLearner(LearnerConfig(members=1), config, table, seed=0, device="cpu")
    q = torch.tensor([[[0.0, 1.0, 4.0]]])
    valid = torch.ones(1, 3, dtype=torch.bool)
    learner._track_scale(q, valid)
    found = learner._for_posterior(q, valid)
    assert float(found.max() - found.min()) == pytest.approx(0.5 if normalise else 4.0)
