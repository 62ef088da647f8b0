"""Conservative Q-learning of controls and of text, plain (`cql`) and by a prior (`cql-prior`).

docs/method.md has the formulas.

**Text.** Double Q-learning and the regulariser over admissible actions (Kumar et al., arXiv
2006.04779), weighed by the prior under `cql-prior`, which acts and bootstraps by π ∝ p̂·exp(Q/T).

**Controls.** Soft actor-critic on a dataset's transitions, with the regulariser of
`cepcli.agents.conservative` in the critics' loss:

    mean (Q_i − y)² + α′·w·(mean [T·log Σ exp((Q_i + …)/T) − Q_i(s, a_data)] − τ′)

w is `cql.weight`; with `cql.lagrange` the factor α′ rises as long as the regulariser is above the
threshold τ′, else it is 1 and there is no τ′.

**With symbols** the actor is π_θ(u|s,a), the symbol one-hot beside the observation, its weights 0
at the beginning. The critics are those of controls alone: a dataset does not say which symbol its
controls were meant by. A symbol is then a way of proposing controls:

- the regulariser is over the controls that the prior proposes;
- the actor learns under a symbol drawn from p̂(·|s);
- y takes the best of `symbols.candidates` mean controls at s′, their symbols drawn from p̂(·|s′)
  (best of a few draws of a prior: Ghasemipour et al., arXiv 2007.11091; Yan et al., 2410.07927);
- acting takes the mean control of the symbol that the critics value most, which asks no prior.

An update takes critics, then the actor and the entropy weight, then the targets, all with the
entropy weight of before. Gradients are written by hand (`cepcli.agents.perceptrons`).
"""

import math
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from numpy import ndarray
from torch import Tensor
from typing_extensions import override

from cepcli.agents.conservative import PushDown
from cepcli.agents.networks import td_loss
from cepcli.agents.offline_config import OfflineConfig
from cepcli.agents.offline_learner import ControlLearner, TextLearner
from cepcli.agents.perceptrons import ActivationBuffer, Perceptron
from cepcli.agents.sac import (
    lower_slope,
    lower_value,
    squashed_draw,
    squashed_gradient,
    squashed_sample,
)
from cepcli.datasets.batches import ControlBatch, TextBatch, TextStates
from cepcli.posterior import log_posterior, state_value

#: Largest factor that `lagrange` may find, as in every published implementation.
_LARGEST_FACTOR = 1e6


class ControlCQL(ControlLearner):
    """Actor, twin critics, their targets, entropy weight and conservative factor."""

    def __init__(self, config: OfflineConfig, *, symbols: int = 0, **shapes: Any) -> None:
        """Args: `symbols` is how many there are; 0 for plain conservative Q-learning."""
        super().__init__(config, **shapes)
        self._symbols, section = symbols, config.control
        hidden, rows, device = section.hidden, section.batch_size, self.device
        self._one_hot = torch.eye(symbols, device=device)
        known = self.features + symbols
        self.critics, self.targets = self.make_critics()
        self.actor = self.make(
            "actor", 1, known, 2 * self.controls, unheeded=slice(self.features, known)
        )
        start = math.log(section.entropy_weight)
        self.log_alpha = self.store("log_alpha", torch.full((1,), start, device=device))
        self.log_factor = self.store("log_factor", torch.zeros(1, device=device))
        self._alpha_gradient, self._factor_gradient = torch.zeros(2, 1, device=device)
        self._critic_adam = self.adam("critic", section.critic_rate, self.critics.pair)
        self._actor_adam = self.adam("actor", section.actor_rate, self.actor.pair)
        self._alpha_adam = self.adam(
            "alpha", section.entropy_rate, (self.log_alpha, self._alpha_gradient)
        )
        self._factor_adam = self.adam(
            "factor", config.cql.lagrange_rate, (self.log_factor, self._factor_gradient)
        )
        copies = config.cql.samples if config.cql.backup == "max" else 1
        if symbols:
            copies = max(config.symbols.samples or symbols, config.symbols.candidates)
        self._brief = ActivationBuffer(max(rows * copies, symbols), hidden, device)
        self._lasting, self._judging, self._gathering = (
            ActivationBuffer(rows, hidden, device, slope=self._brief.slope) for _ in range(3)
        )
        self._push_down = PushDown(self.features + self.controls, hidden, device)

    # -- acting --------------------------------------------------------------------------------

    @override
    def control(self, observation: Float[Tensor, "1 features"]) -> Float[ndarray, " controls"]:
        """The mean control; with symbols that of the one which the critics value most."""
        if not self._symbols:
            return super().control(observation)
        repeated = observation.expand(self._symbols, -1)
        known = torch.cat([repeated, self._one_hot], 1)
        means = squashed_draw(self.actor.apply(known)[0], None)
        pairs = torch.cat([repeated, means], 1)
        values = lower_value(self.critics, pairs, self._brief.of(self._symbols))
        return means[values.argmax()].cpu().numpy()

    # -- learning ------------------------------------------------------------------------------

    @override
    def update(self, batch: ControlBatch) -> dict[str, Tensor]:
        """One gradient step of everything; what it knew before it, by the name of a metric.

        Losses are means over the batch and over the critics.
        """
        alpha = self.log_alpha.exp()
        factor = self.log_factor.exp().clamp(max=_LARGEST_FACTOR)
        target = self._target(batch, alpha)
        fit, q_mean, gap = self._critic_step(batch, target, float(factor))
        entropy = self._actor_step(batch, alpha)
        self.follow(self.targets, self.critics)
        self.updates += 1
        return {
            "train/td_loss": fit,
            "train/conservative_loss": gap,
            "train/conservative_factor": factor[0],
            "train/q_mean": q_mean,
            "train/entropy": entropy,
            "train/entropy_weight": alpha[0],
        }

    def _target(self, batch: ControlBatch, alpha: Tensor) -> Float[Tensor, " batch"]:
        """Y = r + γ·(1 − terminated)·V(s′); see the module's docstring and `cql.backup`."""
        config = self.config.cql
        known, copies = self._candidates(batch), 1
        if self._symbols:
            copies = self.config.symbols.candidates
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
            sample = squashed_sample(output, self.draw(len(output)))
            control, entropy = sample.control, alpha * sample.log_prob
        else:
            control = squashed_draw(output, self.draw(len(output)))
        pairs = torch.cat([following, control], 1)
        values = lower_value(self.targets, pairs, self._brief.of(len(pairs))) - entropy
        best = values.view(-1, copies).amax(1)
        return batch.bootstrapped(best, self.config.control.discount)

    def _candidates(self, batch: ControlBatch) -> Float[Tensor, "rows known"]:
        """The next states, each with every symbol that was drawn for it."""
        if not self._symbols:
            return batch.next_observation
        return self._under(
            batch.next_observation,
            self._drawn(batch.next_log_prior, self.config.symbols.candidates),
        )

    def _drawn(
        self, log_prior: Float[Tensor, "batch symbols"], count: int
    ) -> Int[Tensor, "batch count"]:
        """Symbols drawn from a prior, with replacement."""
        drawn = torch.multinomial(
            log_prior.exp().cpu(), count, replacement=True, generator=self.noise
        )
        return drawn.to(self.device)

    def _under(
        self, observation: Float[Tensor, "batch features"], symbols: Int[Tensor, "batch count"]
    ) -> Float[Tensor, "rows known"]:
        """Each state under each of its symbols, state by state."""
        states = observation.repeat_interleave(symbols.shape[1], 0)
        return torch.cat([states, self._one_hot[symbols.flatten()]], 1)

    def proposals(
        self, batch: ControlBatch
    ) -> tuple[Float[Tensor, "batch draws controls"], Float[Tensor, "batch draws"]]:
        """The controls that the regulariser values in each state, and their log-weights."""
        return self._by_symbol(batch) if self._symbols else self._by_importance(batch)

    def _by_importance(
        self, batch: ControlBatch
    ) -> tuple[Float[Tensor, "batch draws controls"], Float[Tensor, "batch draws"]]:
        """Uniform draws, then the policy's in s, then the policy's in s′; w = −log density."""
        size, count = len(batch.reward), self.config.cql.samples
        uniform = torch.rand(size, count, self.controls, generator=self.noise)
        controls = [uniform.mul_(2.0).sub_(1.0).to(self.device)]
        weights = [controls[0].new_full((size, count), self.controls * math.log(2.0))]
        for known in (batch.observation, batch.next_observation):
            output = self.actor.members[0].forward(known, self._brief.of(size))
            repeated = output.repeat_interleave(count, 0)
            sample = squashed_sample(repeated, self.draw(size * count))
            controls.append(sample.control.view(size, count, -1))
            weights.append(-sample.log_prob.view(size, count))
        return torch.cat(controls, 1), torch.cat(weights, 1)

    def _by_symbol(
        self, batch: ControlBatch
    ) -> tuple[Float[Tensor, "batch draws controls"], Float[Tensor, "batch draws"]]:
        """A control a symbol, of every one weighed by the prior, or of some drawn from it."""
        size, wanted = len(batch.reward), self.config.symbols.samples
        temperature = self.config.cql.temperature
        if wanted is None:
            symbols = torch.arange(self._symbols, device=self.device).expand(size, -1)
            weights = temperature * batch.log_prior
        else:
            symbols = self._drawn(batch.log_prior, wanted)
            weights = batch.reward.new_full((size, wanted), -temperature * math.log(wanted))
        known = self._under(batch.observation, symbols)
        output = self.actor.members[0].forward(known, self._brief.of(len(known)))
        control = squashed_draw(output, self.draw(len(known)))
        return control.view(size, -1, self.controls), weights

    def _critic_step(
        self, batch: ControlBatch, target: Float[Tensor, " batch"], factor: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        """A step of the critics: TD loss, mean Q of the data, and the regulariser, weighted."""
        config, size = self.config.cql, len(target)
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
                factor=weight / size, share_floor=config.share_floor, noise=self.noise,
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
        activations = self._brief.of(len(pairs))
        q_values = critic.forward(pairs, activations)
        slope = (q_values - target[:, None]).mul_(2.0 / len(pairs)).sub_(push_up)
        critic.backward(pairs, activations, slope)
        return q_values[:, 0]

    def _actor_step(self, batch: ControlBatch, alpha: Tensor) -> Float[Tensor, ""]:
        """A step of the actor and of the entropy weight; returns the entropy before it."""
        size = len(batch.reward)
        known, activations = batch.observation, self._lasting.of(size)
        if self._symbols:
            known = self._under(known, self._drawn(batch.log_prior, 1))
        sample = squashed_sample(self.actor.members[0].forward(known, activations), self.draw(size))
        passes = (self._brief.of(size), self._judging.of(size))
        pairs = torch.cat([batch.observation, sample.control], 1)
        _, slope = lower_slope(
            self.critics, pairs, slice(self.features, None), passes, self._gathering
        )
        d_output = squashed_gradient(sample, slope.mul_(-1.0 / size), alpha / size)
        self.actor.members[0].backward(known, activations, d_output)
        self._actor_adam.step()
        entropy = -sample.log_prob.mean()
        wanted = self.config.control.entropy_per_control * self.controls
        self._alpha_gradient.copy_(entropy - wanted)
        self._alpha_adam.step()
        return entropy


class TextCQL(TextLearner):
    """An ensemble of Q; under `cql-prior` the prior weighs its actions."""

    names = ("q",)

    @property
    def _by_prior(self) -> bool:
        return self.config.algorithm == "cql-prior"

    @override
    @torch.no_grad()
    def scores(self, states: TextStates) -> Float[Tensor, "batch actions"]:
        q_values = self.values("q", states).mean(0)
        if self._by_prior:
            return log_posterior(states.log_prior, q_values, self.section.temperature)
        return q_values.masked_fill(states.log_prior.isneginf(), -torch.inf)

    @override
    def loss(self, batch: TextBatch) -> tuple[Tensor, dict[str, Tensor]]:
        q_values = self.values("q", batch.state)
        fit = td_loss(q_values, batch.chosen, self._target(batch))
        weights = batch.state.log_prior
        if not self._by_prior:
            weights = torch.where(weights.isneginf(), weights, 0.0)
        gap = conservative_loss(q_values, weights, batch.chosen, self.section.temperature)
        return fit.loss + self.section.weight * gap.loss, {
            "train/td_loss": fit.loss,
            "train/conservative_loss": gap.loss / self.section.members,
            "train/q_mean": fit.q_mean,
        }

    @torch.no_grad()
    def _target(self, batch: TextBatch) -> Float[Tensor, "members batch"]:
        """R + γ·V(s′): the online networks choose, the target networks value.

        `cql` takes the best action, `cql-prior` the policy p̂·exp(Q/T).
        """
        following, section = batch.next_state, self.section
        online = self.values("q", following).mean(0)
        valued = self.values("target", following)
        if self._by_prior:
            log_policy = log_posterior(following.log_prior, online, section.temperature)
            value = state_value(log_policy, valued)
        else:
            best = online.masked_fill(following.log_prior.isneginf(), -torch.inf).argmax(-1)
            value = valued.gather(-1, best[None, :, None].expand(len(valued), -1, -1))[..., 0]
        return batch.reward + section.discount * batch.continues * value


class ConservativeLoss(NamedTuple):
    """mean (T·log Σ_a p̂·exp(Q/T) − Q(s, a_data)), the sum of it over members, and the mean Q."""

    loss: Float[Tensor, ""]
    q_mean: Float[Tensor, ""]


def conservative_loss(
    q_values: Float[Tensor, "members batch actions"],
    log_weights: Float[Tensor, "batch actions"],
    chosen: Tensor,
    temperature: float,
) -> ConservativeLoss:
    """How much higher the best of a soft policy is valued than what the data did.

    Args:
        q_values: of every admissible action, and anything finite for padded ones.
        log_weights: log p̂, or 0 for every admissible action; −inf for padded ones.
        chosen: the data's action, as a column.
        temperature: T.
    """
    soft = temperature * (q_values / temperature + log_weights).logsumexp(-1)
    index = chosen[None, :, None].expand(len(q_values), -1, -1)
    data = q_values.gather(-1, index)[..., 0]
    return ConservativeLoss((soft - data).mean(1).sum(), data.mean())
