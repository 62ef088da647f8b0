"""The posterior's properties, and the bounds that the cache's error budget rests on."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from cepcli import posterior as maths

NEG_INF = -math.inf
seeds = st.integers(0, 2**31 - 1)
sizes = st.integers(1, 9)
temperatures = st.floats(0.05, 20.0)
scales = st.floats(0.01, 5.0)


def rng(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def random_log_probs(seed: int, n: int, scale: float = 1.0, masked: int = 0) -> torch.Tensor:
    logits = scale * torch.randn(n, generator=rng(seed), dtype=torch.float64)
    logits[n - masked :] = NEG_INF
    return logits.log_softmax(-1)


def random_q(seed: int, n: int, scale: float = 1.0) -> torch.Tensor:
    return scale * torch.randn(n, generator=rng(seed + 1), dtype=torch.float64)


def total_variation(log_p: torch.Tensor, log_q: torch.Tensor) -> float:
    return 0.5 * float((log_p.exp() - log_q.exp()).abs().sum())


def test_posterior_of_a_hand_computed_state():
    log_prior = torch.log(torch.tensor([0.5, 0.25, 0.25]))
    q_values = torch.log(torch.tensor([1.0, 4.0, 1.0])) * 0.5
    expected = torch.tensor([2 / 7, 4 / 7, 1 / 7])
    torch.testing.assert_close(maths.log_posterior(log_prior, q_values, 0.5).exp(), expected)


@given(seeds, sizes, temperatures, scales)
def test_posterior_sums_to_one_and_zero_prior_stays_zero(seed, n, tau, scale):
    log_prior = random_log_probs(seed, n + 2, scale, masked=2)
    posterior = maths.log_posterior(log_prior, random_q(seed, n + 2, scale), tau).exp()
    assert float(posterior.sum()) == pytest.approx(1.0)
    assert posterior[n:].tolist() == [0.0, 0.0]


@given(seeds, sizes, temperatures, st.floats(-100, 100))
def test_posterior_ignores_a_constant_added_to_q(seed, n, tau, constant):
    log_prior, q = random_log_probs(seed, n), random_q(seed, n)
    shifted = maths.log_posterior(log_prior, q + constant, tau)
    torch.testing.assert_close(shifted, maths.log_posterior(log_prior, q, tau), atol=1e-8, rtol=0)


@given(seeds, sizes, temperatures)
def test_posterior_of_permuted_actions_is_the_permuted_posterior(seed, n, tau):
    log_prior, q = random_log_probs(seed, n), random_q(seed, n)
    order = torch.randperm(n, generator=rng(seed))
    permuted = maths.log_posterior(log_prior[order], q[order], tau)
    torch.testing.assert_close(permuted, maths.log_posterior(log_prior, q, tau)[order])


@given(seeds, sizes, temperatures, st.integers(0, 3))
def test_a_padded_batch_row_equals_the_unpadded_state(seed, n, tau, padding):
    log_prior, q = random_log_probs(seed, n), random_q(seed, n)
    padded_prior = torch.cat([log_prior, torch.full((padding,), NEG_INF, dtype=torch.float64)])
    padded_q = torch.cat([q, torch.full((padding,), 7.0, dtype=torch.float64)])
    batch_prior, batch_q = padded_prior.expand(3, -1), padded_q.expand(3, -1)
    batch = maths.log_posterior(batch_prior, batch_q, tau)
    single = maths.log_posterior(log_prior, q, tau)
    torch.testing.assert_close(batch[1, :n], single)
    torch.testing.assert_close(maths.state_value(batch, batch_q)[2], maths.state_value(single, q))
    torch.testing.assert_close(
        maths.soft_value(batch_prior, batch_q, tau)[0], maths.soft_value(log_prior, q, tau)
    )
    assert float(maths.kl_divergence(batch, batch_prior)[0]) == pytest.approx(
        float(maths.kl_divergence(single, log_prior)), abs=1e-10
    )


@given(seeds, sizes, scales, st.lists(temperatures, min_size=2, max_size=5))
def test_kl_to_the_prior_never_grows_with_temperature(seed, n, scale, taus):
    log_prior, q = random_log_probs(seed, n), random_q(seed, n, scale)
    kls = [
        float(maths.kl_divergence(maths.log_posterior(log_prior, q, tau), log_prior))
        for tau in sorted(taus)
    ]
    assert all(later <= earlier + 1e-10 for earlier, later in itertools.pairwise(kls))


@given(seeds, sizes, scales, temperatures)
def test_kl_to_the_prior_is_bounded_by_the_range_of_q(seed, n, scale, tau):
    log_prior, q = random_log_probs(seed, n), random_q(seed, n, scale)
    q_range = float(q.max() - q.min())
    kl = float(maths.kl_divergence(maths.log_posterior(log_prior, q, tau), log_prior))
    assert -1e-12 <= kl <= min(q_range / tau, q_range**2 / (8 * tau**2)) + 1e-10


@given(seeds, sizes)
def test_a_large_temperature_gives_the_prior_and_a_small_one_the_greedy_action(seed, n):
    log_prior, q = random_log_probs(seed, n), random_q(seed, n)
    torch.testing.assert_close(maths.log_posterior(log_prior, q, 1e9), log_prior, atol=1e-7, rtol=0)
    top = q.sort(descending=True).values
    assume(n == 1 or float(top[0] - top[1]) > 0.01)
    assert int(maths.log_posterior(log_prior, q, 1e-4).argmax()) == int(q.argmax())


@given(seeds, sizes, scales, scales, temperatures)
def test_kl_between_posteriors_is_at_most_span_squared_over_eight(seed, n, noise, scale, tau):
    fresh = random_log_probs(seed, n, scale)
    cached = (fresh + noise * random_q(seed + 7, n)).log_softmax(-1)
    q = random_q(seed, n, scale)
    posterior_cached = maths.log_posterior(cached, q, tau)
    posterior_fresh = maths.log_posterior(fresh, q, tau)
    gap = float(maths.span(cached, fresh))
    kl = float(maths.kl_divergence(posterior_cached, posterior_fresh))
    assert kl <= maths.kl_bound(gap) + 1e-10
    distance = total_variation(posterior_cached, posterior_fresh)
    assert distance <= math.sqrt(max(kl, 0.0) / 2) + 1e-7
    assert distance <= maths.tv_bound(gap) + 1e-10
    assert float(maths.span(posterior_cached, posterior_fresh)) == pytest.approx(gap, abs=1e-9)


def test_the_constant_one_eighth_is_tight():
    for gap, share in ((1e-1, 0.999), (1e-2, 0.99999)):
        cached = torch.tensor([0.5, 0.5], dtype=torch.float64).log()
        fresh = (cached - torch.tensor([gap / 2, -gap / 2], dtype=torch.float64)).log_softmax(-1)
        assert float(maths.span(cached, fresh)) == pytest.approx(gap)
        kl = float(maths.kl_divergence(cached, fresh))
        assert share * maths.kl_bound(gap) <= kl <= maths.kl_bound(gap)


@given(seeds, st.integers(1, 6), st.floats(0.001, 1.0), st.floats(0.2, 5.0), temperatures)
def test_a_similarity_above_the_budget_threshold_keeps_kl_within_the_budget(
    seed, n, kappa, lipschitz, tau
):
    dim = 4
    threshold = maths.threshold_for_budget(kappa, lipschitz)
    key, other = torch.randn(2, dim, generator=rng(seed), dtype=torch.float64)
    key = key / key.norm()
    other = other - (other @ key) * key
    cosine = threshold + (1 - threshold) * float(torch.rand(1, generator=rng(seed + 1)))
    near = cosine * key + math.sqrt(max(0.0, 1 - cosine**2)) * other / other.norm()
    reach = lipschitz * float((key - near).norm())
    gap = reach * (2 * torch.rand(n, generator=rng(seed + 2), dtype=torch.float64) - 1)
    fresh = random_log_probs(seed, n)
    q = random_q(seed, n)
    kl = maths.kl_divergence(
        maths.log_posterior(fresh + gap, q, tau), maths.log_posterior(fresh, q, tau)
    )
    assert float(kl) <= kappa + 1e-9


@pytest.mark.parametrize(
    ("kappa", "lipschitz", "threshold"),
    [(0.02, 1.0, 0.98), (0.02, 2.0, 0.995), (5.0, 1.0, -1.0), (0.02, 0.0, -1.0), (0.0, 3.0, 1.0)],
)
def test_threshold_for_budget(kappa, lipschitz, threshold):
    assert maths.threshold_for_budget(kappa, lipschitz) == pytest.approx(threshold)


@given(seeds, st.floats(0.0, 0.9), temperatures)
def test_value_loss_bound_holds_in_random_decision_processes(seed, discount, tau):
    states, actions = 4, 3
    random = np.random.default_rng(seed)
    transition = random.dirichlet(np.ones(states), size=(states, actions))
    reward = random.uniform(-1, 1, size=(states, actions))
    fresh = torch.from_numpy(random.standard_normal((states, actions))).log_softmax(-1)
    noise = torch.from_numpy(random.uniform(0, 1) * random.standard_normal((states, actions)))
    q = torch.from_numpy(random.standard_normal((states, actions)))
    policies = [
        maths.log_posterior(prior, q, tau) for prior in ((fresh + noise).log_softmax(-1), fresh)
    ]
    kl = float(maths.kl_divergence(*policies).max())
    values = []
    for log_policy in policies:
        policy = log_policy.exp().numpy()
        step = np.einsum("sa,sat->st", policy, transition)
        values.append(np.linalg.solve(np.eye(states) - discount * step, (policy * reward).sum(1)))
    loss = np.abs(values[0] - values[1]).max()
    assert loss <= maths.value_loss_bound(1.0, discount, max(kl, 0.0)) + 1e-9


def test_value_loss_bound_of_hand_computed_values():
    assert maths.value_loss_bound(2.0, 0.5, 0.02) == pytest.approx(2 * 2 / 0.25 * 0.1)


@given(seeds, sizes, temperatures, st.integers(0, 2))
def test_all_actions_as_candidates_equals_the_exact_posterior(seed, n, tau, masked):
    masked = min(masked, n - 1)
    log_prior, q = random_log_probs(seed, n, masked=masked), random_q(seed, n)
    candidates = maths.sample_candidates(log_prior, n, rng(seed))
    assert candidates.tolist() == (~log_prior.isneginf()).tolist()
    restricted = maths.log_candidate_posterior(log_prior, q, tau, candidates)
    torch.testing.assert_close(restricted, maths.log_posterior(log_prior, q, tau))


@given(seeds, sizes, st.integers(1, 12), temperatures)
def test_candidates_are_k_distinct_admissible_actions_and_keep_all_the_mass(seed, n, k, tau):
    log_prior = random_log_probs(seed, n + 1, masked=1)
    candidates = maths.sample_candidates(log_prior, k, rng(seed))
    assert int(candidates.sum()) == min(k, n)
    assert not candidates[n]
    posterior = maths.log_candidate_posterior(log_prior, random_q(seed, n + 1), tau, candidates)
    assert float(posterior.exp().sum()) == pytest.approx(1.0)
    assert bool((posterior.isneginf() == ~candidates).all())


def test_candidates_are_drawn_without_replacement_in_proportion_to_the_prior():
    log_prior = torch.tensor([0.6, 0.3, 0.1]).log().expand(20_000, -1)
    drawn = maths.sample_candidates(log_prior, 2, rng(0)).double().mean(0)
    # P(i among two) = p_i + Σ_{j≠i} p_j·p_i/(1−p_j)
    expected = [0.6 + 0.3 * 6 / 7 + 0.1 * 2 / 3, 0.3 + 0.6 * 3 / 4 + 0.1 / 3, 0.1 + 0.15 + 0.3 / 7]
    np.testing.assert_allclose(drawn.numpy(), expected, atol=0.015)


@given(seeds, sizes, st.integers(1, 20))
def test_multiplicities_count_every_draw(seed, n, k):
    log_prior = random_log_probs(seed, n + 1, masked=1).expand(2, -1)
    counts = maths.sample_multiplicities(log_prior, k, rng(seed))
    assert counts.sum(-1).tolist() == [k, k]
    assert counts[:, n].tolist() == [0, 0]


def test_multiplicity_posterior_weighs_each_candidate_as_often_as_it_was_drawn():
    counts = torch.tensor([2, 0, 1])
    q = torch.tensor([0.0, 50.0, math.log(3.0)])
    posterior = maths.log_multiplicity_posterior(counts, q, 1.0).exp()
    torch.testing.assert_close(posterior, torch.tensor([0.4, 0.0, 0.6]))


def test_multiplicity_posterior_tends_to_the_exact_one():
    log_prior, q = random_log_probs(3, 4), random_q(3, 4)
    counts = maths.sample_multiplicities(log_prior, 200_000, rng(1))
    drawn = maths.log_multiplicity_posterior(counts, q, 0.5).exp()
    exact = maths.log_posterior(log_prior, q, 0.5).exp()
    np.testing.assert_allclose(drawn.numpy(), exact.numpy(), atol=0.01)


def test_sampled_actions_follow_their_probabilities():
    log_probs = torch.tensor([0.7, 0.0, 0.3]).log().expand(20_000, -1)
    actions = maths.sample_action(log_probs, rng(0))
    np.testing.assert_allclose(np.bincount(actions) / 20_000, [0.7, 0.0, 0.3], atol=0.015)


@pytest.mark.parametrize(
    "sampler",
    [
        lambda p, g: maths.sample_candidates(p, 2, g),
        lambda p, g: maths.sample_multiplicities(p, 2, g),
        maths.sample_action,
    ],
)
def test_the_same_generator_state_draws_the_same(sampler):
    log_probs = random_log_probs(0, 6).expand(8, -1)
    assert sampler(log_probs, rng(5)).tolist() == sampler(log_probs, rng(5)).tolist()
    assert sampler(log_probs, rng(5)).tolist() != sampler(log_probs, rng(6)).tolist()


@given(st.floats(0, 1), st.floats(0, 1))
def test_temperature_falls_as_the_hit_rate_grows(first, second):
    low, high = sorted((first, second))
    assert maths.temperature_schedule(low) >= maths.temperature_schedule(high) > 0


def test_temperature_schedule_of_the_paper():
    assert maths.temperature_schedule(0.0) == 0.8
    assert maths.temperature_schedule(1.0) == pytest.approx(0.8 * math.exp(-2))
    assert maths.temperature_schedule(0.5, initial=1.0, decay=4.0) == pytest.approx(math.exp(-2))


@given(seeds, sizes, temperatures)
def test_soft_value_is_state_value_less_the_price_of_leaving_the_prior(seed, n, tau):
    log_prior, q = random_log_probs(seed, n), random_q(seed, n)
    posterior = maths.log_posterior(log_prior, q, tau)
    price = tau * maths.kl_divergence(posterior, log_prior)
    torch.testing.assert_close(
        maths.soft_value(log_prior, q, tau), maths.state_value(posterior, q) - price
    )
    assert float(q.min()) - 1e-9 <= float(maths.state_value(posterior, q)) <= float(q.max()) + 1e-9


def test_kl_and_span_of_different_supports():
    full = torch.tensor([0.5, 0.5, 0.0]).log()
    part = torch.tensor([1.0, 0.0, 0.0]).log()
    assert float(maths.kl_divergence(part, full)) == pytest.approx(math.log(2))
    assert float(maths.kl_divergence(full, part)) == math.inf
    assert float(maths.span(full, full)) == 0.0
    assert float(maths.span(full, part)) == math.inf


@given(seeds, sizes, st.integers(0, 8))
def test_divergences_of_numpy_arrays_are_those_of_tensors(seed, n, masked):
    ours = random_log_probs(seed, n, masked=min(masked, n - 1))
    theirs = random_log_probs(seed + 1, n, masked=min(masked, n - 1))
    for divergence in (maths.kl_divergence, maths.span):
        found = divergence(ours.numpy(), theirs.numpy())
        assert isinstance(found, (np.ndarray, np.generic))
        assert float(found) == pytest.approx(float(divergence(ours, theirs)), rel=1e-12)


def test_span_of_hand_computed_priors():
    cached = torch.tensor([0.5, 0.25, 0.25]).log()
    fresh = torch.tensor([0.25, 0.5, 0.25]).log()
    assert float(maths.span(cached, fresh)) == pytest.approx(2 * math.log(2))
    assert maths.kl_bound(2.0) == 0.5
    assert maths.tv_bound(2.0) == 0.5


def test_gradients_stay_finite_under_padding():
    q = torch.zeros(2, 3, requires_grad=True)
    log_prior = torch.tensor([[0.5, 0.5, 0.0], [1.0, 0.0, 0.0]]).log()
    posterior = maths.log_posterior(log_prior, q, 0.5)
    loss = maths.state_value(posterior, q) + maths.kl_divergence(posterior, log_prior)
    (loss + maths.soft_value(log_prior, q, 0.5)).sum().backward()
    assert q.grad is not None
    assert bool(q.grad.isfinite().all())
