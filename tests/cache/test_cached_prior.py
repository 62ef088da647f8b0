"""How a decision is answered, what it costs, and that a batch decides as its states one by one."""

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cepcli.cache.cached_prior import CachedPrior
from cepcli.cache.certificate import Comparison
from cepcli.cache.config import CacheConfig, CertifiedConfig
from cepcli.cache.controllers import make_controller
from cepcli.cache.entries import Scores
from cepcli.cache.store import Neighbour, PriorCache
from cepcli.cache.telemetry import CacheTelemetry
from cepcli.errors import PriorError
from cepcli.prior.base import PriorShape
from cepcli.types import TextState
from tests.fakes import NAMESPACE, FakePrior

ACTIONS = ("north", "south", "take")


def encode(text: str) -> np.ndarray:
    """Texts are angles on a circle, in hundredths of a radian."""
    angle = float(text) / 100
    return np.array([math.cos(angle), math.sin(angle)], np.float32)


class Rig:
    """A cached prior with everything it is made of."""

    def __init__(
        self, mode="lru", refresh_rate=0.0, capacity=100, threshold=0.9999, gate="off", **options
    ):
        config = CacheConfig(
            mode=mode,
            capacity=capacity,
            threshold=threshold,
            refresh_rate=refresh_rate,
            gate=gate,
            **options,
        )
        self.inner = FakePrior(PriorShape(temperature=0.7, smoothing=0.1))
        self.cache = PriorCache(config, 2, NAMESPACE)
        self.telemetry = CacheTelemetry(config.hit_rate_decay)
        self.encoded: list[str] = []
        self.prior = self.over(self.cache)

    def over(self, cache):
        generator = np.random.default_rng(0)
        return CachedPrior(self.inner, cache, self.encode, generator, self.telemetry)

    def encode(self, goal, text):
        self.encoded.append(text)
        return encode(text)

    def ask(self, *requests):
        return self.prior.log_probs([state(*request) for request in requests])

    def kinds(self, *requests):
        return [answer.kind for answer in self.ask(*requests)]


def state(text, actions=ACTIONS, goal="goal"):
    return TextState(goal, str(text), tuple(actions))


def fresh(rig, text, actions=ACTIONS, goal="goal"):
    return rig.inner.scores(state(text, actions, goal))


def test_a_miss_gives_the_inner_prior_at_its_cost():
    rig = Rig()
    (answer,) = rig.ask((0,))
    (direct,) = FakePrior(rig.inner.shape).log_probs([state(0)])
    assert answer.log_prior.tolist() == direct.log_prior.tolist()
    assert answer.scores.tolist() == direct.scores.tolist()
    assert (answer.tokens, answer.seconds, answer.live_seconds) == (13.0, 0.5, 0.25)
    assert answer.kind == "miss"
    assert answer.cache_seconds > 0


def test_the_same_text_is_an_exact_hit_at_no_cost_and_without_a_key():
    rig = Rig(refresh_rate=1.0)
    (first,) = rig.ask((0,))
    (answer,) = rig.ask((0, ("take", "north")))
    assert answer.kind == "exact"
    assert (answer.tokens, answer.seconds, answer.live_seconds) == (0.0, 0.0, 0.0)
    assert answer.scores.tolist() == [first.scores[2], first.scores[0]]
    assert np.exp(answer.log_prior).sum() == pytest.approx(1.0)
    assert answer.log_prior.tolist() == rig.inner.shape.log_prior(answer.scores).tolist()
    assert rig.encoded == ["0"]
    assert len(rig.inner.calls) == 1


def test_a_similar_text_is_a_semantic_hit_only_in_mode_lru():
    rig = Rig()
    rig.ask((0,))
    (answer,) = rig.ask((1,))
    assert answer.kind == "semantic"
    assert answer.scores.tolist() == fresh(rig, 0).tolist()
    assert rig.kinds((50,)) == ["miss"]
    exact = Rig(mode="exact")
    assert exact.kinds((0,), (1,), (0,)) == ["miss", "miss", "exact"]
    assert exact.encoded == []


def test_mode_off_asks_always_and_stores_nothing():
    rig = Rig(mode="off")
    assert rig.kinds((0,), (0,)) == ["miss", "miss"]
    assert rig.kinds((0,)) == ["miss"]
    assert [len(call) for call in rig.inner.calls] == [2, 1]
    assert len(rig.cache) == 0
    assert rig.telemetry.counts["miss"] == 3


def test_a_hit_of_either_kind_keeps_its_entry_from_eviction():
    for repeat in (0, 1):
        rig = Rig(capacity=2)
        rig.ask((0,), (50,))
        rig.ask((repeat,))
        assert rig.kinds((100,), (0,), (50,)) == ["miss", "exact", "miss"]


def test_another_goal_is_no_neighbour():
    rig = Rig(pool_goals=False)
    assert rig.kinds((0,), (0, ACTIONS, "other"), (1, ACTIONS, "other")) == [
        "miss",
        "miss",
        "semantic",
    ]
    shared = Rig(pool_goals=True)
    assert shared.kinds((0,), (0, ACTIONS, "other")) == ["miss", "semantic"]


def test_missing_actions_of_a_known_text_are_scored_alone():
    rig = Rig()
    rig.ask((0, ("north", "south")))
    (answer,) = rig.ask((0, ("take", "north", "open")))
    assert answer.kind == "partial"
    assert rig.inner.calls[-1] == [state(0, ("take", "open"))]
    assert answer.scores.tolist() == fresh(rig, 0, ("take", "north", "open")).tolist()
    assert answer.tokens == 12.0
    assert rig.kinds((0, ("open", "south", "take", "north"))) == ["exact"]


@pytest.mark.parametrize("mode", ["lru", "fifo"])
def test_a_partial_hit_on_a_similar_text_scores_all_and_tells_how_far_off_the_entry_was(mode):
    rig = Rig(mode)
    rig.ask((0, ("north", "south")))
    (answer,) = rig.ask((1, ACTIONS))
    assert answer.kind == "partial"
    assert rig.inner.calls[-1] == [state(1, ACTIONS)]
    assert answer.scores.tolist() == fresh(rig, 1).tolist()
    assert rig.kinds((1, ACTIONS), (0, ("north", "south"))) == ["exact", "exact"]
    entry = rig.cache.exact("goal", "0")
    assert entry is not None
    assert dict(entry.scores) == dict(zip(("north", "south"), fresh(rig, 0), strict=False))
    would = [*fresh(rig, 0, ("north", "south")), *fresh(rig, 1, ("take",))]
    gap = rig.inner.shape.log_prior(np.array(would)) - rig.inner.shape.log_prior(fresh(rig, 1))
    (found,) = rig.telemetry.partials
    assert found.span == pytest.approx(gap.max() - gap.min())
    assert found.similarity == pytest.approx(math.cos(0.01), abs=1e-6)
    assert (entry.audits, entry.last_span, entry.last_kl) == (1, found.span, found.kl)
    assert rig.telemetry.audits == []


def test_full_and_partial_hits_are_reported_apart():
    rig = Rig()
    rig.ask((0, ("north", "south")))
    rig.ask((1, ("north",)), (1, ACTIONS), (0, ("north",)))
    summary = rig.telemetry.summary()
    assert summary["hits"] == {"exact": 1, "semantic": 1}
    assert summary["queries"] == {"total": 2, "misses": 1, "partial": 1, "audits": 0}
    assert summary["partial_hits_compared"]["count"] == 1
    assert summary["partial_hits_compared"]["span_max"] == rig.telemetry.partials[0].span
    assert summary["audited"]["count"] == 0


def test_a_partial_hit_is_one_in_mode_certified_too_but_no_evidence():
    rig = Rig("certified")
    controller = make_controller(rig.cache.config)
    generator = np.random.default_rng(0)
    rig.prior = CachedPrior(rig.inner, rig.cache, rig.encode, generator, rig.telemetry, controller)
    rig.cache.set_knobs(rig.cache.knobs._replace(threshold=0.9999, refresh_rate=0.0))
    rig.ask((0, ("north", "south")))
    before = controller.state()["controller"]
    (answer,) = rig.ask((1, ACTIONS))
    assert answer.kind == "partial"
    assert answer.scores.tolist() == fresh(rig, 1).tolist()
    assert len(rig.telemetry.partials) == 1
    assert rig.telemetry.comparisons == []
    assert controller.state()["controller"] == before


def test_an_audit_measures_the_error_and_uses_and_stores_the_fresh_answer():
    rig = Rig(refresh_rate=1.0)
    rig.ask((0,))
    (answer,) = rig.ask((1,))
    assert answer.kind == "audit"
    assert answer.scores.tolist() == fresh(rig, 1).tolist()
    assert answer.tokens == 13.0
    (audit,) = rig.telemetry.audits
    log_cached = rig.inner.shape.log_prior(fresh(rig, 0))
    log_fresh = rig.inner.shape.log_prior(fresh(rig, 1))
    gap = log_cached - log_fresh
    assert audit.similarity == pytest.approx(math.cos(0.01), abs=1e-6)
    assert audit.span == pytest.approx(gap.max() - gap.min())
    assert audit.kl == pytest.approx(float((np.exp(log_cached) * gap).sum()))
    entry = rig.cache.exact("goal", "0")
    assert entry is not None
    assert (entry.audits, entry.last_span, entry.last_kl) == (1, audit.span, audit.kl)
    assert rig.kinds((1,), (0,)) == ["exact", "exact"]


def test_a_partial_hit_is_not_audited_for_it_asks_anyway():
    rig = Rig(refresh_rate=1.0)
    rig.ask((0, ("north", "south")))
    assert rig.kinds((1, ACTIONS)) == ["partial"]


def test_audits_come_at_the_refresh_rate():
    rig = Rig(refresh_rate=0.25, threshold=-1.0)
    rig.ask((0,))
    kinds = [rig.kinds((number,))[0] for number in range(1, 401)]
    assert set(kinds) == {"audit", "semantic"}
    assert 70 <= kinds.count("audit") <= 130


def test_one_call_asks_the_inner_prior_once_and_identical_states_once():
    rig = Rig()
    requests = [(0,), (50,), (0,), (1,), (50, ("north", "open"))]
    assert rig.kinds(*requests) == ["miss", "miss", "exact", "semantic", "partial"]
    assert rig.inner.calls == [[state(0), state(50), state(50, ("open",))]]


requests = st.lists(
    st.tuples(
        st.sampled_from([0, 1, 2, 50, 51, 200]),
        st.permutations(ACTIONS).flatmap(lambda p: st.integers(1, 3).map(lambda n: tuple(p[:n]))),
        st.sampled_from(["red", "blue"]),
    ),
    min_size=1,
    max_size=12,
)


@given(
    requests, st.sampled_from([0.0, 0.5, 1.0]), st.integers(1, 4), st.sampled_from(["lru", "exact"])
)
def test_a_batch_is_answered_as_its_states_one_by_one(batch, refresh_rate, capacity, mode):
    together = Rig(mode, refresh_rate, capacity)
    alone = Rig(mode, refresh_rate, capacity)
    answers = together.ask(*batch)
    one_by_one = [alone.ask(request)[0] for request in batch]
    assert [a.kind for a in answers] == [a.kind for a in one_by_one]
    assert [a.scores.tolist() for a in answers] == [a.scores.tolist() for a in one_by_one]
    assert list(together.cache) == list(alone.cache)
    assert together.telemetry.audits == alone.telemetry.audits
    assert together.telemetry.partials == alone.telemetry.partials
    assert together.inner.asked == alone.inner.asked
    assert len(together.inner.calls) <= 1


@given(st.lists(requests, max_size=5), st.sampled_from(["off", "exact", "lru"]))
def test_hits_and_queries_make_up_all_look_ups_and_queries_are_what_was_asked(batches, mode):
    rig = Rig(mode, refresh_rate=0.3, capacity=3)
    for batch in batches:
        for answer, request in zip(rig.ask(*batch), batch, strict=True):
            assert np.exp(answer.log_prior).sum() == pytest.approx(1.0)
            assert len(answer.log_prior) == len(request[1])
            assert np.isfinite(answer.scores).all()
    assert rig.telemetry.hits + rig.telemetry.queries == sum(map(len, batches))
    assert rig.telemetry.queries == len(rig.inner.asked)
    assert rig.telemetry.totals["tokens"] == sum(10.0 + len(s.actions) for s in rig.inner.asked)
    assert len(rig.cache) <= 3


@given(st.lists(requests, max_size=5))
def test_answers_of_mode_exact_are_always_the_fresh_ones(batches):
    rig = Rig("exact", capacity=3)
    for batch in batches:
        for answer, request in zip(rig.ask(*batch), batch, strict=True):
            assert answer.scores.tolist() == fresh(rig, *request).tolist()


def test_a_read_only_cache_answers_and_nothing_changes():
    rig = Rig(refresh_rate=1.0)
    rig.ask((0, ("north", "south")), (50,))
    before = [dataclasses.replace(e, scores=Scores.of(e.scores)) for e in rig.cache]
    rig.prior = rig.over(rig.cache.frozen())
    asked = [(0, ("north",)), (1, ("south",)), (1,), (0,), (200,), (200,)]
    answers = rig.ask(*asked)
    expected = ["exact", "semantic", "partial", "partial", "miss", "miss"]
    assert [a.kind for a in answers] == expected
    assert answers[2].scores.tolist() == fresh(rig, 1).tolist()
    assert answers[4].scores.tolist() == fresh(rig, 200).tolist()
    assert list(rig.cache) == before
    assert rig.telemetry.audits == rig.telemetry.partials == []


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_a_call_that_fails_leaves_no_half_scored_entries(error):
    rig = Rig()
    rig.ask((0, ("north",)))
    answer, rig.inner.log_probs = rig.inner.log_probs, raising(error)
    with pytest.raises(error):
        rig.ask((0, ACTIONS), (1, ("north", "south")), (50,))
    rig.inner.log_probs = answer
    (entry,) = rig.cache
    assert entry.scores == {"north": fresh(rig, 0)[0]}
    assert rig.telemetry.decisions == 1
    assert rig.kinds((0, ("north",)), (50,), (0,)) == ["exact", "miss", "partial"]


def everything(cache, generator, controller):
    """All that the next decision depends on, to be compared."""
    saved = cache.saved()
    arrays = {**saved.columns, "keys": saved.keys, "ghosts": saved.ghosts, "lent": saved.lent}
    content = {name: np.asarray(array).tolist() for name, array in arrays.items()}
    return repr([content, saved.state, generator.bit_generator.state, controller.state()])


@settings(deadline=None)
@given(requests, st.sampled_from(["exact", "lru", "certified"]), st.integers(1, 3))
def test_a_state_that_cannot_be_asked_about_changes_nothing(states, mode, capacity):
    rig = Rig(mode, refresh_rate=0.5, capacity=capacity)
    generator = np.random.default_rng(0)
    controller = make_controller(rig.cache.config)
    rig.prior = CachedPrior(
        rig.inner, rig.cache, rig.encode, generator, rig.telemetry, controller=controller
    )
    answer = rig.inner.log_probs
    for request in states:
        before = everything(rig.cache, generator, controller)
        rig.inner.log_probs = raising(PriorError("gone"))
        try:
            rig.ask(request)
        except PriorError:
            assert everything(rig.cache, generator, controller) == before
            rig.inner.log_probs = answer
            rig.ask(request)


def raising(error):
    def log_probs(states):
        raise error

    return log_probs


def test_a_restored_cache_and_generator_go_on_exactly_alike(tmp_path):
    rig = Rig(refresh_rate=0.5, capacity=4)
    random = np.random.default_rng(3)
    walk = [(int(n),) for n in random.integers(0, 12, size=120)]
    for request in walk[:60]:
        rig.ask(request)
    rig.cache.save(tmp_path)
    other = Rig(refresh_rate=0.5, capacity=4)
    other.cache.restore(PriorCache.load(tmp_path, NAMESPACE, other.cache.config))
    other.prior._generator.bit_generator.state = rig.prior._generator.bit_generator.state
    for request in walk[60:]:
        (here,), (there,) = rig.ask(request), other.ask(request)
        assert (here.kind, here.scores.tolist()) == (there.kind, there.scores.tolist())
    assert list(rig.cache) == list(other.cache)


def certified_rig(right=120, **budget):
    """A certified cache that lets texts within 0.02 radians answer, certified by `right` misses."""
    certified = CertifiedConfig(grid=(0.9998, 0.99), **budget)
    rig = Rig(mode="certified", certified=certified, control_interval=1)
    rig.controller = make_controller(rig.cache.config)
    generator = np.random.default_rng(0)
    rig.prior = CachedPrior(
        rig.inner, rig.cache, rig.encode, generator, rig.telemetry, rig.controller
    )
    for _ in range(right):
        rig.controller.look_up()
        rig.controller.judge(Comparison(0.9999, 0.0, 0.0, 1.0, False), rig.cache)
    rig.ask((0,))
    assert rig.cache.knobs.threshold == 0.9998
    return rig


def test_after_a_failed_audit_every_hit_is_audited_until_the_suspicion_is_cleared():
    rig = certified_rig(least_refresh_rate=1e-9, window=10**9)
    assert rig.kinds((0.5,)) == ["semantic"]
    rig.controller.judge(Comparison(0.9999, 9.0, 1.0, 0.5, True), rig.cache)
    assert rig.kinds((0.6,)) == ["audit"]
    for _ in range(6):
        rig.controller.judge(Comparison(0.9999, 0.0, 0.0, 1.0, True), rig.cache)
    assert not rig.controller.watching
    assert rig.kinds((0.7,)) == ["semantic"]


def test_an_alarm_withdraws_the_certificate_at_once_and_old_entries_answer_their_text_only():
    rig = certified_rig()
    for _ in range(7):
        rig.controller.judge(Comparison(0.9999, 9.0, 1.0, 0.5, True), rig.cache)
    assert rig.controller.certificate.alarms == 1
    assert rig.cache.certificate["threshold"] is None
    assert rig.cache.knobs.threshold is None
    assert rig.kinds((0.5,), (0,)) == ["miss", "exact"]
    assert rig.cache.nearest(TextState("goal", "0", ()), encode("0")).entry.text == "0.5"


def test_what_was_looked_up_before_an_alarm_is_no_evidence_after_it():
    rig = certified_rig()
    entry = rig.cache.exact("goal", "0")
    rig.cache.set_aside([entry])
    before = rig.controller.state()["controller"]["evidence"]
    plan = rig.prior._miss(state(1), encode("1"), Neighbour(entry, 0.9999), kind="audit")
    rig.prior._ask([plan])
    rig.prior._finish(plan)
    assert rig.controller.state()["controller"]["evidence"] == before


def test_a_certified_cache_of_thousands_goes_on_exactly_after_a_stop(tmp_path):
    """Beyond 4,000 entries keys are searched in a graph, which must come back as it was."""
    budget = CertifiedConfig(kappa=5.0, grid=(0.99, 0.95), window=4000)
    config = CacheConfig(
        mode="certified", capacity=4700, certified=budget, learn_head=False, control_interval=50
    )
    random = np.random.default_rng(0)
    points = random.standard_normal((5200, 6)).astype(np.float32)
    points /= np.linalg.norm(points, axis=1, keepdims=True)

    def rig(cache):
        inner, telemetry = FakePrior(), CacheTelemetry(config.hit_rate_decay)
        controller = make_controller(config)
        generator = np.random.default_rng(1)
        prior = CachedPrior(
            inner, cache, lambda _, text: points[int(text)], generator, telemetry, controller
        )
        return prior, controller, generator, telemetry

    def play(prior, numbers):
        states = [TextState("goal", str(number), ACTIONS) for number in numbers]
        return [(a.kind, a.scores.tolist()) for state in states for a in prior.log_probs([state])]

    cache = PriorCache(config, 6, NAMESPACE)
    for number in range(4100):
        cache.insert("goal", str(number), points[number], dict.fromkeys(ACTIONS, -1.0))
    prior, controller, generator, telemetry = rig(cache)
    play(prior, range(4100, 4600))
    assert controller.certificate.threshold is not None  # and the cache is about to be full
    cache.save(tmp_path)
    other = PriorCache.load(tmp_path, NAMESPACE, config)
    resumed, its_controller, its_generator, its_telemetry = rig(other)
    its_controller.restore(controller.state())
    its_generator.bit_generator.state = generator.bit_generator.state
    its_telemetry.restore(*telemetry.state())
    rest = [*range(4600, 5200), *random.integers(4000, 5200, size=100).tolist()]
    expected = play(prior, rest)
    assert play(resumed, rest) == expected
    assert {"exact", "semantic", "audit", "miss"} <= {kind for kind, _ in expected}
    for name, one in (("whole", cache), ("resumed", other)):
        one.save(tmp_path / name)
    whole, again = (  # files are named by the hash of their content
        {path.name for path in (tmp_path / name).glob("*.npz")} for name in ("whole", "resumed")
    )
    assert whole == again
    assert any(name.startswith("graphs-") for name in whole)
