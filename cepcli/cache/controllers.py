"""Controllers move the three parameters (K, δ, r) of a cache by what was seen of it.

A controller is deterministic: it draws nothing at random, and `state` is all it knows. It sees
every look-up that an entry could have answered (`look_up`, `observe`), and every `control_interval`
decisions the figures of the interval (`update`). What only the agent knows (TD error, how much the
policy varies, returns) is told to it; `certified` needs none of that.
"""

import math
from time import perf_counter
from typing import Any, NamedTuple

from typing_extensions import override

from cepcli.cache.cache_keys import CacheKeys
from cepcli.cache.certificate import Alarm, Certificate, Comparison, Evidence
from cepcli.cache.config import FIRST_OBSERVATIONS, CacheConfig, Knobs
from cepcli.cache.store import PriorCache
from cepcli.cache.telemetry import CacheTelemetry

_SMOOTHING = 0.8  # of the set points that `surrogate` compares with
_GHOST_RATE = 0.01  # ghost hits per decision from which a larger cache is worth it
_AUDIT_MARGIN = 4.0  # audits planned, over the least that certify without a failure


class Signals(NamedTuple):
    """Figures of one control interval.

    Attributes:
        decisions: decisions in it, >= 1.
        hits, queries: how many of them were hits, and how many asked the LLM.
        ghost_hits: misses whose text had been evicted not long ago.
        td_error: mean |Q − target|; None if nothing was learned.
        variability: mean entropy of the policy over log n; None if unknown.
        episode_return: mean return of the episodes that ended; None if none did.
    """

    decisions: int
    hits: int
    queries: int
    ghost_hits: int
    td_error: float | None = None
    variability: float | None = None
    episode_return: float | None = None


class Controller:
    """Leaves the parameters as they were configured; `certified` and `surrogate` extend it.

    Args:
        config: of the cache.
        keys: the cache's keys, if it has any; they are learned when they are due.

    Attributes:
        certificate: what is promised about semantic hits now; None if nothing is.
        learns_from_misses: whether a miss is to be compared with the nearest entry, too.
    """

    learns_from_misses = False

    def __init__(self, config: CacheConfig, keys: CacheKeys | None = None) -> None:
        self.keys = keys
        self.certificate: Certificate | None = None
        self._interval = config.control_interval
        self._told: dict[str, list[float]] = {}
        self._before = {"decisions": 0, "hits": 0, "queries": 0, "ghost_hits": 0}
        self.seconds = 0.0

    @property
    def alarms(self) -> int:
        """How often it noticed that what entries know of similar texts no longer holds."""
        return 0

    @property
    def watching(self) -> bool:
        """Whether every semantic hit is to be audited now, whatever the refresh rate."""
        return False

    @property
    def in_force(self) -> float | None:
        """The threshold from which semantic hits are certified now; None if none are."""
        return None if self.certificate is None else self.certificate.threshold

    @property
    def promise(self) -> dict[str, Any] | None:
        """The certificate as JSON values, as the cache and the run's summary store it."""
        return None if self.certificate is None else self.certificate._asdict()

    def look_up(self) -> None:
        """Note that the nearest entry of a new text could answer it, near enough or not."""

    def observe(self, comparison: Comparison) -> bool:
        """Learn from the comparison of an entry's prior with a fresh one; whether it was over κ."""
        return False

    def update(self, signals: Signals, knobs: Knobs) -> Knobs:
        """The parameters of the next interval."""
        return knobs

    def forget(self) -> None:
        """Drop what was learned about similarities, because the keys have changed."""

    def tell(self, name: str, value: float) -> None:
        """One value of "td_error", "variability" or "episode_return"."""
        total = self._told.setdefault(name, [0.0, 0])
        total[0] += value
        total[1] += 1

    def judge(self, comparison: Comparison, cache: PriorCache) -> bool:
        """`observe` a comparison made in a cache, and act on an alarm.

        After one, the cache's entries answer only their own text, and no similarity suffices until
        there is new evidence.
        """
        start = perf_counter()
        alarms = self.alarms
        failed = self.observe(comparison)
        if self.alarms > alarms:
            cache.set_aside()
            cache.set_knobs(cache.knobs._replace(threshold=None))
            cache.certificate = self.promise
        self.seconds += perf_counter() - start
        return failed

    def recount(self, cache: PriorCache, telemetry: CacheTelemetry) -> None:
        """Begin an interval whose decisions another telemetry counts; what was told is dropped."""
        self._told.clear()
        self._before = _counts(cache, telemetry)

    def tick(self, cache: PriorCache, telemetry: CacheTelemetry) -> None:
        """Update the cache's keys, parameters and promise, if an interval has passed."""
        if telemetry.decisions - self._before["decisions"] < self._interval:
            return
        start = perf_counter()
        if self.keys is not None and self.keys.learn(cache):
            self.forget()
        now = _counts(cache, telemetry)
        counts = {name: now[name] - before for name, before in self._before.items()}
        means = {name: total / count for name, (total, count) in self._told.items() if count}
        cache.set_knobs(self.update(Signals(**counts)._replace(**means), cache.knobs))
        cache.certificate = self.promise
        self.recount(cache, telemetry)
        self.seconds += perf_counter() - start

    def state(self) -> dict[str, Any]:
        """JSON values from which `restore` goes on."""
        return {
            "controller": self._own_state(),
            "told": {name: list(total) for name, total in self._told.items()},
            "before": dict(self._before),
            "seconds": self.seconds,
            "keys": None if self.keys is None else self.keys.state(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from what `state` returned."""
        self._restore_own(state["controller"])
        self._told = {name: list(total) for name, total in state["told"].items()}
        self._before = dict(state["before"])
        self.seconds = state["seconds"]
        if self.keys is not None:
            self.keys.restore(state["keys"])

    def _own_state(self) -> dict[str, Any]:
        return {}

    def _restore_own(self, state: dict[str, Any]) -> None:
        pass


def _counts(cache: PriorCache, telemetry: CacheTelemetry) -> dict[str, int]:
    return {
        "decisions": telemetry.decisions,
        "hits": telemetry.hits,
        "queries": telemetry.queries,
        "ghost_hits": cache.ghost_hits,
    }


class CertifiedController(Controller):
    """The loosest δ that is proven safe, as many audits as the proof needs, K by ghost hits."""

    learns_from_misses = True

    def __init__(self, config: CacheConfig, keys: CacheKeys | None = None) -> None:
        super().__init__(config, keys)
        self._config = config.certified
        self._most_capacity = config.most_capacity
        self._evidence = Evidence(self._config)
        self._least_probability = 1.0
        self._alarm = Alarm(self._config.alpha, self._config.false_alarm_interval)
        self._watched: float | None = None  # threshold in force when the suspicion arose
        self.certificate = self._evidence.certificate()

    @property
    @override
    def alarms(self) -> int:
        return self._alarm.raised

    @property
    @override
    def watching(self) -> bool:
        return self._alarm.watching

    @override
    def look_up(self) -> None:
        self._evidence.pass_time()

    @override
    def observe(self, comparison: Comparison) -> bool:
        in_force = self.in_force
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

        The latter only where the certificate has lapsed since: then it is a miss, and observed.
        """
        if comparison.hit:
            return True
        if self._watched is None or self.in_force is not None:
            return False
        return comparison.similarity >= self._watched

    @override
    def update(self, signals: Signals, knobs: Knobs) -> Knobs:
        """δ from the evidence, r from the sample size it needs, K from ghost hits.

        r is such that half a window holds the audits that certify δ anew, with a margin, at the
        share of look-ups that hit; K doubles while more than 1 % of the decisions miss what was
        evicted.
        """
        config = self._config
        self.certificate = self._evidence.certificate(self.alarms)
        threshold = self.in_force
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

    @override
    def forget(self) -> None:
        self._evidence = Evidence(self._config, hand_overs=self._evidence.hand_overs)
        self._least_probability = 1.0
        self._alarm.statistic = 1.0
        self._watched = None
        self.certificate = self._evidence.certificate(self.alarms)

    @override
    def _own_state(self) -> dict[str, Any]:
        return {
            "alarm": [self._alarm.statistic, self._alarm.raised, self._watched],
            "evidence": self._evidence.state(),
            "least_probability": self._least_probability,
            "certificate": self.promise,
        }

    @override
    def _restore_own(self, state: dict[str, Any]) -> None:
        self._alarm.statistic, self._alarm.raised, self._watched = state["alarm"]
        self._evidence.restore(state["evidence"])
        self._least_probability = state["least_probability"]
        self.certificate = Certificate(**state["certificate"])


class SurrogateController(Controller):
    """Heuristic surrogate gradients, accepted while the meta-reward does not fall.

    K grows while the hit rate is below its goal and shrinks above it; δ falls when the TD error is
    above its running mean (`td_error_sign` reverses that); r rises when the policy varies more
    than it used to. J = normalised return − λ_q·queries per decision − λ_K·K/K_max. A step after
    which J falls by more than the tolerance is taken back.
    """

    def __init__(self, config: CacheConfig, keys: CacheKeys | None = None) -> None:
        super().__init__(config, keys)
        self._config = config.surrogate
        self._most_capacity = config.most_capacity
        self._means: dict[str, float] = {}
        self._return_range: list[float] | None = None
        self._last: tuple[float, Knobs] | None = None
        self.rollbacks = 0

    @override
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

    @override
    def _own_state(self) -> dict[str, Any]:
        return {
            "means": dict(self._means),
            "return_range": self._return_range,
            "last": None if self._last is None else [self._last[0], list(self._last[1])],
            "rollbacks": self.rollbacks,
        }

    @override
    def _restore_own(self, state: dict[str, Any]) -> None:
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


def make_controller(config: CacheConfig, keys: CacheKeys | None = None) -> Controller:
    """The controller that a cache's mode names."""
    if config.mode == "certified":
        return CertifiedController(config, keys)
    if config.mode == "surrogate":
        return SurrogateController(config, keys)
    return Controller(config, keys)
