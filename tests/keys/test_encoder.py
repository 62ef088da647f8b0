import shutil

import numpy as np
import pytest
from safetensors.torch import load_file, save_file

from cepcli.errors import PriorError
from cepcli.keys import encoder as encoding
from cepcli.keys.encoder import EmbeddingTable, MiniLM, SentenceSums, TextEncoder, unit


class Counting(TextEncoder):
    dim = 3
    sha256 = "counting"

    def __init__(self):
        self.calls = []

    def encode(self, text):
        self.calls.append(text)
        return np.eye(3, dtype=np.float32)[len(text) % 3]


def test_each_distinct_text_is_encoded_once_and_keeps_its_row():
    encoder = Counting()
    table = EmbeddingTable(encoder)
    rows = [table.row(f"text {n % 400}") for n in range(900)]
    assert rows[:400] == rows[400:800] == list(range(400))
    assert len(encoder.calls) == len(table) == 400


def test_restored_table_knows_its_texts_without_encoding():
    table = EmbeddingTable(Counting())
    for n in range(300):
        table.row("x" * n)
    copy = EmbeddingTable(Counting())
    copy.restore(*table.state())
    assert np.array_equal(copy.vectors, table.vectors)
    assert copy.row("xx") == 2
    assert copy.row("new") == 300
    assert copy.encoder.calls == ["new"]


@pytest.fixture(scope="module")
def minilm():
    return MiniLM()


def test_minilm_gives_unit_vectors_that_know_meaning(minilm):
    cat, kitten, tax = map(minilm.encode, ["a cat sleeps", "a kitten naps", "the tax law changed"])
    assert cat.dtype == np.float32
    assert cat.shape == (minilm.dim,) == (384,)
    assert np.linalg.norm(cat) == pytest.approx(1.0, abs=1e-6)
    assert cat @ kitten > cat @ tax + 0.3


def test_minilm_without_one_of_its_weights_is_damaged(minilm, tmp_path, monkeypatch):
    """transformers would fill it at random, and every key would be another on each start."""
    monkeypatch.setenv("CEP_CACHE", str(tmp_path))
    folder = tmp_path / minilm.directory.name
    shutil.copytree(minilm.directory, folder)
    weights = load_file(folder / "model.safetensors")
    del weights["encoder.layer.0.attention.self.query.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(PriorError, match=r"damaged \(it lacks encoder\.layer\.0") as error:
        MiniLM()
    assert f"Remove `{folder}`" in error.value.hint


def test_minilm_is_deterministic_to_the_bit(minilm):
    text = "You see a red ball 2 steps forward."
    first = minilm.encode(text)
    minilm.encode("something else in between, and longer than it")
    assert np.array_equal(first, minilm.encode(text))


def test_vector_of_a_new_text_that_makes_the_table_grow():
    table = EmbeddingTable(Counting())
    for n in range(2000):
        text = f"text {n}"
        assert np.array_equal(table.vector(text), table.vectors[table.row(text)])


def test_many_texts_are_encoded_as_each_alone(minilm):
    texts = ["You see a red ball.", "A much longer text than the other one is.", "Wall."]
    many = minilm.encode_many(texts)
    assert many.dtype == np.float32
    assert all(
        np.array_equal(row, minilm.encode(text)) for row, text in zip(many, texts, strict=True)
    )
    assert minilm.encode_many([]).shape == (0, 384)


def test_lone_tokens_have_the_mean_hidden_state_of_their_text(minilm):
    [cat] = minilm.encode_tokens([minilm._tokenizer.token_to_id("cat")])
    assert cat / np.linalg.norm(cat) == pytest.approx(minilm.encode("cat"), abs=1e-5)


def test_unit_vectors_and_what_becomes_of_nothing():
    made = unit(np.array([[3.0, 4.0], [0.0, 0.0]]))
    assert made.dtype == np.float32
    assert made.tolist() == [[np.float32(0.6), np.float32(0.8)], [1.0, 0.0]]
    assert unit(np.array([0.0, 2.0])).tolist() == [0.0, 1.0]


def counting():
    seen = []

    def vector_of(sentence):
        seen.append(sentence)
        return np.array([1.0, len(sentence)], np.float32)

    return SentenceSums(2, vector_of), seen


def test_the_sum_runs_over_sentences_and_each_is_read_once():
    sums, seen = counting()
    assert sums.total("One. Two!\nThree is 3.5 long; yes").tolist() == [4.0, 29.0]
    assert sums.total("Two! One.").tolist() == [2.0, 8.0]
    assert seen == ["One.", "Two!", "Three is 3.5 long;", "yes"]


def test_memory_is_bounded_and_does_not_change_the_sum(monkeypatch):
    monkeypatch.setattr(encoding, "_REMEMBERED", 3)
    sums, seen = counting()
    first = [sums.total(f"number {n}. and {n % 2}.").tolist() for n in range(20)]
    assert first == [sums.total(f"number {n}. and {n % 2}.").tolist() for n in range(20)]
    assert len(seen) > 22
    assert len(sums._known) <= 3
