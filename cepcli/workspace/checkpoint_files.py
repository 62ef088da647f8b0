"""Checkpoints on disk: written beside the last one, checked before they are used.

`checkpoint-<step>/` gets its name when it is complete and on the disk, and older ones are removed
afterwards, so that there is a complete one at every moment; what kills left is removed with them.
"""

import contextlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cepcli.errors import ArtifactError, CacheError, CepError, PriorError
from cepcli.whole_files import discard, replace, settle_all
from cepcli.workspace.artifacts import read_json, sha256, write_json, writing

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

#: The LLM cannot be asked, or its journal not be used.
PRIOR_FAILED = (PriorError, CacheError)


def checkpoints(run: Path) -> list[Path]:
    """Complete checkpoints of a run, oldest first; what a kill left aside is put back."""
    with writing(run):
        settle_all(run)
    return sorted(p for p in run.glob("checkpoint-*") if not p.name.endswith(".partial"))


def step_of(checkpoint: Path) -> int:
    """The step that a checkpoint was written at."""
    return int(checkpoint.name.removeprefix("checkpoint-"))


def is_saved(run: Path, step: int, next_eval: int) -> bool:
    """Whether the last checkpoint is of this state, which only steps and evaluations change."""
    found = checkpoints(run)
    if not found:
        return False
    progress = read_state(found[-1])["progress"]
    return (progress["step"], progress["next_eval"]) == (step, next_eval)


@contextlib.contextmanager
def writing_checkpoint(run: Path, step: int, version: int) -> Iterator[tuple[Path, dict[str, Any]]]:
    """A directory to write into, and a dictionary for its `state.json`; complete at the end.

    Raises:
        ArtifactError: if the disk cannot be written; the last checkpoint is then kept.
    """
    from safetensors import SafetensorError

    final = run / f"checkpoint-{step:08d}"
    partial = final.with_name(final.name + ".partial")
    try:
        with writing(run):
            checkpoints(run)
            for left_by_a_kill in [*run.glob("checkpoint-*.partial"), *run.glob(".checkpoint-*")]:
                discard(left_by_a_kill)
            partial.mkdir()
            state: dict[str, Any] = {"config_sha256": sha256(run / "config.toml")}
            yield partial, state
            files = sorted(p for p in partial.rglob("*") if p.is_file())
            state["files"] = {str(p.relative_to(partial)): sha256(p) for p in files}
            write_json(partial / "state.json", {"schema_version": version, **state})
            replace(partial, final)
            for old in checkpoints(run):
                if old != final:
                    discard(old)
    except SafetensorError as error:  # how that library reports a full disk
        raise ArtifactError(
            f"Cannot write a checkpoint into `{run}`: {error}.",
            "Free some space; the last checkpoint is kept, and the run can be resumed.",
        ) from error


@contextlib.contextmanager
def saving_first(
    save: Callable[[], None], errors: tuple[type[CepError], ...] = PRIOR_FAILED
) -> Iterator[None]:
    """Write a checkpoint before it is told that something failed for good."""
    try:
        yield
    except errors:
        save()
        raise


def check_state(path: Path, state: Any, keys: set[str], version: int) -> None:
    """Refuse a checkpoint whose `state.json` lacks keys, or is of another version or run.

    Raises:
        ArtifactError: saying what is wrong; nothing is touched.
    """
    known = isinstance(state, dict) and state.keys() >= keys
    if not known or state["schema_version"] != version:
        raise ArtifactError(
            f"`{path}` is not a checkpoint of this version of cep.",
            "Go on with it in the version that it was made with, or start another run.",
        )
    if state["config_sha256"] != sha256(path.parent / "config.toml"):
        raise ArtifactError(
            f"`{path}` belongs to a run with another configuration than "
            f"`{path.parent / 'config.toml'}`; it was left untouched.",
            "Put back the config.toml that the run was started with, or start another run.",
        )


def check_files(path: Path, files: dict[str, str]) -> None:
    """Refuse a checkpoint whose files are not as its `state.json` says.

    Raises:
        ArtifactError: naming the first such file.
    """
    for name, expected in files.items():
        file = path / name
        if not file.is_file() or sha256(file) != expected:
            raise ArtifactError(
                f"`{file}` is missing, truncated or changed; the checkpoint was left untouched.",
                "Start the run again under another --name; the journal keeps the LLM's answers.",
            )


def load_arrays(path: Path) -> "dict[str, np.ndarray]":
    """The arrays of an npz file."""
    import numpy as np

    with np.load(path, allow_pickle=False) as archive:
        return dict(archive)


def load_tensors(path: Path) -> "dict[str, Tensor]":
    """The tensors of a safetensors file.

    Raises:
        ArtifactError: if it cannot be read.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except SafetensorError as error:
        raise ArtifactError(f"`{path}` cannot be read: {error}") from error


def take_over(saved: "Mapping[str, Tensor]", own: "Mapping[str, Tensor]") -> None:
    """Copy saved tensors into those of the same names, in place.

    Raises:
        ValueError: if one is missing, left over or of another shape; nothing is copied then.
    """
    for name in sorted(saved.keys() ^ own.keys()):
        raise ValueError(f"{'lacks' if name in own else 'has no use for'} `{name}`")
    for name, tensor in own.items():
        if saved[name].shape != tensor.shape:
            shapes = f"{tuple(saved[name].shape)}, expected {tuple(tensor.shape)}"
            raise ValueError(f"has a `{name}` of shape {shapes}")
    for name, tensor in own.items():
        tensor.copy_(saved[name])


@contextlib.contextmanager
def fitting(path: Path) -> Iterator[None]:
    """Turn what a learner cannot take over from a checkpoint into one sentence."""
    try:
        yield
    except (KeyError, ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise ArtifactError(
            f"The checkpoint `{path}` does not fit its learner: {reason}; it was left untouched.",
            "Another version of cep wrote it: go on with that one, or start another run.",
        ) from error


def read_state(path: Path) -> Any:
    """What a checkpoint's `state.json` holds."""
    return read_json(path / "state.json")
