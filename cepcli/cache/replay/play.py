"""Plays a recorded trace through a cache without the LLM: what would it have cost, how wrong?

The very cache that runs is replayed, `CachedPrior` over a prior that knows the trace's answers; so
a figure of a replay is a figure of the product. Keys are made beforehand.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Any, NamedTuple, Self

import numpy as np
import torch
from jaxtyping import Float, Float32
from numpy import ndarray
from typing_extensions import override

from cepcli.cache.config import CacheConfig
from cepcli.cache.disk.columns import without_collection
from cepcli.cache.open import open_cache
from cepcli.cache.telemetry import CacheTelemetry
from cepcli.cache.trace import Trace, TracedDecision, fresh_scores
from cepcli.keys.head import Head
from cepcli.keys.key_encoder import KeyEncoder
from cepcli.posterior import kl_bound, kl_divergence, log_posterior, span
from cepcli.prior.base import Prior, PriorAnswer, PriorShape
from cepcli.types import TextState

#: Q of each action of a state under a log-prior, as a posterior takes it.
OwnValues = Callable[[TextState, Float[ndarray, " actions"]], Float[ndarray, " actions"]]

_ROUNDING = 1e-9


class KeyTable:
    """The keys of known states, made beforehand: `cache_keys.Keys` without an encoder.

    Args:
        rows: the row of each (goal, text).
        vectors: unit vectors, which a head takes.
        sha256: of the encoder they are from.
        head: learned map from vectors to keys, if there is one.
    """

    def __init__(
        self,
        rows: Mapping[tuple[str, str], int],
        vectors: Float32[ndarray, "rows features"],
        sha256: str,
        head: Head | None = None,
    ) -> None:
        self._rows = rows
        self._vectors = vectors
        self._bare_sha256 = sha256
        self.sha256 = sha256 if head is None else head.sha256
        self.head = head
        self._keys = vectors if head is None else head.project(vectors)
        self.dim = self._keys.shape[1]

    @classmethod
    def of(cls, trace: Trace, keys: KeyEncoder) -> "KeyTable":
        """The keys of every state of `trace`."""
        states = sorted({(d.state.goal, d.state.text) for d in trace.decisions})
        vectors = np.stack([keys.vector(*state) for state in states])
        rows = {state: row for row, state in enumerate(states)}
        return cls(rows, vectors, keys.with_head(None).sha256, keys.head)

    def key(self, goal: str, text: str) -> Float32[ndarray, " dim"]:
        """The unit key of a state."""
        return self._keys[self._rows[goal, text]]

    def vector(self, goal: str, text: str) -> Float32[ndarray, " features"]:
        """What a head takes."""
        return self._vectors[self._rows[goal, text]]

    def with_head(self, head: Head | None) -> Self:
        """The same with another head, or without."""
        return type(self)(self._rows, self._vectors, self._bare_sha256, head)


class Change(NamedTuple):
    """From decision number `start` on, counted from 0, the LLM answers as it does in `trace`."""

    start: int
    trace: Trace


class TracePrior(Prior):
    """Answers as the LLM did when the trace was recorded; knows nothing else."""

    def __init__(self, trace: Trace) -> None:
        self._trace = trace
        self._answers: dict[TextState, PriorAnswer] = {}

    @property
    @override
    def shape(self) -> PriorShape:
        return self._trace.shape

    @override
    def log_probs(self, states: Sequence[TextState]) -> list[PriorAnswer]:
        return [self._answer(state) for state in states]

    def become(self, trace: Trace) -> None:
        """Answer as in `trace` from now on."""
        self._trace = trace
        self._answers.clear()

    def _answer(self, state: TextState) -> PriorAnswer:
        found = self._answers.get(state)
        if found is None:
            scores = fresh_scores(self._trace, state)
            found = PriorAnswer(self.shape.log_prior(scores), scores, "miss")
            self._answers[state] = found
        return found


@dataclass(frozen=True, slots=True)
class ReplayResult:
    """What a cache did on a trace.

    Attributes:
        config: the cache's configuration.
        telemetry: its counts.
        certificate: what it promised at the end, or None.
        kl: KL(π̂‖π) of each semantic hit, between the posteriors at the traced Q and τ (between the
            priors where the trace has no Q), nats.
        bound: span²/8 of each semantic hit, which holds for every Q and τ.
        decision: which decision each of them was.
        in_force: share of the decisions at which similar texts were certified to answer, from the
            first such on; None if there was none.
        seconds: wall time of the replay, keys not included.
    """

    config: CacheConfig
    telemetry: CacheTelemetry
    certificate: Any
    kl: Float[ndarray, " hits"]
    bound: Float[ndarray, " hits"]
    decision: ndarray
    in_force: float | None
    seconds: float

    def summary(self) -> dict[str, Any]:
        """Plain values: counts, hit rate, queries per decision, KL mean, p95, share over κ."""
        counts = self.telemetry.summary()
        decisions = self.telemetry.decisions
        kappa = self.config.certified.kappa
        certificate = self.certificate
        return {
            "cache": self.config.mode,
            "gate": self.config.gate if self.config.comparing else None,
            "capacity": self.config.capacity,
            "threshold": self.config.threshold,
            "eviction": self.config.policy,
            "decisions": decisions,
            "queries": counts["queries"],
            "hits": counts["hits"],
            "hit_rate": self.telemetry.hits / decisions,
            "queries_per_decision": self.telemetry.queries / decisions,
            "kl_mean": _mean(self.kl),
            "kl_p95": float(np.percentile(self.kl, 95)) if len(self.kl) else 0.0,
            "share_over_kappa": _mean(self.kl > kappa),
            "share_bound_over_kappa": _mean(self.bound > kappa),
            "semantic_hits": len(self.kl),
            "kl_over_bound": int((self.kl > self.bound + _ROUNDING).sum()),
            "certificate": None if certificate is None else certificate._asdict(),
            "in_force": self.in_force,
            "decisions_per_second": decisions / self.seconds,
        }


def replay(
    trace: Trace,
    config: CacheConfig,
    keys: KeyTable | None,
    *,
    seed: int = 0,
    decisions: Sequence[TracedDecision] | None = None,
    change: Change | None = None,
    values: OwnValues | None = None,
) -> ReplayResult:
    """Play `decisions` (all of the trace's, unless given) through a cache of `config`.

    Args:
        trace: gives the answers.
        config: the cache.
        keys: of every state; None if the mode compares none.
        seed: of the audits, and of learned heads.
        decisions: another order or selection, as of a resampled trace.
        change: from when on another model answers.
        values: a learner's, asked for each side of a KL under its own prior; by default both sides
            have the traced Q.

    Raises:
        CacheError: if the trace has no fresh scores for a decision.
    """
    inner = TracePrior(trace)
    opened = open_cache(inner, config, trace.namespace, seed=seed, made=keys)
    prior, controller = opened.prior(), opened.controller
    played = trace.decisions if decisions is None else decisions
    start = perf_counter()
    hits: list[int] = []
    cached: list[PriorAnswer] = []
    fresh: list[PriorAnswer] = []
    covered: list[bool] = []
    with without_collection():
        for number, decision in enumerate(played):
            if change is not None and number == change.start:
                inner.become(change.trace)
            (answer,) = prior.log_probs([decision.state])
            if answer.kind == "semantic":
                hits.append(number)
                cached.append(answer)
                fresh += inner.log_probs([decision.state])
            covered.append(controller.in_force is not None)
    seconds = perf_counter() - start
    kl, bound = _errors([played[n] for n in hits], cached, fresh, values)
    return ReplayResult(
        config,
        opened.telemetry,
        controller.certificate,
        kl,
        bound,
        np.array(hits, np.int64),
        float(np.mean(covered[covered.index(True) :])) if True in covered else None,
        seconds,
    )


def _errors(
    decisions: Sequence[TracedDecision],
    answers: Sequence[PriorAnswer],
    fresh: Sequence[PriorAnswer],
    values: OwnValues | None,
) -> tuple[ndarray, ndarray]:
    """KL(π̂‖π) and span²/8 of each answer against the fresh one; all of one size at once."""
    kl, bound = np.zeros(len(answers)), np.zeros(len(answers))
    sizes = np.array([len(decision.state.actions) for decision in decisions], np.int64)
    for size in np.unique(sizes):
        rows = np.flatnonzero(sizes == size).tolist()
        log_cached = torch.from_numpy(np.stack([answers[i].log_prior for i in rows]))
        log_fresh = torch.from_numpy(np.stack([fresh[i].log_prior for i in rows]))
        bound[rows] = kl_bound(span(log_cached, log_fresh)).numpy()
        pair = [
            log_posterior(log_prior, _gains([(decisions[i], told[i]) for i in rows], values), 1.0)
            for log_prior, told in ((log_cached, answers), (log_fresh, fresh))
        ]
        kl[rows] = kl_divergence(*pair).numpy()
    return kl, bound


def _gains(
    told: Sequence[tuple[TracedDecision, PriorAnswer]], values: OwnValues | None
) -> Float[torch.Tensor, "rows actions"]:
    """Q/τ of each action; zeros without Q."""
    rows = []
    for decision, answer in told:
        q_values: Sequence[float] | ndarray | None = decision.q_values
        if values is not None:
            q_values = values(decision.state, answer.log_prior)
        if q_values is None:
            q_values = [0.0] * len(decision.state.actions)
        rows.append(np.asarray(q_values, np.float64) / decision.temperature)
    return torch.from_numpy(np.stack(rows))


def _mean(values: ndarray) -> float:
    return float(np.mean(values)) if len(values) else 0.0
