"""How long a sweep will take, estimated from finished runs."""

import json
import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from cepcli.agents.config import with_presets
from cepcli.experiments.plan import Job, Task
from cepcli.experiments.sweep import SECONDS, kind_of
from cepcli.workspace.artifacts import Workspace

#: Records of runs that were published, beside the workspace.
RECORDS = Path("results")
#: A run with so many times fewer or more steps tells of the share of evaluations that another has.
_ALIKE = 2.0


class Forecast(NamedTuple):
    """Seconds that a sweep takes.

    Attributes:
        seconds: of each task, by its key; None where nothing is known.
        total: with `parallel` at a time, of those that are known.
        unknown: how many are not.
        runs: how many finished runs it is told by.
    """

    seconds: dict[str, float | None]
    total: float
    unknown: int
    runs: int


def forecast(tasks: Sequence[Task], workspace: Workspace, parallel: int) -> Forecast:
    """The time of the tasks that are to be made.

    A run's is that of finished runs of the same environment, agent and kind of cache: wall seconds
    per step, evaluation included; else of the same environment and agent. A preparation's or a
    measurement's is that of the same command in earlier sweeps of the workspace.
    """
    runs = list(_finished(workspace))
    made = _made(workspace)
    used: set[str] = set()
    seconds: dict[str, float | None] = {}
    for task in tasks:
        if task.job is not None:
            like = _alike(task.job, runs)
            used |= {run["run"] for run in like}
            rates = [run["wall_seconds"] / run["steps"] for run in like]
            steps = with_presets(task.job.config)["steps"]
            seconds[task.key] = statistics.median(rates) * steps if rates else None
        else:
            took = made.get(kind_of(task), [])
            seconds[task.key] = statistics.median(took) if took else None
    known = [value for value in seconds.values() if value is not None]
    total = max([sum(known) / parallel, *known], default=0.0)
    return Forecast(seconds, total, len(seconds) - len(known), len(used))


def in_words(found: Forecast, parallel: int) -> str:
    """A sentence about it."""
    tasks = len(found.seconds)
    if not tasks:
        return "Nothing is left to make."
    if found.unknown == tasks:
        return (
            "How long it takes is unknown: no run of this environment and agent is finished here."
        )
    least = "at least " if found.unknown else "about "
    runs = f"{found.runs} finished run{'s' if found.runs > 1 else ''}"
    told = f"estimated from {runs if found.runs else 'earlier sweeps'}"
    rest = f"; without {found.unknown} of {tasks}, whose time is unknown" * bool(found.unknown)
    return f"It will take {least}{duration(found.total)}, {parallel} at a time, {told}{rest}."


def duration(seconds: float) -> str:
    """A duration for people."""
    minutes = math.ceil(seconds / 60)
    if minutes < 2:
        return f"{math.ceil(seconds)} s"
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60:02d} min"


def _finished(workspace: Workspace) -> Iterable[dict[str, Any]]:
    """Summaries of finished runs, of the workspace and of the records beside it."""
    seen: set[str] = set()
    for root in (workspace.root, RECORDS):
        for path in sorted(root.glob("run/*/summary.json")):
            if path.parent.name.endswith(".partial"):
                continue
            try:
                found = json.loads(path.read_text(encoding="utf-8"))
            except (OSError, ValueError):
                continue  # it is named where it is opened
            told = all(found.get(key) for key in ("run", "env", "agent", "steps", "wall_seconds"))
            if told and found["run"] not in seen:
                seen.add(found["run"])
                yield found


def _alike(job: Job, runs: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The runs that tell most about a job."""
    config = with_presets(job.config)
    prior = config.get("prior", "embedded")
    mode = "off" if prior == "uniform" else config.get("cache", {}).get("mode", "exact")
    same = [
        run for run in runs
        if run["env"] == config["env"] and run["agent"] == config.get("agent", "posterior-q")
        and (run["prior"] == "uniform") == (prior == "uniform")
    ]  # fmt: skip
    same = [run for run in same if run["cache"] == mode] or same
    near = [run for run in same if 1 / _ALIKE <= run["steps"] / config["steps"] <= _ALIKE]
    return near or same


def _made(workspace: Workspace) -> dict[str, list[float]]:
    """Seconds of the commands that sweeps have run here, by their kind."""
    found: dict[str, list[float]] = {}
    path = workspace.root / SECONDS
    if path.is_file():
        for line in path.read_text(encoding="utf-8").splitlines():
            try:
                row = json.loads(line)
            except ValueError:  # a kill cut it off
                continue
            found.setdefault(row["command"], []).append(row["seconds"])
    return found
