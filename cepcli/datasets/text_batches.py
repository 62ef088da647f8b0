"""Minibatches of a text world's decisions: embeddings of their texts, by row or by text."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy import ndarray
from torch import Tensor

from cepcli.datasets.dataset import TextData
from cepcli.datasets.text_replay import NO_ACTION
from cepcli.errors import DataError
from cepcli.keys.encoder import EmbeddingTable, TextEncoder


class TextStates(NamedTuple):
    """States as tensors; a padded action has log-prior −inf."""

    goal: Float[Tensor, "batch dim"]
    text: Float[Tensor, "batch dim"]
    actions: Float[Tensor, "batch actions dim"]
    log_prior: Float[Tensor, "batch actions"]


class TextBatch(NamedTuple):
    """Decisions: `chosen` is a column of `state.actions`; `continues` is 0 where the task ended."""

    state: TextStates
    chosen: Int[Tensor, " batch"]
    reward: Float[Tensor, " batch"]
    next_state: TextStates
    continues: Float[Tensor, " batch"]


class KnownTexts(TextEncoder):
    """Answers with the vectors of a dataset's strings; encodes any other text, once."""

    def __init__(
        self, strings: Sequence[str], vectors: Float[ndarray, "strings dim"], encoder: TextEncoder
    ) -> None:
        self.dim, self.sha256 = encoder.dim, encoder.sha256
        self._row = {text: row for row, text in enumerate(strings)}
        self._vectors = vectors
        self._others = EmbeddingTable(encoder)

    def encode(self, text: str) -> Float[ndarray, " dim"]:
        """The unit vector of a text, float32."""
        row = self._row.get(text)
        return self._others.vector(text) if row is None else self._vectors[row]


class TextBatches:
    """A dataset of decisions as a source of minibatches.

    A decision that was truncated has no next state, and is left out. Where the task ended, the
    next state is the decision's own, and counts nothing.

    Attributes:
        vectors: of the dataset's strings.
    """

    def __init__(
        self, data: TextData, encoder: TextEncoder, *, with_prior: bool, device: str = "cpu"
    ) -> None:
        """Args: with `with_prior` the labels' log-priors, else uniform ones."""
        usable = ~data.truncated | data.terminated
        usable[-1] = bool(data.terminated[-1])  # what came after it is not known
        self._rows = np.flatnonzero(usable)
        if not len(self._rows):
            raise DataError(
                f"No decision of the dataset has a next state: {data.source}",
                "Collect whole episodes: cep offline collect",
            )
        self._data = data
        self._device = device
        self.vectors = encoder.encode_many(data.strings)
        self._log_prior = data.log_prior if with_prior else None

    def sample(self, count: int, generator: np.random.Generator) -> TextBatch:
        """`count` decisions drawn uniformly with replacement."""
        data = self._data
        rows = self._rows[generator.integers(len(self._rows), size=count)]
        ended = data.terminated[rows]
        return TextBatch(
            self._states(rows),
            self._tensor(data.chosen[rows]),
            self._tensor(data.rewards[rows]),
            self._states(np.where(ended, rows, rows + 1)),
            self._tensor(1.0 - ended.astype(np.float32)),
        )

    def seen(self, name: str) -> Float[Tensor, "rows dim"]:
        """The vectors of all strings that are a "goal", a "text" or an "action" somewhere."""
        data = self._data
        numbers = {
            "goal": data.goal, "text": data.text, "action": data.actions[data.actions != NO_ACTION],
        }[name]  # fmt: skip
        return self._tensor(self.vectors[np.unique(numbers)])

    def _states(self, rows: ndarray) -> TextStates:
        data = self._data
        actions = data.actions[rows]
        width = int((actions != NO_ACTION).sum(1).max())
        actions = actions[:, :width]
        return TextStates(
            self._tensor(self.vectors[data.goal[rows]]),
            self._tensor(self.vectors[data.text[rows]]),
            self._tensor(self.vectors[np.maximum(actions, 0)]),
            self._tensor(self._priors(rows, actions)),
        )

    def _priors(self, rows: ndarray, actions: ndarray) -> Float[ndarray, "batch actions"]:
        if self._log_prior is not None:
            return self._log_prior[rows][:, : actions.shape[1]]
        return uniform_log_prior(actions != NO_ACTION)

    def _tensor(self, array: ndarray) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(array)).to(self._device)


def uniform_log_prior(admissible: ndarray) -> Float[ndarray, "batch actions"]:
    """−log n for each of n admissible actions, −inf for the others."""
    count = admissible.sum(-1, keepdims=True)
    return np.where(admissible, -np.log(count), -np.inf).astype(np.float32)
