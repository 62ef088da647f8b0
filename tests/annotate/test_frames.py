import ctypes.util
from dataclasses import replace

import numpy as np
import pytest

from cepcli.annotate.frames import Frames
from cepcli.annotate.records import State, rounded
from cepcli.annotate.sampling import sample_states
from cepcli.envs.catalog import make_control_env
from tests.annotate.worlds import observation

pytestmark = pytest.mark.usefixtures("short_search")
PNG = b"\x89PNG"
needs_gl = pytest.mark.skipif(
    ctypes.util.find_library("EGL") is None, reason="no libEGL on this machine to draw with"
)


@pytest.mark.parametrize("env_id", ["walker2d", "ant", "metaworld/drawer-open"])
def test_a_snapshot_puts_the_simulator_back(env_id):
    env, other = make_control_env(env_id), make_control_env(env_id)
    _, info = env.reset(seed=3)
    random = np.random.default_rng(0)
    for _ in range(20):
        env.step(random.uniform(-1, 1, env.control_spec.controls))
    other.reset(options={"instance": info["instance"]})
    other.restore(env.snapshot())
    assert np.array_equal(env.snapshot(), other.snapshot())
    control = random.uniform(-1, 1, env.control_spec.controls)
    expected, found = env.step(control)[0], other.step(control)[0]
    # what Meta-World says of the step before is not of the simulator's state
    now = slice(0, 18) if env_id.startswith("metaworld") else slice(0, 27)
    assert np.allclose(expected[now], found[now], atol=2e-3)
    env.close()
    other.close()


@needs_gl
def test_pictures_of_two_states_differ_and_are_drawn_once():
    one, other = sample_states("walker2d", 2, pool=2)
    with Frames() as frames:
        first, why = frames.png(one)
        assert why == ""
        assert first.startswith(PNG)
        assert frames.png(other)[0] != first
        assert frames.png(one)[0] is first


def test_without_gl_it_says_so_once_and_goes_on(monkeypatch):
    monkeypatch.setenv("MUJOCO_GL", "disable")
    told = []
    state = State("walker2d", observation(), 0, rounded([0.0, 1.25, *[0.0] * 16]))
    with Frames(tell=told.append) as frames:
        assert frames.reason == ""
        picture, why = frames.png(state)
        assert picture == b""
        assert why.startswith("No pictures: this machine has no GL to draw with")
        assert frames.png(state) == (b"", why)
        assert frames.reason == why
    assert told == [why]


@pytest.mark.slow
@needs_gl
def test_a_state_that_the_simulator_cannot_take_ends_no_other_picture():
    (good,) = sample_states("walker2d", 1, pool=1)
    told = []
    with Frames(tell=told.append) as frames:
        picture, why = frames.png(replace(good, snapshot=good.snapshot[:-1]))
        assert picture == b""
        assert why.startswith("No picture: the simulator cannot take this state")
        assert frames.png(good)[0].startswith(PNG)
    assert told == []


def test_a_state_without_a_snapshot_has_no_picture():
    with Frames() as frames:
        assert frames.png(State("walker2d", observation()))[1].startswith("No picture: this state")
        assert frames.reason == ""
