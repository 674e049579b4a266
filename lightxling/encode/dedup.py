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
BLOCK = 4096  # rows that are looked up at once
CELLS = 6  # of the space, for each unit of the square root of the rows


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
    kept, found = _Kept(sides, codes, threshold), []
    for start in range(0, len(rows), BLOCK):
        block = np.arange(start, min(start + BLOCK, len(rows)))
        best, score = kept.nearest(block)
        is_gone = score >= threshold
        # within the block, a row is compared with those before it that stay
        inside = kept.scores(block, block)
        for i in np.flatnonzero(np.tril(inside >= threshold, -1).any(axis=1)):
            before = np.where(is_gone[:i], -1, inside[i, :i])
            if before.max() > score[i]:
                best[i], score[i] = block[before.argmax()], before.max()
                is_gone[i] = score[i] >= threshold
        gone = np.flatnonzero(is_gone)
        found += [Duplicate(int(block[i]), int(best[i]), float(score[i])) for i in gone]
        kept.add(block[~is_gone])
        if start and start % (32 * BLOCK) == 0:
            say(f"compared {start:,} of {len(rows):,} rows")
    return found


class _Kept:
    """Rows that stay, in cells of the space of their first sides, so that few are compared.

    A row belongs to the cell of the centre c that it is nearest to; centres are rows drawn at
    random. All vectors have length 1, so the plane between two centres has the distance

        d(x, c') = x (c - c') / |c - c'|

    from a row x of cell c. Rows x of cell c and y of cell c' are on two sides of it, and

        |x - y| >= d(x, c') + d(y, c)

    If their cosine reaches the threshold t, |x - y| <= r = sqrt(2 - 2 t), and one of the two
    distances is at most r / 2. So x stands also in every cell whose plane is as near as that, and y
    looks into every such cell for those that belong there, and into its own for all that stand
    there: nothing is missed.
    """

    def __init__(self, sides: Sequence[np.ndarray], codes: np.ndarray, threshold: float):
        self.sides, self.codes, self.threshold = sides, codes, threshold
        count = min(int(CELLS * len(codes) ** 0.5), len(codes))
        drawn = np.random.default_rng(0).choice(len(codes), count, replace=False)
        self.centres = sides[0][np.sort(drawn)]  # [C, D]
        self.reach = np.sqrt(max(2 - 2 * threshold, 0)) / 2 + 1e-4
        self.own: list[list[int]] = [[] for _ in self.centres]
        self.guests: list[list[int]] = [[] for _ in self.centres]

    def cells(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The cell [R] of each row, and whether its plane to each cell is within reach [R, C]."""
        cosines = self.sides[0][rows] @ self.centres.T
        own = cosines.argmax(axis=1)
        lead = cosines[np.arange(len(rows)), own][:, None] - cosines  # x (c - c')
        apart = np.sqrt(np.maximum(2 - 2 * self.centres @ self.centres.T, 0))  # |c - c'|
        near = lead <= self.reach * apart[own]
        near[np.arange(len(rows)), own] = False
        near[~self.sides[0][rows].any(axis=1)] = False  # without tokens: like nothing
        return own, near

    def add(self, rows: np.ndarray) -> None:
        own, near = self.cells(rows)
        for row, cell in zip(rows.tolist(), own.tolist(), strict=True):
            self.own[cell].append(row)
        for i, cell in zip(*(axis.tolist() for axis in np.nonzero(near)), strict=True):
            self.guests[cell].append(int(rows[i]))

    def nearest(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The row that stays and is most like each of `rows`, and how much; -1 where none is."""
        best, top = np.full(len(rows), -1), np.full(len(rows), -1, np.float32)
        own, near = self.cells(rows)
        for cell in range(len(self.centres)):
            here = own == cell
            for who, others in ((here | near[:, cell], self.own), (here, self.guests)):
                if not others[cell] or not who.any():
                    continue
                asking, kept = np.flatnonzero(who), np.array(others[cell])
                score = self.scores(rows[asking], kept)
                column = score.argmax(axis=1)
                value = score[np.arange(len(asking)), column]
                better = value > top[asking]
                best[asking[better]], top[asking[better]] = kept[column[better]], value[better]
        return best, top

    def scores(self, rows: np.ndarray, others: np.ndarray) -> np.ndarray:
        """[R, O] least cosine of the sides; -1 where it is below the threshold or digits differ."""
        score = self.sides[0][rows] @ self.sides[0][others].T
        places = np.nonzero(score >= self.threshold)
        a, b = rows[places[0]], others[places[1]]
        least = score[places]
        for side in self.sides[1:]:
            least = np.minimum(least, np.einsum("pd,pd->p", side[a], side[b]))
        least[(self.codes[a] != self.codes[b]) | (least < self.threshold)] = -1
        score = np.full_like(score, -1)
        score[places] = least
        return score
