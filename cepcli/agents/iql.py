"""Implicit Q-learning (Kostrikov et al., arXiv 2110.06169), of controls and of text.

V is an expectile of Q at the data's actions, Q bootstraps from V, and the policy is cloned with
weights exp(β·(Q − V)). Of controls it is N(tanh m(s), σ) with one σ for all states, and V is an
expectile of the smaller target critic; gradients are written by hand (`cepcli.agents.perceptrons`).
"""

import math
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from typing_extensions import override

from cepcli.agents.networks import td_loss
from cepcli.agents.offline_config import OfflineConfig
from cepcli.agents.offline_learner import ControlLearner, TextLearner, cloning_loss
from cepcli.agents.perceptrons import ActivationBuffer
from cepcli.agents.sac import lower_value
from cepcli.datasets.batches import ControlBatch, TextBatch, TextStates

#: Bounds on the log of σ, those of its authors and of d3rlpy.
_LOG_STD_BOUNDS = (-5.0, 2.0)


class ControlIQL(ControlLearner):
    """Actor, σ, twin critics, their targets and V."""

    def __init__(self, config: OfflineConfig, **shapes: Any) -> None:
        super().__init__(config, **shapes)
        self.actor = self.make("actor", 1, self.features, self.controls)
        section = config.control
        self.critics, self.targets = self.make_critics()
        self.value = self.make("value", 1, self.features, 1)
        self._buffer = ActivationBuffer(section.batch_size, section.hidden, self.device)
        zeros = torch.zeros(self.controls, device=self.device)
        self.log_std, self.d_log_std = self.store("log_std", zeros), zeros.clone()
        self._actor_adam = self.adam(
            "actor", section.actor_rate, self.actor.pair, (self.log_std, self.d_log_std)
        )
        self._critic_adam = self.adam(
            "critic", section.critic_rate, self.critics.pair, self.value.pair
        )

    @override
    def update(self, batch: ControlBatch) -> dict[str, Tensor]:
        """One gradient step of V, the critics and the policy, with the values of before it."""
        config, section = self.config.iql, self.config.control
        size = len(batch.reward)
        buffer = self._buffer.of(size)
        pairs = torch.cat([batch.observation, batch.control], 1)
        value = self.value.members[0]
        following = value.forward(batch.next_observation, buffer)[:, 0]
        lowest = lower_value(self.targets, pairs, buffer)
        advantage = lowest - value.forward(batch.observation, buffer)[:, 0]
        share = torch.where(advantage < 0, 1.0 - config.expectile, config.expectile)
        value.backward(batch.observation, buffer, (share * advantage).mul_(-2.0 / size)[:, None])
        target = batch.bootstrapped(following, section.discount)
        td_losses = []
        for critic in self.critics.members:
            error = critic.forward(pairs, buffer)[:, 0] - target
            critic.backward(pairs, buffer, error.mul(2.0 / size)[:, None])
            td_losses.append(error.square().mean())
        policy_loss = self._clone(batch, advantage)
        self._critic_adam.step()
        self.follow(self.targets, self.critics)
        self.updates += 1
        return {
            "train/td_loss": torch.stack(td_losses).mean(),
            "train/value_loss": (share * advantage.square()).mean(),
            "train/policy_loss": policy_loss,
            "train/q_mean": lowest.mean(),
        }

    def _clone(self, batch: ControlBatch, advantage: Float[Tensor, " batch"]) -> Float[Tensor, ""]:
        """A step of the policy on −mean w·log N(u; tanh m(s), σ)."""
        config, actor = self.config.iql, self.actor.members[0]
        buffer = self._buffer.of(len(batch.reward))
        weight = (config.inverse_temperature * advantage).exp_().clamp_(max=config.largest_weight)
        mean = actor.forward(batch.observation, buffer).tanh_()
        std = self.log_std.exp()
        scaled = (batch.control - mean) / std
        weight = weight[:, None] / len(mean)
        d_mean = -weight * (scaled / std)
        actor.backward(batch.observation, buffer, d_mean * (1.0 - mean.square()))
        self.d_log_std.copy_((weight * (1.0 - scaled.square())).sum(0))
        constant = 0.5 * math.log(2.0 * math.pi)
        loss = (weight * (0.5 * scaled.square() + self.log_std + constant)).sum()
        self._actor_adam.step()
        self.log_std.clamp_(*_LOG_STD_BOUNDS)
        return loss


class TextIQL(TextLearner):
    """Ensemble of Q, V and the policy."""

    names = ("q", "value", "policy")

    @override
    @torch.no_grad()
    def scores(self, states: TextStates) -> Float[Tensor, "batch actions"]:
        return self.policy(states)

    @override
    def loss(self, batch: TextBatch) -> tuple[Tensor, dict[str, Tensor]]:
        config = self.config.iql
        with torch.no_grad():
            lowest = self.values("target", batch.state).amin(0)
            chosen = lowest.gather(-1, batch.chosen[:, None])[:, 0]
            following = self._value(batch.next_state)
            target = batch.reward + self.section.discount * batch.continues * following
        advantage = chosen - self._value(batch.state)
        value_loss = expectile_loss(advantage, config.expectile)
        q_values = self.values("q", batch.state)
        fit = td_loss(q_values, batch.chosen, target.expand(len(q_values), -1))
        weight = (config.inverse_temperature * advantage.detach()).exp()
        cloning = cloning_loss(self, batch, weight.clamp(max=config.largest_weight))
        return fit.loss + value_loss + cloning, {
            "train/policy_loss": cloning,
            "train/td_loss": fit.loss,
            "train/value_loss": value_loss,
            "train/q_mean": fit.q_mean,
        }

    def _value(self, states: TextStates) -> Float[Tensor, " batch"]:
        """V(s): the network's answer to no action at all."""
        nothing = states.actions.new_zeros(len(states.goal), 1, states.actions.shape[2])
        return self.networks["value"](states.goal, states.text, nothing)[0, :, 0]


def expectile_loss(difference: Tensor, expectile: float) -> Float[Tensor, ""]:
    """Mean |τ − 1[u < 0]|·u² of u = Q − V."""
    weight = torch.where(difference < 0, 1.0 - expectile, expectile)
    return (weight * difference.square()).mean()
