"""Where numbers go: one JSON object a row in `metrics.jsonl`, and TensorBoard events beside it."""

import json
from pathlib import Path
from typing import Any

from cepcli.errors import ArtifactError


class MetricWriter:
    """Appends metric rows; metric names are `group/name`.

    Resuming truncates `metrics.jsonl` to the length that the checkpoint recorded, so that a
    resumed run leaves the same rows as an uninterrupted one.
    """

    def __init__(self, directory: Path, *, offset: int = 0, step: int = 0) -> None:
        from torch.utils.tensorboard.writer import SummaryWriter

        path = directory / "metrics.jsonl"
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
        # what was logged after the checkpoint that the run goes on from is logged again
        purge = step + 1 if step else None
        self._events = SummaryWriter(str(directory / "tensorboard"), purge_step=purge)

    def write(self, step: int, metrics: dict[str, Any]) -> None:
        """Record metrics at a step; the row is on disk when this returns."""
        self._file.write((json.dumps({"step": step, **metrics}) + "\n").encode())
        self._file.flush()
        for name, value in metrics.items():
            if isinstance(value, int | float):
                self._events.add_scalar(name, value, step)
        self._events.flush()

    @property
    def offset(self) -> int:
        """Bytes of `metrics.jsonl` so far."""
        return self._file.tell()

    def close(self) -> None:
        """Close both files."""
        self._file.close()
        self._events.close()


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The rows of a `metrics.jsonl`."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
