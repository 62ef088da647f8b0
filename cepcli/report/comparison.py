"""Runs side by side: one row per setting, averaged over its seeds. Reads artifacts, nothing else.

Rows are means over seeds with the intervals of `cepcli.report.statistics`: Student's, the range of
two seeds, none of a single one. Retention and savings are of decisions, by the summaries.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from cepcli.errors import ConfigError
from cepcli.registry import suggest
from cepcli.report.saved_runs import SavedRun, read_finished, read_run
from cepcli.report.statistics import ANY, COUNT, SHARE, Bounds, Estimate
from cepcli.report.versions import check_seeds
from cepcli.workspace.artifacts import Workspace

_LATE = 0.8
_TOGETHER = {"env": "or over all environments: --aggregate; ", "steps": ""}


@dataclass(frozen=True, slots=True)
class Group:
    """Runs that differ in their seed alone.

    Attributes:
        label: their name without the seed.
        summaries: of those that are finished.
        unfinished: those that are not.
    """

    label: str
    summaries: list[dict[str, Any]]
    unfinished: list[SavedRun] = field(default_factory=list)

    def values(self, key: str) -> list[float]:
        """One derived figure per seed that has it; see `FIGURES`."""
        return [value for _, value in self._told(key)]

    def estimate(self, key: str) -> Estimate | None:
        """A figure over seeds, with an interval that keeps to what it can be; None without any."""
        told = self._told(key)
        if not told:
            return None
        values = [value for _, value in told]
        if key in _SCORES and all(has_success(summary) for summary, _ in told):
            return Estimate.of_rates(values, [_episodes(summary, key) for summary, _ in told])
        return Estimate.of(values, FIGURES[key][3])

    def _told(self, key: str) -> list[tuple[dict[str, Any], float]]:
        found = ((summary, FIGURES[key][1](summary)) for summary in self.summaries)
        return [(summary, float(value)) for summary, value in found if value is not None]


def learning_curve(summary: dict[str, Any]) -> np.ndarray:
    """Steps and score of each evaluation, a row each; none where nothing was evaluated."""
    curve = summary["eval"]["curve" if has_success(summary) else "return_curve"]
    return np.array(curve, float).reshape(-1, 2)


def late_score(summary: dict[str, Any]) -> float | None:
    """Mean score of the evaluations in the last fifth of the steps; one alone swings by chance."""
    curve = learning_curve(summary)
    if not len(curve):
        return None
    return float(curve[curve[:, 0] >= _LATE * curve[-1, 0], 1].mean())


def area_under_curve(summary: dict[str, Any]) -> float | None:
    """Mean score over the steps of a run: trapezoid over its evaluations; None without any."""
    curve = learning_curve(summary)
    if not len(curve):
        return None
    if len(curve) < 2:
        return float(curve[0, 1])
    return float(np.trapezoid(curve[:, 1], curve[:, 0]) / (curve[-1, 0] - curve[0, 0]))


def has_success(summary: dict[str, Any]) -> bool:
    """Whether episodes of the run's world can be solved; else their return is the score."""
    return summary["eval"]["success_rate"] is not None


def score(summary: dict[str, Any]) -> float:
    """Success rate of the last evaluation; mean return where nothing can be solved."""
    return summary["eval"]["success_rate" if has_success(summary) else "return_mean"]


def seconds_saved(summary: dict[str, Any]) -> float:
    """LLM seconds that hits saved: hits × mean recorded seconds of a query."""
    queries = summary["queries"]["total"]
    hits = summary["hits"]["exact"] + summary["hits"]["semantic"]
    return hits * summary["llm_seconds_recorded"] / queries if queries else 0.0


def queries_saved(summary: dict[str, Any]) -> float:
    """Share of the decisions with a prior that needed no query; 0 for an agent without an LLM."""
    hits = summary["hits"]["exact"] + summary["hits"]["semantic"]
    asked = hits + summary["queries"]["total"]
    return hits / asked if asked else 0.0


def queries_per_decision(summary: dict[str, Any]) -> float:
    """The cost that the cache is there to lower."""
    return summary["queries"]["total"] / max(summary["decisions"], 1)


def overhead(summary: dict[str, Any]) -> float | None:
    """Share of the wall time that cache and controller took, keys and their learning included."""
    if "control_seconds" not in summary:  # a run of an earlier version
        return None
    return (summary["cache_seconds"] + summary["control_seconds"]) / summary["wall_seconds"]


def _of_evaluations(key: str) -> Callable[[dict[str, Any]], float | None]:
    """What all evaluations of a run took, which is no part of what its training took."""
    return lambda summary: summary.get("evaluations", {}).get(key)


#: Figure → (column title, how it comes from a summary, format, what it can be).
FIGURES: dict[str, tuple[str, Any, str, Bounds]] = {
    "success": ("success", lambda s: s["eval"]["success_rate"], ".2f", ANY),
    "late": ("late score", late_score, ".2f", ANY),
    "auc": ("area under curve", area_under_curve, ".2f", ANY),
    "return": ("return", lambda s: s["eval"]["return_mean"], ".2f", ANY),
    "normalised": ("normalised", lambda s: s["eval"].get("normalised_score"), ".1f", ANY),
    "decisions": ("decisions", lambda s: s["decisions"], ".0f", COUNT),
    "queries": ("LLM queries", lambda s: s["queries"]["total"], ".0f", COUNT),
    "queries_per_decision": ("queries/decision", queries_per_decision, ".3f", COUNT),
    "queries_saved": ("queries saved", queries_saved, ".0%", SHARE),
    "seconds_saved": ("LLM s saved", seconds_saved, ".0f", COUNT),
    "llm_seconds": ("LLM s", lambda s: s["llm_seconds_recorded"], ".0f", COUNT),
    "wall_seconds": ("wall s", lambda s: s["wall_seconds"], ".0f", COUNT),
    "latency_ms": ("median ms/decision", lambda s: s["latency_ms"]["p50"] or 0.0, ".2f", COUNT),
    "latency_p95_ms": ("p95 ms/decision", lambda s: s["latency_ms"]["p95"] or 0.0, ".2f", COUNT),
    "overhead": ("overhead", overhead, ".1%", SHARE),
    "eval_queries": ("queries of evaluations", _of_evaluations("queries"), ".0f", COUNT),
    "eval_tokens": ("tokens of evaluations", _of_evaluations("llm_tokens"), ".0f", COUNT),
    "eval_llm_seconds": (
        "LLM s of evaluations", _of_evaluations("llm_seconds_recorded"), ".0f", COUNT,
    ),
    "audit_kl": ("KL of audits", lambda s: s["audited"]["kl_mean"], ".3f", COUNT),
}  # fmt: skip
#: Figures that are success rates where episodes can be solved.
_SCORES = ("success", "late", "auc")


def _episodes(summary: dict[str, Any], key: str) -> int:
    """How many held-out episodes a success rate is of; evaluations on the way play the same ones.

    Of means over evaluations the fewest of one of them, so that the interval is no narrower.
    """
    last = summary["eval"]["episodes"]
    return last if key == "success" else min(last, summary.get("eval_episodes") or last)


def figures_named(columns: str | None) -> list[str]:
    """The keys of `FIGURES` in a comma list, all of them for None.

    Raises:
        ConfigError: if a key doesn't exist.
    """
    keys = list(FIGURES) if columns is None else columns.split(",")
    for key in keys:
        if key not in FIGURES:
            raise ConfigError(f"There is no figure `{key}`.", suggest(key, FIGURES))
    return keys


def load_groups(
    workspace: Workspace, names: Sequence[str], *, unfinished: bool = False
) -> list[Group]:
    """Group runs, named or matched by a pattern, by everything but their seed, in that order.

    Summaries are as `SavedRun.result` has them.

    Args:
        workspace: where they are.
        names: of runs, or patterns.
        unfinished: whether to take in those that are not finished, as such.

    Raises:
        ArtifactError: if one of them doesn't exist; or isn't finished, unless those are taken in.
        ConfigError: if two of a group have the same seed, or were played by different versions.
    """
    groups: dict[str, Group] = {}
    pooled: dict[tuple[str, Any, Any], dict[str, dict[str, Any]]] = {}
    for name in workspace.matching("run", names, unfinished=unfinished):
        run = read_run(workspace, name) if unfinished else read_finished(workspace, name)
        group = groups.setdefault(run.label, Group(run.label, []))
        if not run.finished:
            group.unfinished.append(run)
            continue
        group.summaries.append(run.result)  # runs of several worlds are taken apart, or refused
        pooled.setdefault((run.label, run.env, run.steps), {})[name] = run.result
    for (label, *_), runs in pooled.items():
        check_seeds(label, runs)
    return list(groups.values())


def comparison(
    groups: Sequence[Group], baseline: str | None = None, by: str | None = None
) -> list[dict[str, Any]]:
    """Every figure of every group, as JSON values.

    With `baseline`, the label of one of them, also "score_to_baseline": how much higher the score,
    or the figure `by`, is than the baseline's, as a share of the latter.

    Raises:
        ConfigError: if no group has that label, or they are of several environments or lengths.
    """
    labels = [group.label for group in groups]
    if baseline is not None and baseline not in labels:
        raise ConfigError(f"None of the runs is a `{baseline}`.", suggest(baseline, labels))
    reference = groups[0 if baseline is None else labels.index(baseline)]
    for summary in (summary for group in groups for summary in group.summaries):
        if baseline is not None and not summary["eval"]["episodes"]:
            raise ConfigError(
                f"`{summary['run']}` was evaluated in no environment, so it has no score.",
                "Compare it without --baseline, or leave it out.",
            )
    require_alike(groups, reference)
    rows = []
    for group in groups:
        row: dict[str, Any] = {
            "run": group.label,
            "env": _first(group, "env"),
            "steps": _first(group, "steps"),
            "seeds": len(group.summaries),
            "unfinished": [found.progress for found in group.unfinished],
        }
        for key in FIGURES:
            row[key] = as_json(group.estimate(key))
        if baseline is not None:
            row["score_to_baseline"] = _related(group, reference, by)
        rows.append(row)
    return rows


def _first(group: Group, key: str) -> Any:
    """What the runs of a group have in common."""
    return next((value for _, value in _told(group, key)), None)


def _related(group: Group, reference: Group, by: str | None) -> dict[str, Any] | None:
    """How far the score, or the figure `by`, is above the reference's; None where there is none.

    The reference is 0 above itself, without an interval.
    """
    values, theirs = (
        [score(summary) for summary in each.summaries] if by is None else each.values(by)
        for each in (group, reference)
    )
    found = Estimate.of_relative(values, theirs) if values and theirs else None
    return as_json(Estimate(0.0) if found is not None and group is reference else found)


def require_alike(groups: Sequence[Group], reference: Group) -> None:
    """Refuse runs of another environment, or another number of steps, than the reference's.

    The same environment under other options is another one; an option may be a later version's.

    Raises:
        ConfigError: naming the first such run, and what it differs in.
    """
    for key in ("env", "steps"):
        expected = _first(reference, key)
        for run, value in (told for group in groups for told in _told(group, key)):
            if value != expected:
                raise ConfigError(
                    f"Cannot compare `{run}` with `{reference.label}`: its `{key}` is {value}, not "
                    f"{expected}.",
                    f"Compare them apart: --group-by {key}; {_TOGETHER[key]}or leave it out.",
                )
    finished = [summary for group in (reference, *groups) for summary in group.summaries]
    for summary in finished:
        first = finished[0]
        mine, theirs = (one.get("env_options", {}) for one in (summary, first))
        for key in sorted(mine.keys() & theirs.keys()):
            if mine[key] != theirs[key]:
                raise ConfigError(
                    f"Cannot compare `{summary['run']}` with `{first['run']}`: its "
                    f"`env_options.{key}` is {mine[key]!r}, not {theirs[key]!r}.",
                    "They play different environments: compare each with runs of its own.",
                )


def _told(group: Group, key: str) -> Iterator[tuple[str, Any]]:
    """Each run with a value of its settings, of those that tell it."""
    yield from ((summary["run"], summary[key]) for summary in group.summaries)
    for found in group.unfinished:
        if getattr(found, key) is not None:
            yield found.name, getattr(found, key)


def estimated(values: Sequence[float], bounds: Bounds = ANY) -> dict[str, Any] | None:
    """Mean and 95 % interval over seeds as JSON values; None without a value."""
    return as_json(Estimate.of(values, bounds)) if values else None


def as_json(estimate: Estimate | None) -> dict[str, Any] | None:
    """An estimate as JSON values."""
    return None if estimate is None else asdict(estimate)


def figure_cell(summary: dict[str, Any], key: str) -> str:
    """One figure of one run as text."""
    _, figure, form, _ = FIGURES[key]
    value = figure(summary)
    return "–" if value is None else format(value, form)


def cell(estimate: dict[str, Any] | None, form: str) -> str:
    """An estimate as text: the mean and its interval, if that is known and has a width.

    The range of two seeds is called so; sweeps of former versions do not tell what theirs are.
    """
    if estimate is None:
        return "–"
    mean, low, high = (
        None if estimate[key] is None else format(estimate[key], form)
        for key in ("mean", "low", "high")
    )
    if low is None or high is None or low == high:
        return f"{mean}"
    called = " (range)" if estimate.get("interval") == "range" else ""
    return f"{mean} [{low}, {high}]{called}"
