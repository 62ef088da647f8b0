"""The contract of text environments: a Gymnasium environment that also speaks.

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

A new family derives from `TextGame`, which does the bookkeeping: it says how an instance starts,
what an action does, and what is seen.
"""

import string
from abc import abstractmethod
from collections.abc import Collection, Sequence
from typing import Any, Literal

import gymnasium as gym
from typing_extensions import override

from cepcli.errors import EnvError
from cepcli.registry import suggest
from cepcli.types import TextState

Split = Literal["train", "heldout"]
#: Longest text a state, a goal or an action may have, in characters.
MAX_TEXT = 10_000
#: Instances of families whose instances are seeds, by split.
SEEDS_PER_SPLIT = {"train": range(2**30), "heldout": range(2**30, 2**31)}


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


class TextGame(SymbolicEnv):
    """Episodes of instances, with a limit of decisions; a family adds what happens in them.

    Args:
        env_id: the registered id.
        instances: those of the split, of which `reset` draws one uniformly.
        max_episode_steps: decisions before truncation.
    """

    def __init__(self, env_id: str, instances: Sequence[int], max_episode_steps: int) -> None:
        self.env_id, self.instances, self.max_episode_steps = env_id, instances, max_episode_steps
        self.observation_space = text_space()
        self.action_space = self._space = AdmissibleActions()
        self.instance, self.goal = 0, ""
        #: The actions taken in this episode.
        self.taken: list[str] = []
        self.running = False

    @abstractmethod
    def start(self, instance: int) -> str:
        """Begin an episode of an instance; its goal."""

    @abstractmethod
    def act(self, action: str) -> tuple[float, bool]:
        """Do an admissible action: its reward, and whether it ended the episode."""

    @abstractmethod
    def observe(self) -> tuple[str, Sequence[str], bool]:
        """The present state: its text, its admissible actions, whether the task is solved."""

    def draw(self) -> int:
        """The next instance, from `np_random`."""
        return self.instances[int(self.np_random.integers(len(self.instances)))]

    @override
    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[str, dict[str, Any]]:
        super().reset(seed=seed)
        instance = requested_instance(options)
        if instance is None:
            instance = self.draw()
        self.goal = self.start(instance)
        self.instance, self.taken, self.running = instance, [], True
        return self._observation_and_info()

    @override
    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        require_admissible(action, self._space.actions if self.running else (), self.env_id)
        reward, terminated = self.act(action)
        self.taken.append(action)
        truncated = not terminated and len(self.taken) >= self.max_episode_steps
        self.running = not (terminated or truncated)
        text, info = self._observation_and_info()
        return text, reward, terminated, truncated, info

    def _observation_and_info(self) -> tuple[str, dict[str, Any]]:
        text, actions, success = self.observe()
        self._space.actions = tuple(actions)
        return text, {
            "text": text,
            "goal": self.goal,
            "actions": self._space.actions,
            "instance": self.instance,
            "success": success,
        }


class AdmissibleActions(gym.Space[str]):
    """The symbolic actions of the current state: `sample` draws one, `contains` tests one."""

    def __init__(self, actions: Collection[str] = ()) -> None:
        super().__init__(shape=None, dtype=None)
        self.actions = tuple(actions)

    @property
    @override
    def is_np_flattenable(self) -> bool:
        return False

    @override
    def sample(self, mask: Any = None, probability: Any = None) -> str:
        """An admissible action, uniformly; masks are not supported."""
        if mask is not None or probability is not None:
            raise EnvError("The space of admissible actions does not support masks.")
        if not self.actions:
            raise EnvError("No action is admissible before an episode.", "Call reset() first.")
        return self.actions[int(self.np_random.integers(len(self.actions)))]

    @override
    def contains(self, x: Any) -> bool:
        return x in self.actions

    def __repr__(self) -> str:
        return f"AdmissibleActions({', '.join(self.actions)})"


def text_space(charset: str = string.printable) -> gym.spaces.Text:
    """The observation space of a text environment."""
    return gym.spaces.Text(max_length=MAX_TEXT, min_length=1, charset=charset)


def requested_instance(options: dict[str, Any] | None) -> int | None:
    """The instance that `reset(options=...)` asks for, or None when the next one is to be drawn.

    Raises:
        EnvError: on an unknown option, or an instance that is not an integer from 0.
    """
    for key in options or {}:
        if key != "instance":
            raise EnvError(f"`reset` has no option `{key}`.", suggest(key, ["instance"]))
    instance = (options or {}).get("instance")
    if instance is None:
        return None
    if not isinstance(instance, int) or isinstance(instance, bool) or instance < 0:
        raise EnvError(f"`instance` is {instance!r}, expected an integer from 0.")
    return instance


def require_admissible(action: str, actions: Sequence[str], env_id: str) -> None:
    """Raise an `EnvError` unless `action` may be done now (no actions: no running episode)."""
    if not actions:
        raise EnvError(f"`{env_id}` has no running episode.", "Call reset() first.")
    if action not in actions:
        raise EnvError(
            f"`{action}` is not admissible in this state of `{env_id}`.", suggest(action, actions)
        )
