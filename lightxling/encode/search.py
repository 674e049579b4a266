"""Ask in one language, find in another: a file of sentences, its vectors beside it.

The index is a folder next to the text: float16 vectors of the lines that are not blank, number and
place of each, and the hashes of these, of the text and of the encoder it was made from. It is made
again when one of them has changed.
"""

import contextlib
import dataclasses
import hashlib
import os
import re
import shutil
import sys
from codecs import BOM_UTF8
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from lightxling.base import limits
from lightxling.base.errors import UserError
from lightxling.base.files import atomic_folder, file_sha256, read_json, recover, write_json
from lightxling.base.languages import CODE
from lightxling.base.lines import (
    LINE_LIMIT,
    Lines,
    decode_line,
    is_as_written,
    open_bytes,
    open_unpacked,
    slabs,
)
from lightxling.base.unpacking import archive_of, plain_name
from lightxling.base.vectors import map_array, nearest
from lightxling.encode.encoder import Encoder, write_npy

_LANGUAGE = re.compile(rf"({CODE})\t(.*)", re.DOTALL)
_SLAB = 1 << 13
_VECTORS, _STARTS, _LINES = "vectors.npy", "starts.npy", "lines.npy"
_ORIGIN = "origin.json"
_PLAIN = "text"
"""A copy of a text that is packed, in another encoding or with other line ends, to look up in."""


@dataclasses.dataclass(frozen=True)
class Hit:
    """A sentence that was found.

    Attributes:
      score: cosine to the query.
      line: number in the file, from 1.
      language: code, or "" if unknown.
    """

    score: float
    line: int
    language: str
    sentence: str


class Index:
    """Searchable vectors of the lines of a text file that are not blank.

    A line may begin with a language code and a tab (`fr<TAB>Où est la gare ?`); without, the
    language of all lines is the ending of the file's name (`corpus.fr`), if that is one the encoder
    knows.

    Attributes:
      rebuilt: whether opening it meant encoding the file.
    """

    def __init__(self, encoder: Encoder, text: Path, path: Path, rebuilt: bool, made_of: tuple):
        """
        Args:
          path: of the folder.
          made_of: signature and digest of the text that the folder was made from.
        """
        self.encoder, self.text, self.rebuilt = encoder, text, rebuilt
        self.vectors, self.starts, self.lines = _arrays(path)
        self._seen, self._digest = made_of
        self._plain = _plain(text, path)
        ending = os.path.splitext(plain_name(text))[1].removeprefix(".")
        self.language = ending if ending in encoder.languages else ""

    @classmethod
    def open(
        cls,
        encoder: Encoder,
        text: str | os.PathLike[str],
        *,
        index: Path | None = None,
        progress: Callable[[str], None] | None = None,
    ) -> "Index":
        """Opens the index of a text file, and makes it first where it is missing or out of date.

        Args:
          index: where the index is kept; by default beside the text, as NAME.index.
          progress: receives a line of text now and then.

        Raises:
          UserError: the text cannot be read or the index not be written.
        """
        text = Path(text)
        seen = _signature(text)  # before its content is read: what is edited then is noticed
        wanted = {"text": _digest(text), "encoder": encoder.fingerprint, "format": "3"}
        path = index or text.with_name(text.name + ".index")
        recover(path)
        is_current = False
        with contextlib.suppress(UserError, OSError, ValueError):  # missing or damaged
            origin = read_json(path / _ORIGIN)
            sums = origin.pop("arrays", None)  # which those made before do not have
            is_current = (
                origin == wanted
                and _is_sound(*_arrays(path), encoder.dimension, _plain(text, path).stat().st_size)
                and sums in (None, _sums(path))
            )
        if not is_current:
            if path.exists() and not (path / _ORIGIN).is_file():
                raise UserError(
                    f"{path} is not an index; it is not overwritten. Give another --index"
                )
            _build(encoder, text, path, wanted, progress or (lambda line: None))
        return cls(encoder, text, path, not is_current, (seen, wanted["text"]))

    def __len__(self) -> int:
        return len(self.vectors)

    def search(self, queries: str | Sequence[str], k: int = 5) -> list[list[Hit]]:
        """The k lines nearest to each query, best first.

        Raises:
          UserError: the text has changed since the index was opened, or cannot be read.
        """
        queries = [queries] if isinstance(queries, str) else list(queries)
        if not len(self) or not queries:
            return [[] for _ in queries]
        scores, rows = nearest(self.encoder.encode(queries), self.vectors, k)
        self._check_text()
        with limits.open_file(self._plain) as file:
            return [
                [self._hit(file, score, row) for score, row in zip(*pair, strict=True)]
                for pair in zip(scores.tolist(), rows.tolist(), strict=True)
            ]

    def _check_text(self) -> None:
        """Places in the text mean nothing once it was edited; a look at its times costs nothing,
        and only if they have changed it is read."""
        seen = _signature(self.text)
        if seen == self._seen:
            return
        if _digest(self.text) != self._digest:
            raise UserError(
                f"{self.text} has changed since its index was opened; start the search again, "
                "which makes the index anew"
            )
        self._seen = seen

    def _hit(self, file, score: float, row: int) -> Hit:
        file.seek(int(self.starts[row]))
        language, sentence = split_language(decode_line(file.readline(LINE_LIMIT))[0])
        return Hit(score, int(self.lines[row]), language or self.language, sentence)


def split_language(line: str) -> tuple[str, str]:
    """`fr<TAB>text` -> ("fr", "text"); a line without a code -> ("", line)."""
    match = _LANGUAGE.fullmatch(line)
    return (match[1], match[2]) if match else ("", line)


def _plain(text: Path, path: Path) -> Path:
    """The file whose places an index holds: its own copy of the text, or the text."""
    return path / _PLAIN if (path / _PLAIN).is_file() else text


def _signature(path: Path) -> tuple[int, ...]:
    """Changes whenever the content of a file may have changed."""
    try:
        with limits.open_file(archive_of(path) or path) as file:
            about = os.fstat(file.fileno())
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from None
    return about.st_dev, about.st_ino, about.st_size, about.st_mtime_ns, about.st_ctime_ns


def _digest(path: Path) -> str:
    try:
        with open_unpacked(path) as file:
            return hashlib.file_digest(file, "blake2b").hexdigest()
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from None


def _sums(path: Path) -> dict[str, str]:
    """sha256 of the arrays of an index, by name."""
    return {name: file_sha256(path / name) for name in (_VECTORS, _STARTS, _LINES)}


def _arrays(path: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Vectors [N, D], byte offsets [N] and line numbers [N] of an index, mapped into memory."""
    vectors, starts, lines = (map_array(path / name) for name in (_VECTORS, _STARTS, _LINES))
    return vectors, starts, lines


def _is_sound(
    vectors: np.ndarray, starts: np.ndarray, lines: np.ndarray, dimension: int, size: int
) -> bool:
    """Whether arrays fit each other, vectors of a width and a text of `size` bytes."""
    return (
        vectors.dtype == np.float16
        and starts.dtype == lines.dtype == np.int64
        and starts.ndim == 1
        and starts.shape == lines.shape
        and vectors.shape == (len(starts), dimension)
        and bool(((starts >= 0) & (starts < size) & (lines > 0)).all())
    )


def _build(
    encoder: Encoder, text: Path, path: Path, origin: dict[str, str], say: Callable[[str], None]
) -> None:
    """Encodes the text into an index, in constant memory."""
    with Lines.open(text) as lines, atomic_folder(path) as folder:
        starts = _line_starts(_plain_copy(text, folder))
        is_text, columns = np.zeros(len(starts), bool), 0

        def batches() -> Iterator[tuple[list[str], np.ndarray]]:
            nonlocal columns
            done = 0
            for slab in slabs(lines, _SLAB):
                sentences = [split_language(line)[1] for line in slab]
                columns += sum("\t" in text for text in sentences)
                found = encoder.encode(sentences)
                here = slice(done, done + len(slab))
                done += len(slab)
                if done > len(starts):
                    break
                is_text[here] = found.any(axis=1)  # a blank line has a vector of zeros
                yield slab, found[is_text[here]]
                say(f"indexed {done:,} of {len(starts):,} lines")
            if done != len(starts):
                raise UserError(f"{text} changed while it was read; try again")

        with open(folder / _VECTORS, "wb") as file:
            write_npy(file, batches(), encoder.dimension, "<f2")
        if columns:
            say(
                f"{columns:,} lines of {text} have several columns, searched as one sentence; "
                f"`cut -f 2 {text}` takes out one of them, and fr<TAB>sentence names its language"
            )
        np.save(folder / _STARTS, starts[is_text])
        np.save(folder / _LINES, np.flatnonzero(is_text) + 1)
        write_json(folder / _ORIGIN, {**origin, "arrays": _sums(folder)})


def _plain_copy(text: Path, folder: Path) -> Path:
    """The text as lines of UTF-8 that can be looked up by their place: itself or a copy."""
    with open_bytes(text) as source:
        if is_as_written(source):
            return text
        with open(folder / _PLAIN, "wb") as file:
            shutil.copyfileobj(source, file, 1 << 20)
    return folder / _PLAIN


def _line_starts(path: Path) -> np.ndarray:
    """Byte offset of every line; a byte order mark is not a part of the first."""
    starts, offset = [], 0
    with open(path, "rb") as file:
        has_mark = file.peek(len(BOM_UTF8)).startswith(BOM_UTF8)
        starts.append(np.full(1, len(BOM_UTF8) if has_mark else 0, np.int64))
        while block := file.read(1 << 20):
            ends = np.flatnonzero(np.frombuffer(block, np.uint8) == ord("\n"))
            starts.append(offset + ends + 1)
            offset += len(block)
    found = np.concatenate(starts)
    return found[found < offset]  # a newline at the end begins no line


def show(hits: Sequence[Hit]) -> str:
    """Hits as lines of score, language and sentence."""
    width = max((len(hit.language) for hit in hits), default=0)
    return "\n".join(f"{hit.score:6.3f}  {hit.language:<{width}}  {hit.sentence}" for hit in hits)


def answers(
    index: Index, queries: Iterator[str] | Sequence[str], k: int = 5
) -> Iterator[tuple[str, list[Hit]]]:
    """Answers queries one by one, as they come; empty ones are passed over."""
    for query in queries:
        if query.strip():
            yield query, index.search(query, k)[0]


def ask_at_terminal(question: str) -> str:
    """A line from the keyboard; the question is on standard error, as it is no answer."""
    print(question, end="", file=sys.stderr, flush=True)
    return input()


def prompt(ask: Callable[[str], str] = ask_at_terminal) -> Iterator[str]:
    """Yields what the person types, until an empty line or the end of the input.

    Example: lightxling search runs/en-fr sentences.txt
    """
    question = "ask in any language; an empty line ends\n? "
    while True:
        try:
            query = ask(question)
            question = "? "
        except (EOFError, KeyboardInterrupt):
            return
        if not query.strip():
            return
        yield query
