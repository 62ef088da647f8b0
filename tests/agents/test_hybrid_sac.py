import json
import math

import numpy as np
import pytest
import torch
from torch.distributions import Normal

from cepcli.agents.config import SACConfig
from cepcli.agents.hybrid_sac import HybridSAC
from cepcli.agents.sac import squashed_sample
from cepcli.datasets.control_replay import ControlTransition
from tests.agents.test_perceptrons import as_module

FEATURES, CONTROLS = 3, 2


def learner(symbols=1, *, nominal=False, q_range=None, seed=0, **changes):
    small = {"hidden": 16, "batch_size": 32, "replay_capacity": 500, "residual_starts": 0}
    config = SACConfig(**{**small, **changes})
    return HybridSAC(
        config, features=FEATURES, controls=CONTROLS, symbols=symbols, nominal=nominal,
        q_range=q_range, seed=seed,
    )  # fmt: skip


def fill(made, count=60, *, symbols=1, nominal=False, hold=3, seed=5):
    random = np.random.default_rng(seed)
    for number in range(count):
        boundary = number % hold == hold - 1
        made.step(
            ControlTransition(
                random.normal(size=FEATURES),
                int(random.integers(symbols)),
                random.uniform(-1, 1, CONTROLS).astype(np.float32),
                float(random.normal()),
                random.normal(size=FEATURES),
                bool(number % 7 == 0 and not boundary),
                nominal=random.uniform(-1, 1, CONTROLS) if nominal else None,
                next_nominals=random.uniform(-1, 1, (symbols, CONTROLS)) if nominal else None,
            ),
            boundary=boundary,
        )
        if boundary:
            made.arrive(np.log(random.dirichlet(np.ones(symbols))).astype(np.float32))


def reference_update(made, batch, noise, tau):
    """One gradient step in the slowest and plainest way, in float64 by automatic differentiation.

    Returns the gradients of actor and critics, the targets and log α that follow, and the loss.
    """
    config = made._config
    symbols = made._symbols
    inputs = slice(0, FEATURES + (symbols if symbols > 1 else 0))
    actor = as_module(made.actor.members[0])[0].double()
    critics = [as_module(network)[0].double() for network in made.critics.members]
    targets = [as_module(network)[0].double() for network in made.targets.members]
    log_alpha = made.log_alpha.double().clone().requires_grad_()
    alpha = log_alpha.exp().detach()
    batch = type(batch)(*(part.double() for part in batch))
    eye = torch.eye(symbols).double()

    def act(known, nominal, drawn):
        mean, log_std = actor(known).chunk(2, -1)
        gaussian = Normal(mean, log_std.clamp(-20, 2).exp())
        before = mean + gaussian.stddev * drawn
        control = before.tanh()
        log_prob = (gaussian.log_prob(before) - (1 - control**2 + 1e-6).log()).sum(-1)
        if made.nominal:
            control = (nominal + config.residual * control).clamp(-1, 1)
        return control, log_prob

    def soft(known, nominal, drawn):
        control, log_prob = act(known, nominal, drawn)
        pairs = torch.cat([known, control], 1)
        return torch.minimum(*(target(pairs) for target in targets))[:, 0] - alpha * log_prob

    size, boundaries = len(batch.reward), len(batch.next_log_prior)
    rows = size - boundaries + boundaries * symbols
    drawn = torch.randn(rows, CONTROLS, generator=noise).double()
    values = []
    with torch.no_grad():
        place = 0
        for row in range(size):
            held = batch.pairs[row, FEATURES : inputs.stop]
            chosen = row >= size - boundaries
            of_symbols = []
            for symbol in range(symbols) if chosen else [int(held.argmax()) if symbols > 1 else 0]:
                one_hot = eye[symbol] if symbols > 1 else held
                known = torch.cat([batch.next_observation[row], one_hot])[None]
                nominal = batch.next_nominals[row, symbol][None]
                of_symbols.append(soft(known, nominal, drawn[place : place + 1])[0])
                place += 1
            q_values = torch.stack(of_symbols)
            if chosen:
                log_prior = batch.next_log_prior[row - (size - boundaries)]
                q_values = torch.softmax(log_prior + q_values / tau, 0) @ q_values
            values.append(q_values.reshape(()))
    target = batch.reward + config.discount * batch.continues * torch.stack(values)
    loss = sum(0.5 * ((critic(batch.pairs)[:, 0] - target) ** 2).mean() for critic in critics)
    critic_parameters = [p for critic in critics for p in critic.parameters()]
    optimizer = torch.optim.Adam(critic_parameters, lr=config.learning_rate)
    loss.backward()
    critic_gradient = flat(critics, gradients=True).clone()
    optimizer.step()

    drawn = torch.randn(size, CONTROLS, generator=noise).double()
    known = batch.pairs[:, inputs]
    control, log_prob = act(known, batch.nominal, drawn)
    pairs = torch.cat([known, control], 1)
    lower = torch.minimum(*(critic(pairs) for critic in critics))[:, 0]
    goal = -config.entropy_per_control * CONTROLS
    parameters = [*actor.parameters(), log_alpha]
    optimizer = torch.optim.Adam(parameters, lr=config.learning_rate)
    optimizer.zero_grad()
    (alpha * log_prob - lower).mean().backward(inputs=list(actor.parameters()))
    (-log_alpha * (log_prob.detach().mean() - goal)).sum().backward()
    optimizer.step()
    for critic, slow in zip(critics, targets, strict=True):
        for fast, moved in zip(critic.parameters(), slow.parameters(), strict=True):
            moved.data.lerp_(fast.data, config.polyak)
    gradients = flat([actor], gradients=True), critic_gradient
    return *gradients, flat(targets), log_alpha.detach(), loss.detach()


def flat(modules, *, gradients=False):
    dense = [part for module in modules for part in module if isinstance(part, torch.nn.Linear)]
    parts = [part for layer in dense for part in (layer.weight, layer.bias)]
    vectors = [part.grad if gradients else part.detach() for part in parts]
    return torch.cat([(v.T if v.ndim == 2 else v).flatten() for v in vectors])


@pytest.mark.parametrize(("symbols", "nominal"), [(1, False), (1, True), (3, False), (3, True)])
def test_an_update_is_that_of_automatic_differentiation(symbols, nominal):
    made = learner(symbols, nominal=nominal, learning_rate=1e-2)
    fill(made, symbols=symbols, nominal=nominal)
    batch = made.replay.sample(32, np.random.default_rng(2))
    assert (len(batch.next_log_prior) > 0) == (symbols > 1)
    noise = torch.Generator()
    noise.set_state(made._noise.get_state())
    actor, critics, targets, log_alpha, loss = reference_update(made, batch, noise, tau=0.4)
    errors = made.update(batch, 0.4)
    for found, expected in [
        (made.actor.gradient, actor),
        (made.critics.gradient, critics),
        (made.targets.parameters, targets),
        (made.log_alpha, log_alpha),
        (errors.loss, loss),
    ]:
        torch.testing.assert_close(found.double(), expected, rtol=1e-3, atol=2e-5)


def stored(made, **changes):
    """A batch of this one transition."""
    given = {
        "observation": np.zeros(FEATURES), "symbol": 1, "control": np.zeros(CONTROLS),
        "reward": 2.0, "next_observation": np.full(FEATURES, 0.5), "terminated": False,
    }  # fmt: skip
    made.replay.add(ControlTransition(**{**given, **changes}))
    return made.replay.sample(4, np.random.default_rng(0))


def with_values(monkeypatch, made, by_symbol, log_prob):
    """Pin what target critics and policy say: Q̄ by symbol, and log π."""

    def lower(critics, pairs):
        return pairs[:, FEATURES : FEATURES + len(by_symbol)] @ torch.tensor(by_symbol)

    def sample(known, room, noise):
        drawn = squashed_sample(*(torch.zeros(len(known), n) for n in (4, 2)))
        return drawn._replace(log_prob=torch.full((len(known),), log_prob))

    monkeypatch.setattr(made, "_lower", lower)
    monkeypatch.setattr(made, "_sample", sample)


def test_a_task_that_ended_has_no_future(monkeypatch):
    made = learner(3)
    with_values(monkeypatch, made, [10.0, 20.0, 30.0], 1.0)
    target = made._target(stored(made, terminated=True), torch.tensor([0.5]), 1.0)
    assert target.tolist() == [2.0] * 4


def test_inside_a_hold_and_at_a_time_limit_the_held_symbol_goes_on(monkeypatch):
    made = learner(3)
    with_values(monkeypatch, made, [10.0, 20.0, 30.0], 1.0)
    target = made._target(stored(made), torch.tensor([0.5]), 1.0)
    assert target.tolist() == pytest.approx([2.0 + 0.99 * (20.0 - 0.5)] * 4)


def test_at_a_boundary_the_stored_prior_weighs_the_symbols(monkeypatch):
    made = learner(3)
    with_values(monkeypatch, made, [1.0, 2.0, 3.0], 0.0)
    prior = np.array([0.5, 0.5, 1e-30])
    batch = stored(made, next_log_prior=np.log(prior).astype(np.float32))
    target = made._target(batch, torch.tensor([0.5]), 2.0)
    right = math.e**0.5 / (
        1.0 + math.e**0.5
    )  # (1 − 0)/τ nats between the two that the prior allows
    assert target.tolist() == pytest.approx([2.0 + 0.99 * (1.0 + right)] * 4)
    assert made.scale == pytest.approx(2.0)


def test_q_is_brought_to_one_range_before_it_meets_the_prior(monkeypatch):
    made = learner(3, q_range=0.5)
    with_values(monkeypatch, made, [100.0, 200.0, 300.0], 0.0)
    batch = stored(made, next_log_prior=np.full(3, -math.log(3), np.float32))
    made._target(batch, torch.tensor([0.5]), 1.0)  # the spread is known from here on: 200
    target = made._target(batch, torch.tensor([0.5]), 1.0)
    weights = np.exp(0.5 / 200 * np.array([100.0, 200.0, 300.0]))
    value = weights @ [100.0, 200.0, 300.0] / weights.sum()
    assert target.tolist() == pytest.approx([2.0 + 0.99 * value] * 4)


def test_before_a_spread_is_known_the_prior_alone_chooses():
    made = learner(3, q_range=0.5, learning_starts=10)
    noise = torch.Generator().manual_seed(0)
    assert made.symbol_values(np.ones(FEATURES), None, noise).tolist() == [0.0] * 3
    fill(made, symbols=3)
    for _ in range(40):
        made.learn(1.0)
    assert made.scale > 0
    values = made.symbol_values(np.ones(FEATURES), None, noise)
    assert len(set(values.tolist())) == 3


def test_without_noise_symbols_are_valued_by_their_mean_controls():
    made = learner(2)
    row = torch.ones(2, FEATURES)
    known = torch.cat([row, torch.eye(2)], 1)
    values = made.symbol_values(np.ones(FEATURES), None, None)
    assert values.tolist() == made.symbol_values(np.ones(FEATURES), None, None).tolist()
    mean, log_std = as_module(made.actor.members[0])[0](known).chunk(2, -1)
    control = mean.tanh()
    density = (-log_std - 0.5 * math.log(2 * math.pi) - (1 - control.square()).log()).sum(-1)
    critics = [as_module(critic)[0] for critic in made.critics.members]
    lower = torch.stack([critic(torch.cat([known, control], 1)) for critic in critics]).amin(0)
    expected = lower[:, 0] - 0.1 * density  # where the entropy weight begins
    assert values.tolist() == pytest.approx(expected.tolist(), abs=1e-5)


def test_a_transition_into_a_boundary_waits_for_its_prior():
    made = learner(3)
    step = ControlTransition(
        np.zeros(FEATURES), 0, np.zeros(CONTROLS), 0.0, np.zeros(FEATURES), False
    )
    made.step(step, boundary=True)
    assert len(made.replay) == 0
    made.arrive(np.full(3, -1.0, np.float32))
    assert len(made.replay) == 1
    made.step(step, boundary=False)
    assert len(made.replay) == 2
    made.arrive(np.full(3, -1.0, np.float32))
    assert len(made.replay) == 2, "an episode's first prior completes nothing"


def test_at_first_symbols_make_no_difference_and_all_else_is_as_without_them():
    plain, hybrid = learner(1), learner(3)
    observation = np.linspace(-1.0, 1.0, FEATURES)
    controls = [hybrid.control(observation, symbol, None, None) for symbol in range(3)]
    for control in controls:
        assert control == pytest.approx(plain.control(observation, 0, None, None), abs=1e-6)


def relabelled(share, *, nominal=False, rows=400):
    """A batch whose symbol was 2 throughout, before and after."""
    made = learner(4, nominal=nominal, relabel=share)
    fill(made, symbols=4, nominal=nominal)
    batch = made.replay.sample(rows, np.random.default_rng(0))
    symbols = batch.pairs[:, FEATURES : FEATURES + 4]
    symbols.copy_(torch.eye(4)[2].expand(rows, -1))
    before = batch.pairs.clone()
    made._relabel(batch)
    others = [*range(FEATURES), *range(FEATURES + 4, before.shape[1])]
    torch.testing.assert_close(batch.pairs[:, others], before[:, others], rtol=0, atol=0)
    assert (symbols.sum(1) == 1).all()
    return symbols.mean(0)


def test_a_share_of_a_batch_learns_under_symbols_drawn_uniformly():
    torch.testing.assert_close(relabelled(0.0), torch.tensor([0.0, 0.0, 1.0, 0.0]))
    torch.testing.assert_close(relabelled(1.0), torch.full((4,), 0.25), rtol=0, atol=0.08)
    half = torch.tensor([0.125, 0.125, 0.625, 0.125])
    torch.testing.assert_close(relabelled(0.5), half, rtol=0, atol=0.08)


def test_where_symbols_suggest_controls_the_held_one_stays():
    held = torch.tensor([0.0, 0.0, 1.0, 0.0])
    torch.testing.assert_close(relabelled(1.0, nominal=True), held)


def test_each_environment_waits_for_its_own_prior():
    made = HybridSAC(
        SACConfig(hidden=8, envs=2), features=FEATURES, controls=CONTROLS, symbols=3,
        nominal=False, q_range=None, seed=0,
    )  # fmt: skip
    for env in (0, 1):
        there = np.full(FEATURES, float(env))
        step = ControlTransition(there, 0, np.zeros(CONTROLS), float(env), there, False)
        made.step(step, boundary=True, env=env)
    for env in (1, 0):
        made.arrive(np.full(3, -1.0 - env, np.float32), env)
    batch = made.replay.sample(32, np.random.default_rng(0))
    assert set(batch.reward.tolist()) == {0.0, 1.0}
    assert batch.next_log_prior[:, 0].tolist() == (-1.0 - batch.reward).tolist()


def test_controls_are_uniform_while_the_replay_warms_up_and_the_mean_without_noise():
    made, noise = learner(), torch.Generator().manual_seed(0)
    drawn = np.stack([made.control(np.zeros(FEATURES), 0, None, noise) for _ in range(400)])
    assert np.abs(drawn.mean()) < 0.05
    assert np.abs(drawn).mean() == pytest.approx(0.5, abs=0.05)
    first, second = (made.control(np.ones(FEATURES), 0, None, None) for _ in range(2))
    assert np.array_equal(first, second)


@pytest.mark.parametrize("nominal", [True, False])
def test_with_nominal_controls_the_actor_waits_for_the_critics(nominal):
    made = learner(2, nominal=nominal, learning_starts=20, residual_starts=60)
    fill(made, 59, symbols=2, nominal=nominal)
    actor, critics = made.actor.parameters.clone(), made.critics.parameters.clone()
    made.learn(1.0)
    assert not torch.equal(made.critics.parameters, critics)
    assert torch.equal(made.actor.parameters, actor) == nominal
    fill(made, 1, symbols=2, nominal=nominal)
    made.learn(1.0)
    assert not torch.equal(made.actor.parameters, actor)


def test_a_nominal_control_is_followed_as_far_as_the_residual_lets_go():
    made, noise = learner(2, nominal=True, residual=0.25), torch.Generator().manual_seed(0)
    nominal = np.array([0.9, -0.2])
    drawn = np.stack([made.control(np.zeros(FEATURES), 1, nominal, noise) for _ in range(200)])
    assert drawn[:, 0].min() >= 0.65 - 1e-6
    assert drawn[:, 0].max() == 1.0
    assert np.abs(drawn[:, 1] + 0.2).max() <= 0.25 + 1e-6


def run_on(made, count):
    noise = torch.Generator().manual_seed(3)
    controls = []
    for number in range(count):
        made.arrive(np.full(3, -math.log(3), np.float32))
        control = made.control(np.full(FEATURES, number / 10), number % 3, None, noise)
        made.symbol_values(np.zeros(FEATURES), None, noise)
        made.step(
            ControlTransition(
                np.full(FEATURES, number / 10), number % 3, control, number / 7,
                np.full(FEATURES, number / 9), False,
            ),
            boundary=number % 2 == 1,
        )  # fmt: skip
        made.learn(0.5)
        controls.append(control)
    return np.stack(controls)


def test_a_restored_learner_goes_on_exactly_the_same():
    made = learner(3, q_range=0.3, learning_starts=5)
    run_on(made, 30)
    tensors, arrays, scalars = made.state()
    arrays = {name: array.copy() for name, array in arrays.items()}
    scalars = json.loads(json.dumps(scalars))
    assert scalars["waiting"][0] is not None
    expected = run_on(made, 30)
    other = learner(3, q_range=0.3, learning_starts=5, seed=9)
    other.restore(tensors, arrays, scalars)
    assert np.array_equal(run_on(other, 30), expected)
    assert torch.equal(other.critics.parameters, made.critics.parameters)
    assert other.scale == made.scale


def test_plain_sac_learns_where_to_go():
    made = learner(hidden=32, batch_size=64, learning_rate=3e-3, learning_starts=64, discount=0.5)
    random, noise = np.random.default_rng(0), torch.Generator().manual_seed(0)
    observation = random.uniform(-1, 1, FEATURES)
    for _ in range(900):
        control = made.control(observation, 0, None, noise)
        reward = -float(np.square(control - 0.8 * observation[:2]).sum())
        following = random.uniform(-1, 1, FEATURES)
        made.step(
            ControlTransition(observation, 0, control, reward, following, False), boundary=False
        )
        observation = following
        made.learn(1.0)
    tests = random.uniform(-1, 1, (50, FEATURES))
    controls = np.stack([made.control(row, 0, None, None) for row in tests])
    assert np.square(controls - 0.8 * tests[:, :2]).mean() < 0.02
    assert made.alpha < 0.5, "the entropy weight falls from 1 as the task is learned"


def test_the_posterior_learns_which_symbol_pays():
    made = learner(3, q_range=0.3, hidden=32, batch_size=64, learning_rate=3e-3, discount=0.5)
    random, noise = np.random.default_rng(0), torch.Generator().manual_seed(0)
    for number in range(600):
        symbol = int(random.integers(3))
        observation = random.uniform(-1, 1, FEATURES)
        made.arrive(np.full(3, -math.log(3), np.float32))
        control = made.control(observation, symbol, None, noise)
        reward = 2.0 * (symbol == 2)
        made.step(
            ControlTransition(observation, symbol, control, reward, observation, False),
            boundary=number % 2 == 0,
        )
        made.learn(0.2)
    values = made.symbol_values(np.zeros(FEATURES), None, noise)
    assert int(values.argmax()) == 2
