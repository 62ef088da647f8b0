"""The control environments keep their contract: names, seeds, splits, limits, what is refused."""

import subprocess
import sys

import gymnasium as gym
import numpy as np
import pytest

from cepcli.envs.catalog import control_spec, make_control_env, make_env
from cepcli.envs.control import check_finite
from cepcli.envs.control_checker import check_control_env
from cepcli.envs.metaworld_specs import TASKS
from cepcli.errors import EnvError

MUJOCO = {"halfcheetah": "HalfCheetah-v5", "walker2d": "Walker2d-v5", "ant": "Ant-v5"}
METAWORLD = [
    f"metaworld/{name}"
    for name in (
        "reach", "push", "drawer-open", "button-press", "door-open", "pick-place", "window-open",
    )
]  # fmt: skip
ALL = [*MUJOCO, *METAWORLD]


def controls(env, steps, seed=0):
    random = np.random.default_rng(seed)
    return random.uniform(-1, 1, (steps, env.control_spec.controls))


def played(env, steps=30, **reset):
    observation, info = env.reset(**reset)
    rows = [observation.copy()]
    for control in controls(env, steps):
        observation, reward, *_ = env.step(control)
        rows.append(np.append(observation, reward))
    return info["instance"], np.concatenate(rows)


@pytest.fixture
def made(request):
    envs = []

    def make(env_id, **options):
        envs.append(make_control_env(env_id, **options))
        return envs[-1]

    yield make
    for env in envs:
        env.close()


@pytest.mark.parametrize("env_id", ALL)
def test_every_number_and_every_primitive_has_a_name_of_its_own(env_id, made):
    spec, env = control_spec(env_id), made(env_id)
    observation, info = env.reset(seed=0)
    assert env.control_spec == spec
    assert observation.shape == (len(spec.features),)
    assert observation.dtype == np.float64
    assert env.action_space.shape == (spec.controls,)
    assert (env.action_space.low == -1).all()
    assert (env.action_space.high == 1).all()
    assert len({feature.name for feature in spec.features}) == len(spec.features)
    assert all(feature.unit and feature.meaning for feature in spec.features)
    assert 6 <= len(set(spec.actions)) == len(spec.primitives) <= 10
    assert info["goal"] == spec.goal
    assert info["success"] is False


@pytest.mark.parametrize("env_id", ALL)
def test_one_seed_gives_the_same_episodes_and_an_instance_can_be_played_again(env_id, made):
    one, other = made(env_id), made(env_id)
    first, second = played(one, seed=7), played(one)
    for found, again in ((first, played(other, seed=7)), (second, played(other))):
        assert found[0] == again[0]
        assert np.array_equal(found[1], again[1])
    assert first[0] != second[0]
    replayed = played(other, options={"instance": first[0]})
    assert np.array_equal(replayed[1], first[1])
    assert played(one)[0] == played(other)[0]  # a replay draws nothing


@pytest.mark.parametrize("env_id", [*MUJOCO, "metaworld/push"])
def test_training_and_held_out_instances_are_disjoint(env_id, made):
    splits = [made(env_id, split=split) for split in ("train", "heldout")]
    drawn = [{played(env, 1, **({"seed": 0} if n == 0 else {}))[0] for n in range(20)}
             for env in splits]  # fmt: skip
    assert not drawn[0] & drawn[1]
    assert len(drawn[0]) > 5


@pytest.mark.parametrize("env_id", MUJOCO)
def test_mujoco_is_gymnasiums_own(env_id, made):
    ours, theirs = made(env_id), gym.make(MUJOCO[env_id])
    observation, _ = ours.reset(options={"instance": 5})
    assert np.array_equal(observation, theirs.reset(seed=5)[0])
    for control in controls(ours, 50):
        found, expected = ours.step(control), theirs.step(control)
        assert np.array_equal(found[0], expected[0])
        assert found[1:4] == expected[1:4]
        if found[2]:
            break
    theirs.close()


@pytest.mark.parametrize("env_id", ["halfcheetah", "metaworld/reach"])
def test_an_episode_is_truncated_at_its_limit(env_id, made):
    env = made(env_id)
    env.reset(seed=0)
    still = np.zeros(env.control_spec.controls)
    for step in range(1, env.control_spec.max_episode_steps + 1):
        _, _, terminated, truncated, _ = env.step(still)
        assert not terminated
        assert truncated == (step == env.control_spec.max_episode_steps)


def test_metaworld_refuses_a_step_after_the_end(made):
    env = made("metaworld/reach")
    env.reset(seed=0)
    for _ in range(500):
        env.step(np.zeros(4))
    with pytest.raises(EnvError, match="is over"):
        env.step(np.zeros(4))


@pytest.mark.parametrize("env_id", METAWORLD)
def test_the_scripted_expert_solves_the_task_and_stays_solved(env_id, made):
    env = made(env_id, options={"terminate_on_success": True})
    observation, _ = env.reset(seed=3)
    ended = False
    while not ended:
        observation, _, terminated, truncated, info = env.step(env.expert_control(observation))
        ended = terminated or truncated
    assert terminated
    assert info["success"]


@pytest.mark.parametrize(
    ("primitive", "moved", "target"),
    [
        ("reach the object", slice(0, 3), slice(4, 7)),
        ("move to the goal", slice(0, 3), slice(36, 39)),
    ],
)
def test_nominal_controls_go_where_their_name_says(primitive, moved, target, made):
    env = made("metaworld/reach")
    observation, _ = env.reset(seed=0)
    number = env.control_spec.actions.index(primitive)
    distances = []
    for _ in range(40):
        distances.append(np.linalg.norm(observation[moved] - observation[target]))
        observation, *_ = env.step(env.nominal(number, observation))
    assert distances[-1] < 0.4 * distances[0]


@pytest.mark.parametrize(("primitive", "sign"), [("raise the hand", 1), ("lower the hand", -1)])
def test_nominal_controls_move_the_hand_up_and_down(primitive, sign, made):
    env = made("metaworld/push")
    before, _ = env.reset(seed=0)
    number = env.control_spec.actions.index(primitive)
    after = before
    for _ in range(5):
        control = env.nominal(number, after)
        assert np.abs(control).max() <= 1
        after, *_ = env.step(control)
    assert sign * (after[2] - before[2]) > 0.01


def test_the_gripper_closes_and_opens(made):
    env = made("metaworld/push")
    observation, _ = env.reset(seed=0)
    openings = []
    for name in ("close the gripper", "open the gripper"):
        number = env.control_spec.actions.index(name)
        for _ in range(15):
            observation, *_ = env.step(env.nominal(number, observation))
        openings.append(observation[3])
    assert openings[0] < openings[1]


def test_there_are_no_nominal_controls_where_none_are_wanted(made):
    env = made("metaworld/push", options={"nominal": False})
    observation, _ = env.reset(seed=0)
    assert env.nominal(0, observation) is None
    assert made("walker2d").nominal(0, np.zeros(17)) is None


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_not_finite_are_refused_by_name(value):
    spec, observation = control_spec("walker2d"), np.zeros(17)
    check_finite(spec, observation, 0.0)
    with pytest.raises(EnvError, match="reward"):
        check_finite(spec, observation, value)
    observation[8] = value
    with pytest.raises(EnvError, match="`forward_speed`"):
        check_finite(spec, observation, 0.0)


@pytest.mark.parametrize("env_id", ["halfcheetah", "metaworld/push"])
def test_a_frame_is_drawn_or_the_lack_of_opengl_is_said(env_id, made):
    env = made(env_id)
    env.reset(seed=0)
    try:
        frame = env.render()
    except EnvError as error:
        assert "MUJOCO_GL" in error.message  # noqa: PT017  (either outcome is right)
    else:
        assert frame.shape == (240, 320, 3)
        assert frame.std() > 0


def test_all_fifty_tasks_are_found_by_name_and_misspelt_ones_are_corrected():
    from metaworld.env_dict import ALL_V3_ENVIRONMENTS

    assert {f"{name}-v3" for name in TASKS} == set(ALL_V3_ENVIRONMENTS)
    assert {control_spec(f"metaworld/{name}").goal for name in TASKS} == set(TASKS.values())
    assert control_spec("metaworld/push-v3") == control_spec("metaworld/push")
    with pytest.raises(EnvError) as error:
        control_spec("metaworld/drawer-opne")
    assert "metaworld/drawer-open" in (error.value.hint or "")


def test_a_kind_that_does_not_fit_is_refused(tmp_path):
    with pytest.raises(EnvError, match="of kind control, expected an environment of text"):
        make_env("walker2d", workspace=tmp_path)
    with pytest.raises(EnvError, match="of kind text, expected one of continuous control"):
        make_control_env("babyai/goto-obj")


def test_what_is_known_of_an_environment_loads_no_simulator():
    code = (
        "import sys; from cepcli.envs.catalog import control_spec, env_ids; env_ids();"
        "control_spec('walker2d'); control_spec('metaworld/push');"
        "print(sorted({'mujoco', 'metaworld', 'minigrid', 'textworld'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("env_id", [*MUJOCO, "metaworld/reach"])
def test_the_check_passes_what_keeps_the_contract(env_id, made):
    check_control_env(made(env_id), heldout=made(env_id, split="heldout"))


class Drifting:
    """Wraps an environment's reset so that it is not what was asked for."""

    def __init__(self, env, change):
        self._env, self._change, self._resets = env, change, 0

    def __getattr__(self, name):
        return getattr(self._env, name)

    def reset(self, **options):
        observation, info = self._env.reset(**options)
        self._resets += 1
        return self._change(observation, info, self._resets)


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (lambda o, i, n: (o + 1e-9 * n, i), "does not give the same episodes"),
        (lambda o, i, n: (o, {**i, "instance": n}), "does not give the same episodes"),
        (lambda o, i, n: (o, {"goal": i["goal"], "instance": 1}), "info\\['success'\\] is None"),
    ],
)
def test_the_check_names_what_breaks_the_contract(change, what, made):
    with pytest.raises(EnvError, match=what):
        check_control_env(Drifting(made("walker2d"), change))


def test_the_check_finds_shared_instances_and_bad_suggestions(made):
    with pytest.raises(EnvError, match="are in both splits"):
        check_control_env(made("walker2d"), heldout=made("walker2d"))
    env = made("walker2d")
    env.nominal = lambda primitive, observation: np.full(6, 1.5)
    with pytest.raises(EnvError, match="no control within ±1"):
        check_control_env(env)
