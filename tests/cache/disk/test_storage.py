"""Files of a saved cache: what is refused, and how fast a large one comes back."""

import dataclasses
import sys

import numpy as np
import pytest

from cepcli.cache.config import CacheConfig
from cepcli.cache.disk import columns, storage
from cepcli.cache.store import PriorCache
from cepcli.errors import CacheError
from cepcli.types import TextState
from tests.fakes import NAMESPACE


@pytest.fixture
def directory(tmp_path):
    cache = PriorCache(CacheConfig(mode="lru", capacity=8), 4, NAMESPACE)
    for number in range(3):
        key = np.eye(4, dtype=np.float32)[number]
        cache.insert("goal", f"text {number}", key, {"go": -1.0 - number, "stay": -0.5})
    cache.save(tmp_path / "cache")
    return tmp_path / "cache"


def test_records_are_what_the_cache_holds_and_what_is_changed_there_is_written(directory):
    saved = storage.read(directory)
    assert [entry["text"] for entry in saved.entries] == ["text 0", "text 1", "text 2"]
    assert saved.entries[1]["scores"] == {"go": -2.0, "stay": -0.5}
    saved.entries[1]["scores"]["jump"] = -9.0
    storage.write(directory, saved)
    again = PriorCache.load(directory, NAMESPACE, CacheConfig(mode="lru"))
    entry = again.exact("goal", "text 1")
    assert entry.scores == {"go": -2.0, "stay": -0.5, "jump": -9.0}


def test_scores_that_early_versions_borrowed_from_similar_texts_are_refused(directory):
    saved = storage.read(directory)
    saved.columns["borrowed_actions"] = np.array([], np.int64)
    storage.write(directory, saved)
    assert len(storage.read(directory).entries) == 3
    saved.columns["borrowed_actions"] = np.array([0])
    saved._entries = None
    storage.write(directory, saved)
    with pytest.raises(CacheError, match="only early versions of cep stored"):
        storage.read(directory)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("part", ["keys", "entries"])
def test_what_is_not_finite_is_refused_naming_the_file(directory, part, value):
    saved = storage.read(directory)
    if part == "keys":
        saved.keys[1, 2] = value
    else:
        saved.entries[2]["scores"]["go"] = value
    storage.write(directory, saved)
    (path,) = directory.glob(f"{part}-*.npz")
    with pytest.raises(CacheError, match="not finite") as error:
        PriorCache.load(directory, NAMESPACE, CacheConfig(mode="lru"))
    assert str(path) in error.value.message


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"slot": np.arange(2)}, "different lengths"),
        ({"score_counts": np.array([2, 2, 3])}, "do not add up"),
        ({"score_counts": np.array([-2, 4, 4])}, "do not add up"),
        ({"identity": np.zeros((3, 7), np.uint8)}, "another length"),
        ({"repels": np.array([0.0, np.nan, 0.0])}, "not finite"),
        ({"texts": columns.encode_strings(["one"])}, "malformed"),
        ({"actions": np.zeros(3, np.uint8)}, "malformed"),
        ({"goal": np.array([7, 7, 7])}, "malformed"),
        ({"hits": None}, "lacks 'hits'"),
    ],
)
def test_columns_that_do_not_fit_are_refused(directory, change, what):
    saved = storage.read(directory)
    kept = {name: array for name, array in saved.columns.items() if name not in change}
    saved.columns = kept | {name: a for name, a in change.items() if a is not None}
    storage.write(directory, saved)
    with pytest.raises(CacheError, match=what):
        PriorCache.load(directory, NAMESPACE, CacheConfig(mode="lru"))


def test_a_graph_comes_back_and_damage_to_it_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr("cepcli.cache.index.GRAPH_FROM", 10)
    config = CacheConfig(mode="lru", capacity=40, index="hnsw", gate="off")
    cache = PriorCache(config, 4, NAMESPACE)
    random = np.random.default_rng(0)
    for number in range(60):
        key = random.standard_normal(4).astype(np.float32)
        cache.insert("goal", f"text {number}", key / np.linalg.norm(key), {"go": -1.0})
    cache.save(tmp_path)
    first = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert sum(name.startswith("graphs-") for name in first) == 1
    loaded = PriorCache.load(tmp_path, NAMESPACE, config)
    state = TextState("goal", "another text", ())
    for _ in range(50):
        key = random.standard_normal(4).astype(np.float32)
        assert loaded.nearest(state, key) == cache.nearest(state, key)
    loaded.save(tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == first
    flat = PriorCache.load(tmp_path, NAMESPACE, dataclasses.replace(config, index="flat"))
    assert len(flat) == 40
    saved = storage.read(tmp_path)
    saved.graphs["0/links"][:] = 255
    storage.write(tmp_path, saved)
    with pytest.raises(CacheError, match="malformed"):
        PriorCache.load(tmp_path, NAMESPACE, config)


def large(entries, dim=384):
    """A saved cache, made without building one."""
    random = np.random.default_rng(0)
    keys = random.standard_normal((entries, dim), dtype=np.float32)
    keys /= np.linalg.norm(keys, axis=1, keepdims=True)
    names = [f"do thing {number}" for number in range(60)]
    picks = random.integers(52, size=entries).tolist()
    records = [
        {
            "slot": number, "identity": f"{number:032x}", "row": number, "goal": "goal",
            "text": f"state {number} ".ljust(150, "x"), "last_use": number,
            "scores": dict.fromkeys(names[pick : pick + 8], -1.25), "hits": 0, "audits": 0,
            "last_span": 0.0, "last_kl": 0.0, "repels": -1.0, "warmth": 0.0, "signature": number,
        }
        for number, pick in enumerate(picks)
    ]  # fmt: skip
    state = {"clock": entries, "next_slot": entries, "signed": "words-1 focus=True"}
    return storage.Saved(NAMESPACE, "lru", dim, state, columns.pack(records), keys)


def calls_to_load(directory, entries):
    """Function calls that loading a cache of so many entries makes, which no busy machine changes.

    Work inside numpy counts as one call.
    """
    config, made = CacheConfig(mode="lru", capacity=entries, index="flat"), 0

    def count(frame, event, argument):
        nonlocal made
        made += event in ("call", "c_call")

    sys.setprofile(count)
    try:
        cache = PriorCache.load(directory, NAMESPACE, config)
    finally:
        sys.setprofile(None)
    assert len(cache) == entries
    return made


@pytest.mark.parametrize("entries", [3000, pytest.param(100_000, marks=pytest.mark.slow)])
def test_loading_takes_work_in_proportion(tmp_path, entries):
    made = []
    for count in (entries // 10, entries):
        storage.write(tmp_path / str(count), large(count, dim=64))
        made.append(calls_to_load(tmp_path / str(count), count))
    assert made[1] < 11 * made[0]
