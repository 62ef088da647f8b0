"""The prior cache: capacity, recency, partitions, and coming back from disk unchanged."""

import dataclasses
import gc
import json
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cepcli.cache.config import CacheConfig, Knobs
from cepcli.cache.disk import storage
from cepcli.cache.entries import text_hash
from cepcli.cache.store import PriorCache
from cepcli.errors import CacheError
from cepcli.types import TextState
from tests.fakes import NAMESPACE

DIM = 4


def nearest(cache, goal, key, text="another text"):
    """The nearest entry to a key; what the text says is of no interest without a gate."""
    return cache.nearest(TextState(goal, text, ()), key)


def similar(cache, goal, key):
    """The nearest entry, if it answers."""
    found = nearest(cache, goal, key)
    return found if found and cache.answers(found) else None


def unit(text: str) -> np.ndarray:
    random = np.random.default_rng(abs(int(text_hash("", text)[:8], 16)))
    key = random.standard_normal(DIM).astype(np.float32)
    return key / np.linalg.norm(key)


def make(capacity=5, mode="lru", gate="off", **options) -> PriorCache:
    config = CacheConfig(mode=mode, capacity=capacity, gate=gate, **options)
    return PriorCache(config, DIM, NAMESPACE)


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
            assert nearest(cache, goal, unit(text)).similarity == pytest.approx(1.0)
    assert len(cache) <= capacity


@given(histories, histories, st.sampled_from(["lru", "exact"]), st.booleans())
def test_a_loaded_cache_decides_exactly_as_the_saved_one(
    tmp_path_factory, before, after, mode, pool_goals
):
    directory = tmp_path_factory.mktemp("cache")
    cache = make(mode=mode, pool_goals=pool_goals)
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
                assert nearest(loaded, goal, key) == nearest(cache, goal, key)


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
    loaded = PriorCache.load(tmp_path, NAMESPACE, make(capacity=2).config)
    assert order(loaded) == [("goal", "d"), ("goal", "a")]
    assert similar(loaded, "goal", unit("d")) is not None
    assert similar(loaded, "goal", unit("b")) is None


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


@pytest.mark.parametrize("pattern", ["cache.json", "entries-*.npz", "keys-*.npz"])
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
    (path,) = tmp_path.glob("entries-*.npz")
    content = path.read_bytes()
    changed = content.replace(np.float64(-1.25).tobytes(), np.float64(-1.35).tobytes())
    for wrong, what in ((changed, "sha256"), (content[:-1], "truncat")):
        path.write_bytes(wrong)
        with pytest.raises(CacheError, match=what):
            PriorCache.load(tmp_path, NAMESPACE, cache.config)


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"schema_version": 4}, "schema version 4"),
        ({"schema_version": 0}, "schema version 0"),
        ({"schema_version": None}, "schema version None"),
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
    cache = make(threshold=0.9, pool_goals=False)
    insert(cache, "a", goal="red")
    key = unit("a")
    across = np.array([key[1], -key[0], key[3], -key[2]], np.float32)
    for cosine, found in ((0.95, True), (0.91, True), (0.89, False)):
        near = np.float32(cosine) * key + np.float32(np.sqrt(1 - cosine**2)) * across
        assert (similar(cache, "red", near) is not None) is found
        assert similar(cache, "blue", near) is None
        assert nearest(cache, "red", near).similarity == pytest.approx(cosine, abs=1e-5)


def test_goals_share_entries_only_where_configured():
    cache = make(pool_goals=True)
    insert(cache, "a", goal="red")
    assert similar(cache, "blue", unit("a")) is not None
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


def test_a_frozen_view_notes_no_use_and_stores_nothing():
    cache = make()
    entry = insert(cache, "a")
    view = cache.frozen()
    view.use(entry)
    assert entry.hits == 0
    with pytest.raises(AssertionError, match="read-only"):
        insert(view, "b")


def test_restore_takes_over_everything(tmp_path):
    cache = make()
    insert(cache, "a")
    cache.use(insert(cache, "b"))
    cache.save(tmp_path)
    fresh = make()
    fresh.restore(PriorCache.load(tmp_path, NAMESPACE, fresh.config))
    assert list(fresh) == list(cache)
    assert insert(fresh, "c") == insert(cache, "c")


def test_a_cache_starts_with_the_knobs_of_its_configuration():
    cache = make(7, threshold=0.9, refresh_rate=0.25)
    assert cache.knobs == Knobs(7, 0.9, 0.25)
    assert make(mode="certified", capacity=7).knobs.threshold is None


def beside(key, cosine):
    """A unit key at a cosine to another one."""
    across = np.array([key[1], -key[0], key[3], -key[2]], np.float32)
    return (cosine * key + np.sqrt(1 - cosine**2) * across).astype(np.float32)


def test_similar_texts_answer_by_the_threshold_of_the_moment():
    cache = make(threshold=0.9)
    insert(cache, "a")
    near = beside(unit("a"), 0.95)
    assert similar(cache, "goal", near) is not None
    cache.set_knobs(cache.knobs._replace(threshold=0.97))
    assert similar(cache, "goal", near) is None
    cache.set_knobs(cache.knobs._replace(threshold=None))
    assert similar(cache, "goal", unit("a")) is None
    assert cache.exact("goal", "a") is not None


def test_at_threshold_one_only_identical_keys_answer():
    cache = make(threshold=1.0)
    random = np.random.default_rng(0)
    for number in range(200):
        key = random.standard_normal(DIM).astype(np.float32)
        key /= np.linalg.norm(key)
        cache.insert(f"goal {number}", "text", key, {"go": -1.0})
        found = similar(cache, f"goal {number}", key.copy())
        assert found is not None
        assert found.similarity == 1.0
        other = key.copy()
        other[0] = np.nextafter(key[0], np.float32(2.0))
        assert similar(cache, f"goal {number}", other) is None
        assert nearest(cache, f"goal {number}", other).similarity < 1.0


def test_an_entry_that_was_wrong_answers_only_more_similar_texts():
    cache = make(threshold=0.5)
    entry = insert(cache, "a")
    assert similar(cache, "goal", beside(unit("a"), 0.6)) is not None
    entry.repels = 0.8
    assert similar(cache, "goal", beside(unit("a"), 0.6)) is None
    assert similar(cache, "goal", beside(unit("a"), 0.79)) is None
    assert similar(cache, "goal", beside(unit("a"), 0.81)) is not None
    assert nearest(cache, "goal", beside(unit("a"), 0.6)).entry is entry


def test_a_fresh_entry_repels_nothing():
    cache = make(threshold=-1.0)
    insert(cache, "a")
    assert similar(cache, "goal", beside(unit("a"), -0.9999)) is not None


def test_a_smaller_capacity_evicts_at_once_and_a_larger_one_makes_room():
    cache = make(5, mode="surrogate", most_capacity=8)
    for text in "abcde":
        insert(cache, text)
    cache.set_knobs(cache.knobs._replace(capacity=2))
    assert order(cache) == [("goal", "d"), ("goal", "e")]
    assert nearest(cache, "goal", unit("a")).entry.text in "de"
    cache.set_knobs(cache.knobs._replace(capacity=8))
    for text in "fghijklm":
        insert(cache, text)
    assert len(cache) == 8
    for capacity in (0, 9):
        with pytest.raises(AssertionError):
            cache.set_knobs(cache.knobs._replace(capacity=capacity))


def test_a_cache_of_one_entry_keeps_the_last():
    for mode in ("lru", "fifo", "certified", "exact"):
        cache = make(1, mode=mode, eviction=None)
        insert(cache, "a")
        insert(cache, "b")
        assert order(cache) == [("goal", "b")]


def test_evict_forgets_the_next_to_go_and_remembers_it_as_gone():
    cache = make(capacity=3)
    for text in "abc":
        insert(cache, text)
    cache.use(cache.exact("goal", "a"))
    cache.evict()
    assert [text for _, text in order(cache)] == ["c", "a"]
    insert(cache, "b")
    assert cache.ghost_hits == 1


def test_texts_that_come_back_after_their_eviction_are_counted_once():
    cache = make(2)
    for text in "abc":
        insert(cache, text)
    assert cache.ghost_hits == 0
    insert(cache, "a")
    assert cache.ghost_hits == 1
    insert(cache, "a")
    cache.remove(cache.exact("goal", "a"))
    insert(cache, "a")
    assert cache.ghost_hits == 1


def test_knobs_and_ghosts_come_back(tmp_path):
    cache = make(4, mode="surrogate", threshold=0.9)
    for text in "abcdefgh":
        insert(cache, text)
    moved = Knobs(3, 0.8, 0.5)
    cache.set_knobs(moved)
    cache.exact("goal", "h").repels = 0.75
    insert(cache, "a")
    cache.save(tmp_path)
    loaded = PriorCache.load(tmp_path, NAMESPACE, cache.config)
    assert (loaded.knobs, loaded.ghost_hits) == (moved, 1)
    assert loaded.exact("goal", "h").repels == 0.75
    for other in (cache, loaded):
        insert(other, "b")
        insert(other, "zzz")
    assert loaded.ghost_hits == cache.ghost_hits == 2
    assert order(loaded) == order(cache)


def test_what_the_configuration_sets_anew_goes_before_what_a_controller_left(tmp_path):
    cache = make(4, mode="surrogate", threshold=0.9, refresh_rate=0.1)
    cache.set_knobs(Knobs(3, 0.8, 0.5))
    cache.save(tmp_path)

    def knobs(**options):
        base = {"mode": "surrogate", "capacity": 4, "threshold": 0.9, "refresh_rate": 0.1}
        return PriorCache.load(tmp_path, NAMESPACE, CacheConfig(**{**base, **options})).knobs

    assert knobs() == Knobs(3, 0.8, 0.5)
    assert knobs(threshold=0.95) == Knobs(3, 0.95, 0.5)
    assert knobs(capacity=2) == Knobs(2, 0.8, 0.5)
    assert knobs(refresh_rate=0.2) == Knobs(3, 0.8, 0.2)
    assert knobs(mode="lru") == Knobs(4, 0.9, 0.1)


def test_a_promise_comes_back_in_the_mode_that_made_it_and_in_no_other(tmp_path):
    cache = make(4, mode="certified")
    assert cache.certificate is None
    cache.certificate = {"threshold": 0.9}
    cache.save(tmp_path)

    def promised(mode):
        config = CacheConfig(mode=mode, capacity=4)
        return PriorCache.load(tmp_path, NAMESPACE, config).certificate

    assert promised("certified") == {"threshold": 0.9}
    assert promised("lru") is None


def test_restore_takes_over_knobs_and_stays_what_it_was(tmp_path):
    cache = make(4, mode="surrogate")
    cache.set_knobs(Knobs(2, 0.8, 0.5))
    insert(cache, "a")
    cache.save(tmp_path)
    fresh = make(4, mode="surrogate")
    fresh.restore(PriorCache.load(tmp_path, NAMESPACE, fresh.config))
    assert fresh.knobs == Knobs(2, 0.8, 0.5)
    assert not fresh.read_only
    assert order(fresh) == [("goal", "a")]


@pytest.mark.parametrize("index", ["flat", "hnsw"])
def test_every_index_serves_the_cache_alike_and_comes_back(tmp_path, index, monkeypatch):
    monkeypatch.setattr("cepcli.cache.index.GRAPH_FROM", 5)
    cache = make(30, index=index, threshold=0.9)
    for number in range(50):
        entry = insert(cache, f"text {number}", goal="red" if number % 3 else "blue")
        assert similar(cache, entry.goal, unit(entry.text)).entry is entry
    cache.save(tmp_path)
    loaded = PriorCache.load(tmp_path, NAMESPACE, cache.config)
    for number in range(60):
        for goal in ("red", "blue"):
            assert nearest(loaded, goal, unit(f"text {number}")) == nearest(
                cache, goal, unit(f"text {number}")
            )
    insert(loaded, "another", goal="red")
    assert len(loaded) == 30
    smaller = PriorCache.load(tmp_path, NAMESPACE, dataclasses.replace(cache.config, capacity=7))
    assert [e.text for e in smaller] == [e.text for e in cache][-7:]
    assert nearest(smaller, "red", unit("text 49")).entry.text == "text 49"


def bytes_per_entry(policy, count):
    """What an entry takes beyond its key in a full cache."""
    verbs, things = ("take", "open", "drop", "close", "eat"), ("door", "box", "key", "lamp")
    names = [f"{verb} the {thing}" for verb in verbs for thing in things]
    random = np.random.default_rng(0)
    config = CacheConfig(mode="lru", capacity=count, eviction=policy, index="flat")
    cache = PriorCache(config, 1, NAMESPACE)
    tracemalloc.start()
    for number in range(2 * count):
        text = f"state {number} ".ljust(150, "x")
        actions = [str(bytearray(names[i], "ascii"), "ascii") for i in random.permutation(20)]
        scores = {action: float(random.normal()) for action in actions[:8]}
        entry = cache.insert("goal", text, np.ones(1, np.float32), scores)
        cache.use(entry)
    gc.collect()
    taken = tracemalloc.get_traced_memory()[0] / count
    tracemalloc.stop()
    return taken


@pytest.mark.parametrize(
    "policy",
    ["lru", "utility", *(pytest.param(p, marks=pytest.mark.slow) for p in ("fifo", "lfu"))],
)
def test_what_an_entry_takes_beyond_its_key_is_under_a_kilobyte(policy):
    bytes_per_entry("lru", 100)  # what the first one ever brings along is no entry's
    assert bytes_per_entry(policy, 1500) < 1024


def test_an_entry_set_aside_answers_its_own_text_and_is_nobodys_nearest():
    cache = make()
    old = insert(cache, "old")
    cache.set_aside()
    new = insert(cache, "new")
    assert cache.is_set_aside(old)
    assert not cache.is_set_aside(new)
    assert cache.exact("goal", "old") is old
    assert nearest(cache, "goal", unit("old")).entry is new
    cache.remove(new)
    assert nearest(cache, "goal", unit("old")) is None


def test_an_entry_that_repels_identical_keys_is_nobodys_nearest_until_there_are_others(tmp_path):
    cache = make()
    entry = insert(cache, "text")
    cache.repel(entry, 0.9)
    cache.repel(entry, 0.8)
    assert entry.repels == 0.9
    assert nearest(cache, "goal", unit("text")).entry is entry
    cache.repel(entry, 1.0)
    assert not cache.is_set_aside(entry)
    assert nearest(cache, "goal", unit("text")) is None
    cache.save(tmp_path / "cache")
    loaded = PriorCache.load(tmp_path / "cache", NAMESPACE, cache.config)
    for one in (cache, loaded):
        assert nearest(one, "goal", unit("text")) is None
        one.rekey(lambda goal, text: unit(text + "!"), DIM, NAMESPACE, {})
        assert nearest(one, "goal", unit("text!")).similarity == 1.0
    cache.repel(entry, 1.0)
    cache.set_aside()
    cache.repel(entry, 1.0)
    assert cache.is_set_aside(entry)


def test_entries_set_aside_need_no_graph(tmp_path, monkeypatch):
    monkeypatch.setattr("cepcli.cache.index.GRAPH_FROM", 5)
    cache = make(capacity=20, index="hnsw")
    for number in range(10):
        insert(cache, str(number))
    cache.set_aside()
    cache.save(tmp_path / "cache")
    loaded = PriorCache.load(tmp_path / "cache", NAMESPACE, cache.config)
    for one in (cache, loaded):
        assert not one.saved().graphs
        assert np.array_equal(one.key(one.exact("goal", "3")), unit("3"))


def test_a_text_that_gets_an_entry_was_not_lent_an_answer():
    cache = make(mode="certified")
    cache.lend("goal", "text")
    assert cache.was_lent("goal", "text")
    insert(cache, "text")
    assert not cache.was_lent("goal", "text")


def test_entries_set_aside_stay_so_on_disk_under_new_keys_and_can_be_evicted(tmp_path):
    cache = make(capacity=3)
    for text in ("a", "b"):
        insert(cache, text)
    cache.set_aside()
    insert(cache, "c")
    cache.save(tmp_path / "cache")
    loaded = PriorCache.load(tmp_path / "cache", NAMESPACE, cache.config)
    for one in (cache, loaded):
        assert [one.is_set_aside(entry) for entry in one] == [True, True, False]
        assert nearest(one, "goal", unit("a")).entry.text == "c"
        assert np.array_equal(one.key(one.exact("goal", "a")), unit("a"))
        one.rekey(lambda goal, text: unit(text + "!"), DIM, NAMESPACE, {})
        assert nearest(one, "goal", unit("a!")).entry.text == "c"
        insert(one, "d")
        assert one.exact("goal", "a") is None
        assert len(one) == 3
