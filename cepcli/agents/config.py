"""Configuration of a training run, and what each agent's name stands for. Loads no torch."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from typing_extensions import override

from cepcli.cache.config import CacheConfig
from cepcli.config import (
    AT_LEAST_ONE,
    BELOW_ONE,
    FINITE,
    NOT_NEGATIVE,
    POSITIVE,
    POSITIVE_SHARE,
    SHARE,
    Range,
    Settings,
    build,
    check_bounds,
    given,
    merge,
    require,
    setting,
    to_dict,
)
from cepcli.prior.config import PriorConfig

AgentName = Literal[
    "posterior-q", "dqn", "yan", "direct-llm", "react", "random", "expert", "sac", "hybrid-sac"
]

Backup = Literal["expected", "soft", "max", "max-candidates"]

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
class PosteriorConfig(Settings):
    """How prior and Q-values become a policy: π(a|s) ∝ p̂(a|s)·exp(Q(s,a)/τ)."""

    SECTION = "posterior."

    mode: Literal["exact", "k-candidates", "epsilon-greedy"] = setting(
        "exact",
        "exact: over all actions; k-candidates: over k drawn from the prior; epsilon-greedy, "
        "dqn's: the best action, and with probability ε any",
    )
    candidates: int = setting(5, "k of k-candidates", AT_LEAST_ONE)
    with_replacement: bool = setting(
        False, "draw candidates with replacement, weighing softmax(Q/τ) by count"
    )
    schedule: Literal["hit-rate", "reliable-hit-rate", "linear", "constant"] = setting(
        "hit-rate",
        "τ = initial·exp(−decay·hit rate), over all hits or over those known to be right "
        "(exact, or certified); or linear in steps, as under the uniform prior, which no "
        "cache answers",
    )
    temperature: float = setting(0.8, "initial τ", POSITIVE)
    decay: float = setting(2.0, "of the hit-rate schedule", NOT_NEGATIVE)
    final_temperature: float = setting(0.05, "τ at the end of the linear schedule", POSITIVE)
    normalise_q: bool = setting(
        True, "divide Q by the running spread across actions before dividing by τ"
    )
    q_range: float = setting(0.3, "spread of Q across actions after normalising", POSITIVE)
    epsilon: float = setting(1.0, "epsilon-greedy: ε at the beginning", SHARE)
    final_epsilon: float = setting(0.05, "epsilon-greedy: ε in the end, and in evaluations", SHARE)
    exploration: float = setting(
        0.5, "epsilon-greedy: share of the steps in which ε falls", POSITIVE_SHARE
    )


@dataclass(frozen=True, slots=True)
class LearnerConfig(Settings):
    """Double Q-learning on frozen text embeddings."""

    SECTION = "learner."

    discount: float = setting(0.97, "γ per decision", BELOW_ONE)
    n_step: int = setting(3, "steps before bootstrapping", AT_LEAST_ONE)
    backup: Backup = setting(
        "expected",
        "value of the next state: expected, of the posterior; soft, with its entropy; max, of "
        "the best action (double DQN); max-candidates, of the best of the candidates drawn "
        "from its prior (arXiv 2410.07927)",
    )
    members: int = setting(5, "Q-networks in the ensemble", AT_LEAST_ONE)
    doubt: float = setting(1.0, "how much disagreement shrinks an advantage", NOT_NEGATIVE)
    hidden: int = setting(128, "units of each hidden layer", AT_LEAST_ONE)
    learning_rate: float = setting(1e-3, "of Adam", POSITIVE)
    batch_size: int = setting(64, "transitions per gradient step", AT_LEAST_ONE)
    learning_starts: int = setting(100, "decisions before learning", AT_LEAST_ONE)
    gradient_steps: int = setting(1, "gradient steps per decision", AT_LEAST_ONE)
    target_interval: int = setting(
        200, "gradient steps between copies into the target network", AT_LEAST_ONE
    )
    replay_capacity: int = setting(100_000, "transitions kept", AT_LEAST_ONE)
    max_grad_norm: float = setting(10.0, "gradient norm is clipped to this", POSITIVE)


@dataclass(frozen=True, slots=True)
class SACConfig(Settings):
    """Soft actor-critic; the defaults are Stable-Baselines3's, two of them apart.

    There the entropy weight begins at 1, so that HalfCheetah learns nothing before it has fallen,
    some 20,000 steps; the learning rate is 3e-4, with which some seeds hardly leave that hollow.
    """

    SECTION = "sac."

    discount: float = setting(0.99, "γ per control step", BELOW_ONE)
    hidden: int = setting(256, "units of each of the two hidden layers", AT_LEAST_ONE)
    learning_rate: float = setting(1e-3, "of Adam, for all parts", POSITIVE)
    batch_size: int = setting(256, "transitions per gradient step", AT_LEAST_ONE)
    envs: int = setting(
        1, "environments that are stepped in turn, sharing calls to the LLM", AT_LEAST_ONE
    )
    learning_starts: int = setting(
        100, "control steps with uniform controls before learning", AT_LEAST_ONE
    )
    gradient_steps: int = setting(1, "gradient steps per control step", AT_LEAST_ONE)
    polyak: float = setting(0.005, "share of the critics that their targets take", POSITIVE_SHARE)
    replay_capacity: int = setting(1_000_000, "transitions kept", AT_LEAST_ONE)
    entropy_weight: float = setting(0.1, "α at the beginning, before it is learned", POSITIVE)
    entropy_per_control: float = setting(
        -1.0, "nats per number of a control that entropy is held to", FINITE
    )
    symbol_steps: int = setting(10, "control steps that a symbolic action is held", AT_LEAST_ONE)
    relabel: float = setting(
        0.0, "share of a batch that learns as if another symbol were held", SHARE
    )
    residual: float = setting(
        0.2, "how far from a nominal control the actor may go", Range(0, 2, low_open=True)
    )
    residual_starts: int = setting(
        10_000,
        "control steps in which, with nominal controls, only the critics learn",
        NOT_NEGATIVE,
    )


@dataclass(frozen=True, slots=True)
class TrainConfig(Settings):
    """One training run: who, where, how long, with which prior behind which cache."""

    env: str = setting("babyai/goto-redball", "see `cep envs list`")
    agent: AgentName = setting("posterior-q", "who acts and learns")
    prior: str = setting(
        "embedded",
        "embedded, gemma-3-270m, uniform, a tuned prior's name, a model's directory, GGUF "
        "file or hub id, server:URL",
    )
    abstraction: str | None = setting(
        None, "hybrid-sac: what describes states to the prior, FAMILY/NAME; default: FAMILY/default"
    )
    shuffled_prior: bool = setting(
        False,
        "whether the prior's probabilities change round among each state's actions: a wrong "
        "prior on purpose",
    )
    demos: str | None = setting(
        None, "demonstrations that the replay begins with: a name, or FILE.jsonl"
    )
    steps: int = setting(
        2000, "decisions to take, control steps in continuous control", AT_LEAST_ONE
    )
    seed: int = setting(0, "of every random stream of the run")
    device: str = setting("cpu", "cpu, cuda or cuda:N")
    threads: int = setting(1, "torch threads", AT_LEAST_ONE)
    eval_interval: int = setting(500, "steps between evaluations", AT_LEAST_ONE)
    eval_episodes: int = setting(20, "episodes of an evaluation", AT_LEAST_ONE)
    final_eval_episodes: int = setting(50, "episodes of the last one", AT_LEAST_ONE)
    eval_lanes: int = setting(
        10, "evaluation episodes side by side, sharing LLM calls", AT_LEAST_ONE
    )
    eval_greedy: bool = setting(False, "evaluate the most probable action, not a sample")
    log_interval: int = setting(50, "steps between metric rows", AT_LEAST_ONE)
    checkpoint_interval: int = setting(250, "steps between checkpoints", AT_LEAST_ONE)
    journal: bool = setting(True, "answer repeated LLM questions from the workspace's journal")
    trace: bool = setting(False, "record every decision, to be replayed by `cep cache replay`")
    env_options: dict[str, Any] = field(
        default_factory=dict, metadata={"help": "options of the environment's family"}
    )
    posterior: PosteriorConfig = field(default_factory=PosteriorConfig)
    learner: LearnerConfig = field(default_factory=LearnerConfig)
    sac: SACConfig = field(default_factory=SACConfig)
    cache: CacheConfig = field(default_factory=CacheConfig)
    llm: PriorConfig = field(default_factory=PriorConfig)

    @override
    def __post_init__(self) -> None:
        check_bounds(self)
        for name, shown_by in (("env", "cep envs list"), ("prior", "cep prior list")):
            require(
                bool(getattr(self, name)), f"`{name}` is empty.", f"See what there is: {shown_by}"
            )
        uniform = self.prior == "uniform"
        require(
            self.agent not in WITHOUT_LLM or uniform,
            f"Agent `{self.agent}` uses no LLM, but the prior is `{self.prior}`.",
            "Leave --prior out, or use --agent posterior-q or direct-llm.",
        )
        require(
            self.demos is None or self.agent in LEARNING,
            f"`demos` is {self.demos}, but agent `{self.agent}` does not learn from "
            "demonstrations.",
            f"Leave it out, or use --agent {', '.join(LEARNING[:-1])} or {LEARNING[-1]}.",
        )
        require(
            not (self.shuffled_prior and self.trace),
            "`shuffled_prior` is set, but a trace would not tell what the LLM said.",
            "Leave `trace` out.",
        )
        require(
            not (self.shuffled_prior and uniform),
            "`shuffled_prior` is set, but the prior is uniform.",
            "Name a --prior, or leave it out.",
        )
        require(
            self.agent != "react" or not uniform,
            "Agent `react` needs an LLM, but the prior is `uniform`.",
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
        require(
            self.agent != "hybrid-sac" or self.posterior.mode == "exact",
            f"`posterior.mode` is {self.posterior.mode}, which is for actions of text.",
            "hybrid-sac weighs all of its few primitives: leave it at exact.",
        )
        envs = self.sac.envs
        require(
            not self.trace or envs == 1,
            f"Decisions of {envs} environments cannot be traced as episodes.",
            "Trace with sac.envs=1.",
        )
        require(
            self.steps % envs == 0,
            f"`steps` is {self.steps}, which {envs} environments cannot share evenly.",
            f"Try --steps {(self.steps // envs + 1) * envs}",
        )

    def _check_agent(self) -> None:
        """Refuse what would make the agent another one, or keep its τ where it began."""
        values, posterior = to_dict(self), self.posterior
        for key in _OF_THE_AGENT if self.agent in ("dqn", "yan") else ():
            section, name = key.split(".")
            own, chosen = PRESETS[self.agent].get(section, {}).get(name), values[section][name]
            require(
                own is None or chosen == own,
                f"`{key}` is {chosen}, but `{self.agent}` as published has {own}.",
                "Leave it out, or use --agent posterior-q, which may have any.",
            )
        require(
            posterior.mode != "k-candidates" or self.cache.mode != "certified",
            "`cache.mode` is certified, but `posterior.mode` is k-candidates: certified is the "
            "error of the posterior over all actions.",
            "Use posterior.mode=exact, or --cache exact.",
        )
        if self.agent not in _OF_A_POSTERIOR:
            return
        require(
            posterior.mode != "epsilon-greedy",
            f"`posterior.mode` is epsilon-greedy, but `{self.agent}` acts from its posterior.",
            "Leave it out, or use --agent dqn.",
        )
        require(
            self.prior != "uniform" or posterior.schedule not in _BY_HITS,
            f"`posterior.schedule` is {posterior.schedule}, but no cache answers under the uniform "
            f"prior, so τ would stay at {posterior.temperature:g}.",
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
