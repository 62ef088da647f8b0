"""Configuration of offline learning: which algorithm on which data, and how. Loads no torch.

The figures of conservative Q-learning are those of its published implementations, and each field
says whose where they differ: Kumar (the authors' code), d3rlpy 2.8 (the class's defaults, or
the script that reproduces D4RL with it) and CORL.
"""

from dataclasses import dataclass, field
from typing import Any, Literal

from typing_extensions import override

from cepcli.config import (
    AT_LEAST_ONE,
    BELOW_ONE,
    FINITE,
    NOT_NEGATIVE,
    POSITIVE,
    POSITIVE_SHARE,
    Range,
    Settings,
    check_bounds,
    require,
    setting,
)
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


@dataclass(frozen=True, slots=True)
class ControlConfig(Settings):
    """Networks and optimisers of continuous control, for every algorithm."""

    SECTION = "control."

    hidden: int = setting(
        256,
        "units of each of two hidden layers, as d3rlpy; Kumar's and CORL's D4RL scripts have "
        "three such layers",
        AT_LEAST_ONE,
    )
    discount: float = setting(0.99, "γ per control step", BELOW_ONE)
    batch_size: int = setting(256, "transitions per gradient step", AT_LEAST_ONE)
    actor_rate: float = setting(
        1e-4, "learning rate of the actor: 1e-4 Kumar and d3rlpy, 3e-5 CORL", POSITIVE
    )
    critic_rate: float = setting(3e-4, "of the critics: 3e-4 by all three", POSITIVE)
    entropy_rate: float = setting(1e-4, "of the entropy weight: the actor's by all three", POSITIVE)
    entropy_weight: float = setting(1.0, "its value at the beginning: 1 by all three", POSITIVE)
    entropy_per_control: float = setting(
        -1.0, "nats per number of a control that entropy is held to", FINITE
    )
    polyak: float = setting(0.005, "share of the critics that their targets take", POSITIVE_SHARE)
    normalise: bool = setting(
        False, "standardise observations by the dataset's: CORL does, Kumar and d3rlpy not"
    )


@dataclass(frozen=True, slots=True)
class CQLConfig(Settings):
    """Conservative Q-learning of continuous control (Kumar et al., arXiv 2006.04779)."""

    SECTION = "cql."

    weight: float = setting(
        5.0,
        "of the regulariser: 5 by d3rlpy and by Kumar without Lagrange (both say 10 for some "
        "of the data), 10 CORL",
        NOT_NEGATIVE,
    )
    samples: int = setting(
        10,
        "controls drawn uniformly, and from the policy in this state, and in the next: 10 of "
        "each by all three",
        AT_LEAST_ONE,
    )
    temperature: float = setting(1.0, "T of T·log Σ exp(Q/T): 1 by all three", POSITIVE)
    backup: Literal["mean", "sampled", "soft", "max"] = setting(
        "mean",
        "value of the next state: of the mean control (d3rlpy), of a draw (Kumar and CORL), "
        "of a draw with its entropy, or the best of `samples` draws",
    )
    lagrange: bool = setting(
        False,
        "learn a factor of the weight that holds the regulariser at `threshold`: off in CORL "
        "and in d3rlpy's D4RL script, on in Kumar's and in d3rlpy's class",
    )
    threshold: float = setting(10.0, "for lagrange: 10 d3rlpy, 5 or 10 Kumar", FINITE)
    lagrange_rate: float = setting(
        1e-4, "learning rate of that factor: 1e-4 d3rlpy, 3e-4 Kumar and CORL", POSITIVE
    )
    share_floor: float = setting(
        0.1,
        "a draw with a smaller share of the softmax is kept in its gradient by chance and "
        "then counts this much, which leaves the mean as it is; 0 keeps all",
        BELOW_ONE,
    )


@dataclass(frozen=True, slots=True)
class SymbolConfig(Settings):
    """What `cql-prior` does with the symbolic actions of continuous control."""

    SECTION = "symbols."

    samples: int | None = setting(
        None,
        "symbols drawn from the prior for the regulariser; default: every one, once, weighed "
        "by the prior",
        AT_LEAST_ONE,
    )
    candidates: int = setting(
        2, "symbols drawn from the next state's prior; the best one is its value", AT_LEAST_ONE
    )


@dataclass(frozen=True, slots=True)
class IQLConfig(Settings):
    """Implicit Q-learning (Kostrikov et al., arXiv 2110.06169); figures for locomotion."""

    SECTION = "iql."

    expectile: float = setting(0.7, "of V among Q", Range(0, 1, low_open=True, high_open=True))
    inverse_temperature: float = setting(
        3.0, "β of the actor's weights exp(β·(Q − V))", NOT_NEGATIVE
    )
    largest_weight: float = setting(100.0, "of those", POSITIVE)


@dataclass(frozen=True, slots=True)
class TD3BCConfig(Settings):
    """TD3 with behaviour cloning (Fujimoto and Gu, arXiv 2106.06860)."""

    SECTION = "td3_bc."

    weight: float = setting(2.5, "α: how much Q counts beside the data's control", POSITIVE)
    noise: float = setting(0.2, "of the target's control", NOT_NEGATIVE)
    noise_clip: float = setting(0.5, "largest such noise", NOT_NEGATIVE)
    actor_interval: int = setting(2, "critic steps to a step of the actor", AT_LEAST_ONE)


@dataclass(frozen=True, slots=True)
class TextConfig(Settings):
    """Networks and optimiser for text, for every algorithm; as `cep train` has them."""

    SECTION = "text."

    discount: float = setting(0.97, "γ per decision", BELOW_ONE)
    hidden: int = setting(128, "units of each hidden layer", AT_LEAST_ONE)
    members: int = setting(5, "Q-networks in the ensemble", AT_LEAST_ONE)
    batch_size: int = setting(64, "decisions per gradient step", AT_LEAST_ONE)
    learning_rate: float = setting(1e-3, "of Adam", POSITIVE)
    target_interval: int = setting(
        200, "gradient steps between copies into the target network", AT_LEAST_ONE
    )
    max_grad_norm: float = setting(10.0, "gradient norm is clipped to this", POSITIVE)
    weight: float = setting(1.0, "of the conservative regulariser: 1 by d3rlpy", NOT_NEGATIVE)
    temperature: float = setting(
        0.1, "T of T·log Σ p̂·exp(Q/T), and τ of the policy p̂·exp(Q/τ)", POSITIVE
    )


@dataclass(frozen=True, slots=True)
class OfflineConfig(Settings):
    """One offline run: which algorithm, on which data, for how long."""

    algorithm: Algorithm = setting("cql-prior", "what learns")
    dataset: str = setting("d4rl", "a dataset's name, a file, a Minari id, or d4rl")
    env: str | None = setting(None, "its environment; default: the one the dataset names")
    split: str | None = setting(
        None, "which of the sets that d4rl stands for; default: medium-replay"
    )
    prior: str | None = setting(
        None, "cql-prior: the prior of the labels, or uniform; default: the dataset's labels"
    )
    steps: int = setting(10_000, "gradient steps", AT_LEAST_ONE)
    seed: int = setting(0, "of every random stream of the run")
    device: str = setting("cpu", "cpu, cuda or cuda:N")
    threads: int = setting(1, "torch threads", AT_LEAST_ONE)
    eval_env: bool = setting(True, "evaluate in the environment; off: where there is none")
    eval_interval: int = setting(2500, "gradient steps to an evaluation", AT_LEAST_ONE)
    eval_episodes: int = setting(5, "episodes of an evaluation", AT_LEAST_ONE)
    final_eval_episodes: int = setting(10, "episodes of the last one", AT_LEAST_ONE)
    eval_lanes: int = setting(
        10, "of them side by side, of text, sharing calls of the prior", AT_LEAST_ONE
    )
    log_interval: int = setting(250, "gradient steps to a metric row", AT_LEAST_ONE)
    checkpoint_interval: int = setting(1000, "gradient steps to a checkpoint", AT_LEAST_ONE)
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

    @override
    def __post_init__(self) -> None:
        check_bounds(self)
        require(bool(self.dataset), "`dataset` is empty.", "See what there is: cep offline list")
        require(
            self.prior is None or self.algorithm == "cql-prior",
            f"`prior` is {self.prior}, but `{self.algorithm}` uses no prior.",
            "Leave it out, or learn with: cep offline cql-prior",
        )
