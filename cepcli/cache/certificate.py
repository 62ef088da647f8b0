"""Which similarity thresholds are safe: evidence that is valid at every moment it is looked at.

A look-up whose text is new, and whose nearest entry could answer it, *fails at budget κ* if the
posterior could be off by more than κ nats, that is if span²/8 > κ. For each threshold δ of a grid
an e-process tests the hypothesis that the share of failures among look-ups with similarity ≥ δ is
at least α; a δ is safe once the evidence against that reaches 1/(1 − confidence). A text takes part
once, at its first visit, whether it was observed then or not: visits to the same text are no new
evidence, and would count more where it hits than where it is stored.

**Unequal sampling.** A miss is observed for free (the LLM is asked anyway), a hit only if it is
audited, with probability r. Two ways of betting are valid in spite of that, and both are used:

- *weighted*: a bet λ·(α − X)/q on an outcome X that is observed with probability q has the mean
  λ·(α − P(X = 1)), whatever q. With λ = c·r, audits count c and misses c·r: wealth stays positive
  for every c < 1/(1 − α), and neither kind biases the rate. Where r is small this learns slowly
  about thresholds looser than the one in force.
- *apart*: a threshold at least as strict as the one in force bets c on its audits alone, a looser
  one bets c on its misses alone, that is on the band between the two. The first unsafe threshold of
  the search below lies beyond thresholds that are safe, so its band must fail more often than α,
  and under that hypothesis its wealth is a supermartingale.

The e-value is the mean of the two, which is an e-value again. While nothing is in force, they are
the same. What is said below of a drifting world holds for the weighted bets, with weights c·r.

**Repeated looks.** Under the hypothesis the wealth Π (1 + λ·(α − X)/q) is a supermartingale that
starts at 1, so by Ville's inequality it *ever* reaches 1/ε with probability ≤ ε (testing by
betting: Waudby-Smith and Ramdas, arXiv 2010.09686). A mixture over several c is one, too. With c
constant in time the same holds for the λ-weighted average of the failure probability in a drifting
world, because Π (1 + λ_t·(α − p_t)) ≤ exp(Σ λ_t·(α − p_t)) ≤ 1 when that average is at least α.

**The search over δ** goes from strict to loose and stops at the first threshold that is not safe:
an error needs the first unsafe threshold to pass its own test, so the sequence costs no correction.
There are two sequences, each at half the error. Where they begin is fixed once, when a process has
its first hundred observations, by their similarities alone: at the strictest thresholds that a few
of them reach, and at those that many do. (A beginning that moved with the data would be one more
choice to pay for.)

**Drift.** Two processes start half a window apart; when the older one is a window old the younger
takes its place. So the certificate speaks of the last half to whole window of look-ups. Wealth is
held below a cap, which only lowers it, so that a process that has been right for long still falls
quickly when it is not any more.
"""

import math
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray

from cepcli.cache.control_config import FIRST_OBSERVATIONS, CertifiedConfig
from cepcli.posterior.maths import kl_bound

_BETS = (0.1, 0.3, 0.6, 0.9)  # c as a share of its limit 1/(1 − α)
_BEGINNINGS = (0.15, 0.45)  # shares of them that reach the thresholds where it begins
_SPARE = 2.0  # cap on log wealth, beyond what a certificate needs


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
        log_wealth: float64 [thresholds, bets]; the first half of the bets apart, then weighted.
        observed: look-ups observed at or above each threshold, int64 [thresholds].
        audits: audited hits among them; `failures`: of these, those over budget.
        beginnings: where the search begins, by number of the threshold; None before that is fixed.
        age: look-ups since the start, observed or not.
    """

    def __init__(self, thresholds: int, cap: float, age: int = 0) -> None:
        self._cap = cap
        self.log_wealth = np.zeros((thresholds, 2 * len(_BETS)))
        self.observed = np.zeros(thresholds, np.int64)
        self.audits = np.zeros(thresholds, np.int64)
        self.failures = np.zeros(thresholds, np.int64)
        self.beginnings: list[int] | None = None
        self.age = age

    def add(
        self, first: int, last: int, apart: ndarray, weighted: ndarray, *, audit: bool, failed: bool
    ) -> None:
        """Count one observation at the thresholds from number `first` on.

        Args:
            first: the strictest threshold that it reaches.
            last: from here on the bets `apart`, float64 [bets], are off for a hit, and before for a
                miss.
            apart: gains of the thresholds that bet on observations of its kind alone.
            weighted: gains of the bets that weigh it.
            audit: whether it was a hit.
            failed: whether it was over budget.
        """
        own = slice(first, last) if audit else slice(max(first, last), None)
        self.log_wealth[own, : len(apart)] += apart
        self.log_wealth[first:, len(apart) :] += weighted
        np.minimum(self.log_wealth, self._cap, out=self.log_wealth)
        self.observed[first:] += 1
        if self.beginnings is None and self.observed[-1] == FIRST_OBSERVATIONS:
            reached = [FIRST_OBSERVATIONS * share for share in _BEGINNINGS]
            self.beginnings = [int((self.observed < count).sum()) for count in reached]
        if audit:
            self.audits[first:] += 1
            self.failures[first:] += failed

    def evidence(self) -> Float[ndarray, " thresholds"]:
        """Mean wealth over the bets: the e-value of each threshold."""
        return np.exp(self.log_wealth).mean(1)

    def state(self) -> dict[str, Any]:
        """JSON values."""
        arrays = ("log_wealth", "observed", "audits", "failures")
        lists = {name: getattr(self, name).tolist() for name in arrays}
        return {"age": self.age, "beginnings": self.beginnings, **lists}

    @classmethod
    def restored(cls, state: dict[str, Any], cap: float) -> "_Process":
        """From `state`."""
        made = cls(len(state["observed"]), cap, state["age"])
        made.beginnings = state["beginnings"]
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
        self._needed_log = math.log(len(_BEGINNINGS) / (1.0 - config.confidence))
        self._cap = self._needed_log + _SPARE
        self._older = _Process(len(self._grid), self._cap)
        self._younger = _Process(len(self._grid), self._cap, age=-(config.window // 2))

    @property
    def least_observations(self) -> int:
        """Observations without a failure that suffice for a certificate."""
        best = math.log1p(float(self._bets[-1]) * self.config.alpha)
        return math.ceil((self._needed_log + math.log(len(_BETS))) / best)

    def pass_time(self) -> None:
        """Count a look-up that an entry could answer, observed or not; call before `add`."""
        self._older.age += 1
        self._younger.age += 1
        if self._older.age > self.config.window:
            self._older = self._younger
            self._younger = _Process(len(self._grid), self._cap)

    def add(
        self, comparison: Comparison, least_probability: float, in_force: float | None = None
    ) -> bool:
        """Bet on one observed look-up; returns whether it was over budget.

        Args:
            comparison: what was observed, and with which probability.
            least_probability: the smallest such probability at this moment: r while there are hits,
                1 while there are none.
            in_force: the threshold from which look-ups hit at this moment; None while none do.
        """
        failed = bool(kl_bound(comparison.span) > self.config.kappa)
        share = least_probability / comparison.probability
        apart = np.log1p(self._bets * (self.config.alpha - failed))
        weighted = np.log1p(self._bets * share * (self.config.alpha - failed))
        first = int(np.searchsorted(-self._grid, -comparison.similarity))
        last = 0 if in_force is None else int(np.searchsorted(-self._grid, -in_force, "right"))
        for process in (self._older, self._younger):
            if process.age > 0:
                process.add(first, last, apart, weighted, audit=comparison.hit, failed=failed)
        return failed

    def safe(self) -> int | None:
        """The number of the loosest safe threshold; None if there is none.

        Thresholds below every similarity observed so far add nothing to a stricter one but risk.
        """
        observed: Int[ndarray, " thresholds"] = self._older.observed
        passed = self._older.evidence() >= math.exp(self._needed_log)
        loosest = None
        for beginning in self._older.beginnings or ():
            for number in range(beginning, len(self._grid)):
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
        self._older = _Process.restored(state["older"], self._cap)
        self._younger = _Process.restored(state["younger"], self._cap)


def clopper_pearson(
    failures: int, trials: int, confidence: float
) -> tuple[float | None, float | None]:
    """The exact two-sided interval of a binomial share; (None, None) without trials."""
    if not trials:
        return None, None
    from scipy.special import betaincinv

    tail, right = (1.0 - confidence) / 2.0, trials - failures
    low = float(betaincinv(failures, right + 1, tail)) if failures else 0.0
    high = float(betaincinv(failures + 1, right, 1.0 - tail)) if right else 1.0
    return low, high
