"""Controllers: what was seen of the cache in, its three parameters (K, δ, r) out.

A controller is pure: it draws nothing at random, and `state` is all it knows. It sees every
look-up that an entry could have answered (`look_up`, `observe`), and every `control_interval`
decisions the figures of the interval (`update`).
"""

import math
from abc import ABC, abstractmethod
from typing import Any, NamedTuple

from cepcli.cache.config import CacheConfig, Knobs
from cepcli.cache.controllers.certificate import Alarm, Certificate, Comparison, Evidence
from cepcli.cache.controllers.config import FIRST_OBSERVATIONS, CertifiedConfig, SurrogateConfig

_SMOOTHING = 0.8  # of the set points that `surrogate` compares with
_GHOST_RATE = 0.01  # ghost hits per decision from which a larger cache is worth it
_AUDIT_MARGIN = 4.0  # audits planned, over the least that certify without a failure


class Signals(NamedTuple):
    """Figures of one control interval.

    Attributes:
        decisions: decisions in it, >= 1.
        hits, queries: how many of them were hits, and how many asked the LLM.
        ghost_hits: misses whose text had been evicted not long ago.
        entries: entries in the cache now.
        td_error: mean |Q − target|; None if nothing was learned.
        variability: mean entropy of the policy over log n; None if unknown.
        episode_return: mean return of the episodes that ended; None if none did.
    """

    decisions: int
    hits: int
    queries: int
    ghost_hits: int
    entries: int
    td_error: float | None = None
    variability: float | None = None
    episode_return: float | None = None


class Controller(ABC):
    """Telemetry in, parameters out.

    Attributes:
        learns_from_misses: whether a miss is to be compared with the nearest entry, too.
    """

    learns_from_misses = False

    @property
    def alarms(self) -> int:
        """How often it noticed that what entries know of similar texts does not hold any more."""
        return 0

    @property
    def watching(self) -> bool:
        """Whether every semantic hit is to be audited now, whatever the refresh rate."""
        return False

    @abstractmethod
    def look_up(self) -> None:
        """The nearest entry of a new text could answer it, near enough or not."""

    @abstractmethod
    def observe(self, comparison: Comparison) -> bool:
        """That entry's prior was compared with a fresh one; returns whether it was over budget."""

    @abstractmethod
    def update(self, signals: Signals, knobs: Knobs) -> Knobs:
        """The parameters of the next interval."""

    @abstractmethod
    def certificate(self) -> Certificate | None:
        """What is promised about semantic hits; None if nothing is."""

    @abstractmethod
    def forget(self) -> None:
        """The keys have changed: what was found out about similarities means nothing now."""

    @abstractmethod
    def state(self) -> dict[str, Any]:
        """JSON values from which `restore` goes on."""

    @abstractmethod
    def restore(self, state: dict[str, Any]) -> None:
        """Take over what `state` returned."""


class FixedController(Controller):
    """Leaves the parameters as they were configured."""

    def look_up(self) -> None:
        """Of no interest."""

    def observe(self, comparison: Comparison) -> bool:
        """No budget, so none is exceeded."""
        return False

    def update(self, signals: Signals, knobs: Knobs) -> Knobs:
        """The same."""
        return knobs

    def certificate(self) -> None:
        """Nothing is promised."""

    def forget(self) -> None:
        """Nothing was found out."""

    def state(self) -> dict[str, Any]:
        """Nothing."""
        return {}

    def restore(self, state: dict[str, Any]) -> None:
        """Nothing."""


class CertifiedController(Controller):
    """The loosest δ that is proven safe, as many audits as the proof needs, K by ghost hits."""

    learns_from_misses = True

    def __init__(self, config: CertifiedConfig, most_capacity: int) -> None:
        self._config = config
        self._most_capacity = most_capacity
        self._evidence = Evidence(config)
        self._least_probability = 1.0
        self._alarm = Alarm(config.alpha, config.false_alarm_interval)
        self._watched: float | None = None  # threshold in force when the suspicion arose
        self._certificate = self._evidence.certificate()

    @property
    def alarms(self) -> int:
        """Sudden changes noticed so far; each withdrew the certificate."""
        return self._alarm.raised

    @property
    def watching(self) -> bool:
        """While a failed audit makes a sudden change likely."""
        return self._alarm.watching

    def look_up(self) -> None:
        """Time passes for the evidence."""
        self._evidence.pass_time()

    def observe(self, comparison: Comparison) -> bool:
        """Add to the evidence; an audited hit may raise the alarm, which drops all of it."""
        in_force = self._certificate.threshold
        least = min(self._least_probability, comparison.probability)
        failed = self._evidence.add(comparison, least, in_force)
        if self._config.watch and self._concerns_hits(comparison):
            if self._alarm.add(failed=failed):
                self.forget()
            elif not self._alarm.watching:
                self._watched = None
            elif self._watched is None:
                self._watched = in_force
        return failed

    def _concerns_hits(self, comparison: Comparison) -> bool:
        """Whether it tells how hits do: an audited one, or what was one when suspicion arose.

        The latter only where the certificate has lapsed since: then it is a miss, and seen.
        """
        if comparison.hit:
            return True
        if self._watched is None or self._certificate.threshold is not None:
            return False
        return comparison.similarity >= self._watched

    def update(self, signals: Signals, knobs: Knobs) -> Knobs:
        """δ from the evidence, r from the sample size it needs, K from ghost hits.

        r is such that half a window holds the audits that certify δ anew, with a margin, at the
        share of look-ups that hit; K doubles while more than 1 % of the decisions miss what was
        evicted.
        """
        config = self._config
        self._certificate = self._evidence.certificate(self.alarms)
        threshold = self._certificate.threshold
        capacity = knobs.capacity
        if signals.ghost_hits > _GHOST_RATE * signals.decisions:
            capacity = min(2 * capacity, self._most_capacity)
        if threshold is None:
            self._least_probability = 1.0
            return Knobs(capacity, None, config.most_refresh_rate)
        wanted = max(_AUDIT_MARGIN * self._evidence.least_observations, 2 * FIRST_OBSERVATIONS)
        rate = wanted / (self._evidence.share_in_force() * config.window / 2)
        rate = min(max(rate, config.least_refresh_rate), config.most_refresh_rate)
        self._least_probability = rate
        return Knobs(capacity, threshold, rate)

    def certificate(self) -> Certificate:
        """As of the last update: the one that is in force."""
        return self._certificate

    def forget(self) -> None:
        """Begin the evidence anew; nothing is certified until it suffices again."""
        self._evidence = Evidence(self._config, hand_overs=self._evidence.hand_overs)
        self._least_probability = 1.0
        self._alarm.statistic = 1.0
        self._watched = None
        self._certificate = self._evidence.certificate(self.alarms)

    def state(self) -> dict[str, Any]:
        """The evidence, the suspicion, and what is in force."""
        return {
            "alarm": [self._alarm.statistic, self._alarm.raised, self._watched],
            "evidence": self._evidence.state(),
            "least_probability": self._least_probability,
            "certificate": self._certificate._asdict(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Take over what `state` returned."""
        self._alarm.statistic, self._alarm.raised, self._watched = state["alarm"]
        self._evidence.restore(state["evidence"])
        self._least_probability = state["least_probability"]
        self._certificate = Certificate(**state["certificate"])


class SurrogateController(Controller):
    """Heuristic surrogate gradients, kept while the meta-reward does not fall.

    K grows while the hit rate is below its goal and shrinks above it; δ falls when the TD error is
    above its running mean (`td_error_sign` turns that round); r rises when the policy varies more
    than it used to. J = normalised return − λ_q·queries per decision − λ_K·K/K_max. A step after
    which J falls by more than the tolerance is taken back.
    """

    def __init__(self, config: SurrogateConfig, most_capacity: int) -> None:
        self._config = config
        self._most_capacity = most_capacity
        self._means: dict[str, float] = {}
        self._return_range: list[float] | None = None
        self._last: tuple[float, Knobs] | None = None
        self.rollbacks = 0

    def look_up(self) -> None:
        """Of no interest."""

    def observe(self, comparison: Comparison) -> bool:
        """No budget, so none is exceeded."""
        return False

    def update(self, signals: Signals, knobs: Knobs) -> Knobs:
        """One accepted step, or the parameters before the last one."""
        reward = self._meta_reward(signals, knobs)
        if self._last is not None and reward < self._last[0] - self._config.tolerance:
            before = self._last[1]
            self._last = None
            self.rollbacks += 1
            return before
        self._last = (reward, knobs)
        return self._step(signals, knobs)

    def certificate(self) -> None:
        """Nothing is promised."""

    def forget(self) -> None:
        """Errors and rewards are not about similarities."""

    def state(self) -> dict[str, Any]:
        """Running means, the range of returns, the last accepted step."""
        return {
            "means": dict(self._means),
            "return_range": self._return_range,
            "last": None if self._last is None else [self._last[0], list(self._last[1])],
            "rollbacks": self.rollbacks,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Take over what `state` returned."""
        self._means = dict(state["means"])
        self._return_range = state["return_range"]
        last = state["last"]
        self._last = None if last is None else (last[0], Knobs(*last[1]))
        self.rollbacks = state["rollbacks"]

    def _step(self, signals: Signals, knobs: Knobs) -> Knobs:
        config = self._config
        lack = config.hit_rate_goal - signals.hits / signals.decisions
        capacity = round(knobs.capacity * (1.0 + config.capacity_step * lack))
        sign = 1.0 if config.td_error_sign == "loosen" else -1.0
        excess = self._excess("td_error", signals.td_error)
        assert knobs.threshold is not None, "`surrogate` always has a threshold"
        # 1 − δ is moved by a factor: between 0.99 and 0.999 lie as many decisions as below 0.9.
        distance = (1.0 - knobs.threshold) * math.exp(sign * config.threshold_step * excess)
        varies = self._excess("variability", signals.variability)
        refresh = knobs.refresh_rate * math.exp(config.refresh_step * varies)
        least = min(config.least_capacity, self._most_capacity)
        return Knobs(
            min(max(capacity, least), self._most_capacity),
            min(max(1.0 - distance, config.least_threshold), config.most_threshold),
            min(max(refresh, config.least_refresh_rate), config.most_refresh_rate),
        )

    def _excess(self, name: str, value: float | None) -> float:
        """(value − running mean)/running mean, within ±1; then the mean moves. 0 if unknown."""
        if value is None:
            return 0.0
        mean = self._means.get(name, value)
        self._means[name] = _SMOOTHING * mean + (1.0 - _SMOOTHING) * value
        return max(-1.0, min(1.0, (value - mean) / mean)) if mean > 0 else 0.0

    def _meta_reward(self, signals: Signals, knobs: Knobs) -> float:
        config = self._config
        return (
            self._normalised_return(signals.episode_return)
            - config.query_cost * signals.queries / signals.decisions
            - config.capacity_cost * knobs.capacity / self._most_capacity
        )

    def _normalised_return(self, value: float | None) -> float:
        """The running mean return over the range seen so far, 0..1; 0 before there is a range."""
        if value is not None:
            low, high = self._return_range or [value, value]
            self._return_range = [min(low, value), max(high, value)]
            mean = self._means.get("return", value)
            self._means["return"] = _SMOOTHING * mean + (1.0 - _SMOOTHING) * value
        low, high = self._return_range or [0.0, 0.0]
        return (self._means["return"] - low) / (high - low) if high > low else 0.0


def make_controller(config: CacheConfig) -> Controller:
    """The controller that a cache's mode names."""
    if config.mode == "certified":
        return CertifiedController(config.certified, config.most_capacity)
    if config.mode == "surrogate":
        return SurrogateController(config.surrogate, config.most_capacity)
    return FixedController()
