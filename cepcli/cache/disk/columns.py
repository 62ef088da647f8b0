"""Entries as columns: what is true of each is a row of an array, what varies in number is joined.

A hundred thousand entries are read this way in the time that JSON lines take for ten thousand.
Strings are JSON lists in UTF-8 (lone surrogates come back, too); the strings of actions and goals
are written once and referred to by number.
"""

import contextlib
import gc
import json
import sys
from array import array
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from typing import Any

import numpy as np
from jaxtyping import UInt8
from numpy import ndarray

from cepcli.cache.entries import CacheEntry, Scores

_INTEGERS = ("slot", "last_use", "hits", "audits", "row", "signature")
_FLOATS = ("last_span", "last_kl", "repels", "warmth")
_DIGEST_BYTES = 16


def pack(records: Sequence[Mapping[str, Any]]) -> dict[str, ndarray]:
    """The columns of `records`, which have `Entry`'s fields, `identity`, `row` and `signature`."""
    names = chain.from_iterable(r["scores"] for r in records)
    actions = {action: number for number, action in enumerate(dict.fromkeys(names))}
    goals = {goal: number for number, goal in enumerate(dict.fromkeys(r["goal"] for r in records))}
    scored = [actions[action] for r in records for action in r["scores"]]
    digests = b"".join(bytes.fromhex(r["identity"]) for r in records)
    columns = {
        "goal": np.array([goals[r["goal"]] for r in records], np.int64),
        "texts": encode_strings([r["text"] for r in records]),
        "identity": np.frombuffer(digests, np.uint8).reshape(len(records), _DIGEST_BYTES),
        "score_counts": np.array([len(r["scores"]) for r in records], np.int64),
        "score_actions": np.array(scored, np.int64),
        "scores": np.array([s for r in records for s in r["scores"].values()], np.float64),
        "goals": encode_strings(list(goals)),
        "actions": encode_strings(list(actions)),
    }
    for name in _INTEGERS:
        columns[name] = np.array([r[name] for r in records], np.int64)
    for name in _FLOATS:
        columns[name] = np.array([r[name] for r in records], np.float64)
    return columns


def check(columns: Mapping[str, ndarray]) -> None:
    """Raise a ValueError that says what is wrong with columns which `pack` cannot have made."""
    rows = len(columns["slot"])
    per_entry = ("goal", "identity", "score_counts", *_INTEGERS, *_FLOATS)
    if any(len(columns[name]) != rows for name in per_entry):
        raise ValueError("holds columns of different lengths")
    counts, total = columns["score_counts"], columns["score_counts"].sum()
    if counts.min(initial=0) < 0 or not total == len(columns["scores"]) == len(
        columns["score_actions"]
    ):
        raise ValueError("holds `score_counts` that do not add up")
    if len(columns.get("borrowed_actions", ())):
        raise ValueError("holds scores of similar texts, which only early versions of cep stored")
    if columns["identity"].shape != (rows, _DIGEST_BYTES):
        raise ValueError("holds identities of another length")
    for name in ("scores", "last_span", "last_kl", "repels"):
        if np.isnan(columns[name]).any() or (name == "scores" and np.isinf(columns[name]).any()):
            raise ValueError(f"is unsound: it holds {name} that are not finite")


def entries(columns: Mapping[str, ndarray]) -> list[CacheEntry]:
    """The entries, in order.

    Raises:
        ValueError, IndexError: if the strings do not fit the numbers.
    """
    names = list(map(sys.intern, decode_strings(columns["actions"])))
    goals = list(map(sys.intern, decode_strings(columns["goals"])))
    texts = decode_strings(columns["texts"])
    rows = zip(
        columns["slot"].tolist(),
        [goals[number] for number in columns["goal"].tolist()],
        texts,
        _scores(columns, names),
        *(columns[name].tolist() for name in _INTEGERS[1:4]),
        *(columns[name].tolist() for name in _FLOATS),
        strict=True,
    )
    with without_collection():
        return [CacheEntry(*row) for row in rows]


@contextlib.contextmanager
def without_collection() -> Iterator[None]:
    """Spare the garbage collector from walking again and again over objects that all stay."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def records(columns: Mapping[str, ndarray]) -> list[dict[str, Any]]:
    """The entries as plain values, in order: what `pack` takes."""
    identities = [row.tobytes().hex() for row in columns["identity"]]
    index = (columns["row"].tolist(), columns["signature"].tolist())
    found = zip(entries(columns), identities, *index, strict=True)
    return [record(*one) for one in found]


def record(entry: CacheEntry, identity: str, row: int, signature: int) -> dict[str, Any]:
    """An entry as plain values."""
    own = {name: getattr(entry, name) for name in CacheEntry.__dataclass_fields__}
    own["scores"] = entry.scores.plain()
    return {**own, "identity": identity, "row": row, "signature": signature}


def encode_strings(strings: Sequence[str]) -> UInt8[ndarray, " bytes"]:
    """A list of strings as bytes."""
    return np.frombuffer(json.dumps(strings).encode("ascii"), np.uint8)


def decode_strings(content: UInt8[ndarray, " bytes"]) -> list[str]:
    """What `encode_strings` was given.

    Raises:
        ValueError: if it was not.
    """
    found = json.loads(content.tobytes())
    if not isinstance(found, list) or not all(isinstance(string, str) for string in found):
        raise ValueError("holds something else than a list of strings")
    return found


def _scores(columns: Mapping[str, ndarray], names: list[str]) -> Iterator[Scores]:
    values = array("d", columns["scores"].tobytes())
    actions = tuple([names[number] for number in columns["score_actions"].tolist()])
    start = 0
    for count in columns["score_counts"].tolist():
        yield Scores(actions[start : start + count], values[start : start + count])
        start += count
