"""A replay memory as a dataset: its transitions put back into the episodes that they were."""

import numpy as np
from jaxtyping import Int
from numpy import ndarray

from cepcli.datasets.control_replay import StoredTransitions
from cepcli.datasets.dataset import ControlData
from cepcli.errors import DataError


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
