"""Offline data in memory: transitions of continuous control, decisions of text worlds.

Whatever they are read from (a D4RL file, a Minari dataset, our own), learners see one form. Arrays
are float32, and memory-mapped where they are large.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float, Float32, Int32, Int64
from numpy import ndarray

from cepcli.datasets.text_replay import NO_ACTION
from cepcli.types import TextState
from cepcli.workspace.artifacts import Artifact, Workspace

Notify = Callable[[str], None]

#: Returns of a random and of an expert policy by which D4RL normalises, at 0 and 100.
REFERENCE_RETURNS = {
    "halfcheetah": (-280.178953, 12135.0),
    "walker2d": (1.629008, 4592.3),
    "hopper": (-20.272305, 3234.3),
    "ant": (-325.6, 3879.7),
}


@dataclass(frozen=True, slots=True, eq=False)
class PriorLabels:
    """Priors of the states of a dataset of control.

    Attributes:
        prior: its name.
        fingerprint: of all that determines its answers.
        symbols: the vocabulary.
        log_prior: of every state, a row each.
        state: the row of each transition's observation.
        next_state: the row of each transition's next observation; its own where it terminated.
    """

    prior: str
    fingerprint: str
    symbols: tuple[str, ...]
    log_prior: Float32[ndarray, "states symbols"]
    state: Int32[ndarray, " steps"]
    next_state: Int32[ndarray, " steps"]


@dataclass(frozen=True, slots=True, eq=False)
class ControlData:
    """Transitions of continuous control, in the order in which they were made.

    Attributes:
        env: the environment's id; None where it is not known.
        source: which data this is, in one sentence.
        observations: where each control was applied.
        controls: what was applied, in [−1, 1].
        rewards: of each step.
        next_observations: the true ones, the last of an episode included.
        terminated: whether the task ended there.
        truncated: whether the episode was cut there, by a time limit or the end of the data.
        labels: priors of the states, if any were made.
        origins: what all this was read from: the dataset, then the labels; each an artifact, or the
            file or folder of somebody else's dataset.
    """

    env: str | None
    source: str
    observations: Float32[ndarray, "steps features"]
    controls: Float32[ndarray, "steps controls"]
    rewards: Float32[ndarray, " steps"]
    next_observations: Float32[ndarray, "steps features"]
    terminated: Bool[ndarray, " steps"]
    truncated: Bool[ndarray, " steps"]
    labels: PriorLabels | None = None
    origins: tuple[Artifact | Path, ...] = ()

    def __len__(self) -> int:
        return len(self.rewards)

    def episodes(self) -> list[slice]:
        """The rows of each episode; the last one may lack its end."""
        return _episodes(self.terminated | self.truncated)

    def returns(self) -> Float[ndarray, " episodes"]:
        """The undiscounted return of each episode."""
        return _returns(self.rewards, self.episodes())

    def normalised(
        self, returns: Float[ndarray, " episodes"]
    ) -> Float[ndarray, " episodes"] | None:
        """Returns as D4RL scores; None where the environment has no reference returns."""
        return normalised_score(self.env, returns)


@dataclass(frozen=True, slots=True, eq=False)
class TextData:
    """Decisions of a text world, in the order in which they were taken.

    Texts are numbers of `strings`. The decision after row i is row i + 1 unless the episode ended
    with i. A decision that was truncated has no next state, and so is no transition.

    Attributes:
        env: the environment's id; None where it is not known.
        source: which data this is, in one sentence.
        strings: goals, texts and actions, each once.
        goal: the task text of each decision.
        text: what was seen.
        actions: the admissible ones, padded with `NO_ACTION`.
        chosen: the column of the action that was taken.
        rewards: what it brought.
        terminated: whether the task ended with it.
        truncated: whether the episode was cut after it.
        log_prior: of the admissible actions, padded with −inf; None where there are no labels.
        prior: the name of the prior that gave them.
        fingerprint: of all that determines that prior's answers.
        success: whether each decision solved the task; None where it is not known.
        origins: the artifacts that all this was read from: of the dataset, then of the labels.
    """

    env: str | None
    source: str
    strings: list[str]
    goal: Int32[ndarray, " steps"]
    text: Int32[ndarray, " steps"]
    actions: Int32[ndarray, "steps width"]
    chosen: Int64[ndarray, " steps"]
    rewards: Float32[ndarray, " steps"]
    terminated: Bool[ndarray, " steps"]
    truncated: Bool[ndarray, " steps"]
    log_prior: Float32[ndarray, "steps width"] | None = None
    prior: str | None = None
    fingerprint: str | None = None
    success: Bool[ndarray, " steps"] | None = None
    origins: tuple[Artifact | Path, ...] = ()

    def __len__(self) -> int:
        return len(self.rewards)

    def episodes(self) -> list[slice]:
        """The rows of each episode; the last one may lack its end."""
        return _episodes(self.terminated | self.truncated)

    def returns(self) -> Float[ndarray, " episodes"]:
        """The undiscounted return of each episode."""
        return _returns(self.rewards, self.episodes())

    def normalised(
        self, returns: Float[ndarray, " episodes"]
    ) -> Float[ndarray, " episodes"] | None:
        """None: text worlds are judged by success."""
        return None

    def success_rate(self) -> float | None:
        """The share of episodes in which the task was solved; None where it is not known."""
        if self.success is None:
            return None
        return float(np.mean([self.success[episode].any() for episode in self.episodes()]))

    def state(self, row: int) -> TextState:
        """The state in which a decision was taken, as a prior reads it."""
        actions = self.actions[row]
        admissible = tuple(self.strings[a] for a in actions[actions != NO_ACTION].tolist())
        return TextState(self.strings[self.goal[row]], self.strings[self.text[row]], admissible)


def normalised_score(
    env: str | None, returns: Float[ndarray, " episodes"]
) -> Float[ndarray, " episodes"] | None:
    """100 · (return − random) / (expert − random), with D4RL's reference returns."""
    if env not in REFERENCE_RETURNS:
        return None
    low, high = REFERENCE_RETURNS[env]
    return 100.0 * (returns - low) / (high - low)


def _episodes(ends: Bool[ndarray, " steps"]) -> list[slice]:
    stops = (np.flatnonzero(ends) + 1).tolist()
    if not stops or stops[-1] != len(ends):
        stops.append(len(ends))
    return [slice(start, stop) for start, stop in zip([0, *stops], stops, strict=False)]


def _returns(
    rewards: Float32[ndarray, " steps"], episodes: Sequence[slice]
) -> Float[ndarray, " episodes"]:
    starts = [episode.start for episode in episodes]
    return np.add.reduceat(rewards, starts, dtype=np.float64)


def load_dataset(
    name: str,
    *,
    env: str | None = None,
    split: str | None = None,
    workspace: Workspace,
    notify: Notify,
    labels: str | None = None,
) -> ControlData | TextData:
    """The dataset of that name or path; its `source` says which data it is.

    Args:
        name: `d4rl`, the path of an HDF5 file, the id of a Minari dataset, or a dataset in the
            workspace.
        env: the environment that it is to be of; None for whichever it is of.
        split: which of D4RL's datasets of the environment, if `name` is `d4rl`.
        workspace: where our own datasets are, and large ones are kept for mapping.
        notify: told in one line which data this is, and about what is unusual in it.
        labels: the prior whose labels are wanted with it; None for none.

    Raises:
        ArtifactError: if there is none of that name, or no such labels.
        DataError: if it is malformed, or of another environment.
    """
    from cepcli.datasets.labels import with_labels
    from cepcli.datasets.resolve import find_dataset

    data = find_dataset(name, env=env, split=split, workspace=workspace, notify=notify)
    return data if labels is None else with_labels(data, name, labels, workspace)
