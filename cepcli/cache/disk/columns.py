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

from cepcli.cache.entry import Entry, Scores

_INTEGERS = ("slot", "last_use", "hits", "audits", "row", "signature")
_FLOATS = ("last_span", "last_kl", "repels", "warmth")
_DIGEST_BYTES = 16


def pack(records: Sequence[Mapping[str, Any]]) -> dict[str, ndarray]:
    """The columns of `records`, which have `Entry`'s fields, `identity`, `row` and `signature`."""
    actions: dict[str, int] = {}
    goals: dict[str, int] = {}
    scored = [[_number(actions, action) for action in r["scores"]] for r in records]
    borrowed = [[_number(actions, action) for action in r["borrowed"]] for r in records]
    values = chain.from_iterable(r["scores"].values() for r in records)
    columns = {
        "goal": np.array([_number(goals, r["goal"]) for r in records], np.int64),
        "texts": encode_strings([r["text"] for r in records]),
        "identity": _digests([r["identity"] for r in records]),
        "score_counts": np.array([len(numbers) for numbers in scored], np.int64),
        "score_actions": np.fromiter(chain.from_iterable(scored), np.int64),
        "scores": np.fromiter(values, np.float64),
        "borrowed_counts": np.array([len(numbers) for numbers in borrowed], np.int64),
        "borrowed_actions": np.fromiter(chain.from_iterable(borrowed), np.int64),
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
    per_entry = ("goal", "identity", "score_counts", "borrowed_counts", *_INTEGERS, *_FLOATS)
    if any(len(columns[name]) != rows for name in per_entry):
        raise ValueError("holds columns of different lengths")
    for counts, *joined in (
        ("score_counts", "score_actions", "scores"),
        ("borrowed_counts", "borrowed_actions"),
    ):
        total = columns[counts].sum()
        if columns[counts].min(initial=0) < 0 or any(len(columns[n]) != total for n in joined):
            raise ValueError(f"holds `{counts}` that do not add up")
    if columns["identity"].shape != (rows, _DIGEST_BYTES):
        raise ValueError("holds identities of another length")
    for name in ("scores", "last_span", "last_kl", "repels"):
        if np.isnan(columns[name]).any() or (name == "scores" and np.isinf(columns[name]).any()):
            raise ValueError(f"is unsound: it holds {name} that are not finite")


def entries(columns: Mapping[str, ndarray]) -> list[Entry]:
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
        map(frozenset, _split(columns["borrowed_counts"], columns["borrowed_actions"], names)),
        *(columns[name].tolist() for name in _INTEGERS[1:4]),
        *(columns[name].tolist() for name in _FLOATS),
        strict=True,
    )
    with without_collection():
        return [Entry(*row) for row in rows]


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


def record(entry: Entry, identity: str, row: int, signature: int) -> dict[str, Any]:
    """An entry as plain values."""
    return {
        "slot": entry.slot,
        "identity": identity,
        "row": row,
        "goal": entry.goal,
        "text": entry.text,
        "scores": entry.scores.plain(),
        "borrowed": sorted(entry.borrowed),
        "last_use": entry.last_use,
        "hits": entry.hits,
        "audits": entry.audits,
        "last_span": entry.last_span,
        "last_kl": entry.last_kl,
        "repels": entry.repels,
        "warmth": entry.warmth,
        "signature": signature,
    }


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


def _number(numbers: dict[str, int], string: str) -> int:
    """The number of a string, the next one if it is new."""
    return numbers.setdefault(string, len(numbers))


def _digests(identities: Sequence[str]) -> UInt8[ndarray, "rows bytes"]:
    content = b"".join(map(bytes.fromhex, identities))
    return np.frombuffer(content, np.uint8).reshape(len(identities), _DIGEST_BYTES)


def _scores(columns: Mapping[str, ndarray], names: list[str]) -> Iterator[Scores]:
    values = array("d", columns["scores"].tobytes())
    start = 0
    for actions in _split(columns["score_counts"], columns["score_actions"], names):
        stop = start + len(actions)
        yield Scores(actions, values[start:stop])
        start = stop


def _split(counts: ndarray, numbers: ndarray, names: list[str]) -> Iterator[tuple[str, ...]]:
    """The strings of each entry."""
    joined: tuple[str, ...] = tuple([names[number] for number in numbers.tolist()])
    start = 0
    for count in counts.tolist():
        yield joined[start : start + count]
        start += count
