"""What the control families can be asked for. Loads no simulator."""

import math
from dataclasses import dataclass, field

from cepcli.config import require


@dataclass(frozen=True, slots=True)
class MujocoOptions:
    """The MuJoCo environments have no options."""


@dataclass(frozen=True, slots=True)
class MetaWorldOptions:
    """How a Meta-World task is played."""

    terminate_on_success: bool = field(
        default=False, metadata={"help": "end the episode at success; the benchmark goes on"}
    )
    nominal: bool = field(
        default=True,
        metadata={"help": "primitives suggest controls, on which the actor learns a residual"},
    )
    gain: float = field(
        default=10.0, metadata={"help": "control per metre of distance of those, 1/m, > 0"}
    )

    def __post_init__(self) -> None:
        """Raise a ConfigError where a value cannot work."""
        require(0 < self.gain < math.inf, f"gain is {self.gain}, expected > 0, and finite.")
