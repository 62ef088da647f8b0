"""What a run's directory tells a report: settings, result, metrics, samples, and what it lacks.

A finished run, a record of one, one that goes on and one that stopped are read alike; what is not
there is None, and `Run.lacks` says so in words. Nothing is written.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from cepcli.report.unfinished import read_unfinished, settings_of
from cepcli.workspace.artifacts import Workspace, read_json
from cepcli.workspace.metrics import read_metrics

State = Literal["finished", "running", "stopped"]


class Samples(NamedTuple):
    """What a checkpoint kept of single decisions.

    Attributes:
        similarity: cosine of each compared look-up and its nearest entry, float64 [comparisons].
        span: max g − min g of g = log p̂ − log p, nats, likewise.
        kl: KL(p̂‖p), nats, likewise.
        hit: whether the entry would have answered, bool, likewise.
        cached: milliseconds of cache time a decision, float64 [decisions kept].
        latency: milliseconds a decision, with the recorded time of the LLM, likewise.
        llm: milliseconds that the LLM took, float64 [queries kept].
    """

    similarity: np.ndarray
    span: np.ndarray
    kl: np.ndarray
    hit: np.ndarray
    cached: np.ndarray
    latency: np.ndarray
    llm: np.ndarray


@dataclass(frozen=True, slots=True)
class Run:
    """One run of a report.

    Attributes:
        name: of the run.
        label: its name without the seed, or the variant that it is of an ablation.
        state: whether it is finished, is going on, or stopped.
        step: the last one that it tells of.
        settings: its configuration, as nested plain values.
        settings_text: the same as the file has it.
        manifest: None while it is not finished.
        summary: None while it is not finished.
        rows: of metrics.jsonl.
        samples: None where no checkpoint is kept.
    """

    name: str
    label: str
    state: State
    step: int
    settings: dict[str, Any]
    settings_text: str
    manifest: dict[str, Any] | None
    summary: dict[str, Any] | None
    rows: list[dict[str, Any]]
    samples: Samples | None

    @property
    def env(self) -> str:
        """Its environment's id."""
        found = self.settings.get("env") if self.summary is None else self.summary["env"]
        return found or "unknown environment"

    @property
    def steps(self) -> int:
        """How many it takes, or was to take."""
        planned = self.settings.get("steps", self.step)
        return planned if self.summary is None else self.summary["steps"]

    @property
    def seed(self) -> int | None:
        """Its seed; None if its settings are gone."""
        return self.settings.get("seed") if self.summary is None else self.summary["seed"]

    @property
    def cache_mode(self) -> str:
        """How priors were cached; "off" where none were."""
        if self.summary is not None:
            return self.summary["cache"]
        return self.settings.get("cache", {}).get("mode", "off")

    @property
    def command(self) -> str | None:
        """What repeats it; None while it is not finished."""
        return None if self.manifest is None else self.manifest["command"]

    @property
    def is_record(self) -> bool:
        """Whether it was exported without its checkpoint and cache."""
        return self.manifest is not None and "record_of" in self.manifest

    @property
    def standing(self) -> str:
        """Whether it is finished, in words."""
        if self.state == "finished":
            return "finished"
        where = f"at step {self.step:,} of {self.steps:,}"
        return f"running, {where}" if self.state == "running" else f"stopped {where}"

    def lacks(self) -> str | None:
        """Why there are no samples of its decisions, in words; None if there are."""
        if self.samples is not None:
            return None
        if self.is_record:
            return f"{self.name} is a record: it holds no checkpoint and no cache"
        if "dataset" in (self.summary or self.settings):
            return f"{self.name} learned from a dataset: it decided nothing"
        return f"{self.name} holds no checkpoint"


def read_run(workspace: Workspace, name: str) -> Run:
    """A run, finished or not.

    Raises:
        ArtifactError: if there is none of that name, or it is damaged.
    """
    waits = workspace.partial("run", name).is_dir() and not workspace.exists("run", name)
    return _unfinished(workspace, name) if waits else _finished(workspace, name)


def _finished(workspace: Workspace, name: str) -> Run:
    artifact = workspace.open("run", name)
    path = artifact.path
    summary, settings = read_json(path / "summary.json"), settings_of(path)
    summary["env_options"] = settings.get("env_options", {})
    summary["versions"] = artifact.manifest["versions"]
    rows = read_metrics(path / "metrics.jsonl")
    label = summary["run"].removesuffix(f"_s{summary['seed']}")
    return Run(
        name, label, "finished", summary["steps"], settings, _settings_text(path),
        artifact.manifest, summary, rows, _samples(path),
    )  # fmt: skip


def _unfinished(workspace: Workspace, name: str) -> Run:
    path, found = workspace.partial("run", name), read_unfinished(workspace, name)
    rows = read_metrics(path / "metrics.jsonl", finished=False)
    return Run(
        name, found.label, "running" if found.running else "stopped", found.step, settings_of(path),
        _settings_text(path), None, None, rows, _samples(path),
    )  # fmt: skip


def _settings_text(path: Path) -> str:
    for name in ("config.toml", "settings.json"):
        if (path / name).is_file():
            return (path / name).read_text(encoding="utf-8")
    return ""


def _samples(path: Path) -> Samples | None:
    """What the newest checkpoint kept; None without one, also if it is replaced meanwhile."""
    files = sorted(path.glob("checkpoint-*/telemetry.npz"))
    files = [file for file in files if not file.parent.name.endswith(".partial")]
    if not files:
        return None
    try:
        with np.load(files[-1], allow_pickle=False) as archive:
            found = dict(archive)
    except FileNotFoundError:
        return None
    compared = found["comparisons"]
    return Samples(
        compared[:, 0], compared[:, 1], compared[:, 2], compared[:, 4].astype(bool),
        1e3 * found["cache"], 1e3 * found["latency"], 1e3 * found["llm"],
    )  # fmt: skip
