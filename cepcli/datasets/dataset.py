"""Offline data in memory: transitions of continuous control, decisions of text worlds.

Whatever they are read from (a D4RL file, a Minari dataset, our own), learners see one form. Arrays
are float32, and memory-mapped where they are large.
"""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Float32, Int32, Int64
from numpy import ndarray

from cepcli.datasets.text_replay import NO_ACTION
from cepcli.errors import ArtifactError
from cepcli.types import TextState
from cepcli.workspace.artifacts import Artifact, Input, sha256

Notify = Callable[[str], None]

#: Returns of a random and of an expert policy by which D4RL normalises, at 0 and 100.
REFERENCE_RETURNS = {
    "halfcheetah": (-280.178953, 12135.0),
    "walker2d": (1.629008, 4592.3),
    "hopper": (-20.272305, 3234.3),
    "ant": (-325.6, 3879.7),
}
_BINS, _BAR = 10, 40
#: Digits of a hash in a message.
_DIGITS = 12


class _Episodic:
    """Rows that are the steps of episodes."""

    __slots__ = ()
    env: str | None
    rewards: Float32[ndarray, " steps"]
    terminated: Bool[ndarray, " steps"]
    truncated: Bool[ndarray, " steps"]

    def __len__(self) -> int:
        return len(self.rewards)

    def episodes(self) -> list[slice]:
        """The rows of each episode; the last one may lack its end."""
        stops = (np.flatnonzero(self.terminated | self.truncated) + 1).tolist()
        if not stops or stops[-1] != len(self):
            stops.append(len(self))
        return [slice(start, stop) for start, stop in zip([0, *stops], stops, strict=False)]

    def returns(self) -> Float[ndarray, " episodes"]:
        """The undiscounted return of each episode."""
        starts = [episode.start for episode in self.episodes()]
        return np.add.reduceat(self.rewards, starts, dtype=np.float64)

    def normalised(
        self, returns: Float[ndarray, " episodes"]
    ) -> Float[ndarray, " episodes"] | None:
        """Returns as D4RL scores; None where the environment has no reference returns."""
        return normalised_score(self.env, returns)


@dataclass(frozen=True, slots=True, eq=False)
class PriorLabels:
    """Priors of the states of a dataset of control.

    Attributes:
        fingerprint: of all that determines the prior's answers.
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
class ControlData(_Episodic):
    """Transitions of continuous control, in the order in which they were made.

    Attributes:
        env: the environment's id; None where it is not known.
        source: which data this is, in one sentence.
        controls: what was applied, in [−1, 1].
        next_observations: the true ones, the last of an episode included.
        truncated: whether the episode was cut there, by a time limit or the end of the data.
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


@dataclass(frozen=True, slots=True, eq=False)
class TextData(_Episodic):
    """Decisions of a text world, in the order in which they were taken.

    Texts are numbers of `strings`. The decision after row i is row i + 1 unless the episode ended
    with i. A decision that was truncated has no next state, and so is no transition.

    Attributes:
        strings: goals, texts and actions, each once.
        actions: the admissible ones, padded with `NO_ACTION`.
        chosen: the column of the action that was taken.
        log_prior: of the admissible actions, padded with −inf; None where there are no labels.
        fingerprint: of all that determines the answers of `prior`.
        success: whether each decision solved the task; None where it is not known.
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


def quality_of(data: ControlData | TextData) -> dict[str, Any]:
    """Counts, returns and scores, as JSON values; what does not apply is None."""
    returns = data.returns()
    episodes = data.episodes()
    scores = data.normalised(returns)
    return {
        "transitions": len(data),
        "episodes": len(episodes),
        "length_mean": len(data) / len(episodes),
        "terminated": int(data.terminated.sum()),
        "truncated": int(data.truncated.sum()),
        "return_mean": float(returns.mean()),
        "return_min": float(returns.min()),
        "return_max": float(returns.max()),
        "normalised_score": None if scores is None else float(scores.mean()),
        "success_rate": data.success_rate() if isinstance(data, TextData) else None,
    }


def histogram(returns: Float[ndarray, " episodes"]) -> list[tuple[float, float, int]]:
    """Bins over the returns: where each begins and ends, and how many episodes are in it."""
    low, high = float(returns.min()), float(returns.max())
    if low == high:
        return [(low, high, len(returns))]
    counts, edges = np.histogram(returns, bins=min(_BINS, len(returns)), range=(low, high))
    return list(zip(edges[:-1].tolist(), edges[1:].tolist(), counts.tolist(), strict=True))


def histogram_lines(bins: list[tuple[float, float, int]]) -> list[str]:
    """A histogram as lines of text, as long as the bins are full."""
    most = max(count for _, _, count in bins)
    ranges = [f"{low:.4g} to {high:.4g}" for low, high, _ in bins]
    width = max(map(len, ranges))
    return [
        f"{label:>{width}}  {'█' * round(_BAR * count / most):<{_BAR}}  {count}"
        for label, (_, _, count) in zip(ranges, bins, strict=True)
    ]


def inputs_of(data: ControlData | TextData) -> list[Input]:
    """A dataset and its labels, with the hashes of what is there now.

    A file of somebody else's is named by its path and hashed as a whole; so is a folder, by the
    names and hashes of all its files.
    """
    return [_input(origin) for origin in data.origins]


def _input(origin: Artifact | Path) -> Input:
    if isinstance(origin, Artifact):
        return origin.reference
    path = origin.absolute()
    if path.is_file():
        return Input("dataset", str(path), sha256(path))
    files = sorted(file for file in path.rglob("*") if file.is_file())
    listed = json.dumps([(file.relative_to(path).as_posix(), sha256(file)) for file in files])
    return Input("dataset", str(path), hashlib.sha256(listed.encode()).hexdigest())


def check_same_inputs(before: Sequence[Input], now: Sequence[Input], run: Path) -> None:
    """Refuse to go on with, or to evaluate, a run whose dataset or labels are others by now.

    Raises:
        ArtifactError: naming what has changed.
    """
    name = run.name.removesuffix(".partial")
    for old, new in zip(before, now, strict=False):
        if old.sha256 != new.sha256:
            raise ArtifactError(
                f"The run `{name}` learns from the {old.kind} `{old.name}` as of sha256 "
                f"{old.sha256[:_DIGITS]}, but found is `{new.name}` of {new.sha256[:_DIGITS]}.",
                "Put back what was there, or learn from this in a new run: with another --name.",
            )
