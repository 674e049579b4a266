"""Packed files: which they are is told by their first bytes, whatever the name.

All are unpacked as they are read, in constant memory. Where one is damaged is said as the line
after which it is.
"""

import bz2
import dataclasses
import gzip
import io
import lzma
import os
import re
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lightxling.base.errors import UserError

PACKED = (".gz", ".xz", ".bz2", ".zst", ".zip")
"""Endings of the names of packed files, in lower case."""

_LAYERS = 3  # archives within archives that are opened
_BLOCK = 1 << 18  # bytes
_BESIDE_TEXT = re.compile(
    r"(?i)(.*/)?(\.[^/]*|(README|LICEN[CS]E|COPYING|INFO)\b[^/]*)|__MACOSX/.*"
)
_OFFICE = {"word/document.xml": "a Word document", "xl/workbook.xml": "an Excel workbook"}


@dataclasses.dataclass(frozen=True)
class Packing:
    """A way to pack one file.

    Attributes:
      first: pattern of its first bytes.
      open: from the file and its name to a file of what is in it.
    """

    name: str
    ending: str
    first: re.Pattern[bytes]
    open: Callable[[io.BufferedReader, str], Any]


def _zstd(file: io.BufferedReader, name: str) -> Any:
    try:
        from compression import zstd  # Python 3.14
    except ImportError:
        try:
            from backports import zstd
        except ImportError:
            raise UserError(
                f"{name} is packed with Zstandard, which needs an extra: pip install"
                f" 'lightxling[formats]', or unpack it first: unzstd {name}"
            ) from None
    return zstd.ZstdFile(file)


def _only_member(file: io.BufferedReader, name: str) -> Any:
    archive = _archive(file, name)
    members = _text_members(archive, name)
    if len(members) != 1:
        listed = ", ".join(members[:8]) + (", ..." if len(members) > 8 else "")
        raise UserError(
            f"{name} holds {len(members)} files, not one: {listed or 'none'}; name the one to read,"
            f" such as {name}/{members[0] if members else 'FILE'}"
        )
    return _member(archive, members[0], name)


PACKINGS = (
    Packing("gzip", ".gz", re.compile(rb"\x1f\x8b"), lambda file, _: gzip.GzipFile(fileobj=file)),
    Packing("xz", ".xz", re.compile(rb"\xfd7zXZ\0"), lambda file, _: lzma.LZMAFile(file)),  # noqa: SIM115
    Packing(
        "bzip2",
        ".bz2",
        re.compile(rb"BZh[1-9](1AY&SY|\x17\x72\x45\x38\x50\x90)"),
        lambda file, _: bz2.BZ2File(file),
    ),
    Packing("Zstandard", ".zst", re.compile(rb"[\x50-\x5f]\x2a\x4d\x18|\x28\xb5\x2f\xfd"), _zstd),
    Packing("zip", ".zip", re.compile(rb"PK(\x03\x04|\x05\x06)"), _only_member),
)
"""What is unpacked."""


def plain_name(path: str | os.PathLike[str]) -> str:
    """A path without the ending of packed files."""
    stem, ending = os.path.splitext(path)
    return stem if ending.lower() in PACKED else os.fspath(path)


def unpacked(file: io.BufferedReader, name: str) -> io.BufferedReader:
    """What a file holds, be it packed or not.

    Raises:
      UserError: it is damaged, or packed in a way that cannot be read here.
    """
    for _ in range(_LAYERS):
        head = file.peek(16)[:16]
        packing = next((one for one in PACKINGS if one.first.match(head)), None)
        if packing is None:
            return file
        source = _told(lambda p=packing, f=file: p.open(f, name), name, packing.name)
        file = io.BufferedReader(_Unpacked(source, name, packing.name), _BLOCK)
    raise UserError(f"{name} is packed more than {_LAYERS - 1} times over; unpack it first")


def archive_of(path: str | os.PathLike[str]) -> Path | None:
    """The archive that a path leads into, as `corpus.zip` of `corpus.zip/a.en`."""
    if not os.path.exists(path):
        for parent in Path(path).parents:
            if parent.is_file():
                return parent if zipfile.is_zipfile(parent) else None
    return None


def open_member(archive: Path, path: str | os.PathLike[str]) -> io.BufferedReader:
    """Opens a file within an archive, by the path that leads through it."""
    member = Path(path).relative_to(archive).as_posix()
    zipped = _told(lambda: zipfile.ZipFile(archive), str(archive), "zip")
    source = _told(lambda: _member(zipped, member, str(archive)), os.fspath(path), "zip")
    return io.BufferedReader(_Unpacked(source, os.fspath(path), "zip"), _BLOCK)


def members(path: Path) -> list[str]:
    """The names of the files in a zip archive, without what only describes them; none where it is
    no archive."""
    with open(path, "rb") as file:
        if not PACKINGS[-1].first.match(file.peek(4)[:4]):
            return []
        return _text_members(_archive(file, str(path)), str(path))


def _archive(file: io.BufferedReader, name: str) -> zipfile.ZipFile:
    if not file.seekable():
        raise UserError(
            f"{name} is a zip archive, which cannot be read from a pipe; unpack it first"
        )
    return _told(lambda: zipfile.ZipFile(file), name, "zip")


def _text_members(archive: zipfile.ZipFile, name: str) -> list[str]:
    found = [member.filename for member in archive.infolist() if not member.is_dir()]
    for sign, what in {**_OFFICE, "content.xml": "an OpenDocument file"}.items():
        if sign in found:
            raise UserError(f"{name} is {what}, not text; save it as plain text first")
    if found and all(member.endswith(".npy") for member in found):
        raise UserError(f"{name} holds arrays of numpy, not text")
    return [member for member in found if not _BESIDE_TEXT.fullmatch(member)]


def _member(archive: zipfile.ZipFile, member: str, name: str) -> Any:
    try:
        return archive.open(member)
    except KeyError:
        listed = ", ".join(archive.namelist()[:8])
        raise UserError(f"{name} holds no {member}; it holds {listed}") from None
    except (RuntimeError, NotImplementedError) as error:  # a password, or a rare compression
        raise UserError(f"{name} cannot be unpacked here ({error}); unpack it first") from None


class _Unpacked(io.RawIOBase):
    """What a decompressor gives; damage is said with its place."""

    def __init__(self, source: Any, name: str, packing: str):
        self._source, self._name, self._packing = source, name, packing
        self._lines = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = _told(
            lambda: self._source.read1(len(buffer)), self._name, self._packing, self._lines
        )
        self._lines += data.count(b"\n")
        buffer[: len(data)] = data
        return len(data)


def _told(read: Callable[[], Any], name: str, packing: str, line: int | None = None) -> Any:
    try:
        return read()
    except UserError:
        raise
    except Exception as error:
        is_of_disk = isinstance(error, OSError) and error.errno is not None
        is_damage = (
            isinstance(
                error,
                EOFError | OSError | ValueError | zlib.error | lzma.LZMAError | zipfile.BadZipFile,
            )
            or type(error).__name__ == "ZstdError"
        )  # of whichever library is there
        if is_of_disk or not is_damage:
            raise
        where = "" if line is None else f" after line {line:,}"
        raise UserError(
            f"{name} is a damaged {packing} file{where} ({error}); fetch it again"
        ) from None
