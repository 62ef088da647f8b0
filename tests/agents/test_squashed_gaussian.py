import pytest
import torch
from stable_baselines3.common.distributions import SquashedDiagGaussianDistribution
from torch.distributions import Normal, TanhTransform, TransformedDistribution

from cepcli.agents.sac import squashed_draw, squashed_gradient, squashed_sample


def random(seed=0, rows=6):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(rows, 4, generator=generator), torch.randn(rows, 2, generator=generator)


def test_density_is_that_of_the_transformed_distribution():
    parameters, noise = random()
    parameters = parameters / 3  # further out, atanh(tanh(x)) is no longer x
    sample = squashed_sample(parameters, noise)
    mean, log_std = parameters.double().chunk(2, dim=-1)
    density = TransformedDistribution(Normal(mean, log_std.exp()), TanhTransform())
    expected = density.log_prob((mean + log_std.exp() * noise).tanh()).sum(-1)
    torch.testing.assert_close(sample.log_prob.double(), expected, rtol=1e-4, atol=1e-4)


def test_density_is_finite_where_tanh_saturates():
    sample = squashed_sample(torch.tensor([[40.0, 0.0]]), torch.zeros(1, 1))
    assert float(sample.control) == 1.0
    # log N(0) − log(0 + 1e-6), as in Stable-Baselines3, and no slope to come back by
    assert float(sample.log_prob) == pytest.approx(-0.91894 + 13.81551, abs=1e-4)
    found = squashed_gradient(sample, torch.ones(1, 1), 1.0)
    assert found.tolist() == [[0.0, -1.0]]


def test_density_is_that_of_stable_baselines3():
    parameters, noise = random(4)
    parameters = parameters * 3  # up to where tanh saturates
    theirs = SquashedDiagGaussianDistribution(2)
    mean, log_std = parameters.chunk(2, dim=-1)
    theirs.proba_distribution(mean, log_std.clamp(-20, 2))
    x = mean + log_std.clamp(-20, 2).exp() * noise
    expected = theirs.log_prob(x.tanh(), x)
    torch.testing.assert_close(squashed_sample(parameters, noise).log_prob, expected)


def test_gradient_is_that_of_automatic_differentiation():
    parameters, noise = random(1)
    parameters[0, 2], parameters[1, 3] = 5.0, -30.0  # clamped
    slopes, weight = torch.randn(6, 2, generator=torch.Generator().manual_seed(2)), 0.3
    sample = squashed_sample(parameters, noise)
    found = squashed_gradient(sample, slopes, weight)
    parameters, noise, slopes = (
        parameters.double().requires_grad_(),
        noise.double(),
        slopes.double(),
    )
    mean, raw = parameters.chunk(2, dim=-1)
    log_std = raw.clamp(-20.0, 2.0)
    x = mean + log_std.exp() * noise
    log_prob = (Normal(mean, log_std.exp()).log_prob(x) - (1 - x.tanh().square() + 1e-6).log()).sum(
        -1
    )
    (expected,) = torch.autograd.grad(
        (x.tanh() * slopes).sum() + weight * log_prob.sum(), parameters
    )
    torch.testing.assert_close(found.double(), expected, rtol=1e-4, atol=1e-5)
    assert found[0, 2] == found[1, 3] == 0.0
    torch.testing.assert_close(sample.log_prob.double(), log_prob.detach(), rtol=1e-4, atol=1e-4)


def test_control_alone_is_the_same_control():
    parameters, noise = random(3)
    torch.testing.assert_close(
        squashed_draw(parameters, noise), squashed_sample(parameters, noise).control
    )
    assert torch.equal(squashed_draw(parameters, None), parameters[:, :2].tanh())
