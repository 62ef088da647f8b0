"""A household in words: what is here, in the hand, seen and searched elsewhere."""

from cepcli.envs.alfworld.state import Facts, Memory, describe, may_change

NAMES = {
    "shelf_1": "shelf 1", "drawer_1": "drawer 1", "drawer_2": "drawer 10", "apple_1": "apple 1",
    "apple_2": "apple 2", "mug_1": "mug 1", "lamp_1": "desklamp 1",
}  # fmt: skip


def facts(*more):
    at = [("receptacleatlocation", place, f"at_{place}") for place in NAMES if "_" in place][:3]
    inside = [("inreceptacle", "apple_2", "shelf_1"), ("inreceptacle", "apple_1", "drawer_1")]
    return Facts([*at, *inside, ("openable", "drawer_1"), ("openable", "drawer_2"), *more])


def test_the_middle_of_the_room_holds_nothing():
    said = describe(facts(("atlocation", "agent", "at_start")), NAMES)
    assert said == ["You are in the middle of the room.", "You carry nothing."]


def test_a_place_tells_what_is_in_it_once_it_is_open():
    here = facts(("atlocation", "agent", "at_drawer_1"), ("holds", "agent", "mug_1"))
    assert describe(here, NAMES) == ["You are at drawer 1. It is closed.", "You carry a mug 1."]
    here.add(("opened", "drawer_1"))
    assert describe(here, NAMES)[0] == "You are at drawer 1. It is open. In it is a apple 1."


def test_things_tell_what_was_done_to_them():
    here = facts(("atlocation", "agent", "at_shelf_1"), ("inreceptacle", "lamp_1", "shelf_1"))
    for fact in ("isclean", "ishot", "issliced"):
        here.add((fact, "apple_2"))
    here.add(("istoggled", "lamp_1"))
    said = "You are at shelf 1. On it is a clean hot sliced apple 2 and a lit desklamp 1."
    assert describe(here, NAMES)[0] == said


def test_the_memory_keeps_where_named_things_are_until_they_move():
    memory = Memory("put a apple in shelf", NAMES)
    now = facts(("atlocation", "agent", "at_drawer_1"))
    memory.look(now)
    assert memory.describe(now) == []
    now.add(("opened", "drawer_1"))
    memory.look(now)
    assert memory.describe(now) == ["Searched: drawer 1."]
    now.add(("not_atlocation", "agent", "at_drawer_1"))
    now.add(("atlocation", "agent", "at_shelf_1"))
    memory.look(now)
    assert memory.describe(now) == [
        "You saw a apple 1 at drawer 1.",
        "Searched: drawer 1, shelf 1.",
    ]
    now.add(("not_inreceptacle", "apple_1", "drawer_1"))
    now.add(("holds", "agent", "apple_1"))
    memory.look(now)
    assert memory.describe(now) == ["Searched: drawer 1, shelf 1."]


def test_things_that_the_task_does_not_name_are_not_remembered():
    memory = Memory("put a mug in shelf", NAMES)
    memory.look(facts(("atlocation", "agent", "at_shelf_1")))
    assert memory.places == {}
    assert memory.searched == {"shelf_1"}


def test_numbers_are_sorted_as_numbers_and_share_the_name_of_their_kind():
    memory = Memory("", NAMES)
    memory.searched = {"drawer_2", "drawer_1", "shelf_1"}
    assert memory.describe(facts()) == ["Searched: drawer 1 10, shelf 1."]


def test_looking_and_examining_change_nothing():
    assert may_change("go to shelf 1")
    assert may_change("use desklamp 1")
    for command in ("look", "inventory", "help", "examine shelf 1"):
        assert not may_change(command)
