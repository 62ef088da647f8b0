"""posterior-q: it acts from π(a|s) ∝ p̂(a|s)·exp(Q(s,a)/τ), and learns Q over text embeddings.

`direct-llm`, `react` and `random` are the policy without a learner, where the posterior is the
prior. `yan` draws candidates; `dqn` alone has no posterior: it is ε-greedy, and ε takes the place
of τ. The learner never asks the LLM, because every stored state carries its log-prior.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from cepcli.agents.config import Backup, LearnerConfig, PosteriorConfig
from cepcli.agents.networks import (
    RunningSpread,
    TDLoss,
    TextQNetwork,
    optimizer_state,
    restore_optimizer,
    shrunk_advantage,
    td_loss,
    tensors_below,
)
from cepcli.datasets.text_replay import NO_ACTION, NStepWindow, StateBatch, StateRows, TextReplay
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
    soft_value,
    state_value,
    temperature_schedule,
)
from cepcli.prior.base import Prior, PriorAnswer
from cepcli.seeding import generator, stream_seed
from cepcli.types import TextState


class Choice(NamedTuple):
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
        learner: "QLearner | None",
    ) -> None:
        self._config = config
        self._prior = prior
        self._table = table
        self._learner = learner

    def decide(
        self, state: TextState, tau: float, generator: torch.Generator, *, greedy: bool = False
    ) -> Choice:
        """Choose among the admissible actions of `state` at temperature `tau`."""
        return self.decide_many([state], tau, [generator], greedy=greedy)[0]

    def decide_many(
        self,
        states: Sequence[TextState],
        tau: float,
        generators: Sequence[torch.Generator],
        *,
        greedy: bool = False,
    ) -> list[Choice]:
        """The same for several states, each with its own generator; the prior is asked once."""
        answers = self._prior.log_probs(states)
        choices = []
        for state, answer, noise in zip(states, answers, generators, strict=True):
            rows, q_values = self.rows(state, answer), None
            if self._learner is not None and rows is not None:
                q_values = self._learner.q_values(rows).double()
            choices.append(choose(self._config, answer, rows, q_values, tau, noise, greedy=greedy))
        return choices

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


def choose(
    config: PosteriorConfig,
    answer: PriorAnswer,
    rows: StateRows | None,
    q_values: Float[Tensor, " actions"] | None,
    tau: float,
    generator: torch.Generator,
    *,
    greedy: bool,
) -> Choice:
    """Draw from π ∝ p̂·exp(Q/τ), or take its mode; without values the posterior is the prior."""
    log_prior = torch.from_numpy(answer.log_prior)
    log_policy = log_prior
    if q_values is not None:
        log_policy = _posterior(config, log_prior, q_values, tau, generator)
    action = int(log_policy.argmax() if greedy else sample_action(log_policy, generator))
    entropy = torch.special.entr(log_policy.exp()).sum()
    return Choice(
        action,
        answer,
        rows,
        float(kl_divergence(log_policy, log_prior)),
        float(entropy) / math.log(len(log_policy)) if len(log_policy) > 1 else 0.0,
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


class QLearner:
    """Q-values of text states, by double Q-learning from n-step transitions."""

    def __init__(
        self,
        config: LearnerConfig,
        posterior: PosteriorConfig,
        table: EmbeddingTable,
        *,
        seed: int,
        device: str,
    ) -> None:
        self._config = config
        self._posterior = posterior
        self._table = table
        self._device = device
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(stream_seed(seed, "network"))
            self.online = self._network()
            self.target = self._network()
        self._sync()
        self.optimizer = torch.optim.Adam(self.online.parameters(), lr=config.learning_rate)
        self.replay = TextReplay(config.replay_capacity)
        self.window = NStepWindow(config.n_step, config.discount)
        self._sampling = generator(seed, "replay")
        self._candidates = torch.Generator().manual_seed(stream_seed(seed, "backup-candidates"))
        self.decisions = 0
        self.updates = 0
        self._spread = RunningSpread()

    def _network(self) -> TextQNetwork:
        config = self._config
        network = TextQNetwork(self._table.encoder.dim, config.hidden, config.members)
        return network.to(self._device)

    @torch.no_grad()
    def q_values(self, state: StateRows) -> Float[Tensor, " actions"]:
        """Q of each action of one state as the posterior takes it (see `_for_posterior`)."""
        vectors = self._table.vectors
        q_values = self.online(
            self._tensor(vectors[[state.goal]]),
            self._tensor(vectors[[state.text]]),
            self._tensor(vectors[list(state.actions)])[None],
        )
        valid = torch.ones(1, len(state.actions), dtype=torch.bool, device=self._device)
        return self._for_posterior(q_values, valid)[0].cpu()

    @property
    def scale(self) -> float:
        """Running mean of Q's spread across actions, corrected for its start at zero."""
        return self._spread.mean

    @property
    def _gain(self) -> float:
        """What Q is multiplied by before it is divided by τ."""
        if not self._posterior.normalise_q:
            return 1.0
        return self._spread.gain(self._posterior.q_range)

    def _for_posterior(
        self, q_values: Float[Tensor, "members batch actions"], valid: Bool[Tensor, "batch actions"]
    ) -> Float[Tensor, "batch actions"]:
        """Advantages as far as the ensemble agrees, divided by their running spread.

        The posterior is invariant to a constant added to Q, but not to Q's scale: dividing by the
        spread lets τ mean the same in every world.
        """
        return self._gain * shrunk_advantage(q_values, valid, self._config.doubt)

    def arrive(self, state: StateRows) -> None:
        """A state whose prior is now known; completes older transitions."""
        for transition in self.window.arrive(state):
            self.replay.add(transition)

    def step(
        self, state: StateRows, action: int, reward: float, *, terminated: bool, truncated: bool
    ) -> None:
        """What was done in `state` and what came of it."""
        self.decisions += 1
        self.window.step(state, action, reward)
        done = self.window.terminate() if terminated else []
        if truncated and not terminated:
            done = self.window.truncate()
        for transition in done:
            self.replay.add(transition)

    def learn(self, temperature: float) -> TDLoss | None:
        """The gradient steps that follow a decision, or None while the replay warms up."""
        if self.decisions < self._config.learning_starts or len(self.replay) == 0:
            return None
        if self.updates == 0:
            self._fit_standardisers()
        losses = None
        for _ in range(self._config.gradient_steps):
            losses = self._gradient_step(temperature)
        return losses

    def _gradient_step(self, temperature: float) -> TDLoss:
        batch = self.replay.sample(self._config.batch_size, self._sampling)
        target = self._target(batch.next_state, temperature)
        reward, discount = self._tensor(batch.reward), self._tensor(batch.discount)
        losses = td_loss(
            self._q(self.online, batch.state),
            self._tensor(batch.action),
            reward + discount * target,
        )
        self.optimizer.zero_grad()
        losses.loss.backward()
        torch.nn.utils.clip_grad_norm_(self.online.parameters(), self._config.max_grad_norm)
        self.optimizer.step()
        self.updates += 1
        if self.updates % self._config.target_interval == 0:
            self._sync()
        return TDLoss(*(value.detach() for value in losses))

    @torch.no_grad()
    def _target(self, states: StateBatch, temperature: float) -> Tensor:
        online, target = self._q(self.online, states), self._q(self.target, states)
        valid = self._tensor(states.actions) != NO_ACTION
        self._track_scale(online, valid)
        backup, candidates = self._config.backup, None
        if backup == "max-candidates":
            candidates = self._draw_candidates(torch.from_numpy(states.log_prior))
        return next_state_value(
            backup,
            self._tensor(states.log_prior),
            # only a posterior takes Q shrunk and scaled; the best action is that of Q itself
            online.mean(0) if backup == "max" else self._for_posterior(online, valid),
            target,
            # the soft value takes Q̄ as it is, so τ is brought to its scale instead
            temperature / self._gain if backup == "soft" else temperature,
            candidates,
        )

    def _draw_candidates(self, log_prior: Tensor) -> Tensor:
        """The candidates of the backup, drawn as the policy draws its own."""
        count = self._posterior.candidates
        if self._posterior.with_replacement:
            drawn = sample_multiplicities(log_prior, count, self._candidates) > 0
        else:
            drawn = sample_candidates(log_prior, count, self._candidates)
        return drawn.to(self._device)

    def _track_scale(self, q_values: Tensor, valid: Tensor) -> None:
        """Running mean of max_a Q − min_a Q of the mean member over the states of the batches."""
        mean = q_values.mean(0)
        top = mean.masked_fill(~valid, -torch.inf).amax(-1)
        bottom = mean.masked_fill(~valid, torch.inf).amin(-1)
        self._spread.update(float((top - bottom).mean()))

    def _q(self, network: TextQNetwork, states: StateBatch) -> Tensor:
        vectors = self._table.vectors
        return network(
            self._tensor(vectors[states.goal]),
            self._tensor(vectors[states.text]),
            self._tensor(vectors[np.maximum(states.actions, 0)]),
        )

    def _fit_standardisers(self) -> None:
        arrays = self.replay.state()
        actions = arrays["state_actions"]
        rows = {
            "goal": arrays["state_goal"],
            "text": arrays["state_text"],
            "action": actions[actions != NO_ACTION],
        }
        for name, numbers in rows.items():
            # by first appearance: row numbers depend on what evaluations have read
            seen = list(dict.fromkeys(numbers.tolist()))
            vectors = self._tensor(self._table.vectors[seen])
            self.online.fit_standardiser(name, vectors)
        self._sync()

    def _sync(self) -> None:
        self.target.load_state_dict(self.online.state_dict())

    def _tensor(self, array: np.ndarray) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(array)).to(self._device)

    def state(self) -> tuple[dict[str, Tensor], dict[str, np.ndarray], dict[str, Any]]:
        """Tensors, arrays and JSON values that hold everything, for a checkpoint."""
        tensors = {f"online.{k}": v for k, v in self.online.state_dict().items()}
        tensors |= {f"target.{k}": v for k, v in self.target.state_dict().items()}
        tensors |= optimizer_state(self.optimizer)
        tensors["candidates_rng"] = self._candidates.get_state()
        scalars = {
            "decisions": self.decisions,
            "updates": self.updates,
            "spread": self._spread.state(),
            "window": self.window.state(),
            "sampling": self._sampling.bit_generator.state,
        }
        contiguous = {k: v.detach().cpu().contiguous() for k, v in tensors.items()}
        return contiguous, self.replay.state(), scalars

    def restore(
        self, tensors: dict[str, Tensor], arrays: dict[str, np.ndarray], scalars: dict[str, Any]
    ) -> None:
        """Take over what `state` returned."""
        for prefix, network in (("online.", self.online), ("target.", self.target)):
            network.load_state_dict(tensors_below(tensors, prefix))
        restore_optimizer(self.optimizer, tensors)
        self._candidates.set_state(tensors["candidates_rng"])
        self.replay.restore(arrays)
        self.decisions, self.updates = scalars["decisions"], scalars["updates"]
        self._spread.restore(scalars["spread"])
        self.window.restore(scalars["window"])
        self._sampling.bit_generator.state = scalars["sampling"]


def next_state_value(
    backup: Backup,
    log_prior: Float[Tensor, "batch actions"],
    online_q: Float[Tensor, "batch actions"],
    target_q: Float[Tensor, "members batch actions"],
    temperature: float,
    candidates: Bool[Tensor, "batch actions"] | None = None,
) -> Float[Tensor, "members batch"]:
    """V(s′) under the stored prior of s′, Q̄ the target network.

    `online_q` is one for the ensemble: what the posterior takes, or Q itself for `max`; `target_q`
    is one per member.

    - expected: Σ_a π(a|s′)·Q̄(s′,a) with π ∝ p̂·exp(Q/τ), double Q-learning's split
      (van Hasselt et al. 2016) carried over to a stochastic policy;
    - soft: τ·log Σ_a p̂·exp(Q̄/τ);
    - max: Q̄(s′, argmax_a Q(s′,a)), double DQN (van Hasselt et al. 2016);
    - max-candidates: max Q̄(s′,a) over the drawn candidates (Yan et al., arXiv 2410.07927).
    """
    if backup == "soft":
        return soft_value(log_prior, target_q, temperature)
    if backup == "max":
        best = online_q.masked_fill(log_prior.isneginf(), -torch.inf).argmax(-1, keepdim=True)
        return target_q.gather(-1, best.expand(len(target_q), -1, -1))[..., 0]
    if backup == "max-candidates":
        assert candidates is not None
        return target_q.masked_fill(~candidates, -torch.inf).amax(-1)
    return state_value(log_posterior(log_prior, online_q, temperature), target_q)
