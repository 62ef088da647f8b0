"""Minibatches drawn from a dataset: transitions of control, decisions of a text world."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy import ndarray
from torch import Tensor
from typing_extensions import override

from cepcli.datasets.dataset import ControlData, TextData
from cepcli.datasets.text_replay import NO_ACTION
from cepcli.errors import DataError
from cepcli.keys.encoder import EmbeddingTable, TextEncoder

_SMALLEST_SCALE = 1e-3
#: Rows that are read at a time to learn mean and deviation of a dataset.
_AT_A_TIME = 100_000


class ControlBatch(NamedTuple):
    """Transitions as float32 tensors; controls are in [−1, 1].

    `continues` is 0 where the task ended, else 1. The log-priors are of the symbols in each state;
    they have no columns where no prior is used.
    """

    observation: Float[Tensor, "batch features"]
    control: Float[Tensor, "batch controls"]
    reward: Float[Tensor, " batch"]
    next_observation: Float[Tensor, "batch features"]
    continues: Float[Tensor, " batch"]
    log_prior: Float[Tensor, "batch symbols"]
    next_log_prior: Float[Tensor, "batch symbols"]

    def bootstrapped(
        self, values: Float[Tensor, " batch"], discount: float
    ) -> Float[Tensor, " batch"]:
        """Y = r + γ·(1 − terminated)·V(s′)."""
        return torch.addcmul(self.reward, self.continues, values, value=discount)


class ControlBatches:
    """A dataset of control as a source of minibatches.

    With `symbols` but no labels in the data, the prior is uniform over them. Observations less
    `mean` are divided by `scale`: 0 and 1 unless they are to be normalised.
    """

    def __init__(
        self, data: ControlData, *, symbols: tuple[str, ...], normalise: bool, device: str = "cpu"
    ) -> None:
        self._data = data
        self._device = device
        self.symbols = symbols
        features = data.observations.shape[1]
        self.mean, self.scale = np.zeros(features, np.float32), np.ones(features, np.float32)
        if normalise:
            self.mean, self.scale = _statistics(data.observations)
        log_uniform = -np.log(len(symbols)) if symbols else 0.0
        self._uniform = np.full((1, len(symbols)), log_uniform, np.float32)

    def sample(self, count: int, generator: np.random.Generator) -> ControlBatch:
        """`count` transitions drawn uniformly with replacement."""
        data = self._data
        rows = generator.integers(len(data), size=count)
        return ControlBatch(
            self._observed(data.observations[rows]),
            _tensor(data.controls[rows], self._device),
            _tensor(data.rewards[rows], self._device),
            self._observed(data.next_observations[rows]),
            _tensor(1.0 - data.terminated[rows].astype(np.float32), self._device),
            *self._priors(rows),
        )

    def standardised(self, observation: Float[ndarray, " features"]) -> Float[Tensor, "1 features"]:
        """An observation of the simulator as the networks take it."""
        row = ((observation - self.mean) / self.scale).astype(np.float32)
        return _tensor(row[None], self._device)

    def _observed(self, rows: Float[ndarray, "batch features"]) -> Tensor:
        return _tensor((rows - self.mean) / self.scale, self._device)

    def _priors(self, rows: ndarray) -> tuple[Tensor, Tensor]:
        labels = self._data.labels
        if not self.symbols or labels is None:
            same = _tensor(np.repeat(self._uniform, len(rows), 0), self._device)
            return same, same
        here, there = labels.state[rows], labels.next_state[rows]
        return (
            _tensor(labels.log_prior[here], self._device),
            _tensor(labels.log_prior[there], self._device),
        )


def _statistics(rows: Float[ndarray, "steps features"]) -> tuple[ndarray, ndarray]:
    """Mean and standard deviation of each feature, as TD3+BC takes them: the latter plus 1e-3."""
    total, squares = np.zeros(rows.shape[1]), np.zeros(rows.shape[1])
    for start in range(0, len(rows), _AT_A_TIME):
        part = rows[start : start + _AT_A_TIME].astype(np.float64)
        total += part.sum(0)
        squares += np.square(part).sum(0)
    mean = total / len(rows)
    deviation = np.sqrt(np.maximum(squares / len(rows) - np.square(mean), 0.0))
    return mean.astype(np.float32), (deviation + _SMALLEST_SCALE).astype(np.float32)


def symbols_for(
    data: ControlData, prior: str | None, vocabulary: tuple[str, ...]
) -> tuple[str, ...]:
    """The symbols that `cql-prior` proposes controls by.

    They are the labels', which must be of `prior` if that is given, or all of the environment's
    `vocabulary` under `uniform`.

    Raises:
        DataError: if there are no labels, or they are of another prior or vocabulary.
    """
    if prior == "uniform":
        return vocabulary
    labels = data.labels
    if labels is None:
        raise DataError(
            f"The dataset has no priors of its states: {data.source}",
            "Make them: cep offline label; or learn with --prior uniform.",
        )
    if prior is not None and labels.prior != prior:
        raise DataError(
            f"The dataset's labels are of the prior `{labels.prior}`, not of `{prior}`.",
            f"Leave --prior out, or label it anew: cep offline label --prior {prior}",
        )
    if vocabulary and labels.symbols != vocabulary:
        raise DataError(
            f"The dataset's labels are over {', '.join(labels.symbols)}, but its environment has "
            f"{', '.join(vocabulary)}.",
            "Label it anew: cep offline label",
        )
    return labels.symbols


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

    @override
    def encode(self, text: str) -> Float[ndarray, " dim"]:
        row = self._row.get(text)
        return self._others.vector(text) if row is None else self._vectors[row]


class TextBatches:
    """A dataset of decisions as a source of minibatches.

    A decision that was truncated has no next state, and is left out. Where the task ended, the
    next state is the decision's own, and counts nothing. Log-priors are the labels' with
    `with_prior`, else uniform; `vectors` are of the dataset's strings.
    """

    def __init__(
        self, data: TextData, encoder: TextEncoder, *, with_prior: bool, device: str = "cpu"
    ) -> None:
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
            _tensor(data.chosen[rows], self._device),
            _tensor(data.rewards[rows], self._device),
            self._states(np.where(ended, rows, rows + 1)),
            _tensor(1.0 - ended.astype(np.float32), self._device),
        )

    def seen(self, name: str) -> Float[Tensor, "rows dim"]:
        """The vectors of all strings that are a "goal", a "text" or an "action" somewhere."""
        data = self._data
        numbers = {
            "goal": data.goal, "text": data.text, "action": data.actions[data.actions != NO_ACTION],
        }[name]  # fmt: skip
        return _tensor(self.vectors[np.unique(numbers)], self._device)

    def _states(self, rows: ndarray) -> TextStates:
        data = self._data
        actions = data.actions[rows]
        actions = actions[:, : int((actions != NO_ACTION).sum(1).max())]
        if self._log_prior is None:
            log_prior = uniform_log_prior(actions != NO_ACTION)
        else:
            log_prior = self._log_prior[rows][:, : actions.shape[1]]
        numbers = (data.goal[rows], data.text[rows], np.maximum(actions, 0))
        arrays = (*(self.vectors[number] for number in numbers), log_prior)
        return TextStates(*(_tensor(array, self._device) for array in arrays))


def uniform_log_prior(admissible: ndarray) -> Float[ndarray, "batch actions"]:
    """−log n for each of n admissible actions, −inf for the others."""
    count = admissible.sum(-1, keepdims=True)
    return np.where(admissible, -np.log(count), -np.inf).astype(np.float32)


def _tensor(array: ndarray, device: str) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(array)).to(device)
