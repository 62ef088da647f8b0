"""What each agent learns and acts from: targets by hand, and the bound on the error of a prior."""

import math

import numpy as np
import pytest
import torch

from cepcli.agents.config import PRESETS, LearnerConfig, training_config
from cepcli.agents.posterior_q import Policy, QLearner
from cepcli.config import merge
from cepcli.datasets.text_replay import StateRows
from cepcli.errors import ConfigError
from cepcli.keys.encoder import EmbeddingTable
from cepcli.posterior import kl_bound, kl_divergence, log_posterior, span
from cepcli.prior.base import PriorShape, UniformPrior
from cepcli.types import TextState

ACTIONS = ("left", "right", "forward", "pick up")
SMALL = {"learner.learning_starts": 30, "learner.hidden": 32, "learner.batch_size": 16,
         "learner.target_interval": 45}  # fmt: skip


class Learned:
    """A learner of an agent that has learned from random transitions under random priors."""

    def __init__(self, corridor, agent, **flags):
        self.config = training_config(flags={"agent": agent, **SMALL, **flags})
        self.table = EmbeddingTable(corridor.HashEncoder())
        self.random = np.random.default_rng(0)
        self.shape = PriorShape()
        self.learner = QLearner(
            self.config.learner, self.config.posterior, self.table, seed=0, device="cpu"
        )
        for _ in range(150):
            state = self.state(int(self.random.integers(20)))
            action = int(self.random.integers(len(ACTIONS)))
            self.learner.arrive(state)
            # rewarded is what the prior favours: a network that saw it would lean on it
            reward = float(action == int(np.argmax(state.log_prior)))
            self.learner.step(state, action, reward, terminated=False, truncated=False)
            self.learner.learn(0.3)

    def state(self, number, scores=None):
        scores = 2 * self.random.normal(size=len(ACTIONS)) if scores is None else scores
        log_prior = self.shape.log_prior(scores).astype(np.float32)
        return StateRows(
            self.table.row("go"),
            self.table.row(f"Room {number}."),
            tuple(self.table.row(action) for action in ACTIONS),
            tuple(map(float, log_prior)),
        )

    def batch(self):
        return self.learner.replay.sample(32, np.random.default_rng(1)).next_state


def test_yans_target_is_the_best_candidate_by_the_target_network(corridor, monkeypatch):
    learned = Learned(corridor, "yan")
    states, learner = learned.batch(), learned.learner
    drawn = torch.rand(32, len(ACTIONS), generator=torch.Generator().manual_seed(0)) < 0.6
    drawn[:, 0] |= ~drawn.any(1)
    monkeypatch.setattr(learner, "_draw_candidates", lambda log_prior: drawn)
    found = learner._target(states, 0.3)
    [values] = learner._q(learner.target, states).detach()
    by_hand = [max(q[a] for a in range(len(ACTIONS)) if mask[a])
               for q, mask in zip(values.tolist(), drawn.tolist(), strict=True)]  # fmt: skip
    assert found[0].tolist() == pytest.approx(by_hand)


def test_dqns_target_is_the_target_networks_value_of_the_online_networks_choice(corridor):
    learned = Learned(corridor, "dqn")
    states, learner = learned.batch(), learned.learner
    [online], [target] = (
        learner._q(network, states).detach() for network in (learner.online, learner.target)
    )
    chosen = online.argmax(1)
    assert (chosen != target.argmax(1)).any(), "the networks differ in something"
    by_hand = target[torch.arange(32), chosen]
    assert learner._target(states, 0.3)[0].tolist() == pytest.approx(by_hand.tolist())


def test_the_best_action_is_that_of_q_though_an_ensemble_disagrees(corridor, monkeypatch):
    learned = Learned(corridor, "posterior-q", **{"learner.backup": "max", "learner.members": 2})
    states, learner = learned.batch(), learned.learner
    torn = torch.tensor([[3.0, 0.0, 1.5, 0.0], [-0.2, 0.0, 1.2, 0.0]])[:, None].repeat(1, 32, 1)
    told = torch.arange(4.0).repeat(2, 32, 1)
    monkeypatch.setattr(
        learner, "_q", lambda network, _: torn if network is learner.online else told
    )
    valid = torch.ones(32, 4, dtype=torch.bool)
    assert set(learner._for_posterior(torn, valid).argmax(1).tolist()) == {2}, "shrunk, it is not"
    assert learner._target(states, 0.3).eq(0.0).all(), "of action 0"


@pytest.mark.parametrize("agent", ["dqn", "yan"])
def test_a_published_agent_acts_on_q_as_it_is(corridor, agent):
    learned = Learned(corridor, agent)
    state = learned.state(3)
    batch = learned.learner.replay.sample(1, np.random.default_rng(0)).state._replace(
        goal=np.array([state.goal]), text=np.array([state.text]),
        actions=np.array([state.actions]), log_prior=np.array([state.log_prior]),
    )  # fmt: skip
    [[plain]] = learned.learner._q(learned.learner.online, batch).detach()
    taken = learned.learner.q_values(state)
    assert (taken - plain).std() < 1e-6, "the same but for a constant"
    config = learned.config
    assert (config.learner.members, config.learner.doubt, config.learner.n_step) == (1, 0.0, 1)
    assert not config.posterior.normalise_q


def test_an_epsilon_greedy_policy_takes_the_best_action_but_for_chance(corridor):
    class Fixed:
        def q_values(self, state):
            return torch.tensor([0.0, 3.0, 1.0, 2.0])

    table = EmbeddingTable(corridor.HashEncoder())
    config = training_config(flags={"agent": "dqn"}).posterior
    policy = Policy(config, UniformPrior(), table, Fixed())
    state, generator = TextState("go", "A room.", ACTIONS), torch.Generator().manual_seed(0)
    drawn = [policy.decide(state, 0.4, generator).action for _ in range(3000)]
    assert np.bincount(drawn) / 3000 == pytest.approx([0.1, 0.7, 0.1, 0.1], abs=0.03)
    assert {policy.decide(state, 0.0, generator).action for _ in range(20)} == {1}
    assert policy.decide(state, 0.0, generator).kl_to_prior == pytest.approx(math.log(4))


def test_epsilon_falls_in_training_and_is_at_its_end_in_evaluations(
    corridor, tmp_path, monkeypatch
):
    from tests.runs.test_online import metrics

    seen, evaluated = [], []
    corridor.run(
        tmp_path, "a", agent="dqn", steps=40,
        on_step=lambda parts, progress: seen.append(parts.temperature(progress)),
        **{"posterior.exploration": 0.5},
    )  # fmt: skip
    assert seen[9] == pytest.approx((1.0 + 0.05) / 2)
    assert seen[19:] == pytest.approx([0.05] * 21)
    rows = metrics(tmp_path, "a")
    assert any("posterior/epsilon" in row for row in rows)
    assert not any("posterior/temperature" in row for row in rows)
    from cepcli.runs.online import OnlineRun

    real = OnlineRun._commands

    def watched(run, policy, tau, *more):
        evaluated.append(tau)
        return real(run, policy, tau, *more)

    monkeypatch.setattr(OnlineRun, "_commands", watched)
    corridor.run(tmp_path, "b", agent="dqn", steps=40, eval_interval=10)
    assert {*evaluated} == {0.05}


@pytest.mark.parametrize("agent", ["dqn", "yan"])
@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("learner.members", 5), ("learner.doubt", 1.0), ("learner.backup", "expected"),
        ("posterior.normalise_q", True), ("posterior.mode", "exact"),
    ],
)  # fmt: skip
def test_what_is_ours_is_no_part_of_a_published_agent(agent, key, value):
    config = training_config(flags={"agent": agent, key: value})
    with pytest.raises(ConfigError, match=f"`{key}` is {value}, but `{agent}` as published"):
        config.check_new()
    training_config(flags={"agent": agent}).check_new()


def test_our_agent_has_what_is_ours_under_the_uniform_prior_too():
    config = training_config(flags={"prior": "uniform"})
    config.check_new()
    assert config.learner == LearnerConfig()
    assert config.posterior.normalise_q
    assert config.posterior.schedule == "linear", "no cache answers, so no hit rate moves τ"


@pytest.mark.parametrize("agent", ["posterior-q", "hybrid-sac"])
@pytest.mark.parametrize("schedule", ["hit-rate", "reliable-hit-rate"])
def test_a_schedule_by_hits_is_refused_where_nothing_can_be_a_hit(agent, schedule):
    flags = {"agent": agent, "prior": "uniform", "posterior.schedule": schedule}
    with pytest.raises(ConfigError, match=r"τ would stay at 0\.8"):
        training_config(flags=flags).check_new()
    training_config(flags={**flags, "posterior.schedule": "constant"}).check_new()
    training_config(flags={**flags, "prior": "embedded"}).check_new()


def test_a_uniform_prior_leaves_what_a_preset_or_the_user_has_set():
    assert merge(PRESETS["dqn"], {}) == PRESETS["dqn"]
    assert training_config(flags={"agent": "dqn"}).posterior.mode == "epsilon-greedy"
    assert training_config(flags={"agent": "random"}).posterior.schedule == "hit-rate"
    given = {"prior": "uniform", "posterior.temperature": 0.2}
    assert training_config(flags=given).posterior.temperature == 0.2


# -- the error of a cached prior -----------------------------------------------------------------


@pytest.mark.parametrize("backup", ["expected", "soft"])
def test_the_kl_of_two_priors_posteriors_keeps_to_span_squared_over_eight(corridor, backup):
    learned = Learned(corridor, "posterior-q", **{"learner.backup": backup})
    assert learned.learner.updates > 100
    random, moved = learned.random, 0
    for number in range(200):
        scores = 2 * random.normal(size=len(ACTIONS))
        nearly = scores + 0.8 * random.normal(size=len(ACTIONS))
        cached, fresh = learned.state(number % 20, nearly), learned.state(number % 20, scores)
        priors = [torch.tensor(s.log_prior, dtype=torch.float64) for s in (cached, fresh)]
        values = [learned.learner.q_values(s).double() for s in (cached, fresh)]
        for tau in (0.8, 0.3, 0.11):
            pair = [log_posterior(p, q, tau) for p, q in zip(priors, values, strict=True)]
            assert kl_divergence(*pair) <= kl_bound(span(*priors)) + 1e-9
        moved += float(values[0].max() - values[0].min()) > 0.01
    assert moved > 100, "Q says something"


def test_a_certificate_is_refused_where_candidates_are_drawn():
    drawn = {"posterior.mode": "k-candidates", "cache.mode": "certified"}
    for flags in (drawn, {"agent": "yan", "cache.mode": "certified"}):
        with pytest.raises(ConfigError, match="posterior over all actions"):
            training_config(flags=flags).check_new()
    training_config(flags={**drawn, "cache.mode": "lru"}).check_new()
