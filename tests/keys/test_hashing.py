import subprocess
import sys

import numpy as np
import pytest

from cepcli.errors import ConfigError
from cepcli.keys.config import HashConfig
from cepcli.keys.hashing import HashEncoder

TEXT = "You see a red ball 2 steps left. You see a wall 3 steps forward."


def cosine(encoder, one, other):
    return float(encoder.encode(one) @ encoder.encode(other))


def test_vectors_are_unit_and_do_not_depend_on_what_came_before():
    encoder = HashEncoder()
    first = encoder.encode(TEXT)
    assert first.dtype == np.float32
    assert first.shape == (encoder.dim,) == (2048,)
    assert np.linalg.norm(first) == pytest.approx(1.0, abs=1e-6)
    encoder.encode("Something else. You see a wall 3 steps forward.")
    assert np.array_equal(encoder.encode(TEXT), first)
    assert np.array_equal(HashEncoder().encode(TEXT), first)


def test_another_process_gives_the_same_vector():
    code = (
        "from cepcli.keys.hashing import HashEncoder;"
        f"print(HashEncoder().encode({TEXT!r}).nonzero()[0].tolist())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(HashEncoder().encode(TEXT).nonzero()[0].tolist())


def test_cosine_is_that_of_the_feature_counts():
    encoder = HashEncoder(HashConfig(dim=2**20, sentences=False))
    # a, b, a b against a, c, a c: one of three features shared
    assert cosine(encoder, "a b", "A c") == pytest.approx(1 / 3)
    assert cosine(HashEncoder(HashConfig(dim=2**20)), "a b", "a c") == pytest.approx(1 / 4)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("the key is left of the ball", "the ball is left of the key"),
        ("a ball 2 steps left", "a ball 2 steps right"),
        ("a ball 2 steps left", "a ball 3 steps left"),
        ("!!!", "???"),
        ("", "?"),
    ],
)
def test_order_direction_number_and_wordless_texts_are_told_apart(one, other):
    assert cosine(HashEncoder(), one, other) < 0.95


def test_case_and_the_order_of_sentences_do_not_matter():
    encoder = HashEncoder()
    swapped = "you see a WALL 3 steps forward. You see a red ball 2 steps left."
    assert np.array_equal(encoder.encode(TEXT), encoder.encode(swapped))


def test_words_of_a_sentence_with_a_mark_are_apart_from_the_same_words_elsewhere():
    encoder = HashEncoder(HashConfig(dim=2**20, sentences=False))
    assert cosine(encoder, "<goal1> left", "ball left") == pytest.approx(0.0)
    assert cosine(encoder, "<goal1> left", "<goal2> left") == pytest.approx(1 / 3)


def test_sha256_tells_the_parameters():
    configs = [HashConfig(), HashConfig(dim=64), HashConfig(order=3), HashConfig(sentences=False)]
    assert len({HashEncoder(config).sha256 for config in configs}) == 4
    assert HashEncoder().sha256 == HashEncoder().sha256


@pytest.mark.parametrize("values", [{"dim": 1}, {"order": 0}])
def test_sizes_that_cannot_work_are_refused(values):
    with pytest.raises(ConfigError, match=f"hash.{next(iter(values))}"):
        HashConfig(**values)
