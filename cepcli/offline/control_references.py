"""What offline learners of control are held against: cloning, IQL and TD3+BC.

- `ControlBC` clones the data's controls: mean ‖tanh m(s) − u‖².
- `ControlIQL` (Kostrikov et al., arXiv 2110.06169): V is an expectile of the smaller target critic
  at the data's controls, the critics bootstrap from V, and the policy N(tanh m(s), σ) with one σ
  for all states is cloned with weights exp(β·(Q − V)).
- `ControlTD3BC` (Fujimoto and Gu, arXiv 2106.06860): TD3, whose actor minimises
  mean ‖u_π − u‖² − λ·mean Q₁(s,u_π), λ = α/mean |Q₁|, every second step.

Gradients are written out by hand (`cepcli.rl.perceptrons`).
"""

import math
from typing import Any

import torch
from jaxtyping import Float
from numpy import ndarray
from torch import Tensor

from cepcli.offline.batches import ControlBatch
from cepcli.offline.config import OfflineConfig
from cepcli.rl.perceptrons import Perceptrons, Rooms, VectorAdam
from cepcli.rl.twin_critics import lower_value
from cepcli.seeding import stream_seed, torch_generator

#: Bounds on the log of IQL's σ, those of its authors and of d3rlpy.
_LOG_STD_BOUNDS = (-5.0, 2.0)


class Networks:
    """Perceptrons of one hidden width by name, each with its optimiser; and what is learned beside.

    Attributes:
        noise: the generator of a learner's updates.
        updates: gradient steps so far.
    """

    def __init__(self, config: OfflineConfig, *, seed: int, device: str) -> None:
        self._hidden, self._device = config.control.hidden, device
        self._start = torch.Generator().manual_seed(stream_seed(seed, "network"))
        self._kept: dict[str, Tensor] = {}
        self.noise = torch_generator(seed, "update-noise")
        self.updates = 0

    def make(self, name: str, members: int, inputs: int, outputs: int) -> Perceptrons:
        """Fresh networks."""
        made = Perceptrons(members, (inputs, self._hidden, outputs), self._device)
        for network in made.members:
            network.initialise(self._start)
        self._kept[name] = made.parameters
        return made

    def copy(self, name: str, original: Perceptrons, inputs: int, outputs: int) -> Perceptrons:
        """The same networks again, to lag behind."""
        sizes = (inputs, self._hidden, outputs)
        made = Perceptrons(len(original.members), sizes, self._device)
        made.parameters.copy_(original.parameters)
        self._kept[name] = made.parameters
        return made

    def adam(self, name: str, rate: float, *pairs: tuple[Tensor, Tensor]) -> VectorAdam:
        """An optimiser of parameters with their gradients."""
        made = VectorAdam(rate, *pairs)
        self._kept |= {f"{name}_adam.{k}": tensor for k, tensor in made.state().items()}
        return made

    def keep(self, name: str, tensor: Tensor) -> Tensor:
        """Let checkpoints hold a tensor that is changed in place."""
        self._kept[name] = tensor
        return tensor

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Tensors and JSON values that hold everything, for a checkpoint."""
        tensors = {name: tensor.cpu().clone() for name, tensor in self._kept.items()}
        tensors["noise_rng"] = self.noise.get_state()
        return tensors, {"updates": self.updates}

    def restore(self, tensors: dict[str, Tensor], scalars: dict[str, Any]) -> None:
        """Take over what `state` returned."""
        for name, tensor in self._kept.items():
            tensor.copy_(tensors[name])
        self.noise.set_state(tensors["noise_rng"])
        self.updates = scalars["updates"]


class ControlBC:
    """Clones the data's controls."""

    def __init__(
        self,
        config: OfflineConfig,
        *,
        features: int,
        controls: int,
        seed: int,
        device: str = "cpu",
    ) -> None:
        self._networks = networks = Networks(config, seed=seed, device=device)
        self.actor = networks.make("actor", 1, features, controls)
        self._adam = networks.adam(
            "actor", config.control.actor_rate, (self.actor.parameters, self.actor.gradient)
        )
        self._rooms = Rooms(config.control.batch_size, config.control.hidden, device)
        self.state, self.restore = networks.state, networks.restore

    def control(self, observation: Float[Tensor, "1 features"]) -> Float[ndarray, " controls"]:
        """Tanh m(s)."""
        return mean_control(self.actor, observation, self._rooms)[0].cpu().numpy()

    def update(self, batch: ControlBatch) -> dict[str, Tensor]:
        """One gradient step; what it knew before it, by the name of a metric."""
        control = mean_control(self.actor, batch.observation, self._rooms)
        error = control - batch.control
        slope = (2.0 / error.numel()) * error * (1.0 - control.square())
        room = self._rooms.of(len(error))
        self.actor.members[0].backward(batch.observation, room, slope)
        self._adam.step()
        self._networks.updates += 1
        return {"train/policy_loss": error.square().mean()}


def mean_control(
    actor: Perceptrons, observation: Float[Tensor, "batch features"], rooms: Rooms
) -> Float[Tensor, "batch controls"]:
    """Tanh m(s)."""
    return actor.members[0].forward(observation, rooms.of(len(observation))).tanh_()


class ControlIQL:
    """Implicit Q-learning."""

    def __init__(
        self,
        config: OfflineConfig,
        *,
        features: int,
        controls: int,
        seed: int,
        device: str = "cpu",
    ) -> None:
        self._config = config
        self._networks = networks = Networks(config, seed=seed, device=device)
        section = config.control
        self.actor = networks.make("actor", 1, features, controls)
        self.critics = networks.make("critics", 2, features + controls, 1)
        self.value = networks.make("value", 1, features, 1)
        self.targets = networks.copy("targets", self.critics, features + controls, 1)
        self.log_std = networks.keep("log_std", torch.zeros(controls, device=device))
        self._d_log_std = torch.zeros(controls, device=device)
        self._actor_adam = networks.adam(
            "actor",
            section.actor_rate,
            (self.actor.parameters, self.actor.gradient),
            (self.log_std, self._d_log_std),
        )
        self._critic_adam = networks.adam(
            "critic",
            section.critic_rate,
            (self.critics.parameters, self.critics.gradient),
            (self.value.parameters, self.value.gradient),
        )
        self._rooms = Rooms(section.batch_size, section.hidden, device)
        self.state, self.restore = networks.state, networks.restore

    def control(self, observation: Float[Tensor, "1 features"]) -> Float[ndarray, " controls"]:
        """Tanh m(s)."""
        return mean_control(self.actor, observation, self._rooms)[0].cpu().numpy()

    def update(self, batch: ControlBatch) -> dict[str, Tensor]:
        """One gradient step of V, the critics and the policy, with the values of before it."""
        config, section = self._config.iql, self._config.control
        size = len(batch.reward)
        room = self._rooms.of(size)
        pairs = torch.cat([batch.observation, batch.control], 1)
        value = self.value.members[0]
        following = value.forward(batch.next_observation, room)[:, 0]
        target = torch.addcmul(batch.reward, batch.continues, following, value=section.discount)
        lowest = lower_value(self.targets, pairs, room)
        advantage = lowest - value.forward(batch.observation, room)[:, 0]
        share = torch.where(advantage < 0, 1.0 - config.expectile, config.expectile)
        value.backward(batch.observation, room, (share * advantage).mul_(-2.0 / size)[:, None])
        losses = []
        for critic in self.critics.members:
            error = critic.forward(pairs, room)[:, 0] - target
            critic.backward(pairs, room, error.mul(2.0 / size)[:, None])
            losses.append(error.square().mean())
        policy_loss = self._clone(batch, advantage)
        self._critic_adam.step()
        self.targets.parameters.lerp_(self.critics.parameters, section.polyak)
        self._networks.updates += 1
        return {
            "train/td_loss": torch.stack(losses).mean(),
            "train/value_loss": (share * advantage.square()).mean(),
            "train/policy_loss": policy_loss,
            "train/q_mean": lowest.mean(),
        }

    def _clone(self, batch: ControlBatch, advantage: Float[Tensor, " batch"]) -> Float[Tensor, ""]:
        """A step of the policy on −mean w·log N(u; tanh m(s), σ)."""
        config = self._config.iql
        weight = (config.inverse_temperature * advantage).exp_().clamp_(max=config.largest_weight)
        mean = mean_control(self.actor, batch.observation, self._rooms)
        std = self.log_std.exp()
        scaled = (batch.control - mean) / std
        weight = weight[:, None] / len(mean)
        slope = -weight * (scaled / std) * (1.0 - mean.square())
        room = self._rooms.of(len(mean))
        self.actor.members[0].backward(batch.observation, room, slope)
        self._d_log_std.copy_((weight * (1.0 - scaled.square())).sum(0))
        constant = 0.5 * math.log(2.0 * math.pi)
        loss = (weight * (0.5 * scaled.square() + self.log_std + constant)).sum()
        self._actor_adam.step()
        self.log_std.clamp_(*_LOG_STD_BOUNDS)
        return loss


class ControlTD3BC:
    """TD3 with behaviour cloning."""

    def __init__(
        self,
        config: OfflineConfig,
        *,
        features: int,
        controls: int,
        seed: int,
        device: str = "cpu",
    ) -> None:
        self._config = config
        self._features = features
        self._networks = networks = Networks(config, seed=seed, device=device)
        section = config.control
        self.actor = networks.make("actor", 1, features, controls)
        self.critics = networks.make("critics", 2, features + controls, 1)
        self.actor_target = networks.copy("actor_target", self.actor, features, controls)
        self.targets = networks.copy("targets", self.critics, features + controls, 1)
        self._actor_adam = networks.adam(
            "actor", section.actor_rate, (self.actor.parameters, self.actor.gradient)
        )
        self._critic_adam = networks.adam(
            "critic", section.critic_rate, (self.critics.parameters, self.critics.gradient)
        )
        size, hidden = section.batch_size, section.hidden
        self._rooms, self._judging, self._free = (Rooms(size, hidden, device) for _ in range(3))
        self.state, self.restore = networks.state, networks.restore
        self._device = device

    def control(self, observation: Float[Tensor, "1 features"]) -> Float[ndarray, " controls"]:
        """Tanh m(s)."""
        return mean_control(self.actor, observation, self._rooms)[0].cpu().numpy()

    def update(self, batch: ControlBatch) -> dict[str, Tensor]:
        """A step of the critics and, every few, of the actor and the targets."""
        config, section = self._config.td3_bc, self._config.control
        size = len(batch.reward)
        target = self._target(batch)
        pairs = torch.cat([batch.observation, batch.control], 1)
        room, losses, values = self._rooms.of(size), [], []
        for critic in self.critics.members:
            q_values = critic.forward(pairs, room)[:, 0]
            error = q_values - target
            critic.backward(pairs, room, error.mul(2.0 / size)[:, None])
            losses.append(error.square().mean())
            values.append(q_values.mean())
        self._critic_adam.step()
        self._networks.updates += 1
        if self._networks.updates % config.actor_interval == 0:
            self._actor_step(batch)
            self.targets.parameters.lerp_(self.critics.parameters, section.polyak)
            self.actor_target.parameters.lerp_(self.actor.parameters, section.polyak)
        return {
            "train/td_loss": torch.stack(losses).mean(),
            "train/q_mean": torch.stack(values).mean(),
        }

    def _target(self, batch: ControlBatch) -> Float[Tensor, " batch"]:
        config = self._config.td3_bc
        control = mean_control(self.actor_target, batch.next_observation, self._rooms)
        noise = torch.randn(control.shape, generator=self._networks.noise).to(self._device)
        noise.mul_(config.noise).clamp_(-config.noise_clip, config.noise_clip)
        control.add_(noise).clamp_(-1.0, 1.0)
        pairs = torch.cat([batch.next_observation, control], 1)
        values = lower_value(self.targets, pairs, self._rooms.of(len(pairs)))
        return torch.addcmul(
            batch.reward, batch.continues, values, value=self._config.control.discount
        )

    def _actor_step(self, batch: ControlBatch) -> None:
        size = len(batch.reward)
        room, judging = self._rooms.of(size), self._judging.of(size)
        control = mean_control(self.actor, batch.observation, self._rooms)
        pairs = torch.cat([batch.observation, control], 1)
        first = self.critics.members[0]
        q_values = first.forward(pairs, judging)[:, 0]
        every = torch.arange(size, device=self._device)
        slope = first.input_gradient(
            judging, every, slice(self._features, None), self._free.of(size)
        )
        # λ is a number, through which nothing flows
        weight = self._config.td3_bc.weight / q_values.abs().mean()
        d_control = (2.0 / control.numel()) * (control - batch.control) - (weight / size) * slope
        d_output = d_control * (1.0 - control.square())
        self.actor.members[0].backward(batch.observation, room, d_output)
        self._actor_adam.step()
