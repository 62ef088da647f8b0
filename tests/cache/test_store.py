"""The prior cache: capacity, recency, partitions, and coming back from disk unchanged."""

import dataclasses
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cepcli.cache import storage
from cepcli.cache.config import CacheConfig
from cepcli.cache.store import PriorCache, text_hash
from cepcli.errors import CacheError
from tests.fakes import NAMESPACE

DIM = 4


def unit(text: str) -> np.ndarray:
    random = np.random.default_rng(abs(int(text_hash("", text)[:8], 16)))
    key = random.standard_normal(DIM).astype(np.float32)
    return key / np.linalg.norm(key)


def make(capacity=5, mode="lru", **options) -> PriorCache:
    return PriorCache(CacheConfig(mode=mode, capacity=capacity, **options), DIM, NAMESPACE)


def insert(cache, text, goal="goal", **scores):
    key = unit(text) if cache.keyed else None
    return cache.insert(goal, text, key, scores or {"go": -1.0})


def order(cache):
    return [(entry.goal, entry.text) for entry in cache]


texts = st.sampled_from([f"text {number}" for number in range(8)])
goals = st.sampled_from(["red", "blue"])
histories = st.lists(st.tuples(st.sampled_from(["insert", "use", "remove"]), goals, texts))


def play(cache, history):
    for operation, goal, text in history:
        entry = cache.exact(goal, text)
        if operation == "insert":
            insert(cache, text, goal, go=-1.0, stay=-2.5)
        elif operation == "use" and entry:
            cache.use(entry)
        elif operation == "remove" and entry:
            cache.remove(entry)


@given(histories, st.integers(1, 5))
def test_the_cache_is_an_lru_of_its_capacity(history, capacity):
    cache, model = make(capacity), []
    for operation, goal, text in history:
        play(cache, [(operation, goal, text)])
        known = (goal, text) in model
        if known:
            model.remove((goal, text))
        if operation == "insert" or (operation == "use" and known):
            model.append((goal, text))
        model = model[-capacity:]
        assert order(cache) == model
        if operation == "insert":
            assert cache.exact(goal, text) is not None
            assert cache.nearest(goal, unit(text)).similarity == pytest.approx(1.0)
    assert len(cache) <= capacity


@given(histories, histories, st.sampled_from(["lru", "exact"]), st.booleans())
def test_a_loaded_cache_decides_exactly_as_the_saved_one(
    tmp_path_factory, before, after, mode, per_goal
):
    directory = tmp_path_factory.mktemp("cache")
    cache = make(mode=mode, per_goal=per_goal)
    play(cache, before)
    cache.save(directory)
    loaded = PriorCache.load(directory, NAMESPACE, cache.config)
    assert list(loaded) == list(cache)
    play(cache, after)
    play(loaded, after)
    assert list(loaded) == list(cache)
    if mode == "lru":
        for number in range(8):
            for goal in ("red", "blue"):
                key = unit(f"text {number}") + np.float32(0.1)
                assert loaded.nearest(goal, key) == cache.nearest(goal, key)


def test_saving_twice_writes_the_same_files_and_leaves_no_others(tmp_path):
    cache = make()
    insert(cache, "a")
    cache.save(tmp_path)
    insert(cache, "b")
    cache.save(tmp_path)
    first = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    PriorCache.load(tmp_path, NAMESPACE, cache.config).save(tmp_path)
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == first
    assert len(first) == 3


def test_a_save_that_is_cut_short_leaves_the_previous_cache_whole(tmp_path, monkeypatch):
    cache = make()
    insert(cache, "a")
    cache.save(tmp_path)
    insert(cache, "b")

    def killed(path, value):
        raise KeyboardInterrupt

    monkeypatch.setattr(storage.artifacts, "write_json", killed)
    with pytest.raises(KeyboardInterrupt):
        cache.save(tmp_path)
    assert order(PriorCache.load(tmp_path, NAMESPACE, cache.config)) == [("goal", "a")]


def test_text_with_any_characters_comes_back(tmp_path):
    cache = make()
    odd = 'line\u2028two\x85"\\\n\ud800 \U0001f600'
    insert(cache, odd, **{odd: -0.1 - 0.2})
    cache.save(tmp_path)
    (entry,) = PriorCache.load(tmp_path, NAMESPACE, cache.config)
    assert (entry.text, entry.scores) == (odd, {odd: -0.1 - 0.2})


def test_loading_into_a_smaller_capacity_keeps_the_most_recent(tmp_path):
    cache = make()
    for text in "abcd":
        insert(cache, text)
    cache.use(cache.exact("goal", "a"))
    cache.save(tmp_path)
    loaded = PriorCache.load(tmp_path, NAMESPACE, CacheConfig(mode="lru", capacity=2))
    assert order(loaded) == [("goal", "d"), ("goal", "a")]
    assert loaded.similar("goal", unit("d")) is not None
    assert loaded.similar("goal", unit("b")) is None


COMPONENTS = [("scorer", f.name) for f in dataclasses.fields(NAMESPACE.scorer)] + [
    ("", name) for name in ("normalisation", "key_encoder_sha256", "env_family")
]


@pytest.mark.parametrize(("part", "name"), COMPONENTS)
def test_another_namespace_is_refused_naming_both(tmp_path, part, name):
    cache = make()
    cache.save(tmp_path)
    if part:
        scorer = dataclasses.replace(NAMESPACE.scorer, **{name: "another"})
        other = dataclasses.replace(NAMESPACE, scorer=scorer)
    else:
        other = dataclasses.replace(NAMESPACE, **{name: "another"})
    with pytest.raises(CacheError) as error:
        PriorCache.load(tmp_path, other, cache.config)
    assert str(NAMESPACE) in error.value.message
    assert str(other) in error.value.message
    assert f"differ in {name}." in error.value.message


@pytest.mark.parametrize("pattern", ["cache.json", "entries-*.jsonl", "keys-*.npz"])
@pytest.mark.parametrize("damage", ["truncated", "foreign", "missing", "empty"])
def test_a_damaged_file_is_named_and_left_untouched(tmp_path, pattern, damage):
    cache = make()
    insert(cache, "a")
    cache.save(tmp_path)
    (path,) = tmp_path.glob(pattern)
    content = path.read_bytes()
    damaged = {"truncated": content[:-9], "foreign": b"x" * len(content), "empty": b""}
    path.unlink()
    if damage != "missing":
        path.write_bytes(damaged[damage])
    with pytest.raises(CacheError) as error:
        PriorCache.load(tmp_path, NAMESPACE, cache.config)
    named = str(tmp_path) if (pattern, damage) == ("cache.json", "missing") else str(path)
    assert named in error.value.message
    assert damage == "missing" or path.read_bytes() == damaged[damage]


def test_a_changed_digit_and_a_shorter_file_are_told_apart(tmp_path):
    cache = make()
    insert(cache, "a", go=-1.25)
    cache.save(tmp_path)
    (path,) = tmp_path.glob("entries-*.jsonl")
    content = path.read_bytes()
    for wrong, what in ((content.replace(b"-1.25", b"-1.35"), "sha256"), (content[:-1], "truncat")):
        path.write_bytes(wrong)
        with pytest.raises(CacheError, match=what):
            PriorCache.load(tmp_path, NAMESPACE, cache.config)


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"schema_version": 2}, "schema version 2"),
        ({"kind": "song"}, "not the head"),
        ({"namespace": {}}, "lacks"),
        ({"files": {}}, "lacks"),
        ({"dim": 7}, "shape"),
    ],
)
def test_a_head_that_does_not_fit_is_refused(tmp_path, change, what):
    cache = make()
    insert(cache, "a")
    cache.save(tmp_path)
    head = json.loads((tmp_path / "cache.json").read_text())
    (tmp_path / "cache.json").write_text(json.dumps(head | change))
    with pytest.raises(CacheError, match=what):
        PriorCache.load(tmp_path, NAMESPACE, cache.config)


def test_an_empty_directory_holds_no_cache(tmp_path):
    with pytest.raises(CacheError, match="no prior cache"):
        PriorCache.load(tmp_path, NAMESPACE, CacheConfig())


def test_a_cache_without_keys_cannot_be_used_for_similar_texts(tmp_path):
    cache = make(mode="exact")
    insert(cache, "a")
    cache.save(tmp_path)
    with pytest.raises(CacheError, match="no keys"):
        PriorCache.load(tmp_path, NAMESPACE, CacheConfig(mode="lru"))


def test_similar_texts_answer_from_the_threshold_on_and_within_their_goal():
    cache = make(threshold=0.9)
    insert(cache, "a", goal="red")
    key = unit("a")
    across = np.array([key[1], -key[0], key[3], -key[2]], np.float32)
    for cosine, found in ((0.95, True), (0.91, True), (0.89, False)):
        near = np.float32(cosine) * key + np.float32(np.sqrt(1 - cosine**2)) * across
        assert (cache.similar("red", near) is not None) is found
        assert cache.similar("blue", near) is None
        assert cache.nearest("red", near).similarity == pytest.approx(cosine, abs=1e-5)


def test_goals_share_entries_only_where_configured():
    cache = make(per_goal=False)
    insert(cache, "a", goal="red")
    assert cache.similar("blue", unit("a")) is not None
    assert cache.exact("blue", "a") is None


def test_a_read_only_view_sees_entries_and_changes_nothing():
    cache = make()
    entry = insert(cache, "a")
    insert(cache, "b")
    view = cache.frozen()
    before = [dataclasses.replace(e) for e in cache]
    view.use(entry)
    assert list(cache) == before
    assert view.exact("goal", "a") is entry
    with pytest.raises(AssertionError, match="read-only"):
        insert(view, "c")
    assert not cache.read_only
    insert(cache, "c")
    assert view.exact("goal", "c") is not None


def test_a_frozen_cache_stays_frozen():
    cache = make()
    entry = insert(cache, "a")
    cache.freeze()
    cache.use(entry)
    assert entry.hits == 0
    with pytest.raises(AssertionError, match="read-only"):
        insert(cache, "b")


def test_restore_takes_over_everything(tmp_path):
    cache = make()
    insert(cache, "a")
    cache.use(insert(cache, "b"))
    cache.save(tmp_path)
    fresh = make()
    fresh.restore(PriorCache.load(tmp_path, NAMESPACE, fresh.config))
    assert list(fresh) == list(cache)
    assert insert(fresh, "c") == insert(cache, "c")
