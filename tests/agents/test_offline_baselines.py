import pytest
import torch

from cepcli.agents.bc import ControlBC
from cepcli.agents.iql import ControlIQL
from cepcli.agents.offline_config import ControlConfig, IQLConfig, OfflineConfig, TD3BCConfig
from cepcli.agents.td3_bc import ControlTD3BC
from tests.datasets.plain import (
    CONTROLS,
    FEATURES,
    batch,
    outputs,
    same_gradient,
    with_gradients,
)

DISCOUNT = 0.9


def made(kind, **sections):
    config = OfflineConfig(
        control=ControlConfig(hidden=8, batch_size=6, discount=DISCOUNT, polyak=0.25), **sections
    )
    return kind(config, features=FEATURES, controls=CONTROLS, seed=0)


def apart(*networks):
    """Move networks away from where they begin, so that none is taken for another."""
    noise = torch.Generator().manual_seed(7)
    for one in networks:
        one.parameters.add_(0.5 * torch.randn(one.parameters.shape, generator=noise))


def near(told, name, loss):
    return float(told[f"train/{name}_loss"]) == pytest.approx(float(loss.detach()), rel=1e-5)


def lower(critics, pairs):
    return torch.minimum(*(outputs(critic, pairs)[:, 0] for critic in critics))


def critic_loss(critics, given, target):
    """Σ over critics of mean (Q − y)²."""
    pairs = torch.cat([given.observation, given.control], 1)
    return sum((outputs(critic, pairs)[:, 0] - target).square().mean() for critic in critics)


def test_cloning_has_the_gradient_of_automatic_differentiation():
    learner, given = made(ControlBC), batch()
    [actor] = with_gradients(learner.actor)

    told = learner.update(given)

    loss = (outputs(actor, given.observation).tanh() - given.control).square().mean()
    loss.backward()
    assert near(told, "policy", loss)
    same_gradient(learner.actor.gradient, [actor])


@pytest.mark.parametrize("expectile", [0.5, 0.9])
@pytest.mark.parametrize("largest_weight", [100.0, 1.5])
def test_iql_is_a_slow_plain_version_of_itself(expectile, largest_weight):
    settings = IQLConfig(expectile, inverse_temperature=2.0, largest_weight=largest_weight)
    learner, given = made(ControlIQL, iql=settings), batch()
    apart(learner.targets, learner.value)
    learner.log_std.copy_(torch.tensor([-0.4, 0.3]))
    log_std = learner.log_std.clone().requires_grad_()
    critics, targets = with_gradients(learner.critics), with_gradients(learner.targets)
    [value], [actor] = with_gradients(learner.value), with_gradients(learner.actor)

    told = learner.update(given)

    pairs = torch.cat([given.observation, given.control], 1)
    advantage = lower(targets, pairs).detach() - outputs(value, given.observation)[:, 0]
    share = torch.tensor([1 - expectile if a < 0 else expectile for a in advantage])
    value_loss = (share * advantage.square()).mean()
    following = outputs(value, given.next_observation)[:, 0].detach()
    td_loss = critic_loss(critics, given, given.reward + DISCOUNT * given.continues * following)
    weight = (2.0 * advantage.detach()).exp().clamp(max=largest_weight)
    policy = torch.distributions.Normal(outputs(actor, given.observation).tanh(), log_std.exp())
    policy_loss = -(weight * policy.log_prob(given.control).sum(-1)).mean()
    assert 0 < int((advantage < 0).sum()) < len(advantage)
    assert bool((weight == largest_weight).any()) == (largest_weight == 1.5)
    (value_loss + td_loss + policy_loss).backward()
    for name, loss in (("value", value_loss), ("td", td_loss / 2), ("policy", policy_loss)):
        assert near(told, name, loss), name
    same_gradient(learner.value.gradient, [value])
    same_gradient(learner.critics.gradient, critics)
    same_gradient(learner.actor.gradient, [actor])
    torch.testing.assert_close(learner.d_log_std, log_std.grad, rtol=1e-4, atol=1e-6)


def test_iql_targets_follow_the_critics_by_the_polyak_share():
    learner = made(ControlIQL)
    apart(learner.targets)
    before = learner.targets.parameters.clone()
    learner.update(batch())
    expected = 0.75 * before + 0.25 * learner.critics.parameters
    torch.testing.assert_close(learner.targets.parameters, expected)


def drawn(learner, monkeypatch):
    """Where the noise of the target's control is put as it is drawn."""
    seen, draw = [], learner._noise

    def noise(rows):
        seen.append(draw(rows))
        return seen[-1].clone()

    monkeypatch.setattr(learner, "_noise", noise)
    return seen


def test_td3_bc_critics_are_a_slow_plain_version_of_themselves(monkeypatch):
    learner, given = made(ControlTD3BC, td3_bc=TD3BCConfig(noise=3.0, noise_clip=1.5)), batch()
    apart(learner.targets, learner.actor_target)
    critics, targets = with_gradients(learner.critics), with_gradients(learner.targets)
    [actor_target] = with_gradients(learner.actor_target)
    seen = drawn(learner, monkeypatch)

    told = learner.update(given)

    [noise] = seen
    mean = outputs(actor_target, given.next_observation).tanh()
    assert bool(((mean + noise).abs() > 1.0).any())
    pairs = torch.cat([given.next_observation, (mean + noise).clamp(-1, 1)], 1)
    following = lower(targets, pairs).detach()
    td_loss = critic_loss(critics, given, given.reward + DISCOUNT * given.continues * following)
    td_loss.backward()
    assert near(told, "td", td_loss / 2)
    same_gradient(learner.critics.gradient, critics)


def test_td3_bc_actor_has_the_gradient_of_automatic_differentiation():
    learner, given = made(ControlTD3BC, td3_bc=TD3BCConfig(weight=1.7, actor_interval=1)), batch()
    [actor] = with_gradients(learner.actor)

    learner.update(given)

    control = outputs(actor, given.observation).tanh()
    first = with_gradients(learner.critics)[0]  # their step comes first
    q_values = outputs(first, torch.cat([given.observation, control], 1))[:, 0]
    weight = 1.7 / q_values.abs().mean().detach()
    ((control - given.control).square().mean() - weight * q_values.mean()).backward()
    same_gradient(learner.actor.gradient, [actor])


def test_td3_bc_noise_is_clipped(monkeypatch):
    learner = made(ControlTD3BC, td3_bc=TD3BCConfig(noise=3.0, noise_clip=0.5))
    seen = drawn(learner, monkeypatch)
    learner.update(batch())
    assert float(seen[0].abs().max()) == 0.5
    assert float(seen[0].abs().min()) < 0.5


def test_td3_bc_actor_and_targets_wait_for_every_second_step():
    learner = made(ControlTD3BC)
    apart(learner.targets, learner.actor_target)
    kept = (learner.actor, learner.targets, learner.actor_target)
    before = [one.parameters.clone() for one in kept]
    learner.update(batch())
    assert all(torch.equal(one.parameters, b) for one, b in zip(kept, before, strict=True))
    learner.update(batch())
    assert not torch.equal(learner.actor.parameters, before[0])
    for target, follows, old in (
        (learner.targets, learner.critics, before[1]),
        (learner.actor_target, learner.actor, before[2]),
    ):
        torch.testing.assert_close(target.parameters, 0.75 * old + 0.25 * follows.parameters)
