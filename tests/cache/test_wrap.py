"""A cache around any function: what it answers, refuses and keeps."""

import dataclasses
import math

import numpy as np
import pytest

import cepcli
from cepcli import TextState, cached
from cepcli.cache.config import CacheConfig
from cepcli.cache.disk.storage import HEAD
from cepcli.cache.wrap import CERTIFIED
from cepcli.errors import CacheError, ConfigError, PriorError
from cepcli.prior.base import PriorShape

ACTIONS = ("north", "south", "take")
SCORES = {"north": -1.0, "south": -3.0, "take": 0.5, "open": -2.0}
LRU = CacheConfig(mode="lru", gate="off", encoder="hash", threshold=0.5, refresh_rate=0.0)


class Scorer:
    """A fixed score per action, and a log of what was asked."""

    def __init__(self):
        self.asked = []

    def __call__(self, state):
        self.asked.append(state)
        return [SCORES[action] for action in state.actions]


def state(text="You see a red ball on your left.", actions=ACTIONS, goal="go"):
    return TextState(goal, text, tuple(actions))


def nearby(word):
    return f"You see a red ball, a blue box and a green key on your left, not a {word}."


def test_the_functions_scores_become_a_prior():
    shape = PriorShape(temperature=0.5, smoothing=0.1)
    answer = cached(Scorer(), name="a", shape=shape)(state())
    assert answer.kind == "miss"
    assert answer.scores.tolist() == [-1.0, -3.0, 0.5]
    assert answer.log_prior.tolist() == shape.log_prior(np.array([-1.0, -3.0, 0.5])).tolist()
    assert cached(Scorer(), name="a")(state()).log_prior.tolist() == (
        PriorShape().log_prior(answer.scores).tolist()
    )


def test_a_known_text_is_a_hit_that_asks_nothing():
    scorer = Scorer()
    prior = cached(scorer, name="a")
    kinds = [prior(state()).kind, prior(state()).kind, prior(state(actions=("take", "open"))).kind]
    assert kinds == ["miss", "exact", "partial"]
    assert [asked.actions for asked in scorer.asked] == [ACTIONS, ("open",)]
    assert prior.telemetry.summary()["hits"] == {"exact": 1, "semantic": 0}
    assert prior.telemetry.queries == 2


def test_several_states_are_answered_at_once():
    prior = cached(Scorer(), name="a")
    answers = prior.log_probs([state("one"), state("two"), state("one")])
    assert [answer.kind for answer in answers] == ["miss", "miss", "exact"]


def test_a_similar_text_is_a_semantic_hit():
    prior = cached(Scorer(), name="a", config=LRU)
    assert prior(state(nearby("door"))).kind == "miss"
    assert prior(state(nearby("wall"))).kind == "semantic"
    assert prior(state("Nothing at all.")).kind == "miss"
    assert prior.certificate is None


def test_semantic_hits_are_audited_as_the_seed_says():
    config = dataclasses.replace(LRU, refresh_rate=0.5, capacity=1)
    texts = [nearby(f"word{number}") for number in range(40)]

    def kinds(seed):
        prior = cached(Scorer(), name="a", config=config, seed=seed)
        found = [prior(state(text)).kind for text in texts]
        assert len(prior.telemetry.audits) == found.count("audit")
        return found

    assert {"audit", "semantic"} <= set(kinds(0))
    assert kinds(0) == kinds(0) != kinds(1)


def test_certified_opens_for_similar_texts_once_that_is_proven():
    scorer = Scorer()
    prior = cached(scorer, name="a")
    assert prior.certificate is not None
    assert prior.certificate.threshold is None
    for number in range(400):
        prior(state(nearby(f"word{number}")))
    assert prior.certificate.threshold is not None
    assert prior.telemetry.summary()["hits"]["semantic"] > 0
    assert len(scorer.asked) == prior.telemetry.queries < 350


@pytest.mark.parametrize("mode", ["off", "exact"])
def test_modes_without_keys_need_no_encoder(mode):
    prior = cached(Scorer(), name="a", config=CacheConfig(mode=mode))
    assert [prior(state()).kind, prior(state()).kind][1] == ("exact" if mode == "exact" else "miss")


def test_the_time_the_function_takes_is_counted(monkeypatch):
    clock = iter([10.0, 12.5])
    monkeypatch.setattr("cepcli.cache.wrap.perf_counter", lambda: next(clock))
    prior = cached(Scorer(), name="a")
    answer = prior(state())
    assert (answer.seconds, answer.live_seconds) == (2.5, 2.5)
    assert prior.telemetry.summary()["llm_seconds"] == 2.5


@pytest.mark.parametrize("scores", [[0.0, 1.0], [0.0] * 4, [[0.0, 0.0, 0.0]], 0.0])
def test_anything_but_one_score_per_action_is_an_error(scores):
    with pytest.raises(PriorError, match=r"3 actions .*north.* of the state 'You see"):
        cached(lambda state: scores, name="a")(state())


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_score_that_is_not_finite_is_an_error_and_leaves_no_entry(bad):
    answers = [[0.0, bad, 0.0], [0.0, 1.0, 2.0]]
    prior = cached(lambda state: answers.pop(0), name="a")
    with pytest.raises(PriorError, match=f"gave {bad} for the action 'south'"):
        prior(state())
    assert prior(state()).kind == "miss"


def log_softmax(state):
    """Log-probabilities over the actions listed: not the same when others are."""
    scores = np.array([SCORES[action] for action in state.actions])
    return scores - np.logaddexp.reduce(scores)


def test_scores_normalised_over_different_actions_are_an_error():
    prior = cached(log_softmax, name="a")
    prior(state())
    prior(state("Another text."))
    with pytest.raises(PriorError, match=r"\['open'\].*cannot put such") as caught:
        prior(state(actions=(*ACTIONS, "open")))
    assert "logits" in caught.value.hint


def test_normalised_scores_are_kept_apart_by_a_goal_that_names_the_actions():
    apart = dataclasses.replace(CERTIFIED, pool_goals=False)
    prior = cached(log_softmax, name="a", config=apart)
    few, many = state(goal="go, 3"), state(actions=(*ACTIONS, "open"), goal="go, 4")
    assert [prior(few).kind, prior(many).kind, prior(few).kind] == ["miss", "miss", "exact"]
    shared = cached(log_softmax, name="a")
    shared(few)
    with pytest.raises(PriorError, match="cannot put such"):
        shared(many)


def test_a_single_action_of_score_zero_is_no_sign_of_normalised_scores():
    prior = cached(lambda state: [0.0] * len(state.actions), name="a")
    assert [prior(state("a", ACTIONS[:n])).kind for n in (1, 2, 3)] == [
        "miss",
        "partial",
        "partial",
    ]


def test_a_saved_cache_goes_on_with_its_entries(tmp_path):
    prior = cached(Scorer(), name="a")
    prior(state())
    prior.save(tmp_path / "cache")
    scorer = Scorer()
    again = cached(scorer, name="a", saved=str(tmp_path / "cache"))
    assert again(state()).kind == "exact"
    assert scorer.asked == []


def test_a_saved_cache_needs_evidence_anew_before_similar_texts_answer(tmp_path):
    prior = cached(Scorer(), name="a")
    for number in range(300):
        prior(state(nearby(f"word{number}")))
    assert prior(state(nearby("zebra"))).kind in ("semantic", "audit")
    prior.save(tmp_path)
    again = cached(Scorer(), name="a", saved=tmp_path)
    assert again.certificate is not None
    assert again.certificate.threshold is None
    assert again(state(nearby("yak"))).kind == "miss"
    assert again(state(nearby("word0"))).kind == "exact"


def test_keys_are_learned_and_a_saved_cache_goes_on_with_them(tmp_path):
    prior = cached(Scorer(), name="a")
    for number in range(300):
        prior(state(nearby(f"word{number}")))
    prior.save(tmp_path)
    (head,) = tmp_path.glob("head-*.npz")
    again = cached(Scorer(), name="a", saved=tmp_path)
    again(state(nearby("yak")))
    again.save(tmp_path / "again")
    assert [p.name for p in (tmp_path / "again").glob("head-*.npz")] == [head.name]


@pytest.mark.parametrize(
    ("change", "names"),
    [
        ({"name": "b"}, "model"),
        ({"config": dataclasses.replace(CERTIFIED, focus=False)}, "key_encoder_sha256"),
    ],
)
def test_a_saved_cache_of_another_scorer_or_key_is_refused(change, names, tmp_path):
    prior = cached(Scorer(), name="a")
    prior(state())
    prior.save(tmp_path)
    with pytest.raises(CacheError, match=f"they differ in {names}"):
        cached(Scorer(), **{"name": "a", "saved": tmp_path, **change})


def test_a_directory_without_a_cache_is_an_error_that_says_how_to_write_one(tmp_path):
    with pytest.raises(CacheError, match="no prior cache in") as caught:
        cached(Scorer(), name="a", saved=tmp_path)
    assert caught.value.hint == "Write one first: prior.save(directory)"
    assert not (tmp_path / HEAD).exists()


def test_an_unknown_encoder_is_an_error():
    with pytest.raises(ConfigError, match="no text encoder `hush`"):
        cached(Scorer(), name="a", config=CacheConfig(mode="lru", encoder="hush"))


def test_the_package_offers_no_other_name():
    with pytest.raises(AttributeError, match="no attribute `cache_it`"):
        cepcli.cache_it  # noqa: B018


def test_a_cache_to_start_with_is_named_as_saved_not_in_the_configuration(tmp_path):
    with pytest.raises(ConfigError, match="goes on with its `saved` one"):
        cached(Scorer(), name="test", config=dataclasses.replace(LRU, start=str(tmp_path)))


@pytest.mark.parametrize(("mode", "compared"), [("lru", 0), ("certified", 1)])
def test_a_miss_is_compared_with_its_nearest_entry_where_a_controller_learns_from_it(
    mode, compared
):
    config = CacheConfig(mode=mode, encoder="hash", threshold=1.0)
    prior = cached(Scorer(), name="test", config=config)
    prior(state(nearby("hat")))
    prior(state(nearby("cat")))
    assert prior.telemetry.counts["miss"] == 2
    assert len(prior.telemetry.comparisons) == compared
