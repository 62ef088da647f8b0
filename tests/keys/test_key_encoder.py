import numpy as np
import pytest

from cepcli.errors import CacheError, ConfigError
from cepcli.keys import key_encoder
from cepcli.keys.encoder import MiniLM
from cepcli.keys.hashing import HashEncoder
from cepcli.keys.head import Head
from cepcli.keys.key_encoder import KeyEncoder, focused, make_encoder


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
    assert focused(goal, text).split("\n", 1)[1] == expected


def test_what_two_goals_ask_alike_has_one_text():
    assert focused("go to the red ball", "a red ball 1 step left") == focused(
        "go to the blue key", "a blue key 1 step left"
    )


def test_what_the_goal_says_beyond_the_shared_phrases_stays():
    assert focused("Go to the red ball", "A red ball.") == "go to the <goal1>\na <goal1>."
    assert focused("open the red ball", "a red ball") != focused("take the red ball", "a red ball")


def test_a_key_is_of_the_focused_text_and_its_hash_says_so():
    inner = CountingEncoder()
    focus, plain = KeyEncoder(inner, True), KeyEncoder(inner, False)
    focus.key("go to the red ball", "A red ball")
    plain.key("go to the red ball", "A red ball")
    assert inner.asked == ["go to the <goal1>\na <goal1>", "go to the red ball\nA red ball"]
    assert focus.sha256 != plain.sha256
    assert plain.key("", "ab").dtype == np.float32


def head_of(sha256, features=2):
    random = np.random.default_rng(0)
    arrays = {"hidden": (5, features), "bias": (5,), "output": (3, 5)}
    return Head.of(
        {name: random.normal(size=size).astype(np.float32) for name, size in arrays.items()}, sha256
    )


def test_a_head_maps_the_vectors_and_has_the_hash_of_both():
    keys = KeyEncoder(CountingEncoder(), True)
    head = head_of(keys.sha256)
    headed = keys.with_head(head)
    assert (headed.dim, headed.sha256) == (3, head.sha256)
    assert np.array_equal(headed.key("g", "abba"), head.project(keys.vector("g", "abba")))
    assert np.array_equal(headed.vector("g", "abba"), keys.key("g", "abba"))
    assert headed.with_head(None) == keys


def test_a_head_of_another_encoder_focus_or_size_is_refused():
    keys = KeyEncoder(CountingEncoder(), True)
    unfocused = keys._replace(focus=False)
    for foreign in (head_of("other"), head_of(unfocused.sha256), head_of(keys.sha256, 5)):
        with pytest.raises(CacheError, match="was trained on"):
            keys.with_head(foreign)


def test_names_make_their_encoders():
    assert isinstance(make_encoder("hash"), HashEncoder)
    assert isinstance(make_encoder("minilm"), MiniLM)


def test_static_passes_its_notes_on(monkeypatch, tmp_path):
    notes = []

    def ensure(notify):
        notify("distilling")
        return tmp_path

    monkeypatch.setattr(key_encoder, "ensure_static", ensure)
    made = HashEncoder()
    opened = []
    monkeypatch.setattr(key_encoder, "StaticEncoder", lambda path: opened.append(path) or made)
    assert make_encoder("static", notify=notes.append) is made
    assert opened == [tmp_path]
    assert notes == ["distilling"]


def test_almost_right_name_gets_a_suggestion():
    with pytest.raises(ConfigError, match="statik") as caught:
        make_encoder("statik")
    assert caught.value.hint == "Did you mean `static`?"
