"""What every family needs to keep the contract: its spaces, and the checks of its arguments."""

import string
from collections.abc import Collection, Sequence
from typing import Any

import gymnasium as gym

from cepcli.errors import EnvError
from cepcli.registry import suggest

#: Longest text a state, a goal or an action may have, in characters.
MAX_TEXT = 10_000


class AdmissibleActions(gym.Space[str]):
    """The symbolic actions of the current state: `sample` draws one, `contains` tests one."""

    def __init__(self, actions: Collection[str] = ()) -> None:
        super().__init__(shape=None, dtype=None)
        self.actions = tuple(actions)

    @property
    def is_np_flattenable(self) -> bool:
        """Whether the space can be flattened: strings cannot."""
        return False

    def sample(self, mask: Any = None, probability: Any = None) -> str:
        """An admissible action, uniformly; masks are not supported."""
        if mask is not None or probability is not None:
            raise EnvError("The space of admissible actions takes no mask.")
        if not self.actions:
            raise EnvError("No action is admissible before an episode.", "Call reset() first.")
        return self.actions[int(self.np_random.integers(len(self.actions)))]

    def contains(self, x: Any) -> bool:
        """Whether `x` may be done in the current state."""
        return x in self.actions

    def __repr__(self) -> str:
        return f"AdmissibleActions({', '.join(self.actions)})"


def text_space() -> gym.spaces.Text:
    """The observation space of a text environment."""
    return gym.spaces.Text(max_length=MAX_TEXT, min_length=1, charset=string.printable)


def requested_instance(options: dict[str, Any] | None) -> int | None:
    """The instance that `reset(options=...)` asks for, or None when the next one is to be drawn.

    Raises:
        EnvError: on an unknown option, or an instance that is not an integer from 0.
    """
    for key in options or {}:
        if key != "instance":
            raise EnvError(f"`reset` knows no option `{key}`.", suggest(key, ["instance"]))
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
