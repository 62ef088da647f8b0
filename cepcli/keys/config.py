"""What a key encoder, its learned head and an abstraction of states are asked to be.

Needs no torch, for the command line.
"""

from dataclasses import dataclass
from typing import Literal

from cepcli.config import (
    AT_LEAST_ONE,
    NOT_NEGATIVE,
    POSITIVE,
    POSITIVE_SHARE,
    SHARE,
    Range,
    Settings,
    setting,
)

EncoderName = Literal["minilm", "static", "hash"]


@dataclass(frozen=True, slots=True)
class HashConfig(Settings):
    """The `hash` encoder."""

    SECTION = "hash."

    dim: int = setting(2048, "buckets, the vectors' dimension", Range(2))
    order: int = setting(2, "longest n-gram of words", AT_LEAST_ONE)
    sentences: bool = setting(True, "whether a whole sentence is a feature of its own")


@dataclass(frozen=True, slots=True)
class HeadConfig(Settings):
    """The learned head of a key encoder, and how it is trained."""

    SECTION = "head."

    dim: int = setting(32, "dimension of the keys", Range(2))
    hidden: int = setting(64, "width of its hidden layer", AT_LEAST_ONE)
    steps: int = setting(100, "gradient steps", AT_LEAST_ONE)
    learning_rate: float = setting(5e-3, "Adam's first step size; it falls linearly to 0", POSITIVE)
    weight_decay: float = setting(3e-3, "of Adam, as a penalty on squared weights", NOT_NEGATIVE)
    batch: int = setting(256, "texts per step, all pairs compared", Range(2))
    kappa: float = setting(
        2.0,
        "KL bound span²/8, nats, at which the target distance of two keys is 63 % of a right "
        "angle's",
        POSITIVE,
    )
    margin: float = setting(0.1, "squared distance below which all pairs weigh the same", POSITIVE)
    most_texts: int = setting(4000, "texts trained on at most", Range(2))


@dataclass(frozen=True, slots=True)
class AbstractionConfig(Settings):
    """How states of continuous control become keys and descriptions, and how that is learned."""

    env: str = setting("walker2d", "an environment of the family, or the family")
    annotations: str | None = setting(None, "name of the annotations; default: the family's")
    encoder: EncoderName = setting("static", "frozen embedding of the descriptions")
    dim: int = setting(32, "dimension of the keys", Range(2))
    hidden: int = setting(64, "width of both hidden layers", AT_LEAST_ONE)
    temperature: float = setting(0.07, "of InfoNCE, which divides cosines", POSITIVE)
    slot_weight: float = setting(
        4.0, "of InfoNCE with the phrase of each slot, beside that with whole texts", NOT_NEGATIVE
    )
    steps: int = setting(100, "gradient steps of each stage", AT_LEAST_ONE)
    batch: int = setting(128, "states per step", Range(2))
    learning_rate: float = setting(3e-3, "Adam's step size as a stage begins; falls to 0", POSITIVE)
    weight_decay: float = setting(1e-3, "of Adam, as a penalty on squared weights", NOT_NEGATIVE)
    noise: float = setting(
        0.1,
        "added to features in training, standard deviations; up to ten times as many for "
        "features that tell little of the description",
        NOT_NEGATIVE,
    )
    rollout_states: int = setting(4000, "unlabelled states taken from rollouts", NOT_NEGATIVE)
    neighbours: int = setting(8, "bank entries that vote on a state's description", AT_LEAST_ONE)
    margin: float = setting(
        0.4,
        "lead of every slot's first phrase over its second, as a share of the vote, from which "
        "an unlabelled state takes its neighbours' labels",
        POSITIVE_SHARE,
    )
    prior: str | None = setting(
        None, "whose answers shape the keys; default: the one tuned for the family, else embedded"
    )
    prior_weight: float = setting(
        5.0, "of the prior-divergence loss in the last stage", NOT_NEGATIVE
    )
    value_weight: float = setting(0.1, "of the value loss in the last stage", NOT_NEGATIVE)
    discount: float = setting(0.95, "of the rewards that the value head predicts", SHARE)
    kappa: float | None = setting(
        None,
        "KL bound span²/8, nats, at which the target distance of two keys is 63 % of a right "
        "angle's (default: a third of the 90th percentile over the pairs)",
        POSITIVE,
    )
    lost_hit: float = setting(
        0.05,
        "weight of keys that are further apart than their priors ask, against 1 for keys that "
        "are nearer",
        POSITIVE,
    )
    heldout: float = setting(
        0.2, "share of the annotations used for evaluation only", Range(0, 1, True, True)
    )
    wrong_labels: float = setting(
        0.0,
        "share of the training annotations that get the description and primitive of another "
        "one, to see what mistakes cost",
        SHARE,
    )
    seed: int = setting(0, "of the split, rollouts, weights and batches")
