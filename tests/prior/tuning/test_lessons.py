"""Groups of annotated states as shots."""

import pytest

from cepcli.errors import PriorError
from cepcli.prior.tuning.choice import choose_shots
from cepcli.prior.tuning.lessons import STATES_PER_SHOT, check_shots, split_labelled
from cepcli.types import TextState

ACTIONS = ("push", "wait")
GOALS = ("walk", "run")


def labelled(texts):
    """Each text once under either goal."""
    return [
        (TextState(goal, f"text {number}", ACTIONS), ACTIONS[number % 2])
        for goal in GOALS
        for number in range(texts)
    ]


LABELLED = labelled(30)


def texts(decisions):
    return {decision.state.text for decision in decisions}


def split(pairs=LABELLED):
    return split_labelled(pairs, "walker2d")


def test_no_text_is_on_two_sides_whatever_its_goal():
    sides = split()
    assert sum(map(len, sides)) == 60
    assert sum(len(texts(side)) for side in sides) == 30
    assert all(decision.action == ACTIONS[decision.label] for decision in sides.train)


def test_about_a_third_is_held_out():
    sides = split(labelled(2000))
    shares = [len(side) / 4000 for side in sides]
    assert shares == pytest.approx([0.7, 0.15, 0.15], abs=0.03)


def test_what_is_annotated_later_leaves_every_text_on_its_side():
    for before, after in zip(split(), split(labelled(60)), strict=True):
        assert texts(before) < texts(after)


def test_a_shot_is_a_group_of_states():
    train = split().train
    assert len(choose_shots(train, 3, seed=0)) == 3 * STATES_PER_SHOT


def test_more_shots_than_annotations_are_refused():
    train = split().train
    there = -(-len(train) // STATES_PER_SHOT)
    check_shots(train, there, "walker2d")
    with pytest.raises(PriorError, match=f"need {there + 1} groups of 5") as error:
        check_shots(train, there + 1, "walker2d")
    assert f"--shots {there}" in error.value.hint
    with pytest.raises(PriorError, match="makes 0 shots"):
        check_shots([], 1, "walker2d")


def test_too_few_annotations_for_all_sides_are_refused():
    with pytest.raises(PriorError, match="2 annotated states of walker2d are too few") as error:
        split(LABELLED[:2])
    assert "cep annotate auto --env walker2d" in error.value.hint
