"""The frame of a figure: where its axes lie, their ticks and names."""

from collections.abc import Sequence
from dataclasses import dataclass

from cepcli.report.document import Axis
from cepcli.report.marks import LETTER, tag
from cepcli.report.scales import Scale, scale_of, widest

_RIGHT_ROOM = 16.0
_BOTTOM_ROOM = 42.0
_LABEL_ROOM = 20.0


@dataclass(frozen=True, slots=True)
class Frame:
    """Scales, names of axes, and the size of the whole figure."""

    x: Scale
    y: Scale
    x_label: str
    y_label: str
    rows: tuple[str, ...]
    total: float

    @classmethod
    def around(
        cls,
        x: Axis,
        y: Axis,
        xs: Sequence[float],
        ys: Sequence[float],
        width: float,
        height: float,
        top: float,
    ) -> "Frame":
        """A frame of two axes that holds all values."""
        bottom = top + height
        vertical = scale_of(y, ys, bottom, top)
        left = _LABEL_ROOM + 10.0 + widest([text for _, text in vertical.ticks()])
        across = scale_of(x, xs, left, width - _RIGHT_ROOM)
        return cls(across, vertical, x.label, y.label, (), bottom + _BOTTOM_ROOM)

    @classmethod
    def with_rows(
        cls,
        x: Axis,
        xs: Sequence[float],
        names: Sequence[str],
        width: float,
        row: float,
        top: float,
    ) -> "Frame":
        """A frame with a row for each name instead of a vertical axis."""
        bottom = top + row * len(names)
        rows = Scale(-0.5, len(names) - 0.5, top, bottom, log=False, share=False)
        across = scale_of(x, xs, 14.0 + widest(names), width - _RIGHT_ROOM)
        return cls(across, rows, x.label, "", tuple(names), bottom + _BOTTOM_ROOM)

    @property
    def left(self) -> float:
        """Left edge of the plot."""
        return self.x.start

    @property
    def right(self) -> float:
        """Right edge."""
        return self.x.stop

    @property
    def top(self) -> float:
        """Upper edge."""
        return min(self.y.start, self.y.stop)

    @property
    def bottom(self) -> float:
        """Lower edge."""
        return max(self.y.start, self.y.stop)

    def axes(self) -> str:
        """Grid, ticks and names."""
        parts = [*self._across(), *(self._names() if self.rows else self._up())]
        parts.append(tag("line", class_="axis", x1=self.left, x2=self.right, y1=self.bottom,
                         y2=self.bottom))  # fmt: skip
        parts.append(tag("text", text=self.x_label, class_="label", text_anchor="middle",
                         x=(self.left + self.right) / 2, y=self.bottom + 36.0))  # fmt: skip
        return tag("g", *parts, class_="axes")

    def _across(self) -> list[str]:
        parts = []
        for value, text in self._spread(self.x.ticks()):
            x = self.x(value)
            parts.append(tag("line", class_="grid", x1=x, x2=x, y1=self.top, y2=self.bottom))
            half = LETTER * len(text) / 2
            at = min(max(x, half), self.right + _RIGHT_ROOM - half)
            parts.append(tag("text", text=text, text_anchor="middle", x=at, y=self.bottom + 18.0))
        return parts

    def _spread(self, ticks: list[tuple[float, str]]) -> list[tuple[float, str]]:
        """Ticks of which no two touch."""
        room = widest([text for _, text in ticks]) + 10.0
        most = max(2, int((self.right - self.left) / room))
        return ticks[:: max(1, -(-len(ticks) // most))]

    def _up(self) -> list[str]:
        parts = []
        for value, text in self.y.ticks():
            y = self.y(value)
            parts.append(tag("line", class_="grid", x1=self.left, x2=self.right, y1=y, y2=y))
            parts.append(tag("text", text=text, text_anchor="end", x=self.left - 6.0, y=y + 4.0))
        x, y = 12.0, (self.top + self.bottom) / 2
        parts.append(tag("text", text=self.y_label, class_="label", text_anchor="middle",
                         transform=f"translate({x:g} {y:g}) rotate(-90)"))  # fmt: skip
        return parts

    def _names(self) -> list[str]:
        return [
            tag("text", text=name, text_anchor="end", x=self.left - 6.0, y=self.y(float(n)) + 4.0)
            for n, name in enumerate(self.rows)
        ]
