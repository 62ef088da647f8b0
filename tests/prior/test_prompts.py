"""Prompt templates: fixed and state part, version, no list of actions."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cepcli.errors import PriorError
from cepcli.prior.prompts import PromptTemplate, shortened
from cepcli.types import TextState

OWN = ["babyai", "textworld", "alfworld", "webshop", "halfcheetah", "walker2d", "ant", "metaworld"]
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


def words(text):
    return len(text.split())


def test_a_long_text_keeps_its_beginning_and_its_end():
    text = "\n".join(f"line {number}" for number in range(50))
    found = shortened(text, 21, words)
    assert words(found) == 21
    assert found == "\n".join(f"line {n}" for n in range(5)) + " …" + "".join(
        f"\nline {n}" for n in range(45, 50)
    )
    assert shortened(text, 100, words) == text
    assert shortened(f" {text}\n", 100, words) == f" {text}\n"


@given(st.text(max_size=300), st.integers(1, 40))
def test_a_shortened_text_keeps_to_its_budget(text, most):
    found = shortened(text, most, lambda text: len(text.encode()) // 3 + 1)
    if len(text.encode()) // 3 + 1 <= most:
        assert found == text
    else:
        assert found == "…" or len(found.encode()) // 3 + 1 <= most


def test_prefix_is_the_same_for_every_state():
    template = PromptTemplate("babyai")
    other = TextState("pick up the key", "You see a key.", ("toggle",))
    assert template.render(STATE).prefix == template.render(other).prefix
    assert template.neutral().prefix == template.render(STATE).prefix


@pytest.mark.parametrize("name", ["default", "bare", "question"])
def test_a_template_may_be_chosen_by_name_and_says_goal_and_text(name):
    template = PromptTemplate("babyai", name)
    assert template.version == f"{name}-1"
    prompt = template.render(STATE)
    assert prompt.prefix.strip()
    assert "go to the red ball" in prompt.state
    assert "You see a wall." in prompt.state
    assert not prompt.state.endswith((" ", "\n"))
    assert "turn left" not in prompt.prefix + prompt.state


def test_a_misspelt_template_is_named_with_the_nearest():
    with pytest.raises(PriorError, match="no prompt template `questin`") as error:
        PromptTemplate("babyai", "questin")
    assert "`question`" in error.value.hint
