"""What a run learned from, as its manifest names it, and whether that is still the same."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

from cepcli.datasets.dataset import ControlData, TextData
from cepcli.errors import ArtifactError
from cepcli.workspace.artifacts import Artifact, Input, sha256

#: Of a hash, in a sentence.
_DIGITS = 12


def inputs_of(data: ControlData | TextData) -> list[Input]:
    """A dataset and its labels, with the hashes of what is there now.

    A file of somebody else's is named by its path and hashed as a whole; so is a folder, by the
    names and hashes of all its files.
    """
    return [_input(origin) for origin in data.origins]


def _input(origin: Artifact | Path) -> Input:
    if isinstance(origin, Artifact):
        return origin.reference
    path = origin.absolute()
    if path.is_file():
        return Input("dataset", str(path), sha256(path))
    files = sorted(file for file in path.rglob("*") if file.is_file())
    listed = json.dumps([(file.relative_to(path).as_posix(), sha256(file)) for file in files])
    return Input("dataset", str(path), hashlib.sha256(listed.encode()).hexdigest())


def check_same_inputs(before: Sequence[Input], now: Sequence[Input], run: Path) -> None:
    """Refuse to go on with, or to evaluate, a run whose dataset or labels are others by now.

    Raises:
        ArtifactError: naming what has changed.
    """
    name = run.name.removesuffix(".partial")
    for old, new in zip(before, now, strict=False):
        if old.sha256 != new.sha256:
            raise ArtifactError(
                f"The run `{name}` learns from the {old.kind} `{old.name}` as of sha256 "
                f"{old.sha256[:_DIGITS]}, but found is `{new.name}` of {new.sha256[:_DIGITS]}.",
                "Put back what was there, or learn from this in a new run: with another --name.",
            )
