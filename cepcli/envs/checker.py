"""Does an environment keep the contract of `cepcli.envs.base`? For ours and for third parties'.

check_env(make_env("babyai/goto-obj", workspace=root), heldout=make_env(..., split="heldout"))
"""

from typing import Any, NamedTuple, NoReturn

import numpy as np

from cepcli.envs.base import SymbolicEnv
from cepcli.envs.boundary import guarded
from cepcli.errors import EnvError

_KEYS = ("text", "goal", "actions", "instance", "success")


class _Step(NamedTuple):
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

    What every answer has to keep by itself is checked by `cepcli.envs.boundary`, here as in a run.

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
    first = [_play(env, seed if e == 0 else None, rng=_rng(seed, e)) for e in range(episodes)]
    again = [
        _play(env, seed if e == 0 else None, rng=_rng(seed, e), ask_expert=True)
        for e in range(episodes)
    ]
    for before, after in zip(first, again, strict=True):
        _compare(env, before, after, f"after reset(seed={seed}), also when the expert is asked")
    for e, episode in enumerate(first):
        _check_replay(env, episode, _rng(seed, e))
    _check_expert_episode(env, first[0][0].instance)
    if heldout is not None:
        _check_splits(env, guarded(heldout), episodes, seed)


def _rng(seed: int, episode: int) -> np.random.Generator:
    return np.random.default_rng((seed, episode))


def _fail(env: SymbolicEnv, message: str) -> NoReturn:
    raise EnvError(f"`{env.env_id}` breaks the contract: {message}", "See cepcli/envs/base.py.")


def _play(
    env: SymbolicEnv,
    seed: int | None,
    *,
    rng: np.random.Generator,
    ask_expert: bool = False,
    instance: int | None = None,
) -> list[_Step]:
    """One episode of random actions, checked at every step."""
    options = None if instance is None else {"instance": instance}
    observation, info = env.reset(seed=seed, options=options)
    steps = [_checked(env, observation, info, 0.0, False, False)]
    _check_rejects(env, steps[0].actions)
    while not (steps[-1].terminated or steps[-1].truncated):
        actions = steps[-1].actions
        if ask_expert:
            _advice(env, actions)
        action = actions[int(rng.integers(len(actions)))]
        observation, reward, terminated, truncated, info = env.step(action)
        steps.append(_checked(env, observation, info, reward, terminated, truncated))
        _check_progress(env, steps)
    return steps


def _checked(
    env: SymbolicEnv, observation: Any, info: Any, reward: Any, terminated: Any, truncated: Any
) -> _Step:
    if not env.observation_space.contains(observation):
        _fail(env, f"the observation {observation!r} is outside `observation_space`.")
    for action in info["actions"]:
        if not env.action_space.contains(action):
            _fail(env, f"the admissible action `{action}` is outside `action_space`.")
    shown = {key: info[key] for key in _KEYS}
    return _Step(**shown, reward=float(reward), terminated=terminated, truncated=truncated)


def _check_rejects(env: SymbolicEnv, actions: tuple[str, ...]) -> None:
    impossible = "not " + " nor ".join(actions)
    try:
        env.step(impossible)
    except EnvError as error:
        if error.__cause__ is not None:  # whatever else it raised
            _fail(env, f"{error.message} An action that is not admissible is an EnvError.")
        return
    _fail(env, "`step` took an action that is not admissible, expected an EnvError.")


def _check_progress(env: SymbolicEnv, steps: list[_Step]) -> None:
    """Goal and instance stay; the episode ends exactly at its limit."""
    start, now, taken = steps[0], steps[-1], len(steps) - 1
    if now.goal != start.goal:
        _fail(env, f"the goal changed from {start.goal!r} to {now.goal!r} within an episode.")
    if now.instance != start.instance:
        _fail(env, f"the instance changed from {start.instance} to {now.instance} in an episode.")
    ended = now.terminated or now.truncated
    if now.truncated and taken < env.max_episode_steps:
        _fail(env, f"truncated after {taken} of {env.max_episode_steps} steps.")
    if not ended and taken >= env.max_episode_steps:
        _fail(env, f"not truncated after {env.max_episode_steps} steps, `max_episode_steps`.")


def _advice(env: SymbolicEnv, actions: tuple[str, ...]) -> str:
    advice = env.expert_action()
    if advice not in actions:
        _fail(env, f"the expert's action `{advice}` is not admissible.")
    return advice


def _compare(env: SymbolicEnv, before: list[_Step], after: list[_Step], when: str) -> None:
    for number, (one, other) in enumerate(zip(before, after, strict=False)):
        for name, was, now in zip(_Step._fields, one, other, strict=True):
            if was != now:
                _fail(env, f"`{name}` at step {number} was {was!r}, then {now!r}, {when}.")
    if len(before) != len(after):
        _fail(env, f"an episode had {len(before) - 1} steps, then {len(after) - 1}, {when}.")


def _check_replay(env: SymbolicEnv, episode: list[_Step], rng: np.random.Generator) -> None:
    instance = episode[0].instance
    before = env.np_random.bit_generator.state
    replayed = _play(env, None, rng=rng, instance=instance)
    _compare(env, episode, replayed, f"when instance {instance} was asked for again")
    if env.np_random.bit_generator.state != before:
        _fail(env, 'reset(options={"instance": …}) draws from `np_random`, expected it not to.')


def _check_expert_episode(env: SymbolicEnv, instance: int) -> None:
    """The expert's own episode, so that its late advice is checked too."""
    _, info = env.reset(options={"instance": instance})
    ended = False
    while not ended:
        _, _, terminated, truncated, info = env.step(_advice(env, info["actions"]))
        ended = terminated or truncated


def _check_splits(env: SymbolicEnv, heldout: SymbolicEnv, episodes: int, seed: int) -> None:
    drawn = []
    for each in (env, heldout):
        infos = [each.reset(seed=seed if e == 0 else None)[1] for e in range(episodes)]
        drawn.append({info["instance"] for info in infos})
    shared = drawn[0] & drawn[1]
    if shared:
        _fail(env, f"train and held-out episodes share the instance {min(shared)}.")
