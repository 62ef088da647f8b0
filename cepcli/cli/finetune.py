"""`cep prior finetune`: tune language models on few demonstrations, and tabulate the gain."""

from collections.abc import Sequence
from typing import Annotated, Any

import typer

from cepcli.cli.options import DeviceOption, OverwriteOption, SettingsOptions, WorkOptions
from cepcli.cli.output import print_json, print_table
from cepcli.cli.stopping import interruptible
from cepcli.errors import ConfigError, PriorError


def finetune(
    env: Annotated[
        list[str],
        typer.Option("--env", help="Environment id; repeat it to tune one adapter on several."),
    ],
    shots: Annotated[
        str | None,
        typer.Option(
            help="Demonstrated episodes to learn from (in continuous control, groups of five "
            "annotated states); several as 0,5,50. Default: `shots` of the configuration, else 5."
        ),
    ] = None,
    choice: Annotated[
        str | None,
        typer.Option(help="How to choose them: random, diverse, stratified; several with commas."),
    ] = None,
    demos: Annotated[
        list[str] | None,
        typer.Option(
            "--demos",
            help="Demonstrations, annotations or a JSON-lines file; once for each --env.",
        ),
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of every random stream.")] = None,
    seeds: Annotated[
        str | None, typer.Option(help="Several seeds, as 0,1,2, for a table of means.")
    ] = None,
    name: Annotated[str | None, typer.Option("--name", help="Name of the tuned prior.")] = None,
    overwrite: OverwriteOption = False,
    force: Annotated[
        bool, typer.Option("--force", help="Keep a prior that is worse than chance.")
    ] = False,
    device: DeviceOption = None,
    *,
    settings: SettingsOptions,
    options: WorkOptions,
) -> None:
    """Tune a language model on few demonstrations, to use it as `--prior NAME`."""
    from cepcli.datasets.lessons import lessons_for
    from cepcli.experiments.tuning import Axes, options_played, plan, tune_all
    from cepcli.prior.config import FinetuneConfig
    from cepcli.prior.load import check_free
    from cepcli.prior.local.language_model import check_source
    from cepcli.workspace.artifacts import check_name

    if name is not None:
        check_free(check_name(name))
    if len(set(env)) < len(env):
        raise ConfigError("`--env` names an environment twice.", "Name each once.")
    if seed is not None and seeds is not None:
        raise ConfigError("`--seed` and `--seeds` exclude each other.", "Drop one of them.")
    if demos and len(demos) != len(env):
        raise ConfigError(
            f"`--demos` is given {len(demos)} times and `--env` {len(env)} times.",
            "Give --demos once for each --env, in the same order, or leave it out.",
        )
    axes = Axes(
        _numbers("--shots", shots),
        _parts("--choice", choice) or [None],
        _numbers("--seeds", seeds) or [seed],
    )
    planned = plan(env, name, axes, lambda flags: settings.resolve(FinetuneConfig, flags))
    space = options.space
    check_source(planned.base.model)
    with interruptible("Type the same command again to go on from the last step."):
        options.before_model(planned.base.model)
        data = [
            lessons_for(one, source, planned.most_shots, space, options.listener)
            for one, source in zip(env, demos or [None] * len(env), strict=True)
        ]
        rows, refused = tune_all(
            data, planned, space, device=device or "cpu", overwrite=overwrite, force=force,
            listener=options.listener,
        )  # fmt: skip
    if options.json:
        sources = [one.source.name for one in data]
        print_json({"env": ", ".join(env), "demos": ", ".join(sources), "rows": rows})
    else:
        groups: dict[str, list[dict[str, Any]]] = {}
        for row in rows:
            groups.setdefault(row.get("group", row["prior"]), []).append(row)
        print_quality(f"Priors on {reported_on(env)}", list(groups.values()))
    if refused:
        raise PriorError(" ".join(error.message for error in refused), refused[0].hint)
    if planned.tunings and not options.json:
        played = "".join(f" --set {option}" for option in options_played(data[0], space))
        use = f"cep train --env {env[0]} --prior {planned.tunings[-1].name}{played}{space.option}"
        typer.echo(f"Use it: {use}")


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


def reported_on(envs: Sequence[str]) -> str:
    """What priors are judged by: annotations are those of an environment's whole family.

    The other half of what is held out decides early stopping and temperature.
    """
    from cepcli.envs.catalog import spec

    found = [spec(env) for env in envs]
    subjects = [one.family if one.kind == "control" else one.id for one in found]
    return f"the reporting half of the held-out decisions of {', '.join(subjects)}"


#: Columns of a table of priors: title, key, factor, format.
_FIGURES = (
    ("top-1", "top1", 1.0, ".3f"),
    ("NLL (nats)", "nll", 1.0, ".3f"),
    ("calibration error", "calibration_error", 1.0, ".3f"),
    ("mass", "mass", 1.0, ".3f"),
    ("KL from untuned", "kl_from_untuned", 1.0, ".3f"),
    ("ms each", "seconds", 1e3, ".0f"),
)


def print_quality(title: str, groups: Sequence[Sequence[dict[str, Any]]]) -> None:
    """A table of priors, a line for each group: means over seeds, with 95 % intervals."""
    from cepcli.report.comparison import cell, estimated

    rows = [row for group in groups for row in group]
    figures = [column for column in _FIGURES if any(row.get(column[1]) is not None for row in rows)]
    several = any(len(group) > 1 for group in groups)
    lines = []
    for group in groups:
        line = [group[0]["prior"] if len(group) == 1 else group[0]["group"]]
        line += [str(len(group))] if several else []
        line.append(str(group[0]["decisions"]))
        for _, key, factor, form in figures:
            found = [factor * row[key] for row in group if row.get(key) is not None]
            single = len(found) == 1 and not several
            line.append(format(found[0], form) if single else cell(estimated(found), form))
        lines.append(line)
    seeds = ["seeds"] if several else []
    print_table(title, ["prior", *seeds, "decisions", *(f[0] for f in figures)], lines)
