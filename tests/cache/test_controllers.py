import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cepcli.cache.certificate import Comparison
from cepcli.cache.config import CacheConfig, CertifiedConfig, Knobs, SurrogateConfig
from cepcli.cache.controllers import (
    Controller,
    Signals,
    make_controller,
)

KNOBS = Knobs(100, 0.9, 0.1)


def signals(**values):
    calm = {"decisions": 100, "hits": 70, "queries": 30, "ghost_hits": 0}
    return Signals(**{**calm, **values})


def right(similarity=0.96):
    return Comparison(similarity, 0.1, 0.0, 1.0, False)


def wrong(similarity=0.96, probability=1.0):
    return Comparison(similarity, 4.0, 1.0, probability, True)


@pytest.mark.parametrize("mode", ["lru", "fifo", "exact", "off"])
def test_modes_without_a_controller_leave_everything_as_it_is(mode):
    controller = make_controller(CacheConfig(mode=mode))
    assert type(controller) is Controller
    assert controller.update(signals(ghost_hits=50, td_error=9.0), KNOBS) == KNOBS
    assert controller.observe(wrong()) is False
    assert controller.certificate is None


def test_certified_lets_no_similar_text_answer_before_it_has_evidence():
    controller = make_controller(CacheConfig(mode="certified"))
    assert controller.update(signals(), KNOBS).threshold is None


def certified(**values):
    budget = CertifiedConfig(grid=(0.99, 0.95, 0.9), **values)
    return make_controller(
        CacheConfig(mode="certified", capacity=100, most_capacity=1000, certified=budget)
    )


def test_certified_opens_at_the_safe_threshold_and_closes_again_on_failures():
    controller = certified(watch=False)
    for _ in range(100):
        controller.look_up()
        controller.observe(right())
    knobs = controller.update(signals(), KNOBS)
    assert knobs.threshold == 0.95
    assert controller.certificate.threshold == 0.95
    for _ in range(12):
        controller.look_up()
        assert controller.observe(wrong(probability=knobs.refresh_rate))
    assert controller.certificate.threshold == 0.95  # in force until the next update
    assert controller.update(signals(), knobs).threshold is None


def test_certified_watches_after_a_failed_audit_and_withdraws_at_once_when_they_keep_failing():
    controller = certified()
    for _ in range(100):
        controller.look_up()
        controller.observe(right())
    knobs = controller.update(signals(), KNOBS)
    assert not controller.watching
    for number in range(7):
        assert controller.certificate.threshold == 0.95
        assert controller.alarms == 0
        controller.look_up()
        probability = 1.0 if controller.watching else knobs.refresh_rate
        assert controller.observe(wrong(probability=probability))
        assert controller.watching == (number < 6)
    found = controller.certificate
    assert (found.threshold, found.alarms, controller.alarms) == (None, 1, 1)
    assert controller.update(signals(), knobs).threshold is None


def test_certified_audits_as_many_hits_as_half_a_window_needs():
    few, many = certified(window=10_000), certified(window=1000)
    rates = []
    for controller in (few, many):
        for _ in range(100):
            controller.look_up()
            controller.observe(right())
        rates.append(controller.update(signals(), KNOBS).refresh_rate)
    needed = max(4 * few._evidence.least_observations, 200)
    assert rates[0] == pytest.approx(needed / 5000)
    assert rates[1] == pytest.approx(min(needed / 500, 0.5))


def test_certified_forgets_its_evidence_when_the_keys_change():
    controller = certified()
    for _ in range(100):
        controller.look_up()
        controller.observe(right())
    knobs = controller.update(signals(), KNOBS)
    controller.forget()
    assert controller.certificate.threshold is None
    assert controller.update(signals(), knobs).threshold is None


def test_a_suspicion_under_other_keys_counts_for_nothing():
    controller = certified()
    controller._alarm.statistic = 50.0
    controller.forget()
    assert not controller._alarm.watching


def test_certified_capacity_doubles_on_ghost_hits_up_to_its_bound():
    controller = certified()
    assert controller.update(signals(ghost_hits=1), KNOBS).capacity == 100
    assert controller.update(signals(ghost_hits=2), KNOBS).capacity == 200
    assert controller.update(signals(ghost_hits=2), Knobs(800, 0.9, 0.1)).capacity == 1000


def surrogate(**values):
    config = SurrogateConfig(**values)
    return make_controller(
        CacheConfig(mode="surrogate", capacity=100, most_capacity=1000, surrogate=config)
    )


def test_surrogate_capacity_grows_when_hits_are_few_and_shrinks_when_they_are_many():
    assert surrogate().update(signals(hits=20), KNOBS).capacity == 125
    assert surrogate().update(signals(hits=100), KNOBS).capacity == 85


@pytest.mark.parametrize(("sign", "looser"), [("loosen", True), ("tighten", False)])
def test_surrogate_moves_the_threshold_by_the_td_error_in_the_configured_direction(sign, looser):
    controller = surrogate(td_error_sign=sign)
    same = controller.update(signals(td_error=1.0), KNOBS)
    assert same.threshold == pytest.approx(0.9)
    moved = controller.update(signals(td_error=1.5), same)
    factor = math.exp(0.25 if looser else -0.25)
    assert 1 - moved.threshold == pytest.approx(0.1 * factor)


def test_surrogate_audits_more_when_the_policy_varies_more():
    controller = surrogate()
    controller.update(signals(variability=0.4), KNOBS)
    assert controller.update(signals(variability=0.6), KNOBS).refresh_rate > KNOBS.refresh_rate


def test_surrogate_takes_a_step_back_that_cost_more_than_it_brought():
    controller = surrogate()
    first = controller.update(signals(hits=20, queries=30), KNOBS)
    assert controller.update(signals(queries=60), first) == KNOBS
    assert controller.rollbacks == 1
    assert controller.update(signals(hits=20, queries=60), KNOBS).capacity == 125


def test_surrogate_keeps_a_step_that_paid():
    controller = surrogate()
    first = controller.update(signals(hits=20, queries=60), KNOBS)
    assert controller.update(signals(queries=30), first).capacity == first.capacity


values = st.one_of(st.none(), st.floats(0, 1e6))
some_signals = st.builds(
    Signals,
    decisions=st.integers(1, 500),
    hits=st.just(0),
    queries=st.integers(0, 500),
    ghost_hits=st.integers(0, 50),
    td_error=values,
    variability=values,
    episode_return=st.one_of(st.none(), st.floats(-100, 100)),
)


@given(st.lists(some_signals, max_size=30), st.sampled_from(["surrogate", "certified"]))
def test_parameters_stay_within_bounds_and_a_restored_controller_goes_on_alike(steps, mode):
    config = CacheConfig(mode=mode, capacity=100, most_capacity=1000)
    first, knobs = make_controller(config), config.knobs
    for step in steps:
        knobs = first.update(step, knobs)
        assert 1 <= knobs.capacity <= 1000
        assert knobs.threshold is None or -1 <= knobs.threshold <= 1
        assert 0 < knobs.refresh_rate <= 1
    second = make_controller(config)
    second.restore(first.state())
    assert second.state() == first.state()
    assert second.update(signals(td_error=3.0), knobs) == first.update(signals(td_error=3.0), knobs)
