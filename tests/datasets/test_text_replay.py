import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cepcli.datasets.text_replay import NStepWindow, StateRows, TextReplay, Transition


def state(number, width=2):
    return StateRows(0, number, tuple(range(width)), tuple(np.float32(-x) for x in range(width)))


def test_n_step_reward_and_discount_by_hand():
    window = NStepWindow(n=2, discount=0.5)
    assert window.arrive(state(0)) == []
    window.step(state(0), 1, 1.0)
    assert window.arrive(state(1)) == []
    window.step(state(1), 0, 4.0)
    assert window.arrive(state(2)) == [Transition(state(0), 1, 1.0 + 0.5 * 4.0, state(2), 0.25)]


def test_terminated_steps_do_not_bootstrap():
    window = NStepWindow(n=3, discount=0.5)
    window.step(state(0), 0, 1.0)
    window.arrive(state(1))
    window.step(state(1), 1, 2.0)
    first, second = window.terminate()
    assert (first.reward, first.discount) == (2.0, 0.0)
    assert (second.state, second.reward, second.discount) == (state(1), 2.0, 0.0)


def test_truncated_episode_still_bootstraps_from_the_last_known_state():
    window = NStepWindow(n=3, discount=0.5)
    window.step(state(0), 0, 1.0)
    window.arrive(state(1))
    window.step(state(1), 1, 2.0)
    assert window.truncate() == [Transition(state(0), 0, 1.0, state(1), 0.5)]
    window.step(state(5), 0, 0.0)
    assert window.truncate() == [], "nothing of the old episode leaks into the next"


def test_window_survives_a_checkpoint():
    window = NStepWindow(n=2, discount=0.9)
    window.step(state(0), 1, 0.25)
    copy = NStepWindow(n=2, discount=0.9)
    copy.restore(window.state())
    copy.step(state(1), 0, 1.0)
    window.step(state(1), 0, 1.0)
    assert copy.arrive(state(2)) == window.arrive(state(2))


@settings(deadline=None)
@given(widths=st.lists(st.integers(1, 20), min_size=1, max_size=40), capacity=st.integers(1, 30))
def test_replay_keeps_the_newest_whole(widths, capacity):
    replay = TextReplay(capacity)
    for number, width in enumerate(widths):
        replay.add(Transition(state(number, width), 0, float(number), state(number, width), 0.9))
    assert len(replay) == min(capacity, len(widths))
    batch = replay.sample(200, np.random.default_rng(0))
    for row, number in enumerate(batch.reward.astype(int)):
        assert number >= len(widths) - capacity
        width = widths[number]
        assert batch.state.text[row] == number
        kept = batch.state.actions[row]
        assert list(kept[:width]) == list(range(width))
        assert (kept[width:] == -1).all()
        assert np.isneginf(batch.next_state.log_prior[row][width:]).all()
        assert np.isfinite(batch.next_state.log_prior[row][:width]).all()


def test_replay_survives_a_checkpoint_mid_ring():
    replay = TextReplay(5)
    for number in range(7):
        replay.add(Transition(state(number), 1, float(number), state(number + 1), 0.5))
    copy = TextReplay(5)
    copy.restore(replay.state())
    for memory in (replay, copy):
        memory.add(Transition(state(99, 12), 1, 99.0, state(100), 0.5))
    one, two = (m.sample(64, np.random.default_rng(1)) for m in (replay, copy))
    assert np.array_equal(one.reward, two.reward)
    assert np.array_equal(one.state.actions, two.state.actions)


@pytest.mark.parametrize("capacity", [1, 300])
def test_replay_never_exceeds_capacity(capacity):
    replay = TextReplay(capacity)
    for number in range(400):
        replay.add(Transition(state(number), 0, 0.0, state(number), 0.0))
    assert len(replay) == capacity
