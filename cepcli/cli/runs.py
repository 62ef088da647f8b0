"""`cep runs`: look at runs, resume, compare and publish them."""

from pathlib import Path
from typing import Annotated, Any

import typer

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
from cepcli.errors import ArtifactError

RunsArgument = Annotated[
    list[str], typer.Argument(metavar="RUN…", help="Names, or patterns such as 'walker2d-*_s?'.")
]

app = typer.Typer(no_args_is_help=True, help="List, show, resume, compare and publish runs.")


@app.command("list")
def list_runs(workspace: WorkspaceOption = None, json: JsonOption = False) -> None:
    """Finished and unfinished runs of the workspace."""
    from cepcli.artifacts import read_json
    from cepcli.report.comparison import FIGURES, figure_cell
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
    shown = ("decisions", "success", "return", "queries")
    rows = [
        [s["run"], s["env"], s["agent"], s["prior"], s["cache"],
         *(figure_cell(s, key) for key in shown)]
        for s in finished
    ]  # fmt: skip
    columns = ["run", "env", "agent", "prior", "cache", *(FIGURES[key][0] for key in shown)]
    print_table(f"Runs in {space.root}", columns, rows)
    for name in waiting:
        typer.echo(f"{name} is unfinished: cep runs resume {name}")
    for name, message in broken.items():
        typer.echo(f"{name} is broken: {message}")


@app.command()
def show(run: str, workspace: WorkspaceOption = None, json: JsonOption = False) -> None:
    """A run's result, its files, and the command that made it."""
    from cepcli.artifacts import read_json
    from cepcli.report.records import is_record

    artifact = open_workspace(workspace).open("run", run)
    summary = read_json(artifact.path / "summary.json")
    if json:
        print_json(summary)
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
    for file in ("config.toml", "metrics.jsonl", "curve.png", "tensorboard", "cache"):
        if (artifact.path / file).exists():
            typer.echo(f"  {artifact.path / file}")


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
    typer.echo(f"List them: cep runs list --workspace {output}")


@app.command()
def compare(
    runs: RunsArgument,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Where to put the picture (PNG).")
    ] = None,
    columns: Annotated[
        str | None, typer.Option(help="Figures to show, as success,auc,queries; default all.")
    ] = None,
    baseline: Annotated[
        str | None,
        typer.Option(help="Which of them to relate the scores of the others to, without _s<seed>."),
    ] = None,
    by: Annotated[
        str | None, typer.Option(help="Which figure to relate; default success, or return.")
    ] = None,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print a Markdown table.")] = False,
    workspace: WorkspaceOption = None,
    json: JsonOption = False,
) -> None:
    """Runs side by side, averaged over seeds, as a table and a picture of the learning curves."""
    from cepcli.artifacts import writing
    from cepcli.config import require
    from cepcli.report.comparison import comparison, figures_named, load_groups
    from cepcli.report.curves import plot_comparison

    shown = figures_named(columns)
    if by is not None:
        figures_named(by)
        require(baseline is not None, f"`--by {by}` says what to relate: add --baseline RUN.")
    space = open_workspace(workspace)
    groups = load_groups(space, runs)
    picture = output or space.root / "comparison.png"
    with writing(picture.parent):
        picture.parent.mkdir(parents=True, exist_ok=True)
        plot_comparison(groups, picture)
    rows = comparison(groups, baseline, by)
    if json:
        print_json({"rows": rows, "picture": str(picture)})
        return
    print_comparison(rows, shown, markdown=markdown)
    typer.echo(f"Learning curves: {picture}")


def print_comparison(rows: list[dict[str, Any]], shown: list[str], *, markdown: bool) -> None:
    """The table of `cep runs compare`: means over seeds, 95 % intervals where there are any."""
    from cepcli.report.comparison import FIGURES, cell

    columns = {key: (FIGURES[key][0], FIGURES[key][2]) for key in shown}
    if "score_to_baseline" in rows[0]:
        columns["score_to_baseline"] = ("against the baseline", "+.1%")
    table = [
        [
            row["run"],
            str(row["seeds"]),
            *(cell(row[key], form) for key, (_, form) in columns.items()),
        ]
        for row in rows
    ]
    titles = ["run", "seeds", *(title for title, _ in columns.values())]
    if markdown:
        for line in [titles, ["---"] * len(titles), *table]:
            typer.echo("| " + " | ".join(line) + " |")
    else:
        print_table("Means over seeds [95 % bootstrap interval]", titles, table)
