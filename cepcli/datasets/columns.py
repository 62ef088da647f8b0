"""The columns of a dataset of control: in memory, or mapped from files where they are large."""

import contextlib
import hashlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float32
from numpy import ndarray

from cepcli.whole_files import discard, lives, replace
from cepcli.workspace.artifacts import Workspace, writing

#: Columns that take more than this many bytes are mapped instead of read.
LARGE = 2**28
#: Changes whenever files of columns written before can no longer be read.
_FORMAT = 1


class Columns(NamedTuple):
    """The arrays of a `ControlData`, under its names."""

    observations: Float32[ndarray, "steps features"]
    controls: Float32[ndarray, "steps controls"]
    rewards: Float32[ndarray, " steps"]
    next_observations: Float32[ndarray, "steps features"]
    terminated: Bool[ndarray, " steps"]
    truncated: Bool[ndarray, " steps"]


def size(steps: int, features: int, controls: int) -> int:
    """The bytes that columns take."""
    return sum(int(np.prod(shape)) * dtype.itemsize for shape, dtype in _layout(
        steps, features, controls
    ).values())  # fmt: skip


def columns_of_file(
    path: Path,
    env: str | None,
    shape: Callable[[], tuple[int, int, int]],
    fill: Callable[[Columns], None],
    workspace: Workspace,
) -> Columns:
    """The columns of a file: filled in memory, or once in files of the workspace and mapped.

    Args:
        path: the file; another size or time of change is another file.
        env: which its columns are read for: where episodes end may depend on it.
        shape: steps, features and controls.
        fill: writes all columns.
        workspace: where files are kept.
    """
    stat = path.stat()
    identity = f"{_FORMAT} {path.resolve()} {stat.st_size} {stat.st_mtime_ns} {env}"
    key = hashlib.sha256(identity.encode()).hexdigest()[:16]
    folder = workspace.root / "dataset" / f".mapped-{key}"
    if folder.is_dir():
        return _mapped(folder)
    extents = shape()
    if size(*extents) <= LARGE:
        arrays = {name: np.empty(s, d) for name, (s, d) in _layout(*extents).items()}
        fill(Columns(**arrays))
        return Columns(**arrays)
    with _new_files(folder, extents) as columns:
        fill(columns)
    return _mapped(folder)


@contextlib.contextmanager
def _new_files(folder: Path, extents: tuple[int, int, int]) -> Iterator[Columns]:
    """Columns in new files, which are there as a whole afterwards or not at all.

    Processes that need the same ones at once each make them; the first that is done is heeded.
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
                name: np.lib.format.open_memmap(partial / f"{name}.npy", "w+", dtype, shape)
                for name, (shape, dtype) in _layout(*extents).items()
            }
            yield Columns(**arrays)
            for array in arrays.values():
                array.flush()
            if not folder.is_dir():
                replace(partial, folder)
        finally:
            discard(partial)


def _mapped(folder: Path) -> Columns:
    names = Columns._fields
    return Columns(**{name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in names})


def _layout(
    steps: int, features: int, controls: int
) -> dict[str, tuple[tuple[int, ...], np.dtype]]:
    number, flag = np.dtype(np.float32), np.dtype(bool)
    return {
        "observations": ((steps, features), number),
        "controls": ((steps, controls), number),
        "rewards": ((steps,), number),
        "next_observations": ((steps, features), number),
        "terminated": ((steps,), flag),
        "truncated": ((steps,), flag),
    }
