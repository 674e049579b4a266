"""From text to token store: read and clean, train the tokenizer, encode.

Two passes over the text, the first from the sources to a spool of clean rows; of the corpus only
the hashes that find duplicates stay in memory.
"""

import collections
import contextlib
import dataclasses
import errno
import fcntl
import hashlib
import itertools
import json
import shutil
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lightxling.config import (
    MAIN,
    MAX_TOKENS,
    Config,
    TokenizerConfig,
    UserError,
    change,
    rows_of,
    tasks_of,
)
from lightxling.corpus import readers
from lightxling.corpus import tokenizer as tokenizers
from lightxling.corpus.cleaning import Cleaner, content_hash
from lightxling.corpus.readers import Problems, Source
from lightxling.corpus.store import FORMAT, Store, StoreWriter, file_sha256, has_labels
from lightxling.corpus.tokenizer import Tokenizer
from lightxling.files import lock

_BATCH = 1 << 14  # rows
_TALK = 10.0  # seconds between progress lines


def prepare(config: Config, *, progress: Callable[[str], None] = print) -> Path:
    """Returns the folder of the token store for `config`, making it first if it does not exist.

    The folder's name is a fingerprint of the corpus and tokenizer settings and of the names, sizes
    and times of the source files. Processes that ask for the same store wait for each other. With
    `train.init_from`, the tokenizer is that run's. A tokenizer that is trained reads the text of
    the further tasks too, whose own stores `prepare_tasks` makes.
    """
    corpus = config.corpus
    if config.train.init_from:
        file = Path(config.train.init_from) / "tokenizer.model"
        if not file.is_file():
            raise UserError(
                f"train.init_from={config.train.init_from} holds no {file.name}; give the folder "
                "of a trained run"
            )
        config = change(config, tokenizer__file=str(file))
    if not corpus.sources:
        raise UserError("the recipe names no text; set corpus.sources, such as en-fr=corpus.tsv.gz")
    rows = rows_of(config.objectives)
    sources, dev_sources = _parsed(corpus.sources, rows), _parsed(corpus.dev, rows)
    sides = {len(source.languages) for source in (*sources, *dev_sources)}
    if len(sides) > 1:
        raise UserError("corpus.sources and corpus.dev must all have the same number of languages")
    if rows in ("labels", "scores") and sides != {2}:
        raise UserError(f"sources with {rows} have two sentences; write them like en-en=FILE.tsv")
    others = [] if config.tokenizer.file else list(tasks_of(config).values())[1:]
    name = _fingerprint(config, [*sources, *dev_sources], others)[:12]
    final, work = Path(corpus.store) / name, Path(corpus.store) / f".{name}.part"
    if not _fault(final):  # asked before anything is written: the stores may be read-only
        progress(f"using the store {final}")
        return final
    try:
        final.parent.mkdir(parents=True, exist_ok=True)
        _remove_leftovers(final.parent)
        with store_lock(final, progress):
            fault = _fault(final)
            if not fault:
                progress(f"using the store {final}")
                return final
            if final.exists():
                progress(f"preparing again: {fault}")
            for folder in (final, work):
                shutil.rmtree(folder, ignore_errors=True)
            work.mkdir()
            try:
                _Preparation(config, sources, dev_sources, work, progress).run(final, others)
            finally:
                shutil.rmtree(work, ignore_errors=True)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise UserError(
                f"no space left in {corpus.store}: the new store was removed, older ones are whole;"
                " free some space or point corpus.store to another disk"
            ) from None
        raise UserError(f"{error.filename or corpus.store}: {error.strerror}") from error
    return final


def prepare_tasks(
    config: Config, *, progress: Callable[[str], None] = print
) -> dict[str, tuple[Config, Path]]:
    """The configuration and the store of every task of a run, made where they do not exist.

    All have one tokenizer, that of the main task's store.
    """
    for number, task in enumerate(config.tasks):
        if not task.sources:
            progress(f"the task {task.name} is left out: tasks.{number}.sources names no text")
    store = prepare(config, progress=progress)
    stores = {}
    for name, task in tasks_of(config).items():
        if name != MAIN:
            file = str(store / "tokenizer.model")
            task = change(task, tokenizer__file=file, train__init_from="")
            progress(f"task {name}")
        stores[name] = task, store if name == MAIN else prepare(task, progress=progress)
    return stores


def training_texts(
    config: Config, store: Store, work: Path, *, progress: Callable[[str], None]
) -> Iterator[tuple[np.ndarray, list[tuple[str, ...]]]]:
    """Reads the sources once more for the cleaned sentences of a store's training rows, in order.

    A store keeps token ids only, from which a sentence cannot be put together again (case, unknown
    characters). Reading and cleaning take the way that made the store, and every row is compared
    with its tokens in the store.

    Args:
      work: an existing folder that receives the clean text; the caller removes it.

    Yields:
      Groups [n] and sentences [n][sides] of the next n rows.

    Raises:
      UserError: the sources are not those of the store, or cannot be read.
    """
    corpus, split = config.corpus, store.train
    rows = rows_of(config.objectives)
    sources, dev = (_parsed(names, rows) for names in (corpus.sources, corpus.dev))
    preparation = _Preparation(config, sources, dev, work, progress)
    preparation._read()
    tokenizer, start = Tokenizer.load(store.tokenizer_path), 0
    lexicon = tokenizer.new_lexicon()  # its numbers come in the order of the rows
    for batch in _batches((int(group), tuple(row)) for group, *row in preparation._spooled()):
        batch = [(group, row[: split.sides]) for group, row in batch]  # without labels
        texts = [text for _, row in batch for text in row]
        ids, lengths = tokenizer.encode(texts, MAX_TOKENS, lexicon)
        whole = lengths.reshape(-1, split.sides).all(1)  # the others are not in the store
        ids = ids[np.repeat(whole.repeat(split.sides), lengths)]
        batch = list(itertools.compress(batch, whole))
        group = np.array([g for g, _ in batch], np.uint16)
        stop = start + len(batch)
        offsets = split.offsets[start * split.sides : stop * split.sides + 1]
        if not (
            stop <= split.rows
            and np.array_equal(group, split.group[start:stop])
            and np.array_equal(lengths[whole.repeat(split.sides)], np.diff(offsets))
            and np.array_equal(ids, split.tokens[offsets[0] : offsets[-1]])
        ):
            break
        yield group, [row for _, row in batch]
        start = stop
    if start != split.rows:
        raise UserError(
            f"the sources no longer give the {split.rows:,} training rows of {store.path}: they "
            f"differ after row {start:,}. Remove that folder, and the next command prepares it anew"
        )


def _parsed(sources: Sequence[str], rows: readers.Rows) -> list[Source]:
    return [Source.parse(text, rows) for text in sources]


def _fingerprint(config: Config, sources: list[Source], others: Sequence[Config] = ()) -> str:
    """Hash of what a store depends on.

    Args:
      others: further tasks whose text the tokenizer is trained on.
    """
    tokenizer, rows = config.tokenizer, rows_of(config.objectives)
    settings = dataclasses.asdict(config.corpus) | dataclasses.asdict(tokenizer)
    del settings["store"]
    if tokenizer.model != "words":
        del settings["hash_buckets"]  # which earlier stores did not have
    stats = []
    for path in (file for source in sources for file in readers.files(source)):
        stat = path.stat()
        stats.append((str(path), stat.st_size, stat.st_mtime_ns))
    model = file_sha256(_tokenizer_file(tokenizer)) if tokenizer.file else ""
    parts = [FORMAT, settings, stats, model]
    if rows != "pairs":
        parts.append(rows)
    for other in others:
        parts.append(_fingerprint(other, _parsed(other.corpus.sources, rows_of(other.objectives))))
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _tokenizer_file(tokenizer: TokenizerConfig) -> Path:
    path = Path(tokenizer.file)
    if not path.is_file():
        raise UserError(f"tokenizer.file={path} does not exist; leave it empty to train a model")
    return path


def _fault(path: Path) -> str:
    """Returns what is wrong with the store at `path`; nothing if it is whole."""
    try:
        Store.open(path)
    except UserError as error:
        return str(error)
    return ""


def store_lock(
    final: Path, progress: Callable[[str], None]
) -> contextlib.AbstractContextManager[None]:
    """Held while `final`, a store or what stands beside it, is made."""
    waiting = "waiting for another process that prepares the same store"
    return lock(final.with_name(f".{final.name}.lock"), lambda: progress(waiting))


def _remove_leftovers(stores: Path) -> None:
    """Removes what killed processes have left; a process at work holds its lock."""
    for work in stores.glob(".*.part"):
        with open(work.with_suffix(".lock"), "w") as file, contextlib.suppress(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(work, ignore_errors=True)


def _batches(rows: Iterable, size: int = _BATCH) -> Iterator[list]:
    rows = iter(rows)
    while batch := list(itertools.islice(rows, size)):
        yield batch


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

    def rows(self) -> list[tuple[int, tuple[str, ...]]]:
        """Returns (group, row) by rising hash."""
        seen, chosen = set(), []
        for _, (_, group, row) in sorted(self._rows.items()):
            hashes = {(side, content_hash(text)) for side, text in enumerate(row)}
            if len(chosen) < self._limit and not hashes & seen:
                seen |= hashes
                chosen.append((group, row))
        return chosen


class _Preparation:
    """One making of a store in the folder `work`."""

    def __init__(
        self,
        config: Config,
        sources: list[Source],
        dev_sources: list[Source],
        work: Path,
        progress: Callable[[str], None],
    ):
        self._config, self._work, self._progress = config, work, progress
        self._sources, self._dev_sources = sources, dev_sources
        self._rows = rows_of(config.objectives)
        self._groups = [*sources, *dev_sources]  # a row's group is an index into this list
        self._cleaner, self._dev_cleaner = Cleaner(config.corpus), Cleaner(config.corpus)
        self._problems = Problems()
        self._dropped = collections.Counter()  # clean rows that are not in the store
        self._spool = work / "clean.tsv"  # group, then the sides of every kept training row
        self._sentences = collections.Counter()  # per language, in the spool
        self._started = self._spoken = time.monotonic()

    def run(self, final: Path, others: Sequence[Config] = ()) -> None:
        """Makes the store `final`; the tokenizer is trained on the text of `others` too."""
        dev = self._read()
        read_seconds = time.monotonic() - self._started
        tokenizer = self._tokenizer(others)
        tokenizer_seconds = time.monotonic() - self._started - read_seconds
        lexicon = tokenizer.new_lexicon()
        writer, tokens, rows = self._encode(tokenizer, lexicon, dev)
        manifest = self._manifest(tokenizer, tokens, rows)
        words = None
        if lexicon is not None:
            words = tokenizer.table(np.arange(lexicon.known + len(lexicon.new)), lexicon)
        writer.finish(final, self._work / "tokenizer.model", manifest, words)
        seconds = time.monotonic() - self._started
        for line in self._table(manifest):
            self._progress(line)
        self._progress(
            f"{seconds:.0f} s (reading {read_seconds:.0f}, tokenizer {tokenizer_seconds:.0f},"
            f" encoding {seconds - read_seconds - tokenizer_seconds:.0f}),"
            f" {manifest['counts']['read'] / seconds:,.0f} pairs/s"
        )
        self._progress(f"store {final}")

    def _talk(self, line: str) -> None:
        if time.monotonic() - self._spoken > _TALK:
            self._spoken = time.monotonic()
            self._progress(line)

    def _read(self) -> list[tuple[int, tuple[str, ...]]]:
        """Spools the clean training rows; returns the development rows with their groups."""
        corpus = self._config.corpus
        dev = {source.languages: _DevSet(corpus.dev_limit) for source in self._groups}
        held_out, share = set(), 0
        leading = {source.languages[0] for source in self._dev_sources or self._sources}
        if self._dev_sources:
            for group, source in enumerate(self._dev_sources, len(self._sources)):
                for rows, firsts in self._clean(source, self._dev_cleaner):
                    held_out.update(firsts.tolist())
                    for row, first in zip(rows, firsts.tolist(), strict=True):
                        dev[source.languages].add(first, group, row)
        else:
            share = int(corpus.dev_share * 2**64)
        with open(self._spool, "w", encoding="utf-8", newline="\n") as spool:
            for group, source in enumerate(self._sources):
                kept = 0
                others = [i for i, code in enumerate(source.languages) if i and code in leading]
                for rows, firsts in self._clean(source, self._cleaner):
                    for row, first in zip(rows, firsts.tolist(), strict=True):
                        hashes = [first, *(content_hash(row[i]) for i in others)]
                        if not held_out.isdisjoint(hashes):
                            self._dropped["first side in dev"] += 1
                        elif first < share:
                            self._dropped["held out for dev"] += 1
                            dev[source.languages].add(first, group, row)
                        elif min(hashes) < share:
                            self._dropped["held out for dev the other way round"] += 1
                        else:
                            kept += 1
                            spool.write(f"{group}\t" + "\t".join(row) + "\n")
                for language in source.languages[self._new_sides]:
                    self._sentences[language] += kept
        if not self._sentences.total():
            raise UserError(
                f"no training pair is left of the {self._cleaner.read} that were read from"
                f" {', '.join(map(str, self._sources))}{self._reasons()}"
            )
        return [row for one in dev.values() for row in one.rows()]

    def _clean(
        self, source: Source, cleaner: Cleaner
    ) -> Iterator[tuple[list[tuple[str, ...]], np.ndarray]]:
        for batch in _batches(readers.read(source, self._problems, self._rows)):
            yield cleaner(batch, source.languages)
            self._talk(f"read {self._cleaner.read + self._dev_cleaner.read:,} pairs, now {source}")

    def _spooled(self) -> Iterator[list[str]]:
        with open(self._spool, encoding="utf-8", newline="\n") as spool:
            for line in spool:
                yield line[:-1].split("\t")

    @property
    def _new_sides(self) -> slice:
        """Sides whose sentences are new; in running text the others stand in other rows too."""
        return slice(1, 2) if self._rows == "text" else slice(None)

    def _tokenizer(self, others: Sequence[Config]) -> Tokenizer:
        config, path = self._config.tokenizer, self._work / "tokenizer.model"
        if config.file:
            shutil.copyfile(_tokenizer_file(config), path)
        else:
            spools = [self]
            for number, other in enumerate(others):
                folder = self._work / f"task-{number}"
                folder.mkdir()
                sources = _parsed(other.corpus.sources, rows_of(other.objectives))
                spools.append(_Preparation(other, sources, [], folder, self._progress))
                spools[-1]._read()
            sentences = sum((spool._sentences for spool in spools), collections.Counter())
            rates = tokenizers.sample_rates(sentences, config.sample, config.sampling)
            drawn = sum(rates[language] * n for language, n in sentences.items())
            self._progress(f"training the tokenizer on {drawn:,.0f} sentences")
            texts = itertools.chain.from_iterable(spool._sampled(rates) for spool in spools)
            tokenizers.train(texts, config, path)
        return Tokenizer.load(path)

    def _sampled(self, rates: dict[str, float]) -> Iterator[str]:
        new = self._new_sides
        for group, *row in self._spooled():
            languages = self._groups[int(group)].languages
            sides = row[: len(languages)]
            for language, text in zip(languages[new], sides[new], strict=True):
                if zlib.crc32(text.encode()) < rates[language] * 2**32:
                    yield text

    def _encode(
        self, tokenizer: Tokenizer, lexicon: Any, dev: list[tuple[int, tuple[str, ...]]]
    ) -> tuple[StoreWriter, dict[str, dict[str, int]], np.ndarray]:
        """Returns the filled writer, token counts by language, rows [2, groups] of train, dev."""
        sides = len(self._sources[0].languages)
        languages = sorted({code for source in self._groups for code in source.languages})
        language_of = np.array([[languages.index(c) for c in s.languages] for s in self._groups])
        writer = StoreWriter(self._work, sides=sides, dtype=tokenizer.dtype, rows_are=self._rows)
        labelled = has_labels(self._rows)
        counts = np.zeros((3, len(languages)), np.int64)  # sentences, tokens, unknown
        rows = np.zeros((2, len(self._groups)), np.int64)
        train = ((int(group), tuple(texts)) for group, *texts in self._spooled())
        for split, data in ((writer.train, train), (writer.dev, dev)):
            for batch in _batches(data):
                group = np.array([g for g, _ in batch], np.uint16)
                texts = [text for _, row in batch for text in row[:sides]]
                ids, lengths = tokenizer.encode(texts, MAX_TOKENS, lexicon)
                whole = lengths.reshape(-1, sides).all(1)
                if not whole.all():
                    # The model's own normaliser may leave nothing of a strange sentence.
                    self._dropped["no tokens"] += int((~whole).sum())
                    ids = ids[np.repeat(whole.repeat(sides), lengths)]
                    lengths, group = lengths[whole.repeat(sides)], group[whole]
                    batch = list(itertools.compress(batch, whole))
                label = np.array([row[sides] for _, row in batch], float) if labelled else None
                split.append(ids, lengths, group, label)
                if split is writer.dev:
                    writer.append_dev_texts([row for _, row in batch])
                rows[int(split is writer.dev)] += np.bincount(group, minlength=len(self._groups))
                language = language_of[group].reshape(-1)
                for i, weights in enumerate(
                    (None, lengths, _unknown(tokenizer.unknown(ids), lengths))
                ):
                    counts[i] += np.bincount(language, weights, len(languages)).astype(np.int64)
                self._talk(f"encoded {writer.train.rows:,} pairs")
        keys = ("sentences", "tokens", "unknown")
        tokens = {
            code: dict(zip(keys, count, strict=True))
            for code, count in zip(languages, counts.T.tolist(), strict=True)
        }
        return writer, tokens, rows

    def _manifest(
        self, tokenizer: Tokenizer, tokens: dict[str, dict[str, int]], rows: np.ndarray
    ) -> dict[str, Any]:
        dev = self._dev_cleaner
        return {
            "languages": list(tokens),
            "groups": [
                {
                    "source": str(source),
                    "languages": list(source.languages),
                    "weight": source.weight,
                    "rows": int(rows[0, i]),
                    "dev_rows": int(rows[1, i]),
                }
                for i, source in enumerate(self._groups)
            ],
            "sources": [
                {
                    "source": str(source),
                    "files": [
                        {"path": str(f), "bytes": f.stat().st_size, "sha256": file_sha256(f)}
                        for f in readers.files(source)
                    ],
                }
                for source in self._groups
            ],
            "counts": {
                "read": self._cleaner.read,
                "kept": int(rows[0].sum()),
                "dropped": dict(self._cleaner.dropped + self._dropped),
                "dev": {"read": dev.read, "kept": int(rows[1].sum()), "dropped": dict(dev.dropped)},
                "unreadable": dict(self._problems.counts),
            },
            "tokens": tokens,
            "tokenizer": {
                "sha256": tokenizer.sha256,
                "vocab_size": tokenizer.vocab_size,
                "lowercase": tokenizer.lowercase,
            },
            "config": {
                "corpus": dataclasses.asdict(self._config.corpus),
                "tokenizer": dataclasses.asdict(self._config.tokenizer),
            },
        }

    def _reasons(self) -> str:
        """Returns one line for each reason for which something was left out."""
        dropped = self._cleaner.dropped + self._dropped
        lines = [f"\n{n:>16,}  {reason}" for reason, n in dropped.most_common()]
        lines += [f"\n{n:>16,}  unreadable: {what}" for n, what in self._problems.told()]
        return "".join(lines)

    def _table(self, manifest: dict[str, Any]) -> Iterator[str]:
        counts, tokens = manifest["counts"], manifest["tokens"]
        yield f"{counts['read']:>14,}  pairs read{self._reasons()}"
        yield f"{counts['kept']:>14,}  kept for training, {counts['dev']['kept']:,} for dev"
        unknown = {code: n["unknown"] / max(n["tokens"], 1) for code, n in tokens.items()}
        shown = ", ".join(
            f"{code} {tokens[code]['tokens'] / max(tokens[code]['sentences'], 1):.1f} ({share:.2%})"
            for code, share in sorted(unknown.items(), key=lambda item: -item[1])[:8]
        )
        pieces = manifest["tokenizer"]["vocab_size"]
        yield f"{pieces:,} pieces; tokens a sentence (share unknown): {shown}"


def _unknown(is_unknown: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Returns the number of unknown pieces in each sentence."""
    total = np.concatenate([[0], np.cumsum(is_unknown)])
    ends = np.cumsum(lengths)
    return total[ends] - total[ends - lengths]
