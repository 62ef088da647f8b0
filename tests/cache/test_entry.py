"""Scores behave as a dictionary does; an entry says what it lacks."""

import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cepcli.cache.entries import CacheEntry, Scores, text_digest, text_hash

ACTIONS = [f"action {number}" for number in range(24)]
operations = st.lists(
    st.tuples(
        st.sampled_from(["set", "set", "delete"]),
        st.sampled_from(ACTIONS),
        st.floats(allow_nan=False),
    ),
    max_size=80,
)


@given(st.dictionaries(st.sampled_from(ACTIONS), st.floats(allow_nan=False)), operations)
def test_scores_are_a_dictionary(start, history):
    scores, model = Scores.of(start), dict(start)
    for operation, action, value in history:
        if operation == "set":
            scores[action] = model[action] = value
        elif action in model:
            del scores[action]
            del model[action]
        else:
            with pytest.raises(KeyError, match=action):
                del scores[action]
    assert scores == model
    assert list(scores.items()) == list(model.items())
    assert scores.plain() == model
    for action in ACTIONS:
        assert (action in scores, action in scores.known) == (action in model,) * 2
        assert scores.get(action) == model.get(action)
        assert scores.get(action, 7.0) == model.get(action, 7.0)


def test_the_strings_of_actions_are_shared():
    one, other = (Scores.of({"".join(["go ", "north"]): -1.0}) for _ in range(2))
    one["".join(["go ", "south"])] = -2.0
    other["".join(["go ", "south"])] = -2.0
    assert all(a is b is sys.intern(a) for a, b in zip(one, other, strict=True))


def test_an_entry_lacks_what_was_not_scored():
    entry = CacheEntry(0, "goal", "text", Scores.of({"go": -1.0, "stay": -2.0}))
    assert entry.lacks(["stay", "jump", "go"]) == ["jump"]
    assert entry.lacks(["stay", "go"]) == []


def test_the_identity_tells_goal_from_text():
    assert text_hash("a", "b") == text_digest("a", "b").hex()
    assert text_hash("a", "b") != text_hash("b", "a")
    assert len(text_digest("", "\ud800")) == 16
