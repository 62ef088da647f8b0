"""What a training run shows while it runs: a live table in a terminal, plain lines elsewhere."""

import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from cepcli.cli import heartbeat
from cepcli.cli.live_warnings import LiveWarnings

if TYPE_CHECKING:
    from pathlib import Path

    from cepcli.runs.engine import Hooks
    from cepcli.runs.online import OnlineRun
    from cepcli.runs.run import Progress
    from cepcli.workspace.artifacts import Workspace

_REFRESH_SECONDS = 0.25
_PLAIN_SECONDS = 4.0
_SILENT_SECONDS = 1.0


def duration(seconds: float) -> str:
    """So many seconds, as people say it."""
    if seconds < 1.0:
        return "under 1 s"
    if seconds < 120.0:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60.0)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"


def outcome(evaluation: dict[str, Any]) -> str:
    """How held-out episodes went, in words; success only where there is such a thing."""
    success, score = evaluation["success_rate"], f"return {evaluation['return_mean']:.2f}"
    return score if success is None else f"success {success:.2f}, {score}"


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
        self._last_eval = ""
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
        """The loop's hooks that feed this display."""
        from cepcli.runs.engine import Hooks

        return Hooks(
            on_step=self.step,
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
        from cepcli.report.curves import plot_run

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
        self._last_eval = f"{outcome(summary)} over {summary['episodes']} episodes at {step}"
        if not self._quiet:
            self._now("Training")
            self._console.print(
                f"step {step}: held-out {outcome(summary)} over {summary['episodes']} episodes",
                highlight=False,
            )

    def step(self, parts: "OnlineRun", progress: "Progress") -> None:
        """A decision was taken; redraws at most four times a second."""

        def figures(rate: float) -> dict[str, str]:
            asked = None if parts.cache is None else self._asked(parts, progress)
            return {**self._recent(parts, progress), **(asked or {"steps/s": f"{rate:.0f}"})}

        def notes() -> list[str]:
            return [*self._certificate(parts), *self._warnings(parts, progress)]

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

    @staticmethod
    def _recent(parts: "OnlineRun", progress: "Progress") -> dict[str, str]:
        """How the last training episodes went."""
        if parts.tracker.solvable:
            return {"success": f"{progress.recent_success:.2f}"}
        return {"return": f"{progress.recent_return:.1f}"}

    @staticmethod
    def _certificate(parts: "OnlineRun") -> list[str]:
        """What the cache promises now; nothing if it never will."""
        from cepcli.cli.certificate import in_words

        promise = parts.control.promise if parts.control is not None else None
        return [] if promise is None else [f"certificate: {in_words(promise)}"]

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
