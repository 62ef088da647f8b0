"""Checkpoints: everything a run needs to go on exactly as if it had never stopped.

`checkpoint-<step>/` is written beside the last one and renamed into place; the older one is removed
afterwards, so that there is a complete one at every moment.
"""

import contextlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from cepcli.agents.parts import Parts
from cepcli.artifacts import discard, read_json, sha256, write_json, writing
from cepcli.cache.storage import key_head_of
from cepcli.cache.store import PriorCache
from cepcli.errors import ArtifactError

SCHEMA_VERSION = 2
_KEYS = {
    "schema_version", "config_sha256", "progress", "trackers", "acting", "auditing", "telemetry",
    "control", "learner", "files",
}  # fmt: skip


def save_checkpoint(run: Path, step: int, parts: Parts, progress: dict[str, Any]) -> None:
    """Write a checkpoint of `parts` and of the loop's own `progress` (JSON values)."""
    final = run / f"checkpoint-{step:08d}"
    partial = final.with_name(final.name + ".partial")
    with writing(run), _clear_tensor_errors(run):
        for left_by_a_kill in [partial, *run.glob(".checkpoint-*.discarded")]:
            shutil.rmtree(left_by_a_kill, ignore_errors=True)
        partial.mkdir()
        counters, latencies = parts.telemetry.state()
        np.savez(partial / "telemetry.npz", allow_pickle=False, **latencies)
        state = {
            "config_sha256": sha256(run / "config.toml"),
            "describer_sha256": _describer_sha256(parts),
            "progress": progress,
            "trackers": [tracker.snapshot() for tracker in parts.trackers],
            "acting": bytes(parts.acting.get_state().numpy()).hex(),
            "auditing": parts.auditing.bit_generator.state,
            "telemetry": counters,
            "control": parts.control.state() if parts.control is not None else None,
            "learner": _save_learner(partial, parts),
        }
        if parts.cache is not None:
            parts.cache.save(partial / "cache")
        files = sorted(p for p in partial.rglob("*") if p.is_file())
        state["files"] = {str(p.relative_to(partial)): sha256(p) for p in files}
        write_json(partial / "state.json", {"schema_version": SCHEMA_VERSION, **state})
        discard(final)
        partial.replace(final)
        for old in checkpoints(run):
            if old != final:
                discard(old)


def checkpoints(run: Path) -> list[Path]:
    """Complete checkpoints of a run, oldest first."""
    return sorted(p for p in run.glob("checkpoint-*") if not p.name.endswith(".partial"))


def load_checkpoint(path: Path, parts: Parts) -> dict[str, Any]:
    """Put `parts` into the checkpointed state; returns the loop's progress.

    Raises:
        ArtifactError: if the checkpoint is truncated or foreign; it is left untouched.
    """
    state = _upgraded(read_json(path / "state.json"))
    known = isinstance(state, dict) and state.keys() >= _KEYS
    if not known or state["schema_version"] != SCHEMA_VERSION:
        raise ArtifactError(f"`{path}` is not a checkpoint of this version of cep.")
    if state["config_sha256"] != sha256(path.parent / "config.toml"):
        raise ArtifactError(
            f"`{path}` belongs to a run with another configuration than "
            f"`{path.parent / 'config.toml'}`; it was left untouched.",
            "Put back the config.toml that the run was started with, or start another run.",
        )
    if state.get("describer_sha256", _describer_sha256(parts)) != _describer_sha256(parts):
        raise ArtifactError(
            f"The abstraction that `{path.parent.name}` was trained with is another one now.",
            "Put the older one back under its name, or start another run.",
        )
    for name, expected in state["files"].items():
        file = path / name
        if not file.is_file() or sha256(file) != expected:
            raise ArtifactError(
                f"`{file}` is missing, truncated or changed; the checkpoint was left untouched.",
                "Start the run again under another --name; the journal keeps the LLM's answers.",
            )
    parts.telemetry.restore(state["telemetry"], _arrays(path / "telemetry.npz"))
    if parts.control is not None:
        parts.control.restore(state["control"])
    _load_learner(path, parts, state["learner"])
    if parts.cache is not None:
        _load_cache(path / "cache", parts.cache, parts)
    for tracker, snapshot in zip(parts.trackers, state["trackers"], strict=True):
        tracker.restore(snapshot, ask_expert=parts.config.agent == "expert")
    acting = np.frombuffer(bytes.fromhex(state["acting"]), np.uint8)
    parts.acting.set_state(torch.from_numpy(acting.copy()))
    parts.auditing.bit_generator.state = state["auditing"]
    return state["progress"]


def _describer_sha256(parts: Parts) -> str | None:
    """Identity of what describes states to the prior; None where nothing need."""
    return None if parts.describer is None else parts.describer.sha256


def _upgraded(state: Any) -> Any:
    """A checkpoint of version 1, which knew one environment, as one of today."""
    if not isinstance(state, dict) or state.get("schema_version") != 1 or "tracker" not in state:
        return state
    learner = dict(state["learner"])
    if "waiting" in learner:
        learner["waiting"] = [learner["waiting"]]
    newer = {"schema_version": SCHEMA_VERSION, "trackers": [state["tracker"]], "learner": learner}
    return {**state, **newer}


def _load_cache(path: Path, cache: PriorCache, parts: Parts) -> None:
    namespace = cache.namespace
    if parts.control is not None and parts.control.keys is not None:
        parts.control.keys.adopt(key_head_of(path))
        namespace = parts.control.keys.namespace
    loaded = PriorCache.load(path, namespace, parts.config.cache)
    cache.namespace = namespace
    cache.restore(loaded)


def _save_learner(path: Path, parts: Parts) -> dict[str, Any]:
    if parts.table is not None:
        texts, vectors = parts.table.state()
        (path / "texts.json").write_text(json.dumps(texts), encoding="utf-8")
        np.savez(path / "embeddings.npz", vectors=vectors)
    if parts.learner is None:
        return {}
    tensors, arrays, scalars = parts.learner.state()
    save_file(tensors, path / "learner.safetensors")
    np.savez(path / "replay.npz", allow_pickle=False, **arrays)
    return scalars


def _load_learner(path: Path, parts: Parts, scalars: dict[str, Any]) -> None:
    if parts.table is not None:
        vectors = _arrays(path / "embeddings.npz")["vectors"]
        parts.table.restore(read_json(path / "texts.json"), vectors)
    if parts.learner is None:
        return
    try:
        tensors = load_file(path / "learner.safetensors")
    except SafetensorError as error:
        raise ArtifactError(f"`{path / 'learner.safetensors'}` cannot be read: {error}") from error
    parts.learner.restore(tensors, _arrays(path / "replay.npz"), scalars)


@contextlib.contextmanager
def _clear_tensor_errors(run: Path) -> Iterator[None]:
    """The safetensors library reports a full disk as an error of its own."""
    try:
        yield
    except SafetensorError as error:
        raise ArtifactError(
            f"Cannot write a checkpoint into `{run}`: {error}.",
            "Free some space; the last checkpoint is kept, and the run can be resumed.",
        ) from error


def _arrays(path: Path) -> dict[str, np.ndarray]:
    with np.load(path, allow_pickle=False) as archive:
        return dict(archive)
