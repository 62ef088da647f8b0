"""A made-up world of six features whose descriptions and priors are known functions of them."""

import numpy as np

from cepcli.abstraction.annotated import Annotated, Rollout
from cepcli.abstraction.build import Sources
from cepcli.envs.control import ControlSpec, Feature, Primitive
from cepcli.workspace.artifacts import Input

FEATURES = ("speed", "tilt", "height", "left_knee", "right_knee", "noise")
ACTIONS = ("lean back", "push off", "step left", "step right")
GOAL = "walk forward"
SPEC = ControlSpec(
    "toy", "toy", GOAL, "", tuple(Feature(name, "", "") for name in FEATURES),
    tuple(Primitive(name, "") for name in ACTIONS), controls=1, max_episode_steps=50,
    solvable=False,
)  # fmt: skip
INPUTS = (Input("annotations", "toy", "c" * 64),)


def slots_of(observation):
    speed, tilt, _, left, right, _ = observation
    pace = "standing" if speed < -0.5 else "walking" if speed < 0.5 else "running"
    return {
        "pace": pace,
        "torso": "leaning forward" if tilt > 0 else "leaning back",
        "leg": "left leg bent" if left > right else "right leg bent",
    }


def compose(slots):
    return f"The walker is {slots['pace']}, {slots['torso']}, with the {slots['leg']}."


def primitive_of(slots):
    if slots["torso"] == "leaning forward":
        return "lean back"
    if slots["pace"] == "standing":
        return "push off"
    return "step left" if slots["leg"] == "right leg bent" else "step right"


def annotated(count=240, seed=0, goal=GOAL):
    observations = np.random.default_rng(seed).standard_normal((count, len(FEATURES)))
    slots = tuple(map(slots_of, observations))
    texts, primitives = tuple(map(compose, slots)), tuple(map(primitive_of, slots))
    return Annotated(observations, (goal,) * count, texts, primitives, slots)


def rollouts(count=20, steps=50, seed=1):
    random = np.random.default_rng(seed)
    found = []
    for _ in range(count):
        walk = random.standard_normal((steps, len(FEATURES)))
        found.append(Rollout(walk, walk[:, 0]))
    return found


def ask(states):
    """A prior that is sure of the right primitive, as far as the text says it."""
    rows = []
    for state in states:
        weights = np.full(len(ACTIONS), 0.02)
        weights[ACTIONS.index(primitive_from(state.text))] = 0.94
        rows.append(np.log(weights))
    return np.array(rows)


def primitive_from(text):
    pace = next(word for word in ("standing", "walking", "running") if word in text)
    torso = "leaning forward" if "leaning forward" in text else "leaning back"
    leg = "left leg bent" if "left leg" in text else "right leg bent"
    return primitive_of({"pace": pace, "torso": torso, "leg": leg})


def sources(**changes):
    return Sources(SPEC, annotated(), rollouts(), "function", INPUTS)._replace(**changes)
