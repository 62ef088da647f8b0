"""The boundary to environments, whoever wrote them.

`guarded(env)` is the same environment, of which every answer keeps the contract: whatever `env`
raises, and every answer that is none (a reward that is NaN, no actions, a key of `info` that is
missing), is an `EnvError` that names the environment, the call, and the step.
"""

import inspect
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NoReturn, overload

import gymnasium as gym
import numpy as np
from jaxtyping import Float
from numpy import ndarray

from cepcli.envs.base import SymbolicEnv
from cepcli.envs.control import LARGEST_REWARD, ControlEnv, ControlSpec, check_finite
from cepcli.errors import CepError, EnvError, Interrupted, in_one_line

_TEXT_KEYS = {"text": str, "goal": str, "actions": tuple, "instance": int, "success": bool}
_CONTROL_KEYS = {"goal": str, "instance": int, "success": bool}
_TEXT_CONTRACT = "cepcli/envs/base.py"
_CONTROL_CONTRACT = "cepcli/envs/control.py"
_NUMBERS = int | float | np.integer | np.floating
_TRACEBACK = "To see where in its code, type the command with --debug: cep --debug …"


@overload
def guarded(env: SymbolicEnv, registered: str | None = None) -> SymbolicEnv: ...
@overload
def guarded(env: ControlEnv, registered: str | None = None) -> ControlEnv: ...
def guarded(
    env: SymbolicEnv | ControlEnv, registered: str | None = None
) -> SymbolicEnv | ControlEnv:
    """`env` behind the boundary; itself if it is there already.

    Args:
        env: the environment.
        registered: the id that it was made by, which errors name until it has told its own;
            without one they name its class.

    Raises:
        EnvError: if it lacks an attribute that the contract asks for, or reading one fails.
    """
    if isinstance(env, GuardedText | GuardedControl):
        return env
    name = registered or type(env).__name__
    return GuardedControl(env, name) if isinstance(env, ControlEnv) else GuardedText(env, name)


@contextmanager
def asking(env_id: str, call: str, where: str = "") -> Iterator[None]:
    """Whatever an environment's code raises, or ends the program with, becomes an EnvError."""
    try:
        yield
    except (CepError, Interrupted):
        raise
    except (Exception, SystemExit) as error:  # another author's code
        raise EnvError(
            f"Environment `{env_id}` failed in {call}{where}: {in_one_line(error)}.", _TRACEBACK
        ) from error


def _promised(env: object, env_id: str, name: str, kind: type, contract: str) -> Any:
    """An attribute that the contract asks for; reading it may run a property, another's code."""
    with asking(env_id, f"`{name}`"):
        try:
            value = getattr(env, name)
        except AttributeError:
            if inspect.getattr_static(env, name, None) is not None:
                raise  # it is there: its own code lacks something
            value = None
    if not isinstance(value, kind) or not value:
        raise EnvError(
            f"`{env_id}` breaks the contract: `{name}` is {value!r:.200}, "
            f"expected a {kind.__name__}.",
            f"See {contract}.",
        )
    return value


class _Calls:
    """The calls to one environment: where its episode stands, and whether one has failed."""

    def __init__(self, env: Any, env_id: str, contract: str) -> None:
        self.env = env
        self.env_id = env_id
        self.contract = contract
        self.episodes = 0
        self.steps = 0
        self.failed = False

    def __call__(self, name: str, *given: Any, **named: Any) -> Any:
        """What the method `name` returns."""
        return self._told(name, lambda: getattr(self.env, name)(*given, **named))

    def attribute(self, name: str) -> Any:
        """An attribute of the environment; it may be a property, which is code."""
        return self._told(name, lambda: getattr(self.env, name))

    def set(self, name: str, value: Any) -> None:
        """Set an attribute of the environment."""
        self._told(name, lambda: setattr(self.env, name, value))

    def _told(self, name: str, function: Callable[[], Any]) -> Any:
        try:
            with asking(self.env_id, f"`{name}`", self.where):
                return function()
        except BaseException:
            self.failed = True
            raise

    def reset(self, seed: int | None, options: dict[str, Any] | None) -> tuple[Any, Any]:
        """Begin an episode: observation and info."""
        self.episodes, self.steps = self.episodes + 1, 0
        observation, info = self._tuple_of(2, self("reset", seed=seed, options=options))
        return observation, info

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, Any]:
        """Take an action: observation, reward, terminated, truncated, info."""
        self.steps += 1
        answer = self._tuple_of(5, self("step", action))
        observation, reward, terminated, truncated, info = answer
        self._check_outcome(reward, terminated, truncated)
        return observation, reward, terminated, truncated, info

    def close(self) -> None:
        """Close it; after a failure, which has been told, a second one would hide the first."""
        told = self.failed
        try:
            self("close")
        except EnvError:
            if not told:
                raise

    def _tuple_of(self, size: int, answer: Any) -> tuple[Any, ...]:
        """The answer of `reset` or `step`."""
        if not isinstance(answer, tuple) or len(answer) != size:
            name = "reset" if size == 2 else "step"
            self.refuse(f"`{name}` returned {answer!r:.200}, expected a tuple of {size}")
        return answer

    def check_info(self, info: Any, keys: Mapping[str, type]) -> None:
        """Refuse an `info` without one of the keys, or with something else under it."""
        if not isinstance(info, dict):
            self.refuse(f"`info` is {info!r:.200}, expected a dict")
        for key, kind in keys.items():
            if key not in info:
                self.refuse(f"`info` lacks the key `{key}`")
            value = info[key]
            if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
                self.refuse(f"`info[{key!r}]` is {value!r:.200}, expected a {kind.__name__}")
            if kind is str and not value.strip():
                self.refuse(f"`info[{key!r}]` is empty")

    def _check_outcome(self, reward: Any, terminated: Any, truncated: Any) -> None:
        """Refuse a reward that is no number, and flags that are none."""
        if not isinstance(reward, _NUMBERS) or isinstance(reward, bool):
            self.refuse(f"the reward is {reward!r:.200}, expected a finite number")
        for name, flag in (("terminated", terminated), ("truncated", truncated)):
            if not isinstance(flag, bool | np.bool_):
                self.refuse(f"`{name}` is {flag!r:.200}, expected a bool")

    def give_up(self, what: str) -> NoReturn:
        """Raise an EnvError: it `gave` a number that is none."""
        self.failed = True
        raise EnvError(f"Environment `{self.env_id}` gave {what}{self.where}.")

    def refuse(self, what: str) -> NoReturn:
        """Raise an EnvError: the contract is broken by `what`."""
        self.failed = True
        raise EnvError(
            f"`{self.env_id}` breaks the contract{self.where}: {what}.", f"See {self.contract}."
        )

    @property
    def where(self) -> str:
        """The step of the episode, in words."""
        return f" at step {self.steps} of episode {self.episodes}" if self.episodes else ""


class _Behind(gym.Env[Any, Any]):
    """What environments behind the boundary have in common: they answer by way of `_calls`."""

    _calls: _Calls

    @property
    def unwrapped(self) -> Any:
        """The environment itself."""
        return self._calls.attribute("unwrapped")

    @property
    def np_random(self) -> np.random.Generator:
        """Its own generator, that episodes are drawn from."""
        return self._calls.attribute("np_random")

    @np_random.setter
    def np_random(self, value: np.random.Generator) -> None:
        self._calls.set("np_random", value)

    def render(self) -> Any:
        """A picture."""
        return self._calls("render")

    def close(self) -> None:
        """Free what it holds."""
        self._calls.close()

    def _take_spaces(self) -> None:
        """The spaces as they are now; that of admissible actions may change with each step."""
        self.observation_space = self._calls.attribute("observation_space")
        self.action_space = self._calls.attribute("action_space")


class GuardedText(_Behind, SymbolicEnv):
    """A `SymbolicEnv` behind the boundary; see `guarded`."""

    def __init__(self, env: SymbolicEnv, name: str) -> None:
        self.env_id = _promised(env, name, "env_id", str, _TEXT_CONTRACT)
        self.family = _promised(env, self.env_id, "family", str, _TEXT_CONTRACT)
        self.max_episode_steps = _promised(
            env, self.env_id, "max_episode_steps", int, _TEXT_CONTRACT
        )
        self._calls = _Calls(env, self.env_id, _TEXT_CONTRACT)
        self._actions: tuple[str, ...] = ()
        self._take_spaces()

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Begin an episode."""
        observation, info = self._calls.reset(seed, options)
        return observation, self._checked(observation, info)

    def step(self, action: str) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Take an action."""
        observation, reward, terminated, truncated, info = self._calls.step(action)
        if not abs(float(reward)) <= LARGEST_REWARD:
            self._calls.give_up(f"the reward {reward}, expected a finite number,")
        info = self._checked(observation, info)
        return observation, reward, terminated, truncated, info

    def expert_action(self) -> str:
        """The expert's choice here."""
        advice = self._calls("expert_action")
        if advice not in self._actions:
            self._calls.refuse(f"the expert's action `{advice}` is not admissible")
        return advice

    def _checked(self, observation: Any, info: Any) -> dict[str, Any]:
        self._calls.check_info(info, _TEXT_KEYS)
        actions = info["actions"]
        if not actions or not all(isinstance(a, str) and a.strip() for a in actions):
            self._calls.refuse(
                f"`info['actions']` is {actions!r}, expected one or more non-empty strings"
            )
        if len(set(actions)) < len(actions):
            self._calls.refuse(f"`info['actions']` names an action twice: {actions!r}")
        if not _finite(observation):
            self._calls.give_up(
                f"an observation with numbers that are not finite, {observation!r:.200},"
            )
        self._actions = actions
        self._take_spaces()
        return info


class GuardedControl(_Behind, ControlEnv):
    """A `ControlEnv` behind the boundary; see `guarded`."""

    def __init__(self, env: ControlEnv, name: str) -> None:
        self.control_spec = _promised(env, name, "control_spec", ControlSpec, _CONTROL_CONTRACT)
        self._calls = _Calls(env, self.control_spec.id, _CONTROL_CONTRACT)
        self._take_spaces()

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[ndarray, dict[str, Any]]:
        """Begin an episode."""
        observation, info = self._calls.reset(seed, options)
        self._check(observation, 0.0, info)
        return observation, info

    def step(self, action: ndarray) -> tuple[ndarray, float, bool, bool, dict[str, Any]]:
        """Apply a control."""
        observation, reward, terminated, truncated, info = self._calls.step(action)
        self._check(observation, float(reward), info)
        return observation, reward, terminated, truncated, info

    def nominal(
        self, primitive: int, observation: Float[ndarray, " features"]
    ) -> Float[ndarray, " controls"] | None:
        """The control that a primitive suggests here."""
        return self._calls("nominal", primitive, observation)

    def expert_control(
        self, observation: Float[ndarray, " features"]
    ) -> Float[ndarray, " controls"] | None:
        """A scripted expert's control."""
        return self._calls("expert_control", observation)

    def snapshot(self) -> Float[ndarray, " numbers"]:
        """The simulator's own state."""
        return self._calls("snapshot")

    def restore(self, snapshot: Float[ndarray, " numbers"]) -> None:
        """Put the simulator into a state of the instance that was last reset."""
        self._calls("restore", snapshot)

    def _check(self, observation: Any, reward: float, info: Any) -> None:
        expected = (len(self.control_spec.features),)
        if not isinstance(observation, ndarray) or observation.shape != expected:
            self._calls.refuse(
                f"the observation is {observation!r:.200}, expected an array of shape {expected}"
            )
        self._calls.check_info(info, _CONTROL_KEYS)
        check_finite(self.control_spec, observation, reward, self._calls.where)


def _finite(observation: Any) -> bool:
    """Whether an observation of whatever kind holds no number that is NaN or infinite."""
    if isinstance(observation, float | np.floating):
        return math.isfinite(observation)
    if isinstance(observation, ndarray) and observation.dtype.kind == "f":
        return bool(np.isfinite(observation).all())
    if isinstance(observation, dict):
        return all(map(_finite, observation.values()))
    return not isinstance(observation, tuple | list) or all(map(_finite, observation))
