"""Does an environment keep its contract (`envs/base.py`, `envs/control.py`)? Ours and others'.

check_env(make_env("babyai/goto-obj", workspace=root), heldout=make_env(..., split="heldout"))

What every answer has to keep by itself is checked by `cepcli.envs.boundary`, here as in a run.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy import ndarray

from cepcli.envs.base import SymbolicEnv
from cepcli.envs.boundary import CONTROL_CONTRACT, TEXT_CONTRACT, guarded
from cepcli.envs.control import ControlEnv
from cepcli.errors import EnvError

_CONTROL_STEPS = 50  # of an episode of control that are played


class _Shown(NamedTuple):
    """What an episode showed at one moment; reward 0 and flags off at its start."""

    text: str
    goal: str
    actions: tuple[str, ...]
    instance: int
    success: bool
    reward: float
    terminated: bool
    truncated: bool


def check_env(
    env: SymbolicEnv, *, heldout: SymbolicEnv | None = None, episodes: int = 2, seed: int = 0
) -> None:
    """Play random and expert episodes, and compare them with the contract.

    Args:
        env: the environment; it is reset, and left in the middle of nothing.
        heldout: the same id made for the other split: their instances must be disjoint.
        episodes: how many episodes of each kind are played.
        seed: seeds both the environment and the choice of actions.

    Raises:
        EnvError: naming the first violation.
    """
    if not isinstance(env, SymbolicEnv):
        raise EnvError(f"{env!r} is not a SymbolicEnv.", "Derive it from cepcli.envs.base.")
    env = guarded(env)
    first, again = (
        [
            _play(env, np.random.default_rng((seed, e)), asked, seed=None if e else seed)
            for e in range(episodes)
        ]
        for asked in (False, True)
    )
    for before, after in zip(first, again, strict=True):
        _compare(env, before, after, f"after reset(seed={seed}), also when the expert is asked")
    for e, episode in enumerate(first):
        instance, state = episode[0].instance, env.np_random.bit_generator.state
        random = np.random.default_rng((seed, e))
        replayed = _play(env, random, options={"instance": instance})
        _compare(env, episode, replayed, f"when instance {instance} was asked for again")
        drawn = env.np_random.bit_generator.state != state
        message = 'reset(options={"instance": …}) draws from `np_random`, expected it not to'
        _require(env, not drawn, message)
    _check_expert(env, first[0][0].instance)
    if heldout is not None:
        drawn = [_drawn(each, episodes, seed) for each in (env, guarded(heldout))]
        shared = drawn[0] & drawn[1]
        message = f"train and held-out episodes share the instance {min(shared, default='')}"
        _require(env, not shared, message)


def _require(env: SymbolicEnv | ControlEnv, holds: bool, message: str) -> None:
    if not holds:
        control = isinstance(env, ControlEnv)
        env_id = env.control_spec.id if control else env.env_id
        contract = CONTROL_CONTRACT if control else TEXT_CONTRACT
        raise EnvError(f"`{env_id}` breaks the contract: {message}.", f"See {contract}.")


def _play(
    env: SymbolicEnv, random: np.random.Generator, ask_expert: bool = False, **reset: Any
) -> list[_Shown]:
    """One episode of random actions, checked at every step."""
    shown = [_checked(env, *env.reset(**reset))]
    _check_rejects(env, shown[0].actions)
    while not (shown[-1].terminated or shown[-1].truncated):
        actions = shown[-1].actions
        if ask_expert:
            env.expert_action()
        action = actions[int(random.integers(len(actions)))]
        observation, reward, terminated, truncated, info = env.step(action)
        shown.append(_checked(env, observation, info, float(reward), terminated, truncated))
        _check_progress(env, shown)
    return shown


def _checked(
    env: SymbolicEnv,
    observation: Any,
    info: dict[str, Any],
    reward: float = 0.0,
    terminated: bool = False,
    truncated: bool = False,
) -> _Shown:
    inside = env.observation_space.contains(observation)
    _require(env, inside, f"the observation {observation!r} is outside `observation_space`")
    for action in info["actions"]:
        inside = env.action_space.contains(action)
        _require(env, inside, f"the admissible action `{action}` is outside `action_space`")
    shown = {key: info[key] for key in ("text", "goal", "actions", "instance", "success")}
    return _Shown(**shown, reward=reward, terminated=terminated, truncated=truncated)


def _check_rejects(env: SymbolicEnv, actions: Sequence[str]) -> None:
    message = "`step` took an action that is not admissible, expected an EnvError"
    try:
        env.step("not " + " nor ".join(actions))
    except EnvError as error:
        if error.__cause__ is None:
            return
        message = f"{error.message} An action that is not admissible is an EnvError"
    _require(env, False, message)


def _check_progress(env: SymbolicEnv, shown: Sequence[_Shown]) -> None:
    """Goal and instance stay; the episode ends exactly at its limit."""
    start, now, taken, limit = shown[0], shown[-1], len(shown) - 1, env.max_episode_steps
    changed = f"the goal changed from {start.goal!r} to {now.goal!r} within an episode"
    _require(env, now.goal == start.goal, changed)
    changed = f"the instance changed from {start.instance} to {now.instance} in an episode"
    _require(env, now.instance == start.instance, changed)
    early = now.truncated and taken < limit
    _require(env, not early, f"truncated after {taken} of {limit} steps")
    late = taken >= limit and not (now.terminated or now.truncated)
    _require(env, not late, f"not truncated after {limit} steps, `max_episode_steps`")


def _compare(
    env: SymbolicEnv, before: Sequence[_Shown], after: Sequence[_Shown], when: str
) -> None:
    for number, (one, other) in enumerate(zip(before, after, strict=False)):
        for name, was, now in zip(_Shown._fields, one, other, strict=True):
            message = f"`{name}` at step {number} was {was!r}, then {now!r}, {when}"
            _require(env, was == now, message)
    lengths = len(before) - 1, len(after) - 1
    message = f"an episode had {lengths[0]} steps, then {lengths[1]}, {when}"
    _require(env, lengths[0] == lengths[1], message)


def _check_expert(env: SymbolicEnv, instance: int) -> None:
    """Play the expert's own episode, so that its late advice is checked too."""
    env.reset(options={"instance": instance})
    ended = False
    while not ended:
        _, _, terminated, truncated, _ = env.step(env.expert_action())
        ended = terminated or truncated


def _drawn(env: SymbolicEnv | ControlEnv, episodes: int, seed: int) -> set[int]:
    """The instances of the first episodes."""
    return {env.reset(seed=None if e else seed)[1]["instance"] for e in range(episodes)}


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
    env, spec = guarded(env), env.control_spec
    names = [feature.name for feature in spec.features]
    _require(env, len(set(names)) == len(names), "two features have the same name")
    _require(env, len(set(spec.actions)) == len(spec.actions) > 0, "primitives are not distinct")
    shapes = (env.observation_space.shape, env.action_space.shape)
    expected = ((len(names),), (spec.controls,))
    _require(env, shapes == expected, f"spaces have the shapes {shapes}, expected {expected}")

    controls = np.random.default_rng(seed).uniform(-1.0, 1.0, (_CONTROL_STEPS, spec.controls))
    resets: list[dict[str, Any]] = [{"seed": seed}, *[{}] * (episodes - 1)]
    first, again = ([_play_control(env, controls, **reset) for reset in resets] for _ in range(2))
    same = all(map(_same, first, again))
    _require(env, same, f"reset(seed={seed}) does not give the same episodes")
    for episode in first:
        replayed = _play_control(env, controls, options={"instance": episode[0]})
        message = f"instance {episode[0]} is not the same played again"
        _require(env, _same(episode, replayed), message)
    if heldout is not None:
        shared = {instance for instance, _ in first} & _drawn(guarded(heldout), 4, seed)
        _require(env, not shared, f"instances {sorted(shared)} are in both splits")


def _play_control(env: ControlEnv, controls: ndarray, **reset: Any) -> tuple[int, ndarray]:
    """The instance of an episode, and its observations with their rewards."""
    observation, info = env.reset(**reset)
    rows = [np.append(observation, 0.0)]
    for control in controls:
        _check_nominal(env, observation)
        observation, reward, terminated, truncated, _ = env.step(control)
        rows.append(np.append(observation, float(reward)))
        if terminated or truncated:
            break
    return info["instance"], np.stack(rows)


def _same(one: tuple[int, ndarray], other: tuple[int, ndarray]) -> bool:
    return one[0] == other[0] and np.array_equal(one[1], other[1])


def _check_nominal(env: ControlEnv, observation: ndarray) -> None:
    for number, name in enumerate(env.control_spec.actions):
        control = env.nominal(number, observation)
        if control is not None:
            size = env.control_spec.controls
            fits = control.shape == (size,) and np.abs(control).max() <= 1.0
            message = f"`{name}` suggests {control}, expected {size} numbers in [-1, 1]"
            _require(env, bool(fits), message)
