import numpy as np
import pytest

from cepcli.datasets.control_replay import ControlReplay, ControlTransition, StoredTransitions
from cepcli.datasets.replayed import replay_data
from cepcli.errors import DataError
from tests.datasets.data import same, walker


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
