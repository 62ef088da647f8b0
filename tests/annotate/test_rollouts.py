"""Rollouts without labels."""

import numpy as np
import pytest

from cepcli.annotate.sampling import rollouts
from cepcli.envs.catalog import make_control_env


@pytest.mark.usefixtures("short_search")
def test_as_many_steps_as_asked_for_and_the_same_for_the_same_seed():
    played = [rollouts(make_control_env("walker2d"), 120, 40, seed) for seed in (3, 3, 4)]
    sizes = [len(rollout.rewards) for rollout in played[0]]
    assert sum(sizes) == 120
    assert max(sizes) <= 40
    assert all(len(one.observations) == len(one.rewards) for one in played[0])
    first, again, other = (np.concatenate([r.observations for r in one]) for one in played)
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)
