"""The integrity of a saved cache: everything that must hold and can be checked without the LLM."""

import itertools
import math
from typing import Any

import numpy as np

from cepcli.cache.config import is_keyed
from cepcli.cache.disk.storage import Saved
from cepcli.cache.entry import text_hash

_NORM_TOLERANCE = 1e-3


def defects(saved: Saved) -> list[str]:
    """What is wrong with a cache, one sentence each; empty if it is sound."""
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
    if not set(entry.get("borrowed", ())) <= set(scores):
        found.append("borrows a score that it does not have")
    return found
