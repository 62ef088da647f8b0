import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from cepcli.agents.conservative import PushDown, soft_maximum
from cepcli.agents.cql import ControlCQL
from cepcli.agents.offline_config import ControlConfig, CQLConfig, OfflineConfig, SymbolConfig
from cepcli.agents.perceptrons import Perceptrons
from cepcli.datasets.batches import ControlBatch, ControlBatches
from cepcli.datasets.dataset import ControlData
from tests.datasets import slow_cql
from tests.datasets.plain import (
    CONTROLS,
    FEATURES,
    batch,
    outputs,
    same_gradient,
    with_gradients,
)

SYMBOLS = 4


def config(algorithm="cql", *, control=None, cql=None, symbols=None):
    return OfflineConfig(
        algorithm=algorithm,
        control=ControlConfig(**{"hidden": 8, "batch_size": 6, **(control or {})}),
        cql=CQLConfig(**{"samples": 3, "share_floor": 0.0, **(cql or {})}),
        symbols=SymbolConfig(**(symbols or {})),
    )


def learner(settings, symbols=0, seed=0):
    return ControlCQL(settings, features=FEATURES, controls=CONTROLS, symbols=symbols, seed=seed)


def spied(made, monkeypatch):
    """What the critics' step was given and came to: target, proposals, losses."""
    seen = {}
    target, proposals, step = made._target, made.proposals, made._critic_step

    def keep(name, function):
        def call(*given):
            seen[name] = function(*given)
            return seen[name]

        return call

    monkeypatch.setattr(made, "_target", keep("target", target))
    monkeypatch.setattr(made, "proposals", keep("proposals", proposals))
    monkeypatch.setattr(made, "_critic_step", keep("losses", step))
    return seen


@pytest.mark.parametrize(("algorithm", "symbols"), [("cql", 0), ("cql-prior", SYMBOLS)])
@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_critic_loss_is_that_of_a_slow_plain_version(algorithm, symbols, temperature, monkeypatch):
    settings = config(algorithm, cql={"weight": 2.5, "temperature": temperature})
    made, given = learner(settings, symbols), batch(symbols=symbols)
    layers = [
        [(w.numpy().copy(), b.numpy().copy()) for w, b in m.layers] for m in made.critics.members
    ]
    seen = spied(made, monkeypatch)

    told = made.update(given)

    controls, weights = (part.numpy().astype(float) for part in seen["proposals"])
    expected = slow_cql.control_loss(
        layers, {k: v.numpy() for k, v in given._asdict().items()}, seen["target"].numpy(),
        controls, weights, weight=2.5, temperature=temperature,
    )  # fmt: skip
    ours = 2.0 * float(told["train/td_loss"] + told["train/conservative_loss"])
    assert ours == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(("algorithm", "symbols"), [("cql", 0), ("cql-prior", SYMBOLS)])
def test_critic_gradient_is_that_of_automatic_differentiation(algorithm, symbols, monkeypatch):
    made, given = learner(config(algorithm), symbols), batch(symbols=symbols)
    layers = with_gradients(made.critics)
    seen = spied(made, monkeypatch)

    made.update(given)

    controls, weights = seen["proposals"]
    states = given.observation[:, None].expand(-1, controls.shape[1], -1)
    loss = torch.zeros(())
    for member in layers:
        data = outputs(member, torch.cat([given.observation, given.control], 1))[:, 0]
        drawn = outputs(member, torch.cat([states, controls], 2))[..., 0]
        gap = (drawn + weights).logsumexp(-1).mean() - data.mean()
        loss = loss + (data - seen["target"]).square().mean() + 5.0 * gap
    loss.backward()
    same_gradient(made.critics.gradient, layers)


@pytest.mark.parametrize(("algorithm", "symbols"), [("cql", 0), ("cql-prior", SYMBOLS)])
def test_actor_gradient_is_that_of_automatic_differentiation(algorithm, symbols, monkeypatch):
    made, given = learner(config(algorithm), symbols), batch(symbols=symbols)
    layers = with_gradients(made.actor)[0]
    drawn = {"noise": [], "symbol": []}

    def kept(name, function):
        def call(*given):
            drawn[name].append(function(*given))
            return drawn[name][-1]

        return call

    monkeypatch.setattr(made, "draw", kept("noise", made.draw))
    monkeypatch.setattr(made, "_drawn", kept("symbol", made._drawn))

    made.update(given)

    noise = drawn["noise"][-1]
    known = given.observation
    if symbols:
        symbol = drawn["symbol"][-1][:, 0]
        known = torch.cat([known, torch.eye(symbols)[symbol]], 1)
    mean, log_std = outputs(layers, known).chunk(2, -1)
    drawn_at = mean + log_std.exp() * noise
    control = drawn_at.tanh()
    density = torch.distributions.Normal(mean, log_std.exp()).log_prob(drawn_at)
    log_prob = (density - (1.0 - control.square() + 1e-6).log()).sum(-1)
    critics = [[(w, b) for w, b in member.layers] for member in made.critics.members]
    pairs = torch.cat([given.observation, control], 1)
    lowest = torch.minimum(*(outputs(critic, pairs)[:, 0] for critic in critics))
    (log_prob - lowest).mean().backward()  # the entropy weight begins at 1
    same_gradient(made.actor.gradient, [layers])


def test_entropy_weight_falls_while_there_is_more_entropy_than_wanted():
    made = learner(config(control={"entropy_rate": 0.1, "entropy_per_control": -50.0}))
    told = made.update(batch())
    assert float(told["train/entropy"]) > -100.0
    assert float(made.log_alpha) == pytest.approx(-0.1, rel=1e-3)


@pytest.mark.parametrize(("threshold", "direction"), [(-100.0, 1), (100.0, -1)])
def test_lagrange_factor_follows_the_threshold(threshold, direction):
    made = learner(config(cql={"lagrange": True, "threshold": threshold, "lagrange_rate": 0.01}))
    first = made.update(batch())
    second = made.update(batch())
    assert float(first["train/conservative_factor"]) == 1.0
    assert direction * (float(second["train/conservative_factor"]) - 1.0) > 0.0


def test_importance_draws_estimate_the_integral_they_stand_for():
    """Of exp(Q) with Q(u) = k·u₀: (1/3n)·Σ exp(Q − log q) tends to ∫ exp(k·u₀) du."""
    made = learner(config(cql={"samples": 4000}, control={"batch_size": 2}))
    given = batch(2)
    controls, weights = made.proposals(given)
    k = 0.7
    exact = math.log(2.0 * 2.0 * math.sinh(k) / k)
    for part in range(3):  # each density alone is enough
        rows = slice(4000 * part, 4000 * (part + 1))
        found = soft_maximum(k * controls[:, rows, 0], weights[:, rows], 1.0).value - math.log(4000)
        assert found.numpy() == pytest.approx(exact, abs=0.15)


def test_symbol_draws_estimate_the_mean_under_the_prior_without_densities():
    """E_ρ[exp Q], ρ = Σ p̂·π: of many single draws, weighed by the prior or drawn from it."""
    settings = config("cql-prior", control={"batch_size": 4000})
    made = learner(settings, SYMBOLS)
    made.actor.parameters.normal_(generator=torch.Generator().manual_seed(3), std=0.5)
    one = batch(1, SYMBOLS)
    many = ControlBatch(*(part.expand(4000, *part.shape[1:]) for part in one))

    def mean_of(settings):
        made.config = settings
        controls, weights = made.proposals(many)
        return soft_maximum(controls[..., 0], weights, 1.0).value.exp()

    every, drawn = mean_of(settings), mean_of(replace(settings, symbols=SymbolConfig(samples=3)))
    assert float(every.mean()) == pytest.approx(float(drawn.mean()), rel=0.05)
    assert float(every.var()) < float(drawn.var()) * 3


def test_dropping_small_shares_leaves_the_mean_of_the_gradient():
    critics = Perceptrons(1, (4, 16, 1))
    critics.members[0].initialise(torch.Generator().manual_seed(0))
    noise = torch.Generator().manual_seed(1)
    pairs = torch.randn(40 * 30, 4, generator=noise)
    weights = 3.0 * torch.randn(40, 30, generator=noise)
    push = PushDown(4, 16, "cpu")

    def gradient(floor):
        critics.gradient.zero_()
        values = push.add(
            critics.members[0], pairs, weights, temperature=1.0, factor=1.0, share_floor=floor,
            noise=noise,
        )  # fmt: skip
        return values, critics.gradient.clone()

    values, exact = gradient(0.0)
    drops = [gradient(0.2) for _ in range(300)]
    assert all(torch.equal(values, other) for other, _ in drops)
    found = torch.stack([g for _, g in drops])
    spread = found.std(0) / len(drops) ** 0.5
    assert float(found.std(0).max()) > 0.0
    assert bool(((found.mean(0) - exact).abs() <= 5.0 * spread + 1e-5).all())


def bandit(controls=4000, seed=0):
    """One state, reward −(u − 0.5)², and no control above 0.6 in the data; one-step episodes."""
    rng = np.random.default_rng(seed)
    u = rng.uniform(-1.0, 0.6, (controls, 1)).astype(np.float32)
    rewards = -np.square(u[:, 0] - 0.5) * 4.0
    ones = np.ones((controls, 1), np.float32)
    ends = np.ones(controls, bool)
    return ControlData("x", "a bandit", ones, u, rewards, ones, ends, ~ends)


@pytest.mark.parametrize(("algorithm", "symbols"), [("cql", ()), ("cql-prior", ("a", "b"))])
def test_learns_the_best_control_that_the_data_holds(algorithm, symbols):
    data = bandit()
    settings = OfflineConfig(
        algorithm=algorithm,
        control=ControlConfig(
            hidden=32, batch_size=64, actor_rate=1e-2, critic_rate=1e-2, entropy_rate=1e-2
        ),
        cql=CQLConfig(weight=0.1, samples=4),
    )
    batches = ControlBatches(data, symbols=symbols, normalise=False)
    made = ControlCQL(settings, features=1, controls=1, symbols=len(symbols), seed=0)
    rng = np.random.default_rng(1)
    for _ in range(250):
        made.update(batches.sample(64, rng))
    found = made.control(batches.standardised(np.ones(1)))
    assert found.shape == (1,)
    assert float(found[0]) == pytest.approx(0.5, abs=0.2)


def test_conservatism_lowers_what_the_data_lacks():
    """Q at controls that were never tried, relative to those that were, falls with the weight."""

    def gap(weight):
        settings = OfflineConfig(
            algorithm="cql",
            control=ControlConfig(hidden=32, batch_size=64, critic_rate=1e-2),
            cql=CQLConfig(weight=weight, samples=4),
        )
        data = bandit()
        batches = ControlBatches(data, symbols=(), normalise=False)
        made = ControlCQL(settings, features=1, controls=1, seed=0)
        rng = np.random.default_rng(1)
        for _ in range(100):
            made.update(batches.sample(64, rng))
        critic = [(w, b) for w, b in made.critics.members[0].layers]
        q = outputs(critic, torch.tensor([[1.0, 0.95], [1.0, 0.3]]))[:, 0]
        return float(q[0] - q[1])

    assert gap(5.0) < gap(0.0) - 0.5
