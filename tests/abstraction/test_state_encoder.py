"""Distances between the points that an observation names."""

import numpy as np
import pytest

from cepcli.abstraction.state_encoder import PER_PAIR, point_pairs, with_distances
from cepcli.envs.catalog import control_spec


def listed(env):
    return control_spec(env).features


def test_points_of_one_moment_are_paired_and_each_with_itself_before():
    names = [feature.name for feature in listed("metaworld/push")]
    found = [
        tuple(names[column].removesuffix("_x") for column in pair)
        for pair in point_pairs(listed("metaworld/push"))
    ]
    now = ["hand", "object", "second_object", "goal"]
    assert found[:6] == [(a, b) for n, a in enumerate(now) for b in now[n + 1 :]]
    assert found[6:] == [(name, f"previous_{name}") for name in now[:3]]


@pytest.mark.parametrize("env", ["walker2d", "halfcheetah", "ant"])
def test_forces_and_angles_are_no_points(env):
    assert point_pairs(listed(env)).shape == (0, 2)


def test_a_pair_adds_distance_horizontal_distance_and_height():
    observations = np.array([[0.0, 0.0, 0.0, 9.0, 3.0, 4.0, 12.0]])
    added = with_distances(observations, np.array([[0, 4]]))
    assert added[0, :7].tolist() == observations[0].tolist()
    assert added[0, 7:] == pytest.approx([np.log(13.0), np.log(5.0), -12.0], abs=1e-6)
    assert len(added[0]) == 7 + PER_PAIR
    assert np.array_equal(with_distances(observations[0], np.array([[0, 4]])), added[0])
    assert with_distances(observations, np.zeros((0, 2), np.int64)) is observations
    touching = with_distances(np.zeros((1, 6)), np.array([[0, 3]]))
    assert np.isfinite(touching).all()
