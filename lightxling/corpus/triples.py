"""Triples out of inference data: a sentence, one that it goes with, and one that contradicts it.

Source: sentence-transformers, which makes its training data of SNLI and MultiNLI so.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

from lightxling.base.errors import UserError
from lightxling.base.files import atomic
from lightxling.base.lines import Problems
from lightxling.corpus import readers
from lightxling.corpus.cleaning import clean, content_hash
from lightxling.corpus.sources import NLI_LABELS, Source

ENTAILMENT, CONTRADICTION = NLI_LABELS.index("entailment"), NLI_LABELS.index("contradiction")


def find_triples(rows: Iterable[tuple[str, str, int]]) -> list[tuple[str, str, str]]:
    """Distinct triples, in an order without meaning: a function of the set of rows.

    A label holds both ways. Every sentence with an entailed and a contradicting one gives two
    triples: itself first and an entailed one second, and the other way round. Where there are
    several to choose from, it is the one with the lowest hash of both texts.

    Args:
      rows: premise, hypothesis and the number of the label, see `sources.NLI_LABELS`.
    """
    found: dict[str, dict[int, set[str]]] = defaultdict(lambda: defaultdict(set))
    for premise, hypothesis, label in rows:
        if premise != hypothesis:
            found[premise][label].add(hypothesis)
            found[hypothesis][label].add(premise)
    triples = set()
    for sentence, others in found.items():
        if not (others[ENTAILMENT] and others[CONTRADICTION]):
            continue
        for turn in range(2):

            def rank(other: str, mark: str = f"{sentence}\t{turn}\t") -> tuple[int, str]:
                return content_hash(mark + other), other

            near, far = min(others[ENTAILMENT], key=rank), min(others[CONTRADICTION], key=rank)
            if near != far:
                triples.add((near, sentence, far) if turn else (sentence, near, far))
    return sorted(triples, key=lambda triple: (content_hash("\t".join(triple)), triple))


def write_triples(sources: Sequence[str], output: Path) -> dict[str, int]:
    """Writes `triples.en-en-en.tsv` and so on into a folder; returns how many each has.

    Args:
      sources: inference data in one language, `en-en=PATH` each.

    Raises:
      UserError: a source is of two languages or cannot be read, or there is no triple.
    """
    rows: dict[str, list[tuple[str, str, int]]] = defaultdict(list)
    problems = Problems()
    for written in sources:
        source = Source.parse(written, "labels")
        if len(set(source.languages)) != 1 or len(source.languages) != 2:
            raise UserError(
                f"source {written!r}: inference data is in one language; write it like en-en=PATH"
            )
        for premise, hypothesis, label in readers.read_source(source, problems, "labels"):
            row = clean(premise), clean(hypothesis), int(label)
            if all(row[:2]):
                rows[source.languages[0]].append(row)
            else:
                problems.add("blank side", str(source))
    problems.warn("left out")
    counts = {}
    for code, own in rows.items():
        if not (triples := find_triples(own)):
            raise UserError(
                f"of {len(own):,} rows in {code}, no sentence has both one that it entails and one "
                "that contradicts it; SNLI and MultiNLI have many"
            )
        output.mkdir(parents=True, exist_ok=True)
        name = f"triples.{code}-{code}-{code}.tsv"
        with atomic(output / name) as temporary:
            lines = "".join("\t".join(triple) + "\n" for triple in triples)
            temporary.write_text(lines, encoding="utf-8", newline="\n")
        counts[name] = len(triples)
    return counts
