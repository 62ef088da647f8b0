"""The columns of a dataset of control: what every file must satisfy, and where its rows are put.

They are in memory, or mapped from files of the workspace where they are large.
"""

import contextlib
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from jaxtyping import Bool, Float32, Shaped
from numpy import ndarray

from cepcli.datasets.dataset import REFERENCE_RETURNS, ControlData
from cepcli.envs.catalog import env_ids, spec
from cepcli.envs.control import ControlSpec
from cepcli.errors import DataError, EnvError
from cepcli.whole_files import discard, lives, replace
from cepcli.workspace.artifacts import Workspace, writing

#: The arrays of a `ControlData`.
COLUMNS = (
    "observations", "controls", "rewards", "next_observations", "terminated", "truncated",
)  # fmt: skip
#: Columns that take more than this many bytes are mapped instead of read.
LARGE = 2**28
#: Changes whenever files of columns written before can no longer be read.
_FORMAT = 1
#: How far beyond ±1 rounding may carry a control.
_ROUNDING = 1e-4
#: Within which height a walker decides anything at all: below and above, its episodes end.
_WALKER_HEIGHT = (0.8, 2.0)
_OTHER_ENV = "Pass the --env that the data were recorded in."


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
            f"`{env}` is a text world, but the data are of continuous control.",
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
    if recorded is not None and env is not None and canonical(recorded) != canonical(env):
        raise DataError(
            f"{sentence(where)} is of the environment `{recorded}`, expected `{env}`.",
            f"Try --env {recorded}",
        )


def check_observed(
    where: str, env: str | None, features: int, controls: int, dtype: np.dtype | None
) -> ControlSpec | None:
    """What is known of the environment of data.

    Raises:
        DataError: if they have another number of features or controls than it, or observations in
            whole numbers: those are of pictures.
    """
    known = known_spec(env)
    widths = () if known is None else (
        ("observations", features, len(known.features)), ("actions", controls, known.controls),
    )  # fmt: skip
    for what, found, expected in widths:
        if found != expected:
            raise DataError(
                f"The {what} in {where} have {found} numbers, expected the {expected} of `{env}`.",
                _OTHER_ENV,
            )
    if env is not None and dtype is not None and dtype.kind != "f":
        raise DataError(
            f"The observations in {where} are of type {dtype}, expected floating-point numbers, "
            f"as `{env}` has.",
            _OTHER_ENV,
        )
    return known


def finite(where: str, column: str, first: int, values: ndarray) -> Float32[ndarray, "..."]:
    """Values in single precision.

    Raises:
        DataError: if they contain NaN or infinity; it names the first such row of the file.
    """
    with np.errstate(over="ignore"):  # what does not fit is refused as infinite
        values = values.astype(np.float32)
    wrong = np.argwhere(~np.isfinite(values))
    if len(wrong):
        raise DataError(
            f"`{column}` in {where} contains NaN or infinity, first in row {first + wrong[0][0]}.",
            "Leave out that episode, or collect the data again.",
        )
    return values


def as_flags(where: str, column: str, values: Shaped[ndarray, " rows"]) -> Bool[ndarray, " rows"]:
    """Flags.

    Raises:
        DataError: if one is neither 0 nor 1; it names the first such row of the file.
    """
    wrong = np.flatnonzero((values != 0) & (values != 1))
    if len(wrong):
        raise DataError(
            f"`{column}` in {where} holds {values[wrong[0]]:g} in row {wrong[0]}, expected 0 or 1.",
            "Say of each step whether its episode ended there.",
        )
    return values.astype(bool)


def in_range(
    where: str, first: int, controls: Float32[ndarray, "rows controls"]
) -> Float32[ndarray, "rows controls"]:
    """Controls within ±1, which rounding may have exceeded; others are refused."""
    beyond = np.argwhere(np.abs(controls) > 1 + _ROUNDING)
    if len(beyond):
        row, column = beyond[0]
        raise DataError(
            f"`actions` in {where} reach {controls[row, column]:g}, first in row {first + row}; "
            "expected numbers from -1 to 1.",
            "Scale them to the range of the environment's actions.",
        )
    return np.clip(controls, -1, 1)


def check_some(where: str, steps: int) -> None:
    """Refuse data without a transition."""
    if not steps:
        raise DataError(
            f"{sentence(where)} has no transitions.", "Collect some: cep offline collect"
        )


def sentence(where: str) -> str:
    """What a sentence begins with; names in it keep their capitals."""
    return where[:1].upper() + where[1:]


class ControlReader(Protocol):
    """A file or folder whose description has been checked; messages call it `where`.

    `env` is the environment it is of, None where it is not known, and `known` what is known of it.
    """

    where: str
    env: str | None
    known: ControlSpec | None

    def shape(self) -> tuple[int, int, int]:
        """Transitions, features, controls."""
        ...

    def fill(self, data: ControlData) -> None:
        """Write all columns."""
        ...


def read_columns(
    reader: ControlReader, path: Path, workspace: Workspace, source: str, origin: Path
) -> ControlData:
    """The transitions of a reader: filled in memory, or once in files of the workspace and mapped.

    `path` is a file that is another one if its size or time of change is another; `origin` is what
    the data are recorded to be from.

    Raises:
        DataError: if what is read is malformed, or its states are of another environment.
    """
    stat = path.stat()
    identity = f"{_FORMAT} {path.resolve()} {stat.st_size} {stat.st_mtime_ns} {reader.env}"
    key = hashlib.sha256(identity.encode()).hexdigest()[:16]
    folder = workspace.root / "dataset" / f".mapped-{key}"
    layout = _layout(*reader.shape())
    size = sum(int(np.prod(shape)) * np.dtype(kind).itemsize for shape, kind in layout.values())
    if size > LARGE or folder.is_dir():
        if not folder.is_dir():
            with _new_files(folder, layout) as arrays:
                reader.fill(ControlData(reader.env, source, **arrays))
        arrays: Any = {name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in COLUMNS}
        data = ControlData(reader.env, source, **arrays, origins=(origin,))
    else:
        arrays = {name: np.empty(*of) for name, of in layout.items()}
        data = ControlData(reader.env, source, **arrays, origins=(origin,))
        reader.fill(data)
    _check_plausible(reader, data)
    return data


_Layout = dict[str, tuple[tuple[int, ...], type]]


def _layout(steps: int, features: int, controls: int) -> _Layout:
    """Shape and type of each column."""
    shapes = ((steps, features), (steps, controls), (steps,), (steps, features), (steps,), (steps,))
    kinds = (*4 * (np.float32,), bool, bool)
    return dict(zip(COLUMNS, zip(shapes, kinds, strict=True), strict=True))


@contextlib.contextmanager
def _new_files(folder: Path, layout: _Layout) -> Iterator[dict[str, Any]]:
    """Columns in new files, which are there as a whole afterwards or not at all.

    Processes that need the same ones at once each make them; those of the first one stay.
    """
    with writing(folder.parent):
        for left in folder.parent.glob(f"{folder.name}.*.partial"):
            if not lives(left.name.split(".")[-2]):
                discard(left)
        partial = folder.with_name(f"{folder.name}.{os.getpid()}.partial")
        discard(partial)
        partial.mkdir(parents=True)
        try:
            arrays = {
                name: np.lib.format.open_memmap(partial / f"{name}.npy", "w+", kind, shape)
                for name, (shape, kind) in layout.items()
            }
            yield arrays
            for array in arrays.values():
                array.flush()
            if not folder.is_dir():
                replace(partial, folder)
        finally:
            discard(partial)


def _check_plausible(reader: ControlReader, data: ControlData) -> None:
    """Refuse a cheetah's states for a walker's and the reverse: both are of the same width."""
    if reader.known is None or reader.known.id not in ("walker2d", "halfcheetah"):
        return
    low, high = _WALKER_HEIGHT
    height = data.observations[:, 0]
    env = "walker2d" if ((height > low) & (height < high)).all() else "halfcheetah"
    if env != reader.known.id:
        raise DataError(
            f"The states in {reader.where} are not of `{reader.known.id}`: the torso's height goes "
            f"from {height.min():.2f} to {height.max():.2f} m.",
            f"Try --env {env}",
        )
