"""Named benchmarks: where their files are, and how they become arrays and scores.

A task finds its units in a folder. A unit is what one row of the result table stands for: a
language pair, or a test language. Running it encodes the sentences and returns scores in per cent,
beside what they mean nothing without (candidates, documents, pairs). Nothing here knows the model.

`units` has what they share, `parallel`, `labelled` and `sts` the kinds.
"""

import dataclasses
import warnings
from collections.abc import Callable, Sequence

from lightxling.base.errors import UserError
from lightxling.evaluate.tasks import labelled, parallel, senteval, sts
from lightxling.evaluate.tasks.units import TaskKind, TaskSettings, Unit, two_letters

_DRAWN, _LABELLED = ("candidates", "queries"), ("documents",)
_REPEATED = ("candidates", "repeated_texts")
_BY_TEXT = ("forward_by_text", "backward_by_text")  # of earlier versions
_DETAILS = "error", "forward_f1", "backward_f1", "by_row", "rsim", *_BY_TEXT
_RETRIEVAL = parallel.RetrievalSettings, "accuracy", _REPEATED, _DETAILS, 2
_BUCC = parallel.BuccSettings, "f1", ("candidates", "gold", "dropped_gold"), (), 2
_DOCUMENTS = labelled.ClassificationSettings, "accuracy", _LABELLED
TASKS: dict[str, TaskKind] = {
    "retrieval": TaskKind(parallel.find_retrieval, *_RETRIEVAL),
    "ranking": TaskKind(parallel.find_ranking, parallel.RankingSettings, "p_at_1", _DRAWN),
    "tatoeba": TaskKind(parallel.find_tatoeba, *_RETRIEVAL),
    "europarl": TaskKind(parallel.find_europarl, parallel.EuroparlSettings, "accuracy", _DRAWN),
    "bucc": TaskKind(parallel.find_bucc, *_BUCC),
    "classification": TaskKind(labelled.find_classification, *_DOCUMENTS),
    "mldoc": TaskKind(labelled.find_mldoc, *_DOCUMENTS),
    "nli": TaskKind(labelled.find_nli, labelled.HeadSettings, "accuracy", _LABELLED),
    "senteval": TaskKind(senteval.find_senteval, TaskSettings, "accuracy", _LABELLED),
    "sts": TaskKind(sts.find_sts, sts.StsSettings, "spearman", ("pairs",)),
}
"""A new benchmark is an entry here, and its settings a base of `ScoringSettings`."""

COUNTS = tuple(dict.fromkeys(name for task in TASKS.values() for name in task.counts))
DETAILS = tuple(dict.fromkeys(name for task in TASKS.values() for name in task.details))


@dataclasses.dataclass(frozen=True)
class ScoringSettings(
    sts.StsSettings,
    labelled.ClassificationSettings,
    parallel.BuccSettings,
    parallel.RankingSettings,
    parallel.EuroparlSettings,
):
    """Those of all tasks; the last base comes first."""


def select_units(
    units: list[Unit], wanted: Sequence[str], trained: Sequence[str], data: str
) -> list[Unit]:
    """The units whose languages are all wanted; by default those the encoder was trained on.

    English counts as wanted. Codes of two and of three letters are the same language. A warning
    says what is left out because the encoder was not trained on it.
    """
    have = {two_letters(language) for unit in units for language in unit.languages}
    for language in wanted:
        if two_letters(language) not in have:
            raise UserError(f"there is no {language} in {data}; there is {', '.join(sorted(have))}")
    allowed = {two_letters(language) for language in wanted or trained}
    if wanted:
        allowed.add("en")

    def known(language: str) -> bool:
        return not allowed or two_letters(language) in allowed

    chosen = [narrowed for unit in units if (narrowed := unit.narrowed(known))]
    if not chosen:
        raise UserError(
            f"{data} has {', '.join(sorted(have))}, none of them with the languages that are "
            f"wanted ({', '.join(sorted(allowed))})"
        )
    if not wanted and (left_out := _left_out(units, known)):
        warnings.warn(
            f"left out {', '.join(left_out)}: the encoder was not trained on"
            f" {', '.join(sorted(code for code in have if not known(code)))}; --languages names"
            " what to evaluate",
            stacklevel=2,
        )
    return chosen


def _left_out(units: Sequence[Unit], known: Callable[[str], bool]) -> list[str]:
    """Units with a language that is not known, named with those languages where some are."""
    found = []
    for unit in units:
        unknown = [code for code in unit.languages if not known(code)]
        is_partly = unit.narrowed(known) is not None
        if unknown:
            of = f"{', '.join(unknown)} of " if is_partly else ""
            found.append(f"{of}{unit.dataset} {unit.name}")
    return found
