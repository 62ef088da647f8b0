"""Soft actor-critic under a symbolic action: π(a,u|s) = π(a|s)·π_θ(u|s,a).

The symbol a is one of a few words that a prior can score, held for several control steps; actor and
critics see it one-hot beside the observation. With one word in the vocabulary no input is added,
and what remains is soft actor-critic (Haarnoja et al., arXiv 1812.05905) as Stable-Baselines3 has
it. docs/method.md has the values, the losses and the nominal controls as formulas.

- The target takes the stored log-prior of s′, so that an update never asks the LLM. All symbols are
  valued only where the next one is chosen, in one row of `symbol_steps`. At a time limit no prior
  was asked for: the held symbol goes on there, as it does inside a hold. Q does not see how long a
  symbol will still be held; it averages over that.
- The weights of the symbol's inputs begin at 0 and all others as without symbols: what an untrained
  actor learns under one symbol it has learned under all.
- Relabelling: where symbols suggest no controls, the world answers a control in the same way under
  every symbol. So a share `relabel` of each batch learns under symbols drawn uniformly (hindsight
  relabelling, Andrychowicz et al., arXiv 1707.01495, of symbols for goals).
- An update takes the critics, then the actor and the entropy weight α, all with the α of before.
- With nominal controls the actor waits for `residual_starts` steps, while the critics learn: led by
  critics that know nothing yet it unlearns what the nominal controls can do (Silver et al.,
  arXiv 1812.06298, wait likewise).

Gradients are written by hand (`cepcli.agents.perceptrons`).
"""

import math
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from numpy import ndarray
from torch import Tensor

from cepcli.agents.config import SACConfig
from cepcli.agents.networks import RunningSpread
from cepcli.agents.perceptrons import ActivationBuffer, Activations, Perceptrons, VectorAdam
from cepcli.agents.sac import (
    SquashedSample,
    lower_slope,
    lower_value,
    squashed_draw,
    squashed_gradient,
    squashed_sample,
)
from cepcli.datasets.control_replay import ControlReplay, ControlTransition, ReplayBatch
from cepcli.posterior import log_posterior, state_value
from cepcli.seeding import generator, stream_seed, torch_generator
from cepcli.workspace.checkpoint_files import take_over


class CriticErrors(NamedTuple):
    """What a gradient step knew of the critics before it: Q − y of each, and y."""

    error: Float[Tensor, "members batch"]
    target: Float[Tensor, " batch"]

    @property
    def loss(self) -> Float[Tensor, ""]:
        """½·Σ_i mean (Q_i − y)²."""
        return 0.5 * self.error.square().mean(1).sum()

    @property
    def td_error(self) -> Float[Tensor, ""]:
        """Mean |Q_i − y|."""
        return self.error.abs().mean()

    @property
    def q_mean(self) -> Float[Tensor, ""]:
        """Mean Q of what was done."""
        return self.error.mean() + self.target.mean()


class HybridSAC:
    """Actor, twin critics, their targets, entropy weight and replay of one control task.

    Attributes:
        nominal: whether symbols suggest controls, from which the actor departs.
    """

    def __init__(
        self,
        config: SACConfig,
        *,
        features: int,
        controls: int,
        symbols: int,
        nominal: bool,
        q_range: float | None,
        seed: int,
        device: str = "cpu",
    ) -> None:
        """Args: `q_range` is the spread that Q is brought to across symbols, None to leave it."""
        self._config = config
        self._features, self._controls, self._symbols = features, controls, symbols
        self.nominal = nominal
        self._q_range = q_range
        self._device = device
        self._one_hot = torch.eye(symbols, symbols if symbols > 1 else 0, device=device)
        self._known = known = features + self._one_hot.shape[1]
        hidden, rows = config.hidden, config.batch_size
        self.actor = Perceptrons(1, (known, hidden, 2 * controls), device)
        self.critics = Perceptrons(2, (known + controls, hidden, 1), device)
        self.targets = Perceptrons(2, (known + controls, hidden, 1), device)
        self.log_alpha = torch.full((1,), math.log(config.entropy_weight), device=device)
        start = torch.Generator().manual_seed(stream_seed(seed, "network"))
        for network in [*self.actor.members, *self.critics.members]:
            network.initialise(start, unheeded=slice(features, known))
        self.targets.parameters.copy_(self.critics.parameters)
        self._alpha_gradient = torch.zeros(1, device=device)
        rate = config.learning_rate
        self._critic_adam = VectorAdam(rate, (self.critics.parameters, self.critics.gradient))
        self._actor_adam = VectorAdam(
            rate,
            (self.actor.parameters, self.actor.gradient),
            (self.log_alpha, self._alpha_gradient),
        )
        self.replay = ControlReplay(
            config.replay_capacity, features, controls, symbols, nominal=nominal
        )
        self._sampling = generator(seed, "replay")
        self._noise = torch_generator(seed, "update-noise")
        self._waiting: list[ControlTransition | None] = [None] * config.envs
        self._spread = RunningSpread()
        self.steps = 0
        self.updates = 0
        # one memory is for all that need not last: what is used often stays in the cache
        self._brief = ActivationBuffer(rows * symbols, hidden, device)
        self._lasting, self._judging, self._gathering = (
            ActivationBuffer(rows, hidden, device, slope=self._brief.slope) for _ in range(3)
        )

    @property
    def scale(self) -> float:
        """Running mean of Q's spread across symbols; 0 where there is one symbol."""
        return self._spread.mean

    @property
    def alpha(self) -> float:
        """The entropy weight."""
        return math.exp(float(self.log_alpha))

    @property
    def warming_up(self) -> bool:
        """Whether controls are still uniform."""
        return self.steps < self._config.learning_starts

    @property
    def _gain(self) -> float:
        """g; 0 as long as no spread is known, so that the prior alone chooses the first symbols."""
        if self._q_range is None:
            return 1.0
        return self._spread.gain(self._q_range) if self._spread.mean else 0.0

    # -- acting --------------------------------------------------------------------------------

    def symbol_values(
        self,
        observation: Float[ndarray, " features"],
        nominals: Float[ndarray, "symbols controls"] | None,
        noise: torch.Generator | None,
    ) -> Float[Tensor, " symbols"]:
        """g·Q(s,a) of every symbol, one draw of u each: what the posterior takes.

        Of the mean control, tanh μ, where `noise` is None.
        """
        row = torch.from_numpy(observation).float().to(self._device)
        known = torch.cat([row.expand(self._symbols, -1), self._one_hot], dim=1)
        sample = self._sample(known, self._brief.of(len(known)), noise)
        offered = None
        if nominals is not None:
            offered = torch.from_numpy(nominals).float().to(self._device)
        pairs = torch.cat([known, self._applied(sample.control, offered)], dim=1)
        values = self._lower(self.critics, pairs)
        return self._gain * (values - self.log_alpha.exp() * sample.log_prob).cpu()

    def control(
        self,
        observation: Float[ndarray, " features"],
        symbol: int,
        nominal: Float[ndarray, " controls"] | None,
        noise: torch.Generator | None,
    ) -> Float[ndarray, " controls"]:
        """The control to apply while `symbol` is held, in [−1, 1].

        Uniform while the replay warms up; the mean, tanh μ, where `noise` is None.
        """
        if noise is not None and self.warming_up:
            control = torch.rand(1, self._controls, generator=noise).mul_(2.0).sub_(1.0)
            control = control.to(self._device)
        else:
            row = torch.from_numpy(observation).float().to(self._device)
            known = torch.cat([row, self._one_hot[symbol]])[None]
            output = self.actor.members[0].forward(known, self._brief.of(1))
            control = squashed_draw(output, None if noise is None else self._draw(1, noise))
        offered = None
        if nominal is not None:
            offered = torch.from_numpy(nominal).float().to(self._device)
        return self._applied(control, offered)[0].cpu().numpy()

    def _sample(
        self,
        known: Float[Tensor, "rows known"],
        activations: Activations,
        noise: torch.Generator | None,
    ) -> SquashedSample:
        """A control for each of these states and symbols; the mean one without noise."""
        output = self.actor.members[0].forward(known, activations)
        if noise is None:
            return squashed_sample(output, output.new_zeros(len(known), self._controls))
        return squashed_sample(output, self._draw(len(known), noise))

    def _draw(self, rows: int, noise: torch.Generator) -> Float[Tensor, "rows controls"]:
        return torch.randn(rows, self._controls, generator=noise).to(self._device)

    def _applied(
        self, control: Float[Tensor, "rows controls"], nominal: Tensor | None
    ) -> Float[Tensor, "rows controls"]:
        """What reaches the world: the actor's control, or its residual on the nominal one."""
        if nominal is None:
            return control
        return torch.add(nominal, control, alpha=self._config.residual).clamp_(-1.0, 1.0)

    def _lower(
        self, critics: Perceptrons, pairs: Float[Tensor, "rows inputs"]
    ) -> Float[Tensor, " rows"]:
        """The smaller of two critics' values."""
        return lower_value(critics, pairs, self._brief.of(len(pairs)))

    # -- remembering ---------------------------------------------------------------------------

    def arrive(self, log_prior: Float[ndarray, " symbols"], env: int = 0) -> None:
        """The prior where the next symbol is chosen; completes that environment's transition."""
        waiting = self._waiting[env]
        if waiting is not None:
            self.replay.add(waiting._replace(next_log_prior=log_prior))
            self._waiting[env] = None

    def step(self, transition: ControlTransition, *, boundary: bool, env: int = 0) -> None:
        """What was done and what came of it.

        Args:
            transition: without `next_log_prior`.
            boundary: whether the next symbol will be chosen in the next state: `arrive` brings its
                prior. False where the episode ended.
            env: in which of the environments that learn together.
        """
        self.steps += 1
        if boundary and self._symbols > 1:
            self._waiting[env] = transition
        else:
            self.replay.add(transition)

    # -- learning ------------------------------------------------------------------------------

    def learn(self, temperature: float) -> CriticErrors | None:
        """The gradient steps that follow a control step, or None while the replay warms up."""
        if self.warming_up or len(self.replay) == 0:
            return None
        errors = None
        for _ in range(self._config.gradient_steps):
            batch = self.replay.sample(self._config.batch_size, self._sampling, self._device)
            self._relabel(batch)
            errors = self.update(batch, temperature)
        return errors

    def _relabel(self, batch: ReplayBatch) -> None:
        """Let a share of the batch be as if other symbols had been held; see the module."""
        share = self._config.relabel
        if self._symbols == 1 or self.nominal or not share:
            return
        size = len(batch.reward)
        drawn = torch.from_numpy(self._sampling.integers(self._symbols, size=size))
        chosen = torch.from_numpy(self._sampling.random(size) < share)
        held = batch.pairs[:, self._features : self._known]
        held[chosen] = self._one_hot[drawn[chosen]]

    def update(self, batch: ReplayBatch, temperature: float) -> CriticErrors:
        """One gradient step of everything on `batch`; τ weighs the symbols in the target."""
        alpha = self.log_alpha.exp()
        errors = self._critic_step(batch.pairs, self._target(batch, alpha, temperature))
        if not self.nominal or self.steps >= self._config.residual_starts:
            self._actor_step(batch, alpha)
        self.targets.parameters.lerp_(self.critics.parameters, self._config.polyak)
        self.updates += 1
        return errors

    def _target(
        self, batch: ReplayBatch, alpha: Tensor, temperature: float
    ) -> Float[Tensor, " batch"]:
        """The target r + γ·(1 − terminated)·V(s′); see the module's docstring."""
        size, boundaries = len(batch.reward), len(batch.next_log_prior)
        known = self._upcoming(batch)
        sample = self._sample(known, self._brief.of(len(known)), self._noise)
        control = self._applied(sample.control, self._upcoming_nominals(batch))
        values = self._lower(self.targets, torch.cat([known, control], dim=1))
        values = values.addcmul_(alpha, sample.log_prob, value=-1.0)
        if boundaries:
            inside = size - boundaries
            by_symbol = values[inside:].view(boundaries, self._symbols)
            log_probs = log_posterior(batch.next_log_prior, self._gain * by_symbol, temperature)
            values = torch.cat([values[:inside], state_value(log_probs, by_symbol)])
            self._spread.update(float((by_symbol.amax(-1) - by_symbol.amin(-1)).mean()))
        return torch.addcmul(batch.reward, batch.continues, values, value=self._config.discount)

    def _upcoming(self, batch: ReplayBatch) -> Float[Tensor, "rows known"]:
        """The next states: those inside a hold, then each of the others under every symbol."""
        if self._symbols == 1:
            return batch.next_observation
        inside = len(batch.reward) - len(batch.next_log_prior)
        held = batch.pairs[:, self._features : self._known]
        upcoming = torch.cat([batch.next_observation, held], dim=1)
        chosen = upcoming[inside:, None].repeat(1, self._symbols, 1)
        chosen[..., self._features :] = self._one_hot
        return torch.cat([upcoming[:inside], chosen.flatten(0, 1)])

    def _upcoming_nominals(self, batch: ReplayBatch) -> Tensor | None:
        """Nominal controls of the rows that the target needs, in their order."""
        if not self.nominal:
            return None
        inside = len(batch.reward) - len(batch.next_log_prior)
        nominals = batch.next_nominals
        held = nominals[:inside, 0]
        if self._symbols > 1:
            one_hot = batch.pairs[:inside, self._features : self._known]
            held = (one_hot[..., None] * nominals[:inside]).sum(1)
        return torch.cat([held, nominals[inside:].flatten(0, 1)])

    def _critic_step(
        self, pairs: Float[Tensor, "batch inputs"], target: Float[Tensor, " batch"]
    ) -> CriticErrors:
        activations, size = self._brief.of(len(pairs)), len(pairs)
        errors = []
        for critic in self.critics.members:
            error = critic.forward(pairs, activations).sub(target[:, None])
            critic.backward(pairs, activations, error / size)
            errors.append(error)
        self._critic_adam.step()
        return CriticErrors(torch.cat(errors, dim=1).T, target)

    def _actor_step(self, batch: ReplayBatch, alpha: Tensor) -> None:
        size = len(batch.reward)
        known, activations = batch.pairs[:, : self._known], self._lasting.of(size)
        sample = self._sample(known, activations, self._noise)
        control = self._applied(sample.control, batch.nominal if self.nominal else None)
        # ∂(−mean Q)/∂u, where nothing flows through a control that was clipped
        d_control = self._slope_of_lower(torch.cat([known, control], dim=1)).mul_(-1.0 / size)
        if self.nominal:
            d_control.mul_((control.abs() < 1.0) * self._config.residual)
        d_output = squashed_gradient(sample, d_control, alpha / size)
        self.actor.members[0].backward(known, activations, d_output)
        target_entropy = self._config.entropy_per_control * self._controls
        torch.mean(sample.log_prob, 0, keepdim=True, out=self._alpha_gradient)
        self._alpha_gradient.add_(target_entropy).neg_()
        self._actor_adam.step()

    def _slope_of_lower(
        self, pairs: Float[Tensor, "batch inputs"]
    ) -> Float[Tensor, "batch controls"]:
        """∂ min_i Q_i/∂u."""
        passes = (self._brief.of(len(pairs)), self._judging.of(len(pairs)))
        return lower_slope(self.critics, pairs, slice(self._known, None), passes, self._gathering)[
            1
        ]

    # -- checkpoints ---------------------------------------------------------------------------

    @property
    def _tensors(self) -> dict[str, Tensor]:
        """Everything that gradient steps change, in place."""
        return {
            "actor": self.actor.parameters,
            "critics": self.critics.parameters,
            "targets": self.targets.parameters,
            "log_alpha": self.log_alpha,
            **{f"critic_adam.{k}": v for k, v in self._critic_adam.state().items()},
            **{f"actor_adam.{k}": v for k, v in self._actor_adam.state().items()},
        }

    def state(self) -> tuple[dict[str, Tensor], dict[str, ndarray], dict[str, Any]]:
        """Tensors, arrays and JSON values that hold everything, for a checkpoint."""
        tensors = {name: tensor.cpu().clone() for name, tensor in self._tensors.items()}
        tensors["noise_rng"] = self._noise.get_state()
        scalars = {
            "steps": self.steps,
            "updates": self.updates,
            "spread": self._spread.state(),
            "sampling": self._sampling.bit_generator.state,
            "waiting": [each and each.as_json() for each in self._waiting],
        }
        return tensors, self.replay.state(), scalars

    def restore(
        self, tensors: dict[str, Tensor], arrays: dict[str, ndarray], scalars: dict[str, Any]
    ) -> None:
        """Take over what `state` returned."""
        noise = self._noise.get_state()
        take_over(tensors, {**self._tensors, "noise_rng": noise})
        self._noise.set_state(noise)
        self.replay.restore(arrays)
        self.steps, self.updates = scalars["steps"], scalars["updates"]
        self._spread.restore(scalars["spread"])
        self._sampling.bit_generator.state = scalars["sampling"]
        self._waiting = [
            values and ControlTransition.from_json(values) for values in scalars["waiting"]
        ]
