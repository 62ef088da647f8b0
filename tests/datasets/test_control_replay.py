import resource

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cepcli.datasets.control_replay import (
    ControlReplay,
    ControlTransition,
    StoredTransitions,
    replay_data,
)
from cepcli.errors import DataError
from tests.datasets.data import same, walker


def transition(number, *, prior=None, terminated=False, symbol=0, nominal=False):
    return ControlTransition(
        observation=np.full(3, number, np.float64),
        symbol=symbol,
        control=np.array([0.25, -0.5], np.float32),
        reward=float(number),
        next_observation=np.full(3, number + 1, np.float64),
        terminated=terminated,
        next_log_prior=prior,
        nominal=np.full(2, number / 100) if nominal else None,
        next_nominals=np.arange(8).reshape(4, 2) / 10 if nominal else None,
    )


def memory(capacity=20, symbols=4, nominal=False):
    return ControlReplay(capacity, 3, 2, symbols, nominal=nominal)


def test_a_batch_holds_what_was_stored_with_boundaries_last():
    replay = memory(nominal=True)
    log_prior = np.log([0.1, 0.2, 0.3, 0.4]).astype(np.float32)
    replay.add(transition(5, prior=log_prior, symbol=2, nominal=True))
    replay.add(transition(7, symbol=1, terminated=True, nominal=True))
    batch = replay.sample(40, np.random.default_rng(0))
    boundaries = len(batch.next_log_prior)
    assert 0 < boundaries < 40
    assert (batch.reward[: 40 - boundaries] == 7).all()
    assert (batch.reward[40 - boundaries :] == 5).all()
    assert batch.pairs[0].tolist() == [7, 7, 7, 0, 1, 0, 0, 0.25, -0.5]
    assert batch.pairs[-1].tolist() == [5, 5, 5, 0, 0, 1, 0, 0.25, -0.5]
    assert batch.next_observation[-1].tolist() == [6, 6, 6]
    assert batch.continues[0] == 0
    assert batch.continues[-1] == 1
    assert np.array_equal(batch.next_log_prior[0], log_prior)
    assert np.allclose(batch.nominal[-1], 0.05)
    assert np.allclose(batch.next_nominals[0], np.arange(8).reshape(4, 2) / 10)


def test_one_symbol_adds_no_input_and_no_boundary():
    replay = memory(symbols=1)
    replay.add(transition(1, prior=np.zeros(1)))
    batch = replay.sample(8, np.random.default_rng(0))
    assert batch.pairs[0].tolist() == [1, 1, 1, 0.25, -0.5]
    assert len(batch.next_log_prior) == 0


@given(count=st.integers(1, 40), capacity=st.integers(1, 30))
def test_the_newest_are_kept(count, capacity):
    replay = memory(capacity)
    for number in range(count):
        replay.add(transition(number))
    assert len(replay) == min(count, capacity)
    kept = set(replay.sample(500, np.random.default_rng(0)).reward.int().tolist())
    assert kept <= set(range(max(0, count - capacity), count))


def test_replay_survives_a_checkpoint_mid_ring():
    replay, copy = memory(5), memory(5)
    for number in range(7):
        replay.add(transition(number))
    copy.restore(replay.state())
    for one in (replay, copy):
        one.add(transition(99))
    first, second = (one.sample(64, np.random.default_rng(1)) for one in (replay, copy))
    assert np.array_equal(first.pairs, second.pairs)
    assert np.array_equal(first.reward, second.reward)


def test_a_checkpoint_holds_only_what_is_filled_and_empty_capacity_takes_no_memory():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    replay = ControlReplay(1_000_000, 100, 8, 8, nominal=False)
    replay.add(ControlTransition(np.zeros(100), 0, np.zeros(8), 0.0, np.zeros(100), False))
    assert len(replay.state()["rows"]) == 1
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000, "kB"


def stored(data, rows=None):
    rows = np.arange(len(data)) if rows is None else rows
    return StoredTransitions(
        data.observations[rows], data.controls[rows], data.rewards[rows],
        data.next_observations[rows], data.terminated[rows],
    )  # fmt: skip


def test_episodes_are_found_where_they_end_and_are_cut():
    data = walker()
    assert same(replay_data("walker2d", "", stored(data), None), data)


def test_interleaved_episodes_are_put_in_order():
    data = walker(ends=(("terminated", 19), ("truncated", 39)))
    turns = np.stack([np.arange(20), np.arange(20, 40)], axis=1).ravel()
    assert same(replay_data("walker2d", "", stored(data, turns), None), data)


def test_fewer_transitions_are_of_evenly_spaced_whole_episodes():
    data = walker(ends=tuple(("truncated", 10 * n + 9) for n in range(5)))
    found = replay_data("walker2d", "", stored(data), 25)
    assert len(found) == 25
    assert np.array_equal(found.observations[:10], data.observations[:10])
    assert np.array_equal(found.observations[10:20], data.observations[20:30])
    assert np.array_equal(found.observations[20:], data.observations[40:45])
    assert np.flatnonzero(found.truncated).tolist() == [9, 19, 24]


def test_more_than_there_is_is_refused():
    with pytest.raises(DataError, match="holds 50 transitions, expected 51"):
        replay_data("walker2d", "", stored(walker()), 51)


@pytest.mark.parametrize("symbols", [1, 3])
def test_a_replay_gives_its_transitions_oldest_first(symbols):
    replay = ControlReplay(4, 2, 1, symbols, nominal=False)
    for number in range(6):
        replay.add(ControlTransition(
            np.array([number, 0.5]), symbols - 1, np.array([number / 10]), number,
            np.array([number + 1, 0.5]), number == 3,
            next_log_prior=np.zeros(symbols) if number % 2 else None,
        ))  # fmt: skip
    found = replay.transitions()
    assert found.observations[:, 0].tolist() == [2, 3, 4, 5]
    assert found.next_observations[:, 0].tolist() == [3, 4, 5, 6]
    np.testing.assert_allclose(found.controls[:, 0], [0.2, 0.3, 0.4, 0.5])
    assert found.rewards.tolist() == [2, 3, 4, 5]
    assert found.terminated.tolist() == [False, True, False, False]
