"""Pictures as PNG: curves of a run, runs compared, and the fronts that no setting beats."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cepcli.report.comparison import Group, has_success
from cepcli.report.document import Axis, Figure, Series
from cepcli.report.drawing import plt, save_figures, save_picture
from cepcli.report.statistics import Tasks, performance_profile
from cepcli.workspace.metrics import read_metrics

_LEVELS = 101  # of a profile
_COLOURS = 8
_ANSWERS = {
    "cache/hits_exact": ("exact hits", "exact"),
    "cache/hits_semantic": ("semantic hits", "semantic"),
    "prior/queries": ("queries", "query"),
}
#: What an offline run is shown by.
_LOSSES = {
    f"train/{name}": (name, f"g{number}")
    for number, name in enumerate(("conservative_loss", "policy_loss", "td_loss", "value_loss"))
}
_SHARES = (
    ("exact hit", "exact", lambda s: s["hits"]["exact"]),
    ("semantic hit", "semantic", lambda s: s["hits"]["semantic"]),
    ("LLM query", "query", lambda s: s["queries"]["total"]),
)


def plot_run(run: Path) -> Path:
    """`curve.png` of one run: its score over its steps, and how decisions were answered.

    The score is success, or return where nothing can be solved. An offline run decides nothing: its
    losses are shown instead.
    """
    rows = read_metrics(run / "metrics.jsonl")
    solvable = any("eval/success_rate" in row for row in rows)
    score = "success_rate" if solvable else "return_mean"
    training = any(f"train/{score}" in row for row in rows)
    scores = {f"train/{score}": ("training", "quiet"), f"eval/{score}": ("evaluation", "g0")}
    below = ("Answers", "decisions so far", _ANSWERS) if training else ("Losses", "loss", _LOSSES)
    figures = [
        Figure("score", "Score", "", "lines", Axis("step"), _axis(solvable, ""),
               list(_logged(rows, scores))),
        Figure("below", below[0], "", "lines", Axis("step"), Axis(below[1]),
               list(_logged(rows, below[2]))),
    ]  # fmt: skip
    return save_figures({run.name.removesuffix(".partial"): figures}, run / "curve.png")


def _logged(
    rows: Sequence[Mapping[str, Any]], keys: Mapping[str, tuple[str, str]]
) -> Iterator[Series]:
    """Metrics over steps, those that were logged."""
    for shape, (key, (label, colour)) in enumerate(keys.items()):
        told = [(row["step"], row[key]) for row in rows if row.get(key) is not None]
        if told:
            x, y = map(list, zip(*told, strict=True))
            yield Series(label, colour, shape, x, y)


def plot_comparison(groups: Sequence[Group], path: Path) -> Path:
    """Held-out score over steps, and how decisions were answered; a line, a bar a group.

    Without the bars where there are no decisions, as under `sac`; groups without a finished run are
    not drawn. A band reaches from the lowest seed to the highest.
    """
    groups = [group for group in groups if group.summaries]
    solvable = _solvable(groups)
    series = []
    for number, group in enumerate(groups):
        steps, values = _curves(group.summaries, solvable)
        count = len(group.summaries)
        label = f"{group.label} ({count} seed{'s' if count > 1 else ''})"
        mean, low, high = (end.tolist() for end in (values.mean(0), values.min(0), values.max(0)))
        look = f"g{number % _COLOURS}", number
        series.append(Series(label, *look, list(steps), mean, low, high, count))
    figures = [Figure("score", "Held-out score", "", "lines", Axis("step"),
                      _axis(solvable, "held-out "), series)]  # fmt: skip
    if any(summary["decisions"] for group in groups for summary in group.summaries):
        figures.append(_answers(groups))
    return save_figures({"": figures}, path, columns=len(figures))


def _curves(summaries: Sequence[dict[str, Any]], solvable: bool) -> tuple[list[int], np.ndarray]:
    """Steps that all seeds evaluated at, and the scores there, [seeds, steps]."""
    curve = "curve" if solvable else "return_curve"
    curves = [dict(map(tuple, summary["eval"][curve])) for summary in summaries]
    steps = sorted(set.intersection(*map(set, curves)))
    return steps, np.array([[curve[step] for step in steps] for curve in curves])


def _answers(groups: Sequence[Group]) -> Figure:
    """How the decisions of each group were answered, as shares."""
    rows: list[float | None] = [float(row) for row in range(len(groups))]
    series, rest = [], np.ones(len(groups))
    for label, colour, count in _SHARES:
        shares = np.array(
            [np.mean([count(s) / max(s["decisions"], 1) for s in g.summaries]) for g in groups]
        )
        series.append(Series(label, colour, 0, shares.tolist(), rows))
        rest -= shares
    series.append(Series("no LLM", "grid", 0, rest.tolist(), rows))
    axis = Axis("share of decisions", 0.0, 1.0, share=True)
    names = [group.label for group in groups]
    return Figure("answers", "Answers", "", "bars", axis, Axis(""), series, names=names)


def plot_profiles(scores: Mapping[str, Tasks], path: Path) -> Path:
    """The share of runs above each score, with its pointwise interval; a line a setting."""
    every = [score for tasks in scores.values() for own in tasks for score in own]
    levels = np.linspace(min(every), max(every), _LEVELS).tolist()
    series = []
    for number, (label, tasks) in enumerate(scores.items()):
        found = performance_profile(tasks, levels)
        named = f"{label} (seeds of each task: {', '.join(str(len(own)) for own in tasks)})"
        ends = [
            (one.low, one.high) for one in found if one.low is not None and one.high is not None
        ]
        low, high = map(list, zip(*ends, strict=True)) if len(ends) == len(found) else (None, None)
        mean: list[float | None] = [one.mean for one in found]
        series.append(Series(named, f"g{number % _COLOURS}", number, levels, mean, low, high))
    share = Axis("share of runs above τ", 0.0, 1.0, share=True)
    figure = Figure("profile", "Runs above a score", "", "lines", Axis("score τ"), share, series)
    return save_figures({"": [figure]}, path)


def plot_tradeoff(groups: Sequence[Group], path: Path) -> Path:
    """Score against queries per decision: a hollow point a seed, a filled one their mean."""
    solvable = _solvable(groups)
    series = []
    for number, group in enumerate(groups):
        queries = group.values("queries_per_decision")
        scores = group.values("success" if solvable else "return")
        means = [float(np.mean(queries))], [float(np.mean(scores))]
        for shape, (x, y) in enumerate((means, (queries, scores))):
            series.append(Series(group.label, f"g{number % _COLOURS}", shape, x, list(y)))
    figure = Figure(
        "tradeoff", "Score against cost", "", "scatter", Axis("LLM queries per decision", low=0.0),
        _axis(solvable, "held-out "), series,
    )  # fmt: skip
    return save_figures({"": [figure]}, path)


def _solvable(groups: Sequence[Group]) -> bool:
    """Whether success is what these runs have in common."""
    return all(has_success(summary) for group in groups for summary in group.summaries)


def _axis(solvable: bool, prefix: str) -> Axis:
    return Axis(f"{prefix}success rate", 0.0, 1.0) if solvable else Axis(f"{prefix}return")


# -- fronts --------------------------------------------------------------------------------------


def unbeaten(points: Sequence[tuple[float, float]]) -> list[int]:
    """Numbers of the points that no other one beats: at least as large in both, larger in one."""
    return [
        number
        for number, (x, y) in enumerate(points)
        if not any(a >= x and b >= y and (a, b) != (x, y) for a, b in points)
    ]


def plot_frontier(points: Mapping[str, tuple[float, float]], path: Path) -> Path:
    """A labelled point per setting (share of hits, score), those that are unbeaten joined."""
    figure, axes = plt.subplots(figsize=(7, 5), layout="constrained")
    values = list(points.values())
    best = unbeaten(values)
    rest = [value for number, value in enumerate(values) if number not in best]
    if rest:
        axes.plot(*zip(*rest, strict=True), "o", color="0.6", label="beaten by another one")
    joined = sorted(values[number] for number in best)
    axes.plot(*zip(*joined, strict=True), "o-", label="Pareto points")
    for name, value in points.items():
        axes.annotate(name, value, xytext=(5, 5), textcoords="offset points", fontsize=8)
    axes.set(xlabel="share of decisions without a query", ylabel="held-out score")
    axes.legend()
    return save_picture(figure, path)


def rivals(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """For each `certified` row of a replay what fixed thresholds need at its error.

    A rival is a row with a fixed threshold; those whose KL p95 is at most that of the certified row
    compete, and the one with the fewest queries is the best. It knew the trace beforehand.

    Returns:
        Per certified row: `kl_p95`, `queries_per_decision`, and `best`, the best rival's row, or
        None if every rival errs more.
    """
    fixed = [row for row in rows if row["cache"] in ("lru", "fifo")]
    found = []
    for row in rows:
        if row["cache"] != "certified" or not fixed:
            continue
        fair = [one for one in fixed if one["kl_p95"] <= row["kl_p95"]]
        best = min(fair, key=lambda one: one["queries_per_decision"], default=None)
        figures = {key: row[key] for key in ("kl_p95", "queries_per_decision")}
        found.append({**figures, "best": best})
    return found


def plot_pareto(rows: Sequence[dict[str, Any]], path: Path) -> Path:
    """Settings of a replay: queries per decision against the KL's 95th percentile."""
    figure, axes = plt.subplots(figsize=(7, 5), layout="constrained")
    points: dict[str, list[tuple[float, float]]] = {}
    for row in rows:
        label = f"{row['cache']}, no gate" if row.get("gate") == "off" else row["cache"]
        points.setdefault(label, []).append((row["queries_per_decision"], row["kl_p95"]))
    for label, own in points.items():
        axes.plot(*zip(*own, strict=True), "o", label=label)
    every = sorted({point for own in points.values() for point in own})
    front = [every[number] for number in unbeaten([(-x, -y) for x, y in every])]
    axes.plot(*zip(*front, strict=True), color="0.7", zorder=0, label="Pareto front")
    axes.set(xlabel="LLM queries per decision", ylabel="KL of semantic hits, 95th percentile, nats")
    axes.set_xlim(left=0)
    axes.legend()
    return save_picture(figure, path)
