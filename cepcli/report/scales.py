"""Numbers to positions, and the round numbers that an axis names."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from cepcli.report.document import Axis

_FEW_TICKS = 5
#: Steps between ticks, as multiples of a power of ten.
_ROUND = (1.0, 2.0, 2.5, 5.0, 10.0)


@dataclass(frozen=True, slots=True)
class Scale:
    """Maps [low, high] to [start, stop] in pixels, linearly or by logarithms."""

    low: float
    high: float
    start: float
    stop: float
    log: bool
    share: bool

    def __call__(self, value: float) -> float:
        """The position of a value; values beyond the ends are put on them."""
        value = min(max(value, self.low), self.high)
        if self.log:
            part = math.log(value / self.low) / math.log(self.high / self.low)
        else:
            part = (value - self.low) / (self.high - self.low)
        return self.start + part * (self.stop - self.start)

    def ticks(self) -> list[tuple[float, str]]:
        """Round values in range, and how they are written."""
        if self.log:
            return [(value, number(value)) for value in _powers(self.low, self.high)]
        step = _round_step((self.high - self.low) / _FEW_TICKS)
        first = math.ceil(self.low / step - 1e-9)
        values = [step * n for n in range(first, math.floor(self.high / step + 1e-9) + 1)]
        if self.share:
            digits = max(0, -math.floor(math.log10(100 * step) + 1e-9))
            return [(value, f"{100 * value:.{digits}f}%") for value in values]
        return [(value, _plain(value, step)) for value in values]


def scale_of(axis: Axis, values: Iterable[float], start: float, stop: float) -> Scale:
    """A scale that holds the values, with some air where the axis does not say where it ends."""
    found = [value for value in values if math.isfinite(value)] or [0.0, 1.0]
    if axis.log:
        low = min(v for v in (*found, axis.low or math.inf) if v > 0)
        low, high = _decades(low if axis.low is None else axis.low, max(found))
    else:
        low, high = _with_air(axis, min(found), max(found))
    return Scale(low, high, start, stop, axis.log, axis.share)


def number(value: float) -> str:
    """A number on an axis or beside a point: four digits at most, thousands as k and M."""
    size = abs(value)
    for unit, name in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if size >= unit:
            scaled = value / (1e3 if name == "k" else unit)
            return f"{scaled:.4g}{name}"
    if size and size < 1e-4:
        return f"{value:.0e}".replace("e-0", "e-")
    return f"{value:.4g}"


def _with_air(axis: Axis, low: float, high: float) -> tuple[float, float]:
    spread = high - low
    air = 0.06 * spread if spread else 0.5 * abs(high) or 0.5
    low = low - air if axis.low is None else min(axis.low, low)
    high = high + air if axis.high is None else max(axis.high, high)
    return low, high if high > low else low + 1.0


def _decades(low: float, high: float) -> tuple[float, float]:
    """The powers of ten around an interval."""
    first = math.floor(math.log10(low) + 1e-9)
    last = math.ceil(math.log10(max(high, low)) - 1e-9)
    return 10.0**first, 10.0 ** max(last, first + 1)


def _powers(low: float, high: float) -> list[float]:
    first, last = round(math.log10(low)), round(math.log10(high))
    stride = max(1, -(-(last - first) // (_FEW_TICKS + 1)))
    return [10.0**n for n in range(first, last + 1, stride)]


def _round_step(step: float) -> float:
    power = 10.0 ** math.floor(math.log10(step))
    return next(power * factor for factor in _ROUND if power * factor >= step * (1 - 1e-9))


def _plain(value: float, step: float) -> str:
    if abs(value) >= 1e4:
        return number(value)
    digits = max(0, -math.floor(math.log10(step) + 1e-9))
    digits += round(step * 10**digits, 6) % 1 > 0  # 2.5 needs one digit more than 2
    text = f"{value:.{digits}f}"
    return text.removeprefix("-") if not text.strip("-0.") else text


def shown(value: float, axis: Axis) -> str:
    """A value of an axis in words, for who points at it."""
    return f"{100 * value:.3g}%" if axis.share else number(value)


def widest(labels: Sequence[str]) -> float:
    """Pixels that the longest of some labels takes, at the size of ticks."""
    return max((len(label) for label in labels), default=0) * 6.2
