"""Pieces of SVG: elements, markers, legends. What is text is escaped here, and only here."""

from collections.abc import Sequence
from typing import Any, NamedTuple
from xml.sax.saxutils import escape, quoteattr

LETTER = 6.2  # pixels a letter takes at the size of a figure's text
_ROW = 17.0
_SYMBOL = 20.0
_GAP = 14.0

#: Shapes of markers as paths around (0, 0) of radius 1; a number beyond them begins again.
_SHAPES = (
    "M-1 0A1 1 0 1 0 1 0A1 1 0 1 0 -1 0Z",
    "M-.9 -.9H.9V.9H-.9Z",
    "M0 -1.15L1.1 .85H-1.1Z",
    "M0 -1.3L1.2 0L0 1.3L-1.2 0Z",
    "M-.4 -1.2H.4V-.4H1.2V.4H.4V1.2H-.4V.4H-1.2V-.4H-.4Z",
    "M0 1.15L1.1 -.85H-1.1Z",
    "M-1.2 -.7L-.7 -1.2L0 -.5L.7 -1.2L1.2 -.7L.5 0L1.2 .7L.7 1.2L0 .5L-.7 1.2L-1.2 .7L-.5 0Z",
    "M-1.3 -.5H1.3V.5H-1.3Z",
)
_DASHES = (None, "7 4", "2 3", "9 3 2 3")


class Entry(NamedTuple):
    """A line of a legend."""

    label: str
    colour: str
    shape: int
    kind: str  # "line", "dash", "mark", "box"


def tag(name: str, *children: str, text: str | None = None, **attributes: object) -> str:
    """An element; `class_` is its class, and `_` in a name stands for `-`."""
    told = "".join(
        f" {key.rstrip('_').replace('_', '-')}={quoteattr(_value(value))}"
        for key, value in attributes.items() if value is not None
    )  # fmt: skip
    inside = "".join(children) if text is None else escape(text)
    return f"<{name}{told}/>" if not inside else f"<{name}{told}>{inside}</{name}>"


def _value(value: object) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)


def dashes(shape: int) -> str | None:
    """Dashes of a setting's lines: drawn through for the first eight."""
    return _DASHES[shape // len(_SHAPES) % len(_DASHES)]


def fill(shape: int) -> str:
    """Whether a setting's markers are filled, as the first eight are, or hollow."""
    return "ring hollow" if shape // len(_SHAPES) % 2 else "dot"


def marker(x: float, y: float, shape: int, size: float, class_: str, tip: str | None = None) -> str:
    """A marker, by its number."""
    place = f"translate({_value(x)} {_value(y)}) scale({_value(size)})"
    return tag(
        "path", class_=class_, d=_SHAPES[shape % len(_SHAPES)], transform=place, data_tip=tip
    )


def shortened(text: str, letters: int) -> str:
    """A text of at most so many letters, without its middle where it is longer."""
    if len(text) <= letters:
        return text
    head = (letters - 1) // 2
    return f"{text[:head]}…{text[len(text) - (letters - 1 - head) :]}"


def legend(entries: Sequence[Entry], left: float, width: float) -> tuple[str, float]:
    """A legend from `left` on, as wide as that, and its height."""
    x, y, parts = left, 8.0, []
    letters = int((width - _SYMBOL) / LETTER)
    for entry in dict.fromkeys(entries):
        label = shortened(entry.label, letters)
        needs = _SYMBOL + LETTER * len(label)
        if x > left and x + needs > left + width:
            x, y = left, y + _ROW
        parts += [_symbol(entry, x, y), tag("text", text=label, x=x + _SYMBOL, y=y + 4.0)]
        x += needs + _GAP
    return tag("g", *parts, class_="legend"), (y + _ROW if parts else 0.0)


def _symbol(entry: Entry, x: float, y: float) -> str:
    middle = x + 7.0
    if entry.kind == "box":
        box: dict[str, Any] = {"x": x + 1.0, "y": y - 5.0, "width": 12.0, "height": 10.0}
        return tag("rect", class_=f"f-{entry.colour}", **box) + tag(
            "rect", class_="pattern", fill=f"url(#p-{entry.colour})", **box
        )
    symbol = marker(middle, y, entry.shape, 3.4, f"{fill(entry.shape)} s-{entry.colour}")
    if entry.kind == "mark":
        return symbol
    dash = "3 3" if entry.kind == "dash" else dashes(entry.shape)
    line = tag("path", class_=f"line s-{entry.colour}", d=f"M{_value(x)} {_value(y)}h14",
               stroke_dasharray=dash)  # fmt: skip
    return line + ("" if entry.kind == "dash" else symbol)


#: Patterns over fills of answers, so that they differ without colour, too.
PATTERNS = tag(
    "defs",
    tag("pattern", tag("path", class_="hatch", d="M-1 7L7 -1M-1 1L1 -1M5 7L7 5"),
        id="p-semantic", width=6, height=6, patternUnits="userSpaceOnUse"),
    tag("pattern", tag("circle", class_="spot", cx=2.5, cy=2.5, r=1.1),
        id="p-audit", width=5, height=5, patternUnits="userSpaceOnUse"),
    tag("pattern", tag("path", class_="hatch", d="M0 2.5H5"),
        id="p-partial", width=5, height=5, patternUnits="userSpaceOnUse"),
)  # fmt: skip
