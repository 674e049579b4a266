"""Normalises sentences and drops the rows that would teach nothing; counts them by reason."""

import collections
import hashlib
import html
import re
import unicodedata
from collections.abc import Sequence

import numpy as np

from lightxling.config.schema import CorpusConfig

# Controls, bidirectional marks, zero-width spaces, surrogates and private use. The joiners U+200C
# and U+200D stay: they are spelling in Persian and in the scripts of India. Tabs and newlines
# become spaces later.
INVISIBLE = re.compile(
    "[\0-\x08\x0e-\x1b\x7f-\x84\x86-\x9f\xad\u061c\u180e\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f"
    "\ufeff\ufff9-\ufffb\ud800-\udfff\ue000-\uf8ff\U000e0000-\U000e007f\U000f0000-\U0010ffff]"
)
# Scripts of which a character says more than a Latin one, and how many Latin ones it stands for:
# English characters per character of translations (tools/measure_lengths.py). All other scripts
# are below 1.5.
_DENSE = {
    "\u2e80-\u2fdf\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff": 3.2,  # Han
    "\u3041-\u30ff\u31f0-\u31ff": 1.7,  # kana
    "\uac00-\ud7a3": 2.0,  # Hangul
}
_DENSEST = max(_DENSE.values())
_ANY_DENSE = re.compile(f"[{''.join(_DENSE)}]")
_OF_SCRIPT = [(re.compile(f"[{block}]+"), weight - 1) for block, weight in _DENSE.items()]
_SHORT = 20  # characters; shorter sides count as this long in the length ratio


def clean(text: str, *, unescape: bool = True) -> str:
    """`text` in NFKC on one line, without invisible characters and repeated spaces."""
    if unescape and "&" in text:
        text = html.unescape(html.unescape(text))  # &amp;quot; is what careless pipelines leave
    if not text.isprintable():
        text = INVISIBLE.sub("", text)
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text)
    return " ".join(text.split())


def latin_length(text: str) -> float:
    """Characters of `text`, where one of a dense script counts as the Latin ones it stands for."""
    length = len(text)
    if text.isascii() or not _ANY_DENSE.search(text):
        return float(length)
    return length + sum(more * sum(map(len, block.findall(text))) for block, more in _OF_SCRIPT)


class _Content(dict):
    """Deletes all but letters, marks and digits in `str.translate`; filled as characters come."""

    # Marks too: without its vowel signs a Hindi word is another word.
    def __missing__(self, code: int) -> int | None:
        self[code] = code if unicodedata.category(chr(code))[0] in "LMN" else None
        return self[code]


_CONTENT = _Content()


def content(text: str) -> str:
    """The letters (with their marks) and digits of `text`, lower-cased."""
    return text.lower().translate(_CONTENT)


def _digest(text: str) -> bytes:
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()


def content_hash(text: str) -> int:
    """64 bits of `content(text)`: the same on every machine and in every run."""
    return int.from_bytes(_digest(content(text)), "little")


class HashSet:
    """A growing set of 64-bit hashes in one array: 16 to 32 bytes each, filled by whole batches."""

    def __init__(self):
        self._table = np.zeros(1 << 16, np.uint64)  # open addressing; 0 marks a free slot
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def add(self, hashes: np.ndarray) -> np.ndarray:
        """Adds uint64 [N]; returns bool [N], True where a hash is seen for the first time."""
        fresh = np.zeros(len(hashes), bool)
        values, first = np.unique(np.maximum(hashes, np.uint64(1)), return_index=True)
        while 2 * (self._size + len(values)) > len(self._table):
            members = self._table[self._table > 0]
            self._table = np.zeros(2 * len(self._table), np.uint64)
            self._insert(members)
        added = self._insert(values)
        self._size += int(added.sum())
        fresh[first[added]] = True
        return fresh

    def _insert(self, values: np.ndarray) -> np.ndarray:
        """Inserts distinct `values`; returns which of them were new."""
        mask = np.uint64(len(self._table) - 1)
        slot, rest = values & mask, np.arange(len(values))
        added = np.zeros(len(values), bool)
        while len(rest):
            free = self._table[slot] == 0
            self._table[slot[free]] = values[rest[free]]  # of several rivals for a slot one wins
            settled = self._table[slot] == values[rest]
            added[rest[free]] = True  # what was there would have been met before a free slot
            rest, slot = rest[~settled], (slot[~settled] + np.uint64(1)) & mask
        return added


def flaw(
    sides: Sequence[str],
    contents: Sequence[str],
    config: CorpusConfig,
    *,
    is_translation: bool = True,
) -> str | None:
    """Why a cleaned row is of no use, or None; `contents` are `content` of its sides.

    Args:
      is_translation: the sides say the same in different languages, so they should be about as long
        and not equal.
    """
    lengths = [*map(len, sides)]
    least = min(lengths)
    if not least:
        return "blank side"
    longest, shortest = max(lengths), max(least, _SHORT)
    # most rows would pass with any characters; only the others are looked at one by one
    most = min(config.max_chars, config.max_ratio * shortest)
    if longest * _DENSEST > most:
        bound = max(len(s) if s.isascii() else len(s) * _DENSEST for s in sides)
        if config.length_unit == "latin" and bound > most:
            lengths = [*map(latin_length, sides)]
            longest, shortest = max(lengths), max(min(lengths), _SHORT)
        if longest > config.max_chars:
            return f"longer than {config.max_chars} characters"
        if is_translation and max(_SHORT, longest) > config.max_ratio * shortest:
            return f"length ratio over {config.max_ratio:g}"
    if is_translation and len(set(contents)) < len(contents):
        return "identical sides"
    for text in contents:
        if not text[:1].isalpha() and not any(map(str.isalpha, text)):
            return "no letters"
    return None


class Cleaner:
    """Cleans rows batch by batch; remembers the hashes of the rows it has let through.

    Attributes:
      read: rows seen.
      dropped: rows dropped, by reason.
      examples: the first row dropped for each reason.
    """

    def __init__(self, config: CorpusConfig):
        self.config = config
        self.read = 0
        self.dropped = collections.Counter()
        self.examples: dict[str, tuple[str, ...]] = {}
        self._seen = HashSet()

    def __call__(
        self, rows: Sequence[Sequence[str]], languages: Sequence[str]
    ) -> tuple[list[tuple[str, ...]], np.ndarray]:
        """The clean rows worth keeping and the `content_hash` of their first sides, uint64.

        A row equal to an earlier one of the same languages, up to case, punctuation and spaces, is
        dropped. What a row has beyond its languages (a label) is passed on as it is.
        """
        self.read += len(rows)
        unescape, deduplicate = self.config.unescape, self.config.deduplicate
        prefix, count = "\t".join(languages), len(languages)
        is_translation = len(set(languages)) == count
        kept, firsts, keys = [], [], []
        for row in rows:
            sides = tuple([clean(side, unescape=unescape) for side in row[:count]])
            contents = [content(side) for side in sides]
            reason = flaw(sides, contents, self.config, is_translation=is_translation)
            if reason:
                self.dropped[reason] += 1
                self.examples.setdefault(reason, sides)
                continue
            kept.append((*sides, *row[count:]))
            firsts.append(_digest(contents[0]))
            if deduplicate:
                keys.append(_digest("\n".join([prefix, *contents])))
        first_hashes = np.frombuffer(b"".join(firsts), "<u8")
        if not deduplicate:
            return kept, first_hashes
        fresh = self._seen.add(np.frombuffer(b"".join(keys), "<u8"))
        if not fresh.all():
            self.dropped["duplicate"] += int((~fresh).sum())
            self.examples.setdefault("duplicate", kept[int(np.argmin(fresh))][:count])
        return [row for row, new in zip(kept, fresh, strict=True) if new], first_hashes[fresh]
