"""`cep cache staleness` and `cep bench kl-bound`: measurements on finished runs.

Example: cep cache staleness traced_s0 --states-of uncached_s0
"""

from pathlib import Path
from typing import Annotated, Any

import typer

from cepcli.cli.options import WorkOptions
from cepcli.cli.output import print_json, print_rows
from cepcli.cli.stopping import interruptible
from cepcli.errors import ConfigError

RunArgument = Annotated[str, typer.Argument(metavar="RUN", help="A finished run.")]
FileOption = Annotated[
    Path | None, typer.Option("--output", "-o", help="Also write the figures to this JSON file.")
]
_AGAIN = "Only the answers of the prior are saved; type the command again."


def staleness(
    run: RunArgument,
    states_of: Annotated[
        str | None,
        typer.Option(help="The run whose held-out episodes give the states; default RUN."),
    ] = None,
    points: Annotated[
        int, typer.Option(min=1, help="Number of evenly spaced points of the training.")
    ] = 4,
    episodes: Annotated[int, typer.Option(min=1, help="Held-out episodes to play.")] = 10,
    output: FileOption = None,
    *,
    options: WorkOptions,
) -> None:
    """Compare cached with fresh priors on held-out states, over the training of a traced run."""
    from cepcli.experiments.ablations.caching import STALENESS
    from cepcli.experiments.staleness import staleness as measure

    _check_output(output)
    with interruptible(_AGAIN):
        found = measure(
            options.space, run, states_of=states_of, points=points, episodes=episodes,
            notify=options.notify,
        )  # fmt: skip
    _show(found, STALENESS.measurement, output, options.json)


def kl_bound(
    run: RunArgument,
    flip: Annotated[
        str, typer.Option(help="Probabilities of replacing the phrase of a slot.")
    ] = "0.1,0.3,1",
    jitter: Annotated[
        str, typer.Option(help="Lengths of the vectors that are added to unit keys.")
    ] = "0.1,0.3,1",
    episodes: Annotated[int, typer.Option(min=2, help="Held-out episodes to play.")] = 6,
    states: Annotated[int, typer.Option(min=1, help="Disturb at most this many states.")] = 60,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the disturbances.")] = 0,
    output: FileOption = None,
    *,
    options: WorkOptions,
) -> None:
    """Compare the KL of the posterior with its bounds when a run's states are described wrongly."""
    from cepcli.experiments.ablations.priors import KL_BOUND
    from cepcli.experiments.kl_bound import measure_kl_bound

    _check_output(output)
    with interruptible(_AGAIN):
        found = measure_kl_bound(
            options.space, run, flips=_sizes("--flip", flip), jitters=_sizes("--jitter", jitter),
            episodes=episodes, states=states, seed=seed, notify=options.notify,
        )  # fmt: skip
    _show(found, KL_BOUND.measurement, output, options.json)


def _check_output(output: Path | None) -> None:
    """Refuse a file that cannot be written before anything is measured."""
    from cepcli.workspace.artifacts import check_writable

    if output is not None:
        check_writable(output)


def _sizes(option: str, text: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError as error:
        raise ConfigError(
            f"`{option} {text}` is not a comma-separated list of numbers.", f"Try {option} 0.1,0.3"
        ) from error


def _show(found: dict[str, Any], measurement: Any, output: Path | None, json: bool) -> None:
    """The rows under the columns that the ablation shows, too."""
    from cepcli.workspace.artifacts import write_json, writing

    if output is not None:
        with writing(output.parent):
            output.parent.mkdir(parents=True, exist_ok=True)
            write_json(output, found)
    if json:
        print_json(found)
        return
    columns = {column.title: f"{column.path[0]}:{column.form}" for column in measurement.columns}
    title = f"{measurement.title}: `{found['run']}`, {found['states']} states"
    print_rows(title, found["rows"], {"case": "case", **columns})
