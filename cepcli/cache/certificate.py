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
the same. What is said below of a drifting world holds for the weighted bets alone, with weights
c·r: those apart assume that the share of failures does not change within a window.

**Repeated looks.** Under the hypothesis the wealth Π (1 + λ·(α − X)/q) is a supermartingale that
starts at 1, so by Ville's inequality it *ever* reaches 1/ε with probability ≤ ε (testing by
betting: Waudby-Smith and Ramdas, arXiv 2010.09686). A mixture over several c is one, too. With c
constant in time the same holds for the λ-weighted average of the failure probability in a drifting
world, because Π (1 + λ_t·(α − p_t)) ≤ exp(Σ λ_t·(α − p_t)) ≤ 1 when that average is at least α.

**The search over δ** goes from strict to loose and stops at the first threshold that is not safe:
an error needs the first unsafe threshold to pass its own test, so the sequence costs no correction.
There are two sequences, each at half the error. Where they begin is fixed once per process, for a
beginning that moved with the data would be one more choice to pay for. The first process fixes it
after a hundred observations, by their similarities alone: at the strictest thresholds that a few of
the look-ups reach, and at those that many do; a look-up that was observed with probability q stands
for 1/q of them. A later process takes it at its start from what came before, which is no choice
among its own data: where the leader has got to, if it has proven anything, and where a few of the
look-ups are.

**Windows.** Every half window another process begins. The oldest one leads: its certificate is in
force. Once it is a window old, the younger one that has proven most, and as much, takes its place;
after two windows at the latest it goes, and the one that has proven most leads. Where the leader
has proven nothing, or its certificate has lapsed, a younger one that has proven something takes
over at once; if a certificate lapses and there is none such, all begins anew. So the certificate
speaks of the look-ups of the last half to two windows. The stated confidence is that of one
process: over k of them, the chance that some threshold in force was ever unsafe is at most k·ε.

**Drift.** A slow drift is what the windows are for; within one, the weighted bets hold for the
average share of failures. A share that stays the same is disproven once and for all when its
evidence reaches what is needed; but a world may drift, so a threshold is dropped whose evidence
falls by a factor of e⁴ below that, and wealth is held below a cap, so that it falls soon.

An *abrupt* change, of the model or of the states, is the `Alarm`'s: a hit that fails an audit puts
all hits under watch, each is audited, until the suspicion is cleared or confirmed. If it is
confirmed the certificate is withdrawn, the entries that there are answer only their own text, and
all begins anew. What hits are wrong until then is paid from a reserve: thresholds must prove a
share of α less `reserve`, which is what α stands for above.
"""

import math
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from cepcli.cache.config import FIRST_OBSERVATIONS, CertifiedConfig
from cepcli.posterior import kl_bound

_BETS = (0.1, 0.3, 0.6, 0.9)  # c as a share of its limit 1/(1 − α)
_BEGINNINGS = (0.15, 0.45)  # shares of the look-ups that reach the thresholds where it begins
_SPARE = 3.0  # cap on log wealth, beyond what a certificate needs
_LATEST = 2.0  # windows after which a process goes, whatever the younger ones have proven
_SLACK = 4.0  # of log wealth, below what a certificate needs, before a proven threshold is dropped
_ARRAYS = ("log_wealth", "proven", "observed", "reached", "audits", "failures")


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
        hand_overs: how often a younger process took over.
        alarms: how often a sudden change withdrew the certificate.
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
    hand_overs: int = 0
    alarms: int = 0


class Alarm:
    """Notices that hits suddenly fail far more often than promised, by their audits alone.

    Each audited hit multiplies a statistic by the likelihood ratio of a share (1 + α)/2 of failures
    against the share α that is tolerated, and the statistic never falls below 1 (CUSUM). While hits
    fail at a share of at most α, the mean number of audits to a false alarm is at least `interval`
    (an e-detector: Shin, Ramdas and Rinaldo, arXiv 2203.03532). Above 1 it watches: every hit is to
    be audited, so that a change that one audit has met is confirmed by the next few look-ups. It
    rises only while more than about (1 + α)/4 of the hits fail; a smaller change is left to the
    evidence.

    Attributes:
        statistic: 1 while there is no suspicion.
        raised: how many alarms there were.
    """

    def __init__(self, alpha: float, interval: float) -> None:
        changed = (1.0 + alpha) / 2.0
        self._factors = ((1.0 - changed) / (1.0 - alpha), changed / alpha)
        self._interval = interval
        self.statistic = 1.0
        self.raised = 0

    @property
    def watching(self) -> bool:
        """Whether every hit is to be audited."""
        return self.statistic > 1.0

    def add(self, *, failed: bool) -> bool:
        """Count an audited hit; returns whether that raises the alarm, which then starts anew."""
        self.statistic = max(1.0, self.statistic * self._factors[failed])
        if self.statistic < self._interval:
            return False
        self.statistic = 1.0
        self.raised += 1
        return True


class _Process:
    """The e-processes of all thresholds since one moment.

    Attributes:
        log_wealth: float64 [thresholds, bets]; the first half of the bets apart, then weighted.
        proven: thresholds whose evidence has reached what is needed, and has not fallen far below
            it since, bool [thresholds].
        observed: look-ups observed at or above each threshold, int64 [thresholds].
        reached: estimated look-ups at or above it, observed or not: Σ 1/q, float64 [thresholds].
        audits: audited hits among them; `failures`: of these, those over budget.
        beginnings: where the search begins, by number of the threshold; None before that is fixed.
        age: look-ups since the start, observed or not.
        certified: whether some threshold was ever safe.
    """

    def __init__(self, thresholds: int, needed_log: float, age: int = 0) -> None:
        self._needed = math.exp(needed_log)
        self._cap = needed_log + _SPARE
        self.proven = np.zeros(thresholds, bool)
        self.log_wealth = np.zeros((thresholds, 2 * len(_BETS)))
        self.observed = np.zeros(thresholds, np.int64)
        self.reached = np.zeros(thresholds)
        self.audits = np.zeros(thresholds, np.int64)
        self.failures = np.zeros(thresholds, np.int64)
        self.beginnings: list[int] | None = None
        self.age = age
        self.certified = False

    @property
    def lapsed(self) -> bool:
        """Whether it has certified a threshold and does so no more."""
        return self.certified and self.safe is None

    def add(
        self,
        comparison: Comparison,
        first: int,
        last: int,
        apart: ndarray,
        weighted: ndarray,
        *,
        failed: bool,
    ) -> None:
        """Count one observation at the thresholds from number `first` on.

        Args:
            comparison: the observation.
            first: the strictest threshold that it reaches.
            last: from here on the bets `apart`, float64 [bets], are off for a hit, and before for a
                miss.
            apart: gains of the thresholds that bet on observations of its kind alone.
            weighted: gains of the bets that weigh it.
            failed: whether it was over budget.
        """
        own = slice(first, last) if comparison.hit else slice(max(first, last), None)
        self.log_wealth[own, : len(apart)] += apart
        self.log_wealth[first:, len(apart) :] += weighted
        np.minimum(self.log_wealth, self._cap, out=self.log_wealth)
        evidence = self.evidence()
        self.proven |= evidence >= self._needed
        self.proven &= evidence >= self._needed * math.exp(-_SLACK)
        self.certified |= self.safe is not None
        self.observed[first:] += 1
        self.reached[first:] += 1.0 / comparison.probability
        if self.beginnings is None and self.observed[-1] >= FIRST_OBSERVATIONS:
            self.beginnings = [self.reached_by(share) for share in _BEGINNINGS]
        if comparison.hit:
            self.audits[first:] += 1
            self.failures[first:] += failed

    def reached_by(self, share: float) -> int:
        """The strictest threshold that at least this share of the look-ups reach, by number."""
        return int((self.reached < share * self.reached[-1]).sum())

    def evidence(self) -> Float[ndarray, " thresholds"]:
        """Mean wealth over the bets: the e-value of each threshold."""
        return np.exp(self.log_wealth).mean(1)

    @property
    def safe(self) -> int | None:
        """The number of the loosest safe threshold; None if there is none.

        Thresholds below every similarity observed so far add nothing to a stricter one but risk.
        """
        loosest = None
        for beginning in self.beginnings or ():
            for number in range(beginning, len(self.proven)):
                if not self.proven[number]:
                    break
                if loosest is None or self.observed[number] > self.observed[loosest]:
                    loosest = number
        return loosest

    def state(self) -> dict[str, Any]:
        """JSON values."""
        lists = {name: getattr(self, name).tolist() for name in _ARRAYS}
        scalars = {name: getattr(self, name) for name in ("age", "beginnings", "certified")}
        return {**scalars, **lists}

    @classmethod
    def restored(cls, state: dict[str, Any], needed_log: float) -> "_Process":
        """From `state`."""
        made = cls(len(state["observed"]), needed_log, state["age"])
        made.beginnings, made.certified = state["beginnings"], state["certified"]
        for name in _ARRAYS:
            setattr(made, name, np.array(state[name], getattr(made, name).dtype))
        return made


class Evidence:
    """Collects comparisons and says which threshold is safe; see the module's text.

    Args:
        config: budget, window and grid.
        hand_overs: how many there were before this evidence began.
    """

    def __init__(self, config: CertifiedConfig, *, hand_overs: int = 0) -> None:
        self.config = config
        self._grid = np.array(config.grid)
        self._bets = np.array(_BETS) / (1.0 - config.proven_alpha)
        self._needed_log = math.log(len(_BEGINNINGS) / (1.0 - config.confidence))
        self._processes = [self._new()]
        self.hand_overs = hand_overs

    def _new(self, age: int = 0, beginnings: list[int] | None = None) -> _Process:
        made = _Process(len(self._grid), self._needed_log, age)
        made.beginnings = beginnings
        return made

    @property
    def _leader(self) -> _Process:
        """The process whose certificate is in force."""
        return self._processes[0]

    @property
    def least_observations(self) -> int:
        """Observations without a failure that suffice for a certificate."""
        best = math.log1p(float(self._bets[-1]) * self.config.proven_alpha)
        return math.ceil((self._needed_log + math.log(len(_BETS))) / best)

    def pass_time(self) -> None:
        """Count a look-up that an entry could answer, observed or not; call before `add`."""
        for process in self._processes:
            process.age += 1
        if self._processes[-1].age > self.config.window // 2:
            self._processes.append(self._new(age=1, beginnings=self._begun_by_the_leader()))
        successor = self._successor()
        if successor:
            del self._processes[:successor]
            self.hand_overs += 1
        elif self._leader.lapsed:
            self._processes = [self._new()]
            self.hand_overs += 1

    def _begun_by_the_leader(self) -> list[int] | None:
        """Where a process that starts now begins its search, by all that was seen before.

        None where the leader has proven nothing: then by the process's own first look-ups.
        """
        proven = self._leader.safe
        return None if proven is None else [self._leader.reached_by(_BEGINNINGS[0]), proven]

    def _successor(self) -> int:
        """The number of the process that takes over now; 0 if none does."""
        leader, window = self._leader, self.config.window
        last = leader.age > _LATEST * window
        if leader.safe is not None and leader.age <= window:
            return 0
        least = 0 if leader.safe is None or last else leader.safe
        proven = {n: process.safe for n, process in enumerate(self._processes) if n}
        able = {n: safe for n, safe in proven.items() if safe is not None and safe >= least}
        return max(able, key=able.__getitem__) if able else int(last)

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
        gain = self.config.proven_alpha - failed
        apart, weighted = np.log1p(self._bets * gain), np.log1p(self._bets * share * gain)
        first = int(np.searchsorted(-self._grid, -comparison.similarity))
        last = 0 if in_force is None else int(np.searchsorted(-self._grid, -in_force, "right"))
        for process in self._processes:
            process.add(comparison, first, last, apart, weighted, failed=failed)
        return failed

    def share_in_force(self) -> float:
        """The share of look-ups that hit at the loosest safe threshold; 1 while there is none."""
        number = self._leader.safe
        return 1.0 if number is None else float(self._leader.reached[number] / self._leader.age)

    @property
    def threshold(self) -> float | None:
        """The loosest safe threshold; None if there is none."""
        number = self._leader.safe
        return None if number is None else float(self._grid[number])

    def certificate(self, alarms: int = 0) -> Certificate:
        """What is promised now, after so many alarms."""
        number = self._leader.safe
        config = self.config
        asked = (config.kappa, config.alpha, config.confidence)
        counts = (self.hand_overs, alarms)
        if number is None:
            return Certificate(*asked, None, 0.0, 0, 0, None, None, None, *counts)
        audits, failures = int(self._leader.audits[number]), int(self._leader.failures[number])
        evidence = float(self._leader.evidence()[number])
        low, high = clopper_pearson(failures, audits, config.confidence)
        rate = failures / audits if audits else None
        return Certificate(
            *asked, float(self._grid[number]), evidence, audits, failures, rate, low, high, *counts
        )

    def state(self) -> dict[str, Any]:
        """JSON values from which `restore` goes on."""
        return {
            "processes": [process.state() for process in self._processes],
            "hand_overs": self.hand_overs,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Take over what `state` returned."""
        self._processes = [
            _Process.restored(process, self._needed_log) for process in state["processes"]
        ]
        self.hand_overs = state["hand_overs"]


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
