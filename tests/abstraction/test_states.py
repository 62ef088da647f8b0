"""Abstractions on disk: what is read back, and what is refused."""

import json
from dataclasses import replace

import numpy as np
import pytest

from cepcli.abstraction.build import train_abstraction
from cepcli.abstraction.states import (
    BANK,
    CARD,
    ENCODER,
    UNKNOWN,
    Abstraction,
    Bank,
    open_abstraction,
)
from cepcli.errors import ArtifactError
from cepcli.keys.config import AbstractionConfig
from cepcli.keys.hashing import HashEncoder
from cepcli.workspace.artifacts import Workspace
from tests.abstraction.control_worlds import SPEC, annotated, ask, sources

CONFIG = AbstractionConfig(encoder="hash", steps=2, rollout_states=20)


def test_a_description_is_composed_slot_by_slot(workspace):
    made = Abstraction.load(workspace.open("abstraction", "toy/mine").path)
    keys = made.keys(annotated(2).observations)
    running, left = made.phrases[0].index("running"), made.phrases[2].index("left leg bent")
    codes = np.array([[running, UNKNOWN, UNKNOWN, 0], [UNKNOWN, 0, left, UNKNOWN]])
    bank = Bank(keys, codes, np.ones(2, bool), made.bank.counts, neighbours=2)
    text = replace(made, bank=bank).text(annotated(1, seed=3).observations[0])
    assert text == f"The walker is running, {made.phrases[1][0]}, with the left leg bent."


@pytest.fixture
def workspace(tmp_path):
    made = train_abstraction(sources(), CONFIG, HashEncoder(), ask).abstraction
    space = Workspace(tmp_path)
    made.save(space.begin("abstraction", "toy/mine"))
    space.finish("abstraction", "toy/mine", seed=0)
    return space


def test_the_environment_it_was_made_for_opens_it(workspace):
    abstraction, artifact = open_abstraction(workspace, "toy/mine", SPEC)
    assert (abstraction.family, abstraction.dim) == ("toy", 32)
    assert artifact.path == workspace.root / "abstraction" / "toy" / "mine"


def test_another_family_is_refused(workspace):
    other = replace(SPEC, id="ant", family="ant")
    with pytest.raises(ArtifactError, match="was trained on toy, not on ant") as error:
        open_abstraction(workspace, "toy/mine", other)
    assert error.value.hint == "Train one: cep abstract train --env ant --name ant/NAME"


def test_another_list_of_features_is_refused(workspace):
    other = replace(SPEC, features=(*SPEC.features, SPEC.features[0]))
    lists = rf"6 of list {SPEC.feature_sha256[:12]}, not 7 of {other.feature_sha256[:12]}"
    with pytest.raises(ArtifactError, match=lists):
        open_abstraction(workspace, "toy/mine", other)


def test_what_is_not_there_names_the_nearest(workspace):
    with pytest.raises(ArtifactError) as error:
        open_abstraction(workspace, "toy/mime", SPEC)
    assert "toy/mine" in error.value.hint
    with pytest.raises(ArtifactError, match="expected FAMILY/NAME"):
        open_abstraction(workspace, "mine", SPEC)


@pytest.mark.parametrize("file", [CARD, ENCODER, BANK])
def test_damage_is_named(workspace, file):
    folder = workspace.open("abstraction", "toy/mine").path
    text = json.dumps({"features": []}) if file == CARD else "x"
    (folder / file).write_text(text)
    with pytest.raises(ArtifactError, match="is damaged"):
        Abstraction.load(folder)
