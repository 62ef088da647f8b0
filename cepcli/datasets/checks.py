"""What every dataset of control must satisfy, whichever file it is read from."""

import numpy as np
from jaxtyping import Bool, Float, Float32, Shaped
from numpy import ndarray

from cepcli.datasets.dataset import REFERENCE_RETURNS
from cepcli.envs.catalog import env_ids, spec
from cepcli.envs.control import ControlSpec
from cepcli.errors import DataError, EnvError

#: How far beyond ±1 rounding may carry a control.
_ROUNDING = 1e-4
#: Within which height a walker decides anything at all: below and above, its episodes end.
_WALKER_HEIGHT = (0.8, 2.0)


def known_spec(env: str | None) -> ControlSpec | None:
    """What is known of an environment of control; None of those that have a score and no more.

    Raises:
        EnvError: if there is none of that name, or it is one of text.
    """
    if env is None or (env in REFERENCE_RETURNS and env not in env_ids()):
        return None
    found = spec(env)
    if found.control is None:
        raise EnvError(
            f"`{env}` is a text world, and these data are of continuous control.",
            "Name the environment of the data: cep envs list",
        )
    return found.control


def canonical(env: str) -> str:
    """The catalog's name of an environment; an unknown one keeps its own."""
    try:
        return spec(env).id
    except EnvError:
        return env


def check_env(where: str, recorded: str | None, env: str | None) -> None:
    """Refuse data that say themselves that they are of another environment."""
    if recorded is None or env is None or canonical(recorded) == canonical(env):
        return
    raise DataError(
        f"{where} is of the environment `{recorded}`, expected `{env}`.", f"Try --env {recorded}"
    )


def check_widths(where: str, known: ControlSpec | None, features: int, controls: int) -> None:
    """Refuse observations or controls of another width than the environment's."""
    if known is None:
        return
    for what, found, expected in (
        ("observations", features, len(known.features)),
        ("actions", controls, known.controls),
    ):
        if found != expected:
            raise DataError(
                f"The {what} in {where} have {found} numbers, those of `{known.id}` {expected}.",
                "Pass the --env that the data were recorded in.",
            )


def check_measured(where: str, env: str | None, dtype: np.dtype | type | None) -> None:
    """Refuse whole numbers for what is measured of a body: those are of pictures."""
    if env is not None and dtype is not None and np.dtype(dtype).kind != "f":
        raise DataError(
            f"The observations in {where} are of type {np.dtype(dtype)}, those of `{env}` are "
            "measured: numbers with a fraction.",
            "Pass the --env that the data were recorded in, or data of another type.",
        )


def check_finite(where: str, column: str, first: int, values: Float[ndarray, "..."]) -> None:
    """Refuse NaN and infinity, naming the first row of the file that has one."""
    finite = np.isfinite(values)
    if finite.all():
        return
    row = int(np.argwhere(~finite)[0][0])
    raise DataError(
        f"`{column}` in {where} holds a value that is not finite, first in row {first + row}.",
        "Leave out the episode that holds it, or collect the data again.",
    )


def check_flags(where: str, column: str, values: Shaped[ndarray, " rows"]) -> None:
    """Refuse flags that are neither 0 nor 1, naming the first row of the file that has one."""
    flags = (values == 0) | (values == 1)
    if not flags.all():
        row = int(np.flatnonzero(~flags)[0])
        raise DataError(
            f"`{column}` in {where} holds {values[row]:g} in row {row}, expected 0 or 1.",
            "Say of each step whether its episode ended there.",
        )


def in_range(
    where: str, first: int, controls: Float32[ndarray, "rows controls"]
) -> Float32[ndarray, "rows controls"]:
    """Controls within ±1, which rounding may have exceeded; others are refused."""
    beyond = np.abs(controls) > 1 + _ROUNDING
    if beyond.any():
        row, column = np.argwhere(beyond)[0]
        raise DataError(
            f"`actions` in {where} reach {controls[row, column]:g}, first in row {first + row}; "
            "expected are numbers from -1 to 1.",
            "Scale them to the range of the environment's actions.",
        )
    return np.clip(controls, -1, 1)


def check_plausible(
    where: str, known: ControlSpec | None, observations: Float32[ndarray, "steps features"]
) -> None:
    """Refuse a cheetah's states for a walker's and the reverse: both are of the same width."""
    if known is None or known.id not in ("walker2d", "halfcheetah"):
        return
    low, high = _WALKER_HEIGHT
    height = observations[:, 0]
    walks = bool(((height > low) & (height < high)).all())
    if walks != (known.id == "walker2d"):
        other = "walker2d" if walks else "halfcheetah"
        raise DataError(
            f"The states in {where} are none of `{known.id}`: the torso's height goes from "
            f"{height.min():.2f} to {height.max():.2f} m.",
            f"Try --env {other}",
        )


def check_some(where: str, terminated: Bool[ndarray, " steps"]) -> None:
    """Refuse data without a transition."""
    if not len(terminated):
        raise DataError(f"{where} holds no transition.", "Collect some: cep offline collect")
