"""How an agent decides: π(a|s) ∝ p̂(a|s)·exp(Q(s,a)/τ), and the agents that are limits of it.

`dqn` alone has no posterior: it is ε-greedy, and ε takes the place of τ.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from cepcli.agents.config import PosteriorConfig
from cepcli.agents.q_learner import QLearner
from cepcli.datasets.text_replay import StateRows
from cepcli.keys.encoder import EmbeddingTable
from cepcli.posterior import (
    kl_divergence,
    log_candidate_posterior,
    log_epsilon_greedy,
    log_multiplicity_posterior,
    log_posterior,
    sample_action,
    sample_candidates,
    sample_multiplicities,
    temperature_schedule,
)
from cepcli.prior.base import Prior, PriorAnswer
from cepcli.types import TextState


class Decision(NamedTuple):
    """One choice, and what it was made from.

    Attributes:
        action: index of the action.
        answer: how the prior answered.
        rows: the state as the learner stores it; None without one.
        kl_to_prior: KL(π‖p̂), nats.
        variability: entropy of π over that of the uniform policy, 0..1.
        q_values: Q as the posterior took it, one per action; None without a learner.
    """

    action: int
    answer: PriorAnswer
    rows: StateRows | None
    kl_to_prior: float
    variability: float
    q_values: list[float] | None


def temperature(
    config: PosteriorConfig, hit_rate: float, reliable_hit_rate: float, progress: float
) -> float:
    """τ now, from the windowed cache hit rate or from the fraction of the run done.

    ε where the policy is ε-greedy: linear over the first `exploration` of the run, then constant
    (Mnih et al. 2015).
    """
    if config.mode == "epsilon-greedy":
        fallen = min(max(progress / config.exploration, 0.0), 1.0)
        return config.epsilon + fallen * (config.final_epsilon - config.epsilon)
    if config.schedule == "hit-rate":
        return temperature_schedule(hit_rate, config.temperature, config.decay)
    if config.schedule == "reliable-hit-rate":
        return temperature_schedule(reliable_hit_rate, config.temperature, config.decay)
    if config.schedule == "linear":
        fraction = min(max(progress, 0.0), 1.0)
        return config.temperature + fraction * (config.final_temperature - config.temperature)
    return config.temperature


class Policy:
    """Decides from a prior and, where there is a learner, its Q-values.

    Without a learner the posterior is the prior: `direct-llm` under an LLM, `random` under the
    uniform prior.
    """

    def __init__(
        self,
        config: PosteriorConfig,
        prior: Prior,
        table: EmbeddingTable | None,
        learner: QLearner | None,
    ) -> None:
        self._config = config
        self._prior = prior
        self._table = table
        self._learner = learner

    def decide(
        self, state: TextState, tau: float, generator: torch.Generator, *, greedy: bool = False
    ) -> Decision:
        """Choose among the admissible actions of `state` at temperature `tau`."""
        return self.decide_many([state], tau, [generator], greedy=greedy)[0]

    def decide_many(
        self,
        states: Sequence[TextState],
        tau: float,
        generators: Sequence[torch.Generator],
        *,
        greedy: bool = False,
    ) -> list[Decision]:
        """The same for several states, each with its own generator; the prior is asked once."""
        answers = self._prior.log_probs(states)
        return [
            self._choose(state, answer, tau, generator, greedy=greedy)
            for state, answer, generator in zip(states, answers, generators, strict=True)
        ]

    def _choose(
        self,
        state: TextState,
        answer: PriorAnswer,
        tau: float,
        generator: torch.Generator,
        *,
        greedy: bool,
    ) -> Decision:
        rows = self.rows(state, answer)
        q_values = None
        if self._learner is not None and rows is not None:
            q_values = self._learner.q_values(rows).double()
        return decided(self._config, answer, rows, q_values, tau, generator, greedy=greedy)

    def rows(self, state: TextState, answer: PriorAnswer) -> StateRows | None:
        """A state with its prior as the learner stores it; None without a learner."""
        if self._table is None or self._learner is None:
            return None
        return StateRows(
            self._table.row(state.goal),
            self._table.row(state.text),
            tuple(self._table.row(action) for action in state.actions),
            tuple(float(x) for x in answer.log_prior.astype(np.float32)),
        )


def decided(
    config: PosteriorConfig,
    answer: PriorAnswer,
    rows: StateRows | None,
    q_values: Float[Tensor, " actions"] | None,
    tau: float,
    generator: torch.Generator,
    *,
    greedy: bool,
) -> Decision:
    """The choice that prior and values come to; without values the posterior is the prior."""
    log_prior = torch.from_numpy(answer.log_prior)
    log_policy = log_prior
    if q_values is not None:
        log_policy = _posterior(config, log_prior, q_values, tau, generator)
    action = int(log_policy.argmax() if greedy else sample_action(log_policy, generator))
    return Decision(
        action,
        answer,
        rows,
        float(kl_divergence(log_policy, log_prior)),
        _variability(log_policy),
        None if q_values is None else q_values.tolist(),
    )


def _posterior(
    config: PosteriorConfig,
    log_prior: Float[Tensor, " actions"],
    q_values: Float[Tensor, " actions"],
    tau: float,
    generator: torch.Generator,
) -> Float[Tensor, " actions"]:
    if config.mode == "epsilon-greedy":
        return log_epsilon_greedy(q_values, tau)
    if config.mode == "exact":
        return log_posterior(log_prior, q_values, tau)
    if config.with_replacement:
        counts = sample_multiplicities(log_prior, config.candidates, generator)
        return log_multiplicity_posterior(counts, q_values, tau)
    candidates = sample_candidates(log_prior, config.candidates, generator)
    return log_candidate_posterior(log_prior, q_values, tau, candidates)


def _variability(log_policy: Float[Tensor, " actions"]) -> float:
    """Entropy over log n; 0 where there is but one action."""
    actions = len(log_policy)
    if actions == 1:
        return 0.0
    entropy = torch.special.entr(log_policy.exp()).sum()
    return float(entropy) / math.log(actions)
