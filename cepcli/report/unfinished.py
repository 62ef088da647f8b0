"""Runs that are not finished, as far as their directories tell: a comparison shows them, too."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cepcli.artifacts import Workspace, read_json
from cepcli.config import read_toml


@dataclass(frozen=True, slots=True)
class Unfinished:
    """A run that is going on, or that died.

    Attributes:
        run: its name.
        env: its environment; None where only its dataset would tell.
        steps: how many it is to take; None if its settings are gone.
        seed: likewise.
        step: the last one that its metrics tell of.
        running: whether a process is working on it.
    """

    run: str
    env: str | None
    steps: int | None
    seed: int | None
    step: int
    running: bool

    @property
    def label(self) -> str:
        """Its name without the seed."""
        return self.run.removesuffix(f"_s{self.seed}")

    def in_words(self) -> str:
        """Where it stands, and the command that goes on with it."""
        of = "" if self.steps is None else f" of {self.steps}"
        if self.running:
            return f"{self.run} is still running, at step {self.step}{of}"
        return f"{self.run} stopped at step {self.step}{of}: cep runs resume {self.run}"


def read_unfinished(workspace: Workspace, name: str) -> Unfinished:
    """What is known of a run in `<name>.partial`."""
    run = workspace.partial("run", name)
    settings = settings_of(run)
    return Unfinished(
        name,
        settings.get("env"),
        settings.get("steps"),
        settings.get("seed"),
        _last_step(run / "metrics.jsonl"),
        workspace.is_locked("run", name),
    )


def settings_of(run: Path) -> dict[str, Any]:
    """What a run was started with, by `cep train`, `cep offline` or `cep bench sb3`; else {}."""
    if (run / "config.toml").is_file():
        return read_toml(run / "config.toml")
    return read_json(run / "settings.json") if (run / "settings.json").is_file() else {}


def _last_step(metrics: Path) -> int:
    """The step of the last row; the very last may have been cut off by what ended the run."""
    lines = metrics.read_text(encoding="utf-8").splitlines() if metrics.is_file() else []
    for line in reversed(lines):
        try:
            return int(json.loads(line)["step"])
        except ValueError:
            continue
    return 0
