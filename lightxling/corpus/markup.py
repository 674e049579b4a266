"""XML from strangers, read unit by unit: what is damaged costs its unit, not the file.

expat stops at the first thing that is not XML. Here a new parser then goes on at the next unit, so
that an illegal character, a bare & or a byte of another encoding is one line in `Problems`.
"""

import html.entities
import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.parsers import expat

from lightxling.base.errors import UserError
from lightxling.base.lines import Problems, in_utf8, open_bytes

SEGMENT_LIMIT = 1 << 16  # characters of a segment that are kept; cleaning drops it later
_TOKEN_LIMIT = 1 << 20  # bytes of XML without a single element or text
_DEPTH_LIMIT = 100  # elements
_CHUNK = 1 << 16  # bytes
_DECLARED = re.compile(rb"""\s*<\?xml[^>]*?encoding\s*=\s*["']([\w.:-]+)["']""")
_CUT_OFF = (3, 5, 6)  # expat's numbers of: no element, unclosed token, partial character

# Elements inside a segment that hold codes of the original format, not words; and those that stand
# alone, perhaps in the place of a space.
_HIDDEN = frozenset(["bpt", "ept", "it", "ph", "ut"])
_ALONE = frozenset(["it", "ph", "ut", "x", "bx", "ex", "sc", "ec", "cp"])
_GAP = "\0"  # which XML cannot hold
# A letter that a space may follow: those of scripts without spaces between words are not.
_LETTER = r"[^\W_\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]"
_BETWEEN = re.compile(rf"(?<={_LETTER})\0+(?={_LETTER})")


class Segment:
    """The words of a segment, element by element; keeps no more than `SEGMENT_LIMIT` of them.

    Codes of the original format are left out, the text inside other elements stays. Where a code
    that stands alone is all that is between two letters, a space takes its place.
    """

    def __init__(self):
        self._pieces: list[str] = []
        self._length = self._hidden = 0

    def start(self, name: str) -> None:
        if not self._hidden and name in _ALONE:
            self._pieces.append(_GAP)
        if self._hidden or name in _HIDDEN:
            self._hidden += 1

    def add(self, text: str) -> None:
        if not self._hidden and self._length < SEGMENT_LIMIT:
            self._pieces.append(text)
            self._length += len(text)

    def end(self) -> None:
        self._hidden -= self._hidden > 0

    def __str__(self) -> str:
        text = "".join(self._pieces)
        return _BETWEEN.sub(" ", text).replace(_GAP, "") if _GAP in text else text


class Format:
    """What a format makes of the events of a parser: a subclass for each.

    Attributes:
      units: names of the elements that are units, where reading goes on after damage.
      around: those that are usually around them.
      name: as errors call it.
      segment: the one that is being read.
      pairs: rows of the unit that is being read, and `faults` the reasons why it has none.
      rows: of the units that have ended.
    """

    units: tuple[str, ...] = ()
    around: tuple[str, ...] = ()
    name = "XML"

    def __init__(self):
        self.segment: Segment | None = None
        self.pairs: list[tuple[str, ...]] = []
        self.faults: list[str] = []
        self.rows: list[tuple[str, ...]] = []

    def start(self, name: str, attributes: dict[str, str]) -> None:
        raise NotImplementedError

    def end(self, name: str) -> None:
        raise NotImplementedError


class _Parser:
    """Feeds a format from expat, with a new parser after each fault."""

    def __init__(self, path: Path, form: Format, problems: Problems):
        self._path, self._form, self._problems = path, form, problems
        self.events = 0
        self.has_units = self.was_damaged = False
        self.line = 1  # where the parser started
        self.first_fault = ""
        self._around = list(form.around)  # names of the elements around the last unit
        self._open: list[str] = []
        self._undefined = False
        self._first = re.compile(rb"<(?:" + "|".join(form.units).encode() + rb")[\s>]")
        self.is_skipping, self._previous, self._fed = False, b"", 0
        self._expat = self._new_expat()
        self._listen()

    def _new_expat(self) -> Any:
        parser = expat.ParserCreate("utf-8")
        parser.buffer_text = True
        parser.UseForeignDTD(True)  # an entity without a definition is then told, and no error
        parser.SetParamEntityParsing(expat.XML_PARAM_ENTITY_PARSING_UNLESS_STANDALONE)
        parser.ExternalEntityRefHandler = self._no_external
        parser.EntityDeclHandler = self._refuse_entities
        parser.SkippedEntityHandler = self._entity
        return parser

    def _listen(self) -> None:
        self._expat.StartElementHandler = self._start
        self._expat.EndElementHandler = self._end
        self._expat.CharacterDataHandler = self._characters

    def _no_external(self, context: str | None, *names: Any) -> int:
        self._expat.ExternalEntityParserCreate(context).Parse(b"", True)  # nothing is fetched
        return 1

    def _refuse_entities(self, *declaration: Any) -> None:
        raise UserError(
            f"{self._path} defines entities of its own, which is refused; if you trust it, expand"
            " them first: `xmllint --noent`"
        )

    def _entity(self, name: str, is_parameter: int) -> None:
        text = html.entities.html5.get(f"{name};")
        if text is not None:
            self._characters(text)
        elif self._form.segment is not None:
            self._undefined = True

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        self.events += 1
        if len(self._open) >= _DEPTH_LIMIT:
            raise UserError(
                f"{self._path} is not {self._form.name}: it nests more than {_DEPTH_LIMIT} elements"
            )
        if name in self._form.units:
            self._around = list(self._open)
            self.has_units, self._undefined = True, False
        self._open.append(name)
        if self._form.segment is not None:
            self._form.segment.start(name)
        self._form.start(name, attributes)

    def _characters(self, text: str) -> None:
        self.events += 1
        if self._form.segment is not None:
            self._form.segment.add(text)

    def _end(self, name: str) -> None:
        self._open.pop()
        form = self._form
        if form.segment is not None:
            form.segment.end()
        form.end(name)
        if name in form.units:
            if self._undefined:
                form.pairs.clear()
                form.faults.append("entity that is not defined")
            form.rows += form.pairs
            form.pairs.clear()
            if form.faults:
                place = f"{self._path}:{self.line + self._expat.CurrentLineNumber - 1}"
                for fault in form.faults:
                    self._problems.add(fault, place)
                form.faults.clear()

    def feed(self, chunk: bytes) -> None:
        """Parses what comes next of the file; b"" at its end."""
        is_end = not chunk
        while True:
            if self.is_skipping:
                chunk = self._resumed(self._previous + chunk)
                if self.is_skipping:
                    return
            try:
                self._expat.Parse(chunk, is_end)
                self._previous = chunk
                self._fed += len(chunk)
                return
            except expat.ExpatError as error:
                self._fault(error, is_end)
                fault = len(self._previous) + self._expat.ErrorByteIndex - self._fed
                window = self._previous + chunk
                self.is_skipping = True
                self._previous, chunk = window[max(0, min(fault, len(window))) :], b""

    def _fault(self, error: expat.ExpatError, is_end: bool) -> None:
        self.line += error.lineno - 1
        what = expat.ErrorString(error.code)
        if is_end and error.code in _CUT_OFF and not self.was_damaged:
            raise UserError(
                f"{self._path}:{self.line} is not well-formed XML: the file ends too early"
                f" ({what}); fetch it again"
            )
        if not self.was_damaged:
            self.first_fault = f"{self._path}:{self.line} is not well-formed XML: {what}"
        self.was_damaged = True
        self._problems.add(f"damaged unit: {what}", f"{self._path}:{self.line}")

    def _resumed(self, data: bytes) -> bytes:
        """Skips to the next unit; what is left of the data from there."""
        found = self._first.search(data, 1)
        end = found.start() if found else max(len(data) - 32, 0)  # a tag may be cut in two
        self.line += data.count(b"\n", 0, end)
        self._previous = data[end:]
        if not found:
            return b""
        self.is_skipping, self._previous = False, b""
        self._form.segment = None
        self._form.pairs.clear()
        self._form.faults.clear()
        self._open = list(self._around)
        self._expat = self._new_expat()
        opening = "".join(f"<{name}>" for name in self._open).encode()
        self._expat.Parse(opening, False)
        self._listen()
        self._fed = len(opening)
        return data[end:]


def read_units(path: Path, form: Format, problems: Problems) -> Iterator[tuple[str, ...]]:
    """The rows that a format makes of the units of an XML file, in constant memory.

    A file that defines entities, from within or from other files, is refused; those of HTML are
    known without a definition.

    Raises:
      UserError: it is no XML from the start, or ends too early.
    """
    parser = _Parser(path, form, problems)
    quiet, events = 0, 0
    with open_bytes(path) as file:
        file = _declared(file, path)
        while True:
            chunk = file.read(_CHUNK)
            parser.feed(chunk)
            yield from form.rows
            form.rows.clear()
            if not chunk:
                break
            # expat holds an unfinished tag or comment in memory, without a call to the handler
            quiet = quiet + len(chunk) if parser.events == events else 0
            events = parser.events
            if quiet > _TOKEN_LIMIT and not parser.is_skipping:
                raise UserError(f"{path} is not {form.name}: a tag or comment longer than 1 MiB")
    if parser.was_damaged and not parser.has_units:
        raise UserError(parser.first_fault)


def _declared(file: io.BufferedReader, path: Path) -> io.BufferedReader:
    """The file in UTF-8, whatever encoding its first line declares."""
    declaration = _DECLARED.match(file.peek(_CHUNK))
    if declaration is None:
        return file
    encoding = declaration[1].decode().lower()
    if encoding.replace("_", "-") in ("utf-8", "utf8", "us-ascii") or encoding.startswith("utf-16"):
        return file  # of UTF-16, the byte order mark has been seen to
    try:
        return in_utf8(file, encoding)
    except LookupError:
        raise UserError(f"{path} cannot be read as XML: unknown encoding {encoding}") from None
