import numpy as np
import pytest

from cepcli.annotate.policies import random_gait, walking_gaits
from cepcli.annotate.records import suggestion
from cepcli.annotate.sampling import farthest_points, sample_states, standardised
from cepcli.envs.catalog import control_spec, make_control_env

ALIKE = np.zeros(4, np.int64)


def rng():
    return np.random.default_rng(0)


def test_the_farthest_is_chosen_next():
    points = np.array([[0.0], [1.0], [10.0], [4.0]])
    chosen = farthest_points(points, 3, rng(), ALIKE)
    # whatever the first is, an end follows, and then what is farthest from both
    assert set(chosen[:2]) & {0, 2}
    assert len(set(chosen)) == 3
    distances = [min(abs(points[n, 0] - points[m, 0]) for m in chosen[:2]) for n in range(4)]
    assert distances[chosen[2]] == max(distances)


def test_what_is_the_same_is_chosen_once():
    points = np.array([[0.0], [0.0], [1.0], [1.0]])
    assert sorted(points[farthest_points(points, 4, rng(), ALIKE), 0]) == [0.0, 1.0]


def test_a_small_group_has_its_share():
    points = rng().normal(size=(200, 2))
    groups = np.array([0] * 196 + [1] * 4)
    chosen = np.array(farthest_points(points, 40, rng(), groups))
    assert (groups[chosen] == 1).sum() == 4


def test_standardised_features_have_mean_0_deviation_1_and_constants_do_not_count():
    points = standardised(np.array([[1.0, 7.0], [3.0, 7.0]]))
    assert points.tolist() == [[-1.0, 0.0], [1.0, 0.0]]
    assert standardised(np.array([[0.0]] * 99 + [[1000.0]])).max() == 3.0


@pytest.mark.usefixtures("short_search")
@pytest.mark.parametrize(
    "env_id", ["walker2d", pytest.param("metaworld/push", marks=pytest.mark.slow)]
)
def test_the_same_seed_samples_the_same_states(env_id):
    one, two = (sample_states(env_id, 12, pool=6, seed=1) for _ in range(2))
    assert one == two
    assert len({state.id for state in one}) == 12
    assert {s.id for s in one}.isdisjoint(s.id for s in sample_states(env_id, 3, pool=2, seed=2))
    assert all(len(state.observation) == len(control_spec(env_id).features) for state in one)


@pytest.mark.slow
def test_walkers_are_not_only_seen_falling():
    spec = control_spec("walker2d")
    named = {suggestion(spec, s.observation).primitive for s in sample_states("walker2d", 60)}
    assert len(named) >= 6


@pytest.mark.slow
def test_a_search_finds_gaits_better_than_chance():
    env = make_control_env("walker2d")
    env.reset(seed=0)

    def length(gait):
        observation, _ = env.reset()
        for step in range(200):
            observation, _, terminated, _, _ = env.step(gait.control(step, observation))
            if terminated:
                return step
        return 200

    random = rng()
    by_chance = [length(random_gait(env.control_spec, random)) for _ in range(10)]
    assert np.mean([length(gait) for gait in walking_gaits(env, random)]) > np.mean(by_chance)
    env.close()
