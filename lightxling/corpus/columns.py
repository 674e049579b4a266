"""Which columns of a tab-separated file are its sentences, judged by its first rows.

Public corpora put addresses, scores and ids before or behind the text. Taken for sentences they
train without an error and score without one, so a column of them is refused, and what to type is
said.
"""

import re
import warnings
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from lightxling.base.errors import UserError

FIRST_ROWS = 100
"""Rows that a file is judged by."""
_FIRST_SIZE = 1 << 20  # characters of them, so that endless lines stay out of memory
_FEWEST = 5  # rows; fewer say nothing
_NEARLY_ALL = 0.9  # of the cells: software has a sentence that is a number now and then

_KINDS = {
    "numbers": re.compile(r"[+-]?(\d+([.,]\d*)?|[.,]\d+)([eE][+-]?\d+)?%?", re.ASCII),
    "addresses": re.compile(r"(https?|ftp|file)://\S+|www\.\S+", re.IGNORECASE),
    # ASCII: a Chinese sentence has no spaces either, and may hold a number
    "ids": re.compile(r"(?=\S*\d)[\w.:/@#-]+", re.ASCII),
}
_HEADINGS = frozenset(
    ("source", "target", "src", "tgt", "trg", "text", "sentence", "sentence1", "sentence2")
)


def first_rows(
    rows: Iterator[tuple[int, list[str]]],
) -> list[tuple[int, list[str]]]:
    """Takes the rows that a file is judged by from its numbered rows."""
    taken, size = [], 0
    for row in rows:
        taken.append(row)
        size += sum(map(len, row[1]))
        if len(taken) == FIRST_ROWS or size > _FIRST_SIZE:
            break
    return taken


def kind_of(cells: Sequence[str]) -> str:
    """`numbers`, `addresses` or `ids` where nearly all filled cells are; else `text`, or `nothing`
    where none is filled."""
    filled = [cell.strip() for cell in cells if cell.strip()]
    if not filled:
        return "nothing"
    for kind, pattern in _KINDS.items():
        if sum(map(bool, map(pattern.fullmatch, filled))) >= _NEARLY_ALL * len(filled):
            return kind
    return "text"


def side_columns(
    path: Path, rows: Sequence[list[str]], languages: Sequence[str], named: Sequence[str]
) -> tuple[list[int], bool]:
    """Places of the sentences in a row, counted from 0, and whether the first row is a header.

    Args:
      rows: the first ones of the file.
      named: a column for each language, by its number from 1 or by its name in the header; or
        none, for the first ones.

    Raises:
      UserError: the header has no such name; or the first columns are not text.
    """
    if named and not all(map(str.isdecimal, named)):
        return _by_name(path, rows, named), True
    places = [int(one) - 1 for one in named] or list(range(len(languages)))
    kinds = [kind_of(column) for column in _columns(rows)] if len(rows) >= _FEWEST else []
    wrong = [i for i in places if i < len(kinds) and kinds[i] not in ("text", "nothing")]
    if wrong:
        told = _told(path, rows, kinds, languages, wrong)
        if not named:
            raise UserError(told)
        warnings.warn(told, stacklevel=2)
        return places, False
    more = [] if named else [i for i in range(len(places), len(kinds)) if kinds[i] == "text"]
    if more:
        pair = f"{'-'.join(languages)}={path}"
        warnings.warn(
            f"{path}: column {more[0] + 1} holds text too, and is not read; write"
            f" {pair}#{','.join(str(i + 1) for i in places)} if that is meant, or name the columns"
            " that are. A third sentence that is a wrong answer has a code of its own:"
            f" {languages[0]}-{languages[-1]}-{languages[-1]}={path}",
            stacklevel=2,
        )
    if rows and _is_header([rows[0][i] for i in places if i < len(rows[0])], languages):
        shown = ",".join(rows[0][i].strip() for i in places)
        warnings.warn(
            f"{path}: the first line looks like a header and is read as a pair; write"
            f" {'-'.join(languages)}={path}#{shown} to read the columns by their names",
            stacklevel=2,
        )
    return places, False


def _columns(rows: Sequence[list[str]]) -> Iterator[list[str]]:
    for place in range(max(map(len, rows))):
        yield [row[place] for row in rows if place < len(row)]


def _by_name(path: Path, rows: Sequence[list[str]], named: Sequence[str]) -> list[int]:
    header = [cell.strip().lower() for cell in rows[0]] if rows else []
    missing = [name for name in named if name.lower() not in header]
    if missing:
        raise UserError(
            f"{path}: no column is named {', '.join(missing)}; its first line is"
            f" {cut(', '.join(header))!r}. Columns have the names of the first line, or numbers"
            " from 1, such as #3,4"
        )
    return [header.index(name.lower()) for name in named]


def _is_header(cells: Sequence[str], languages: Sequence[str]) -> bool:
    names = [cell.strip().lower() for cell in cells]
    codes = [code.lower() for code in languages]
    return names == codes or (len(set(names)) > 1 and _HEADINGS.issuperset(names))


def _told(
    path: Path,
    rows: Sequence[list[str]],
    kinds: Sequence[str],
    languages: Sequence[str],
    wrong: Iterable[int],
) -> str:
    texts = [i + 1 for i, kind in enumerate(kinds) if kind == "text"]
    example = next(row for row in rows if len(row) == len(kinds))
    lines = [
        f"\n  {i}  {kind:<9}  {cut(cell)}"
        for i, (kind, cell) in enumerate(zip(kinds, example, strict=True), 1)
    ]
    pair = f"{'-'.join(languages)}={path}"
    if len(texts) == len(languages):
        advice = f"write {pair}#{','.join(map(str, texts))}, if these are {' and '.join(languages)}"
    else:
        numbers = ",".join(str(i + 3) for i in range(len(languages)))
        advice = f"name the columns of the text after the file, as in {pair}#{numbers}"
    found = " and ".join(f"column {i + 1} holds {kinds[i]}" for i in wrong)
    return f"{path}: {found}, not sentences; {advice}. Its columns are{''.join(lines)}"


def cut(text: str, width: int = 50) -> str:
    """The beginning of a text of strangers, safe to print: at most `width` characters."""
    text = "".join(c if c.isprintable() else "\ufffd" for c in text[: width + 1])
    return text if len(text) <= width else text[: width - 1] + "…"
