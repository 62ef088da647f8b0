"""What a prior cache and its controllers are asked to be. Needs no torch, for the command line."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Literal, NamedTuple

from cepcli.config import (
    AT_LEAST_ONE,
    BELOW_ONE,
    NOT_NEGATIVE,
    POSITIVE,
    POSITIVE_SHARE,
    SHARE,
    Range,
    Settings,
    check_bounds,
    require,
    setting,
)
from cepcli.keys.config import EncoderName, HeadConfig

CacheMode = Literal["off", "exact", "lru", "fifo", "surrogate", "certified"]
EvictionPolicy = Literal["lru", "fifo", "lfu", "utility"]
IndexKind = Literal["auto", "flat", "hnsw"]
Gate = Literal["words", "off"]

#: Observations after which `certified` settles where its search begins.
FIRST_OBSERVATIONS = 100

_BETWEEN = Range(0, 1, low_open=True, high_open=True)
_COSINE = Range(-1, 1)
_GRID = (
    0.9999, 0.9995, 0.999, 0.998, 0.996, 0.993, 0.99, 0.985, 0.98, 0.97, 0.96, 0.94, 0.92, 0.9,
    0.87, 0.84, 0.8, 0.75, 0.7, 0.6, 0.5,
)  # fmt: skip
_POLICIES: dict[CacheMode, EvictionPolicy] = {"fifo": "fifo", "certified": "utility"}


class Knobs(NamedTuple):
    """The parameters of a cache that a controller moves.

    Attributes:
        capacity: K, the largest number of entries.
        threshold: δ, cosine from which an entry of a similar text answers; None: from none.
        refresh_rate: r, share of semantic hits that is audited.
    """

    capacity: int
    threshold: float | None
    refresh_rate: float


def is_keyed(mode: str) -> bool:
    """Whether a mode compares texts, so that its entries have keys."""
    return mode not in ("off", "exact")


@dataclass(frozen=True, slots=True)
class CertifiedConfig(Settings):
    """`certified`: at most a share α of the semantic hits may cost more than κ nats of KL."""

    SECTION = "cache.certified."

    kappa: float = setting(
        0.5, "budget κ on KL(π̂‖π) of one hit, by its bound span²/8, nats", POSITIVE
    )
    alpha: float = setting(0.1, "tolerated share α of semantic hits over budget", _BETWEEN)
    confidence: float = setting(
        0.95, "probability that the certificate of a window holds", _BETWEEN
    )
    window: int = setting(
        10_000, "look-ups after which older evidence is dropped", Range(4 * FIRST_OBSERVATIONS)
    )
    grid: tuple[float, ...] = setting(_GRID, "thresholds δ that are tried, strictest first")
    least_refresh_rate: float = setting(
        0.02, "smallest share of semantic hits that is audited", POSITIVE_SHARE
    )
    most_refresh_rate: float = setting(
        0.5, "largest share of semantic hits that is audited", POSITIVE_SHARE
    )
    watch: bool = setting(
        True,
        "after a hit that fails its audit, audit every hit until the suspicion is cleared; if "
        "they continue to fail, withdraw the certificate and let the present entries answer "
        "only their own text",
    )
    false_alarm_interval: float = setting(
        100_000.0,
        "least mean number of audited hits between two false alarms of `watch` while the "
        "promise holds",
        Range(1, low_open=True),
    )
    reserve: float = setting(
        0.2,
        "with `watch`: share of α reserved for the hits that a sudden change makes wrong before "
        "the alarm (the certificate proves α without it)",
        BELOW_ONE,
    )
    renew: bool = setting(True, "an entry over budget answers only nearer texts from then on")

    def __post_init__(self) -> None:
        check_bounds(self)
        falling = all(a > b for a, b in pairwise(self.grid))
        require(
            bool(self.grid) and falling and self.grid[-1] >= -1 and self.grid[0] <= 1,
            "cache.certified.grid must be falling cosines between 1 and -1.",
        )
        _check_order(self, "cache.certified", "refresh_rate")

    @property
    def proven_alpha(self) -> float:
        """The share of failures that a threshold must prove to stay below: α less the reserve."""
        return self.alpha * (1.0 - self.reserve) if self.watch else self.alpha


@dataclass(frozen=True, slots=True)
class SurrogateConfig(Settings):
    """`surrogate`: heuristic steps of (K, δ, r), accepted while the meta-reward does not fall.

    The source (arXiv 2505.07274) gives the directions; step sizes, set points and the acceptance
    rule are ours.
    """

    SECTION = "cache.surrogate."

    hit_rate_goal: float = setting(0.7, "K grows while the hit rate is below this, 0..1")
    capacity_step: float = setting(0.5, "relative step of K", NOT_NEGATIVE)
    threshold_step: float = setting(
        0.5, "step of log(1−δ) per relative excess of the TD error", NOT_NEGATIVE
    )
    td_error_sign: Literal["loosen", "tighten"] = setting(
        "loosen", "what a high TD error does to δ: loosen (the source) or tighten"
    )
    refresh_step: float = setting(
        0.5, "step of log r per relative excess of policy variability", NOT_NEGATIVE
    )
    query_cost: float = setting(0.5, "λ_q of the meta-reward", NOT_NEGATIVE)
    capacity_cost: float = setting(0.05, "λ_K of the meta-reward", NOT_NEGATIVE)
    tolerance: float = setting(0.02, "fall of the meta-reward that is accepted", NOT_NEGATIVE)
    least_capacity: int = setting(64, "smallest K", AT_LEAST_ONE)
    least_threshold: float = setting(0.7, "loosest δ", _COSINE)
    most_threshold: float = setting(0.9999, "strictest δ", _COSINE)
    least_refresh_rate: float = setting(0.005, "smallest r", POSITIVE_SHARE)
    most_refresh_rate: float = setting(0.3, "largest r", POSITIVE_SHARE)

    def __post_init__(self) -> None:
        check_bounds(self)
        for name in ("threshold", "refresh_rate"):
            _check_order(self, "cache.surrogate", name)


@dataclass(frozen=True, slots=True)
class CacheConfig(Settings):
    """The prior cache: which hits count, how many entries, how often hits are audited."""

    SECTION = "cache."

    mode: CacheMode = setting(
        "exact",
        "off: ask the LLM at every decision; exact: reuse answers to identical texts; lru, "
        "fifo: also reuse answers to similar texts, at a fixed threshold; surrogate: the same "
        "with capacity, threshold and refresh rate moved by training signals; certified: with "
        "the loosest threshold that stays within a measured error budget",
    )
    capacity: int = setting(
        10_000,
        "largest number of entries (surrogate and certified start with it)",
        AT_LEAST_ONE,
    )
    most_capacity: int = setting(
        100_000, "surrogate, certified: upper limit of the capacity, >= capacity"
    )
    start: str | None = setting(
        None, "directory or run whose cache the run starts with; default: none"
    )
    threshold: float = setting(
        0.995,
        "cosine similarity from which an entry of a similar text is reused (at 1 only identical "
        "keys; what a cosine means depends on the keys, and changes when they are learned; mode "
        "certified finds its own)",
        Range(-1, 1),
    )
    refresh_rate: float = setting(
        0.02, "share of semantic hits scored again to measure the error", SHARE
    )
    eviction: EvictionPolicy | None = setting(
        None,
        "which entry is evicted when the cache is full: lru, the least recently used; fifo, the "
        "oldest; lfu, the least often used; utility, the one with the fewest recent uses, "
        "fewer for errors found by audits; default: fifo in mode fifo, utility in certified, "
        "else lru",
    )
    audit_penalty: float = setting(
        2.0,
        "utility: an audit that found x nats of KL halves an entry's worth this many times x",
        NOT_NEGATIVE,
    )
    index: IndexKind = setting(
        "auto",
        "how the nearest key is found: flat, exact, by a matrix-vector product; hnsw, "
        "approximate, by a graph, for goals with many entries; auto, by the capacity",
    )
    encoder: EncoderName = setting(
        "hash",
        "encoder of texts into keys: hash, of words, word pairs and sentences; minilm, a "
        "sentence encoder; static, distilled from it, a hundred times faster",
    )
    focus: bool = setting(True, "whether keys replace what the goal names, so that goals are alike")
    pool_goals: bool | None = setting(
        None,
        "whether states of different goals share answers; default: only where `focus` replaces "
        "what the goal names",
    )
    gate: Gate = setting(
        "words",
        "lru, fifo, surrogate: words: a similar text answers only if both have the same goal, "
        "numbers, directions, colours, negations and states, such as open or closed, and no "
        "word has moved; off: by similarity alone, as in the paper",
    )
    head: str | None = setting(None, "file of a fixed key head; see `cep cache train-head`")
    learn_head: bool = setting(
        True,
        "whether a run without `head` learns one from its misses, after `head_from` of them and "
        "whenever their number has doubled",
    )
    head_from: int = setting(200, "texts stored before a head is first learned", Range(2))
    learned: HeadConfig = field(
        default_factory=HeadConfig, metadata={"help": "the head that the run learns"}
    )
    hit_rate_decay: float = setting(0.99, "decay per decision of the running hit rate", _BETWEEN)
    control_interval: int = setting(
        100, "decisions between updates by surrogate or certified", AT_LEAST_ONE
    )
    certified: CertifiedConfig = field(
        default_factory=CertifiedConfig, metadata={"help": "mode certified"}
    )
    surrogate: SurrogateConfig = field(
        default_factory=SurrogateConfig, metadata={"help": "mode surrogate"}
    )

    def __post_init__(self) -> None:
        check_bounds(self)
        require(
            not self.controlled or self.most_capacity >= self.capacity,
            f"`most_capacity` is {self.most_capacity}, expected at least `capacity`, "
            f"{self.capacity}.",
        )

    @property
    def keyed(self) -> bool:
        """Whether texts are compared, so that entries have keys."""
        return is_keyed(self.mode)

    @property
    def controlled(self) -> bool:
        """Whether a controller moves capacity, threshold and refresh rate."""
        return self.mode in ("surrogate", "certified")

    @property
    def pools_goals(self) -> bool:
        """Whether states of different goals share answers."""
        return self.focus if self.pool_goals is None else self.pool_goals

    @property
    def gated(self) -> bool:
        """Whether similar texts are compared word by word."""
        return self.gate == "words" and self.comparing

    @property
    def comparing(self) -> bool:
        """Whether similar texts answer without the evidence that `certified` asks for."""
        return self.keyed and self.mode != "certified"

    @property
    def limit(self) -> int:
        """The largest capacity that the cache may ever have."""
        return self.most_capacity if self.controlled else self.capacity

    @property
    def policy(self) -> EvictionPolicy:
        """Which entry is evicted when the cache is full: as configured, else by the mode."""
        return self.eviction or _POLICIES.get(self.mode, "lru")

    @property
    def knobs(self) -> Knobs:
        """What a cache starts with; `certified` lets no similar text answer before it has proof."""
        threshold = None if self.mode == "certified" else self.threshold
        return Knobs(self.capacity, threshold, self.refresh_rate)


def stored_settings(values: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of a cache as a file has them, those of older versions of cep as ones of today.

    Before there was a gate, `per_goal` said whether goals were separate, with focus and without.
    """
    now = {key: value for key, value in values.items() if key != "per_goal"}
    if "per_goal" in values:
        now = {"pool_goals": not values["per_goal"], "gate": "off", **now}
    return now


def _check_order(config: Any, section: str, name: str) -> None:
    """Check that the field least_NAME is no larger than most_NAME."""
    least, most = getattr(config, f"least_{name}"), getattr(config, f"most_{name}")
    require(
        least <= most,
        f"`{section}.least_{name}` is {least}, expected at most most_{name}, {most}.",
    )
