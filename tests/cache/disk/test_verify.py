"""What `verify` finds in a cache of any mode; each single defect is tested with the command."""

import numpy as np
import pytest

from cepcli.cache.config import CacheConfig
from cepcli.cache.disk.storage import defects
from cepcli.cache.store import PriorCache
from tests.fakes import NAMESPACE

MODES = ["exact", "lru", "fifo", "surrogate", "certified"]


def filled(mode):
    cache = PriorCache(CacheConfig(mode=mode, capacity=4), 3, NAMESPACE)
    for number in range(6):
        key = np.eye(3, dtype=np.float32)[number % 3] if cache.keyed else None
        cache.insert("goal", f"text {number}", key, {"go": -1.0})
    entry = cache.exact("goal", "text 3")
    assert entry is not None
    cache.use(entry)
    return cache.saved()


@pytest.mark.parametrize("mode", MODES)
def test_a_cache_of_any_mode_is_sound(mode):
    assert defects(filled(mode)) == []


@pytest.mark.parametrize("mode", MODES)
def test_keys_that_are_missing_or_too_many_are_found(mode):
    saved = filled(mode)
    saved.keys = np.ones((3, 3), np.float32)
    (first, *_) = defects(saved)
    assert first == f"There are 3 keys, expected {0 if mode == 'exact' else 4}."


def test_an_entry_that_was_set_aside_is_sound():
    saved = filled("certified")
    saved.columns["repels"][2] = np.inf
    assert defects(saved) == []


@pytest.mark.parametrize("repels", [-1.5, 1.5, float("nan"), float("-inf")])
def test_a_similarity_out_of_range_is_found(repels):
    saved = filled("lru")
    saved.entries[2]["repels"] = repels
    assert defects(saved) == [f"Entry 2 repels up to {repels}, which is no cosine."]
