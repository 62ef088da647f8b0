"""Groups of annotated states as shots."""

import pytest

from cepcli.errors import PriorError
from cepcli.prior.finetune import choose_shots, split_heldout
from cepcli.prior.shots import STATES_PER_SHOT, check_shots, split_labelled
from cepcli.types import TextState

ACTIONS = ("push", "wait")
LABELLED = [
    (TextState("walk", f"text {number % 30}", ACTIONS), ACTIONS[number % 2]) for number in range(60)
]


def texts(decisions):
    return {decision.state.text for decision in decisions}


def test_no_text_is_tuned_on_and_held_out():
    train, heldout = split_labelled(LABELLED)
    assert not texts(train) & texts(heldout)
    assert (len(texts(train)), len(texts(heldout))) == (21, 9)
    validation, test = split_heldout(heldout)
    assert not texts(validation) & texts(test)
    assert len(train) + len(heldout) == 60
    assert all(decision.action == ACTIONS[decision.label] for decision in train)


def test_a_shot_is_a_group_of_states():
    train, _ = split_labelled(LABELLED)
    assert len(choose_shots(train, 3, seed=0)) == 3 * STATES_PER_SHOT
    assert split_labelled(LABELLED) == split_labelled(list(LABELLED))


def test_more_shots_than_annotations_are_refused():
    train, _ = split_labelled(LABELLED)
    check_shots(train, 9, "walker2d")
    with pytest.raises(PriorError, match="need 50 annotated states") as error:
        check_shots(train, 10, "walker2d")
    assert "--shots 9" in error.value.hint
    with pytest.raises(PriorError, match="makes 0 shots"):
        check_shots([], 1, "walker2d")
