"""What a terminal shows: tables, lists of options, and bars, in plain characters.

Training has those of rich; this is what the plain install shows, for which rich, with the packages
that it needs, would be a ninth of its size.
"""

import io
import shutil
import sys
import textwrap
import time
import unicodedata
from collections.abc import Collection, Iterable, Sequence

_BAR = 20  # characters
_PAUSE = 0.1  # seconds between two drawings


def table(
    heads: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    title: str = "",
    left: Collection[int] = (0,),
) -> str:
    """A table as text. No cell is cut or folded: it may be wider than the screen. Heads that are
    wider than their column have several lines.

    Args:
      left: numbers of the columns that are set flush left; the others are flush right.
    """
    columns = range(len(heads))
    words = [head.split() for head in heads]
    widths = [max(map(cells, [*words[i], *(row[i] for row in rows)]), default=0) for i in columns]
    folded = [textwrap.wrap(head, max(1, widths[i])) for i, head in enumerate(heads)]
    deepest = max(map(len, folded), default=0)
    stacked = [[""] * (deepest - len(lines)) + lines for lines in folded]

    def line(row: Sequence[str]) -> str:
        padded = [
            row[i] + _blank(widths[i], row[i]) if i in left else _blank(widths[i], row[i]) + row[i]
            for i in columns
        ]
        return "  ".join(padded).rstrip()

    lines = [title] if title else []
    lines += [line(row) for row in zip(*stacked, strict=True)]
    lines.append("─" * (sum(widths) + 2 * (len(widths) - 1)))
    return "\n".join([*lines, *map(line, rows)])


def cells(text: str) -> int:
    """How wide a text is on a screen, where a Chinese character is as wide as two Latin ones."""
    if text.isascii():
        return len(text)
    wide = sum(unicodedata.east_asian_width(character) in "WF" for character in text)
    marks = sum(unicodedata.category(character) in ("Mn", "Me", "Cf") for character in text)
    return len(text) + wide - marks


def _blank(width: int, text: str) -> str:
    return " " * (width - cells(text))


def screen_width() -> int:
    """Columns of the terminal, or 80."""
    return shutil.get_terminal_size().columns


def fold(text: str) -> str:
    """A paragraph in lines that fit the screen."""
    return textwrap.fill(text, max(screen_width(), 20), break_on_hyphens=False)


def definitions(pairs: Iterable[tuple[str, str]]) -> str:
    """Options and what they mean, in two columns that fit the screen."""
    pairs, screen = list(pairs), max(screen_width(), 20)
    longest = max((len(name) for name, _ in pairs), default=0)
    first = min(longest, screen * 3 // 5)
    lines = []
    for name, text in pairs:
        names = textwrap.wrap(name, first, break_on_hyphens=False) or [""]
        texts = textwrap.wrap(text, screen - first - 2, break_on_hyphens=False) or [""]
        for i in range(max(len(names), len(texts))):
            left, right = (part[i] if i < len(part) else "" for part in (names, texts))
            lines.append(f"{left:{first}}  {right}".rstrip())
    return "\n".join(lines)


class Bar:
    """A line of standard error that shows how far something is, and goes away at the end.

        with Bar("encoding", total=900) as bar:
            bar.advance(100)

    It is shown on a terminal only. With a total of 0 nothing is shown or said at all.
    """

    def __init__(self, label: str, total: int, file: io.TextIOBase | None = None):
        self.label, self.total, self.done = label, total, 0
        self._file = file or sys.stderr
        self._is_shown = total > 0 and self._file.isatty()
        self._start, self._next, self._width = time.monotonic(), 0.0, 0

    def __enter__(self) -> "Bar":
        self.advance(0)
        return self

    def __exit__(self, *_: object) -> None:
        self._draw("")

    def advance(self, count: int) -> None:
        self.done += count
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + _PAUSE
            self._draw(self.line(time.monotonic() - self._start))

    def say(self, text: str) -> None:
        """Prints a line of text above the bar."""
        if not self.total:
            return
        self._draw("")
        print(text, file=self._file)
        self._next = 0.0

    def line(self, seconds: float) -> str:
        """The bar, so many seconds after its start, with those that are left."""
        full = _BAR * self.done // max(self.total, 1)
        text = f"{self.label} [{'#' * full:.<{_BAR}}] {self.done:,}/{self.total:,}"
        if not self.done:
            return text
        left = round(seconds * (self.total - self.done) / self.done)
        return f"{text} {left // 60}:{left % 60:02}"

    def _draw(self, text: str) -> None:
        if not self._is_shown:
            return
        text = text[: screen_width() - 1]  # a line that is folded could not be taken back
        blank = " " * (self._width - cells(text))
        self._file.write(f"\r{text}{blank}" + ("" if text else "\r"))
        self._file.flush()
        self._width = cells(text)
