"""How far a cache's priors are from fresh ones on held-out states while a run goes on.

The run's recorded decisions are played once more through a cache of its configuration, which fills
as it did then, answer by answer; on the way it is asked, read-only, about held-out states whose
fresh priors are known. The same without audits says what they have repaired.

Example: cep cache staleness traced_s0 --states-of uncached_s0
"""

import shlex
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from cepcli.agents.config import TrainConfig
from cepcli.cache.replay.play import TracePrior
from cepcli.cache.telemetry import CacheTelemetry
from cepcli.cache.trace import FILE, Trace, read_trace
from cepcli.config import require
from cepcli.errors import CacheError, ConfigError
from cepcli.experiments.visits import Visits, heldout_visits
from cepcli.listener import Notify
from cepcli.posterior import kl_bound
from cepcli.runs.online import OnlineRun
from cepcli.runs.settings import read_config
from cepcli.workspace.artifacts import Workspace

#: What only training tells moves the cache of this mode.
_TOLD = "surrogate"


def staleness(
    workspace: Workspace,
    name: str,
    *,
    states_of: str | None = None,
    points: int = 4,
    episodes: int = 10,
    notify: Notify = lambda text: None,
) -> dict[str, Any]:
    """Measure a finished run that was made with --trace.

    Args:
        workspace: where the runs are, and the journal with the LLM's answers.
        name: the run whose cache is looked at.
        states_of: the run whose held-out episodes give the states; default: the run itself.
        points: moments of the training at which the cache is asked, evenly spaced.
        episodes: held-out ones that are played for the states.
        notify: told what goes on.

    Returns:
        {"run", "states_of", "states", "rows"}: a row per moment, "case" naming it. "exact" and
        "semantic" are shares of the held-out decisions that the same and a similar text answer;
        KLs are of the latter, cached against fresh, nats, None where there is none: "kl_mean" and
        "kl_p95" of priors, "posterior_kl_mean" at Q and τ of the run that visited the states;
        "over_budget" is the share whose span²/8 is over κ. "kl_mean_unaudited" is "kl_mean" of the
        same training without audits, None where they are part of the mode.

    Raises:
        ConfigError: if the cache cannot be made again: there is none, training signals moved it, or
            it began with another one's entries.
        CacheError: if there is no trace, or the LLM does not answer as it did.
    """
    path = workspace.open("run", name).path
    config = read_config(path)
    again = _Command(workspace, path, config)
    _check(config, name, again)
    if not (path / FILE).is_file():
        raise CacheError(
            f"The run `{name}` recorded no trace of its decisions.",
            f"Make it again with one: {again.typed('--trace', '--overwrite')}",
        )
    trace = read_trace(path)
    require(
        points <= len(trace.decisions),
        f"`points` is {points}, but `{name}` took {len(trace.decisions)} decisions only.",
    )
    visits = heldout_visits(workspace, states_of or name, episodes, notify)
    notify(f"Playing {len(trace.decisions)} decisions of `{name}` again")
    moments = [len(trace.decisions) * (number + 1) // points for number in range(points)]
    run = OnlineRun.build(config, workspace, notify)
    rows = list(_played(run, trace, visits, moments, again))
    unaudited: list[dict[str, Any]] = [{}] * points
    if config.cache.mode in _FIXED:
        unaudited = rows
        if config.cache.refresh_rate > 0:
            notify("The same without audits")
            without = replace(config, cache=replace(config.cache, refresh_rate=0.0))
            run = OnlineRun.build(without, workspace, notify)
            unaudited = list(_played(run, trace, visits, moments))
    rows = [
        {
            "case": f"{round(100 * number / points)}% of training",
            **row, "kl_mean_unaudited": other.get("kl_mean"),
        }
        for number, (row, other) in enumerate(zip(rows, unaudited, strict=True), 1)
    ]  # fmt: skip
    return {
        "run": name,
        "states_of": states_of or name,
        "states": len(visits.decisions),
        "rows": rows,
    }


#: Modes whose parameters stay as configured.
_FIXED = ("lru", "fifo")


class _Command(NamedTuple):
    """What trains a run again, by its own settings.

    Attributes:
        workspace: where it is.
        run: its directory.
        config: its settings.
    """

    workspace: Workspace
    run: Path
    config: TrainConfig

    def typed(self, *options: str, ending: str = "") -> str:
        """The command with more options, for a shell; `ending` is added to the run's name."""
        name = self.run.name.removesuffix(f"_s{self.config.seed}") + ending
        words = ["cep", "train", "--config", str(self.run / "config.toml"), "--name", name]
        return shlex.join([*words, *options]) + self.workspace.option


def _check(config: TrainConfig, name: str, again: _Command) -> None:
    """Refuse a run whose cache cannot be made again."""
    other = f"Name another run: cep runs list{again.workspace.option}"
    similar = again.typed("--cache", "lru", "--trace", ending="-lru")
    why, hint = "", f"Measure one that can: {similar}"
    if config.prior == "uniform":
        why, hint = "asks no LLM", other
    elif config.cache.start is not None:
        why, hint = f"began with the entries of `{config.cache.start}`", other
    elif config.shuffled_prior:
        why, hint = "shuffles its prior", other
    elif not config.cache.keyed:
        why = "has no cache that compares texts"
    elif config.cache.mode == _TOLD:
        why = f"has a cache in mode {_TOLD}, which training signals moved"
    if why:
        raise ConfigError(
            f"The run `{name}` {why}: there is no cache that can be filled again as it was.", hint
        )


def _played(
    parts: OnlineRun,
    trace: Trace,
    visits: Visits,
    moments: Sequence[int],
    as_in: _Command | None = None,
) -> Iterator[dict[str, Any]]:
    """Fill the cache of `parts` by the trace's decisions, and look at it at some moments.

    With `as_in`, the run's command, every decision must be answered as it was in the run.
    """
    kappa = parts.config.cache.certified.kappa
    fresh = _fresh(visits, trace)
    for number, decision in enumerate(trace.decisions, 1):
        (answer,) = parts.prior.log_probs([decision.state])
        if as_in is not None and answer.kind != decision.kind:
            raise CacheError(
                f"Decision {number} of `{as_in.run.name}` was answered by "
                f"{_KINDS[decision.kind]} and is now by {_KINDS[answer.kind]}: the LLM, or cep, "
                "has changed since.",
                f"Make the run again: {as_in.typed('--trace', '--overwrite')}",
            )
        for _ in range(moments.count(number)):
            audits = parts.telemetry.audits
            yield {
                "decisions": number,
                **_looked_up(parts, visits, fresh),
                "audits": len(audits),
                "audits_over_budget": sum(kl_bound(audit.span) > kappa for audit in audits),
            }


_KINDS = {
    "exact": "an exact hit",
    "semantic": "a semantic hit",
    "partial": "a partial hit",
    "miss": "a miss",
    "audit": "an audit",
    "free": "no LLM",
}


def _fresh(visits: Visits, trace: Trace) -> TracePrior:
    """A prior that knows the fresh answers to the held-out states."""
    known: dict[tuple[str, str], dict[str, float]] = {}
    for visit in visits.decisions:
        state = visit.state
        scores = zip(state.actions, visit.scores.tolist(), strict=True)
        known.setdefault((state.goal, state.text), {}).update(scores)
    return TracePrior(Trace(trace.env, trace.namespace, trace.shape, [], known))


def _looked_up(parts: OnlineRun, visits: Visits, fresh: TracePrior) -> dict[str, Any]:
    """What the cache answers now, read-only, and how far its semantic hits are off."""
    assert parts.opened is not None
    settings = parts.config.cache
    telemetry = CacheTelemetry(settings.hit_rate_decay)
    cached = parts.opened._replace(inner=fresh).frozen(telemetry)
    errors = []
    for visit in visits.decisions:
        (answer,) = cached.log_probs([visit.state])
        if answer.kind == "semantic":
            errors.append(visit.errors(answer.log_prior, visits.temperature))
    total, counts = max(len(visits.decisions), 1), telemetry.counts
    return {
        "entries": len(parts.opened.cache),
        "exact": counts["exact"] / total,
        "semantic": counts["semantic"] / total,
        "kl_mean": _mean([one.kl for one in errors]),
        "kl_p95": float(np.percentile([one.kl for one in errors], 95)) if errors else None,
        "posterior_kl_mean": _mean([one.posterior_kl for one in errors]),
        "over_budget": _mean([kl_bound(one.span) > settings.certified.kappa for one in errors]),
    }


def _mean(values: Sequence[float]) -> float | None:
    return float(np.mean(values)) if values else None
