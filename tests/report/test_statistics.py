import numpy as np
import pytest
from scipy.stats import mannwhitneyu

from cepcli.report.statistics import (
    COUNT,
    SHARE,
    Estimate,
    interquartile_mean,
    mean_over_tasks,
    performance_profile,
    probability_of_improvement,
)


def share_covered(draws, truth):
    """How many of the intervals hold the truth."""
    return np.mean([found.low <= truth <= found.high for found in draws])


@pytest.mark.parametrize("seeds", [3, 5, 10])
def test_an_interval_over_few_seeds_covers_what_it_says(seeds):
    samples = np.random.default_rng(seeds).normal(1.0, 2.0, (3000, seeds))
    covered = share_covered([Estimate.of(one.tolist()) for one in samples], 1.0)
    assert 0.93 <= covered <= 0.97


@pytest.mark.parametrize("seeds", [3, 5, 10])
def test_an_interval_of_a_difference_covers_what_it_says(seeds):
    rng = np.random.default_rng(seeds)
    mine, theirs = rng.normal(12.0, 2.0, (2000, seeds)), rng.normal(10.0, 1.0, (2000, seeds))
    found = [
        Estimate.of_relative(a.tolist(), b.tolist()) for a, b in zip(mine, theirs, strict=True)
    ]
    # in units of the mean that was measured, which is what the share is of
    covered = [e.low <= 2.0 / b.mean() <= e.high for e, b in zip(found, theirs, strict=True)]
    assert 0.93 <= np.mean(covered) <= 0.98


@pytest.mark.parametrize("pairs", [3, 5, 10])
def test_an_interval_of_a_ratio_of_pairs_covers_what_it_says(pairs):
    rng = np.random.default_rng(pairs)
    common = rng.normal(10.0, 0.5, (2000, pairs))
    mine = 0.9 * common + rng.normal(0.0, 0.3, common.shape)
    theirs = common + rng.normal(0.0, 0.3, common.shape)
    found = [Estimate.of_ratio(a.tolist(), b.tolist()) for a, b in zip(mine, theirs, strict=True)]
    assert 0.93 <= share_covered([one for one in found if one is not None], 0.9) <= 0.97


@pytest.mark.parametrize("seeds", [3, 5])
def test_an_interval_over_tasks_covers_what_it_says(seeds):
    rng = np.random.default_rng(seeds)
    drawn = [rng.normal([[0.0], [1.0], [2.0]], 1.0, (3, seeds)) for _ in range(300)]
    covered = share_covered([mean_over_tasks(one.tolist()) for one in drawn], 1.0)
    assert 0.91 <= covered <= 0.98


@pytest.mark.parametrize("spread", [(1.0, 0.0, 0.0), (1.0, 0.1, 0.1)])
@pytest.mark.parametrize("statistic", ["mean", "profile"])
def test_a_task_whose_seeds_agree_adds_no_freedom(spread, statistic):
    rng = np.random.default_rng(0)
    scale = np.array(spread)[:, None]
    drawn = rng.normal([[0.0], [1.0], [2.0]], scale, (500, 3, 3))
    if statistic == "mean":
        covered = share_covered([mean_over_tasks(one.tolist()) for one in drawn], 1.0)
        assert 0.93 <= covered <= 0.98
    else:  # seeds of the first task alone differ: Student's of two degrees of freedom
        found = performance_profile([[-1.0, -0.5, 0.5], [1.0] * 3, [2.0] * 3], [0.0])[0]
        half = 4.303 * (2 / 9 / 2) ** 0.5 / 3
        assert found.low == pytest.approx(found.mean - half, rel=0.1)


def test_two_seeds_have_their_range_and_it_is_called_so():
    assert Estimate.of([1.0, 3.0]) == Estimate(2.0, 1.0, 3.0, "range")
    found = Estimate.of_relative([8.0, 9.0], [10.0, 12.0, 14.0])
    assert found == Estimate(-3.5 / 12, -6 / 12, -1 / 12, "range")


def test_an_interval_keeps_to_what_there_can_be():
    assert Estimate.of([0.9, 1.0, 1.0], SHARE).high == 1.0
    assert Estimate.of_rates([0.0, 0.1, 0.0], [30] * 3).low == 0.0
    assert Estimate.of([1.0, 0.0, 9.0], COUNT).low == 0.0
    assert Estimate.of([0.9, 1.0, 1.0]).high > 1.0


def test_success_rates_that_all_agree_have_the_interval_of_their_episodes():
    found = Estimate.of_rates([1.0, 1.0, 1.0], [10, 10, 10])
    assert found == Estimate(1.0, pytest.approx(0.025 ** (1 / 30)), 1.0, "episodes")
    half = Estimate.of_rates([0.5, 0.5], [20, 20])
    assert half.low < 0.36 < 0.5 < 0.64 < half.high
    assert half.interval == "episodes", "two seeds that agree have more than a range"
    assert Estimate.of_rates([0.4, 0.6, 0.5], [20] * 3).interval == "seeds"


def test_retentions_that_all_agree_have_the_interval_of_their_episodes():
    found = Estimate.of_rates([0.9, 0.8], [30, 30], [0.9, 0.8])
    assert (found.mean, found.interval) == (1.0, "episodes")
    assert 0.85 < found.low < 0.95 < 1.05 < found.high < 1.12
    assert Estimate.of_rates([0.9, 0.8, 0.7], [30] * 3, [0.9, 0.9, 0.9]).interval == "seeds"


def test_equal_values_have_an_interval_of_no_width():
    assert Estimate.of([2.0, 2.0, 2.0]) == Estimate(2.0, 2.0, 2.0, "seeds")


def test_a_ratio_of_paired_outcomes_has_a_paired_interval():
    won = [1.0] * 80 + [0.0] * 20
    same = Estimate.of_ratio(won, won)
    assert same.mean == 1.0
    assert 0.95 < same.low < 1.0 < same.high < 1.05, "a hundred pairs are no proof of none"
    fewer = Estimate.of_ratio([0.0] * 8 + won[8:], won)
    assert fewer.mean == pytest.approx(0.9)
    assert 0.8 < fewer.low < 0.9 < fewer.high < 0.97
    assert Estimate.of_ratio(won, [0.0] * 100) is None
    assert Estimate.of_ratio([-0.5, -0.5], [-1.0, -1.0]) is None, "half the loss is no half"
    independent = Estimate.of_ratio(won[::-1], won)
    assert independent.high - independent.low > fewer.high - fewer.low


def test_a_relative_difference_has_an_unpaired_interval():
    found = Estimate.of_relative([8.0, 9.0, 10.0], [10.0, 10.0, 10.0])
    assert found.mean == pytest.approx(-0.1)
    assert -0.4 <= found.low < -0.2 < 0.0 < found.high <= 0.2, "Welch's, of three seeds"
    assert Estimate.of_relative([-5.0], [-10.0, -10.0]) == Estimate(0.5)
    assert Estimate.of_relative([1.0], [0.0]) is None


def test_a_single_value_has_an_unknown_interval_whatever_is_made_of_it():
    for found in (
        Estimate.of([0.5]),
        Estimate.of_ratio([0.5], [1.0]),
        Estimate.of_relative([0.75, 0.75], [0.5]),
        interquartile_mean([[0.4, 0.6], [0.5]]),
        mean_over_tasks([[0.5], [0.5]]),
        probability_of_improvement([[0.5, 0.5]], [[0.5]]),
        *performance_profile([[1.0]], [0.0, 1.0]),
    ):
        assert (found.low, found.high) == (None, None)
    assert Estimate.of([0.5]).mean == 0.5


def test_the_interquartile_mean_leaves_out_a_quarter_at_each_end_of_all_runs():
    found = interquartile_mean([[0.0, 1.0, 2.0, 100.0], [3.0, 4.0, 5.0, 6.0]])
    assert found.mean == pytest.approx((2.0 + 3.0 + 4.0 + 5.0) / 4)
    assert found.low < found.mean < found.high
    assert interquartile_mean([[1.0, 2.0, 6.0]]).mean == 3.0, "too few to leave one out"


def test_seeds_are_drawn_within_their_task():
    tasks = [[0.0, 0.0, 0.0], [10.0, 10.0, 10.0]]
    for found in (mean_over_tasks(tasks), interquartile_mean(tasks)):
        assert found == Estimate(5.0, 5.0, 5.0, "seeds"), "tasks differ, seeds do not"
    mixed = mean_over_tasks([[0.0, 10.0, 0.0, 10.0, 0.0, 10.0]])
    assert mixed.high - mixed.low > 4.0


def test_a_task_counts_once_however_many_seeds_it_has():
    assert mean_over_tasks([[1.0] * 9, [0.0]]).mean == 0.5
    assert performance_profile([[1.0] * 9, [0.0]], [0.5])[0].mean == 0.5


def test_improvement_is_the_share_of_pairs_won_with_ties_counted_half():
    assert probability_of_improvement([[1.0, 2.0]], [[1.0, 0.0]]).mean == (0.5 + 3.0) / 4
    rng = np.random.default_rng(0)
    mine, theirs = rng.normal(1.0, 1.0, (3, 5)), rng.normal(0.0, 1.0, (3, 4))
    found = probability_of_improvement(mine.tolist(), theirs.tolist())
    shares = [mannwhitneyu(a, b).statistic / 20 for a, b in zip(mine, theirs, strict=True)]
    assert found.mean == pytest.approx(np.mean(shares))
    assert found.low < found.mean < found.high


def test_what_always_wins_improves_for_sure_and_what_is_the_same_half_the_time():
    sure = probability_of_improvement([[2.0, 3.0]], [[0.0, 1.0]])
    assert (sure.mean, sure.high) == (1.0, 1.0)
    assert sure.low < 0.2, "two runs that win are no proof that the next one does"
    same = probability_of_improvement([[1.0, 2.0, 3.0]], [[1.0, 2.0, 3.0]])
    assert same.low < same.mean == 0.5 < same.high


def test_a_profile_is_the_share_of_runs_above_each_score():
    found = performance_profile([[0.2, 0.4], [0.6, 0.8]], [0.0, 0.4, 0.7, 0.8])
    assert [one.mean for one in found] == [1.0, 0.5, 0.25, 0.0]
    assert (found[0].mean, found[0].high) == (1.0, 1.0)
    assert 0.3 < found[0].low < 0.5, "of four runs"
    assert found[2].low == 0.0
    assert 0.25 < found[2].high <= 1.0


def test_an_interval_is_as_wide_as_theory_says():
    scores = np.random.default_rng(1).normal([[0.0], [1.0]], 1.0, (2, 200))
    for found in (mean_over_tasks(scores.tolist()), Estimate.of(scores[0].tolist())):
        n = 400 if found.mean > 0.25 else 200
        assert found.high - found.low == pytest.approx(2 * 1.96 / n**0.5, rel=0.15)
