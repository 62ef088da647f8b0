"""Figures over the steps of a run: score, answers, parameters, losses. Means over seeds.

A band reaches from the lowest seed to the highest. What an unfinished run tells is a line of its
own that ends where the run does.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from cepcli.report.comparison import learning_curve
from cepcli.report.document import Axis, Figure, Panel, Series
from cepcli.report.settings import Setting, World
from cepcli.report.sources import Run

#: Steps and values of one run.
Curve = tuple[list[float], list[float]]

#: Points of a line, intervals of a breakdown: more would lie closer than pixels.
_MOST_POINTS = 120
_MOST_INTERVALS = 60
_BAND = " The line is the mean over seeds, the band reaches from the lowest to the highest."
_NO_CACHE = "No run here keeps a cache."

#: How decisions are answered, as metrics tell it: colour, label.
ANSWERS = {
    "exact": "exact hit",
    "semantic": "semantic hit",
    "audit": "audited hit",
    "query": "miss or partial hit",
}
#: The same as summaries tell it.
_TOTALS = {
    "exact": ("exact hit", lambda s: s["hits"]["exact"]),
    "semantic": ("semantic hit", lambda s: s["hits"]["semantic"]),
    "audit": ("audited hit", lambda s: s["queries"]["audits"]),
    "partial": ("partial hit", lambda s: s["queries"]["partial"]),
    "query": ("miss", lambda s: s["queries"]["misses"]),
}
_LOSSES = {
    "train/td_loss": "TD loss",
    "train/conservative_loss": "Conservative loss",
    "train/value_loss": "Value loss",
    "train/policy_loss": "Policy loss",
}


def score_panel(world: World) -> Panel:
    """Learning curves, and what of training led to them."""
    success = world.solvable
    score = "success rate" if success else "return"
    limits: dict[str, Any] = {"low": 0.0, "high": 1.0} if success else {}
    held_out = _lines(
        "learning-curve", "Learning curve", f"Held-out {score} over steps.",
        world.settings, lambda run: _evaluations(run, success),
        Axis(f"held-out {score}", **limits), together=_at_common_steps,
    )  # fmt: skip
    key = f"train/{'success_rate' if success else 'return_mean'}"
    training = _lines(
        "training", f"Training {score}", "Of the last 50 training episodes.",
        world.settings, _metric(key), Axis(f"training {score}", **limits),
    )  # fmt: skip
    return Panel("Learning", [held_out, training])


def answers_panel(world: World) -> Panel:
    """How decisions were answered, over time where a cache answers some of them."""
    figures = [_answers(setting) for setting in world.settings if setting.asks and setting.caches]
    queries = _lines(
        "queries", "LLM queries so far", "States sent to the LLM, whatever the reason.",
        [setting for setting in world.settings if setting.asks], _metric("prior/queries"),
        Axis("queries", low=0.0), empty="No run here asks an LLM.",
    )  # fmt: skip
    return Panel("How decisions were answered", [_total_answers(world), queries, *figures])


def parameters_panel(world: World) -> Panel:
    """Hit rate, τ, δ, K and r over time."""
    caching = [setting for setting in world.settings if setting.caches]
    asking = [setting for setting in world.settings if setting.asks]
    unit: dict[str, Any] = {"low": 0.0, "high": 1.0, "share": True}
    figures = [
        _lines("hit-rate", "Hit rate", "Running share of decisions that the cache answers.",
               caching, _metric("cache/hit_rate"), Axis("hit rate", **unit), empty=_NO_CACHE),
        _lines("temperature", "Temperature τ",
               "The higher, the more the prior decides; the lower, the more the values do.",
               asking, _metric("posterior/temperature"), Axis("τ", low=0.0),
               empty="No run here asks an LLM."),
        _lines("threshold", "Similarity threshold δ",
               "Where a line is missing no similar text may answer, only the same text.",
               caching, _threshold,
               Axis("δ"), empty=_NO_CACHE,
               nothing="No similar text was allowed to answer at any time: only the same text."),
        _lines("capacity", "Capacity K", "Entries that the cache may hold.",
               caching, _metric("cache/capacity"), Axis("K", low=0.0), empty=_NO_CACHE),
        _lines("entries", "Entries", "Entries that the cache holds.",
               caching, _metric("cache/entries"), Axis("entries", low=0.0), empty=_NO_CACHE),
        _lines("refresh-rate", "Refresh rate r", "Share of semantic hits that is asked again.",
               caching, _metric("cache/refresh_rate"), Axis("r", low=0.0, share=True),
               empty=_NO_CACHE),
    ]  # fmt: skip
    return Panel("Cache and temperature over time", figures)


def losses_panel(world: World) -> Panel | None:
    """Losses that were logged; None without any."""
    figures = []
    for key, title in _LOSSES.items():
        figure = _lines(
            key.rpartition("/")[2].replace("_", "-"), title, "Of the last gradient step.",
            world.settings, _metric(key), Axis(title),
        )  # fmt: skip
        if figure.empty is None:
            figures.append(figure)
    return Panel("Losses", figures) if figures else None


def _evaluations(run: Run, success: bool) -> Curve:
    """Steps and held-out scores."""
    if run.summary is not None:
        return tuple(learning_curve(run.summary).T.tolist())
    key = f"eval/{'success_rate' if success else 'return_mean'}"
    found = [(row["step"], row[key]) for row in run.rows if key in row]
    return [step for step, _ in found], [value for _, value in found]


def _metric(key: str) -> Callable[[Run], Curve]:
    """What reads a metric off a run's rows."""

    def curve(run: Run) -> Curve:
        found = [(row["step"], row[key]) for row in run.rows if row.get(key) is not None]
        return [step for step, _ in found], [value for _, value in found]

    return curve


def _threshold(run: Run) -> Curve:
    """δ, with gaps where no similar text may answer."""
    found = [(row["step"], row["cache/threshold"]) for row in run.rows if "cache/threshold" in row]
    values = [np.nan if value is None else value for _, value in found]
    return [step for step, _ in found], values


def _lines(
    key: str,
    title: str,
    about: str,
    settings: Sequence[Setting],
    curve: Callable[[Run], Curve],
    y: Axis,
    *,
    together: Callable[[list[Curve]], tuple[list[float], np.ndarray]] | None = None,
    empty: str = "There is no run to show.",
    nothing: str | None = None,
) -> Figure:
    """A line for each setting, and for each of its runs that is not finished.

    Args:
        key: of the figure.
        title: likewise.
        about: likewise.
        settings: that are shown.
        curve: steps and values of a run.
        y: the vertical axis.
        together: puts the curves of several seeds on common steps.
        empty: why there is nothing to show where there is no setting.
        nothing: likewise where no run tells of it.
    """
    series = [one for setting in settings for one in _setting_lines(setting, curve, together)]
    reason = None
    if not settings:
        reason = empty
    elif not series:
        reason = nothing or f"The metrics of these runs hold no “{title}”."
    elif all(value is None for one in series for value in one.y):
        reason = nothing or "It had no value at any time."
    if any(one.low for one in series):
        about += _BAND
    return Figure(key, title, about, "lines", Axis("step", low=0.0), y, series, empty=reason)


def _setting_lines(
    setting: Setting,
    curve: Callable[[Run], Curve],
    together: Callable[[list[Curve]], tuple[list[float], np.ndarray]] | None,
) -> Iterable[Series]:
    curves = [found for found in map(curve, setting.finished) if found[0]]
    if curves:
        steps, values = (together or _as_last_told)(curves)
        shown = _thinned(len(steps))
        band = len(curves) > 1
        yield Series(
            setting.label, setting.colour, setting.number,
            [steps[n] for n in shown], _plain(values.mean(0)[shown]),
            _numbers(values.min(0)[shown]) if band else None,
            _numbers(values.max(0)[shown]) if band else None, len(curves),
        )  # fmt: skip
    for run in setting.unfinished:
        steps, values = curve(run)
        if steps:
            shown = _thinned(len(steps))
            yield Series(
                f"{run.name} ({run.standing})", setting.colour, setting.number,
                [steps[n] for n in shown], _plain(np.asarray(values, float)[shown]),
                end=run.standing,
            )  # fmt: skip


def _at_common_steps(curves: list[Curve]) -> tuple[list[float], np.ndarray]:
    """The steps that all curves have, and their values there, [curves, steps]."""
    tables = [dict(zip(*curve, strict=True)) for curve in curves]
    steps = sorted(set.intersection(*map(set, tables)))
    return steps, np.array([[table[step] for step in steps] for table in tables], float)


def _as_last_told(curves: list[Curve]) -> tuple[list[float], np.ndarray]:
    """All steps of the curves from where all have begun, and what each told last by then."""
    first, last = max(steps[0] for steps, _ in curves), min(steps[-1] for steps, _ in curves)
    steps = sorted({step for own, _ in curves for step in own if first <= step <= last})
    values = [
        np.asarray(own, float)[np.searchsorted(at, steps, side="right") - 1] for at, own in curves
    ]
    return steps, np.array(values)


def _total_answers(world: World) -> Figure:
    """Shares of all decisions of the finished runs of each setting."""
    rows = [s for s in world.settings if s.asks and s.finished]
    counts = {
        kind: [sum(map(count, setting.summaries)) for setting in rows]
        for kind, (_, count) in _TOTALS.items()
    }
    totals = [max(sum(own), 1) for own in zip(*counts.values(), strict=True)]
    at = [float(number) for number in range(len(rows))]
    series = [
        Series(label, kind, 0, [c / t for c, t in zip(counts[kind], totals, strict=True)], list(at))
        for kind, (label, _) in _TOTALS.items() if any(counts[kind])
    ]  # fmt: skip
    return Figure(
        "answers", "All decisions", "Share of all decisions that had a prior, seeds together.",
        "bars", Axis("share of decisions", low=0.0, high=1.0, share=True), Axis(""), series,
        names=[setting.label for setting in rows],
        empty=None if rows else "No finished run here asks an LLM.",
    )  # fmt: skip


def _answers(setting: Setting) -> Figure:
    """Shares of decisions by how they were answered, interval by interval, seeds summed."""
    edges = _interval_edges(setting.runs)
    counts = {kind: np.zeros(len(edges) - 1) for kind in ANSWERS}
    for run in setting.runs:
        for kind, so_far in _counted(run).items():
            steps = [0.0, *(row["step"] for row in so_far)]
            told = [0.0, *(row["count"] for row in so_far)]
            held = np.asarray(told)[np.searchsorted(steps, edges, side="right") - 1]
            counts[kind] += np.diff(held)
    total = np.sum(list(counts.values()), 0)
    series = []
    for kind, label in ANSWERS.items():
        shares = [c / t if t else None for c, t in zip(counts[kind], total, strict=True)]
        series.append(Series(label, kind, 0, list(edges), shares))
    asked = [run for run in setting.runs if run.rows]
    seeds = "one seed" if len(asked) == 1 else f"{len(asked)} seeds together"
    return Figure(
        f"answers-{setting.number}", f"Answers over time: {setting.label}",
        f"Share of the decisions of each interval, {seeds}.", "area", Axis("step", low=0.0),
        Axis("share of decisions", low=0.0, high=1.0, share=True), series,
        empty=None if total.any() else "No decision was logged.",
    )  # fmt: skip


def _interval_edges(runs: Sequence[Run]) -> list[float]:
    """0 and the steps at which answers were logged, no more than can be seen."""
    steps = sorted({row["step"] for run in runs for row in run.rows if "prior/queries" in row})
    kept = [steps[n] for n in _thinned(len(steps), _MOST_INTERVALS)] if steps else []
    return [0.0, *(step for step in kept if step > 0)]


def _counted(run: Run) -> dict[str, list[dict[str, float]]]:
    """Answers of each kind so far, at each step that tells of them."""
    rows = [row for row in run.rows if "prior/queries" in row]

    def so_far(count: Callable[[dict[str, Any]], float]) -> list[dict[str, float]]:
        return [{"step": row["step"], "count": count(row)} for row in rows]

    return {
        "exact": so_far(lambda row: row.get("cache/hits_exact", 0)),
        "semantic": so_far(lambda row: row.get("cache/hits_semantic", 0)),
        "audit": so_far(lambda row: row.get("cache/audits", 0)),
        "query": so_far(lambda row: row["prior/queries"] - row.get("cache/audits", 0)),
    }


def _thinned(count: int, most: int = _MOST_POINTS) -> np.ndarray:
    """Numbers of at most `most` of `count` points, evenly spread, the ends among them."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).round().astype(int))


def _plain(values: np.ndarray) -> list[float | None]:
    return [None if np.isnan(value) else float(value) for value in values]


def _numbers(values: np.ndarray) -> list[float]:
    return [float(value) for value in values]
