"""`cep ablate`: what each part is worth; variants of one run, several seeds, side by side.

Example: cep ablate cache --dry-run
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cepcli.cli.options import SetOption, WorkOptions
from cepcli.cli.output import Column, estimate, print_json, print_rows
from cepcli.cli.stopping import interruptible

if TYPE_CHECKING:
    from cepcli.experiments.forecast import Forecast
    from cepcli.experiments.plan import SweepPlan, Task
    from cepcli.workspace.artifacts import Workspace


def ablate(
    name: Annotated[
        str | None, typer.Argument(help="Which ablation; without a name they are listed.")
    ] = None,
    env: Annotated[str | None, typer.Option(help="Use another environment.")] = None,
    prior: Annotated[
        str | None,
        typer.Option(help="Use another prior than the one tuned for the environment."),
    ] = None,
    agent: Annotated[str | None, typer.Option(help="Use another agent.")] = None,
    steps: Annotated[int | None, typer.Option(help="Decisions, or control steps, per run.")] = None,
    only: Annotated[
        str | None,
        typer.Option(help="Run only these variants and the baseline; separate them with commas."),
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Number of seeds of every variant.")] = 3,
    jobs: Annotated[int, typer.Option(min=1, help="Parallel runs, one thread each.")] = 2,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Only list the steps, with a time estimate."),
    ] = False,
    set_: SetOption = None,
    *,
    options: WorkOptions,
) -> None:
    """Compare variants of a run; the same command resumes an interrupted sweep."""
    from cepcli.config import given
    from cepcli.experiments.ablations import ablation_named
    from cepcli.experiments.forecast import forecast, in_words
    from cepcli.experiments.plan import plan
    from cepcli.experiments.sweep import make, waiting

    if name is None:
        _list(options.json)
        return
    changes = given(overrides=set_ or [], flags={"agent": agent, "steps": steps})
    space = options.space
    planned = plan(
        ablation_named(name), range(seeds), space, env=env, prior=prior,
        only=() if only is None else [part.strip() for part in only.split(",")], changes=changes,
    )  # fmt: skip
    missing = waiting(planned.tasks, space)
    expected = forecast(missing, space, jobs)
    if dry_run:
        _print_plan(planned, missing, expected, jobs, space, options.json)
        return
    options.notify(f"{len(missing)} of {len(planned.tasks)} steps to do, {jobs} at a time")
    if not options.quiet:
        typer.echo(in_words(expected, jobs), err=True)

    def on_done(task: "Task", done: int) -> None:
        options.notify(f"{done}/{len(missing)} done: {task.what}")

    with interruptible("Finished steps are saved; type the same command again to go on."):
        make(missing, space, jobs, on_done)
    _report(planned, space, options.json)


def _list(json: bool) -> None:
    from cepcli.experiments.ablations import ABLATIONS

    rows = [
        {
            "name": one.name,
            "question": one.question,
            "envs": [setup.env for setup in one.setups],
            "variants": list(one.setups[0].variants),
            "steps": one.setups[0].base["steps"],
        }
        for one in ABLATIONS.values()
    ]
    if json:
        print_json({"ablations": rows})
        return
    columns: dict[str, Column] = {
        "name": "name",
        "question": "question",
        "on": lambda row: f"{row['envs'][0]}, {row['steps']} steps",
        "variants": lambda row: ", ".join(row["variants"]),
    }
    print_rows("Ablations", rows, columns)
    typer.echo("Look at one: cep ablate NAME --dry-run")


def _print_plan(
    plan: "SweepPlan", missing: list["Task"], expected: "Forecast", jobs: int, space: "Workspace",
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
            {"ablation": plan.ablation.name, "env": plan.setup.env, "steps": rows,
             "seconds": expected.total, "unknown": expected.unknown}
        )  # fmt: skip
        return

    def time(row: Mapping[str, Any]) -> str:
        if not row["needed"]:
            return "finished" if row["finished"] else "not needed"
        return "unknown" if row["seconds"] is None else duration(row["seconds"])

    title = f"{plan.ablation.question} On {plan.setup.env}"
    print_rows(title, rows, {"step": "step", "makes": "makes", "time": time})
    typer.echo(in_words(expected, jobs))


def _report(plan: "SweepPlan", space: "Workspace", json: bool) -> None:
    from cepcli.experiments.outcome import groups_of, measured_rows, shown, store, table

    groups = groups_of(plan, space)
    rows, measured = table(plan, groups, space), measured_rows(plan)
    artifact = store(plan, groups, rows, measured, space)
    if json:
        print_json(
            {"ablation": plan.ablation.name, "env": plan.setup.env, "rows": rows,
             "measured": measured, "path": str(artifact.path)}
        )  # fmt: skip
        return
    columns: dict[str, Column] = {"variant": "variant", "seeds": "seeds"}
    columns |= {title: estimate(key, form) for key, title, form in shown(plan, rows)}
    if plan.ablation.frontier:
        columns["unbeaten"] = lambda row: "yes" if row["unbeaten"] else ""
    over = "means over seeds [95 % interval]"
    print_rows(f"{plan.ablation.question} On {plan.setup.env}; {over}", rows, columns)
    measurement = plan.ablation.measurement
    if measurement is not None:
        columns = {"variant": "variant", "case": "case"}
        columns |= {one.title: estimate(one.title, one.form) for one in measurement.columns}
        print_rows(f"{measurement.title}; {over}", measured, columns)
    typer.echo(f"Tables and pictures: {artifact.path}")
