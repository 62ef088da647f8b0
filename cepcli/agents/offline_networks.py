"""What offline learners of control that are held against CQL have in common: an actor and critics.

Gradients are written out by hand (`cepcli.agents.perceptrons`).
"""

from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from numpy import ndarray
from torch import Tensor

from cepcli.agents.offline_config import OfflineConfig
from cepcli.agents.perceptrons import Perceptrons, Room, Rooms, VectorAdam
from cepcli.seeding import stream_seed, torch_generator
from cepcli.workspace.checkpoint_files import take_over


class Networks:
    """Perceptrons of one hidden width by name, each with its optimiser; and what is learned beside.

    Attributes:
        config: of the run.
        features: numbers of an observation.
        controls: numbers of a control.
        device: where they are.
        rooms: memory for a pass over a minibatch.
        actor: m of the mean control tanh m(s).
        noise: the generator of a learner's updates.
        updates: gradient steps so far.
    """

    def __init__(
        self,
        config: OfflineConfig,
        *,
        features: int,
        controls: int,
        seed: int,
        device: str = "cpu",
    ) -> None:
        self.config, self.features, self.controls, self.device = config, features, controls, device
        self.rooms = self.more_rooms()
        self.noise = torch_generator(seed, "update-noise")
        self.updates = 0
        self._start = torch.Generator().manual_seed(stream_seed(seed, "network"))
        self._kept: dict[str, Tensor] = {}
        self.actor = self.make("actor", 1, features, controls)

    def more_rooms(self) -> Rooms:
        """Memory for a pass whose activations are needed beside those in `rooms`."""
        section = self.config.control
        return Rooms(section.batch_size, section.hidden, self.device)

    def make(self, name: str, members: int, inputs: int, outputs: int) -> Perceptrons:
        """Fresh networks."""
        made = Perceptrons(members, (inputs, self.config.control.hidden, outputs), self.device)
        for network in made.members:
            network.initialise(self._start)
        self._kept[name] = made.parameters
        return made

    def make_critics(self) -> Perceptrons:
        """Two fresh networks of Q(s, u)."""
        return self.make("critics", 2, self.features + self.controls, 1)

    def copy(self, name: str, original: Perceptrons) -> Perceptrons:
        """The same networks again, to lag behind."""
        [first, *_] = original.members
        inputs, hidden = first.layers[0].weight.shape
        sizes = (inputs, hidden, first.layers[-1].weight.shape[1])
        made = Perceptrons(len(original.members), sizes, self.device)
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

    def control(self, observation: Float[Tensor, "1 features"]) -> Float[ndarray, " controls"]:
        """The mean control in one state."""
        return self.mean_control(self.actor, observation)[0].cpu().numpy()

    def mean_control(
        self, actor: Perceptrons, observation: Float[Tensor, "batch features"]
    ) -> Float[Tensor, "batch controls"]:
        """Tanh m(s); `rooms` keep what the way back needs."""
        room = self.rooms.of(len(observation))
        return actor.members[0].forward(observation, room).tanh_()

    def actor_backward(
        self,
        observation: Float[Tensor, "batch features"],
        control: Float[Tensor, "batch controls"],
        d_control: Float[Tensor, "batch controls"],
    ) -> None:
        """Write the actor's gradient, given the loss's in its mean controls; follows those."""
        slope = d_control * (1.0 - control.square())
        room = self.rooms.of(len(observation))
        self.actor.members[0].backward(observation, room, slope)

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Tensors and JSON values that hold everything, for a checkpoint."""
        tensors = {name: tensor.cpu().clone() for name, tensor in self._kept.items()}
        tensors["noise_rng"] = self.noise.get_state()
        return tensors, {"updates": self.updates}

    def restore(self, tensors: dict[str, Tensor], scalars: dict[str, Any]) -> None:
        """Take over what `state` returned."""
        noise = self.noise.get_state()
        take_over(tensors, {**self._kept, "noise_rng": noise})
        self.noise.set_state(noise)
        self.updates = scalars["updates"]


class Fit(NamedTuple):
    """How far critics were off: mean (Q − y)² over batch and critics, and the mean Q."""

    td_loss: Float[Tensor, ""]
    q_mean: Float[Tensor, ""]


def fit_critics(
    critics: Perceptrons,
    pairs: Float[Tensor, "batch inputs"],
    target: Float[Tensor, " batch"],
    room: Room,
) -> Fit:
    """Write the gradient of Σ over critics of mean (Q − y)²; `room` is overwritten."""
    losses, values = [], []
    for critic in critics.members:
        q_values = critic.forward(pairs, room)[:, 0]
        error = q_values - target
        critic.backward(pairs, room, error.mul(2.0 / len(target))[:, None])
        losses.append(error.square().mean())
        values.append(q_values.mean())
    return Fit(torch.stack(losses).mean(), torch.stack(values).mean())
