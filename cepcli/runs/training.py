"""The training loop: decide, step, store, learn, log; evaluate and checkpoint on the way.

Everything that changes is in `Parts` and `Progress`, and both are in every checkpoint, so a run
killed at any moment goes on from its last checkpoint and ends as if it had never stopped.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from cepcli.agents.policy import Decision, Policy, temperature
from cepcli.agents.q_learner import QLearner
from cepcli.cache.telemetry import COSTS
from cepcli.cache.trace import TraceWriter
from cepcli.envs.control_episodes import ControlTracker
from cepcli.envs.episodes import EpisodeTracker
from cepcli.envs.parallel_episodes import stopped_in_evaluation
from cepcli.errors import EnvError, Interrupted
from cepcli.runs.checkpoint import load_checkpoint, save_checkpoint
from cepcli.runs.control_training import control_step
from cepcli.runs.evaluation import Evaluation, evaluate
from cepcli.runs.metric_rows import metric_row
from cepcli.runs.parts import Losses, Parts
from cepcli.runs.progress import Progress, stopped_at
from cepcli.workspace.checkpoint_files import PRIOR_FAILED, checkpoints, saving_first
from cepcli.workspace.metrics import MetricWriter

#: Told while an evaluation goes on: its step, how many of how many episodes ended, and queries.
EvaluationRound = Callable[[int, int, int, int], None]


@dataclass(frozen=True, slots=True)
class Hooks:
    """How the loop speaks to whoever runs it; it prints nothing itself."""

    on_step: Callable[[Parts, Progress], None] = lambda parts, progress: None
    on_round: EvaluationRound = lambda step, done, episodes, queries: None
    on_evaluation: Callable[[int, dict[str, Any]], None] = lambda step, summary: None
    on_finish: Callable[[Path], object] = lambda run: None
    stop_requested: Callable[[], bool] = lambda: False


def train(parts: Parts, run: Path, hooks: Hooks, fresh: Progress) -> Progress:
    """Train in the run directory `run` from its last checkpoint, or from the start, `fresh`.

    Raises:
        Interrupted: when `hooks.stop_requested()`; the checkpoint is written before.
        ArtifactError: when the checkpoint cannot be used or the disk cannot be written.
        PriorError, CacheError: when the LLM or its journal fails for good. A checkpoint is written
            before, as the run stood at that decision; where it learns in several environments the
            last one stays.
    """
    config = parts.config
    progress = _start(parts, run, fresh)
    began = time.perf_counter() - progress.wall_seconds
    writer = MetricWriter(run, offset=progress.metrics_offset, step=progress.step)
    trace = _trace(parts, run, progress.trace_offset)

    def save() -> None:
        progress.wall_seconds = time.perf_counter() - began
        progress.metrics_offset = writer.sync()
        progress.trace_offset = trace.sync() if trace else 0
        save_checkpoint(run, progress.step, parts, asdict(progress))

    def check_interrupt() -> None:
        if hooks.stop_requested():
            save()
            raise Interrupted

    advance = _way_of(parts)
    # Of several states that are asked about at once, the first are in the cache when that fails.
    sound = (EnvError, *(PRIOR_FAILED if len(parts.trackers) == 1 else ()))
    try:
        while True:
            tau = current_temperature(parts, progress)

            if progress.step >= progress.next_eval:
                with saving_first(save, (EnvError, *PRIOR_FAILED)):
                    result = _evaluated(parts, progress, tau, check_interrupt, hooks)
                _log_evaluation(writer, progress, result, hooks)
                progress.next_eval = _next_eval(progress.step, config.steps, config.eval_interval)
            if progress.step >= config.steps:
                save()
                return progress
            check_interrupt()

            before = progress.step
            with saving_first(save, sound):
                decisions = advance(parts, progress, tau, trace)
            losses = _learn(parts, progress, decisions, tau)

            _log_step(writer, parts, progress, before, tau, losses)
            if _passed(config.checkpoint_interval, before, progress.step):
                save()
            hooks.on_step(parts, progress)
    finally:
        writer.close()
        if trace:
            trace.close()


def _evaluated(
    parts: Parts,
    progress: Progress,
    tau: float,
    check_interrupt: Callable[[], None],
    hooks: Hooks,
) -> Evaluation:
    """The evaluation that is due."""
    config = parts.config
    finished = progress.step >= config.steps
    episodes = config.final_eval_episodes if finished else config.eval_episodes
    if config.posterior.mode == "epsilon-greedy":
        tau = config.posterior.final_epsilon
    step = progress.step

    def on_round(done: int, queries: int) -> None:
        hooks.on_round(step, done, episodes, queries)

    try:
        return evaluate(parts, episodes, tau, check_interrupt, on_round=on_round)
    except EnvError as error:
        raise stopped_in_evaluation(progress.step, error) from error


def current_temperature(parts: Parts, progress: Progress) -> float:
    """τ at this moment of the run, or the ε of an ε-greedy policy."""
    config, telemetry = parts.config, parts.telemetry
    done = progress.step / config.steps
    return temperature(config.posterior, telemetry.hit_rate, telemetry.reliable_hit_rate, done)


def _trace(parts: Parts, run: Path, offset: int) -> TraceWriter | None:
    """Where decisions are recorded, if they are to be and an LLM is asked at all."""
    if not parts.config.trace or parts.cache is None:
        return None
    namespace, shape = parts.cache.namespace, parts.prior.shape
    return TraceWriter(run, parts.config.env, namespace, shape, offset=offset)


def _way_of(parts: Parts) -> Callable[..., list[Decision]]:
    """How a run takes a step in each of its environments: by commands, or by controls."""
    return control_step if isinstance(parts.tracker, ControlTracker) else _decide_and_step


def _learn(
    parts: Parts, progress: Progress, decisions: Sequence[Decision], tau: float
) -> Losses | None:
    """The gradient steps after these steps, and what decisions tell the cache's controller."""
    losses = None
    if parts.learner is not None:
        for _ in parts.trackers:
            losses = parts.learner.learn(tau)
    for decision in decisions:
        progress.kl_to_prior += 0.02 * (decision.kl_to_prior - progress.kl_to_prior)
        if parts.control is not None:
            parts.control.tell("variability", decision.variability)
            if losses is not None:
                parts.control.tell("td_error", float(losses.td_error))
    return losses


def _passed(interval: int, before: int, now: int) -> bool:
    """Whether a multiple of `interval` lies in (before, now]."""
    return now // interval > before // interval


def _start(parts: Parts, run: Path, fresh: Progress) -> Progress:
    found = checkpoints(run)
    return Progress(**load_checkpoint(found[-1], parts)) if found else fresh


def _next_eval(step: int, steps: int, interval: int) -> int:
    """The next multiple of `interval`, but never later than the end."""
    return min((step // interval + 1) * interval, steps) if step < steps else steps + 1


def _decide_and_step(
    parts: Parts, progress: Progress, tau: float, trace: TraceWriter | None
) -> list[Decision]:
    """One decision: π ∝ prior·exp(Q/τ), the environment's answer, and what the learner keeps."""
    tracker, learner, policy = parts.tracker, parts.learner, parts.policy
    assert isinstance(tracker, EpisodeTracker)
    assert isinstance(policy, Policy)
    assert learner is None or isinstance(learner, QLearner)
    state = tracker.state
    decision = policy.decide(state, tau, parts.acting)
    if trace:
        trace.write(state, tracker.episodes, decision.answer, decision.q_values, tau)
    action = state.actions[decision.action]
    if learner and decision.rows:
        learner.arrive(decision.rows)

    with stopped_at(progress.step + 1):
        if parts.config.agent == "expert":
            action = tracker.env.expert_action()
        reward, terminated, truncated = tracker.step(action)
    progress.record_decision(state.text, action)
    if learner and decision.rows:
        learner.step(
            decision.rows, decision.action, reward, terminated=terminated, truncated=truncated
        )
    if terminated or truncated:
        progress.record_episode(tracker.success, tracker.episode_return)
        if parts.control is not None:
            parts.control.tell("episode_return", tracker.episode_return)
        with stopped_at(progress.step):
            tracker.next_episode()
    return [decision]


def _log_step(
    writer: MetricWriter,
    parts: Parts,
    progress: Progress,
    before: int,
    tau: float,
    losses: Losses | None,
) -> None:
    """Write a row where one is due."""
    if _passed(parts.config.log_interval, before, progress.step):
        writer.write(progress.step, metric_row(parts, progress, tau, losses))


def _log_evaluation(
    writer: MetricWriter, progress: Progress, result: Evaluation, hooks: Hooks
) -> None:
    summary = result.summary()
    progress.evaluations.append({"step": progress.step, **summary})
    names = ("success_rate", "return_mean", "length_mean", "episodes", *COSTS)
    told = {f"eval/{name}": summary[name] for name in names if summary[name] is not None}
    writer.write(progress.step, told)
    hooks.on_evaluation(progress.step, summary)
