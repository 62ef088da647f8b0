"""Makes what a plan names, several at a time, one thread each, and only what is not there yet.

Every task is an ordinary command of cep in a process of its own, and what it leaves an ordinary
artifact; so a sweep that was killed goes on where it stopped, down to the single run, and each of
its runs can be looked at. A sweep that is interrupted ends its commands, which keep their state.
"""

import json
import os
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager

import tomli_w

from cepcli.config import merge, read_toml, to_dict
from cepcli.errors import ArtifactError, CepError
from cepcli.experiments.plan import Job, Task
from cepcli.report.frames import flat
from cepcli.runs.settings import read_config
from cepcli.whole_files import write_whole
from cepcli.workspace.artifacts import Workspace, writing

#: One row per task that was made: how long it took.
SECONDS = "ablation/.seconds.jsonl"
_ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
_POLL_SECONDS = 0.1

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
        KeyboardInterrupt: after all that ran was interrupted, too, and has ended.
    """
    left = {task.key: task for task in tasks}
    running: dict[Future[None], Task] = {}
    done = 0
    commands = Commands(workspace)
    with ThreadPoolExecutor(parallel) as pool, commands.ended_with_us():
        while left or running:
            for key, task in list(left.items()):
                busy = {*left, *(one.key for one in running.values())}
                if len(running) < parallel and not busy & set(task.needs):
                    del left[key]
                    running[pool.submit(_make, task, workspace, commands)] = task
            finished, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in finished:
                task = running.pop(future)
                future.result()
                done += 1
                on_done(task, done)


def _make(task: Task, workspace: Workspace, commands: "Commands") -> None:
    """Run one command."""
    with writing(workspace.root):
        for folder in (".configs", ".prepared", ".measured"):
            (workspace.root / "ablation" / folder).mkdir(parents=True, exist_ok=True)
    command = task.command if task.job is None else _training(task.job, workspace)
    began = time.perf_counter()
    commands.call(task.what, command)
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


class Commands:
    """Commands of cep that run side by side, quietly, each in a session of its own.

    So a signal reaches them from here alone, and once: the second one would end them at once.
    """

    def __init__(self, workspace: Workspace) -> None:
        self.workspace = workspace
        self._lock = threading.Lock()
        self._running: set[subprocess.Popen[str]] = set()
        self._ending = False

    def call(self, what: str, command: Sequence[str]) -> None:
        """Run one to its end.

        Raises:
            CepError: with its own last words if it fails.
        """
        with self._lock:
            if self._ending:
                raise CepError(f"`{what}` was not begun: the sweep ends.")
            process = subprocess.Popen(
                [sys.executable, "-m", "cepcli", *command,
                 "--workspace", str(self.workspace.root), "--quiet"],
                env={**os.environ, **_ONE_THREAD}, stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE, text=True, start_new_session=True,
            )  # fmt: skip
            self._running.add(process)
        _, told = process.communicate()
        with self._lock:
            self._running.discard(process)
        if process.returncode:
            said = [line.removeprefix("cep: ").strip() for line in told.splitlines()]
            words = " ".join([line for line in said if line][-2:])
            raise CepError(
                f"`{what}` stopped with exit code {process.returncode}: "
                f"{words or 'it said nothing'}",
                "Type the same command again to go on with what is missing.",
            )

    @contextmanager
    def ended_with_us(self) -> Iterator[None]:
        """An interruption interrupts all that run, and waits for them; a second one kills them."""
        try:
            yield
        except KeyboardInterrupt:
            try:
                self._end(signal.SIGTERM)
            except KeyboardInterrupt:
                self._end(signal.SIGKILL)
            raise

    def _end(self, number: signal.Signals) -> None:
        with self._lock:
            self._ending = True
            running = list(self._running)
        for process in running:
            process.send_signal(number)
        for process in running:
            while process.poll() is None:
                time.sleep(_POLL_SECONDS)


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
    config = read_config(workspace.open("run", job.run).path)
    # runs without an LLM leave out what they do not use; a prepared file may hold anything
    if config.prior == "uniform" or job.settings is not None:
        return
    made = dict(flat(to_dict(config)))
    for key, wanted in flat(job.config):
        wanted = list(wanted) if isinstance(wanted, tuple) else wanted
        found = made.get(key, wanted if wanted is None else "nothing")
        if (list(found) if isinstance(found, tuple) else found) != wanted:
            raise ArtifactError(
                f"The run `{job.run}` was made with {key} = {found!r}, this ablation has "
                f"{wanted!r}.",
                f"Remove it, or use another --workspace: {workspace.directory('run', job.run)}",
            )
