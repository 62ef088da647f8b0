import numpy as np
import pytest

from cepcli.abstraction.keys import KeyEncoder, focused


class CountingEncoder:
    """Counts letters; remembers what it was asked."""

    dim = 2
    sha256 = "letters"

    def __init__(self):
        self.asked = []

    def encode(self, text):
        self.asked.append(text)
        vector = np.array([text.count("a") + 1.0, text.count("b")])
        return vector / np.linalg.norm(vector)


@pytest.mark.parametrize(
    ("goal", "text", "expected"),
    [
        ("go to the red ball", "You see a red ball.", "you see a <goal1>."),
        ("go to a Red Ball", "a red ball, a red key", "a <goal1>, a red key"),
        ("pick up the ball", "a ball, up there", "a <goal1>, up there"),
        ("go to the red ball", "a red balloon", "a red balloon"),
        ("go", "go north", "go north"),
        ("", "You see a wall.", "you see a wall."),
        (
            "put the blue key next to the green box",
            "You carry a blue key. A green box is here, a blue key, too.",
            "you carry a <goal1>. a <goal2> is here, a <goal1>, too.",
        ),
    ],
)
def test_phrases_that_goal_and_text_share_are_marked(goal, text, expected):
    assert focused(goal, text) == expected


def test_what_two_goals_ask_alike_has_one_text():
    assert focused("go to the red ball", "a red ball 1 step left") == focused(
        "go to the blue key", "a blue key 1 step left"
    )


def test_a_key_is_of_the_focused_text_and_its_hash_says_so():
    inner = CountingEncoder()
    focus, plain = KeyEncoder(inner, True), KeyEncoder(inner, False)
    focus.key("go to the red ball", "A red ball")
    plain.key("go to the red ball", "A red ball")
    assert inner.asked == ["a <goal1>", "A red ball"]
    assert focus.sha256 != plain.sha256
    assert plain.key("", "ab").dtype == np.float32
