"""What a cached prior did and what it cost: counts, tokens, seconds, latencies, audits.

A hit is a decision answered without the LLM (exact or semantic); a query is one state sent to it,
whatever the reason (miss, partial hit or audit). Every decision is one or the other, or free.
"""

from collections.abc import Mapping, Sequence
from typing import Any, get_args

import numpy as np

from cepcli.cache.certificate import Comparison
from cepcli.prior.base import AnswerKind, PriorAnswer

KINDS: tuple[AnswerKind, ...] = get_args(AnswerKind)
HITS: tuple[AnswerKind, ...] = ("exact", "semantic")
QUERIES: tuple[AnswerKind, ...] = ("miss", "partial", "audit")
#: What asking the LLM costs: states, tokens, seconds now, and seconds when it was first asked.
COSTS = ("queries", "llm_tokens", "llm_seconds", "llm_seconds_recorded")
_TOTALS = ("tokens", "llm_seconds_recorded", "llm_seconds_live", "cache_seconds")


class SpacedSample:
    """At most `capacity` of the values added, evenly spaced in time.

    When full it drops every second value and from then on takes half as many; unlike a random
    reservoir it needs no generator, and it is the same in every run.
    """

    def __init__(self, capacity: int = 4096) -> None:
        assert capacity % 2 == 0, capacity
        self._capacity = capacity
        self.values: list[float] = []  # oldest first
        self._stride = 1
        self._seen = 0

    def add(self, value: float) -> None:
        """Take the value if its turn has come."""
        if self._seen % self._stride == 0:
            if len(self.values) == self._capacity:
                self.values = self.values[::2]
                self._stride *= 2
            if self._seen % self._stride == 0:
                self.values.append(value)
        self._seen += 1

    def percentile(self, percent: int) -> float | None:
        """A percentile of the sample; None if it is empty."""
        return float(np.percentile(self.values, percent)) if self.values else None

    @property
    def counters(self) -> list[int]:
        """Values seen and stride, for a checkpoint."""
        return [self._seen, self._stride]

    def restore(self, values: np.ndarray, counters: list[int]) -> None:
        """Continue with the `values` and `counters` of another sample."""
        self.values = values.tolist()
        self._seen, self._stride = counters


class CacheTelemetry:
    """Counts decisions as they are answered.

    Args:
        hit_rate_decay: λ of the running hit rate h ← λ·h + (1−λ)·hit, which starts at 0 because a
            cache starts empty.

    Attributes:
        hit_rate: h.
        reliable_hit_rate: the same over hits whose answer is known to be right or certified: exact
            hits, and semantic hits while a certificate holds.
        decisions: decisions answered so far; `counts`: how many in each way.
        comparisons: of audited hits, and of misses compared with their nearest entry.
        partials: of entries that lacked some of the actions, all scored anew.
    """

    def __init__(self, hit_rate_decay: float) -> None:
        self._decay = hit_rate_decay
        self.hit_rate = 0.0
        self.reliable_hit_rate = 0.0
        self.decisions = 0
        self.counts: dict[str, int] = dict.fromkeys(KINDS, 0)
        self.totals: dict[str, float] = dict.fromkeys(_TOTALS, 0.0)
        self.comparisons: list[Comparison] = []
        self.partials: list[Comparison] = []
        self._over: dict[float, tuple[int, int]] = {}
        self.samples = {name: SpacedSample() for name in ("latency", "cache", "llm")}

    @property
    def hits(self) -> int:
        """Decisions answered without the LLM."""
        return sum(self.counts[kind] for kind in HITS)

    @property
    def queries(self) -> int:
        """States sent to the LLM: misses, partial hits and audits."""
        return sum(self.counts[kind] for kind in QUERIES)

    @property
    def audits(self) -> list[Comparison]:
        """The comparisons of audited hits."""
        return [found for found in self.comparisons if found.hit]

    def audits_over(self, kappa: float) -> int:
        """How many audited hits were off by more than `kappa` nats; counts each only once."""
        counted, over = self._over.get(kappa, (0, 0))
        over += sum(found.hit and found.kl > kappa for found in self.comparisons[counted:])
        self._over[kappa] = len(self.comparisons), over
        return over

    def record(self, answer: PriorAnswer, *, semantic_is_reliable: bool = False) -> None:
        """Count one decision.

        `latency` is cache time plus recorded LLM time: what the decision costs when the journal is
        not there to answer; `llm` is the LLM's part, over queries only.
        """
        self.decisions += 1
        self.counts[answer.kind] += 1
        hit = answer.kind in HITS
        self.hit_rate = self._decay * self.hit_rate + (1.0 - self._decay) * hit
        reliable = hit and (semantic_is_reliable or answer.kind == "exact")
        self.reliable_hit_rate *= self._decay
        self.reliable_hit_rate += (1.0 - self._decay) * reliable
        self.totals["cache_seconds"] += answer.cache_seconds
        self.samples["cache"].add(answer.cache_seconds)
        self.samples["latency"].add(answer.cache_seconds + answer.seconds)
        if answer.kind in QUERIES:
            self.totals["tokens"] += answer.tokens
            self.totals["llm_seconds_recorded"] += answer.seconds
            self.totals["llm_seconds_live"] += answer.live_seconds
            self.samples["llm"].add(answer.seconds)

    def summary(self) -> dict[str, Any]:
        """Plain values for `summary.json`; a quantity without observations is None."""
        return {
            **self.cost(),
            "queries": {
                "total": self.queries,
                "misses": self.counts["miss"],
                "partial": self.counts["partial"],
                "audits": self.counts["audit"],
            },
            "hits": {kind: self.counts[kind] for kind in HITS},
            "cache_seconds": self.totals["cache_seconds"],
            **{f"{name}_ms": self._percentiles_ms(name) for name in self.samples},
            "audited": _errors(self.audits),
            "partial_hits_compared": _errors(self.partials),
        }

    def cost(self) -> dict[str, Any]:
        """What the LLM was asked, and what that took; see `COSTS`."""
        return {
            "queries": self.queries,
            "llm_tokens": round(self.totals["tokens"]),
            "llm_seconds": self.totals["llm_seconds_live"],
            "llm_seconds_recorded": self.totals["llm_seconds_recorded"],
        }

    def _percentiles_ms(self, name: str) -> dict[str, float | None]:
        values = {f"p{percent}": self.samples[name].percentile(percent) for percent in (50, 95)}
        return {key: None if value is None else 1e3 * value for key, value in values.items()}

    def state(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """JSON values and arrays from which `restore` goes on."""
        values = {
            "hit_rate": self.hit_rate,
            "reliable_hit_rate": self.reliable_hit_rate,
            "counts": dict(self.counts),
            "totals": dict(self.totals),
            "samples": {name: samples.counters for name, samples in self.samples.items()},
        }
        arrays = {name: np.array(one.values, np.float64) for name, one in self.samples.items()}
        for name, found in (("comparisons", self.comparisons), ("partials", self.partials)):
            rows = np.array(found, np.float64)
            arrays[name] = rows.reshape(-1, len(Comparison._fields))
        return values, arrays

    def restore(self, values: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
        """Continue from what `state` returned."""
        self.hit_rate = values["hit_rate"]
        self.reliable_hit_rate = values["reliable_hit_rate"]
        self.counts = dict(values["counts"])
        self.decisions = sum(self.counts.values())
        self.totals = dict(values["totals"])
        for name, samples in self.samples.items():
            samples.restore(arrays[name], values["samples"][name])
        self.comparisons = _comparisons(arrays["comparisons"])
        self._over.clear()
        self.partials = _comparisons(arrays["partials"]) if "partials" in arrays else []


def cost_of(evaluations: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What the evaluations of a run took together, which is no part of what its training took.

    A figure that is missing in one of them, as in early versions of cep, is None.
    """
    sums: dict[str, Any] = {"count": len(evaluations)}
    for key in COSTS:
        told = all(key in one for one in evaluations)
        sums[key] = sum(one[key] for one in evaluations) if told else None
    return sums


def _comparisons(rows: np.ndarray) -> list[Comparison]:
    return [Comparison(*map(float, row[:-1]), hit=bool(row[-1])) for row in rows]


def _errors(found: list[Comparison]) -> dict[str, Any]:
    """How far off entries were, at look-ups where the LLM was asked as well."""
    if not found:
        return {"count": 0, "kl_mean": None, "kl_max": None, "span_max": None}
    return {
        "count": len(found),
        "similarity_min": min(one.similarity for one in found),
        "kl_mean": float(np.mean([one.kl for one in found])),
        "kl_max": max(one.kl for one in found),
        "span_max": max(one.span for one in found),
    }
