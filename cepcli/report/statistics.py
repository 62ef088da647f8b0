"""Statistics over seeds and tasks, each with an interval: means, shares of runs, improvement.

Every interval is a 95 % percentile bootstrap, and stratified: seeds are drawn anew within their
task, never across tasks. It is unknown (None) where a task has a single seed, since how much that
one could have differed was not observed; runs that all agree have an interval of no width.

Interquartile mean, probability of improvement and performance profile are those of Agarwal et al.
2021 (arXiv 2108.13264).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

_RESAMPLES = 2000
_CONFIDENCE = 0.95
_TRIMMED = 0.25  # of each end

#: Scores of runs: a task each, and in it a seed each.
Tasks = Sequence[Sequence[float]]


@dataclass(frozen=True, slots=True)
class Estimate:
    """A statistic and its 95 % interval, whose ends are None where it is unknown.

    Attributes:
        mean: the statistic: a mean over seeds unless the function that made it says otherwise.
        low, high: the ends of the interval.
    """

    mean: float
    low: float | None = None
    high: float | None = None

    @classmethod
    def of(cls, values: Sequence[float]) -> "Estimate":
        """The mean of `values`, one a seed; its interval is unknown for a single one."""
        return _estimate(np.mean, (values,))

    @classmethod
    def of_ratio(cls, values: Sequence[float], reference: Sequence[float]) -> "Estimate | None":
        """Mean of `values` over mean of `reference`; pairs are resampled together.

        None where the reference, or the mean of a resample of it, is not above 0: a ratio of
        returns below it would say the opposite of what it seems to.
        """
        means = np.mean([values, reference], 1)
        if means[1] <= 0:
            return None
        if len(values) < 2:
            return cls(float(means[0] / means[1]))
        drawn = _resampled(
            lambda *samples, axis: np.mean(samples, axis), (values, reference), paired=True
        )
        if not (drawn[1] > 0).all():
            return None
        return _from(means[0] / means[1], *_ends(drawn[0] / drawn[1]))

    @classmethod
    def of_relative(cls, values: Sequence[float], reference: Sequence[float]) -> "Estimate | None":
        """(mean of `values` − mean of `reference`) / |mean of `reference`|, unpaired.

        Both are resampled in the difference, each on its own; None where the reference's mean is 0.
        """
        base = abs(float(np.mean(reference)))
        if base == 0.0:
            return None

        def difference(values: np.ndarray, reference: np.ndarray, axis: int) -> np.ndarray:
            return (values.mean(axis) - reference.mean(axis)) / base

        return _estimate(difference, (values, reference))


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

    return _estimate(statistic, (*tasks, *reference))


def performance_profile(tasks: Tasks, thresholds: Sequence[float]) -> list[Estimate]:
    """For each threshold the share of runs that score above it, averaged over tasks.

    The intervals are pointwise.
    """
    levels = np.asarray(thresholds, float)

    def statistic(*scores: np.ndarray, axis: int) -> np.ndarray:
        assert axis == -1, axis
        above = [(one > levels.reshape(-1, *[1] * one.ndim)).mean(-1) for one in scores]
        return np.mean(above, 0)

    points, low, high = _interval(statistic, tasks)
    return [_from(*found) for found in zip(points, low, high, strict=True)]


def _share_above(mine: np.ndarray, theirs: np.ndarray, axis: int) -> np.ndarray:
    """Mann–Whitney's U over its largest value, by the sum of ranks."""
    from scipy.stats import rankdata

    ranks = rankdata(np.concatenate([mine, theirs], axis), axis=axis)
    n, m = mine.shape[axis], theirs.shape[axis]
    return (ranks[..., :n].sum(axis) - n * (n + 1) / 2) / (n * m)


def _estimate(statistic: Callable[..., Any], strata: Tasks) -> Estimate:
    return _from(*_interval(statistic, strata))


def _from(point: float, low: float, high: float) -> Estimate:
    """As plain numbers; ends that are not numbers are unknown."""
    return Estimate(float(point), *(None if np.isnan(end) else float(end) for end in (low, high)))


def _interval(statistic: Callable[..., Any], strata: Tasks) -> tuple[Any, Any, Any]:
    """A statistic, and the ends of its interval: NaN where a stratum has a single value."""
    point = np.asarray(statistic(*map(_array, strata), axis=-1))
    if min(map(len, strata)) < 2:
        unknown = np.full(point.shape, np.nan)
        return point, unknown, unknown
    if not any(map(np.ptp, strata)):  # every draw would be the same
        return point, point, point
    return point, *_ends(_resampled(statistic, strata))


def _resampled(statistic: Callable[..., Any], strata: Tasks, *, paired: bool = False) -> np.ndarray:
    """A statistic of samples drawn anew from their strata, a draw each along the last axis.

    Args:
        statistic: of arrays, a stratum each, along `axis`, their last; a number or several.
        strata: drawn from each on its own; where `paired`, from all by the same draws.
        paired: whether the strata are of the same length and belong together.
    """
    from scipy.stats import bootstrap

    return bootstrap(
        tuple(map(_array, strata)), statistic, paired=paired, vectorized=True,
        n_resamples=_RESAMPLES, method="percentile", rng=np.random.default_rng(0),
    ).bootstrap_distribution  # fmt: skip


def _ends(drawn: np.ndarray) -> np.ndarray:
    """The percentiles that hold the interval between them, along a first axis of two."""
    tail = 50.0 * (1.0 - _CONFIDENCE)
    return np.percentile(drawn, [tail, 100.0 - tail], axis=-1)


def _array(values: Sequence[float]) -> np.ndarray:
    return np.asarray(values, float)
