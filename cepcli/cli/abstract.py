"""`cep abstract`: states of continuous control as keys and descriptions; train, judge, look."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cepcli.cli.options import (
    ConfigOption,
    DeviceOption,
    InsecureOption,
    JsonOption,
    OverwriteOption,
    QuietOption,
    SetOption,
    WorkspaceOption,
    open_workspace,
    print_json,
    print_table,
)
from cepcli.cli.prior_display import interruptible

if TYPE_CHECKING:
    from cepcli.workspace.artifacts import Artifact

DEFAULT = "walker2d/default"

app = typer.Typer(
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
        str | None, typer.Option(help="FAMILY/NAME of what is made; default FAMILY/default.")
    ] = None,
    annotations: Annotated[
        str | None, typer.Option(help="Name of the annotations; default: the family's.")
    ] = None,
    prior: Annotated[
        str | None,
        typer.Option(help="Whose answers shape the keys; default: the family's, else embedded."),
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of every random stream.")] = None,
    insecure: InsecureOption = False,
    overwrite: OverwriteOption = False,
    config: ConfigOption = None,
    set_: SetOption = None,
    device: DeviceOption = None,
    workspace: WorkspaceOption = None,
    json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Learn keys and descriptions of states from annotations, rollouts and a prior."""
    from cepcli.cli.abstractions import make_abstraction
    from cepcli.config import resolve
    from cepcli.keys.config import AbstractionConfig

    flags = {"env": env, "prior": prior, "seed": seed, "annotations": annotations}
    settings = resolve(AbstractionConfig, file=config, overrides=set_ or [], flags=flags)
    space = open_workspace(workspace)
    with interruptible("Nothing is kept but the prior's answers; type the command again."):
        artifact = make_abstraction(
            settings, space, name, device or "cpu", overwrite, quiet, insecure
        )
    _show(artifact, _stored_report(artifact), json)


@app.command("eval")
def evaluate(
    name: NameArgument = DEFAULT, workspace: WorkspaceOption = None, json: JsonOption = False
) -> None:
    """Judge a trained abstraction again by the annotations that were held out of it."""
    from cepcli.abstraction.judge import HeldOut, judge
    from cepcli.abstraction.states import Abstraction
    from cepcli.config import read_toml

    artifact = open_workspace(workspace).open("abstraction", name)
    margin = read_toml(artifact.path / "config.toml")["margin"]
    found = judge(Abstraction.load(artifact.path), HeldOut.load(artifact.path), margin)
    _show(artifact, {**found, "training": _stored_report(artifact)["training"]}, json)


@app.command()
def describe(
    name: Annotated[
        str | None,
        typer.Argument(
            help="FAMILY/NAME of a trained abstraction; default: that of --env.", show_default=False
        ),
    ] = None,
    env: Annotated[
        str | None, typer.Option(help="The environment; default: the one it was made with.")
    ] = None,
    observation: Annotated[
        Path | None,
        typer.Option(help="JSON or .npy with one observation or several; default: real ones."),
    ] = None,
    steps: Annotated[int, typer.Option(min=1, help="Control steps at random to describe.")] = 10,
    seed: Annotated[int, typer.Option(min=0, help="Of the episode that is played.")] = 0,
    workspace: WorkspaceOption = None,
    json: JsonOption = False,
) -> None:
    """Say what states look like to the prior, and what annotated states like them call for."""
    from cepcli.abstraction.states import open_abstraction
    from cepcli.cli.abstractions import observations_in, random_observations
    from cepcli.config import read_toml
    from cepcli.envs.catalog import control_spec
    from cepcli.runs.settings import default_abstraction

    space = open_workspace(workspace)
    if name is None:
        name = DEFAULT if env is None else default_abstraction(control_spec(env))
    recorded = read_toml(space.open("abstraction", name).path / "config.toml")
    spec = control_spec(recorded["env"] if env is None else env)
    abstraction, _ = open_abstraction(
        space, name, env_id=spec.id, family=spec.family,
        feature_sha256=spec.feature_sha256, features=len(spec.features),
    )  # fmt: skip
    if observation is None:
        states = random_observations(spec.id, steps, seed)
    else:
        states = observations_in(observation, len(spec.features))
    rows = [
        {"text": text, "primitive": abstraction.primitive(state)}
        for text, state in zip(abstraction.texts(states), states, strict=True)
    ]
    if json:
        print_json({"abstraction": name, "env": spec.id, "states": rows})
        return
    cells = [[str(n), row["text"], row["primitive"]] for n, row in enumerate(rows)]
    print_table(f"{spec.id} as {name} sees it", ["state", "description", "primitive"], cells)


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
        _figures(report),
    )
    typer.echo(f"Map of the keys: {artifact.path / 'map.png'}")


def _figures(report: dict[str, Any]) -> list[list[str]]:
    retrieval, propagation, slots = report["retrieval"], report["propagation"], report["slots"]
    before, after, kl = report["keys"]["before"], report["keys"]["after"], report["prior_kl"]
    training = report["training"]
    rows = [
        [f"state → text, top-1 of {retrieval['texts']} texts (chance "
         f"{retrieval['chance']:.3f})", f"{retrieval['top1']:.3f}"],
        ["state → text, top-5", f"{retrieval['top5']:.3f}"],
        ["propagation: share of states labelled", f"{propagation['coverage']:.3f}"],
        ["propagation: right phrases among them", f"{propagation['slots']:.3f}"],
        ["propagation: right primitives among them", f"{propagation['primitive']:.3f}"],
        [f"description: right phrases (commonest phrase {slots['majority']:.3f})",
         f"{slots['mean']:.3f}"],
        *([f"  {slot}", f"{share:.3f}"] for slot, share in slots["by_slot"].items()),
        ["description: right as a whole", f"{slots['whole']:.3f}"],
        ["L (99 % of pairs) before stage 3", f"{before['lipschitz']:.3f}"],
        ["L (99 % of pairs) after stage 3", f"{after['lipschitz']:.3f}"],
        ["hits within span²/8 ≤ 0.5 nats, before", f"{before['hit_rate']:.3f}"],
        ["hits within span²/8 ≤ 0.5 nats, after", f"{after['hit_rate']:.3f}"],
        ["KL of prior from φ(s) to prior from true text, mean (nats)", f"{kl['mean']:.3f}"],
        ["… median", f"{kl['median']:.3f}"],
    ]  # fmt: skip
    if "value_r2" in training:
        rows.append(["value head, R² on other rollouts", f"{training['value_r2']:.3f}"])
    return [*rows, ["prior", training["prior"]]]
