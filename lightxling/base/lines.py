"""The one door for text: files and standard input, line by line, in constant memory.

Text comes from strangers. What a file is, its first bytes say, whatever the name: packed ones are
unpacked (`unpacking`), UTF-16 and UTF-32 with a byte order mark become UTF-8, and what is no text
is refused by what it is (`kinds`).

A line ends in a newline and nothing else; carriage returns before it are dropped, and so is the
byte order mark that a text may begin with. Only where no newline stands in its first MiB, as in
files of old Macs, do lines end in carriage returns. Bytes that are not UTF-8, NUL bytes and what a
line holds beyond `LINE_LIMIT` are not text: such a line is counted with its place (`Problems`), and
then
- repaired by `Lines`, where line n has to stay line n: U+FFFD stands for what is not text;
- left out by `sound_lines`, where text is learnt from or mined: None stands in its place.
A line that does not end at all, such as that of /dev/zero, is refused.
"""

import codecs
import collections
import contextlib
import io
import itertools
import os
import sys
import warnings
from codecs import BOM_UTF8
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

from lightxling.base.errors import UserError
from lightxling.base.kinds import Kind, binary_kind, text_kind
from lightxling.base.unpacking import archive_of, open_member, unpacked

SLAB = 1 << 14
"""Lines handled together: bounds the memory beside the result."""
LINE_LIMIT = 1 << 20
"""Bytes read of a line; far more than any encoder reads."""

_LONGEST = 1 << 30
"""Bytes of a line after which no end of it is waited for: a device may have none."""

AnyPath = str | os.PathLike[str]
T = TypeVar("T")

_SHOWN = 5  # places remembered per reason
_TOO_LONG = "line longer than 1 MiB"
_MARKS = (  # longest first: that of UTF-16 begins as that of UTF-32
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


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


@contextlib.contextmanager
def open_bytes(path: AnyPath) -> Iterator[io.BufferedReader]:
    """Opens a file, or standard input as `-`, to read the bytes of its text: unpacked, in UTF-8,
    with newlines. `corpus.zip/a.en` is a file within an archive.

    Raises:
      UserError: there is no such file, it cannot be read, it is damaged or no text.
    """
    with open_unpacked(path) as file:
        if kind := binary_kind(file.peek(_HEAD)):
            raise refusal(path, kind)
        yield _with_newlines(_in_utf8(file))


@contextlib.contextmanager
def open_lines(path: AnyPath, kind: Kind | None = None) -> Iterator[io.BufferedReader]:
    """The same for a text whose lines are sentences, or what its `kind` has in them.

    Raises:
      UserError: also where it is of another kind, such as HTML.
    """
    with open_bytes(path) as file:
        found = text_kind(file.peek(_HEAD))
        if found not in (None, kind):
            raise refusal(path, found)
        yield file


@contextlib.contextmanager
def open_unpacked(path: AnyPath) -> Iterator[io.BufferedReader]:
    """The same for the bytes as they are, of whatever they may be.

    Raises:
      UserError: there is no such file, it cannot be read or is damaged.
    """
    name = _name(path)
    try:
        if archive := archive_of(path):
            yield unpacked(open_member(archive, path), name)
            return
        is_stdin = os.fspath(path) == "-"
        with contextlib.nullcontext(sys.stdin.buffer) if is_stdin else open(path, "rb") as file:
            yield unpacked(file, name)
    except OSError as error:
        if error.errno is None or isinstance(error, BrokenPipeError):  # not of a file that is read
            raise
        raise UserError(f"cannot read {name}: {error.strerror}") from None


def is_as_written(file: io.BufferedReader) -> bool:
    """Whether a text stands on the disk as it is read: not packed, in UTF-8, with newlines."""
    return isinstance(file.raw, io.FileIO)


def refusal(path: AnyPath, kind: Kind) -> UserError:
    """What is said of a file that is something else."""
    return UserError(f"{_name(path)} is {kind.name}; {kind.remedy.replace('FILE', _name(path))}")


def _in_utf8(file: io.BufferedReader) -> io.BufferedReader:
    head = file.peek(4)
    encoding = next((name for mark, name in _MARKS if head.startswith(mark)), None)
    return in_utf8(file, encoding) if encoding else file


def in_utf8(file: io.BufferedReader, encoding: str) -> io.BufferedReader:
    """A file in another encoding, read as UTF-8; what is no text in it is none in UTF-8 either.

    Raises:
      LookupError: there is no such encoding.
    """
    decoder = codecs.getincrementaldecoder(encoding)(_INVALID)
    return _converted(file, lambda data, end: decoder.decode(data, end).encode(errors=_SURROGATES))


_HEAD = 1 << 13  # bytes that tell what a file is
_SURROGATES = "surrogatepass"
_INVALID = "lightxling.invalid"
# a lone surrogate, which no valid UTF-8 holds
codecs.register_error(_INVALID, lambda error: ("\udcff", error.end))


def _with_newlines(file: io.BufferedReader) -> io.BufferedReader:
    """The same, or with newlines for carriage returns where no newline stands in the first MiB."""
    if b"\n" in file.peek(1):
        return file
    pieces, size = [], 0
    while size < LINE_LIMIT and (data := file.read1(LINE_LIMIT)):
        pieces.append(data)
        size += len(data)
        if b"\n" in data:
            break
    head = b"".join(pieces)
    if b"\r" in head[:-1] and b"\n" not in head:
        ends = io.IncrementalNewlineDecoder(codecs.getincrementaldecoder("latin-1")(), True)
        return _converted(file, lambda data, end: ends.decode(data, end).encode("latin-1"), head)
    if file.seekable():
        file.seek(-size, os.SEEK_CUR)
        return file
    return _converted(file, lambda data, end: data, head)


def _converted(
    file: io.BufferedReader, convert: Callable[[bytes, bool], bytes], head: bytes = b""
) -> io.BufferedReader:
    return io.BufferedReader(_Converted(file, convert, head), 1 << 18)


class _Converted(io.RawIOBase):
    """What `convert(data, is_end)` makes of a file, of which `head` has been read."""

    def __init__(self, file: io.BufferedReader, convert: Callable, head: bytes):
        self._file, self._convert = file, convert
        self._ready, self._ended = memoryview(convert(head, False) if head else b""), False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._ready and not self._ended:
            data = self._file.read1(1 << 18)
            self._ended = not data
            self._ready = memoryview(self._convert(data, self._ended))
        n = min(len(self._ready), len(buffer))
        buffer[:n] = self._ready[:n]
        self._ready = self._ready[n:]
        return n


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
        number += 1
        if reason == _TOO_LONG:
            _pass_over(file, f"{name}:{number}")
        if number == 1 and raw.startswith(BOM_UTF8):
            text = text.removeprefix("\ufeff")
            if raw == BOM_UTF8:
                return
        if reason:
            problems.add(reason, f"{name}:{number}")
        yield text, not reason


def _pass_over(file: io.BufferedReader, place: str) -> None:
    """Reads the rest of a line.

    Raises:
      UserError: it does not end.
    """
    for _ in range(_LONGEST // LINE_LIMIT):
        rest = file.readline(LINE_LIMIT)
        if not rest or rest[-1:] == b"\n":
            return
    raise UserError(f"{place}: a line of more than {_LONGEST:,} bytes; this is not text")


def sound_lines(
    path: AnyPath, problems: Problems, kind: Kind | None = None
) -> Iterator[str | None]:
    """The lines of a text; None for one that is not text, which is counted in `problems`.

    Args:
      kind: what the text may be, where its lines are not sentences.
    """
    with open_lines(path, kind) as file:
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
        with open_lines(path) as file:
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
