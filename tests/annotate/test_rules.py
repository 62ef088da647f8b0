from itertools import product

import numpy as np
import pytest

from cepcli.annotate.records import suggestion
from cepcli.annotate.rules import (
    below,
    compose,
    describe_slots,
    has_rules,
    rules_for,
    slots_of,
)
from cepcli.envs.catalog import control_spec, make_control_env
from tests.annotate.worlds import SPEC, observation, random_observations

IDS = ("walker2d", "halfcheetah", "ant", "metaworld/push", "metaworld/reach",
       "metaworld/button-press")  # fmt: skip
#: Where not every primitive of the family is called for.
FEW = {
    "metaworld/reach": {"hold still", "move to the goal"},
    "metaworld/button-press": {"hold still", "move to the goal", "reach the object"},
}


@pytest.mark.parametrize("env", IDS)
def test_every_description_is_understood_again_and_names_a_primitive(env):
    spec = control_spec(env)
    for row in random_observations(100, spec=spec).tolist():
        made = suggestion(spec, row)
        assert slots_of(spec, made.text.upper()) == made.slots
        assert made.primitive in spec.actions
        assert made.source == "auto"


@pytest.mark.parametrize("env", IDS)
def test_whatever_the_phrases_are_there_is_a_primitive_and_each_is_called_for(env):
    spec = control_spec(env)
    rules = rules_for(spec)
    named = set()
    for phrases in product(*(slot.phrases for slot in rules.slots)):
        slots = dict(zip((slot.name for slot in rules.slots), phrases, strict=True))
        named.add(rules.primitive(slots))
        assert slots_of(spec, compose(spec, slots)) == slots
    assert named == FEW.get(env, set(spec.actions))


@pytest.mark.parametrize(
    "task",
    [
        "push",
        "door-open",
        *(
            pytest.param(task, marks=pytest.mark.slow)
            for task in ("reach", "drawer-open", "button-press", "pick-place", "window-open")
        ),
    ],
)
def test_who_does_what_the_rules_say_solves_the_task(task):
    env = make_control_env(f"metaworld/{task}", options={"terminate_on_success": True})
    for instance in (0, 30):
        observation, _ = env.reset(options={"instance": instance})
        solved = False
        for step in range(300):
            if step % 5 == 0:
                said = suggestion(env.control_spec, observation).primitive
                primitive = env.control_spec.actions.index(said)
            observation, _, solved, _, _ = env.step(env.nominal(primitive, observation))
            if solved:
                break
        assert solved


@pytest.mark.parametrize("env", IDS)
def test_a_phrase_belongs_to_one_slot(env):
    phrases = [phrase for slot in rules_for(control_spec(env)).slots for phrase in slot.phrases]
    assert len(phrases) == len(set(phrases))
    assert 3 <= len(rules_for(control_spec(env)).slots) <= 6


@pytest.mark.parametrize(
    ("features", "slot", "phrase"),
    [
        ({"forward_speed": -1.0}, "pace", "moving backward"),
        ({"forward_speed": 2.5}, "pace", "moving fast"),
        ({"torso_pitch": 0.4}, "lean", "leaning forward"),
        ({"torso_pitch": -0.4}, "lean", "leaning back"),
        ({"torso_height": 0.9}, "height", "sunk low"),
        ({"left_thigh_angle": -0.5}, "stance", "the right foot is ahead"),
        ({"right_thigh_angle": -0.5}, "stance", "the left foot is ahead"),
        ({"right_knee_angle": -0.8}, "right_knee", "the right knee is bent"),
        ({"left_knee_angle": -0.8}, "left_knee", "the left knee is bent"),
    ],
)
def test_what_the_walker_looks_like(features, slot, phrase):
    assert describe_slots(SPEC, observation(**features))[slot] == phrase
    assert describe_slots(SPEC, observation())[slot] != phrase


@pytest.mark.parametrize(
    ("features", "primitive"),
    [
        ({"torso_height": 0.9, "torso_pitch": 0.5}, "rise"),
        ({"torso_pitch": 0.5, "forward_speed": 3.0}, "brake"),
        ({"torso_pitch": 0.5}, "straighten up"),
        ({"torso_pitch": -0.5}, "lean forward"),
        ({"left_thigh_angle": -0.5}, "push off with the left leg"),
        ({"right_thigh_angle": -0.5, "right_knee_angle": -0.8}, "swing the right leg forward"),
    ],
)
def test_what_the_walker_is_to_do(features, primitive):
    assert suggestion(SPEC, observation(**features)).primitive == primitive


def one_feature(env, **features):
    spec = control_spec(env)
    names = [feature.name for feature in spec.features]
    values = np.zeros(len(names))
    for name, value in features.items():
        values[names.index(name)] = value
    return spec, values.tolist()


@pytest.mark.parametrize(
    ("env", "features", "slot", "phrase"),
    [
        ("halfcheetah", {"torso_pitch": 3.1}, "pitch", "on its back"),
        ("halfcheetah", {"torso_pitch": -3.1}, "pitch", "on its back"),
        ("halfcheetah", {"torso_pitch": 6.3}, "pitch", "level"),
        ("halfcheetah", {"torso_pitch": 0.5}, "pitch", "with its nose down"),
        ("ant", {"orientation_w": 1, "torso_height": 0.6}, "body", "at walking height"),
        ("ant", {"orientation_x": 1}, "body", "upside down"),
        ("ant", {"orientation_w": 0.8, "orientation_z": 0.6}, "heading", "turned left"),
        ("ant", {"front_left_hip_angle": -0.4, "back_left_hip_angle": -0.4}, "legs",
         "the left legs are ahead"),
        ("ant", {"back_left_hip_angle": -0.4, "back_right_hip_angle": 0.4}, "legs",
         "the back legs are drawn up"),
        ("metaworld/push", {"object_z": -0.3}, "hand", "the hand is above the object"),
        ("metaworld/push", {"object_x": 0.3}, "hand", "the hand is far from the object"),
        ("metaworld/push", {"object_x": 0.1, "goal_x": 0.1}, "goal", "the goal is reached"),
        ("metaworld/reach", {"object_x": 0.1, "goal_x": 0.2}, "goal", "the goal is far"),
        ("metaworld/push", {"object_x": 0.01}, "object", "the object moves"),
    ],
)  # fmt: skip
def test_what_the_others_look_like(env, features, slot, phrase):
    assert describe_slots(*one_feature(env, **features))[slot] == phrase


def test_words_of_ones_own_have_no_phrases():
    assert slots_of(SPEC, "it is about to fall") == {}


def test_the_limits_belong_to_what_is_above():
    assert [below(value, 1.0, 2.0) for value in (0.9, 1.0, 1.9, 2.0)] == [0, 1, 1, 2]


def test_rules_are_there_for_the_four_families_and_no_other():
    from dataclasses import replace

    from cepcli.errors import EnvError

    other = replace(SPEC, id="toy/one", family="toy")
    assert has_rules(SPEC)
    assert not has_rules(other)
    with pytest.raises(EnvError, match="no rules for `toy/one`") as error:
        rules_for(other)
    assert "serve --env toy/one" in error.value.hint
