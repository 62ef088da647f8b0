"""Temporal-difference targets and losses: tensors in, tensors out."""

from typing import Literal, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from cepcli.posterior import log_posterior, soft_value, state_value

Backup = Literal["expected", "soft", "max", "max-candidates"]


class TDLoss(NamedTuple):
    """Huber loss, and what to log about it."""

    loss: Float[Tensor, ""]
    td_error: Float[Tensor, ""]
    q_mean: Float[Tensor, ""]


def next_state_value(
    backup: Backup,
    log_prior: Float[Tensor, "batch actions"],
    online_q: Float[Tensor, "batch actions"],
    target_q: Float[Tensor, "members batch actions"],
    temperature: float,
    candidates: Bool[Tensor, "batch actions"] | None = None,
) -> Float[Tensor, "members batch"]:
    """V(s′) under the stored prior of s′, Q̄ the target network.

    `online_q` is one for the ensemble: what the posterior takes, or Q itself for `max`; `target_q`
    is one per member.

    - expected: Σ_a π(a|s′)·Q̄(s′,a) with π ∝ p̂·exp(Q/τ), double Q-learning's split
      (van Hasselt et al. 2016) carried over to a stochastic policy;
    - soft: τ·log Σ_a p̂·exp(Q̄/τ);
    - max: Q̄(s′, argmax_a Q(s′,a)), double DQN (van Hasselt et al. 2016);
    - max-candidates: max Q̄(s′,a) over the drawn candidates (Yan et al., arXiv 2410.07927).
    """
    if backup == "soft":
        return soft_value(log_prior, target_q, temperature)
    if backup == "max":
        best = online_q.masked_fill(log_prior.isneginf(), -torch.inf).argmax(-1, keepdim=True)
        return target_q.gather(-1, best.expand(len(target_q), -1, -1))[..., 0]
    if backup == "max-candidates":
        assert candidates is not None
        return target_q.masked_fill(~candidates, -torch.inf).amax(-1)
    return state_value(log_posterior(log_prior, online_q, temperature), target_q)


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
