"""Results of evaluations on disk: `evaluation/TASK.DATASET.json`, one file per benchmark."""

from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np

from lightxling.base import limits
from lightxling.base.errors import UserError
from lightxling.base.files import parse_json, write_json

Results = dict[str, Any]
"""task, dataset, settings, and per unit its scores in per cent and what describes them."""

POOLED = "pooled"
"""Name of the unit that scores several language pairs together."""


def load_results(path: Path) -> Results:
    """What an evaluation file holds; nothing of what is missing, damaged or without scores."""
    try:
        whole = parse_json(limits.read_bytes(path))
        units = whole["results"].items()
        scored = {name: unit for name, unit in units if _are_scores(unit["scores"])}
        return {**whole, "results": scored}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {"results": {}}


def _are_scores(scores: Any) -> bool:
    if not isinstance(scores, dict) or not scores:
        return False
    return all(
        type(value) in (int, float) and not abs(value) > limits.NUMBER for value in scores.values()
    )


def load_folder(folder: Path) -> dict[str, Results]:
    """What the evaluation files of a folder hold, by their names without `.json`.

    Units written before the encoder was kept beside them may be of any.

    Raises:
      UserError: the scores are those of several encoders: no table may have them side by side.
    """
    found: dict[str, Results] = {}
    for file in sorted(folder.glob("*.json")):
        name = file.name.removesuffix(".json")
        task, _, dataset = name.partition(".")
        described = {"task": task, "dataset": dataset or task, "settings": {}}
        found[name] = {**described, **load_results(file)}
    first: dict[str, str] = {}
    for name, results in found.items():
        for unit, result in results["results"].items():
            if isinstance(encoder := result.get("encoder"), str):
                first.setdefault(encoder, f"{name} {unit}")
    if len(first) > 1:
        raise UserError(
            f"{folder} holds scores of {len(first)} encoders ({'; '.join(first.values())}): "
            "--checkpoint or --adapters differed, or the run was trained on; evaluate all of it "
            "again with one encoder, and give the others an --output of their own"
        )
    return found


def save_results(path: Path, results: Results, fingerprint: str) -> set[str]:
    """Writes the units computed now, and those of other languages that the file has of the same
    encoder. Returns the names of the units that it has of others: they are gone."""
    before = load_results(path)["results"]
    kept = {name: unit for name, unit in before.items() if unit.get("encoder") == fingerprint}
    whole = {**results, "results": {**kept, **results["results"]}}
    write_json(path, {**whole, "means": mean_scores(whole)})
    return before.keys() - kept.keys()


def mean_scores(results: Results, among: Collection[str] | None = None) -> dict[str, float]:
    """Mean of every score over the units; the pooled one of STS is not averaged again.

    Args:
      among: names of the units that are averaged; by default all.
    """
    rows = [
        unit["scores"]
        for name, unit in results["results"].items()
        if name != POOLED and (among is None or name in among)
    ]
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: float(np.mean([row[name] for row in rows if name in row])) for name in names}
