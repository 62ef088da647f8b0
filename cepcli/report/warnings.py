"""Where the method fails in a run: what was seen, the likely cause, and the command to type next.

Four things are watched: the share of decisions that the cache answers, the share that it misses,
audits that find reused priors more than κ from fresh ones, and scores below those of the same run
without a cache. The first three are judged over the second half of the decisions so far, without
the first `WARM_UP` of them, in which a cache fills and its keys are learned; as `LEAST` decisions
are needed, no warning comes before decision 300.

A low hit rate and many misses are one finding if the misses alone account for the hit rate, and
then only the former is told; else each says something of its own (decisions are also lost to audits
and to entries that lack an action).
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple

from cepcli.errors import ConfigError
from cepcli.report import advice
from cepcli.report.advice import Subject, as_typed
from cepcli.report.comparison import Group, late_score
from cepcli.report.saved_runs import SavedRun, read_finished
from cepcli.report.statistics import Estimate
from cepcli.workspace.artifacts import Workspace

#: Decisions at the beginning that are not judged.
WARM_UP = 200
#: Decisions that a judgement needs.
LEAST = 100
LEAST_HIT_RATE = 0.6
MOST_MISSES = 0.25
#: How much of the uncached run's score may be lost.
MOST_LOSS = 0.05
_ROUNDING = 1e-9
#: Audits over κ that are no accident any more.
REPEATED = 3

Kind = Literal["hit-rate", "misses", "kl", "performance"]


@dataclass(frozen=True, slots=True)
class RunWarning:
    """One thing that goes wrong in a run.

    Attributes:
        kind: which of the four.
        run: its name, or what several seeds of it are called.
        seen: what was measured, and over what.
        cause: the likely one.
        command: what to type next.
    """

    kind: Kind
    run: str
    seen: str
    cause: str
    command: str

    def in_words(self) -> str:
        """All of it in one line."""
        return f"{self.seen}. Likely cause: {self.cause}. Next: {self.command}"


class Counts(NamedTuple):
    """How decisions were answered; None where an earlier version didn't tell."""

    hits: float
    queries: float
    audits: float | None
    misses: float | None
    partial: float | None
    over: float | None

    @property
    def decisions(self) -> float:
        """All that needed a prior."""
        return self.hits + self.queries

    def share(self, name: str) -> float | None:
        """Of the decisions."""
        count = getattr(self, name)
        return None if count is None else count / self.decisions


def counts_of(row: Mapping[str, Any]) -> Counts:
    """The totals that a row of metrics tells."""
    names = ("audits", "misses", "partial_hits", "audits_over_kappa")
    hits = row["cache/hits_exact"] + row["cache/hits_semantic"]
    return Counts(hits, row["prior/queries"], *(row.get(f"cache/{name}") for name in names))


def judged(rows: Sequence[Mapping[str, Any]]) -> tuple[Counts, int, int] | None:
    """What the decisions that are judged came to, and the first and last of them.

    None where there are too few.
    """
    told = [counts_of(row) for row in rows if "prior/queries" in row]
    if not told:
        return None
    last = told[-1]
    warm = [one for one in told if one.decisions >= WARM_UP] or [last]
    first = next((one for one in reversed(warm) if one.decisions <= last.decisions / 2), warm[0])
    if last.decisions - first.decisions < LEAST:
        return None
    pairs = zip(last[2:], first[2:], strict=True)
    rest = (None if a is None or b is None else a - b for a, b in pairs)
    since = Counts(last.hits - first.hits, last.queries - first.queries, *rest)
    return since, int(first.decisions), int(last.decisions)


def answer_warnings(subject: Subject) -> list[RunWarning]:
    """What the answers of a run's cache give reason to warn of; none where nothing is cached."""
    found = judged(subject.rows) if subject.mode != "off" else None
    if found is None:
        return []
    counts, first, last = found
    over = f"over decisions {first} to {last}"
    warnings = [
        _hit_rate(subject, counts, over), _misses(subject, counts, over), _kl(subject, counts, over)
    ]  # fmt: skip
    return [warning for warning in warnings if warning is not None]


def _hit_rate(subject: Subject, counts: Counts, over: str) -> RunWarning | None:
    rate = counts.hits / counts.decisions
    if rate >= LEAST_HIT_RATE:
        return None
    parts = {name: counts.share(name) or 0.0 for name in _LOST}
    told = ", ".join(f"{share:.0%} {_LOST[name]}" for name, share in parts.items() if share)
    seen = f"The cache answered {rate:.0%} of the decisions, less than {LEAST_HIT_RATE:.0%}, {over}"
    seen += f" ({told})" if told else ""
    most = "misses" if _from_misses(counts) else max(parts, key=lambda name: parts[name])
    return RunWarning("hit-rate", subject.run, seen, *_ADVICE[most](subject))


_LOST = {"misses": "missed", "partial": "lacked an action", "audits": "audited"}
_ADVICE = {
    "misses": advice.on_misses, "partial": advice.on_partial_hits, "audits": advice.on_audits,
}  # fmt: skip


def _from_misses(counts: Counts) -> bool:
    """Whether misses alone bring the hit rate below its limit."""
    share = counts.share("misses")
    return share is None or share > 1.0 - LEAST_HIT_RATE


def _misses(subject: Subject, counts: Counts, over: str) -> RunWarning | None:
    share = counts.share("misses")
    if share is None or share <= MOST_MISSES or _from_misses(counts):
        return None
    seen = f"{share:.0%} of the decisions missed the cache, more than {MOST_MISSES:.0%}, {over}"
    return RunWarning("misses", subject.run, seen, *advice.on_misses(subject))


def _kl(subject: Subject, counts: Counts, over: str) -> RunWarning | None:
    kappa = subject.setting("cache.certified.kappa", 0.5)
    alpha = subject.setting("cache.certified.alpha", 0.1)
    if counts.over is None or counts.over < REPEATED or not counts.audits:
        return None
    if counts.over <= alpha * counts.audits:
        return None
    seen = (
        f"{counts.over:.0f} of {counts.audits:.0f} audits found the reused prior more than "
        f"κ = {kappa:g} nats from a fresh one, {over}"
    )
    return RunWarning("kl", subject.run, seen, *advice.on_errors(subject))


def is_uncached(summary: Mapping[str, Any]) -> bool:
    """Whether a run asked an LLM at every decision."""
    return summary["cache"] == "off" and summary["queries"]["total"] > 0


def performance_warning(
    label: str,
    summaries: Sequence[dict[str, Any]],
    uncached: Sequence[dict[str, Any]],
    config: str,
) -> RunWarning | None:
    """Whether runs score more than 5 % below the same ones without a cache, late in training.

    None where that cannot be told: unless `are_counterparts`, or without evaluations.

    Args:
        label: what the runs are called.
        summaries: theirs, a seed each.
        uncached: of the runs that asked at every decision, a seed each.
        config: path of the config.toml of one of the former.
    """
    if not are_counterparts(summaries, uncached):
        return None
    mine, theirs = (
        [score for score in map(late_score, group) if score is not None]
        for group in (summaries, uncached)
    )
    loss = Estimate.of_relative(mine, theirs) if mine and theirs else None
    if loss is None or loss.mean > -MOST_LOSS - _ROUNDING:
        return None
    seen = f"The score late in training is {-loss.mean:.0%} below the uncached run's "
    if loss.low is None or loss.high is None:
        seen += "(one seed, no interval)"
    else:
        of = "range of two seeds " if loss.interval == "range" else ""
        seen += f"({loss.mean:+.0%}, {of}[{loss.low:+.0%}, {loss.high:+.0%}])"
    if loss.high is None or loss.high >= 0:
        next_seed = max(one["seed"] for one in summaries) + 1
        name = label.removesuffix(f"_s{summaries[0]['seed']}")
        return RunWarning("performance", label, seen, *advice.on_chance(name, next_seed, config))
    return RunWarning("performance", label, seen, *advice.on_loss(summaries[0]["run"]))


def are_counterparts(
    summaries: Sequence[Mapping[str, Any]], uncached: Sequence[Mapping[str, Any]]
) -> bool:
    """Whether runs differ in their cache alone, and the latter asked at every decision."""
    if not summaries or not uncached or not all(map(is_uncached, uncached)):
        return False
    keys = ("env", "agent", "prior", "steps")
    alike = all(one[key] == uncached[0][key] for one in (*summaries, *uncached) for key in keys)
    return alike and all(one["cache"] != "off" for one in summaries)


def run_warnings(workspace: Workspace, name: str, uncached: str | None = None) -> list[RunWarning]:
    """All warnings about a finished run.

    Args:
        workspace: where it is.
        name: the run's.
        uncached: the run without a cache to hold its score against; default: the one whose name has
            `off` where this one's has its cache's mode, if there is such a run.

    Raises:
        ArtifactError: if one of them doesn't exist or isn't finished.
        ConfigError: if `uncached` is named, but differs in more than its cache.
    """
    run = read_finished(workspace, name)
    subject, summary = _subject(run), run.summary
    if uncached is None:
        other = uncached_of(workspace, name, summary["cache"])
    else:
        other = read_finished(workspace, uncached).summary
        if not are_counterparts([summary], [other]):
            raise ConfigError(
                f"`{uncached}` is not `{name}` without its cache: environment, agent, prior and "
                "steps have to be the same, and the cache of the former off.",
                f"Train it: {subject.again('off', 'cache.mode=off')}",
            )
    found = performance_warning(name, [summary], [other], subject.config) if other else None
    return [*answer_warnings(subject), *([found] if found else [])]


def group_warnings(workspace: Workspace, group: Group, uncached: Group) -> list[RunWarning]:
    """All warnings about the finished runs of a group, each kind once, against a group without.

    Empty unless the other group is the same but for its cache.
    """
    if not are_counterparts(group.summaries, uncached.summaries):
        return []
    subjects = [_subject(read_finished(workspace, s["run"])) for s in group.summaries]
    by_kind: dict[Kind, list[RunWarning]] = {}
    for subject in subjects:
        for warning in answer_warnings(subject):
            by_kind.setdefault(warning.kind, []).append(warning)
    told = [
        replace(
            found[0],
            run=group.label,
            seen=f"{found[0].seen}, in {found[0].run}; {len(found)} of {len(subjects)} seeds do so",
        )
        for found in by_kind.values()
    ]
    found = performance_warning(
        group.label, group.summaries, uncached.summaries, subjects[0].config
    )
    return [*told, *([found] if found else [])]


def uncached_of(workspace: Workspace, name: str, mode: str) -> dict[str, Any] | None:
    """Summary of the finished run that is called like another, with `off` for its cache's mode."""
    other = re.sub(rf"(?<![A-Za-z0-9]){mode}(?![A-Za-z0-9])", "off", name)
    if other == name or not workspace.exists("run", other):
        return None
    return read_finished(workspace, other).summary


def _subject(run: SavedRun) -> Subject:
    config = as_typed(run.path / "config.toml")
    return Subject(run.name, run.cache_mode, run.rows, run.config, config)
