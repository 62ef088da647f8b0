"""Runs that are not finished, as far as their directories tell: a comparison shows them, too."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cepcli.config import read_toml
from cepcli.workspace.artifacts import Workspace, read_json
from cepcli.workspace.checkpoint_files import checkpoints, step_of


@dataclass(frozen=True, slots=True)
class Unfinished:
    """A run that is going on, or that stopped: it was interrupted, or killed.

    Attributes:
        run: its name.
        env: its environment; None where only its dataset would tell.
        steps: how many it is to take; None if its settings are gone.
        seed: likewise.
        step: the last one that its metrics or its checkpoint tell of.
        running: whether a process is working on it.
        resume: the command that goes on with it.
    """

    run: str
    env: str | None
    steps: int | None
    seed: int | None
    step: int
    running: bool
    resume: str

    @property
    def label(self) -> str:
        """Its name without the seed."""
        return self.run.removesuffix(f"_s{self.seed}")

    def in_words(self) -> str:
        """Where it stands, and the command that goes on with it."""
        of = "" if self.steps is None else f" of {self.steps}"
        if self.running:
            return f"{self.run} is still running, at step {self.step}{of}"
        return f"{self.run} stopped at step {self.step}{of}: {self.resume}"


def read_unfinished(workspace: Workspace, name: str) -> Unfinished:
    """What is known of a run in `<name>.partial`."""
    run = workspace.partial("run", name)
    settings = settings_of(run)
    return Unfinished(
        name,
        settings.get("env"),
        settings.get("steps"),
        settings.get("seed"),
        max(_last_step(run / "metrics.jsonl"), _checkpointed(run)),
        workspace.is_locked("run", name),
        f"cep runs resume {name}{workspace.option}",
    )


def settings_of(run: Path) -> dict[str, Any]:
    """What a run was started with, by `cep train`, `cep offline` or `cep bench sb3`; else {}."""
    if (run / "config.toml").is_file():
        return read_toml(run / "config.toml")
    return read_json(run / "settings.json") if (run / "settings.json").is_file() else {}


def _checkpointed(run: Path) -> int:
    """The step of the last checkpoint; an interrupted run may have one and no row yet."""
    found = checkpoints(run)
    return step_of(found[-1]) if found else 0


def last_evaluation(run: Path) -> dict[str, Any] | None:
    """The last row of metrics that tells of an evaluation: its step, and `eval/` figures."""
    for row in _rows(run / "metrics.jsonl"):
        figures = {key: value for key, value in row.items() if key.startswith("eval/")}
        if figures:
            return {"step": row["step"], **figures}
    return None


def _last_step(metrics: Path) -> int:
    """The step of the last row."""
    return next((int(row["step"]) for row in _rows(metrics)), 0)


def _rows(metrics: Path) -> Iterator[dict[str, Any]]:
    """Rows from the last on, which may have been cut off by what ended the run."""
    lines = metrics.read_text(encoding="utf-8").splitlines() if metrics.is_file() else []
    for line in reversed(lines):
        try:
            yield json.loads(line)
        except ValueError:
            continue
