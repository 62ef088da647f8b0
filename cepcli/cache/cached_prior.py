"""A prior that asks the LLM only for what its cache does not know.

Each state is answered by the first that applies: an exact hit (an entry of the same text; never
audited, because a deterministic scorer would only repeat itself), a semantic hit (an entry of a
similar text, sometimes audited), a partial hit (an entry that lacks some actions: only those are
scored), a miss. Several states in one call are answered as they would be one after another, but the
LLM is asked once for all of them.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from time import perf_counter

import numpy as np
import torch

from cepcli.cache.store import Entry, PriorCache
from cepcli.cache.telemetry import Audit, CacheTelemetry
from cepcli.posterior.maths import kl_divergence, span
from cepcli.prior.base import AnswerKind, Prior, PriorAnswer, PriorShape
from cepcli.types import TextState


@dataclass(slots=True)
class _Pending:
    """A score that the LLM is about to give."""

    value: float = np.nan


@dataclass(slots=True)
class _Plan:
    """How one state will be answered.

    Attributes:
        state: the state.
        kind: how it is answered.
        sources: each action's score, or the pending one; for an audit, the fresh ones.
        asked: the actions to be scored under this state's prompt, and their pending scores.
        cached: for an audit, the scores that a hit would have used.
        entry: the entry that answers, or is to be filled.
        similarity: cosine to the entry that was audited.
        seconds: spent on the cache so far.
    """

    state: TextState
    kind: AnswerKind
    sources: list[float | _Pending]
    asked: dict[str, _Pending]
    entry: Entry | None
    cached: list[float | _Pending] | None = None
    audited: Entry | None = None
    similarity: float = 1.0
    seconds: float = 0.0


class CachedPrior(Prior):
    """`inner` behind `cache`.

    Args:
        inner: the prior whose answers are kept; it must give an action the same normalised score
            whatever other actions it is asked about.
        cache: where they are kept; look-ups only if it is read-only.
        encode: text to unit key, float32; called only where an exact probe failed in mode `lru`.
        generator: decides which semantic hits are audited.
        telemetry: counts every decision.
    """

    def __init__(
        self,
        inner: Prior,
        cache: PriorCache,
        encode: Callable[[str], np.ndarray],
        generator: np.random.Generator,
        telemetry: CacheTelemetry,
    ) -> None:
        self._inner = inner
        self._cache = cache
        self._encode = encode
        self._generator = generator
        self._telemetry = telemetry
        self._pending: dict[tuple[int, str], _Pending] = {}
        self._expecting: list[Entry] = []

    @property
    def shape(self) -> PriorShape:
        """The inner prior's."""
        return self._inner.shape

    def log_probs(self, states: Sequence[TextState]) -> list[PriorAnswer]:
        """The prior of each state; one call of `inner` for all that need it."""
        if self._cache.config.mode == "off":
            answers = [replace(a, kind="miss") for a in self._inner.log_probs(states)]
        else:
            answers = self._answer(states)
        for answer in answers:
            self._telemetry.record(answer)
        return answers

    def _answer(self, states: Sequence[TextState]) -> list[PriorAnswer]:
        try:
            plans = [self._timed_plan(state) for state in states]
            costs = self._ask(plans)
        except BaseException:
            self._roll_back()
            raise
        finally:
            self._pending.clear()
            self._expecting.clear()
        return [self._finish(plan, costs.get(number)) for number, plan in enumerate(plans)]

    def _timed_plan(self, state: TextState) -> _Plan:
        start = perf_counter()
        plan = self._plan(state)
        plan.seconds = perf_counter() - start
        return plan

    def _plan(self, state: TextState) -> _Plan:
        cache = self._cache
        entry = cache.exact(state.goal, state.text)
        if entry is not None:
            missing = entry.lacks(state.actions, own_text=True)
            return self._reuse(state, entry, missing, "exact")
        key = self._encode(state.text) if cache.keyed else None
        neighbour = cache.similar(state.goal, key) if key is not None else None
        if neighbour is None:
            return self._miss(state, key)
        audited = not cache.read_only and self._generator.random() < cache.config.refresh_rate
        entry = neighbour.entry
        if audited:
            cached = self._sources(entry, state.actions)
            plan = self._miss(state, key)
            plan.kind, plan.audited, plan.similarity = "audit", entry, neighbour.similarity
            plan.cached = [plan.asked[a] if s is None else s for a, s in cached]
            return plan
        return self._reuse(state, entry, entry.lacks(state.actions, own_text=False), "semantic")

    def _reuse(self, state: TextState, entry: Entry, missing: list[str], kind: AnswerKind) -> _Plan:
        """A hit on `entry`, or a partial hit if some actions are missing."""
        self._cache.use(entry)
        asked = {action: _Pending() for action in missing}
        sources = [asked.get(a, s) for a, s in self._sources(entry, state.actions)]
        if not self._cache.read_only:
            self._expect(entry, asked)
            if kind == "exact":
                entry.borrowed.difference_update(asked)
            else:
                entry.borrowed.update(asked)
        kind = "partial" if asked else kind
        return _Plan(state, kind, [s for s in sources if s is not None], asked, entry)

    def _miss(self, state: TextState, key: np.ndarray | None) -> _Plan:
        """Every action is scored, into a new entry unless the cache is read-only."""
        asked = {action: _Pending() for action in state.actions}
        entry = None
        if not self._cache.read_only:
            entry = self._cache.insert(state.goal, state.text, key, {})
            self._expect(entry, asked)
        return _Plan(state, "miss", list(asked.values()), asked, entry)

    def _expect(self, entry: Entry, asked: dict[str, _Pending]) -> None:
        """Let later states of the same call find the scores that are on their way."""
        self._expecting.append(entry)
        for action, pending in asked.items():
            entry.scores[action] = np.nan
            self._pending[entry.slot, action] = pending

    def _sources(
        self, entry: Entry, actions: Sequence[str]
    ) -> list[tuple[str, float | _Pending | None]]:
        if not self._pending:
            return [(action, entry.scores.get(action)) for action in actions]
        return [
            (action, self._pending.get((entry.slot, action), entry.scores.get(action)))
            for action in actions
        ]

    def _ask(self, plans: Sequence[_Plan]) -> dict[int, PriorAnswer]:
        """Score all that is missing in one call; what it cost, by number of the plan."""
        asking = [number for number, plan in enumerate(plans) if plan.asked]
        if not asking:
            return {}
        states = [
            TextState(plans[n].state.goal, plans[n].state.text, tuple(plans[n].asked))
            for n in asking
        ]
        answers = self._inner.log_probs(states)
        for number, answer in zip(asking, answers, strict=True):
            plan = plans[number]
            for (action, pending), score in zip(plan.asked.items(), answer.scores, strict=True):
                pending.value = float(score)
                if plan.entry is not None and not self._cache.read_only:
                    plan.entry.scores[action] = pending.value
        return dict(zip(asking, answers, strict=True))

    def _finish(self, plan: _Plan, cost: PriorAnswer | None) -> PriorAnswer:
        start = perf_counter()
        scores = _values(plan.sources)
        log_prior = self.shape.log_prior(scores)
        if plan.cached is not None and plan.audited is not None:
            self._audit(plan.audited, plan.similarity, _values(plan.cached), log_prior)
        seconds = plan.seconds + perf_counter() - start
        if cost is None:
            return PriorAnswer(log_prior, scores, plan.kind, cache_seconds=seconds)
        return PriorAnswer(
            log_prior,
            scores,
            plan.kind,
            tokens=cost.tokens,
            seconds=cost.seconds,
            live_seconds=cost.live_seconds,
            cache_seconds=seconds,
        )

    def _audit(
        self, entry: Entry, similarity: float, cached: np.ndarray, log_fresh: np.ndarray
    ) -> None:
        """Compare the prior that a hit would have given with the fresh one."""
        log_cached, fresh = map(torch.from_numpy, (self.shape.log_prior(cached), log_fresh))
        audit = Audit(
            similarity, float(span(log_cached, fresh)), float(kl_divergence(log_cached, fresh))
        )
        entry.audits += 1
        entry.last_span, entry.last_kl = audit.span, audit.kl
        self._telemetry.record_audit(audit)

    def _roll_back(self) -> None:
        """Take back the scores that never came."""
        for entry in self._expecting:
            for action in [a for a, score in entry.scores.items() if np.isnan(score)]:
                del entry.scores[action]
                entry.borrowed.discard(action)
            if not entry.scores:
                self._cache.remove(entry)


def _values(sources: Sequence[float | _Pending]) -> np.ndarray:
    return np.array([s.value if isinstance(s, _Pending) else s for s in sources], np.float64)
