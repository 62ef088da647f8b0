"""The figures of a report as one PNG."""

import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cepcli.errors import ConfigError
from cepcli.report.curves import plt, save_picture
from cepcli.report.document import Figure, Report, Series

_COLUMNS = 3
_WIDTH, _HEIGHT = 5.2, 3.6  # inches a figure
#: The light colours of the page.
_COLOURS = {
    "g0": "#0067b3", "g1": "#c94f00", "g2": "#00795a", "g3": "#a83a7f", "g4": "#8f6a00",
    "g5": "#2d7f9e", "g6": "#5b4bb0", "g7": "#4f565e", "quiet": "#575e67", "all": "#1a1c1f",
    "exact": "#0067b3", "semantic": "#7cc0e8", "audit": "#c9a7d8", "partial": "#f3c26b",
    "query": "#d4581a",
}  # fmt: skip
_HATCHES = {"semantic": "///", "audit": "..", "partial": "---"}
_MARKERS = "os^DPvX_"
_DASHES = ("-", (0, (7, 4)), ":", "-.")
_MOST_MARKERS = 8


def save_report_picture(report: Report, path: Path) -> Path:
    """Write every figure that there is, a block of rows for each section.

    Raises:
        ConfigError: if there is no figure to draw.
        ArtifactError: if it cannot be written.
    """
    blocks = [(section.title, _figures(section.panels)) for section in report.sections]
    blocks = [(title, figures) for title, figures in blocks if figures]
    if not blocks:
        raise ConfigError("These runs have logged nothing that could be drawn.", "Try --format md")
    rows = [-(-len(figures) // _COLUMNS) for _, figures in blocks]
    whole = plt.figure(figsize=(_COLUMNS * _WIDTH, sum(rows) * _HEIGHT + 0.5), layout="constrained")
    parts = whole.subfigures(len(blocks), 1, height_ratios=rows, squeeze=False)[:, 0]
    for part, (title, figures), count in zip(parts, blocks, rows, strict=True):
        part.suptitle(title, fontsize=13, fontweight="bold")
        axes = part.subplots(count, _COLUMNS, squeeze=False).ravel()
        for own, figure in zip(axes, figures, strict=False):
            _draw(figure, own)
        for unused in axes[len(figures) :]:
            unused.axis("off")
    return save_picture(whole, path)


def _figures(panels: Sequence[Any]) -> list[Figure]:
    return [figure for panel in panels for figure in panel.figures if figure.empty is None]


def _draw(figure: Figure, axes: Any) -> None:
    axes.set_title(figure.title, fontsize=9, loc="left", fontweight="bold")
    if figure.image is not None:
        axes.imshow(plt.imread(io.BytesIO(figure.image)))
        axes.axis("off")
        return
    _DRAWN[figure.kind](figure, axes)
    for guide in figure.guides:
        style = {"color": _COLOURS[guide.colour], "linestyle": "--", "linewidth": 1}
        if guide.kind == "y":
            axes.axhline(guide.value, label=guide.label, **style)
        elif guide.kind == "x":
            axes.axvline(guide.value, label=guide.label, **style)
        else:
            axes.axline((1.0, 1.0), (10.0, 10.0), label=guide.label, **style)
    _finish(figure, axes)


def _finish(figure: Figure, axes: Any) -> None:
    """Scales, ends, names and the legend."""
    for axis, which in ((figure.x, "x"), (figure.y, "y")):
        if axis.log:
            axes.set(**{f"{which}scale": "log"})
        if not axis.log and (axis.low is not None or axis.high is not None):
            axes.set(**{f"{which}lim": (axis.low, axis.high)})
        if axis.share:
            getattr(axes, f"{which}axis").set_major_formatter(_percent)
    axes.set_xlabel(figure.x.label, fontsize=8)
    axes.set_ylabel(figure.y.label, fontsize=8)
    axes.tick_params(labelsize=7)
    axes.grid(color="0.92")
    axes.set_axisbelow(True)
    handles = dict(reversed([(label, handle) for handle, label in _labelled(axes)]))
    if handles:
        axes.legend(handles.values(), handles, fontsize=6, framealpha=0.8)


def _labelled(axes: Any) -> Iterator[tuple[Any, str]]:
    yield from zip(*axes.get_legend_handles_labels(), strict=True)


def _percent(value: float, position: int) -> str:
    return f"{100 * value:.3g}%"


def _lines(figure: Figure, axes: Any) -> None:
    for one in figure.series:
        colour = _COLOURS[one.colour]
        y = np.array([np.nan if value is None else value for value in one.y])
        dash = ":" if one.end else _DASHES[one.shape // len(_MARKERS) % len(_DASHES)]
        mark = "x" if one.end else _MARKERS[one.shape % len(_MARKERS)]
        every = [len(y) - 1] if one.end else max(1, len(y) // _MOST_MARKERS)
        axes.plot(one.x, y, linestyle=dash, marker=mark, markevery=every, markersize=4,
                  color=colour, label=one.label)  # fmt: skip
        if one.low and one.high:
            axes.fill_between(one.x, one.low, one.high, alpha=0.15, color=colour, linewidth=0)


def _stairs(figure: Figure, axes: Any) -> None:
    base = np.zeros(len(figure.series[0].y))
    for one in figure.series:
        top = base + np.array([value or 0.0 for value in one.y])
        axes.stairs(top, one.x, baseline=base, fill=True, label=one.label, **_fill(one))
        base = top


def _bars(figure: Figure, axes: Any) -> None:
    base = np.zeros(len(figure.names))
    for one in figure.series:
        axes.barh(one.y, one.x, left=base, height=0.7, label=one.label, **_fill(one))
        base += np.array(one.x)
    _rows(figure, axes)


def _fill(one: Series) -> dict[str, Any]:
    return {"color": _COLOURS[one.colour], "hatch": _HATCHES.get(one.colour), "edgecolor": "white",
            "linewidth": 0}  # fmt: skip


def _ranges(figure: Figure, axes: Any) -> None:
    labels = list(dict.fromkeys(one.label for one in figure.series))
    for one in figure.series:
        at = [(y or 0.0) + 0.2 * (labels.index(one.label) - (len(labels) - 1) / 2) for y in one.y]
        axes.plot(one.x, at, color=_COLOURS[one.colour], marker="o", markevery=[0], markersize=4,
                  label=one.label)  # fmt: skip
    _rows(figure, axes)


def _rows(figure: Figure, axes: Any) -> None:
    axes.set_yticks(range(len(figure.names)), figure.names)
    axes.set_ylim(len(figure.names) - 0.5, -0.5)


def _points(figure: Figure, axes: Any) -> None:
    for one in figure.series:
        hollow = {"facecolors": "none", "edgecolors": _COLOURS[one.colour]}
        solid = {"color": _COLOURS[one.colour], "linewidths": 0}
        axes.scatter(one.x, one.y, s=8, alpha=0.7, label=one.label,
                     **(hollow if one.shape else solid))  # fmt: skip


_DRAWN = {
    "lines": _lines, "area": _stairs, "histogram": _stairs, "bars": _bars, "ranges": _ranges,
    "scatter": _points,
}  # fmt: skip
