"""Scores of a benchmark as a table on the screen, and their means."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from lightxling.base import screen
from lightxling.evaluate.tasks import COUNTS, DETAILS
from lightxling.saved.cards import Card, cards
from lightxling.saved.results import POOLED, Results, mean_scores


def shared_units(benchmarks: Sequence[Results]) -> list[str]:
    """Names of the units that all of these results of one benchmark have."""
    first, *others = (results["results"] for results in benchmarks)
    return [name for name in first if all(name in units for units in others)]


def columns_of(results: Results, everything: bool = False) -> tuple[list[str], list[str]]:
    """Names of the scores that tables show, and of the counts beside them.

    Args:
      everything: also those that tell little, and counts that are 0 everywhere.
    """
    units = results["results"].values()
    scores = dict.fromkeys(name for unit in units for name in unit["scores"])
    counts = [name for name in COUNTS if any(name in unit for unit in units)]
    if everything:
        return list(scores), counts
    counts = [name for name in counts if any(np.any(unit.get(name, 0)) for unit in units)]
    return [name for name in scores if name not in DETAILS], counts


def screen_table(results: Results, everything: bool = False) -> str:
    """The units of a benchmark, one in a row, with their mean; see `columns_of`."""
    units = results["results"]
    scores, counts = columns_of(results, everything)
    settings = ", ".join(f"{k} {v}" for k, v in results["settings"].items() if v)
    title = f"{results['task']} {results['dataset']} ({settings})"
    heads = ["", *(name.replace("_", " ") for name in (*scores, *counts))]

    def row(name: str, found: dict[str, float], unit: dict[str, Any]) -> list[str]:
        numbers = [f"{found[score]:.1f}" if score in found else "" for score in scores]
        return [name, *numbers, *(described(unit.get(count), count) for count in counts)]

    rows = [row(name, unit["scores"], unit) for name, unit in units.items()]
    if len(units) > 1:
        rows.append(row(f"mean of {len(units.keys() - {POOLED})}", mean_scores(results), {}))
    return screen.table(heads, rows, title=title)


def described(value: Any, name: str = "") -> str:
    """A number of candidates, queries, pairs or documents; `name` says which."""
    if isinstance(value, dict):
        return "; ".join(f"{name} {described(item)}" for name, item in value.items())
    if isinstance(value, list):
        joint = " and " if name == "repeated_texts" else " x "
        return joint.join(described(item) for item in value)
    return "" if value is None else f"{value:,}" if isinstance(value, int) else str(value)


def models_table(found: Sequence[Card], languages: Sequence[str] = ()) -> str:
    """Encoders of the package in numbers, with P@1 in these languages, or in the mean of all."""
    scored = [code for code in languages if any(code in card.scores for card in found)]
    numbered = ["languages", "MB", "dimensions", "layers", *(scored or ["dev P@1"])]
    rows = []
    for card in found:
        scores = [card.scores.get(code, math.nan) for code in scored] or [card.mean]
        numbers = [len(card.languages), f"{card.nbytes / 1e6:.1f}", card.dimension, card.layers]
        numbers += ["" if math.isnan(score) else f"{score:.1f}" for score in scores]
        rows.append([card.name, *map(str, numbers), card.licence])
    heads = ["name", *numbered, "licence"]
    return screen.table(heads, rows, left=(0, len(heads) - 1))


def print_models(languages: Sequence[str]) -> None:
    """Shows the encoders of the package that have these languages, and where each is told of."""
    found = cards(languages)
    print(models_table(found, languages))
    print("P@1 is in per cent, both directions with English, among the dev sentences of the card.")
    print("\n".join(map(str, found)))
