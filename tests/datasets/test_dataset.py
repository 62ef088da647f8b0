import numpy as np
import pytest

from cepcli.datasets.dataset import (
    TextData,
    histogram,
    histogram_lines,
    normalised_score,
    quality_of,
)
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


def test_quality_counts_and_scores():
    data = walker()
    found = quality_of(data)
    assert (found["transitions"], found["episodes"]) == (50, 3)
    assert (found["terminated"], found["truncated"]) == (1, 2)
    assert found["return_mean"] == data.returns().mean()
    expected = 100 * (data.returns().mean() - 1.629008) / 4590.670992
    assert found["normalised_score"] == pytest.approx(expected, abs=1e-9)
    assert found["success_rate"] is None


def test_every_episode_is_in_one_bin():
    bins = histogram(np.array([0.0, 1.0, 1.0, 9.0, 10.0]))
    assert sum(count for _, _, count in bins) == 5
    assert bins[0][0] == 0
    assert bins[-1][1] == 10


def test_equal_returns_are_one_bin():
    assert histogram(np.array([3.0, 3.0])) == [(3.0, 3.0, 2)]


def test_bars_are_as_long_as_bins_are_full():
    lines = histogram_lines([(0.0, 1.0, 2), (1.0, 2.0, 4), (2.0, 3.0, 0)])
    assert [line.count("█") for line in lines] == [20, 40, 0]
