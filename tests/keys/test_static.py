import shutil
import threading

import numpy as np
import pytest

from cepcli.errors import PriorError
from cepcli.keys import static
from cepcli.keys.encoder import MiniLM
from cepcli.keys.static import (
    StaticEncoder,
    distil,
    ensure_static,
    principal_components,
    ranked_tokens,
    sif_weights,
    static_directory,
)

WORDS = ["cat", "kitten", "dog", "tax", "law", "the", "of", "ball", "key", "red", "left", "2", "."]
WORDS += ["north", "south", "door", "open", "river", "money", "bank", "##s"]


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """An encoder that knows a few words only."""
    directory = tmp_path_factory.mktemp("static")
    distil(MiniLM(), directory, WORDS)
    return directory


def test_vectors_are_unit_deterministic_and_know_meaning(small):
    encoder = StaticEncoder(small)
    cat, kitten, tax = map(encoder.encode, ["the cat", "the kitten", "the tax"])
    assert cat.dtype == np.float32
    assert cat.shape == (encoder.dim,)
    assert np.linalg.norm(cat) == pytest.approx(1.0, abs=1e-6)
    assert cat @ kitten > cat @ tax + 0.2
    assert np.array_equal(StaticEncoder(small).encode("the cat"), cat)


def test_a_text_is_the_mean_of_its_tokens_whatever_their_order(small):
    encoder = StaticEncoder(small)
    one, other = encoder.encode("key left ball"), encoder.encode("ball left key")
    assert one == pytest.approx(other, abs=1e-6)
    known = encoder.encode("red ball")
    assert encoder.encode("red zebra ball") == pytest.approx(known, abs=1e-6)


def test_text_without_a_known_token_still_has_a_unit_vector(small):
    assert StaticEncoder(small).encode("").tolist()[:2] == [1.0, 0.0]


def test_damaged_files_are_named(small, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(small, copy)
    weights = copy / "tokens.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(PriorError, match="damaged") as caught:
        StaticEncoder(copy)
    assert str(copy) in caught.value.hint


def test_sha256_tells_the_vectors(small, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    distil(MiniLM(), other, WORDS[:10])
    assert StaticEncoder(other).sha256 != StaticEncoder(small).sha256


@pytest.fixture
def fake(tmp_path, monkeypatch):
    """An empty cache folder and a distillation that only counts."""
    monkeypatch.setenv("CEP_CACHE", str(tmp_path / "cache"))
    made = []

    def distil(model, target):
        made.append(target)
        (target / "tokens.safetensors").write_text("whole")

    monkeypatch.setattr(static, "MiniLM", lambda: None)
    monkeypatch.setattr(static, "distil", distil)
    return made


def test_starts_at_once_distil_once_and_say_so(fake):
    notes = []
    threads = [threading.Thread(target=ensure_static, args=(notes.append,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(fake) == len(notes) == 1
    assert "once" in notes[0]
    assert [p.name for p in static_directory().parent.iterdir() if p.is_dir()] == [
        static_directory().name
    ]


def test_what_a_killed_distillation_left_does_not_count(fake):
    partial = static_directory().with_name(static_directory().name + ".partial")
    partial.mkdir(parents=True)
    (partial / "tokens.safetensors").write_text("half")
    directory = ensure_static(lambda note: None)
    assert (directory / "tokens.safetensors").read_text() == "whole"
    assert not partial.exists()


def test_tokens_are_ranked_punctuation_words_characters():
    tokens = ["[PAD]", "[unused0]", "[CLS]", "!", "[", "7", "a", "the", "of", "##s"]
    assert ranked_tokens({token: n for n, token in enumerate(tokens)}) == [3, 4, 7, 8, 9, 5, 6]


def test_weights_grow_with_rank_as_computed_by_hand():
    # probabilities 1/2, 1/3, 1/4 over their sum 13/12
    expected = [1e-4 / (1e-4 + p) for p in (6 / 13, 4 / 13, 3 / 13)]
    assert sif_weights(3) == pytest.approx(expected)


def test_principal_components_of_points_on_a_line():
    points = np.outer([-2.0, 0.0, 1.0, 1.0], [0.6, -0.8]).astype(np.float32) + 5.0
    assert principal_components(points, 1).ravel() == pytest.approx([2, 0, -1, -1], abs=1e-5)
    assert principal_components(points, 9).shape == (4, 2)


@pytest.mark.slow
def test_the_whole_vocabulary_is_distilled(tmp_path, monkeypatch):
    distil(MiniLM(), tmp_path)
    encoder = StaticEncoder(tmp_path)
    assert (tmp_path / "tokens.safetensors").stat().st_size < 20e6
    cat, kitten, tax = map(encoder.encode, ["a cat sleeps", "a kitten naps", "the tax law changed"])
    assert cat @ kitten > cat @ tax + 0.2
    left, right = map(encoder.encode, ["a ball 2 steps left", "a ball 3 steps left"])
    assert left @ right < 0.995
