"""`cep runs`: look at runs, resume, compare and publish them."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cepcli.cli.compare import compare
from cepcli.cli.options import (
    JsonOption,
    OverwriteOption,
    QuietOption,
    RunsArgument,
    WorkspaceOption,
    open_workspace,
    print_json,
    print_table,
)
from cepcli.cli.train import print_summary, run_with_display
from cepcli.errors import ArtifactError

if TYPE_CHECKING:
    from cepcli.artifacts import Workspace

app = typer.Typer(no_args_is_help=True, help="List, show, resume, compare and publish runs.")


@app.command("list")
def list_runs(workspace: WorkspaceOption = None, json: JsonOption = False) -> None:
    """Finished and unfinished runs of the workspace."""
    from cepcli.artifacts import read_json
    from cepcli.report.comparison import FIGURES, figure_cell
    from cepcli.report.unfinished import read_unfinished
    from cepcli.run_directory import unfinished

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

    from cepcli.artifacts import read_json
    from cepcli.report.records import is_record
    from cepcli.report.warnings import run_warnings

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
    from cepcli.run_directory import is_offline

    space = open_workspace(workspace)
    if is_offline(space, run):
        from cepcli.cli.offline_learn import print_offline_summary, resume_offline

        summary = resume_offline(run, space, quiet)
        print_json(summary) if json else print_offline_summary(summary)
        return
    from cepcli.agents.runs import resume_run

    summary = run_with_display(
        run, quiet, space, lambda hooks, notify: resume_run(space, run, hooks, notify)
    )
    print_json(summary) if json else print_summary(summary)


@app.command()
def export(
    runs: RunsArgument,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="The workspace to put the records into.")
    ],
    overwrite: OverwriteOption = False,
    workspace: WorkspaceOption = None,
    json: JsonOption = False,
) -> None:
    """Records of finished runs, to publish: settings, result, metrics; no checkpoint, no cache."""
    from cepcli.report.records import export_record

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
