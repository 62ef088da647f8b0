"""How good a prior is: against the expert's actions in states it was not tuned on."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray

from cepcli.prior.base import Prior, PriorAnswer, PriorShape
from cepcli.prior.tuning.decisions import ExpertDecision

#: States per call of the prior; enough to fill rows, few enough to show progress.
_STATES_PER_CALL = 16
_CALIBRATION_BINS = 10
#: Where the temperature is searched, natural logarithm.
_LOG_TEMPERATURE = (-6.0, 5.0)


@dataclass(frozen=True, slots=True)
class PriorQuality:
    """Agreement of a prior with an expert.

    Attributes:
        decisions: how many were judged.
        top1: share whose likeliest action is the expert's (ties count in part).
        nll: mean of −log p(expert's action), nats.
        calibration_error: expected calibration error of the likeliest action, 10 equal bins.
        mass: mean p(expert's action).
        chance: mean of 1/n over n admissible actions: top1 and mass of the uniform prior.
        chance_nll: mean of log n: nll of the uniform prior.
        seconds: LLM seconds per decision.
    """

    decisions: int
    top1: float
    nll: float
    calibration_error: float
    mass: float
    chance: float
    chance_nll: float
    seconds: float


def ask(
    prior: Prior,
    decisions: Sequence[ExpertDecision],
    progress: Callable[[int], None] | None = None,
) -> list[PriorAnswer]:
    """The prior of every decision's state; `progress` is told how many are done."""
    answers: list[PriorAnswer] = []
    for start in range(0, len(decisions), _STATES_PER_CALL):
        part = decisions[start : start + _STATES_PER_CALL]
        answers += prior.log_probs([decision.state for decision in part])
        if progress:
            progress(len(answers))
    return answers


def evaluate_prior(
    prior: Prior,
    decisions: Sequence[ExpertDecision],
    progress: Callable[[int], None] | None = None,
) -> PriorQuality:
    """Ask the prior about every decision and compare with the expert."""
    answers = ask(prior, decisions, progress)
    return quality(
        [answer.log_prior for answer in answers],
        [decision.label for decision in decisions],
        seconds=float(np.mean([answer.seconds for answer in answers])),
    )


def quality(
    log_priors: Sequence[Float[ndarray, " actions"]], labels: Sequence[int], *, seconds: float = 0.0
) -> PriorQuality:
    """Summary of log-priors against the indices of the expert's actions."""
    pairs = list(zip(log_priors, labels, strict=True))
    sizes = np.array([len(log_prior) for log_prior in log_priors], dtype=np.float64)
    right = np.array([_top1(row, label) for row, label in pairs])
    log_mass = np.array([row[label] for row, label in pairs])
    confidence = np.array([float(np.exp(row.max())) for row in log_priors])
    return PriorQuality(
        decisions=len(labels),
        top1=float(right.mean()),
        nll=float(-log_mass.mean()),
        calibration_error=calibration_error(confidence, right),
        mass=float(np.exp(log_mass).mean()),
        chance=float((1.0 / sizes).mean()),
        chance_nll=float(np.log(sizes).mean()),
        seconds=seconds,
    )


def calibration_error(
    confidence: Float[ndarray, " decisions"], right: Float[ndarray, " decisions"]
) -> float:
    """Σ over bins of share · |mean confidence − accuracy| (Guo et al. 2017, equation 3)."""
    bins = np.minimum((confidence * _CALIBRATION_BINS).astype(int), _CALIBRATION_BINS - 1)
    total = 0.0
    for number in np.unique(bins):
        inside = bins == number
        total += inside.mean() * abs(confidence[inside].mean() - right[inside].mean())
    return float(total)


def fit_temperature(
    scores: Sequence[Float[ndarray, " actions"]],
    labels: Sequence[int] | Int[ndarray, " decisions"],
    smoothing: float,
) -> float:
    """The temperature under which the smoothed prior of `scores` has the least mean NLL."""
    from scipy.optimize import minimize_scalar

    def loss(log_temperature: float) -> float:
        shape = PriorShape(temperature=float(np.exp(log_temperature)), smoothing=smoothing)
        pairs = zip(scores, labels, strict=True)
        return -float(np.mean([shape.log_prior(row)[label] for row, label in pairs]))

    found = minimize_scalar(loss, bounds=_LOG_TEMPERATURE, method="bounded")
    return float(np.exp(found.x))  # pyright: ignore[reportAttributeAccessIssue] - scipy's result


def _top1(log_prior: Float[ndarray, " actions"], label: int) -> float:
    """1 if the label is the likeliest, 1/k if it ties with k−1 others, else 0."""
    best = np.flatnonzero(log_prior >= log_prior.max() - 1e-12)
    return 1.0 / len(best) if label in best else 0.0
