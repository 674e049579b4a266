"""Mining in folders of vectors on many machines, as a job of Ray Data (the extra `ray`)."""

import dataclasses
import hashlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from lightxling.base.errors import UserError
from lightxling.base.files import check_output
from lightxling.base.shapes import Float, Int
from lightxling.base.vectors import nearest
from lightxling.corpus.cleaning import clean
from lightxling.encode import jobs, mining
from lightxling.encode.mine_files import MineSettings, tell_side, write_mined
from lightxling.encode.vector_folders import Vectors

PARTS_AT_ONCE = 64
"""Parts of candidates that one task compares with one part of queries."""

Near = tuple[Float[np.ndarray, "Q K"], Int[np.ndarray, "Q K"]]
"""Cosines and rows of neighbours, best first."""


def mine_folders(
    encoder: str,
    src: Path,
    tgt: Path,
    output: Path,
    *,
    settings: MineSettings | None = None,
    workers: jobs.Workers | None = None,
    progress: Callable[[str], None] = lambda text: None,
) -> int:
    """Writes `score<TAB>source<TAB>target`, best first, from two folders of vectors.

    Neighbours are found exactly, a part of one side against `PARTS_AT_ONCE` of the other in a task;
    they are merged by cosine and row, so that it does not matter who is ready first. Scores, and
    which pairs are kept, are computed in this process: it holds about 150 bytes a sentence and the
    text of the pairs.

    Args:
      encoder: fingerprint of the one whose vectors they should be.
      src, tgt: folders that `encode_files` wrote. Blank and repeated sentences are left out.

    Returns:
      The number of pairs.

    Raises:
      UserError: vectors of another encoder, or nothing to mine.
    """
    settings, workers = settings or MineSettings(), workers or jobs.Workers()
    check_output(output)
    if settings.search == "faiss":
        raise UserError("--search faiss: jobs search exactly; leave it out")
    jobs.connect()
    opened = Vectors.open(src), Vectors.open(tgt)
    for path, vectors in zip((src, tgt), opened, strict=True):
        if vectors.encoder != encoder:
            raise UserError(f"{path} holds vectors of another encoder; encode its text again")
    sides = tuple(Side.of(vectors) for vectors in opened)
    for path, side in zip((src, tgt), sides, strict=True):
        tell_side(path, len(side), progress)
    near = _neighbours(sides, settings.neighbours, workers, progress)
    mined = mining.best_pairs(*near, margin=settings.margin, retrieval=settings.direction)
    return write_mined(output, mined, settings.threshold, lambda i, rows: sides[i].texts(rows))


@dataclasses.dataclass(frozen=True)
class Side:
    """The sentences of a folder that are neither blank nor there before, counted over all parts."""

    vectors: Vectors
    kept: list[Int[np.ndarray, " _"]]
    """Their rows in each part."""
    bounds: Int[np.ndarray, " _"]
    """Number of the first of each part, and of all."""

    @classmethod
    def of(cls, vectors: Vectors) -> "Side":
        """Reads all texts.

        Raises:
          UserError: a part has more or fewer than the manifest says.
        """
        keys, bounds = [], np.cumsum([0, *(part.rows for part in vectors.parts)])
        for number in range(len(vectors.parts)):
            texts = vectors.column(number, "text").to_pylist()
            keys += [
                hashlib.blake2b(read.encode(), digest_size=16).digest() if read else b""
                for read in map(clean, texts)  # as `mining.unique_texts`
            ]
            if len(keys) != bounds[number + 1]:
                name = vectors.parts[number].name
                raise UserError(f"{vectors.folder}/{name} has been altered")
        hashes = np.array(keys, "S16")
        filled = np.flatnonzero(hashes != b"")
        first = np.sort(filled[np.unique(hashes[filled], return_index=True)[1]])
        pieces = np.split(first, np.searchsorted(first, bounds[1:-1]))
        kept = [piece - start for piece, start in zip(pieces, bounds[:-1], strict=True)]
        return cls(vectors, kept, np.cumsum([0, *map(len, kept)]))

    def __len__(self) -> int:
        return int(self.bounds[-1])

    def matrix(self, part: int) -> Float[np.ndarray, "N D"]:
        return self.vectors.matrix(part, self.kept[part])

    def texts(self, wanted: Int[np.ndarray, " M"]) -> dict[int, str]:
        """Texts by number."""
        texts: dict[int, str] = {}
        wanted = np.unique(wanted)
        for part, rows in enumerate(self.kept):
            start, end = self.bounds[part : part + 2]
            here = wanted[slice(*np.searchsorted(wanted, (start, end)))]
            if len(here):
                found = self.vectors.column(part, "text").take(rows[here - start])
                texts.update(zip(here.tolist(), found.to_pylist(), strict=True))
        return texts


def _neighbours(
    sides: tuple[Side, ...], k: int, workers: jobs.Workers, progress: Callable[[str], None]
) -> list[Near]:
    """The k nearest of the other side, for each sentence of both."""
    import ray

    tasks: list[dict[str, Any]] = [
        {"side": side, "part": part, "first": first, "last": first + PARTS_AT_ONCE}
        for side in (0, 1)
        for part in range(len(sides[side].kept))
        for first in range(0, len(sides[1 - side].kept), PARTS_AT_ONCE)
    ]
    near = []
    for own, other in (sides, sides[::-1]):
        shape = len(own), min(k, len(other))
        near.append((np.full(shape, -np.inf, np.float32), np.zeros(shape, np.int64)))
    missing = {tuple(task.values()) for task in tasks}
    dataset = ray.data.from_items(tasks, override_num_blocks=len(tasks))
    said = time.monotonic()
    for row in jobs.results(dataset, _Nearest, ray.put((sides, k)), workers):
        key = side, part, *_ = tuple(row[name] for name in ("side", "part", "first", "last"))
        if key not in missing:  # twice: a neighbour must not be counted twice
            continue
        missing.remove(key)
        rows = slice(*sides[side].bounds[part : part + 2])
        best = near[side][0][rows], near[side][1][rows]  # views: written in place
        shape = len(best[0]), -1
        found = (
            np.frombuffer(row["cosines"], np.float32).reshape(shape),
            np.frombuffer(row["rows"], np.int64).reshape(shape),
        )
        best[0][:], best[1][:] = merge_nearest(best, found, best[0].shape[1])
        if time.monotonic() - said > 5:
            said = time.monotonic()
            progress(f"{len(tasks) - len(missing):,} of {len(tasks):,} tasks")
    if missing:
        raise RuntimeError(f"{len(missing)} tasks have no result")
    return near


def merge_nearest(
    one: tuple[Float[np.ndarray, "Q K"], Int[np.ndarray, "Q K"]],
    other: tuple[Float[np.ndarray, "Q L"], Int[np.ndarray, "Q L"]],
    k: int,
) -> tuple[Float[np.ndarray, "Q M"], Int[np.ndarray, "Q M"]]:
    """The k best of two lists of neighbours, as (cosines, rows): equal cosines by row."""
    cosines = np.concatenate([one[0], other[0]], axis=1)
    rows = np.concatenate([one[1], other[1]], axis=1)
    order = np.lexsort((rows, -cosines), axis=1)[:, :k]
    return np.take_along_axis(cosines, order, axis=1), np.take_along_axis(rows, order, axis=1)


class _Nearest:
    """A part of one side and some of the other -> the nearest neighbours of its sentences."""

    def __init__(self, settings):
        self.sides, self.k = jobs.fetched(settings)

    def __call__(self, batch):
        (task,) = batch.to_pylist()
        own, other = self.sides[task["side"]], self.sides[1 - task["side"]]
        queries = own.matrix(task["part"])
        best = np.empty((len(queries), 0), np.float32), np.empty((len(queries), 0), np.int64)
        for part in range(task["first"], min(task["last"], len(other.kept))):
            if len(queries) and len(other.kept[part]):
                cosines, at = nearest(queries, other.matrix(part), self.k)
                best = merge_nearest(best, (cosines, at + other.bounds[part]), self.k)
        found = {"cosines": best[0].tobytes(), "rows": best[1].tobytes()}
        return {key: [value] for key, value in {**task, **found}.items()}
