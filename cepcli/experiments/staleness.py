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
import torch
from jaxtyping import Float
from numpy import ndarray

from cepcli.agents.config import TrainConfig
from cepcli.cache.replay.play import TracePrior
from cepcli.cache.telemetry import CacheTelemetry
from cepcli.cache.trace import FILE, Trace, read_trace
from cepcli.config import require
from cepcli.errors import CacheError, ConfigError
from cepcli.experiments.visits import Visit, Visits, heldout_visits
from cepcli.posterior import kl_bound, kl_divergence, log_posterior, span
from cepcli.runs.online import OnlineRun
from cepcli.runs.run import Notify
from cepcli.runs.settings import read_config
from cepcli.workspace.artifacts import Workspace

#: What only training tells moves the cache of this mode.
_TOLD = "surrogate"


class Moment(NamedTuple):
    """A cache at one moment of the training.

    Attributes:
        decisions: that have been taken.
        entries: in the cache.
        exact: share of the held-out decisions answered by the same text.
        semantic: share answered by a similar one.
        kl: KL(p̂‖p) of each of those, cached against fresh prior, nats.
        posterior_kl: KL(π̂‖π) of each, at Q and τ of the run that visited the states.
        bound: span²/8 of each.
        audits: hits that were asked again so far.
        audits_over_budget: those of them whose span²/8 was over κ.
    """

    decisions: int
    entries: int
    exact: float
    semantic: float
    kl: Float[ndarray, " hits"]
    posterior_kl: Float[ndarray, " hits"]
    bound: Float[ndarray, " hits"]
    audits: int
    audits_over_budget: int


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
        {"run", "states_of", "states", "rows"}: a row per moment, "case" naming it. KLs are of
        semantic hits, None where there is none; "kl_mean_unaudited" is that of the same training
        without audits, None where they are part of the mode.

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
    parts = OnlineRun.build(config, workspace, notify)
    found = list(_played(parts, trace, visits, moments, as_in=again))
    unaudited: list[Moment | None] = [None] * points
    if config.cache.mode in _FIXED:
        unaudited = [*found]
        if config.cache.refresh_rate > 0:
            notify("The same without audits")
            without = replace(config, cache=replace(config.cache, refresh_rate=0.0))
            bare = OnlineRun.build(without, workspace, notify)
            unaudited = [*_played(bare, trace, visits, moments)]
    rows = [
        {
            "case": f"{round(100 * (number + 1) / points)}% of training",
            **_row(moment, config.cache.certified.kappa),
            "kl_mean_unaudited": None if other is None else _mean(other.kl),
        }
        for number, (moment, other) in enumerate(zip(found, unaudited, strict=True))
    ]
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
) -> Iterator[Moment]:
    """Fill the cache of `parts` by the trace's decisions, and look at it at some moments.

    With `as_in`, the run's command, every decision must be answered as it was in the run.
    """
    assert parts.cache is not None
    kappa = parts.config.cache.certified.kappa
    fresh = _fresh(visits, trace)
    for number, decision in enumerate(trace.decisions, 1):
        (answer,) = parts.prior.log_probs([decision.state])
        if as_in is not None and answer.kind != decision.kind:
            raise CacheError(
                f"Decision {number} of `{as_in.run.name}` was answered by "
                f"{_KINDS[decision.kind]} and is now by {_KINDS[answer.kind]}: the LLM, or cep, "
                "answers otherwise than then.",
                f"Make the run again: {as_in.typed('--trace', '--overwrite')}",
            )
        for _ in range(moments.count(number)):
            audits = parts.telemetry.audits
            over = sum(kl_bound(audit.span) > kappa for audit in audits)
            yield _moment(parts, visits, fresh, number)._replace(
                audits=len(audits), audits_over_budget=over
            )


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


def _moment(parts: OnlineRun, visits: Visits, fresh: TracePrior, decisions: int) -> Moment:
    """What the cache answers now, read-only."""
    assert parts.opened is not None
    telemetry = CacheTelemetry(parts.config.cache.hit_rate_decay)
    cached = parts.opened._replace(inner=fresh).frozen(telemetry)
    errors = []
    for visit in visits.decisions:
        (answer,) = cached.log_probs([visit.state])
        if answer.kind == "semantic":
            errors.append(_errors(answer.log_prior, visit, visits.temperature))
    kl, posterior, bound = np.array(errors, np.float64).reshape(-1, 3).T
    total = max(len(visits.decisions), 1)
    counts = telemetry.counts
    return Moment(
        decisions, len(parts.opened.cache), counts["exact"] / total, counts["semantic"] / total,
        kl, posterior, bound, 0, 0,
    )  # fmt: skip


def _errors(log_cached: ndarray, visit: Visit, tau: float) -> tuple[float, float, float]:
    """KL of the priors, KL of the posteriors, and span²/8."""
    cached, true = torch.from_numpy(log_cached), torch.from_numpy(visit.log_prior)
    q_values = torch.from_numpy(visit.q_values)
    posteriors = (log_posterior(prior, q_values, tau) for prior in (cached, true))
    return (
        float(kl_divergence(cached, true)),
        float(kl_divergence(*posteriors)),
        float(kl_bound(span(cached, true))),
    )


def _row(moment: Moment, kappa: float) -> dict[str, Any]:
    """Plain values of a moment."""
    hits = len(moment.kl)
    return {
        "decisions": moment.decisions,
        "entries": moment.entries,
        "exact": moment.exact,
        "semantic": moment.semantic,
        "kl_mean": _mean(moment.kl),
        "kl_p95": float(np.percentile(moment.kl, 95)) if hits else None,
        "posterior_kl_mean": _mean(moment.posterior_kl),
        "over_budget": _mean(moment.bound > kappa),
        "audits": moment.audits,
        "audits_over_budget": moment.audits_over_budget,
    }


def _mean(values: ndarray) -> float | None:
    return float(np.mean(values)) if len(values) else None
