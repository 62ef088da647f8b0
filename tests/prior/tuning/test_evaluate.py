"""Judging a prior, computed by hand."""

import numpy as np
import pytest

from cepcli.prior.base import PriorShape, UniformPrior
from cepcli.prior.tuning.decisions import ExpertDecision
from cepcli.prior.tuning.evaluate import calibration_error, evaluate_prior, fit_temperature, quality
from cepcli.types import TextState


def test_quality_of_two_decisions():
    rows = [np.log([0.5, 0.25, 0.25]), np.log([0.8, 0.2])]
    found = quality(rows, [0, 1], seconds=2.0)
    assert found.decisions == 2
    assert found.top1 == 0.5
    assert found.nll == pytest.approx(-(np.log(0.5) + np.log(0.2)) / 2)
    assert found.mass == pytest.approx(0.35)
    assert found.chance == pytest.approx((1 / 3 + 1 / 2) / 2)
    assert found.chance_nll == pytest.approx((np.log(3) + np.log(2)) / 2)
    assert found.calibration_error == pytest.approx((0.5 + 0.8) / 2)
    assert found.seconds == 2.0


def test_calibration_error_by_bin():
    confidence = np.array([0.95, 0.95, 0.15, 1.0])
    right = np.array([1.0, 0.0, 0.0, 1.0])
    top = abs((0.95 + 0.95 + 1.0) / 3 - 2 / 3)
    assert calibration_error(confidence, right) == pytest.approx(0.75 * top + 0.25 * 0.15)


def test_uniform_prior_scores_chance():
    states = [TextState("g", "x", ("a", "b", "c", "d")) for _ in range(20)]
    decisions = [ExpertDecision(0, 0, i, state, "b") for i, state in enumerate(states)]
    seen = []
    found = evaluate_prior(UniformPrior(), decisions, seen.append)
    assert found.top1 == found.mass == found.chance == 0.25
    assert found.nll == pytest.approx(found.chance_nll)
    assert found.calibration_error == pytest.approx(0.0)
    assert seen == [16, 20]


def test_fitted_temperature_is_the_best():
    generator = np.random.default_rng(0)
    logits = [generator.normal(size=4) for _ in range(400)]
    labels = [int(generator.choice(4, p=np.exp(x) / np.exp(x).sum())) for x in logits]
    scores = [5.0 * x for x in logits]
    found = fit_temperature(scores, labels, 0.0)
    assert found == pytest.approx(5.0, rel=0.25)

    def nll(temperature):
        shape = PriorShape(temperature, 0.0)
        return -np.mean([shape.log_prior(s)[y] for s, y in zip(scores, labels, strict=True)])

    assert nll(found) <= min(nll(0.9 * found), nll(1.1 * found))
