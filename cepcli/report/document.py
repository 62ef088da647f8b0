"""What a report holds, whatever it is written as: sections of cards, figures and tables.

A figure is data and says how it wants to be drawn: `drawing` does, for the page and as PNG.
"""

from dataclasses import dataclass, field
from typing import Literal

Kind = Literal["lines", "area", "bars", "scatter", "histogram", "ranges", "image"]


@dataclass(frozen=True, slots=True)
class Axis:
    """An axis: its name with unit; ends that are None follow from the data.

    With `share` its numbers are shown in per cent.
    """

    label: str
    low: float | None = None
    high: float | None = None
    log: bool = False
    share: bool = False


@dataclass(frozen=True, slots=True)
class Series:
    """One line, area, cloud or bar of a figure.

    Attributes:
        label: in the legend; a legend names each label once.
        colour: name of its colour, "g0" … for settings, or the name of an answer.
        shape: number of its marker and dashes, so that colour alone tells nothing.
        x: positions; of "histogram" and "area" the edges of bins, one more than `y`.
        y: values; None where there is none, which leaves a gap.
        low: lower end of the band at each x; None without a band.
        high: upper end.
        seeds: how many runs each value is the mean of.
        notes: a line about each point, for who points at it.
        end: why the line stops before the others do, in words.
    """

    label: str
    colour: str
    shape: int
    x: list[float]
    y: list[float | None]
    low: list[float] | None = None
    high: list[float] | None = None
    seeds: int = 1
    notes: list[str] | None = None
    end: str | None = None


@dataclass(frozen=True, slots=True)
class Guide:
    """A straight line to read a figure by: at an x, at a y, or y = x."""

    kind: Literal["x", "y", "diagonal"]
    value: float
    label: str
    colour: str = "quiet"


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure, or the reason why there is none.

    Attributes:
        key: of the figure within its section, fit for a file name.
        title: what it shows.
        about: how to read it, in a sentence or two.
        kind: how it is drawn.
        x: the horizontal axis.
        y: the vertical axis; of "bars" and "ranges" its label only, a row for each series name.
        series: what is drawn.
        guides: lines to read it by.
        names: of the rows of "bars" and "ranges", which are the `y` of their series.
        image: a PNG of its own, of kind "image".
        empty: why there is nothing to draw, in words; None if there is.
    """

    key: str
    title: str
    about: str
    kind: Kind
    x: Axis
    y: Axis
    series: list[Series] = field(default_factory=list)
    guides: list[Guide] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    image: bytes | None = None
    empty: str | None = None


@dataclass(frozen=True, slots=True)
class Panel:
    """Figures that belong together, under a heading."""

    title: str
    figures: list[Figure]


@dataclass(frozen=True, slots=True)
class CardLine:
    """What one setting has to show under a headline: a value, and what it was counted from."""

    label: str
    colour: str
    shape: int
    value: str
    detail: str


@dataclass(frozen=True, slots=True)
class Card:
    """A headline; compact where its lines are too many for their details."""

    title: str
    lines: list[CardLine]
    compact: bool = False
    note: str = ""


@dataclass(frozen=True, slots=True)
class Cell:
    """A cell of a table: what is read, and what it is sorted by (None sorts last)."""

    text: str
    sort: float | str | None


@dataclass(frozen=True, slots=True)
class Table:
    """A table; numbers are set flush right."""

    key: str
    title: str
    about: str
    columns: list[str]
    rows: list[list[Cell]]


@dataclass(frozen=True, slots=True)
class Repeat:
    """How a run was made: the command that repeats it, or goes on with it, and its settings."""

    name: str
    command: str
    facts: list[tuple[str, str]]
    settings: str


@dataclass(frozen=True, slots=True)
class Section:
    """All runs of one environment and one budget."""

    key: str
    title: str
    subtitle: str
    notes: list[str]
    cards: list[Card]
    panels: list[Panel]
    tables: list[Table]
    repeats: list[Repeat]


@dataclass(frozen=True, slots=True)
class Report:
    """A whole report.

    Attributes:
        title: of the page.
        command: that makes it again.
        made: when, and by which version.
        notes: on all of it.
        overview: a row for every setting of every section; None with one section.
        sweeps: tables of ablations, as `cep ablate` left them.
        sections: one for each environment and budget.
        runs: a row for every run, with all its figures.
    """

    title: str
    command: str
    made: str
    notes: list[str]
    overview: Table | None
    sweeps: list[Table]
    sections: list[Section]
    runs: Table
