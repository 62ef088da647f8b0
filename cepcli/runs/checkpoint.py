"""Checkpoints: everything a run needs to go on exactly as if it had never stopped."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file

from cepcli.cache.disk.storage import key_head_of
from cepcli.cache.store import PriorCache
from cepcli.errors import ArtifactError
from cepcli.runs.parts import Parts
from cepcli.workspace.artifacts import read_json
from cepcli.workspace.checkpoint_files import (
    check_files,
    check_state,
    fitting,
    is_saved,
    load_arrays,
    load_tensors,
    read_state,
    writing_checkpoint,
)

SCHEMA_VERSION = 3
_KEYS = {
    "schema_version", "config_sha256", "progress", "trackers", "acting", "auditing", "telemetry",
    "control", "learner", "files",
}  # fmt: skip


def save_checkpoint(run: Path, step: int, parts: Parts, progress: dict[str, Any]) -> None:
    """Write a checkpoint of `parts` and of the loop's own `progress`, unless this state has one."""
    if is_saved(run, step, progress["next_eval"]):
        return
    with writing_checkpoint(run, step, SCHEMA_VERSION) as (partial, state):
        counters, latencies = parts.telemetry.state()
        np.savez(partial / "telemetry.npz", allow_pickle=False, **latencies)
        state |= {
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


def load_checkpoint(path: Path, parts: Parts) -> dict[str, Any]:
    """Put `parts` into the checkpointed state; returns the loop's progress.

    Raises:
        ArtifactError: if the checkpoint is truncated or foreign; it is left untouched.
    """
    state = read_state(path)
    check_state(path, state, _KEYS, SCHEMA_VERSION)
    if state.get("describer_sha256", _describer_sha256(parts)) != _describer_sha256(parts):
        raise ArtifactError(
            f"The abstraction that `{path.parent.name}` was trained with is another one now.",
            "Put the older one back under its name, or start another run.",
        )
    check_files(path, state["files"])
    parts.telemetry.restore(state["telemetry"], load_arrays(path / "telemetry.npz"))
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
        vectors = load_arrays(path / "embeddings.npz")["vectors"]
        parts.table.restore(read_json(path / "texts.json"), vectors)
    if parts.learner is None:
        return
    tensors = load_tensors(path / "learner.safetensors")
    arrays = load_arrays(path / "replay.npz")
    with fitting(path):
        parts.learner.restore(tensors, arrays, scalars)
