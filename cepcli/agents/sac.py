"""What soft actor-critic is made of: a tanh-Gaussian policy, two critics, and their gradients."""

import math
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from cepcli.agents.perceptrons import ActivationBuffer, Activations, Perceptrons

#: Bounds on log σ, those of Haarnoja et al. (arXiv 1812.05905) and of every library since.
LOG_STD_BOUNDS = (-20.0, 2.0)
#: Added to 1 − tanh² before its logarithm, as Haarnoja's code and Stable-Baselines3 do: where tanh
#: saturates log π stops growing, and with it what entropy charges for a control at its limit.
_EPSILON = 1e-6
_HALF_LOG_2PI = 0.5 * math.log(2.0 * math.pi)


class SquashedSample(NamedTuple):
    """One draw u = tanh(μ + σ·noise), and what its gradient needs: `slope` is 1 − u²."""

    control: Float[Tensor, "rows controls"]
    log_prob: Float[Tensor, " rows"]
    scaled_noise: Float[Tensor, "rows controls"]
    slope: Float[Tensor, "rows controls"]
    within: Float[Tensor, "rows controls"]


def squashed_sample(
    parameters: Float[Tensor, "rows outputs"], noise: Float[Tensor, "rows controls"]
) -> SquashedSample:
    """Draw from the policy; `parameters` holds the means, then log σ, clamped to its bounds.

    log π(u) = Σ [log N(x; μ, σ) − log(1 − tanh²x + ε)] with x = μ + σ·noise and ε = 1e-6.
    """
    mean, raw = parameters.chunk(2, dim=-1)
    log_std = raw.clamp(*LOG_STD_BOUNDS)
    scaled_noise = log_std.exp().mul_(noise)
    control = (mean + scaled_noise).tanh_()
    slope = control.square().neg_().add_(1.0)
    density = noise.square().mul_(-0.5).sub_(log_std).sub_(_HALF_LOG_2PI)
    density.sub_((slope + _EPSILON).log_())
    within = (raw == log_std).to(raw.dtype)
    return SquashedSample(control, density.sum(-1), scaled_noise, slope, within)


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

    With x = μ + σ·noise: ∂u/∂x = 1 − u² = s, ∂log π/∂x = 2u·s/(s + ε), ∂x/∂log σ = σ·noise, and
    log π falls by one for each unit of log σ besides. Nothing flows where log σ is clamped.
    """
    slope = sample.slope
    d_squash = (2.0 * d_log_prob) * sample.control / (slope + _EPSILON)
    d_mean = slope * (d_control + d_squash)
    d_log_std = (d_mean * sample.scaled_noise - d_log_prob) * sample.within
    return torch.cat([d_mean, d_log_std], dim=-1)


def lower_value(
    critics: Perceptrons, pairs: Float[Tensor, "rows inputs"], activations: Activations
) -> Float[Tensor, " rows"]:
    """The smaller of two critics' values; `activations` is overwritten."""
    first, second = (critic.forward(pairs, activations) for critic in critics.members)
    return torch.minimum(first, second)[:, 0]


def lower_slope(
    critics: Perceptrons,
    pairs: Float[Tensor, "batch inputs"],
    columns: slice,
    passes: tuple[Activations, Activations],
    gathering: ActivationBuffer,
) -> tuple[Float[Tensor, " batch"], Float[Tensor, "batch columns"]]:
    """min_i Q_i and its slope in some of the inputs: back through the smaller critic alone.

    `passes` and `gathering` are for as many rows as `pairs`, and are overwritten.
    """
    networks = critics.members
    values = [
        network.forward(pairs, activations)
        for network, activations in zip(networks, passes, strict=True)
    ]
    lower = (values[0] <= values[1])[:, 0]
    width = len(range(*columns.indices(pairs.shape[1])))
    slope = pairs.new_empty(len(pairs), width)
    for network, activations, mask in zip(networks, passes, (lower, ~lower), strict=True):
        rows = mask.nonzero()[:, 0]
        slope[rows] = network.input_gradient(activations, rows, columns, gathering.of(len(rows)))
    return torch.minimum(*values)[:, 0], slope
