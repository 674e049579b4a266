"""Named benchmarks: where their files are, and how they become arrays and scores.

A task finds its units in a folder. A unit is what one row of the result table stands for: a
language pair, or a test language. Running it encodes the sentences and returns scores in per cent,
beside what they mean nothing without (candidates, documents, pairs). Nothing here knows the model.

`units` has what they share, `parallel`, `labelled` and `sts` the kinds.
"""

import dataclasses
from collections.abc import Iterator, Sequence

from lightxling.base.errors import UserError
from lightxling.evaluate.tasks import labelled, parallel, sts
from lightxling.evaluate.tasks.units import Task, Unit, two_letters

CANDIDATES, DRAWN, LABELLED = ("candidates",), ("candidates", "queries"), ("documents",)
BY_TEXT = ("forward_by_text", "backward_by_text")
TASKS: dict[str, Task] = {
    "retrieval": Task(
        parallel.find_retrieval, parallel.RetrievalSettings, "accuracy", CANDIDATES, BY_TEXT
    ),
    "ranking": Task(parallel.find_ranking, parallel.RankingSettings, "p_at_1", DRAWN),
    "tatoeba": Task(
        parallel.find_tatoeba, parallel.RetrievalSettings, "accuracy", CANDIDATES, BY_TEXT
    ),
    "europarl": Task(parallel.find_europarl, parallel.EuroparlSettings, "accuracy", DRAWN),
    "bucc": Task(parallel.find_bucc, parallel.BuccSettings, "f1", CANDIDATES),
    "classification": Task(
        labelled.find_classification, labelled.ClassificationSettings, "accuracy", LABELLED
    ),
    "mldoc": Task(labelled.find_mldoc, labelled.ClassificationSettings, "accuracy", LABELLED),
    "nli": Task(labelled.find_nli, labelled.HeadSettings, "accuracy", LABELLED),
    "sts": Task(sts.find_sts, sts.StsSettings, "spearman", ("pairs",)),
}
"""A new benchmark is an entry here, and its settings, if it has any, are a base of `Settings`."""

COUNTS = tuple(dict.fromkeys(name for task in TASKS.values() for name in task.counts))
DETAILS = tuple(dict.fromkeys(name for task in TASKS.values() for name in task.details))


@dataclasses.dataclass(frozen=True)
class Settings(
    sts.StsSettings,
    labelled.ClassificationSettings,
    parallel.BuccSettings,
    parallel.RankingSettings,
    parallel.EuroparlSettings,
):
    """Those of all tasks; the last base comes first."""


def select(
    units: list[Unit], wanted: Sequence[str], trained: Sequence[str], data: str
) -> Iterator[Unit]:
    """The units whose languages are all wanted; by default those the encoder was trained on.

    English counts as wanted. Codes of two and of three letters are the same language.
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

    chosen = []
    for unit in units:
        if narrowed := unit.narrowed(known):
            chosen.append(narrowed)
    if not chosen:
        raise UserError(
            f"{data} has {', '.join(sorted(have))}, none of them with the languages that are "
            f"wanted ({', '.join(sorted(allowed))})"
        )
    yield from chosen
