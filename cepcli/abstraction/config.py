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

    dim: int = field(default=64, metadata={"help": "dimension of the keys it makes, >= 2"})
    steps: int = field(default=1000, metadata={"help": "gradient steps, >= 1"})
    learning_rate: float = field(
        default=1e-3, metadata={"help": "Adam's step size at first; it falls linearly to 0; > 0"}
    )
    batch: int = field(default=256, metadata={"help": "texts per step, all pairs compared, >= 4"})
    near: int = field(
        default=3, metadata={"help": "raw neighbours that come into a batch with a text, >= 0"}
    )
    neighbourhood: int = field(
        default=10, metadata={"help": "nearest raw neighbours they are drawn from, >= 1"}
    )
    kappa: float = field(
        default=1.0,
        metadata={"help": "KL bound span²/8, nats, from which two keys need be no further apart "
                  "than at right angles, > 0"},
    )  # fmt: skip
    margin: float = field(
        default=0.05,
        metadata={"help": "squared distance below which a pair weighs no more for being near, > 0"},
    )
    most_texts: int = field(
        default=4000, metadata={"help": "texts trained on, drawn from those given, >= 2"}
    )

    def __post_init__(self) -> None:
        """Raise a ConfigError where a value cannot work."""
        least = {"dim": 2, "steps": 1, "batch": 4, "near": 0, "neighbourhood": 1, "most_texts": 2}
        for name, smallest in least.items():
            value = getattr(self, name)
            require(value >= smallest, f"head.{name} is {value}, expected at least {smallest}.")
        for name in ("learning_rate", "kappa", "margin"):
            value = getattr(self, name)
            require(value > 0, f"head.{name} is {value}, expected more than 0.")
        require(self.near < self.batch, f"head.near is {self.near}, expected less than head.batch.")
