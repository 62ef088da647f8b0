"""Who acts while data are collected: nobody in particular, an expert, or an expert with slips.

A trained agent is one too; it is made where agents may be imported.
"""

from abc import ABC, abstractmethod
from typing import Any

import numpy as np

from cepcli.envs.episodes import EpisodeTracker
from cepcli.envs.parallel_episodes import Tracker


class Behaviour(ABC):
    """Chooses what is done in an environment, as itself and an episode's seed determine."""

    @property
    @abstractmethod
    def about(self) -> str:
        """Who it is, as part of a sentence."""

    @abstractmethod
    def begin(self, seed: int) -> None:
        """Begin an episode, all randomness of which comes from this seed."""

    @abstractmethod
    def act(self, tracker: Tracker) -> Any:
        """A control, or the text of an action."""


class RandomBehaviour(Behaviour):
    """Uniform over the range of controls, or over the admissible actions."""

    def begin(self, seed: int) -> None:
        """See `Behaviour`."""
        self._random = np.random.default_rng(seed)

    @property
    def about(self) -> str:
        """See `Behaviour`."""
        return "uniformly random actions"

    def act(self, tracker: Tracker) -> Any:
        """See `Behaviour`."""
        if isinstance(tracker, EpisodeTracker):
            return str(self._random.choice(tracker.state.actions))
        return self._random.uniform(-1, 1, tracker.env.control_spec.controls).astype(np.float32)


class ExpertBehaviour(Behaviour):
    """The environment's own expert, which acts at random with some probability.

    Args:
        slips: that probability.
    """

    def __init__(self, slips: float) -> None:
        self._slips = slips
        self._other = RandomBehaviour()

    @property
    def about(self) -> str:
        """See `Behaviour`."""
        expert = "the environment's own expert"
        return expert + f", {self._slips:.0%} of its actions random" * (self._slips > 0)

    def begin(self, seed: int) -> None:
        """See `Behaviour`."""
        self._random = np.random.default_rng([seed, 1])
        self._other.begin(seed)

    def act(self, tracker: Tracker) -> Any:
        """See `Behaviour`; the expert is asked each time, for some of them follow the episode."""
        if isinstance(tracker, EpisodeTracker):
            choice: Any = tracker.env.expert_action()
        else:
            choice = tracker.env.expert_control(tracker.observation)
        return self._other.act(tracker) if self._random.random() < self._slips else choice
