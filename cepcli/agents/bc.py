"""Behaviour cloning, of controls and of text."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from typing_extensions import override

from cepcli.agents.offline_config import OfflineConfig
from cepcli.agents.offline_learner import ControlLearner, TextLearner, cloning_loss
from cepcli.agents.perceptrons import step_down
from cepcli.datasets.batches import ControlBatch, TextBatch, TextStates


class ControlBC(ControlLearner):
    """Clones the data's controls: mean ‖tanh m(s) − u‖²."""

    def __init__(self, config: OfflineConfig, **shapes: Any) -> None:
        super().__init__(config, **shapes)
        self.actor = self.make("actor", 1, self.features, self.controls)
        self._adam = self.adam("actor", config.control.actor_rate, self.actor.pair)

    @override
    def update(self, batch: ControlBatch) -> dict[str, Tensor]:
        leaf = self.actor.leaf()
        control = self.actor.apply(batch.observation, leaf)[0].tanh()
        loss = (control - batch.control).square().mean()
        step_down(loss, leaf, self.actor, self._adam)
        self.updates += 1
        return {"train/policy_loss": loss.detach()}


class TextBC(TextLearner):
    """Clones the data's actions: cross-entropy over admissible actions."""

    names = ("policy",)

    @override
    @torch.no_grad()
    def scores(self, states: TextStates) -> Float[Tensor, "batch actions"]:
        return self.policy(states)

    @override
    def loss(self, batch: TextBatch) -> tuple[Tensor, dict[str, Tensor]]:
        loss = cloning_loss(self, batch)
        return loss, {"train/policy_loss": loss}
