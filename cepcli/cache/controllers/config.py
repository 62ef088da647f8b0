"""What the cache's controllers are asked for. Loads no torch: the command line reads it."""

from dataclasses import dataclass, field
from itertools import pairwise
from typing import Literal

from cepcli.config import require

#: Observations after which `certified` settles where its search begins.
FIRST_OBSERVATIONS = 100

_LEAST_WINDOW = 4 * FIRST_OBSERVATIONS  # its younger half needs as many, and as many again


@dataclass(frozen=True, slots=True)
class CertifiedConfig:
    """`certified`: at most a share α of the semantic hits may cost more than κ nats of KL."""

    kappa: float = field(
        default=0.5,
        metadata={"help": "budget κ on KL(π̂‖π) of one hit, by its bound span²/8, nats, > 0"},
    )
    alpha: float = field(
        default=0.1, metadata={"help": "tolerated share α of semantic hits over budget, 0..1"}
    )
    confidence: float = field(
        default=0.95, metadata={"help": "probability that the certificate of a window holds, 0..1"}
    )
    window: int = field(
        default=10_000, metadata={"help": "look-ups after which older evidence is dropped, >= 400"}
    )
    grid: tuple[float, ...] = field(
        default=(
            0.9999, 0.9995, 0.999, 0.998, 0.996, 0.993, 0.99, 0.985, 0.98, 0.97, 0.96, 0.94, 0.92,
            0.9, 0.87, 0.84, 0.8, 0.75, 0.7, 0.6, 0.5,
        ),
        metadata={"help": "thresholds δ that are tried, strictest first"},
    )  # fmt: skip
    least_refresh_rate: float = field(
        default=0.02, metadata={"help": "least share of semantic hits that is audited, > 0"}
    )
    most_refresh_rate: float = field(
        default=0.5, metadata={"help": "largest share of semantic hits that is audited, <= 1"}
    )
    watch: bool = field(
        default=True,
        metadata={
            "help": "after a hit that fails its audit, audit every hit until the suspicion is "
            "cleared; if they keep failing, withdraw the certificate and let the entries there are "
            "answer only their own text"
        },
    )
    false_alarm_interval: float = field(
        default=100_000.0,
        metadata={
            "help": "audited hits between two false alarms of `watch`, on average at least, while "
            "the promise is kept, > 1"
        },
    )
    reserve: float = field(
        default=0.2,
        metadata={
            "help": "with `watch`: share of α that is kept for the hits that a sudden change makes "
            "wrong before the alarm, 0 to below 1; what is proven is α without it"
        },
    )
    renew: bool = field(
        default=True,
        metadata={"help": "an entry found over budget answers only nearer texts from then on"},
    )

    def __post_init__(self) -> None:
        """Raise a ConfigError where a value cannot work."""
        require(self.kappa > 0, f"cache.certified.kappa is {self.kappa}, expected > 0.")
        for name in ("alpha", "confidence"):
            value = getattr(self, name)
            require(
                0 < value < 1,
                f"cache.certified.{name} is {value}, expected between 0 and 1 (exclusive).",
            )
        require(
            self.window >= _LEAST_WINDOW,
            f"cache.certified.window is {self.window}, expected at least {_LEAST_WINDOW}: with "
            "fewer look-ups nothing can be certified.",
        )
        require(
            self.false_alarm_interval > 1,
            f"cache.certified.false_alarm_interval is {self.false_alarm_interval}, expected > 1.",
        )
        require(
            0 <= self.reserve < 1,
            f"cache.certified.reserve is {self.reserve}, expected 0 to below 1.",
        )
        falling = all(a > b for a, b in pairwise(self.grid))
        require(
            bool(self.grid) and falling and self.grid[-1] >= -1 and self.grid[0] <= 1,
            "cache.certified.grid must be falling cosines between 1 and -1.",
        )
        require(
            0 < self.least_refresh_rate <= self.most_refresh_rate <= 1,
            f"cache.certified: refresh rates are {self.least_refresh_rate} to "
            f"{self.most_refresh_rate}, expected 0 < least <= most <= 1.",
        )

    @property
    def proven_alpha(self) -> float:
        """The share of failures that a threshold must prove to stay below: α less the reserve."""
        return self.alpha * (1.0 - self.reserve) if self.watch else self.alpha


@dataclass(frozen=True, slots=True)
class SurrogateConfig:
    """`surrogate`: heuristic surrogate gradients on (K, δ, r), kept while the meta-reward grows.

    The source (arXiv 2505.07274) gives the directions; step sizes, set points and the acceptance
    rule are ours.
    """

    hit_rate_goal: float = field(
        default=0.7, metadata={"help": "K grows while the hit rate is below this, 0..1"}
    )
    capacity_step: float = field(default=0.5, metadata={"help": "relative step of K"})
    threshold_step: float = field(
        default=0.5, metadata={"help": "step of log(1−δ) per relative excess of the TD error"}
    )
    td_error_sign: Literal["loosen", "tighten"] = field(
        default="loosen",
        metadata={"help": "what a high TD error does to δ: loosen (the source) or tighten"},
    )
    refresh_step: float = field(
        default=0.5, metadata={"help": "step of log r per relative excess of policy variability"}
    )
    query_cost: float = field(default=0.5, metadata={"help": "λ_q of the meta-reward"})
    capacity_cost: float = field(default=0.05, metadata={"help": "λ_K of the meta-reward"})
    tolerance: float = field(
        default=0.02, metadata={"help": "fall of the meta-reward that is still accepted"}
    )
    least_capacity: int = field(default=64, metadata={"help": "smallest K"})
    least_threshold: float = field(default=0.7, metadata={"help": "loosest δ"})
    most_threshold: float = field(default=0.9999, metadata={"help": "strictest δ"})
    least_refresh_rate: float = field(default=0.005, metadata={"help": "smallest r"})
    most_refresh_rate: float = field(default=0.3, metadata={"help": "largest r"})

    def __post_init__(self) -> None:
        """Raise a ConfigError where a value cannot work."""
        for name in ("capacity_step", "threshold_step", "refresh_step", "query_cost",
                     "capacity_cost", "tolerance"):  # fmt: skip
            value = getattr(self, name)
            require(value >= 0, f"cache.surrogate.{name} is {value}, expected >= 0.")
        require(
            -1 <= self.least_threshold <= self.most_threshold <= 1,
            "cache.surrogate: expected -1 <= least_threshold <= most_threshold <= 1.",
        )
        require(
            0 < self.least_refresh_rate <= self.most_refresh_rate <= 1,
            "cache.surrogate: expected 0 < least_refresh_rate <= most_refresh_rate <= 1.",
        )
        require(
            self.least_capacity >= 1,
            f"cache.surrogate.least_capacity is {self.least_capacity}, expected at least 1.",
        )
