"""Reads and cleans the sources once: training rows into a file on disk, development rows aside.

Of the corpus only the hashes that find duplicates stay in memory.
"""

import collections
import shutil
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from lightxling.base.errors import UserError
from lightxling.base.lines import Problems, slabs
from lightxling.config.schema import CorpusConfig
from lightxling.corpus import identify, readers
from lightxling.corpus.cleaning import Cleaner, content_hash
from lightxling.corpus.columns import cut
from lightxling.corpus.sources import Rows, Source

SpooledRow = tuple[int, tuple[str, ...]]
"""The group of a row, which is the number of its source; its sentences and its label if it has one.
"""

_TALK = 10.0  # seconds between progress lines


class _DevSet:
    """The `limit` rows with the smallest hashes of their first sides, all sides unique."""

    def __init__(self, limit: int):
        self._limit = limit
        self._rows = {}  # hash of the first side -> (hash of the rest, group, row)

    def add(self, first: int, group: int, row: tuple[str, ...]) -> None:
        candidate = (content_hash("\t".join(row[1:])), group, row)
        self._rows[first] = min(candidate, self._rows.get(first, candidate))
        if len(self._rows) > 4 * self._limit + 64:
            # Twice the limit, because `rows` will leave out some for their other sides.
            self._rows = dict(sorted(self._rows.items())[: 2 * self._limit])

    def rows(self) -> list[SpooledRow]:
        """By rising hash."""
        seen, chosen = set(), []
        for _, (_, group, row) in sorted(self._rows.items()):
            hashes = {(side, content_hash(text)) for side, text in enumerate(row)}
            if len(chosen) < self._limit and not hashes & seen:
                seen |= hashes
                chosen.append((group, row))
        return chosen


class Spool:
    """The clean rows of sources: what is trained on, in a file; what is held out, in memory.

    Attributes:
      groups: the sources, and after them those of the development set; rows have their numbers.
      rows_are: see `sources.Rows`.
      cleaner, dev_cleaner: count what they dropped of the sources and of the development sources.
      dropped: clean rows that are not in the file, by reason.
      problems: what could not be read.
      sentences: in the file, by language.
      told: of each source, in order: rows read, rows in the file, what was left out by reason.
    """

    def __init__(
        self,
        corpus: CorpusConfig,
        sources: Sequence[Source],
        dev_sources: Sequence[Source],
        rows_are: Rows,
        folder: Path,
        progress: Callable[[str], None],
    ):
        """
        Args:
          folder: an existing one, which receives the file; the caller removes it.
          progress: receives a line of text now and then.
        """
        if corpus.identify:
            identify.check_identifier()
        self._corpus, self._file, self._progress = corpus, folder / "clean.tsv", progress
        self._sources, self._dev_sources = sources, dev_sources
        self.rows_are = rows_are
        self.groups = [*sources, *dev_sources]
        self.cleaner, self.dev_cleaner = Cleaner(corpus), Cleaner(corpus)
        self.dropped, self.problems = collections.Counter(), Problems()
        self.sentences = collections.Counter()
        self.told: list[tuple[int, int, collections.Counter[str]]] = []
        self._spoken = time.monotonic()

    def fill(self) -> list[SpooledRow]:
        """Reads the sources; returns the development rows.

        Without development sources, a share of the rows is held out, by the hash of any side in a
        language that stands first in a source: so that no sentence is in both.

        Raises:
          UserError: no row is left to train on.
        """
        corpus = self._corpus
        dev = {source.languages: _DevSet(corpus.dev_limit) for source in self.groups}
        held_out, share = set(), 0 if self._dev_sources else int(corpus.dev_share * 2**64)
        leading = {source.languages[0] for source in self._dev_sources or self._sources}
        for group, source in enumerate(self._dev_sources, len(self._sources)):
            for first, row in self._clean(source, self.dev_cleaner):
                held_out.add(first)
                dev[source.languages].add(first, group, row)
        with open(self._file, "w", encoding="utf-8", newline="\n") as file:
            for group, source in enumerate(self._sources):
                kept, read, before = 0, self.cleaner.read, self._left_out()
                others = [i for i, code in enumerate(source.languages) if i and code in leading]
                for first, row in self._clean(source, self.cleaner):
                    hashes = [first, *(content_hash(row[i]) for i in others)]
                    if not held_out.isdisjoint(hashes):
                        self.dropped["first side in dev"] += 1
                    elif first < share:
                        self.dropped["held out for dev"] += 1
                        dev[source.languages].add(first, group, row)
                    elif min(hashes) < share:
                        self.dropped["held out for dev the other way round"] += 1
                    else:
                        kept += 1
                        file.write(f"{group}\t" + "\t".join(row) + "\n")
                for language in source.languages[self._new_sides]:
                    self.sentences[language] += kept
                self.told.append((self.cleaner.read - read, kept, self._left_out() - before))
        if not self.sentences.total():
            raise UserError(
                f"no training pair is left of the {self.cleaner.read} that were read from"
                f" {', '.join(map(str, self._sources))}{self.reasons()}"
            )
        return [row for one in dev.values() for row in one.rows()]

    def _clean(self, source: Source, cleaner: Cleaner) -> Iterator[tuple[int, tuple[str, ...]]]:
        """The clean rows of a source, each after the hash of its first side."""
        wanted, looked_at = self._corpus.identify, []
        for batch in slabs(readers.read_source(source, self.problems, self.rows_are)):
            rows, firsts = cleaner(batch, source.languages)
            if len(looked_at) < wanted:
                looked_at += rows[: wanted - len(looked_at)]
                if len(looked_at) == wanted:  # said before the rest is read
                    self._identify(source, looked_at)
            yield from zip(firsts.tolist(), rows, strict=True)
            self.talk(f"read {self.cleaner.read + self.dev_cleaner.read:,} pairs, now {source}")

        if 0 < len(looked_at) < wanted:
            self._identify(source, looked_at)

    def _identify(self, source: Source, rows: Sequence[Sequence[str]]) -> None:
        for line in identify.told(source, rows):
            self._progress(line)

    def __iter__(self) -> Iterator[SpooledRow]:
        """The rows in the file."""
        with open(self._file, encoding="utf-8", newline="\n") as file:
            for line in file:
                group, *row = line[:-1].split("\t")
                yield int(group), tuple(row)

    @property
    def _new_sides(self) -> slice:
        """Sides whose sentences are new; in running text the others stand in other rows too."""
        return slice(1, 2) if self.rows_are == "text" else slice(None)

    def sampled(self, rates: dict[str, float]) -> Iterator[str]:
        """Sentences for the tokenizer: a share of each language's, drawn by hash."""
        new = self._new_sides
        for group, row in self:
            languages = self.groups[group].languages
            for language, text in zip(languages[new], row[: len(languages)][new], strict=True):
                if zlib.crc32(text.encode()) < rates[language] * 2**32:
                    yield text

    def talk(self, line: str) -> None:
        """Says a line unless one was said a moment ago."""
        if time.monotonic() - self._spoken > _TALK:
            self._spoken = time.monotonic()
            self._progress(line)

    def _left_out(self) -> collections.Counter[str]:
        """Counts by reason of everything so far."""
        counts = self.cleaner.dropped + self.dropped
        return counts + collections.Counter(
            {f"unreadable: {reason}": n for reason, n in self.problems.counts.items()}
        )

    def by_source(self) -> Iterator[str]:
        """A table: what every source gave, and what was left out of it."""
        yield f"{'read':>14}  {'kept':>12}  source"
        for source, (read, kept, left_out) in zip(self._sources, self.told, strict=True):
            nothing = "" if kept else "  gave nothing"
            yield f"{read:>14,}  {kept:>12,}  {source}{nothing}"
            if left_out:
                yield f"{'':>30}" + ", ".join(f"{n:,} {why}" for why, n in left_out.most_common())

    def reasons(self) -> str:
        """One line for each reason for which something was left out."""
        dropped = self.cleaner.dropped + self.dropped
        width = max(shutil.get_terminal_size().columns - 26, 20)  # 26 stand before an example
        lines = []
        for reason, n in dropped.most_common():
            lines.append(f"\n{n:>16,}  {reason}")
            if example := self.cleaner.examples.get(reason):
                room = (width - 3 * (len(example) - 1)) // len(example)
                lines.append(
                    f"\n{'':>18}such as " + " | ".join(cut(text, room) for text in example)
                )
        lines += [f"\n{n:>16,}  unreadable: {what}" for n, what in self.problems.told()]
        return "".join(lines)
