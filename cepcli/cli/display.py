"""What a training run shows while it runs: a live table in a terminal, plain lines elsewhere."""

import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from cepcli.cli.live_warnings import LiveWarnings

if TYPE_CHECKING:
    from cepcli.agents.parts import Parts
    from cepcli.agents.progress import Progress
    from cepcli.agents.training import Hooks
    from cepcli.artifacts import Workspace

_REFRESH_SECONDS = 0.25
_PLAIN_SECONDS = 10.0


def outcome(evaluation: dict[str, Any]) -> str:
    """How held-out episodes went, in words; success only where there is such a thing."""
    success, score = evaluation["success_rate"], f"return {evaluation['return_mean']:.2f}"
    return score if success is None else f"success {success:.2f}, {score}"


class RunDisplay:
    """Progress on stderr: rich and live in a terminal, a line every ten seconds elsewhere."""

    def __init__(self, name: str, *, quiet: bool, workspace: "Workspace") -> None:
        from rich.console import Console
        from rich.live import Live

        self._name = name
        self._quiet = quiet
        self._console = Console(stderr=True)
        self._live: Live | None = None
        if self._console.is_terminal and not quiet:
            self._live = Live(console=self._console, auto_refresh=False, transient=True)
        self._shown_at = 0.0
        self._began = time.monotonic()
        self._first_step: int | None = None
        self._last_eval = ""
        self._watch = LiveWarnings(name, workspace)
        self._warned: set[str] = set()

    def __enter__(self) -> "RunDisplay":
        if self._live:
            self._live.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self._live:
            self._live.stop()

    def hooks(self, requested: list[int]) -> "Hooks":
        """The loop's hooks that feed this display."""
        from cepcli.agents.training import Hooks
        from cepcli.report.curves import plot_run

        return Hooks(
            on_step=self.step,
            on_evaluation=self.evaluation,
            on_finish=plot_run,
            stop_requested=lambda: bool(requested),
        )

    def notify(self, message: str) -> None:
        """A note about something that takes a while."""
        if not self._quiet:
            self._console.print(f"{message} …", highlight=False)

    def evaluation(self, step: int, summary: dict[str, Any]) -> None:
        """An evaluation has ended."""
        self._watch.evaluated(step, summary)
        self._last_eval = f"{outcome(summary)} over {summary['episodes']} episodes at {step}"
        if not self._quiet:
            self._console.print(
                f"step {step}: held-out {outcome(summary)} over {summary['episodes']} episodes",
                highlight=False,
            )

    def step(self, parts: "Parts", progress: "Progress") -> None:
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
        if self._quiet:
            return
        now = time.monotonic()
        if self._first_step is None:
            self._first_step, self._began = step, now
        if now - self._shown_at < (_REFRESH_SECONDS if self._live else _PLAIN_SECONDS):
            return
        self._shown_at = now
        rate = (step - self._first_step) / max(now - self._began, 1e-9)
        left = (steps - step) / rate if rate else 0.0
        shown = {"step": f"{step}/{steps}", "ETA": f"{left:.0f} s", **figures(rate)}
        if self._live:
            self._live.update(self._table(step / steps, shown, notes()))
            self._live.refresh()
        else:
            text = ", ".join(f"{key} {value}" for key, value in shown.items())
            print("; ".join([text, *notes()]), file=sys.stderr, flush=True)

    @staticmethod
    def _asked(parts: "Parts", progress: "Progress") -> dict[str, str]:
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
    def _recent(parts: "Parts", progress: "Progress") -> dict[str, str]:
        """How the last training episodes went."""
        if parts.tracker.solvable:
            return {"success": f"{progress.recent_success:.2f}"}
        return {"return": f"{progress.recent_return:.1f}"}

    @staticmethod
    def _certificate(parts: "Parts") -> list[str]:
        """What the cache promises now; nothing if it never will."""
        from cepcli.cli.certificate import in_words

        promise = parts.control.promise if parts.control is not None else None
        return [] if promise is None else [f"certificate: {in_words(promise)}"]

    def _warnings(self, parts: "Parts", progress: "Progress") -> list[str]:
        """What goes wrong now, for a terminal; whatever is new is told once, and stays."""
        found = self._watch.judge(parts, progress)
        for warning in found:
            if warning.kind not in self._warned:
                self._warned.add(warning.kind)
                told = f"Warning at step {progress.step}: {warning.in_words()}"
                self._console.print(told, highlight=False, markup=False, soft_wrap=True)
        return [f"warning: {warning.seen}" for warning in found] if self._live else []

    def _table(self, done: float, figures: dict[str, str], notes: list[str]) -> Any:
        from rich.console import Group
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        table = Table(title=self._name, title_justify="left", box=None)
        for key in figures:
            table.add_column(key, justify="right")
        table.add_row(*figures.values())
        bar = ProgressBar(total=1.0, completed=done, width=60)
        return Group(table, *map(Text, notes), bar)
