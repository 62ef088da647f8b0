import pickle
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby

import numpy as np
import pytest

from cepcli.cache.certificate import clopper_pearson
from cepcli.cache.config import CacheConfig, CertifiedConfig
from cepcli.cache.replay.play import Change, replay
from cepcli.cache.replay.resample import ResampleConfig, course, resample, rotated
from cepcli.errors import ConfigError
from tests.cache.worlds import adversarial_world, keys_of, smooth_world, trace_of

BUDGET = CertifiedConfig(kappa=0.25, alpha=0.1)
CERTIFIED = CacheConfig(mode="certified", certified=BUDGET, learn_head=False)
FIXED = CacheConfig(mode="lru", gate="off", threshold=0.9, certified=BUDGET)


def world(keys, scores, order=None):
    texts = [f"t{number:04}" for number in range(len(keys))]
    trace = trace_of(texts, scores, range(len(keys)) if order is None else order)
    return trace, keys_of(texts, keys)


@pytest.fixture(scope="module")
def smooth():
    return world(*smooth_world(np.random.default_rng(0), clusters=20, members=40))


@pytest.fixture(scope="module")
def opposite():
    return world(*adversarial_world(np.random.default_rng(0), pairs=300))


def texts_of(decisions):
    return [decision.state.text for decision in decisions]


def test_without_drift_or_number_the_trace_itself_is_played(smooth):
    trace, _ = smooth
    assert course(trace, ResampleConfig()) == (trace.decisions, None)


def test_a_run_holds_as_many_whole_episodes_drawn_with_replacement(smooth):
    trace, _ = smooth
    whole = {tuple(texts_of(e)) for _, e in groupby(trace.decisions, lambda d: d.episode)}
    played = texts_of(course(trace, ResampleConfig(), 0).decisions)
    drawn = [tuple(played[n : n + 20]) for n in range(0, len(played), 20)]
    assert len(drawn) == len(whole) == 40
    assert set(drawn) < whole
    assert played == texts_of(course(trace, ResampleConfig(), 0).decisions)
    assert played != texts_of(course(trace, ResampleConfig(), 1).decisions)
    assert played != texts_of(course(trace, ResampleConfig(seed=1), 0).decisions)


@pytest.mark.parametrize("number", [None, 0])
def test_drifting_states_are_others_in_the_second_half(number):
    random = np.random.default_rng(0)
    trace, _ = world(*smooth_world(random, clusters=4, members=100), order=random.permutation(400))
    played = texts_of(course(trace, ResampleConfig(drift="states"), number).decisions)
    first = played[::20]
    assert first == sorted(first)
    before = texts_of(course(trace, ResampleConfig(), number).decisions)
    assert sorted(played) == sorted(before)
    assert before != played


def test_a_changed_model_moves_scores_on_alike_in_every_state():
    actions = ("a", "b", "c", "d")
    texts, scores = ["x", "y"], np.array([[0.0, 1.0, 2.0, 3.0], [9.0, 8.0, 7.0, 6.0]])
    trace = trace_of(texts, scores, [0, 1], actions=actions)
    trace.scores["g", "alone"] = {"a": -1.0}
    changed = rotated(trace, seed=0)
    moved = np.array([[changed.scores["g", text][a] for a in actions] for text in texts])
    places = [n for n in range(4) if np.array_equal(np.roll(scores, n, axis=1), moved)]
    assert len(places) == 1
    assert places[0] > 0
    assert changed.scores["g", "alone"] == {"a": -1.0}
    assert trace.scores["g", "x"] == dict(zip(actions, scores[0], strict=True))
    assert changed.scores == rotated(trace, seed=0).scores
    assert len({str(rotated(trace, seed).scores) for seed in range(20)}) == 3


def test_another_model_answers_from_the_change_on():
    keys = np.eye(2, dtype=np.float32)[[0, 0, 0, 0]]
    trace, found = world(keys, [[2.0, 0.0, 0.0]] * 4)
    config = CacheConfig(mode="lru", gate="off", threshold=0.9, refresh_rate=0.0)
    change = Change(2, rotated(trace, seed=0))
    played = replay(trace, config, found, change=change)
    assert played.decision.tolist() == [1, 2, 3]
    assert (played.kl > 0.1).tolist() == [False, True, True]
    assert played.kl[0] == 0.0
    assert replay(trace, config, found).kl.tolist() == [0.0] * 3


def test_the_change_comes_half_way(smooth):
    trace, _ = smooth
    decisions, change = course(trace, ResampleConfig(drift="answers"), 3)
    assert change is not None
    assert change.start == len(decisions) // 2


def test_a_budget_is_kept_by_proof_and_not_by_a_fixed_threshold(opposite):
    trace, keys = opposite
    proven, fixed = resample(trace, [CERTIFIED, FIXED], keys, ResampleConfig(runs=4))
    assert (proven["kept"], proven["bound_kept"]) == (1.0, 1.0)
    assert (fixed["kept"], fixed["bound_kept"]) == (0.0, 0.0)
    assert (fixed["kept_low"], fixed["kept_high"]) == clopper_pearson(0, 4, 0.95)
    assert fixed["share_over_kappa_max"] > fixed["share_over_kappa"] > 0.1
    assert fixed["semantic_hits"] > proven["semantic_hits"] == 0.0
    assert fixed["queries_per_decision"] < proven["queries_per_decision"]


def test_figures_are_those_of_the_single_runs(smooth):
    trace, keys = smooth
    config = ResampleConfig(runs=3)
    (row,) = resample(trace, [FIXED], keys, config)
    played = [replay(trace, FIXED, keys, decisions=course(trace, config, n)[0]) for n in range(3)]
    shares = [one.summary()["share_over_kappa"] for one in played]
    assert row["share_over_kappa"] == pytest.approx(np.mean(shares), abs=0.01)
    assert (row["runs"], row["kappa"], row["alpha"]) == (3, 0.25, 0.1)
    assert 0 < row["semantic_hits_late"] < row["semantic_hits"]


def test_certified_notices_a_changed_model_and_a_fixed_threshold_does_not():
    trace, keys = world(*smooth_world(np.random.default_rng(0), clusters=20, members=100))
    config = ResampleConfig(runs=2, drift="answers")
    proven, fixed = resample(trace, [CERTIFIED, FIXED], keys, config)
    assert fixed["share_over_kappa_late"] > 0.3
    calm = resample(trace, [CERTIFIED], keys, ResampleConfig(runs=2))[0]
    assert (calm["alarms"], proven["alarms"], fixed["alarms"]) == (0.0, 1.0, 0.0)
    assert (calm["in_force"], fixed["in_force"]) == (1.0, None)
    assert proven["in_force"] < 1.0
    assert proven["bound_kept"] == calm["bound_kept"] == 1.0
    assert fixed["bound_kept"] == 0.0
    # the certificate is earned again: similar texts answer in the second half, too
    assert proven["semantic_hits_late"] > 0.5 * calm["semantic_hits_late"]


@pytest.mark.slow
def test_coverage_holds_across_hand_overs_while_hits_are_audited_only_now_and_then():
    keys, scores = smooth_world(np.random.default_rng(0), clusters=60, members=60)
    trace, found = world(keys, scores, order=np.random.default_rng(1).permutation(3600))
    budget = CertifiedConfig(kappa=0.25, alpha=0.1, window=500)
    cache = CacheConfig(mode="certified", certified=budget, learn_head=False)
    (row,) = resample(trace, [cache], found, ResampleConfig(runs=10))
    assert row["hand_overs"] >= 3
    assert row["in_force"] >= 0.99
    assert row["bound_kept"] == 1.0
    assert row["semantic_hits"] > 100


class Pool(ThreadPoolExecutor):
    """Threads that get their work as processes do."""

    def __init__(self, jobs, mp_context, initializer):
        super().__init__(jobs)

    def map(self, work, parts):
        return super().map(pickle.loads(pickle.dumps(work)), parts)


def test_processes_side_by_side_change_nothing(monkeypatch):
    monkeypatch.setattr("cepcli.cache.replay.resample.ProcessPoolExecutor", Pool)
    trace = trace_of(["a", "b"], [[0.0, 1.0, 2.0]] * 2, [0, 1] * 30)
    caches = [CacheConfig(mode="exact"), CacheConfig(mode="off")]
    rows = [resample(trace, caches, {}, ResampleConfig(runs=3, jobs=jobs)) for jobs in (1, 2)]
    assert rows[0] == rows[1]


def test_a_changed_model_is_made_once_for_all_runs_and_caches(monkeypatch):
    made = []

    def counted(trace, seed):
        made.append(seed)
        return rotated(trace, seed)

    monkeypatch.setattr("cepcli.cache.replay.resample.rotated", counted)
    trace = trace_of(["a", "b"], [[0.0, 1.0, 2.0]] * 2, [0, 1] * 30)
    caches = [CacheConfig(mode="exact"), CacheConfig(mode="off")]
    resample(trace, caches, {}, ResampleConfig(runs=3, drift="answers", seed=4))
    assert made == [4]


@pytest.mark.parametrize(("field", "value"), [("runs", 0), ("jobs", 0)])
def test_numbers_that_cannot_be_are_refused(field, value):
    with pytest.raises(ConfigError, match=f"{field} is 0"):
        ResampleConfig(**{field: value})
