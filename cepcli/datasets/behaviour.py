"""Who acts while data are collected, and the episodes they play.

Nobody in particular, an expert, or an expert with slips; a trained agent is a behaviour too, made
where agents may be imported. An episode is determined by its seed.
"""

from abc import ABC, abstractmethod
from typing import Any

import numpy as np
from typing_extensions import override

from cepcli.envs.base import SymbolicEnv
from cepcli.envs.control import ControlEnv
from cepcli.envs.episodes import ControlTracker, EpisodeTracker, Tracker

#: Columns of one or more episodes, a value for each step: arrays of control, lists of text.
Episodes = dict[str, Any]


class Behaviour(ABC):
    """Chooses what is done in an environment, as itself and an episode's seed determine.

    Attributes:
        about: who it is, as part of a sentence.
    """

    about: str

    @abstractmethod
    def begin(self, seed: int) -> None:
        """Begin an episode, all randomness of which comes from this seed."""

    @abstractmethod
    def act(self, tracker: Tracker) -> Any:
        """A control, or the text of an action."""


class RandomBehaviour(Behaviour):
    """Uniform over the range of controls, or over the admissible actions."""

    about = "uniformly random actions"

    @override
    def begin(self, seed: int) -> None:
        self._random = np.random.default_rng(seed)

    @override
    def act(self, tracker: Tracker) -> Any:
        if isinstance(tracker, EpisodeTracker):
            return str(self._random.choice(tracker.state.actions))
        return self._random.uniform(-1, 1, tracker.env.control_spec.controls).astype(np.float32)


class ExpertBehaviour(Behaviour):
    """The environment's own expert, which acts at random with the probability `slips`."""

    def __init__(self, slips: float) -> None:
        self._slips = slips
        self._other = RandomBehaviour()
        expert = "the environment's own expert"
        self.about = expert + f", {slips:.0%} of its actions random" * (slips > 0)

    @override
    def begin(self, seed: int) -> None:
        self._random = np.random.default_rng([seed, 1])
        self._other.begin(seed)

    @override
    def act(self, tracker: Tracker) -> Any:
        # the expert is asked each time, for some of them follow the episode
        if isinstance(tracker, EpisodeTracker):
            choice: Any = tracker.env.expert_action()
        else:
            choice = tracker.env.expert_control(tracker.observation)
        return self._other.act(tracker) if self._random.random() < self._slips else choice


def play(env: SymbolicEnv | ControlEnv, behaviour: Behaviour, seed: int, most: int) -> Episodes:
    """Play an episode to its end, or for `most` steps, after which it counts as truncated."""
    behaviour.begin(seed)
    if isinstance(env, SymbolicEnv):
        tracker: Tracker = EpisodeTracker(env, seed % 2**31)
    else:
        tracker = ControlTracker(env, seed % 2**31)
    steps: list[dict[str, Any]] = []
    flags: dict[str, bool] = {}
    ended = False
    while not ended:
        seen = _seen(tracker)
        action = behaviour.act(tracker)
        reward, terminated, truncated = tracker.step(action)
        truncated = not terminated and (truncated or len(steps) + 1 == most)
        ended = terminated or truncated
        if isinstance(tracker, EpisodeTracker):
            did = {"action": action, "reward": reward}
        else:
            following = tracker.observation
            did = {"controls": action, "rewards": reward, "next_observations": following}
        flags = {"terminated": terminated, "truncated": truncated, "success": tracker.success}
        steps.append({**seen, **did, **flags})
    columns = {name: [step[name] for step in steps] for name in steps[0]}
    if isinstance(tracker, EpisodeTracker):
        return columns
    kinds = dict.fromkeys(flags, bool)
    return {name: np.array(found, kinds.get(name, np.float32)) for name, found in columns.items()}


def _seen(tracker: Tracker) -> dict[str, Any]:
    if isinstance(tracker, EpisodeTracker):
        state = tracker.state
        return {"goal": state.goal, "text": state.text, "actions": list(state.actions)}
    return {"observations": tracker.observation}
