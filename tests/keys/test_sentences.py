import numpy as np

from cepcli.keys import sentences
from cepcli.keys.sentences import SentenceSums


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
    monkeypatch.setattr(sentences, "_REMEMBERED", 3)
    sums, seen = counting()
    first = [sums.total(f"number {n}. and {n % 2}.").tolist() for n in range(20)]
    assert first == [sums.total(f"number {n}. and {n % 2}.").tolist() for n in range(20)]
    assert len(seen) > 22
    assert len(sums._known) <= 3
