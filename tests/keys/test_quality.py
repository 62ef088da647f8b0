import math

import numpy as np
import pytest

from cepcli.keys.quality import hits_at_equal_kl, lipschitz

LOG = math.log
EVEN = {"left": LOG(0.5), "right": LOG(0.5)}
SKEWED = {"left": LOG(0.8), "right": LOG(0.2)}
KL = 0.8 * LOG(1.6) + 0.2 * LOG(0.4)  # of SKEWED from EVEN: a cached SKEWED for a text of EVEN
OTHER = {"jump": 0.0}


def at(*degrees):
    angles = np.radians(degrees)
    return np.stack([np.cos(angles), np.sin(angles)], 1).astype(np.float32)


def goals(count):
    return np.zeros(count, int)


def test_lipschitz_of_two_texts_by_hand():
    found = lipschitz(at(0, 90), goals(2), [EVEN, SKEWED])
    # span log 4 at distance √2: L = log 4/(2·√2), the same both ways round
    assert found.largest == pytest.approx(LOG(4) / (2 * math.sqrt(2)), rel=1e-6)
    assert found.quantile == found.largest
    assert found.pairs == 2


def test_lipschitz_quantile_leaves_the_worst_pairs_out():
    found = lipschitz(at(0, 90, 180), goals(3), [EVEN, SKEWED, SKEWED], quantile=0.5)
    # ratios: log 4/(2·√2) twice, log 4/4 twice, 0 twice
    assert found.largest == pytest.approx(LOG(4) / (2 * math.sqrt(2)), rel=1e-6)
    assert found.quantile == pytest.approx(LOG(4) / 4, rel=1e-6)


def test_one_key_for_different_priors_makes_the_largest_infinite():
    same = lipschitz(at(0, 0, 90), goals(3), [EVEN, SKEWED, EVEN], quantile=0.5)
    assert same.largest == math.inf
    assert math.isfinite(same.quantile)
    assert lipschitz(at(0, 0), goals(2), [EVEN, EVEN]).largest == 0.0


def test_lipschitz_compares_within_goals_and_over_common_actions_only():
    assert lipschitz(at(0, 90), np.array([0, 1]), [EVEN, SKEWED]) == (0.0, 0.0, 0)
    assert lipschitz(at(0, 90), goals(2), [EVEN, OTHER]) == (0.0, 0.0, 0)
    wider = {"left": LOG(0.4), "right": LOG(0.1), "wait": LOG(0.5)}
    assert lipschitz(at(0, 90), goals(2), [EVEN, wider]).pairs == 1


def test_loosest_threshold_that_keeps_to_the_error():
    keys = at(0, 10, 90, 100)
    priors = [SKEWED, SKEWED, EVEN, EVEN]
    # at cos 15° the second and fourth hit without error; at −1 all but the first hit the first,
    # two of them with an error
    strict, loose = math.cos(math.radians(15)), -1.0
    found = hits_at_equal_kl(keys, goals(4), priors, target=0.01, thresholds=(strict, loose))
    assert found == (strict, 0.5, pytest.approx(0.0, abs=1e-12))
    found = hits_at_equal_kl(keys, goals(4), priors, target=1.0, thresholds=(strict, loose))
    assert (found.threshold, found.hit_rate) == (loose, 0.75)
    assert found.cost == pytest.approx(KL)


def test_cost_may_be_the_bound_and_the_quantile_is_free():
    keys, priors = at(0, 0, 0), [SKEWED, SKEWED, EVEN]
    bound = LOG(4) ** 2 / 8
    found = hits_at_equal_kl(
        keys, goals(3), priors, target=1.0, cost="bound", quantile=1.0, thresholds=(0.9,)
    )
    assert found.cost == pytest.approx(bound)
    found = hits_at_equal_kl(
        keys, goals(3), priors, target=0.0, cost="bound", quantile=0.0, thresholds=(0.9,)
    )
    assert found == (0.9, pytest.approx(2 / 3), 0.0)


def test_a_text_that_hits_does_not_become_an_entry():
    keys = at(0, 20, 40)
    similar = math.cos(math.radians(25))
    found = hits_at_equal_kl(keys, goals(3), [EVEN] * 3, target=1.0, thresholds=(similar,))
    assert found.hit_rate == pytest.approx(1 / 3)


def test_texts_before_the_start_answer_but_are_not_played():
    found = hits_at_equal_kl(at(0, 0, 90), goals(3), [EVEN] * 3, target=1.0, start=1,
                             thresholds=(0.9,))  # fmt: skip
    assert found == (0.9, 0.5, 0.0)


def test_entries_of_other_goals_or_without_the_actions_do_not_answer():
    keys = at(0, 0)
    assert hits_at_equal_kl(keys, np.array([0, 1]), [EVEN, EVEN], target=9.0).hit_rate == 0.0
    assert hits_at_equal_kl(keys, goals(2), [OTHER, EVEN], target=9.0).hit_rate == 0.0
    assert hits_at_equal_kl(keys, goals(2), [EVEN, EVEN], target=9.0).hit_rate == 0.5


def test_without_a_threshold_that_keeps_to_the_error_nothing_hits():
    assert hits_at_equal_kl(at(0, 0), goals(2), [SKEWED, EVEN], target=0.01) == (None, 0.0, 0.0)


def test_with_a_start_new_texts_are_compared_with_those_before_only():
    priors = [SKEWED, EVEN, EVEN]
    found = lipschitz(at(0, 90, 1), goals(3), priors, start=2)
    span = LOG(0.8) - LOG(0.2)
    assert found.pairs == 2
    assert found.largest == pytest.approx(span / (4 * math.sin(math.radians(0.5))), rel=1e-3)
    assert lipschitz(at(0, 90, 1), goals(3), priors, start=1).pairs == 2
    assert lipschitz(at(0, 90, 1), goals(3), priors).pairs == 6
