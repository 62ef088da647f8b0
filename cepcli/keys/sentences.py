"""Sums over the sentences of a text, each sentence worked out once.

The states of one world say the same few thousand sentences again and again, so an encoder that is a
sum over sentences need not read them twice. The sum does not depend on what was read before.
"""

import re
from collections.abc import Callable

import numpy as np
from jaxtyping import Float
from numpy import ndarray

_SENTENCE_END = re.compile(r"(?<=[.!?;])\s+|\n+")
_REMEMBERED = 4096


class SentenceSums:
    """The sum of `vector_of` over the sentences of a text.

    Args:
        dim: of the vectors.
        vector_of: a sentence's vector, float32; a pure function. The latest few thousand are kept.
    """

    def __init__(self, dim: int, vector_of: Callable[[str], Float[ndarray, " dim"]]) -> None:
        self._dim = dim
        self._vector_of = vector_of
        self._known: dict[str, Float[ndarray, " dim"]] = {}

    def total(self, text: str) -> Float[ndarray, " dim"]:
        """The sum for a text, float32; sentences end at `.!?;` before a space, or at a new line."""
        total = np.zeros(self._dim, np.float32)
        for sentence in _SENTENCE_END.split(text):
            vector = self._known.get(sentence)
            if vector is None:
                vector = self._remember(sentence)
            total += vector
        return total

    def _remember(self, sentence: str) -> Float[ndarray, " dim"]:
        if len(self._known) >= _REMEMBERED:
            self._known.clear()
        vector = self._known[sentence] = self._vector_of(sentence)
        return vector
