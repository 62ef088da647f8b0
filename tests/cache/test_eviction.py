"""Every policy under one contract, each against its definition, and exactly so after a reload."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cepcli.cache.config import CacheConfig
from cepcli.cache.entries import Ghosts, text_digest
from cepcli.cache.store import PriorCache
from tests.fakes import NAMESPACE

POLICIES = ("lru", "fifo", "lfu", "utility")

policies = st.sampled_from(POLICIES)
texts = st.sampled_from([f"text {number}" for number in range(9)])
operations = st.lists(
    st.tuples(
        st.sampled_from(["insert", "insert", "use", "use", "remove", "audit", "shrink"]),
        texts,
        st.floats(0.0, 3.0),
    ),
    max_size=60,
)


def make(policy, capacity, **options):
    config = CacheConfig(mode="exact", capacity=capacity, eviction=policy, **options)
    return PriorCache(config, 1, NAMESPACE)


class Player:
    """Plays operations on a cache, and notes the victims and what happened to each text."""

    def __init__(self, cache):
        self.cache = cache
        self.uses = {}
        self.victims = []

    def play(self, history):
        for operation, text, amount in history:
            self._one(operation, text, amount)

    def _one(self, operation, text, amount):
        cache, entry = self.cache, self.cache.exact("goal", text)
        before = {e.text for e in cache}
        if operation == "insert":
            cache.insert("goal", text, None, {"go": -1.0})
            self.uses[text] = [(cache._clock, 1.0)]
            assert cache.exact("goal", text) is not None
            self.victims.append(before - {e.text for e in cache})
        elif operation == "shrink":
            newest = max(cache, key=lambda e: e.slot, default=None)
            cache.set_knobs(cache.knobs._replace(capacity=1 + int(amount) % cache.config.capacity))
            assert newest is None or newest in list(cache)
            cache.set_knobs(cache.config.knobs)
            self.victims.append(before - {e.text for e in cache})
        elif entry is not None:
            if operation == "use":
                cache.use(entry)
                self.uses[text].append((cache._clock, 1.0))
            elif operation == "remove":
                cache.remove(entry)
            else:
                cache.audited(entry, 1.0, amount)
                factor = 2.0 ** -(cache.config.audit_penalty * amount)
                self.uses[text] = [(t, w * factor) for t, w in self.uses[text]]


@given(policies, operations, st.integers(1, 6))
def test_the_contract_of_every_policy(policy, history, capacity):
    player = Player(make(policy, capacity))
    player.play(history)
    cache = player.cache
    assert len(cache) <= capacity
    assert sorted(e.last_use for e in cache) == [e.last_use for e in cache]
    assert all(cache.exact("goal", e.text) is e for e in cache)


@given(policies, operations, operations, st.integers(1, 6))
def test_a_loaded_cache_evicts_the_same_victims(tmp_path_factory, policy, before, after, capacity):
    directory = tmp_path_factory.mktemp("cache")
    saved = Player(make(policy, capacity))
    saved.play(before)
    saved.cache.save(directory)
    loaded = Player(PriorCache.load(directory, NAMESPACE, saved.cache.config))
    loaded.uses = {text: list(uses) for text, uses in saved.uses.items()}
    saved.victims.clear()
    saved.play(after)
    loaded.play(after)
    assert loaded.victims == saved.victims
    assert list(loaded.cache) == list(saved.cache)
    assert loaded.cache.ghost_hits == saved.cache.ghost_hits


def worth(policy, player, entry):
    """By definition, from what happened; the least goes."""
    if policy == "lru":
        return entry.last_use
    if policy == "fifo":
        return entry.slot
    if policy == "lfu":
        return entry.hits
    now, half_life = player.cache._clock, player.cache.config.capacity
    return sum(w * 2.0 ** ((t - now) / half_life) for t, w in player.uses[entry.text])


@given(policies, operations, st.integers(2, 6))
def test_the_victim_is_the_one_of_least_worth_and_the_oldest_of_equals(policy, history, capacity):
    player = Player(make(policy, capacity))
    player.play(history)
    entries = sorted(player.cache, key=lambda e: e.slot)
    if not entries:
        return
    victim = player.cache._eviction.victim(spared=-1)
    values = {e.slot: worth(policy, player, e) for e in entries}
    least = min(values.values())
    if policy != "utility":
        assert victim.slot == min(slot for slot, value in values.items() if value == least)
    else:
        assert values[victim.slot] <= least * 1.00001 + 1e-300


@pytest.mark.parametrize("policy", ["lfu", "utility"])
def test_of_equals_the_oldest_slot_goes(policy):
    cache = make(policy, 3)
    for text in "abc":
        cache.insert("goal", text, None, {"go": -1.0})
    for text in "cba":
        cache.use(cache.exact("goal", text))
    if policy == "utility":
        for entry in cache:
            entry.warmth, entry.last_use = 0.0, 1
    assert cache._eviction.victim(spared=-1).text == "a"
    assert cache._eviction.victim(spared=0).text == "b"


def test_utility_keeps_what_is_used_now_over_what_was_used_often_long_ago():
    cache = make("utility", 2)
    old, new = (cache.insert("goal", text, None, {"go": -1.0}) for text in ("old", "new"))
    for _ in range(4):
        cache.use(old)
    for _ in range(20):
        cache.use(new)
    cache.insert("goal", "another", None, {"go": -1.0})
    assert [e.text for e in cache] == ["new", "another"]


@pytest.mark.parametrize("kl", [2.0, math.inf])
def test_utility_lets_an_entry_go_that_was_found_wrong(kl):
    cache = make("utility", 2)
    wrong, right = (cache.insert("goal", text, None, {"go": -1.0}) for text in ("wrong", "right"))
    cache.use(right)
    cache.use(wrong)
    cache.audited(wrong, 4.0, kl)
    assert (wrong.audits, wrong.last_span, wrong.last_kl) == (1, 4.0, kl)
    cache.insert("goal", "another", None, {"go": -1.0})
    assert [e.text for e in cache] == ["right", "another"]


def test_utility_without_a_penalty_forgives():
    cache = make("utility", 2, audit_penalty=0.0)
    wrong = cache.insert("goal", "wrong", None, {"go": -1.0})
    cache.insert("goal", "right", None, {"go": -1.0})
    cache.use(wrong)
    cache.audited(wrong, 4.0, 100.0)
    cache.insert("goal", "another", None, {"go": -1.0})
    assert [e.text for e in cache] == ["wrong", "another"]


@pytest.mark.parametrize("policy", POLICIES)
def test_what_a_policy_remembers_of_removed_entries_is_bounded(policy):
    cache = make(policy, 5)
    for number in range(500):
        entry = cache.insert("goal", f"text {number}", None, {"go": -1.0})
        cache.audited(entry, 1.0, 0.5)
        cache.remove(entry)
    assert len(cache._eviction._items) <= 20


@given(st.integers(1, 40), st.lists(st.integers(0, 60), max_size=120), st.integers(1, 40))
def test_ghosts_are_the_last_evicted_and_are_recalled_once(capacity, numbers, later):
    ghosts, model, room = Ghosts(capacity), [], max(capacity, 16)
    for number in numbers:
        digest = text_digest("goal", str(number))
        if number in model:
            assert ghosts.recall(digest)
            assert not ghosts.recall(digest)
            model[model.index(number)] = None
        else:
            ghosts.remember(digest)
            model = [*model, number][-room:]
    again = Ghosts(capacity)
    again.restore(ghosts.oldest_first)
    again.resize(later)
    model = model[-max(later, 16) :]
    for number in range(61):
        assert again.recall(text_digest("goal", str(number))) is (number in model)


def test_the_half_life_of_utility_follows_the_capacity_also_after_loading(tmp_path):
    config = CacheConfig(mode="certified", capacity=4, most_capacity=64)
    cache = PriorCache(config, 1, NAMESPACE)
    key = np.ones(1, np.float32)
    for text in ("often", "lately"):
        cache.insert("goal", text, key, {"go": -1.0})
    for _ in range(6):
        cache.use(cache.exact("goal", "often"))
    for _ in range(40):
        cache.use(cache.exact("goal", "lately"))
    grown = PriorCache.load(_saved(cache, tmp_path / "small"), NAMESPACE, config)
    grown.set_knobs(grown.knobs._replace(capacity=64))
    again = PriorCache.load(_saved(grown, tmp_path / "large"), NAMESPACE, config)
    assert [one._eviction._half_life for one in (cache, grown, again)] == [4.0, 64.0, 64.0]


def _saved(cache, directory):
    cache.save(directory)
    return directory
