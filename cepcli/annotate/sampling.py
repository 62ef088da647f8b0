"""States worth annotating: visited by several policies, then chosen to be unlike one another.

And rollouts: states without labels, and the rewards that followed them.
"""

import itertools
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray

from cepcli.abstraction.annotated import Rollout
from cepcli.annotate.policies import Observation, Policy, policies
from cepcli.annotate.records import State, rounded, suggestion
from cepcli.annotate.rules import has_rules
from cepcli.envs.catalog import make_control_env
from cepcli.envs.control import ControlEnv, ControlSpec
from cepcli.seeding import generator, stream_seed

#: Control steps between two states of an episode that may be chosen.
_STRIDE = 3
#: Control steps of a rollout, at most: what ends earlier begins anew under the next policy.
_ROLLOUT = 150
#: Units of features by which states are not told apart: how hard something is touched.
_NOT_COMPARED = ("N", "N m")
#: Features beyond this many standard deviations count no more when states are compared.
_CLIP = 3.0


class _Visited(NamedTuple):
    observation: Observation
    instance: int
    snapshot: tuple[float, ...]


def sample_states(env_id: str, count: int, *, pool: int = 10, seed: int = 0) -> list[State]:
    """`count` states that lie far apart, of `count * pool` visited; the same for the same seed."""
    env = make_control_env(env_id, split="train")
    try:
        visited = _visit(env, count * pool, seed)
    finally:
        env.close()
    observations = np.array([rounded(found.observation) for found in visited])
    spec = env.control_spec
    compared = np.array([feature.unit not in _NOT_COMPARED for feature in spec.features])
    points = standardised(observations[:, compared])
    first = generator(seed, f"annotate/{env_id}/first")
    chosen = farthest_points(points, count, first, _groups(spec, observations))
    return [
        State(env_id, tuple(observations[n].tolist()), visited[n].instance, visited[n].snapshot)
        for n in chosen
    ]


def standardised(
    observations: Float[ndarray, "states features"],
) -> Float[ndarray, "states features"]:
    """Features of mean 0 and deviation 1, cut off at three; constant ones 0."""
    spread = observations.std(axis=0)
    scale = np.where(spread > 1e-8, spread, np.inf)
    return np.clip((observations - observations.mean(axis=0)) / scale, -_CLIP, _CLIP)


def farthest_points(
    points: Float[ndarray, "states features"],
    count: int,
    random: np.random.Generator,
    groups: Int[ndarray, " states"],
) -> list[int]:
    """Rows chosen one by one, each the farthest from those before; fewer if no more differ.

    Each is of the group that is furthest behind, where a group's due grows with the root of its
    size: what is seldom visited is chosen more often than by chance, and no group is left out.
    """
    due = np.sqrt(np.bincount(groups))
    taken = np.zeros_like(due)
    nearest = np.full(len(points), np.inf)
    following = int(random.integers(len(points)))
    chosen: list[int] = []
    while len(chosen) < count:
        chosen.append(following)
        taken[groups[following]] += 1
        nearest = np.minimum(nearest, ((points - points[following]) ** 2).sum(axis=1))
        left = np.bincount(groups, nearest > 0, len(due)) > 0
        if not left.any():
            break
        behind = np.argmin(np.where(left, (taken + 1) / due, np.inf))
        following = int(np.argmax(np.where(groups == behind, nearest, -1.0)))
    return chosen


def _groups(
    spec: ControlSpec, observations: Float[ndarray, "states features"]
) -> Int[ndarray, " states"]:
    """States for which the rules name the same primitive; all in one where there are no rules."""
    if not has_rules(spec):
        return np.zeros(len(observations), np.int64)
    named = [suggestion(spec, row).primitive for row in observations.tolist()]
    return np.unique(named, return_inverse=True)[1]


def _visit(env: ControlEnv, wanted: int, seed: int) -> list[_Visited]:
    """States of rollouts of one policy after another."""
    found: list[_Visited] = []
    for policy, observation, instance in _starts(env, "annotate", seed):
        if len(found) >= wanted:
            break
        for step in range(_ROLLOUT):
            if step % _STRIDE == 0:
                found.append(_Visited(observation.copy(), instance, rounded(env.snapshot())))
            observation, _, terminated, truncated, _ = env.step(policy(observation))
            if terminated or truncated:
                break
    return found[:wanted]


def rollouts(env: ControlEnv, steps: int, episode_steps: int, seed: int) -> list[Rollout]:
    """`steps` control steps in episodes of at most `episode_steps`; the same for the same seed."""
    played: list[Rollout] = []
    for policy, observation, _ in _starts(env, "rollouts", seed):
        if steps <= 0:
            break
        observations, rewards = [], []
        for _ in range(min(steps, episode_steps)):
            observations.append(observation)
            observation, reward, terminated, truncated, _ = env.step(policy(observation))
            rewards.append(float(reward))
            if terminated or truncated:
                break
        played.append(Rollout(np.array(observations), np.array(rewards)))
        steps -= len(rewards)
    return played


def _starts(env: ControlEnv, stream: str, seed: int) -> Iterator[tuple[Policy, Observation, int]]:
    """The next policy, and where it begins: the first observation and the instance."""
    stream = f"{stream}/{env.control_spec.id}"
    random = generator(seed, stream)
    observation, info = env.reset(seed=stream_seed(seed, f"{stream}/env") % 2**31)
    for make in itertools.cycle(policies(env, random)):
        yield make(env, random), observation, info["instance"]
        observation, info = env.reset()
