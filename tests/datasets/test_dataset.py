import numpy as np
import pytest

from cepcli.datasets.dataset import TextData, normalised_score
from cepcli.datasets.text_replay import NO_ACTION
from tests.datasets.data import walker


def test_episodes_end_where_they_ended_or_were_cut():
    data = walker()
    assert data.episodes() == [slice(0, 20), slice(20, 40), slice(40, 50)]
    assert len(data) == 50


def test_an_episode_without_an_end_counts():
    data = walker()
    data.truncated[49] = False
    assert data.episodes()[-1] == slice(40, 50)


def test_returns_are_sums_of_rewards():
    data = walker()
    expected = [data.rewards[rows].astype(np.float64).sum() for rows in data.episodes()]
    np.testing.assert_allclose(data.returns(), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("env", "low", "high"),
    [
        ("walker2d", 1.629008, 4592.3),
        ("halfcheetah", -280.178953, 12135.0),
        ("hopper", -20.272305, 3234.3),
        ("ant", -325.6, 3879.7),
    ],
)
def test_reference_returns_score_0_and_100(env, low, high):
    found = normalised_score(env, np.array([low, high, (low + high) / 2]))
    np.testing.assert_allclose(found, [0, 100, 50])


def test_there_is_no_score_without_reference_returns():
    assert normalised_score("metaworld/reach", np.zeros(1)) is None
    assert normalised_score(None, np.zeros(1)) is None


def test_a_text_state_has_its_own_actions():
    data = TextData(
        "babyai/goto-local", "made up", ["win", "here", "left", "right"],
        np.array([0, 0], np.int32), np.array([1, 1], np.int32),
        np.array([[2, 3], [3, NO_ACTION]], np.int32), np.array([1, 0]),
        np.array([0.0, 1.0], np.float32), np.array([False, True]), np.array([False, False]),
        success=np.array([False, True]),
    )  # fmt: skip
    assert data.state(0).actions == ("left", "right")
    assert data.state(1).actions == ("right",)
    assert (data.state(0).goal, data.state(0).text) == ("win", "here")
    assert data.success_rate() == 1.0
    assert data.returns().tolist() == [1.0]
