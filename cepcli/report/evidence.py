"""Figures of single decisions: errors of reused priors against their bound, latencies, the map.

They show what the last checkpoint of each run kept; a record has none, and then says so.
"""

from collections.abc import Callable, Sequence

import numpy as np

from cepcli.errors import ArtifactError
from cepcli.report.document import Axis, Figure, Guide, Panel, Series
from cepcli.report.saved_runs import DecisionSamples, SavedRun
from cepcli.report.selection import Scenario, Setting
from cepcli.workspace.artifacts import Workspace

_MOST_POINTS = 1500
#: On logarithmic axes of nats smaller values lie at the edge.
_LEAST_NATS = 1e-4
_BINS_A_DECADE = 8
_MOST_GUIDES = 3
_KINDS = "Filled: audited hits; hollow: misses."
#: A span s bounds the KL by s²/8 (Hoeffding's lemma; Proposition 1 of the method).
_HOEFFDING = 8.0
#: Rounding of 64-bit sums: above this a KL is over its bound.
_ROUNDING = 1e-9
_NONE_COMPARED = (
    "No cached prior was compared with a fresh one: nothing similar was ever found for a new text."
)


def error_panel(scenario: Scenario) -> Panel | None:
    """KL against its bound, and similarity against span; None where no run keeps a cache."""
    caching = [setting for setting in scenario.settings if setting.caches]
    if not caching:
        return None
    return Panel("Errors of reused priors", [_bound(caching), _similarity(caching)])


def latency_panel(scenario: Scenario) -> Panel | None:
    """Time of a decision; None where none asks."""
    asking = [setting for setting in scenario.settings if setting.asks]
    if not asking:
        return None
    figures = [_percentiles(asking)]
    for setting in asking:
        sampled = _samples_of([setting])
        if sampled:
            figures.append(_histogram(setting, sampled))
    if len(figures) == 1:
        reason = f"{_lacking(asking)}: only the percentiles beside are known."
        distribution = "Distribution of the time of a decision"
        figures.append(
            Figure("latency", distribution, "", "histogram", Axis(""), Axis(""), empty=reason)
        )
    return Panel("Latency", figures)


def map_panel(scenario: Scenario, workspace: Workspace) -> Panel | None:
    """The keys of each abstraction that a run used; None where none did."""
    found: dict[str, SavedRun] = {}
    for run in scenario.runs:
        if (name := run.config.get("abstraction")) and run.config.get("prior") != "uniform":
            found.setdefault(name, run)
    if not found:
        return None
    return Panel("Abstraction", [_map(workspace, *pair) for pair in found.items()])


def _bound(settings: Sequence[Setting]) -> Figure:
    """Measured KL against span²/8."""
    every = _samples_of(settings)
    compared = sum(len(s.span) for s in every)
    over = sum(int((s.kl > s.span**2 / _HOEFFDING + _ROUNDING).sum()) for s in every)
    return _scatter(
        settings, "kl-bound", "KL against its bound",
        f"Each point is a cached prior beside a fresh one; on or below the line the bound holds. "
        f"{over:,} of {compared:,} lie above it. Values under {_LEAST_NATS:g} are at the edge. "
        f"{_KINDS}",
        Axis("bound: span² / 8 (nats)", low=_LEAST_NATS, log=True),
        Axis("KL of cached against fresh prior (nats)", low=_LEAST_NATS, log=True),
        lambda s: (np.maximum(s.span**2 / _HOEFFDING, _LEAST_NATS), np.maximum(s.kl, _LEAST_NATS)),
        [Guide("diagonal", 0.0, "KL = bound"), *_budgets(settings, "x", lambda kappa: kappa)],
    )  # fmt: skip


def _similarity(settings: Sequence[Setting]) -> Figure:
    """Span against similarity: what the threshold δ is chosen by."""
    budgets = _budgets(settings, "y", lambda kappa: (_HOEFFDING * kappa) ** 0.5)
    return _scatter(
        settings, "similarity-span", "Similarity against span",
        f"Each point is a look-up whose text was new: how near its nearest entry was, and how far "
        f"apart the two priors are. To the right of δ the cache answers. {_KINDS}",
        Axis("similarity (cosine)"), Axis("span of log-prior ratios (nats)", low=0.0),
        lambda s: (s.similarity, s.span), [*budgets, *_thresholds(settings)],
    )  # fmt: skip


def _scatter(
    settings: Sequence[Setting], key: str, title: str, about: str, x: Axis, y: Axis,
    places: Callable[[DecisionSamples], tuple[np.ndarray, np.ndarray]], guides: list[Guide],
) -> Figure:  # fmt: skip
    """A point for each comparison, audited hits and misses apart; thinned where they are many."""
    every = _samples_of(settings)
    compared = sum(len(s.span) for s in every)
    stride = max(1, -(-compared // _MOST_POINTS))
    series = []
    for setting in settings:
        for samples in _samples_of([setting]):
            across, up = places(samples)
            chosen = np.arange(0, len(samples.span), stride)
            for shape, hit in enumerate((True, False)):
                own = chosen[samples.hit[chosen] == hit]
                told = zip(samples.similarity[own], samples.span[own], samples.kl[own], strict=True)
                notes = [f"similarity {a:.4f}, span {b:.3f}, KL {c:.4f}" for a, b, c in told]
                if len(own):
                    series.append(Series(setting.label, setting.colour, shape, across[own].tolist(),
                                         up[own].tolist(), notes=notes))  # fmt: skip
    reason = None
    if not compared:
        reason = _NONE_COMPARED if every else f"{_lacking(settings)}: no scatter."
    return Figure(key, title, about, "scatter", x, y, series, guides, empty=reason)


def _samples_of(settings: Sequence[Setting]) -> list[DecisionSamples]:
    return [run.samples for one in settings for run in one.runs if run.samples is not None]


def _budgets(settings: Sequence[Setting], kind, place) -> list[Guide]:
    """The error budget κ of each certificate."""
    kappas = {s["certificate"]["kappa"] for one in settings for s in one.summaries
              if s.get("certificate")}  # fmt: skip
    return [Guide(kind, place(kappa), f"κ = {kappa:g}") for kappa in sorted(kappas)]


def _thresholds(settings: Sequence[Setting]) -> list[Guide]:
    """δ at the end of finished runs, where similar texts may answer; none if there are many."""
    found: dict[float, set[str]] = {}
    for setting in settings:
        for run in setting.finished:
            told = [row["cache/threshold"] for row in run.rows if "cache/threshold" in row]
            if told and told[-1] is not None:
                found.setdefault(told[-1], set()).add(setting.colour)
    if len(found) > _MOST_GUIDES:
        return []
    return [
        Guide("x", threshold, f"δ = {threshold:g}", colours.pop() if len(colours) == 1 else "quiet")
        for threshold, colours in sorted(found.items())
    ]


def _lacking(settings: Sequence[Setting]) -> str:
    """Why there are no samples, by the first runs that have none."""
    reasons = [run.lacks for one in settings for run in one.runs if run.lacks]
    more = f" (and {len(reasons) - 1} more like it)" if len(reasons) > 1 else ""
    return (reasons[0] if reasons else "No checkpoint is kept") + more


def _percentiles(settings: Sequence[Setting]) -> Figure:
    """Median and 95th percentile, by the summaries; medians over seeds."""
    series = []
    rows = [setting for setting in settings if setting.summaries]
    for kind, colour, label in (
        ("latency_ms", "all", "a decision"), ("cache_ms", "exact", "its cache's part"),
        ("llm_ms", "query", "a query of the LLM"),
    ):  # fmt: skip
        for number, setting in enumerate(rows):
            told = [s.get(kind) or {} for s in setting.summaries]
            ends = [[t[p] for t in told if t.get(p) is not None] for p in ("p50", "p95")]
            if all(ends):
                middle = [float(np.median(end)) for end in ends]
                note = f"{setting.label}, {label}: p50 {middle[0]:.3g} ms, p95 {middle[1]:.3g} ms"
                at = float(number)
                series.append(Series(label, colour, 0, middle, [at, at], notes=[note, note]))
    return Figure(
        "latency-percentiles", "Median and 95th percentile",
        "From the median to the 95th percentile; a query at the time that the LLM took when it was "
        "first asked.", "ranges", Axis("milliseconds", log=True), Axis(""), series,
        names=[setting.label for setting in rows],
        empty=None if series else "No finished run here took the time of a decision.",
    )  # fmt: skip


def _histogram(setting: Setting, sampled: Sequence[DecisionSamples]) -> Figure:
    """Times of decisions with a query and without, by decades."""
    latency = np.concatenate([s.latency for s in sampled])
    asked = np.concatenate([s.latency > s.cached for s in sampled])
    latency = np.maximum(latency, 1e-4)
    low, high = np.floor(np.log10(latency.min())), np.ceil(np.log10(latency.max()) + 1e-9)
    edges = np.logspace(low, high, int(_BINS_A_DECADE * max(high - low, 1)) + 1)
    series = []
    for colour, label, own in (
        ("exact", "answered by the cache", latency[~asked]),
        ("query", "sent to the LLM", latency[asked]),
    ):  # fmt: skip
        if len(own):
            shares = np.histogram(own, edges)[0] / len(latency)
            middle = f"{label} ({len(own) / len(latency):.0%})"
            series.append(Series(middle, colour, 0, edges.tolist(), shares.tolist()))
    return Figure(
        f"latency-{setting.number}", f"Time of a decision: {setting.label}",
        f"Of {len(latency):,} decisions, evenly spread over the run; a query counts as long as the "
        "LLM took when it was first asked.", "histogram", Axis("milliseconds a decision", log=True),
        Axis("share of decisions", low=0.0, share=True), series,
    )  # fmt: skip


def _map(workspace: Workspace, name: str, run: SavedRun) -> Figure:
    """The picture that `cep abstract train` made, if it is of the abstraction that the run used."""
    image, reason = None, None
    try:
        artifact = workspace.open("abstraction", name)
        used = [one["sha256"] for one in run.manifest.get("inputs", [])
                if one["kind"] == "abstraction"]  # fmt: skip
        file = artifact.path / "map.png"
        if used and artifact.reference.sha256 not in used:
            reason = f"The abstraction `{name}` has changed since {run.name} was trained with it."
        elif file.is_file():
            image = file.read_bytes()
        else:
            reason = f"`{artifact.path}` holds no map.png."
    except ArtifactError:
        reason = f"The abstraction `{name}` that {run.name} used is not in this workspace."
    return Figure(
        f"map-{name.replace('/', '-')}", f"Keys of {name}",
        "Keys of states on their two principal components, coloured by motion primitive; large: "
        "annotated, small: propagated, rings: held out.", "image", Axis(""), Axis(""),
        image=image, empty=reason,
    )  # fmt: skip
