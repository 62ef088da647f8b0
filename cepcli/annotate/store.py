"""Annotations and the states to annotate on disk: every answer is there when a call returns.

Adding appends and syncs. Changing and removing rewrite the file beside itself and rename it, with
every other line left byte for byte, those that are no annotations included. The file is read again
whenever somebody else has changed it.
"""

import errno
import io
import json
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from cepcli.annotate.records import Annotation, Defect, State, parse, plain_numbers, to_line
from cepcli.errors import ArtifactError
from cepcli.whole_files import replace, sync, write_whole
from cepcli.workspace.artifacts import writing

STATES = "states.jsonl"


class AnnotationFile:
    """The lines of an annotation file, which the first answer makes, and what they say.

    `annotations` are in the order of the file; `defects` are of lines that are none, which stay as
    they are. All are of environments of one family.
    """

    def __init__(self, path: Path, family: str) -> None:
        self.path = path
        self.annotations: list[Annotation] = []
        self.defects: list[Defect] = []
        self._family = family
        self._lines: list[bytes] = []
        self._parsed: list[Annotation | None] = []
        self._seen: tuple[int, ...] | None = ()
        self.refresh()

    def refresh(self) -> bool:
        """Read the file again if it is not as it was last seen; whether that was so."""
        seen = self._signature()
        if seen == self._seen:
            return False
        try:
            content = self.path.read_bytes() if seen else b""
        except OSError as error:
            raise ArtifactError(f"Cannot read `{self.path}`: {error.strerror}.") from error
        self._lines = content.split(b"\n")
        if self._lines[-1] == b"":
            self._lines.pop()
        text = [line.decode(errors="replace") for line in self._lines]
        self._parsed, self.defects = parse(text, self._family)
        self.annotations = [found for found in self._parsed if found is not None]
        self._seen = seen
        return True

    def append(self, annotations: Iterable[Annotation]) -> None:
        """Add annotations at the end; they are on disk when this returns."""
        lines = "".join(to_line(annotation) + "\n" for annotation in annotations).encode()
        with writing(self.path), self.path.open("a+b", buffering=0) as file:
            end = file.seek(0, os.SEEK_END)
            if end and _byte_before(file, end) != b"\n":
                lines = b"\n" + lines
            try:
                if file.write(lines) != len(lines):
                    raise OSError(errno.ENOSPC, "written in part only", str(self.path))
                os.fsync(file.fileno())
            except OSError:
                file.truncate(end)  # no half of an answer
                raise
        self.refresh()

    def replace(self, old: Annotation, new: Annotation) -> None:
        """Put `new` in the place of `old`; at the end if somebody has taken that out meanwhile."""
        if not self._rewrite(lambda: self._without_last(old, [to_line(new).encode()])):
            self.append([new])

    def remove(self, old: Annotation) -> bool:
        """Take out the last line that says just this; whether there was one."""
        return self._rewrite(lambda: self._without_last(old, []))

    def keep(self, wanted: Callable[[Annotation], bool]) -> None:
        """Take out the annotations that are not wanted; lines that are none stay."""
        self._rewrite(lambda: [
            line
            for line, found in zip(self._lines, self._parsed, strict=True)
            if found is None or wanted(found)
        ])  # fmt: skip

    def _without_last(self, old: Annotation, instead: Sequence[bytes]) -> list[bytes] | None:
        for number in range(len(self._lines) - 1, -1, -1):
            if self._parsed[number] == old:
                return [*self._lines[:number], *instead, *self._lines[number + 1 :]]
        return None

    def _rewrite(self, changed: Callable[[], Sequence[bytes] | None]) -> bool:
        """Write what `changed()` makes of the lines as they are now; not if it is None.

        Begun again when somebody saves the file while ours is written beside it.
        """
        temporary = self.path.with_name(f".{self.path.name}.new")
        while True:
            self.refresh()
            lines = changed()
            if lines is None:
                return False
            with writing(self.path):
                temporary.write_bytes(b"".join(line + b"\n" for line in lines))
                sync(temporary)
                if self._signature() != self._seen:
                    continue
                replace(temporary, self.path)
            self.refresh()
            return True

    def _signature(self) -> tuple[int, ...] | None:
        """What changes whenever the file does; None if there is none."""
        try:
            found = self.path.stat()
        except FileNotFoundError:
            return None
        return found.st_mtime_ns, found.st_size, found.st_ino


def _byte_before(file: io.FileIO, end: int) -> bytes:
    file.seek(end - 1)
    return file.read(1) or b""


def append_states(path: Path, states: Iterable[State]) -> list[State]:
    """Add states that are not there yet at the end of a file; which those are."""
    there = {state.id for state in read_states(path)}
    new = [state for state in states if state.id not in there]
    before = path.read_bytes() if path.exists() else b""
    with writing(path):
        write_whole(path, before + "".join(map(_line, new)).encode())
    return new


def keep_states(path: Path, wanted: Callable[[State], bool]) -> None:
    """Take out of a file the states that are not wanted."""
    content = "".join(_line(state) for state in read_states(path) if wanted(state))
    with writing(path):
        write_whole(path, content)


def _line(state: State) -> str:
    row = {
        "env": state.env,
        "observation": plain_numbers(state.observation),
        "instance": state.instance,
        "snapshot": plain_numbers(state.snapshot),
    }
    return json.dumps(row) + "\n"


def read_states(path: Path) -> list[State]:
    """The states in a file; none if there is no such file.

    Raises:
        ArtifactError: naming the first line that is no state.
    """
    if not path.exists():
        return []
    found = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        try:
            row = json.loads(line)
            observation, snapshot = tuple(row["observation"]), tuple(row["snapshot"])
            found.append(State(row["env"], observation, row["instance"], snapshot))
        except (ValueError, KeyError, TypeError) as error:
            raise ArtifactError(
                f"{path}:{number}: the line is not a state that cep wrote ({error!r}).",
                "Delete it: states without it are only shown without a frame.",
            ) from error
    return found
