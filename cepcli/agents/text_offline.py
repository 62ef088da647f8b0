"""Offline learners of text worlds: conservative Q-learning, implicit Q-learning, cloning.

All are ensembles of `TextQNetwork` on frozen embeddings of goal, text and action. The networks see
no prior, so that what they learn is theirs.

- `cql`: double Q-learning plus w·mean (T·log Σ_a exp(Q(s,a)/T) − Q(s, a_data)), over admissible
  actions (Kumar et al., arXiv 2006.04779; there T = 1).
- `cql-prior`: the same with T·log Σ_a p̂(a|s)·exp(Q(s,a)/T): what the prior holds unlikely need not
  be pushed down. It acts, and bootstraps, by the policy of that sum, π ∝ p̂·exp(Q/T).
- `iql`: V is an expectile of Q over the data's actions, Q bootstraps from V, and the policy
  is cloned with weights exp(β·(Q − V)) (Kostrikov et al., arXiv 2110.06169).
- `bc`: the policy is cloned; cross-entropy over admissible actions.
"""

from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from cepcli.agents.losses import td_loss
from cepcli.agents.networks import TextQNetwork
from cepcli.agents.offline_config import OfflineConfig
from cepcli.datasets.batches import TextBatch, TextBatches, TextStates
from cepcli.posterior import log_posterior, state_value
from cepcli.seeding import stream_seed

#: Which networks an algorithm has; targets follow `q`.
_NETWORKS: dict[str, tuple[str, ...]] = {
    "cql": ("q",),
    "cql-prior": ("q",),
    "iql": ("q", "value", "policy"),
    "bc": ("policy",),
}


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


def expectile_loss(difference: Tensor, expectile: float) -> Float[Tensor, ""]:
    """Mean |τ − 1[u < 0]|·u² of u = Q − V."""
    weight = torch.where(difference < 0, 1.0 - expectile, expectile)
    return (weight * difference.square()).mean()


class TextLearner:
    """The networks of one algorithm, their optimiser, and how they value and act."""

    def __init__(
        self, config: OfflineConfig, batches: TextBatches, *, seed: int, device: str = "cpu"
    ) -> None:
        self._config = config
        self._device = device
        section = config.text
        dim = batches.vectors.shape[1]
        self.networks: dict[str, TextQNetwork] = {}
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(stream_seed(seed, "network"))
            for name in _NETWORKS[config.algorithm]:
                members = section.members if name == "q" else 1
                network = TextQNetwork(dim, section.hidden, members).to(device)
                for inputs in ("goal", "text", "action"):
                    network.fit_standardiser(inputs, batches.seen(inputs))
                self.networks[name] = network
            if "q" in self.networks:
                self._target = TextQNetwork(dim, section.hidden, section.members).to(device)
                self._target.load_state_dict(self.networks["q"].state_dict())
        parameters = [p for network in self.networks.values() for p in network.parameters()]
        self._optimizer = torch.optim.Adam(parameters, lr=section.learning_rate)
        self._parameters = parameters
        self.updates = 0

    # -- acting --------------------------------------------------------------------------------

    @torch.no_grad()
    def scores(self, states: TextStates) -> Float[Tensor, "batch actions"]:
        """What the best action has most of: log π, or Q where there is no policy; −inf if padded.

        Under `cql-prior` `states` carry the prior's log-probabilities.
        """
        known = states.log_prior.isneginf()
        if "policy" in self.networks:
            return self._values("policy", states)[0].masked_fill(known, -torch.inf)
        q_values = self._values("q", states).mean(0)
        if self._config.algorithm == "cql-prior":
            return log_posterior(states.log_prior, q_values, self._config.text.temperature)
        return q_values.masked_fill(known, -torch.inf)

    # -- learning ------------------------------------------------------------------------------

    def update(self, batch: TextBatch) -> dict[str, Tensor]:
        """One gradient step; what it knew before it, by the name of a metric."""
        if self._config.algorithm == "bc":
            loss, told = self._cloning(batch, None)
        elif self._config.algorithm == "iql":
            loss, told = self._implicit(batch)
        else:
            loss, told = self._conservative(batch)
        self._optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self._parameters, self._config.text.max_grad_norm)
        self._optimizer.step()
        self.updates += 1
        if "q" in self.networks and self.updates % self._config.text.target_interval == 0:
            self._target.load_state_dict(self.networks["q"].state_dict())
        return {name: value.detach() for name, value in told.items()}

    def _conservative(self, batch: TextBatch) -> tuple[Tensor, dict[str, Tensor]]:
        section = self._config.text
        q_values = self._values("q", batch.state)
        target = self._double_target(batch)
        fit = td_loss(q_values, batch.chosen, target)
        weights = batch.state.log_prior
        if self._config.algorithm == "cql":
            weights = torch.where(weights.isneginf(), weights, 0.0)
        gap = conservative_loss(q_values, weights, batch.chosen, section.temperature)
        told = {
            "train/td_loss": fit.loss,
            "train/conservative_loss": gap.loss / section.members,
            "train/q_mean": fit.q_mean,
        }
        return fit.loss + section.weight * gap.loss, told

    @torch.no_grad()
    def _double_target(self, batch: TextBatch) -> Float[Tensor, "members batch"]:
        """R + γ·V(s′): the online networks choose, the target networks value.

        `cql` takes the best action, `cql-prior` the policy p̂·exp(Q/T).
        """
        following, section = batch.next_state, self._config.text
        online = self._values("q", following).mean(0)
        valued = self._network_values(self._target, following)
        if self._config.algorithm == "cql-prior":
            log_policy = log_posterior(following.log_prior, online, section.temperature)
            value = state_value(log_policy, valued)
        else:
            best = online.masked_fill(following.log_prior.isneginf(), -torch.inf).argmax(-1)
            value = valued.gather(-1, best[None, :, None].expand(len(valued), -1, -1))[..., 0]
        return batch.reward + section.discount * batch.continues * value

    def _implicit(self, batch: TextBatch) -> tuple[Tensor, dict[str, Tensor]]:
        config = self._config.iql
        with torch.no_grad():
            lowest = self._network_values(self._target, batch.state).amin(0)
            chosen = lowest.gather(-1, batch.chosen[:, None])[:, 0]
            following = self._value(batch.next_state)
            discount = self._config.text.discount
            target = batch.reward + discount * batch.continues * following
        value = self._value(batch.state)
        advantage = chosen - value
        expectile = expectile_loss(advantage, config.expectile)
        q_values = self._values("q", batch.state)
        fit = td_loss(q_values, batch.chosen, target.expand(len(q_values), -1))
        weight = (config.inverse_temperature * advantage.detach()).exp()
        cloning, told = self._cloning(batch, weight.clamp(max=config.largest_weight))
        told |= {
            "train/td_loss": fit.loss,
            "train/value_loss": expectile,
            "train/q_mean": fit.q_mean,
        }
        return fit.loss + expectile + cloning, told

    def _cloning(
        self, batch: TextBatch, weight: Float[Tensor, " batch"] | None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """−mean weight·log π(a_data|s) over admissible actions."""
        padded: Bool[Tensor, "batch actions"] = batch.state.log_prior.isneginf()
        logits = self._values("policy", batch.state)[0].masked_fill(padded, -torch.inf)
        log_prob = logits.log_softmax(-1).gather(-1, batch.chosen[:, None])[:, 0]
        loss = -(log_prob if weight is None else weight * log_prob).mean()
        return loss, {"train/policy_loss": loss}

    def _value(self, states: TextStates) -> Float[Tensor, " batch"]:
        """V(s): the network's answer to no action at all."""
        nothing = states.actions.new_zeros(len(states.goal), 1, states.actions.shape[2])
        return self.networks["value"](states.goal, states.text, nothing)[0, :, 0]

    def _values(self, name: str, states: TextStates) -> Float[Tensor, "members batch actions"]:
        return self._network_values(self.networks[name], states)

    @staticmethod
    def _network_values(
        network: TextQNetwork, states: TextStates
    ) -> Float[Tensor, "members batch actions"]:
        return network(states.goal, states.text, states.actions)

    # -- checkpoints ---------------------------------------------------------------------------

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Tensors and JSON values that hold everything, for a checkpoint."""
        tensors = {f"{n}.{k}": v for n, net in self._all.items() for k, v in _state(net)}
        for number, slots in self._optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{number}.{k}": v for k, v in slots.items()}
        kept = {k: v.detach().cpu().clone().contiguous() for k, v in tensors.items()}
        return kept, {"updates": self.updates}

    def restore(self, tensors: dict[str, Tensor], scalars: dict[str, Any]) -> None:
        """Take over what `state` returned."""
        for name, network in self._all.items():
            network.load_state_dict(_below(tensors, f"{name}."))
        slots: dict[int, dict[str, Tensor]] = {}
        for key, value in _below(tensors, "optimizer.").items():
            number, name = key.split(".")
            slots.setdefault(int(number), {})[name] = value
        groups = self._optimizer.state_dict()["param_groups"]
        self._optimizer.load_state_dict({"state": slots, "param_groups": groups})
        self.updates = scalars["updates"]

    @property
    def _all(self) -> dict[str, TextQNetwork]:
        return {**self.networks, **({"target": self._target} if "q" in self.networks else {})}


def _state(network: TextQNetwork) -> list[tuple[str, Tensor]]:
    return list(network.state_dict().items())


def _below(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
