"""Where numbers go: one JSON object a row in `metrics.jsonl`, and TensorBoard events beside it."""

import json
import os
from pathlib import Path
from typing import Any

from cepcli.errors import ArtifactError

_THRESHOLD = "cache/threshold"


class RowWriter:
    """Appends JSON objects, one a line; a row is handed to the system when `write` returns.

    Resuming truncates the file to the length that the checkpoint recorded, so that a resumed run
    leaves the same rows as an uninterrupted one.
    """

    def __init__(self, path: Path, *, offset: int = 0) -> None:
        found = path.stat().st_size if path.exists() else 0
        if found < offset:
            raise ArtifactError(
                f"`{path}` has {found} bytes, but the checkpoint was written when it had {offset}; "
                "it was left untouched.",
                "Restore it from a copy, or start the run again under another --name.",
            )
        self._file = path.open("a+b")
        self._file.truncate(offset)
        self._file.seek(offset)

    def write(self, row: Any) -> None:
        """Append one row."""
        self._file.write((json.dumps(row) + "\n").encode())
        self._file.flush()

    def sync(self) -> int:
        """Have all rows on the disk, which a checkpoint counts on; returns the bytes so far."""
        os.fsync(self._file.fileno())
        return self._file.tell()

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class MetricWriter:
    """Appends metric rows to `metrics.jsonl` and TensorBoard; metric names are `group/name`."""

    def __init__(self, directory: Path, *, offset: int = 0, step: int = 0) -> None:
        from torch.utils.tensorboard.writer import SummaryWriter

        self._rows = RowWriter(directory / "metrics.jsonl", offset=offset)
        # what was logged after the checkpoint that the run goes on from is logged again
        purge = step + 1 if step else None
        self._events = SummaryWriter(str(directory / "tensorboard"), purge_step=purge)

    def write(self, step: int, metrics: dict[str, Any]) -> None:
        """Record metrics at a step; the row is on disk when this returns."""
        self._rows.write({"step": step, **metrics})
        for name, value in metrics.items():
            if isinstance(value, int | float):
                self._events.add_scalar(name, value, step)
        self._events.flush()

    def sync(self) -> int:
        """Have all rows on the disk; returns the bytes of `metrics.jsonl` so far."""
        return self._rows.sync()

    def close(self) -> None:
        """Close both files."""
        self._rows.close()
        self._events.close()


def read_metrics(path: Path, *, finished: bool = True) -> list[dict[str, Any]]:
    """The rows of a `metrics.jsonl`; none if there is no such file.

    Args:
        path: the file.
        finished: whether its run is; the last row of another may be cut off, and is left out then.

    Raises:
        ArtifactError: if a line is not JSON; the file is left untouched.
    """
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    rows = []
    for number, line in enumerate(lines, 1):
        try:
            rows.append(json.loads(line))
        except ValueError as error:
            if number == len(lines) and not finished:
                break
            raise ArtifactError(
                f"Line {number} of `{path}` is not JSON ({error}); it was left untouched.",
                "Restore the run from a copy, or leave it out.",
            ) from error
    for row in rows:  # earlier versions wrote 2.0 while no similar text could answer
        if (row.get(_THRESHOLD) or 0.0) > 1.0:
            row[_THRESHOLD] = None
    return rows
