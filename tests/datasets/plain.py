"""What learners of control are held against: perceptrons for automatic differentiation."""

import torch

from cepcli.datasets.batches import ControlBatch

FEATURES, CONTROLS = 3, 2


def batch(size=6, symbols=0, seed=1):
    noise = torch.Generator().manual_seed(seed)
    log_prior = torch.randn(size, symbols, generator=noise).log_softmax(-1)
    return ControlBatch(
        torch.randn(size, FEATURES, generator=noise),
        torch.rand(size, CONTROLS, generator=noise) * 2 - 1,
        torch.randn(size, generator=noise),
        torch.randn(size, FEATURES, generator=noise),
        (torch.rand(size, generator=noise) > 0.3).float(),
        log_prior,
        log_prior.flip(1),
    )


def with_gradients(networks):
    """The networks' layers as leaves of automatic differentiation."""
    return [
        [(w.clone().requires_grad_(), b.clone().requires_grad_()) for w, b in member.layers]
        for member in networks.members
    ]


def outputs(layers, rows):
    for number, (weight, bias) in enumerate(layers):
        rows = rows @ weight + bias
        if number < len(layers) - 1:
            rows = rows.relu()
    return rows


def flat(layers):
    """The gradient of one network's parameters, as a vector."""
    return torch.cat([p.grad.flatten() for pair in layers for p in pair])


def same_gradient(ours, members):
    """Refuse a gradient that is not what automatic differentiation left in the leaves."""
    expected = torch.cat([flat(layers) for layers in members])
    assert float(expected.abs().max()) > 1e-3
    torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-6)
