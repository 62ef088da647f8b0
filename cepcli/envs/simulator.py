"""Control environments over a MuJoCo simulator: episodes, instability, pictures.

Where positions, velocities or controls are NaN, infinite or huge, MuJoCo prints a warning and
starts the simulation over in the middle of a step: finite numbers come back that belong nowhere.
Importing this module loads no simulator.
"""

import os
import sys
import traceback
from abc import abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

import numpy as np
from jaxtyping import Float
from numpy import ndarray
from typing_extensions import override

from cepcli.envs.base import requested_instance
from cepcli.envs.control import ControlEnv, ControlSpec
from cepcli.errors import EnvError

_BACKEND = "MUJOCO_GL"
_FIRST_FATAL = 4  # mjWARN_BADQPOS; then BADQVEL, BADQACC, BADCTRL
_FATAL = ("positions", "velocities", "accelerations", "controls")


def load(module: str) -> Any:
    """Import a module that loads MuJoCo.

    Raises:
        EnvError: where the backend that the user chose for pictures cannot be loaded with it.
    """
    try:
        return import_module(module)
    except Exception as error:  # OpenGL's bindings raise whatever they meet
        raise EnvError(
            f"Cannot load MuJoCo: {type(error).__name__}: {error} ({_said()}).",
            f"Without {_BACKEND}, MuJoCo needs no OpenGL until a picture is drawn.",
        ) from error


class SimulatorEnv(ControlEnv):
    """A bare simulator with the contract's instances, time limit and checks.

    Args:
        spec: what is known of the environment.
        simulator: an environment of Gymnasium over MuJoCo, without wrappers.
        instances: those of the split that are drawn.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 20}  # noqa: RUF012  (gymnasium's own)
    render_mode = "rgb_array"

    def __init__(self, spec: ControlSpec, simulator: Any, instances: range) -> None:
        self.control_spec = spec
        self.simulator = simulator
        self._instances = instances
        #: Counts of fatal warnings since the last reset; MuJoCo keeps this view up to date.
        self._warnings = simulator.data.warning.number[_FIRST_FATAL:]
        self.observation_space = simulator.observation_space
        self.action_space = simulator.action_space
        self._instance, self._step, self._solved = 0, 0, False

    @abstractmethod
    def _start(self, instance: int) -> Float[ndarray, " features"]:
        """Reset the simulator to an instance; its first observation."""

    def _terminated(self, terminated: bool) -> bool:
        """Whether the episode ends here, if the simulator says `terminated`."""
        return terminated

    @override
    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Float[ndarray, " features"], dict[str, Any]]:
        super().reset(seed=seed)
        instance = requested_instance(options)
        if instance is None:
            instance = self._instances[int(self.np_random.integers(len(self._instances)))]
        observation = self._start(instance)
        self._instance, self._step, self._solved = instance, 0, False
        return observation, self._info()

    @override
    def step(
        self, action: Float[ndarray, " controls"]
    ) -> tuple[Float[ndarray, " features"], float, bool, bool, dict[str, Any]]:
        spec = self.control_spec
        if self._step >= spec.max_episode_steps:
            raise EnvError(f"The episode of `{spec.id}` is over.", "Call reset().")
        observation, reward, terminated, _, raw = self.simulator.step(action)
        self._step += 1
        if any(self._warnings.tolist()):
            self._raise_unstable(action)
        self._solved = self._solved or bool(raw.get("success"))
        truncated = self._step >= spec.max_episode_steps
        ended = self._terminated(bool(terminated))
        return observation, float(reward), ended, truncated, self._info()

    @override
    def render(self) -> ndarray:
        """The present frame, uint8 [height, width, 3]; without a display, too.

        Raises:
            EnvError: where there is no OpenGL.
        """
        with _backend():
            try:
                frame = self.simulator.render()
            except Exception as error:  # OpenGL's bindings raise whatever the driver makes of it
                _discard(error)
                raise EnvError(
                    f"Cannot render: {type(error).__name__}: {error} ({_said()}).",
                    f"Install a driver (on Debian, libegl1), or try another: {_BACKEND}=osmesa.",
                ) from error
        if frame is None:
            raise EnvError("The simulator drew no frame.")
        return frame

    @override
    def close(self) -> None:
        self.simulator.close()

    def _info(self) -> dict[str, Any]:
        goal = self.control_spec.goal
        return {"goal": goal, "instance": self._instance, "success": self._solved}

    def _raise_unstable(self, control: Float[ndarray, " controls"]) -> None:
        """Say that MuJoCo has given the simulation up, by the control if it was that."""
        env_id = self.control_spec.id
        if not np.isfinite(control).all():
            told = np.asarray(control).tolist()
            raise EnvError(f"A control for `{env_id}` contains NaN or infinity: {told}.")
        which = _FATAL[int(np.flatnonzero(self._warnings)[0])]
        raise EnvError(
            f"The simulation of `{env_id}` became unstable: its {which} are NaN, infinite or huge."
        )


@contextmanager
def _backend() -> Iterator[None]:
    """MUJOCO_GL=egl where there is no display and the user chose nothing.

    Not for longer: with it, MuJoCo refuses to be imported where EGL is missing, in children too.
    """
    chosen = sys.platform.startswith("linux") and not (
        os.environ.get("DISPLAY") or _BACKEND in os.environ
    )
    if chosen:
        os.environ[_BACKEND] = "egl"
    try:
        yield
    finally:
        if chosen:
            del os.environ[_BACKEND]


def _discard(error: BaseException) -> None:
    """Free what Gymnasium's viewer has half made, quietly: its destructor raises."""
    hook, sys.unraisablehook = sys.unraisablehook, lambda _: None
    try:
        traceback.clear_frames(error.__traceback__)
    finally:
        sys.unraisablehook = hook


def _said() -> str:
    return f"{_BACKEND}={os.environ[_BACKEND]}" if _BACKEND in os.environ else f"no {_BACKEND}"
