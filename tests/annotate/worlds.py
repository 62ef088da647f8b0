"""States of walker2d made of numbers, without a simulator."""

import json

import numpy as np

from cepcli.annotate.records import Annotation, State, rounded, suggestion
from cepcli.annotate.session import Session
from cepcli.annotate.store import AnnotationFile
from cepcli.envs.catalog import control_spec

SPEC = control_spec("walker2d")
NAMES = [feature.name for feature in SPEC.features]


def observation(**features):
    """A walker that stands, but for these features."""
    values = dict.fromkeys(NAMES, 0.0) | {"torso_height": 1.25} | features
    return rounded(values.values())


def states(count=5):
    return [State("walker2d", observation(forward_speed=float(n))) for n in range(count)]


def annotation(text="it stands", primitive="rise", source="person", state=0, **changes):
    row = {"observation": states(state + 1)[state].observation, "text": text, "env": "walker2d",
           "primitive": primitive, "slots": {}, "source": source}  # fmt: skip
    return Annotation(**(row | changes))


def row(**changes):
    """A line of the file as JSON."""
    good = {"observation": list(observation()), "text": "it stands", "primitive": "rise",
            "slots": {}, "source": "person", "env": "walker2d"}  # fmt: skip
    return json.dumps(good | changes)


def session(folder, count=5, suggested=True):
    file = AnnotationFile(folder / "annotations.jsonl", "walker2d")
    known = states(count)
    if suggested:
        file.append(suggestion(SPEC, state.observation) for state in known)
    return Session(known, file), folder / "annotations.jsonl"


def random_observations(count, seed=0, spec=SPEC):
    return np.random.default_rng(seed).normal(size=(count, len(spec.features)))
