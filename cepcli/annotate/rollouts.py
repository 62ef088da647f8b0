"""States without labels, and the rewards that followed them: what the sampling's policies play."""

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from cepcli.abstraction.annotated import Rollout
from cepcli.annotate.sampling import Policy, policies
from cepcli.envs.control import ControlEnv
from cepcli.seeding import generator, stream_seed


def rollouts(env: ControlEnv, steps: int, episode_steps: int, seed: int) -> list[Rollout]:
    """`steps` control steps in episodes of at most `episode_steps`; the same for the same seed."""
    name = env.control_spec.id
    random = generator(seed, f"rollouts/{name}")
    observation, _ = env.reset(seed=stream_seed(seed, f"rollouts/{name}/env") % 2**31)
    makers = policies(env, random)
    played: list[Rollout] = []
    while steps > 0:
        policy = makers[len(played) % len(makers)](env, random)
        played.append(_play(env, policy, observation, min(steps, episode_steps)))
        steps -= len(played[-1].rewards)
        observation, _ = env.reset()
    return played


def _play(
    env: ControlEnv, policy: Policy, observation: Float[ndarray, " features"], steps: int
) -> Rollout:
    observations, rewards = [], []
    for _ in range(steps):
        observations.append(observation)
        observation, reward, terminated, truncated, _ = env.step(policy(observation))
        rewards.append(float(reward))
        if terminated or truncated:
            break
    return Rollout(np.array(observations), np.array(rewards))
