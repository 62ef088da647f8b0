"""`cep prior finetune`: tune language models on few demonstrations, and tabulate what it brings."""

import json as json_format
import shlex
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from cepcli.cli.demos import lessons_for
from cepcli.cli.options import (
    ConfigOption,
    DeviceOption,
    JsonOption,
    OverwriteOption,
    QuietOption,
    SetOption,
    WorkspaceOption,
    open_workspace,
    print_json,
)
from cepcli.cli.prior_display import (
    announce_first_use,
    interruptible,
    note,
    print_quality,
    progress_bar,
    reported_on,
)
from cepcli.errors import ConfigError, PriorError

if TYPE_CHECKING:
    from cepcli.prior.config import FinetuneConfig
    from cepcli.prior.tuning.lessons import TuningData
    from cepcli.workspace.artifacts import Artifact, Workspace


class _Tuning(NamedTuple):
    """One prior of a table: its name, and those that differ from it in the seed share a group."""

    name: str
    group: str
    config: "FinetuneConfig"


class _Axes(NamedTuple):
    """What a table varies; nothing, or None, where the configuration says it."""

    shots: list[int]
    choices: list[str] | list[None]
    seeds: list[int] | list[int | None]


class _Options(NamedTuple):
    device: str
    overwrite: bool
    force: bool
    quiet: bool


def finetune(
    env: Annotated[
        list[str],
        typer.Option("--env", help="Environment id; again for more of them in one adapter."),
    ],
    shots: Annotated[
        str | None,
        typer.Option(
            help="Demonstrated episodes to learn from, or fives of annotated states for continuous "
            "control; several as 0,5,50. Default: `shots` of the configuration, else 5."
        ),
    ] = None,
    choice: Annotated[
        str | None,
        typer.Option(help="Which episodes: random, diverse, stratified; several with commas."),
    ] = None,
    demos: Annotated[
        list[str] | None,
        typer.Option(
            "--demos",
            help="Demonstrations, annotations or a file of JSON lines; once for each --env.",
        ),
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of every random stream.")] = None,
    seeds: Annotated[
        str | None, typer.Option(help="Several of them, as 0,1,2: a table of means.")
    ] = None,
    name: Annotated[str | None, typer.Option("--name", help="Name of what is made.")] = None,
    overwrite: OverwriteOption = False,
    force: Annotated[
        bool, typer.Option("--force", help="Keep a prior that is worse than chance.")
    ] = False,
    config: ConfigOption = None,
    set_: SetOption = None,
    device: DeviceOption = None,
    workspace: WorkspaceOption = None,
    json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Tune a language model on few demonstrations; leaves a prior for `--prior NAME`."""
    from cepcli.prior.load import check_free
    from cepcli.prior.local.language_model import check_source
    from cepcli.workspace.artifacts import check_name

    if name is not None:
        check_free(check_name(name))
    if len(set(env)) < len(env):
        raise ConfigError("`--env` names an environment twice.", "Name each once.")
    if seed is not None and seeds is not None:
        raise ConfigError("`--seed` and `--seeds` exclude each other.", "Keep one of the two.")
    axes = _Axes(
        _numbers("--shots", shots),
        _parts("--choice", choice) or [None],
        _numbers("--seeds", seeds) or [seed],
    )
    tunings, base, most = _plan(env, name, axes, config, set_ or [])
    space = open_workspace(workspace)
    options = _Options(device or "cpu", overwrite, force, quiet)
    check_source(base.model)
    with interruptible("Type the same command again to go on from the last step."):
        announce_first_use(base.model, quiet)
        data = _data(env, demos, most, space, quiet)
        rows, refused = _tune_all(data, tunings, base, space, options)
    if json:
        sources = [one.source.name for one in data]
        print_json({"env": ", ".join(env), "demos": ", ".join(sources), "rows": rows})
    else:
        print_quality(f"Priors on {reported_on(env)}", _grouped(rows))
    if refused:
        raise PriorError(" ".join(error.message for error in refused), refused[0].hint)
    if tunings and not json:
        played = "".join(f" --set {option}" for option in _options_of(data[0], space))
        use = f"cep train --env {env[0]} --prior {tunings[-1].name}{played}{space.option}"
        typer.echo(f"Use it: {use}")


def _options_of(data: "TuningData", space: "Workspace") -> list[str]:
    """Options that demonstrations were played with, other than the usual: a run needs them, too."""
    from cepcli.config import read_toml
    from cepcli.envs.catalog import full_options, spec

    if data.source.kind != "demos" or data.source.name not in space.names("demos"):
        return []
    if spec(data.env_id).kind == "control":
        return []
    config = read_toml(space.open("demos", data.source.name).path / "config.toml")
    usual = full_options(data.env_id, {})
    played = config.get("env_options", {})
    return [
        shlex.quote(
            f"env_options.{key}={value if isinstance(value, str) else json_format.dumps(value)}"
        )
        for key, value in played.items()
        if usual.get(key) != value
    ]


def _plan(
    env: Sequence[str], name: str | None, axes: _Axes, file: Path | None, overrides: Sequence[str]
) -> "tuple[list[_Tuning], FinetuneConfig, int]":
    """The priors to tune, what the untuned model is loaded by, and the most shots of any."""
    from cepcli.config import resolve
    from cepcli.prior.config import FinetuneConfig
    from cepcli.prior.tuning.tuned import default_prior_name

    def resolved(shots: int | None, choice: str | None, seed: int | None) -> FinetuneConfig:
        flags = {"shots": shots, "choice": choice, "seed": seed}
        return resolve(FinetuneConfig, file=file, overrides=overrides, flags=flags)

    base = resolved(None, axes.choices[0], axes.seeds[0])
    counts = axes.shots or [base.shots]
    tuned = [count for count in counts if count]
    tunings = []
    for count, choice, seed in product(tuned, axes.choices, axes.seeds):
        settings = resolved(count if axes.shots else None, choice, seed)
        group = default_prior_name(env, count) if name is None else name
        if name is not None and len(tuned) > 1:
            group = f"{group}-{count}shot"
        if len(axes.choices) > 1 or (name is None and settings.choice != "random"):
            group = f"{group}-{settings.choice}"
        label = group if len(axes.seeds) == 1 else f"{group}_s{settings.seed}"
        tunings.append(_Tuning(label, group, settings))
    return tunings, base, max(counts)


def _parts(option: str, text: str | None) -> list[str]:
    """What stands between the commas, each once."""
    parts = [] if text is None else [part.strip() for part in text.split(",")]
    if len(set(parts)) < len(parts):
        raise ConfigError(f"`{option} {text}` names something twice.", "Name each once.")
    return parts


def _numbers(option: str, text: str | None) -> list[int]:
    parts = _parts(option, text)
    if not all(part.isdecimal() for part in parts):
        example = "0,5,50" if option == "--shots" else "0,1,2"
        raise ConfigError(f"`{option} {text}` is not a list of numbers.", f"Try {option} {example}")
    numbers = [int(part) for part in parts]
    if len(set(numbers)) < len(numbers):
        raise ConfigError(f"`{option} {text}` names a number twice.", "Name each once.")
    return numbers


def _data(
    env: Sequence[str], demos: Sequence[str] | None, shots: int, space: "Workspace", quiet: bool
) -> "list[TuningData]":
    """What each environment gives."""
    if demos and len(demos) != len(env):
        raise ConfigError(
            f"`--demos` is given {len(demos)} times and `--env` {len(env)} times.",
            "Give --demos once for each --env, in the same order, or leave it out.",
        )
    sources = demos or [None] * len(env)
    return [
        lessons_for(one, source, shots, space, quiet)
        for one, source in zip(env, sources, strict=True)
    ]


def _tune_all(
    data: "list[TuningData]", tunings: Sequence[_Tuning], base: "FinetuneConfig",
    space: "Workspace", options: _Options,
) -> tuple[list[dict[str, Any]], list[PriorError]]:  # fmt: skip
    """One row per prior (uniform, untuned, each tuned one), and those that were not kept."""
    from cepcli.prior.tuning.tuned import (
        WorseThanChanceError,
        chosen_lessons,
        is_made_so,
        measure_uniform,
        measure_untuned,
        report_row,
        reporting_lessons,
    )
    from cepcli.workspace.artifacts import read_json

    finished = {
        tuning.name
        for tuning in tunings
        if not options.overwrite and is_made_so(space, tuning.name, data, tuning.config)
    }
    for tuning in tunings:
        if tuning.name not in finished:
            space.check_new("prior", tuning.name, overwrite=options.overwrite)
            chosen_lessons(data, tuning.config)  # too few episodes are said before anything is paid
    test = reporting_lessons(data)
    say = note(options.quiet)
    say(f"Measuring {base.model} before tuning on {len(test)} decisions")
    before = measure_untuned(test, base, options.device)
    rows = [
        report_row("uniform", measure_uniform(test).quality),
        report_row(f"{base.model} (untuned)", before.quality),
    ]
    refused: list[PriorError] = []
    for tuning in tunings:
        if tuning.name in finished:
            say(f"Taking the prior `{tuning.name}` as it is: it was made so")
            artifact = space.open("prior", tuning.name)
        else:
            try:
                artifact = _tune(data, tuning, space, before, options)
            except WorseThanChanceError as error:
                refused.append(error)
                row = report_row(f"{tuning.name} (refused)", error.quality)
                rows.append({**row, "group": f"{tuning.group} (refused)"})
                continue
        report = read_json(artifact.path / "report.json")
        rows.append(
            {
                **report_row(tuning.name, report["after"]),
                "kl_from_untuned": report.get("kl_from_untuned"),
                "group": tuning.group,
                "shots": tuning.config.shots,
                "choice": tuning.config.choice,
                "seed": tuning.config.seed,
            }
        )
    return rows, refused


def _tune(
    data: "list[TuningData]", tuning: _Tuning, space: "Workspace", before: Any, options: _Options
) -> "Artifact":
    """Tune one prior under a progress bar."""
    from cepcli.prior.tuning.finetune import planned_steps
    from cepcli.prior.tuning.tuned import TuningHooks, chosen_lessons, tune_prior

    steps = planned_steps(tuning.config, len(chosen_lessons(data, tuning.config)))
    with progress_bar(f"Tuning {tuning.name}", steps, options.quiet) as advance:

        def on_step(step: Any) -> None:
            nll = step.validation_nll
            advance(step.step, f"loss {step.loss:.3f}" + (f", held-out {nll:.3f}" if nll else ""))

        return tune_prior(
            data, tuning.config, space, tuning.name, before=before, device=options.device,
            overwrite=options.overwrite, force=options.force,
            hooks=TuningHooks(on_step, note(options.quiet)),
        )  # fmt: skip


def _grouped(rows: Sequence[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """Rows of one group beside each other: those that differ in their seed alone."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault(row.get("group", row["prior"]), []).append(row)
    return list(groups.values())
