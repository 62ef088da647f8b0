"""Counting decisions: every one is a hit, a query or free; a restored count goes on alike."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cepcli.cache.certificate import Comparison
from cepcli.cache.telemetry import KINDS, CacheTelemetry, SpacedSample
from cepcli.prior.base import PriorAnswer

ZERO = np.zeros(1)
kinds = st.lists(st.sampled_from(KINDS), max_size=60)


def answer(kind, number=0):
    query = kind in ("miss", "partial", "audit")
    return PriorAnswer(
        ZERO,
        ZERO,
        kind,
        tokens=10.0 * query,
        seconds=0.5 * query,
        live_seconds=0.25 * query,
        cache_seconds=0.001 * (number + 1),
    )


def filled(sequence, telemetry=None):
    telemetry = telemetry or CacheTelemetry(0.9)
    for number, kind in enumerate(sequence):
        telemetry.record(answer(kind, number))
        if kind == "audit":
            telemetry.comparisons.append(Comparison(0.99, 0.5 + number, 0.01 * number, 0.1))
            telemetry.comparisons.append(Comparison(0.5, 9.0, 9.0, 1.0, False))
        if kind == "partial":
            telemetry.partials.append(Comparison(0.98, 0.7 + number, 0.02 * number, 1.0))
    return telemetry


@given(kinds)
def test_hits_queries_and_free_decisions_make_up_all(sequence):
    telemetry = filled(sequence)
    summary = telemetry.summary()
    free = sequence.count("free")
    parts = (summary["hits"]["exact"], summary["hits"]["semantic"], summary["queries"]["total"])
    assert sum(parts) + free == telemetry.decisions == len(sequence)
    assert telemetry.hits == sequence.count("exact") + sequence.count("semantic")
    assert summary["hits"]["exact"] == sequence.count("exact")
    names = {"misses": "miss", "partial": "partial", "audits": "audit"}
    assert all(summary["queries"][name] == sequence.count(kind) for name, kind in names.items())
    assert summary["llm_tokens"] == 10.0 * telemetry.queries
    assert summary["llm_seconds_recorded"] == 0.5 * telemetry.queries
    assert summary["llm_seconds"] == 0.25 * telemetry.queries
    assert summary["audited"]["count"] == sequence.count("audit")
    assert summary["partial_hits_compared"]["count"] == sequence.count("partial")


def test_running_hit_rate_of_hand_computed_decisions():
    telemetry = CacheTelemetry(0.5)
    rates = []
    for kind in ("miss", "exact", "semantic", "partial", "audit"):
        telemetry.record(answer(kind))
        rates.append(telemetry.hit_rate)
    assert rates == [0.0, 0.5, 0.75, 0.375, 0.1875]


@given(kinds, kinds)
def test_restored_telemetry_goes_on_as_if_never_stopped(before, after):
    telemetry = filled(before)
    values, arrays = telemetry.state()
    restored = CacheTelemetry(0.9)
    restored.restore(json.loads(json.dumps(values)), arrays)
    assert filled(after, restored).summary() == filled(after, telemetry).summary()
    assert restored.hit_rate == telemetry.hit_rate
    assert restored.audits == telemetry.audits
    assert restored.partials == telemetry.partials


def test_telemetry_of_an_older_checkpoint_has_no_compared_partial_hits():
    telemetry = filled(["miss", "audit", "exact"])
    values, arrays = telemetry.state()
    del arrays["partials"]
    restored = CacheTelemetry(0.9)
    restored.restore(values, arrays)
    assert restored.summary() == telemetry.summary()


def test_percentiles_of_latency():
    telemetry = CacheTelemetry(0.9)
    for number in range(100):
        telemetry.record(answer("exact", number))
    telemetry.record(answer("miss", 0))
    summary = telemetry.summary()
    assert summary["cache_ms"]["p50"] == pytest.approx(50, abs=1)
    assert summary["latency_ms"]["p95"] == pytest.approx(96, abs=1)
    assert summary["llm_ms"] == {"p50": 500.0, "p95": 500.0}


def test_a_quantity_without_observations_is_none():
    summary = CacheTelemetry(0.9).summary()
    assert summary["latency_ms"] == {"p50": None, "p95": None}
    assert summary["audited"]["kl_mean"] is None
    json.dumps(summary, allow_nan=False)


@given(st.integers(0, 200), st.integers(0, 50))
def test_samples_are_bounded_evenly_spaced_and_resume(count, more):
    samples = SpacedSample(capacity=8)
    for number in range(count):
        samples.add(float(number))
    kept = np.array(samples.values)
    assert len(kept) == min(count, len(kept)) <= 8
    assert count < 8 or len(kept) >= 4
    assert len(set(np.diff(kept))) <= 1
    resumed = SpacedSample(capacity=8)
    resumed.restore(kept, samples.counters)
    for number in range(count, count + more):
        samples.add(float(number))
        resumed.add(float(number))
    assert resumed.values == samples.values


def test_audits_over_a_budget_are_counted_once_each_and_again_after_a_restore():
    telemetry = CacheTelemetry(0.9)
    counted = []

    class Counted(Comparison):
        @property
        def kl(self):
            counted.append(1)
            return self[2]

    for number in range(200):
        telemetry.comparisons.append(Counted(0.9, 1.0, number / 100, 0.5, number % 2 == 0))
        assert telemetry.audits_over(0.5) == max(0, number // 2 - 25)
    assert len(counted) == 100  # each audit, not each of those before it
    assert telemetry.audits_over(1.0) == 49
    other = CacheTelemetry(0.9)
    other.audits_over(0.5)
    other.restore(*telemetry.state())
    assert other.audits_over(0.5) == telemetry.audits_over(0.5) == 74
