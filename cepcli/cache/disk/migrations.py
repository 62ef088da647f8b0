"""Brings caches that older versions of cep wrote up to the present schema, one version a step."""

import json
import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy import ndarray

from cepcli.cache.disk import columns

#: By part ("entries", "keys", "graphs"), its arrays by name.
Parts = dict[str, dict[str, ndarray]]


def m001_entries_become_columns(
    state: dict[str, Any], parts: Parts
) -> tuple[dict[str, Any], Parts]:
    """JSON lines become columns; entries repel nothing, and of their uses only the number is known.

    Raises:
        ValueError: if a line is not an entry.
    """
    lines = parts["entries"]["content"].tobytes().decode().splitlines()
    try:
        records = [_m001_record(json.loads(line)) for line in lines]
        packed = columns.pack(records)
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(repr(error)) from error
    return state, parts | {"entries": packed | {"ghosts": np.zeros(0, np.uint64)}}


def _m001_record(record: dict[str, Any]) -> dict[str, Any]:
    return record | {
        "identity": record["identity"][:32],
        "repels": -1.0,
        "warmth": math.log2(1.0 + record["hits"]),
        "signature": 0,
    }


def m002_signatures_and_no_threshold(
    state: dict[str, Any], parts: Parts
) -> tuple[dict[str, Any], Parts]:
    """Signatures are not known yet; where no similar text may answer, δ is None instead of 2.

    Raises:
        ValueError: if the parameters are not three numbers.
    """
    moved = dict(state)
    for name in ("knobs", "configured"):
        if name in state:
            try:
                capacity, threshold, refresh_rate = state[name]
                moved[name] = [capacity, None if threshold > 1.0 else threshold, refresh_rate]
            except TypeError as error:
                raise ValueError(repr(error)) from error
    unsigned = np.zeros(len(parts["entries"]["slot"]), np.int64)
    return moved, parts | {"entries": {"signature": unsigned, **parts["entries"]}}


#: What brings a cache of each version to the next one.
MIGRATIONS: dict[int, Callable[[dict[str, Any], Parts], tuple[dict[str, Any], Parts]]] = {
    1: m001_entries_become_columns,
    2: m002_signatures_and_no_threshold,
}
