"""Networks over frozen text embeddings."""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn


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
