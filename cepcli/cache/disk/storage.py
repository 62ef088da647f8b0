"""A prior cache on disk: keys, entries and graphs as npz, and a head that binds them.

`cache.json` is written last and names the others by the hash of their content, so a save that is
interrupted leaves the previous cache whole. Nothing is pickled; a damaged file is an error that
names it, and is never repaired or overwritten.
"""

import hashlib
import io
import itertools
import math
import zipfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32, UInt64
from numpy import ndarray

from cepcli.cache.config import is_keyed
from cepcli.cache.disk import columns
from cepcli.cache.entries import text_hash
from cepcli.errors import ArtifactError, CacheError
from cepcli.prior.base import Namespace, ScorerFingerprint
from cepcli.whole_files import discard, replace, write_whole
from cepcli.workspace import artifacts

SCHEMA_VERSION = 3
HEAD = "cache.json"
_KIND = "prior-cache"
_NORM_TOLERANCE = 1e-3  # of a key's length


@dataclass(slots=True)
class Saved:
    """The content of a saved cache.

    Attributes:
        namespace: what the entries belong to.
        mode: the mode that it was filled in.
        dim: dimension of the keys.
        state: counters and parameters of the cache as a whole.
        columns: the entries, least recently used first (`columns.pack`).
        keys: one unit row per entry; no rows if the mode has no keys.
        ghosts: identities of evicted entries (`Ghosts.oldest_first`).
        lent: likewise, of texts that a similar one answered.
        graphs: what the index needs beside keys and rows (`Index.state`).
        key_head: weights of the learned head that made the keys; none without one.
    """

    namespace: Namespace
    mode: str
    dim: int
    state: dict[str, Any]
    columns: dict[str, ndarray]
    keys: Float32[ndarray, "rows dim"]
    ghosts: UInt64[ndarray, " ghosts"] = field(default_factory=lambda: np.zeros(0, np.uint64))
    lent: UInt64[ndarray, " lent"] = field(default_factory=lambda: np.zeros(0, np.uint64))
    graphs: dict[str, ndarray] = field(default_factory=dict)
    key_head: dict[str, ndarray] = field(default_factory=dict)
    _entries: list[dict[str, Any]] | None = None

    @property
    def entries(self) -> list[dict[str, Any]]:
        """One record per entry, made when first asked for; `write` uses what is changed there."""
        if self._entries is None:
            self._entries = columns.records(self.columns)
        return self._entries

    def packed(self) -> dict[str, ndarray]:
        """The entries as columns, with what was changed in `entries`."""
        return self.columns if self._entries is None else columns.pack(self._entries)


def write(directory: Path, saved: Saved) -> None:
    """Write a cache into `directory`, replacing the one there in a single step."""
    entries = saved.packed()
    head: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "kind": _KIND,
        "namespace": asdict(saved.namespace),
        "mode": saved.mode,
        "dim": saved.dim,
        "size": len(entries["slot"]),
        "state": saved.state,
        "files": {},
    }
    rings = {"ghosts": saved.ghosts, "lent": saved.lent}
    parts = {"entries": entries | rings, "keys": {"keys": saved.keys}}
    if saved.graphs:
        parts["graphs"] = saved.graphs
    if saved.key_head:
        parts["head"] = saved.key_head
    with artifacts.writing(directory):
        directory.mkdir(parents=True, exist_ok=True)
        for part, arrays in parts.items():
            buffer = io.BytesIO()
            np.savez(buffer, allow_pickle=False, **arrays)
            content = buffer.getbuffer()
            digest = hashlib.sha256(content).hexdigest()
            name = f"{part}-{digest[:16]}.npz"
            write_whole(directory / name, content)
            head["files"][part] = {"file": name, "bytes": len(content), "sha256": digest}
        artifacts.write_json(directory / HEAD, head)
        current = {file["file"] for file in head["files"].values()}
        for part in ("entries", "keys", "graphs", "head"):
            for path in directory.glob(f"{part}-*.npz"):
                if path.name not in current:
                    discard(path)


def check_new(directory: Path) -> None:
    """Refuse a place for a cache that is taken or cannot be written.

    Raises:
        CacheError: if something is there.
        ArtifactError: if it cannot be written.
    """
    if directory.exists():
        raise CacheError(f"`{directory}` exists already.", "Name a directory that does not.")
    artifacts.check_writable(directory)


def write_new(directory: Path, saved: Saved) -> None:
    """Write a cache where nothing is yet: the directory is there complete, or not at all.

    Raises:
        CacheError: if something is there.
        ArtifactError: if it cannot be written.
    """
    check_new(directory)
    partial = directory.with_name(f".{directory.name}.partial")
    with artifacts.writing(directory.parent):
        try:
            write(partial, saved)
            replace(partial, directory)
        finally:
            discard(partial)


def read(directory: Path) -> Saved:
    """The cache in `directory`, checked against the hashes of its files.

    Raises:
        CacheError: if there is none, or a file is missing, truncated, foreign, of a newer version
            of cep, or holds numbers that are not finite.
    """
    head = _read_head(directory)
    try:
        paths = {part: _intact(directory, head, part) for part in head["files"]}
        parts = {part: _parse(path) for part, path in paths.items()}
        entries = parts["entries"]
        saved = Saved(
            namespace=_namespace(head["namespace"]),
            mode=str(head["mode"]),
            dim=int(head["dim"]),
            state=dict(head["state"]),
            columns={n: array for n, array in entries.items() if n not in ("ghosts", "lent")},
            keys=np.ascontiguousarray(parts["keys"]["keys"], np.float32),
            ghosts=entries["ghosts"].astype(np.uint64),
            lent=entries["lent"].astype(np.uint64),
            graphs=parts.get("graphs", {}),
            key_head=parts.get("head", {}),
        )
    except (KeyError, TypeError) as error:
        raise damaged(directory / HEAD, f"lacks {error}") from error
    if saved.state.get("headed", False) and not saved.key_head:
        raise damaged(directory / HEAD, "lacks the key head that made its keys")
    _check(saved, paths)
    return saved


def key_head_of(directory: Path) -> dict[str, ndarray]:
    """The weights of the head that made the keys of the cache in `directory`; none without one.

    Raises:
        CacheError: if they are damaged.
    """
    head = _read_head(directory)
    if "head" not in head["files"]:
        return {}
    return _parse(_intact(directory, head, "head"))


def namespace_of(directory: Path) -> Namespace:
    """What the cache in `directory` belongs to, read from its head alone."""
    head = _read_head(directory)
    try:
        return _namespace(head["namespace"])
    except (KeyError, TypeError) as error:
        raise damaged(directory / HEAD, f"lacks {error}") from error


def namespace_differences(one: Namespace, other: Namespace) -> list[str]:
    """The names of the components in which two namespaces differ."""
    return [
        name
        for ours, theirs in ((one.scorer, other.scorer), (one, other))
        for name in type(ours).__dataclass_fields__
        if name != "scorer" and getattr(ours, name) != getattr(theirs, name)
    ]


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
    if not isinstance(head, dict) or head.get("kind") != _KIND:
        raise damaged(path, "is not the head of a prior cache")
    if head.get("schema_version") != SCHEMA_VERSION:
        raise CacheError(
            f"`{path}` has schema version {head.get('schema_version')}, this cep reads "
            f"{SCHEMA_VERSION}.",
            "Install the version of cep that wrote it.",
        )
    return head


def _intact(directory: Path, head: dict[str, Any], part: str) -> Path:
    """A file that the head names, if its content is what the head says."""
    name, size, digest = (head["files"][part][k] for k in ("file", "bytes", "sha256"))
    path = directory / Path(name).name
    try:
        found = path.stat().st_size
        if found != size:
            raise damaged(path, f"is truncated or foreign ({found} bytes, expected {size})")
        with path.open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != digest:
                raise damaged(path, "is not what was saved (its sha256 differs)")
    except OSError as error:
        raise CacheError(f"Cannot read `{path}`: {error.strerror}.") from error
    return path


def _parse(path: Path) -> dict[str, ndarray]:
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}
    except (ValueError, OSError, zipfile.BadZipFile) as error:
        raise damaged(path, f"is not a file of arrays ({error})") from error


def _check(saved: Saved, paths: Mapping[str, Path]) -> None:
    """Raise a CacheError if the arrays are not what a cache can hold."""
    keys = saved.keys
    if keys.ndim != 2 or keys.shape[1] != saved.dim:
        raise damaged(
            paths["keys"], f"has keys of shape {keys.shape}, expected rows of {saved.dim}"
        )
    if not np.isfinite(keys).all():
        raise damaged(paths["keys"], "is unsound: it holds keys that are not finite")
    try:
        columns.check(saved.columns)
    except KeyError as error:
        raise damaged(paths["entries"], f"lacks {error}") from error
    except ValueError as error:
        raise damaged(paths["entries"], str(error)) from error


def defects(saved: Saved) -> list[str]:
    """What is wrong with a cache that can be checked without the LLM, one sentence each."""
    found = _key_defects(saved)
    for number, entry in enumerate(saved.entries):
        found += [f"Entry {number} {what}." for what in _entry_defects(entry)]
    slots = [entry.get("slot", -1) for entry in saved.entries]
    if len(set(slots)) < len(slots):
        found.append("Two entries have the same slot.")
    if slots and max(slots) >= saved.state.get("next_slot", 0):
        found.append(f"Slot {max(slots)} is not below the next one to be given.")
    identities = [entry.get("identity") for entry in saved.entries]
    if len(set(identities)) < len(identities):
        found.append("Two entries have the same goal and text.")
    uses = [entry.get("last_use", 0) for entry in saved.entries]
    if any(later <= earlier for earlier, later in itertools.pairwise(uses)):
        found.append("The entries are not in the order of their last use.")
    if uses and max(uses) > saved.state.get("clock", 0):
        found.append("An entry was used later than the cache's clock says.")
    return found


def _key_defects(saved: Saved) -> list[str]:
    expected = len(saved.entries) if is_keyed(saved.mode) else 0
    if len(saved.keys) != expected:
        return [f"There are {len(saved.keys)} keys, expected {expected}."]
    norms = np.linalg.norm(saved.keys, axis=1)
    wrong = np.flatnonzero(~(np.abs(norms - 1.0) <= _NORM_TOLERANCE))
    return [f"The key of entry {row} has norm {norms[row]:.4f}, expected 1." for row in wrong]


def _entry_defects(entry: dict[str, Any]) -> list[str]:
    found = []
    if entry.get("identity") != text_hash(entry.get("goal", ""), entry.get("text", "")):
        found.append("has a hash that is not its goal's and text's")
    scores = entry.get("scores") or {}
    if not scores:
        found.append("has no scores")
    found += [f"scores `{a}` as {s}" for a, s in scores.items() if not math.isfinite(s)]
    repels = entry.get("repels", -1.0)
    if not (-1.0 <= repels <= 1.0 or repels == math.inf):  # infinite: set aside
        found.append(f"repels up to {repels}, which is no cosine")
    return found
