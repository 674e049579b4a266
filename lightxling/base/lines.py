"""The one door for text: files and standard input, line by line, in constant memory.

Text comes from strangers. A line ends in a newline and nothing else; carriage returns before it are
dropped, and so is the byte order mark that a text may begin with. Bytes that are not UTF-8, NUL
bytes and what a line holds beyond `LINE_LIMIT` are not text: such a line is counted with its place
(`Problems`), and then
- repaired by `Lines`, where line n has to stay line n: U+FFFD stands for what is not text;
- left out by `sound_lines`, where text is learnt from or mined: None stands in its place.
"""

import collections
import contextlib
import gzip
import io
import itertools
import os
import sys
import warnings
import zlib
from codecs import BOM_UTF8
from collections.abc import Iterable, Iterator
from typing import TypeVar

from lightxling.base.errors import UserError

SLAB = 1 << 14
"""Lines handled together: bounds the memory beside the result."""
LINE_LIMIT = 1 << 20
"""Bytes read of a line; far more than any encoder reads."""
PACKED = (".gz",)
"""Endings of the names of packed files. Their first bytes decide, whatever the name."""

AnyPath = str | os.PathLike[str]
T = TypeVar("T")

_SHOWN = 5  # places remembered per reason
_TOO_LONG = "line longer than 1 MiB"


class Problems:
    """Counts what could not be read, by reason, and remembers the first places of each."""

    def __init__(self):
        self.counts = collections.Counter()
        self.places = collections.defaultdict(list)

    def add(self, reason: str, place: str) -> None:
        self.counts[reason] += 1
        if len(self.places[reason]) < _SHOWN:
            self.places[reason].append(place)

    def told(self) -> Iterator[tuple[int, str]]:
        """How often each reason was met, and the reason with its first places; the most frequent
        first."""
        for reason, n in self.counts.most_common():
            places = self.places[reason]
            yield n, f"{reason} ({', '.join(places)}{', ...' if n > len(places) else ''})"

    def warn(self, outcome: str) -> None:
        """Says what became of the lines, as in `2 left out: invalid UTF-8 (a.txt:3, ...)`."""
        for count, what in self.told():
            warnings.warn(f"{count:,} {outcome}: {what}", stacklevel=2)


def plain_name(path: AnyPath) -> str:
    """A path without the ending of packed files."""
    stem, ending = os.path.splitext(path)
    return stem if ending in PACKED else os.fspath(path)


def is_packed(file: io.BufferedReader) -> bool:
    """Whether what is about to be read from a file is compressed."""
    return file.peek(2)[:2] == b"\x1f\x8b"


@contextlib.contextmanager
def open_bytes(path: AnyPath) -> Iterator[io.BufferedReader]:
    """Opens a file, or standard input as `-`, to read its bytes; what is packed is unpacked.

    Raises:
      UserError: there is no such file, it cannot be read, or it is damaged.
    """
    name = _name(path)
    try:
        is_stdin = os.fspath(path) == "-"
        with contextlib.nullcontext(sys.stdin.buffer) if is_stdin else open(path, "rb") as file:
            if is_packed(file):
                file = io.BufferedReader(gzip.GzipFile(fileobj=file), 1 << 18)
            yield file
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise UserError(f"{name} is a damaged gzip file ({error}); fetch it again") from None
    except OSError as error:
        if error.errno is None or isinstance(error, BrokenPipeError):  # not of a file that is read
            raise
        raise UserError(f"cannot read {name}: {error.strerror}") from None


def _name(path: AnyPath) -> str:
    return "standard input" if os.fspath(path) == "-" else os.fspath(path)


def decode_line(raw: bytes) -> tuple[str, str]:
    """The text of a line, repaired, without its end; and why it is not text ("" where it is).

    Args:
      raw: what `readline(LINE_LIMIT)` gives.
    """
    reason = ""
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        reason, text = "invalid UTF-8", raw.decode("utf-8", "replace")
    if "\0" in text:
        reason, text = "NUL byte (UTF-16?)", text.replace("\0", "\ufffd")
    if len(raw) == LINE_LIMIT and raw[-1:] != b"\n":
        reason = _TOO_LONG
    return text.rstrip("\r\n"), reason


def _decoded(file: io.BufferedReader, name: str, problems: Problems) -> Iterator[tuple[str, bool]]:
    """Every line, repaired, and whether it was sound."""
    number = 0
    while raw := file.readline(LINE_LIMIT):
        text, reason = decode_line(raw)
        while reason == _TOO_LONG and (rest := file.readline(LINE_LIMIT)) and rest[-1:] != b"\n":
            pass  # the rest of an endless line
        number += 1
        if number == 1 and raw.startswith(BOM_UTF8):
            text = text.removeprefix("\ufeff")
            if raw == BOM_UTF8:
                return
        if reason:
            problems.add(reason, f"{name}:{number}")
        yield text, not reason


def sound_lines(path: AnyPath, problems: Problems) -> Iterator[str | None]:
    """The lines of a text; None for one that is not text, which is counted in `problems`."""
    with open_bytes(path) as file:
        for text, is_sound in _decoded(file, _name(path), problems):
            yield text if is_sound else None


class Lines:
    """The lines of a text, every one of them; what is not text is repaired, and counted."""

    def __init__(self, file: io.BufferedReader, name: str, problems: Problems):
        self.problems = problems
        self._lines = (text for text, _ in _decoded(file, name, problems))

    @classmethod
    @contextlib.contextmanager
    def open(cls, path: AnyPath, problems: Problems | None = None) -> Iterator["Lines"]:
        """Opens a path; `-` is standard input.

        Args:
          problems: receives what is repaired. Without, warnings say it at the end.
        """
        with open_bytes(path) as file:
            lines = cls(file, _name(path), Problems() if problems is None else problems)
            yield lines
        if problems is None:
            lines.problems.warn("repaired")

    @property
    def damaged(self) -> int:
        """Lines repaired so far."""
        return self.problems.counts.total()

    def __iter__(self) -> Iterator[str]:
        return self._lines


def slabs(items: Iterable[T], size: int = SLAB) -> Iterator[list[T]]:
    """Lists of `size` items, the last one shorter."""
    items = iter(items)
    while slab := list(itertools.islice(items, size)):
        yield slab
