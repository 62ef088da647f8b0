"""An offline run on disk: started, resumed, finished, evaluated; in the layout of `cep train`."""

import re
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from cepcli.agents.offline_config import OfflineConfig
from cepcli.cache.telemetry import CacheTelemetry, cost_of
from cepcli.config import read_toml, to_dict
from cepcli.datasets.resolve import D4RL, DEFAULT_ENV, DEFAULT_SPLIT
from cepcli.runs.offline_evaluation import NOTHING_PLAYED, play
from cepcli.runs.offline_parts import Notify, Parts, TextParts, build_parts, make_eval_envs
from cepcli.runs.offline_training import Hooks, Progress, load_finished, train
from cepcli.workspace.artifacts import Workspace, check_name, versions, write_json, writing
from cepcli.workspace.checkpoint_files import checkpoints
from cepcli.workspace.run_directory import (
    build_stored,
    check_kind,
    check_new_run,
    check_same_settings,
    run_directory,
    summary_of,
    tell_what_is_new,
    tell_where_it_begins,
)


def default_name(config: OfflineConfig) -> str:
    """`<env or dataset>_<algorithm>_s<seed>`, with the split under d4rl."""
    parts = [_label(config.dataset)]
    if config.dataset == D4RL:
        parts = [config.env or DEFAULT_ENV, config.split or DEFAULT_SPLIT]
    return check_name("_".join([*parts, config.algorithm, f"s{config.seed}"]).replace("/", "-"))


def _label(dataset: str) -> str:
    """A dataset's name, or the last part of the path that it is, as part of a name."""
    file = dataset.endswith((".hdf5", ".h5")) or Path(dataset).is_file()
    label = Path(dataset).stem if file else dataset
    return re.sub(r"[^\w.-]", "-", label).lstrip("-.")


def start_run(
    config: OfflineConfig,
    workspace: Workspace,
    name: str,
    *,
    resume: bool,
    overwrite: bool,
    hooks: Hooks,
    notify: Notify,
) -> dict[str, Any]:
    """Train a run to its end and return its summary; see `train` for what it raises."""
    with workspace.lock("run", name):
        partial = workspace.partial("run", name)
        if resume and not partial.is_dir() and workspace.exists("run", name):
            notify(f"The run `{name}` is finished already")
            _check_same_config(config, workspace.directory("run", name))
            return summary_of(workspace, name)
        if resume and partial.is_dir():
            _check_same_config(config, partial)
            tell_where_it_begins(partial, config.steps, notify)
        else:
            check_new_run(workspace, name, overwrite=overwrite)
        if resume and checkpoints(partial):
            tell_what_is_new(_read_values(partial), config, notify)
        # What cannot be built leaves no run behind.
        parts = build_parts(config, workspace, notify)
        envs = make_eval_envs(parts, workspace, notify) if config.eval_env else []
        run = run_directory(config, workspace, name, resume=resume, overwrite=overwrite)
        with writing(run):
            progress = train(parts, envs, run, hooks)
            summary = _trained(parts, progress, name)
            write_json(run / "summary.json", summary)
            hooks.on_finish(run)
        workspace.finish("run", name, seed=config.seed, inputs=parts.inputs)
        return summary


def resume_run(workspace: Workspace, name: str, hooks: Hooks, notify: Notify) -> dict[str, Any]:
    """Go on with an unfinished run under its own configuration."""
    run = workspace.partial("run", name)
    if not run.is_dir():
        summary = summary_of(workspace, name)
        notify(f"The run `{name}` is finished already")
        return summary
    config = read_config(run)
    return start_run(
        config, workspace, name, resume=True, overwrite=False, hooks=hooks, notify=notify
    )


def evaluate_run(workspace: Workspace, name: str, episodes: int, notify: Notify) -> dict[str, Any]:
    """Evaluate a finished run on held-out instances; nothing of it is changed."""
    run = workspace.open("run", name).path
    # A run that was to be evaluated nowhere is now, which may need what it did without: a prior.
    parts = build_parts(replace(read_config(run), eval_env=True), workspace, notify)
    progress = load_finished(run, parts)
    envs = make_eval_envs(parts, workspace, notify)
    began = time.perf_counter()
    notify(f"Playing {episodes} episodes")
    played = play(parts, envs, episodes)
    return _summary(
        parts, progress, name, played.summary(), played.telemetry, time.perf_counter() - began
    )


def _read_values(run: Path) -> dict[str, Any]:
    values = read_toml(run / "config.toml")
    check_kind(run, values, "algorithm")
    return values


def read_config(run: Path) -> OfflineConfig:
    """The configuration a run was started with.

    Raises:
        ArtifactError: if it is a run of another command, or its file holds what is none.
    """
    return build_stored(OfflineConfig, run, _read_values(run))


def _check_same_config(config: OfflineConfig, run: Path) -> None:
    check_same_settings(run, to_dict(read_config(run)), to_dict(config))


def _trained(parts: Parts, progress: Progress, name: str) -> dict[str, Any]:
    """The summary of training: with curves, and with the last evaluation's figures."""
    evaluations = progress.evaluations
    last = evaluations[-1] if evaluations else NOTHING_PLAYED
    summary = _summary(
        parts, progress, name, {k: v for k, v in last.items() if k != "step"},
        CacheTelemetry(0.0), progress.wall_seconds,
    )  # fmt: skip
    for key, figure in (
        ("curve", "success_rate"), ("return_curve", "return_mean"),
        ("normalised_curve", "normalised_score"),
    ):  # fmt: skip
        summary["eval"][key] = [[e["step"], e[figure]] for e in evaluations]
    summary["evaluations"] = cost_of(evaluations)
    summary["gradient_steps_per_s"] = progress.step / max(progress.learning_seconds, 1e-9)
    return summary


def _summary(
    parts: Parts,
    progress: Progress,
    name: str,
    evaluation: dict[str, Any],
    telemetry: CacheTelemetry,
    wall_seconds: float,
) -> dict[str, Any]:
    """As `cep train` leaves it; an offline run decides nothing while it learns."""
    config, data = parts.config, parts.data
    return {
        "run": name,
        "env": data.env or "unknown",
        "agent": config.algorithm,
        "prior": _prior_name(parts),
        "cache": "off",
        "seed": config.seed,
        "steps": progress.step,
        "decisions": 0,
        "warm_entries": 0,
        "dataset": {"name": config.dataset, "source": data.source, "steps": len(data)},
        **telemetry.summary(),
        "certificate": None,
        "control_seconds": 0.0,
        "wall_seconds": wall_seconds,
        "learning_seconds": progress.learning_seconds,
        "eval": dict(evaluation),
        "device": config.device,
        "versions": versions(),
    }


def _prior_name(parts: Parts) -> str:
    if parts.config.algorithm != "cql-prior":
        return "uniform"
    labels = parts.data.prior if isinstance(parts, TextParts) else (
        parts.data.labels and parts.data.labels.prior
    )  # fmt: skip
    return parts.config.prior or labels or "uniform"
