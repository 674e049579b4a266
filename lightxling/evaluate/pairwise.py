"""Retrieval, language pair by language pair, with encoders side by side: P@1 in both directions,
and by how much each is better than the first, with what chance makes of it."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from lightxling.evaluate.paired import difference, share_of
from lightxling.saved.run import RunFolder

SIDES = ("forward", "backward")


def rows_by_pair(runs: Sequence[RunFolder]) -> list[list[str]]:
    """A table as text, its head first; [] where no run has scores in both directions.

    A row is a language pair of a benchmark. A difference is in points of P@1, the mean of both
    directions, with the interval of 95 per cent of `paired.difference`.
    """
    names = [run.name for run in runs]
    head = ["", *(f"{name} {arrow}" for name in names for arrow in "→←"), "candidates"]
    head += [f"{name} − {names[0]}" for name in names[1:]]
    units: dict[tuple[str, str], list[dict[str, Any] | None]] = {}
    for i, run in enumerate(runs):
        for benchmark, results in run.results.items():
            for unit, result in results["results"].items():
                if set(SIDES) <= result["scores"].keys():
                    of = units.setdefault((benchmark, unit), [None] * len(runs))
                    of[i] = result
    rows = [[f"{benchmark} {unit}", *_cells(found)] for (benchmark, unit), found in units.items()]
    return [head, *rows] if rows else []


def _cells(found: Sequence[dict[str, Any] | None]) -> list[str]:
    scores = [f"{one['scores'][side]:.1f}" if one else "" for one in found for side in SIDES]
    sizes = {one["candidates"]: None for one in found if one and one.get("candidates")}
    candidates = " and ".join(f"{size:,}" for size in sizes)
    return [*scores, candidates, *(_difference(found[0], one) for one in found[1:])]


def _difference(first: dict[str, Any] | None, second: dict[str, Any] | None) -> str:
    if first is None or second is None:
        return ""
    sums = [[file.get("sha256") for file in one.get("data", ())] for one in (first, second)]
    is_known = all(sums)  # results did not always say
    if first.get("candidates") != second.get("candidates") or (is_known and sums[0] != sums[1]):
        return "other text"
    shares = [share_of(one) for one in (first, second)]
    if not is_known or shares[0] is None or shares[1] is None:
        mean = np.mean([second["scores"][side] - first["scores"][side] for side in SIDES])
        return f"{mean:+.1f}"
    between = difference(*({"": share[None]} for share in shares))
    return f"{between.mean:+.1f} ({between.low:+.1f} to {between.high:+.1f})"
