"""What a prior cache is asked to be. Needs no torch, so that the command line can read it."""

from dataclasses import dataclass, field
from typing import Literal

from cepcli.config import require

CacheMode = Literal["off", "exact", "lru"]


@dataclass(frozen=True, slots=True)
class CacheConfig:
    """The prior cache: which hits count, how many entries, how often hits are audited."""

    mode: CacheMode = field(
        default="exact",
        metadata={
            "help": "off: ask the LLM at every decision; exact: reuse answers to identical texts; "
            "lru: also reuse answers to similar texts."
        },
    )
    capacity: int = field(
        default=10_000, metadata={"help": "Entries kept; beyond it the least recently used goes."}
    )
    threshold: float = field(
        default=0.995,
        metadata={
            "help": "Cosine similarity from which an entry of a similar text is reused, -1..1. Raw "
            "sentence embeddings put states that need different actions at 0.97 and above."
        },
    )
    refresh_rate: float = field(
        default=0.02,
        metadata={"help": "Share of semantic hits scored again to measure the error, 0..1."},
    )
    per_goal: bool = field(
        default=True, metadata={"help": "Reuse answers only among states of the same goal."}
    )
    hit_rate_decay: float = field(
        default=0.99,
        metadata={"help": "Decay per decision of the running hit rate, between 0 and 1."},
    )

    def __post_init__(self) -> None:
        require(self.capacity >= 1, f"`capacity` is {self.capacity}, expected at least 1.")
        require(
            -1.0 <= self.threshold <= 1.0,
            f"`threshold` is {self.threshold}, expected a cosine between -1 and 1.",
        )
        require(
            0.0 <= self.refresh_rate <= 1.0,
            f"`refresh_rate` is {self.refresh_rate}, expected a share between 0 and 1.",
        )
        require(
            0.0 < self.hit_rate_decay < 1.0,
            f"`hit_rate_decay` is {self.hit_rate_decay}, expected between 0 and 1 (exclusive).",
        )
