"""The control environments keep their contract: names, seeds, splits, limits, what is refused."""

import itertools
import os
import subprocess
import sys
from dataclasses import replace

import gymnasium as gym
import numpy as np
import pytest

from cepcli.envs import catalog
from cepcli.envs.catalog import control_spec, make_control_env, make_env
from cepcli.envs.checker import check_control_env
from cepcli.envs.control import check_finite
from cepcli.envs.metaworld import TASKS
from cepcli.errors import ConfigError, EnvError

MUJOCO = {"halfcheetah": "HalfCheetah-v5", "walker2d": "Walker2d-v5", "ant": "Ant-v5"}
METAWORLD = [
    f"metaworld/{name}"
    for name in (
        "reach", "push", "drawer-open", "button-press", "door-open", "pick-place", "window-open",
    )
]  # fmt: skip
FEW = [
    "metaworld/push",
    "metaworld/door-open",
    *(
        pytest.param(env_id, marks=pytest.mark.slow)
        for env_id in METAWORLD
        if env_id not in ("metaworld/push", "metaworld/door-open")
    ),
]
ALL = [*MUJOCO, *FEW]


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
        envs.append(make_control_env(env_id, **options).unwrapped)
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


def test_held_out_tasks_put_the_goal_elsewhere(made):
    env = made("metaworld/push")
    goals = {
        env.reset(options={"instance": instance})[0][36:39].tobytes()
        for instance in (*range(5), *range(50, 55))
    }
    assert len(goals) == 10


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


@pytest.mark.parametrize("env_id", FEW)
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
    observation[0] = np.inf  # and another beside it, which may cancel out in a sum
    with pytest.raises(EnvError, match="`torso_height`"):
        check_finite(spec, observation, 0.0)


@pytest.mark.parametrize("env_id", [*MUJOCO, "metaworld/push"])
@pytest.mark.parametrize(
    ("part", "value", "what"),
    [("qvel", 1e11, "its velocities"), ("qpos", np.nan, "its positions")],
)
def test_a_simulation_that_mujoco_starts_over_is_refused(
    env_id, part, value, what, made, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)  # MuJoCo writes its warnings into a file there
    env = made(env_id)
    observation, info = env.reset(seed=0)
    still = np.zeros(env.control_spec.controls)
    env.step(still)
    getattr(env.simulator.data, part)[3] = value
    with pytest.raises(EnvError, match=f"became unstable: {what}"):
        env.step(still)
    again, _ = env.reset(options={"instance": info["instance"]})
    assert np.array_equal(again, observation)
    env.step(still)


@pytest.mark.parametrize("env_id", ["walker2d", "metaworld/push"])
def test_a_control_that_is_not_finite_is_refused(env_id, made, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    env = made(env_id)
    env.reset(seed=0)
    control = np.zeros(env.control_spec.controls)
    control[1] = np.nan
    with pytest.raises(EnvError, match=f"A control for `{env_id}` contains NaN or infinity"):
        env.step(control)


@pytest.mark.parametrize("gain", [0.0, -1.0, np.inf, np.nan])
def test_a_gain_that_cannot_work_is_refused(gain):
    with pytest.raises(ConfigError, match="gain"):
        make_control_env("metaworld/push", options={"gain": gain})


def shown_by(env, feature, geom):
    """How far a geometry moves, in metres, when the named feature grows by 0.2 rad."""
    bare = env.simulator
    names = [f.name for f in env.control_spec.features]
    state = sum("contact" not in name for name in names)
    hidden = bare.model.nq + bare.model.nv - state  # positions that an observation leaves out
    places = []
    for moved in (0.0, 0.2):
        positions = bare.init_qpos.copy()
        positions[names.index(feature) + hidden] += moved
        bare.set_state(positions, np.zeros_like(bare.init_qvel))
        assert bare._get_obs()[names.index(feature)] == positions[names.index(feature) + hidden]
        places.append(bare.data.geom(geom).xpos.copy())
    return places[1] - places[0]


X, Y, Z = range(3)


@pytest.mark.parametrize(
    ("env_id", "feature", "geom", "axis", "sign"),
    [
        ("walker2d", "torso_pitch", "foot_geom", X, -1),  # the feet go back: it leans forward
        ("walker2d", "right_thigh_angle", "foot_geom", X, 1),
        ("walker2d", "right_knee_angle", "foot_geom", X, 1),
        ("walker2d", "right_foot_angle", "foot_geom", Z, 1),
        ("walker2d", "left_thigh_angle", "foot_left_geom", X, 1),
        ("walker2d", "left_foot_angle", "foot_left_geom", Z, 1),
        ("halfcheetah", "torso_pitch", "head", Z, -1),
        *(
            ("halfcheetah", f"{leg}_{part}_angle", f"{leg[0]}foot", X, -1)
            for leg in ("back", "front")
            for part in ("thigh", "shin", "foot")
        ),
        ("ant", "front_left_hip_angle", "left_ankle_geom", X, -1),  # towards the left, and back
        ("ant", "front_left_hip_angle", "left_ankle_geom", Y, 1),
        ("ant", "back_left_hip_angle", "right_ankle_geom", X, -1),
        ("ant", "back_left_hip_angle", "right_ankle_geom", Y, -1),
        ("ant", "back_right_hip_angle", "third_ankle_geom", X, 1),
        ("ant", "back_right_hip_angle", "third_ankle_geom", Y, -1),
        ("ant", "front_right_hip_angle", "fourth_ankle_geom", X, 1),
        ("ant", "front_right_hip_angle", "fourth_ankle_geom", Y, 1),
        ("ant", "front_left_ankle_angle", "left_ankle_geom", Z, -1),
        ("ant", "front_right_ankle_angle", "fourth_ankle_geom", Z, -1),
        ("ant", "back_left_ankle_angle", "right_ankle_geom", Z, 1),
        ("ant", "back_right_ankle_angle", "third_ankle_geom", Z, 1),
    ],
)
def test_angles_mean_what_is_said_of_them(env_id, feature, geom, axis, sign, made):
    assert sign * shown_by(made(env_id), feature, geom)[axis] > 0.005


@pytest.mark.parametrize(
    ("leg", "geom", "x", "y"),
    [
        ("front left", "left_ankle_geom", 1, 1),
        ("back left", "right_ankle_geom", -1, 1),
        ("back right", "third_ankle_geom", -1, -1),
        ("front right", "fourth_ankle_geom", 1, -1),
    ],
)
def test_the_ants_legs_are_where_their_names_say(leg, geom, x, y, made):
    env = made("ant")
    env.reset(seed=0)
    data = env.simulator.data
    foot = data.geom(geom).xpos - data.body("torso").xpos
    assert x * foot[X] > 0.1
    assert y * foot[Y] > 0.1
    body = int(env.simulator.model.geom(geom).bodyid[0])
    first = 27 + 6 * (body - 1)  # contacts follow 27 numbers, six for each body but the world
    told = [f.name for f in env.control_spec.features[first : first + 6]]
    assert all(name.startswith(f"{leg} foot contact".replace(" ", "_")) for name in told)


@pytest.mark.parametrize(("name", "order"), [("push", "xyzw"), ("hammer", "wxyz")])
def test_quaternions_are_told_in_the_order_of_the_task(name, order, made):
    env = made(f"metaworld/{name}")
    meant = [f.meaning for f in env.control_spec.features[7:11]]
    assert meant == [f"object: quaternion {part}" for part in order]
    observation, _ = env.reset(seed=0)
    assert np.abs(observation[7:11]).argmax() == order.index("w")  # hardly turned at first


def test_the_features_of_a_family_have_one_identity():
    assert len({control_spec(f"metaworld/{name}").feature_sha256 for name in TASKS}) == 1


def planned(observation, closed):
    """A primitive for the state: above the object, to it, grip, and on to the goal."""
    hand, item = observation[0:3], observation[4:7]
    if closed:
        return "close the gripper" if closed < 12 else "move to the goal"
    if np.linalg.norm((hand - item)[:2]) > 0.03:
        return "move above the object"
    return "reach the object" if np.linalg.norm(hand - item) > 0.035 else "close the gripper"


@pytest.mark.parametrize("name", ["push", "pick-place", "drawer-open", "window-open"])
def test_the_nominal_controls_of_primitives_in_turn_solve_a_task(name, made):
    env = made(f"metaworld/{name}", options={"terminate_on_success": True})
    observation, _ = env.reset(seed=0)
    closed, solved, steps = 0, False, 0
    while not solved and steps < 200:
        primitive = planned(observation, closed)
        closed += primitive == "close the gripper"
        number = env.control_spec.actions.index(primitive)
        observation, _, solved, _, _ = env.step(env.nominal(number, observation))
        steps += 1
    assert solved


def test_an_episode_goes_on_after_success_unless_asked_to_end(made):
    env = made("metaworld/reach")
    observation, _ = env.reset(seed=0)
    info = {"success": False}
    while not info["success"]:
        observation, _, terminated, _, info = env.step(env.expert_control(observation))
        assert not terminated
    for _ in range(5):
        *_, info = env.step(np.array([-1.0, -1.0, 1.0, 0.0]))
        assert info["success"]


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


def test_a_control_environment_of_another_package_is_found(monkeypatch):
    known = replace(control_spec("walker2d"), id="toy/walker", family="toy")
    entry = replace(catalog.spec("walker2d"), id="toy/walker", family="toy", control=known)
    monkeypatch.setattr(catalog, "_specs", lambda: {entry.id: entry})
    assert entry.kind == "control"
    assert control_spec("toy/walker") == known


def test_a_kind_that_does_not_fit_is_refused(tmp_path):
    with pytest.raises(
        EnvError, match="is an environment of continuous control, expected a text"
    ) as told:
        make_env("walker2d", workspace=tmp_path)
    assert "--agent sac or hybrid-sac" in told.value.hint
    with pytest.raises(
        EnvError, match="is a text environment, expected an environment of continuous"
    ):
        make_control_env("babyai/goto-obj")


WITHOUT_EGL = """
import ctypes.util, os
os.environ.pop("DISPLAY", None); os.environ.pop("MUJOCO_GL", None)
os.environ["PYOPENGL_PLATFORM"] = "osmesa"  # with which MuJoCo refuses to load EGL
from cepcli.envs.catalog import make_control_env
from cepcli.errors import EnvError
for name in ("metaworld/reach", "halfcheetah"):
    env = make_control_env(name)
    observation, _ = env.reset(seed=0)
    env.step(0 * env.action_space.low)
    try:
        env.render()
    except EnvError as error:
        print(error.message)
assert "MUJOCO_GL" not in os.environ
"""


def test_without_opengl_everything_but_pictures_works_and_the_error_is_a_sentence():
    code = [sys.executable, "-c", WITHOUT_EGL]
    done = subprocess.run(code, capture_output=True, text=True, check=True)
    lines = done.stdout.splitlines()
    assert len(lines) == 2
    assert all(line.startswith("Cannot render: ") and "MUJOCO_GL=egl" in line for line in lines)
    assert done.stderr == ""


def test_a_backend_that_cannot_be_loaded_is_told_when_the_simulator_is():
    code = (
        "from cepcli.envs.catalog import make_control_env\n"
        "from cepcli.errors import EnvError\n"
        "try:\n    make_control_env('metaworld/reach')\n"
        "except EnvError as error:\n    print(error.message)"
    )
    wrong = {**os.environ, "MUJOCO_GL": "opengl"}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=wrong
    )
    assert done.stdout.startswith("Cannot load MuJoCo: ")
    assert "MUJOCO_GL=opengl" in done.stdout


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


def drifting(env, change):
    """The environment, whose reset is not what was asked for."""
    reset, resets = env.reset, itertools.count(1)
    env.reset = lambda **options: change(*reset(**options), next(resets))
    return env


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (lambda o, i, n: (o + 1e-9 * n, i), "does not give the same episodes"),
        (lambda o, i, n: (o, {**i, "instance": n}), "does not give the same episodes"),
        (lambda o, i, n: (o, {"goal": i["goal"], "instance": 1}), "`info` lacks the key `success`"),
        (lambda o, i, n: (o[1:], i), r"expected an array of shape \(17,\)"),
    ],
)
def test_the_check_names_what_breaks_the_contract(change, what, made):
    with pytest.raises(EnvError, match=what):
        check_control_env(drifting(made("walker2d"), change))


def test_the_check_finds_shared_instances_and_bad_suggestions(made):
    with pytest.raises(EnvError, match="are in both splits"):
        check_control_env(made("walker2d"), heldout=made("walker2d"))
    env = made("walker2d")
    env.nominal = lambda primitive, observation: np.full(6, 1.5)
    with pytest.raises(EnvError, match="expected 6 numbers in"):
        check_control_env(env)
