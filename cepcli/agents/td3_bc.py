"""TD3 with behaviour cloning (Fujimoto and Gu, arXiv 2106.06860), of controls.

The critics are TD3's. The actor minimises mean ‖u_π − u‖² − λ·mean Q₁(s, u_π), λ = α/mean |Q₁|, in
every second step, and acts by its mean control tanh m(s).
"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from typing_extensions import override

from cepcli.agents.offline_config import OfflineConfig
from cepcli.agents.offline_learner import ControlLearner
from cepcli.agents.perceptrons import step_down
from cepcli.datasets.batches import ControlBatch


class ControlTD3BC(ControlLearner):
    """Actor, twin critics and the targets of both."""

    def __init__(self, config: OfflineConfig, **shapes: Any) -> None:
        super().__init__(config, **shapes)
        self.actor = self.make("actor", 1, self.features, self.controls)
        self.critics, self.targets = self.make_critics()
        self.actor_target = self.blank("actor_target", 1, self.features, self.controls)
        self.actor_target.parameters.copy_(self.actor.parameters)
        self._actor_adam = self.adam("actor", config.control.actor_rate, self.actor.pair)
        self._critic_adam = self.adam("critic", config.control.critic_rate, self.critics.pair)

    @override
    def update(self, batch: ControlBatch) -> dict[str, Tensor]:
        """A step of the critics and, every few, of the actor and the targets."""
        target, leaf = self._target(batch), self.critics.leaf()
        pairs = torch.cat([batch.observation, batch.control], 1)
        q_values = self.critics.apply(pairs, leaf)[..., 0]
        errors = (q_values - target).square().mean(1)
        step_down(errors.sum(), leaf, self.critics, self._critic_adam)
        self.updates += 1
        if self.updates % self.config.td3_bc.actor_interval == 0:
            self._actor_step(batch)
            self.follow(self.targets, self.critics)
            self.follow(self.actor_target, self.actor)
        return {
            "train/td_loss": errors.detach().mean(), "train/q_mean": q_values.detach().mean()
        }  # fmt: skip

    def _target(self, batch: ControlBatch) -> Float[Tensor, " batch"]:
        """Y = r + γ·(1 − terminated)·min Q̄(s′, clip(m̄(s′) + noise))."""
        control = self.actor_target.apply(batch.next_observation)[0].tanh()
        control = (control + self._noise(len(control))).clamp(-1.0, 1.0)
        pairs = torch.cat([batch.next_observation, control], 1)
        lowest = self.targets.apply(pairs)[..., 0].amin(0)
        return batch.bootstrapped(lowest, self.config.control.discount)

    def _noise(self, rows: int) -> Float[Tensor, "rows controls"]:
        """What is added to the target's control."""
        config = self.config.td3_bc
        return self.draw(rows).mul_(config.noise).clamp_(-config.noise_clip, config.noise_clip)

    def _actor_step(self, batch: ControlBatch) -> None:
        leaf = self.actor.leaf()
        control = self.actor.apply(batch.observation, leaf)[0].tanh()
        q_values = self.critics.apply(torch.cat([batch.observation, control], 1))[0, :, 0]
        weight = self.config.td3_bc.weight / q_values.detach().abs().mean()  # λ, a number
        loss = (control - batch.control).square().mean() - weight * q_values.mean()
        step_down(loss, leaf, self.actor, self._actor_adam)
