"""The posterior π(a|s) ∝ p̂(a|s)·exp(Q(s,a)/τ), its candidate variants, and what bounds its error.

Pure functions in log space. Actions are the last axis; a padded or inadmissible action has
log-prior −inf and keeps zero mass, and at least one action of each state must be admissible.
Q-values must be finite everywhere, padding included. Divergences take numpy arrays as well as
tensors, by the same formula: the cache measures single answers, where torch's calls cost the most.
"""

import math
from types import ModuleType
from typing import TypeVar

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

#: A plain number or a tensor of them; what comes in goes out.
Number = TypeVar("Number", float, Tensor)

#: A tensor or a numpy array; what comes in goes out.
Values = TypeVar("Values", Tensor, np.ndarray)


def log_posterior(
    log_prior: Float[Tensor, "*batch actions"],
    q_values: Float[Tensor, "*batch actions"],
    temperature: float,
) -> Float[Tensor, "*batch actions"]:
    """Log of π(a|s) ∝ p̂(a|s)·exp(Q(s,a)/τ) over all admissible actions."""
    return torch.add(log_prior, q_values, alpha=1.0 / temperature).log_softmax(-1)


def log_candidate_posterior(
    log_prior: Float[Tensor, "*batch actions"],
    q_values: Float[Tensor, "*batch actions"],
    temperature: float,
    candidates: Bool[Tensor, "*batch actions"],
) -> Float[Tensor, "*batch actions"]:
    """The posterior restricted to `candidates`: softmax(log p̂ + Q/τ) among them.

    The weights keep log p̂ because candidates drawn without replacement carry no multiplicity; so
    with every action a candidate this equals `log_posterior`.
    """
    return log_posterior(log_prior.masked_fill(~candidates, -math.inf), q_values, temperature)


def sample_candidates(
    log_prior: Float[Tensor, "*batch actions"], k: int, generator: torch.Generator
) -> Bool[Tensor, "*batch actions"]:
    """`k` distinct actions drawn from p̂ without replacement (Gumbel-top-k), as a mask.

    All admissible actions if there are no more than `k`.
    """
    noise = torch.empty_like(log_prior).exponential_(generator=generator)
    perturbed = log_prior - noise.log()
    chosen = perturbed.topk(min(k, log_prior.shape[-1]), dim=-1).indices
    mask = torch.zeros_like(log_prior, dtype=torch.bool).scatter_(-1, chosen, True)
    return mask & ~log_prior.isneginf()


def sample_multiplicities(
    log_prior: Float[Tensor, "*batch actions"], k: int, generator: torch.Generator
) -> Int[Tensor, "*batch actions"]:
    """How often each action came up in `k` draws from p̂ with replacement."""
    drawn = torch.multinomial(log_prior.exp(), k, replacement=True, generator=generator)
    counts = torch.zeros_like(log_prior, dtype=torch.int64)
    return counts.scatter_add_(-1, drawn, torch.ones_like(drawn))


def log_multiplicity_posterior(
    multiplicities: Int[Tensor, "*batch actions"],
    q_values: Float[Tensor, "*batch actions"],
    temperature: float,
) -> Float[Tensor, "*batch actions"]:
    """Softmax(Q/τ) over drawn candidates, each as often as it was drawn.

    The multiplicity stands for p̂: its logarithm takes the place of the log-prior, and as the number
    of draws grows this tends to `log_posterior`.
    """
    return log_posterior(multiplicities.to(q_values.dtype).log(), q_values, temperature)


def log_epsilon_greedy(
    q_values: Float[Tensor, "*batch actions"], epsilon: float
) -> Float[Tensor, "*batch actions"]:
    """Log of the ε-greedy policy: the best action, and with probability ε any, all admissible."""
    best = torch.zeros_like(q_values).scatter_(-1, q_values.argmax(-1, keepdim=True), 1.0)
    return ((1.0 - epsilon) * best + epsilon / q_values.shape[-1]).log()


def sample_action(
    log_probs: Float[Tensor, "*batch actions"], generator: torch.Generator
) -> Int[Tensor, "*batch"]:
    """One action per state, drawn from `log_probs` (Gumbel-max)."""
    noise = torch.empty_like(log_probs).exponential_(generator=generator)
    return (log_probs - noise.log()).argmax(-1)


def temperature_schedule(hit_rate: float, initial: float = 0.8, decay: float = 2.0) -> float:
    """τ = 0.8·exp(−2·h): the more the cache answers, the more Q decides (arXiv 2505.07274)."""
    return initial * math.exp(-decay * hit_rate)


def kl_divergence(log_p: Values, log_q: Values) -> Values:
    """KL(p‖q) in nats; actions with p = 0 contribute nothing, q = 0 where p > 0 gives infinity.

    Args:
        log_p: tensor or numpy array [*batch, actions].
        log_q: the same.

    Returns:
        [*batch].
    """
    xp = _library(log_p)
    absent = log_p == -math.inf
    kept_p, kept_q = xp.where(absent, 0.0, log_p), xp.where(absent, 0.0, log_q)
    return (xp.exp(log_p) * (kept_p - kept_q)).sum(-1)


def span(log_p_cached: Values, log_p_fresh: Values) -> Values:
    """The span max g − min g of g = log p̂ − log p (cached minus fresh) over admissible actions.

    Infinite if an action has mass in only one of the two.

    Args:
        log_p_cached: tensor or numpy array [*batch, actions].
        log_p_fresh: the same.

    Returns:
        [*batch].
    """
    xp = _library(log_p_cached)
    absent = (log_p_cached == -math.inf) & (log_p_fresh == -math.inf)
    gap = xp.where(absent, 0.0, log_p_cached) - xp.where(absent, 0.0, log_p_fresh)
    highest = xp.amax(xp.where(absent, -math.inf, gap), -1)
    return highest - xp.amin(xp.where(absent, math.inf, gap), -1)


def _library(values: Tensor | np.ndarray) -> ModuleType:
    return torch if isinstance(values, Tensor) else np


def kl_bound(span: Number) -> Number:
    """Upper bound span²/8 on KL(π̂‖π) between the posteriors of a cached and a fresh prior.

    With the same Q and τ on both sides, π ∝ π̂·exp(−g), so KL(π̂‖π) = log E_π̂[e^{−g}] + E_π̂[g], which
    Hoeffding's lemma bounds. Neither Q nor τ enters; the constant 1/8 is tight.
    """
    return span * span / 8.0


def tv_bound(span: Number) -> Number:
    """Upper bound span/4 on the total variation of the same posteriors (Pinsker's inequality)."""
    return span / 4.0


def threshold_for_budget(kappa: float, lipschitz: float) -> float:
    """The loosest similarity δ = 1 − κ/L² that keeps KL(π̂‖π) ≤ κ.

    Holds for unit keys z with max_a |log p̂(a) − log p(a)| ≤ L·‖z − z′‖: then span ≤ 2L·‖z − z′‖ and
    ‖z − z′‖² = 2 − 2·cos, so KL ≤ L²·(1 − cos). Never below −1, the smallest cosine there is.
    """
    if lipschitz == 0.0:
        return -1.0
    return max(-1.0, 1.0 - kappa / lipschitz**2)


def value_loss_bound(r_max: float, discount: float, kl: float) -> float:
    """Upper bound (2·r_max/(1−γ)²)·sqrt(KL/2) on |V^π̂ − V^π|.

    From the performance-difference lemma and Pinsker's inequality, for rewards |r| ≤ `r_max` and
    the largest KL(π̂‖π) over states.
    """
    return 2.0 * r_max / (1.0 - discount) ** 2 * math.sqrt(kl / 2.0)


def state_value(
    log_probs: Float[Tensor, "*batch actions"], q_values: Float[Tensor, "*batch actions"]
) -> Float[Tensor, "*batch"]:
    """V(s) = Σ_a π(a|s)·Q(s,a)."""
    return (log_probs.exp() * q_values).sum(-1)


def soft_value(
    log_prior: Float[Tensor, "*batch actions"],
    q_values: Float[Tensor, "*batch actions"],
    temperature: float,
) -> Float[Tensor, "*batch"]:
    """τ·log Σ_a p̂(a|s)·exp(Q(s,a)/τ), which equals V(s) − τ·KL(π‖p̂)."""
    return temperature * torch.add(log_prior, q_values, alpha=1.0 / temperature).logsumexp(-1)
