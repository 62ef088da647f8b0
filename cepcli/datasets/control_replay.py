"""Replay memory for continuous control, with the log-priors that updates would else ask for.

A transition ends either inside the hold of a symbolic action, where the next symbol is the same, or
at a boundary, where the next symbol is chosen anew: only there a log-prior of the next state is
stored. A transition is one row of one array, so that a batch is one gather.
"""

from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from numpy import ndarray
from torch import Tensor

from cepcli.datasets.dataset import ControlData
from cepcli.errors import DataError


class ControlTransition(NamedTuple):
    """One control step; the next observation is the true one, the last of an episode included.

    Attributes:
        symbol: the symbolic action held.
        control: what was applied, in [−1, 1].
        terminated: whether the task ended; a time limit is not an end.
        next_log_prior: log p̂ of the next state if the next symbol was chosen there, else None.
        nominal: the held symbol's nominal control; None where the world has none.
        next_nominals: each symbol's in the next state; None where the world has none.
    """

    observation: Float[ndarray, " features"]
    symbol: int
    control: Float[ndarray, " controls"]
    reward: float
    next_observation: Float[ndarray, " features"]
    terminated: bool
    next_log_prior: Float[ndarray, " symbols"] | None = None
    nominal: Float[ndarray, " controls"] | None = None
    next_nominals: Float[ndarray, "symbols controls"] | None = None

    def as_json(self) -> dict[str, Any]:
        """The same as JSON values."""
        pairs = self._asdict().items()
        return {k: v.tolist() if isinstance(v, ndarray) else v for k, v in pairs}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "ControlTransition":
        """What `as_json` gave."""
        pairs = values.items()
        fields: dict[str, Any] = {k: np.array(v) if isinstance(v, list) else v for k, v in pairs}
        return cls(**fields)


class ReplayBatch(NamedTuple):
    """Transitions as float32 tensors; those that end at a boundary come last.

    Attributes:
        pairs: observation, held symbol one-hot (nothing if there is one symbol), control.
        continues: 0 where the task ended, else 1.
        next_log_prior: one row for each transition that ends at a boundary.
        nominal: the held symbol's; no columns where the world has none, as of `next_nominals`.
    """

    pairs: Float[Tensor, "batch inputs"]
    next_observation: Float[Tensor, "batch features"]
    reward: Float[Tensor, " batch"]
    continues: Float[Tensor, " batch"]
    next_log_prior: Float[Tensor, "boundaries symbols"]
    nominal: Float[Tensor, "batch nominals"]
    next_nominals: Float[Tensor, "batch symbols nominals"]


class StoredTransitions(NamedTuple):
    """What a replay holds, oldest first; what followed a step may be stored several rows later."""

    observations: Float[ndarray, "steps features"]
    controls: Float[ndarray, "steps controls"]
    rewards: Float[ndarray, " steps"]
    next_observations: Float[ndarray, "steps features"]
    terminated: Bool[ndarray, " steps"]


class ControlReplay:
    """A ring of `capacity` transitions.

    Its array is mapped at once, and takes memory only as it is filled.
    """

    def __init__(
        self, capacity: int, features: int, controls: int, symbols: int, *, nominal: bool
    ) -> None:
        self._capacity = capacity
        self._next = 0
        self._size = 0
        self._symbols = symbols
        one_hot = symbols if symbols > 1 else 0
        nominals = controls if nominal else 0
        self._widths = (
            features + one_hot + controls,
            features,
            1,  # reward
            1,  # continues
            one_hot,  # log-prior
            nominals,
            symbols * nominals,
            1,  # whether it ends at a boundary
        )
        self._one_hot = np.eye(symbols, one_hot, dtype=np.float32)
        self._rows = np.zeros((capacity, sum(self._widths)), np.float32)

    def __len__(self) -> int:
        return self._size

    def add(self, transition: ControlTransition) -> None:
        """Store one transition in place of the oldest."""
        prior, nominal = transition.next_log_prior, transition.nominal
        boundary = prior is not None and self._symbols > 1
        parts = [
            transition.observation,
            self._one_hot[transition.symbol],
            transition.control,
            transition.next_observation,
            [transition.reward, 1.0 - transition.terminated],
            prior if boundary else self._one_hot[0],
        ]
        if nominal is not None and transition.next_nominals is not None:
            parts += [nominal, transition.next_nominals.ravel()]
        np.concatenate([*parts, [boundary]], out=self._rows[self._next], casting="same_kind")
        self._next = (self._next + 1) % self._capacity
        self._size = min(self._size + 1, self._capacity)

    def sample(
        self, count: int, generator: np.random.Generator, device: str = "cpu"
    ) -> ReplayBatch:
        """`count` transitions drawn uniformly with replacement, those at a boundary last."""
        rows = self._rows[generator.integers(self._size, size=count)]
        boundaries = 0
        if self._symbols > 1:
            at_boundary = rows[:, -1] > 0
            boundaries = int(at_boundary.sum())
            rows = np.concatenate([rows[~at_boundary], rows[at_boundary]])
        batch = torch.from_numpy(rows).to(device)
        pairs, following, reward, continues, prior, nominal, nominals, _ = batch.split(
            self._widths, dim=1
        )
        return ReplayBatch(
            pairs,
            following,
            reward[:, 0],
            continues[:, 0],
            prior[count - boundaries :],
            nominal,
            nominals.unflatten(1, (self._symbols, -1)),
        )

    def transitions(self) -> StoredTransitions:
        """All of them, oldest first."""
        oldest = self._next if self._size == self._capacity else 0
        rows = np.roll(self._rows[: self._size], -oldest, axis=0)
        ends = np.cumsum(self._widths[:4])
        pairs, following, reward, continues, _ = np.split(rows, ends, axis=1)
        features = following.shape[1]
        controls = pairs[:, features + self._one_hot.shape[1] :]
        ended = continues[:, 0] == 0
        return StoredTransitions(pairs[:, :features], controls, reward[:, 0], following, ended)

    def state(self) -> dict[str, ndarray]:
        """The rows as far as they are filled, for a checkpoint."""
        return {"rows": self._rows[: self._size], "cursor": np.array([self._next])}

    def restore(self, arrays: dict[str, ndarray]) -> None:
        """Take over what `state` returned."""
        self._next = int(arrays["cursor"][0])
        self._size = len(arrays["rows"])
        self._rows[: self._size] = arrays["rows"]


def replay_data(env: str, source: str, stored: StoredTransitions, most: int | None) -> ControlData:
    """The transitions of a replay, episode by episode.

    Those of several environments that were stepped in turn lie among each other: what followed a
    step is the row that begins with the state in which it ended.

    Args:
        env: the environment's id.
        source: which data this is.
        stored: what the replay holds.
        most: transitions at most; whole episodes are left out, evenly over the replay, and the
            last one kept is cut.

    Raises:
        DataError: if the replay holds fewer.
    """
    held = len(stored.rewards)
    if not held or (most is not None and held < most):
        raise DataError(
            f"The replay of the run holds {held} transitions, expected {most or 'at least 1'}.",
            "Ask for fewer --transitions, or train the run for longer.",
        )
    episodes = _episodes(stored)
    if most is not None:
        episodes = _thinned(episodes, most)
    rows = np.concatenate(episodes)[:most]
    ends = np.zeros(len(rows), bool)
    ends[[*(np.cumsum([len(e) for e in episodes])[:-1] - 1), len(rows) - 1]] = True
    terminated = stored.terminated[rows]
    return ControlData(
        env, source, stored.observations[rows], stored.controls[rows], stored.rewards[rows],
        stored.next_observations[rows], terminated, ends & ~terminated,
    )  # fmt: skip


def _episodes(stored: StoredTransitions) -> list[Int[ndarray, " steps"]]:
    """The rows of each episode, in the order in which the episodes began."""
    waiting: dict[bytes, list[int]] = {}
    episodes: list[list[int]] = []
    for row, observation in enumerate(stored.observations):
        begun = waiting.pop(observation.tobytes(), None)
        if begun is None:
            begun = []
            episodes.append(begun)
        begun.append(row)
        if not stored.terminated[row]:
            waiting[stored.next_observations[row].tobytes()] = begun
    return [np.array(episode) for episode in episodes]


def _thinned(episodes: list[Int[ndarray, " steps"]], most: int) -> list[Int[ndarray, " steps"]]:
    """The fewest evenly spaced episodes that hold `most` transitions."""
    lengths = np.array([len(episode) for episode in episodes])
    for count in range(1, len(episodes) + 1):
        chosen = np.linspace(0, len(episodes) - 1, count).round().astype(int)
        if lengths[chosen].sum() >= most:
            return [episodes[number] for number in chosen]
    return episodes
