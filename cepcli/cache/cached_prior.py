"""A prior that asks the LLM only for what its cache does not know.

Each state is answered by the first that applies: an exact hit (an entry of the same text; never
audited, because a deterministic scorer would only repeat itself), a semantic hit (an entry of a
similar text, sometimes audited), a partial hit (such an entry that lacks some actions), a miss. A
partial hit is a query: of the same text only what is missing is scored; of a similar one all is,
since the LLM is asked anyway and takes hardly longer, and what the entry would have answered is
compared with that. Such a comparison is not evidence for `certified`, which promises something
about hits.
Where a controller learns from it, a miss compares the nearest entry with the fresh answer for free.
In mode `certified` a similar text answers for a new one once only: when that comes again it is a
miss, and exact from then on, so that every text counts once in the evidence and none can be wrong
again and again.

Several states in one call are answered as they would be one after another, but the LLM is asked
once for all of them, and what it teaches about keys and thresholds is heeded from the next call on.

Where the LLM cannot be asked, a call about one state leaves everything as it was: what is planned
is carried out when the answer is there. Of several, each plan must see what those before it do.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from cepcli.cache.controllers.certificate import Certificate, Comparison
from cepcli.cache.controllers.runner import Control
from cepcli.cache.store import Entry, Neighbour, PriorCache
from cepcli.cache.telemetry import CacheTelemetry
from cepcli.posterior import kl_divergence, span
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
        entry: the entry that answers, or is to be filled.
        compared: the nearest entry, where its prior is to be compared with the fresh one.
        cached: the scores that a hit on it would have used.
        similarity: cosine to it.
        probability: with which it is compared: the refresh rate for a hit, 1 for a miss.
        key: of the state's text, for its new entry.
        looked_up: whether this look-up counts as evidence's time.
        lent: whether a similar text answers for this one, which is remembered; `returned`: whether
            one did, which is forgotten.
        seconds: spent on the cache so far.
    """

    state: TextState
    kind: AnswerKind
    sources: list[float | _Pending]
    asked: dict[str, _Pending]
    entry: Entry | None
    compared: Entry | None = None
    cached: list[float | _Pending] | None = None
    similarity: float = 1.0
    probability: float = 1.0
    key: np.ndarray | None = None
    looked_up: bool = False
    lent: bool = False
    returned: bool = False
    seconds: float = 0.0


class CachedPrior(Prior):
    """`inner` behind `cache`.

    Args:
        inner: the prior whose answers are kept; it must give an action the same normalised score
            whatever other actions it is asked about.
        cache: where they are kept; look-ups only if it is read-only.
        encode: goal and text to unit key, float32; called only where an exact probe failed and the
            mode compares texts.
        generator: decides which semantic hits are audited.
        telemetry: counts every decision.
        control: moves the cache's parameters; None leaves them as they are.
    """

    def __init__(
        self,
        inner: Prior,
        cache: PriorCache,
        encode: Callable[[str, str], np.ndarray],
        generator: np.random.Generator,
        telemetry: CacheTelemetry,
        control: Control | None = None,
    ) -> None:
        self._inner = inner
        self._cache = cache
        self._encode = encode
        self._generator = generator
        self._telemetry = telemetry
        self._control = control
        if control is not None and not cache.read_only:
            cache.certificate = control.promise
        self._pending: dict[int, dict[str, _Pending]] = {}
        self._expecting: list[Entry] = []
        self._undrawn: Mapping[str, Any] | None = None

    @property
    def shape(self) -> PriorShape:
        """The inner prior's."""
        return self._inner.shape

    @property
    def telemetry(self) -> CacheTelemetry:
        """What was decided so far and what it cost."""
        return self._telemetry

    @property
    def certificate(self) -> Certificate | None:
        """What is promised about semantic hits now; None in modes that promise nothing."""
        return None if self._control is None else self._control.certificate

    def __call__(self, state: TextState) -> PriorAnswer:
        """The prior of one state."""
        return self.log_probs([state])[0]

    def save(self, directory: str | Path) -> None:
        """Write the cache's entries into `directory`, replacing a cache there in a single step."""
        self._cache.save(Path(directory))

    def log_probs(self, states: Sequence[TextState]) -> list[PriorAnswer]:
        """The prior of each state; one call of `inner` for all that need it."""
        if self._cache.config.mode == "off":
            answers = [replace(a, kind="miss") for a in self._inner.log_probs(states)]
        else:
            answers = self._answer(states)
        reliable = self._control is not None and self._control.reliable
        for answer in answers:
            self._telemetry.record(answer, semantic_is_reliable=reliable)
        if self._control is not None and not self._cache.read_only:
            self._control.tick(self._cache, self._telemetry)
        return answers

    def _answer(self, states: Sequence[TextState]) -> list[PriorAnswer]:
        self._undrawn = None
        alone = len(states) == 1
        try:
            plans = [self._timed_plan(state, carry_out=not alone) for state in states]
            costs = self._ask(plans)
            if alone:
                self._carry_out(plans[0])
        except BaseException:
            self._roll_back()
            raise
        finally:
            self._pending.clear()
            self._expecting.clear()
        return [self._finish(plan, costs.get(number)) for number, plan in enumerate(plans)]

    def _timed_plan(self, state: TextState, *, carry_out: bool) -> _Plan:
        start = perf_counter()
        plan = self._plan(state)
        plan.seconds = perf_counter() - start
        if carry_out:
            self._carry_out(plan)
        return plan

    def _carry_out(self, plan: _Plan) -> None:
        """Change the cache as planned; scores that are still asked for are NaN until they come."""
        start = perf_counter()
        cache, state = self._cache, plan.state
        if plan.looked_up and self._control is not None:
            self._control.controller.look_up()
        if plan.returned:
            cache.forget_lent(state.goal, state.text)
        if plan.lent:
            cache.lend(state.goal, state.text)
        if plan.entry is not None:
            cache.use(plan.entry)
        if plan.asked and not cache.read_only:
            scores = {action: pending.value for action, pending in plan.asked.items()}
            if plan.entry is None:
                plan.entry = cache.insert(state.goal, state.text, plan.key, scores)
            else:
                plan.entry.scores.put(tuple(scores), tuple(scores.values()))
                plan.entry.borrowed.difference_update(scores)
            self._expect(plan.entry, plan.asked)
        plan.seconds += perf_counter() - start

    def _plan(self, state: TextState) -> _Plan:
        """How a state is to be answered; changes nothing but the generator, if that must draw."""
        cache = self._cache
        entry = cache.exact(state.goal, state.text)
        if entry is not None:
            missing = entry.lacks(state.actions, own_text=True)
            return self._reuse(state, entry, missing, "exact")
        key = self._encode(state.goal, state.text) if cache.keyed else None
        neighbour = cache.nearest(state, key) if key is not None else None
        if neighbour is None:
            return self._miss(state, key)
        certified = cache.config.mode == "certified" and not cache.read_only
        if certified and cache.was_lent(state.goal, state.text):
            plan = self._miss(state, key)
            plan.returned = True
            return plan
        missing = neighbour.entry.lacks(state.actions, own_text=False)
        comparable = not missing and neighbour.similarity > neighbour.entry.repels
        plan = self._by_neighbour(state, key, neighbour, missing, comparable)
        plan.looked_up = comparable and not cache.read_only
        plan.lent = certified and plan.kind == "semantic"
        return plan

    def _by_neighbour(
        self,
        state: TextState,
        key: np.ndarray | None,
        neighbour: Neighbour,
        missing: list[str],
        comparable: bool,
    ) -> _Plan:
        """How a text is answered that has an entry near it."""
        cache = self._cache
        if not cache.answers(neighbour):
            wanted = self._control is None or self._control.controller.learns_from_misses
            return self._compared_miss(state, key, neighbour, missing, comparable and wanted)
        if missing:
            plan = self._compared_miss(state, key, neighbour, missing, True)
            plan.kind = "partial"
            return plan
        audited = self._audit_rate
        if not cache.read_only and self._draw() < audited:
            plan = self._compared_miss(state, key, neighbour, missing, True)
            plan.kind, plan.probability = "audit", audited
            return plan
        return self._reuse(state, neighbour.entry, missing, "semantic")

    @property
    def _audit_rate(self) -> float:
        """With which probability a semantic hit is audited."""
        watching = self._control is not None and self._control.controller.watching
        return 1.0 if watching else self._cache.knobs.refresh_rate

    def _draw(self) -> float:
        """A random number, which an answer that does not come gives back."""
        if self._undrawn is None:
            self._undrawn = self._generator.bit_generator.state
        return self._generator.random()

    def _compared_miss(
        self,
        state: TextState,
        key: np.ndarray | None,
        neighbour: Neighbour,
        missing: list[str],
        comparable: bool,
    ) -> _Plan:
        """A miss whose fresh answer is compared with the nearest entry's, if that is of use."""
        plan = self._miss(state, key)
        if comparable and not self._cache.read_only:
            asked = {action: plan.asked[action] for action in missing}
            plan.compared, plan.similarity = neighbour.entry, neighbour.similarity
            plan.cached = self._sources(neighbour.entry, state.actions, asked)
        return plan

    def _reuse(self, state: TextState, entry: Entry, missing: list[str], kind: AnswerKind) -> _Plan:
        """A hit on `entry`, or a partial hit if some actions are missing."""
        asked = {action: _Pending() for action in missing}
        sources = self._sources(entry, state.actions, asked)
        kind = "partial" if asked else kind
        return _Plan(state, kind, sources, asked, entry)

    def _miss(self, state: TextState, key: np.ndarray | None) -> _Plan:
        """Every action is scored, into a new entry unless the cache is read-only."""
        asked = {action: _Pending() for action in state.actions}
        return _Plan(state, "miss", list(asked.values()), asked, None, key=key)

    def _expect(self, entry: Entry, asked: dict[str, _Pending]) -> None:
        """Let later states of the same call find the scores that are on their way."""
        self._expecting.append(entry)
        self._pending.setdefault(entry.slot, {}).update(asked)

    def _sources(
        self, entry: Entry, actions: Sequence[str], asked: dict[str, _Pending]
    ) -> list[float | _Pending]:
        """Where each action's score is: asked for now, or by an earlier state, or known."""
        known = entry.scores.of(actions)
        coming = {**self._pending.get(entry.slot, {}), **asked}
        if not coming:
            return list(known)
        return [coming.get(a, score) for a, score in zip(actions, known, strict=True)]

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
            plan, scores = plans[number], answer.scores.tolist()
            for pending, score in zip(plan.asked.values(), scores, strict=True):
                pending.value = score
            if plan.entry is not None and not self._cache.read_only:
                plan.entry.scores.put(tuple(plan.asked), scores)
        return dict(zip(asking, answers, strict=True))

    def _finish(self, plan: _Plan, cost: PriorAnswer | None) -> PriorAnswer:
        start = perf_counter()
        if cost is not None and len(plan.asked) == len(plan.sources):
            scores, log_prior = cost.scores, cost.log_prior
        else:
            scores = _values(plan.sources)
            log_prior = self.shape.log_prior(scores)
        if plan.cached is not None and plan.compared is not None:
            log_cached = self.shape.log_prior(_values(plan.cached))
            self._compare(plan.compared, plan, log_cached, log_prior)
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
            thought=cost.thought,
        )

    def _compare(
        self, entry: Entry, plan: _Plan, log_cached: np.ndarray, log_fresh: np.ndarray
    ) -> None:
        """Compare the prior that a hit would have given with the fresh one."""
        would_answer = plan.kind != "miss"
        found = Comparison(
            plan.similarity,
            float(span(log_cached, log_fresh)),
            float(kl_divergence(log_cached, log_fresh)),
            plan.probability,
            would_answer,
        )
        if would_answer:
            self._cache.audited(entry, found.span, found.kl)
        if plan.kind == "partial":
            self._telemetry.record_partial(found)
            return
        self._telemetry.record_comparison(found)
        if self._control is None or self._cache.is_set_aside(entry):
            return  # an alarm since it was looked up: nothing is asked of it any more
        failed = self._control.observe(found, self._cache)
        if failed and self._cache.config.certified.renew:
            self._cache.repel(entry, found.similarity)

    def _roll_back(self) -> None:
        """Take back the scores that never came, and what was drawn."""
        if self._undrawn is not None:
            self._generator.bit_generator.state = dict(self._undrawn)
        for entry in self._expecting:
            for action in [a for a, score in entry.scores.items() if np.isnan(score)]:
                del entry.scores[action]
                entry.borrowed.discard(action)
            if not entry.scores:
                self._cache.remove(entry)


def _values(sources: Sequence[float | _Pending]) -> np.ndarray:
    return np.array([s.value if isinstance(s, _Pending) else s for s in sources], np.float64)
