"""Sources of parallel text. Every reader streams rows of sentences, one sentence per language.

Files come from strangers: what cannot be a sentence is counted and skipped, a file that cannot be
read is a UserError, and no file, however odd, is held in memory. How a line is read is said in
`base.lines`; one file with all languages is one of `READERS`.
"""

import glob
import itertools
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from lightxling.base import kinds
from lightxling.base.errors import UserError
from lightxling.base.lines import (
    LINE_LIMIT,
    Problems,
    open_bytes,
    open_unpacked,
    refusal,
    sound_lines,
)
from lightxling.base.unpacking import PACKED, archive_of, members, plain_name
from lightxling.corpus import mtdata
from lightxling.corpus.columns import first_rows, side_columns
from lightxling.corpus.sentences import cut_sentences
from lightxling.corpus.sources import NUMBERS, RELEASED, Rows, Source
from lightxling.corpus.tables import read_csv, read_jsonl, read_parquet, read_po
from lightxling.corpus.tagged import is_tagged, read_tagged
from lightxling.corpus.tfds import PREFIX, read_tfds, tfds_files
from lightxling.corpus.tmx import read_tmx, read_xliff

_LABEL_COLUMNS = ("label", "gold_label", "score")
_TEXT_COLUMNS = ("premise", "hypothesis", "hypo", "sentence1", "sentence2")


def files(source: Source) -> list[Path]:
    """The files that `source` reads; UserError when there are none."""
    if source.path.startswith(PREFIX):
        return tfds_files(source)
    if source.path.startswith(mtdata.PREFIX):
        return mtdata.mtdata_files(source)
    found = [archive_of(file) or file for group in _resolve(source) for file in group]
    return list(dict.fromkeys(found))


def read_source(
    source: Source, problems: Problems, rows: Rows = "pairs"
) -> Iterator[tuple[str, ...]]:
    """The rows of `source`; what does not hold one is counted in `problems`.

    Args:
      rows: those of `NUMBERS` end in a number.

    Raises:
      UserError: a file cannot be read, or something stands for a label that is not one.
    """
    if source.path.startswith(PREFIX):
        yield from read_tfds(source, problems, rows)
        return
    if source.path.startswith(mtdata.PREFIX):
        if rows in NUMBERS or source.is_running:
            raise UserError(f"source {source}: mtdata has parallel text, and none for {rows}")
        yield from mtdata.read_mtdata(source, problems)
        return
    for group in _resolve(source):
        if rows in NUMBERS:
            yield from read_labelled(group[0], rows, problems)
        elif source.is_running:
            yield from read_running(group[0], problems)
        elif len(group) > 1 and not source.columns:
            yield from read_moses(group, problems)
        else:
            reader = _reader_of(group[0])
            if source.columns and (len(group) > 1 or reader not in _OF_COLUMNS):
                raise UserError(
                    f"source {source}: {group[0]} has no columns to choose from; leave out what"
                    " follows #"
                )
            columns = (source.columns,) if source.columns else ()
            yield from reader(group[0], source.languages, problems, *columns)


def _resolve(source: Source) -> list[tuple[Path, ...]]:
    """The files of `source`, in order; those to be read side by side in one tuple."""
    is_one = os.path.isfile(source.path) or archive_of(source.path)
    found = [source.path] if is_one else glob.glob(source.path, recursive=True)
    found = sorted(file for file in found if is_one or os.path.isfile(file))
    if not found:
        group = _moses_files(source.path, source.languages)
        if not any(file.is_file() for file in group):
            raise UserError(
                f"source {source}: there is no file {source.path}, nor {group[0]}; check the path"
            )
        found = [str(group[0])]
    groups = {}  # a stem matched by the files of several languages is one group
    for file in found:
        if inside := _moses_members(Path(file), source):
            groups.update(dict.fromkeys(inside))
            continue
        group = (Path(file),)
        for code in source.languages if len(set(source.languages)) > 1 else ():
            if plain_name(file).endswith(f".{code}"):
                group = _moses_files(plain_name(file).removesuffix(f".{code}"), source.languages)
        groups[group] = None
    for group in groups:
        for file in group:
            if not file.is_file() and not archive_of(file):
                raise UserError(f"source {source}: {file} is missing beside the other languages")
    return list(groups)


def _moses_members(archive: Path, source: Source) -> list[tuple[Path, ...]]:
    """The files of all languages that lie side by side in a zip archive, such as those of OPUS."""
    names = [] if not archive.is_file() or source.is_running else members(archive)
    first = source.languages[0]
    stems = [
        plain_name(n).removesuffix(f".{first}")
        for n in names
        if plain_name(n).endswith(f".{first}")
    ]
    by_plain_name = {plain_name(name): name for name in names}
    groups = []
    for stem in stems:
        sides = [by_plain_name.get(f"{stem}.{code}") for code in source.languages]
        if len(sides) > 1 and None not in sides:
            groups.append(tuple(archive / side for side in sides))
    return groups


def _moses_files(stem: str, languages: Sequence[str]) -> tuple[Path, ...]:
    """The file of each language, the plain one rather than a packed one."""
    files = []
    for code in languages:
        found = [Path(f"{stem}.{code}{ending}") for ending in ("", *PACKED)]
        files.append(next((file for file in found if file.is_file()), found[0]))
    return tuple(files)


def read_tsv(path: Path, columns: int, problems: Problems) -> Iterator[tuple[str, ...]]:
    """The first `columns` columns of a tab-separated file."""
    for number, row in _numbered_rows(path, problems):
        if len(row) >= columns:
            yield tuple(row[:columns])
        else:
            problems.add(_too_short(row, columns), f"{path}:{number}")


def _numbered_rows(path: Path, problems: Problems) -> Iterator[tuple[int, list[str]]]:
    for number, line in enumerate(sound_lines(path, problems), 1):
        if line is not None:
            yield number, line.split("\t")


def _too_short(row: list[str], columns: int) -> str:
    return "blank line" if row == [""] else f"{len(row)} of {columns} columns"


def labelled_columns(header: Sequence[str]) -> list[int] | None:
    """Columns of the label and of both sentences, where the first line of a file names them."""
    names = [name.strip().lower() for name in header]
    label = next((i for i, name in enumerate(names) if name in _LABEL_COLUMNS), None)
    if label is None:
        return None
    texts = [i for i, name in enumerate(names) if name in _TEXT_COLUMNS]
    if len(texts) != 2:
        texts = [i for i in range(len(names)) if i != label][:2]
    return [label, *texts]


def read_labelled(path: Path, rows: Rows, problems: Problems) -> Iterator[tuple[str, str, str]]:
    """(sentence, sentence, number) from lines `label<TAB>sentence<TAB>sentence`.

    The first line may name the columns (gold_label, sentence1, ...), which then stand in any order.

    Raises:
      UserError: something stands for a label that is not one.
    """
    order = [0, 1, 2]
    for number, row in _numbered_rows(path, problems):
        place = f"{path}:{number}"
        if number == 1 and (named := labelled_columns(row)):
            order = named
        elif len(row) <= max(order):
            problems.add(_too_short(row, max(order) + 1), place)
        else:
            label, first, second = (row[i] for i in order)
            value = NUMBERS[rows](label.strip(), place)
            if value is None:
                problems.add("no agreed label", place)
            else:
                yield first, second, value


def read_running(path: Path, problems: Problems) -> Iterator[tuple[str, str, str]]:
    """Every three sentences that stand in a row within a document of running text.

    In a `.tsv` file every line is a document, its last column. In any other, a blank line ends a
    document, and the lines in between belong together.
    """
    for document in _documents(path, problems):
        found = cut_sentences(document)
        yield from zip(found, found[1:], found[2:], strict=False)


def _documents(path: Path, problems: Problems) -> Iterator[str]:
    lines = sound_lines(path, problems)
    if plain_name(path).lower().endswith(".tsv"):
        yield from (line.rpartition("\t")[2] for line in lines if line)
        return
    block, length = [], 0
    for line in itertools.chain(lines, [None]):
        if line and line.strip() and length < LINE_LIMIT:
            block.append(line.strip())
            length += len(line)
        elif block:
            yield " ".join(block)
            block, length = ([line.strip()], len(line)) if line and line.strip() else ([], 0)


def read_moses(paths: Sequence[Path], problems: Problems) -> Iterator[tuple[str, ...]]:
    """Line n of every file, for every n; UserError if one file ends before the others."""
    readers = [sound_lines(path, problems) for path in paths]
    end = object()
    number = 0
    while True:
        row = tuple(next(reader, end) for reader in readers)
        ended = [path for path, line in zip(paths, row, strict=True) if line is end]
        if len(ended) == len(paths):
            return
        if ended:
            others = [path for path in paths if path not in ended]
            raise UserError(
                f"{ended[0]} ends after line {number}, before {' and '.join(map(str, others))};"
                " all must have the same number of lines, for line n is the translation of line n"
            )
        number += 1
        if None not in row:
            yield row


def _read_sides(
    path: Path, languages: Sequence[str], problems: Problems, columns: Sequence[str] = ()
) -> Iterator[tuple[str, ...]]:
    """The sentences of a tab-separated file, see `columns.side_columns`; or of tagged words."""
    rows = _numbered_rows(path, problems)
    first = first_rows(rows)
    is_released = tuple(columns) == (RELEASED,)
    if is_tagged([row[0] for _, row in first]) or is_released:
        lines = ((number, "\t".join(row)) for number, row in itertools.chain(first, rows))
        yield from read_tagged(path, lines, languages, problems, loses_last=is_released)
        return
    places, has_header = side_columns(path, [row for _, row in first], languages, columns)
    needed = max(places) + 1
    for number, row in itertools.chain(first[has_header:], rows):
        if len(row) >= needed:
            yield tuple([row[i] for i in places])
        else:
            problems.add(_too_short(row, needed), f"{path}:{number}")


Reader = Callable[..., Iterator[tuple[str, ...]]]
"""Takes the path, the languages and the problems; those of `_OF_COLUMNS` also the columns that are
asked for."""

_OF_COLUMNS = (_read_sides, read_csv, read_jsonl, read_parquet)

READERS: dict[str, Reader] = {
    ".tsv": _read_sides,
    ".txt": _read_sides,
    ".csv": read_csv,
    ".tmx": read_tmx,
    ".xlf": read_xliff,
    ".xliff": read_xliff,
    ".po": read_po,
    ".jsonl": read_jsonl,
    ".parquet": read_parquet,
}
"""Files with all languages: the ending of the name, packed or not, and the reader. A name with
another ending is read as TSV."""

BY_CONTENT: dict[str, Reader] = {
    kinds.TMX.name: read_tmx,
    kinds.XLIFF.name: read_xliff,
    kinds.PO.name: read_po,
    kinds.JSONL.name: read_jsonl,
    kinds.PARQUET.name: read_parquet,
}
"""The reader of what a file is by its first bytes, whatever its name."""


def _reader_of(path: Path) -> Reader:
    with open_unpacked(path) as file:
        kind = kinds.binary_kind(file.peek(1))
    if kind is None:
        with open_bytes(path) as file:
            kind = kinds.text_kind(file.peek(1))
    if kind is not None:
        if kind.name not in BY_CONTENT:
            raise refusal(path, kind)
        return BY_CONTENT[kind.name]
    return READERS.get(os.path.splitext(plain_name(path))[1].lower(), READERS[".tsv"])
