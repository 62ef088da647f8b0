"""Caches filled ahead of a run, and caches that start from a saved one."""

import dataclasses
import json

import numpy as np
import pytest

from cepcli.cache.cache_keys import CacheKeys
from cepcli.cache.config import CacheConfig
from cepcli.cache.disk import storage
from cepcli.cache.disk.storage import defects
from cepcli.cache.store import PriorCache
from cepcli.cache.warm import ask, distinct, filled, read_start, start_from, traced_scores
from cepcli.errors import CacheError
from cepcli.keys.config import HeadConfig
from cepcli.keys.hashing import HashEncoder
from cepcli.keys.key_encoder import KeyEncoder
from cepcli.prior.base import PriorShape
from cepcli.types import TextState
from cepcli.workspace.artifacts import Workspace
from tests.cache.worlds import trace_of
from tests.fakes import NAMESPACE, FakePrior

GOAL = "go to the ball"
MARKED, PLAIN = KeyEncoder(HashEncoder(), True), KeyEncoder(HashEncoder(), False)


def scores(count):
    """Texts of which one word in two decides, the last one the latest visited."""
    sides = ("left", "right")
    return {
        (GOAL, f"A box {n} steps ahead. The ball is {sides[n % 2]}."): {
            "go left": 3.0 * (n % 2 == 0), "go right": 3.0 * (n % 2)
        }
        for n in range(count)
    }  # fmt: skip


def config(**values):
    small = HeadConfig(steps=20, batch=64)
    return CacheConfig(**{"mode": "lru", "learned": small, "head_from": 10, **values})


def saved(tmp_path, count=12, keys=MARKED, **values):
    """A saved cache, found as a run's start."""
    chosen = config(**values)
    cache = filled(chosen, keys if chosen.keyed else None, NAMESPACE, PriorShape(), scores(count))
    storage.write_new(tmp_path / "w", cache.saved())
    return read_start(str(tmp_path / "w"), Workspace(tmp_path))


def started(start, keys=MARKED, namespace=NAMESPACE, **values):
    """A run's cache that starts from it, and its keys."""
    chosen = config(**values)
    own = CacheKeys(keys, namespace, PriorShape(), chosen, seed=1) if chosen.keyed else None
    bare = dataclasses.replace(namespace, key_encoder_sha256="")
    cache = PriorCache(chosen, own.dim if own else 1, own.namespace if own else bare)
    cache.key_head = own.head if own else {}
    assert start_from(start, cache, own) == len(cache)
    return cache, own


def test_a_filled_cache_has_every_text_and_a_head_learned_from_them():
    cache = filled(config(), MARKED, NAMESPACE, PriorShape(), scores(12))
    assert {(e.goal, e.text): dict(e.scores) for e in cache} == scores(12)
    assert (cache.dim, bool(cache.key_head)) == (32, True)
    assert defects(cache.saved()) == []
    for more in ({"head_from": 13}, {"learn_head": False}):
        bare = filled(config(**more), MARKED, NAMESPACE, PriorShape(), scores(12))
        assert (bare.dim, bare.key_head) == (2048, {})
    exact = filled(config(mode="exact"), None, NAMESPACE, PriorShape(), scores(12))
    assert (len(exact), exact.namespace.key_encoder_sha256) == (12, "")


@pytest.mark.parametrize("mode", ["lru", "certified", "fifo", "exact"])
def test_beyond_the_capacity_the_latest_stay(tmp_path, mode):
    start = saved(tmp_path)
    kept = list(scores(12))[-5:]
    cache, _ = started(start, mode=mode, capacity=5)
    assert [(e.goal, e.text) for e in cache] == kept
    again = filled(config(capacity=5), MARKED, NAMESPACE, PriorShape(), scores(12))
    assert [(e.goal, e.text) for e in again] == kept


def test_a_head_on_the_same_vectors_is_adopted_and_learned_anew_at_twice_the_size(
    tmp_path, monkeypatch
):
    start = saved(tmp_path)
    encoded = []
    monkeypatch.setattr(HashEncoder, "encode", lambda self, text: encoded.append(text))
    cache, keys = started(start)
    assert not encoded  # the saved keys are the run's
    monkeypatch.undo()
    assert cache.namespace == keys.namespace == start.saved.namespace
    entry = list(cache)[3]
    assert np.array_equal(cache.key(entry), start.saved.keys[3])
    assert not keys.learn(cache)
    for number in range(12):
        text = f"Nothing {number}."
        cache.insert(GOAL, text, keys.key(GOAL, text), {"go left": 1.0, "go right": 0.0})
    assert keys.learn(cache)


@pytest.mark.parametrize("own", ["encoder", "head"])
def test_keys_of_its_own_are_given_to_every_entry(tmp_path, own):
    start = saved(tmp_path)
    keys, values = PLAIN, {}
    if own == "head":
        other = filled(config(), MARKED, NAMESPACE, PriorShape(), scores(11))
        head = CacheKeys(MARKED, NAMESPACE, PriorShape(), config(), seed=0)
        head.adopt(other.key_head)
        keys, values = head._keys, {"head": "other.safetensors"}
    cache, made = started(start, keys=keys, **values)
    assert cache.namespace == made.namespace != start.saved.namespace
    if own == "head":
        assert made.namespace.key_encoder_sha256 == keys.sha256
    for entry in cache:
        assert np.array_equal(cache.key(entry), made.key(entry.goal, entry.text))
    assert {(e.goal, e.text): dict(e.scores) for e in cache} == scores(12)


def test_without_a_head_to_adopt_one_is_learned_at_once(tmp_path):
    start = saved(tmp_path, mode="exact")
    cache, keys = started(start)
    assert cache.key_head
    assert keys.dim == cache.dim == 32
    assert started(start, learn_head=False)[0].key_head == {}


def test_what_was_found_out_about_similarities_stays_behind(tmp_path):
    cache = filled(config(), MARKED, NAMESPACE, PriorShape(), scores(12))
    entry = list(cache)[3]
    cache.use(entry)
    cache.audited(entry, 1.0, 0.5)
    entry.repels = 0.9
    storage.write_new(tmp_path / "w", cache.saved())
    begun, _ = started(read_start(str(tmp_path / "w"), Workspace(tmp_path)))
    found = begun.exact(entry.goal, entry.text)
    assert (found.hits, found.audits, found.repels) == (0, 0, -1.0)
    assert found.scores == entry.scores
    assert list(begun)[-1] is found  # the most recently used
    assert begun.certificate is None


def test_another_scorer_is_refused_by_name_and_other_keys_are_not(tmp_path):
    start = saved(tmp_path)
    scorer = dataclasses.replace(NAMESPACE.scorer, model="other", revision="2")
    other = dataclasses.replace(NAMESPACE, scorer=scorer)
    with pytest.raises(CacheError, match=r"model=hash.*model=other.*in model, revision\.") as error:
        started(start, keys=PLAIN, namespace=other)
    assert "key_encoder_sha256" not in error.value.message
    with pytest.raises(CacheError, match=r"in env_family\."):
        started(start, namespace=dataclasses.replace(NAMESPACE, env_family="other"))


def test_a_malformed_head_or_entry_is_named(tmp_path):
    start = saved(tmp_path)
    broken = dataclasses.replace(start.saved, key_head={"hidden": np.zeros(3, np.float32)})
    with pytest.raises(CacheError, match="key head"):
        started(start._replace(saved=broken))
    columns = {**start.saved.columns, "texts": np.frombuffer(b"[1]", np.uint8)}
    broken = dataclasses.replace(start.saved, columns=columns)
    with pytest.raises(CacheError, match="malformed entry"):
        started(start._replace(saved=broken))


def test_scores_of_a_trace_are_in_order_of_last_visit():
    trace = trace_of(["a", "b", "c"], [[1.0, 0.0, 0.0]] * 3, [0, 1, 2, 0])
    assert [text for _, text in traced_scores(trace)] == ["b", "c", "a"]
    trace.scores.clear()
    with pytest.raises(CacheError, match="no fresh score"):
        traced_scores(trace)


def test_each_text_is_asked_once_with_every_action_it_has():
    visits = [("t", ("a",)), ("u", ("a",)), ("t", ("b", "a"))]
    states = distinct(TextState("g", text, actions) for text, actions in visits)
    assert states == [TextState("g", "u", ("a",)), TextState("g", "t", ("a", "b"))]
    many = [TextState("g", f"{number}", ("a", "b")) for number in range(40)]
    prior, told = FakePrior(), []
    asked = ask(prior, many, told.append)
    assert (asked.queries, asked.paid, told[-1], len(told) > 1) == (40, 40, 40, True)
    assert prior.asked == many
    for state in many:
        given = asked.scores[state.goal, state.text]
        assert list(given.values()) == prior.scores(state).tolist()


def test_a_new_cache_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    cache = filled(config(), MARKED, NAMESPACE, PriorShape(), scores(3))
    real = storage.artifacts.write_json

    def full(path, value):
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr(storage.artifacts, "write_json", full)
    with pytest.raises(Exception, match="disk is full"):
        storage.write_new(tmp_path / "w", cache.saved())
    assert not list(tmp_path.iterdir())
    monkeypatch.setattr(storage.artifacts, "write_json", real)
    storage.write_new(tmp_path / "w", cache.saved())
    with pytest.raises(CacheError, match="exists already"):
        storage.write_new(tmp_path / "w", cache.saved())
    assert json.loads((tmp_path / "w" / storage.HEAD).read_text())["size"] == 3
