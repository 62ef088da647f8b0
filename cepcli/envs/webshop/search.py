"""A product search: Okapi BM25 over stemmed words, with the parameters of WebShop's Lucene index.

A term t scores idf(t)·f/(f + k₁·(1 − b + b·|d|/mean|d|)) in a document d that has it f times, with
idf(t) = ln(1 + (N − n + ½)/(n + ½)) for n of N documents that have it, k₁ = 0.9 and b = 0.4.
"""

import math
import re
from collections import Counter
from collections.abc import Sequence

import numpy as np

K1, B = 0.9, 0.4
#: Lucene's English stop words.
STOP_WORDS = {
    "a", "an", "and", "are", "as", "at", "be", "but", "by", "for", "if", "in", "into", "is", "it",
    "no", "not", "of", "on", "or", "such", "that", "the", "their", "then", "there", "these",
    "they", "this", "to", "was", "will", "with",
}  # fmt: skip
_WORD = re.compile(r"\w+(?:[.']\w+)*")


class SearchEngine:
    """Ranks documents by how well they fit the words of a query."""

    def __init__(self, documents: Sequence[str]) -> None:
        import snowballstemmer

        self._stemmer = snowballstemmer.stemmer("porter")
        self._stems: dict[str, str] = {}
        self._size = len(documents)
        self._postings = self._index([Counter(self.terms(text)) for text in documents])

    def terms(self, text: str) -> list[str]:
        """The stems of the words of `text` that are no stop words, in order."""
        straight = text.lower().replace("’", "'")
        words = (word.removesuffix("'s") for word in _WORD.findall(straight))
        return [self._stem(word) for word in words if word not in STOP_WORDS]

    def search(self, query: str, limit: int = 50) -> list[int]:
        """The documents that have a word of `query`, best first, at most `limit`.

        Equal scores are in the order of the documents.
        """
        scores = np.zeros(self._size)
        for term, count in Counter(self.terms(query)).items():
            if term in self._postings:
                documents, weights = self._postings[term]
                scores[documents] += count * weights
        found = np.flatnonzero(scores)
        best = found[np.argsort(-scores[found], kind="stable")[:limit]]
        return [int(document) for document in best]

    def _stem(self, word: str) -> str:
        if word not in self._stems:
            self._stems[word] = self._stemmer.stemWord(word)
        return self._stems[word]

    def _index(self, counts: Sequence[Counter[str]]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """By term, the documents that have it, and what it scores in each."""
        lengths = np.array([sum(count.values()) for count in counts], float)
        norms = K1 * (1 - B + B * lengths / max(1.0, lengths.mean()))
        found: dict[str, list[tuple[int, int]]] = {}
        for document, count in enumerate(counts):
            for term, frequency in count.items():
                found.setdefault(term, []).append((document, frequency))
        postings = {}
        for term, entries in found.items():
            documents, frequencies = np.array(entries).T
            n = len(entries)
            idf = math.log(1 + (self._size - n + 0.5) / (n + 0.5))
            postings[term] = documents, idf * frequencies / (frequencies + norms[documents])
        return postings
