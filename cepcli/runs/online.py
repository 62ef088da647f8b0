"""A run on disk: started, resumed, finished, evaluated; its name, its summary.

`<workspace>/run/<name>/` holds config.toml, manifest.json, metrics.jsonl, TensorBoard events, the
last checkpoint, the cache, summary.json and curve.png.
"""

import re
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from cepcli.agents.config import TrainConfig
from cepcli.agents.hybrid_sac import HybridSAC
from cepcli.cache.controllers.runner import Control
from cepcli.cache.store import PriorCache
from cepcli.cache.telemetry import CacheTelemetry, cost_of
from cepcli.cache.warm import Start, read_start, start_from
from cepcli.config import to_dict
from cepcli.errors import ArtifactError, ConfigError
from cepcli.prior.server.address import is_server, server_address
from cepcli.runs.checkpoint import load_checkpoint
from cepcli.runs.demonstrated import Demonstrated, begin_with, demonstrated
from cepcli.runs.evaluation import (
    Evaluation,
    OnRound,
    Watch,
    evaluate,
    unheard,
    unwatched,
)
from cepcli.runs.parts import (
    Notify,
    Parts,
    build_parts,
    make_eval_envs,
    with_prior_defaults,
)
from cepcli.runs.progress import Progress
from cepcli.runs.run_settings import read_config, read_values
from cepcli.runs.training import Hooks, current_temperature, train
from cepcli.workspace.artifacts import (
    Input,
    Workspace,
    check_name,
    versions,
    write_json,
    writing,
)
from cepcli.workspace.checkpoint_files import checkpoints
from cepcli.workspace.run_directory import (
    check_new_run,
    check_same_settings,
    run_directory,
    summary_of,
    tell_what_is_new,
    tell_where_it_begins,
)


def default_name(config: TrainConfig) -> str:
    """`<env>_<agent>[_<prior>_<cache>]_s<seed>`: the same settings give the same name."""
    parts = [config.env, config.agent]
    if config.prior != "uniform":
        parts += [_prior_label(config.prior), config.cache.mode]
    return check_name("_".join([*parts, f"s{config.seed}"]).replace("/", "-"))


def _prior_label(prior: str) -> str:
    """A prior's name, or the last part of the path or address that it is, as part of a name."""
    label = server_address(prior).label if is_server(prior) else Path(prior).name
    return re.sub(r"[^\w.-]", "-", label)


def start_run(
    config: TrainConfig,
    workspace: Workspace,
    name: str,
    *,
    resume: bool,
    overwrite: bool,
    hooks: Hooks,
    notify: Notify,
) -> dict[str, Any]:
    """Train a run to its end and return its summary; see `train` for what it raises."""
    config = with_prior_defaults(config)
    with workspace.lock("run", name):
        waiting = workspace.partial("run", name).is_dir()
        if resume and not waiting and workspace.exists("run", name):
            notify(f"The run `{name}` is finished already")
            _check_same_config(config, workspace.directory("run", name))
            return summary_of(workspace, name)
        _check_free(config, workspace, name, resume=resume, overwrite=overwrite)
        # What cannot be built leaves no run behind.
        if resume and waiting:
            tell_where_it_begins(workspace.partial("run", name), config.steps, notify)
        begun = resume and bool(checkpoints(workspace.partial("run", name)))
        if begun:
            tell_what_is_new(read_values(workspace.partial("run", name)), config, notify)
        else:
            config.check_new()
        start = None if begun else _start_cache(config, workspace)
        demos = None if begun else _demos(config, workspace)
        parts = build_parts(config, workspace, notify)
        _tell_if_actor_waits(parts, notify)
        fresh = Progress() if start is None else _started_from(start, parts, notify)
        if demos is not None:
            notify(f"Beginning with the demonstrations `{config.demos}`")
            tau = current_temperature(parts, fresh)
            fresh.demos = begin_with(parts, demos, tau, hooks.stop_requested)
        run = run_directory(config, workspace, name, resume=resume, overwrite=overwrite)
        with writing(run):
            progress = train(parts, run, hooks, fresh)
        return _finish(parts, progress, workspace, name, run, hooks)


def _tell_if_actor_waits(parts: Parts, notify: Notify) -> None:
    """Say so where a run ends before an actor with nominal controls begins to learn."""
    steps, starts = parts.config.steps, parts.config.sac.residual_starts
    if isinstance(parts.learner, HybridSAC) and parts.learner.nominal and steps <= starts:
        notify(f"The actor will not learn: it waits for {starts} steps (sac.residual_starts)")


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


def evaluate_run(
    workspace: Workspace,
    name: str,
    episodes: int,
    *,
    frozen_cache: bool,
    notify: Notify,
    watch: Watch = unwatched,
    env_options: dict[str, Any] | None = None,
    on_round: OnRound = unheard,
) -> dict[str, Any]:
    """Evaluate a finished run on held-out instances; nothing of it is changed.

    With `frozen_cache` the prior is answered by the run's cache as training left it, read-only;
    without it every decision is a query to the LLM (or to the journal, at recorded cost). `watch`
    is told every decision, `on_round` how far it is. `env_options` are laid on those that the run
    was trained with.
    """
    parts, progress = finished_run(workspace, name, notify)
    if env_options:
        config = parts.config
        config = replace(config, env_options={**config.env_options, **env_options})
        parts.eval_envs = make_eval_envs(config, workspace, notify)
    if not frozen_cache:
        switch_off(parts)
    summary = _evaluated(parts, progress, name, episodes, watch, on_round)[1]
    return {**summary, "env_options": env_options} if env_options else summary


def evaluate_pair(
    workspace: Workspace, name: str, other: str | None, episodes: int, notify: Notify
) -> tuple[tuple[Evaluation, dict[str, Any]], tuple[Evaluation, dict[str, Any]]]:
    """The same episodes through a finished run's frozen cache, and asking for every decision.

    The second is played by the run `other`, or, if that is None, by the same agent with the same Q
    and τ. Each comes with its summary.

    Raises:
        ConfigError: if the runs do not play the same episodes.
    """
    parts, progress = finished_run(workspace, name, notify)
    if other is not None:
        _check_same_episodes(parts.config, workspace, name, other)
    notify(f"Playing {episodes} episodes through the cache")
    cached = _evaluated(parts, progress, name, episodes)
    if other is not None:
        parts, progress = finished_run(workspace, other, notify)
    switch_off(parts)
    notify(f"Playing {episodes} episodes, asking for every decision")
    return cached, _evaluated(parts, progress, other or name, episodes)


def _check_same_episodes(config: TrainConfig, workspace: Workspace, name: str, other: str) -> None:
    theirs = read_config(workspace.open("run", other).path)
    for key in ("env", "env_options", "seed"):
        mine, their = getattr(config, key), getattr(theirs, key)
        if mine != their:
            raise ConfigError(
                f"`{name}` and `{other}` play different episodes: `{key}` is {mine} and {their}.",
                "Compare runs of one environment and seed: cep runs list",
            )


def finished_run(workspace: Workspace, name: str, notify: Notify) -> tuple[Parts, Progress]:
    """A finished run's parts as its last checkpoint left them.

    Raises:
        ArtifactError: if there is no such run, or it is not finished.
    """
    artifact = workspace.open("run", name)
    config, found = read_config(artifact.path), checkpoints(artifact.path)
    if not found:
        raise ArtifactError(
            f"`{artifact.path}` is a record of a run, without the agent.",
            f"Evaluate it where it was made, or make it again: {artifact.manifest['command']}",
        )
    parts = build_parts(config, workspace, notify)
    return parts, Progress(**load_checkpoint(found[-1], parts))


def switch_off(parts: Parts) -> None:
    """Let evaluations ask the prior itself."""
    if parts.cache is not None:
        off = replace(parts.cache.config, mode="off")
        parts.cache = PriorCache(off, parts.cache.dim, parts.cache.namespace)


def _evaluated(
    parts: Parts,
    progress: Progress,
    name: str,
    episodes: int,
    watch: Watch = unwatched,
    on_round: OnRound = unheard,
) -> tuple[Evaluation, dict[str, Any]]:
    tau = current_temperature(parts, progress)
    began = time.perf_counter()
    result = evaluate(parts, episodes, tau, watch=watch, on_round=on_round)
    wall_seconds = time.perf_counter() - began
    summary = summarise(
        parts, name, progress, result.telemetry, result.decisions, result.summary(), wall_seconds
    )
    return result, summary


def summarise(
    parts: Parts,
    name: str,
    progress: Progress,
    telemetry: CacheTelemetry,
    decisions: int,
    evaluation: dict[str, Any],
    wall_seconds: float,
    control: Control | None = None,
) -> dict[str, Any]:
    """The JSON summary of training and evaluation alike.

    Nothing controls the cache of an evaluation, and nothing is promised about it: no `control`.
    """
    config = parts.config
    return {
        "run": name,
        "env": config.env,
        "agent": config.agent,
        "prior": config.prior,
        "cache": parts.cache.config.mode if parts.cache is not None else "off",
        "seed": config.seed,
        "steps": progress.step,
        "decisions": decisions,
        "warm_entries": progress.warm_entries,
        "demos": progress.demos,
        **telemetry.summary(),
        "certificate": control.promise if control is not None else None,
        "control_seconds": control.seconds if control is not None else 0.0,
        "wall_seconds": wall_seconds,
        "eval": evaluation,
        "device": config.device,
        "versions": versions(),
    }


def _start_cache(config: TrainConfig, workspace: Workspace) -> Start | None:
    """The cache that a run is to start from, if its configuration names one."""
    name = config.cache.start
    if name is None:
        return None
    if config.cache.mode == "off":
        raise ConfigError(
            f"`cache.start` is `{name}`, but this run has no cache: its prior is "
            f"`{config.prior}`, its cache off.",
            "Leave it out, or use a prior that asks an LLM with --cache exact, lru or certified.",
        )
    return read_start(name, workspace)


def _demos(config: TrainConfig, workspace: Workspace) -> Demonstrated | None:
    """The demonstrations that a run is to begin with, if its configuration names some."""
    return None if config.demos is None else demonstrated(config.demos, workspace, config.env)


def _started_from(start: Start, parts: Parts, notify: Notify) -> Progress:
    """Fill the cache of a run that begins, from a saved one."""
    assert parts.cache is not None, "only an LLM's prior is cached, and `off` is the mode without"
    name = str(parts.config.cache.start)
    keys = parts.control.keys if parts.control is not None else None
    notify(f"Starting from the cache `{name}`")
    entries = start_from(start, parts.cache, keys)
    return Progress(start_cache={"name": name, "sha256": start.sha256, "entries": entries})


def _check_free(
    config: TrainConfig, workspace: Workspace, name: str, *, resume: bool, overwrite: bool
) -> None:
    partial = workspace.partial("run", name)
    if resume and partial.is_dir():
        _check_same_config(config, partial)
    else:
        check_new_run(workspace, name, overwrite=overwrite)


def _check_same_config(config: TrainConfig, run: Path) -> None:
    """Refuse settings that differ from the run's."""
    check_same_settings(run, to_dict(read_config(run)), to_dict(config))


def _finish(
    parts: Parts, progress: Progress, workspace: Workspace, name: str, run: Path, hooks: Hooks
) -> dict[str, Any]:
    evaluation = {k: v for k, v in progress.evaluations[-1].items() if k != "step"}
    summary = summarise(
        parts, name, progress, parts.telemetry, progress.decisions, evaluation,
        progress.wall_seconds, parts.control,
    )  # fmt: skip
    summary["eval"]["curve"] = [[e["step"], e["success_rate"]] for e in progress.evaluations]
    summary["eval"]["return_curve"] = [[e["step"], e["return_mean"]] for e in progress.evaluations]
    summary["evaluations"] = cost_of(progress.evaluations)
    summary["decisions_sha256"] = progress.decisions_sha256
    with writing(run):
        if parts.cache is not None:
            parts.cache.save(run / "cache")
        write_json(run / "summary.json", summary)
        hooks.on_finish(run)
    inputs = [artifact.reference for artifact in parts.inputs]
    for kind, source in (("demos", progress.demos), ("cache", progress.start_cache)):
        if source is not None:
            inputs.append(Input(kind, source["name"], source["sha256"]))
    workspace.finish("run", name, seed=parts.config.seed, inputs=inputs)
    return summary
