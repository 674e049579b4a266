"""Find each sentence's translation by its vector: cosine, CSLS and margin; P@1 and P@k.

Vectors may have any norm and any number format; arrays larger than memory may be memory-mapped.
Scores are computed block by block in float32, so 2,000 queries in 200,000 candidates need tens of
megabytes beside the vectors.

Ties are decided against the encoder: a pair is found when it scores higher than every other
candidate, by more than float32 rounding. An encoder that maps everything to one vector scores 0.
Candidates with the same text therefore spoil each other unless they are declared equal (`same`).
"""

import dataclasses
import warnings
from collections.abc import Iterator, Sequence
from typing import Literal, get_args

import numpy as np
from jaxtyping import Float, Int, Real

Scoring = Literal["cosine", "csls", "margin"]

Product = Literal["dot", "cosine"]

NEIGHBOURS = {"cosine": 0, "csls": 10, "margin": 4}
"""Neighbours that a scoring averages over, as published."""

BLOCK = 2048
"""Rows of queries and of candidates in one matrix product: 16 MB of scores."""

TIE = 1e-6
"""Scores closer than this are equal: the rounding error of float32 products."""


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
    _check_vectors(queries, candidates)
    k = min(k, len(candidates))
    scores = np.full((len(queries), k), -np.inf, np.float32)
    indices = np.zeros((len(queries), k), np.int64)
    for rows, cols, cosines in _blocks(queries, candidates, block):
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


def ranks(
    queries: Real[np.ndarray, "Q D"],
    candidates: Real[np.ndarray, "N D"],
    gold: Int[np.ndarray, " Q"] | None = None,
    *,
    same: Int[np.ndarray, " N"] | None = None,
    scoring: str = "cosine",
    block: int = BLOCK,
) -> Int[np.ndarray, " Q"]:
    """Place of each query's translation among the candidates; 1 is found.

        cosine  cos(x, y)
        csls    2 cos(x, y) - r(x) - r(y),   r = mean cosine to the 10 nearest of the other side
        margin  2 cos(x, y) / (r(x) + r(y)), r over the 4 nearest, which alone compete

    Args:
      queries: [Q, D] vectors.
      candidates: [N, D] vectors.
      gold: [Q] row of the candidate that translates each query; by default query i and candidate i.
      same: [N] labels; candidates of equal label are the same sentence (`text_labels`), and finding
        any of them is right. By default all differ.

    Returns:
      [Q] one plus the number of wrong candidates that score at least as high as the right one.
      Under `margin`, a translation that is not among the neighbours of its query is placed last
      (N).
    """
    _check_vectors(queries, candidates)
    if scoring not in get_args(Scoring):
        raise ValueError(f"scoring={scoring!r} is not one of {', '.join(get_args(Scoring))}")
    if gold is None:
        if len(queries) != len(candidates):
            raise ValueError(
                f"{len(queries)} queries and {len(candidates)} candidates are not paired; pass gold"
            )
        gold = np.arange(len(queries))
    if scoring == "margin":
        return _margin_ranks(queries, candidates, gold, same, block)

    penalty = None
    if scoring == "csls":
        near, _ = nearest(candidates, queries, NEIGHBOURS["csls"], block)
        penalty = near.mean(axis=1) / 2  # cos - r(y) / 2 ranks like 2 cos - r(x) - r(y)
    owner, right = _right_candidates(gold, same)
    score = _pair_cosines(queries, candidates, owner, right, block)
    if penalty is not None:
        score = score - penalty[right]
    bar = np.full(len(queries), -np.inf, np.float32)
    np.maximum.at(bar, owner, score)
    bar -= TIE
    above = np.zeros(len(queries), np.int64)
    for rows, cols, cosines in _blocks(queries, candidates, block):
        if penalty is not None:
            cosines -= penalty[cols]
        above[rows] += np.count_nonzero(cosines >= bar[rows, None], axis=1)
    above -= np.bincount(owner[score >= bar[owner]], minlength=len(queries))
    return 1 + np.maximum(above, 0)


def ranks_among(
    queries: Real[np.ndarray, "Q D"],
    candidates: Real[np.ndarray, "Q D"],
    among: int = 1000,
    *,
    product: str = "dot",
    seed: int = 0,
    block: int = BLOCK,
) -> Int[np.ndarray, " Q"]:
    """Place of each query's pair among itself and `among` - 1 others, drawn for each query.

    Candidate i belongs to query i. The others are drawn without replacement; with fewer candidates
    all of them compete. A tie misses, as in `ranks`.

    Args:
      product: dot, of the vectors as they are, or cosine.

    Source: arXiv 1810.12836, section 4.1.
    """
    _check_vectors(queries, candidates)
    if product not in get_args(Product):
        raise ValueError(f"product={product!r} is not one of {', '.join(get_args(Product))}")
    if product == "cosine":
        queries, candidates = normalize(queries), normalize(candidates)
    queries, candidates = np.asarray(queries, np.float32), np.asarray(candidates, np.float32)
    total, rng = len(candidates), np.random.default_rng(seed)
    norms = [np.sqrt(np.einsum("nd,nd->n", x, x)) for x in (queries, candidates)]
    places = np.empty(len(queries), np.int64)
    rows_at_once = max(block**2 // total, 1)
    for start in range(0, len(queries), rows_at_once):
        rows = np.arange(start, min(start + rows_at_once, len(queries)))
        scores = queries[rows] @ candidates.T
        bar = scores[np.arange(len(rows)), rows] - TIE * norms[0][rows] * norms[1][rows]
        above = scores >= bar[:, None]
        above[np.arange(len(rows)), rows] = False
        if among < total:
            order = rng.random(above.shape, np.float32)
            order[np.arange(len(rows)), rows] = 2  # never drawn
            drawn = np.argpartition(order, among - 2, axis=1)[:, : among - 1]
            above = np.take_along_axis(above, drawn, axis=1)
        places[rows] = 1 + np.count_nonzero(above, axis=1)
    return places


def precision(places: Int[np.ndarray, " Q"], k: int = 1) -> float:
    """P@k: share of the queries whose translation is among the first k."""
    return float(np.mean(places <= k))


@dataclasses.dataclass(frozen=True)
class Accuracy:
    """P@1 in both directions, from 0 to 1, and the number of candidates it was measured among."""

    forward: float
    backward: float
    candidates: int

    @property
    def mean(self) -> float:
        return (self.forward + self.backward) / 2

    @property
    def error(self) -> float:
        return 1 - self.mean


def precision_at_1(
    src: Real[np.ndarray, "B D"],
    tgt: Real[np.ndarray, "B D"],
    scoring: str = "cosine",
    *,
    same_src: Int[np.ndarray, " B"] | None = None,
    same_tgt: Int[np.ndarray, " B"] | None = None,
    block: int = BLOCK,
) -> Accuracy:
    """Share of rows whose best-scoring row of the other side is their pair, both ways; a tie
    misses.

    Args:
      src, tgt: [B, D] vectors of any norm; row i of `src` translates row i of `tgt`.
      scoring: see `ranks`.
      same_src, same_tgt: [B] labels of equal sentences, see `ranks`.
    """
    forward = ranks(src, tgt, same=same_tgt, scoring=scoring, block=block)
    backward = ranks(tgt, src, same=same_src, scoring=scoring, block=block)
    return Accuracy(precision(forward), precision(backward), len(tgt))


def text_labels(texts: Sequence[str]) -> Int[np.ndarray, " N"]:
    """[N] numbers that are equal where the texts are."""
    seen: dict[str, int] = {}
    return np.array([seen.setdefault(text, len(seen)) for text in texts], np.int64)


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


def _margin_ranks(queries, candidates, gold, same, block):
    """`ranks` under the ratio margin."""
    k = NEIGHBOURS["margin"]
    cosines, found = nearest(queries, candidates, k, block)  # [Q, K]
    back, _ = nearest(candidates, queries, k, block)
    around = (cosines.mean(axis=1)[:, None] + back.mean(axis=1)[found]) / 2  # [Q, K]
    margins = ratio_margin(cosines, around, "--scoring cosine or csls")
    right = found == gold[:, None] if same is None else same[found] == same[gold][:, None]
    best = np.where(right, margins, -np.inf).max(axis=1)
    wrong = np.count_nonzero(~right & (margins >= best[:, None] - TIE), axis=1)
    return np.where(right.any(axis=1), 1 + wrong, len(candidates))


def _right_candidates(gold, same):
    """Pairs (query, right candidate) as two arrays of equal length, ordered by query."""
    if same is None:
        return np.arange(len(gold)), gold
    order = np.argsort(same, kind="stable")
    label = same[gold]
    first = np.searchsorted(same[order], label, side="left")
    count = np.searchsorted(same[order], label, side="right") - first
    owner = np.repeat(np.arange(len(gold)), count)
    within = np.arange(len(owner)) - np.repeat(np.cumsum(count) - count, count)
    return owner, order[first[owner] + within]


def _pair_cosines(queries, candidates, owner, right, block):
    """Cosine of queries[owner[i]] and candidates[right[i]] for every i."""
    score = np.empty(len(owner), np.float32)
    for start in range(0, len(owner), block):
        part = slice(start, start + block)
        x, y = normalize(queries[owner[part]]), normalize(candidates[right[part]])
        score[part] = np.einsum("nd,nd->n", x, y)
    return score


def _blocks(queries, candidates, block) -> Iterator[tuple[slice, slice, np.ndarray]]:
    """Cosines of all queries and candidates in pieces: (rows, columns, [q, n] scratch array)."""
    scratch = np.empty(min(block, len(queries)) * min(block, len(candidates)), np.float32)
    for top in range(0, len(queries), block):
        x = normalize(queries[top : top + block])
        for left in range(0, len(candidates), block):
            y = normalize(candidates[left : left + block])
            cosines = scratch[: len(x) * len(y)].reshape(len(x), len(y))
            np.matmul(x, y.T, out=cosines)
            yield slice(top, top + len(x)), slice(left, left + len(y)), cosines


def _check_vectors(queries, candidates):
    if queries.ndim != 2 or candidates.ndim != 2 or queries.shape[1] != candidates.shape[1]:
        raise ValueError(
            f"expected vectors of one width on both sides, got {queries.shape} and "
            f"{candidates.shape}"
        )
    if not len(queries) or not len(candidates):
        raise ValueError(f"nothing to search: {len(queries)} queries, {len(candidates)} candidates")
