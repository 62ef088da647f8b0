"""Which similarity thresholds are safe: evidence that is valid at every moment it is looked at.

A look-up whose text is new, and whose nearest entry could answer it, *fails at budget κ* if the
posterior could be off by more than κ nats, that is if span²/8 > κ. For each threshold δ of a grid
an e-process tests the hypothesis that the share of failures among look-ups with similarity ≥ δ is
at least α; a δ is safe once the evidence against that reaches 1/(1 − confidence).

**Unequal sampling.** A miss is observed for free (the LLM is asked anyway), a hit only if it is
audited, with probability r. A bet λ·(α − X)/q on an outcome X that is observed with probability q
has the mean λ·(α − P(X = 1)), whatever q. With λ = c·r, audits count c and misses c·r: wealth stays
positive for every c < 1/(1 − α), and neither kind biases the rate.

**Repeated looks.** Under the hypothesis the wealth Π (1 + λ·(α − X)/q) is a supermartingale that
starts at 1, so by Ville's inequality it *ever* reaches 1/ε with probability ≤ ε (testing by
betting: Waudby-Smith and Ramdas, arXiv 2010.09686). A mixture over several c is one, too. With c
constant in time the same holds for the λ-weighted average of the failure probability in a drifting
world, because Π (1 + λ_t·(α − p_t)) ≤ exp(Σ λ_t·(α − p_t)) ≤ 1 when that average is at least α.

**The search over δ** goes from strict to loose and stops at the first threshold that is not safe:
an error needs the first unsafe threshold to pass its own test, so the sequence costs no correction.
It begins at the strictest threshold with enough observations, chosen by counts alone.

**Drift.** Two processes start half a window apart; when the older one is a window old the younger
takes its place. So the certificate speaks of the last half to whole window of look-ups.
"""

import math
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray

from cepcli.cache.control_config import CertifiedConfig
from cepcli.posterior.maths import kl_bound

_BETS = (0.1, 0.3, 0.6, 0.9)  # c as a share of its limit 1/(1 − α)


class Comparison(NamedTuple):
    """A cached prior beside a fresh one, at a look-up whose text was new.

    Attributes:
        similarity: cosine between the two texts' keys.
        span: max g − min g of g = log p̂ − log p.
        kl: KL(p̂‖p), in nats.
        probability: with which this look-up was observed: r for an audited hit, 1 for a miss.
        hit: whether the entry would have answered (it was audited) or not (it was too far away).
    """

    similarity: float
    span: float
    kl: float
    probability: float = 1.0
    hit: bool = True


class Certificate(NamedTuple):
    """What is promised now, and on which evidence.

    Attributes:
        kappa, alpha, confidence: what was asked for.
        threshold: the loosest safe δ; None while none is safe (then only identical texts hit).
        evidence: the e-value behind it; at least 1/(1 − confidence) when `threshold` is given.
        audits: audited hits in the window, at `threshold` or above.
        failures: those of them over budget.
        rate: their share, with its exact (Clopper–Pearson) interval at `confidence`; None without
            audits.
    """

    kappa: float
    alpha: float
    confidence: float
    threshold: float | None
    evidence: float
    audits: int
    failures: int
    rate: float | None
    low: float | None
    high: float | None


class _Process:
    """The e-processes of all thresholds since one moment.

    Attributes:
        log_wealth: float64 [thresholds, bets].
        observed: look-ups observed at or above each threshold, int64 [thresholds].
        audits: audited hits among them; `failures`: of these, those over budget.
        age: look-ups since the start, observed or not.
    """

    def __init__(self, thresholds: int, age: int = 0) -> None:
        self.log_wealth = np.zeros((thresholds, len(_BETS)))
        self.observed = np.zeros(thresholds, np.int64)
        self.audits = np.zeros(thresholds, np.int64)
        self.failures = np.zeros(thresholds, np.int64)
        self.age = age

    def add(self, first: int, gains: Float[ndarray, " bets"], *, audit: bool, failed: bool) -> None:
        """Count one observation at the thresholds from number `first` on."""
        self.log_wealth[first:] += gains
        self.observed[first:] += 1
        if audit:
            self.audits[first:] += 1
            self.failures[first:] += failed

    def evidence(self) -> Float[ndarray, " thresholds"]:
        """Mean wealth over the bets: the e-value of each threshold."""
        return np.exp(np.minimum(self.log_wealth, 700.0)).mean(1)

    def state(self) -> dict[str, Any]:
        """JSON values."""
        arrays = ("log_wealth", "observed", "audits", "failures")
        return {"age": self.age, **{name: getattr(self, name).tolist() for name in arrays}}

    @classmethod
    def restored(cls, state: dict[str, Any]) -> "_Process":
        """From `state`."""
        made = cls(len(state["observed"]), state["age"])
        made.log_wealth = np.array(state["log_wealth"], np.float64)
        for name in ("observed", "audits", "failures"):
            setattr(made, name, np.array(state[name], np.int64))
        return made


class Evidence:
    """Collects comparisons and says which threshold is safe; see the module's text."""

    def __init__(self, config: CertifiedConfig) -> None:
        self.config = config
        self._grid = np.array(config.grid)
        self._bets = np.array(_BETS) / (1.0 - config.alpha)
        self._older = _Process(len(self._grid))
        self._younger = _Process(len(self._grid), age=-(config.window // 2))

    @property
    def least_observations(self) -> int:
        """Observations without a failure that suffice for a certificate."""
        best = math.log1p(float(self._bets[-1]) * self.config.alpha)
        return math.ceil((self._needed_log + math.log(len(_BETS))) / best)

    @property
    def _needed_log(self) -> float:
        return -math.log(1.0 - self.config.confidence)

    def pass_time(self) -> None:
        """Count a look-up that an entry could answer, observed or not; call before `add`."""
        self._older.age += 1
        self._younger.age += 1
        if self._older.age > self.config.window:
            self._older = self._younger
            self._younger = _Process(len(self._grid))

    def add(self, comparison: Comparison, least_probability: float) -> bool:
        """Bet on one observed look-up; returns whether it was over budget.

        Args:
            comparison: what was observed, and with which probability.
            least_probability: the smallest such probability at this moment: r while there are hits,
                1 while there are none.
        """
        failed = bool(kl_bound(comparison.span) > self.config.kappa)
        share = least_probability / comparison.probability
        gains = np.log1p(self._bets * share * (self.config.alpha - failed))
        first = int(np.searchsorted(-self._grid, -comparison.similarity))
        for process in (self._older, self._younger):
            if process.age > 0:
                process.add(first, gains, audit=comparison.hit, failed=failed)
        return failed

    def safe(self) -> int | None:
        """The number of the loosest safe threshold; None if there is none.

        Thresholds below every similarity observed so far add nothing to a stricter one but risk.
        """
        observed: Int[ndarray, " thresholds"] = self._older.observed
        enough = np.flatnonzero(observed >= self.least_observations)
        if not len(enough):
            return None
        passed = self._older.evidence() >= math.exp(self._needed_log)
        loosest = None
        for number in range(int(enough[0]), len(self._grid)):
            if not passed[number]:
                break
            if loosest is None or observed[number] > observed[loosest]:
                loosest = number
        return loosest

    @property
    def threshold(self) -> float | None:
        """The loosest safe threshold; None if there is none."""
        number = self.safe()
        return None if number is None else float(self._grid[number])

    def certificate(self) -> Certificate:
        """What is promised now."""
        number = self.safe()
        config = self.config
        asked = (config.kappa, config.alpha, config.confidence)
        if number is None:
            return Certificate(*asked, None, 0.0, 0, 0, None, None, None)
        audits, failures = int(self._older.audits[number]), int(self._older.failures[number])
        evidence = float(self._older.evidence()[number])
        low, high = clopper_pearson(failures, audits, config.confidence)
        rate = failures / audits if audits else None
        return Certificate(
            *asked, float(self._grid[number]), evidence, audits, failures, rate, low, high
        )

    def state(self) -> dict[str, Any]:
        """JSON values from which `restore` goes on."""
        return {"older": self._older.state(), "younger": self._younger.state()}

    def restore(self, state: dict[str, Any]) -> None:
        """Take over what `state` returned."""
        self._older = _Process.restored(state["older"])
        self._younger = _Process.restored(state["younger"])


def clopper_pearson(
    failures: int, trials: int, confidence: float
) -> tuple[float | None, float | None]:
    """The exact two-sided interval of a binomial share; (None, None) without trials."""
    if not trials:
        return None, None
    from scipy.stats import binomtest

    interval = binomtest(failures, trials).proportion_ci(confidence, method="exact")
    return float(interval.low), float(interval.high)
