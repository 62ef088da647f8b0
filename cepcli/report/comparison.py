"""Runs side by side: one row per setting, averaged over its seeds. Reads artifacts, nothing else.

Rows are the means over seeds with 95 % bootstrap intervals (percentile method, resampling seeds);
with a single seed there is no interval. Retention and savings are of decisions, by the summaries.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from cepcli.artifacts import Workspace, read_json
from cepcli.errors import ConfigError
from cepcli.registry import suggest

_RESAMPLES = 2000
_LATE = 0.8


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean over seeds and its 95 % interval, or None with fewer than two seeds."""

    mean: float
    low: float | None = None
    high: float | None = None

    @classmethod
    def of(cls, values: Sequence[float]) -> "Estimate":
        """The mean of `values` with its bootstrap interval."""
        mean = float(np.mean(values))
        if len(values) < 2 or np.ptp(values) == 0:
            return cls(mean, mean, mean) if len(values) > 1 else cls(mean)
        from scipy.stats import bootstrap

        found = bootstrap(
            (np.asarray(values),),
            np.mean,
            n_resamples=_RESAMPLES,
            method="percentile",
            rng=np.random.default_rng(0),
        )
        interval = found.confidence_interval
        return cls(mean, float(interval.low), float(interval.high))

    @classmethod
    def of_ratio(cls, values: Sequence[float], reference: Sequence[float]) -> "Estimate | None":
        """Mean of `values` over mean of `reference`; pairs are resampled together.

        None where the reference, or the mean of a resample of it, is not above 0: a ratio of
        returns below it would say the opposite of what it seems to.
        """
        pairs = np.array([values, reference], np.float64)
        chosen = np.random.default_rng(0).integers(pairs.shape[1], size=(2000, pairs.shape[1]))
        means = pairs[:, chosen].mean(2)
        if not (means[1] > 0).all():
            return None
        low, high = np.percentile(means[0] / means[1], [2.5, 97.5])
        return cls(float(pairs[0].mean() / pairs[1].mean()), float(low), float(high))

    @classmethod
    def of_relative(cls, values: Sequence[float], reference: Sequence[float]) -> "Estimate | None":
        """(mean of `values` − mean of `reference`) / |mean of `reference`|, unpaired.

        Both are resampled, each on its own; no interval where one of them is a single value, None
        where the reference's mean is 0.
        """
        base = float(np.mean(reference))
        if base == 0.0:
            return None
        difference = float(np.mean(values)) - base
        if min(len(values), len(reference)) < 2:
            return cls(difference / abs(base))
        rng = np.random.default_rng(0)
        means = [
            rng.choice(np.asarray(sample, float), (_RESAMPLES, len(sample))).mean(1)
            for sample in (values, reference)
        ]
        low, high = np.percentile(means[0] - means[1], [2.5, 97.5])
        return cls(difference / abs(base), float(low / abs(base)), float(high / abs(base)))


@dataclass(frozen=True, slots=True)
class Group:
    """Runs that differ in their seed alone."""

    label: str
    summaries: list[dict[str, Any]]

    def values(self, key: str) -> list[float]:
        """One derived figure per seed that has it; see `FIGURES`."""
        found = [FIGURES[key][1](summary) for summary in self.summaries]
        return [float(value) for value in found if value is not None]


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


#: Figure → (column title, how it comes from a summary, format).
FIGURES: dict[str, tuple[str, Any, str]] = {
    "success": ("success", lambda s: s["eval"]["success_rate"], ".2f"),
    "late": ("late score", late_score, ".2f"),
    "auc": ("area under curve", area_under_curve, ".2f"),
    "return": ("return", lambda s: s["eval"]["return_mean"], ".2f"),
    "normalised": ("normalised", lambda s: s["eval"].get("normalised_score"), ".1f"),
    "decisions": ("decisions", lambda s: s["decisions"], ".0f"),
    "queries": ("LLM queries", lambda s: s["queries"]["total"], ".0f"),
    "queries_per_decision": ("queries/decision", queries_per_decision, ".3f"),
    "queries_saved": ("queries saved", queries_saved, ".0%"),
    "seconds_saved": ("LLM s saved", seconds_saved, ".0f"),
    "llm_seconds": ("LLM s", lambda s: s["llm_seconds_recorded"], ".0f"),
    "wall_seconds": ("wall s", lambda s: s["wall_seconds"], ".0f"),
    "latency_ms": ("median ms/decision", lambda s: s["latency_ms"]["p50"] or 0.0, ".2f"),
    "latency_p95_ms": ("p95 ms/decision", lambda s: s["latency_ms"]["p95"] or 0.0, ".2f"),
    "overhead": ("overhead", overhead, ".1%"),
    "audit_kl": ("KL of audits", lambda s: s["audited"]["kl_mean"], ".3f"),
}


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


def load_groups(workspace: Workspace, names: Sequence[str]) -> list[Group]:
    """Group runs, named or matched by a pattern, by everything but their seed, in that order.

    Raises:
        ArtifactError: if one of them doesn't exist or isn't finished.
    """
    groups: dict[str, list[dict[str, Any]]] = {}
    for name in workspace.matching("run", names):  # a run named twice is still one seed
        summary = read_json(workspace.open("run", name).path / "summary.json")
        label = summary["run"].removesuffix(f"_s{summary['seed']}")
        groups.setdefault(label, []).append(summary)
    return [Group(label, summaries) for label, summaries in groups.items()]


def comparison(
    groups: Sequence[Group], baseline: str | None = None, by: str | None = None
) -> list[dict[str, Any]]:
    """Every figure of every group, as JSON values.

    With `baseline`, the label of one of them, also "score_to_baseline": how much higher the score,
    or the figure `by`, is than the baseline's, as a share of the latter.

    Raises:
        ConfigError: if no group has that label, or one is of another environment or length.
    """
    labels = [group.label for group in groups]
    if baseline is not None and baseline not in labels:
        raise ConfigError(f"None of the runs is a `{baseline}`.", suggest(baseline, labels))
    if baseline is not None:
        _require_alike(groups[labels.index(baseline)], groups)
    rows = []
    for group in groups:
        row: dict[str, Any] = {"run": group.label, "seeds": len(group.summaries)}
        for key in FIGURES:
            row[key] = estimated(group.values(key))
        if baseline is not None:
            [reference] = [g for g in groups if g.label == baseline]
            row["score_to_baseline"] = _related(group, reference, by)
        rows.append(row)
    return rows


def _related(group: Group, reference: Group, by: str | None) -> dict[str, float | None] | None:
    """How far the score, or the figure `by`, is above the reference's; None where there is none."""
    values, theirs = (
        [score(summary) for summary in each.summaries] if by is None else each.values(by)
        for each in (group, reference)
    )
    found = Estimate.of_relative(values, theirs) if values and theirs else None
    return None if found is None else asdict(found)


def _require_alike(baseline: Group, groups: Sequence[Group]) -> None:
    """Scores have a ratio only in one environment after as many steps."""
    first = baseline.summaries[0]
    for group in groups:
        for summary in group.summaries:
            if not summary["eval"]["episodes"]:
                raise ConfigError(
                    f"`{summary['run']}` was evaluated in no environment, so it has no score.",
                    "Compare it without --baseline, or leave it out.",
                )
            for key in ("env", "steps"):
                if summary[key] != first[key]:
                    raise ConfigError(
                        f"`{summary['run']}` cannot be held against `{baseline.label}`: its "
                        f"`{key}` is {summary[key]}, not {first[key]}.",
                        "Compare it without --baseline, or leave it out.",
                    )


def estimated(values: Sequence[float]) -> dict[str, float | None] | None:
    """Mean and 95 % interval over seeds as JSON values; None without a value."""
    return asdict(Estimate.of(values)) if values else None


def figure_cell(summary: dict[str, Any], key: str) -> str:
    """One figure of one run as text."""
    _, figure, form = FIGURES[key]
    value = figure(summary)
    return "–" if value is None else format(value, form)


def cell(estimate: dict[str, Any] | None, form: str) -> str:
    """An estimate as text: the mean, and its interval where there is one."""
    if estimate is None:
        return "–"
    mean, low, high = (
        None if estimate[key] is None else format(estimate[key], form)
        for key in ("mean", "low", "high")
    )
    return f"{mean}" if low is None or low == high else f"{mean} [{low}, {high}]"
