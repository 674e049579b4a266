"""TMX, the exchange format of translation memories, read unit by unit."""

import xml.sax
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import defusedxml
import defusedxml.sax

from lightxling.base.errors import UserError
from lightxling.base.languages import is_variety, language_tag
from lightxling.base.lines import Problems, open_bytes

_SEGMENT_LIMIT = 1 << 16  # characters of a segment that are kept; cleaning drops it later
_TOKEN_LIMIT = 1 << 20  # bytes of XML without a single element or text
_DEPTH_LIMIT = 100  # elements


class _TmxHandler(xml.sax.handler.ContentHandler):
    """Collects finished units in `rows`; keeps no more than one unit in memory."""

    # Elements inside a segment that hold codes of the original format, not words.
    _CODES = frozenset(["bpt", "ept", "it", "ph", "ut"])

    def __init__(self, parser: Any, languages: Sequence[str], path: Path, problems: Problems):
        super().__init__()
        self.rows = []
        self.events = 0
        self._parser = parser
        self._codes = [language_tag(code) for code in languages]
        self._path, self._problems = path, problems
        self._sides = [None] * len(languages)
        self._side = None  # of the <tuv> being read
        self._text = None  # pieces of the <seg> being read
        self._length = 0
        self._depth = self._hidden = 0  # of elements, and of those inside codes

    def startElement(self, name, attrs):
        self.events += 1
        self._depth += 1
        if self._depth > _DEPTH_LIMIT:
            raise UserError(f"{self._path} is not TMX: it nests more than {_DEPTH_LIMIT} elements")
        if name == "tu":
            self._sides = [None] * len(self._codes)
        elif name == "tuv":
            self._text = None
            tag = language_tag(attrs.get("xml:lang") or attrs.get("lang") or "")
            free = (i for i, side in enumerate(self._sides) if side is None)
            self._side = next((i for i in free if is_variety(tag, self._codes[i])), None)
        elif name == "seg" and self._side is not None:
            self._text, self._length, self._hidden = [], 0, 0
        elif self._text is not None and (self._hidden or name in self._CODES):
            self._hidden += 1

    def characters(self, content):
        self.events += 1
        if self._text is not None and not self._hidden and self._length < _SEGMENT_LIMIT:
            self._text.append(content)
            self._length += len(content)

    def endElement(self, name):
        self._depth -= 1
        if name == "seg" and self._text is not None:
            self._sides[self._side] = "".join(self._text)
            self._text = self._side = None
        elif name == "tu":
            if None in self._sides:
                place = f"{self._path}:{self._parser.getLineNumber()}"
                self._problems.add("unit without all languages", place)
            else:
                self.rows.append(tuple(self._sides))
        elif self._text is not None and self._hidden:
            self._hidden -= 1


def read_tmx(path: Path, languages: Sequence[str], problems: Problems) -> Iterator[tuple[str, ...]]:
    """The translation units of a TMX file that have a segment in all `languages`.

    Of several segments in one language the first counts. Codes of the original format inside a
    segment (<bpt>, <ept>, <it>, <ph>, <ut>) are left out, the text inside <hi> stays. A file that
    defines entities, from within or from other files, is refused.
    """
    parser = defusedxml.sax.make_parser()
    parser.forbid_external = False  # <!DOCTYPE tmx SYSTEM "tmx14.dtd"> is usual; nothing is fetched
    handler = _TmxHandler(parser, languages, path, problems)
    parser.setContentHandler(handler)
    quiet, events = 0, 0
    try:
        with open_bytes(path) as file:
            while chunk := file.read(1 << 16):
                parser.feed(chunk)
                yield from handler.rows
                handler.rows.clear()
                # expat holds an unfinished tag or comment in memory, without a call to the handler
                quiet = quiet + len(chunk) if handler.events == events else 0
                events = handler.events
                if quiet > _TOKEN_LIMIT:
                    raise UserError(f"{path} is not TMX: a tag or comment longer than 1 MiB")
            parser.close()
        yield from handler.rows
    except xml.sax.SAXParseException as error:
        raise UserError(
            f"{path}:{error.getLineNumber()} is not well-formed XML: {error.getMessage()}"
        ) from None
    except defusedxml.DefusedXmlException:
        raise UserError(
            f"{path} defines entities of its own, which is refused; if you trust it, expand"
            " them first: `xmllint --noent`"
        ) from None
    except (ValueError, LookupError) as error:  # an encoding that expat does not know
        raise UserError(f"{path} cannot be read as XML: {error}") from None
