"""Configuration of offline learning: which algorithm on which data, and how. Loads no torch.

The figures of conservative Q-learning are those of its published implementations, and each field
says whose where they differ: Kumar (the authors' code), d3rlpy 2.8 (the class's defaults, or
the script that reproduces D4RL with it) and CORL.
"""

import math
from dataclasses import dataclass, field
from typing import Any, Literal

from cepcli.config import require
from cepcli.errors import ConfigError
from cepcli.prior.config import PriorConfig

Algorithm = Literal["cql", "cql-prior", "bc", "iql", "td3-bc"]

#: Steps of text are cheap, and an evaluation there asks a prior; control is the other way round.
PRESETS: dict[str, dict[str, Any]] = {
    "cql": {},
    "cql-prior": {},
    "bc": {},
    "iql": {"control": {"actor_rate": 3e-4}, "text": {"members": 2}},  # twin critics
    "td3-bc": {"control": {"actor_rate": 3e-4, "normalise": True}},
}


def _positive(section: str, config: Any, *names: str) -> None:
    for name in names:
        value = getattr(config, name)
        require(0 < value < math.inf, f"{section}.{name} is {value}, expected > 0.")


def _counts(section: str, config: Any, *names: str) -> None:
    for name in names:
        value = getattr(config, name)
        require(value >= 1, f"{section}.{name} is {value}, expected ≥ 1.")


@dataclass(frozen=True, slots=True)
class ControlConfig:
    """Networks and optimisers of continuous control, for every algorithm."""

    hidden: int = field(
        default=256,
        metadata={
            "help": "units of each of two hidden layers, as d3rlpy; Kumar's and CORL's D4RL "
            "scripts have three such layers"
        },
    )
    discount: float = field(default=0.99, metadata={"help": "γ per control step, in [0, 1)"})
    batch_size: int = field(default=256, metadata={"help": "transitions per gradient step"})
    actor_rate: float = field(
        default=1e-4,
        metadata={"help": "learning rate of the actor: 1e-4 Kumar and d3rlpy, 3e-5 CORL"},
    )
    critic_rate: float = field(default=3e-4, metadata={"help": "of the critics: 3e-4 by all three"})
    entropy_rate: float = field(
        default=1e-4, metadata={"help": "of the entropy weight: the actor's by all three"}
    )
    entropy_weight: float = field(
        default=1.0, metadata={"help": "its value at the beginning, > 0: 1 by all three"}
    )
    entropy_per_control: float = field(
        default=-1.0, metadata={"help": "nats per number of a control that entropy is held to"}
    )
    polyak: float = field(
        default=0.005, metadata={"help": "share of the critics that their targets take, in (0, 1]"}
    )
    normalise: bool = field(
        default=False,
        metadata={
            "help": "standardise observations by the dataset's: CORL does, Kumar and d3rlpy not"
        },
    )

    def __post_init__(self) -> None:
        """Raise a ConfigError where a value cannot work."""
        require(0 <= self.discount < 1, f"control.discount is {self.discount}, expected in [0, 1).")
        require(0 < self.polyak <= 1, f"control.polyak is {self.polyak}, expected in (0, 1].")
        _counts("control", self, "hidden", "batch_size")
        _positive("control", self, "actor_rate", "critic_rate", "entropy_rate", "entropy_weight")
        require(
            math.isfinite(self.entropy_per_control),
            f"control.entropy_per_control is {self.entropy_per_control}, expected a finite number.",
        )


@dataclass(frozen=True, slots=True)
class CQLConfig:
    """Conservative Q-learning of continuous control (Kumar et al., arXiv 2006.04779)."""

    weight: float = field(
        default=5.0,
        metadata={
            "help": "of the regulariser, ≥ 0: 5 by d3rlpy and by Kumar without Lagrange (both say "
            "10 for some of the data), 10 CORL"
        },
    )
    samples: int = field(
        default=10,
        metadata={
            "help": "controls drawn uniformly, and from the policy in this state, and in the next: "
            "10 of each by all three"
        },
    )
    temperature: float = field(
        default=1.0, metadata={"help": "T of T·log Σ exp(Q/T), > 0: 1 by all three"}
    )
    backup: Literal["mean", "sampled", "soft", "max"] = field(
        default="mean",
        metadata={
            "help": "value of the next state: of the mean control (d3rlpy), of a draw (Kumar and "
            "CORL), of a draw with its entropy, or the best of `samples` draws"
        },
    )
    lagrange: bool = field(
        default=False,
        metadata={
            "help": "learn a factor of the weight that holds the regulariser at `threshold`: off "
            "in CORL and in d3rlpy's D4RL script, on in Kumar's and in d3rlpy's class"
        },
    )
    threshold: float = field(
        default=10.0, metadata={"help": "for lagrange: 10 d3rlpy, 5 or 10 Kumar"}
    )
    lagrange_rate: float = field(
        default=1e-4,
        metadata={"help": "learning rate of that factor: 1e-4 d3rlpy, 3e-4 Kumar and CORL"},
    )
    share_floor: float = field(
        default=0.1,
        metadata={
            "help": "a draw with a smaller share of the softmax is kept in its gradient by chance "
            "and then counts this much, which leaves the mean as it is; 0 keeps all, in [0, 1)"
        },
    )

    def __post_init__(self) -> None:
        """Raise a ConfigError where a value cannot work."""
        require(0 <= self.weight < math.inf, f"cql.weight is {self.weight}, expected ≥ 0.")
        _counts("cql", self, "samples")
        _positive("cql", self, "temperature", "lagrange_rate")
        require(
            math.isfinite(self.threshold),
            f"cql.threshold is {self.threshold}, expected a finite number.",
        )
        require(
            0 <= self.share_floor < 1,
            f"cql.share_floor is {self.share_floor}, expected in [0, 1).",
        )


@dataclass(frozen=True, slots=True)
class SymbolConfig:
    """What `cql-prior` does with the symbolic actions of continuous control."""

    samples: int | None = field(
        default=None,
        metadata={
            "help": "symbols drawn from the prior for the regulariser; default: every one, once, "
            "weighed by the prior"
        },
    )
    candidates: int = field(
        default=2,
        metadata={"help": "symbols drawn from the next state's prior; the best one is its value"},
    )

    def __post_init__(self) -> None:
        """Raise a ConfigError where a value cannot work."""
        require(
            self.samples is None or self.samples >= 1,
            f"symbols.samples is {self.samples}, expected ≥ 1.",
        )
        _counts("symbols", self, "candidates")


@dataclass(frozen=True, slots=True)
class IQLConfig:
    """Implicit Q-learning (Kostrikov et al., arXiv 2110.06169); figures for locomotion."""

    expectile: float = field(default=0.7, metadata={"help": "of V among Q, in (0, 1)"})
    inverse_temperature: float = field(
        default=3.0, metadata={"help": "β of the actor's weights exp(β·(Q − V)), ≥ 0"}
    )
    largest_weight: float = field(default=100.0, metadata={"help": "of those, > 0"})

    def __post_init__(self) -> None:
        """Raise a ConfigError where a value cannot work."""
        require(0 < self.expectile < 1, f"iql.expectile is {self.expectile}, expected in (0, 1).")
        require(
            0 <= self.inverse_temperature < math.inf,
            f"iql.inverse_temperature is {self.inverse_temperature}, expected ≥ 0.",
        )
        _positive("iql", self, "largest_weight")


@dataclass(frozen=True, slots=True)
class TD3BCConfig:
    """TD3 with behaviour cloning (Fujimoto and Gu, arXiv 2106.06860)."""

    weight: float = field(
        default=2.5, metadata={"help": "α: how much Q counts beside the data's control, > 0"}
    )
    noise: float = field(default=0.2, metadata={"help": "of the target's control, ≥ 0"})
    noise_clip: float = field(default=0.5, metadata={"help": "largest such noise, ≥ 0"})
    actor_interval: int = field(default=2, metadata={"help": "critic steps to a step of the actor"})

    def __post_init__(self) -> None:
        """Raise a ConfigError where a value cannot work."""
        _positive("td3_bc", self, "weight")
        _counts("td3_bc", self, "actor_interval")
        for name in ("noise", "noise_clip"):
            value = getattr(self, name)
            require(0 <= value < math.inf, f"td3_bc.{name} is {value}, expected ≥ 0.")


@dataclass(frozen=True, slots=True)
class TextConfig:
    """Networks and optimiser for text, for every algorithm; as `cep train` has them."""

    discount: float = field(default=0.97, metadata={"help": "γ per decision, in [0, 1)"})
    hidden: int = field(default=128, metadata={"help": "units of each hidden layer"})
    members: int = field(default=5, metadata={"help": "Q-networks in the ensemble, ≥ 1"})
    batch_size: int = field(default=64, metadata={"help": "decisions per gradient step"})
    learning_rate: float = field(default=1e-3, metadata={"help": "of Adam"})
    target_interval: int = field(
        default=200, metadata={"help": "gradient steps between copies into the target network"}
    )
    max_grad_norm: float = field(
        default=10.0, metadata={"help": "gradient norm is clipped to this"}
    )
    weight: float = field(
        default=1.0, metadata={"help": "of the conservative regulariser, ≥ 0: 1 by d3rlpy"}
    )
    temperature: float = field(
        default=0.1,
        metadata={"help": "T of T·log Σ p̂·exp(Q/T), and τ of the policy p̂·exp(Q/τ), > 0"},
    )

    def __post_init__(self) -> None:
        """Raise a ConfigError where a value cannot work."""
        require(0 <= self.discount < 1, f"text.discount is {self.discount}, expected in [0, 1).")
        require(0 <= self.weight < math.inf, f"text.weight is {self.weight}, expected ≥ 0.")
        _counts("text", self, "hidden", "members", "batch_size", "target_interval")
        _positive("text", self, "learning_rate", "max_grad_norm", "temperature")


@dataclass(frozen=True, slots=True)
class OfflineConfig:
    """One offline run: which algorithm, on which data, for how long."""

    algorithm: Algorithm = field(default="cql-prior", metadata={"help": "what learns"})
    dataset: str = field(
        default="d4rl", metadata={"help": "a dataset's name, a file, a Minari id, or d4rl"}
    )
    env: str | None = field(
        default=None, metadata={"help": "its environment; default: the one the dataset names"}
    )
    split: str | None = field(
        default=None,
        metadata={"help": "which of the sets that d4rl stands for; default: medium-replay"},
    )
    prior: str | None = field(
        default=None,
        metadata={
            "help": "cql-prior: the prior of the labels, or uniform; default: the dataset's labels"
        },
    )
    steps: int = field(default=10_000, metadata={"help": "gradient steps"})
    seed: int = field(default=0, metadata={"help": "of every random stream of the run"})
    device: str = field(default="cpu", metadata={"help": "cpu, cuda or cuda:N"})
    threads: int = field(default=1, metadata={"help": "torch threads"})
    eval_env: bool = field(
        default=True, metadata={"help": "evaluate in the environment; off: where there is none"}
    )
    eval_interval: int = field(default=2500, metadata={"help": "gradient steps to an evaluation"})
    eval_episodes: int = field(default=5, metadata={"help": "episodes of an evaluation"})
    final_eval_episodes: int = field(default=10, metadata={"help": "episodes of the last one"})
    eval_lanes: int = field(
        default=10, metadata={"help": "of them side by side, of text, sharing calls of the prior"}
    )
    log_interval: int = field(default=250, metadata={"help": "gradient steps to a metric row"})
    checkpoint_interval: int = field(
        default=1000, metadata={"help": "gradient steps to a checkpoint"}
    )
    env_options: dict[str, Any] = field(
        default_factory=dict, metadata={"help": "options of the environment's family"}
    )
    control: ControlConfig = field(default_factory=ControlConfig)
    cql: CQLConfig = field(default_factory=CQLConfig)
    symbols: SymbolConfig = field(default_factory=SymbolConfig)
    iql: IQLConfig = field(default_factory=IQLConfig)
    td3_bc: TD3BCConfig = field(default_factory=TD3BCConfig)
    text: TextConfig = field(default_factory=TextConfig)
    llm: PriorConfig = field(default_factory=PriorConfig)

    def __post_init__(self) -> None:
        """Raise a ConfigError where values cannot work, alone or together."""
        for name in (
            "steps", "threads", "eval_interval", "eval_episodes", "final_eval_episodes",
            "eval_lanes", "log_interval", "checkpoint_interval",
        ):  # fmt: skip
            value = getattr(self, name)
            require(value >= 1, f"{name} is {value}, expected ≥ 1.")
        if not self.dataset:
            raise ConfigError("`dataset` is empty.", "See what there is: cep offline list")
        if self.prior is not None and self.algorithm != "cql-prior":
            raise ConfigError(
                f"`prior` is {self.prior}, but `{self.algorithm}` uses no prior.",
                "Leave it out, or learn with: cep offline cql-prior",
            )
