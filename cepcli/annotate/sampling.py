"""States worth annotating: visited by several policies, then chosen to be unlike one another."""

import itertools
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray

from cepcli.annotate.gaits import Gait, random_gait, walking_gaits
from cepcli.annotate.records import rounded, suggestion
from cepcli.annotate.rules import has_rules
from cepcli.annotate.states import State
from cepcli.envs.catalog import make_control_env
from cepcli.envs.control import ControlEnv, ControlSpec
from cepcli.seeding import generator, stream_seed

#: Control steps between two states of an episode that may be chosen.
_STRIDE = 3
#: Control steps of a rollout, at most: what ends earlier begins anew under the next policy.
_ROLLOUT = 150
#: Share of the noise that is kept from step to step where noise is smooth.
_SMOOTH = 0.9
_NOMINAL_STEPS = 20
#: Strengths of the noise on what an expert or a gait does.
_NOISES = (0.0, 0.3, 0.8)
#: Units of features by which states are not told apart: how hard something is touched.
_NOT_COMPARED = ("N", "N m")
#: Features beyond this many standard deviations count no more when states are compared.
_CLIP = 3.0

Observation = Float[ndarray, " features"]
Policy = Callable[[Observation], Float[ndarray, " controls"]]
Maker = Callable[[ControlEnv, np.random.Generator], Policy]


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
    name = env.control_spec.id
    random = generator(seed, f"annotate/{name}")
    observation, info = env.reset(seed=stream_seed(seed, f"annotate/{name}/env") % 2**31)
    found: list[_Visited] = []
    makers = policies(env, random)
    rollout = 0
    while len(found) < wanted:
        policy = makers[rollout % len(makers)](env, random)
        for step in range(_ROLLOUT):
            if step % _STRIDE == 0:
                found.append(
                    _Visited(observation.copy(), info["instance"], rounded(env.snapshot()))
                )
            observation, _, terminated, truncated, info = env.step(policy(observation))
            if terminated or truncated:
                break
        observation, info = env.reset()
        rollout += 1
    return found[:wanted]


def policies(env: ControlEnv, random: np.random.Generator) -> list[Maker]:
    """What plays the rollouts in turn: expert and primitives where there are such, else gaits."""
    start = np.zeros(len(env.control_spec.features))
    if env.expert_control(start) is not None:
        held = [_nominal] if env.nominal(0, start) is not None else []
        return [_expert, *held, _expert, _smooth]
    gaits = walking_gaits(env, random)

    def walk(env: ControlEnv, random: np.random.Generator) -> Policy:
        noise = random.choice(_NOISES)
        return _walk(env, random, gaits[random.integers(len(gaits))], noise)

    return [walk, _gait, walk, _smooth, walk, _uniform]


def _uniform(env: ControlEnv, random: np.random.Generator) -> Policy:
    """Independent noise at every step."""
    size = env.control_spec.controls
    return lambda observation: random.uniform(-1, 1, size)


def _smooth(env: ControlEnv, random: np.random.Generator) -> Policy:
    """Noise that changes slowly, so that limbs travel."""
    control = np.zeros(env.control_spec.controls)

    def act(observation: Observation) -> Float[ndarray, " controls"]:
        fresh = random.normal(size=control.shape) * np.sqrt(1 - _SMOOTH**2)
        control[:] = _SMOOTH * control + fresh
        return np.clip(control, -1, 1)

    return act


def _gait(env: ControlEnv, random: np.random.Generator) -> Policy:
    """Any gait."""
    return _walk(env, random, random_gait(env.control_spec, random), 0.0)


def _walk(env: ControlEnv, random: np.random.Generator, gait: Gait, noise: float) -> Policy:
    """A gait, and smooth noise of a strength."""
    steps = itertools.count()
    shake = _smooth(env, random)
    return lambda observation: np.clip(
        gait.control(next(steps), observation) + noise * shake(observation), -1, 1
    )


def _expert(env: ControlEnv, random: np.random.Generator) -> Policy:
    """The scripted expert, with noise of a strength drawn for the rollout."""
    strength = random.choice(_NOISES)

    def act(observation: Observation) -> Float[ndarray, " controls"]:
        control = env.expert_control(observation)
        assert control is not None
        return np.clip(control + random.normal(0, strength, control.shape), -1, 1)

    return act


def _nominal(env: ControlEnv, random: np.random.Generator) -> Policy:
    """One primitive after another, each held for a while."""
    count = len(env.control_spec.primitives)
    held = left = 0

    def act(observation: Observation) -> Float[ndarray, " controls"]:
        nonlocal held, left
        if left == 0:
            held, left = int(random.integers(count)), _NOMINAL_STEPS
        left -= 1
        control = env.nominal(held, observation)
        assert control is not None
        return control

    return act
