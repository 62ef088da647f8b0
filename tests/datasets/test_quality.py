import numpy as np
import pytest

from cepcli.datasets.quality import histogram, histogram_lines, quality_of
from tests.datasets.data import walker


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
