"""What the dev P@1 of a run came to, in words."""

import math
from collections.abc import Mapping, Sequence

RISE = 0.2
"""Points of P@1 that the last quarter of a run should bring, for the curve to count as rising."""

Points = Sequence[tuple[int, int | float]]
"""Steps and dev P@1 in per cent, in their order."""


def dev_curve(records: Sequence[Mapping[str, int | float]]) -> list[tuple[int, int | float]]:
    """The measurements in the records of metrics.jsonl."""
    curve = [(int(one["step"]), one["dev_p@1"]) for one in records if "dev_p@1" in one]
    return [(step, score) for step, score in curve if not math.isnan(score)]


def best_point(curve: Points) -> tuple[int, int | float]:
    """The first of the best."""
    return max(curve, key=lambda point: (point[1], -point[0]))


def is_rising(curve: Points) -> bool:
    """Whether the last quarter of the steps still brought something."""
    last = curve[-1][0]
    before = [score for step, score in curve if step <= 0.75 * last]
    return bool(before) and max(score for _, score in curve[len(before) :]) >= max(before) + RISE


def verdict(curve: Points) -> str:
    """Against the start, where it was measured, and whether to train longer: "91.2, 0.4 better than
    the start, still rising: train longer"."""
    step, best = best_point(curve)
    first, start = curve[0]
    if step == 0:
        return f"{best:.1f}, that of the start: train longer, or on more text"
    told = [f"{best:.1f}"]
    if first == 0:
        told.append(f"{best - start:.1f} better than the start ({start:.1f})")
    told.append("still rising: train longer" if is_rising(curve) else "rising no more")
    return ", ".join(told)
