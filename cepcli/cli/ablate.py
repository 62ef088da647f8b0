"""`cep ablate`: what each part is worth; variants of one run, several seeds, side by side.

Example: cep ablate cache --dry-run
"""

from typing import TYPE_CHECKING, Annotated

import typer

from cepcli.cli.options import (
    JsonOption,
    QuietOption,
    SetOption,
    WorkspaceOption,
    open_workspace,
    print_json,
    print_table,
)

if TYPE_CHECKING:
    from cepcli.artifacts import Workspace
    from cepcli.experiments.ablation import Ablation, Job


def ablate(
    name: Annotated[str, typer.Argument(help="Which ablation: cache.")],
    env: Annotated[str | None, typer.Option(help="Another environment.")] = None,
    prior: Annotated[str | None, typer.Option(help="Another prior.")] = None,
    agent: Annotated[str | None, typer.Option(help="Another agent.")] = None,
    steps: Annotated[int | None, typer.Option(help="Decisions per run.")] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Seeds of every variant.")] = 3,
    jobs: Annotated[int, typer.Option(min=1, help="Runs side by side, one thread each.")] = 2,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only list the runs.")] = False,
    set_: SetOption = None,
    workspace: WorkspaceOption = None,
    json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Compare variants; goes on where an interrupted sweep stopped."""
    from cepcli.config import given
    from cepcli.experiments.ablation import ablation_named, plan, run_jobs, waiting

    ablation = ablation_named(name)
    flags = {"env": env, "prior": prior, "agent": agent, "steps": steps}
    changes = given(overrides=set_ or [], flags=flags)
    space = open_workspace(workspace)
    planned = plan(ablation, range(seeds), changes)
    missing = waiting(planned, space)
    if dry_run:
        _print_plan(ablation, planned, missing, json)
        return
    if not quiet:
        typer.echo(f"{len(missing)} of {len(planned)} runs to make, {jobs} at a time …", err=True)

    def on_done(job: "Job", done: int) -> None:
        if not quiet:
            typer.echo(f"{done}/{len(missing)}: {job.variant}, seed {job.seed}", err=True)

    run_jobs(missing, space, jobs, on_done)
    _report(ablation, planned, space, json)


def _print_plan(
    ablation: "Ablation", planned: list["Job"], missing: list["Job"], json: bool
) -> None:
    names = {job.run for job in missing}
    rows = [
        {"variant": job.variant, "seed": job.seed, "run": job.run, "finished": job.run not in names}
        for job in planned
    ]
    if json:
        print_json({"ablation": ablation.name, "runs": rows})
        return
    cells = [[r["variant"], str(r["seed"]), r["run"], "yes" if r["finished"] else ""] for r in rows]
    print_table(ablation.question, ["variant", "seed", "run", "finished"], cells)


def _report(ablation: "Ablation", planned: list["Job"], space: "Workspace", json: bool) -> None:
    from cepcli.experiments.ablation import groups_of, store, table
    from cepcli.report.comparison import FIGURES, cell

    groups = groups_of(planned, space)
    rows = table(ablation, groups)
    artifact = store(ablation, planned, groups, rows, space)
    if json:
        print_json({"ablation": ablation.name, "rows": rows, "path": str(artifact.path)})
        return
    titles = [FIGURES[key][0] for key in ablation.figures]
    cells = [
        [row["variant"], str(row["seeds"]), cell(row["retention"], ".0%"),
         *(cell(row[key], FIGURES[key][2]) for key in ablation.figures)]
        for row in rows
    ]  # fmt: skip
    title = f"{ablation.question} Means over seeds [95 % bootstrap interval]"
    print_table(title, ["variant", "seeds", f"retention of {ablation.baseline}", *titles], cells)
    typer.echo(f"Table and picture: {artifact.path}")
