"""What a key encoder, its learned head and an abstraction of states are asked to be.

Needs no torch, for the command line.
"""

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
    steps: int = field(default=100, metadata={"help": "gradient steps, >= 1"})
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


@dataclass(frozen=True, slots=True)
class AbstractionConfig:
    """How states of continuous control become keys and descriptions, and how that is learned."""

    env: str = field(
        default="walker2d", metadata={"help": "an environment of the family, or the family"}
    )
    annotations: str | None = field(
        default=None, metadata={"help": "name of the annotations; default: the family's"}
    )
    encoder: EncoderName = field(
        default="static", metadata={"help": "frozen embedding of the descriptions"}
    )
    dim: int = field(default=32, metadata={"help": "dimension of the keys, >= 2"})
    hidden: int = field(default=64, metadata={"help": "width of both hidden layers, >= 1"})
    temperature: float = field(
        default=0.07, metadata={"help": "of InfoNCE, which divides cosines, > 0"}
    )
    slot_weight: float = field(
        default=4.0,
        metadata={"help": "of InfoNCE with the phrase of each slot beside whole texts, >= 0"},
    )
    steps: int = field(default=100, metadata={"help": "gradient steps of each of the stages, >= 1"})
    batch: int = field(default=128, metadata={"help": "states per step, >= 2"})
    learning_rate: float = field(
        default=3e-3, metadata={"help": "Adam's step size as a stage begins; falls to 0; > 0"}
    )
    weight_decay: float = field(
        default=1e-3, metadata={"help": "of Adam, as a penalty on squared weights, >= 0"}
    )
    noise: float = field(
        default=0.1,
        metadata={"help": "added to features in training, standard deviations; of features that "
                  "tell little of what is described, up to ten times as many; >= 0"},
    )  # fmt: skip
    rollout_states: int = field(
        default=4000, metadata={"help": "unlabelled states taken from rollouts, >= 0"}
    )
    neighbours: int = field(
        default=8, metadata={"help": "bank entries that vote on a state's description, >= 1"}
    )
    margin: float = field(
        default=0.4,
        metadata={"help": "lead of every slot's first phrase over its second, share of the vote, "
                  "from which an unlabelled state takes its neighbours' labels; > 0, at most 1"},
    )  # fmt: skip
    prior: str | None = field(
        default=None,
        metadata={"help": "whose answers shape the keys; default: the one tuned for the family, "
                  "else embedded"},
    )  # fmt: skip
    prior_weight: float = field(
        default=5.0, metadata={"help": "of the prior-divergence loss in the last stage, >= 0"}
    )
    value_weight: float = field(
        default=0.1, metadata={"help": "of the value loss in the last stage, >= 0"}
    )
    discount: float = field(
        default=0.95, metadata={"help": "of the rewards that the value head predicts, 0 to 1"}
    )
    kappa: float | None = field(
        default=None,
        metadata={"help": "KL bound span²/8, nats, at which two keys stand 63 % of the way to a "
                  "right angle, > 0; default: a third of what nine tenths of the pairs keep to"},
    )  # fmt: skip
    lost_hit: float = field(
        default=0.05,
        metadata={"help": "weight of keys further apart than their priors ask, against 1 for keys "
                  "that are nearer; > 0"},
    )  # fmt: skip
    heldout: float = field(
        default=0.2, metadata={"help": "share of the annotations that only judge, 0 to 1 excluded"}
    )
    wrong_labels: float = field(
        default=0.0,
        metadata={"help": "share of the annotations learned from that get the description and "
                  "primitive of another one, to see what mistakes cost; 0 to 1"},
    )  # fmt: skip
    seed: int = field(default=0, metadata={"help": "of the split, rollouts, weights and batches"})

    def __post_init__(self) -> None:
        """Raise a ConfigError where a value cannot work."""
        least = {"dim": 2, "hidden": 1, "steps": 1, "batch": 2, "neighbours": 1,
                 "rollout_states": 0, "weight_decay": 0, "noise": 0, "prior_weight": 0,
                 "value_weight": 0, "slot_weight": 0}  # fmt: skip
        for name, smallest in least.items():
            value = getattr(self, name)
            require(value >= smallest, f"`{name}` is {value}, expected at least {smallest}.")
        for name in ("learning_rate", "temperature", "kappa", "lost_hit"):
            value = getattr(self, name)
            if value is not None:
                require(value > 0, f"`{name}` is {value}, expected more than 0.")
        require(0 < self.margin <= 1, f"`margin` is {self.margin}, expected > 0, at most 1.")
        require(0 <= self.discount <= 1, f"`discount` is {self.discount}, expected 0 to 1.")
        require(
            0 <= self.wrong_labels <= 1,
            f"`wrong_labels` is {self.wrong_labels}, expected a share between 0 and 1.",
        )
        require(0 < self.heldout < 1, f"`heldout` is {self.heldout}, expected > 0, below 1.")
