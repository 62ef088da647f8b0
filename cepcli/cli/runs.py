"""`cep runs`: look at runs, resume, compare and publish them."""

import shlex
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cepcli.cli.compare import compare
from cepcli.cli.options import (
    JsonOption,
    OverwriteOption,
    QuietOption,
    WorkspaceOption,
    open_workspace,
    print_json,
    print_table,
)
from cepcli.cli.train import print_summary, run_with_display
from cepcli.errors import ArtifactError, ConfigError

if TYPE_CHECKING:
    from cepcli.workspace.artifacts import Workspace

app = typer.Typer(no_args_is_help=True, help="List, show, resume, compare and publish runs.")


@app.command("list")
def list_runs(workspace: WorkspaceOption = None, json: JsonOption = False) -> None:
    """Finished and unfinished runs of the workspace."""
    from cepcli.report.comparison import FIGURES, figure_cell
    from cepcli.report.unfinished import read_unfinished
    from cepcli.workspace.artifacts import read_json
    from cepcli.workspace.run_directory import unfinished

    space = open_workspace(workspace)
    finished, broken = [], {}
    for name in space.names("run"):
        try:
            finished.append(read_json(space.open("run", name).path / "summary.json"))
        except ArtifactError as error:
            broken[name] = error.message
    waiting = unfinished(space)
    if json:
        print_json({"finished": finished, "unfinished": waiting, "broken": broken})
        return
    if not space.root.is_dir():
        typer.echo(f"There is no workspace `{space.root}`.")
        typer.echo(f"Make one by a first run: cep train --env ID{space.option}")
        return
    shown = ("decisions", "success", "return", "queries")
    rows = [
        [s["run"], s["env"], s["agent"], s["prior"], s["cache"],
         *(figure_cell(s, key) for key in shown)]
        for s in finished
    ]  # fmt: skip
    columns = ["run", "env", "agent", "prior", "cache", *(FIGURES[key][0] for key in shown)]
    print_table(f"Runs in {space.root}", columns, rows)
    for name in waiting:
        typer.echo(read_unfinished(space, name).in_words())
    for name, message in broken.items():
        typer.echo(f"{name} is broken: {message}")


@app.command()
def show(
    run: str,
    against: Annotated[
        str | None,
        typer.Option(
            help="The same run without a cache, to hold its score against; default: the one that "
            "has its name, but for `off` instead of the cache's mode."
        ),
    ] = None,
    workspace: WorkspaceOption = None,
    json: JsonOption = False,
) -> None:
    """A run's result, its files, the command that made it, and what there is to warn of.

    Of an unfinished run: where it stands, and how to go on with it.
    """
    from dataclasses import asdict

    from cepcli.report.records import is_record
    from cepcli.report.warnings import run_warnings
    from cepcli.workspace.artifacts import read_json

    space = open_workspace(workspace)
    if space.partial("run", run).is_dir() and not space.exists("run", run):
        _show_unfinished(space, run, json)
        return
    artifact = space.open("run", run)
    summary = read_json(artifact.path / "summary.json")
    warnings = run_warnings(space, run, against)
    if json:
        print_json({**summary, "warnings": [asdict(warning) for warning in warnings]})
        return
    if "dataset" in summary:
        from cepcli.cli.offline_learn import print_offline_summary

        print_offline_summary(summary)
    else:
        print_summary(summary)
    typer.echo(f"  made by: {artifact.manifest['command']}")
    typer.echo(f"  created: {artifact.manifest['created']} on {artifact.manifest['host']}")
    if is_record(artifact):
        typer.echo("  a record: it can be compared, not evaluated")
    _list_files(artifact.path)
    for warning in warnings:
        typer.echo(f"Warning: {warning.in_words()}")


def _show_unfinished(space: "Workspace", run: str, json: bool) -> None:
    """Where a run stands: what its settings, its metrics and its checkpoint tell."""
    from cepcli.report.unfinished import last_evaluation, read_unfinished, settings_of

    path = space.partial("run", run)
    found, settings, evaluation = (
        read_unfinished(space, run),
        settings_of(path),
        last_evaluation(path),
    )
    told = {key: settings[key] for key in _TOLD if key in settings}
    if json:
        print_json(
            {"run": run, "finished": False, "running": found.running, "step": found.step,
             "steps": found.steps, **told, "evaluation": evaluation, "resume": found.resume}
        )  # fmt: skip
        return
    typer.echo(found.in_words())
    typer.echo("  " + ", ".join(f"{key} {value}" for key, value in told.items()))
    if evaluation is not None:
        figures = {k.removeprefix("eval/"): v for k, v in evaluation.items() if k != "step"}
        shown = ", ".join(f"{key} {value:.4g}" for key, value in figures.items())
        typer.echo(f"  last evaluation, at step {evaluation['step']}: {shown}")
    _list_files(path)


#: Settings that say what a run is.
_TOLD = ("env", "dataset", "agent", "algorithm", "prior", "seed")


def _list_files(path: Path) -> None:
    for file in ("config.toml", "metrics.jsonl", "curve.png", "tensorboard", "cache"):
        if (path / file).exists():
            typer.echo(f"  {path / file}")


@app.command()
def resume(
    run: str,
    workspace: WorkspaceOption = None,
    json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Go on with an unfinished run, exactly where its last checkpoint stands."""
    from cepcli.workspace.run_directory import is_offline

    space = open_workspace(workspace)
    if is_offline(space, run):
        from cepcli.cli.offline_learn import print_offline_summary, resume_offline

        summary = resume_offline(run, space, quiet)
        print_json(summary) if json else print_offline_summary(summary)
        return
    from cepcli.runs.engine import resume_run

    summary = run_with_display(
        run, quiet, space, lambda hooks, notify: resume_run(space, run, hooks, notify)
    )
    print_json(summary) if json else print_summary(summary)


class Form(StrEnum):
    """What `cep runs export` writes."""

    record = "record"
    csv = "csv"
    parquet = "parquet"


@app.command()
def export(
    output: Annotated[
        Path,
        typer.Option("--output", "-o", help="FILE.csv, FILE.parquet, or a workspace for records."),
    ],
    runs: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="RUN…", help="Names, or patterns such as 'walker2d-*_s?'; a table: all runs."
        ),
    ] = None,
    form: Annotated[
        Form | None, typer.Option("--format", help="What to write; default: by --output's ending.")
    ] = None,
    metrics: Annotated[
        bool,
        typer.Option("--metrics", help="A table of all metrics: run, step, metric, value."),
    ] = False,
    overwrite: OverwriteOption = False,
    workspace: WorkspaceOption = None,
    json: JsonOption = False,
) -> None:
    """Runs as a table (CSV or Parquet), or as records to publish.

    A table has a row for each run, finished or not: settings and result; with --metrics, a row for
    each logged number. A record is a finished run without its checkpoint and cache.
    """
    form = _form(output, form)
    if form is Form.record:
        if metrics:
            raise ConfigError(
                "`--metrics` is for tables, but a record was to be written; it has the metrics.",
                "Name a file: -o metrics.csv",
            )
        _export_records(runs, output, overwrite, workspace, json)
        return
    if overwrite:
        raise ConfigError(
            "`--overwrite` is for records; a table replaces its file.", "Leave it out."
        )
    from cepcli.report.frames import load_metrics, load_runs, write_frame
    from cepcli.workspace.artifacts import check_writable

    if output.is_dir():
        raise ArtifactError(f"`{output}` is a directory.", f"Name a file: -o runs.{form}")
    check_writable(output)
    frame = (load_metrics if metrics else load_runs)(workspace, runs)
    write_frame(frame, output, form.value)
    if json:
        print_json({"path": str(output), "rows": len(frame), "columns": len(frame.columns)})
        return
    typer.echo(f"{output}: {len(frame)} rows, {len(frame.columns)} columns")


def _form(output: Path, form: Form | None) -> Form:
    """The format that was asked for, or that the file's ending says."""
    ending = output.suffix.removeprefix(".").lower()
    by_ending = Form(ending) if ending in ("csv", "parquet") else None
    if form is not None and by_ending is not None and form is not by_ending:
        raise ConfigError(
            f"`{output}` ends in `.{ending}`, but `--format {form}` was given.",
            "Leave --format out, or name another file.",
        )
    return form or by_ending or Form.record


def _export_records(
    runs: list[str] | None, output: Path, overwrite: bool, workspace: Path | None, json: bool
) -> None:
    from cepcli.report.records import export_record

    if not runs:
        raise ConfigError(
            "No run was named to make a record of.",
            "Name some, as 'walker2d-*', or a file for a table of all: -o runs.csv",
        )
    space, to = open_workspace(workspace), open_workspace(output)
    names = space.matching("run", runs)
    made = [str(export_record(space, name, to, overwrite=overwrite).path) for name in names]
    if json:
        print_json({"records": made})
        return
    for path in made:
        typer.echo(path)
    typer.echo(f"List them: cep runs list --workspace {shlex.quote(str(output))}")


app.command()(compare)
