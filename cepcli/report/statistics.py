"""Statistics over seeds and tasks, each with a 95 % interval: means, ratios, shares of runs.

Seeds are few, and a percentile bootstrap of three covers the truth in 72 % instead of 95 %. So
means have Student's interval over seeds, differences Welch's, ratios of pairs Fieller's; statistics
over several tasks have Student's with the standard error of a stratified bootstrap (seeds are drawn
within their task) that draws one fewer than there are, which makes that error unbiased (Rao and Wu
1988), and the degrees of freedom of Welch and Satterthwaite: tasks whose seeds agree add none. Two
seeds have no interval that says anything: their range is told instead. One has none.

A success rate that is the same under all seeds has the exact interval (Clopper and Pearson) of the
episodes that it was measured on, for seeds that agree say nothing about the next episode.

Interquartile mean, probability of improvement and performance profile are those of Agarwal et al.
2021 (arXiv 2108.13264).
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

_RESAMPLES = 2000
_CONFIDENCE = 0.95
_TRIMMED = 0.25  # of each end
_FEW = 2  # seeds, of which the range is told

#: Scores of runs: a task each, and in it a seed each.
Tasks = Sequence[Sequence[float]]

#: The least and the largest value that there can be; None where there is no end.
Bounds = tuple[float | None, float | None]
ANY: Bounds = (None, None)
SHARE: Bounds = (0.0, 1.0)
COUNT: Bounds = (0.0, None)

#: What the ends are of: seeds, episodes (of seeds that agree), or the range of two seeds.
Kind = Literal["seeds", "episodes", "range"]


@dataclass(frozen=True, slots=True)
class Estimate:
    """A statistic and its 95 % interval, whose ends are None where it is unknown.

    Attributes:
        mean: the statistic: a mean over seeds unless the function that made it says otherwise.
        low, high: the ends of the interval.
        interval: what it is over; None where it is unknown.
    """

    mean: float
    low: float | None = None
    high: float | None = None
    interval: Kind | None = None

    @classmethod
    def of(cls, values: Sequence[float], bounds: Bounds = ANY) -> "Estimate":
        """The mean of `values`, one a seed, with Student's interval, kept within `bounds`."""
        sample = _array(values)
        mean, count = float(sample.mean()), len(sample)
        if count <= _FEW:
            return _range(mean, sample, count)
        return _around(mean, sample.std(ddof=1) / math.sqrt(count), count - 1, bounds)

    @classmethod
    def of_rates(
        cls,
        rates: Sequence[float],
        episodes: Sequence[int],
        reference: Sequence[float] | None = None,
    ) -> "Estimate":
        """The mean of success rates, one a seed, each over so many episodes.

        With a `reference`, of the ratios to its rates, which are above 0 and taken as they are.
        """
        base = np.ones(len(rates)) if reference is None else _array(reference)
        ratios = _array(rates) / base
        if len(ratios) > 1 and np.ptp(ratios) == 0.0 and sum(episodes) > 0:
            won = round(float(np.dot(rates, episodes)))
            low, high = (end / float(base.mean()) for end in _exact(won, sum(episodes)))
            return cls(float(ratios[0]), low, high, "episodes")
        return cls.of(ratios.tolist(), SHARE if reference is None else COUNT)

    @classmethod
    def of_ratio(cls, values: Sequence[float], reference: Sequence[float]) -> "Estimate | None":
        """Mean of `values` over mean of `reference`, which come in pairs, with Fieller's interval.

        Pairs without any difference have the exact interval of the share that may differ. None
        where the reference's mean is not above 0 beyond doubt: a ratio of returns below it would
        say the opposite of what it seems to.
        """
        mine, theirs = _array(values), _array(reference)
        count, base = len(mine), float(theirs.mean())
        if base <= 0:
            return None
        ratio = float(mine.mean()) / base
        if count < 2:
            return cls(ratio)
        if (mine == theirs).all():
            most = _exact(0, count)[1] / base
            return cls(ratio, max(0.0, ratio - most), ratio + most, "episodes")
        ends = _fieller(mine, theirs)
        return None if ends is None else cls(ratio, *ends, "episodes")

    @classmethod
    def of_relative(cls, values: Sequence[float], reference: Sequence[float]) -> "Estimate | None":
        """(mean of `values` − mean of `reference`) / |mean of `reference`|, unpaired.

        With Welch's interval of the difference; None where the reference's mean is 0.
        """
        mine, theirs = _array(values), _array(reference)
        base = abs(float(theirs.mean()))
        if base == 0.0:
            return None
        mean = float(mine.mean() - theirs.mean()) / base
        fewest = min(len(mine), len(theirs))
        if fewest <= _FEW:
            ends = np.array([mine.min() - theirs.max(), mine.max() - theirs.min()]) / base
            return _range(mean, ends, fewest)
        parts = [each.var(ddof=1) / len(each) for each in (mine, theirs)]
        error, freedom = _pooled(parts, [len(mine) - 1, len(theirs) - 1])
        return _around(mean, error / base, freedom, ANY)


def interquartile_mean(tasks: Tasks) -> Estimate:
    """Mean of the middle half of the runs of all tasks: less moved by outliers than the mean.

    With fewer than four runs there is nothing to cut off, and it is the mean.
    """
    from scipy.stats import trim_mean

    return _estimate(
        lambda *scores, axis: trim_mean(np.concatenate(scores, axis), _TRIMMED, axis), tasks
    )


def mean_over_tasks(tasks: Tasks) -> Estimate:
    """Mean over tasks of the mean over seeds."""
    return _estimate(lambda *scores, axis: np.mean([one.mean(axis) for one in scores], 0), tasks)


def probability_of_improvement(tasks: Tasks, reference: Tasks) -> Estimate:
    """P(a run scores higher than one of the reference on the same task), a tie counted half.

    Mann–Whitney's U/(n·m), averaged over tasks; both sides are resampled. 0.5 says that neither is
    better.

    Args:
        tasks: scores of runs, by task.
        reference: of the others, by the same tasks.
    """

    def statistic(*scores: np.ndarray, axis: int) -> np.ndarray:
        pairs = zip(scores[: len(tasks)], scores[len(tasks) :], strict=True)
        return np.mean([_share_above(mine, theirs, axis) for mine, theirs in pairs], 0)

    runs = sum(min(len(a), len(b)) for a, b in zip(tasks, reference, strict=True))
    return _estimate(statistic, (*tasks, *reference), runs)


def performance_profile(tasks: Tasks, thresholds: Sequence[float]) -> list[Estimate]:
    """For each threshold the share of runs that score above it, averaged over tasks.

    The intervals are pointwise.
    """
    levels = np.asarray(thresholds, float)

    def statistic(*scores: np.ndarray, axis: int) -> np.ndarray:
        assert axis == -1, axis
        above = [(one > levels.reshape(-1, *[1] * one.ndim)).mean(-1) for one in scores]
        return np.mean(above, 0)

    found = zip(*_errors(statistic, tasks), strict=True)
    runs = sum(map(len, tasks))
    return [_share(*each, runs) for each in found]


def _share_above(mine: np.ndarray, theirs: np.ndarray, axis: int) -> np.ndarray:
    """Mann–Whitney's U over its largest value, by the sum of ranks."""
    from scipy.stats import rankdata

    ranks = rankdata(np.concatenate([mine, theirs], axis), axis=axis)
    n, m = mine.shape[axis], theirs.shape[axis]
    return (ranks[..., :n].sum(axis) - n * (n + 1) / 2) / (n * m)


# -- intervals -----------------------------------------------------------------------------------


def _around(mean: float, error: float, freedom: float, bounds: Bounds) -> Estimate:
    """Student's interval about a mean, kept within what there can be."""
    from scipy.special import stdtrit

    half = float(stdtrit(freedom, 0.5 + _CONFIDENCE / 2)) * float(error)
    least, most = bounds
    low = mean - half if least is None else max(mean - half, least)
    high = mean + half if most is None else min(mean + half, most)
    return Estimate(float(mean), float(low), float(high), "seeds")


def _range(mean: float, ends: np.ndarray, seeds: int) -> Estimate:
    """The range of two seeds; of a single one nothing."""
    if seeds < _FEW:
        return Estimate(mean)
    return Estimate(mean, float(ends.min()), float(ends.max()), "range")


def _exact(won: int, of: int) -> tuple[float, float]:
    """Clopper and Pearson's interval of a share."""
    from scipy.stats import binomtest

    found = binomtest(won, of).proportion_ci(_CONFIDENCE, method="exact")
    return float(found.low), float(found.high)


def _fieller(mine: np.ndarray, theirs: np.ndarray) -> tuple[float, float] | None:
    """The ratios θ for which the mean of mine − θ·theirs is not significantly off 0.

    None where the reference's mean itself is not.
    """
    from scipy.special import stdtrit

    count = len(mine)
    squared = float(stdtrit(count - 1, 0.5 + _CONFIDENCE / 2)) ** 2 / count
    covariance = np.cov(mine, theirs)
    a = theirs.mean() ** 2 - squared * covariance[1, 1]
    b = mine.mean() * theirs.mean() - squared * covariance[0, 1]
    c = mine.mean() ** 2 - squared * covariance[0, 0]
    if a <= 0:
        return None
    half = math.sqrt(max(b * b - a * c, 0.0))
    return float((b - half) / a), float((b + half) / a)


def _pooled(parts: Sequence[float], freedoms: Sequence[int]) -> tuple[float, float]:
    """Standard error of a sum of independent means, and its degrees of freedom (Welch)."""
    total = sum(parts)
    if total == 0.0:
        return 0.0, float(min(freedoms))
    below = sum(part**2 / freedom for part, freedom in zip(parts, freedoms, strict=True))
    return math.sqrt(total), total**2 / below


def _estimate(statistic: Callable[..., Any], strata: Tasks, runs: int | None = None) -> Estimate:
    """A statistic over tasks; where it is a share of `runs`, it is kept within one's bounds."""
    point, error, freedom = _errors(statistic, strata)
    if runs is not None:
        return _share(float(point), float(error), float(freedom), runs)
    if np.isnan(error):
        return Estimate(float(point))
    return _around(float(point), float(error), float(freedom), ANY)


def _share(point: float, error: float, freedom: float, runs: int) -> Estimate:
    """A share of runs; one that all runs agree on has the exact interval of that many."""
    if np.isnan(error):
        return Estimate(float(point))
    if error == 0.0 and point in SHARE:
        return Estimate(float(point), *_exact(round(point * runs), runs), "seeds")
    return _around(float(point), error, freedom, SHARE)


def _errors(statistic: Callable[..., Any], strata: Tasks) -> tuple[Any, Any, Any]:
    """A statistic, its standard error (NaN where a stratum has a single value), its freedom."""
    arrays = [_array(values) for values in strata]
    point = np.asarray(statistic(*arrays, axis=-1))
    if min(map(len, arrays)) < 2:
        unknown = np.full(point.shape, np.nan)
        return point, unknown, unknown
    return point, _resampled(statistic, arrays).std(-1), _freedom(statistic, arrays)


def _freedom(statistic: Callable[..., Any], strata: Sequence[np.ndarray]) -> np.ndarray:
    """Degrees of freedom (Welch), by each stratum's share of the variance.

    That is by the jackknife, which leaves out each value in turn.
    """
    parts = []
    for at, own in enumerate(strata):
        without = [
            statistic(*strata[:at], np.delete(own, one), *strata[at + 1 :], axis=-1)
            for one in range(len(own))
        ]
        parts.append((len(own) - 1) * np.var(without, axis=0))
    freedoms, variances = [len(own) - 1 for own in strata], np.array(parts)
    found = [_pooled(each, freedoms)[1] for each in variances.reshape(len(strata), -1).T.tolist()]
    return np.reshape(found, variances.shape[1:])


def _resampled(statistic: Callable[..., Any], strata: Sequence[np.ndarray]) -> np.ndarray:
    """The statistic of samples drawn anew from their strata, a draw each along the last axis.

    Of n values n − 1 are drawn: with n the variance would be too small by (n − 1)/n.
    """
    random = np.random.default_rng(0)
    drawn = [one[random.integers(len(one), size=(_RESAMPLES, len(one) - 1))] for one in strata]
    return np.asarray(statistic(*drawn, axis=-1))


def _array(values: Sequence[float]) -> np.ndarray:
    return np.asarray(values, float)
