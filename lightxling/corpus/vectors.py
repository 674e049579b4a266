"""Vectors of a store's training sentences, computed once and then memory-mapped.

manifest.json   where the vectors are from, and the sha256 of every file below
vectors.bin     little-endian float16 [sentences, width]: every distinct sentence once
index.npy       int32 [rows, sides]: the sentence of a row's side; -1 where no vector was asked for

While they are computed, the folder has a name of its own and holds besides `sentences.txt` (the
distinct sentences in the order of the vectors) and `done.json` (how many of them are on the disk).
A killed computation goes on from there, with the same batches and therefore the same bytes.
"""

import dataclasses
import errno
import hashlib
import itertools
import json
import os
import shutil
import time
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from lightxling.base import limits
from lightxling.base.errors import UserError
from lightxling.base.files import atomic, parse_json, recover, sync, write_json
from lightxling.base.lines import slabs
from lightxling.base.shapes import Bool, Float, Int
from lightxling.base.vectors import Encode, map_array
from lightxling.config.files import fingerprint
from lightxling.config.schema import Config
from lightxling.corpus.prepare import store_lock, training_texts
from lightxling.corpus.store import Store, file_entry

VECTORS_FORMAT = 1
_CHUNK = 1024  # sentences between two writes
_TALK = 10.0  # seconds between progress lines


@dataclasses.dataclass(frozen=True)
class FrozenEncoder:
    """A trained encoder that is there but not yet loaded.

    Attributes:
      sha256: of all that its vectors depend on.
      load: gives the function from n sentences to vectors [n, T].
      languages: codes that it knows; empty: not said.
      width: of its vectors, T; 0: not known before it is loaded.
    """

    sha256: str
    load: Callable[[], Encode]
    languages: tuple[str, ...] = ()
    width: int = 0


@dataclasses.dataclass(frozen=True)
class SentenceVectors:
    """Opened vectors.

    Attributes:
      vectors: float16 [sentences, T].
      index: int32 [rows, sides], -1 where there is none.
      pivot: int32 [rows], the side of each row that the teacher knows best.
    """

    vectors: np.ndarray
    index: np.ndarray
    pivot: np.ndarray
    manifest: dict[str, Any]

    @property
    def width(self) -> int:
        return self.vectors.shape[1]

    def pick(
        self, rows: Int[np.ndarray, " B"]
    ) -> tuple[Float[np.ndarray, "B S T"], Int[np.ndarray, " B"]]:
        """Vectors of some rows in float32, zeros where there are none, and the rows' pivots."""
        index = self.index[rows]
        vectors = self.vectors[np.maximum(index, 0)].astype(np.float32)
        vectors[index < 0] = 0
        return vectors, self.pivot[rows]


def folder(store: Store, identity: dict[str, Any], kind: str = "teacher") -> Path:
    """Where the vectors of a store's sentences are kept: beside the store.

    Args:
      identity: plain values that say whose vectors they are, and of which sides.
      kind: part of the name, for what else is kept of a store's rows.
    """
    files = {name: entry["sha256"] for name, entry in store.manifest["files"].items()}
    name = fingerprint([VECTORS_FORMAT, store.path.name, files, identity])[:12]
    return store.path.with_name(f"{store.path.name}-{kind}-{name}")


def make_once(final: Path, progress: Callable[[str], None], make: Callable[[], None]) -> bool:
    """Makes what is kept at `final`, unless it is there; of several processes one does.

    Returns:
      Whether it was not there.
    """
    recover(final)
    if final.exists():
        return False
    with store_lock(final, progress):
        if not final.exists():
            make()
    return True


def prepare_vectors(
    config: Config,
    store: Store,
    *,
    identity: dict[str, Any],
    wanted: Bool[np.ndarray, "G S"],
    pivot: Int[np.ndarray, " G"],
    load: Callable[[], Encode],
    kind: str = "teacher",
    progress: Callable[[str], None] = print,
) -> SentenceVectors:
    """The vectors of a store's training sentences, computing first what is missing.

    Args:
      identity: see `folder`.
      wanted: for each group of the store, the sides that need vectors.
      pivot: for each group, the side that the teacher knows best.
      load: called when something is left to compute; gives the function from n sentences to
        [n, T].
      kind: what the encoder is to this run, in messages and in the folder's name.

    Raises:
      UserError: the sources have changed, a vector is not finite, or the disk is full.
    """
    final = folder(store, identity, kind)
    work = final.with_name(f".{final.name}.computing")

    def make() -> None:
        _Computation(config, store, work, kind, progress).run(identity, wanted, load)
        os.replace(work, final)

    try:
        is_new = make_once(final, progress, make)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise
        raise UserError(
            f"no space left in {work} for the {kind}'s vectors; what is computed is kept. "
            "Free some space and type the same command again"
        ) from None
    what = f"vectors of the {kind}" if is_new else f"using the {kind}'s vectors"
    progress(f"{what} in {final}")
    return _open(final, store, pivot)


def _open(path: Path, store: Store, pivot: np.ndarray) -> SentenceVectors:
    try:
        manifest = parse_json(limits.read_bytes(path / "manifest.json"))
        whole = all(file_entry(path / name) == entry for name, entry in manifest["files"].items())
        index = map_array(path / "index.npy")
        shape = (manifest["sentences"], manifest["width"])
        vectors = np.memmap(path / "vectors.bin", "<f2", "r", shape=shape)
    except (OSError, ValueError, KeyError, TypeError):
        whole = False
    if not whole:
        raise UserError(f"{path} is damaged; remove it, and the vectors are recomputed")
    if len(index) != store.train.rows:
        raise UserError(
            f"{path} has vectors of {len(index):,} rows and {store.path} has {store.train.rows:,}; "
            "remove the former, and the vectors are recomputed"
        )
    # A plain array over the same mapping: np.memmap costs microseconds per slice.
    plain = (np.asarray(array).view(np.ndarray) for array in (vectors, index))
    return SentenceVectors(*plain, pivot.astype(np.int32)[store.train.group], manifest)


class Pace:
    """Says now and then how far a long computation over sentences is."""

    def __init__(self, what: str, total: int, progress: Callable[[str], None], begun: int = 0):
        self.what, self.total, self.progress, self.begun = what, total, progress, begun
        self.started = self.spoken = time.monotonic()

    def note(self, done: int) -> None:
        now = time.monotonic()
        if now - self.spoken > _TALK:
            self.spoken = now
            rate = (done - self.begun) / (now - self.started)
            self.progress(
                f"{self.what}: {done:,} of {self.total:,} sentences, {rate:,.0f}/s, "
                f"{(self.total - done) / rate / 60:.0f} min left"
            )


class _Computation(NamedTuple):
    """The making of a folder `work` of vectors."""

    config: Config
    store: Store
    work: Path
    kind: str
    progress: Callable[[str], None]

    def run(self, identity: dict[str, Any], wanted: np.ndarray, load: Callable[[], Encode]) -> None:
        """Fills `work`, going on from what is there."""
        work = self.work
        if not (work / "index.npy").exists():
            shutil.rmtree(work, ignore_errors=True)
            work.mkdir()
            self.collect(wanted)
        index = np.load(work / "index.npy")
        sentences = int(index.max()) + 1
        width = self.encode(sentences, load)
        names = ("index.npy", "vectors.bin")
        self.remove_others(names)
        manifest = {
            "format": VECTORS_FORMAT,
            "store": self.store.path.name,
            **identity,
            "rows": len(index),
            "sentences": sentences,
            "width": width,
            "files": {name: file_entry(work / name) for name in names},
        }
        write_json(work / "manifest.json", manifest)

    def remove_others(self, names: Collection[str]) -> None:
        for leftover in self.work.iterdir():
            if leftover.name not in names:
                leftover.unlink()

    def collect(self, wanted: np.ndarray) -> None:
        """Writes the distinct sentences, in order of their first occurrence, and the index."""
        work, split = self.work, self.store.train
        self.progress(f"reading the text for the {self.kind}")
        index = np.full((split.rows, split.sides), -1, np.int32)
        known: dict[bytes, int] = {}  # 128 bits of a sentence -> its number
        start = 0
        with open(work / "sentences.txt", "w", encoding="utf-8", newline="\n") as file:
            for group, rows in training_texts(
                self.config, self.store, work, progress=self.progress
            ):
                for side in range(split.sides):
                    chosen = np.flatnonzero(wanted[group, side])
                    numbers = np.empty(len(chosen), np.int32)
                    for i, row in enumerate(chosen):
                        text = rows[row][side]
                        key = hashlib.blake2b(text.encode(), digest_size=16).digest()
                        if key not in known:
                            known[key] = len(known)
                            file.write(text + "\n")
                        numbers[i] = known[key]
                    index[start + chosen, side] = numbers
                start += len(rows)
        sync(work / "sentences.txt")
        # the index comes last: where it is, the sentences are whole
        self.remove_others(["sentences.txt"])
        with atomic(work / "index.npy") as temporary, open(temporary, "wb") as file:
            np.save(file, index)

    def encode(self, sentences: int, load: Callable[[], Encode]) -> int:
        """Appends the vectors that are missing; returns their width."""
        work, kind, state = self.work, self.kind, {"done": 0, "width": 0}
        if (work / "done.json").exists():
            state = json.loads(limits.read_bytes(work / "done.json"))
            done = state["done"]
            self.progress(f"going on after {done:,} of {sentences:,} sentences of the {kind}")
        (work / "vectors.bin").touch()
        with open(work / "vectors.bin", "r+b") as file:
            file.truncate(
                state["done"] * state["width"] * 2
            )  # what was written after the last note
            file.seek(0, os.SEEK_END)
            encode = load() if state["done"] < sentences else None
            pace = Pace(kind, sentences, self.progress, begun=state["done"])
            for texts in slabs(_sentences(work / "sentences.txt", state["done"]), _CHUNK):
                vectors = _checked(encode(texts), texts, state["width"], kind)
                file.write(vectors.tobytes())
                file.flush()
                sync(work / "vectors.bin")
                state = {"done": state["done"] + len(texts), "width": vectors.shape[1]}
                write_json(work / "done.json", state)
                pace.note(state["done"])
        return state["width"]


def _sentences(path: Path, start: int) -> Iterator[str]:
    """Sentences from number `start` on."""
    with open(path, encoding="utf-8", newline="\n") as file:
        yield from (line[:-1] for line in itertools.islice(file, start, None))


def _checked(vectors: np.ndarray, texts: list[str], width: int, kind: str) -> np.ndarray:
    """Vectors of `texts` in float16; refuses what is not a vector each."""
    vectors = np.asarray(vectors)
    if vectors.ndim != 2 or len(vectors) != len(texts) or (width and vectors.shape[1] != width):
        raise UserError(
            f"the {kind} gave an array of shape {vectors.shape} for {len(texts):,} sentences; it "
            f"should be [{len(texts)}, {width or 'width'}]"
        )
    with np.errstate(over="ignore"):
        half = vectors.astype("<f2")
    finite = np.isfinite(half).all(axis=1)
    if not finite.all():
        text = texts[int(np.argmin(finite))]
        raise UserError(
            f"the {kind}'s vector of {text[:80]!r} is not finite, or beyond 65,504 and thus too "
            "large for float16"
        )
    return half
