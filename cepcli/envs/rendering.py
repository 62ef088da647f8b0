"""Frames of MuJoCo worlds, with or without a display."""

import os
import sys
from collections.abc import Callable
from typing import Any

from numpy import ndarray

from cepcli.errors import EnvError

_BACKEND = "MUJOCO_GL"


def choose_backend() -> None:
    """Let MuJoCo render without a display, unless the user chose otherwise; call before import."""
    if sys.platform.startswith("linux") and not os.environ.get("DISPLAY"):
        os.environ.setdefault(_BACKEND, "egl")


def rendered(render: Callable[[], Any]) -> ndarray:
    """What `render` draws.

    Raises:
        EnvError: where it cannot.
    """
    try:
        frame = render()
    except Exception as error:  # OpenGL's bindings raise whatever the driver makes of it
        raise EnvError(
            f"Cannot render: {type(error).__name__}: {error} ({_BACKEND} is "
            f"`{os.environ.get(_BACKEND, '')}`).",
            f"Install a driver, or try {_BACKEND}=osmesa or {_BACKEND}=glfw.",
        ) from error
    if frame is None:
        raise EnvError("The simulator drew no frame.")
    return frame
