"""What a benchmark consists of, and what all kinds of them share."""

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lightxling.base.errors import UserError
from lightxling.base.languages import TWO_LETTERS, language_tag
from lightxling.base.lines import Problems
from lightxling.base.vectors import Encode
from lightxling.corpus import readers


@dataclasses.dataclass(frozen=True)
class TaskSettings:
    """How a task scores: what one of them reads is a class below this one.

    Together they are the flags of `lightxling evaluate` (`tasks.ScoringSettings`), and every task
    uses and notes in its results what is its own. Checks go on to those of the next class.
    """

    def __post_init__(self):
        pass


@dataclasses.dataclass(frozen=True)
class Unit:
    """One row of a result table, not yet computed."""

    dataset: str
    name: str
    languages: tuple[str, ...]
    files: Callable[[], Sequence[Path]]
    """What the scores depend on besides the model and the settings; may have to be fetched."""
    run: Callable[[Encode], dict[str, Any]]
    """Returns `scores` in per cent and what describes them."""
    pairs: Callable[[], tuple[list[str], list[str]]] | None = None
    """Both sides of the sentences, where the unit is a parallel text."""
    narrow: Callable[[Callable[[str], bool]], "Unit | None"] | None = None
    """For `narrowed`, where a unit has parts; by default all of it is known or nothing is left."""

    def narrowed(self, known: Callable[[str], bool]) -> "Unit | None":
        """What is left of it where only some languages are known; None for nothing."""
        if self.narrow:
            return self.narrow(known)
        return self if all(map(known, self.languages)) else None


@dataclasses.dataclass(frozen=True)
class TaskKind:
    """A kind of benchmark: all that the rest of the package knows about it."""

    find: Callable[[Sequence[str], Any], list[Unit]]
    """(what --data gives, settings) -> its units."""
    settings: type[TaskSettings]
    headline: str
    """The score that is drawn and shown first."""
    counts: tuple[str, ...]
    """What of a result is shown beside the scores, which mean nothing without."""
    details: tuple[str, ...] = ()
    """Scores that are kept, and not shown in tables."""
    definition: int = 1
    """Grows when scores get another meaning: kept ones are computed again then."""


def is_new(found: dict[Any, Path], key: Any, file: Path, what: str) -> bool:
    """Notes what file a part of a benchmark is in; False if that is noted already.

    Raises:
      UserError: another file is the same part, and one of them would be lost.
    """
    other = found.setdefault(key, file)
    if other is not file and other.resolve() != file.resolve():
        raise UserError(
            f"{other} and {file} are both {what}, of which there can be one; rename one, or name "
            "in --data only the files that you mean, and give another evaluation its own --output"
        )
    return other is file


def of_sides(encode: Encode, languages: Sequence[str]) -> tuple[Encode, ...]:
    """The encoder of each side of a unit.

    They are one, but for encoders with a module per language: those have a method
    `choose(language, is_cross)`, in which is_cross says whether the unit compares languages.
    """
    choose = getattr(encode, "choose", None)
    if choose is None:
        return (encode,) * len(languages)
    codes = [two_letters(language) for language in languages]
    return tuple(choose(code, len(set(codes)) > 1) for code in codes)


def encode_sides(
    encode: Encode, languages: Sequence[str], texts: Iterable[list[str]]
) -> list[np.ndarray]:
    """Vectors of the sentences of every side of a unit."""
    return [one(side) for one, side in zip(of_sides(encode, languages), texts, strict=True)]


def files_of(data: Sequence[str]) -> Iterator[Path]:
    """The files that are given, and those of the folders, in order."""
    for path in map(Path, data):
        if not (path.is_file() or path.is_dir()):
            raise UserError(f"--data {path}: no such file or folder")
        yield from sorted(filter(Path.is_file, path.iterdir())) if path.is_dir() else [path]


def tab_rows(path: Path, columns: int) -> list[tuple[str, ...]]:
    """Rows of a tab-separated file in which only empty lines may have fewer columns."""
    problems = Problems()
    rows = list(readers.read_tsv(path, columns, problems))
    for reason, places in problems.places.items():
        if reason != "blank line":
            raise UserError(f"{places[0]}: {reason}; every line needs {columns}, with tabs between")
    if not rows:
        raise UserError(f"{path} is empty")
    return rows


def constant(files: Iterable[Path]) -> Callable[[], Sequence[Path]]:
    """`Unit.files` of files that are there already."""
    files = tuple(files)
    return lambda: files


def two_letters(language: str) -> str:
    """Two-letter code without script or region, where there is one."""
    base = language_tag(language).split("-")[0]
    return TWO_LETTERS.get(base, base)
