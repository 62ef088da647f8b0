"""Runs as they lie on the disk, finished or not; and records of them, to be published.

A record is a run of a few kilobytes in a workspace of its own: settings, result and metrics. It is
listed, shown and compared like the run it was taken from, and its manifest says what made that,
when and where. It cannot be evaluated or resumed.

Example: cep runs export walker2d_s0 walker2d_s1 -o results
"""

import json
import shlex
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from cepcli.config import read_toml
from cepcli.errors import ArtifactError
from cepcli.workspace.artifacts import Artifact, Workspace, read_json, write_json
from cepcli.workspace.checkpoint_files import checkpoints, step_of
from cepcli.workspace.metrics import read_metrics

if TYPE_CHECKING:
    from numpy import ndarray
    from pandas import DataFrame

_SETTINGS = ("config.toml", "settings.json")
#: The files of a record.
FILES = (*_SETTINGS, "summary.json", "metrics.jsonl")
#: Settings that a comparison of τ reads.
_OF_TAU = ("agent", "posterior", "cache")


class DecisionSamples(NamedTuple):
    """What a checkpoint kept of single decisions.

    Attributes:
        similarity: cosine of each compared look-up and its nearest entry, float64 [comparisons].
        span: max g − min g of g = log p̂ − log p, nats, likewise.
        kl: KL(p̂‖p), nats, likewise.
        hit: whether the entry would have answered, bool, likewise.
        cached: milliseconds of cache time a decision, float64 [decisions].
        latency: milliseconds a decision, with the recorded time of the LLM, likewise.
    """

    similarity: "ndarray"
    span: "ndarray"
    kl: "ndarray"
    hit: "ndarray"
    cached: "ndarray"
    latency: "ndarray"


@dataclass(frozen=True)
class SavedRun:
    """A run as it lies on the disk.

    Attributes:
        name: of the run.
        path: its directory.
        state: whether it is finished, is still running, or was stopped.
        config: the settings that it was started with, nested as in config.toml.
        summary: its result, as in summary.json; empty until it is finished.
        manifest: what made it, when and where; empty until it is finished.
        label: its name without the seed, or the variant that it is of an ablation.
        resume: the command that goes on with it.
    """

    name: str
    path: Path
    state: Literal["finished", "running", "stopped"]
    config: dict[str, Any]
    summary: dict[str, Any] = field(default_factory=dict)
    manifest: dict[str, Any] = field(default_factory=dict)
    label: str = ""
    resume: str = ""

    @cached_property
    def rows(self) -> list[dict[str, Any]]:
        """The rows of metrics.jsonl.

        Raises:
            ArtifactError: if it is damaged.
        """
        return read_metrics(self.path / "metrics.jsonl", finished=self.finished)

    @cached_property
    def metrics(self) -> "DataFrame":
        """A row for each logged step, which is the index, and a column for each metric."""
        import pandas as pd

        frame = pd.DataFrame(self.rows or {"step": []})
        return frame.astype({"step": int}).groupby("step").last().astype(float)

    @cached_property
    def samples(self) -> DecisionSamples | None:
        """What the newest checkpoint kept of decisions; None without one."""
        import numpy as np

        found = checkpoints(self.path)
        try:
            with np.load(found[-1] / "telemetry.npz", allow_pickle=False) as archive:
                arrays = dict(archive)
        except (FileNotFoundError, IndexError):  # a checkpoint may be replaced meanwhile
            return None
        similarity, span, kl, _, hit = arrays["comparisons"].T
        cached, latency = 1e3 * arrays["cache"], 1e3 * arrays["latency"]
        return DecisionSamples(similarity, span, kl, hit.astype(bool), cached, latency)

    @property
    def finished(self) -> bool:
        """Whether it has a result."""
        return self.state == "finished"

    @property
    def running(self) -> bool:
        """Whether a process is working on it."""
        return self.state == "running"

    @property
    def env(self) -> str | None:
        """Its environment's id; None where only its dataset would tell."""
        return self._told("env")

    @property
    def seed(self) -> int | None:
        """Its seed; None if its settings are gone."""
        return self._told("seed")

    @property
    def steps(self) -> int | None:
        """How many it takes, or was to take; None if its settings are gone."""
        return self._told("steps")

    def _told(self, key: str) -> Any:
        return self.summary[key] if self.finished else self.config.get(key)

    @cached_property
    def step(self) -> int:
        """The last one that its result, its metrics or its checkpoint tells of."""
        if self.finished:
            return self.summary["steps"]
        logged = next((int(row["step"]) for row in _last_rows(self.path)), 0)
        saved = checkpoints(self.path)  # there may be one before there is a row
        return max(logged, step_of(saved[-1]) if saved else 0)

    @property
    def cache_mode(self) -> str:
        """How priors were cached; "off" where none were."""
        return self.summary["cache"] if self.finished else self.config.get("cache", {}).get(
            "mode", "off"
        )  # fmt: skip

    @property
    def is_record(self) -> bool:
        """Whether it was exported without its checkpoint and cache."""
        return "record_of" in self.manifest

    @property
    def settings_text(self) -> str:
        """Its settings as their file has them; "" without one."""
        found = [self.path / name for name in _SETTINGS if (self.path / name).is_file()]
        return found[0].read_text(encoding="utf-8") if found else ""

    @property
    def result(self) -> dict[str, Any]:
        """Its summary, with what comparisons read of its settings and its manifest."""
        config = self.config
        return {
            **self.summary, "env_options": config.get("env_options", {}),
            "eval_episodes": config.get("eval_episodes"), "versions": self.manifest["versions"],
            "settings": {key: config[key] for key in _OF_TAU if key in config},
        }  # fmt: skip

    @property
    def progress(self) -> dict[str, Any]:
        """How far it is, as JSON values."""
        keys = ("env", "steps", "seed", "step", "running", "resume")
        return {"run": self.name, **{key: getattr(self, key) for key in keys}}

    def in_words(self) -> str:
        """Where an unfinished run stands, and the command that goes on with it."""
        of = "" if self.steps is None else f" of {self.steps}"
        if self.running:
            return f"{self.name} is still running, at step {self.step}{of}"
        return f"{self.name} stopped at step {self.step}{of}: {self.resume}"

    @property
    def standing(self) -> str:
        """Whether it is finished, in words."""
        if self.finished:
            return "finished"
        steps = self.step if self.steps is None else self.steps
        where = f"at step {self.step:,} of {steps:,}"
        return f"running, {where}" if self.running else f"stopped {where}"

    @property
    def lacks(self) -> str | None:
        """Why there are no samples of its decisions, in words; None if there are."""
        if self.samples is not None:
            return None
        if self.is_record:
            return f"{self.name} is a record: it holds no checkpoint and no cache"
        if "dataset" in (self.summary or self.config):
            return f"{self.name} learned from a dataset: it decided nothing"
        return f"{self.name} holds no checkpoint"

    @property
    def last_evaluation(self) -> dict[str, Any] | None:
        """The last row of metrics that tells of an evaluation: its step, and `eval/` figures."""
        for row in _last_rows(self.path):
            figures = {key: value for key, value in row.items() if key.startswith("eval/")}
            if figures:
                return {"step": row["step"], **figures}
        return None


def read_run(workspace: Workspace, name: str) -> SavedRun:
    """A run, finished or not.

    Raises:
        ArtifactError: if there is none of that name, or it is damaged.
    """
    if workspace.partial("run", name).is_dir() and not workspace.exists("run", name):
        return read_unfinished(workspace, name)
    return read_finished(workspace, name)


def read_finished(workspace: Workspace, name: str) -> SavedRun:
    """A finished run.

    Raises:
        ArtifactError: if there is none of that name, or it is damaged.
    """
    artifact = workspace.open("run", name)
    summary = read_json(artifact.path / "summary.json")
    label = str(summary.get("run", name)).removesuffix(f"_s{summary.get('seed')}")
    config = settings_of(artifact.path)
    return SavedRun(name, artifact.path, "finished", config, summary, artifact.manifest, label)


def read_unfinished(workspace: Workspace, name: str) -> SavedRun:
    """What is known of a run in `<name>.partial`."""
    path = workspace.partial("run", name)
    config = settings_of(path)
    return SavedRun(
        name, path, "running" if workspace.is_locked("run", name) else "stopped", config,
        label=name.removesuffix(f"_s{config.get('seed')}"),
        resume=f"cep runs resume {name}{workspace.option}",
    )  # fmt: skip


def settings_of(run: Path) -> dict[str, Any]:
    """What a run was started with, by `cep train`, `cep offline` or `cep bench sb3`; else {}."""
    if (run / "config.toml").is_file():
        return read_toml(run / "config.toml")
    return read_json(run / "settings.json") if (run / "settings.json").is_file() else {}


def _last_rows(run: Path) -> Iterator[dict[str, Any]]:
    """Rows of metrics from the last on, without those that a kill has cut off."""
    metrics = run / "metrics.jsonl"
    lines = metrics.read_text(encoding="utf-8").splitlines() if metrics.is_file() else []
    for line in reversed(lines):
        try:
            yield json.loads(line)
        except ValueError:
            continue


def export_record(workspace: Workspace, name: str, to: Workspace, *, overwrite: bool) -> Artifact:
    """Put the record of a finished run into another workspace; that it is there already is fine.

    Raises:
        ArtifactError: if there is no such run, or another of that name is in `to` and `overwrite`
            is off.
    """
    if workspace.root.resolve() == to.root.resolve():
        raise ArtifactError(
            f"Cannot put the record of `{name}` into the workspace of the run, `{to.root}`.",
            "Name another directory: --output DIR",
        )
    run = workspace.open("run", name)
    outputs = [output for output in run.manifest["outputs"] if output["file"] in FILES]
    manifest = {
        "record_of": run.reference.sha256, **run.manifest,
        "command": _without_workspace(run.manifest["command"]), "outputs": outputs,
    }  # fmt: skip
    with to.lock("run", name):
        if to.exists("run", name) and to.open("run", name).manifest == manifest:
            return to.open("run", name)

        def fill(path: Path) -> None:
            for output in outputs:
                shutil.copyfile(run.path / output["file"], path / output["file"])
            write_json(path / "manifest.json", manifest)

        partial = to.begin("run", name, overwrite=overwrite, fill=fill)
        return to.put(partial, "run", name)


def _without_workspace(command: str) -> str:
    """The command without the workspace it was typed for: a folder of the machine that ran it."""
    try:
        words = shlex.split(command)
    except ValueError:  # written before commands were quoted
        return command
    rest, skip = [], False
    for word in words:
        if not skip and word != "--workspace" and not word.startswith("--workspace="):
            rest.append(word)
        skip = word == "--workspace"
    return shlex.join(rest) if len(rest) < len(words) else command
