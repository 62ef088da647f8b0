"""Networks over frozen text embeddings, and what their learners share."""

import math
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from cepcli.errors import ConfigError

_DECAY = 0.97
_SMALLEST = 1e-3


class EnsembleLinear(nn.Module):
    """`members` independent dense layers, applied to [members, rows, inputs] in one product."""

    def __init__(self, members: int, inputs: int, outputs: int) -> None:
        super().__init__()
        bound = 1.0 / math.sqrt(inputs)
        self.weight = nn.Parameter(torch.empty(members, inputs, outputs).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.zeros(members, 1, outputs))

    def forward(
        self, rows: Float[Tensor, "members rows inputs"]
    ) -> Float[Tensor, "members rows outputs"]:
        """Each member's layer on its own rows."""
        return torch.baddbmm(self.bias, rows, self.weight)


class TextQNetwork(nn.Module):
    """An ensemble of Q(s,a) from the embeddings of goal, state and action.

    It never sees the prior: the posteriors of a cached and of a fresh prior then share one Q, which
    the bound KL ≤ span²/8 rests on. Where the members disagree there was too little data to know
    better than the prior. The first layer is dense on the concatenation of its inputs, computed
    once per state and once per action. The last layer starts at zero: an untrained network says
    nothing.

    Sentence embeddings of one world are nearly parallel, so inputs are standardised by the mean
    and standard deviation of the texts seen during warm-up (`fit_standardiser`).
    """

    def __init__(self, dim: int, hidden: int, members: int) -> None:
        super().__init__()
        self.members = members
        self.state_tower = EnsembleLinear(members, 2 * dim, hidden)
        self.action_tower = EnsembleLinear(members, dim, hidden)
        self.body = EnsembleLinear(members, hidden, hidden)
        self.head = EnsembleLinear(members, hidden, 1)
        nn.init.zeros_(self.head.weight)
        for name in ("goal", "text", "action"):
            self.register_buffer(f"{name}_mean", torch.zeros(dim))
            self.register_buffer(f"{name}_scale", torch.ones(()))

    def fit_standardiser(self, name: str, vectors: Float[Tensor, "rows dim"]) -> None:
        """Standardise the inputs called `name` ("goal", "text", "action") by these vectors.

        The deviation is pooled over dimensions and floored at a tenth of what unit vectors have on
        average, 1/√dim: a single goal is only centred.
        """
        mean = vectors.mean(0)
        spread = (vectors - mean).square().mean().sqrt()
        floor = vectors.shape[1] ** -0.5 / 10
        self.get_buffer(f"{name}_mean").copy_(mean)
        self.get_buffer(f"{name}_scale").fill_(1.0 / max(float(spread), floor))

    def forward(
        self,
        goal: Float[Tensor, "batch dim"],
        text: Float[Tensor, "batch dim"],
        actions: Float[Tensor, "batch actions dim"],
    ) -> Float[Tensor, "members batch actions"]:
        """Every member's Q-values; padded actions get finite values that the caller masks."""
        batch, count = actions.shape[:2]
        state = torch.cat([self._standard("goal", goal), self._standard("text", text)], dim=-1)
        action = self._standard("action", actions)
        hidden = self.state_tower(self._shared(state)).unsqueeze(2) + self.action_tower(
            self._shared(action.flatten(0, 1))
        ).unflatten(1, (batch, count))
        hidden = self.body(hidden.relu().flatten(1, 2)).relu()
        return self.head(hidden).view(self.members, batch, count)

    def _shared(self, rows: Tensor) -> Tensor:
        return rows.expand(self.members, -1, -1)

    def _standard(self, name: str, vectors: Tensor) -> Tensor:
        return (vectors - self.get_buffer(f"{name}_mean")) * self.get_buffer(f"{name}_scale")


def shrunk_advantage(
    q_values: Float[Tensor, "members *batch actions"], valid: Tensor, doubt: float
) -> Float[Tensor, "*batch actions"]:
    """What an ensemble knows about the actions of a state: advantage, shrunk where it disagrees.

    A(s,a) = Q(s,a) − mean over admissible actions; the ensemble's mean Ā is multiplied by
    Ā²/(Ā² + doubt·σ²), σ the members' standard deviation: the Wiener filter's gain with the
    signal's power estimated by Ā². Padded actions get 0.
    """
    weight = valid.to(q_values.dtype)
    centre = (q_values * weight).sum(-1, keepdim=True) / weight.sum(-1, keepdim=True)
    advantage = (q_values - centre) * weight
    mean = advantage.mean(0)
    if q_values.shape[0] == 1:
        return mean
    power = mean.square()
    gain = power / (power + doubt * advantage.var(0)).clamp_min(torch.finfo(power.dtype).tiny)
    return mean * gain


class TDLoss(NamedTuple):
    """Huber loss, and what to log about it."""

    loss: Float[Tensor, ""]
    td_error: Float[Tensor, ""]
    q_mean: Float[Tensor, ""]


def td_loss(
    q_values: Float[Tensor, "members batch actions"],
    action: Int[Tensor, " batch"],
    target: Float[Tensor, "members batch"],
) -> TDLoss:
    """Huber loss between Q(s,a) and a fixed target: mean over the batch, sum over members."""
    index = action[None, :, None].expand(len(q_values), -1, -1)
    chosen = q_values.gather(-1, index)[..., 0]
    loss = torch.nn.functional.smooth_l1_loss(chosen, target) * len(q_values)
    return TDLoss(loss, (chosen - target).abs().mean(), chosen.mean())


class RunningSpread:
    """Running mean of max_a Q − min_a Q over states, corrected for its start at zero."""

    def __init__(self) -> None:
        self._sum = 0.0
        self._weight = 0.0

    @property
    def mean(self) -> float:
        """The running mean; 0 before the first state."""
        return self._sum / self._weight if self._weight else 0.0

    def update(self, spread: float) -> None:
        """Take in the mean spread of one batch of states."""
        self._sum = _DECAY * self._sum + (1.0 - _DECAY) * spread
        self._weight = _DECAY * self._weight + (1.0 - _DECAY)

    def gain(self, q_range: float) -> float:
        """What Q is multiplied by so that its spread becomes `q_range`."""
        return q_range / max(self.mean, _SMALLEST)

    def state(self) -> list[float]:
        """For a checkpoint."""
        return [self._sum, self._weight]

    def restore(self, state: list[float]) -> None:
        """Take over what `state` returned."""
        self._sum, self._weight = state


def optimizer_state(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """An optimiser's moments by name, for a checkpoint."""
    state = optimizer.state_dict()["state"]
    return {f"optimizer.{n}.{k}": v for n, slots in state.items() for k, v in slots.items()}


def restore_optimizer(optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    """Take over what `optimizer_state` returned, from among other tensors."""
    slots: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors_below(tensors, "optimizer.").items():
        number, name = key.split(".")
        slots.setdefault(int(number), {})[name] = value
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": slots, "param_groups": groups})


def tensors_below(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Those whose name begins so, without that beginning."""
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}


def diverged(what: str, rates: str) -> ConfigError:
    """The error of a learner whose numbers are not finite; `rates` are settings to lower."""
    return ConfigError(
        f"The learner diverged: its {what} contain NaN or infinity.",
        f"Learn slower: lower {rates}.",
    )
