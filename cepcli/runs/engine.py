"""A run on disk: started, resumed, finished, evaluated; and the loop, which all runs share.

`<workspace>/run/<name>/` holds config.toml, manifest.json, metrics.jsonl, TensorBoard events, the
last checkpoint, summary.json and curve.png; a run with a cache also its cache. Everything that
changes is in the `TrainingRun` and its `Progress`, and both are in every checkpoint: a run killed
at any moment goes on from its last checkpoint and ends as if it had never stopped.
"""

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from cepcli.agents.config import TrainConfig
from cepcli.agents.offline_config import OfflineConfig
from cepcli.cache.controllers import Controller
from cepcli.cache.telemetry import COSTS, CacheTelemetry, cost_of
from cepcli.config import to_dict
from cepcli.envs.episodes import stopped_in_evaluation
from cepcli.errors import ArtifactError, ConfigError, EnvError, Interrupted
from cepcli.listener import Notify
from cepcli.runs import offline, online
from cepcli.runs.offline import OfflineRun
from cepcli.runs.online import OnlineRun, Watch, make_eval_envs, unwatched
from cepcli.runs.run import Evaluation, Progress, TrainingRun
from cepcli.runs.settings import read_config, read_values
from cepcli.workspace.artifacts import Input, Workspace, versions, write_json, writing
from cepcli.workspace.checkpoint_files import (
    PRIOR_FAILED,
    check_files,
    check_state,
    checkpoints,
    is_saved,
    read_state,
    saving_first,
    writing_checkpoint,
)
from cepcli.workspace.metrics import MetricWriter
from cepcli.workspace.run_directory import (
    check_new_run,
    check_same_settings,
    is_offline,
    run_directory,
    summary_of,
    tell_what_is_new,
    tell_where_it_begins,
)

AnyConfig = TrainConfig | OfflineConfig

#: In the summary of a run that is evaluated nowhere.
_NOT_EVALUATED: dict[str, Any] = {
    "episodes": 0, "success_rate": None, "return_mean": None, "normalised_score": None,
    "length_mean": None, **dict.fromkeys(COSTS, 0),
}  # fmt: skip
#: Figures of evaluations that a summary has as curves, where they are known at all.
_CURVES = {
    "curve": "success_rate", "return_curve": "return_mean", "normalised_curve": "normalised_score"
}  # fmt: skip
#: Keys of a checkpoint's `state.json` beside those of the kind of run.
_STATE_KEYS = {"schema_version", "config_sha256", "progress", "files"}


@dataclass(frozen=True, slots=True)
class Hooks:
    """How the loop speaks to whoever runs it; it prints nothing itself.

    Attributes:
        on_step: told after every step.
        on_round: told while an evaluation goes on: its step, how many of how many episodes have
            ended, and queries.
        on_evaluation: told the step and the summary of an evaluation.
        on_finish: told the directory, when all but the manifest is written.
        stop_requested: asked before every step and round.
    """

    on_step: Callable[[Any, Progress], None] = lambda run, progress: None
    on_round: Callable[[int, int, int, int], None] = lambda step, done, episodes, queries: None
    on_evaluation: Callable[[int, dict[str, Any]], None] = lambda step, summary: None
    on_finish: Callable[[Path], object] = lambda folder: None
    stop_requested: Callable[[], bool] = lambda: False


def default_name(config: AnyConfig) -> str:
    """The name of a run that is given none: the same settings have the same one."""
    if isinstance(config, TrainConfig):
        return online.default_name(config)
    return offline.default_name(config)


def _kind(config: AnyConfig) -> type[TrainingRun[Any]]:
    return OnlineRun if isinstance(config, TrainConfig) else OfflineRun


# -- on disk -----------------------------------------------------------------------------------


def start_run(
    config: AnyConfig,
    workspace: Workspace,
    name: str,
    *,
    resume: bool,
    overwrite: bool,
    hooks: Hooks,
    notify: Notify,
) -> dict[str, Any]:
    """Train a run to its end and return its summary.

    Raises:
        ArtifactError: if the name is taken, the settings differ from those that the run was started
            with, something that it needs is missing, or as `train`.
        CepError: as the run's `build`, and as `train`.
    """
    kind = _kind(config)
    config = kind.completed(config)
    with workspace.lock("run", name):
        partial = workspace.partial("run", name)
        waits = resume and partial.is_dir()
        if resume and not waits and workspace.exists("run", name):
            notify(f"The run `{name}` has already finished")
            _check_same_config(config, workspace.directory("run", name))
            return summary_of(workspace, name)
        if waits:
            _check_same_config(config, partial)
            tell_where_it_begins(partial, config.steps, notify)
        else:
            check_new_run(workspace, name, overwrite=overwrite)
        begins = not (waits and checkpoints(partial))
        if not begins:
            tell_what_is_new(read_values(partial, kind.kind), config, notify)
        # What cannot be built leaves no run behind.
        run = kind.build(config, workspace, notify, begins=begins)
        fresh = run.begin(notify, hooks.stop_requested) if begins else None
        folder = run_directory(config, workspace, name, resume=resume, overwrite=overwrite)
        with writing(folder):
            progress = train(run, folder, hooks, fresh)
            summary = _trained(run, name, progress)
            if run.opened is not None:
                run.opened.cache.save(folder / "cache")
            write_json(folder / "summary.json", summary)
            hooks.on_finish(folder)
        begun_with = [
            Input(kind, source["name"], source["sha256"])
            for kind, source in (("demos", progress.demos), ("cache", progress.start_cache))
            if source is not None
        ]
        inputs = [*run.inputs, *begun_with]
        workspace.finish("run", name, seed=config.seed, inputs=inputs)
        return summary


def _check_same_config(config: AnyConfig, folder: Path) -> None:
    """Refuse settings that differ from the run's."""
    before = _stored(folder, offline=isinstance(config, OfflineConfig))
    check_same_settings(folder, to_dict(before), to_dict(config))


def _stored(folder: Path, *, offline: bool) -> AnyConfig:
    return read_config(folder, OfflineConfig) if offline else read_config(folder)


def resume_run(workspace: Workspace, name: str, hooks: Hooks, notify: Notify) -> dict[str, Any]:
    """Go on with an unfinished run under its own configuration."""
    folder = workspace.partial("run", name)
    if not folder.is_dir():
        summary = summary_of(workspace, name)
        notify(f"The run `{name}` has already finished")
        return summary
    config = _stored(folder, offline=is_offline(workspace, name))
    return start_run(
        config, workspace, name, resume=True, overwrite=False, hooks=hooks, notify=notify
    )


def finished_run(workspace: Workspace, name: str, notify: Notify) -> tuple[OnlineRun, Progress]:
    """A finished run of `cep train` as its last checkpoint left it.

    Raises:
        ArtifactError: if there is no such run, or it is not finished, or a record alone.
    """
    config = read_config(workspace.open("run", name).path)
    checkpoint = _last_checkpoint(workspace, name)
    run = OnlineRun.build(config, workspace, notify)
    return run, _load(checkpoint, run)


def _last_checkpoint(workspace: Workspace, name: str) -> Path:
    artifact = workspace.open("run", name)
    found = checkpoints(artifact.path)
    if not found:
        raise ArtifactError(
            f"`{artifact.path}` is a record of a run, without the agent.",
            f"Evaluate it where it was made, or make it again: {artifact.manifest['command']}",
        )
    return found[-1]


def evaluate_run(
    workspace: Workspace,
    name: str,
    episodes: int,
    *,
    notify: Notify,
    frozen_cache: bool = False,
    env_options: dict[str, Any] | None = None,
    watch: Watch = unwatched,
    before_round: Callable[[int, int], None] = lambda done, queries: None,
) -> dict[str, Any]:
    """Evaluate a finished run of `cep train` on held-out instances; it is not changed.

    With `frozen_cache` the prior is answered by the run's cache as training left it, read-only;
    without it every decision is a query to the LLM (or to the journal, at recorded cost).
    `env_options` are laid on those that the run was trained with. `watch` is told every decision,
    `before_round` how many episodes have ended, and queries.
    """
    run, progress = finished_run(workspace, name, notify)
    if env_options:
        config = replace(run.config, env_options={**run.config.env_options, **env_options})
        run.eval_envs = make_eval_envs(config, workspace, notify)
    if not frozen_cache:
        run.switch_cache_off()
    play = lambda: run.evaluate(progress, episodes, before_round, watch)  # noqa: E731
    summary = _evaluated(run, name, progress, play)[1]
    return {**summary, "env_options": env_options} if env_options else summary


def evaluate_offline_run(
    workspace: Workspace, name: str, episodes: int, notify: Notify
) -> dict[str, Any]:
    """Evaluate a finished run of `cep offline` on held-out instances; it is not changed."""
    folder = workspace.open("run", name).path
    # One that was evaluated nowhere now is, which may need what it did without: a prior.
    config = replace(read_config(folder, OfflineConfig), eval_env=True)
    checkpoint = _last_checkpoint(workspace, name)
    run = OfflineRun.build(config, workspace, notify)
    progress = _load(checkpoint, run)
    notify(f"Playing {episodes} episodes")
    return _evaluated(run, name, progress, lambda: run.evaluate(progress, episodes))[1]


def evaluate_pair(
    workspace: Workspace, name: str, other: str | None, episodes: int, notify: Notify
) -> tuple[tuple[Evaluation, dict[str, Any]], tuple[Evaluation, dict[str, Any]]]:
    """The same episodes through a finished run's frozen cache, and asking for every decision.

    The second is played by the run `other`, or, if that is None, by the same agent with the same Q
    and τ. Each comes with its summary.

    Raises:
        ConfigError: if the runs do not play the same episodes.
    """
    run, progress = finished_run(workspace, name, notify)
    if other is not None:
        theirs = read_config(workspace.open("run", other).path)
        for key in ("env", "env_options", "seed"):
            mine, their = getattr(run.config, key), getattr(theirs, key)
            if mine != their:
                raise ConfigError(
                    f"`{name}` and `{other}` play different episodes: `{key}` is {mine} and "
                    f"{their}.",
                    "Compare runs of one environment and seed: cep runs list",
                )
    notify(f"Playing {episodes} episodes through the cache")
    cached = _evaluated(run, name, progress, lambda: run.evaluate(progress, episodes))
    if other is not None:
        run, progress = finished_run(workspace, other, notify)
    run.switch_cache_off()
    notify(f"Playing {episodes} episodes, asking for every decision")
    asked = _evaluated(run, other or name, progress, lambda: run.evaluate(progress, episodes))
    return cached, asked


# -- the loop ----------------------------------------------------------------------------------


def train(run: TrainingRun[Any], folder: Path, hooks: Hooks, fresh: Progress | None) -> Progress:
    """Train in the run directory `folder` from its last checkpoint, or from the start, `fresh`.

    Raises:
        Interrupted: when `hooks.stop_requested()`; the checkpoint is written before.
        ArtifactError: when the checkpoint cannot be used, its inputs have changed, or the disk
            cannot be written.
        ConfigError: if the learner's numbers are not finite any more.
        EnvError, PriorError, CacheError: when an environment, the LLM or its journal fails for
            good. A checkpoint is written before, as the run stood at that step; where an LLM is
            asked for several environments the last one stays.
    """
    config = run.config
    progress = _load(checkpoints(folder)[-1], run) if fresh is None else fresh
    began = time.perf_counter() - progress.wall_seconds
    writer = MetricWriter(folder, offset=progress.metrics_offset, step=progress.step)
    run.open(folder, progress)

    def save() -> None:
        progress.wall_seconds = time.perf_counter() - began
        progress.metrics_offset = writer.sync()
        _save(folder, run, progress)

    def check_interrupt() -> None:
        if hooks.stop_requested():
            save()
            raise Interrupted

    try:
        while True:
            if run.eval_envs and progress.step >= progress.next_eval:
                with saving_first(save, (EnvError, *PRIOR_FAILED)):
                    evaluation = _evaluate(run, progress, check_interrupt, hooks)
                summary = evaluation.summary()
                progress.evaluations.append({"step": progress.step, **summary})
                writer.write(progress.step, _evaluation_row(summary))
                hooks.on_evaluation(progress.step, summary)
                progress.next_eval = _next_eval(progress.step, config.steps, config.eval_interval)
            if progress.step >= config.steps:
                save()
                return progress
            check_interrupt()

            before = progress.step
            with saving_first(save, run.harmless):
                run.advance(progress)

            if _passed(config.log_interval, before, progress.step):
                writer.write(progress.step, run.metrics(progress))
            if _passed(config.checkpoint_interval, before, progress.step):
                save()
            hooks.on_step(run, progress)
    finally:
        writer.close()
        run.close()


def _evaluate(
    run: TrainingRun[Any], progress: Progress, check_interrupt: Callable[[], None], hooks: Hooks
) -> Evaluation:
    """The evaluation that is due."""
    config, step = run.config, progress.step
    episodes = config.final_eval_episodes if step >= config.steps else config.eval_episodes

    def before_round(done: int, queries: int) -> None:
        check_interrupt()
        hooks.on_round(step, done, episodes, queries)

    try:
        return run.evaluate(progress, episodes, before_round)
    except EnvError as error:
        raise stopped_in_evaluation(step, error) from error


def _evaluation_row(summary: dict[str, Any]) -> dict[str, float]:
    return {
        f"eval/{name}": value
        for name, value in summary.items()
        if value is not None and name != "decisions"
    }


def _passed(interval: int, before: int, now: int) -> bool:
    """Whether a multiple of `interval` lies in (before, now]."""
    return now // interval > before // interval


def _next_eval(step: int, steps: int, interval: int) -> int:
    """The next multiple of `interval`, but never later than the end."""
    return min((step // interval + 1) * interval, steps) if step < steps else steps + 1


# -- checkpoints -------------------------------------------------------------------------------


def _save(folder: Path, run: TrainingRun[Any], progress: Progress) -> None:
    """Write a checkpoint, unless this state has one."""
    if is_saved(folder, progress.step, progress.next_eval):
        return
    with writing_checkpoint(folder, progress.step, run.schema_version) as (partial, state):
        state |= run.save(partial, progress)
        state["progress"] = asdict(progress)


def _load(path: Path, run: TrainingRun[Any]) -> Progress:
    """Put `run` into the checkpointed state; returns where it stands.

    Raises:
        ArtifactError: if the checkpoint is truncated or foreign; it is left untouched.
    """
    state = read_state(path)
    check_state(path, state, {*_STATE_KEYS, *run.state_keys}, run.schema_version)
    check_files(path, state["files"])
    run.restore(path, state)
    return Progress(**state["progress"])


# -- summaries ---------------------------------------------------------------------------------


def _trained(run: TrainingRun[Any], name: str, progress: Progress) -> dict[str, Any]:
    """The summary of training: with curves, and with the last evaluation's figures."""
    evaluations = progress.evaluations
    last = dict(evaluations[-1]) if evaluations else dict(_NOT_EVALUATED)
    last.pop("step", None)
    for curve, figure in _CURVES.items():
        if figure in last:
            last[curve] = [[e["step"], e[figure]] for e in evaluations]
    control = None if run.opened is None else run.opened.controller
    summary = _summary(
        run, name, progress, run.telemetry, progress.decisions, last, progress.wall_seconds, control
    )
    return {**summary, **run.training_facts(progress), "evaluations": cost_of(evaluations)}


def _evaluated(
    run: TrainingRun[Any], name: str, progress: Progress, play: Callable[[], Evaluation]
) -> tuple[Evaluation, dict[str, Any]]:
    """An evaluation of a finished run, and its summary."""
    began = time.perf_counter()
    found = play()
    return found, _summary(
        run, name, progress, found.telemetry, found.more.get("decisions", 0), found.summary(),
        time.perf_counter() - began,
    )  # fmt: skip


def _summary(
    run: TrainingRun[Any],
    name: str,
    progress: Progress,
    telemetry: CacheTelemetry,
    decisions: int,
    evaluation: dict[str, Any],
    wall_seconds: float,
    control: Controller | None = None,
) -> dict[str, Any]:
    """The JSON summary of training and of evaluation alike.

    Nothing controls the cache of an evaluation, and nothing is promised about it: no `control`.
    """
    return {
        "run": name,
        **run.facts(progress),
        "seed": run.config.seed,
        "steps": progress.step,
        "decisions": decisions,
        "warm_entries": progress.warm_entries,
        **telemetry.summary(),
        "certificate": None if control is None else control.promise,
        "control_seconds": 0.0 if control is None else control.seconds,
        "wall_seconds": wall_seconds,
        "eval": evaluation,
        "device": run.config.device,
        "versions": versions(),
    }
