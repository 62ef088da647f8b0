"""What `cep prior` shows: progress on stderr, tables and bars on stdout."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import typer

from cepcli.cli.options import print_table

if TYPE_CHECKING:
    from cepcli.prior.base import PriorAnswer
    from cepcli.types import TextState

_BAR_WIDTH = 40
_PLAIN_SECONDS = 10.0


@contextmanager
def interruptible(hint: str) -> Iterator[None]:
    """Ctrl-C ends the command with one clear sentence and exit code 130."""
    try:
        yield
    except KeyboardInterrupt:
        typer.echo(f"cep: interrupted. {hint}", err=True)
        raise typer.Exit(130) from None


def note(quiet: bool) -> Callable[[str], None]:
    """Says on stderr what is being done, unless `quiet`."""

    def say(text: str) -> None:
        if not quiet:
            typer.echo(f"{text} …", err=True)

    return say


def announce_first_use(model: str, quiet: bool) -> None:
    """Say that the embedded model is being made, which happens once and takes half a minute."""
    from cepcli.prior.embedded import SMOLLM2

    if model == "embedded" and not SMOLLM2.is_ready():
        note(quiet)(f"Fetching and converting the embedded model into {SMOLLM2.directory}, once")


@contextmanager
def progress_bar(title: str, total: int, quiet: bool) -> Iterator[Callable[..., None]]:
    """A function to call with (done, remark): a live bar in a terminal, else a line now and then.

    The live bar pauses nothing: notes printed meanwhile appear above it.
    """
    from rich.console import Console

    console = Console(stderr=True)
    if quiet:
        yield lambda done, remark="": None
    elif console.is_terminal:
        with _live_bar(console) as bar:
            task = bar.add_task(title, total=total, remark="")
            yield lambda done, remark="": bar.update(task, completed=done, remark=remark)
    else:
        yield _plain_lines(title, total)


def _live_bar(console: Any) -> Any:
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[remark]}"),
        console=console,
        transient=True,
    )


def _plain_lines(title: str, total: int) -> Callable[..., None]:
    shown = time.monotonic()

    def advance(done: int, remark: str = "") -> None:
        nonlocal shown
        now = time.monotonic()
        if now - shown >= _PLAIN_SECONDS or done == total:
            shown = now
            typer.echo(f"{title}: {done}/{total}" + (f", {remark}" if remark else ""), err=True)

    return advance


def print_quality(title: str, rows: Sequence[dict[str, Any]]) -> None:
    """A table of priors, one line each."""
    columns = ["prior", "decisions", "top-1", "NLL (nats)", "calibration error", "mass", "ms each"]
    lines = [
        [
            row["prior"],
            str(row["decisions"]),
            f"{row['top1']:.3f}",
            f"{row['nll']:.3f}",
            f"{row['calibration_error']:.3f}",
            f"{row['mass']:.3f}",
            f"{1e3 * row['seconds']:.0f}",
        ]
        for row in rows
    ]
    print_table(title, columns, lines)


def print_bars(
    state: "TextState", rows: Sequence[tuple[str, float, float]], answer: "PriorAnswer"
) -> None:
    """A state and the prior over its actions as bars, likeliest first."""
    import math

    typer.echo(f"Goal: {state.goal}\n{state.text}\n")
    width = max(len(action) for action, _, _ in rows)
    for action, log_prior, _ in rows:
        probability = math.exp(log_prior)
        bar = "█" * round(probability * _BAR_WIDTH)
        typer.echo(f"{action:<{width}}  {probability:6.3f}  {bar}")
    free = answer.seconds > 0 and answer.live_seconds == 0
    remark = " when first asked; now from the journal" if free else ""
    cost = f"{answer.tokens:.0f} tokens, {1e3 * answer.seconds:.0f} ms"
    typer.echo(f"\n{cost}{remark}", err=True)
