"""Ours is Stable-Baselines3's: same draws, same weights, of gradient steps and of a whole run.

With its first entropy weight and learning rate, that is: ours are others.
"""

from itertools import chain

import gymnasium as gym
import numpy as np
import pytest
import torch
from stable_baselines3 import SAC
from stable_baselines3.common.type_aliases import ReplayBufferSamples

from cepcli.agents.config import SACConfig, training_config
from cepcli.agents.hybrid_sac import HybridSAC
from cepcli.datasets.control_replay import ControlReplay, ReplayBatch
from cepcli.envs.catalog import make_control_env
from cepcli.envs.episodes import ControlTracker
from cepcli.runs.engine import Hooks, start_run
from cepcli.workspace.artifacts import Workspace

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


def networks(model):
    """Actor, critics and targets of theirs, layer by layer."""
    pi = model.actor
    critics = chain(model.critic.q_networks, model.critic_target.q_networks)
    actor = [[pi.latent_pi[0]], [pi.latent_pi[2]], [pi.mu, pi.log_std]]
    return [actor, *([[q[0]], [q[2]], [q[4]]] for q in critics)]


def members(learner):
    """Actor, critics and targets of ours."""
    return [*learner.actor.members, *learner.critics.members, *learner.targets.members]


def test_thirty_gradient_steps_end_at_the_same_weights(monkeypatch):
    made = HybridSAC(
        SACConfig(hidden=32, batch_size=ROWS, entropy_weight=1.0, learning_rate=3e-4),
        features=FEATURES, controls=CONTROLS, symbols=1, nominal=False, q_range=None, seed=0,
    )  # fmt: skip
    model = SAC("MlpPolicy", Nowhere(), policy_kwargs={"net_arch": [32, 32]}, device="cpu")
    model._logger = type("Silent", (), {"record": lambda *given, **more: None})()
    for theirs, ours in zip(networks(model), members(made), strict=True):
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
        batch = ReplayBatch(
            pairs, then, reward, 1 - over, torch.zeros(0, 0), nothing, nothing[:, None]
        )
        made.update(batch, temperature=1.0)

    assert float(made.log_alpha) == pytest.approx(model.log_ent_coef.item(), abs=1e-6)
    for ours, theirs in zip(members(made), networks(model), strict=True):
        for layer, expected in zip(ours.layers, weights(theirs), strict=True):
            assert torch.allclose(layer.weight, expected, atol=2e-5)


class Recorded:
    """A numpy generator that keeps what it draws."""

    def __init__(self, generator, drawn):
        self._generator, self._drawn = generator, drawn

    def integers(self, *given, **more):
        self._drawn.append(self._generator.integers(*given, **more))
        return self._drawn[-1]


class Replayed(gym.Wrapper):
    """An environment whose episodes are these instances."""

    def __init__(self, env, instances):
        super().__init__(env)
        self._instances = iter(instances)

    def reset(self, *, seed=None, options=None):
        return self.env.reset(options={"instance": next(self._instances)})


def recorded(monkeypatch, function, owner, keep):
    """Let `keep(given, found)` see every call of a method."""
    original = getattr(owner, function)

    def watched(self, *given, **more):
        found = original(self, *given, **more)
        keep(given, found)
        return found

    monkeypatch.setattr(owner, function, watched)


def test_a_run_is_theirs_from_its_first_step(monkeypatch, tmp_path):
    """Warm-up, acting, storing, sampling and learning, under the same draws, until rounding tells.

    Adam's first steps are of one size whatever the gradient's, so that a gradient of nearly 0
    moves its weight up here and down there: a few of them may differ.
    """
    warm_up, steps, rows = 20, 30, 16
    noise, instances, controls, indices, learners = [], [], [], [], []
    recorded(monkeypatch, "_draw", HybridSAC, lambda given, found: noise.append(found))
    recorded(monkeypatch, "_begin", ControlTracker,
             lambda given, found: instances.append(given[1]["instance"]))  # fmt: skip
    recorded(monkeypatch, "control", HybridSAC,
             lambda given, found: given[3] is not None and controls.append(found))  # fmt: skip
    sample = ControlReplay.sample
    monkeypatch.setattr(
        ControlReplay, "sample",
        lambda self, count, random, *more: sample(self, count, Recorded(random, indices), *more),
    )  # fmt: skip
    flags = {"env": "halfcheetah", "agent": "sac", "steps": steps, "eval_interval": steps,
             "eval_episodes": 1, "final_eval_episodes": 1, "sac.learning_starts": warm_up,
             "sac.batch_size": rows, "sac.hidden": 32, "sac.entropy_weight": 1.0,
             "sac.learning_rate": 3e-4}  # fmt: skip
    config = training_config(flags=flags)
    hooks = Hooks(on_step=lambda parts, progress: learners.append(parts.learner))
    start_run(config, Workspace(tmp_path), "a", resume=False, overwrite=False, hooks=hooks,
              notify=lambda line: None)  # fmt: skip

    model = SAC(
        "MlpPolicy", Replayed(make_control_env("halfcheetah"), instances), device="cpu",
        policy_kwargs={"net_arch": [32, 32]}, buffer_size=steps, batch_size=rows,
        learning_starts=warm_up - 1,
    )  # fmt: skip
    begun = HybridSAC(
        config.sac, features=17, controls=6, symbols=1, nominal=False, q_range=None, seed=0
    )
    for theirs, ours in zip(networks(model), members(begun), strict=True):
        copy_weights(theirs, ours)
    acting = iter([drawn for drawn in noise if len(drawn) == 1])
    updates = [drawn for drawn in noise if len(drawn) == rows]
    learning = chain(*([now, then] for then, now in zip(updates[::2], updates[1::2], strict=True)))
    monkeypatch.setattr(
        "torch.distributions.normal._standard_normal",
        lambda shape, **more: next(acting if shape[0] == 1 else learning),
    )
    drawn_rows, warming = iter(indices), iter(controls)
    monkeypatch.setattr(
        "stable_baselines3.common.buffers.np.random.randint",
        lambda low, high, size: np.zeros(size, int) if high == 1 else next(drawn_rows),
    )
    model.action_space.sample = lambda: next(warming)
    choose = model._sample_action
    model._sample_action = lambda starts, *more: choose(warm_up, *more)
    model.learn(steps)

    memory = model.replay_buffer
    assert np.allclose(memory.actions[:, 0], controls, atol=2e-3)
    assert np.allclose(memory.rewards[:, 0], learners[-1].replay._rows[:steps, 40], atol=2e-2)
    for ours, theirs in zip(members(learners[-1]), networks(model), strict=True):
        for layer, expected in zip(ours.layers, weights(theirs), strict=True):
            differing = (layer.weight - expected).abs() > 2e-5
            assert differing.float().mean() < 0.01
