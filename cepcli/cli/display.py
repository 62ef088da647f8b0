"""What a training run shows while it runs: a live table in a terminal, plain lines elsewhere."""

import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cepcli.cli import heartbeat
from cepcli.cli.summaries import certificate, duration, outcome

if TYPE_CHECKING:
    from cepcli.report.warnings import RunWarning
    from cepcli.runs.engine import Hooks
    from cepcli.runs.online import OnlineRun
    from cepcli.runs.run import Progress
    from cepcli.workspace.artifacts import Workspace

_REFRESH_SECONDS = 0.25
_PLAIN_SECONDS = 4.0
_SILENT_SECONDS = 1.0
#: Rows that `LiveWarnings` remembers: decisions between two of them at first, and at most how many.
_APART = 25
_MOST_ROWS = 256


class RunDisplay:
    """Progress on stderr: rich and live in a terminal, a line every few seconds elsewhere."""

    def __init__(self, name: str, *, quiet: bool, workspace: "Workspace") -> None:
        from rich.console import Console
        from rich.live import Live
        from rich.spinner import Spinner

        self._name = name
        self._quiet = quiet
        self._console = Console(stderr=True)
        self._shown: list[Any] = []
        self._doing = self._told = ""
        self._doing_since = time.monotonic()
        self._spinner = Spinner("dots")
        self._shown_at = self._round_at = 0.0
        self._began = time.monotonic()
        self._first_step: int | None = None
        self._watch = LiveWarnings(name, workspace)
        self._warned: set[str] = set()
        self._live: Live | None = None
        if self._console.is_terminal and not quiet:
            self._live = Live(console=self._console, transient=True, get_renderable=self._picture)

    def __enter__(self) -> "RunDisplay":
        self._open = ExitStack()
        if self._live:
            self._open.enter_context(heartbeat.paused())
            self._open.enter_context(self._live)
        return self

    def __exit__(self, *error: object) -> None:
        self._open.close()

    def hooks(self, requested: list[int]) -> "Hooks":
        """The hooks of the training loop that feed this display; signals stop the loop."""
        from cepcli.runs.engine import Hooks
        from cepcli.runs.online import OnlineRun

        def on_step(run: Any, progress: "Progress") -> None:
            if isinstance(run, OnlineRun):
                self.step(run, progress)
            else:
                steps = run.config.steps
                self.advance(progress.step, steps, lambda rate: {"gradient steps/s": f"{rate:.1f}"})

        return Hooks(
            on_step=on_step,
            on_round=self.round,
            on_evaluation=self.evaluation,
            on_finish=self.finish,
            stop_requested=lambda: bool(requested),
        )

    def notify(self, message: str) -> None:
        """A note about something that takes a while."""
        if not self._quiet:
            self._now(message)
            self._console.print(f"{message} …", highlight=False)

    def finish(self, run: "Path") -> None:
        """The run has ended; its picture is all that is missing."""
        self._now("Drawing the learning curve")
        from cepcli.report.plots import plot_run

        plot_run(run)

    def round(self, step: int, done: int, episodes: int, queries: int | None = None) -> None:
        """An evaluation goes on: so many of its episodes have ended, with so many queries."""
        asked = f", {queries} LLM queries" if queries else ""
        told = f"step {step}: evaluating, {done} of {episodes} episodes{asked}"
        self._now(f"Evaluating at step {step}", told)
        if not self._live and not self._quiet and self._round_due():
            print(told, file=sys.stderr, flush=True)
            heartbeat.said()

    def _now(self, doing: str, told: str | None = None) -> None:
        """What the spinner and the heartbeat say of this moment."""
        if doing != self._doing:
            self._doing, self._doing_since = doing, time.monotonic()
            heartbeat.said(doing)
        self._told = told or doing

    def _round_due(self) -> bool:
        """Whether it is time for a line about an evaluation; steps have a time of their own."""
        now = time.monotonic()
        due = now - self._round_at >= _PLAIN_SECONDS
        self._round_at = now if due else self._round_at
        return due

    def _is_due(self, seconds: float) -> bool:
        """Whether it is time to show figures again; then they count as shown."""
        now = time.monotonic()
        if self._quiet or now - self._shown_at < seconds:
            return False
        self._shown_at = now
        return True

    def evaluation(self, step: int, summary: dict[str, Any]) -> None:
        """An evaluation has ended."""
        self._watch.evaluated(step, summary)
        if not self._quiet:
            self._now("Training")
            self._console.print(
                f"step {step}: held-out {outcome(summary)} over {summary['episodes']} episodes",
                highlight=False,
            )

    def step(self, parts: "OnlineRun", progress: "Progress") -> None:
        """A decision was taken, or a control step."""

        def figures(rate: float) -> dict[str, str]:
            shown = {"return": f"{progress.recent_return:.1f}"}
            if parts.tracker.solvable:
                shown = {"success": f"{progress.recent_success:.2f}"}
            if parts.cache is None:
                return {**shown, "steps/s": f"{rate:.0f}"}
            return {**shown, **self._asked(parts, progress)}

        def notes() -> list[str]:
            promise = parts.control.promise if parts.control is not None else None
            promised = [] if promise is None else [f"certificate: {certificate(promise)}"]
            return [*promised, *self._warnings(parts, progress)]

        self.advance(progress.step, parts.config.steps, figures, notes)

    def advance(
        self,
        step: int,
        steps: int,
        figures: Callable[[float], dict[str, str]],
        notes: Callable[[], list[str]] = list,
    ) -> None:
        """A step was taken; redraws at most four times a second.

        Args:
            step: how many there were.
            steps: how many there will be.
            figures: what to show beside them, given the steps per second.
            notes: lines below.
        """
        self._now("Training")
        if self._first_step is None:
            self._first_step, self._began = step, time.monotonic()
        if not self._is_due(_REFRESH_SECONDS if self._live else _PLAIN_SECONDS):
            return
        rate = (step - self._first_step) / max(time.monotonic() - self._began, 1e-9)
        shown = {"step": f"{step}/{steps}"}
        if rate and step < steps:
            shown["ETA"] = duration((steps - step) / rate)
        shown |= figures(rate)
        if self._live:
            self._shown = self._table(step / steps, shown, notes())
            self._live.refresh()
        else:
            text = ", ".join(f"{key} {value}" for key, value in shown.items())
            print("; ".join([text, *notes()]), file=sys.stderr, flush=True)
            heartbeat.said()

    @staticmethod
    def _asked(parts: "OnlineRun", progress: "Progress") -> dict[str, str]:
        """How the cache and the LLM did."""
        cache = parts.telemetry.summary()
        queries, hits = cache["queries"], cache["hits"]
        answered = hits["exact"] + hits["semantic"]
        saved = answered * cache["llm_seconds_recorded"] / max(queries["total"], 1)
        return {
            "exact hits": f"{hits['exact'] / max(progress.decisions, 1):.0%}",
            "semantic hits": f"{hits['semantic'] / max(progress.decisions, 1):.0%}",
            "queries": str(queries["total"]),
            "LLM s": f"{cache['llm_seconds_recorded']:.0f}",
            "LLM s saved": f"{saved:.0f}",
        }

    def _warnings(self, parts: "OnlineRun", progress: "Progress") -> list[str]:
        """What goes wrong now, for a terminal; whatever is new is told once, and stays."""
        found = self._watch.judge(parts, progress)
        for warning in found:
            if warning.kind not in self._warned:
                self._warned.add(warning.kind)
                told = f"Warning at step {progress.step}: {warning.in_words()}"
                self._console.print(told, highlight=False, markup=False, soft_wrap=True)
        return [f"warning: {warning.seen}" for warning in found] if self._live else []

    def _picture(self) -> Any:
        """What a terminal shows: the last figures and, while they stand still, what is done."""
        from rich.console import Group

        silent = time.monotonic() - max(self._shown_at, self._doing_since)
        if silent < _SILENT_SECONDS or not self._doing:
            return Group(*self._shown)
        elapsed = duration(time.monotonic() - self._doing_since)
        self._spinner.update(text=f"{self._told} … {elapsed}")
        return Group(*self._shown, self._spinner)

    def _table(self, done: float, figures: dict[str, str], notes: list[str]) -> list[Any]:
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        table = Table(title=self._name, title_justify="left", box=None)
        for key in figures:
            table.add_column(key, justify="right")
        table.add_row(*figures.values())
        bar = ProgressBar(total=1.0, completed=done, width=60)
        return [table, *map(Text, notes), bar]


class LiveWarnings:
    """Gathers rows and evaluations of a run, and judges them.

    Args:
        run: its name.
        workspace: where it trains, and where the same run without a cache may be.
    """

    def __init__(self, run: str, workspace: "Workspace") -> None:
        self._run = run
        self._workspace = workspace
        self._rows: list[dict[str, Any]] = []
        self._apart = _APART
        self._curves: dict[str, list[list[Any]]] = {"curve": [], "return_curve": []}
        self._uncached: dict[str, Any] | None = None
        self._sought = False

    def evaluated(self, step: int, summary: dict[str, Any]) -> None:
        """An evaluation has ended."""
        self._curves["curve"].append([step, summary["success_rate"]])
        self._curves["return_curve"].append([step, summary["return_mean"]])

    def judge(self, parts: "OnlineRun", progress: "Progress") -> "list[RunWarning]":
        """What there is to warn of now."""
        from cepcli.config import to_dict
        from cepcli.report.advice import Subject, as_typed
        from cepcli.report.warnings import LEAST, WARM_UP, answer_warnings, performance_warning

        if parts.cache is None or parts.cache.config.mode == "off":
            return []
        self._keep(parts.prior_metrics(), parts.telemetry.decisions)
        if progress.decisions < WARM_UP + LEAST:
            return []
        mode = parts.cache.config.mode
        # where it lies once the run has ended, which is when the next command is typed
        config = as_typed(self._workspace.directory("run", self._run) / "config.toml")
        subject = Subject(self._run, mode, self._rows, to_dict(parts.config), config)
        found = answer_warnings(subject)
        uncached = self._until(progress.step, mode)
        if uncached is not None and self._curves["curve"]:
            lost = performance_warning(
                self._run, [self._so_far(parts, mode)], [uncached], config
            )  # fmt: skip
            found += [lost] if lost else []
        return found

    def _keep(self, row: dict[str, Any], decisions: int) -> None:
        """Add a row in place of the last one, unless that is far enough from the one before."""
        row["decisions"] = decisions
        if len(self._rows) > 1 and decisions - self._rows[-2]["decisions"] < self._apart:
            self._rows.pop()
        self._rows.append(row)
        if len(self._rows) > _MOST_ROWS:
            self._apart *= 2
            self._rows = [*self._rows[:-1:2], row]

    def _so_far(self, parts: "OnlineRun", mode: str) -> dict[str, Any]:
        """The part of a run's summary by which its score is judged."""
        config, (_, success) = parts.config, self._curves["curve"][-1]
        return {
            "run": self._run, "env": config.env, "agent": config.agent, "prior": config.prior,
            "cache": mode, "seed": config.seed, "steps": config.steps,
            "eval": {"success_rate": success, **self._curves},
        }  # fmt: skip

    def _until(self, step: int, mode: str) -> dict[str, Any] | None:
        """The same run without a cache, as it stood after as many steps; None without one."""
        from cepcli.report.warnings import uncached_of

        if not self._sought:
            self._sought = True
            self._uncached = uncached_of(self._workspace, self._run, mode)
        if self._uncached is None:
            return None
        evaluation = self._uncached["eval"]
        curves = {
            name: [point for point in evaluation[name] if point[0] <= step]
            for name in self._curves
        }  # fmt: skip
        return {**self._uncached, "eval": {**evaluation, **curves}}
