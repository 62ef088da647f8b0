"""Figures over the steps of a run: score, answers, parameters, losses. Means over seeds.

A band reaches from the lowest seed to the highest. What an unfinished run tells is a line of its
own that ends where the run does.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from cepcli.report.comparison import learning_curve
from cepcli.report.document import Axis, Figure, Panel, Series
from cepcli.report.saved_runs import SavedRun
from cepcli.report.selection import Scenario, Setting

if TYPE_CHECKING:
    import pandas as pd

#: Values of a run by step.
Curve = Callable[[SavedRun], "pd.Series"]

#: Points of a line, intervals of a breakdown: more would lie closer than pixels.
_MOST_POINTS = 120
_MOST_INTERVALS = 60
_BAND = " The line is the mean over seeds, the band reaches from the lowest to the highest."
_NO_CACHE = "No run here keeps a cache."
_NO_LLM = "No run here asks an LLM."

#: How decisions are answered: label, and their number by a row of metrics.
_ANSWERS: dict[str, tuple[str, Callable[[dict[str, Any]], float]]] = {
    "exact": ("exact hit", lambda row: row.get("cache/hits_exact", 0)),
    "semantic": ("semantic hit", lambda row: row.get("cache/hits_semantic", 0)),
    "audit": ("audited hit", lambda row: row.get("cache/audits", 0)),
    "query": (
        "miss or partial hit", lambda row: row["prior/queries"] - row.get("cache/audits", 0),
    ),
}  # fmt: skip
#: The same by a summary.
_TOTALS: dict[str, tuple[str, Callable[[dict[str, Any]], float]]] = {
    "exact": ("exact hit", lambda s: s["hits"]["exact"]),
    "semantic": ("semantic hit", lambda s: s["hits"]["semantic"]),
    "audit": ("audited hit", lambda s: s["queries"]["audits"]),
    "partial": ("partial hit", lambda s: s["queries"]["partial"]),
    "query": ("miss", lambda s: s["queries"]["misses"]),
}
#: Key, title, metric, and how to read it, of what is told of runs with a cache.
_OF_CACHES = (
    ("hit-rate", "Hit rate", "cache/hit_rate", Axis("hit rate", 0.0, 1.0, share=True),
     "Running share of decisions that the cache answers."),
    ("threshold", "Similarity threshold δ", "cache/threshold", Axis("δ"),
     "Where a line is missing no similar text may answer, only the same text."),
    ("capacity", "Capacity K", "cache/capacity", Axis("K", low=0.0),
     "Entries that the cache may hold."),
    ("entries", "Entries", "cache/entries", Axis("entries", low=0.0),
     "Entries that the cache holds."),
    ("refresh-rate", "Refresh rate r", "cache/refresh_rate", Axis("r", low=0.0, share=True),
     "Share of semantic hits that is asked again."),
)  # fmt: skip
_LOSSES = {
    "train/td_loss": "TD loss",
    "train/conservative_loss": "Conservative loss",
    "train/value_loss": "Value loss",
    "train/policy_loss": "Policy loss",
}


def score_panel(scenario: Scenario) -> Panel:
    """Learning curves, and what of training led to them."""
    success = scenario.solvable
    score = "success rate" if success else "return"
    limits = (0.0, 1.0) if success else (None, None)
    name = "success_rate" if success else "return_mean"

    def evaluated(run: SavedRun) -> "pd.Series":
        import pandas as pd

        if not run.finished:
            return _logged(run, f"eval/{name}")
        steps, scores = learning_curve(run.summary).T
        return pd.Series(scores, index=steps)

    held_out = _lines(
        "learning-curve", "Learning curve", f"Held-out {score} over steps.",
        scenario.settings, evaluated, Axis(f"held-out {score}", *limits), common=True,
    )  # fmt: skip
    training = _lines(
        "training", f"Training {score}", "Of the last 50 training episodes.",
        scenario.settings, f"train/{name}", Axis(f"training {score}", *limits),
    )  # fmt: skip
    return Panel("Learning", [held_out, training])


def answers_panel(scenario: Scenario) -> Panel:
    """How decisions were answered, over time where a cache answers some of them."""
    asking = [setting for setting in scenario.settings if setting.asks]
    queries = _lines(
        "queries", "LLM queries so far", "States sent to the LLM, whatever the reason.",
        asking, "prior/queries", Axis("queries", low=0.0), empty=_NO_LLM,
    )  # fmt: skip
    figures = [_answers(setting) for setting in asking if setting.caches]
    return Panel("How decisions were answered", [_total_answers(asking), queries, *figures])


def parameters_panel(scenario: Scenario) -> Panel:
    """Hit rate, τ, δ, K and r over time."""
    caching = [setting for setting in scenario.settings if setting.caches]
    figures = [_lines(key, title, about, caching, metric, axis, empty=_NO_CACHE)
               for key, title, metric, axis, about in _OF_CACHES]  # fmt: skip
    temperature = _lines(
        "temperature", "Temperature τ",
        "The higher, the more the prior decides; the lower, the more the values do.",
        [setting for setting in scenario.settings if setting.asks], "posterior/temperature",
        Axis("τ", low=0.0), empty=_NO_LLM,
    )  # fmt: skip
    return Panel("Cache and temperature over time", [figures[0], temperature, *figures[1:]])


def losses_panel(scenario: Scenario) -> Panel | None:
    """Losses that were logged; None without any."""
    figures = [
        _lines(key.rpartition("/")[2].replace("_", "-"), title, "Of the last gradient step.",
               scenario.settings, key, Axis(title))
        for key, title in _LOSSES.items()
    ]  # fmt: skip
    found = [figure for figure in figures if figure.empty is None]
    return Panel("Losses", found) if found else None


def _logged(run: SavedRun, metric: str) -> "pd.Series":
    """A metric by step; without a threshold no similar text may answer, which is a gap."""
    import pandas as pd

    gaps = metric == "cache/threshold"
    told = {row["step"]: row[metric] for row in run.rows
            if row.get(metric) is not None or (gaps and metric in row)}  # fmt: skip
    return pd.Series(told, dtype=float)


def _lines(
    key: str,
    title: str,
    about: str,
    settings: Sequence[Setting],
    curve: str | Curve,
    y: Axis,
    *,
    common: bool = False,
    empty: str = "There is no run to show.",
) -> Figure:
    """A line for each setting, and for each of its runs that is not finished.

    Args:
        key: of the figure.
        title: likewise.
        about: likewise.
        settings: that are shown.
        curve: a metric, or what reads values off a run.
        y: the vertical axis.
        common: whether only steps count that all seeds have; else what each told last by a step.
        empty: why there is nothing to show where there is no setting.
    """
    read = (lambda run: _logged(run, curve)) if isinstance(curve, str) else curve
    series = [one for setting in settings for one in _setting_lines(setting, read, common)]
    reason = None
    if not settings:
        reason = empty
    elif not series:
        reason = f"The metrics of these runs hold no “{title}”."
    elif all(value is None for one in series for value in one.y):
        reason = "It had no value at any time."
    if reason and settings and curve == "cache/threshold":
        reason = "No similar text was allowed to answer at any time: only the same text."
    if any(one.low for one in series):
        about += _BAND
    return Figure(key, title, about, "lines", Axis("step", low=0.0), y, series, empty=reason)


def _setting_lines(setting: Setting, read: Curve, common: bool) -> Iterator[Series]:
    import pandas as pd

    look = setting.colour, setting.number
    curves = [found for found in map(read, setting.finished) if len(found)]
    if curves:
        if not common:
            first, last = max(c.index[0] for c in curves), min(c.index[-1] for c in curves)
            steps = sorted({step for c in curves for step in c.index if first <= step <= last})
            curves = [c.reindex(steps, method="ffill") for c in curves]
        frame = pd.concat(curves, axis=1, join="inner").sort_index()
        frame = frame.iloc[_thinned(len(frame))]
        low, high = (frame.agg(how, axis=1, skipna=False).tolist() for how in ("min", "max"))
        if len(curves) == 1:
            low = high = None
        mean = _gaps(frame.mean(axis=1, skipna=False))
        yield Series(setting.label, *look, frame.index.tolist(), mean, low, high, len(curves))
    for run in setting.unfinished:
        curve = read(run)
        if len(curve):
            curve = curve.iloc[_thinned(len(curve))]
            label = f"{run.name} ({run.standing})"
            yield Series(label, *look, curve.index.tolist(), _gaps(curve), end=run.standing)


def _total_answers(asking: Sequence[Setting]) -> Figure:
    """Shares of all decisions of the finished runs of each setting."""
    rows = [setting for setting in asking if setting.finished]
    counts = {kind: [sum(map(count, setting.summaries)) for setting in rows]
              for kind, (_, count) in _TOTALS.items()}  # fmt: skip
    totals = [max(sum(own), 1) for own in zip(*counts.values(), strict=True)]
    at: list[float | None] = [float(number) for number in range(len(rows))]
    series = [
        Series(label, kind, 0, [c / t for c, t in zip(counts[kind], totals, strict=True)], at)
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
    logged = [row["step"] for run in setting.runs for row in run.rows if "prior/queries" in row]
    steps = np.unique(logged)
    steps = steps[_thinned(len(steps), _MOST_INTERVALS)] if len(steps) else steps
    edges = [0.0, *steps[steps > 0].tolist()]
    counts: Any = sum(_counted(run, edges) for run in setting.runs)
    total = counts.sum(axis=1)
    shares = counts.div(total.where(total > 0), axis=0)
    asked = [run for run in setting.runs if run.rows]
    seeds = "one seed" if len(asked) == 1 else f"{len(asked)} seeds together"
    return Figure(
        f"answers-{setting.number}", f"Answers over time: {setting.label}",
        f"Share of the decisions of each interval, {seeds}.", "area", Axis("step", low=0.0),
        Axis("share of decisions", low=0.0, high=1.0, share=True),
        [Series(label, kind, 0, edges, _gaps(shares[kind]))
         for kind, (label, _) in _ANSWERS.items()],
        empty=None if total.any() else "No decision was logged.",
    )  # fmt: skip


def _counted(run: SavedRun, edges: Sequence[float]) -> Any:
    """Answers of each kind between the edges, as far as they were logged by then."""
    import pandas as pd

    rows = {row["step"]: row for row in run.rows if "prior/queries" in row}
    told = {kind: [count(row) for row in rows.values()] for kind, (_, count) in _ANSWERS.items()}
    so_far = pd.DataFrame(told, index=pd.Index(rows, dtype=float), dtype=float)
    return so_far.reindex(edges, method="ffill").fillna(0.0).diff().iloc[1:]


def _thinned(count: int, most: int = _MOST_POINTS) -> np.ndarray:
    """Numbers of at most `most` of `count` points, evenly spread, the ends among them."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).round().astype(int))


def _gaps(values: "pd.Series") -> list[float | None]:
    return [None if np.isnan(value) else float(value) for value in values]
