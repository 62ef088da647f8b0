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

from cepcli.datasets.checks import (
    check_env,
    check_finite,
    check_flags,
    check_measured,
    check_plausible,
    check_some,
    check_widths,
    in_range,
    known_spec,
)
from cepcli.datasets.columns import Columns, columns_of_file
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

    Args:
        path: of the file.
        env: the environment that they are to be of; None where it is not known.
        workspace: where the columns of a large file are kept for mapping.
        notify: told in one line about what is unusual.
        source: which data this is; the file's name unless told otherwise.

    Raises:
        DataError: if the file cannot be read, is malformed, or is of another environment.
    """
    with _opened(path) as file:
        reader = _Reader(path, file, env, notify)
        columns = columns_of_file(path, reader.env, reader.shape, reader.fill, workspace)
    check_plausible(reader.where, reader.known, columns.observations)
    return ControlData(reader.env, source or f"the file {path}", *columns, origins=(path,))


def _opened(path: Path) -> "h5py.File":
    import h5py

    if not path.is_file():
        raise DataError(f"There is no file `{path}`.", "Give the path of an HDF5 file.")
    try:
        return h5py.File(path, "r")
    except OSError as error:
        raise DataError(
            f"`{path}` is no HDF5 file, or a truncated one ({error}).", _DAMAGED
        ) from error


@contextlib.contextmanager
def _readable(what: str) -> Iterator[None]:
    """Say that a part of a file that could be opened is damaged."""
    try:
        yield
    except (OSError, RuntimeError, KeyError, ValueError, MemoryError) as error:
        raise DataError(f"{what} cannot be read ({error}).", _DAMAGED) from error


def _recorded_env(where: str, file: "h5py.File") -> str | None:
    """The environment that the file says it is of."""
    with _readable(f"What {where} says of itself"):
        found = file.attrs.get(_ENV)
    if found is None or isinstance(found, str):
        return found
    raise DataError(
        f"The attribute `{_ENV}` of {where} is {found!r}, expected the name of an environment.",
        _DAMAGED,
    )


class _Reader:
    """One open file whose layout has been checked."""

    def __init__(self, path: Path, file: "h5py.File", env: str | None, notify: Notify) -> None:
        self.where = f"`{path}`"
        self._notify = notify
        recorded, named = _recorded_env(self.where, file), named_env(path.name)
        check_env(self.where, recorded or named, env)
        with _readable(self.where):
            self._columns = _checked_columns(self.where, file)
        self.rows = len(self._columns["rewards"])
        self._features = self._columns["observations"].shape[1]
        self._controls = self._columns["actions"].shape[1]
        self.env = env or recorded or self._if_it_fits(named)
        self.known = known_spec(self.env)
        check_widths(self.where, self.known, self._features, self._controls)
        check_measured(self.where, self.env, self._columns["observations"].dtype)
        self._terminals = self._flags("terminals")
        self._kept, self._truncated = self._transitions()
        check_some(self.where, self._terminals[self._kept])

    def _if_it_fits(self, named: str | None) -> str | None:
        """The environment in the file's name, unless states of that one are of another width."""
        known = known_spec(named)
        if known is not None and len(known.features) != self._features:
            self._notify(
                f"{self.where} is not of our {named}: its states have {self._features} numbers, "
                f"not {len(known.features)}"
            )
            return None
        return named

    def shape(self) -> tuple[int, int, int]:
        """Transitions, features, controls."""
        return len(self._kept), self._features, self._controls

    def fill(self, columns: Columns) -> None:
        """Copy the file's columns, a block of rows at a time."""
        columns.terminated[:] = self._terminals[self._kept]
        columns.truncated[:] = self._truncated
        own_next = "next_observations" in self._columns
        for start in range(0, self.rows, _BLOCK):
            stop = min(start + _BLOCK, self.rows)
            first, last = np.searchsorted(self._kept, [start, stop])
            rows, to = self._kept[first:last] - start, slice(first, last)
            states = self._block("observations", start, stop + 1)
            columns.observations[to] = states[rows]
            actions = in_range(self.where, start, self._block("actions", start, stop))
            columns.controls[to] = actions[rows]
            columns.rewards[to] = self._block("rewards", start, stop).reshape(-1)[rows]
            if own_next:
                following = self._block("next_observations", start, stop)[rows]
            else:
                following = states[rows + ~columns.terminated[to]]
            columns.next_observations[to] = following

    def _block(self, name: str, start: int, stop: int) -> ndarray:
        with np.errstate(over="ignore"):  # what does not fit is refused as not finite
            values = self._rows(name, start, stop).astype(np.float32)
        check_finite(self.where, name, start, values)
        return values

    def _flags(self, name: str) -> Bool[ndarray, " rows"]:
        values = self._rows(name, 0, self.rows).reshape(-1)
        check_flags(self.where, name, values)
        return values.astype(bool)

    def _rows(self, name: str, start: int, stop: int) -> ndarray:
        with _readable(f"`{name}` in {self.where}"):
            return np.asarray(self._columns[name][start:stop])

    def _transitions(self) -> tuple[ndarray, Bool[ndarray, " steps"]]:
        """The rows that are transitions, and whether the episode is cut at each."""
        cut = self._cuts()
        both = int((cut & self._terminals).sum())
        if both and "timeouts" in self._columns:
            self._notify(f"{both} steps in {self.where} are terminal and timeout; taken as ends")
        cut &= ~self._terminals
        if self.rows:
            cut[-1] = not self._terminals[-1]
        if "next_observations" in self._columns:
            return np.arange(self.rows), cut
        kept = np.flatnonzero(~cut)
        before_cut = np.append(cut[1:], False)
        return kept, (before_cut & ~self._terminals)[kept]

    def _cuts(self) -> Bool[ndarray, " rows"]:
        """Where an episode is cut, as told or as can be found out."""
        if "timeouts" in self._columns:
            return self._flags("timeouts")
        if "next_observations" in self._columns:
            self._notify(f"{self.where} has no timeouts: episodes end where states do not follow")
            return self._breaks()
        if self.known is None:
            raise DataError(
                f"{self.where} has neither `timeouts` nor `next_observations`, so that the ends of "
                "its episodes cannot be told.",
                "Name its environment, whose time limit tells them: --env ID",
            )
        limit = self.known.max_episode_steps
        self._notify(f"{self.where} has no timeouts: episodes end after {limit} steps")
        return _limits(self._terminals, limit)

    def _breaks(self) -> Bool[ndarray, " rows"]:
        """Where the next row's observation is not the next observation."""
        found = np.zeros(self.rows, bool)
        for start in range(0, self.rows - 1, _BLOCK):
            stop = min(start + _BLOCK, self.rows - 1)
            states = self._block("observations", start + 1, stop + 1)
            following = self._block("next_observations", start, stop)
            found[start:stop] = (states != following).any(axis=1)
        return found & ~self._terminals


def _limits(terminals: Bool[ndarray, " rows"], limit: int) -> Bool[ndarray, " rows"]:
    """Every `limit`-th step of an episode."""
    rows = np.arange(len(terminals))
    ends = np.flatnonzero(terminals)
    before = np.searchsorted(ends, rows)
    starts = np.concatenate([[0], ends + 1])[before]
    return (rows - starts) % limit == limit - 1


def _checked_columns(where: str, file: "h5py.File") -> dict[str, Any]:
    """The file's columns by name, all of the right kind and of one length."""
    import h5py

    found: dict[str, Any] = {}
    for name in (*_NEEDED, *_OPTIONAL):
        column = file.get(name)
        if not isinstance(column, h5py.Dataset):
            if name in _NEEDED:
                there = ", ".join(sorted(file)) or "nothing"
                raise DataError(
                    f"{where} has no `{name}`; there is {there}.",
                    _LAYOUT,
                )
            continue
        if column.dtype.kind not in "fiub":
            raise DataError(
                f"`{name}` in {where} is of type {column.dtype}, expected numbers.", _LAYOUT
            )
        if not _has_shape(column.shape, wide=name in _WIDE):
            expected = "a row of numbers a step" if name in _WIDE else "a number a step"
            raise DataError(
                f"`{name}` in {where} has shape {column.shape}, expected {expected}.", _LAYOUT
            )
        found[name] = column
    lengths = {name: column.shape[0] for name, column in found.items()}
    if len(set(lengths.values())) > 1:
        listed = ", ".join(f"{name} {length}" for name, length in lengths.items())
        raise DataError(f"The columns in {where} are of different lengths: {listed}.", _LAYOUT)
    _check_next(where, found)
    return found


def _has_shape(shape: tuple[int, ...], *, wide: bool) -> bool:
    """Whether it is a row of numbers a step, if that is `wide`, or a number, be it in a column."""
    if wide:
        return len(shape) == 2 and shape[1] > 0
    return len(shape) == 1 or (len(shape) == 2 and shape[1] == 1)


def _check_next(where: str, columns: dict[str, Any]) -> None:
    following, states = columns.get("next_observations"), columns["observations"]
    if following is not None and following.shape != states.shape:
        raise DataError(
            f"`next_observations` in {where} have shape {following.shape}, `observations` "
            f"{states.shape}.",
            _LAYOUT,
        )


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
