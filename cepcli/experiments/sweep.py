"""Makes what a plan names, several at a time, one thread each, and only what is not there yet.

Every task is an ordinary command of cep in a process of its own, and what it leaves an ordinary
artifact; so a sweep that was killed goes on where it stopped, down to the single run, and each of
its runs can be looked at.
"""

import json
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

import tomli_w

from cepcli.artifacts import Workspace, writing
from cepcli.config import merge, read_toml
from cepcli.errors import ArtifactError, CepError
from cepcli.experiments.tasks import Job, Task
from cepcli.whole_files import write_whole

#: One row per task that was made: how long it took.
SECONDS = "ablation/.seconds.jsonl"
_ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}

OnDone = Callable[[Task, int], None]


def waiting(tasks: Sequence[Task], workspace: Workspace) -> list[Task]:
    """The tasks that are to be made: what is not there, and what only such a task needs.

    Raises:
        ArtifactError: if a run of that name was made with other settings.
    """
    missing: dict[str, Task] = {}
    for task in reversed(tasks):  # each comes after those that it needs
        if task.is_done(workspace):
            if task.job is not None:
                _check_made_so(task.job, workspace)
        elif not task.key.startswith("prepare ") or any(
            task.key in other.needs for other in missing.values()
        ):
            missing[task.key] = task
    return [task for task in tasks if task.key in missing]


def make(
    tasks: Sequence[Task],
    workspace: Workspace,
    parallel: int,
    on_done: OnDone = lambda task, done: None,
) -> None:
    """Make the tasks, `parallel` at a time, none before those of them that it needs.

    Raises:
        CepError: what the first that failed said; what ran beside it is finished.
    """
    left = {task.key: task for task in tasks}
    running: dict[Future[None], Task] = {}
    done = 0
    with ThreadPoolExecutor(parallel) as pool:
        while left or running:
            for key in [k for k, task in left.items() if _is_ready(task, left, running)]:
                if len(running) < parallel:
                    task = left.pop(key)
                    running[pool.submit(_make, task, workspace)] = task
            finished, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in finished:
                task = running.pop(future)
                future.result()
                done += 1
                on_done(task, done)


def _is_ready(task: Task, left: Mapping[str, Task], running: Mapping[Any, Task]) -> bool:
    busy = {*left, *(one.key for one in running.values())}
    return not busy & set(task.needs)


def _make(task: Task, workspace: Workspace) -> None:
    """Run one command."""
    with writing(workspace.root):
        for folder in (".configs", ".prepared", ".measured"):
            (workspace.root / "ablation" / folder).mkdir(parents=True, exist_ok=True)
    command = task.command if task.job is None else _training(task.job, workspace)
    began = time.perf_counter()
    call_cep(task.what, command, workspace)
    if not task.is_done(workspace):
        raise CepError(
            f"The command of `{task.what}` ended without leaving {task.kind} `{task.name}`.",
            f"See what it does: {shlex.join(['cep', *command])}",
        )
    if task.job is not None:
        return  # its summary tells
    row = {"command": kind_of(task), "seconds": time.perf_counter() - began}
    with writing(workspace.root), (workspace.root / SECONDS).open("a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")


def kind_of(task: Task) -> str:
    """What tasks take about as long: the command, and its numbers (how many, how long)."""
    numbers = [word for word in task.command if word.isdecimal()]
    return " ".join([*task.command[:2], *numbers])


def call_cep(what: str, command: Sequence[str], workspace: Workspace) -> None:
    """Run a command of cep, quietly.

    Raises:
        CepError: with its own last words if it fails.
    """
    done = subprocess.run(
        [sys.executable, "-m", "cepcli", *command, "--workspace", str(workspace.root), "--quiet"],
        env={**os.environ, **_ONE_THREAD}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        said = [line.removeprefix("cep: ").strip() for line in done.stderr.splitlines()]
        words = " ".join([line for line in said if line][-2:])
        raise CepError(
            f"`{what}` stopped with exit code {done.returncode}: {words or 'it said nothing'}",
            "Type the same command again to go on with what is missing.",
        )


def _training(job: Job, workspace: Workspace) -> tuple[str, ...]:
    """The command of a run, whose settings are written where they can be looked at."""
    config = job.config
    if job.settings is not None:
        config = merge(merge(config, read_toml(job.settings)), job.own)
    file = workspace.root / "ablation" / ".configs" / f"{job.run}.toml"
    with writing(workspace.root):
        write_whole(file, tomli_w.dumps(config))
    name = job.run.removesuffix(f"_s{job.seed}")
    return ("train", "--config", str(file), "--name", name, "--resume")


def _check_made_so(job: Job, workspace: Workspace) -> None:
    """Refuse a finished run of another version of the table: it answers another question."""
    made = read_toml(_run_config(job, workspace))
    if made.get("prior") == "uniform":  # runs without an LLM leave out what they do not use
        return
    for key, wanted in _flat(job.config).items():
        found = _flat(made).get(key, wanted if wanted is None else "nothing")
        if job.settings is None and found != wanted:
            raise ArtifactError(
                f"The run `{job.run}` was made with {key} = {found!r}, this ablation has "
                f"{wanted!r}.",
                f"Remove it, or use another --workspace: {workspace.directory('run', job.run)}",
            )


def _run_config(job: Job, workspace: Workspace) -> Path:
    return workspace.open("run", job.run).path / "config.toml"


def _flat(values: Mapping[str, Any], where: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            found |= _flat(value, f"{where}{key}.")
        else:
            found[where + key] = list(value) if isinstance(value, tuple) else value
    return found
