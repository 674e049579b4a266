"""`lightxling mine`: translations in two collections of sentences, from two files of text."""

import dataclasses
import math
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from lightxling.base.errors import UserError, at_least
from lightxling.base.files import atomic, check_output, is_device, scratch_folder
from lightxling.base.lines import Problems
from lightxling.base.vectors import Encode, map_array, nearest, normalize
from lightxling.corpus.readers import read_moses
from lightxling.encode import mining
from lightxling.encode.encoder import write_npy
from lightxling.encode.mining import Mined

SearchName = Literal["auto", "exact", "faiss"]
EXACT_LIMIT = 2e10  # products of vectors: some minutes of exact search
IN_MEMORY = 200_000  # sentences; beyond, unit vectors lie on disk as float16


@dataclasses.dataclass(frozen=True)
class MineSettings:
    """How pairs are found in two files of sentences.

    Attributes:
      margin: the score of a pair.
      direction: which pairs are candidates.
      neighbours: neighbours of a sentence that are scored.
      threshold: lowest score that is written; 1.06 is a usual choice for ratio. By default all
        pairs are.
      search: exact: every sentence with every other; faiss: an approximate index; auto: by size.
      index: faiss factory string, such as IVF4096,SQ8, which asks for faiss; by default chosen by
        size.
      probes: lists of the index that are searched per sentence.
    """

    margin: mining.Margin = "ratio"
    direction: mining.Direction = "max"
    neighbours: int = 4
    threshold: float | None = None
    search: SearchName = "auto"
    index: str = ""
    probes: int = 32

    def __post_init__(self) -> None:
        at_least(self, "neighbours", 1)
        at_least(self, "probes", 1)
        if self.threshold is not None and not math.isfinite(self.threshold):
            raise UserError(f"--threshold {self.threshold} is no score; 1.06 is a usual choice")
        if self.index and self.search == "exact":
            raise UserError(
                f"--index {self.index} is for --search faiss, not exact; leave one of them out"
            )


def mine_files(
    encode: Encode,
    src: Path,
    tgt: Path,
    output: Path,
    settings: MineSettings | None = None,
    progress: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Writes `score<TAB>source<TAB>target`, best first, from two files with one sentence per line.

    Blank and repeated lines are left out, and those that are not text, which a warning counts.

    Args:
      progress: receives a line of text now and then.

    Returns:
      The number of different `sentences` on both sides, and of `pairs` written.
    """
    settings = settings or MineSettings()
    check_output(output)
    start = time.perf_counter()
    texts = []
    for path in (src, tgt):
        problems = Problems()
        unique, _ = mining.unique_texts(line for (line,) in read_moses([path], problems))
        problems.warn("left out")
        tell_side(path, len(unique), progress)
        texts.append(unique)
    name = settings.search
    if name == "auto":
        is_small = len(texts[0]) * len(texts[1]) <= EXACT_LIMIT
        name = "exact" if is_small and not settings.index else "faiss"
    search = nearest if name == "exact" else mining.faiss_search(settings.index, settings.probes)
    # /dev holds no vectors
    place = Path(tempfile.gettempdir()) if is_device(output) else output.absolute().parent
    with scratch_folder(place, f"mine-{output.name}") as scratch:
        vectors = [
            _unit_vectors(encode, side, scratch / f"{i}.npy") for i, side in enumerate(texts)
        ]
        progress(f"encoded in {time.perf_counter() - start:.0f} s; searching ({name})")
        mined = mining.mine_pairs(
            *vectors,
            margin=settings.margin,
            retrieval=settings.direction,
            k=settings.neighbours,
            search=search,
        )
    count = write_mined(output, mined, settings.threshold, lambda side, _: texts[side])
    return {"sentences": [len(side) for side in texts], "pairs": count}


def tell_side(path: Path, sentences: int, progress: Callable[[str], None]) -> None:
    """Says how many different sentences one side has.

    Raises:
      UserError: it has none.
    """
    if not sentences:
        raise UserError(f"{path} holds no sentences")
    progress(f"{path}: {sentences:,} different sentences")


def write_mined(
    output: Path,
    mined: Mined,
    threshold: float | None,
    texts: Callable[[int, np.ndarray], Sequence[str] | Mapping[int, str]],
) -> int:
    """Writes `score<TAB>source<TAB>target`, a pair a line; returns how many.

    Args:
      threshold: lowest score that is written; None: all pairs are.
      texts: (side, rows) -> the texts of at least these rows, by row.
    """
    if threshold is not None:
        mined = mined.above(threshold)
    src, tgt = texts(0, mined.src), texts(1, mined.tgt)
    with atomic(output) as temporary, open(temporary, "w", encoding="utf-8", newline="\n") as file:
        for score, i, j in zip(mined.score, mined.src.tolist(), mined.tgt.tolist(), strict=True):
            one, other = src[i].replace("\t", " "), tgt[j].replace("\t", " ")
            file.write(f"{score:.4f}\t{one}\t{other}\n")
    return len(mined)


def _unit_vectors(encode: Encode, texts: list[str], path: Path, chunk: int = 50_000) -> np.ndarray:
    """[N, D] unit vectors; many of them as float16 in a file, for D times N times 2 bytes."""
    if len(texts) <= IN_MEMORY:
        return normalize(encode(texts))
    slabs = (texts[start : start + chunk] for start in range(0, len(texts), chunk))
    # written, not stored through a map: on a full disk that would end the process by a signal
    with open(path, "wb") as file:
        dimension = encode(texts[:1]).shape[1]
        write_npy(file, ((slab, normalize(encode(slab))) for slab in slabs), dimension, "<f2")
    return map_array(path)
