"""MuJoCo: loading it, seeing that it has given a simulation up, and its pictures.

Where positions, velocities or controls are NaN, infinite or huge, MuJoCo prints a warning and
starts the simulation over in the middle of a step: finite numbers come back that belong nowhere.
"""

import os
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray

from cepcli.envs.control import ControlSpec
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


def fatal_warnings(data: Any) -> Int[ndarray, "4"]:
    """Counts of fatal warnings since the last reset, a view that the simulator keeps up to date.

    Args:
        data: a `mujoco.MjData`.
    """
    return data.warning.number[_FIRST_FATAL:]


def check_stable(
    spec: ControlSpec, warnings: Int[ndarray, "4"], control: Float[ndarray, " controls"]
) -> None:
    """Raise an EnvError where the simulation has been given up, by the control if it was that."""
    if not any(warnings.tolist()):
        return
    if not np.isfinite(control).all():
        raise EnvError(f"A control for `{spec.id}` is not finite: {np.asarray(control).tolist()}.")
    which = _FATAL[int(np.flatnonzero(warnings)[0])]
    raise EnvError(
        f"The simulation of `{spec.id}` became unstable: its {which} were not finite, or huge."
    )


def rendered(render: Callable[[], Any]) -> ndarray:
    """What `render` draws; without a display too, unless the user has set MUJOCO_GL.

    Raises:
        EnvError: where it cannot.
    """
    with _backend():
        try:
            frame = render()
        except Exception as error:  # OpenGL's bindings raise whatever the driver makes of it
            _discard(error)
            raise EnvError(
                f"Cannot render: {type(error).__name__}: {error} ({_said()}).",
                f"Install a driver (on Debian, libegl1), or try another: {_BACKEND}=osmesa.",
            ) from error
    if frame is None:
        raise EnvError("The simulator drew no frame.")
    return frame


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
