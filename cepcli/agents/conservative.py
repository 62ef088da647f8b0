"""The conservative regulariser: how much a critic promises for controls that the data lacks.

Conservative Q-learning (Kumar et al., arXiv 2006.04779) adds to a critic's loss the best that any
policy μ could be promised, less what the data's own actions are promised:

    max_μ E_μ[Q] + T·R(μ) − Q(s, a_data)

- With R(μ) the entropy, CQL(H), the maximum is T·log ∫ exp(Q/T) du. It is estimated with draws from
  several densities q_i, by importance: T·log Σ_i exp((Q(s,u_i) − log q_i(u_i))/T). Dividing by the
  number of draws is left out, as every published implementation does; `threshold` counts with that.
- With R(μ) = −KL(μ‖ρ), the maximum is T·log E_ρ[exp(Q/T)]: μ ∝ ρ·exp(Q/T), the posterior of `cep`
  itself. `cql-prior` takes for ρ what the prior proposes: a symbol, then a control under it,

      ρ(u|s) = Σ_a p̂(a|s)·π_θ(u|s,a).

  Its draws *are* of ρ, so no density is divided by: one draw u_a ~ π_θ(·|s,a) a symbol, weighed
  by the prior, gives T·log Σ_a p̂(a|s)·exp(Q(s,u_a)/T), whose inside is unbiased for
  E_ρ[exp(Q/T)] and varies less than with symbols drawn too; where symbols are drawn, all draws
  weigh alike. In text the actions are symbols themselves, and the sum is exact.

Its gradient pushes Q down at each draw by its share of the softmax, and most draws have little of
it, while the backward pass of each takes twice as long as its forward pass. So a draw with a share
p < ε takes part with probability p/ε only, and then counts ε: on average no more than 1/ε draws of
a state, fewer the more the shares differ; the mean of the gradient stays what it was.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from cepcli.agents.perceptrons import ActivationBuffer, Activations, Perceptron

#: Rows of a pass: their hidden units stay in a core's cache, and products are still large.
CHUNK = 480


class SoftMaximum(NamedTuple):
    """T·log Σ_i exp((Q_i + w_i)/T) of each state, and each draw's share of it."""

    value: Float[Tensor, " states"]
    shares: Float[Tensor, "states draws"]


def soft_maximum(
    q_values: Float[Tensor, "states draws"],
    log_weights: Float[Tensor, "states draws"],
    temperature: float,
) -> SoftMaximum:
    """The soft maximum over draws; `log_weights` are w_i, −log q_i under importance sampling.

    The shares are its gradient in Q. A prior's log p̂ comes in as T·log p̂.
    """
    logits = (q_values + log_weights) / temperature
    value = logits.logsumexp(-1, keepdim=True)
    return SoftMaximum(temperature * value[:, 0], (logits - value).exp_())


class PushDown:
    """The regulariser's gradient in a critic's parameters, in passes that stay in the cache.

    The draws of a state are one after another, and a pass takes whole states: their shares are then
    known at once, and what has one goes back while its hidden units are still there.
    """

    def __init__(self, inputs: int, hidden: int, device: str) -> None:
        self._forward = ActivationBuffer(CHUNK, hidden, device)
        self._backlog = ActivationBuffer(CHUNK, hidden, device, slope=self._forward.slope)
        self._inputs = torch.zeros(CHUNK, inputs, device=device)
        self._slopes = torch.zeros(CHUNK, 1, device=device)
        self._waiting = 0

    def add(
        self,
        critic: Perceptron,
        pairs: Float[Tensor, "rows inputs"],
        log_weights: Float[Tensor, "states draws"],
        *,
        temperature: float,
        factor: float,
        share_floor: float,
        noise: torch.Generator,
    ) -> Float[Tensor, " states"]:
        """Add the gradient of `factor` times the sum of soft maxima; returns the soft maxima.

        Args:
            critic: whose gradient it is; what is there already stays.
            pairs: state and control of every draw.
            log_weights: of every draw.
            temperature: T.
            factor: of the sum over states.
            share_floor: ε; 0 keeps every draw.
            noise: decides which draws take part.
        """
        states, draws = log_weights.shape
        each = max(CHUNK // draws, 1)
        values = pairs.new_empty(states)
        for start in range(0, states, each):
            stop = min(start + each, states)
            rows = pairs[start * draws : stop * draws]
            activations = self._forward.of(len(rows))
            q_values = critic.forward(rows, activations).view(-1, draws)
            values[start:stop], shares = soft_maximum(
                q_values, log_weights[start:stop], temperature
            )
            slopes = shares.view(-1, 1)
            if not share_floor:
                critic.backward(rows, activations, slopes.mul_(factor), more=True)
                continue
            chance = torch.rand(len(rows), generator=noise).to(slopes.device)
            chosen = (slopes[:, 0] > share_floor * chance).nonzero()[:, 0]
            slopes.clamp_(min=share_floor).mul_(factor)
            self._defer(critic, rows, activations, slopes, chosen)
        self._settle(critic)
        return values

    def _defer(
        self,
        critic: Perceptron,
        rows: Float[Tensor, "rows inputs"],
        activations: Activations,
        slopes: Float[Tensor, "rows 1"],
        chosen: Int[Tensor, " chosen"],
    ) -> None:
        """Keep some rows of a pass until there are enough for a product worth its name."""
        if self._waiting + len(chosen) > CHUNK:
            self._settle(critic)
        place = slice(self._waiting, self._waiting + len(chosen))
        backlog = self._backlog.of(CHUNK)
        for source, target in (
            (activations.first, backlog.first), (activations.second, backlog.second),
            (rows, self._inputs), (slopes, self._slopes),
        ):  # fmt: skip
            torch.index_select(source, 0, chosen, out=target[place])
        self._waiting = place.stop

    def _settle(self, critic: Perceptron) -> None:
        count, self._waiting = self._waiting, 0
        if count:
            activations = self._backlog.of(count)
            critic.backward(self._inputs[:count], activations, self._slopes[:count], more=True)
