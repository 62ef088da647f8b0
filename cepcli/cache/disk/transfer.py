"""Saved caches beyond one run: several merged into one, or one written as a table for others."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float32
from numpy import ndarray

from cepcli.cache.config import is_keyed
from cepcli.cache.disk import columns
from cepcli.cache.disk.storage import Saved, namespace_differences
from cepcli.config import require
from cepcli.errors import CacheError
from cepcli.whole_files import write_whole
from cepcli.workspace import artifacts

Record = dict[str, Any]

_OTHER_SCORES = "Merge caches of one model, encoder and environment family."
_OTHER_KEYS = (
    "Merging keeps keys, so they must be of one encoder and one head. A run that starts from one "
    "of the caches gives its entries keys of its own: cep train --cache-from CACHE"
)


class _Aged(NamedTuple):
    """A copy of an entry with its key, and how long before its cache's end things happened to it.

    Attributes:
        unused: uses and insertions since it was last used.
        since: entries inserted since it was.
        record: the entry.
        key: its key; None if the mode has none.
    """

    unused: int
    since: int
    record: Record
    key: Float32[ndarray, " dim"] | None


def merge(caches: Sequence[Saved], *, capacity: int) -> Saved:
    """One cache with the entries of all, at most `capacity`, the most recently used ones.

    Each cache has a clock of its own, so recency is how long before its cache's end an entry was
    last used. Of a text that several hold, the most recently used entry stays, with the scores that
    only the others have. Hits and audits add up, and it repels as far as any of them does. Slots
    are given anew; ghosts and what controllers had moved are left out.

    Args:
        caches: at least one, of the same namespace; all with keys or all without.
        capacity: most entries of the result, >= 1.

    Raises:
        ConfigError: if the capacity is less than 1.
        CacheError: if the namespaces differ, or only some have keys.
    """
    require(capacity >= 1, f"`capacity` is {capacity}, expected at least 1.")
    _check_alike(caches)
    first = caches[0]
    found: dict[str, _Aged] = {}
    for entry in sorted(_aged(caches), key=lambda entry: entry.unused):
        known = found.setdefault(entry.record["identity"], entry)
        if known is not entry:
            _absorb(known.record, entry.record)
    merged = list(found.values())[:capacity][::-1]
    for number, entry in enumerate(merged, 1):
        entry.record["last_use"] = number
    for number, entry in enumerate(sorted(merged, key=lambda entry: -entry.since)):
        entry.record["slot"] = entry.record["row"] = number
    records = [entry.record for entry in merged]
    keys = [entry.key for entry in merged if entry.key is not None]
    return Saved(
        namespace=first.namespace,
        mode=first.mode,
        dim=first.dim,
        state={"clock": len(records), "next_slot": len(records)},
        columns=columns.pack(records),
        keys=np.stack(keys) if keys else np.zeros((0, first.dim), np.float32),
    )


def export_parquet(saved: Saved, path: Path) -> None:
    """Write a cache's entries as a Parquet file, least recently used first.

    Columns: slot, goal, text, actions (list of strings), scores (list of doubles, nats, by action),
    key (list of floats; null if the mode has none), hits, audits, last_span, last_kl. What is not
    valid Unicode in a text is written as "?".

    Raises:
        ArtifactError: if the file cannot be written.
    """
    import pyarrow as pa
    from pyarrow import parquet

    entries = saved.entries
    keys = list(saved.keys) if is_keyed(saved.mode) else [None] * len(entries)
    table: dict[str, Any] = {
        "slot": pa.array([e["slot"] for e in entries], pa.int64()),
        "goal": pa.array([_valid(e["goal"]) for e in entries], pa.string()),
        "text": pa.array([_valid(e["text"]) for e in entries], pa.string()),
        "actions": pa.array([list(map(_valid, e["scores"])) for e in entries],
                            pa.list_(pa.string())),
        "scores": pa.array([list(e["scores"].values()) for e in entries], pa.list_(pa.float64())),
        "key": pa.array(keys, pa.list_(pa.float32())),
    }  # fmt: skip
    for names, kind in ((("hits", "audits"), pa.int64()), (("last_span", "last_kl"), pa.float64())):
        table |= {name: pa.array([e[name] for e in entries], kind) for name in names}
    buffer = io.BytesIO()
    parquet.write_table(pa.table(table), buffer)
    with artifacts.writing(path.parent):
        if not path.parent.exists():
            path.parent.mkdir(parents=True)
        write_whole(path, buffer.getbuffer())


def _check_alike(caches: Sequence[Saved]) -> None:
    require(len(caches) > 0, "There is no cache to merge.")
    first = caches[0]
    for number, other in enumerate(caches[1:], start=2):
        if other.namespace != first.namespace:
            names = namespace_differences(first.namespace, other.namespace)
            raise CacheError(
                f"Cache {number} belongs to [{other.namespace}], the first to "
                f"[{first.namespace}]; they differ in {', '.join(names)}.",
                _OTHER_KEYS if names == ["key_encoder_sha256"] else _OTHER_SCORES,
            )
        if is_keyed(other.mode) != is_keyed(first.mode):
            raise CacheError(
                f"Cache {number} was filled in mode {other.mode}, the first in mode {first.mode}: "
                "only one of them has keys to find similar texts by.",
                "Merge caches that all have keys, or none of which has any.",
            )


def _aged(caches: Sequence[Saved]) -> list[_Aged]:
    return [
        _Aged(
            saved.state["clock"] - record["last_use"],
            saved.state["next_slot"] - record["slot"],
            record | {"scores": dict(record["scores"])},
            saved.keys[row] if is_keyed(saved.mode) else None,
        )
        for saved in caches
        for row, record in enumerate(saved.entries)
    ]


def _absorb(record: Record, older: Record) -> None:
    """Add to an entry what another one of the same text knows."""
    for action, score in older["scores"].items():
        record["scores"].setdefault(action, score)
    if not record["audits"]:
        record |= {name: older[name] for name in ("last_span", "last_kl")}
    record["hits"] += older["hits"]
    record["audits"] += older["audits"]
    record["repels"] = max(record["repels"], older["repels"])
    record["warmth"] = max(record["warmth"], older["warmth"])


def _valid(text: str) -> str:
    return text.encode("utf-8", "replace").decode()
