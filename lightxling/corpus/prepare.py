"""From text to token store: read and clean, train the tokenizer, encode.

Two passes over the text, the first from the sources to a spool of clean rows (`corpus.spool`).
"""

import collections
import contextlib
import dataclasses
import errno
import hashlib
import itertools
import json
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lightxling.base.errors import UserError
from lightxling.base.files import file_sha256, lock
from lightxling.base.lines import slabs
from lightxling.base.places import TOKENIZER, locate
from lightxling.config.identity import identity_of
from lightxling.config.plan import MAIN, rows_of, tasks_of
from lightxling.config.schema import MAX_TOKENS, Config
from lightxling.config.settings import change
from lightxling.corpus import readers, tokenizer_json
from lightxling.corpus import tokenizer as tokenizers
from lightxling.corpus.existing import existing_tokenizer, tokenizer_content
from lightxling.corpus.foreign_pieces import TOKENIZER_JSON
from lightxling.corpus.pieces import Tokenizer
from lightxling.corpus.sources import NUMBERS, Rows, Source
from lightxling.corpus.spool import Spool, SpooledRow
from lightxling.corpus.store import STORE_FORMAT, Store, StoreWriter, file_entry


def prepare(config: Config, *, progress: Callable[[str], None] = print) -> Path:
    """The folder of the token store for `config`, which is made first if it does not exist.

    The folder's name is a fingerprint of the corpus and tokenizer settings and of the names, sizes
    and times of the source files. Processes that ask for the same store wait for each other. With
    `train.init_from`, the tokenizer is that run's, and so is the store where the corpus and the
    settings of the tokenizer are the same. A tokenizer that is trained reads the text of the
    further tasks too, whose own stores `prepare_tasks` makes.
    """
    corpus = config.corpus
    file = _tokenizer_of_start(config) if config.train.init_from else None
    if not corpus.sources:
        raise UserError("the recipe names no text; set corpus.sources, such as en-fr=corpus.tsv.gz")
    rows = rows_of(config.objectives)
    sources, dev_sources = _parsed(corpus.sources, rows), _parsed(corpus.dev, rows)
    sides = {len(source.languages) for source in (*sources, *dev_sources)}
    if len(sides) > 1:
        raise UserError("corpus.sources and corpus.dev must all have the same number of languages")
    if rows in NUMBERS and sides != {2}:
        raise UserError(f"sources with {rows} have two sentences; write them like en-en=FILE.tsv")
    others = [] if config.tokenizer.file else list(tasks_of(config).values())[1:]
    name = _fingerprint(config, [*sources, *dev_sources], others)[:12]
    if file:
        trained = Path(corpus.store) / name
        if not _fault(trained) and _same_tokenizer(trained, file):
            progress(f"using the store {trained}")
            return trained
        config, others = _with_tokenizer(config, file), []
        name = _fingerprint(config, [*sources, *dev_sources])[:12]
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
                spool = Spool(corpus, sources, dev_sources, rows, work, progress)
                _Preparation(config, spool, work, progress).run(final, others)
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
            task = _with_tokenizer(change(task, train__init_from=""), store / "tokenizer.model")
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
    # what its languages are was said when the store was made
    corpus = dataclasses.replace(config.corpus, identify=0)
    split, rows = store.train, rows_of(config.objectives)
    sources, dev = (_parsed(names, rows) for names in (corpus.sources, corpus.dev))
    spool = Spool(corpus, sources, dev, rows, work, progress)
    spool.fill()
    tokenizer, start = tokenizers.load_tokenizer(store.tokenizer_path), 0
    lexicon = tokenizer.new_lexicon()  # its numbers come in the order of the rows
    for batch in slabs(spool):
        batch, ids, lengths, group = _encode(tokenizer, lexicon, batch, split.sides)
        stop = start + len(batch)
        offsets = split.offsets[start * split.sides : stop * split.sides + 1]
        if not (
            stop <= split.rows
            and np.array_equal(group, split.group[start:stop])
            and np.array_equal(lengths, np.diff(offsets))
            and np.array_equal(ids, split.tokens[offsets[0] : offsets[-1]])
        ):
            break
        yield group, [row[: split.sides] for _, row in batch]  # without labels
        start = stop
    if start != split.rows:
        raise UserError(
            f"the sources no longer give the {split.rows:,} training rows of {store.path}: they "
            f"differ after row {start:,}. Remove that folder, and the next command prepares it "
            "again"
        )


def _encode(
    tokenizer: Tokenizer, lexicon: Any, batch: list[SpooledRow], sides: int
) -> tuple[list[SpooledRow], np.ndarray, np.ndarray, np.ndarray]:
    """The rows of a batch that have tokens on all sides: only they are in the store.

    Returns:
      Those rows, ids of their sentences end to end, lengths [rows * sides], groups [rows].
    """
    texts = [text for _, row in batch for text in row[:sides]]
    ids, lengths = tokenizer.encode(texts, MAX_TOKENS, lexicon)
    whole = lengths.reshape(-1, sides).all(1)
    if not whole.all():
        # The model's own normaliser may leave nothing of a strange sentence.
        is_kept = whole.repeat(sides)
        ids, lengths = ids[np.repeat(is_kept, lengths)], lengths[is_kept]
        batch = list(itertools.compress(batch, whole))
    return batch, ids, lengths, np.array([group for group, _ in batch], np.uint16)


def _parsed(sources: Sequence[str], rows: Rows) -> list[Source]:
    return [Source.parse(text, rows) for text in sources]


def _tokenizer_of_start(config: Config) -> Path:
    folder = locate(config.train.init_from)
    file = folder / TOKENIZER
    if not file.is_file():
        place, _ = tokenizer_json.first_module(folder)
        if (place / TOKENIZER_JSON).is_file():
            return place / TOKENIZER_JSON  # that of a sentence-transformers folder
    if not file.is_file():
        raise UserError(
            f"train.init_from={config.train.init_from} holds no {file.name}; give the folder "
            "of a trained run"
        )
    return file


def _same_tokenizer(store: Path, file: Path) -> bool:
    """Whether a store has the tokenizer of a start."""
    made = store / TOKENIZER
    if file.suffix == ".json":
        return made.read_bytes() == tokenizer_content(file)
    return file_sha256(made) == file_sha256(file)


def _with_tokenizer(config: Config, file: Path) -> Config:
    """The settings with a tokenizer that stays as it is."""
    lowercase = tokenizers.read_tokenizer(tokenizer_content(file), str(file)).lowercase
    return change(config, tokenizer__file=str(file), tokenizer__lowercase=lowercase)


def _fingerprint(config: Config, sources: list[Source], others: Sequence[Config] = ()) -> str:
    """Hash of what a store depends on.

    Args:
      others: further tasks whose text the tokenizer is trained on.
    """
    tokenizer, rows = config.tokenizer, rows_of(config.objectives)
    settings = identity_of(config.corpus) | identity_of(tokenizer)
    del settings["store"]
    settings.pop("identify", None)  # it only says something
    if tokenizer.model != "words":
        del settings["hash_buckets"]  # which earlier stores did not have
    stats = []
    for path in (file for source in sources for file in readers.files(source)):
        stat = path.stat()
        stats.append((str(path), stat.st_size, stat.st_mtime_ns))
    model = hashlib.sha256(existing_tokenizer(tokenizer)[0]).hexdigest() if tokenizer.file else ""
    parts = [STORE_FORMAT, settings, stats, model]
    if rows != "pairs":
        parts.append(rows)
    for other in others:
        parts.append(_fingerprint(other, _parsed(other.corpus.sources, rows_of(other.objectives))))
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _fault(path: Path) -> str:
    """What is wrong with the store at `path`; nothing if it is whole, and of what its sources hold.

    Sizes and times are in its name, but a file may be replaced by another with the same ones. Only
    the time of the last change of its entry (ctime) cannot be set: sources whose entry is younger
    than the store are read and compared.
    """
    try:
        store = Store.open(path)
        made = (path / "manifest.json").stat().st_mtime_ns
        for source in store.manifest.get("sources", []):
            for entry in source["files"]:
                file = Path(entry["path"])
                if file.stat().st_ctime_ns >= made and file_sha256(file) != entry["sha256"]:
                    return f"{file} has other text than when it was prepared"
    except UserError as error:
        return str(error)
    except OSError as error:
        return f"cannot read {error.filename}: {error.strerror}"
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
        with contextlib.suppress(BlockingIOError), lock(work.with_suffix(".lock"), _leave):
            shutil.rmtree(work, ignore_errors=True)


def _leave() -> None:
    raise BlockingIOError


class _Preparation:
    """One making of a store in the folder `work`, from a spool beside it."""

    def __init__(self, config: Config, spool: Spool, work: Path, progress: Callable[[str], None]):
        self._config, self._spool, self._work, self._progress = config, spool, work, progress

    def run(self, final: Path, others: Sequence[Config] = ()) -> None:
        """Makes the store `final`; the tokenizer is trained on the text of `others` too."""
        times = [time.monotonic()]
        dev = self._spool.fill()
        times.append(time.monotonic())
        tokenizer = self._tokenizer(others)
        times.append(time.monotonic())
        lexicon = tokenizer.new_lexicon()
        writer, tokens, rows = self._write(tokenizer, lexicon, dev)
        manifest = self._manifest(tokenizer, tokens, rows)
        words = None
        if lexicon is not None:
            words = tokenizer.table(np.arange(lexicon.known + len(lexicon.new)), lexicon)
        writer.finish(final, self._work / "tokenizer.model", manifest, words)
        times.append(time.monotonic())
        for line in self._table(manifest):
            self._progress(line)
        reading, training, encoding = np.diff(times)
        seconds = times[-1] - times[0]
        self._progress(
            f"{seconds:.0f} s (reading {reading:.0f}, tokenizer {training:.0f}, encoding"
            f" {encoding:.0f}), {manifest['counts']['read'] / seconds:,.0f} pairs/s"
        )
        self._progress(f"store {final}")

    def _tokenizer(self, others: Sequence[Config]) -> Tokenizer:
        config, path = self._config.tokenizer, self._work / "tokenizer.model"
        if config.file:
            content, said = existing_tokenizer(config)
            path.write_bytes(content)
            if said:
                self._progress(said)
        else:
            spools = [self._spool]
            for number, other in enumerate(others):
                folder, rows = self._work / f"task-{number}", rows_of(other.objectives)
                folder.mkdir()
                sources = _parsed(other.corpus.sources, rows)
                corpus = dataclasses.replace(other.corpus, identify=0)  # said with its own store
                spools.append(Spool(corpus, sources, [], rows, folder, self._progress))
                spools[-1].fill()
            sentences = sum((spool.sentences for spool in spools), collections.Counter())
            rates = tokenizers.sample_rates(sentences, config.sample, config.sampling)
            drawn = sum(rates[language] * n for language, n in sentences.items())
            self._progress(f"training the tokenizer on {drawn:,.0f} sentences")
            texts = itertools.chain.from_iterable(spool.sampled(rates) for spool in spools)
            tokenizers.train_tokenizer(texts, config, path)
        return tokenizers.load_tokenizer(path)

    def _write(
        self, tokenizer: Tokenizer, lexicon: Any, dev: list[SpooledRow]
    ) -> tuple[StoreWriter, dict[str, dict[str, int]], np.ndarray]:
        """The filled writer, token counts by language, rows [2, groups] of train and dev."""
        spool, groups = self._spool, self._spool.groups
        sides = len(groups[0].languages)
        languages = sorted({code for source in groups for code in source.languages})
        language_of = np.array([[languages.index(c) for c in s.languages] for s in groups])
        is_labelled, dtype = spool.rows_are in NUMBERS, tokenizer.dtype
        writer = StoreWriter(self._work, sides=sides, dtype=dtype, rows_are=spool.rows_are)
        counts = np.zeros((3, len(languages)), np.int64)  # sentences, tokens, unknown
        rows = np.zeros((2, len(groups)), np.int64)
        for split, data in ((writer.train, spool), (writer.dev, dev)):
            for whole in slabs(data):
                batch, ids, lengths, group = _encode(tokenizer, lexicon, whole, sides)
                spool.dropped["no tokens"] += len(whole) - len(batch)
                label = np.array([row[sides] for _, row in batch], float) if is_labelled else None
                split.append(ids, lengths, group, label)
                if split is writer.dev:
                    writer.append_dev_texts([row for _, row in batch])
                rows[int(split is writer.dev)] += np.bincount(group, minlength=len(groups))
                language = language_of[group].reshape(-1)
                for i, weights in enumerate(
                    (None, lengths, _unknown(tokenizer.unknown(ids), lengths))
                ):
                    counts[i] += np.bincount(language, weights, len(languages)).astype(np.int64)
                spool.talk(f"encoded {writer.train.rows:,} pairs")
        keys = ("sentences", "tokens", "unknown")
        tokens = {
            code: dict(zip(keys, count, strict=True))
            for code, count in zip(languages, counts.T.tolist(), strict=True)
        }
        return writer, tokens, rows

    def _manifest(
        self, tokenizer: Tokenizer, tokens: dict[str, dict[str, int]], rows: np.ndarray
    ) -> dict[str, Any]:
        spool, dev = self._spool, self._spool.dev_cleaner
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
                for i, source in enumerate(spool.groups)
            ],
            "sources": [
                {
                    "source": str(source),
                    "files": [{"path": str(f), **file_entry(f)} for f in readers.files(source)],
                }
                for source in spool.groups
            ],
            "counts": {
                "read": spool.cleaner.read,
                "kept": int(rows[0].sum()),
                "dropped": dict(spool.cleaner.dropped + spool.dropped),
                "dev": {"read": dev.read, "kept": int(rows[1].sum()), "dropped": dict(dev.dropped)},
                "unreadable": dict(spool.problems.counts),
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

    def _table(self, manifest: dict[str, Any]) -> Iterator[str]:
        counts, tokens = manifest["counts"], manifest["tokens"]
        yield from self._spool.by_source()
        yield f"{counts['read']:>14,}  pairs read{self._spool.reasons()}"
        yield f"{counts['kept']:>14,}  kept for training, {counts['dev']['kept']:,} for dev"
        unknown = {code: n["unknown"] / max(n["tokens"], 1) for code, n in tokens.items()}
        shown = ", ".join(
            f"{code} {tokens[code]['tokens'] / max(tokens[code]['sentences'], 1):.1f} ({share:.2%})"
            for code, share in sorted(unknown.items(), key=lambda item: -item[1])[:8]
        )
        pieces = manifest["tokenizer"]["vocab_size"]
        yield f"{pieces:,} pieces; tokens a sentence (share unknown): {shown}"


def _unknown(is_unknown: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """The number of unknown pieces in each sentence."""
    total = np.concatenate([[0], np.cumsum(is_unknown)])
    ends = np.cumsum(lengths)
    return total[ends] - total[ends - lengths]
