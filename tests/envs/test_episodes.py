import pytest
import torch

from cepcli.envs.episodes import play_episodes
from cepcli.errors import Interrupted
from tests.agents.control_worlds import Point
from tests.agents.worlds import Corridor


def played(lanes, episodes=5):
    """The trackers of chance episodes in the corridor, and how many lanes ran in each round."""
    running = []

    def act(lanes):
        running.append(len(lanes))
        draws = [int(torch.randint(2, (), generator=lane.noise)) for lane in lanes]
        return [lane.tracker.state.actions[draw] for lane, draw in zip(lanes, draws, strict=True)]

    return play_episodes([Corridor() for _ in range(lanes)], episodes, 3, act), running


def test_lanes_change_nothing_about_an_episode():
    (one, alone), (many, together) = played(1), played(3)
    assert [t.actions for t in one] == [t.actions for t in many]
    assert [t.instance for t in one] == [t.instance for t in many]
    assert len({tuple(t.actions) for t in one}) > 1
    assert (max(alone), max(together)) == (1, 3)
    assert sum(alone) == sum(together) == sum(len(t.actions) for t in one)


def test_fewer_episodes_than_lanes_leave_lanes_idle():
    trackers, running = played(4, episodes=2)
    assert len(trackers) == 2
    assert max(running) == 2


def test_control_is_played_by_the_same_loop():
    trackers = play_episodes([Point(), Point()], 3, 0, lambda lanes: [[0.0]] * len(lanes))
    assert [len(tracker.actions) for tracker in trackers] == [17, 17, 17]
    assert len({tracker.instance for tracker in trackers}) > 1


def test_an_interrupt_ends_it_between_rounds():
    def interrupted(done):
        raise Interrupted

    with pytest.raises(Interrupted):
        play_episodes([Corridor()], 1, 0, lambda lanes: ["go left"], interrupted)
