"""What a key encoder and its learned head are asked to be. Needs no torch, for the command line."""

from dataclasses import dataclass, field
from typing import Literal

from cepcli.config import require

EncoderName = Literal["minilm", "static", "hash"]


@dataclass(frozen=True, slots=True)
class HashConfig:
    """The `hash` encoder."""

    dim: int = field(default=2048, metadata={"help": "buckets, the vectors' dimension, >= 2"})
    order: int = field(default=2, metadata={"help": "longest n-gram of words, >= 1"})
    sentences: bool = field(
        default=True, metadata={"help": "whether a whole sentence is a feature of its own"}
    )

    def __post_init__(self) -> None:
        """Raise a ConfigError where a value cannot work."""
        require(self.dim >= 2, f"hash.dim is {self.dim}, expected at least 2.")
        require(self.order >= 1, f"hash.order is {self.order}, expected at least 1.")


@dataclass(frozen=True, slots=True)
class HeadConfig:
    """The learned head of a key encoder, and how it is trained."""

    dim: int = field(default=32, metadata={"help": "dimension of the keys it makes, >= 2"})
    hidden: int = field(default=64, metadata={"help": "width of its hidden layer, >= 1"})
    steps: int = field(default=300, metadata={"help": "gradient steps, >= 1"})
    learning_rate: float = field(
        default=5e-3, metadata={"help": "Adam's step size at first; it falls linearly to 0; > 0"}
    )
    weight_decay: float = field(
        default=3e-3, metadata={"help": "of Adam, as a penalty on squared weights, >= 0"}
    )
    batch: int = field(default=256, metadata={"help": "texts per step, all pairs compared, >= 2"})
    kappa: float = field(
        default=2.0,
        metadata={"help": "KL bound span²/8, nats, at which two keys stand 63 % of the way to a "
                  "right angle, > 0"},
    )  # fmt: skip
    margin: float = field(
        default=0.1,
        metadata={"help": "squared distance below which a pair weighs no more for being near, > 0"},
    )
    most_texts: int = field(default=4000, metadata={"help": "texts trained on at most, >= 2"})

    def __post_init__(self) -> None:
        """Raise a ConfigError where a value cannot work."""
        least = {"dim": 2, "hidden": 1, "steps": 1, "batch": 2, "most_texts": 2}
        for name, smallest in least.items():
            value = getattr(self, name)
            require(value >= smallest, f"head.{name} is {value}, expected at least {smallest}.")
        for name in ("learning_rate", "kappa", "margin"):
            value = getattr(self, name)
            require(value > 0, f"head.{name} is {value}, expected more than 0.")
        require(
            self.weight_decay >= 0,
            f"head.weight_decay is {self.weight_decay}, expected at least 0.",
        )
