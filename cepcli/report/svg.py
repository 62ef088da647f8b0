"""Figures as SVG that follows the theme of the page around it: colours and fonts are classes.

Every figure has a title and a description for who does not see it. What can be pointed at carries
its text as `data-tip`, a line each.
"""

from collections.abc import Callable, Sequence
from itertools import pairwise
from math import isnan
from typing import Any

from cepcli.report.document import Axis, Figure, Guide, Series
from cepcli.report.frame import Frame
from cepcli.report.marks import Entry, dashes, fill, legend, marker, shortened, tag
from cepcli.report.scales import number, shown

WIDTH = 480.0
_HEIGHT = 210.0  # of the plot alone
_ROW = 26.0  # of a bar
_MOST_MARKERS = 8  # on a line
_NAME_LETTERS = 24
_TOP_ROOM = 8.0
_BOX_KINDS = ("area", "bars", "histogram")


def draw(figure: Figure, uid: str) -> str:
    """A figure as an SVG element; `uid` is unique on its page."""
    key, height = legend(_entries(figure), 8.0, WIDTH - 16.0)
    frame = _FRAMES.get(figure.kind, _plain_frame)(figure, height + _TOP_ROOM)
    parts = _DRAWN[figure.kind](figure, frame)
    return tag(
        "svg",
        tag("title", text=figure.title, id=f"{uid}-t"),
        tag("desc", text=f"{figure.about} {_in_words(figure)}".strip(), id=f"{uid}-d"),
        key, frame.axes(), tag("g", *parts, class_="data"),
        *(_guide(guide, frame, n) for n, guide in enumerate(figure.guides)),
        viewBox=f"0 0 {WIDTH:g} {frame.total:g}", role="img", tabindex=0,
        aria_labelledby=f"{uid}-t {uid}-d", xmlns="http://www.w3.org/2000/svg",
    )  # fmt: skip


def _plain_frame(figure: Figure, top: float) -> Frame:
    xs = [x for one in figure.series for x in one.x]
    ys = [y for one in figure.series for y in (*one.y, *(one.low or ()), *(one.high or ()))]
    ys = [y for y in ys if y is not None]
    xs += [guide.value for guide in figure.guides if guide.kind == "x"]
    ys += [guide.value for guide in figure.guides if guide.kind == "y"]
    if any(guide.kind == "diagonal" for guide in figure.guides):
        xs = ys = [*xs, *ys]
    x = figure.x
    if figure.kind in ("area", "histogram") or (figure.kind == "lines" and xs and min(xs) >= 0):
        x = Axis(x.label, x.low if x.low is not None else min(xs), max(xs), x.log, x.share)
    return Frame.around(x, figure.y, xs, ys, WIDTH, _HEIGHT, top)


def _row_frame(figure: Figure, top: float) -> Frame:
    xs = [x for one in figure.series for x in one.x]
    names = [shortened(name, _NAME_LETTERS) for name in figure.names]
    return Frame.with_rows(figure.x, xs, names, WIDTH, _ROW, top)


def _entries(figure: Figure) -> list[Entry]:
    """A legend, but where there is nothing to tell apart."""
    if figure.kind in _BOX_KINDS:
        return [Entry(one.label, one.colour, 0, "box") for one in figure.series]
    if figure.kind == "lines":
        if len(figure.series) == 1 and not figure.series[0].end:
            return []
        return [
            Entry(one.label, one.colour, one.shape, "dash" if one.end else "line")
            for one in figure.series
        ]
    return [Entry(one.label, one.colour, 0, "mark") for one in figure.series]


def _guide(guide: Guide, frame: Frame, number_: int) -> str:
    """A straight line with its name."""
    place = {"class_": f"guide s-{guide.colour}"}
    words = f"guide-label f-{guide.colour}"
    if guide.kind == "y":
        y = frame.y(guide.value)
        line = tag("line", x1=frame.left, x2=frame.right, y1=y, y2=y, **place)
        return line + tag("text", text=guide.label, class_=words, x=frame.right - 4.0, y=y - 4.0,
                          text_anchor="end")  # fmt: skip
    if guide.kind == "x":
        x = frame.x(guide.value)
        line = tag("line", x1=x, x2=x, y1=frame.top, y2=frame.bottom, **place)
        near_end = x > frame.right - 80.0
        return line + tag(
            "text", text=guide.label, class_=words, x=x - 4.0 if near_end else x + 4.0,
            y=frame.top + 11.0 + 13.0 * number_, text_anchor="end" if near_end else "start",
        )  # fmt: skip
    low, high = max(frame.x.low, frame.y.low), min(frame.x.high, frame.y.high)
    line = tag(
        "line", x1=frame.x(low), y1=frame.y(low), x2=frame.x(high), y2=frame.y(high), **place
    )
    middle = (low * high) ** 0.5 if frame.x.log else (low + high) / 2
    return line + tag("text", text=guide.label, class_=words, x=frame.x(middle) - 8.0,
                      y=frame.y(middle) - 6.0, text_anchor="end")  # fmt: skip


def _lines(figure: Figure, frame: Frame) -> list[str]:
    parts = [_band(one, frame) for one in figure.series if one.low and one.high]
    for one in figure.series:
        dash = "3 3" if one.end else dashes(one.shape)
        for run in _runs(one):
            d = "M" + "L".join(f"{frame.x(x):.1f} {frame.y(y):.1f}" for x, y in run)
            parts.append(tag("path", class_=f"line s-{one.colour}", d=d, stroke_dasharray=dash))
        parts += _markers(one, frame)
    return [*parts, *_strips(figure, frame)]


def _runs(one: Series) -> list[list[tuple[float, float]]]:
    """The stretches of a line that have values."""
    runs: list[list[tuple[float, float]]] = [[]]
    for x, y in zip(one.x, one.y, strict=True):
        if y is None:
            runs.append([])
        else:
            runs[-1].append((x, y))
    return [run for run in runs if run]


def _band(one: Series, frame: Frame) -> str:
    """What the seeds span, where all of them have values."""
    ends = zip(one.x, one.low or (), one.high or (), strict=True)
    told = [(x, low, high) for x, low, high in ends if not (isnan(low) or isnan(high))]
    edge = [(x, high) for x, _, high in told] + [(x, low) for x, low, _ in reversed(told)]
    if not edge:
        return ""
    d = "M" + "L".join(f"{frame.x(x):.1f} {frame.y(y):.1f}" for x, y in edge) + "Z"
    return tag("path", class_=f"band f-{one.colour}", d=d)


def _markers(one: Series, frame: Frame) -> list[str]:
    """Some points of a line, and a cross where it ends before the others do."""
    points = [(x, y) for x, y in zip(one.x, one.y, strict=True) if y is not None]
    stride = max(1, -(-len(points) // _MOST_MARKERS))
    shown_ = [] if one.end else points[::stride]
    parts = [marker(frame.x(x), frame.y(y), one.shape, 3.2, f"{fill(one.shape)} s-{one.colour}")
             for x, y in shown_]  # fmt: skip
    if one.end and points:
        x, y = frame.x(points[-1][0]), frame.y(points[-1][1])
        parts.append(tag("path", class_=f"cross s-{one.colour}",
                         d=f"M{x - 5:.1f} {y - 5:.1f}l10 10m0 -10l-10 10"))  # fmt: skip
    return parts


def _strips(figure: Figure, frame: Frame) -> list[str]:
    """Invisible columns around each x, which tell every line's value there."""
    at = sorted({x for one in figure.series for x in one.x})
    middles = [(a + b) / 2 for a, b in pairwise(at)]
    edges = [frame.x.low, *middles, frame.x.high]
    return [
        _strip(frame, left, right, "\n".join([f"{figure.x.label} {number(x)}", *_told(figure, x)]))
        for x, left, right in zip(at, edges, edges[1:], strict=False)
    ]


def _strip(frame: Frame, left: float, right: float, tip: str) -> str:
    start, stop = frame.x(left), frame.x(right)
    return tag("rect", class_="strip", x=start, y=frame.top, width=max(stop - start, 0.5),
               height=frame.bottom - frame.top, data_tip=tip)  # fmt: skip


def _told(figure: Figure, x: float) -> list[str]:
    """What each line is at, or was last at before, an x within its reach."""
    lines = []
    for one in figure.series:
        found = [n for n, own in enumerate(one.x) if own <= x]
        if not found or x > one.x[-1] or (y := one.y[found[-1]]) is None:
            continue
        text = f"{one.label}: {shown(y, figure.y)}"
        if one.low and one.high:
            low, high = (shown(ends[found[-1]], figure.y) for ends in (one.low, one.high))
            text += f" ({low} … {high}, {one.seeds} seeds)"
        lines.append(text)
    return lines


def _columns(figure: Figure, frame: Frame) -> list[str]:
    """Stacked columns between edges: of an interval of steps, or of a bin."""
    edges = figure.series[0].x
    parts = []
    for n, (left, right) in enumerate(pairwise(edges)):
        base, lines = 0.0, [f"{figure.x.label}: {number(left)} … {number(right)}"]
        for one in figure.series:
            share = one.y[n] or 0.0
            if share:
                parts += _box(frame, left, right, base, base + share, one.colour)
                lines.append(f"{one.label}: {shown(share, figure.y)}")
            base += share
        if base:
            parts.append(_strip(frame, left, right, "\n".join(lines)))
    return parts


def _box(
    frame: Frame, left: float, right: float, low: float, high: float, colour: str
) -> list[str]:
    x, y = frame.x(left), frame.y(high)
    place = {"x": x, "y": y, "width": max(frame.x(right) - x, 0.0), "height": frame.y(low) - y}
    return _filled(place, colour)


def _filled(place: dict[str, Any], colour: str) -> list[str]:
    """A box in the colour of an answer, with its pattern."""
    boxes = [tag("rect", class_=f"box f-{colour}", **place)]
    if colour in ("semantic", "audit", "partial"):
        boxes.append(tag("rect", class_="pattern", fill=f"url(#p-{colour})", **place))
    return boxes


def _bars(figure: Figure, frame: Frame) -> list[str]:
    """A bar for each row, made of what its decisions were answered by."""
    parts = []
    for row, name in enumerate(figure.names):
        base, y, lines, boxes = 0.0, frame.y(float(row)) - 8.0, [name], []
        for one in figure.series:
            share = dict(zip(one.y, one.x, strict=True)).get(float(row), 0.0)
            if share:
                left, right = frame.x(base), frame.x(base + share)
                place = {"x": left, "y": y, "width": right - left, "height": 16.0}
                boxes += _filled(place, one.colour)
                lines.append(f"{one.label}: {shown(share, figure.x)}")
            base += share
        tip = "\n".join(lines)
        whole = tag("rect", class_="strip", x=frame.left, y=y - 4.0,
                    width=frame.right - frame.left, height=24.0, data_tip=tip)  # fmt: skip
        parts += [*boxes, whole]
    return parts


def _ranges(figure: Figure, frame: Frame) -> list[str]:
    """From the median to the 95th percentile, the rows of one setting close together."""
    labels = list(dict.fromkeys(one.label for one in figure.series))
    parts = []
    for one in figure.series:
        y = frame.y(one.y[0] or 0.0) + 6.0 * (labels.index(one.label) - (len(labels) - 1) / 2)
        left, right = frame.x(one.x[0]), frame.x(one.x[1])
        tip = (one.notes or [one.label])[0]
        parts += [
            tag("line", class_=f"range s-{one.colour}", x1=left, x2=right, y1=y, y2=y),
            marker(left, y, 0, 3.4, f"dot s-{one.colour}"),
            tag("line", class_=f"range s-{one.colour}", x1=right, x2=right, y1=y - 4.0, y2=y + 4.0),
            tag("rect", class_="strip", x=left - 5.0, y=y - 3.0, width=right - left + 10.0,
                height=6.0, data_tip=tip),
        ]  # fmt: skip
    return parts


def _points(figure: Figure, frame: Frame) -> list[str]:
    parts = []
    for one in figure.series:
        kind = "ring" if one.shape else "dot"
        notes = one.notes or [""] * len(one.x)
        parts += [
            marker(frame.x(x), frame.y(y), 0, 2.6, f"{kind} point s-{one.colour}",
                   f"{one.label}\n{note}")
            for x, y, note in zip(one.x, one.y, notes, strict=True) if y is not None
        ]  # fmt: skip
    return parts


def _in_words(figure: Figure) -> str:
    """Where each line begins and ends."""
    if figure.kind != "lines":
        return ""
    told = []
    for one in figure.series:
        points = [(x, y) for x, y in zip(one.x, one.y, strict=True) if y is not None]
        if points:
            (x, y), (last, end) = points[0], points[-1]
            told.append(
                f"{one.label}: {shown(y, figure.y)} at {number(x)}, {shown(end, figure.y)} at "
                f"{number(last)}."
            )
    return " ".join(told)


_Drawn = Callable[[Figure, Frame], Sequence[str]]
_DRAWN: dict[str, _Drawn] = {
    "lines": _lines, "area": _columns, "histogram": _columns, "bars": _bars, "ranges": _ranges,
    "scatter": _points,
}  # fmt: skip
_FRAMES = {"bars": _row_frame, "ranges": _row_frame}
