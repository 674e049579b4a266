"""Tables whose columns have names: JSON Lines, CSV and Parquet; and PO, whose translations do not
say their language."""

import csv
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from lightxling.base import kinds
from lightxling.base.errors import UserError, first_line
from lightxling.base.languages import distance, is_code
from lightxling.base.lines import SLAB, Problems, open_bytes, sound_lines

_SIDES = (("source", "target"), ("src", "tgt"), ("sentence1", "sentence2"))
_PO_LIMIT = 256 << 20  # bytes; the library holds a whole file


def pick(
    path: Path, names: Sequence[str], languages: Sequence[str], columns: Sequence[str] = ()
) -> list[str]:
    """The names of the columns that hold `languages`: codes, or source and target.

    Args:
      columns: those that are asked for, by name or by number from 1.

    Raises:
      UserError: a language has none.
    """
    if columns:
        by_number = {str(i): name for i, name in enumerate(names, 1)}
        asked = [one if one in names else by_number.get(one) for one in columns]
        if None in asked:
            raise UserError(
                f"{path} has no column {columns[asked.index(None)]}; its columns are"
                f" {', '.join(map(str, names[:20])) or 'none'}"
            )
        return asked
    chosen: list[str] = []
    for code in languages:
        far = [
            (apart, i)
            for i, name in enumerate(names)
            if name not in chosen
            and is_code(name.lower().replace("-", "_"))
            and (apart := distance(name, code)) is not None
        ]
        if far:
            chosen.append(names[min(far)[1]])
    if len(chosen) == len(languages):
        return chosen
    lowered = {name.lower(): name for name in names}
    for sides in _SIDES:
        if len(languages) == 2 and all(side in lowered for side in sides):
            return [lowered[side] for side in sides]
    raise UserError(
        f"{path} has no column for each of {', '.join(languages)}; its columns are"
        f" {', '.join(map(str, names[:20])) or 'none'}. Name one for each"
        f" language at the end, such as {'-'.join(languages)}={path}#NAME,NAME"
    )


def read_jsonl(
    path: Path, languages: Sequence[str], problems: Problems, columns: Sequence[str] = ()
) -> Iterator[tuple[str, ...]]:
    """The sentences of each object, one a line: `{"en": ..., "fr": ...}`, also within
    `translation`."""
    keys: list[str] = []
    for number, line in enumerate(sound_lines(path, problems, kinds.JSONL), 1):
        if line is None or not line.strip():
            continue
        try:
            value = json.loads(line)
        except (ValueError, RecursionError):
            problems.add("line that is no JSON", f"{path}:{number}")
            continue
        if isinstance(value, dict) and isinstance(value.get("translation"), dict):
            value = value["translation"]
        if not isinstance(value, dict):
            problems.add("line that is no object of JSON", f"{path}:{number}")
            continue
        if not keys:
            keys = pick(
                path, [key for key in value if isinstance(value[key], str)], languages, columns
            )
        yield from _row([value.get(key) for key in keys], problems, f"{path}:{number}")


def _row(texts: list[Any], problems: Problems, place: str) -> Iterator[tuple[str, ...]]:
    if all(isinstance(text, str) for text in texts):
        yield tuple(text.encode(errors="replace").decode() for text in texts)
    else:
        problems.add("row without a text of every language", place)


def read_csv(
    path: Path, languages: Sequence[str], problems: Problems, columns: Sequence[str] = ()
) -> Iterator[tuple[str, ...]]:
    """The columns that the first line names by language; without names, the first ones.

    Fields are separated by commas, semicolons or tabs, whichever the first line has most of, and
    may be quoted.
    """
    lines = (f"{line}\n" for line in sound_lines(path, problems) if line is not None)
    first = next(lines, "")
    found = max(",;\t", key=first.count)
    header = next(csv.reader([first], delimiter=found), [])
    names = [name.strip() for name in header]
    is_named = bool(columns) and not all(map(str.isdecimal, columns))
    if (
        is_named
        or any(distance(name, code) is not None for name in names for code in languages)
        or any(name.lower() in sides for name in names for sides in _SIDES)
    ):
        order = [names.index(name) for name in pick(path, names, languages, columns)]
    else:
        order = [int(one) - 1 for one in columns] or list(range(len(languages)))
        lines = _chain(first, lines)
    rows = csv.reader(lines, delimiter=found)
    while True:
        try:
            row = next(rows, None)
        except csv.Error as error:
            problems.add(f"row that is no CSV: {error}", f"{path}, row {rows.line_num}")
            continue
        if row is None:
            return
        if len(row) <= max(order):
            what = "empty line" if not row else f"{len(row)} of {max(order) + 1} columns"
            problems.add(what, f"{path}, row {rows.line_num}")
        else:
            yield tuple(row[i] for i in order)


def _chain(first: str, rest: Iterator[str]) -> Iterator[str]:
    if first:
        yield first
    yield from rest


def read_parquet(
    path: Path, languages: Sequence[str], problems: Problems, columns: Sequence[str] = ()
) -> Iterator[tuple[str, ...]]:
    """The columns named by language, also within a column `translation`."""
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        raise UserError(
            f"{path} is Parquet, which needs an extra: pip install 'lightxling[formats]'"
        ) from None
    number = 0
    try:
        with pq.ParquetFile(path) as file:
            names = file.schema_arrow.names
            column = "translation" if "translation" in names else ""
            if column and pa.types.is_struct(kind := file.schema_arrow.field(column).type):
                names = [kind.field(i).name for i in range(kind.num_fields)]
                keys = pick(path, names, languages, columns)
                asked = [column]
            else:
                column, keys = "", pick(path, names, languages, columns)
                asked = keys
            for batch in file.iter_batches(SLAB, columns=asked):
                for row in batch.to_pylist():
                    number += 1
                    values = (row[column] or {}) if column else row
                    place = f"{path}, row {number}"
                    yield from _row([values.get(key) for key in keys], problems, place)
    except (pa.ArrowException, OSError) as error:
        raise UserError(
            f"{path} is a damaged Parquet file after row {number:,} ({first_line(error)}); fetch it"
            " again, or unpack it if it is packed"
        ) from None


def read_po(path: Path, languages: Sequence[str], problems: Problems) -> Iterator[tuple[str, ...]]:
    """The entries of a gettext file: the second language is that of msgstr, unless the header says
    that the first is.

    Entries that are fuzzy, obsolete or without a translation are counted; of plural forms, the
    singular and the last plural are rows.
    """
    try:
        from translate.storage import pypo
    except ImportError:
        raise UserError(
            f"{path} is PO, which needs an extra: pip install 'lightxling[formats]'"
        ) from None
    with open_bytes(path) as file:
        data = file.read(_PO_LIMIT + 1)
    if len(data) > _PO_LIMIT:
        raise UserError(f"{path} is a PO file of more than 256 MiB; split it first")
    if len(languages) != 2:
        raise UserError(f"{path} is PO, which has two languages, not {'-'.join(languages)}")
    try:
        store = pypo.pofile.parsestring(data)
    except Exception as error:  # of the library, which has many
        raise UserError(f"{path} cannot be read as PO: {first_line(error)}") from None
    is_turned = _is_turned(path, store, languages)
    for unit in store.units:
        if not unit.isheader():
            for row in _po_rows(unit, path, problems):
                yield row[::-1] if is_turned else row


def _is_turned(path: Path, store: Any, languages: Sequence[str]) -> bool:
    """Whether the translations are the first language, by the header; many headers do not say."""
    said = store.gettargetlanguage() or languages[1]
    fits = [
        distance(said, code) is not None or distance(code, said) is not None for code in languages
    ]
    if not any(fits):
        raise UserError(
            f"{path} says that its translations are in {said}, not {languages[1]}; write"
            f" {languages[0]}-{said}=... or correct its header"
        )
    return not fits[1]


def _po_rows(unit: Any, path: Path, problems: Problems) -> Iterator[tuple[str, ...]]:
    place = f"{path}, entry {str(unit.source)[:40]!r}"
    if unit.isobsolete():
        problems.add("obsolete entry", place)
    elif unit.isfuzzy():
        problems.add("fuzzy entry", place)
    elif unit.hasplural():
        sources, targets = list(map(str, unit.source.strings)), list(map(str, unit.target.strings))
        if all(text.strip() for text in (*sources, *targets)) and targets:
            yield sources[0], targets[0]
            if len(targets) > 1:
                yield sources[-1], targets[-1]
        else:
            problems.add("entry without a translation", place)
    elif not str(unit.target or "").strip():
        problems.add("entry without a translation", place)
    else:
        yield str(unit.source), str(unit.target)
