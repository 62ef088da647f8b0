"""One episode of a behaviour, recorded: all of it is determined by the episode's seed."""

from typing import Any

import numpy as np

from cepcli.datasets.behaviour import Behaviour
from cepcli.datasets.partial_collection import Episodes
from cepcli.envs.base import SymbolicEnv
from cepcli.envs.control import ControlEnv
from cepcli.envs.control_episodes import ControlTracker
from cepcli.envs.episodes import EpisodeTracker


def play(env: SymbolicEnv | ControlEnv, behaviour: Behaviour, seed: int, most: int) -> Episodes:
    """Play an episode to its end, or for `most` steps, after which it counts as truncated."""
    behaviour.begin(seed)
    if isinstance(env, SymbolicEnv):
        return _table(_text_steps(EpisodeTracker(env, seed % 2**31), behaviour, most))
    found = _table(_control_steps(ControlTracker(env, seed % 2**31), behaviour, most))
    flags = ("terminated", "truncated", "success")
    return {
        name: np.array(values, bool if name in flags else np.float32)
        for name, values in found.items()
    }


def _text_steps(tracker: EpisodeTracker, behaviour: Behaviour, most: int) -> list[dict[str, Any]]:
    steps: list[dict[str, Any]] = []
    ended = False
    while not ended:
        state = tracker.state
        action = behaviour.act(tracker)
        reward, terminated, truncated = tracker.step(action)
        truncated = not terminated and (truncated or len(steps) + 1 == most)
        ended = terminated or truncated
        steps.append({
            "goal": state.goal, "text": state.text, "actions": list(state.actions),
            "action": action, "reward": reward, "terminated": terminated, "truncated": truncated,
            "success": tracker.success,
        })  # fmt: skip
    return steps


def _control_steps(
    tracker: ControlTracker, behaviour: Behaviour, most: int
) -> list[dict[str, Any]]:
    steps: list[dict[str, Any]] = []
    ended = False
    while not ended:
        before = tracker.observation
        control = behaviour.act(tracker)
        reward, terminated, truncated = tracker.step(control)
        truncated = not terminated and (truncated or len(steps) + 1 == most)
        ended = terminated or truncated
        steps.append({
            "observations": before, "controls": control, "rewards": reward,
            "next_observations": tracker.observation, "terminated": terminated,
            "truncated": truncated, "success": tracker.success,
        })  # fmt: skip
    return steps


def _table(steps: list[dict[str, Any]]) -> Episodes:
    return {name: [step[name] for step in steps] for name in steps[0]}
