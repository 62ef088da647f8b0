"""What every offline learner has: networks by name, their optimisers, and checkpoints of them."""

from abc import ABC, abstractmethod
from typing import Any

import torch
from jaxtyping import Float
from numpy import ndarray
from torch import Tensor

from cepcli.agents.networks import TextQNetwork, optimizer_state, restore_optimizer, tensors_below
from cepcli.agents.offline_config import OfflineConfig
from cepcli.agents.perceptrons import Perceptrons, VectorAdam
from cepcli.datasets.batches import ControlBatch, TextBatch, TextBatches, TextStates
from cepcli.seeding import stream_seed, torch_generator
from cepcli.workspace.checkpoint_files import take_over


class ControlLearner(ABC):
    """Learns continuous control: perceptrons of one hidden width, and what is learned beside.

    Attributes:
        actor: its first outputs are m of the mean control tanh m(s).
        config: of the run.
        features: numbers of an observation.
        controls: numbers of a control.
        device: where the networks are.
        noise: the generator of the updates.
        updates: gradient steps so far.
    """

    actor: Perceptrons

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
        self.noise = torch_generator(seed, "update-noise")
        self.updates = 0
        self._start = torch.Generator().manual_seed(stream_seed(seed, "network"))
        self._stored: dict[str, Tensor] = {}

    def control(self, observation: Float[Tensor, "1 features"]) -> Float[ndarray, " controls"]:
        """The control in one state: the mean one, tanh m(s)."""
        return self.actor.apply(observation)[0, 0, : self.controls].tanh().cpu().numpy()

    @abstractmethod
    def update(self, batch: ControlBatch) -> dict[str, Tensor]:
        """One gradient step; what it knew before it, by the name of a metric."""

    def make(
        self, name: str, members: int, inputs: int, outputs: int, unheeded: slice = slice(0)
    ) -> Perceptrons:
        """Fresh networks; the weights of inputs that are `unheeded` begin at 0."""
        made = self.blank(name, members, inputs, outputs)
        for network in made.members:
            network.initialise(self._start, unheeded)
        return made

    def make_critics(self) -> tuple[Perceptrons, Perceptrons]:
        """Two fresh networks of Q(s, u), and the same again, to lag behind."""
        inputs = self.features + self.controls
        critics = self.make("critics", 2, inputs, 1)
        targets = self.blank("targets", 2, inputs, 1)
        targets.parameters.copy_(critics.parameters)
        return critics, targets

    def blank(self, name: str, members: int, inputs: int, outputs: int) -> Perceptrons:
        """Networks whose weights are 0 as yet."""
        made = Perceptrons(members, (inputs, self.config.control.hidden, outputs), self.device)
        self._stored[name] = made.parameters
        return made

    def adam(self, name: str, rate: float, *pairs: tuple[Tensor, Tensor]) -> VectorAdam:
        """An optimiser of parameters with their gradients."""
        made = VectorAdam(rate, *pairs)
        self._stored |= {f"{name}_adam.{k}": tensor for k, tensor in made.state().items()}
        return made

    def store(self, name: str, tensor: Tensor) -> Tensor:
        """Let checkpoints hold a tensor that is changed in place."""
        self._stored[name] = tensor
        return tensor

    def follow(self, targets: Perceptrons, networks: Perceptrons) -> None:
        """Let targets take their share of the networks that they lag behind."""
        targets.parameters.lerp_(networks.parameters, self.config.control.polyak)

    def draw(self, rows: int) -> Float[Tensor, "rows controls"]:
        """Standard normal noise."""
        return torch.randn(rows, self.controls, generator=self.noise).to(self.device)

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Tensors and JSON values that hold everything, for a checkpoint."""
        tensors = {name: tensor.cpu().clone() for name, tensor in self._stored.items()}
        tensors["noise_rng"] = self.noise.get_state()
        return tensors, {"updates": self.updates}

    def restore(self, tensors: dict[str, Tensor], scalars: dict[str, Any]) -> None:
        """Take over what `state` returned."""
        noise = self.noise.get_state()
        take_over(tensors, {**self._stored, "noise_rng": noise})
        self.noise.set_state(noise)
        self.updates = scalars["updates"]


class TextLearner(ABC):
    """Learns a text world: ensembles of `TextQNetwork` on embeddings of goal, text and action.

    The networks see no prior, so that what they learn is theirs.

    Attributes:
        names: of the networks; one called "q" is an ensemble, and has a target.
    """

    names: tuple[str, ...]

    def __init__(
        self, config: OfflineConfig, batches: TextBatches, *, seed: int, device: str = "cpu"
    ) -> None:
        self.config, self.section = config, config.text
        section, dim = config.text, batches.vectors.shape[1]
        self.networks: dict[str, TextQNetwork] = {}
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(stream_seed(seed, "network"))
            for name in self.names:
                members = section.members if name == "q" else 1
                network = TextQNetwork(dim, section.hidden, members).to(device)
                for inputs in ("goal", "text", "action"):
                    network.fit_standardiser(inputs, batches.seen(inputs))
                self.networks[name] = network
            self._parameters = [p for net in self.networks.values() for p in net.parameters()]
            self._targets: dict[str, TextQNetwork] = {}
            if "q" in self.networks:
                target = TextQNetwork(dim, section.hidden, section.members).to(device)
                target.load_state_dict(self.networks["q"].state_dict())
                self._targets["target"] = target
        self._optimizer = torch.optim.Adam(self._parameters, lr=section.learning_rate)
        self.updates = 0

    @abstractmethod
    def scores(self, states: TextStates) -> Float[Tensor, "batch actions"]:
        """What the best action has most of: log π, or Q where there is no policy; −inf if padded.

        Under `cql-prior` `states` carry the prior's log-probabilities.
        """

    @abstractmethod
    def loss(self, batch: TextBatch) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss, and what is known about it by the name of a metric."""

    def update(self, batch: TextBatch) -> dict[str, Tensor]:
        """One gradient step; what it knew before it, by the name of a metric."""
        loss, told = self.loss(batch)
        self._optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self._parameters, self.section.max_grad_norm)
        self._optimizer.step()
        self.updates += 1
        if self.updates % self.section.target_interval == 0:
            for target in self._targets.values():
                target.load_state_dict(self.networks["q"].state_dict())
        return {name: value.detach() for name, value in told.items()}

    def values(self, name: str, states: TextStates) -> Float[Tensor, "members batch actions"]:
        """What the network of that name, or "target", says of every action."""
        network = self._targets[name] if name in self._targets else self.networks[name]
        return network(states.goal, states.text, states.actions)

    def policy(self, states: TextStates) -> Float[Tensor, "batch actions"]:
        """The logits of the network "policy"; −inf for padded actions."""
        return self.values("policy", states)[0].masked_fill(states.log_prior.isneginf(), -torch.inf)

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Tensors and JSON values that hold everything, for a checkpoint."""
        networks = {**self.networks, **self._targets}
        tensors = {
            f"{n}.{k}": v for n, net in networks.items() for k, v in net.state_dict().items()
        }
        tensors |= optimizer_state(self._optimizer)
        return {k: v.detach().cpu().clone().contiguous() for k, v in tensors.items()}, {
            "updates": self.updates
        }

    def restore(self, tensors: dict[str, Tensor], scalars: dict[str, Any]) -> None:
        """Take over what `state` returned."""
        for name, network in {**self.networks, **self._targets}.items():
            network.load_state_dict(tensors_below(tensors, f"{name}."))
        restore_optimizer(self._optimizer, tensors)
        self.updates = scalars["updates"]


def cloning_loss(
    learner: TextLearner, batch: TextBatch, weight: Float[Tensor, " batch"] | None = None
) -> Float[Tensor, ""]:
    """−mean weight·log π(a_data|s) over admissible actions."""
    log_policy = learner.policy(batch.state).log_softmax(-1)
    log_prob = log_policy.gather(-1, batch.chosen[:, None])[:, 0]
    return -(log_prob if weight is None else weight * log_prob).mean()
