"""The bank: states whose labels are known, which vote on the labels of others.

Every slot is a question of its own ("how does the torso stand?"), answered by the phrase to which
the nearest entries give most weight; the primitive is one more such question.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Float32, Int
from numpy import ndarray

#: A vote weighs exp((cosine − best cosine) / this).
_SHARPNESS = 0.1
#: Of an entry that does not say.
UNKNOWN = -1


class Vote(NamedTuple):
    """What the neighbours of states say.

    Attributes:
        codes: the winning label of every question.
        lead: by how much of the vote it is ahead of the second, the least over the questions.
    """

    codes: Int[ndarray, "states questions"]
    lead: Float[ndarray, " states"]


@dataclass(frozen=True, slots=True, eq=False)
class Bank:
    """Keys with labels.

    Attributes:
        keys: unit keys.
        codes: number of the label that answers each question, `UNKNOWN` where there is none.
        annotated: which entries are annotations; the others were labelled by their neighbours.
        counts: how many labels each question has.
        neighbours: how many entries vote.
    """

    keys: Float32[ndarray, "entries dim"]
    codes: Int[ndarray, "entries questions"]
    annotated: Bool[ndarray, " entries"]
    counts: tuple[int, ...]
    neighbours: int
    _ballots: Float32[ndarray, "entries labels"]
    _starts: tuple[int, ...]

    @classmethod
    def of(
        cls,
        keys: Float32[ndarray, "entries dim"],
        codes: Int[ndarray, "entries questions"],
        annotated: Bool[ndarray, " entries"],
        counts: Sequence[int],
        neighbours: int,
    ) -> "Bank":
        """A bank of entries; at most as many vote as there are."""
        starts = np.concatenate([[0], np.cumsum(counts)])
        ballots = np.zeros((len(keys), starts[-1]), np.float32)
        rows, questions = np.nonzero(codes != UNKNOWN)
        ballots[rows, starts[questions] + codes[rows, questions]] = 1.0
        return cls(
            np.ascontiguousarray(keys, np.float32), codes, annotated, tuple(counts),
            min(neighbours, len(keys)), ballots, tuple(map(int, starts)),
        )  # fmt: skip

    def nearest(self, key: Float32[ndarray, " dim"]) -> tuple[int, ...]:
        """The winning label of every question for one key."""
        similar = self.keys @ key
        voters = similar.argpartition(-self.neighbours)[-self.neighbours :]
        near = similar[voters]
        totals = np.exp((near - near.max()) / _SHARPNESS) @ self._ballots[voters]
        bounds = zip(self._starts, self._starts[1:], strict=False)
        return tuple(int(totals[a:b].argmax()) for a, b in bounds)

    def vote(self, keys: Float32[ndarray, "states dim"]) -> Vote:
        """The winning labels of many keys, and how clearly they win."""
        similar = keys @ self.keys.T
        voters = np.argpartition(similar, -self.neighbours, axis=1)[:, -self.neighbours :]
        near = np.take_along_axis(similar, voters, 1)
        weights = np.exp((near - near.max(1, keepdims=True)) / _SHARPNESS)
        totals = np.einsum("sn,snl->sl", weights, self._ballots[voters])
        codes = np.empty((len(keys), len(self.counts)), np.int64)
        lead = np.ones(len(keys))
        for question, (a, b) in enumerate(zip(self._starts, self._starts[1:], strict=False)):
            votes = totals[:, a:b]
            codes[:, question] = votes.argmax(1)
            lead = np.minimum(lead, _lead(votes))
        return Vote(codes, lead)


def _lead(votes: Float[ndarray, "states labels"]) -> Float[ndarray, " states"]:
    """Share of the first less that of the second; 0 where nobody votes, 1 for an only label."""
    total = votes.sum(1)
    ordered = np.sort(votes, axis=1)
    second = ordered[:, -2] if votes.shape[1] > 1 else 0.0
    return np.where(total > 0, (ordered[:, -1] - second) / np.where(total > 0, total, 1.0), 0.0)
