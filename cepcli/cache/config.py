"""What a prior cache is asked to be. Needs no torch, so that the command line can read it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from cepcli.cache.controllers.config import CertifiedConfig, SurrogateConfig
from cepcli.config import require
from cepcli.keys.config import EncoderName, HeadConfig

CacheMode = Literal["off", "exact", "lru", "fifo", "surrogate", "certified"]
EvictionPolicy = Literal["lru", "fifo", "lfu", "utility"]
IndexKind = Literal["auto", "flat", "hnsw"]
Gate = Literal["words", "off"]

_POLICIES: dict[CacheMode, EvictionPolicy] = {"fifo": "fifo", "certified": "utility"}


class Knobs(NamedTuple):
    """The parameters of a cache that a controller moves.

    Attributes:
        capacity: K, entries kept.
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
class CacheConfig:
    """The prior cache: which hits count, how many entries, how often hits are audited."""

    mode: CacheMode = field(
        default="exact",
        metadata={
            "help": "off: ask the LLM at every decision; exact: reuse answers to identical texts; "
            "lru, fifo: also reuse answers to similar texts, at a fixed threshold; surrogate: the "
            "same with capacity, threshold and refresh rate moved by training signals; certified: "
            "with the loosest threshold that keeps to a measured error budget."
        },
    )
    capacity: int = field(
        default=10_000,
        metadata={"help": "Entries kept, >= 1; surrogate and certified begin with as many."},
    )
    most_capacity: int = field(
        default=100_000,
        metadata={"help": "surrogate, certified: entries kept at most, >= capacity."},
    )
    start: str | None = field(
        default=None,
        metadata={"help": "Directory or run whose cache the run starts with; default: none."},
    )
    threshold: float = field(
        default=0.995,
        metadata={
            "help": "Cosine similarity from which an entry of a similar text is reused, -1..1; at "
            "1 only identical keys. What a cosine means depends on the keys, and changes when they "
            "are learned. Mode certified finds its own."
        },
    )
    refresh_rate: float = field(
        default=0.02,
        metadata={"help": "Share of semantic hits scored again to measure the error, 0..1."},
    )
    eviction: EvictionPolicy | None = field(
        default=None,
        metadata={
            "help": "Which entry goes when the cache is full: lru, the least recently used; fifo, "
            "the oldest; lfu, the least often used; utility, the one with the fewest recent uses, "
            "fewer for errors found by audits. Default: fifo in mode fifo, utility in certified, "
            "else lru."
        },
    )
    audit_penalty: float = field(
        default=2.0,
        metadata={"help": "utility: an audit that found x nats of KL halves an entry's worth "
                  "this many times x, >= 0."},
    )  # fmt: skip
    index: IndexKind = field(
        default="auto",
        metadata={
            "help": "How the nearest key is found: flat, exact, by a matrix-vector product; hnsw, "
            "approximate, by a graph, for goals with many entries; auto, by the capacity."
        },
    )
    encoder: EncoderName = field(
        default="hash",
        metadata={
            "help": "What makes keys of texts: hash, of words, word pairs and sentences; minilm, a "
            "sentence encoder; static, distilled from it, a hundred times faster."
        },
    )
    focus: bool = field(
        default=True,
        metadata={"help": "Whether keys replace what the goal names, so that goals are alike."},
    )
    pool_goals: bool | None = field(
        default=None,
        metadata={
            "help": "Whether states of different goals share answers. Default: only where `focus` "
            "replaces what the goal names."
        },
    )
    gate: Gate = field(
        default="words",
        metadata={
            "help": "lru, fifo, surrogate: words: a similar text answers only if both have the "
            "same goal, numbers, directions, colours, negations and states, such as open or "
            "closed, and no word has moved; off: by similarity alone, as in the paper."
        },
    )
    head: str | None = field(
        default=None,
        metadata={"help": "File of a key head, which stays; see `cep cache train-head`."},
    )
    learn_head: bool = field(
        default=True,
        metadata={
            "help": "Whether a run without `head` learns one from its misses, after `head_from` "
            "of them and whenever they have doubled."
        },
    )
    head_from: int = field(
        default=200, metadata={"help": "Texts stored before a head is first learned, >= 2."}
    )
    learned: HeadConfig = field(
        default_factory=HeadConfig, metadata={"help": "The head that the run learns."}
    )
    hit_rate_decay: float = field(
        default=0.99,
        metadata={"help": "Decay per decision of the running hit rate, between 0 and 1."},
    )
    control_interval: int = field(
        default=100,
        metadata={"help": "Decisions between updates by surrogate or certified, >= 1."},
    )
    certified: CertifiedConfig = field(
        default_factory=CertifiedConfig, metadata={"help": "Mode certified."}
    )
    surrogate: SurrogateConfig = field(
        default_factory=SurrogateConfig, metadata={"help": "Mode surrogate."}
    )

    def __post_init__(self) -> None:
        require(self.capacity >= 1, f"`capacity` is {self.capacity}, expected at least 1.")
        require(
            not self.controlled or self.most_capacity >= self.capacity,
            f"`most_capacity` is {self.most_capacity}, expected at least `capacity`, "
            f"{self.capacity}.",
        )
        require(
            -1.0 <= self.threshold <= 1.0,
            f"`threshold` is {self.threshold}, expected a cosine between -1 and 1.",
        )
        require(
            0.0 <= self.refresh_rate <= 1.0,
            f"`refresh_rate` is {self.refresh_rate}, expected a share between 0 and 1.",
        )
        require(
            0.0 <= self.audit_penalty < float("inf"),
            f"`audit_penalty` is {self.audit_penalty}, expected a number of at least 0.",
        )
        require(
            0.0 < self.hit_rate_decay < 1.0,
            f"`hit_rate_decay` is {self.hit_rate_decay}, expected between 0 and 1 (exclusive).",
        )
        require(self.head_from >= 2, f"`head_from` is {self.head_from}, expected at least 2.")
        require(
            self.control_interval >= 1,
            f"`control_interval` is {self.control_interval}, expected at least 1.",
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
        """Whether similar texts are read word by word."""
        return self.gate == "words" and self.comparing

    @property
    def comparing(self) -> bool:
        """Whether similar texts answer without the evidence that `certified` asks for."""
        return self.keyed and self.mode != "certified"

    @property
    def limit(self) -> int:
        """Entries that the cache may ever be asked to keep."""
        return self.most_capacity if self.controlled else self.capacity

    @property
    def policy(self) -> EvictionPolicy:
        """Which entry goes when the cache is full: as configured, else by the mode."""
        return self.eviction or _POLICIES.get(self.mode, "lru")

    @property
    def knobs(self) -> Knobs:
        """What a cache starts with; `certified` lets no similar text answer before it has proof."""
        threshold = None if self.mode == "certified" else self.threshold
        return Knobs(self.capacity, threshold, self.refresh_rate)


def stored_settings(values: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of a cache as a file has them, those of older versions of cep as ones of today.

    Before there was a gate, `per_goal` said whether goals were kept apart, with focus and without.
    """
    now = {key: value for key, value in values.items() if key != "per_goal"}
    if "per_goal" in values:
        now = {"pool_goals": not values["per_goal"], "gate": "off", **now}
    return now
