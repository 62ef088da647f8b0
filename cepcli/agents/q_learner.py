"""The learner of `posterior-q`, `dqn` and `yan`: double Q-learning over text embeddings.

It owns the networks, the optimiser, the replay and the running scale of Q; it never asks the LLM,
because every stored state carries its log-prior.
"""

from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from cepcli.agents.config import LearnerConfig, PosteriorConfig
from cepcli.agents.losses import TDLoss, next_state_value, td_loss
from cepcli.agents.networks import TextQNetwork, shrunk_advantage
from cepcli.agents.q_scale import RunningSpread
from cepcli.datasets.text_replay import NO_ACTION, NStepWindow, StateBatch, StateRows, TextReplay
from cepcli.keys.encoder import EmbeddingTable
from cepcli.posterior import sample_candidates, sample_multiplicities
from cepcli.seeding import generator, stream_seed


class QLearner:
    """Q-values of text states, learned from n-step transitions."""

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
        for number, slots in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{number}.{k}": v for k, v in slots.items()}
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
            network.load_state_dict(_below(tensors, prefix))
        slots: dict[int, dict[str, Tensor]] = {}
        for key, value in _below(tensors, "optimizer.").items():
            number, name = key.split(".")
            slots.setdefault(int(number), {})[name] = value
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": slots, "param_groups": groups})
        self._candidates.set_state(tensors["candidates_rng"])
        self.replay.restore(arrays)
        self.decisions, self.updates = scalars["decisions"], scalars["updates"]
        self._spread.restore(scalars["spread"])
        self.window.restore(scalars["window"])
        self._sampling.bit_generator.state = scalars["sampling"]


def _below(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
