"""How every command shows its result on stdout and its progress on stderr."""

import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from cepcli.cli import heartbeat

if TYPE_CHECKING:
    from cepcli.listener import Advance
    from cepcli.workspace.artifacts import Workspace

#: A table of more columns becomes records in a terminal that is too narrow for it.
_FEW_COLUMNS = 4
_NO_LIMIT = 10_000
#: A column of figures (or blanks) is set flush right.
_FIGURE_BEGINS = ("", *"0123456789-+.–")
#: Without a terminal: seconds between two lines of progress.
_PLAIN_SECONDS = 4.0

#: What a column shows of a row: "key:format", as in an f-string, or a function of the row.
Column = str | Callable[[Any], str]


def open_workspace(option: Path | None) -> "Workspace":
    """The workspace that `--workspace` names, or the default one."""
    from cepcli.workspace.artifacts import Workspace
    from cepcli.workspace.variables import workspace_root

    return Workspace(workspace_root(option))


def print_json(value: Any) -> None:
    """One JSON value on one line of stdout."""
    typer.echo(json.dumps(value))


def print_rows(
    title: str, rows: Iterable[Any], columns: Mapping[str, Column], *, markdown: bool = False
) -> None:
    """A table of `rows`: for each column a heading and what to show; in Markdown without title."""
    cells = [[_cell(row, column) for column in columns.values()] for row in rows]
    if not markdown:
        print_table(title, list(columns), cells)
        return
    for line in [columns, ["---"] * len(columns), *cells]:
        typer.echo("| " + " | ".join(line) + " |")


def estimate(key: str, form: str) -> Column:
    """A column of means over seeds, each with its 95 % interval."""
    from cepcli.report.comparison import cell

    return lambda row: cell(row[key], form)


def _cell(row: Any, column: Column) -> str:
    if callable(column):
        return column(row)
    key, _, form = column.partition(":")
    return "–" if row[key] is None else format(row[key], form)


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A table on stdout: as wide as its content, or records in a terminal that is too narrow."""
    from rich.console import Console
    from rich.table import Table

    table = Table()
    for number, column in enumerate(columns):
        figures = all(row[number][:1] in _FIGURE_BEGINS for row in rows)
        table.add_column(column, justify="right" if figures else "left", overflow="fold")
    for row in rows:
        table.add_row(*row)
    console = Console()
    needed = Console(width=_NO_LIMIT, markup=False).measure(table).maximum
    typer.echo(title)
    if console.is_terminal and needed > console.width and len(columns) > _FEW_COLUMNS:
        _print_records(columns, rows)
        return
    width = console.width if console.is_terminal else needed
    Console(width=width, markup=False, highlight=False).print(table)


def _print_records(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    width = max(map(len, columns))
    for row in rows:
        typer.echo(f"\n{row[0]}")
        for column, cell in zip(columns[1:], row[1:], strict=True):
            if cell:
                typer.echo(f"  {column:<{width}}  {cell}")


def note(text: str, *, quiet: bool = False) -> None:
    """Say on stderr what is being done, unless `quiet`."""
    if not quiet:
        heartbeat.said(text)
        typer.echo(f"{text} …", err=True)


@contextmanager
def progress_bar(title: str, total: int, quiet: bool) -> "Iterator[Advance]":
    """A function to call with (done, remark): a live bar in a terminal, else a line now and then.

    Notes that are printed meanwhile appear above the bar.
    """
    from rich.console import Console

    console = Console(stderr=True)
    if quiet:
        yield lambda done, remark="": None
    elif console.is_terminal:
        from rich.progress import MofNCompleteColumn, Progress, TextColumn

        text, bar, _, remaining = Progress.get_default_columns()
        remark = TextColumn("{task.fields[remark]}")
        columns = (text, bar, MofNCompleteColumn(), remaining, remark)
        with heartbeat.paused(), Progress(*columns, console=console, transient=True) as bar:
            task = bar.add_task(title, total=total, remark="")
            yield lambda done, remark="": bar.update(task, completed=done, remark=remark)
    else:
        yield _plain_lines(title, total)


def _plain_lines(title: str, total: int) -> "Advance":
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
