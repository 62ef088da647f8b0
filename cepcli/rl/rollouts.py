"""States of continuous control without labels, and the rewards that followed them.

Episodes are played in turn by controls drawn anew at every step, controls held for some steps,
nominal controls of primitives held likewise, and a scripted expert where there is one.
"""

from collections.abc import Callable, Iterator

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from cepcli.abstraction.build import Rollout
from cepcli.envs.control import ControlEnv
from cepcli.seeding import generator, stream_seed

#: Steps for which a control or a primitive is held.
_HELD = 10
_NOISE = 0.3  # standard deviation, added to nominal and expert controls

Policy = Callable[[Float[ndarray, " features"], int], Float[ndarray, " controls"]]


def rollouts(env: ControlEnv, steps: int, episode_steps: int, seed: int) -> list[Rollout]:
    """`steps` control steps in episodes of at most `episode_steps`; the same for the same seed."""
    random = generator(seed, f"rollouts/{env.control_spec.id}")
    observation, _ = env.reset(seed=stream_seed(seed, "rollouts/env") % 2**31)
    played: list[Rollout] = []
    left = steps
    for policy in _policies(env, random):
        if left <= 0:
            return played
        episode = _play(env, policy, observation, min(left, episode_steps))
        played.append(episode)
        left -= len(episode.rewards)
        observation, _ = env.reset()
    raise AssertionError("policies never end")


def _play(
    env: ControlEnv, policy: Policy, observation: Float[ndarray, " features"], steps: int
) -> Rollout:
    observations, rewards = [], []
    for step in range(steps):
        observations.append(observation)
        observation, reward, terminated, truncated, _ = env.step(policy(observation, step))
        rewards.append(float(reward))
        if terminated or truncated:
            break
    return Rollout(np.array(observations), np.array(rewards))


def _policies(env: ControlEnv, random: np.random.Generator) -> Iterator[Policy]:
    """For one episode after another."""
    spec = env.control_spec
    held = np.zeros(spec.controls)
    primitive = 0

    def uniform(_: ndarray, step: int) -> ndarray:
        return random.uniform(-1.0, 1.0, spec.controls)

    def holding(_: ndarray, step: int) -> ndarray:
        nonlocal held
        if step % _HELD == 0:
            held = random.uniform(-1.0, 1.0, spec.controls)
        return held

    def noisy(control: ndarray | None) -> ndarray:
        centre = np.zeros(spec.controls) if control is None else control
        return np.clip(centre + _NOISE * random.standard_normal(spec.controls), -1.0, 1.0)

    def nominal(observation: ndarray, step: int) -> ndarray:
        nonlocal primitive
        if step % _HELD == 0:
            primitive = int(random.integers(len(spec.primitives)))
        return noisy(env.nominal(primitive, observation))

    def expert(observation: ndarray, step: int) -> ndarray:
        return noisy(env.expert_control(observation))

    while True:
        yield from (uniform, holding, nominal, expert)
