"""How texts are read word by word, and which differences are neutral."""

import itertools

import pytest

from cepcli.keys.key_encoder import reading
from cepcli.keys.opposites import alike, carriers_of_name, read


def same(one, other, actions=()):
    return alike(read("goal", one), read("goal", other), actions)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("The door, (an old one) is here!", ("door", "old", "one", "is", "here")),
        ("-3.5 or .5 or 1,000.", ("-3.5", "or", ".5", "or", "1,000")),
        ("half-open door_left b12 5%", ("half", "open", "door", "left", "b", "12", "5", "%")),
        ("it isn't 'open'; x - 3", ("it", "isn't", "open", "x", "-", "3")),
        ("<goal1> is near", ("<goal1>", "is", "near")),
    ],
)
def test_words_numbers_and_signs_are_told_apart(text, words):
    assert read("", text).text == words


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("You see a table.", "You see a chair!"),
        ("A table is here", "Here nothing"),
        ("take the mug", "Take a cup"),
        ("You see a mug.", "You see a mug and a cup."),
        ("A long corridor, you see.", "A long corridor."),
    ],
)
def test_neutral_words_may_differ(one, other):
    expected = "nothing" not in other.lower()
    assert same(one, other) is same(other, one) is expected


def test_inflections_of_the_listed_words_count():
    for one, other in (("it opens", "it breaks"), ("closing it", "taking it"), ("redder", "bigger"),
                       ("it stopped", "it waited"), ("carried it", "saw it"),
                       ("hardened", "made"), ("it isn't".replace("'", ""), "it is")):  # fmt: skip
        assert not same(one, other)


PLACES = ("a {} is here", "you see the {} 2 steps ahead", "the {} and a cup")
NAMES = [f"{colour} {noun}" for colour in ("red", "blue", "pale green") for noun in ("ball", "box")]


@pytest.mark.parametrize(
    "action",
    ["take {}", "take {noun}", "take_{noun}", "take {noun}s", "take {joined}", "unbox-{joined}s",
     "press {colour}", "{colour}dish one", "go to the {noun} now"],
)  # fmt: skip
def test_no_colour_is_answered_by_another_about_an_action_with_a_part_of_the_name(action):
    for one, other in itertools.permutations(NAMES, 2):
        colour, noun = one.rsplit(" ", 1)
        told = action.format(one, colour=colour, noun=noun, joined=one.replace(" ", ""))
        for place in PLACES:
            ours, theirs = (
                reading(f"go to the {name}", place.format(name), focus=True)
                for name in (one, other)
            )
            assert ours.signature == theirs.signature
            for actions in ((told, "wait"), ("wait", told)):
                assert not alike(ours, theirs, actions), (one, other, told)
                assert not alike(theirs, ours, actions), (one, other, told)
            assert alike(ours, theirs, ("turn left", "go forward", "wait"))


def test_words_in_another_script_count_because_nothing_is_known_of_them():
    assert not same("门 开", "门 关")
    assert same("门 here", "门 there")


def test_focus_keeps_what_is_no_name():
    assert list(carriers_of_name("locked red door 2")) == ["locked", "2"]
    assert reading("open the red door", "a red door", focus=True).text == ("<goal1>",)
    marked = reading("open the closed red door", "a closed red door", focus=True)
    assert marked.goal == ("open", "<goal1>", "closed")
    assert reading("open the red door", "a red door", focus=False).text == ("red", "door")
