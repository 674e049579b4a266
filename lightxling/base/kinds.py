"""What a file is, told by its first bytes: whatever its name, a PDF is not read as sentences."""

import dataclasses
import json
import re

_BEGINNING = 1 << 13
"""Bytes that are looked at."""


@dataclasses.dataclass(frozen=True)
class Kind:
    """A kind of file that is not sentences line by line.

    Attributes:
      name: as in `FILE is ...`.
      remedy: what to do to read it.
      first: pattern of its first bytes, after white space and a byte order mark where it is text.
    """

    name: str
    remedy: str
    first: re.Pattern[bytes]


def _kind(name: str, first: bytes, remedy: str) -> Kind:
    return Kind(name, remedy, re.compile(first, re.DOTALL))


# atomic: what a stranger wrote must not make it look twice
_XML = rb"(?>(?><\?.*?\?>)|(?><!--.*?-->)|(?><!DOCTYPE\s+\w+[^<>\[]*+(?>\[.*?\]\s*)?>)|\s)*+"
_SOURCE = "name it as a source of pairs, such as --corpus.sources en-fr=FILE"
_AS_TEXT = "save it as plain text first"
_UNPACK = "unpack it first: "

TMX = _kind("TMX, a translation memory", _XML + rb"<tmx[\s>]", _SOURCE)
XLIFF = _kind("XLIFF, a file of translations", _XML + rb"<xliff[\s>]", _SOURCE)
PO = _kind(
    "PO, a file of translations", rb"(?:[ \t\r]*(?:#[^\n]*)?\n)*msg(?:id|ctxt)\s+\"", _SOURCE
)
JSONL = _kind("JSON, an object in a line", rb"\{\s*\"", _SOURCE)
PARQUET = _kind("Parquet, a table", rb"PAR1", _SOURCE)

BINARY = (
    PARQUET,
    _kind("a PDF document", rb"%PDF-", _AS_TEXT + ": pdftotext FILE"),
    _kind("a Word document of the old kind", rb"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", _AS_TEXT),
    _kind("an RTF document", rb"\{\\rtf", _AS_TEXT),
    _kind(
        "a picture", rb"\x89PNG\r\n|\xff\xd8\xff|GIF8[79]a|RIFF....WEBP|BM....\0\0\0\0", "give text"
    ),
    _kind(
        "an SQLite database", rb"SQLite format 3\0", "write the sentences to a file with sqlite3"
    ),
    _kind(
        "a pickle of Python",
        rb"\x80[\x02-\x05][\x95\x7d\x5d\x63\x8c\x58\x28]",
        "write its text to a file, a line each",
    ),
    _kind("an array of numpy", rb"\x93NUMPY", "give the text that it was made from"),
    _kind("an Arrow table", rb"ARROW1|\xff\xff\xff\xff....\x10\0\0\0", "write it as Parquet"),
    _kind("an HDF5 file", rb"\x89HDF\r\n", "write its text to a file, a line each"),
    _kind("a tar archive", rb".{257}ustar", _UNPACK + "tar xf FILE"),
    _kind("a 7z archive", rb"7z\xbc\xaf\x27\x1c", _UNPACK + "7z x FILE"),
    _kind("a RAR archive", rb"Rar!\x1a\x07", _UNPACK + "unrar x FILE"),
    _kind("an LZ4 file", rb"\x04\x22\x4d\x18", _UNPACK + "unlz4 FILE"),
    _kind("a file of compress", rb"\x1f\x9d", _UNPACK + "uncompress FILE"),
    _kind("a program", rb"\x7fELF", "give text"),
)
"""What is not text."""

STRUCTURED = (
    TMX,
    XLIFF,
    PO,
    JSONL,
    _kind("a list in JSON", rb"\[\s*[\{\[]", "write an object a line: jq -c '.[]' FILE"),
    _kind(
        "XCES, an alignment without its text",
        _XML + rb"<cesAlign[\s>]",
        "download the same corpus as Moses or TMX",
    ),
    _kind(
        "an HTML page",
        rb"(?:<\?xml[^>]*>\s*)?<(?i:!doctype\s+)?(?i:html)[\s>]",
        "check the download, or " + _AS_TEXT,
    ),
    _kind("XML", rb"<\?xml\s", "read here are TMX and XLIFF; " + _AS_TEXT),
    _kind(
        "a pointer of git-lfs, without the file",
        rb"version https://git-lfs\.github\.com/spec/",
        "fetch the file: git lfs pull",
    ),
)
"""What is text, but not a sentence a line."""


def binary_kind(head: bytes) -> Kind | None:
    """What a file is that begins with `head` and is not text."""
    return next((kind for kind in BINARY if kind.first.match(head)), None)


def text_kind(head: bytes) -> Kind | None:
    """What a text is that begins with `head` and does not hold a sentence a line."""
    head = head[:_BEGINNING].removeprefix(b"\xef\xbb\xbf").lstrip()
    for kind in STRUCTURED:
        if kind is JSONL and not _is_object(head):
            continue
        if kind.first.match(head):
            return kind
    return None


def _is_object(head: bytes) -> bool:
    """Whether the first line is an object of JSON, as far as it is there."""
    line, end, _ = head.partition(b"\n")
    if not end and len(line) >= _BEGINNING - 4:
        return line.startswith(b'{"')
    try:
        return isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False
