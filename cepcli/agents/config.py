"""Configuration of a training run, and what each agent's name stands for. Loads no torch."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from cepcli.agents.sac_config import SACConfig
from cepcli.cache.config import CacheConfig
from cepcli.config import build, given, merge, require, to_dict
from cepcli.errors import ConfigError
from cepcli.prior.config import PriorConfig

AgentName = Literal[
    "posterior-q", "dqn", "yan", "direct-llm", "react", "random", "expert", "sac", "hybrid-sac"
]

#: Agents that learn Q-values, agents that never ask an LLM.
LEARNING = ("posterior-q", "dqn", "yan")
WITHOUT_LLM = ("dqn", "random", "expert", "sac")

#: Agents of continuous control; all others speak.
CONTROL = ("sac", "hybrid-sac")

#: A control step is a hundredth of a decision's work, and an episode has a thousand.
_CONTROL_RUN: dict[str, Any] = {
    "steps": 100_000,
    "eval_interval": 5_000,
    "eval_episodes": 5,
    "final_eval_episodes": 10,
    "eval_lanes": 5,
    "log_interval": 500,
    "checkpoint_interval": 10_000,
}

#: What an agent's name sets, under anything the user sets.
PRESETS: dict[str, dict[str, Any]] = {
    "posterior-q": {},
    # double DQN (van Hasselt et al. 2016) as it is: one network, one step, ε-greedy
    "dqn": {
        "prior": "uniform",
        "posterior": {"mode": "epsilon-greedy", "normalise_q": False},
        "learner": {"backup": "max", "members": 1, "doubt": 0.0, "n_step": 1},
    },
    # arXiv 2410.07927; τ and γ as in the code published with it (logits 10·Q, 0.99)
    "yan": {
        "cache": {"mode": "exact"},
        "posterior": {
            "mode": "k-candidates", "with_replacement": True, "normalise_q": False,
            "schedule": "constant", "temperature": 0.1,
        },
        "learner": {
            "backup": "max-candidates", "members": 1, "doubt": 0.0, "n_step": 1, "discount": 0.99,
        },
    },
    "direct-llm": {},
    "react": {"cache": {"mode": "off"}},
    "random": {"prior": "uniform"},
    "expert": {"prior": "uniform"},
    "sac": {"prior": "uniform", **_CONTROL_RUN},
    "hybrid-sac": {"eval_greedy": True, **_CONTROL_RUN},  # as sac, whose mean control is evaluated
}  # fmt: skip

#: What makes a published agent what it is, by its preset: ensemble, shrinkage and scale are ours.
_OF_THE_AGENT = (
    "posterior.mode", "posterior.with_replacement", "posterior.normalise_q", "learner.backup",
    "learner.members", "learner.doubt",
)  # fmt: skip
#: Agents whose policy is π ∝ p̂·exp(Q/τ) with a τ that a schedule gives.
_OF_A_POSTERIOR = ("posterior-q", "hybrid-sac")
#: Schedules of τ that need a cache.
_BY_HITS = ("hit-rate", "reliable-hit-rate")


@dataclass(frozen=True, slots=True)
class PosteriorConfig:
    """How prior and Q-values become a policy: π(a|s) ∝ p̂(a|s)·exp(Q(s,a)/τ)."""

    mode: Literal["exact", "k-candidates", "epsilon-greedy"] = field(
        default="exact",
        metadata={
            "help": "exact: over all actions; k-candidates: over k drawn from the prior; "
            "epsilon-greedy, dqn's: the best action, and with probability ε any"
        },
    )
    candidates: int = field(default=5, metadata={"help": "k of k-candidates, ≥ 1"})
    with_replacement: bool = field(
        default=False,
        metadata={"help": "draw candidates with replacement, weighing softmax(Q/τ) by count"},
    )
    schedule: Literal["hit-rate", "reliable-hit-rate", "linear", "constant"] = field(
        default="hit-rate",
        metadata={
            "help": "τ = initial·exp(−decay·hit rate), over all hits or over those known to be "
            "right (exact, or certified); or linear in steps, as under the uniform prior, which no "
            "cache answers"
        },
    )
    temperature: float = field(default=0.8, metadata={"help": "initial τ, > 0"})
    decay: float = field(default=2.0, metadata={"help": "of the hit-rate schedule, ≥ 0"})
    final_temperature: float = field(
        default=0.05, metadata={"help": "τ at the end of the linear schedule, > 0"}
    )
    normalise_q: bool = field(
        default=True,
        metadata={"help": "divide Q by the running spread across actions before dividing by τ"},
    )
    q_range: float = field(
        default=0.3, metadata={"help": "spread of Q across actions after normalising, > 0"}
    )
    epsilon: float = field(
        default=1.0, metadata={"help": "epsilon-greedy: ε at the beginning, in [0, 1]"}
    )
    final_epsilon: float = field(
        default=0.05,
        metadata={"help": "epsilon-greedy: ε in the end, and in evaluations, in [0, 1]"},
    )
    exploration: float = field(
        default=0.5,
        metadata={"help": "epsilon-greedy: share of the steps in which ε falls, in (0, 1]"},
    )

    def __post_init__(self) -> None:
        """Raise a ConfigError where a value cannot work."""
        require(self.candidates >= 1, f"posterior.candidates is {self.candidates}, expected ≥ 1.")
        for name in ("epsilon", "final_epsilon"):
            value = getattr(self, name)
            require(0 <= value <= 1, f"posterior.{name} is {value}, expected in [0, 1].")
        require(
            0 < self.exploration <= 1,
            f"posterior.exploration is {self.exploration}, expected in (0, 1].",
        )
        for name in ("temperature", "final_temperature", "q_range"):
            value = getattr(self, name)
            require(value > 0, f"posterior.{name} is {value}, expected > 0.")
        require(self.decay >= 0, f"posterior.decay is {self.decay}, expected ≥ 0.")


@dataclass(frozen=True, slots=True)
class LearnerConfig:
    """Double Q-learning on frozen text embeddings."""

    discount: float = field(default=0.97, metadata={"help": "γ per decision, in [0, 1)"})
    n_step: int = field(default=3, metadata={"help": "steps before bootstrapping, ≥ 1"})
    backup: Literal["expected", "soft", "max", "max-candidates"] = field(
        default="expected",
        metadata={
            "help": "value of the next state: expected, of the posterior; soft, with its entropy; "
            "max, of the best action (double DQN); max-candidates, of the best of the candidates "
            "drawn from its prior (arXiv 2410.07927)"
        },
    )
    members: int = field(default=5, metadata={"help": "Q-networks in the ensemble, ≥ 1"})
    doubt: float = field(
        default=1.0, metadata={"help": "how much disagreement shrinks an advantage, ≥ 0"}
    )
    hidden: int = field(default=128, metadata={"help": "units of each hidden layer"})
    learning_rate: float = field(default=1e-3, metadata={"help": "of Adam"})
    batch_size: int = field(default=64, metadata={"help": "transitions per gradient step"})
    learning_starts: int = field(default=100, metadata={"help": "decisions before learning"})
    gradient_steps: int = field(default=1, metadata={"help": "gradient steps per decision"})
    target_interval: int = field(
        default=200, metadata={"help": "gradient steps between copies into the target network"}
    )
    replay_capacity: int = field(default=100_000, metadata={"help": "transitions kept"})
    max_grad_norm: float = field(
        default=10.0, metadata={"help": "gradient norm is clipped to this"}
    )

    def __post_init__(self) -> None:
        """Raise a ConfigError where a value cannot work."""
        require(0 <= self.discount < 1, f"learner.discount is {self.discount}, expected in [0, 1).")
        for name in (
            "n_step", "members", "hidden", "batch_size", "learning_starts", "gradient_steps",
            "target_interval", "replay_capacity",
        ):  # fmt: skip
            value = getattr(self, name)
            require(value >= 1, f"learner.{name} is {value}, expected ≥ 1.")
        require(self.learning_rate > 0, "learner.learning_rate must be > 0.")


@dataclass(frozen=True, slots=True)
class TrainConfig:
    """One training run: who, where, how long, with which prior behind which cache."""

    env: str = field(default="babyai/goto-redball", metadata={"help": "see `cep envs list`"})
    agent: AgentName = field(default="posterior-q", metadata={"help": "who acts and learns"})
    prior: str = field(
        default="embedded",
        metadata={
            "help": "embedded, gemma-3-270m, uniform, a tuned prior's name, a model's directory, "
            "GGUF file or hub id, server:URL"
        },
    )
    abstraction: str | None = field(
        default=None,
        metadata={
            "help": "hybrid-sac: what describes states to the prior, FAMILY/NAME; "
            "default: FAMILY/default"
        },
    )
    shuffled_prior: bool = field(
        default=False,
        metadata={
            "help": "whether the prior's probabilities change round among each state's actions: a "
            "wrong prior on purpose"
        },
    )
    demos: str | None = field(
        default=None,
        metadata={"help": "demonstrations that the replay begins with: a name, or FILE.jsonl"},
    )
    steps: int = field(
        default=2000, metadata={"help": "decisions to take, control steps in continuous control"}
    )
    seed: int = field(default=0, metadata={"help": "of every random stream of the run"})
    device: str = field(default="cpu", metadata={"help": "cpu, cuda or cuda:N"})
    threads: int = field(default=1, metadata={"help": "torch threads"})
    eval_interval: int = field(default=500, metadata={"help": "steps between evaluations"})
    eval_episodes: int = field(default=20, metadata={"help": "episodes of an evaluation"})
    final_eval_episodes: int = field(default=50, metadata={"help": "episodes of the last one"})
    eval_lanes: int = field(
        default=10, metadata={"help": "evaluation episodes side by side, sharing LLM calls"}
    )
    eval_greedy: bool = field(
        default=False, metadata={"help": "evaluate the most probable action, not a sample"}
    )
    log_interval: int = field(default=50, metadata={"help": "steps between metric rows"})
    checkpoint_interval: int = field(default=250, metadata={"help": "steps between checkpoints"})
    journal: bool = field(
        default=True,
        metadata={"help": "answer repeated LLM questions from the workspace's journal"},
    )
    trace: bool = field(
        default=False,
        metadata={"help": "record every decision, to be replayed by `cep cache replay`"},
    )
    env_options: dict[str, Any] = field(
        default_factory=dict, metadata={"help": "options of the environment's family"}
    )
    posterior: PosteriorConfig = field(default_factory=PosteriorConfig)
    learner: LearnerConfig = field(default_factory=LearnerConfig)
    sac: SACConfig = field(default_factory=SACConfig)
    cache: CacheConfig = field(default_factory=CacheConfig)
    llm: PriorConfig = field(default_factory=PriorConfig)

    def __post_init__(self) -> None:
        """Raise a ConfigError where values cannot work, alone or together."""
        for name in (
            "steps", "threads", "eval_interval", "eval_episodes", "final_eval_episodes",
            "eval_lanes", "log_interval", "checkpoint_interval",
        ):  # fmt: skip
            value = getattr(self, name)
            require(value >= 1, f"{name} is {value}, expected ≥ 1.")
        for name, shown_by in (("env", "cep envs list"), ("prior", "cep prior list")):
            if not getattr(self, name):
                raise ConfigError(f"`{name}` is empty.", f"See what there is: {shown_by}")
        if self.agent in WITHOUT_LLM and self.prior != "uniform":
            raise ConfigError(
                f"Agent `{self.agent}` uses no LLM, but the prior is `{self.prior}`.",
                "Leave --prior out, or use --agent posterior-q or direct-llm.",
            )
        if self.demos is not None and self.agent not in LEARNING:
            raise ConfigError(
                f"`demos` is {self.demos}, but agent `{self.agent}` learns from none.",
                f"Leave it out, or use --agent {', '.join(LEARNING[:-1])} or {LEARNING[-1]}.",
            )
        if self.shuffled_prior and (self.prior == "uniform" or self.trace):
            why = "a trace would not tell what the LLM said" if self.trace else "it is uniform"
            raise ConfigError(
                f"`shuffled_prior` is set, but {why}.",
                "Leave `trace` out." if self.trace else "Name a --prior, or leave it out.",
            )
        if self.agent == "react" and self.prior == "uniform":
            raise ConfigError(
                "Agent `react` thinks by an LLM, but the prior is `uniform`.",
                "Name a --prior: embedded, or a tuned one (cep prior list).",
            )

    def check_new(self) -> None:
        """Refuse what no run may begin with, though older ones have it.

        Raises:
            ConfigError: in one sentence.
        """
        self._check_agent()
        if self.agent not in CONTROL:
            return
        if self.agent == "hybrid-sac" and self.posterior.mode != "exact":
            raise ConfigError(
                f"`posterior.mode` is {self.posterior.mode}, which is for actions of text.",
                "hybrid-sac weighs all of its few primitives: leave it at exact.",
            )
        envs = self.sac.envs
        if self.trace and envs > 1:
            raise ConfigError(
                f"Decisions of {envs} environments cannot be traced as episodes.",
                "Trace with sac.envs=1.",
            )
        if self.steps % envs:
            raise ConfigError(
                f"`steps` is {self.steps}, which {envs} environments cannot share evenly.",
                f"Try --steps {(self.steps // envs + 1) * envs}",
            )

    def _check_agent(self) -> None:
        """Refuse what would make the agent another one, or keep its τ where it began."""
        values = to_dict(self)
        for key in _OF_THE_AGENT if self.agent in ("dqn", "yan") else ():
            section, name = key.split(".")
            own = PRESETS[self.agent].get(section, {}).get(name)
            if own is not None and values[section][name] != own:
                raise ConfigError(
                    f"`{key}` is {values[section][name]}, but `{self.agent}` as published has "
                    f"{own}.",
                    "Leave it out, or use --agent posterior-q, which may have any.",
                )
        if self.posterior.mode == "k-candidates" and self.cache.mode == "certified":
            raise ConfigError(
                "`cache.mode` is certified, but `posterior.mode` is k-candidates: certified is the "
                "error of the posterior over all actions.",
                "Use posterior.mode=exact, or --cache exact.",
            )
        if self.agent in _OF_A_POSTERIOR and self.posterior.mode == "epsilon-greedy":
            raise ConfigError(
                f"`posterior.mode` is epsilon-greedy, but `{self.agent}` acts from its posterior.",
                "Leave it out, or use --agent dqn.",
            )
        if (
            self.agent in _OF_A_POSTERIOR
            and self.prior == "uniform"
            and self.posterior.schedule in _BY_HITS
        ):
            raise ConfigError(
                f"`posterior.schedule` is {self.posterior.schedule}, but no cache answers under "
                f"the uniform prior, so τ would stay at {self.posterior.temperature:g}.",
                "Use posterior.schedule=linear, or constant for that.",
            )


def training_config(
    *,
    file: Path | None = None,
    overrides: Sequence[str] = (),
    flags: Mapping[str, Any] | None = None,
) -> TrainConfig:
    """What the user has set, over what the agent's name sets; see `cepcli.config.resolve`."""
    return build(TrainConfig, with_presets(given(file=file, overrides=overrides, flags=flags)))


def with_presets(values: Mapping[str, Any]) -> dict[str, Any]:
    """`values` over the agent's preset; τ is linear where the uniform prior leaves no hit rate."""
    agent = values.get("agent", TrainConfig.__dataclass_fields__["agent"].default)
    merged = merge(PRESETS.get(agent, {}), values)
    if agent in _OF_A_POSTERIOR and merged.get("prior") == "uniform":
        return merge({"posterior": {"schedule": "linear"}}, merged)
    return merged


def reads_descriptions(config: TrainConfig) -> bool:
    """Whether an LLM is asked about states of control, which must then be described."""
    return config.agent == "hybrid-sac" and config.prior != "uniform"
