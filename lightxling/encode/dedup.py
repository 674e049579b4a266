"""`lightxling dedup`: near duplicates of a translation memory or a text, in and across languages.

A row is dropped when a row before it that stays says the same: every side of it has a cosine of at
least the threshold to that side of the other. In a text with a sentence a line, a translation of an
earlier line is a duplicate too. Small encoders weigh numbers little, so rows whose digits differ
are never duplicates; they weigh the mark at the end of a sentence much, so it is not read.
"""

import dataclasses
import re
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from lightxling.base.errors import UserError
from lightxling.base.files import atomic, check_output
from lightxling.base.lines import Lines, Problems
from lightxling.base.shapes import Float
from lightxling.corpus.cleaning import clean
from lightxling.corpus.readers import read_source
from lightxling.corpus.sources import Source
from lightxling.encode.encoder import Encoder

_END = re.compile(r"(?<=\w)\W+$")  # what follows the last letter or digit
BLOCK = 1024  # rows that are compared with all kept ones at once


@dataclasses.dataclass(frozen=True)
class Duplicate:
    """A row that is dropped, the one that stays for it, and the least cosine of their sides."""

    row: int
    kept: int
    score: float


def dedup_file(
    encoder: Encoder,
    text: str,
    output: Path,
    *,
    threshold: float = 0.95,
    removed: Path | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> tuple[int, int]:
    """Writes the rows that stay, as columns with tabs between.

    Args:
      text: a file with a sentence a line, or parallel text written `en-de=PATH`.
      removed: gets what is dropped: cosine, row, and the row that stays in its place.

    Returns:
      How many rows were read, and how many stay.

    Raises:
      UserError: the threshold is no cosine, or a file cannot be read or written.
    """
    if not 0 < threshold <= 1:
        raise UserError(f"--threshold {threshold} should be a cosine above 0, at most 1")
    for path in filter(None, (output, removed)):
        check_output(path)
    rows = read_rows(text)
    if not rows:
        raise UserError(f"{text} has no sentence")
    sides = [
        encoder.encode([_END.sub("", text) for text in side]) for side in zip(*rows, strict=True)
    ]
    found = duplicates(rows, sides, threshold, say)
    gone = {one.row for one in found}
    lines = ["\t".join(row) for row in rows]
    with atomic(output) as path:
        kept = (line + "\n" for i, line in enumerate(lines) if i not in gone)
        path.write_text("".join(kept), "utf-8", newline="\n")
    if removed:
        with atomic(removed) as path:
            told = (f"{one.score:.3f}\t{lines[one.row]}\t{lines[one.kept]}\n" for one in found)
            path.write_text("".join(told), "utf-8", newline="\n")
    return len(rows), len(rows) - len(gone)


def read_rows(text: str) -> list[tuple[str, ...]]:
    """The rows of a text; those with an empty side are left out, which a warning counts."""
    problems, rows = Problems(), []
    if "=" in text:
        source = Source.parse(text)
        found = (tuple(row) for row in read_source(source, problems))
    else:
        with Lines.open(Path(text)) as lines:
            found = [(line,) for line in lines]
    for number, row in enumerate(found, 1):
        sides = tuple(" ".join(side.split()) for side in row)
        if all(map(clean, sides)):
            rows.append(sides)
        else:
            problems.add("blank side", f"{text}, row {number}")
    problems.warn("left out")
    return rows


def duplicates(
    rows: Sequence[tuple[str, ...]],
    sides: Sequence[Float[np.ndarray, "N D"]],
    threshold: float,
    say: Callable[[str], None] = lambda line: None,
) -> list[Duplicate]:
    """The rows that say what an earlier row that stays says, in their order.

    Args:
      sides: vectors of length 1 of every side of the rows; one without tokens has zeros and is like
        nothing.
    """
    digits = [re.sub(r"\D", "", " ".join(row)) for row in rows]
    codes = np.unique(digits, return_inverse=True)[1]
    kept, found = np.zeros(0, np.int64), []
    for start in range(0, len(rows), BLOCK):
        block = np.arange(start, min(start + BLOCK, len(rows)))
        is_gone = np.zeros(len(block), bool)
        if len(kept):
            best, score = _nearest_kept(block, kept, sides, codes)
            is_gone = score >= threshold
            found += [
                Duplicate(int(block[i]), int(best[i]), float(score[i]))
                for i in np.flatnonzero(is_gone)
            ]
        # within the block, a row is compared with those before it that stay
        score = _scores(block, block, sides, codes)
        for i in np.flatnonzero(np.tril(score >= threshold, -1).any(axis=1)):
            before = np.where(is_gone[:i], -1, score[i, :i])
            if not is_gone[i] and before.max() >= threshold:
                is_gone[i] = True
                j = int(before.argmax())
                found.append(Duplicate(int(block[i]), int(block[j]), float(before[j])))
        kept = np.append(kept, block[~is_gone])
        if start and start % (32 * BLOCK) == 0:
            say(f"compared {start:,} of {len(rows):,} rows")
    return sorted(found, key=lambda one: one.row)


def _scores(rows: np.ndarray, others: np.ndarray, sides, codes: np.ndarray) -> np.ndarray:
    """[R, O] least cosine of the sides; -1 where the digits differ."""
    score = np.minimum.reduce([side[rows] @ side[others].T for side in sides])
    score[codes[rows][:, None] != codes[others]] = -1
    return score


def _nearest_kept(
    rows: np.ndarray, kept: np.ndarray, sides, codes: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The row among `kept` that is most like each of `rows`, and how much."""
    best, top = np.zeros(len(rows), np.int64), np.full(len(rows), -1, np.float32)
    for start in range(0, len(kept), 8 * BLOCK):
        part = kept[start : start + 8 * BLOCK]
        score = _scores(rows, part, sides, codes)
        column = score.argmax(axis=1)
        value = score[np.arange(len(rows)), column]
        better = value > top
        best[better], top[better] = part[column[better]], value[better]
    return best, top
