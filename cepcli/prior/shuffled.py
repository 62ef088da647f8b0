"""A prior that is wrong on purpose, to see what an agent makes of one."""

import hashlib
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Int
from numpy import ndarray

from cepcli.prior.base import Prior, PriorAnswer, PriorShape
from cepcli.types import TextState


class ShuffledPrior(Prior):
    """`inner` with the probabilities of each state's actions changed round.

    No action keeps its own, unless it is the only one. The same state always gets the same wrong
    answer, and how sure `inner` is stays as it was; costs and kinds of answers are `inner`'s.

    Args:
        inner: whose answers are shuffled; a cache belongs inside, not around.
        seed: of the shuffling.
    """

    def __init__(self, inner: Prior, seed: int) -> None:
        self._inner = inner
        self._seed = seed

    @property
    def shape(self) -> PriorShape:
        """The inner prior's."""
        return self._inner.shape

    def log_probs(self, states: Sequence[TextState]) -> list[PriorAnswer]:
        """The inner answers, each shuffled."""
        answers = []
        for state, answer in zip(states, self._inner.log_probs(states), strict=True):
            order = cycle(len(state.actions), self._random(state))
            answers.append(
                replace(answer, log_prior=answer.log_prior[order], scores=answer.scores[order])
            )
        return answers

    def _random(self, state: TextState) -> np.random.Generator:
        named = "\0".join([str(self._seed), state.goal, state.text, *state.actions])
        digest = hashlib.sha256(named.encode("utf-8", "surrogatepass")).digest()
        return np.random.default_rng(int.from_bytes(digest[:8], "big"))


def cycle(count: int, random: np.random.Generator) -> Int[ndarray, " count"]:
    """A permutation that is one single cycle, drawn evenly (Sattolo's algorithm)."""
    order = np.arange(count)
    for last in range(count - 1, 0, -1):
        other = int(random.integers(last))
        order[[last, other]] = order[[other, last]]
    return order
