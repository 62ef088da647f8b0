"""Behind the boundary whatever an environment raises or answers is an EnvError that names it."""

import sys

import gymnasium as gym
import numpy as np
import pytest

from cepcli.envs.base import SymbolicEnv
from cepcli.envs.boundary import guarded
from cepcli.errors import ConfigError, EnvError, Interrupted
from tests.agents.control_worlds import Point
from tests.envs.toys import ToyEnv


def second_reset(env):
    env.reset(seed=0)
    env.reset()


def second_step(env):
    env.reset(seed=0)
    env.step("wait")
    env.step("forward")


CALLS = {
    "reset": (second_reset, "failed in `reset` at step 0 of episode 1"),
    "step": (second_step, "failed in `step` at step 1 of episode 1"),
    "expert_action": (
        lambda env: (env.reset(seed=0), env.expert_action()),
        "failed in `expert_action` at step 0 of episode 1",
    ),
    "render": (lambda env: env.render(), "failed in `render`"),
    "close": (lambda env: env.close(), "failed in `close`"),
}
RAISED = {
    "ValueError: no such room": ValueError("no such room"),
    "KeyError: 3": KeyError(3),
    "SystemExit: 1": SystemExit(1),
    "StopIteration": StopIteration(),
    "RuntimeError: two lines": RuntimeError("two\n   lines."),
    "AssertionError: " + "x" * 300 + "…": AssertionError("x" * 500),
}


def raising(env, call, error):
    def fail(*given, **named):
        raise error

    setattr(env, call, fail)
    return guarded(env)


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("said", RAISED)
def test_whatever_is_raised_names_environment_call_step_and_error(call, said):
    act, where = CALLS[call]
    env = raising(ToyEnv(), call, RAISED[said])
    with pytest.raises(EnvError) as told:
        act(env)
    assert told.value.message == f"Environment `toy/walk` {where}: {said}."
    assert "--debug" in told.value.hint
    assert told.value.__cause__ is RAISED[said]


@pytest.mark.parametrize("error", [EnvError("ours"), ConfigError("ours"), Interrupted()])
def test_a_sentence_of_our_own_and_an_interruption_pass(error):
    with pytest.raises(type(error)) as told:
        raising(ToyEnv(), "reset", error).reset()
    assert told.value is error


def test_ctrl_c_passes():
    with pytest.raises(KeyboardInterrupt):
        raising(ToyEnv(), "reset", KeyboardInterrupt()).reset()


def test_closing_after_a_failure_does_not_hide_it():
    env = raising(ToyEnv(), "reset", ValueError("first"))
    env.unwrapped.close = lambda: sys.exit("second")
    with pytest.raises(EnvError, match="first"):
        env.reset()
    env.close()


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ({"reward": float("nan")}, "gave the reward nan, expected a finite number"),
        ({"reward": float("inf")}, "gave the reward inf"),
        ({"reward": 1e39}, "gave the reward 1e\\+39"),
        ({"reward": np.float32("nan")}, "gave the reward nan"),
        ({"reward": None}, "the reward is None"),
        ({"reward": True}, "the reward is True"),
        ({"observation": float("nan")}, "observation that contains NaN or infinity, nan"),
        ({"observation": np.array([0.0, np.inf])}, "NaN or infinity, array"),
        ({"observation": {"map": [np.array([np.nan])]}}, "NaN or infinity"),
        ({"terminated": None}, "`terminated` is None, expected a bool"),
        ({"truncated": 0}, "`truncated` is 0, expected a bool"),
        ({"info": None}, "`info` is None, expected a dict"),
        ({"info": {}}, "`info` lacks the key `text`"),
        ({"text": 3}, r"`info\['text'\]` is 3, expected a str"),
        ({"text": " "}, r"`info\['text'\]` is empty"),
        ({"goal": None}, r"`info\['goal'\]` is None"),
        ({"actions": ()}, "expected one or more non-empty strings"),
        ({"actions": ("wait", 3)}, "expected one or more non-empty strings"),
        ({"actions": ("wait", "")}, "expected one or more non-empty strings"),
        ({"actions": ("wait", "wait")}, "names an action twice"),
        ({"actions": "wait"}, "expected a tuple"),
        ({"instance": np.int64(3)}, "expected a int"),
    ],
)
def test_an_answer_that_is_none_names_the_step(answer, said):
    env = ToyEnv()
    plain, changes = env.step, dict(answer)

    def step(action):
        observation, reward, terminated, truncated, info = plain(action)
        found = {
            "observation": observation, "reward": reward, "terminated": terminated,
            "truncated": truncated, "info": {**info, **changes},
        }  # fmt: skip
        return tuple({**found, **changes}[key] for key in found)

    env.step = step
    behind = guarded(env)
    behind.reset(seed=0)
    with pytest.raises(EnvError, match=said) as told:
        behind.step("wait")
    assert "`toy/walk`" in told.value.message
    assert "at step 1 of episode 1" in told.value.message


@pytest.mark.parametrize("answer", [None, (1, 2, 3), ["text", {}]])
def test_an_answer_of_another_shape_is_shown(answer):
    env = ToyEnv()
    env.reset = lambda **options: answer
    with pytest.raises(EnvError, match=r"`reset` returned .*, expected a tuple of 2"):
        guarded(env).reset()


def test_it_is_the_same_environment_otherwise():
    plain, behind = ToyEnv(), guarded(ToyEnv())
    assert guarded(behind) is behind
    for env in (plain, behind):
        env.reset(seed=5)
    for action in ("forward", "wait", "forward", "forward"):
        assert behind.step(action) == plain.step(action)
    assert behind.expert_action() == "forward"
    assert behind.np_random is behind.unwrapped.np_random
    assert behind.np_random.bit_generator.state == plain.np_random.bit_generator.state
    assert behind.action_space is behind.unwrapped.action_space
    assert (behind.env_id, behind.family, behind.max_episode_steps) == ("toy/walk", "toy", 6)


def test_a_control_environment_behind_it_is_the_same_and_names_its_numbers():
    plain, behind = Point(), guarded(Point())
    for env in (plain, behind):
        env.reset(seed=1)
    assert guarded(behind) is behind
    one, other = plain.step(np.ones(1)), behind.step(np.ones(1))
    assert np.array_equal(one[0], other[0])
    assert one[1:] == other[1:]
    behind.unwrapped.breaks_at = 2
    with pytest.raises(EnvError, match=r"gave nan for `place` .* at step 2 of episode 1"):
        behind.step(np.ones(1))


def test_a_simulator_that_raises_is_named():
    env = Point()
    env.nominal = lambda primitive, observation: [][primitive]
    behind = guarded(env)
    observation, _ = behind.reset(seed=0)
    with pytest.raises(
        EnvError, match="`test/point` failed in `nominal` at step 0 of episode 1: Ind"
    ):
        behind.nominal(0, observation)


class Nameless(SymbolicEnv):
    """Lacks what the contract asks for."""

    observation_space = action_space = gym.spaces.Discrete(2)

    def expert_action(self):
        return "wait"


def test_an_attribute_that_is_missing_is_named():
    with pytest.raises(EnvError, match="`Nameless` breaks the contract: `env_id` is None"):
        guarded(Nameless())


@pytest.mark.parametrize(
    ("name", "make", "called"),
    [
        ("env_id", ToyEnv, "Raising"),
        ("family", ToyEnv, "toy/walk"),
        ("max_episode_steps", ToyEnv, "toy/walk"),
        ("control_spec", Point, "Raising"),
    ],
)
@pytest.mark.parametrize("error", [ValueError("not made yet"), AttributeError("not made yet")])
def test_what_is_promised_but_raises_is_one_sentence(make, name, called, error):
    class Raising(make):
        max_episode_steps = 6

        def __getattribute__(self, asked):
            if asked == name and type(self).ready:
                raise error
            return super().__getattribute__(asked)

        ready = False

    env = Raising()
    Raising.ready = True
    failed = f"failed in `{name}`: {type(error).__name__}: not made yet."
    with pytest.raises(EnvError) as told:
        guarded(env)
    assert told.value.message == f"Environment `{called}` {failed}"
    with pytest.raises(EnvError) as told:
        guarded(env, "plugin/walk")
    assert (
        told.value.message == f"Environment `{called.replace('Raising', 'plugin/walk')}` {failed}"
    )


def test_a_generator_that_cannot_be_set_is_named():
    class Fixed(ToyEnv):
        np_random = property(lambda self: np.random.default_rng(0))

    with pytest.raises(EnvError, match="`toy/walk` failed in `np_random`: AttributeError"):
        guarded(Fixed()).np_random = np.random.default_rng(1)


@pytest.mark.parametrize("name", ["observation_space", "action_space", "unwrapped", "np_random"])
@pytest.mark.parametrize("make", [ToyEnv, Point])
def test_an_attribute_that_raises_is_named(make, name):
    class Raising(make):
        ready = True

        def __getattribute__(self, asked):
            if asked == name and not type(self).ready:
                raise ValueError("not made yet")
            return super().__getattribute__(asked)

    env = Raising()
    behind = guarded(env)
    Raising.ready = False
    with pytest.raises(EnvError, match=f"failed in `{name}`: ValueError: not made yet"):
        getattr(guarded(env) if name.endswith("space") else behind, name)
