"""Named benchmarks: where their files are, and how they become arrays and scores.

A task finds its units in a folder. A unit is what one row of the result table stands for: a
language pair, or a test language. Running it encodes the sentences and returns scores in per cent,
beside what they mean nothing without (candidates, documents, pairs). Nothing here knows the model.

`units` has what they share, `parallel`, `labelled` and `sts` the kinds.
"""

from collections.abc import Iterator, Sequence

from lightxling.config import UserError
from lightxling.evaluate.tasks.labelled import find_classification, find_mldoc, find_nli
from lightxling.evaluate.tasks.parallel import (
    find_bucc,
    find_europarl,
    find_ranking,
    find_retrieval,
    find_tatoeba,
)
from lightxling.evaluate.tasks.sts import BiasUnit, find_sts
from lightxling.evaluate.tasks.units import Task, Unit, two_letters

RETRIEVAL = ("scoring",)
HEADS = ("head", "train_language", "seeds", "epochs", "few_shot")
TASKS: dict[str, Task] = {
    "retrieval": Task(find_retrieval, RETRIEVAL, "accuracy"),
    "ranking": Task(find_ranking, ("among", "product"), "p_at_1"),
    "tatoeba": Task(find_tatoeba, RETRIEVAL, "accuracy"),
    "europarl": Task(find_europarl, (*RETRIEVAL, "queries", "candidates", "lowercase"), "accuracy"),
    "bucc": Task(find_bucc, ("margin", "direction", "neighbours"), "f1"),
    "classification": Task(find_classification, (*HEADS, "documents"), "accuracy"),
    "mldoc": Task(find_mldoc, (*HEADS, "documents"), "accuracy"),
    "nli": Task(find_nli, HEADS, "accuracy"),
    "sts": Task(find_sts, ("similarity",), "spearman"),
}


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
        if isinstance(unit, BiasUnit):
            unit = unit.narrowed(known)
        if unit and all(map(known, unit.languages)):
            chosen.append(unit)
    if not chosen:
        raise UserError(
            f"{data} has {', '.join(sorted(have))}, none of them with the languages that are "
            f"wanted ({', '.join(sorted(allowed))})"
        )
    yield from chosen
