"""Configuration of soft actor-critic, plain and with symbols. Loads no torch."""

import math
from dataclasses import dataclass, field

from cepcli.config import require


@dataclass(frozen=True, slots=True)
class SACConfig:
    """Soft actor-critic; the defaults are Stable-Baselines3's, two of them apart.

    There the entropy weight begins at 1, so that HalfCheetah learns nothing before it has fallen,
    some 20,000 steps; the learning rate is 3e-4, with which some seeds hardly leave that hollow.
    """

    discount: float = field(default=0.99, metadata={"help": "γ per control step, in [0, 1)"})
    hidden: int = field(default=256, metadata={"help": "units of each of the two hidden layers"})
    learning_rate: float = field(default=1e-3, metadata={"help": "of Adam, for all parts, > 0"})
    batch_size: int = field(default=256, metadata={"help": "transitions per gradient step"})
    envs: int = field(
        default=1,
        metadata={"help": "environments that are stepped in turn, sharing calls to the LLM, ≥ 1"},
    )
    learning_starts: int = field(
        default=100, metadata={"help": "control steps with uniform controls before learning"}
    )
    gradient_steps: int = field(default=1, metadata={"help": "gradient steps per control step"})
    polyak: float = field(
        default=0.005, metadata={"help": "share of the critics that their targets take, in (0, 1]"}
    )
    replay_capacity: int = field(default=1_000_000, metadata={"help": "transitions kept"})
    entropy_weight: float = field(
        default=0.1, metadata={"help": "α at the beginning, before it is learned, > 0"}
    )
    entropy_per_control: float = field(
        default=-1.0, metadata={"help": "nats per number of a control that entropy is held to"}
    )
    symbol_steps: int = field(
        default=10, metadata={"help": "control steps that a symbolic action is held, ≥ 1"}
    )
    relabel: float = field(
        default=0.0,
        metadata={"help": "share of a batch that learns as if another symbol were held, in [0, 1]"},
    )
    residual: float = field(
        default=0.2,
        metadata={"help": "how far from a nominal control the actor may go, in (0, 2]"},
    )
    residual_starts: int = field(
        default=10_000,
        metadata={"help": "control steps in which, with nominal controls, only the critics learn"},
    )

    def __post_init__(self) -> None:
        """Raise a ConfigError where a value cannot work."""
        require(0 <= self.discount < 1, f"sac.discount is {self.discount}, expected in [0, 1).")
        require(0 < self.polyak <= 1, f"sac.polyak is {self.polyak}, expected in (0, 1].")
        require(0 <= self.relabel <= 1, f"sac.relabel is {self.relabel}, expected in [0, 1].")
        require(0 < self.residual <= 2, f"sac.residual is {self.residual}, expected in (0, 2].")
        require(
            0 < self.learning_rate < math.inf,
            f"sac.learning_rate is {self.learning_rate}, expected > 0.",
        )
        require(
            0 < self.entropy_weight < math.inf,
            f"sac.entropy_weight is {self.entropy_weight}, expected a finite number > 0.",
        )
        require(
            math.isfinite(self.entropy_per_control),
            f"sac.entropy_per_control is {self.entropy_per_control}, expected a finite number.",
        )
        require(
            self.residual_starts >= 0,
            f"sac.residual_starts is {self.residual_starts}, expected ≥ 0.",
        )
        for name in (
            "hidden", "batch_size", "envs", "learning_starts", "gradient_steps", "replay_capacity",
            "symbol_steps",
        ):  # fmt: skip
            value = getattr(self, name)
            require(value >= 1, f"sac.{name} is {value}, expected ≥ 1.")
