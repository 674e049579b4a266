"""Is one recipe better than another? Differences of accuracy on the same text, with intervals.

Scores of one test set are not independent: what is hard is hard for both. So sentences are drawn
for both recipes together (the paired bootstrap of Koehn 2004, "Statistical Significance Tests for
Machine Translation Evaluation", section 4), and, where a recipe has several seeds, its seeds too.
"""

import base64
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from lightxling.base.shapes import Bool, Float, Int, Real
from lightxling.saved.results import Results

RESAMPLES = 2000
AT_ONCE = 2**22
"""Numbers drawn at once: 32 MB."""

Shares = Mapping[str, Real[np.ndarray, "_ _"]]
"""By language pair, [S, N]: of every seed and sentence, the share of directions in which it was
found."""


class Difference(NamedTuple):
    """Of two accuracies, in points of a per cent."""

    mean: float
    low: float
    high: float
    """The middle 95% of the resamples lie between them."""
    p: float
    """Twice the share of resamples in which the other recipe is at least as good."""
    units: int
    """Language pairs that both have."""


def pack_found(places: Int[np.ndarray, " N"]) -> str:
    """Whether each query was found, as the text that files of results have."""
    return base64.b64encode(np.packbits(places == 1).tobytes()).decode("ascii")


def unpack_found(text: str, count: int) -> Bool[np.ndarray, " N"]:
    """The inverse of `pack_found`.

    Raises:
      ValueError: it is damaged.
    """
    bits = np.frombuffer(base64.b64decode(text, validate=True), np.uint8)
    if len(bits) != -(-count // 8):
        raise ValueError(f"{len(bits)} bytes do not hold {count} bits")
    return np.unpackbits(bits, count=count).astype(bool)


def share_of(unit: Mapping[str, Any]) -> Float[np.ndarray, " _"] | None:
    """How much of every pair was found: 0, 0.5 or 1. None of what was scored before this was kept,
    and of what is damaged."""
    try:
        found, count = unit["found"], unit["candidates"]
        return np.mean([unpack_found(found[way], count) for way in ("forward", "backward")], axis=0)
    except (TypeError, KeyError, ValueError):
        return None


def shares_of(results: Results) -> dict[str, Float[np.ndarray, " _"]]:
    """`share_of` by unit, of those that have it."""
    shares = {name: share_of(unit) for name, unit in results["results"].items()}
    return {name: share for name, share in shares.items() if share is not None}


def stacked(runs: Sequence[Mapping[str, Float[np.ndarray, " _"]]]) -> Shares:
    """Of several seeds, the units that all of them have with as many sentences."""
    units = [
        name
        for name in runs[0]
        if all(name in run and run[name].shape == runs[0][name].shape for run in runs)
    ]
    return {name: np.stack([run[name] for run in runs]) for name in units}


def difference(
    first: Shares, second: Shares, *, resamples: int = RESAMPLES, seed: int = 0
) -> Difference | None:
    """Accuracy of the second minus that of the first, as the mean over their common units.

    In every resample the sentences of each unit are drawn with replacement, the same for both, and
    the seeds of each recipe are drawn with replacement. One seed says nothing about other seeds:
    the interval is then that of the sentences alone.

    Args:
      first, second: by unit [S, N]; N is the same for both, in the same order.

    Returns:
      None: they have no unit in common.
    """
    units = [name for name in first if name in second]
    units = [name for name in units if first[name].shape[1] == second[name].shape[1]]
    if not units:
        return None
    rng, counts = np.random.default_rng(seed), (len(first[units[0]]), len(second[units[0]]))
    means = np.zeros((resamples, sum(counts)))
    for name in units:
        both = np.concatenate([first[name], second[name]]).T  # [N, S + T]
        size = len(both)
        step = max(AT_ONCE // size, 1)
        for start in range(0, resamples, step):
            rows = min(step, resamples - start)
            drawn = rng.multinomial(size, np.full(size, 1 / size), rows)
            means[start : start + rows] += drawn @ both / size / len(units)
    drawn_means = []
    for part, count in zip(np.split(means, counts[:1], axis=1), counts, strict=True):
        seeds = rng.integers(count, size=(resamples, count))
        drawn_means.append(np.take_along_axis(part, seeds, axis=1).mean(axis=1))
    moved = 100 * (drawn_means[1] - drawn_means[0])
    mean = 100 * float(np.mean([second[name].mean() - first[name].mean() for name in units]))
    low, high = (float(edge) for edge in np.percentile(moved, (2.5, 97.5)))
    against = np.mean(moved <= 0) if mean > 0 else np.mean(moved >= 0)
    return Difference(mean, low, high, min(1.0, 2 * float(against)), len(units))
