"""Everyday sentences in English, German, French, Spanish and Italian, for a first small run.

Whole sentences, written one by one, lie in sentences/<topic>.tsv. Composed ones teach words and
agreement, and are never scored; `python tools/everyday` made them, from templates and a lexicon.
"""

import collections
import hashlib
import lzma
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from lightxling.base.files import PACKAGE

FOLDER = PACKAGE / "corpus" / "everyday"
LANGUAGES = ("en", "de", "fr", "es", "it")
COMPOSED = "composed.tsv.xz"
"""The composed sentences: a line holds the template's name, then a text in each of LANGUAGES."""

HELD_OUT_SHARE = 0.2  # of the whole sentences, before near-copies follow them


class Row(NamedTuple):
    """One sentence in all languages."""

    frame: str  # "topic:line" of a whole sentence, the template's name of a composed one
    texts: tuple[str, ...]  # in the order of LANGUAGES


def read_sentences() -> list[Row]:
    """The whole sentences, by topic and line."""
    rows = []
    for table in sorted((FOLDER / "sentences").glob("*.tsv")):
        for number, line in enumerate(table.read_text(encoding="utf-8").splitlines(), start=1):
            texts = tuple(line.split("\t"))
            if len(texts) != len(LANGUAGES):
                raise ValueError(
                    f"{table.name}:{number} has {len(texts)} columns;"
                    f" write one sentence for each of {', '.join(LANGUAGES)}, tabs between"
                )
            rows.append(Row(f"{table.stem}:{number}", texts))
    return rows


def read_composed(count: int) -> list[Row]:
    """The first `count` composed sentences; no text comes twice in its language."""
    packed = (FOLDER / COMPOSED).read_bytes()
    lines = lzma.decompress(packed).decode().splitlines()
    if len(lines) < count:
        raise ValueError(f"count={count} is more than the sentences composed; try {len(lines)}")
    rows = (line.split("\t") for line in lines[:count])
    return [Row(frame, tuple(texts)) for frame, *texts in rows]


def hold_out(whole: Sequence[Row], composed: Iterable[Row]) -> tuple[list[Row], list[Row]]:
    """Returns (training, held-out) rows that share no frame and no near-copies.

    Two rows are near-copies when in at least one language

        |A & B| / |A | B| >= 0.6,  A and B their sets of case-folded words.

    A whole sentence is picked when the hash of its English text falls into the lowest
    HELD_OUT_SHARE. Held out are the picked ones and whatever whole sentences a chain of near-copies
    ties to one. So the side of a sentence depends on its text and its near-copies alone: sentences
    added later move none of the held-out ones, and of the others only near-copies of theirs.

    Training rows are the other whole sentences, then the composed rows, in their order, that are
    no near-copy of a held-out one. Composed rows have templates for frames and are never held out.
    """
    held = _near_closure(whole, {i for i, row in enumerate(whole) if _picked(row)})
    held_out = [row for i, row in enumerate(whole) if i in held]
    training = [row for i, row in enumerate(whole) if i not in held]
    index = _NearCopies(held_out)
    training += [row for row in composed if not index.of(row)]
    return training, held_out


def text_pairs(rows: Iterable[Row], source: str, target: str) -> list[tuple[str, str]]:
    """The rows' (source, target) texts; source and target are of LANGUAGES."""
    for language in (source, target):
        if language not in LANGUAGES:
            raise ValueError(f"no sentences in {language!r}; choose from {', '.join(LANGUAGES)}")
    i, j = LANGUAGES.index(source), LANGUAGES.index(target)
    return [(row.texts[i], row.texts[j]) for row in rows]


def _picked(row: Row) -> bool:
    digest = hashlib.blake2b(row.texts[0].encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") < HELD_OUT_SHARE * 2**64


def _near_closure(rows: Sequence[Row], start: set[int]) -> set[int]:
    """The rows that chains of near-copies tie to those of `start`, and these."""
    index = _NearCopies(rows)
    reached, queue = set(start), list(start)
    while queue:
        new = index.of(rows[queue.pop()]) - reached
        reached |= new
        queue += new
    return reached


class _NearCopies:
    """Finds near-copies without comparing all pairs.

    Order the words of a language from rare to frequent. Sets of Jaccard similarity 3/5 or more
    share one of the first n - ceil(3n/5) + 1 words of each. Source: Chaudhuri, Ganti and Kaushik
    (2006), A Primitive Operator for Similarity Joins in Data Cleaning, prefix filter.
    """

    def __init__(self, rows: Sequence[Row]):
        self.words = [[_words(row.texts[i]) for row in rows] for i in range(len(LANGUAGES))]
        self.counts = [collections.Counter(w for s in sets for w in s) for sets in self.words]
        self.rows_with = [collections.defaultdict(list) for _ in self.words]
        for sets, counts, rows_with in zip(self.words, self.counts, self.rows_with, strict=True):
            for i, words in enumerate(sets):
                for word in _prefix(words, counts):
                    rows_with[word].append(i)

    def of(self, row: Row) -> set[int]:
        """Numbers of the rows that are near-copies of this one."""
        found = set()
        tables = zip(row.texts, self.words, self.counts, self.rows_with, strict=True)
        for text, sets, counts, rows_with in tables:
            words = _words(text)
            for word in _prefix(words, counts):
                for i in rows_with.get(word, ()):
                    shared = len(words & sets[i])
                    if 5 * shared >= 3 * (len(words) + len(sets[i]) - shared):
                        found.add(i)
        return found


def _words(text: str) -> frozenset[str]:
    letters = "".join(c if c.isalnum() else " " for c in text.casefold())
    return frozenset(letters.split())


def _prefix(words: frozenset[str], counts: collections.Counter) -> list[str]:
    rare_first = sorted(words, key=lambda word: (counts[word], word))
    return rare_first[: len(words) - -(-3 * len(words) // 5) + 1]
