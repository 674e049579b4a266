"""Places on a picture: scales with round ticks, curves thinned, labels moved apart."""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np

from lightxling.base.shapes import Int, Real

POINTS = 300
"""Points drawn of a curve; a screen has hardly more columns."""
LOGARITHMIC = 20
"""Largest over smallest value from which a scale is logarithmic."""


@dataclasses.dataclass(frozen=True)
class Scale:
    """Maps low..high to the places start..end."""

    low: int | float
    high: int | float
    start: int | float
    end: int | float
    log: bool = False
    step: float = 0.0
    """Between ticks; 0: chosen."""

    def __call__(self, value: int | float) -> float:
        low, high = self.low, self.high
        if self.log:
            low, high, value = math.log(low), math.log(high), math.log(value)
        return self.start + (value - low) / (high - low) * (self.end - self.start)

    def ticks(self, about: int = 5) -> list[float]:
        """Round numbers within the scale, about as many as asked for."""
        if self.log:
            decades = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
            found = [m * 10.0**k for k in decades for m in (1, 2, 5)]
            found = [value for value in found if self.low <= value <= self.high]
            return found[:: max(1, round(len(found) / about))]
        step = self.step or round_step(self.high - self.low, about)
        first = math.ceil(self.low / step - 1e-9)
        return [i * step for i in range(first, math.floor(self.high / step + 1e-9) + 1)]


def round_step(span: float, about: int) -> float:
    """1, 2 or 5 times a power of ten, of which about so many fit into the span."""
    rough = span / about
    power = 10.0 ** math.floor(math.log10(rough))
    return next(m * power for m in (1, 2, 5, 10) if m * power >= rough * (1 - 1e-9))


def scale_for(
    values: Real[np.ndarray, " N"], start: int | float, end: int | float, *, zero: bool = False
) -> Scale:
    """A scale that has room for finite values, and ends at round numbers or is logarithmic.

    Args:
      zero: let it begin at 0.
    """
    low, high = float(np.min(values)), float(np.max(values))
    if not zero and low > 0 and high / low >= LOGARITHMIC:
        return Scale(low / 1.05, high * 1.05, start, end, log=True)
    if zero:
        low, high = min(low, 0.0), max(high, 0.0)
    if high - low <= 1e-9 * max(abs(high), abs(low)):  # one value only
        low, high = low - (abs(low) or 1) / 10, high + (abs(high) or 1) / 10
    step = round_step(high - low, 5)
    low, high = math.floor(low / step + 1e-9) * step, math.ceil(high / step - 1e-9) * step
    return Scale(low, high, start, end, step=step)


def thin(values: Real[np.ndarray, " N"], limit: int = POINTS) -> Int[np.ndarray, " M"]:
    """Positions of a long curve that are drawn: the first, the last, and of every stretch the
    lowest, the highest and, where there are any, one that is not finite."""
    count = len(values)
    if count <= limit:
        return np.arange(count)
    kept = {0, count - 1}
    for stretch in np.array_split(np.arange(count), max(limit // 2, 1)):
        part = values[stretch]
        finite = np.isfinite(part)
        chosen = [] if finite.all() else [finite.argmin()]
        if finite.any():
            low, high = np.where(finite, part, np.inf), np.where(finite, part, -np.inf)
            chosen += [low.argmin(), high.argmax()]
        kept.update(stretch[chosen].tolist())
    return np.array(sorted(kept))


def spread(
    places: Sequence[int | float], gap: int | float, low: int | float, high: int | float
) -> list[float]:
    """Moves places apart to at least `gap`, keeping their order, within low..high as far as it
    goes."""
    order = sorted(range(len(places)), key=lambda i: places[i])
    moved = [0.0] * len(places)
    below = float(low - gap)
    for i in order:
        moved[i] = below = max(float(places[i]), below + gap)
    above = float(high + gap)
    for i in reversed(order):
        moved[i] = above = min(moved[i], above - gap)
    return moved


def short(value: int | float) -> str:
    """A tick: 0, 0.05, 250, 12.5k, 3M."""
    for limit, size, letter in ((1e9, 1e9, "G"), (1e6, 1e6, "M"), (1e4, 1e3, "k")):
        if abs(value) >= limit:
            return f"{value / size:.4g}{letter}"
    return f"{value:.4g}" if abs(value) < 1000 else f"{value:,.0f}"
