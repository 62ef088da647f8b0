"""The boundary to environments, whoever wrote them.

`guarded(env)` is the same environment, of which every answer keeps the contract: whatever `env`
raises, and every answer that breaks the contract (a reward that is NaN, no actions, a key of `info`
that is missing), is an `EnvError` that names the environment, the call, and the step.
"""

import inspect
import math
from abc import abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NoReturn, overload

import gymnasium as gym
import numpy as np
from jaxtyping import Float
from numpy import ndarray
from typing_extensions import override

from cepcli.envs.base import SymbolicEnv
from cepcli.envs.control import LARGEST_REWARD, ControlEnv, ControlSpec, check_finite
from cepcli.errors import CepError, EnvError, Interrupted, in_one_line

TEXT_CONTRACT = "cepcli/envs/base.py"
CONTROL_CONTRACT = "cepcli/envs/control.py"
_CONTROL_KEYS = {"goal": str, "instance": int, "success": bool}
_TEXT_KEYS = {"text": str, "actions": tuple, **_CONTROL_KEYS}
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


class _Guard(gym.Env[Any, Any]):
    """What both guards share: calls to the environment, and checks of what it answers."""

    def __init__(self, env: Any, env_id: str, contract: str, info_keys: dict[str, type]) -> None:
        self._env, self._id, self._contract, self._info_keys = env, env_id, contract, info_keys
        self._episodes = self._steps = 0
        self._failed = False
        self._take_spaces()

    @property
    def unwrapped(self) -> Any:
        """The environment itself."""
        return self._attribute("unwrapped")

    @property
    def np_random(self) -> np.random.Generator:
        """Its own generator, that episodes are drawn from."""
        return self._attribute("np_random")

    @np_random.setter
    def np_random(self, value: np.random.Generator) -> None:
        self._ask("np_random", lambda: setattr(self._env, "np_random", value))

    @override
    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        self._episodes, self._steps = self._episodes + 1, 0
        answer = self._call("reset", seed=seed, options=options)
        observation, info = self._tuple_of(2, "reset", answer)
        self._check(observation, 0.0, info)
        return observation, info

    @override
    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self._steps += 1
        answer = self._tuple_of(5, "step", self._call("step", action))
        observation, reward, terminated, truncated, info = answer
        if not isinstance(answer[1], _NUMBERS) or isinstance(answer[1], bool):
            self._refuse(f"the reward is {reward!r:.200}, expected a finite number")
        for name, flag in (("terminated", terminated), ("truncated", truncated)):
            if not isinstance(flag, bool | np.bool_):
                self._refuse(f"`{name}` is {flag!r:.200}, expected a bool")
        self._check(observation, float(reward), info)
        return observation, reward, terminated, truncated, info

    @override
    def render(self) -> Any:
        return self._call("render")

    @override
    def close(self) -> None:
        already_failed = self._failed
        try:
            self._call("close")
        except EnvError:
            if not already_failed:  # a second failure would hide the first
                raise

    @abstractmethod
    def _check(self, observation: Any, reward: float, info: Any) -> None:
        """Refuse an answer that breaks the contract."""

    def _take_spaces(self) -> None:
        """The spaces as they are now; that of admissible actions may change with each step."""
        self.observation_space = self._attribute("observation_space")
        self.action_space = self._attribute("action_space")

    def _call(self, name: str, *given: Any, **named: Any) -> Any:
        return self._ask(name, lambda: getattr(self._env, name)(*given, **named))

    def _attribute(self, name: str) -> Any:
        """An attribute of the environment; it may be a property, which is code."""
        return self._ask(name, lambda: getattr(self._env, name))

    def _ask(self, name: str, function: Callable[[], Any]) -> Any:
        try:
            with asking(self._id, f"`{name}`", self._where):
                return function()
        except BaseException:
            self._failed = True
            raise

    def _tuple_of(self, size: int, name: str, answer: Any) -> tuple[Any, ...]:
        if not isinstance(answer, tuple) or len(answer) != size:
            self._refuse(f"`{name}` returned {answer!r:.200}, expected a tuple of {size}")
        return answer

    def _check_info(self, info: Any) -> None:
        if not isinstance(info, dict):
            self._refuse(f"`info` is {info!r:.200}, expected a dict")
        for key, kind in self._info_keys.items():
            if key not in info:
                self._refuse(f"`info` lacks the key `{key}`")
            value = info[key]
            if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
                self._refuse(f"`info[{key!r}]` is {value!r:.200}, expected a {kind.__name__}")
            if kind is str and not value.strip():
                self._refuse(f"`info[{key!r}]` is empty")

    def _refuse(self, what: str) -> NoReturn:
        """Raise an EnvError: the contract is broken by `what`."""
        self._failed = True
        raise EnvError(
            f"`{self._id}` breaks the contract{self._where}: {what}.", f"See {self._contract}."
        )

    @property
    def _where(self) -> str:
        return f" at step {self._steps} of episode {self._episodes}" if self._episodes else ""


class GuardedText(_Guard, SymbolicEnv):
    """A `SymbolicEnv` behind the boundary; see `guarded`."""

    def __init__(self, env: SymbolicEnv, name: str) -> None:
        self.env_id = _promised(env, name, "env_id", str, TEXT_CONTRACT)
        self.family = _promised(env, self.env_id, "family", str, TEXT_CONTRACT)
        self.max_episode_steps = _promised(
            env, self.env_id, "max_episode_steps", int, TEXT_CONTRACT
        )
        self._actions: tuple[str, ...] = ()
        super().__init__(env, self.env_id, TEXT_CONTRACT, _TEXT_KEYS)

    @override
    def expert_action(self) -> str:
        advice = self._call("expert_action")
        if advice not in self._actions:
            self._refuse(f"the expert's action `{advice}` is not admissible")
        return advice

    @override
    def _check(self, observation: Any, reward: float, info: Any) -> None:
        if not abs(reward) <= LARGEST_REWARD:
            self._give_up(f"the reward {reward}, expected a finite number,")
        self._check_info(info)
        actions = info["actions"]
        if not actions or not all(isinstance(a, str) and a.strip() for a in actions):
            self._refuse(
                f"`info['actions']` is {actions!r}, expected one or more non-empty strings"
            )
        if len(set(actions)) < len(actions):
            self._refuse(f"`info['actions']` names an action twice: {actions!r}")
        if not _finite(observation):
            self._give_up(f"an observation that contains NaN or infinity, {observation!r:.200},")
        self._actions = actions
        self._take_spaces()

    def _give_up(self, what: str) -> NoReturn:
        """Raise an EnvError: a number that it gave is not finite."""
        self._failed = True
        raise EnvError(f"Environment `{self._id}` gave {what}{self._where}.")


class GuardedControl(_Guard, ControlEnv):
    """A `ControlEnv` behind the boundary; see `guarded`."""

    def __init__(self, env: ControlEnv, name: str) -> None:
        self.control_spec = _promised(env, name, "control_spec", ControlSpec, CONTROL_CONTRACT)
        super().__init__(env, self.control_spec.id, CONTROL_CONTRACT, _CONTROL_KEYS)

    @override
    def nominal(
        self, primitive: int, observation: Float[ndarray, " features"]
    ) -> Float[ndarray, " controls"] | None:
        return self._call("nominal", primitive, observation)

    @override
    def expert_control(
        self, observation: Float[ndarray, " features"]
    ) -> Float[ndarray, " controls"] | None:
        return self._call("expert_control", observation)

    @override
    def snapshot(self) -> Float[ndarray, " numbers"]:
        return self._call("snapshot")

    @override
    def restore(self, snapshot: Float[ndarray, " numbers"]) -> None:
        self._call("restore", snapshot)

    @override
    def _check(self, observation: Any, reward: float, info: Any) -> None:
        expected = (len(self.control_spec.features),)
        if not isinstance(observation, ndarray) or observation.shape != expected:
            self._refuse(
                f"the observation is {observation!r:.200}, expected an array of shape {expected}"
            )
        self._check_info(info)
        check_finite(self.control_spec, observation, reward, self._where)


def _finite(observation: Any) -> bool:
    """Whether an observation of whatever kind holds no number that is NaN or infinite."""
    if isinstance(observation, float | np.floating):
        return math.isfinite(observation)
    if isinstance(observation, ndarray) and observation.dtype.kind == "f":
        return bool(np.isfinite(observation).all())
    if isinstance(observation, dict):
        return all(map(_finite, observation.values()))
    return not isinstance(observation, tuple | list) or all(map(_finite, observation))
