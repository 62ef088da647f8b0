"""`cep runs`: look at runs, resume, compare and publish them."""

import shlex
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cepcli.cli.compare import compare
from cepcli.cli.options import CommandGroup, OverwriteOption, ReadOptions, WorkOptions
from cepcli.cli.output import Column, open_workspace, print_json, print_rows
from cepcli.cli.summaries import print_summary
from cepcli.cli.train import resume_run
from cepcli.errors import ArtifactError, ConfigError

if TYPE_CHECKING:
    from cepcli.report.saved_runs import SavedRun

app = CommandGroup(no_args_is_help=True, help="List, show, resume, compare and publish runs.")

#: Settings that say what an unfinished run is.
_TOLD = ("env", "dataset", "agent", "algorithm", "prior", "seed")


@app.command("list")
def list_runs(*, options: ReadOptions) -> None:
    """List the finished and unfinished runs of the workspace."""
    from cepcli.report.comparison import FIGURES, figure_cell
    from cepcli.report.saved_runs import read_unfinished
    from cepcli.workspace.artifacts import read_json
    from cepcli.workspace.run_directory import unfinished

    space = options.space
    finished, broken = [], {}
    for name in space.names("run"):
        try:
            finished.append(read_json(space.open("run", name).path / "summary.json"))
        except ArtifactError as error:
            broken[name] = error.message
    waiting = unfinished(space)
    if options.json:
        print_json({"finished": finished, "unfinished": waiting, "broken": broken})
        return
    if not space.root.is_dir():
        typer.echo(f"There is no workspace `{space.root}`.")
        typer.echo(f"A first run makes it: cep train --env ID{space.option}")
        return
    columns: dict[str, Column] = {key: key for key in ("run", "env", "agent", "prior", "cache")}
    for key in ("decisions", "success", "return", "queries"):
        columns[FIGURES[key][0]] = lambda summary, key=key: figure_cell(summary, key)
    print_rows(f"Runs in {space.root}", finished, columns)
    for name in waiting:
        typer.echo(read_unfinished(space, name).in_words())
    for name, message in broken.items():
        typer.echo(f"{name} is broken: {message}")


@app.command()
def show(
    run: Annotated[str, typer.Argument(help="A run, finished or not.")],
    against: Annotated[
        str | None,
        typer.Option(
            help="Run without a cache to compare the score with; default the one of the same name "
            "with `off` in place of the cache mode."
        ),
    ] = None,
    *,
    options: ReadOptions,
) -> None:
    """Show a run: its result, its files, the command that made it, and warnings.

    Of an unfinished run: how far it is, and the command that resumes it.
    """
    from dataclasses import asdict

    from cepcli.report.saved_runs import read_run
    from cepcli.report.warnings import run_warnings

    found = read_run(options.space, run)
    if not found.finished:
        _show_unfinished(found, options.json)
        return
    warnings = run_warnings(options.space, run, against)
    if options.json:
        print_json({**found.summary, "warnings": [asdict(warning) for warning in warnings]})
        return
    print_summary(found.summary)
    typer.echo(f"  made by: {found.manifest['command']}")
    typer.echo(f"  created: {found.manifest['created']} on {found.manifest['host']}")
    if found.is_record:
        typer.echo("  a record: it can be compared, not evaluated")
    _list_files(found.path)
    for warning in warnings:
        typer.echo(f"Warning: {warning.in_words()}")


def _show_unfinished(run: "SavedRun", json: bool) -> None:
    """How far a run is, by its settings, its metrics and its checkpoint."""
    evaluation = run.last_evaluation
    told = {key: run.config[key] for key in _TOLD if key in run.config}
    if json:
        print_json(
            {"run": run.name, "finished": False, "running": run.running, "step": run.step,
             "steps": run.steps, **told, "evaluation": evaluation, "resume": run.resume}
        )  # fmt: skip
        return
    typer.echo(run.in_words())
    typer.echo("  " + ", ".join(f"{key} {value}" for key, value in told.items()))
    if evaluation is not None:
        figures = {k.removeprefix("eval/"): v for k, v in evaluation.items() if k != "step"}
        shown = ", ".join(f"{key} {value:.4g}" for key, value in figures.items())
        typer.echo(f"  last evaluation, at step {evaluation['step']}: {shown}")
    _list_files(run.path)


def _list_files(path: Path) -> None:
    for file in ("config.toml", "metrics.jsonl", "curve.png", "tensorboard", "cache"):
        if (path / file).exists():
            typer.echo(f"  {path / file}")


@app.command()
def resume(
    run: Annotated[str, typer.Argument(help="An unfinished run.")], *, options: WorkOptions
) -> None:
    """Resume an unfinished run from its last checkpoint, with its own settings."""
    summary = resume_run(run, options)
    print_json(summary) if options.json else print_summary(summary)


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
            metavar="RUN…",
            help="Names, or patterns such as 'walker2d-*_s?'; for a table default all runs.",
        ),
    ] = None,
    form: Annotated[
        Form | None,
        typer.Option("--format", help="What to write; default by the ending of --output."),
    ] = None,
    metrics: Annotated[
        bool,
        typer.Option("--metrics", help="Write all metrics: run, step, metric, value."),
    ] = False,
    overwrite: OverwriteOption = False,
    *,
    options: ReadOptions,
) -> None:
    """Export runs as a table (CSV or Parquet), or as records to publish.

    A table has a row for each run, finished or not, with its settings and result; with --metrics, a
    row for each logged number. A record is a finished run without its checkpoint and cache.
    """
    form = _form(output, form)
    if form is Form.record:
        if metrics:
            raise ConfigError(
                "`--metrics` is for tables; a record contains the metrics anyway.",
                "Name a file: -o metrics.csv",
            )
        _export_records(runs, output, overwrite, options)
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
    frame = (load_metrics if metrics else load_runs)(options.workspace, runs)
    write_frame(frame, output, form.value)
    if options.json:
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
    runs: list[str] | None, output: Path, overwrite: bool, options: ReadOptions
) -> None:
    from cepcli.report.saved_runs import export_record

    if not runs:
        raise ConfigError(
            "Records are made of the runs that you name, and none was named.",
            "Name some, as 'walker2d-*', or a file for a table of all: -o runs.csv",
        )
    space, to = options.space, open_workspace(output)
    names = space.matching("run", runs)
    made = [str(export_record(space, name, to, overwrite=overwrite).path) for name in names]
    if options.json:
        print_json({"records": made})
        return
    for path in made:
        typer.echo(path)
    typer.echo(f"List them: cep runs list --workspace {shlex.quote(str(output))}")


app.command()(compare)
