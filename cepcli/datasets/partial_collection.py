"""What a collection has so far, on disk: files of whole episodes, written as they come.

A file is complete or absent, so that whatever kills a collection, all but the last seconds is kept.
"""

import time
from pathlib import Path
from typing import Any

import numpy as np

from cepcli.datasets.stored import read_rows, write_rows
from cepcli.whole_files import whole_file

#: Columns of one or more episodes, a value for each step: arrays of control, lists of text.
Episodes = dict[str, Any]

#: Seconds after which episodes that have ended are written.
_SECONDS = 5.0


class Kept:
    """The episodes of one stage of a collection.

    Args:
        folder: where their files are.
        stage: its number.
        text: whether they are of a text world.
    """

    def __init__(self, folder: Path, stage: int, *, text: bool) -> None:
        self._folder, self._stage, self._text = folder, stage, text
        self._pending: list[Episodes] = []
        self._written = time.monotonic()
        self.steps = self.episodes = 0
        self.total_return = 0.0
        folder.mkdir(exist_ok=True)
        self._files = sorted(folder.glob(f"{stage}-*{self._suffix}"))
        for file in self._files:
            self._count(self._read(file))

    def add(self, episode: Episodes) -> None:
        """Keep an episode that has ended."""
        self._pending.append(episode)
        self._count(episode)
        if time.monotonic() - self._written >= _SECONDS:
            self.flush()

    def flush(self) -> None:
        """Write what is not on disk yet."""
        if self._pending:
            path = self._folder / f"{self._stage}-{len(self._files):06d}{self._suffix}"
            with whole_file(path) as new:
                self._write(new, joined(self._pending))
            self._files.append(path)
            self._pending = []
        self._written = time.monotonic()

    def all(self) -> list[Episodes]:
        """Everything, file by file."""
        self.flush()
        return [self._read(file) for file in self._files]

    @property
    def _suffix(self) -> str:
        return ".parquet" if self._text else ".npz"

    def _count(self, found: Episodes) -> None:
        rewards = found["reward" if self._text else "rewards"]
        self.steps += len(rewards)
        self.episodes += int(np.sum(np.logical_or(found["terminated"], found["truncated"])))
        self.total_return += float(np.sum(rewards, dtype=np.float64))

    def _read(self, path: Path) -> Episodes:
        if self._text:
            return read_rows(path)
        with np.load(path, allow_pickle=False) as archive:
            return dict(archive)

    def _write(self, path: Path, episodes: Episodes) -> None:
        if self._text:
            write_rows(path, episodes)
        else:
            with path.open("wb") as file:
                np.savez(file, allow_pickle=False, **episodes)


def joined(episodes: list[Episodes]) -> Episodes:
    """Several episodes as one table."""
    columns: Episodes = {}
    for name, first in episodes[0].items():
        each = [episode[name] for episode in episodes]
        if isinstance(first, np.ndarray):
            columns[name] = np.concatenate(each)
        else:
            columns[name] = [value for values in each for value in values]
    return columns
