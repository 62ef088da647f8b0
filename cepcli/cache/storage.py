"""A prior cache on disk: keys as npz, entries as JSON lines, and a head that binds them.

`cache.json` is written last and names the other two by the hash of their content, so a save that
is interrupted leaves the previous cache whole. Nothing is pickled; a damaged file is an error that
names it, and is never repaired or overwritten.
"""

import hashlib
import io
import json
import zipfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32
from numpy import ndarray

from cepcli import artifacts
from cepcli.errors import ArtifactError, CacheError
from cepcli.prior.base import Namespace, ScorerFingerprint

SCHEMA_VERSION = 1
HEAD = "cache.json"


@dataclass(frozen=True, slots=True)
class Saved:
    """The content of a saved cache.

    Attributes:
        namespace: what the entries belong to.
        mode: the mode that it was filled in.
        dim: dimension of the keys.
        state: counters of the cache as a whole.
        entries: one record per entry, least recently used first.
        keys: one unit row per entry; no rows if the mode keeps no keys.
    """

    namespace: Namespace
    mode: str
    dim: int
    state: dict[str, int]
    entries: list[dict[str, Any]]
    keys: Float32[ndarray, "rows dim"]


def write(directory: Path, saved: Saved) -> None:
    """Write a cache into `directory`, replacing the one there in a single step."""
    lines = "".join(json.dumps(e) + "\n" for e in saved.entries)
    buffer = io.BytesIO()
    np.savez(buffer, keys=saved.keys)
    contents = {"entries": (lines.encode(), "jsonl"), "keys": (buffer.getvalue(), "npz")}
    head: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "kind": "prior-cache",
        "namespace": asdict(saved.namespace),
        "mode": saved.mode,
        "dim": saved.dim,
        "size": len(saved.entries),
        "state": saved.state,
        "files": {},
    }
    with artifacts.writing(directory):
        directory.mkdir(parents=True, exist_ok=True)
        for part, (content, suffix) in contents.items():
            digest = hashlib.sha256(content).hexdigest()
            name = f"{part}-{digest[:16]}.{suffix}"
            (directory / name).write_bytes(content)
            head["files"][part] = {"file": name, "bytes": len(content), "sha256": digest}
        artifacts.write_json(directory / HEAD, head)
        _remove_stale(directory, {f["file"] for f in head["files"].values()})


def read(directory: Path) -> Saved:
    """The cache in `directory`.

    Raises:
        CacheError: if there is none, or a file is missing, truncated or foreign.
    """
    head = _read_head(directory)
    entries_file, entries = _read_part(directory, head, "entries")
    keys_file, keys = _read_part(directory, head, "keys")
    try:
        return Saved(
            namespace=_namespace(head["namespace"]),
            mode=str(head["mode"]),
            dim=int(head["dim"]),
            state=dict(head["state"]),
            entries=_parse_entries(entries_file, entries),
            keys=_parse_keys(keys_file, keys, int(head["dim"])),
        )
    except (KeyError, TypeError) as error:
        raise damaged(directory / HEAD, f"lacks {error}") from error


def namespace_of(directory: Path) -> Namespace:
    """What the cache in `directory` belongs to, read from its head alone."""
    head = _read_head(directory)
    try:
        return _namespace(head["namespace"])
    except (KeyError, TypeError) as error:
        raise damaged(directory / HEAD, f"lacks {error}") from error


def damaged(path: Path, why: str) -> CacheError:
    """The error for a cache file that cannot be what cep wrote."""
    return CacheError(
        f"`{path}` {why}; it was left untouched.", "Restore it from a copy, or remove the cache."
    )


def _namespace(values: dict[str, Any]) -> Namespace:
    rest = {key: value for key, value in values.items() if key != "scorer"}
    return Namespace(scorer=ScorerFingerprint(**values["scorer"]), **rest)


def _read_head(directory: Path) -> dict[str, Any]:
    path = directory / HEAD
    if not path.is_file():
        raise CacheError(
            f"There is no prior cache in `{directory}`.", "Fill one: cep train --env ID --cache lru"
        )
    try:
        head = artifacts.read_json(path)
    except ArtifactError as error:
        raise CacheError(error.message, error.hint) from error
    if not isinstance(head, dict) or head.get("kind") != "prior-cache":
        raise damaged(path, "is not the head of a prior cache")
    if head.get("schema_version") != SCHEMA_VERSION:
        raise CacheError(
            f"`{path}` has schema version {head.get('schema_version')}, "
            f"this cep reads {SCHEMA_VERSION}.",
            "Install the version of cep that wrote it.",
        )
    return head


def _read_part(directory: Path, head: dict[str, Any], part: str) -> tuple[Path, bytes]:
    """A file that the head names, if its content is what the head says."""
    try:
        name, size, digest = (head["files"][part][k] for k in ("file", "bytes", "sha256"))
        path = directory / Path(name).name
    except (KeyError, TypeError) as error:
        raise damaged(directory / HEAD, f"lacks {error}") from error
    try:
        content = path.read_bytes()
    except OSError as error:
        raise CacheError(f"Cannot read `{path}`: {error.strerror}.") from error
    if len(content) != size:
        raise damaged(path, f"is truncated or foreign ({len(content)} bytes, expected {size})")
    if hashlib.sha256(content).hexdigest() != digest:
        raise damaged(path, "is not what was saved (its sha256 differs)")
    return path, content


def _parse_entries(path: Path, content: bytes) -> list[dict[str, Any]]:
    try:
        return [json.loads(line) for line in content.decode().splitlines()]
    except ValueError as error:
        raise damaged(path, f"is not JSON lines ({error})") from error


def _parse_keys(path: Path, content: bytes, dim: int) -> Float32[ndarray, "rows dim"]:
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            keys = np.ascontiguousarray(arrays["keys"], np.float32)
    except (ValueError, KeyError, OSError, zipfile.BadZipFile) as error:
        raise damaged(path, f"is not an npz of keys ({error})") from error
    if keys.ndim != 2 or keys.shape[1] != dim:
        raise damaged(path, f"has keys of shape {keys.shape}, expected rows of {dim}")
    return keys


def _remove_stale(directory: Path, current: set[str]) -> None:
    for pattern in ("entries-*.jsonl", "keys-*.npz"):
        for path in directory.glob(pattern):
            if path.name not in current:
                path.unlink()
