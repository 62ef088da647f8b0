"""`cep offline collect, list, show`: datasets."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from cepcli.cli.options import (
    ConfigOption,
    JsonOption,
    QuietOption,
    SetOption,
    WorkspaceOption,
    open_workspace,
    print_json,
    print_table,
)
from cepcli.cli.prior_display import interruptible, note, progress_bar
from cepcli.errors import CepError

if TYPE_CHECKING:
    from cepcli.workspace.artifacts import Workspace

DatasetOption = Annotated[
    str,
    typer.Option("--dataset", help="d4rl, a dataset's name, an HDF5 file, or a Minari id."),
]
SplitOption = Annotated[
    str | None, typer.Option("--split", help="Which of D4RL's: medium-replay, medium, expert …")
]
DataEnvOption = Annotated[
    str | None, typer.Option("--env", help="What the data are of; with d4rl by default walker2d.")
]


def collect(
    env: Annotated[str, typer.Option("--env", help="Environment id; see `cep envs list`.")],
    recipe: Annotated[
        str | None,
        typer.Option(help="random, medium, medium-replay, expert, medium-expert or noisy-expert."),
    ] = None,
    transitions: Annotated[int | None, typer.Option(help="Steps to collect.")] = None,
    run: Annotated[
        str | None, typer.Option(help="The trained run that acts; by default the only one.")
    ] = None,
    expert_run: Annotated[
        str | None, typer.Option(help="The run that is the expert of medium-expert.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of every random stream.")] = None,
    name: Annotated[str | None, typer.Option(help="Its name; by default ENV-RECIPE.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace what has it.")] = False,
    config: ConfigOption = None,
    set_: SetOption = None,
    workspace: WorkspaceOption = None,
    json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Collect a dataset; typed again after an interruption, it goes on."""
    from dataclasses import replace

    from cepcli.config import resolve
    from cepcli.datasets.collect import CollectConfig, default_dataset_name
    from cepcli.datasets.collect import collect as collect_dataset
    from cepcli.datasets.stored import card_of
    from cepcli.envs.catalog import full_options
    from cepcli.experiments.collecting import plan

    flags = {
        "env": env, "recipe": recipe, "transitions": transitions, "run": run,
        "expert_run": expert_run, "seed": seed,
    }  # fmt: skip
    settings = resolve(CollectConfig, file=config, overrides=set_ or [], flags=flags)
    settings = replace(settings, env_options=full_options(settings.env, settings.env_options))
    space, say = open_workspace(workspace), note(quiet)
    name = default_dataset_name(settings) if name is None else name
    space.check_new("dataset", name, overwrite=overwrite)
    planned = plan(settings, space, say)
    total = sum(stage.steps for stage in planned.stages)
    with (
        interruptible("What was played is kept; type the command again to go on."),
        progress_bar(f"Collecting {name}", total, quiet) as advance,
    ):
        artifact = collect_dataset(
            planned, space, name, overwrite=overwrite, advance=advance, notify=say
        )
    _print_card(name, artifact.path, card_of(artifact), json=json)


def list_datasets(workspace: WorkspaceOption = None, json: JsonOption = False) -> None:
    """The datasets of the workspace, those that ship with cep, and installed Minari datasets."""
    from cepcli.datasets.minari_data import installed
    from cepcli.datasets.resolve import published_files

    space = open_workspace(workspace)
    rows, broken = _datasets(space)
    files, minari = [str(path) for path in published_files(space)], installed()
    if json:
        print_json({"datasets": rows, "broken": broken, "files": files, "minari": minari})
        return
    table = [
        [row["name"], row["env"], row["recipe"], str(row["transitions"]), str(row["episodes"]),
         f"{row['return_mean']:.4g}", _figure(row["normalised_score"], ".1f"),
         _figure(row["success_rate"], ".0%"), "ships with cep" if row["shipped"] else ""]
        for row in rows
    ]  # fmt: skip
    columns = [
        "dataset", "env", "recipe", "transitions", "episodes", "return", "normalised", "success",
        "",
    ]  # fmt: skip
    print_table(f"Datasets in {space.root}", columns, table)
    for title, found in (("D4RL file", files), ("Minari dataset", minari)):
        for one in found:
            typer.echo(f"{title}: {one}")
    for name, message in broken.items():
        typer.echo(f"{name} is broken: {message}")


def show_dataset(
    dataset: Annotated[
        str, typer.Argument(help="d4rl, a dataset's name, an HDF5 file, or a Minari id.")
    ],
    env: DataEnvOption = None,
    split: SplitOption = None,
    workspace: WorkspaceOption = None,
    json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """A dataset's counts, its returns as a histogram, how good its behaviour is, its labels."""
    from cepcli.datasets.dataset import load_dataset
    from cepcli.datasets.labels import labels_of
    from cepcli.datasets.quality import histogram, histogram_lines, quality_of
    from cepcli.datasets.stored import card_of

    space = open_workspace(workspace)
    data = load_dataset(dataset, env=env, split=split, workspace=space, notify=note(quiet))
    measured, bins = quality_of(data), histogram(data.returns())
    if dataset in space.names("dataset"):  # where control is solved is in no published layout
        measured["success_rate"] = card_of(space.open("dataset", dataset))["success_rate"]
    labels = labels_of(data, space)
    if json:
        print_json({
            "dataset": dataset, "env": data.env, "source": data.source, **measured,
            "histogram": [{"from": a, "to": b, "episodes": n} for a, b, n in bins],
            "labels": labels,
        })  # fmt: skip
        return
    typer.echo(data.source)
    _print_quality(measured)
    typer.echo("Episodes by return:")
    for line in histogram_lines(bins):
        typer.echo(f"  {line}")
    typer.echo(f"Labels: {', '.join(labels) or 'none'}")


def _print_quality(measured: dict[str, Any]) -> None:
    typer.echo(
        f"  {measured['transitions']} transitions, {measured['episodes']} episodes "
        f"({measured['terminated']} ended, {measured['truncated']} cut) of "
        f"{measured['length_mean']:.1f} steps"
    )
    typer.echo(
        f"  return {measured['return_mean']:.4g}, from {measured['return_min']:.4g} to "
        f"{measured['return_max']:.4g}"
    )
    if measured["normalised_score"] is not None:
        typer.echo(f"  normalised score {measured['normalised_score']:.1f}")
    if measured["success_rate"] is not None:
        typer.echo(f"  success {measured['success_rate']:.1%}")


def _print_card(name: str, path: Any, card: dict[str, Any], *, json: bool) -> None:
    if json:
        print_json({"dataset": name, "path": str(path), **card})
        return
    typer.echo(f"Dataset {name}: {card['source']}")
    _print_quality(card)
    typer.echo(f"  {path}")


def _datasets(space: "Workspace") -> tuple[list[dict[str, Any]], dict[str, str]]:
    """What is known of every dataset, and what is wrong with those of which nothing is."""
    from cepcli.datasets.stored import card_of
    from cepcli.workspace.variables import shipped_root

    rows, broken = [], {}
    for name in space.names("dataset"):
        try:
            artifact = space.open("dataset", name)
            shipped = artifact.path.is_relative_to(shipped_root())
            rows.append({"name": name, "shipped": shipped, **card_of(artifact)})
        except CepError as error:
            broken[name] = error.message
    return rows, broken


def _figure(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)
