"""A prior that is wrong on purpose, to see what an agent makes of one."""

import hashlib
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Int
from numpy import ndarray
from typing_extensions import override

from cepcli.prior.base import Prior, PriorAnswer, PriorShape
from cepcli.types import TextState


class ShuffledPrior(Prior):
    """`inner` with the probabilities of each state's actions permuted.

    No action keeps its own, unless it is the only one. The same state always gets the same wrong
    answer, and how sure `inner` is stays as it was; costs and kinds of answers are `inner`'s.

    Args:
        inner: whose answers are shuffled; a cache belongs inside, not outside.
        seed: of the shuffling.
    """

    def __init__(self, inner: Prior, seed: int) -> None:
        self._inner = inner
        self._seed = seed

    @property
    @override
    def shape(self) -> PriorShape:
        return self._inner.shape

    @override
    def log_probs(self, states: Sequence[TextState]) -> list[PriorAnswer]:
        answers = []
        for state, answer in zip(states, self._inner.log_probs(states), strict=True):
            named = "\0".join([str(self._seed), state.goal, state.text, *state.actions])
            digest = hashlib.sha256(named.encode("utf-8", "surrogatepass")).digest()
            random = np.random.default_rng(int.from_bytes(digest[:8], "big"))
            order = cycle(len(state.actions), random)
            log_prior, scores = answer.log_prior[order], answer.scores[order]
            answers.append(replace(answer, log_prior=log_prior, scores=scores))
        return answers


def cycle(count: int, random: np.random.Generator) -> Int[ndarray, " count"]:
    """A permutation that is one single cycle, drawn evenly (Sattolo's algorithm)."""
    order = np.arange(count)
    for last in range(count - 1, 0, -1):
        other = int(random.integers(last))
        order[[last, other]] = order[[other, last]]
    return order
