"""What the corpus is made of: sources, as a configuration names them, and what a row of one is."""

import contextlib
import dataclasses
import math
import os
import re
from collections.abc import Callable
from typing import Literal

from lightxling.base.errors import UserError
from lightxling.base.languages import is_code

Rows = Literal["pairs", "sentences", "text", "labels", "scores"]
"""What a row is: sentences of several languages, of one language or more, three sentences of
running text, or two sentences with a label or a score."""

RELEASED = "released"
"""In place of columns, of pairs of tagged words (`corpus.tagged`): as the released code reads them,
which loses the last word of each second side, mostly its full stop: it still has its newline when
its tag is looked for."""

NLI_LABELS = ("entailment", "neutral", "contradiction")
"""Of natural language inference, in the order of their numbers."""


@dataclasses.dataclass(frozen=True)
class Source:
    """Text in several languages, as one entry of `corpus.sources` names it.

    Attributes:
      languages: code of each side, in order.
      weight: how often a row is drawn per epoch.
      path: file, glob, stem of files or `tfds:NAME/CONFIG`.
      is_running: the files hold running text in one language; a row is three sentences of it.
      columns: of each language, by number from 1 or by name; none: the first ones, in order.
    """

    languages: tuple[str, ...]
    weight: float
    path: str
    is_running: bool = False
    columns: tuple[str, ...] = ()

    def __str__(self) -> str:
        weight = "" if self.weight == 1 else f"@{self.weight:g}"
        codes = self.languages[:1] if self.is_running else self.languages
        columns = f"#{','.join(self.columns)}" if self.columns else ""
        return f"{'-'.join(codes)}{weight}={self.path}{columns}"

    @classmethod
    def parse(cls, text: str, rows: Rows = "pairs") -> "Source":
        """The source that `en-fr=PATH`, `en-fr@2=PATH` or `en-fr=PATH#3,4` names; `en=PATH` for
        running text and for sentences."""
        left, equals, path = text.partition("=")
        codes, at, weight_text = left.partition("@")
        languages = tuple(codes.split("-"))
        if not (equals and path.strip()):
            raise UserError(f"source {text!r} names no file; write it like en-fr=corpus.tsv")
        is_running = rows == "text" and len(languages) == 1
        if is_running:
            languages *= 3
        if rows == "text" and len(languages) != 3:
            raise UserError(
                f"source {text!r}: running text has one language; write it like en=books/*.txt, or"
                " en-en-en=FILE.tsv for a sentence before, a sentence and one after it in each line"
            )
        fewest = 1 if rows == "sentences" else 2
        if len(languages) < fewest or not all(map(is_code, languages)):
            raise UserError(
                f"source {text!r}: {codes!r} is not a language pair; write two codes, such as en-fr"
                " or en-zh_Hans"
            )
        try:
            weight = float(weight_text) if at else 1.0
        except ValueError:
            weight = math.nan
        if not 0 < weight < math.inf:
            raise UserError(
                f"source {text!r}: weight {weight_text!r} is not a positive number; write it like"
                " en-fr@2=PATH"
            )
        path, columns = _split_columns(path.strip())
        if columns == (RELEASED,) and rows == "pairs":
            return cls(languages, weight, path, is_running, columns)
        if columns and (len(columns) != len(languages) or is_running or rows in NUMBERS):
            raise UserError(
                f"source {text!r}: #{','.join(columns)} should name one column for each language of"
                f" {codes}, of a file of sentences, as in en-fr=corpus.tsv#3,4"
            )
        if "0" in columns:
            raise UserError(f"source {text!r}: columns are counted from 1")
        return cls(languages, weight, path, is_running, columns)


def _split_columns(path: str) -> tuple[str, tuple[str, ...]]:
    """A path without its `#3,4` or `#en,fr`, and the columns; a file may have such a name."""
    match = re.fullmatch(r"([^#]+)#([\w .-]+(?:,[\w .-]+)*)", path)
    is_named = match and ("," in match[2] or match[2].isdecimal() or match[2] == RELEASED)
    if not is_named or path.startswith("tfds:") or os.path.exists(path):
        return path, ()
    return match[1], tuple(name.strip() for name in match[2].split(","))


def _class_number(label: str, place: str) -> str | None:
    label = {"contradictory": "contradiction"}.get(label, label)
    if label == "-":
        return None
    if label not in NLI_LABELS:
        raise UserError(
            f"{place}: {label!r} is not a label; they are {', '.join(NLI_LABELS)}, and the columns "
            "are label, sentence, sentence, unless the first line names them"
        )
    return str(NLI_LABELS.index(label))


def _score(label: str, place: str) -> str:
    with contextlib.suppress(ValueError):
        if 0 <= float(label) < math.inf:
            return str(float(label))
    raise UserError(
        f"{place}: {label!r} is not a score, a number from 0 upwards; the columns are score, "
        "sentence, sentence"
    )


NUMBERS: dict[str, Callable[[str, str], str | None]] = {"labels": _class_number, "scores": _score}
"""Rows that are two sentences and a number: gives the number of a label at some place, written out;
None where annotators agreed on no label.

Raises:
  UserError: it is not a label of these rows.
"""
