"""A table of tuned priors: shots, ways to choose them and seeds, beside the untuned model.

Example: cep prior finetune --env babyai/goto-redball --shots 5,20 --seeds 0,1,2
"""

import json
import shlex
from collections.abc import Callable, Sequence
from itertools import product
from typing import Any, NamedTuple

from cepcli.config import read_toml
from cepcli.envs.catalog import full_options, spec
from cepcli.errors import PriorError
from cepcli.listener import Listener
from cepcli.prior.config import FinetuneConfig
from cepcli.prior.tuning.finetune import TuningStep, planned_steps
from cepcli.prior.tuning.lessons import TuningData
from cepcli.prior.tuning.tuned import (
    Measured,
    TuningHooks,
    WorseThanChanceError,
    chosen_lessons,
    default_prior_name,
    is_made_so,
    measure_uniform,
    measure_untuned,
    report_row,
    reporting_lessons,
    tune_prior,
)
from cepcli.workspace.artifacts import Artifact, Workspace, read_json


class Tuning(NamedTuple):
    """One prior of a table: its name, and those that differ from it in the seed share a group."""

    name: str
    group: str
    config: FinetuneConfig


class Axes(NamedTuple):
    """What a table varies; no shots, or None, where the configuration says it."""

    shots: list[int]
    choices: list[str] | list[None]
    seeds: list[int] | list[int | None]


class Plan(NamedTuple):
    """The priors to tune, the settings of the untuned model, and the most shots of any."""

    tunings: list[Tuning]
    base: FinetuneConfig
    most_shots: int


class Outcome(NamedTuple):
    """A row per prior (uniform, untuned, each tuned one), and the errors of those refused."""

    rows: list[dict[str, Any]]
    refused: list[PriorError]


def plan(
    envs: Sequence[str],
    name: str | None,
    axes: Axes,
    resolved: Callable[[dict[str, Any]], FinetuneConfig],
) -> Plan:
    """The priors of a table; `resolved` makes a configuration with some keys over what was set."""

    def config(shots: int | None, choice: str | None, seed: int | None) -> FinetuneConfig:
        return resolved({"shots": shots, "choice": choice, "seed": seed})

    base = config(None, axes.choices[0], axes.seeds[0])
    counts = axes.shots or [base.shots]
    tuned = [count for count in counts if count]
    tunings = []
    for count, choice, seed in product(tuned, axes.choices, axes.seeds):
        settings = config(count if axes.shots else None, choice, seed)
        group = default_prior_name(envs, count) if name is None else name
        if name is not None and len(tuned) > 1:
            group = f"{group}-{count}shot"
        if len(axes.choices) > 1 or (name is None and settings.choice != "random"):
            group = f"{group}-{settings.choice}"
        label = group if len(axes.seeds) == 1 else f"{group}_s{settings.seed}"
        tunings.append(Tuning(label, group, settings))
    return Plan(tunings, base, max(counts))


def tune_all(
    data: Sequence[TuningData],
    planned: Plan,
    workspace: Workspace,
    *,
    device: str = "cpu",
    overwrite: bool = False,
    force: bool = False,
    listener: Listener,
) -> Outcome:
    """Tune every prior of a plan that is not there yet.

    Args:
        data: of each environment.
        planned: the priors.
        workspace: where they go.
        device: where to tune.
        overwrite: tune again what is there, and replace what has the name.
        force: keep priors that are worse than chance, which else are refused.
        listener: told what happens.

    Raises:
        ArtifactError: if a name is taken by another prior.
        PriorError: if there are too few demonstrations, or the model cannot be loaded.
    """
    finished = {
        one.name
        for one in planned.tunings
        if not overwrite and is_made_so(workspace, one.name, data, one.config)
    }
    for one in planned.tunings:  # before anything is paid for
        if one.name not in finished:
            workspace.check_new("prior", one.name, overwrite=overwrite)
            chosen_lessons(data, one.config)
    base, test = planned.base, reporting_lessons(data)
    listener.notify(f"Measuring {base.model} before tuning on {len(test)} decisions")
    before = measure_untuned(test, base, device)
    rows = [
        report_row("uniform", measure_uniform(test).quality),
        report_row(f"{base.model} (untuned)", before.quality),
    ]
    refused: list[PriorError] = []
    for one in planned.tunings:
        if one.name in finished:
            listener.notify(
                f"Using the existing prior `{one.name}`: it has the same settings and inputs"
            )
            rows.append(_row(one, workspace.open("prior", one.name)))
            continue
        try:
            made = _tune(data, one, workspace, before, device, overwrite, force, listener)
        except WorseThanChanceError as error:
            refused.append(error)
            row = report_row(f"{one.name} (refused)", error.quality)
            rows.append({**row, "group": f"{one.group} (refused)"})
            continue
        rows.append(_row(one, made))
    return Outcome(rows, refused)


def _row(tuning: Tuning, artifact: Artifact) -> dict[str, Any]:
    report = read_json(artifact.path / "report.json")
    return {
        **report_row(tuning.name, report["after"]),
        "kl_from_untuned": report.get("kl_from_untuned"),
        "group": tuning.group,
        "shots": tuning.config.shots,
        "choice": tuning.config.choice,
        "seed": tuning.config.seed,
    }


def _tune(
    data: Sequence[TuningData],
    tuning: Tuning,
    workspace: Workspace,
    before: Measured,
    device: str,
    overwrite: bool,
    force: bool,
    listener: Listener,
) -> Artifact:
    """Tune one prior under a progress bar."""
    steps = planned_steps(tuning.config, len(chosen_lessons(data, tuning.config)))
    with listener.progress(f"Tuning {tuning.name}", steps) as advance:

        def on_step(step: TuningStep) -> None:
            nll = step.validation_nll
            advance(step.step, f"loss {step.loss:.3f}" + (f", held-out {nll:.3f}" if nll else ""))

        return tune_prior(
            data, tuning.config, workspace, tuning.name, before=before, device=device,
            overwrite=overwrite, force=force, hooks=TuningHooks(on_step, listener.notify),
        )  # fmt: skip


def options_played(data: TuningData, workspace: Workspace) -> list[str]:
    """`env_options.KEY=VALUE` for a shell: options of demonstrations other than the default ones.

    A run in the same environment needs them, too.
    """
    source = data.source
    if source.kind != "demos" or source.name not in workspace.names("demos"):
        return []
    if spec(data.env_id).kind == "control":
        return []
    config = read_toml(workspace.open("demos", source.name).path / "config.toml")
    usual = full_options(data.env_id, {})
    return [
        shlex.quote(f"env_options.{key}={value if isinstance(value, str) else json.dumps(value)}")
        for key, value in config.get("env_options", {}).items()
        if usual.get(key) != value
    ]
