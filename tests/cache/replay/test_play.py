import numpy as np
import pytest

from cepcli.cache.config import CacheConfig, CertifiedConfig
from cepcli.cache.replay.play import replay
from cepcli.errors import CacheError
from tests.cache.worlds import ACTIONS, adversarial_world, keys_of, smooth_world, trace_of, unit


def played(keys, scores, order=None, *, config, seed=0, **world):
    texts = [f"t{n}" for n in range(len(keys))]
    order = range(len(keys)) if order is None else order
    trace = trace_of(texts, scores, order, **world)
    return replay(trace, config, keys_of(texts, keys), seed=seed)


@pytest.fixture
def random():
    return np.random.default_rng(0)


def test_off_asks_for_every_decision_and_is_never_wrong(random):
    keys, scores = smooth_world(random, clusters=3, members=5)
    found = played(keys, scores, config=CacheConfig(mode="off"))
    assert found.telemetry.queries == 15
    assert found.summary()["queries_per_decision"] == 1.0
    assert len(found.kl) == 0


def test_exact_asks_once_for_each_text(random):
    keys, scores = smooth_world(random, clusters=3, members=5)
    order = np.tile(np.arange(15), 4)
    found = played(keys, scores, order, config=CacheConfig(mode="exact"))
    assert found.telemetry.queries == 15
    assert found.telemetry.counts["exact"] == 45
    assert found.summary()["kl_mean"] == 0.0


def test_the_error_of_a_semantic_hit_is_that_of_the_entry_that_answered():
    keys = np.array([[1.0, 0.0], [0.999, 0.0447]], np.float32)
    scores = np.array([[0.0, 0.0, 0.0], [np.log(4.0), 0.0, 0.0]])
    config = CacheConfig(mode="lru", gate="off", threshold=0.99, refresh_rate=0.0)
    found = played(keys, scores, config=config, q_values=None)
    cached, fresh = np.full(3, 1 / 3), 0.95 * np.array([4, 1, 1]) / 6 + 0.05 / 3
    assert found.decision.tolist() == [1]
    assert found.kl == pytest.approx([np.sum(cached * np.log(cached / fresh))])
    gap = np.log(cached / fresh)
    assert found.bound == pytest.approx([np.ptp(gap) ** 2 / 8])


def test_the_error_is_that_of_the_posterior_at_the_traced_q_and_temperature():
    keys = np.array([[1.0, 0.0], [0.999, 0.0447]], np.float32)
    scores = np.array([[0.0, 0.0, 0.0], [np.log(4.0), 0.0, 0.0]])
    config = CacheConfig(mode="lru", gate="off", threshold=0.99, refresh_rate=0.0)
    q_values = (1.0, 0.0, 0.0)
    found = played(keys, scores, config=config, q_values=q_values)
    weights = np.exp(np.array(q_values) / 0.5)
    cached = weights / weights.sum()
    fresh = (0.95 * np.array([4, 1, 1]) / 6 + 0.05 / 3) * weights
    fresh /= fresh.sum()
    assert found.kl == pytest.approx([np.sum(cached * np.log(cached / fresh))])


def test_a_trace_without_fresh_scores_is_refused():
    trace = trace_of(["a"], [[0.0, 0.0, 0.0]], [0])
    trace.scores.clear()
    with pytest.raises(CacheError, match="no fresh score for `left`"):
        replay(trace, CacheConfig(mode="exact"), None)


def certified(**values):
    controller = CertifiedConfig(kappa=0.25, alpha=0.1, **values)
    return CacheConfig(mode="certified", certified=controller, learn_head=False)


def test_certified_reuses_much_where_similar_texts_have_similar_priors(random):
    keys, scores = smooth_world(random)
    found = played(keys, scores, config=certified())
    assert found.certificate.threshold is not None
    assert found.summary()["hit_rate"] > 0.5
    assert found.summary()["share_bound_over_kappa"] <= 0.1


@pytest.mark.slow
def test_certified_withstands_near_identical_keys_with_opposite_priors_and_fixed_does_not(random):
    keys, scores = adversarial_world(random)
    fixed = played(
        keys, scores, config=CacheConfig(mode="lru", gate="off", threshold=0.99)
    ).summary()
    safe = played(keys, scores, config=certified()).summary()
    assert fixed["share_bound_over_kappa"] > 0.25
    hits = safe["hits"]["semantic"]
    assert hits * safe["share_bound_over_kappa"] <= 0.1 * max(hits, 1)
    assert safe["queries_per_decision"] > 0.95  # the price: there is nothing to be reused


def test_a_state_met_again_and_again_is_not_wrong_each_time():
    """Every 100 decisions comes a state with the opposite prior, near a known one, sixty times."""
    random = np.random.default_rng(0)
    known, scores = smooth_world(random, clusters=60, members=40)
    near, opposite = adversarial_world(random, pairs=24, share=1.0)
    keys = np.concatenate([known, near])
    order: list[int] = []
    for number in range(24):
        order += range(100 * number, 100 * number + 100)
        order += [len(known) + 2 * number] + [len(known) + 2 * number + 1] * 60
    texts = [f"t{n}" for n in range(len(keys))]
    trace = trace_of(texts, np.concatenate([scores, opposite]), order)
    found = replay(trace, certified(), keys_of(texts, keys), seed=0)
    assert found.certificate.threshold is not None
    assert found.summary()["share_bound_over_kappa"] < 0.05
    lent = np.unique(found.decision)
    assert len({order[n] for n in lent}) == len(lent)  # each text once


def test_certified_notices_that_the_world_has_changed(random):
    keys, scores = smooth_world(random)
    bad_keys, bad_scores = adversarial_world(random, share=0.5)
    both = np.concatenate([keys, bad_keys]), np.concatenate([scores, bad_scores])
    found = played(*both, config=certified(window=2000))
    late = found.decision >= len(keys) + 500
    assert found.certificate.threshold is None
    assert late.sum() < 0.02 * (len(bad_keys) - 500)


@pytest.mark.parametrize(("renew", "answered"), [(True, 0), (False, 12)])
def test_an_entry_found_wrong_does_not_answer_as_far_again(random, renew, answered):
    """Texts lie on both sides of an entry that was found wrong about the first of them."""
    middle = unit(random.standard_normal((12, 16)))
    aside = 0.02 * unit(random.standard_normal(middle.shape))
    right, wrong = np.tile([4.0, -4.0, 0.0], (12, 1)), np.tile([-4.0, 4.0, 0.0], (12, 1))
    known, scores = smooth_world(random, clusters=20, members=40)
    keys = np.concatenate([middle, unit(middle + aside), known, unit(middle - 1.1 * aside)])
    scores = np.concatenate([right, wrong, scores, wrong])
    found = played(
        keys, scores, config=certified(renew=renew, least_refresh_rate=1e-6, window=10**6)
    )
    late = found.decision >= len(keys) - 12
    assert found.certificate.threshold is not None
    assert late.sum() == answered


def test_the_same_seed_replays_alike_and_another_audits_elsewhere(random):
    keys, scores = smooth_world(random, clusters=10, members=30)
    config = CacheConfig(mode="lru", gate="off", threshold=0.9, refresh_rate=0.2)
    first, second = (played(keys, scores, config=config, seed=0) for _ in range(2))
    other = played(keys, scores, config=config, seed=1)
    assert first.decision.tolist() == second.decision.tolist()
    assert first.decision.tolist() != other.decision.tolist()


def test_action_sets_that_never_repeat_are_misses_not_errors(random):
    keys, scores = smooth_world(random, clusters=2, members=10)
    texts = [f"t{n}" for n in range(len(keys))]
    trace = trace_of(texts, scores, [])
    from cepcli.cache.trace import TracedDecision
    from cepcli.types import TextState

    for number, (text, row) in enumerate(zip(texts, scores, strict=True)):
        own = tuple(f"{action} {number}" for action in ACTIONS)
        trace.scores["g", text] = dict(zip(own, row, strict=True))
        trace.decisions.append(TracedDecision(TextState("g", text, own), 0, "miss", None, 1.0))
    for mode in ("lru", "certified"):
        found = replay(
            trace,
            CacheConfig(mode=mode, threshold=0.5, refresh_rate=0.0),
            keys_of(texts, keys),
        )
        assert found.telemetry.hits == 0
        assert found.telemetry.queries == len(texts)


def test_a_q_that_sees_the_prior_breaks_the_bound_and_is_counted_and_one_that_does_not_keeps_it():
    keys = np.array([[1.0, 0.0], [0.999, 0.0447]], np.float32)
    scores = np.array([[0.0, 0.0, 0.0], [np.log(4.0), 0.0, 0.0]])
    config = CacheConfig(mode="lru", gate="off", threshold=0.99, refresh_rate=0.0)
    texts = ["t0", "t1"]
    trace = trace_of(texts, scores, range(2))
    told = {}
    for name, values in (
        ("sees", lambda state, log_prior: 3.0 * log_prior),
        ("blind", lambda state, log_prior: np.arange(3.0)),
    ):
        found = replay(trace, config, keys_of(texts, keys), values=values)
        told[name] = found.summary()["semantic_hits"], found.summary()["kl_over_bound"]
    assert told == {"sees": (1, 1), "blind": (1, 0)}
    usual = replay(trace, config, keys_of(texts, keys)).summary()
    assert usual["kl_over_bound"] == 0
