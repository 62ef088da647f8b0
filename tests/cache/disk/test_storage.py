"""Files of a saved cache: older schemas, what is refused, and how fast a large one comes back."""

import dataclasses
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

from cepcli.cache.config import CacheConfig
from cepcli.cache.disk import columns, storage
from cepcli.cache.disk.verify import defects
from cepcli.cache.store import PriorCache
from cepcli.errors import CacheError
from cepcli.types import TextState
from tests.fakes import NAMESPACE

V1 = Path(__file__).parent / "fixtures" / "cache-v1"
V2 = V1.with_name("cache-v2")


@pytest.fixture
def directory(tmp_path):
    cache = PriorCache(CacheConfig(mode="lru", capacity=8), 4, NAMESPACE)
    for number in range(3):
        key = np.eye(4, dtype=np.float32)[number]
        cache.insert("goal", f"text {number}", key, {"go": -1.0 - number, "stay": -0.5})
    cache.save(tmp_path / "cache")
    return tmp_path / "cache"


def test_a_cache_of_schema_1_comes_back_whole():
    config = CacheConfig(mode="lru", capacity=4, gate="off")
    cache = PriorCache.load(V1, NAMESPACE, config)
    assert [(e.slot, e.goal, e.text) for e in cache] == [
        (2, "blue", "text 2 é\U0001f600"),
        (3, "red", "text 3"),
        (4, "blue", "text 4"),
        (1, "red", "text 1"),
    ]
    used = cache.exact("red", "text 1")
    assert used is not None
    assert used.scores == {"go": -1.1, "take [key]": -0.25, "open": -3.5}
    assert set(used.borrowed) == {"open"}
    assert (used.hits, used.last_use, used.audits) == (2, 7, 1)
    assert (used.last_span, used.last_kl, used.repels) == (0.75, 0.0625, -1.0)
    key = np.eye(4, dtype=np.float32)[1]
    assert cache.nearest(TextState("red", "", ()), key) == (used, 1.0)
    assert (
        cache.nearest(TextState("blue", "", ()), np.eye(4, dtype=np.float32)[0]).entry.text
        == "text 4"
    )
    assert (cache.knobs, cache.ghost_hits) == (config.knobs, 0)
    entry = cache.insert("red", "new", key, {"go": -1.0})
    assert (entry.slot, entry.last_use) == (5, 8)
    assert cache.exact("blue", "text 2 é\U0001f600") is None


def test_a_cache_of_schema_1_is_sound_and_is_written_as_the_present_one(tmp_path):
    old = storage.read(V1)
    assert defects(old) == []
    storage.write(tmp_path, old)
    new = storage.read(tmp_path)
    assert new.entries == old.entries
    np.testing.assert_array_equal(new.keys, old.keys)
    assert '"schema_version": 3' in (tmp_path / "cache.json").read_text()


def test_a_cache_of_schema_2_had_another_number_for_no_threshold():
    config = CacheConfig(mode="certified", capacity=4, focus=False)
    cache = PriorCache.load(V2, NAMESPACE, config)
    assert [entry.text for entry in cache] == ["text 0", "text 1", "text 2"]
    assert cache.knobs == (8, None, 0.1)  # where its controller had left them
    assert storage.read(V2).state["configured"] == [4, None, 0.02]


def test_saving_over_a_cache_of_schema_1_leaves_no_file_of_it(tmp_path):
    shutil.copytree(V1, tmp_path / "cache")
    config = CacheConfig(mode="lru", capacity=4, gate="off")
    PriorCache.load(tmp_path / "cache", NAMESPACE, config).save(tmp_path / "cache")
    suffixes = sorted(path.suffix for path in (tmp_path / "cache").iterdir())
    assert suffixes == [".json", ".npz", ".npz"]


def test_a_malformed_line_of_schema_1_is_named(tmp_path):
    import hashlib
    import json

    shutil.copytree(V1, tmp_path / "cache")
    (path,) = (tmp_path / "cache").glob("entries-*.jsonl")
    for line in ("[]", '{"goal": "red"}', "not JSON"):
        content = line.encode()
        path.write_bytes(content)
        head = json.loads((V1 / "cache.json").read_text())
        head["files"]["entries"] |= {
            "bytes": len(content),
            "sha256": hashlib.sha256(content).hexdigest(),
        }
        (tmp_path / "cache" / "cache.json").write_text(json.dumps(head))
        with pytest.raises(CacheError, match="malformed entry") as error:
            storage.read(tmp_path / "cache")
        assert str(path) in error.value.message


def test_records_are_what_the_cache_holds_and_what_is_changed_there_is_written(directory):
    saved = storage.read(directory)
    assert [entry["text"] for entry in saved.entries] == ["text 0", "text 1", "text 2"]
    assert saved.entries[1]["scores"] == {"go": -2.0, "stay": -0.5}
    assert saved.entries[1]["borrowed"] == []
    saved.entries[1]["scores"]["jump"] = -9.0
    saved.entries[1]["borrowed"].append("jump")
    storage.write(directory, saved)
    again = PriorCache.load(directory, NAMESPACE, CacheConfig(mode="lru"))
    entry = again.exact("goal", "text 1")
    assert entry.scores == {"go": -2.0, "stay": -0.5, "jump": -9.0}
    assert set(entry.borrowed) == {"jump"}


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
            "text": f"state {number} ".ljust(150, "x"), "borrowed": [], "last_use": number,
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
