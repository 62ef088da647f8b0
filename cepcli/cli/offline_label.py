"""`cep offline label`: the prior of every state of a dataset."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from cepcli.cli.offline_data import DataEnvOption, DatasetOption, SplitOption
from cepcli.cli.options import (
    ConfigOption,
    DeviceOption,
    InsecureOption,
    JsonOption,
    QuietOption,
    SetOption,
    WorkspaceOption,
    open_workspace,
    print_json,
)
from cepcli.cli.prior_display import announce_first_use, interruptible, note, progress_bar
from cepcli.errors import DataError

if TYPE_CHECKING:
    from cepcli.datasets.dataset import ControlData, TextData
    from cepcli.datasets.labelling import LabelConfig, Words
    from cepcli.workspace.artifacts import Workspace


def label(
    dataset: DatasetOption = "d4rl",
    prior: Annotated[
        str | None,
        typer.Option(help="Who is asked; by default the prior tuned for the family, or embedded."),
    ] = None,
    env: DataEnvOption = None,
    split: SplitOption = None,
    cache: Annotated[
        str | None, typer.Option(help="certified (default), exact, off, lru, fifo or surrogate.")
    ] = None,
    states: Annotated[
        int | None, typer.Option(help="Only the first so many, to see the cost; stores nothing.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of audits and of learning keys.")] = None,
    no_journal: Annotated[
        bool, typer.Option("--no-journal", help="Ask the LLM live, even what it answered before.")
    ] = False,
    insecure: InsecureOption = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Label again.")] = False,
    config: ConfigOption = None,
    set_: SetOption = None,
    device: DeviceOption = None,
    workspace: WorkspaceOption = None,
    json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Ask a prior about every state of a dataset, once; typed again, it goes on."""
    from cepcli.config import given, resolve
    from cepcli.datasets.dataset import load_dataset
    from cepcli.datasets.labelling import LabelConfig

    space, say = open_workspace(workspace), note(quiet)
    data = load_dataset(dataset, env=env, split=split, workspace=space, notify=say)
    known = _env_of(dataset, data)
    flags = {
        "prior": prior, "cache.mode": cache, "states": states, "seed": seed, "device": device,
        "journal": False if no_journal else None, "llm.server.insecure": insecure or None,
    }  # fmt: skip
    named = given(file=config, overrides=set_ or [], flags=flags)
    flags["prior"] = (
        None
        if "prior" in named and prior is None
        else (prior or default_prior(known, space, quiet))
    )
    if "mode" not in named.get("cache", {}):
        flags["cache.mode"] = "certified"
    settings = resolve(LabelConfig, file=config, overrides=set_ or [], flags=flags)
    found = labelled(dataset, data, settings, space, overwrite=overwrite, quiet=quiet)
    print_json(found) if json else print_labels(dataset, found)


def labelled(
    dataset: str,
    data: "ControlData | TextData",
    settings: "LabelConfig",
    space: "Workspace",
    *,
    overwrite: bool,
    quiet: bool,
) -> dict[str, Any]:
    """Label a dataset of a known environment, showing how far it is; the labels' figures."""
    from cepcli.datasets.labelling import label as label_dataset
    from cepcli.prior.load import find_prior

    settings, words = _described(settings, _env_of(dataset, data), space, quiet)
    announce_first_use(find_prior(settings.prior, space).model, quiet)
    total = settings.states or len(data)
    with (
        interruptible("What was answered is kept; type the command again to go on."),
        progress_bar(f"Labelling {dataset}", total, quiet) as advance,
    ):
        return label_dataset(
            data, settings, space, words=words, overwrite=overwrite, advance=advance,
            notify=note(quiet),
        )  # fmt: skip


def _env_of(dataset: str, data: "ControlData | TextData") -> str:
    if data.env is None:
        raise DataError(
            f"It is not known which environment `{dataset}` is of, so nothing describes its "
            "states.",
            "Name it: --env ID",
        )
    return data.env


def default_prior(env: str, space: "Workspace", quiet: bool) -> str:
    """The prior that is asked about an environment unless another is named."""
    from cepcli.envs.catalog import spec
    from cepcli.prior.local.embedded import EMBEDDED
    from cepcli.runs.settings import prior_for

    known = spec(env)
    if known.control is not None:
        return prior_for(known.control, space, note(quiet))
    return EMBEDDED


def _described(
    config: "LabelConfig", env: str, space: "Workspace", quiet: bool
) -> tuple["LabelConfig", "Words | None"]:
    """What describes the states of an environment of control; FAMILY/default is made if missing."""
    from dataclasses import replace

    from cepcli.cli.abstractions import abstraction_for
    from cepcli.datasets.labelling import Words
    from cepcli.envs.catalog import spec
    from cepcli.prior.load import UNIFORM
    from cepcli.runs.settings import default_abstraction

    known = spec(env).control
    if known is None or config.prior == UNIFORM:
        return config, None
    name = config.abstraction or default_abstraction(known)
    words = Words(*abstraction_for(env, name, space, config.device, quiet))
    return replace(config, abstraction=name), words


def print_labels(dataset: str, found: dict[str, Any]) -> None:
    """What labels cost, in a few lines."""
    queries = found["queries"]["total"]
    typer.echo(
        f"{found['states']} states of {dataset} labelled by {found['prior']}: {queries} queries "
        f"({found['queries_per_state']:.3f} per state), cache {found['cache']}"
    )
    hits = ", ".join(f"{count} {kind} hits" for kind, count in found["hits"].items())
    typer.echo(f"  {hits}, {found['queries']['audits']} audits")
    typer.echo(
        f"  {found['llm_seconds_recorded']:.1f} s of the LLM ({found['llm_seconds']:.1f} s now), "
        f"{found['wall_seconds']:.1f} s in all"
    )
    typer.echo(f"  {found['path']}" if "path" in found else "  nothing is stored (--states)")
