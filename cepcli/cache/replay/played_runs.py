"""The figures of resampled runs on disk while others are played, so that a replay can go on.

There is a file `HASH.jsonl` for each cache that is judged, with a line for each run. HASH stands
for everything that the figures depend on: what was played for another trace, cache, drift, seed or
version is in another file.
"""

import fcntl
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from cepcli.cache.config import CacheConfig
from cepcli.cache.trace import Trace
from cepcli.errors import CacheError
from cepcli.whole_files import discard
from cepcli.workspace.artifacts import versions, writing

Figures = Mapping[str, float]


@dataclass(frozen=True, slots=True)
class KeptRuns:
    """The runs of one cache that have been played.

    Attributes:
        path: of the file; None if nothing is to be kept.
    """

    path: Path | None = None

    def read(self) -> dict[int, Figures]:
        """The figures of each run by its number; a line that a kill cut is ignored."""
        found: dict[int, Figures] = {}
        if self.path is not None and self.path.exists():
            for line in self.path.read_bytes().splitlines():
                try:
                    row = json.loads(line)
                except ValueError:
                    continue
                found[row["run"]] = row["figures"]
        return found

    def add(self, number: int, figures: Figures) -> None:
        """Keep a run; processes side by side may do so at once."""
        if self.path is None:
            return
        line = json.dumps({"run": number, "figures": figures}) + "\n"
        with writing(self.path), self.path.open("ab", buffering=0) as file:
            file.write(line.encode())

    def discard(self) -> None:
        """Remove the file, which nobody needs any more."""
        if self.path is not None:
            discard(self.path)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Be the only command that plays these runs; released by any kind of death.

        Raises:
            CacheError: if another command plays them.
            ArtifactError: if the file cannot be written.
        """
        if self.path is None:
            yield
            return
        with writing(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            file = self.path.open("a+b")
        with file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                raise CacheError(
                    f"Another process is playing these runs (`{self.path}`).",
                    "Wait for it, or play others: --seed N",
                ) from error
            file.seek(0)
            content = file.read()
            file.truncate(content.rfind(b"\n") + 1)  # the next line begins on its own
            try:
                yield
            finally:
                if not os.fstat(file.fileno()).st_size:
                    self.discard()


def fingerprint(trace: Trace) -> str:
    """A digest of all that a replay takes from a trace."""
    digest = hashlib.sha256(repr((trace.env, trace.namespace, trace.shape)).encode())
    for part in (trace.decisions, trace.scores.items()):
        for one in part:
            digest.update(f"{one!r}\n".encode())
    return digest.hexdigest()


def kept_runs(folder: Path, trace: str, cache: CacheConfig, **course: Any) -> KeptRuns:
    """Where the runs of a cache are kept.

    Args:
        folder: with all such files.
        trace: its `fingerprint`.
        cache: that is judged.
        course: what else the figures depend on, plain values.
    """
    question = {"trace": trace, "cache": asdict(cache), "versions": versions(), **course}
    name = hashlib.sha256(json.dumps(question, sort_keys=True).encode()).hexdigest()[:32]
    return KeptRuns(folder / f"{name}.jsonl")
