"""Runs a controller beside a cache: gathers the signals of an interval, sets the parameters.

What only the agent knows (TD error, how much the policy varies, returns) is told to it; `certified`
needs none of that.
"""

from time import perf_counter
from typing import Any

from cepcli.cache.cache_keys import CacheKeys
from cepcli.cache.controllers.certificate import Certificate, Comparison
from cepcli.cache.controllers.controllers import Controller, Signals
from cepcli.cache.store import PriorCache
from cepcli.cache.telemetry import CacheTelemetry

_COUNTS = ("decisions", "hits", "queries", "ghost_hits")


class Control:
    """A controller, its interval, and what the agent has told since the last update.

    Args:
        controller: decides.
        interval: decisions between updates.
        keys: the cache's keys, if it has any; they are learned when their time has come.
    """

    def __init__(
        self, controller: Controller, interval: int, keys: CacheKeys | None = None
    ) -> None:
        self.controller = controller
        self.keys = keys
        self.seconds = 0.0
        self._interval = interval
        self._told: dict[str, list[float]] = {}
        self._before: dict[str, int] = dict.fromkeys(_COUNTS, 0)

    @property
    def certificate(self) -> Certificate | None:
        """What is promised about semantic hits now."""
        return self.controller.certificate()

    @property
    def promise(self) -> dict[str, Any] | None:
        """The same as JSON values, as the cache and the run's summary keep it."""
        found = self.certificate
        return None if found is None else found._asdict()

    @property
    def reliable(self) -> bool:
        """Whether semantic hits are covered by a certificate."""
        found = self.certificate
        return found is not None and found.threshold is not None

    def tell(self, name: str, value: float) -> None:
        """One value of "td_error", "variability" or "episode_return"."""
        total = self._told.setdefault(name, [0.0, 0])
        total[0] += value
        total[1] += 1

    def observe(self, comparison: Comparison, cache: PriorCache) -> bool:
        """Tell the controller; returns whether the comparison was over budget.

        If it raises an alarm, the cache's entries answer only their own text from now on, and no
        similarity suffices until there is new evidence.
        """
        start = perf_counter()
        alarms = self.controller.alarms
        failed = self.controller.observe(comparison)
        if self.controller.alarms > alarms:
            cache.set_aside()
            cache.set_knobs(cache.knobs._replace(threshold=None))
            cache.certificate = self.promise
        self.seconds += perf_counter() - start
        return failed

    def recount(self, cache: PriorCache, telemetry: CacheTelemetry) -> None:
        """Begin an interval whose decisions another telemetry counts; what was told is dropped."""
        self._told.clear()
        self._before = self._counts(cache, telemetry)

    def tick(self, cache: PriorCache, telemetry: CacheTelemetry) -> None:
        """Update the cache's keys, parameters and promise, if an interval has passed."""
        decisions = telemetry.decisions - self._before["decisions"]
        if decisions < self._interval:
            return
        start = perf_counter()
        if self.keys is not None and self.keys.learn(cache):
            self.controller.forget()
        cache.set_knobs(self.controller.update(self._signals(cache, telemetry), cache.knobs))
        cache.certificate = self.promise
        self._told.clear()
        self._before = self._counts(cache, telemetry)
        self.seconds += perf_counter() - start

    def state(self) -> dict[str, Any]:
        """JSON values from which `restore` goes on."""
        return {
            "controller": self.controller.state(),
            "told": {name: list(total) for name, total in self._told.items()},
            "before": dict(self._before),
            "seconds": self.seconds,
            "keys": None if self.keys is None else self.keys.state(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Take over what `state` returned."""
        self.controller.restore(state["controller"])
        self._told = {name: list(total) for name, total in state["told"].items()}
        self._before = dict(state["before"])
        self.seconds = state["seconds"]
        if self.keys is not None:
            self.keys.restore(state["keys"])

    def _signals(self, cache: PriorCache, telemetry: CacheTelemetry) -> Signals:
        now = self._counts(cache, telemetry)
        means = {name: total / count for name, (total, count) in self._told.items() if count}
        return Signals(
            **{name: now[name] - self._before[name] for name in now},
            entries=len(cache),
            td_error=means.get("td_error"),
            variability=means.get("variability"),
            episode_return=means.get("episode_return"),
        )

    def _counts(self, cache: PriorCache, telemetry: CacheTelemetry) -> dict[str, int]:
        return {
            "decisions": telemetry.decisions,
            "hits": telemetry.hits,
            "queries": telemetry.queries,
            "ghost_hits": cache.ghost_hits,
        }
