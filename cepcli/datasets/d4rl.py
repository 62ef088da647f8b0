"""D4RL's HDF5 layout, read and written.

`observations`, `actions`, `rewards` and `terminals` are needed; `timeouts` and `next_observations`
may be missing, as they are in some published files. Without `next_observations` the next row's
observation takes their place, and the rows that have none are left out.
"""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Bool
from numpy import ndarray

from cepcli.datasets.columns import (
    as_flags,
    check_env,
    check_observed,
    check_some,
    finite,
    in_range,
    known_spec,
    read_columns,
)
from cepcli.datasets.dataset import REFERENCE_RETURNS, ControlData, Notify
from cepcli.errors import DataError
from cepcli.workspace.artifacts import Workspace

if TYPE_CHECKING:
    import h5py

_NEEDED = ("observations", "actions", "rewards", "terminals")
_OPTIONAL = ("next_observations", "timeouts")
_WIDE = ("observations", "actions", "next_observations")
#: Rows that are read at once.
_BLOCK = 2**16
_LAYOUT = f"D4RL's layout needs {', '.join(_NEEDED)}, a row a step."
_DAMAGED = "Download or collect it again."
#: Attribute of the file that says which environment it is of, where cep wrote it.
_ENV = "env"


def read_d4rl(
    path: Path, *, env: str | None, workspace: Workspace, notify: Notify, source: str = ""
) -> ControlData:
    """The transitions in a file.

    `env` is the environment that they are to be of, `source` says which data this is, the file's
    name unless told otherwise, and `notify` is told in one line about what is unusual. Large
    columns are mapped from files in the workspace.

    Raises:
        DataError: if the file cannot be read, is malformed, or is of another environment.
    """
    import h5py

    if not path.is_file():
        raise DataError(f"There is no file `{path}`.", "Give the path of an HDF5 file.")
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        raise DataError(
            f"`{path}` is not an HDF5 file, or is truncated ({error}).", _DAMAGED
        ) from error
    with file:
        reader = _D4RLFile(path, file, env, notify)
        return read_columns(reader, path, workspace, source or f"the file {path}", path)


@contextlib.contextmanager
def _readable(what: str) -> Iterator[None]:
    """Say that a part of a file that could be opened is damaged."""
    try:
        yield
    except (OSError, RuntimeError, KeyError, ValueError, MemoryError) as error:
        raise DataError(f"{what} cannot be read ({error}).", _DAMAGED) from error


class _D4RLFile:
    """One open file whose layout has been checked."""

    def __init__(self, path: Path, file: "h5py.File", env: str | None, notify: Notify) -> None:
        self.where = f"`{path}`"
        self._notify = notify
        recorded, named = self._recorded_env(file), named_env(path.name)
        check_env(self.where, recorded or named, env)
        with _readable(self.where):
            self._columns = _checked_columns(self.where, file)
        self.rows = len(self._columns["rewards"])
        states = self._columns["observations"]
        self._widths = states.shape[1], self._columns["actions"].shape[1]
        self.env = env or recorded or self._if_it_fits(named)
        self.known = check_observed(self.where, self.env, *self._widths, states.dtype)
        self._terminals = self._flags("terminals")
        self._steps, self._truncated = self._transitions()
        check_some(self.where, len(self._steps))

    def shape(self) -> tuple[int, int, int]:
        """Transitions, features, controls."""
        return len(self._steps), *self._widths

    def fill(self, data: ControlData) -> None:
        """Copy the file's columns, a block of rows at a time."""
        data.terminated[:] = self._terminals[self._steps]
        data.truncated[:] = self._truncated
        for start in range(0, self.rows, _BLOCK):
            stop = min(start + _BLOCK, self.rows)
            first, last = np.searchsorted(self._steps, [start, stop])
            rows, to = self._steps[first:last] - start, slice(first, last)
            states = self._block("observations", start, stop + 1)
            data.observations[to] = states[rows]
            actions = in_range(self.where, start, self._block("actions", start, stop))
            data.controls[to] = actions[rows]
            data.rewards[to] = self._block("rewards", start, stop).reshape(-1)[rows]
            if "next_observations" in self._columns:
                following = self._block("next_observations", start, stop)[rows]
            else:
                following = states[rows + ~data.terminated[to]]
            data.next_observations[to] = following

    def _recorded_env(self, file: "h5py.File") -> str | None:
        """The environment that the file says it is of."""
        with _readable(f"What {self.where} says of itself"):
            found = file.attrs.get(_ENV)
        if found is None or isinstance(found, str):
            return found
        raise DataError(
            f"The attribute `{_ENV}` of {self.where} is {found!r}, expected the name of an "
            "environment.",
            _DAMAGED,
        )

    def _if_it_fits(self, named: str | None) -> str | None:
        """The environment in the file's name, unless states of that one are of another width."""
        known, features = known_spec(named), self._widths[0]
        if known is None or len(known.features) == features:
            return named
        self._notify(
            f"{self.where} is not of our {named}: its states have {features} numbers, not "
            f"{len(known.features)}"
        )
        return None

    def _block(self, name: str, start: int, stop: int) -> ndarray:
        return finite(self.where, name, start, self._rows(name, start, stop))

    def _flags(self, name: str) -> Bool[ndarray, " rows"]:
        return as_flags(self.where, name, self._rows(name, 0, self.rows).reshape(-1))

    def _rows(self, name: str, start: int, stop: int) -> ndarray:
        with _readable(f"`{name}` in {self.where}"):
            return np.asarray(self._columns[name][start:stop])

    def _transitions(self) -> tuple[ndarray, Bool[ndarray, " steps"]]:
        """The rows that are transitions, and whether the episode is cut at each."""
        cut = self._cuts()
        both = int((cut & self._terminals).sum())
        if both and "timeouts" in self._columns:
            self._notify(
                f"{both} steps in {self.where} are terminal and timeout; taken as terminal"
            )
        cut &= ~self._terminals
        if self.rows:
            cut[-1] = not self._terminals[-1]
        if "next_observations" in self._columns:
            return np.arange(self.rows), cut
        steps = np.flatnonzero(~cut)
        before_cut = np.append(cut[1:], False)
        return steps, (before_cut & ~self._terminals)[steps]

    def _cuts(self) -> Bool[ndarray, " rows"]:
        """Where an episode is cut, as told or as can be found out."""
        if "timeouts" in self._columns:
            return self._flags("timeouts")
        if "next_observations" in self._columns:
            self._notify(f"{self.where} has no timeouts: episodes end where states do not follow")
            return self._breaks()
        if self.known is None:
            raise DataError(
                f"{self.where} has neither `timeouts` nor `next_observations`, so the ends of its "
                "episodes cannot be told.",
                "Name its environment, whose time limit tells them: --env ID",
            )
        limit = self.known.max_episode_steps
        self._notify(f"{self.where} has no timeouts: episodes end after {limit} steps")
        rows, ends = np.arange(self.rows), np.flatnonzero(self._terminals)
        starts = np.concatenate([[0], ends + 1])[np.searchsorted(ends, rows)]
        return (rows - starts) % limit == limit - 1

    def _breaks(self) -> Bool[ndarray, " rows"]:
        """Where the next row's observation is not the next observation."""
        found = np.zeros(self.rows, bool)
        for start in range(0, self.rows - 1, _BLOCK):
            stop = min(start + _BLOCK, self.rows - 1)
            states = self._block("observations", start + 1, stop + 1)
            following = self._block("next_observations", start, stop)
            found[start:stop] = (states != following).any(axis=1)
        return found & ~self._terminals


def _checked_columns(where: str, file: "h5py.File") -> dict[str, Any]:
    """The file's columns by name, all of the right kind and of one length."""
    import h5py

    found: dict[str, Any] = {}
    for name in (*_NEEDED, *_OPTIONAL):
        column = file.get(name)
        if isinstance(column, h5py.Dataset):
            _check_column(f"`{name}` in {where}", column, wide=name in _WIDE)
            found[name] = column
        elif name in _NEEDED:
            there = ", ".join(sorted(file)) or "nothing"
            raise DataError(f"{where} has no `{name}`; there is {there}.", _LAYOUT)
    lengths = {name: column.shape[0] for name, column in found.items()}
    if len(set(lengths.values())) > 1:
        listed = ", ".join(f"{name} {length}" for name, length in lengths.items())
        raise DataError(f"The columns in {where} are of different lengths: {listed}.", _LAYOUT)
    following, states = found.get("next_observations"), found["observations"]
    if following is not None and following.shape != states.shape:
        raise DataError(
            f"`next_observations` in {where} have shape {following.shape}, `observations` "
            f"{states.shape}.",
            _LAYOUT,
        )
    return found


def _check_column(what: str, column: "h5py.Dataset", *, wide: bool) -> None:
    """Refuse what is not a row of numbers a step, if `wide`, or a number, be it in a column."""
    if column.dtype.kind not in "fiub":
        raise DataError(f"{what} is of type {column.dtype}, expected numbers.", _LAYOUT)
    shape = column.shape
    right = (len(shape) == 2 and shape[1] > 0) if wide else len(shape) == 1 or shape[1:] == (1,)
    if not right:
        expected = "a row of numbers a step" if wide else "a number a step"
        raise DataError(f"{what} has shape {shape}, expected {expected}.", _LAYOUT)


def named_env(name: str) -> str | None:
    """The environment that a published file's name begins with, as in walker2d_medium-v2.hdf5."""
    begins = name.lower().replace("-", "_").partition("_")[0]
    return begins if begins in REFERENCE_RETURNS else None


def write_d4rl(path: Path, data: ControlData) -> None:
    """Write transitions in D4RL's layout, compressed."""
    import h5py

    columns = {
        "observations": data.observations,
        "actions": data.controls,
        "rewards": data.rewards,
        "terminals": data.terminated,
        "timeouts": data.truncated,
        "next_observations": data.next_observations,
    }
    with h5py.File(path, "w") as file:
        if data.env is not None:
            file.attrs[_ENV] = data.env
        for name, column in columns.items():
            file.create_dataset(
                name, data=column, chunks=True, compression="gzip", shuffle=column.dtype != bool
            )
