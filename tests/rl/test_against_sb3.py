"""A gradient step of ours is Stable-Baselines3's: same batches, same noise, same weights after."""

import gymnasium as gym
import numpy as np
import pytest
import torch
from stable_baselines3 import SAC
from stable_baselines3.common.type_aliases import ReplayBufferSamples

from cepcli.rl.control_replay import ControlBatch
from cepcli.rl.hybrid_sac import HybridSAC
from cepcli.rl.sac_config import SACConfig

FEATURES, CONTROLS, ROWS, STEPS = 5, 2, 64, 30


class Nowhere(gym.Env):
    observation_space = gym.spaces.Box(-10, 10, (FEATURES,), np.float32)
    action_space = gym.spaces.Box(-1, 1, (CONTROLS,), np.float32)


def copy_weights(theirs, ours):
    """Ours into the linear layers of theirs, whose last one may be two beside each other."""
    for layer, linears in zip(ours.layers, theirs, strict=True):
        start = 0
        for linear in linears:
            columns = slice(start, start + linear.out_features)
            linear.weight.data.copy_(layer.weight[:, columns].T)
            linear.bias.data.copy_(layer.bias[columns])
            start += linear.out_features


def weights(linears):
    return [torch.cat([linear.weight.T for linear in layer], 1) for layer in linears]


def test_thirty_gradient_steps_end_at_the_same_weights(monkeypatch):
    made = HybridSAC(
        SACConfig(hidden=32, batch_size=ROWS), features=FEATURES, controls=CONTROLS, symbols=1,
        nominal=False, q_range=None, seed=0,
    )  # fmt: skip
    model = SAC("MlpPolicy", Nowhere(), policy_kwargs={"net_arch": [32, 32]}, device="cpu")
    model._logger = type("Silent", (), {"record": lambda *given, **more: None})()
    pi = model.actor
    actor = [[pi.latent_pi[0]], [pi.latent_pi[2]], [pi.mu, pi.log_std]]
    critics, targets = (
        [[[q[0]], [q[2]], [q[4]]] for q in network.q_networks]
        for network in (model.critic, model.critic_target)
    )
    copy_weights(actor, made.actor.members[0])
    for theirs, ours in zip(critics + targets, made.critics.members * 2, strict=True):
        copy_weights(theirs, ours)

    random = torch.Generator().manual_seed(3)
    batches = [
        (torch.randn(ROWS, FEATURES, generator=random),
         torch.rand(ROWS, CONTROLS, generator=random) * 2 - 1,
         torch.randn(ROWS, FEATURES, generator=random),
         (torch.rand(ROWS, generator=random) < 0.2).float(),
         torch.randn(ROWS, generator=random))
        for _ in range(STEPS)
    ]  # fmt: skip
    noise = torch.randn(STEPS, 2, ROWS, CONTROLS, generator=random)

    theirs = iter(noise.flatten(0, 1))
    monkeypatch.setattr(
        "torch.distributions.normal._standard_normal", lambda *given, **more: next(theirs)
    )
    samples = iter(
        ReplayBufferSamples(seen, done_by, then, over[:, None], reward[:, None])
        for seen, done_by, then, over, reward in batches
    )
    model.replay_buffer.sample = lambda *given, **more: next(samples)
    model.train(STEPS, ROWS)

    ours = iter(noise.flip(1).flatten(0, 1))  # the next state's first
    monkeypatch.setattr(HybridSAC, "_draw", lambda self, rows, generator: next(ours))
    nothing = torch.zeros(ROWS, 0)
    for seen, done_by, then, over, reward in batches:
        pairs = torch.cat([seen, done_by], 1)
        batch = ControlBatch(
            pairs, then, reward, 1 - over, torch.zeros(0, 0), nothing, nothing[:, None]
        )
        made.update(batch, temperature=1.0)

    assert float(made.log_alpha) == pytest.approx(model.log_ent_coef.item(), abs=1e-6)
    for mine, other in [
        (made.actor.members[0], actor),
        *zip(made.critics.members, critics, strict=True),
        *zip(made.targets.members, targets, strict=True),
    ]:
        for layer, expected in zip(mine.layers, weights(other), strict=True):
            assert torch.allclose(layer.weight, expected, atol=2e-5)
