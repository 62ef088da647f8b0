"""No answer crosses an opposite, whatever makes the keys, however long the texts are."""

import dataclasses
import itertools
import zlib
from functools import lru_cache

import numpy as np
import pytest

from cepcli.cache.cached_prior import CachedPrior
from cepcli.cache.config import CacheConfig
from cepcli.cache.store import PriorCache
from cepcli.cache.telemetry import CacheTelemetry
from cepcli.cache.wrap import cached
from cepcli.keys.encoder import TextEncoder, unit
from cepcli.keys.hashing import HashEncoder
from cepcli.keys.key_encoder import KeyEncoder, make_key_encoder
from cepcli.types import TextState
from tests.cache.opposites import around, pairs
from tests.fakes import NAMESPACE, FakePrior

GOAL = "do what is right"
ACTIONS = ("yes", "no")
LENGTHS = (8, 64, 160, 400)
MODES = ("lru", "fifo", "surrogate")
#: One per pair, so that only the other text of a pair may answer.
GOALS = [f"solve riddle {one}{other}" for one in "abcdefghij" for other in "abcdefghij"]


def told(side, words, person="traveller"):
    """The first or second texts of all pairs, each with its goal."""
    texts = [around(pair[side], words, person) for pair in pairs()]
    return list(zip(GOALS, texts, strict=True))


class Blind:
    """The worst keys that a head could learn: all texts are the same."""

    dim = 4

    def key(self, goal, text):
        return np.eye(4, dtype=np.float32)[0]


class Bag(TextEncoder):
    """The mean of a vector per word, as static vectors are used."""

    dim, sha256 = 64, "bag"

    def encode(self, text):
        words = text.lower().replace(".", " ").replace(",", " ").split()
        return unit(np.sum([vector(word) for word in words], 0))


@lru_cache(None)
def vector(word):
    return np.random.default_rng(zlib.crc32(word.encode())).standard_normal(64)


def filled(keys, states, **options):
    """A frozen cache that knows the answer to each text, and who asks it."""
    cache = PriorCache(CacheConfig(refresh_rate=0.0, **options), keys.dim, NAMESPACE)
    for goal, text in states:
        cache.insert(goal, text, keys.key(goal, text), dict.fromkeys(ACTIONS, -1.0))
    telemetry, unused = CacheTelemetry(0.99), np.random.default_rng(0)
    return CachedPrior(FakePrior(), cache.frozen(), keys.key, unused, telemetry)


def answered(prior, states, actions=ACTIONS):
    """How many of the texts an entry answers, or would in part."""
    answers = prior.log_probs([TextState(goal, text, actions) for goal, text in states])
    return sum(answer.kind != "miss" for answer in answers)


def check(keys):
    """However little similar texts need to be, none is answered by the other one of its pair."""
    for words in LENGTHS:
        for mode in MODES:
            prior = filled(keys, told(0, words), mode=mode, threshold=-1.0)
            assert answered(prior, told(1, words)) == 0
    short = filled(keys, told(0, 8), mode="lru", threshold=-1.0)
    assert answered(short, told(1, 8), (*ACTIONS, "wait")) == 0  # nor in part
    assert answered(short, told(0, 8, "merchant")) == 100
    assert answered(short, told(0, 8, "merchant"), (*ACTIONS, "wait")) == 100


def test_there_are_a_hundred_pairs_each_with_a_difference():
    assert len(set(pairs())) == 100
    assert all(one != other for one, other in pairs())
    assert [len(around("", words).split()) for words in LENGTHS] == [9, 65, 161, 401]


@pytest.mark.parametrize(
    "keys",
    [
        pytest.param(Blind, id="blind"),
        pytest.param(lambda: KeyEncoder(HashEncoder(), focus=True), id="hash"),
        pytest.param(lambda: KeyEncoder(HashEncoder(), focus=False), id="hash without focus"),
        pytest.param(lambda: KeyEncoder(Bag(), focus=True), id="bag"),
    ],
)
def test_no_opposite_is_answered_and_what_is_neutral_is(keys):
    check(Remembered(keys()))


@pytest.mark.slow
@pytest.mark.parametrize("encoder", ["static", "minilm"])
def test_no_opposite_is_answered_under_an_encoder_with_a_model(encoder):
    check(Remembered(make_key_encoder(encoder, focus=True)))


class Remembered:
    """Makes each key once."""

    def __init__(self, keys):
        self.dim, self.key = keys.dim, lru_cache(None)(keys.key)


def test_without_the_gate_opposites_are_answered():
    for encoder, least in ((HashEncoder(), 150), (Bag(), 150)):
        keys = Remembered(KeyEncoder(encoder, focus=True))
        options = {"mode": "lru", "gate": "off", "threshold": 0.995}
        found = sum(
            answered(filled(keys, told(0, words), **options), told(1, words)) for words in LENGTHS
        )
        assert found >= least


def test_the_gate_needs_no_mode_that_has_evidence_or_compares_nothing():
    gated = [m for m in ("off", "exact", *MODES, "certified") if CacheConfig(mode=m).gated]
    assert tuple(gated) == MODES
    assert not CacheConfig(mode="lru", gate="off").gated


def kinds(states, **options):
    config = CacheConfig(mode="lru", threshold=-1.0, refresh_rate=0.0, learn_head=False)
    prior = cached(
        lambda state: [0.0] * len(state.actions), name="a",
        config=dataclasses.replace(config, **options),
    )  # fmt: skip
    return [prior(TextState(*state)).kind for state in states]


@pytest.mark.parametrize("focus", [True, False])
def test_goals_must_read_the_same(focus):
    states = [("find the mug", "a hall", ACTIONS), ("find a mug", "a room", ACTIONS)]
    other = ("find the fork", "a hall", ACTIONS)
    pool = {"focus": focus, "pool_goals": True}
    assert kinds([*states, other], **pool) == ["miss", "semantic", "miss"]
    assert kinds([*states, other], gate="off", **pool) == ["miss", "semantic", "semantic"]


def test_what_focus_marks_may_differ_in_name_and_colour_but_in_nothing_else():
    red = ("go to the red ball", "a red ball 2 steps left", ACTIONS)
    assert kinds([red, ("go to the blue key", "a blue key 2 steps left", ACTIONS)])[1] == "semantic"
    for goal, text in (
        ("go to the red ball", "a red ball 3 steps left"),
        ("go to the blue key", "a blue key 2 steps right"),
    ):
        assert kinds([red, (goal, text, ACTIONS)])[1] == "miss"
    turn = ("turn left soon", "you can turn left", ("left", "right"))
    assert kinds([turn, ("turn right soon", "you can turn right", ("left", "right"))])[1] == "miss"


def test_goals_share_no_answer_about_actions_that_speak_of_what_they_name():
    actions = ("take the red ball", "take the blue key")
    states = [
        ("find the red ball", "a red ball is here", actions),
        ("find the blue key", "a blue key is here", actions),
    ]
    assert kinds(states) == ["miss", "miss"]
    assert kinds(states, gate="off") == ["miss", "semantic"]
    assert kinds([(goal, text, ACTIONS) for goal, text, _ in states]) == ["miss", "semantic"]


def test_goals_share_no_answer_where_the_same_things_have_swapped_roles():
    actions = ("take the red ball", "take the blue box")
    states = [
        ("put the red ball near the blue box", "a red ball, a blue box", actions),
        ("put the blue box near the red ball", "a blue box, a red ball", actions),
    ]
    assert kinds(states) == ["miss", "miss"]
    assert kinds(states, gate="off") == ["miss", "semantic"]
    assert kinds([(goal, text, ACTIONS) for goal, text, _ in states]) == ["miss", "semantic"]


def test_goals_share_no_answer_about_actions_that_speak_of_the_colour_of_what_they_name():
    states = [
        ("get the red ball", "a red ball is here", ("press red", "press blue")),
        ("get the blue ball", "a blue ball is here", ("press red", "press blue")),
    ]
    assert kinds(states) == ["miss", "miss"]
    assert kinds(states, gate="off") == ["miss", "semantic"]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    "actions", [("take ball", "take box"), ("take ball", "wait"), ("grab redballs", "wait")]
)
def test_plain_sentences_of_other_colours_share_no_answer_about_a_part_of_the_name(mode, actions):
    states = [
        (f"go to the {name}", f"you see a wall, and a {name} is here", actions)
        for name in ("red ball", "blue box", "green ball")
    ]
    for order in itertools.permutations(states):
        assert kinds(order, mode=mode) == ["miss"] * 3
    assert kinds(states, mode=mode, gate="off") == ["miss", "semantic", "semantic"]
    for focus in (True, False):  # one goal: the texts alone differ
        texts = [("go to the exit", text, actions) for _, text, _ in states]
        assert kinds(texts, mode=mode, focus=focus) == ["miss"] * 3


def test_the_nearest_of_those_that_may_answer_does():
    near, far = around("the door is open", 64), around("the door is closed", 64, "merchant")
    states = [(GOAL, text, ACTIONS) for text in (near, far, around("the door is closed", 64))]
    assert kinds(states, threshold=0.9) == ["miss", "miss", "semantic"]


@pytest.mark.parametrize("gate", ["words", "off"])
def test_a_saved_cache_has_its_gate_whether_it_was_filled_with_one_or_without(tmp_path, gate):
    config = CacheConfig(mode="lru", threshold=-1.0, gate=gate)
    cache = PriorCache(config, 4, NAMESPACE)
    for goal, text in told(0, 8):
        cache.insert(goal, text, Blind().key(goal, text), {"yes": -1.0})
    cache.save(tmp_path)
    loaded = PriorCache.load(tmp_path, NAMESPACE, dataclasses.replace(config, gate="words"))
    for (goal, text), (_, other), (_, neutral) in zip(
        told(0, 8), told(1, 8), told(0, 8, "merchant"), strict=True
    ):
        key = Blind().key(goal, text)
        assert loaded.nearest(TextState(goal, other, ACTIONS), key) is None
        found = loaded.nearest(TextState(goal, neutral, ACTIONS), key)
        assert found is not None
        assert found.entry.text == text


def test_without_focus_another_goal_is_not_answered_unless_goals_are_pooled_by_name():
    seen = "you see a ball and a key"
    states = [("go to the ball", seen, ACTIONS), ("go to the key", seen, ACTIONS)]
    for gate in ("words", "off"):
        assert kinds(states, focus=False, gate=gate) == ["miss", "miss"]
    pooled = {"focus": False, "gate": "off", "pool_goals": True}
    assert kinds(states, **pooled) == ["miss", "semantic"]
    assert kinds(states, **pooled, threshold=1.0) == ["miss", "miss"]  # the goal is in the key
