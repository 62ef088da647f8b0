"""A prior that asks the LLM only for what its cache does not know.

Each state is answered by the first that applies: an exact hit (an entry of the same text; never
audited, because a deterministic scorer would only repeat itself), a semantic hit (an entry of a
similar text, sometimes audited), a partial hit (such an entry that lacks some actions), a miss. A
partial hit is a query: of the same text only what is missing is scored; of a similar one all is,
since the LLM is asked anyway and takes hardly longer, and what the entry would have answered is
compared with that. Such a comparison is not evidence for `certified`, which promises something
about hits.
Where a controller learns from it, a miss compares the nearest entry with the fresh answer for free.
In mode `certified` a similar text answers for a new one only once: when the text comes again it is
a miss, and exact from then on. So every text counts once in the evidence, and no error repeats.

Several states in one call are answered as they would be one after another, but the LLM is asked
once for all of them, and keys and thresholds learn from its answers after the call.

If the LLM cannot be asked, a call about one state leaves everything as it was: the plan is carried
out once the answer is there. Of several states, each plan must see what those before it do.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from typing_extensions import override

from cepcli.cache.certificate import Certificate, Comparison
from cepcli.cache.controllers import Controller
from cepcli.cache.entries import CacheEntry
from cepcli.cache.store import Neighbour, PriorCache
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
        key: of the state's text, for its new entry.
        compared: the nearest entry, where its prior is to be compared with the fresh one.
        cached: the scores that a hit on it would have used.
        similarity: cosine to it.
        probability: with which it is compared: the refresh rate for a hit, 1 for a miss.
        looked_up: whether this look-up counts as evidence's time.
        lent: whether a similar text answers for this one, which is remembered.
        cost: what the LLM said, if it was asked.
        seconds: spent on the cache so far.
    """

    state: TextState
    kind: AnswerKind
    sources: Sequence[float | _Pending]
    asked: dict[str, _Pending]
    entry: CacheEntry | None = None
    key: np.ndarray | None = None
    compared: CacheEntry | None = None
    cached: Sequence[float | _Pending] = ()
    similarity: float = 1.0
    probability: float = 1.0
    looked_up: bool = False
    lent: bool = False
    cost: PriorAnswer | None = None
    seconds: float = 0.0


class CachedPrior(Prior):
    """`inner` behind `cache`.

    Args:
        inner: the prior whose answers are stored; it must give an action the same normalised score
            whatever other actions it is asked about.
        cache: where they are stored; look-ups only if it is read-only.
        encode: goal and text to unit key, float32; called only where an exact probe failed and the
            mode compares texts.
        generator: decides which semantic hits are audited.
        telemetry: counts every decision.
        controller: moves the cache's parameters; None leaves them as they are.
    """

    def __init__(
        self,
        inner: Prior,
        cache: PriorCache,
        encode: Callable[[str, str], np.ndarray],
        generator: np.random.Generator,
        telemetry: CacheTelemetry,
        controller: Controller | None = None,
    ) -> None:
        self._inner = inner
        self._shape = inner.shape
        self._cache = cache
        self._encode = encode
        self._generator = generator
        self._telemetry = telemetry
        self._controller = controller
        if controller is not None and not cache.read_only:
            cache.certificate = controller.promise
        self._pending: dict[int, dict[str, _Pending]] = {}
        self._expecting: list[CacheEntry] = []
        self._undrawn: Mapping[str, Any] | None = None

    @property
    @override
    def shape(self) -> PriorShape:
        return self._shape

    @property
    def telemetry(self) -> CacheTelemetry:
        """What was decided so far and what it cost."""
        return self._telemetry

    @property
    def certificate(self) -> Certificate | None:
        """What is promised about semantic hits now; None in modes that promise nothing."""
        return None if self._controller is None else self._controller.certificate

    def __call__(self, state: TextState) -> PriorAnswer:
        """The prior of one state."""
        return self.log_probs([state])[0]

    def save(self, directory: str | Path) -> None:
        """Write the cache's entries into `directory`, replacing a cache there in a single step."""
        self._cache.save(Path(directory))

    @override
    def log_probs(self, states: Sequence[TextState]) -> list[PriorAnswer]:
        """The prior of each state; one call of `inner` for all that need it."""
        controller = self._controller
        if self._cache.config.mode == "off":
            answers = [replace(a, kind="miss") for a in self._inner.log_probs(states)]
        else:
            answers = self._answers(states)
        reliable = controller is not None and controller.in_force is not None
        for answer in answers:
            self._telemetry.record(answer, semantic_is_reliable=reliable)
        if controller is not None and not self._cache.read_only:
            controller.tick(self._cache, self._telemetry)
        return answers

    def _answers(self, states: Sequence[TextState]) -> list[PriorAnswer]:
        self._undrawn = None
        plans: list[_Plan] = []
        try:
            for state in states:
                start = perf_counter()
                plan = self._plan(state)
                plan.seconds = perf_counter() - start
                plans.append(plan)
                if len(states) > 1:
                    self._carry_out(plan)
            self._ask([plan for plan in plans if plan.asked])
            if len(states) == 1:
                self._carry_out(plans[0])
        except BaseException:
            self._roll_back()
            raise
        finally:
            self._pending.clear()
            self._expecting.clear()
        return [self._finish(plan) for plan in plans]

    def _plan(self, state: TextState) -> _Plan:
        """How a state is to be answered; changes nothing but the generator, if that must draw."""
        cache = self._cache
        entry = cache.exact(state.goal, state.text)
        if entry is not None:
            return self._reuse(state, entry, entry.lacks(state.actions), "exact")
        key = self._encode(state.goal, state.text) if cache.keyed else None
        neighbour = cache.nearest(state, key) if key is not None else None
        lends = cache.config.mode == "certified" and not cache.read_only
        if neighbour is None or (lends and cache.was_lent(state.goal, state.text)):
            return self._miss(state, key)
        missing = neighbour.entry.lacks(state.actions)
        comparable = not missing and neighbour.similarity > neighbour.entry.repels
        plan = self._by_neighbour(state, key, neighbour, missing, comparable)
        plan.looked_up = comparable and not cache.read_only
        plan.lent = lends and plan.kind == "semantic"
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
        cache, controller = self._cache, self._controller
        if not cache.answers(neighbour):
            compares = comparable and (controller is None or controller.learns_from_misses)
            return self._miss(state, key, neighbour if compares else None)
        if missing:
            return self._miss(state, key, neighbour, missing, "partial")
        watching = controller is not None and controller.watching
        rate = 1.0 if watching else cache.knobs.refresh_rate
        if not cache.read_only and self._draw() < rate:
            plan = self._miss(state, key, neighbour, kind="audit")
            plan.probability = rate
            return plan
        return self._reuse(state, neighbour.entry, [], "semantic")

    def _draw(self) -> float:
        """A random number; `_roll_back` takes it back."""
        if self._undrawn is None:
            self._undrawn = self._generator.bit_generator.state
        return self._generator.random()

    def _reuse(
        self, state: TextState, entry: CacheEntry, missing: list[str], kind: AnswerKind
    ) -> _Plan:
        """A hit on `entry`, or a partial hit if some actions are missing."""
        asked = {action: _Pending() for action in missing}
        sources = self._sources(entry, state.actions, asked)
        return _Plan(state, "partial" if asked else kind, sources, asked, entry)

    def _miss(
        self,
        state: TextState,
        key: np.ndarray | None,
        neighbour: Neighbour | None = None,
        missing: Sequence[str] = (),
        kind: AnswerKind = "miss",
    ) -> _Plan:
        """Every action is scored, into a new entry unless the cache is read-only.

        The fresh answer is compared with what the neighbour, if one is given, would have said.
        """
        asked = {action: _Pending() for action in state.actions}
        plan = _Plan(state, kind, list(asked.values()), asked, key=key)
        if neighbour is not None and not self._cache.read_only:
            plan.compared, plan.similarity = neighbour
            fresh = {action: asked[action] for action in missing}
            plan.cached = self._sources(neighbour.entry, state.actions, fresh)
        return plan

    def _sources(
        self, entry: CacheEntry, actions: Sequence[str], asked: dict[str, _Pending]
    ) -> Sequence[float | _Pending]:
        """Where each action's score is: asked for now, or by an earlier state, or known."""
        known = entry.scores.values_of(actions)
        coming = {**self._pending.get(entry.slot, {}), **asked}
        if not coming:
            return known
        return [coming.get(a, score) for a, score in zip(actions, known, strict=True)]

    def _carry_out(self, plan: _Plan) -> None:
        """Change the cache as planned; scores that are still asked for are NaN until they come."""
        start = perf_counter()
        cache, state = self._cache, plan.state
        if plan.looked_up and self._controller is not None:
            self._controller.look_up()
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
            # later states of the same call find the scores that are on their way
            self._expecting.append(plan.entry)
            self._pending.setdefault(plan.entry.slot, {}).update(plan.asked)
        plan.seconds += perf_counter() - start

    def _ask(self, plans: Sequence[_Plan]) -> None:
        """Score all that is missing in one call."""
        if not plans:
            return
        answers = self._inner.log_probs(
            [TextState(p.state.goal, p.state.text, tuple(p.asked)) for p in plans]
        )
        for plan, answer in zip(plans, answers, strict=True):
            plan.cost, scores = answer, answer.scores.tolist()
            for pending, score in zip(plan.asked.values(), scores, strict=True):
                pending.value = score
            if plan.entry is not None and not self._cache.read_only:
                plan.entry.scores.put(tuple(plan.asked), scores)

    def _finish(self, plan: _Plan) -> PriorAnswer:
        start = perf_counter()
        cost = plan.cost
        if cost is not None and len(plan.asked) == len(plan.sources):
            scores, log_prior = cost.scores, cost.log_prior
        else:
            scores = _values(plan.sources)
            log_prior = self._shape.log_prior(scores)
        if plan.compared is not None:
            self._compare(plan.compared, plan, log_prior)
        seconds = plan.seconds + perf_counter() - start
        if cost is None:
            return PriorAnswer(log_prior, scores, plan.kind, cache_seconds=seconds)
        return replace(
            cost, log_prior=log_prior, scores=scores, kind=plan.kind, cache_seconds=seconds
        )

    def _compare(self, entry: CacheEntry, plan: _Plan, log_fresh: np.ndarray) -> None:
        """Compare the prior that a hit would have given with the fresh one."""
        log_cached = self._shape.log_prior(_values(plan.cached))
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
            self._telemetry.partials.append(found)
            return
        self._telemetry.comparisons.append(found)
        if self._controller is None or self._cache.is_set_aside(entry):
            return  # set aside by an alarm since the look-up: it is no longer asked
        failed = self._controller.judge(found, self._cache)
        if failed and self._cache.config.certified.renew:
            self._cache.repel(entry, found.similarity)

    def _roll_back(self) -> None:
        """Take back the scores that never came, and what was drawn."""
        if self._undrawn is not None:
            self._generator.bit_generator.state = dict(self._undrawn)
        for entry in self._expecting:
            for action in [a for a, score in entry.scores.items() if np.isnan(score)]:
                del entry.scores[action]
            if not entry.scores:
                self._cache.remove(entry)


def _values(sources: Sequence[float | _Pending]) -> np.ndarray:
    return np.array([s.value if isinstance(s, _Pending) else s for s in sources], np.float64)
