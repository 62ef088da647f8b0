"""`cep offline`: datasets, their labels by a prior, and learning from them alone."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cepcli.cli.options import (
    CommandGroup,
    DeviceOption,
    EnvOption,
    InsecureOption,
    LLMOptions,
    OverwriteOption,
    ReadOptions,
    SeedOption,
    SeriesOptions,
    SettingsOptions,
    WorkOptions,
)
from cepcli.cli.output import print_json, print_rows
from cepcli.cli.stopping import interruptible
from cepcli.cli.train import train_series
from cepcli.errors import CepError

if TYPE_CHECKING:
    from cepcli.workspace.artifacts import Workspace

app = CommandGroup(no_args_is_help=True, help="Datasets, and learning from them alone.")

_LABELS_SAVED = "The answers so far are saved; type the command again to go on."
_DATASET_HELP = "d4rl, the name of a dataset, an HDF5 file, or a Minari id."
_SplitOption = Annotated[
    str | None, typer.Option("--split", help="Split of D4RL: medium-replay, medium, expert, …")
]
_DataEnvOption = Annotated[
    str | None, typer.Option("--env", help="Environment of the data; with d4rl default walker2d.")
]


@dataclass(frozen=True)
class DatasetOptions:
    """Which dataset."""

    dataset: Annotated[str, typer.Option("--dataset", help=_DATASET_HELP)] = "d4rl"
    env: _DataEnvOption = None
    split: _SplitOption = None


@app.command()
def collect(
    env: EnvOption,
    recipe: Annotated[
        str | None,
        typer.Option(help="random, medium, medium-replay, expert, medium-expert or noisy-expert."),
    ] = None,
    transitions: Annotated[int | None, typer.Option(help="Steps to collect.")] = None,
    run: Annotated[
        str | None, typer.Option(help="The trained run that acts; default the only one.")
    ] = None,
    expert_run: Annotated[
        str | None, typer.Option(help="The run that acts as the expert of medium-expert.")
    ] = None,
    seed: SeedOption = None,
    name: Annotated[
        str | None, typer.Option(help="Name of the dataset; default ENV-RECIPE.")
    ] = None,
    overwrite: OverwriteOption = False,
    *,
    settings: SettingsOptions,
    options: WorkOptions,
) -> None:
    """Collect a dataset; the same command continues after an interruption."""
    from dataclasses import replace

    from cepcli.datasets.collect import CollectConfig, default_dataset_name
    from cepcli.datasets.collect import collect as collect_dataset
    from cepcli.datasets.stored import card_of
    from cepcli.envs.catalog import full_options
    from cepcli.experiments.collecting import plan

    config = settings.resolve(
        CollectConfig,
        {"env": env, "recipe": recipe, "transitions": transitions, "run": run,
         "expert_run": expert_run, "seed": seed},
    )  # fmt: skip
    config = replace(config, env_options=full_options(config.env, config.env_options))
    space = options.space
    name = default_dataset_name(config) if name is None else name
    space.check_new("dataset", name, overwrite=overwrite)
    planned = plan(config, space, options.notify)
    total = sum(stage.steps for stage in planned.stages)
    with (
        interruptible("The steps so far are saved; type the command again to go on."),
        options.progress(f"Collecting {name}", total) as advance,
    ):
        artifact = collect_dataset(
            planned, space, name, overwrite=overwrite, advance=advance, notify=options.notify
        )
    card = card_of(artifact)
    if options.json:
        print_json({"dataset": name, "path": str(artifact.path), **card})
        return
    typer.echo(f"Dataset {name}: {card['source']}")
    _print_quality(card)
    typer.echo(f"  {artifact.path}")


@app.command("list")
def list_datasets(*, options: ReadOptions) -> None:
    """List the datasets of the workspace, those that ship with cep, and installed Minari ones."""
    from cepcli.datasets.load import published_files
    from cepcli.datasets.minari_data import installed

    space = options.space
    rows, broken = _datasets(space)
    files, minari = [str(path) for path in published_files(space)], installed()
    if options.json:
        print_json({"datasets": rows, "broken": broken, "files": files, "minari": minari})
        return
    columns = {
        "dataset": "name", "env": "env", "recipe": "recipe", "transitions": "transitions",
        "episodes": "episodes", "return": "return_mean:.4g", "normalised": "normalised_score:.1f",
        "success": "success_rate:.0%",
        "": lambda row: "ships with cep" if row["shipped"] else "",
    }  # fmt: skip
    print_rows(f"Datasets in {space.root}", rows, columns)
    for title, found in (("D4RL file", files), ("Minari dataset", minari)):
        for one in found:
            typer.echo(f"{title}: {one}")
    for name, message in broken.items():
        typer.echo(f"{name} is broken: {message}")


def _datasets(space: "Workspace") -> tuple[list[dict[str, Any]], dict[str, str]]:
    """The card of every dataset, and what is wrong with those that cannot be opened."""
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


@app.command("show")
def show_dataset(
    dataset: Annotated[str, typer.Argument(help=_DATASET_HELP)],
    env: _DataEnvOption = None,
    split: _SplitOption = None,
    *,
    options: WorkOptions,
) -> None:
    """Show a dataset: its counts, a histogram of its returns, its scores and its labels."""
    from cepcli.datasets.dataset import histogram, histogram_lines, quality_of
    from cepcli.datasets.labels import labels_of
    from cepcli.datasets.load import load_dataset
    from cepcli.datasets.stored import card_of

    space = options.space
    data = load_dataset(dataset, env=env, split=split, workspace=space, notify=options.notify)
    measured, bins = quality_of(data), histogram(data.returns())
    if dataset in space.names("dataset"):  # published layouts do not hold when control is solved
        measured["success_rate"] = card_of(space.open("dataset", dataset))["success_rate"]
    labels = labels_of(data, space)
    if options.json:
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
        "  {transitions} transitions, {episodes} episodes ({terminated} ended, {truncated} cut) of "
        "{length_mean:.1f} steps\n"
        "  return {return_mean:.4g}, from {return_min:.4g} to {return_max:.4g}".format(**measured)
    )
    if measured["normalised_score"] is not None:
        typer.echo(f"  normalised score {measured['normalised_score']:.1f}")
    if measured["success_rate"] is not None:
        typer.echo(f"  success {measured['success_rate']:.1%}")


@app.command()
def label(
    prior: Annotated[
        str | None,
        typer.Option(help="The prior to ask; default the one tuned for the family, or embedded."),
    ] = None,
    cache: Annotated[
        str | None, typer.Option(help="certified (default), exact, off, lru, fifo or surrogate.")
    ] = None,
    states: Annotated[
        int | None, typer.Option(help="Label only the first N to see the cost; stores nothing.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of audits and of learned keys.")] = None,
    overwrite: OverwriteOption = False,
    device: DeviceOption = None,
    *,
    data: DatasetOptions,
    llm: LLMOptions,
    settings: SettingsOptions,
    options: WorkOptions,
) -> None:
    """Ask a prior about every state of a dataset, once; the same command continues."""
    from cepcli.datasets.load import load_dataset
    from cepcli.runs.preparation import chosen_label_config
    from cepcli.runs.preparation import label as label_dataset

    space, dataset = options.space, data.dataset
    loaded = load_dataset(
        dataset, env=data.env, split=data.split, workspace=space, notify=options.notify
    )
    values = settings.given(
        {"prior": prior, "cache.mode": cache, "states": states, "seed": seed, "device": device,
         **llm.flags()}
    )  # fmt: skip
    config = chosen_label_config(dataset, loaded, values, space, options.notify)
    with interruptible(_LABELS_SAVED):
        found = label_dataset(
            dataset, loaded, config, space, overwrite=overwrite, listener=options.listener
        )
    print_json(found) if options.json else _print_labels(dataset, found)


def _print_labels(dataset: str, found: dict[str, Any]) -> None:
    """What labels cost, in a few lines."""
    queries = found["queries"]["total"]
    hits = ", ".join(f"{count} {kind} hits" for kind, count in found["hits"].items())
    typer.echo(
        f"{found['states']} states of {dataset} labelled by {found['prior']}: {queries} queries "
        f"({found['queries_per_state']:.3f} per state), cache {found['cache']}\n"
        f"  {hits}, {found['queries']['audits']} audits\n"
        f"  LLM {found['llm_seconds_recorded']:.1f} s ({found['llm_seconds']:.1f} s of it now), "
        f"wall {found['wall_seconds']:.1f} s"
    )
    typer.echo(f"  {found['path']}" if "path" in found else "  nothing is stored (--states)")


@dataclass(frozen=True)
class LearnOptions(DatasetOptions):
    """Which learner, and for how long."""

    steps: Annotated[int | None, typer.Option("--steps", help="Gradient steps.")] = None
    seed: SeedOption = None
    eval_env: Annotated[
        bool | None,
        typer.Option(
            "--eval-env/--no-eval-env",
            help="Evaluate in the environment; turn it off where there is none.",
        ),
    ] = None
    device: DeviceOption = None


@app.command()
def cql(
    *, learn: LearnOptions, series: SeriesOptions, settings: SettingsOptions, options: WorkOptions
) -> None:
    """Conservative Q-learning, of controls or of text; asks no prior."""
    _learn("cql", learn, series, settings, options)


@app.command()
def cql_prior(
    prior: Annotated[
        str | None,
        typer.Option(help="The prior of the labels; default the one for the family, or embedded."),
    ] = None,
    insecure: InsecureOption = False,
    *,
    learn: LearnOptions,
    series: SeriesOptions,
    settings: SettingsOptions,
    options: WorkOptions,
) -> None:
    """Conservative Q-learning whose regulariser draws its actions from the prior.

    A dataset without labels by that prior is labelled first, as by `cep offline label`.
    """
    flags = {"prior": prior, "llm.server.insecure": insecure or None}
    _learn("cql-prior", learn, series, settings, options, flags)


@app.command()
def bc(
    *, learn: LearnOptions, series: SeriesOptions, settings: SettingsOptions, options: WorkOptions
) -> None:
    """Behaviour cloning, of controls or of text."""
    _learn("bc", learn, series, settings, options)


@app.command()
def iql(
    *, learn: LearnOptions, series: SeriesOptions, settings: SettingsOptions, options: WorkOptions
) -> None:
    """Implicit Q-learning, of controls or of text."""
    _learn("iql", learn, series, settings, options)


@app.command()
def td3_bc(
    *, learn: LearnOptions, series: SeriesOptions, settings: SettingsOptions, options: WorkOptions
) -> None:
    """TD3 with behaviour cloning, of controls."""
    _learn("td3-bc", learn, series, settings, options)


def _learn(
    algorithm: str,
    learn: LearnOptions,
    series: SeriesOptions,
    settings: SettingsOptions,
    options: WorkOptions,
    flags: dict[str, Any] | None = None,
) -> None:
    """One run for each seed, and its summary."""
    from cepcli.runs.preparation import chosen_offline_config, prepare_offline

    flags = {**vars(learn), **(flags or {})}
    if learn.dataset == "d4rl" and "dataset" in settings.given():
        flags["dataset"] = None
    config = chosen_offline_config(
        algorithm, file=settings.config, overrides=settings.set_ or [], flags=flags
    )
    with interruptible(_LABELS_SAVED):
        config, labels = prepare_offline(config, options.space, options.listener)
    if labels is not None and not options.quiet:
        _print_labels(config.dataset, labels)
    train_series(config, series, options)


@app.command("eval")
def evaluate(
    run: Annotated[str, typer.Argument(help="A finished offline run.")],
    episodes: Annotated[int, typer.Option(min=1, help="Held-out episodes to play.")] = 10,
    *,
    options: WorkOptions,
) -> None:
    """Evaluate a finished offline run on held-out episodes; the run itself is not changed."""
    from cepcli.cli.summaries import print_summary
    from cepcli.runs.engine import evaluate_offline_run

    summary = evaluate_offline_run(options.space, run, episodes, options.notify)
    print_json(summary) if options.json else print_summary(summary)
