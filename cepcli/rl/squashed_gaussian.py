"""A Gaussian squeezed into (−1, 1) by tanh: the policy of soft actor-critic, and its gradient."""

import math
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import softplus

#: Bounds on log σ, those of Haarnoja et al. (arXiv 1812.05905) and of every library since.
LOG_STD_BOUNDS = (-20.0, 2.0)
_LOG_2 = math.log(2.0)
_HALF_LOG_2PI = 0.5 * math.log(2.0 * math.pi)


class SquashedSample(NamedTuple):
    """One draw u = tanh(μ + σ·noise), and what its gradient needs."""

    control: Float[Tensor, "rows controls"]
    log_prob: Float[Tensor, " rows"]
    scaled_noise: Float[Tensor, "rows controls"]
    within: Float[Tensor, "rows controls"]


def squashed_sample(
    parameters: Float[Tensor, "rows outputs"], noise: Float[Tensor, "rows controls"]
) -> SquashedSample:
    """Draw from the policy; `parameters` holds the means, then log σ, clamped to its bounds.

    log π(u) = Σ [log N(x; μ, σ) − log(1 − tanh²x)] with x = μ + σ·noise, the last term computed as
    2·(log 2 − x − softplus(−2x)), which loses no digits where tanh saturates.
    """
    mean, raw = parameters.chunk(2, dim=-1)
    log_std = raw.clamp(*LOG_STD_BOUNDS)
    scaled_noise = log_std.exp().mul_(noise)
    x = mean + scaled_noise
    density = noise.square().mul_(-0.5).sub_(log_std).sub_(_HALF_LOG_2PI + 2.0 * _LOG_2)
    density.add_(x, alpha=2.0).add_(softplus(x * -2.0), alpha=2.0)
    within = (raw == log_std).to(raw.dtype)
    return SquashedSample(x.tanh_(), density.sum(-1), scaled_noise, within)


def squashed_draw(
    parameters: Float[Tensor, "rows outputs"], noise: Float[Tensor, "rows controls"] | None
) -> Float[Tensor, "rows controls"]:
    """The control alone; tanh μ without noise."""
    mean, log_std = parameters.chunk(2, dim=-1)
    if noise is None:
        return mean.tanh()
    return torch.addcmul(mean, log_std.clamp(*LOG_STD_BOUNDS).exp_(), noise).tanh_()


def squashed_gradient(
    sample: SquashedSample, d_control: Float[Tensor, "rows controls"], d_log_prob: Tensor | float
) -> Float[Tensor, "rows outputs"]:
    """The loss's gradient in `parameters`, noise held fixed, from its gradient in u and log π.

    With x = μ + σ·noise: ∂u/∂x = 1 − u², ∂log π/∂x = 2u, ∂x/∂log σ = σ·noise, and log π falls by
    one for each unit of log σ besides. Nothing flows where log σ is clamped.
    """
    control = sample.control
    d_mean = d_control * (1.0 - control.square()) + (2.0 * d_log_prob) * control
    d_log_std = (d_mean * sample.scaled_noise - d_log_prob) * sample.within
    return torch.cat([d_mean, d_log_std], dim=-1)
