"""`cep cache staleness` and `cep bench kl-bound`: measurements on finished runs.

Example: cep cache staleness traced_s0 --states-of uncached_s0
"""

from pathlib import Path
from typing import Annotated, Any

import typer

from cepcli.cli.options import (
    JsonOption,
    QuietOption,
    WorkspaceOption,
    open_workspace,
    print_json,
    print_table,
)
from cepcli.cli.prior_display import interruptible, note
from cepcli.errors import ConfigError

RunArgument = Annotated[str, typer.Argument(metavar="RUN", help="A finished run.")]
FileOption = Annotated[
    Path | None, typer.Option("--output", "-o", help="A JSON file that the figures go into, too.")
]
_AGAIN = "Nothing is kept but the prior's answers; type the command again."


def staleness(
    run: RunArgument,
    states_of: Annotated[
        str | None,
        typer.Option(help="The run whose held-out episodes give the states; default: RUN."),
    ] = None,
    points: Annotated[int, typer.Option(min=1, help="Moments of the training, evenly spaced.")] = 4,
    episodes: Annotated[int, typer.Option(min=1, help="Held-out episodes to play.")] = 10,
    output: FileOption = None,
    workspace: WorkspaceOption = None,
    json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Cached against fresh priors on held-out states, over the training of a run with --trace."""
    from cepcli.experiments.ablations.measured import STALENESS
    from cepcli.experiments.staleness import staleness as measure

    _check_output(output)
    with interruptible(_AGAIN):
        found = measure(
            open_workspace(workspace), run, states_of=states_of, points=points,
            episodes=episodes, notify=note(quiet),
        )  # fmt: skip
    _show(found, STALENESS.measurement, output, json)


def kl_bound(
    run: RunArgument,
    flip: Annotated[
        str, typer.Option(help="Probabilities that a slot gets another phrase.")
    ] = "0.1,0.3,1",
    jitter: Annotated[
        str, typer.Option(help="Lengths of the vectors by which unit keys are moved.")
    ] = "0.1,0.3,1",
    episodes: Annotated[int, typer.Option(min=2, help="Held-out episodes to play.")] = 6,
    states: Annotated[int, typer.Option(min=1, help="States to disturb at most.")] = 60,
    seed: Annotated[int, typer.Option(min=0, help="Of the disturbances.")] = 0,
    output: FileOption = None,
    workspace: WorkspaceOption = None,
    json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """KL of the posterior against its bounds, where a run's states are described wrongly."""
    from cepcli.experiments.ablations.measured import KL_BOUND
    from cepcli.experiments.kl_bound import measure_kl_bound

    _check_output(output)
    with interruptible(_AGAIN):
        found = measure_kl_bound(
            open_workspace(workspace), run, flips=_sizes("--flip", flip),
            jitters=_sizes("--jitter", jitter), episodes=episodes, states=states, seed=seed,
            notify=note(quiet),
        )  # fmt: skip
    _show(found, KL_BOUND.measurement, output, json)


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
            f"`{option} {text}` is not a comma list of numbers.", f"Try {option} 0.1,0.3"
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
    columns = measurement.columns
    cells = [
        [row["case"], *(_cell(row[column.path[0]], column.form) for column in columns)]
        for row in found["rows"]
    ]
    title = f"{measurement.title}: `{found['run']}`, {found['states']} states"
    print_table(title, ["case", *(column.title for column in columns)], cells)


def _cell(value: float | None, form: str) -> str:
    return "–" if value is None else format(value, form)
