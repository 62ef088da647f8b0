"""Options that several commands share, and how every command prints its result."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

WorkspaceOption = Annotated[
    Path | None,
    typer.Option("--workspace", help="Where artifacts live; default $CEP_HOME or ./artifacts."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object as the last line.")]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="No progress, only the result.")]
ConfigOption = Annotated[
    Path | None, typer.Option("--config", help="A TOML file with configuration.")
]
SetOption = Annotated[
    list[str] | None, typer.Option("--set", help="A configuration key, as key=value; repeatable.")
]
DeviceOption = Annotated[
    str | None, typer.Option("--device", help="cpu, cuda or cuda:N; default cpu.")
]


def open_workspace(option: Path | None) -> Any:
    """The workspace that `--workspace` names, or the default one."""
    from cepcli.artifacts import Workspace, workspace_root

    return Workspace(workspace_root(option))


def print_json(value: Any) -> None:
    """One JSON object on one line of stdout."""
    typer.echo(json.dumps(value))


def print_table(title: str, columns: list[str], rows: list[list[str]]) -> None:
    """A table on stdout, wide enough for its content when stdout is no terminal."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title, title_justify="left")
    for number, column in enumerate(columns):
        table.add_column(column, justify="left" if number == 0 else "right", overflow="fold")
    for row in rows:
        table.add_row(*row)
    console = Console()
    Console(width=console.width if console.is_terminal else 160).print(table)
