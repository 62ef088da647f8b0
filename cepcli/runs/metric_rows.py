"""Rows of `metrics.jsonl` while a run trains; docs/metrics.md explains every name."""

from cepcli.agents.hybrid_sac import HybridSAC
from cepcli.runs.parts import Losses, Parts
from cepcli.runs.progress import Progress


def metric_row(
    parts: Parts, progress: Progress, tau: float, losses: Losses | None
) -> dict[str, float | None]:
    """How training, the prior and its cache did so far, and the last gradient step."""
    greedy = parts.config.posterior.mode == "epsilon-greedy"
    row: dict[str, float | None] = {
        "train/return_mean": progress.recent_return,
        "train/episodes": sum(tracker.episodes for tracker in parts.trackers),
        f"posterior/{'epsilon' if greedy else 'temperature'}": tau,
        "posterior/kl_to_prior": progress.kl_to_prior,
        **answer_row(parts),
    }
    row["prior/queries_per_decision"] = parts.telemetry.queries / max(progress.decisions, 1)
    if parts.tracker.solvable:
        row["train/success_rate"] = progress.recent_success
    certificate = parts.control.certificate if parts.control is not None else None
    if certificate is not None:
        row["cache/certified_audits"] = certificate.audits
        row["cache/certified_failures"] = certificate.failures
    if parts.learner is not None:
        row["train/q_scale"] = parts.learner.scale
    if isinstance(parts.learner, HybridSAC):
        row["train/entropy_weight"] = parts.learner.alpha
    if losses is not None:
        row["train/td_loss"] = float(losses.loss)
        row["train/td_error"] = float(losses.td_error)
        row["train/q_mean"] = float(losses.q_mean)
    return row


def answer_row(parts: Parts) -> dict[str, float | None]:
    """How decisions got their prior so far, and the state of the cache, if there is one."""
    telemetry, cache = parts.telemetry, parts.cache
    row: dict[str, float | None] = {
        "prior/queries": telemetry.queries,
        "prior/llm_tokens": round(telemetry.totals["tokens"]),
        "prior/llm_seconds_recorded": telemetry.totals["llm_seconds_recorded"],
        "cache/hit_rate": telemetry.hit_rate,
        "cache/hits_exact": telemetry.counts["exact"],
        "cache/hits_semantic": telemetry.counts["semantic"],
    }
    if cache is not None:
        kappa = parts.config.cache.certified.kappa
        row["cache/entries"] = len(cache)
        row["cache/capacity"] = cache.knobs.capacity
        row["cache/threshold"] = cache.knobs.threshold
        row["cache/refresh_rate"] = cache.knobs.refresh_rate
        row["cache/reliable_hit_rate"] = telemetry.reliable_hit_rate
        row["cache/misses"] = telemetry.counts["miss"]
        row["cache/partial_hits"] = telemetry.counts["partial"]
        row["cache/audits"] = telemetry.counts["audit"]
        row["cache/audits_over_kappa"] = telemetry.audits_over(kappa)
    return row
