"""Does a control environment keep the contract of `cepcli.envs.control`?

check_control_env(make_control_env("ant"), heldout=make_control_env("ant", split="heldout"))
"""

from typing import Any, NamedTuple

import numpy as np
from numpy import ndarray

from cepcli.envs.boundary import guarded
from cepcli.envs.control import ControlEnv
from cepcli.errors import EnvError

_MOST_STEPS = 50


class _Played(NamedTuple):
    """An episode's beginning: its instance, observations and rewards."""

    instance: int
    numbers: ndarray


def check_control_env(
    env: ControlEnv, *, heldout: ControlEnv | None = None, episodes: int = 2, seed: int = 0
) -> None:
    """Play the beginnings of random episodes, and compare them with the contract.

    Args:
        env: the environment; it is reset, and left in the middle of nothing.
        heldout: the same id made for the other split: their instances must be disjoint.
        episodes: how many are played.
        seed: seeds both the environment and the controls.

    Raises:
        EnvError: naming the first violation.
    """
    env = guarded(env)
    _check_spec(env)
    first = _episodes(env, episodes, seed)
    for before, after in zip(first, _episodes(env, episodes, seed), strict=True):
        _require(env, _same(before, after), f"reset(seed={seed}) does not give the same episodes")
    for episode in first:
        again = _play(env, {"options": {"instance": episode.instance}}, _controls(env, seed))
        _require(
            env, _same(episode, again), f"instance {episode.instance} is not the same played again"
        )
    if heldout is not None:
        shared = {e.instance for e in first} & {
            e.instance for e in _episodes(guarded(heldout), 4, seed)
        }
        _require(env, not shared, f"instances {sorted(shared)} are in both splits")


def _check_spec(env: ControlEnv) -> None:
    spec = env.control_spec
    names = [feature.name for feature in spec.features]
    _require(env, len(set(names)) == len(names), "two features have the same name")
    _require(env, len(set(spec.actions)) == len(spec.actions) > 0, "primitives are not distinct")
    shapes = (env.observation_space.shape, env.action_space.shape)
    expected = ((len(names),), (spec.controls,))
    _require(env, shapes == expected, f"spaces have the shapes {shapes}, expected {expected}")


def _episodes(env: ControlEnv, episodes: int, seed: int) -> list[_Played]:
    controls = _controls(env, seed)
    return [_play(env, {"seed": seed} if e == 0 else {}, controls) for e in range(episodes)]


def _controls(env: ControlEnv, seed: int) -> ndarray:
    shape = (_MOST_STEPS, env.control_spec.controls)
    return np.random.default_rng(seed).uniform(-1.0, 1.0, shape)


def _play(env: ControlEnv, reset: dict[str, Any], controls: ndarray) -> _Played:
    observation, info = env.reset(**reset)
    instance, rows = info["instance"], [np.append(observation, 0.0)]
    for control in controls:
        _check_nominal(env, observation)
        observation, reward, terminated, truncated, info = env.step(control)
        rows.append(np.append(observation, float(reward)))
        if terminated or truncated:
            break
    return _Played(instance, np.stack(rows))


def _check_nominal(env: ControlEnv, observation: ndarray) -> None:
    for number, name in enumerate(env.control_spec.actions):
        control = env.nominal(number, observation)
        if control is not None:
            fits = control.shape == (env.control_spec.controls,) and np.abs(control).max() <= 1.0
            _require(env, bool(fits), f"`{name}` suggests {control}, no control within ±1")


def _same(one: _Played, other: _Played) -> bool:
    return one.instance == other.instance and np.array_equal(one.numbers, other.numbers)


def _require(env: ControlEnv, kept: bool, what: str) -> None:
    if not kept:
        raise EnvError(f"`{env.control_spec.id}` breaks the contract: {what}.")
