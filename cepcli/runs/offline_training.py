"""The loop of an offline run: sample, learn, log; evaluate and checkpoint on the way.

A checkpoint holds networks, optimisers, generators and counters; the dataset is the run's input and
is read again. A run killed at any moment goes on from its last checkpoint and ends as if it had
never stopped.
"""

import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import Tensor

from cepcli.datasets.origins import check_same_inputs
from cepcli.envs.parallel_episodes import stopped_in_evaluation
from cepcli.errors import EnvError, Interrupted
from cepcli.runs.offline_evaluation import diverged, play
from cepcli.runs.offline_parts import EvalEnvs, Parts, TextParts
from cepcli.workspace.artifacts import Input
from cepcli.workspace.checkpoint_files import (
    PRIOR_FAILED,
    check_files,
    check_state,
    checkpoints,
    fitting,
    is_saved,
    load_tensors,
    read_state,
    saving_first,
    writing_checkpoint,
)
from cepcli.workspace.metrics import MetricWriter

SCHEMA_VERSION = 1
_KEYS = {"schema_version", "config_sha256", "progress", "sampling", "learner", "files"}


@dataclass(slots=True)
class Progress:
    """Where the loop stands; plain JSON values only.

    `step` counts gradient steps; `inputs` are what the run was begun with.
    """

    step: int = 0
    next_eval: int = 0
    evaluations: list[dict[str, Any]] = field(default_factory=list)
    wall_seconds: float = 0.0
    learning_seconds: float = 0.0
    metrics_offset: int = 0
    inputs: list[dict[str, str]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Hooks:
    """How the loop speaks to whoever runs it; it prints nothing itself."""

    on_step: Callable[[Parts, Progress], None] = lambda parts, progress: None
    on_round: Callable[[int, int, int], None] = lambda step, done, episodes: None
    on_evaluation: Callable[[int, dict[str, Any]], None] = lambda step, summary: None
    on_finish: Callable[[Path], object] = lambda run: None
    stop_requested: Callable[[], bool] = lambda: False


def train(parts: Parts, envs: EvalEnvs, run: Path, hooks: Hooks) -> Progress:
    """Train in the run directory `run` from its last checkpoint, or from the start.

    Args:
        parts: what is trained.
        envs: of held-out episodes; none to play none.
        run: the directory.
        hooks: told what happens.

    Raises:
        Interrupted: when `hooks.stop_requested()`; the checkpoint is written before.
        ArtifactError: when the checkpoint cannot be used, the dataset or the labels are others than
            it was made from, or the disk cannot be written.
        ConfigError: if the learner's numbers are not finite any more.
        EnvError: if an environment fails in an evaluation; the checkpoint is written before.
    """
    config, progress = parts.config, Progress()
    if found := checkpoints(run):
        progress = _load(found[-1], parts)
    progress.inputs = [made_of._asdict() for made_of in parts.inputs]
    began = time.perf_counter() - progress.wall_seconds
    writer = MetricWriter(run, offset=progress.metrics_offset, step=progress.step)

    def save() -> None:
        progress.wall_seconds = time.perf_counter() - began
        progress.metrics_offset = writer.sync()
        _save(run, parts, progress)

    def check_interrupt() -> None:
        if hooks.stop_requested():
            save()
            raise Interrupted

    try:
        while True:
            if envs and progress.step >= progress.next_eval:
                with saving_first(save, (EnvError, *PRIOR_FAILED)):
                    _evaluate(parts, envs, progress, writer, hooks, check_interrupt)
            if progress.step >= config.steps:
                save()
                return progress
            check_interrupt()

            started = time.perf_counter()
            told = _gradient_step(parts)
            progress.step += 1
            progress.learning_seconds += time.perf_counter() - started

            if progress.step % config.log_interval == 0:
                _log(writer, progress.step, told)
            if progress.step % config.checkpoint_interval == 0:
                save()
            hooks.on_step(parts, progress)
    finally:
        writer.close()


def _gradient_step(parts: Parts) -> dict[str, Tensor]:
    config = parts.config
    if isinstance(parts, TextParts):
        batch = parts.batches.sample(config.text.batch_size, parts.sampling)
        return parts.learner.update(batch)
    return parts.learner.update(parts.batches.sample(config.control.batch_size, parts.sampling))


def _log(writer: MetricWriter, step: int, told: dict[str, Tensor]) -> None:
    row = {name: float(value) for name, value in told.items()}
    if not all(map(math.isfinite, row.values())):
        raise diverged("losses")
    writer.write(step, row)


def _evaluate(
    parts: Parts,
    envs: EvalEnvs,
    progress: Progress,
    writer: MetricWriter,
    hooks: Hooks,
    check_interrupt: Callable[[], None],
) -> None:
    """The evaluation that is due."""
    config = parts.config
    finished = progress.step >= config.steps
    episodes = config.final_eval_episodes if finished else config.eval_episodes

    def before_round(done: int) -> None:
        check_interrupt()
        hooks.on_round(progress.step, done, episodes)

    try:
        summary = play(parts, envs, episodes, before_round).summary()
    except EnvError as error:
        raise stopped_in_evaluation(progress.step, error) from error
    progress.evaluations.append({"step": progress.step, **summary})
    writer.write(progress.step, {f"eval/{k}": v for k, v in summary.items() if v is not None})
    progress.next_eval = min(
        (progress.step // config.eval_interval + 1) * config.eval_interval,
        config.steps + (1 if finished else 0),
    )
    hooks.on_evaluation(progress.step, summary)


def _save(run: Path, parts: Parts, progress: Progress) -> None:
    if is_saved(run, progress.step, progress.next_eval):
        return
    tensors, scalars = parts.learner.state()
    with writing_checkpoint(run, progress.step, SCHEMA_VERSION) as (partial, state):
        save_file(tensors, partial / "learner.safetensors")
        state |= {
            "progress": asdict(progress),
            "sampling": parts.sampling.bit_generator.state,
            "learner": scalars,
        }


def _load(path: Path, parts: Parts) -> Progress:
    """Put `parts` into the checkpointed state; returns the loop's progress."""
    state = read_state(path)
    check_state(path, state, _KEYS, SCHEMA_VERSION)
    check_files(path, state["files"])
    progress = Progress(**state["progress"])
    check_same_inputs([Input(**made_of) for made_of in progress.inputs], parts.inputs, path.parent)
    tensors = load_tensors(path / "learner.safetensors")
    with fitting(path):
        parts.learner.restore(tensors, state["learner"])
    parts.sampling.bit_generator.state = state["sampling"]
    return progress


def load_finished(run: Path, parts: Parts) -> Progress:
    """Put `parts` into the state in which a run ended."""
    return _load(checkpoints(run)[-1], parts)
