"""What every run has in common: where it stands, how its held-out episodes went, what it can do.

`OnlineRun` learns in environments, `OfflineRun` from a dataset; the engine drives both.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Generic, NamedTuple, Self, TypeVar

import numpy as np

from cepcli.agents.config import TrainConfig
from cepcli.agents.offline_config import OfflineConfig
from cepcli.cache.open import OpenCache
from cepcli.cache.telemetry import CacheTelemetry
from cepcli.envs.episodes import RunningEpisode, play_episodes
from cepcli.errors import CepError
from cepcli.listener import Notify
from cepcli.runs.assembly import EvalEnvs
from cepcli.workspace.artifacts import Input, Workspace

Config = TypeVar("Config", TrainConfig, OfflineConfig)

_RECENT = 50


@dataclass(slots=True)
class Progress:
    """Where a run stands; plain JSON values that go into every checkpoint.

    Attributes:
        step: steps of the environment, or gradient steps of an offline run.
        decisions: symbolic actions chosen; in text as many as steps, offline none.
        decisions_sha256: a hash chain over all of them: equal hashes mean equal decisions.
        start_cache: the cache that the run started from ("name", "sha256") and how many of its
            "entries" there was room for; None without one.
        demos: the demonstrations that the run began with ("name", "sha256", "episodes",
            "decisions"), and what their priors cost ("queries", "llm_tokens",
            "llm_seconds_recorded"); None without any.
        inputs: the dataset and the labels of an offline run.
    """

    step: int = 0
    decisions: int = 0
    next_eval: int = 0
    decisions_sha256: str = ""
    successes: list[bool] = field(default_factory=list)
    returns: list[float] = field(default_factory=list)
    kl_to_prior: float = 0.0
    evaluations: list[dict[str, Any]] = field(default_factory=list)
    wall_seconds: float = 0.0
    learning_seconds: float = 0.0
    metrics_offset: int = 0
    trace_offset: int = 0
    start_cache: dict[str, Any] | None = None
    demos: dict[str, Any] | None = None
    inputs: list[dict[str, str]] = field(default_factory=list)

    def record_episode(self, success: bool, episode_return: float) -> None:
        """Add an episode to the window of recent ones."""
        self.successes = [*self.successes, success][-_RECENT:]
        self.returns = [*self.returns, episode_return][-_RECENT:]

    @property
    def recent_success(self) -> float:
        """Success rate over the last 50 training episodes."""
        return sum(self.successes) / max(len(self.successes), 1)

    @property
    def recent_return(self) -> float:
        """Mean return of the last 50 training episodes; 0 before the first has ended."""
        return sum(self.returns) / max(len(self.returns), 1)

    @property
    def warm_entries(self) -> int:
        """Entries of the cache that the run started from."""
        return 0 if self.start_cache is None else self.start_cache["entries"]


class Evaluation(NamedTuple):
    """Results over held-out episodes, and what the prior cost meanwhile.

    Attributes:
        returns: of each episode, undiscounted.
        lengths: of each, in steps.
        successes: whether each was solved; None where the world has no such thing.
        telemetry: how the prior was answered.
        more: what else the summary tells.
    """

    returns: list[float]
    lengths: list[int]
    successes: list[bool] | None
    telemetry: CacheTelemetry
    more: dict[str, Any]

    @property
    def scores(self) -> Sequence[float]:
        """What to compare episodes by: their success, or their return where there is none."""
        return self.returns if self.successes is None else self.successes

    def summary(self) -> dict[str, Any]:
        """As in `summary.json`: success rate (or None), mean return and length, and the cost."""
        return {
            "episodes": len(self.returns),
            "success_rate": None if self.successes is None else float(np.mean(self.successes)),
            "return_mean": float(np.mean(self.returns)),
            "length_mean": float(np.mean(self.lengths)),
            **self.more,
            **self.telemetry.cost(),
        }


class TrainingRun(ABC, Generic[Config]):
    """Everything that a run is made of, what changes while it trains included.

    Attributes:
        config: its settings.
        opened: the cache around its prior; None without one.
        telemetry: how the prior was answered in training.
        eval_envs: of held-out episodes; none to evaluate nowhere.
        inputs: the artifacts and datasets that its manifest names.
    """

    #: The setting that only this kind of run has.
    kind: ClassVar[str]
    #: Of the checkpoints: version, and keys of `state.json` beside those that the engine writes.
    schema_version: ClassVar[int]
    state_keys: ClassVar[frozenset[str]]

    config: Config
    opened: OpenCache | None
    telemetry: CacheTelemetry
    eval_envs: EvalEnvs
    inputs: list[Input]

    @staticmethod
    def completed(config: Config) -> Config:
        """The settings as the run stores them."""
        return config

    @classmethod
    @abstractmethod
    def build(
        cls, config: Config, workspace: Workspace, notify: Notify, *, begins: bool = False
    ) -> Self:
        """Build it from its settings; `begins` reads what only a run that begins needs, too."""

    @abstractmethod
    def begin(self, notify: Notify, stop_requested: Callable[[], bool]) -> Progress:
        """Do what comes before the first step."""

    def open(self, folder: Path, progress: Progress) -> None:
        """Open what is written beside the metrics."""

    def close(self) -> None:
        """Close it."""

    @property
    def harmless(self) -> tuple[type[CepError], ...]:
        """Errors of `advance` that leave everything as it was before the step."""
        return ()

    @abstractmethod
    def advance(self, progress: Progress) -> None:
        """Take one step, and learn from it."""

    @abstractmethod
    def metrics(self, progress: Progress) -> dict[str, float | None]:
        """A row of `metrics.jsonl`; docs/metrics.md explains every name."""

    @abstractmethod
    def evaluate(
        self,
        progress: Progress,
        episodes: int,
        before_round: Callable[[int, int], None] = lambda done, queries: None,
    ) -> Evaluation:
        """Play held-out episodes, without learning; `before_round` hears how far they are."""

    @abstractmethod
    def save(self, folder: Path, progress: Progress) -> dict[str, Any]:
        """Write a checkpoint's files into `folder`; returns the rest, as JSON values."""

    @abstractmethod
    def restore(self, folder: Path, state: dict[str, Any]) -> None:
        """Take over what `save` wrote."""

    @abstractmethod
    def facts(self, progress: Progress) -> dict[str, Any]:
        """What every summary says of the run itself: environment, agent, prior."""

    @abstractmethod
    def training_facts(self, progress: Progress) -> dict[str, Any]:
        """What the summary of training says in addition."""

    def _play(
        self,
        episodes: int,
        act: Callable[[list[RunningEpisode]], Sequence[Any]],
        telemetry: CacheTelemetry,
        before_round: Callable[[int, int], None],
    ) -> Evaluation:
        """Play held-out episodes side by side; every call plays the same with the same noise."""
        trackers = play_episodes(
            self.eval_envs, episodes, self.config.seed, act,
            lambda done: before_round(done, telemetry.queries),
        )  # fmt: skip
        return Evaluation(
            [tracker.episode_return for tracker in trackers],
            [len(tracker.actions) for tracker in trackers],
            [tracker.success for tracker in trackers] if trackers[0].solvable else None,
            telemetry,
            {},
        )
