"""`cep abstract`: states of continuous control as keys and descriptions; train, judge, look."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cepcli.cli.options import (
    CommandGroup,
    DeviceOption,
    InsecureOption,
    OverwriteOption,
    ReadOptions,
    SeedOption,
    SettingsOptions,
    WorkOptions,
)
from cepcli.cli.output import print_json, print_table
from cepcli.cli.stopping import interruptible
from cepcli.errors import ArtifactError

if TYPE_CHECKING:
    from numpy import ndarray

    from cepcli.workspace.artifacts import Artifact

DEFAULT = "walker2d/default"

app = CommandGroup(
    no_args_is_help=True, help="States of continuous control as keys and descriptions."
)

NameArgument = Annotated[str, typer.Argument(help="FAMILY/NAME of a trained abstraction.")]


@app.command()
def train(
    env: Annotated[
        str | None,
        typer.Option(help="An environment of the family, or the family; default walker2d."),
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="FAMILY/NAME of the abstraction; default FAMILY/default.")
    ] = None,
    annotations: Annotated[
        str | None, typer.Option(help="Name of the annotations; default the family's.")
    ] = None,
    prior: Annotated[
        str | None,
        typer.Option(help="Prior that shapes the keys; default the family's, else embedded."),
    ] = None,
    seed: SeedOption = None,
    insecure: InsecureOption = False,
    overwrite: OverwriteOption = False,
    device: DeviceOption = None,
    *,
    settings: SettingsOptions,
    options: WorkOptions,
) -> None:
    """Learn keys and descriptions of states from annotations, rollouts and a prior."""
    from cepcli.keys.config import AbstractionConfig
    from cepcli.runs.preparation import make_abstraction

    flags = {"env": env, "prior": prior, "seed": seed, "annotations": annotations}
    config = settings.resolve(AbstractionConfig, flags)
    with interruptible("Only the answers of the prior are saved; type the command again."):
        artifact = make_abstraction(
            config, options.space, name, device=device or "cpu", overwrite=overwrite,
            insecure=insecure, listener=options.listener,
        )  # fmt: skip
    _show(artifact, _stored_report(artifact), options.json)


@app.command("eval")
def evaluate(name: NameArgument = DEFAULT, *, options: ReadOptions) -> None:
    """Judge a trained abstraction by the annotations that were held out of its training."""
    from cepcli.abstraction.judge import HeldOut, judge
    from cepcli.abstraction.states import Abstraction
    from cepcli.config import read_toml

    artifact = options.space.open("abstraction", name)
    margin = read_toml(artifact.path / "config.toml")["margin"]
    found = judge(Abstraction.load(artifact.path), HeldOut.load(artifact.path), margin)
    training = _stored_report(artifact)["training"]
    _show(artifact, {**found, "training": training}, options.json)


@app.command()
def describe(
    name: Annotated[
        str | None,
        typer.Argument(
            help="FAMILY/NAME of a trained abstraction; default that of --env.", show_default=False
        ),
    ] = None,
    env: Annotated[
        str | None, typer.Option(help="Environment; default the one it was trained with.")
    ] = None,
    observation: Annotated[
        Path | None,
        typer.Option(help="JSON or .npy file of observations; default: states of random play."),
    ] = None,
    steps: Annotated[int, typer.Option(min=1, help="Random control steps to describe.")] = 10,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the episode that is played.")] = 0,
    *,
    options: ReadOptions,
) -> None:
    """Show how states are described to the prior, and which primitive similar states call for."""
    from cepcli.abstraction.states import open_abstraction
    from cepcli.config import read_toml
    from cepcli.envs.catalog import control_spec
    from cepcli.runs.settings import default_abstraction

    space = options.space
    if name is None:
        name = DEFAULT if env is None else default_abstraction(control_spec(env))
    recorded = read_toml(space.open("abstraction", name).path / "config.toml")
    spec = control_spec(recorded["env"] if env is None else env)
    abstraction, _ = open_abstraction(space, name, spec)
    if observation is None:
        states = _random_observations(spec.id, steps, seed)
    else:
        states = _observations_in(observation, len(spec.features))
    rows = [
        {"text": text, "primitive": abstraction.primitive(state)}
        for text, state in zip(abstraction.texts(states), states, strict=True)
    ]
    if options.json:
        print_json({"abstraction": name, "env": spec.id, "states": rows})
        return
    cells = [[str(n), row["text"], row["primitive"]] for n, row in enumerate(rows)]
    title = f"{spec.id} as described by {name}"
    print_table(title, ["state", "description", "primitive"], cells)


def _random_observations(env_id: str, steps: int, seed: int) -> "ndarray":
    """The first states of rollouts, one row each."""
    import numpy as np

    from cepcli.annotate.sampling import rollouts
    from cepcli.envs.catalog import make_control_env
    from cepcli.runs.preparation import EPISODE_STEPS

    env = make_control_env(env_id)
    played = rollouts(env, steps, EPISODE_STEPS, seed)
    env.close()
    return np.concatenate([rollout.observations for rollout in played])


def _observations_in(path: Path, features: int) -> "ndarray":
    """The observations in a .npy file, or in a JSON file as one list of numbers or several."""
    import json

    import numpy as np

    try:
        if path.suffix == ".npy":
            values = np.load(path, allow_pickle=False)
        else:
            values = json.loads(path.read_text(encoding="utf-8"))
        rows = np.atleast_2d(np.asarray(values, np.float64))
    except (OSError, EOFError, ValueError, TypeError, OverflowError, RecursionError) as error:
        raise ArtifactError(
            f"Cannot read observations from `{path}`: {error}.",
            "Expected .npy, or JSON: [1.2, …] or [[1.2, …], …].",
        ) from error
    if rows.ndim != 2 or rows.shape[1] != features:
        raise ArtifactError(
            f"`{path}` holds observations of shape {rows.shape}, expected {features} numbers each."
        )
    broken = np.flatnonzero(~np.isfinite(rows).all(1))
    if len(broken):
        raise ArtifactError(f"Observation {broken[0]} of `{path}` contains NaN or infinity.")
    return rows


def _stored_report(artifact: "Artifact") -> dict[str, Any]:
    from cepcli.abstraction.build import REPORT
    from cepcli.workspace.artifacts import read_json

    return read_json(artifact.path / REPORT)


def _show(artifact: "Artifact", report: dict[str, Any], json: bool) -> None:
    """The figures of an abstraction, as a table or as one line of JSON."""
    if json:
        print_json({"abstraction": artifact.name, "path": str(artifact.path), **report})
        return
    training = report["training"]
    print_table(
        f"{artifact.name}: {training['annotations']} annotations and {training['propagated']} of "
        f"{training['unlabelled']} unlabelled states, judged on {report['states']} held-out ones",
        ["figure", "value"],
        [
            [name, f"{value:.3f}" if isinstance(value, float) else value]
            for name, value in _figures(report).items()
        ],
    )
    typer.echo(f"Map of the keys: {artifact.path / 'map.png'}")


def _figures(report: dict[str, Any]) -> dict[str, Any]:
    retrieval, propagation, slots = report["retrieval"], report["propagation"], report["slots"]
    before, after, kl = report["keys"]["before"], report["keys"]["after"], report["prior_kl"]
    training = report["training"]
    chance = f"(chance {retrieval['chance']:.3f})"
    figures = {
        f"state → text, top-1 of {retrieval['texts']} texts {chance}": retrieval["top1"],
        "state → text, top-5": retrieval["top5"],
        "propagation: share of states labelled": propagation["coverage"],
        "propagation: right phrases among them": propagation["slots"],
        "propagation: right primitives among them": propagation["primitive"],
        f"description: right phrases (commonest phrase {slots['majority']:.3f})": slots["mean"],
        **{f"  {slot}": share for slot, share in slots["by_slot"].items()},
        "description: right as a whole": slots["whole"],
        "L (99 % of pairs) before stage 3": before["lipschitz"],
        "L (99 % of pairs) after stage 3": after["lipschitz"],
        "hits within span²/8 ≤ 0.5 nats, before": before["hit_rate"],
        "hits within span²/8 ≤ 0.5 nats, after": after["hit_rate"],
        "KL of prior from φ(s) to prior from true text, mean (nats)": kl["mean"],
        "… median": kl["median"],
    }
    if "value_r2" in training:
        figures["value head, R² on other rollouts"] = training["value_r2"]
    return {**figures, "prior": training["prior"]}
