"""Figures of single decisions: errors of reused priors against their bound, latencies, the map.

They are made of what the last checkpoint of each run kept; a record has none, and then says so.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from cepcli.errors import ArtifactError
from cepcli.report.document import Axis, Figure, Guide, Panel, Series
from cepcli.report.settings import Setting, World
from cepcli.report.sources import Run, Samples
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


def error_panel(world: World) -> Panel | None:
    """KL against its bound, and similarity against span; None where no run keeps a cache."""
    caching = [setting for setting in world.settings if setting.caches]
    if not caching:
        return None
    return Panel("Errors of reused priors", [_bound(caching), _similarity(caching)])


def latency_panel(world: World) -> Panel | None:
    """Time of a decision; None where none asks."""
    asking = [setting for setting in world.settings if setting.asks]
    if not asking:
        return None
    figures = [_percentiles(asking)]
    for setting in asking:
        sampled = [run.samples for run in setting.runs if run.samples is not None]
        if sampled:
            figures.append(_histogram(setting, sampled))
    if len(figures) == 1:
        reason = f"{_lacking(asking)}: only the percentiles beside are known."
        distribution = "Distribution of the time of a decision"
        figures.append(
            Figure("latency", distribution, "", "histogram", Axis(""), Axis(""), empty=reason)
        )
    return Panel("Latency", figures)


def map_panel(world: World, workspace: Workspace) -> Panel | None:
    """The keys of each abstraction that a run used; None where none did."""
    found: dict[str, Run] = {}
    for run in world.runs:
        if (name := run.settings.get("abstraction")) and run.settings.get("prior") != "uniform":
            found.setdefault(name, run)
    if not found:
        return None
    return Panel("Abstraction", [_map(workspace, *pair) for pair in found.items()])


def _bound(settings: Sequence[Setting]) -> Figure:
    """Measured KL against span²/8."""
    x = Axis("bound: span² / 8 (nats)", low=_LEAST_NATS, log=True)
    y = Axis("KL of cached against fresh prior (nats)", low=_LEAST_NATS, log=True)
    over = compared = 0
    for samples in _samples_of(settings):
        bound = samples.span**2 / _HOEFFDING
        compared += len(bound)
        over += int((samples.kl > bound + _ROUNDING).sum())
    about = (
        f"Each point is a cached prior beside a fresh one; on or below the line the bound holds. "
        f"{over:,} of {compared:,} lie above it. Values under {_LEAST_NATS:g} are at the edge. "
        f"{_KINDS}"
    )
    series = [
        Series(setting.label, setting.colour, shape, _floored(s.span[own] ** 2 / _HOEFFDING),
               list(_floored(s.kl[own])), notes=_notes(s, own))
        for setting, shape, s, own in _clouds(settings)
    ]  # fmt: skip
    guides = [Guide("diagonal", 0.0, "KL = bound"), *_budgets(settings, "x", lambda kappa: kappa)]
    return Figure(
        "kl-bound", "KL against its bound", about, "scatter", x, y, series, guides,
        empty=_nothing_compared(settings, compared),
    )  # fmt: skip


def _similarity(settings: Sequence[Setting]) -> Figure:
    """Span against similarity: what the threshold δ is chosen by."""
    series = [
        Series(setting.label, setting.colour, shape, _floats(s.similarity[own]),
               list(_floats(s.span[own])), notes=_notes(s, own))
        for setting, shape, s, own in _clouds(settings)
    ]  # fmt: skip
    guides = _budgets(settings, "y", lambda kappa: (_HOEFFDING * kappa) ** 0.5)
    guides += _thresholds(settings)
    return Figure(
        "similarity-span", "Similarity against span",
        f"Each point is a look-up whose text was new: how near its nearest entry was, and how far "
        f"apart the two priors are. To the right of δ the cache answers. {_KINDS}",
        "scatter", Axis("similarity (cosine)"), Axis("span of log-prior ratios (nats)", low=0.0),
        series, guides,
        empty=_nothing_compared(settings, sum(len(s.span) for s in _samples_of(settings))),
    )  # fmt: skip


def _samples_of(settings: Sequence[Setting]) -> list[Samples]:
    return [run.samples for one in settings for run in one.runs if run.samples is not None]


def _clouds(
    settings: Sequence[Setting],
) -> Iterable[tuple[Setting, int, Samples, np.ndarray]]:
    """Setting, shape, samples and chosen numbers: audited hits and misses apart."""
    kept = _samples_of(settings)
    stride = max(1, -(-sum(len(s.span) for s in kept) // _MOST_POINTS))
    for setting in settings:
        for samples in _samples_of([setting]):
            chosen = np.arange(0, len(samples.span), stride)
            for hit in (True, False):
                own = chosen[samples.hit[chosen] == hit]
                if len(own):
                    yield setting, 0 if hit else 1, samples, own


def _notes(samples: Samples, own: np.ndarray) -> list[str]:
    return [
        f"similarity {similarity:.4f}, span {span:.3f}, KL {kl:.4f}"
        for similarity, span, kl in zip(
            samples.similarity[own], samples.span[own], samples.kl[own], strict=True
        )
    ]


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


def _nothing_compared(settings: Sequence[Setting], compared: int) -> str | None:
    if compared:
        return None
    return _NONE_COMPARED if _samples_of(settings) else f"{_lacking(settings)}: no scatter."


def _lacking(settings: Sequence[Setting]) -> str:
    """Why there are no samples, by the first runs that have none."""
    reasons = [reason for one in settings for run in one.runs if (reason := run.lacks())]
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


def _histogram(setting: Setting, sampled: Sequence[Samples]) -> Figure:
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
            series.append(Series(middle, colour, 0, _floats(edges), list(_floats(shares))))
    return Figure(
        f"latency-{setting.number}", f"Time of a decision: {setting.label}",
        f"Of {len(latency):,} decisions, evenly spread over the run; a query counts as long as the "
        "LLM took when it was first asked.", "histogram", Axis("milliseconds a decision", log=True),
        Axis("share of decisions", low=0.0, share=True), series,
    )  # fmt: skip


def _map(workspace: Workspace, name: str, run: Run) -> Figure:
    """The picture that `cep abstract train` made, if it is of the abstraction that the run used."""
    image, reason = None, None
    try:
        artifact = workspace.open("abstraction", name)
        used = [one["sha256"] for one in (run.manifest or {}).get("inputs", [])
                if one["kind"] == "abstraction"]  # fmt: skip
        if used and artifact.reference.sha256 not in used:
            reason = (
                f"The abstraction `{name}` is another one now than {run.name} was trained with."
            )
        else:
            image, reason = _picture(artifact.path)
    except ArtifactError:
        reason = f"The abstraction `{name}` that {run.name} used is not in this workspace."
    return Figure(
        f"map-{name.replace('/', '-')}", f"Keys of {name}",
        "Keys of states on their two principal components, coloured by motion primitive; large: "
        "annotated, small: propagated, rings: held out.", "image", Axis(""), Axis(""),
        image=image, empty=reason,
    )  # fmt: skip


def _picture(path: Path) -> tuple[bytes | None, str | None]:
    file = path / "map.png"
    return (file.read_bytes(), None) if file.is_file() else (None, f"`{path}` holds no map.png.")


def _floored(values: np.ndarray) -> list[float]:
    return _floats(np.maximum(values, _LEAST_NATS))


def _floats(values: np.ndarray) -> list[float]:
    return [float(value) for value in values]
