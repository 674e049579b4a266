"""Semantic textual similarity, within and across languages."""

import dataclasses
import functools
import math
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lightxling.base.errors import UserError
from lightxling.base.languages import CODE
from lightxling.base.unpacking import plain_name
from lightxling.base.vectors import Encode
from lightxling.evaluate import similarity
from lightxling.evaluate.similarity import Similarity
from lightxling.evaluate.tasks.units import (
    TaskSettings,
    Unit,
    constant,
    encode_sides,
    files_of,
    is_new,
    tab_rows,
)
from lightxling.saved.results import POOLED


@dataclasses.dataclass(frozen=True)
class StsSettings(TaskSettings):
    similarity: Similarity = "cosine"
    """STS: angular is -arccos(cosine)."""


def find_sts(data: Sequence[str], settings: StsSettings) -> list[Unit]:
    """`NAME.en-fr.tsv`: `score<TAB>sentence<TAB>sentence`; `NAME.fr-fr.tsv` within a language.

    Training files (`.train.`) are left out. Two or more pairs of languages of one data set are also
    scored together, which shows the language bias.
    """
    units, across, files = [], {}, {}
    named = re.compile(rf"(?:(.+)\.)?({CODE})-({CODE})\.(?:tsv|txt)")
    for file in files_of(data):
        match = named.fullmatch(plain_name(file.name))
        if not match or ".train." in f".{match[1]}.":
            continue
        dataset, languages = match[1] or file.absolute().parent.name, (match[2], match[3])
        name = "-".join(languages)
        if not is_new(files, (dataset, name), file, f"{dataset} {name}"):
            continue
        run = functools.partial(_run_sts, file, languages, settings)
        units.append(Unit(dataset, name, tuple(dict.fromkeys(languages)), constant([file]), run))
        if match[2] != match[3]:
            across.setdefault(dataset, []).append((languages, file))
    if not units:
        raise UserError(f"{', '.join(data)} holds no files named like NAME.en-fr.tsv")
    for dataset, found in across.items():
        if len(found) > 1:
            units.append(_pooled_unit(dataset, found, settings))
    return units


def _run_sts(path: Path, languages, settings: StsSettings, encode: Encode) -> dict[str, Any]:
    found = similarity.sts(*_vectors_and_scores(path, languages, encode), settings.similarity)
    return {
        "scores": {"spearman": 100 * found.spearman, "pearson": 100 * found.pearson},
        "pairs": found.pairs,
    }


def _vectors_and_scores(
    path: Path, languages: Sequence[str], encode: Encode
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Vectors [N, D] of both sides, and human scores [N]."""
    rows = tab_rows(path, 3)
    gold = np.empty(len(rows))
    for i, (score, _, _) in enumerate(rows):
        try:
            gold[i] = float(score)
        except ValueError:
            gold[i] = math.nan
        if not math.isfinite(gold[i]):
            raise UserError(
                f"{path}: {score!r} in row {i + 1} is not a number; the columns are score, "
                "sentence, sentence"
            )
    texts = ([row[side] for row in rows] for side in (1, 2))
    return *encode_sides(encode, languages, texts), gold


Found = Sequence[tuple[tuple[str, str], Path]]
"""The languages of a file, and the file."""


def _pooled_unit(dataset: str, found: Found, settings: StsSettings) -> Unit:
    """All cross-lingual pairs of a data set on one scale; can be narrowed to some languages."""

    def narrow(known: Callable[[str], bool]) -> Unit | None:
        left = [(pair, file) for pair, file in found if all(map(known, pair))]
        return _pooled_unit(dataset, left, settings) if len(left) > 1 else None

    run = functools.partial(_run_pooled, found, settings)
    return Unit(dataset, POOLED, (), constant(file for _, file in found), run, narrow=narrow)


def _run_pooled(found: Found, settings: StsSettings, encode: Encode) -> dict[str, Any]:
    similarities, scores = [], []
    for pair, file in found:
        *vectors, gold = _vectors_and_scores(file, pair, encode)
        similarities.append(similarity.pair_similarity(*vectors, settings.similarity))
        scores.append(gold)
    bias = similarity.language_bias(similarities, scores)
    return {
        "scores": {"spearman": 100 * bias["pooled"], "language_bias": 100 * bias["bias"]},
        "pairs": sum(map(len, scores)),
        "pooled": ["-".join(languages) for languages, _ in found],
    }
