"""Scales, ticks and smoothing for the report's plots.

Ticks are round numbers: 1, 2 or 5 times a power of ten on a linear axis; on a logarithmic one the coarsest
set of leading digits that gives four ticks or more, and where the range is too short for that (the paper's
perplexities from 9 to 17 say), the linear ones at their logarithmic places.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

DIGITS: list[list[float]] = [[1], [1, 3], [1, 2, 5], [1, 1.5, 2, 3, 5, 7]]


@dataclass(frozen=True)
class Axis:
    """A stretch of numbers, and where along a plot's side each lies."""

    low: float
    high: float
    ticks: list[tuple[float, str]]
    """Places that are marked, with their labels."""
    log: bool = False

    def share(self, value: float) -> float:
        """How far along the axis a value lies: 0 at `low`, 1 at `high`."""
        if self.log:
            return math.log(value / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)


def linear_axis(low: float, high: float, about: int = 5) -> Axis:
    """An axis from exactly `low` to `high` with about so many ticks."""
    high = high if high > low else low + 1
    return Axis(low, high, [(t, tick_label(t, high)) for t in linear_ticks(low, high, about)])


def log_axis(values: Sequence[float], margin: float) -> Axis:
    """A logarithmic axis round positive values, with a margin at each end in shares of their spread."""
    low, high = math.log(min(values)), math.log(max(values))
    room = margin * (high - low) or 0.5
    low, high = math.exp(low - room), math.exp(high + room)
    return Axis(low, high, [(t, tick_label(t, high)) for t in log_ticks(low, high)], log=True)


def linear_ticks(low: float, high: float, about: int = 5) -> list[float]:
    """Multiples of 1, 2 or 5 times a power of ten from `low` to `high`, about so many."""
    rough = (high - low) / about
    power = 10.0 ** math.floor(math.log10(rough))
    step = min((d * power for d in (1, 2, 5, 10)), key=lambda s: abs(math.log(s / rough)))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(i * step, 12) for i in range(first, last + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """Round numbers from `low` to `high`, four or more, spread evenly in the logarithm where that can be."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for digits in DIGITS:
        ticks = [round(d * 10.0**p, 12) for p in powers for d in digits]
        inside = [t for t in ticks if low <= t <= high]
        if len(inside) >= 4:
            return inside
    return linear_ticks(low, high)


def tick_label(value: float, largest: float) -> str:
    """A short label in the unit that fits the largest tick: '0.5', '1,000', '0.5 M' where others are '2 M'."""
    for size, letter in ((1e9, " B"), (1e6, " M")):
        if largest >= size and value:
            return f"{value / size:,.10g}{letter}"
    return f"{value:,.10g}"


def smooth(values: Sequence[float], reach: int) -> list[float]:
    """The mean of each value and its neighbours, up to `reach` on either side.

    At the start, where a loss falls steeply, the window shrinks to as many after as there are before, so
    that the fall is not flattened; at the end, where the curve is flat, it takes what is there.
    """
    sums = [0.0]
    for value in values:
        sums.append(sums[-1] + value)
    out = []
    for i in range(len(values)):
        near = min(reach, i)
        first, last = i - near, min(len(values), i + near + 1)
        out.append((sums[last] - sums[first]) / (last - first))
    return out


def spread(places: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Move labels as little as needed so that they stand `gap` apart within `low` to `high`, order kept."""
    order = sorted(range(len(places)), key=lambda i: places[i])
    out = list(places)
    floor = low
    for i in order:
        out[i] = max(out[i], floor)
        floor = out[i] + gap
    ceiling = high
    for i in reversed(order):
        out[i] = min(out[i], ceiling)
        ceiling = out[i] - gap
    return out
