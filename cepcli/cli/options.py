"""Options that several commands share, and how every command prints its result."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

#: A table of more columns becomes records in a terminal that is too narrow for it.
_FEW_COLUMNS = 4
_NO_LIMIT = 10_000
#: A column of figures (or blanks) is set flush right.
_FIGURE_BEGINS = ("", *"0123456789-+.")

RunsArgument = Annotated[
    list[str], typer.Argument(metavar="RUN…", help="Names, or patterns such as 'walker2d-*_s?'.")
]
WorkspaceOption = Annotated[
    Path | None,
    typer.Option("--workspace", help="Where artifacts live; default $CEP_HOME or ./artifacts."),
]
OverwriteOption = Annotated[bool, typer.Option("--overwrite", help="Replace what has the name.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object as the last line.")]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="No progress, only the result.")]
ConfigOption = Annotated[
    Path | None, typer.Option("--config", help="A TOML file with configuration.")
]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="A configuration key; repeatable."),
]
DeviceOption = Annotated[
    str | None, typer.Option("--device", help="cpu, cuda or cuda:N; default cpu.")
]
InsecureOption = Annotated[
    bool,
    typer.Option("--insecure", help="Send CEP_SERVER_KEY to another machine over plain http, too."),
]


EnvOptionsOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="An option of the environment; repeatable."),
]


def env_options_of(overrides: list[str] | None) -> dict[str, Any]:
    """Options of an environment by `--set KEY=VALUE`, or `env_options.KEY` as `cep train` has it.

    Whether they exist is found out where they are used.
    """
    from cepcli.config import given

    found = given(overrides=overrides or [])
    section = found.pop("env_options", {})
    return {**found, **(section if isinstance(section, dict) else {"env_options": section})}


def open_workspace(option: Path | None) -> Any:
    """The workspace that `--workspace` names, or the default one."""
    from cepcli.workspace.artifacts import Workspace
    from cepcli.workspace.variables import workspace_root

    return Workspace(workspace_root(option))


def print_json(value: Any) -> None:
    """One JSON object on one line of stdout."""
    typer.echo(json.dumps(value))


def print_table(title: str, columns: list[str], rows: list[list[str]]) -> None:
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
    needed = _widest(table)
    if console.is_terminal and needed > console.width and len(columns) > _FEW_COLUMNS:
        _print_records(title, columns, rows)
        return
    typer.echo(title)
    width = console.width if console.is_terminal else needed
    Console(width=width, markup=False, highlight=False).print(table)


def _widest(table: Any) -> int:
    """The width at which no cell of `table` is folded."""
    from rich.console import Console

    return Console(width=_NO_LIMIT, markup=False).measure(table).maximum


def _print_records(title: str, columns: list[str], rows: list[list[str]]) -> None:
    """The same without a grid, for terminals that are too narrow for one."""
    typer.echo(title)
    width = max(map(len, columns))
    for row in rows:
        typer.echo(f"\n{row[0]}")
        for column, cell in zip(columns[1:], row[1:], strict=True):
            if cell:
                typer.echo(f"  {column:<{width}}  {cell}")
