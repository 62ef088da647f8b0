"""What offline learners of control are held against: cloning, IQL and TD3+BC.

- `ControlBC` clones the data's controls: mean ‖tanh m(s) − u‖².
- `ControlIQL` (Kostrikov et al., arXiv 2110.06169): V is an expectile of the smaller target critic
  at the data's controls, the critics bootstrap from V, and the policy N(tanh m(s), σ) with one σ
  for all states is cloned with weights exp(β·(Q − V)).
- `ControlTD3BC` (Fujimoto and Gu, arXiv 2106.06860): TD3, whose actor minimises
  mean ‖u_π − u‖² − λ·mean Q₁(s,u_π), λ = α/mean |Q₁|, every second step.

Each takes fresh `Networks`, and acts by their mean control tanh m(s).
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from cepcli.agents.offline_networks import Networks, fit_critics
from cepcli.agents.twin_critics import lower_value
from cepcli.datasets.batches import ControlBatch

#: Bounds on the log of IQL's σ, those of its authors and of d3rlpy.
_LOG_STD_BOUNDS = (-5.0, 2.0)


class ControlBC:
    """Clones the data's controls."""

    def __init__(self, networks: Networks) -> None:
        self._networks, self.actor = networks, networks.actor
        self._adam = networks.adam(
            "actor",
            networks.config.control.actor_rate,
            (self.actor.parameters, self.actor.gradient),
        )
        self.control, self.state, self.restore = networks.control, networks.state, networks.restore

    def update(self, batch: ControlBatch) -> dict[str, Tensor]:
        """One gradient step; what it knew before it, by the name of a metric."""
        networks = self._networks
        control = networks.mean_control(self.actor, batch.observation)
        error = control - batch.control
        networks.actor_backward(batch.observation, control, (2.0 / error.numel()) * error)
        self._adam.step()
        networks.updates += 1
        return {"train/policy_loss": error.square().mean()}


class ControlIQL:
    """Implicit Q-learning."""

    def __init__(self, networks: Networks) -> None:
        self._networks, self.actor = networks, networks.actor
        self._config, section = networks.config, networks.config.control
        self.critics = networks.make_critics()
        self.value = networks.make("value", 1, networks.features, 1)
        self.targets = networks.copy("targets", self.critics)
        zeros = torch.zeros(networks.controls, device=networks.device)
        self.log_std, self.d_log_std = networks.keep("log_std", zeros), zeros.clone()
        self._actor_adam = networks.adam(
            "actor",
            section.actor_rate,
            (self.actor.parameters, self.actor.gradient),
            (self.log_std, self.d_log_std),
        )
        self._critic_adam = networks.adam(
            "critic",
            section.critic_rate,
            (self.critics.parameters, self.critics.gradient),
            (self.value.parameters, self.value.gradient),
        )
        self.control, self.state, self.restore = networks.control, networks.state, networks.restore

    def update(self, batch: ControlBatch) -> dict[str, Tensor]:
        """One gradient step of V, the critics and the policy, with the values of before it."""
        config, section = self._config.iql, self._config.control
        size = len(batch.reward)
        room = self._networks.rooms.of(size)
        pairs = torch.cat([batch.observation, batch.control], 1)
        value = self.value.members[0]
        following = value.forward(batch.next_observation, room)[:, 0]
        lowest = lower_value(self.targets, pairs, room)
        advantage = lowest - value.forward(batch.observation, room)[:, 0]
        share = torch.where(advantage < 0, 1.0 - config.expectile, config.expectile)
        value.backward(batch.observation, room, (share * advantage).mul_(-2.0 / size)[:, None])
        target = batch.bootstrapped(following, section.discount)
        fit = fit_critics(self.critics, pairs, target, room)
        policy_loss = self._clone(batch, advantage)
        self._critic_adam.step()
        self.targets.parameters.lerp_(self.critics.parameters, section.polyak)
        self._networks.updates += 1
        return {
            "train/td_loss": fit.td_loss,
            "train/value_loss": (share * advantage.square()).mean(),
            "train/policy_loss": policy_loss,
            "train/q_mean": lowest.mean(),
        }

    def _clone(self, batch: ControlBatch, advantage: Float[Tensor, " batch"]) -> Float[Tensor, ""]:
        """A step of the policy on −mean w·log N(u; tanh m(s), σ)."""
        config = self._config.iql
        weight = (config.inverse_temperature * advantage).exp_().clamp_(max=config.largest_weight)
        mean = self._networks.mean_control(self.actor, batch.observation)
        std = self.log_std.exp()
        scaled = (batch.control - mean) / std
        weight = weight[:, None] / len(mean)
        self._networks.actor_backward(batch.observation, mean, -weight * (scaled / std))
        self.d_log_std.copy_((weight * (1.0 - scaled.square())).sum(0))
        constant = 0.5 * math.log(2.0 * math.pi)
        loss = (weight * (0.5 * scaled.square() + self.log_std + constant)).sum()
        self._actor_adam.step()
        self.log_std.clamp_(*_LOG_STD_BOUNDS)
        return loss


class ControlTD3BC:
    """TD3 with behaviour cloning."""

    def __init__(self, networks: Networks) -> None:
        self._networks, self.actor = networks, networks.actor
        self._config, section = networks.config, networks.config.control
        self.critics = networks.make_critics()
        self.actor_target = networks.copy("actor_target", self.actor)
        self.targets = networks.copy("targets", self.critics)
        self._actor_adam = networks.adam(
            "actor", section.actor_rate, (self.actor.parameters, self.actor.gradient)
        )
        self._critic_adam = networks.adam(
            "critic", section.critic_rate, (self.critics.parameters, self.critics.gradient)
        )
        self._judging, self._free = networks.more_rooms(), networks.more_rooms()
        self.control, self.state, self.restore = networks.control, networks.state, networks.restore

    def update(self, batch: ControlBatch) -> dict[str, Tensor]:
        """A step of the critics and, every few, of the actor and the targets."""
        networks, section = self._networks, self._config.control
        target = self._target(batch)
        pairs = torch.cat([batch.observation, batch.control], 1)
        fit = fit_critics(self.critics, pairs, target, networks.rooms.of(len(target)))
        self._critic_adam.step()
        networks.updates += 1
        if networks.updates % self._config.td3_bc.actor_interval == 0:
            self._actor_step(batch)
            self.targets.parameters.lerp_(self.critics.parameters, section.polyak)
            self.actor_target.parameters.lerp_(self.actor.parameters, section.polyak)
        return {"train/td_loss": fit.td_loss, "train/q_mean": fit.q_mean}

    def _target(self, batch: ControlBatch) -> Float[Tensor, " batch"]:
        """Y = r + γ·(1 − terminated)·min Q̄(s′, clip(m̄(s′) + noise))."""
        networks = self._networks
        control = networks.mean_control(self.actor_target, batch.next_observation)
        control.add_(self._noise(len(control))).clamp_(-1.0, 1.0)
        pairs = torch.cat([batch.next_observation, control], 1)
        values = lower_value(self.targets, pairs, networks.rooms.of(len(pairs)))
        return batch.bootstrapped(values, self._config.control.discount)

    def _noise(self, rows: int) -> Float[Tensor, "rows controls"]:
        """What is added to the target's control."""
        config, networks = self._config.td3_bc, self._networks
        noise = torch.randn(rows, networks.controls, generator=networks.noise).to(networks.device)
        return noise.mul_(config.noise).clamp_(-config.noise_clip, config.noise_clip)

    def _actor_step(self, batch: ControlBatch) -> None:
        networks, size = self._networks, len(batch.reward)
        judging = self._judging.of(size)
        control = networks.mean_control(self.actor, batch.observation)
        pairs = torch.cat([batch.observation, control], 1)
        first = self.critics.members[0]
        q_values = first.forward(pairs, judging)[:, 0]
        every = torch.arange(size, device=networks.device)
        slope = first.input_gradient(
            judging, every, slice(networks.features, None), self._free.of(size)
        )
        # λ is a number, through which nothing flows
        weight = self._config.td3_bc.weight / q_values.abs().mean()
        d_control = (2.0 / control.numel()) * (control - batch.control) - (weight / size) * slope
        networks.actor_backward(batch.observation, control, d_control)
        self._actor_adam.step()
