"""Made households: tasks that can be done, scenes of the splits apart, the same for a seed."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from cepcli.envs.alfworld import compile as alfworld_compile
from cepcli.envs.alfworld import household as alfworld_household
from cepcli.envs.alfworld.compile import compile_game, require_solvable
from cepcli.envs.alfworld.household import (
    FIRST_HELDOUT,
    TASK_TYPES,
    Household,
    homes,
    household_file,
    household_game,
    is_heldout,
    make_scene,
)
from cepcli.errors import EnvError

pytestmark = pytest.mark.usefixtures("quick_makers")
KINDS = sorted(TASK_TYPES)


def scene(kind, seed, receptacles=10, objects=12):
    house = Household(kind, seed, receptacles, objects)
    return make_scene(house, np.random.default_rng([seed]))


def held(made, thing):
    """Types of the receptacles that hold the things of a type."""
    return [made.furniture[number] for each, number in made.things if each == thing]


@pytest.mark.parametrize("kind", KINDS)
def test_a_scene_fits_its_task(kind):
    for seed in range(40):
        made, task = scene(kind, seed), TASK_TYPES[kind]
        thing, place = made.task
        assert made.room in task.rooms
        assert set(homes().rooms[made.room].always) <= set(made.furniture)
        assert all(made.furniture.count(each) <= 1 for each in homes().single)
        assert len(made.furniture) == 10
        assert sum(each != "DeskLamp" for each, _ in made.things) == 12
        assert len(held(made, thing)) >= (2 if kind == "pick-two" else 1)
        if kind == "look":
            assert place == "DeskLamp"
            assert len(held(made, "DeskLamp")) == 1
        else:
            assert place in made.furniture
            assert thing in homes().holds[place]
        if kind in ("pick", "pick-two"):
            assert place not in held(made, thing)
        if task.tool:
            assert task.tool in made.furniture
            assert task.tool != place
            assert thing in homes().properties[task.property]
        for each, number in made.things:
            assert each == "DeskLamp" or each in homes().holds[made.furniture[number]]


def test_rooms_hold_only_what_is_known_to_have_a_place():
    for room in homes().rooms.values():
        assert {*room.always, *room.sometimes} <= set(homes().holds)
        assert all(any(thing in homes().holds[p] for p in homes().holds) for thing in room.things)


@pytest.mark.parametrize("size", [(8, 4), (10, 12), (30, 60)])
def test_no_scene_of_training_is_held_out(size):
    scenes = {}
    for split, first in (("train", 0), ("heldout", FIRST_HELDOUT)):
        made = [scene(kind, first + seed, *size) for kind in KINDS for seed in range(25)]
        scenes[split] = {(each.room, each.furniture) for each in made}
        assert len(scenes[split]) > 20
    assert not scenes["train"] & scenes["heldout"]
    assert all(is_heldout(*each) for each in scenes["heldout"])


@pytest.mark.parametrize("kind", KINDS)
def test_a_seed_makes_one_game_and_another_seed_another(kind):
    house = Household(kind, 5, 8, 4)
    text = household_file(house)
    assert household_file(Household(kind, 5, 8, 4)) == text
    assert household_file(house._replace(seed=6)) != text
    assert household_file(house._replace(objects=5)) != text
    data = json.loads(text)
    assert data["solvable"] is True
    assert "UNKNOWN GOAL" not in data["grammar"]
    assert re.search(r"Your task is to: [a-z ]+\.", data["grammar"])


def test_a_seed_makes_the_same_game_in_every_process():
    code = (
        "from cepcli.envs.alfworld.household import *; import hashlib\n"
        "texts = [household_file(Household(kind, 7, 12, 12)) for kind in TASK_TYPES]\n"
        "print(hashlib.sha256(''.join(texts).encode()).hexdigest())"
    )
    told = [
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True,
            env=os.environ | {"PYTHONHASHSEED": seed},
        ).stdout
        for seed in ("1", "2")
    ]  # fmt: skip
    assert told[0] == told[1] != ""


def test_the_planner_confirms_a_game_before_it_is_kept(tmp_path, monkeypatch):
    checked, real = [], alfworld_compile.make_apart

    def make_apart(maker, folder, request, what, smaller):
        checked.append(Path(request["file"]).name)
        assert request["check"]
        real(maker, folder, request, what, smaller)

    monkeypatch.setattr(alfworld_compile, "make_apart", make_apart)
    house = Household("pick", 0, 8, 4)
    for _ in range(2):
        household_game(house, tmp_path, None)
    assert checked == ["0.tw-pddl"]


def test_a_game_that_cannot_be_done_is_refused_and_not_kept(tmp_path, monkeypatch):
    data = json.loads(household_file(Household("heat", 0, 8, 4)))
    problem = re.sub(r"\(heatable \S+\)\n", "", data["pddl_problem"])
    impossible = data | {"pddl_problem": problem}
    file = Path("x")
    with pytest.raises(EnvError, match=r"no way to do the task of `x`: .*(hot|heat)") as error:
        require_solvable(compile_game(impossible, file), file)
    assert "first_seed" in error.value.hint
    monkeypatch.setattr(alfworld_household, "household_file", lambda house: json.dumps(impossible))
    with pytest.raises(EnvError, match="no way"):
        household_game(Household("heat", 0, 8, 4), tmp_path, None)
    assert not list(tmp_path.rglob("*.json.gz"))
