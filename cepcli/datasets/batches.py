"""Minibatches of transitions of continuous control, drawn from a dataset in memory or on disk."""

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from numpy import ndarray
from torch import Tensor

from cepcli.datasets.dataset import ControlData
from cepcli.errors import DataError

_SMALLEST_SCALE = 1e-3
#: Rows that are read at a time to learn mean and deviation of a dataset.
_AT_A_TIME = 100_000


class ControlBatch(NamedTuple):
    """Transitions as float32 tensors.

    Attributes:
        observation: where the control was applied.
        control: in [−1, 1].
        reward: of each.
        next_observation: of each.
        continues: 0 where the task ended, else 1.
        log_prior: of the symbols in `observation`; no columns without symbols.
        next_log_prior: of the symbols in `next_observation`; no columns without symbols.
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
    """A dataset as a source of minibatches.

    Attributes:
        symbols: names of the symbolic actions; none where no prior is used.
        mean: what is taken from observations.
        scale: what they are divided by then.
    """

    def __init__(
        self, data: ControlData, *, symbols: tuple[str, ...], normalise: bool, device: str = "cpu"
    ) -> None:
        """Args: with `symbols` but no labels in the data, the prior is uniform over them."""
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
            self._tensor(data.controls[rows]),
            self._tensor(data.rewards[rows]),
            self._observed(data.next_observations[rows]),
            self._tensor(1.0 - data.terminated[rows].astype(np.float32)),
            *self._priors(rows),
        )

    def standardised(self, observation: Float[ndarray, " features"]) -> Float[Tensor, "1 features"]:
        """An observation of the simulator as the networks take it."""
        row = ((observation - self.mean) / self.scale).astype(np.float32)
        return self._tensor(row[None])

    def _observed(self, rows: Float[ndarray, "batch features"]) -> Tensor:
        return self._tensor((rows - self.mean) / self.scale)

    def _priors(self, rows: ndarray) -> tuple[Tensor, Tensor]:
        labels = self._data.labels
        if not self.symbols or labels is None:
            same = self._tensor(np.repeat(self._uniform, len(rows), 0))
            return same, same
        here = labels.log_prior[labels.state[rows]]
        there = labels.log_prior[labels.next_state[rows]]
        return self._tensor(here), self._tensor(there)

    def _tensor(self, array: ndarray) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(array)).to(self._device)


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
    """The symbols that `cql-prior` proposes controls by: the labels', or all under `uniform`.

    Args:
        data: the dataset.
        prior: what the user asks for; None takes the labels that are there.
        vocabulary: the environment's symbols.

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
