"""The space of admissible actions and the checks of arguments."""

import pytest

from cepcli.envs.base import AdmissibleActions, require_admissible, text_space
from cepcli.errors import EnvError


def test_the_space_follows_the_state():
    space = AdmissibleActions(("go east", "wait"))
    space.seed(0)
    assert {space.sample() for _ in range(30)} == {"go east", "wait"}
    assert "go east" in space
    assert "go west" not in space
    space.actions = ("go west",)
    assert "go east" not in space
    assert space.sample() == "go west"
    assert not space.is_np_flattenable


def test_the_space_refuses_masks_and_has_nothing_before_an_episode():
    with pytest.raises(EnvError, match="mask"):
        AdmissibleActions(("wait",)).sample(mask=object())
    with pytest.raises(EnvError, match="before an episode"):
        AdmissibleActions().sample()


def test_texts_are_observations_and_nothing_is_not():
    assert text_space().contains('You see a wall 1 step forward.\n"What\'s this?" - 1/2')
    assert not text_space().contains("")


def test_an_inadmissible_action_names_the_nearest():
    require_admissible("wait", ("wait",), "toy/walk")
    with pytest.raises(EnvError, match="`wat` is not admissible") as error:
        require_admissible("wat", ("wait", "go"), "toy/walk")
    assert error.value.hint == "Did you mean `wait`?"
