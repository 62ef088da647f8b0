"""Figures drawn by matplotlib from data: on axes of any colours, and several as one PNG."""

import io
from collections.abc import Mapping, Sequence
from itertools import pairwise
from math import ceil, floor, isfinite, log10
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.collections import PolyCollection
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from cepcli.errors import ArtifactError, ConfigError
from cepcli.report.document import Axis, Figure, Guide, Report, Series
from cepcli.whole_files import whole_file
from cepcli.workspace.artifacts import writing

mpl.use("Agg")

import matplotlib.pyplot as plt

WIDTH, _HEIGHT, _BELOW = 480.0, 210.0, 46.0  # points: a figure, its plot, the axis below
_ROW, _LEGEND_ROW = 26.0, 17.0
_LETTER, _SYMBOL = 6.2, 34.0  # widths in a legend
_NAME_LETTERS = 24
_MOST_MARKERS = 8
_DPI = 100

#: The light colours of the page, as report.css has them.
_COLOURS = {
    "g0": "#0067b3", "g1": "#c94f00", "g2": "#00795a", "g3": "#a83a7f", "g4": "#8f6a00",
    "g5": "#2d7f9e", "g6": "#5b4bb0", "g7": "#4f565e", "quiet": "#575e67", "all": "#1a1c1f",
    "exact": "#0067b3", "semantic": "#7cc0e8", "audit": "#c9a7d8", "partial": "#f3c26b",
    "query": "#d4581a", "ink": "#1a1c1f", "grid": "#eceef0", "panel": "#ffffff",
}  # fmt: skip
#: Stand for variables of the style sheet while matplotlib draws.
PLACEHOLDERS = {name: f"#0000{number:02x}" for number, name in enumerate(_COLOURS, 1)}
#: Answers differ without colour, too.
_HATCHES = {"semantic": "////", "audit": "...", "partial": "---"}
_MARKERS = "os^DPvX_"
_DASHES = ("-", (0, (7, 4)), (0, (2, 3)), (0, (9, 3, 2, 3)))
STYLE: dict[Any, Any] = {
    "font.size": 11.0, "axes.labelsize": 11.0, "xtick.labelsize": 11.0, "ytick.labelsize": 11.0,
    "legend.fontsize": 11.0, "svg.fonttype": "none", "svg.hashsalt": "cep", "hatch.linewidth": 1.0,
    "axes.spines.top": False, "axes.spines.left": False, "axes.spines.right": False,
    "axes.grid": True, "axes.axisbelow": True, "xtick.major.size": 0.0, "ytick.major.size": 0.0,
    "xtick.major.pad": 10.0,
    "figure.constrained_layout.h_pad": 0.06, "figure.constrained_layout.w_pad": 0.06,
}  # fmt: skip


def number(value: float) -> str:
    """A number on an axis or beside a point: four digits at most, thousands as k and M."""
    size = abs(value)
    for unit, name in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if size >= unit:
            return f"{value / (1e3 if name == 'k' else unit):.4g}{name}"
    return f"{value:.0e}".replace("e-0", "e-") if 0 < size < 1e-4 else f"{value:.4g}"


def save_report_picture(report: Report, path: Path) -> Path:
    """Write every figure as one PNG, a block of rows for each section.

    Raises:
        ConfigError: if there is no figure to draw.
        ArtifactError: if it cannot be written.
    """
    blocks = {
        section.title: [one for panel in section.panels for one in panel.figures if not one.empty]
        for section in report.sections
    }
    if not any(blocks.values()):
        raise ConfigError("These runs have logged nothing that can be drawn.", "Try --format md")
    return save_figures({title: own for title, own in blocks.items() if own}, path, columns=3)


def save_figures(blocks: Mapping[str, Sequence[Figure]], path: Path, columns: int = 1) -> Path:
    """Write figures as one PNG, in blocks under their titles.

    Raises:
        ArtifactError: if it cannot be written.
    """
    rows = {
        title: [figures[start : start + columns] for start in range(0, len(figures), columns)]
        for title, figures in blocks.items()
    }
    heights = [[max(map(height_of, row)) + 20.0 for row in own] for own in rows.values()]
    with mpl.rc_context(STYLE):
        size = (columns * WIDTH / 72, (sum(map(sum, heights)) + 30.0 * len(blocks)) / 72)
        whole = plt.figure(figsize=size, layout="constrained")
        ratios = [sum(own) + 30.0 for own in heights]
        parts = whole.subfigures(len(blocks), 1, height_ratios=ratios, squeeze=False)[:, 0]
        for part, (title, own), ratios in zip(parts, rows.items(), heights, strict=True):
            part.suptitle(title, fontsize=16, fontweight="bold")
            places = part.subfigures(len(own), columns, height_ratios=ratios, squeeze=False)
            for row, line in zip(places, own, strict=True):
                for place, figure in zip(row, line, strict=False):
                    Drawing(figure, place.subplots(), _COLOURS).draw()
        return save_picture(whole, path, _DPI)


def save_picture(figure: Any, path: Path, dpi: int = 130) -> Path:
    """Write a figure as PNG, whole or not at all, and close it."""
    if path.suffix != ".png" or (path.exists() and not path.is_file()):
        raise ArtifactError(f"Cannot write a picture to `{path}`.", "Name a file that ends in .png")
    with writing(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(path) as new:
            figure.savefig(new, dpi=dpi, format="png")
        plt.close(figure)
    return path


def height_of(figure: Figure) -> float:
    """Points that a figure takes, without its title."""
    plot = _ROW * len(figure.names) if figure.names else _HEIGHT
    return plot + _BELOW + _LEGEND_ROW * _legend_size(figure)[0]


def _legend_size(figure: Figure) -> tuple[int, int]:
    """How many rows and columns the legend has; none where there is nothing to tell apart."""
    if figure.kind == "lines" and len(figure.series) == 1 and not figure.series[0].end:
        return 0, 0
    labels = dict.fromkeys(one.label for one in figure.series)
    widths = [min(_SYMBOL + _LETTER * len(label), WIDTH) for label in labels]
    for rows in range(1, len(widths) + 1):  # they are filled column by column
        columns = [max(widths[start : start + rows]) for start in range(0, len(widths), rows)]
        if sum(columns) <= WIDTH:
            return rows, len(columns)
    return 0, 0


def _shortened(text: str, letters: int) -> str:
    """A text of at most so many letters, without its middle where it is longer."""
    if len(text) <= letters:
        return text
    head = (letters - 1) // 2
    return f"{text[:head]}…{text[len(text) + 1 + head - letters :]}"


def value_of(value: float, axis: Axis) -> str:
    """A value of an axis in words."""
    return f"{100 * value:.3g}%" if axis.share else number(value)


class Drawing:
    """A figure on its axes; `tips` holds what parts say when pointed at, by their ids."""

    def __init__(self, figure: Figure, axes: Any, colours: Mapping[str, str]) -> None:
        self.figure, self.axes, self.colours = figure, axes, colours
        self.tips: dict[str, list[str]] = {}
        self._ids = 0

    def draw(self) -> None:
        """All of it."""
        if self.figure.image is not None:
            self.axes.imshow(plt.imread(io.BytesIO(self.figure.image)))
            self.axes.axis("off")
            self._legend()
            return
        _DRAWN[self.figure.kind](self)
        self._scales()
        for order, guide in enumerate(self.figure.guides):
            self._guide(guide, order)
        self._legend()

    def _id(self, name: str, tips: list[str] | None = None) -> str:
        """The id of a part of that class on the page."""
        self._ids += 1
        found = f"{name}|{self._ids}"
        if tips is not None:
            self.tips[found] = tips
        return found

    def _strips(self, boxes: Sequence[tuple[float, ...]], tips: list[str], transform: Any) -> None:
        """Invisible boxes (left, right, bottom, top) that can be pointed at."""
        if self.colours is not PLACEHOLDERS:
            return
        corners = [[(l, b), (r, b), (r, t), (l, t)] for l, r, b, t in boxes]  # noqa: E741
        strips = PolyCollection(corners, transform=transform, gid=self._id("strip", tips),
                                facecolors=self.colours["ink"], alpha=0.01)  # fmt: skip
        strips.set_in_layout(False)
        self.axes.add_collection(strips, autolim=False)

    def _scales(self) -> None:
        """Ends, ticks and names of both axes."""
        figure, axes, quiet = self.figure, self.axes, self.colours["quiet"]
        axes.grid(color=self.colours["grid"])
        axes.spines["bottom"].set_color(quiet)
        axes.tick_params(colors=quiet)
        axes.patch.set_visible(False)
        for which, axis in (("x", figure.x), ("y", figure.y)):
            getattr(axes, f"set_{which}label")(axis.label, color=self.colours["ink"])
            if which == "y" and figure.names:
                continue
            own = getattr(axes, f"{which}axis")
            limits = _limits(axis, self._values(which), tight=which == "x" and self._is_tight())
            if axis.log:
                getattr(axes, f"set_{which}scale")("log")
                own.set_major_locator(LogLocator(numticks=6))
                own.set_minor_locator(NullLocator())
            else:
                own.set_major_locator(
                    MaxNLocator(6 if which == "x" else 5, steps=[1, 2, 2.5, 5, 10])
                )
            getattr(axes, f"set_{which}lim")(*limits)
            own.set_major_formatter(
                FuncFormatter(lambda value, _, axis=axis: value_of(value, axis))
            )

    def _is_tight(self) -> bool:
        """Whether the horizontal axis ends with the data."""
        figure = self.figure
        first = min((x for one in figure.series for x in one.x), default=-1.0)
        return figure.kind in ("area", "histogram") or (figure.kind == "lines" and first >= 0)

    def _values(self, which: str) -> list[float]:
        """All numbers along an axis; along both where a diagonal compares them."""
        figure = self.figure
        across = [x for one in figure.series for x in one.x]
        up = [y for one in figure.series for y in (*one.y, *(one.low or ()), *(one.high or ()))]
        found = {"x": across, "y": [y for y in up if y is not None]}
        for guide in figure.guides:
            if guide.kind in found:
                found[guide.kind].append(guide.value)
        if any(guide.kind == "diagonal" for guide in figure.guides):
            return [*found["x"], *found["y"]]
        return found[which]

    def _guide(self, guide: Guide, order: int) -> None:
        """A straight line with its name."""
        axes, colour = self.axes, self.colours[guide.colour]
        style = {"color": colour, "linestyle": "--", "linewidth": 1.3, "gid": self._id("guide")}
        place: dict[str, Any] = {"xytext": (-4, 4), "ha": "right"}
        if guide.kind == "y":
            axes.axhline(guide.value, **style)
            where, coordinates = (1.0, guide.value), axes.get_yaxis_transform()
        elif guide.kind == "x":
            axes.axvline(guide.value, **style)
            where, coordinates = (guide.value, 1.0), axes.get_xaxis_transform()
            at = axes.transAxes.inverted().transform(axes.transData.transform((guide.value, 1.0)))[
                0
            ]
            place = {"xytext": (-4 if at > 0.8 else 4, -11 - 13 * order),
                     "ha": "right" if at > 0.8 else "left"}  # fmt: skip
        else:
            (left, right), (bottom, top) = axes.get_xlim(), axes.get_ylim()
            ends = max(left, bottom), min(right, top)
            axes.plot(ends, ends, **style)
            middle = (ends[0] * ends[1]) ** 0.5 if self.figure.x.log else sum(ends) / 2
            where, coordinates = (middle, middle), axes.transData
        axes.annotate(guide.label, where, xycoords=coordinates, textcoords="offset points",
                      color=colour, gid=self._id("guide-label"), **place)  # fmt: skip

    def _legend(self) -> None:
        """Each label once, above the plot; in a PNG under the title, which a page has itself."""
        _, columns = _legend_size(self.figure)
        title = "" if self.colours is PLACEHOLDERS else self.figure.title
        whole = self.axes.figure
        if not columns:
            whole.suptitle(title, x=0.02, ha="left", fontsize=12, fontweight="bold")
            return
        handles = dict(zip(*reversed(self.axes.get_legend_handles_labels()), strict=True))
        most = int((WIDTH - _SYMBOL) / _LETTER)
        whole.legend(
            handles.values(), [_shortened(label, most) for label in handles], title=title or None,
            title_fontproperties={"weight": "bold", "size": 12}, alignment="left", ncols=columns,
            loc="outside upper left", frameon=False, labelcolor=self.colours["ink"],
            handlelength=1.6, columnspacing=1.2, handletextpad=0.5, borderpad=0.2,
            labelspacing=0.35,
        )  # fmt: skip

    # -- kinds -----------------------------------------------------------------------------------

    def lines(self) -> None:
        """Lines with bands, markers, and a cross where one ends before the others do."""
        for one in self.figure.series:
            x, y = np.array(one.x, float), np.array(one.y, float)  # None becomes NaN
            colour, cycle = self.colours[one.colour], one.shape // len(_MARKERS)
            ends = np.flatnonzero(np.isfinite(y))
            every = max(1, -(-len(ends) // _MOST_MARKERS))
            self.axes.plot(
                x, y, linestyle=":" if one.end else _DASHES[cycle % len(_DASHES)], linewidth=2,
                marker="x" if one.end else _MARKERS[one.shape % len(_MARKERS)], color=colour,
                markevery=ends[-1:].tolist() if one.end else ends[::every].tolist(),
                markersize=9 if one.end else 6, label=one.label, gid=self._id("line"),
                markerfacecolor=self.colours["panel"] if cycle % 2 else colour,
            )  # fmt: skip
            if one.low and one.high:
                self.axes.fill_between(x, one.low, one.high, color=colour, alpha=0.16, linewidth=0,
                                       gid=self._id("band"))  # fmt: skip
        at = sorted({x for one in self.figure.series for x in one.x})
        if not at:
            return
        edges = [at[0], *((a + b) / 2 for a, b in pairwise(at)), at[-1]]
        tips = [f"{self.figure.x.label} {number(x)}\n{self._lines_at(x)}" for x in at]
        boxes = [(left, right, 0.0, 1.0) for left, right in pairwise(edges)]
        self._strips(boxes, tips, self.axes.get_xaxis_transform())

    def _lines_at(self, x: float) -> str:
        """What each line is at, or was last at before, an x within its reach."""
        told, axis = [], self.figure.y
        for one in self.figure.series:
            last = int(np.searchsorted(one.x, x, side="right")) - 1
            if last < 0 or x > one.x[-1] or (y := one.y[last]) is None:
                continue
            text = f"{one.label}: {value_of(y, axis)}"
            if one.low and one.high:
                low, high = value_of(one.low[last], axis), value_of(one.high[last], axis)
                text += f" ({low} … {high}, {one.seeds} seeds)"
            told.append(text)
        return "\n".join(told)

    def columns(self) -> None:
        """Stacked columns between edges: of an interval of steps, or of a bin."""
        figure, edges = self.figure, self.figure.series[0].x
        base = np.zeros(len(edges) - 1)
        tips = [f"{figure.x.label}: {number(a)} … {number(b)}" for a, b in pairwise(edges)]
        for one in figure.series:
            shares = np.nan_to_num(np.array(one.y, float))
            self.axes.stairs(base + shares, edges, baseline=base.copy(), fill=True,
                             label=one.label, **self._fill(one))  # fmt: skip
            base += shares
            for place in np.flatnonzero(shares):
                tips[place] += f"\n{one.label}: {value_of(shares[place], figure.y)}"
        used = np.flatnonzero(base).tolist()
        boxes = [(edges[n], edges[n + 1], 0.0, 1.0) for n in used]
        self._strips(boxes, [tips[n] for n in used], self.axes.get_xaxis_transform())

    def bars(self) -> None:
        """A bar for each row, made of what its decisions were answered by."""
        names, base = self.figure.names, np.zeros(len(self.figure.names))
        tips = list(names)
        for one in self.figure.series:
            self.axes.barh(one.y, one.x, left=base, height=0.65, label=one.label,
                           **self._fill(one))  # fmt: skip
            base += np.array(one.x)
            for row, share in enumerate(one.x):
                tips[row] += f"\n{one.label}: {value_of(share, self.figure.x)}" if share else ""
        boxes = [(0.0, 1.0, row - 0.45, row + 0.45) for row in range(len(names))]
        self._strips(boxes, tips, self.axes.get_yaxis_transform())
        self._rows()

    def ranges(self) -> None:
        """From the median to the 95th percentile; the rows of one setting lie close together."""
        labels = list(dict.fromkeys(one.label for one in self.figure.series))
        for one in self.figure.series:
            at = (one.y[0] or 0.0) + 0.23 * (labels.index(one.label) - (len(labels) - 1) / 2)
            self.axes.plot(one.x, [at, at], color=self.colours[one.colour], linewidth=2.5,
                           marker="o", markevery=[0], markersize=6, label=one.label,
                           gid=self._id("range"))  # fmt: skip
            self.axes.plot(one.x[1:], [at], "|", color=self.colours[one.colour], markersize=8)
            box = (0.97 * one.x[0], 1.03 * one.x[1], at - 0.1, at + 0.1)
            self._strips([box], one.notes[:1] if one.notes else [one.label], self.axes.transData)
        self._rows()

    def points(self) -> None:
        """Points, filled or hollow."""
        for one in self.figure.series:
            notes = one.notes or [""] * len(one.x)
            told = [(x, y, f"{one.label}\n{note}")
                    for x, y, note in zip(one.x, one.y, notes, strict=True)
                    if y is not None and isfinite(x) and isfinite(y)]  # fmt: skip
            x, y, tips = zip(*told, strict=True) if told else ((), (), ())
            colour = self.colours[one.colour]
            self.axes.plot(x, y, "o", markersize=5, alpha=0.75, color=colour, label=one.label,
                           markerfacecolor="none" if one.shape else colour,
                           markeredgewidth=1 if one.shape else 0,
                           gid=self._id("point", list(tips)))  # fmt: skip

    def _fill(self, one: Series) -> dict[str, Any]:
        return {
            "facecolor": self.colours[one.colour], "edgecolor": self.colours["panel"],
            "hatch": _HATCHES.get(one.colour), "linewidth": 0, "gid": self._id("box"),
        }  # fmt: skip

    def _rows(self) -> None:
        names = [_shortened(name, _NAME_LETTERS) for name in self.figure.names]
        self.axes.set_yticks(range(len(names)), names)
        self.axes.set_ylim(len(names) - 0.5, -0.5)


_DRAWN = {
    "lines": Drawing.lines, "area": Drawing.columns, "histogram": Drawing.columns,
    "bars": Drawing.bars, "ranges": Drawing.ranges, "scatter": Drawing.points,
}  # fmt: skip


def _limits(axis: Axis, values: Sequence[float], *, tight: bool) -> tuple[float, float]:
    """The ends of an axis, which hold the values: given, with some air, or powers of ten."""
    found = [value for value in values if isfinite(value)] or [0.0, 1.0]
    if axis.log:
        low = axis.low or min(value for value in found if value > 0)
        first, last = floor(log10(low) + 1e-9), ceil(log10(max(low, *found)) - 1e-9)
        return 10.0**first, 10.0 ** max(last, first + 1)
    low, high = min(found), max(found)
    air = 0.06 * (high - low) or 0.5 * abs(high) or 0.5
    if tight:
        return low if axis.low is None else axis.low, high if high > low else low + 1.0
    low = low - air if axis.low is None else min(axis.low, low)
    high = high + air if axis.high is None else max(axis.high, high)
    return low, high if high > low else low + 1.0
