"""Prompt templates: fixed and state part, version, no list of actions."""

import pytest

from cepcli.prior.prompts import PromptTemplate
from cepcli.types import TextState

OWN = ["babyai", "textworld", "webshop", "halfcheetah", "walker2d", "ant", "metaworld"]
STATE = TextState("go to the red ball", " You see a wall.\n", ("turn left", "toggle"))


@pytest.mark.parametrize("family", [*OWN, "anything-else"])
def test_prompt_ends_where_the_action_follows(family):
    prompt = PromptTemplate(family).render(STATE)
    assert prompt.prefix.endswith("\n")
    assert prompt.prefix.strip()
    assert prompt.state.startswith("Goal: go to the red ball\nYou see a wall.\n")
    assert prompt.state.endswith(":")
    assert "turn left" not in prompt.prefix + prompt.state


def test_families_have_versions_of_their_own():
    for family in OWN:
        assert PromptTemplate(family).version == f"{family}-1"
    assert PromptTemplate("no-such-family").version == "default-1"


def test_prefix_is_the_same_for_every_state():
    template = PromptTemplate("babyai")
    other = TextState("pick up the key", "You see a key.", ("toggle",))
    assert template.render(STATE).prefix == template.render(other).prefix
    assert template.neutral().prefix == template.render(STATE).prefix
