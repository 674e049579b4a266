"""Arithmetic of sentence vectors: lengths, cosines block by block, nearest neighbours.

Vectors may have any norm and any number format; arrays larger than memory may be memory-mapped.
Scores are computed block by block in float32, so 2,000 queries in 200,000 candidates need tens of
megabytes beside the vectors.
"""

import tokenize
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from lightxling.base import limits
from lightxling.base.errors import UserError
from lightxling.base.shapes import Float, Int, Real

Encode = Callable[[list[str]], np.ndarray]
"""Sentences to vectors [N, D], not normalised."""

BLOCK = 2048
"""Rows of queries and of candidates in one matrix product: 16 MB of scores."""


def map_array(path: Path) -> np.ndarray:
    """The array of an .npy file that anyone may have written, mapped into memory.

    Raises:
      OSError: there is none.
      ValueError: it is damaged.
    """
    try:
        limits.check_file(path)
        return np.lib.format.open_memmap(path, mode="r")  # of an .npy only: `load` reads zips too
    except (EOFError, SyntaxError, ArithmeticError, tokenize.TokenError) as error:
        raise ValueError(f"{path} is not an .npy file: {error}") from None


class NotFinite(UserError):
    """A sentence of which the encoder makes no vector.

    Attributes:
      row: of the sentence among those that were given, from 0.
    """

    def __init__(self, row: int, place: str):
        super().__init__(
            f"the vector of {place} is not finite: the encoder's numbers overflow on it; take "
            "another checkpoint, or train again with a lower optimizer.learning_rate"
        )
        self.row = row


def check_finite(vectors: Real[np.ndarray, "N D"], place: str, first: int = 0) -> None:
    """Refuses vectors with NaN or infinity.

    Args:
      place: what a row is called, as in `line`.
      first: what is added to the number of a row in the message.

    Raises:
      NotFinite: names the first such row, counted from 1.
    """
    bad = np.flatnonzero(~np.isfinite(vectors).all(axis=1))
    if len(bad):
        raise NotFinite(int(bad[0]), f"{place} {first + int(bad[0]) + 1:,}")


def normalize(vectors: Real[np.ndarray, "N D"]) -> Float[np.ndarray, "N D"]:
    """Rows of length 1, in float32; an all-zero row stays zero."""
    vectors = np.asarray(vectors, np.float32)
    lengths = np.sqrt(np.einsum("nd,nd->n", vectors, vectors))
    if not np.isfinite(lengths).all():
        row = int(np.flatnonzero(~np.isfinite(lengths))[0])
        raise ValueError(f"vector {row} is not finite: the encoder returned NaN or infinity")
    return vectors / np.where(lengths > 0, lengths, 1)[:, None]


def nearest(
    queries: Real[np.ndarray, "Q D"],
    candidates: Real[np.ndarray, "N D"],
    k: int = 1,
    block: int = BLOCK,
) -> tuple[Float[np.ndarray, "Q K"], Int[np.ndarray, "Q K"]]:
    """The k candidates of highest cosine for each query, best first; exact.

    Args:
      queries: [Q, D] vectors of any norm.
      candidates: [N, D] vectors of any norm.
      k: neighbours wanted; with fewer candidates, all of them are returned.
      block: rows of either side in one matrix product; memory is 4 * block ** 2 bytes.

    Returns:
      Cosines and row numbers, both [Q, min(k, N)]. Equal cosines are ordered by row number; which
      of several equal candidates takes the last place is not defined.
    """
    check_vectors(queries, candidates)
    k = min(k, len(candidates))
    scores = np.full((len(queries), k), -np.inf, np.float32)
    indices = np.zeros((len(queries), k), np.int64)
    for rows, cols, cosines in cosine_blocks(queries, candidates, block):
        best, where = scores[rows], indices[rows]  # views: written in place
        better = np.flatnonzero(cosines.max(axis=1) > best[:, -1])  # ever fewer
        if not len(better):
            continue
        found = cosines[better]
        if found.shape[1] > k:
            top = found.argmax(1)[:, None] if k == 1 else found.argpartition(-k, axis=1)[:, -k:]
            found = np.take_along_axis(found, top, axis=1)
        else:
            top = np.broadcast_to(np.arange(found.shape[1]), found.shape)
        found = np.concatenate([best[better], found], axis=1)
        top = np.concatenate([where[better], top + cols.start], axis=1)
        order = np.lexsort((top, -found), axis=1)[:, :k]
        best[better] = np.take_along_axis(found, order, axis=1)
        where[better] = np.take_along_axis(top, order, axis=1)
    return scores, indices


def cosine_blocks(
    queries: np.ndarray, candidates: np.ndarray, block: int
) -> Iterator[tuple[slice, slice, np.ndarray]]:
    """Cosines of all queries and candidates in pieces: (rows, columns, [q, n] scratch array)."""
    scratch = np.empty(min(block, len(queries)) * min(block, len(candidates)), np.float32)
    for top in range(0, len(queries), block):
        x = normalize(queries[top : top + block])
        for left in range(0, len(candidates), block):
            y = normalize(candidates[left : left + block])
            cosines = scratch[: len(x) * len(y)].reshape(len(x), len(y))
            np.matmul(x, y.T, out=cosines)
            yield slice(top, top + len(x)), slice(left, left + len(y)), cosines


def check_vectors(queries: np.ndarray, candidates: np.ndarray) -> None:
    if queries.ndim != 2 or candidates.ndim != 2 or queries.shape[1] != candidates.shape[1]:
        raise ValueError(
            f"expected vectors of one width on both sides, got {queries.shape} and "
            f"{candidates.shape}"
        )
    if not len(queries) or not len(candidates):
        raise ValueError(f"nothing to search: {len(queries)} queries, {len(candidates)} candidates")


def ratio_margin(cosine: np.ndarray, neighbourhood: np.ndarray, instead: str) -> np.ndarray:
    """cosine / neighbourhood, where the neighbourhood (a mean cosine) is kept positive.

    Args:
      instead: what a warning tells to try where it was not.
    """
    if np.any(neighbourhood <= 0):
        warnings.warn(
            "some sentences have a negative mean cosine to their nearest neighbours: the ratio "
            "margin means little here (is the encoder trained?); try " + instead,
            stacklevel=2,
        )
    return cosine / np.maximum(neighbourhood, 1e-6)
