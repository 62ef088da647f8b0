"""The training loop: decide, step, store, learn, log; evaluate and checkpoint on the way.

Everything that changes is in `Parts` and `Progress`, and both are in every checkpoint, so a run
killed at any moment goes on from its last checkpoint and ends as if it had never stopped.
"""

import hashlib
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from cepcli.agents.checkpoint import checkpoints, load_checkpoint, save_checkpoint
from cepcli.agents.evaluation import Evaluation, evaluate
from cepcli.agents.parts import Parts
from cepcli.agents.policy import Decision, temperature
from cepcli.cache.trace import TraceWriter
from cepcli.errors import Interrupted
from cepcli.metrics import MetricWriter
from cepcli.rl.losses import TDLoss

_RECENT = 50


@dataclass(slots=True)
class Progress:
    """Where the loop stands; plain JSON values only.

    `start_cache` says which cache the run started from ("name", "sha256") and how many "entries" of
    it there were room for; None if it started with none.
    """

    step: int = 0
    next_eval: int = 0
    decisions_sha256: str = ""
    successes: list[bool] = field(default_factory=list)
    returns: list[float] = field(default_factory=list)
    kl_to_prior: float = 0.0
    evaluations: list[dict[str, Any]] = field(default_factory=list)
    wall_seconds: float = 0.0
    metrics_offset: int = 0
    trace_offset: int = 0
    start_cache: dict[str, Any] | None = None

    def record_decision(self, text: str, action: str) -> None:
        """Extend the hash chain over (state, action): equal hashes mean equal decisions."""
        link = f"{self.decisions_sha256}\0{text}\0{action}".encode()
        self.decisions_sha256 = hashlib.sha256(link).hexdigest()
        self.step += 1

    def record_episode(self, success: bool, episode_return: float) -> None:
        """Add an episode to the window of recent ones."""
        self.successes = [*self.successes, success][-_RECENT:]
        self.returns = [*self.returns, episode_return][-_RECENT:]

    @property
    def recent_success(self) -> float:
        """Success rate over the last 50 training episodes."""
        return sum(self.successes) / max(len(self.successes), 1)

    @property
    def warm_entries(self) -> int:
        """Entries of the cache that the run started from."""
        return 0 if self.start_cache is None else self.start_cache["entries"]


@dataclass(frozen=True, slots=True)
class Hooks:
    """How the loop speaks to whoever runs it; it prints nothing itself."""

    on_step: Callable[[Parts, Progress], None] = lambda parts, progress: None
    on_evaluation: Callable[[int, dict[str, Any]], None] = lambda step, summary: None
    on_finish: Callable[[Path], object] = lambda run: None
    stop_requested: Callable[[], bool] = lambda: False


def train(parts: Parts, run: Path, hooks: Hooks, fresh: Progress) -> Progress:
    """Train in the run directory `run` from its last checkpoint, or from the start, `fresh`.

    Raises:
        Interrupted: when `hooks.stop_requested()`; the checkpoint is written before.
        ArtifactError: when the checkpoint cannot be used or the disk cannot be written.
    """
    config = parts.config
    progress = _start(parts, run, fresh)
    began = time.perf_counter() - progress.wall_seconds
    writer = MetricWriter(run, offset=progress.metrics_offset, step=progress.step)
    trace = _trace(parts, run, progress.trace_offset)

    def save() -> None:
        progress.wall_seconds = time.perf_counter() - began
        progress.metrics_offset = writer.offset
        progress.trace_offset = trace.offset if trace else 0
        save_checkpoint(run, progress.step, parts, asdict(progress))

    def check_interrupt() -> None:
        if hooks.stop_requested():
            save()
            raise Interrupted

    try:
        while True:
            tau = current_temperature(parts, progress)

            if progress.step >= progress.next_eval:
                finished = progress.step >= config.steps
                episodes = config.final_eval_episodes if finished else config.eval_episodes
                result = evaluate(parts, episodes, tau, check_interrupt)
                _log_evaluation(writer, progress, result, hooks)
                progress.next_eval = _next_eval(progress.step, config.steps, config.eval_interval)
            if progress.step >= config.steps:
                save()
                return progress
            check_interrupt()

            decision = _decide_and_step(parts, progress, tau, trace)
            losses = parts.learner.learn(tau) if parts.learner else None
            _tell_control(parts, decision, losses)

            progress.kl_to_prior += 0.02 * (decision.kl_to_prior - progress.kl_to_prior)
            if progress.step % config.log_interval == 0:
                writer.write(progress.step, _metrics(parts, progress, tau, losses))
            if progress.step % config.checkpoint_interval == 0:
                save()
            hooks.on_step(parts, progress)
    finally:
        writer.close()
        if trace:
            trace.close()


def current_temperature(parts: Parts, progress: Progress) -> float:
    """τ at this moment of the run."""
    config, telemetry = parts.config, parts.telemetry
    done = progress.step / config.steps
    return temperature(config.posterior, telemetry.hit_rate, telemetry.reliable_hit_rate, done)


def _trace(parts: Parts, run: Path, offset: int) -> TraceWriter | None:
    """Where decisions are recorded, if they are to be and an LLM is asked at all."""
    if not parts.config.trace or parts.cache is None:
        return None
    namespace, shape = parts.cache.namespace, parts.prior.shape
    return TraceWriter(run, parts.config.env, namespace, shape, offset=offset)


def _tell_control(parts: Parts, decision: Decision, losses: TDLoss | None) -> None:
    if parts.control is None:
        return
    parts.control.tell("variability", decision.variability)
    if losses is not None:
        parts.control.tell("td_error", float(losses.td_error))


def _start(parts: Parts, run: Path, fresh: Progress) -> Progress:
    found = checkpoints(run)
    return Progress(**load_checkpoint(found[-1], parts)) if found else fresh


def _next_eval(step: int, steps: int, interval: int) -> int:
    """The next multiple of `interval`, but never later than the end."""
    return min((step // interval + 1) * interval, steps) if step < steps else steps + 1


def _decide_and_step(
    parts: Parts, progress: Progress, tau: float, trace: TraceWriter | None
) -> Decision:
    """One decision: π ∝ prior·exp(Q/τ), the environment's answer, and what the learner keeps."""
    tracker = parts.tracker
    state = tracker.state
    decision = parts.policy.decide(state, tau, parts.acting)
    if trace:
        trace.write(state, tracker.episodes, decision.answer, decision.q_values, tau)
    action = state.actions[decision.action]
    if parts.config.agent == "expert":
        action = tracker.env.expert_action()
    if parts.learner and decision.rows:
        parts.learner.arrive(decision.rows)

    reward, terminated, truncated = tracker.step(action)
    progress.record_decision(state.text, action)
    if parts.learner and decision.rows:
        parts.learner.step(
            decision.rows, decision.action, reward, terminated=terminated, truncated=truncated
        )
    if terminated or truncated:
        progress.record_episode(tracker.success, tracker.episode_return)
        if parts.control is not None:
            parts.control.tell("episode_return", tracker.episode_return)
        tracker.next_episode()
    return decision


def _metrics(
    parts: Parts, progress: Progress, tau: float, losses: TDLoss | None
) -> dict[str, float]:
    """One row of `metrics.jsonl`; README explains every name."""
    cache = parts.telemetry.summary()
    decisions = max(progress.step, 1)
    row = {
        "train/success_rate": progress.recent_success,
        "train/return_mean": sum(progress.returns) / max(len(progress.returns), 1),
        "train/episodes": parts.tracker.episodes,
        "posterior/temperature": tau,
        "posterior/kl_to_prior": progress.kl_to_prior,
        "prior/queries": cache["queries"]["total"],
        "prior/queries_per_decision": cache["queries"]["total"] / decisions,
        "prior/llm_tokens": cache["llm_tokens"],
        "prior/llm_seconds_recorded": cache["llm_seconds_recorded"],
        "cache/hit_rate": parts.telemetry.hit_rate,
        "cache/hits_exact": cache["hits"]["exact"],
        "cache/hits_semantic": cache["hits"]["semantic"],
    }
    if parts.cache is not None:
        row["cache/entries"] = len(parts.cache)
        knobs = parts.cache.knobs
        row["cache/capacity"] = knobs.capacity
        row["cache/threshold"] = knobs.threshold
        row["cache/refresh_rate"] = knobs.refresh_rate
        row["cache/reliable_hit_rate"] = parts.telemetry.reliable_hit_rate
        row["cache/audits"] = cache["queries"]["audits"]
    certificate = parts.control.certificate if parts.control is not None else None
    if certificate is not None:
        row["cache/certified_audits"] = certificate.audits
        row["cache/certified_failures"] = certificate.failures
    if parts.learner is not None:
        row["train/q_scale"] = parts.learner.scale
    if losses is not None:
        row["train/td_loss"] = float(losses.loss)
        row["train/td_error"] = float(losses.td_error)
        row["train/q_mean"] = float(losses.q_mean)
    return row


def _log_evaluation(
    writer: MetricWriter, progress: Progress, result: Evaluation, hooks: Hooks
) -> None:
    summary = result.summary()
    progress.evaluations.append({"step": progress.step, **summary})
    names = ("success_rate", "return_mean", "length_mean", "queries", "episodes")
    writer.write(progress.step, {f"eval/{name}": summary[name] for name in names})
    hooks.on_evaluation(progress.step, summary)
