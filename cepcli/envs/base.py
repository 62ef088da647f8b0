"""The environment contract: a Gymnasium environment that also speaks.

`info` (from `reset` and `step` alike) carries

- `text`: str, the description of the current state;
- `goal`: str, the task text, constant within an episode;
- `actions`: tuple[str, ...], the admissible symbolic actions, distinct, never empty
  (after the last step of an episode: those of the last state);
- `instance`: int, which instance of the family is being played; `reset(options={"instance": i})`
  plays exactly that one again, and draws nothing from `np_random`;
- `success`: bool, whether the task is solved.

`step` takes one of the strings in `actions`. `reset(seed=...)` seeds `np_random`, from which each
later `reset()` draws the next instance, so two environments with one seed play the same episodes.
"""

from abc import abstractmethod
from typing import Any, Literal

import gymnasium as gym

from cepcli.types import TextState

Split = Literal["train", "heldout"]


class SymbolicEnv(gym.Env[Any, str]):
    """Base of every environment family; see the module docstring for the contract."""

    #: Names the prompt template and the cache namespace: "babyai", "textworld", …
    family: str
    #: The registered id, e.g. "babyai/goto-redball".
    env_id: str
    #: Decisions after which an episode is truncated.
    max_episode_steps: int

    @abstractmethod
    def expert_action(self) -> str:
        """The expert's choice in the current state, one of the admissible actions."""


def text_state(info: dict[str, Any]) -> TextState:
    """The state of an `info` as the prior takes it."""
    return TextState(goal=info["goal"], text=info["text"], actions=tuple(info["actions"]))
