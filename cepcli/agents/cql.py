"""Conservative Q-learning of continuous control, plain (`cql`) and by a prior (`cql-prior`).

It is soft actor-critic on a dataset's transitions, with the regulariser of
`cepcli.agents.conservative` in the critics' loss:

    mean (Q_i − y)² + α′·w·(mean [T·log Σ exp((Q_i + …)/T) − Q_i(s, a_data)] − τ′)

w is `cql.weight`; with `cql.lagrange` the factor α′ rises as long as the regulariser is above the
threshold τ′, else it is 1 and there is no τ′. The actor's loss is soft actor-critic's.

**With symbols** the actor is π_θ(u|s,a), the symbol a one-hot beside the observation as in
`cepcli.agents.hybrid_sac`, and weights of the symbol's inputs begin at 0. The critics are those of
controls alone: a dataset does not say which symbol its controls were meant by. A symbol is then a
way of proposing controls:

- the regulariser is over the controls that the prior proposes;
- the actor learns under a symbol drawn from p̂(·|s);
- y takes the best of `symbols.candidates` mean controls at s′, their symbols drawn from p̂(·|s′)
  (best of a few draws of a prior: Ghasemipour et al., arXiv 2007.11091; Yan et al., 2410.07927);
- acting takes the mean control of the symbol that the critics value most, which asks no prior.

An update takes critics first, then the actor and the entropy weight, then the targets, all with the
entropy weight of before. Gradients are written out by hand (`cepcli.agents.perceptrons`).
"""

import math
from typing import Any

import torch
from jaxtyping import Float, Int
from numpy import ndarray
from torch import Tensor

from cepcli.agents.conservative import PushDown
from cepcli.agents.offline_config import OfflineConfig
from cepcli.agents.perceptrons import Perceptron, Perceptrons, Rooms, VectorAdam
from cepcli.agents.squashed_gaussian import squashed_draw, squashed_gradient, squashed_sample
from cepcli.agents.twin_critics import lower_slope, lower_value
from cepcli.datasets.batches import ControlBatch
from cepcli.seeding import stream_seed, torch_generator
from cepcli.workspace.checkpoint_files import take_over

#: Largest factor that `lagrange` may find, as in every published implementation.
_LARGEST_FACTOR = 1e6


class ControlCQL:
    """Actor, twin critics, their targets, entropy weight and conservative factor."""

    def __init__(
        self,
        config: OfflineConfig,
        *,
        features: int,
        controls: int,
        symbols: int = 0,
        seed: int,
        device: str = "cpu",
    ) -> None:
        """Args: `symbols` is how many there are; 0 for plain conservative Q-learning."""
        self._config = config
        self._features, self._controls, self._symbols = features, controls, symbols
        self._device = device
        section = config.control
        hidden, rows = section.hidden, section.batch_size
        self._one_hot = torch.eye(symbols, device=device)
        self._known = features + symbols
        self.actor = Perceptrons(1, (self._known, hidden, 2 * controls), device)
        self.critics = Perceptrons(2, (features + controls, hidden, 1), device)
        self.targets = Perceptrons(2, (features + controls, hidden, 1), device)
        start = torch.Generator().manual_seed(stream_seed(seed, "network"))
        for network in self.critics.members:
            network.initialise(start)
        self.actor.members[0].initialise(start, unheeded=slice(features, self._known))
        self.targets.parameters.copy_(self.critics.parameters)
        self.log_alpha = torch.full((1,), math.log(section.entropy_weight), device=device)
        self.log_factor = torch.zeros(1, device=device)
        self._alpha_gradient = torch.zeros(1, device=device)
        self._factor_gradient = torch.zeros(1, device=device)
        self._critic_adam = VectorAdam(
            section.critic_rate, (self.critics.parameters, self.critics.gradient)
        )
        self._actor_adam = VectorAdam(
            section.actor_rate, (self.actor.parameters, self.actor.gradient)
        )
        self._alpha_adam = VectorAdam(section.entropy_rate, (self.log_alpha, self._alpha_gradient))
        self._factor_adam = VectorAdam(
            config.cql.lagrange_rate, (self.log_factor, self._factor_gradient)
        )
        self._noise = torch_generator(seed, "update-noise")
        copies = config.cql.samples if config.cql.backup == "max" else 1
        if symbols:
            copies = max(config.symbols.samples or symbols, config.symbols.candidates)
        self._brief = Rooms(max(rows * copies, symbols), hidden, device)
        self._lasting, self._judging, self._gathering = (
            Rooms(rows, hidden, device, slope=self._brief.slope) for _ in range(3)
        )
        self._push_down = PushDown(features + controls, hidden, device)
        self.updates = 0

    # -- acting --------------------------------------------------------------------------------

    def control(self, observation: Float[Tensor, "1 features"]) -> Float[ndarray, " controls"]:
        """The mean control; with symbols that of the one which the critics value most."""
        if not self._symbols:
            return self._means(observation)[0].cpu().numpy()
        repeated = observation.expand(self._symbols, -1)
        means = self._means(torch.cat([repeated, self._one_hot], 1))
        pairs = torch.cat([repeated, means], 1)
        values = lower_value(self.critics, pairs, self._brief.of(self._symbols))
        return means[values.argmax()].cpu().numpy()

    def _means(self, known: Float[Tensor, "rows known"]) -> Float[Tensor, "rows controls"]:
        room = self._brief.of(len(known))
        return squashed_draw(self.actor.members[0].forward(known, room), None)

    # -- learning ------------------------------------------------------------------------------

    def update(self, batch: ControlBatch) -> dict[str, Tensor]:
        """One gradient step of everything; what it knew before it, by the name of a metric.

        Losses are means over the batch and over the critics.
        """
        alpha = self.log_alpha.exp()
        factor = self.log_factor.exp().clamp(max=_LARGEST_FACTOR)
        target = self._target(batch, alpha)
        td_loss, q_mean, gap = self._critic_step(batch, target, float(factor))
        entropy = self._actor_step(batch, alpha)
        self.targets.parameters.lerp_(self.critics.parameters, self._config.control.polyak)
        self.updates += 1
        return {
            "train/td_loss": td_loss,
            "train/conservative_loss": gap,
            "train/conservative_factor": factor[0],
            "train/q_mean": q_mean,
            "train/entropy": entropy,
            "train/entropy_weight": alpha[0],
        }

    def _target(self, batch: ControlBatch, alpha: Tensor) -> Float[Tensor, " batch"]:
        """Y = r + γ·(1 − terminated)·V(s′); see the module's docstring and `cql.backup`."""
        config = self._config.cql
        known, copies = self._candidates(batch), 1
        if self._symbols:
            copies = self._config.symbols.candidates
        elif config.backup == "max":
            copies = config.samples
            known = known.repeat_interleave(copies, 0)
        output = self.actor.members[0].forward(known, self._brief.of(len(known)))
        following = batch.next_observation
        if copies > 1:
            following = following.repeat_interleave(copies, 0)
        entropy: Tensor | float = 0.0
        if config.backup == "mean":
            control = squashed_draw(output, None)
        elif config.backup == "soft":
            sample = squashed_sample(output, self._draw(len(output)))
            control, entropy = sample.control, alpha * sample.log_prob
        else:
            control = squashed_draw(output, self._draw(len(output)))
        pairs = torch.cat([following, control], 1)
        values = lower_value(self.targets, pairs, self._brief.of(len(pairs))) - entropy
        best = values.view(-1, copies).amax(1)
        return batch.bootstrapped(best, self._config.control.discount)

    def _candidates(self, batch: ControlBatch) -> Float[Tensor, "rows known"]:
        """The next states, each with every symbol that was drawn for it."""
        if not self._symbols:
            return batch.next_observation
        return self._under(
            batch.next_observation,
            self._drawn(batch.next_log_prior, self._config.symbols.candidates),
        )

    def _drawn(
        self, log_prior: Float[Tensor, "batch symbols"], count: int
    ) -> Int[Tensor, "batch count"]:
        """Symbols drawn from a prior, with replacement."""
        drawn = torch.multinomial(
            log_prior.exp().cpu(), count, replacement=True, generator=self._noise
        )
        return drawn.to(self._device)

    def _under(
        self, observation: Float[Tensor, "batch features"], symbols: Int[Tensor, "batch count"]
    ) -> Float[Tensor, "rows known"]:
        """Each state under each of its symbols, state by state."""
        states = observation.repeat_interleave(symbols.shape[1], 0)
        return torch.cat([states, self._one_hot[symbols.flatten()]], 1)

    def _draw(self, rows: int) -> Float[Tensor, "rows controls"]:
        return torch.randn(rows, self._controls, generator=self._noise).to(self._device)

    def proposals(
        self, batch: ControlBatch
    ) -> tuple[Float[Tensor, "batch draws controls"], Float[Tensor, "batch draws"]]:
        """The controls that the regulariser values in each state, and their log-weights."""
        return self._by_symbol(batch) if self._symbols else self._by_importance(batch)

    def _by_importance(
        self, batch: ControlBatch
    ) -> tuple[Float[Tensor, "batch draws controls"], Float[Tensor, "batch draws"]]:
        """Uniform draws, then the policy's in s, then the policy's in s′; w = −log density."""
        size, count = len(batch.reward), self._config.cql.samples
        uniform = torch.rand(size, count, self._controls, generator=self._noise)
        controls = [uniform.mul_(2.0).sub_(1.0).to(self._device)]
        weights = [controls[0].new_full((size, count), self._controls * math.log(2.0))]
        for known in (batch.observation, batch.next_observation):
            output = self.actor.members[0].forward(known, self._brief.of(size))
            repeated = output.repeat_interleave(count, 0)
            sample = squashed_sample(repeated, self._draw(size * count))
            controls.append(sample.control.view(size, count, -1))
            weights.append(-sample.log_prob.view(size, count))
        return torch.cat(controls, 1), torch.cat(weights, 1)

    def _by_symbol(
        self, batch: ControlBatch
    ) -> tuple[Float[Tensor, "batch draws controls"], Float[Tensor, "batch draws"]]:
        """A control a symbol, of every one weighed by the prior, or of some drawn from it."""
        size, wanted = len(batch.reward), self._config.symbols.samples
        temperature = self._config.cql.temperature
        if wanted is None:
            symbols = torch.arange(self._symbols, device=self._device).expand(size, -1)
            weights = temperature * batch.log_prior
        else:
            symbols = self._drawn(batch.log_prior, wanted)
            weights = batch.reward.new_full((size, wanted), -temperature * math.log(wanted))
        known = self._under(batch.observation, symbols)
        output = self.actor.members[0].forward(known, self._brief.of(len(known)))
        control = squashed_draw(output, self._draw(len(known)))
        return control.view(size, -1, self._controls), weights

    def _critic_step(
        self, batch: ControlBatch, target: Float[Tensor, " batch"], factor: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        """A step of the critics: TD loss, mean Q of the data, and the regulariser, weighted."""
        config, size = self._config.cql, len(target)
        controls, log_weights = self.proposals(batch)
        repeated = batch.observation[:, None].expand(-1, controls.shape[1], -1)
        draws = torch.cat([repeated, controls], 2).flatten(0, 1)
        pairs = torch.cat([batch.observation, batch.control], 1)
        weight = factor * config.weight
        losses, values, gaps = [], [], []
        for critic in self.critics.members:
            q_values = self._fit(critic, pairs, target, weight / size)
            soft = self._push_down.add(
                critic, draws, log_weights, temperature=config.temperature,
                factor=weight / size, share_floor=config.share_floor, noise=self._noise,
            )  # fmt: skip
            losses.append((q_values - target).square().mean())
            values.append(q_values.mean())
            gaps.append(config.weight * ((soft - q_values).mean()))
        self._critic_adam.step()
        gap = torch.stack(gaps).mean()
        if config.lagrange:
            gap = gap - config.weight * config.threshold
            # ∂(−α′·gap)/∂log α′
            self._factor_gradient.copy_(-factor * gap)
            self._factor_adam.step()
        return torch.stack(losses).mean(), torch.stack(values).mean(), gap

    def _fit(
        self,
        critic: Perceptron,
        pairs: Float[Tensor, "batch inputs"],
        target: Float[Tensor, " batch"],
        push_up: float,
    ) -> Float[Tensor, " batch"]:
        """The gradient of mean (Q − y)² and of what pushes the data's Q up; returns Q."""
        room = self._brief.of(len(pairs))
        q_values = critic.forward(pairs, room)
        slope = (q_values - target[:, None]).mul_(2.0 / len(pairs)).sub_(push_up)
        critic.backward(pairs, room, slope)
        return q_values[:, 0]

    def _actor_step(self, batch: ControlBatch, alpha: Tensor) -> Float[Tensor, ""]:
        """A step of the actor and of the entropy weight; returns the entropy before it."""
        size = len(batch.reward)
        known, room = batch.observation, self._lasting.of(size)
        if self._symbols:
            known = self._under(known, self._drawn(batch.log_prior, 1))
        sample = squashed_sample(self.actor.members[0].forward(known, room), self._draw(size))
        rooms = (self._brief.of(size), self._judging.of(size))
        pairs = torch.cat([batch.observation, sample.control], 1)
        _, slope = lower_slope(
            self.critics, pairs, slice(self._features, None), rooms, self._gathering
        )
        d_output = squashed_gradient(sample, slope.mul_(-1.0 / size), alpha / size)
        self.actor.members[0].backward(known, room, d_output)
        self._actor_adam.step()
        entropy = -sample.log_prob.mean()
        wanted = self._config.control.entropy_per_control * self._controls
        self._alpha_gradient.copy_(entropy - wanted)
        self._alpha_adam.step()
        return entropy

    # -- checkpoints ---------------------------------------------------------------------------

    @property
    def _tensors(self) -> dict[str, Tensor]:
        """Everything that gradient steps change, in place."""
        adams = {
            "critic_adam": self._critic_adam, "actor_adam": self._actor_adam,
            "alpha_adam": self._alpha_adam, "factor_adam": self._factor_adam,
        }  # fmt: skip
        return {
            "actor": self.actor.parameters,
            "critics": self.critics.parameters,
            "targets": self.targets.parameters,
            "log_alpha": self.log_alpha,
            "log_factor": self.log_factor,
            **{f"{n}.{k}": v for n, adam in adams.items() for k, v in adam.state().items()},
        }

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Tensors and JSON values that hold everything, for a checkpoint."""
        tensors = {name: tensor.cpu().clone() for name, tensor in self._tensors.items()}
        tensors["noise_rng"] = self._noise.get_state()
        return tensors, {"updates": self.updates}

    def restore(self, tensors: dict[str, Tensor], scalars: dict[str, Any]) -> None:
        """Take over what `state` returned."""
        noise = self._noise.get_state()
        take_over(tensors, {**self._tensors, "noise_rng": noise})
        self._noise.set_state(noise)
        self.updates = scalars["updates"]
