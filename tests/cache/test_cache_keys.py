"""Keys that a cache learns from its own entries: when, from what, and what happens to the rest."""

import json

import numpy as np
import pytest

from cepcli.cache import cache_keys
from cepcli.cache.cache_keys import CacheKeys
from cepcli.cache.config import CacheConfig
from cepcli.cache.disk.storage import key_head_of, read
from cepcli.cache.replay.play import KeyTable, replay
from cepcli.cache.store import PriorCache
from cepcli.errors import CacheError
from cepcli.keys.config import HeadConfig
from cepcli.keys.hashing import HashEncoder
from cepcli.keys.head import train_head
from cepcli.keys.key_encoder import KeyEncoder
from cepcli.prior.base import PriorShape
from cepcli.types import TextState
from tests.cache.worlds import ACTIONS, trace_of
from tests.fakes import NAMESPACE

COLOURS, SIDES = ("red", "blue", "green", "grey"), ("left", "right")
GOAL = "leave"


def world(count, seed=0):
    """Texts of which one word in many decides what to do, and the scores."""
    random = np.random.default_rng(seed)
    scores = {}
    while len(scores) < count:
        noise = " ".join(f"A {colour} box {random.integers(9)} steps ahead." for colour in COLOURS)
        side = SIDES[random.integers(2)]
        text = f"{noise} The ball is {side}."
        scores[text] = [3.0, 0.0, 0.0] if side == "left" else [0.0, 3.0, 0.0]
    return list(scores), list(scores.values())


def made(**values):
    """A cache and its keys."""
    small = HeadConfig(steps=60, batch=64)
    defaults = {"capacity": 1000, "gate": "off", "learned": small, "head_from": 20}
    config = CacheConfig(mode="lru", **{**defaults, **values})
    encoder = KeyEncoder(HashEncoder(), True)
    keys = CacheKeys(encoder, NAMESPACE, PriorShape(), config, seed=0)
    return PriorCache(config, keys.dim, keys.namespace), keys


def fill(cache, keys, count, start=0, actions=ACTIONS):
    texts, scores = world(200)
    for text, row in list(zip(texts, scores, strict=True))[start : start + count]:
        cache.insert(GOAL, text, keys.key(GOAL, text), dict(zip(actions, row, strict=True)))


def test_a_head_is_learned_at_the_first_size_and_at_every_doubling():
    cache, keys = made()
    learned = []
    for number in range(100):
        fill(cache, keys, 1, start=number)
        if keys.learn(cache):
            learned.append(len(cache))
    assert learned == [20, 40, 80]
    assert not keys.learn(cache)


def test_a_small_cache_learns_from_what_it_holds_by_how_much_it_has_stored():
    cache, keys = made(capacity=10)
    learned = []
    for number in range(100):
        fill(cache, keys, 1, start=number)
        if keys.learn(cache):
            learned.append(number + 1)
    assert learned == [20, 40, 80]
    assert len(cache) == 10


def test_no_more_texts_are_learned_from_than_asked(monkeypatch):
    asked = []

    def counted(goals, *rest, **options):
        asked.append(len(goals))
        return train_head(goals, *rest, **options)

    monkeypatch.setattr(cache_keys, "train_head", counted)
    cache, keys = made(learned=HeadConfig(steps=2, most_texts=12))
    fill(cache, keys, 30)
    assert keys.learn(cache)
    assert asked == [12]


def test_every_entry_gets_its_new_key_and_the_namespace_says_which():
    cache, keys = made()
    fill(cache, keys, 30)
    entry = next(iter(cache))
    entry.repels = 0.9
    before, dim = cache.namespace, keys.dim
    assert keys.learn(cache)
    assert (dim, keys.dim, cache.dim) == (2048, 32, 32)
    assert cache.namespace == keys.namespace != before
    assert entry.repels == -1.0  # a similarity under the old keys
    for one in cache:
        assert np.array_equal(cache.key(one), keys.key(one.goal, one.text))
        assert (
            cache.nearest(
                TextState(one.goal, one.text, ()), keys.key(one.goal, one.text)
            ).similarity
            == 1.0
        )


def test_entries_that_were_set_aside_teach_nothing():
    cache, keys = made()
    fill(cache, keys, 30)
    cache.set_aside()
    assert not keys.learn(cache)


def test_no_head_is_learned_where_it_is_switched_off_or_given_or_nothing_can_be_compared():
    for options in ({"learn_head": False}, {"head": "file.safetensors"}):
        cache, keys = made(**options)
        fill(cache, keys, 30)
        assert not keys.learn(cache)
    cache, keys = made()
    for number in range(30):  # no two texts have an action in common
        fill(cache, keys, 1, start=number, actions=[f"{a} {number}" for a in ACTIONS])
    assert not keys.learn(cache)
    assert cache.key_head == {}
    fill(cache, keys, 40, start=30)
    assert keys.learn(cache)


def test_a_saved_cache_carries_its_head_and_opens_only_with_it(tmp_path):
    cache, keys = made()
    fill(cache, keys, 30)
    keys.learn(cache)
    cache.save(tmp_path)
    _, others = made()
    with pytest.raises(CacheError, match="key_encoder_sha256"):
        PriorCache.load(tmp_path, others.namespace, cache.config)
    others.adopt(key_head_of(tmp_path))
    loaded = PriorCache.load(tmp_path, others.namespace, cache.config)
    text = world(200)[0][150]
    found, again = (
        c.nearest(TextState(GOAL, text, ()), k.key(GOAL, text))
        for c, k in ((cache, keys), (loaded, others))
    )
    assert (found.entry.text, found.similarity) == (again.entry.text, again.similarity)
    loaded.save(tmp_path / "copy")
    assert key_head_of(tmp_path / "copy").keys() == cache.key_head.keys()


def test_a_saved_cache_that_lost_its_head_is_refused(tmp_path):
    cache, keys = made()
    fill(cache, keys, 30)
    keys.learn(cache)
    cache.save(tmp_path)
    path = tmp_path / "cache.json"
    head = json.loads(path.read_text())
    del head["files"]["head"]
    path.write_text(json.dumps(head))
    with pytest.raises(CacheError, match="lacks the key head"):
        read(tmp_path)


def test_a_truncated_or_foreign_head_is_refused(tmp_path):
    cache, keys = made()
    fill(cache, keys, 30)
    keys.learn(cache)
    cache.save(tmp_path)
    (file,) = tmp_path.glob("head-*.npz")
    file.write_bytes(file.read_bytes()[:-5])
    for opened in (key_head_of, read):
        with pytest.raises(CacheError, match=r"head-.*truncated"):
            opened(tmp_path)
    with pytest.raises(CacheError, match="arrays"):
        keys.adopt({"weight": np.zeros((2, 2), np.float32)})


def test_learning_in_a_replay_turns_misses_into_hits_that_are_right():
    texts, scores = world(900)
    trace = trace_of(texts, scores, range(len(texts)), goal=GOAL)
    table = KeyTable.of(trace, KeyEncoder(HashEncoder(), True))
    plays = {}
    for learn in (True, False):
        config = CacheConfig(mode="certified", learn_head=learn)
        plays[learn] = replay(trace, config, table, seed=0).summary()
    learned, raw = plays[True], plays[False]
    assert learned["hits"]["semantic"] > 500 > raw["hits"]["semantic"]
    assert learned["share_bound_over_kappa"] < 0.01 < raw["share_bound_over_kappa"]
    assert learned["certificate"]["threshold"] is not None
