"""`cep ablate`: what each part is worth; variants of one run, several seeds, side by side.

Example: cep ablate cache --dry-run
"""

from typing import TYPE_CHECKING, Annotated, Any

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
from cepcli.cli.prior_display import interruptible, note

if TYPE_CHECKING:
    from cepcli.experiments.forecast import Forecast
    from cepcli.experiments.tasks import Plan, Task
    from cepcli.workspace.artifacts import Workspace


def ablate(
    name: Annotated[
        str | None, typer.Argument(help="Which ablation; without a name they are listed.")
    ] = None,
    env: Annotated[str | None, typer.Option(help="Another environment.")] = None,
    prior: Annotated[
        str | None, typer.Option(help="Another prior than the one tuned for the environment.")
    ] = None,
    agent: Annotated[str | None, typer.Option(help="Another agent.")] = None,
    steps: Annotated[int | None, typer.Option(help="Decisions, or control steps, per run.")] = None,
    only: Annotated[
        str | None, typer.Option(help="Some of the variants, with commas; and the baseline.")
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Seeds of every variant.")] = 3,
    jobs: Annotated[int, typer.Option(min=1, help="Runs side by side, one thread each.")] = 2,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only list what is to be made, and how long it takes.")
    ] = False,
    set_: SetOption = None,
    workspace: WorkspaceOption = None,
    json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Compare variants of a run; goes on where an interrupted sweep stopped."""
    from cepcli.config import given
    from cepcli.experiments.ablations import ablation_named
    from cepcli.experiments.forecast import forecast, in_words
    from cepcli.experiments.plan import plan
    from cepcli.experiments.sweep import make, waiting

    if name is None:
        _list(json)
        return
    flags = {"agent": agent, "steps": steps}
    changes = given(overrides=set_ or [], flags=flags)
    space = open_workspace(workspace)
    planned = plan(
        ablation_named(name), range(seeds), space, env=env, prior=prior,
        only=() if only is None else [part.strip() for part in only.split(",")], changes=changes,
    )  # fmt: skip
    missing = waiting(planned.tasks, space)
    expected = forecast(missing, space, jobs)
    if dry_run:
        _print_plan(planned, missing, expected, jobs, space, json)
        return
    note(quiet)(f"{len(missing)} of {len(planned.tasks)} steps to make, {jobs} at a time")
    if not quiet:
        typer.echo(in_words(expected, jobs), err=True)

    def on_done(task: "Task", done: int) -> None:
        note(quiet)(f"{done}/{len(missing)} made: {task.what}")

    with interruptible("What is finished is kept; type the same command again to go on."):
        make(missing, space, jobs, on_done)
    _report(planned, space, json)


def _list(json: bool) -> None:
    from cepcli.experiments.ablations import ABLATIONS

    rows = [
        {
            "name": one.name,
            "question": one.question,
            "envs": [world.env for world in one.worlds],
            "variants": list(one.worlds[0].variants),
            "steps": one.worlds[0].base["steps"],
        }
        for one in ABLATIONS.values()
    ]
    if json:
        print_json({"ablations": rows})
        return
    cells = [
        [row["name"], row["question"], f"{row['envs'][0]}, {row['steps']} steps",
         ", ".join(row["variants"])]
        for row in rows
    ]  # fmt: skip
    print_table("Ablations", ["name", "question", "on", "variants"], cells)
    typer.echo("Look at one: cep ablate NAME --dry-run")


def _print_plan(
    plan: "Plan", missing: list["Task"], expected: "Forecast", jobs: int, space: "Workspace",
    json: bool,
) -> None:  # fmt: skip
    from cepcli.experiments.forecast import duration, in_words

    names = {task.key for task in missing}
    rows = [
        {
            "step": task.what,
            "makes": task.name,
            "variant": None if task.job is None else task.job.variant,
            "seed": None if task.job is None else task.job.seed,
            "finished": task.is_done(space),
            "needed": task.key in names,
            "seconds": expected.seconds.get(task.key),
        }
        for task in plan.tasks
    ]
    if json:
        print_json(
            {
                "ablation": plan.ablation.name,
                "env": plan.world.env,
                "steps": rows,
                "seconds": expected.total,
                "unknown": expected.unknown,
            }
        )
        return
    cells = []
    for row in rows:
        time = "unknown" if row["seconds"] is None else duration(row["seconds"])
        state = time if row["needed"] else "finished" if row["finished"] else "not needed"
        cells.append([row["step"], row["makes"], state])
    print_table(f"{plan.ablation.question} On {plan.world.env}", ["step", "makes", "time"], cells)
    typer.echo(in_words(expected, jobs))


def _report(plan: "Plan", space: "Workspace", json: bool) -> None:
    from cepcli.experiments.outcome import groups_of, measured_rows, shown, store, table
    from cepcli.report.comparison import cell

    groups = groups_of(plan, space)
    rows, measured = table(plan, groups, space), measured_rows(plan)
    artifact = store(plan, groups, rows, measured, space)
    if json:
        print_json(
            {"ablation": plan.ablation.name, "env": plan.world.env, "rows": rows,
             "measured": measured, "path": str(artifact.path)}
        )  # fmt: skip
        return
    columns = shown(plan, rows)
    marks = ["unbeaten"] if plan.ablation.frontier else []
    cells = [
        [row["variant"], str(row["seeds"]), *(cell(row[key], form) for key, _, form in columns),
         *("yes" if row[mark] else "" for mark in marks)]
        for row in rows
    ]  # fmt: skip
    title = f"{plan.ablation.question} On {plan.world.env}; means over seeds [95 % interval]"
    print_table(title, ["variant", "seeds", *(title for _, title, _ in columns), *marks], cells)
    _print_measured(plan, measured)
    typer.echo(f"Tables and pictures: {artifact.path}")


def _print_measured(plan: "Plan", measured: list[dict[str, Any]]) -> None:
    from cepcli.report.comparison import cell

    measurement = plan.ablation.measurement
    if measurement is None:
        return
    cells = [
        [row["variant"], row["case"],
         *(cell(row[column.title], column.form) for column in measurement.columns)]
        for row in measured
    ]  # fmt: skip
    titles = ["variant", "case", *(column.title for column in measurement.columns)]
    print_table(f"{measurement.title}; means over seeds [95 % interval]", titles, cells)
