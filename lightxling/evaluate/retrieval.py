"""Find each sentence's translation by its vector: cosine, CSLS and margins; P@1 and P@k.

Ties are decided against the encoder: a pair is found when it scores higher than every other
candidate, by more than float32 rounding. An encoder that maps everything to one vector scores 0.
Candidates with the same text therefore spoil each other unless they are declared equal (`same`),
as the benchmarks of `tasks` do.
"""

import dataclasses
from collections.abc import Hashable, Sequence
from typing import Literal, get_args

import numpy as np

from lightxling.base.shapes import Int, Real
from lightxling.base.vectors import (
    BLOCK,
    check_vectors,
    cosine_blocks,
    nearest,
    normalize,
    ratio_margin,
)
from lightxling.corpus.cleaning import clean

Scoring = Literal["cosine", "csls", "margin", "distance", "absolute"]

Product = Literal["dot", "cosine"]

MARGINS = ("margin", "distance", "absolute")
"""Scorings of LASER, under which only the nearest neighbours compete."""

NEIGHBOURS = {"csls": 10} | dict.fromkeys(MARGINS, 4)
"""Neighbours that a scoring averages over, as published."""

TIE = 1e-6
"""Scores closer than this are equal: the rounding error of float32 products."""


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

        cosine    cos(x, y)
        csls      2 cos(x, y) - r(x) - r(y),   r = mean cosine to the 10 nearest of the other side
        margin    2 cos(x, y) / (r(x) + r(y)), r over the 4 nearest, which alone compete
        distance  cos(x, y) - (r(x) + r(y)) / 2, as margin
        absolute  cos(x, y), among the 4 nearest

    Source of the margins: Artetxe and Schwenk 2019 (arXiv 1811.01136), section 3.2.

    Args:
      queries: [Q, D] vectors.
      candidates: [N, D] vectors.
      gold: [Q] row of the candidate that translates each query; by default query i and candidate i.
      same: [N] labels; candidates of equal label are the same sentence (`text_labels`), and finding
        any of them is right. By default all differ.

    Returns:
      [Q] one plus the number of wrong candidates that score at least as high as the right one.
      Under a margin, a translation that is not among the neighbours of its query is placed last
      (N).
    """
    check_vectors(queries, candidates)
    if scoring not in get_args(Scoring):
        raise ValueError(f"scoring={scoring!r} is not one of {', '.join(get_args(Scoring))}")
    if gold is None:
        if len(queries) != len(candidates):
            raise ValueError(
                f"{len(queries)} queries and {len(candidates)} candidates are not paired; pass gold"
            )
        gold = np.arange(len(queries))
    if scoring in MARGINS:
        return _margin_ranks(queries, candidates, gold, same, scoring, block)

    penalty = None
    if scoring == "csls":
        near, _ = nearest(candidates, queries, NEIGHBOURS["csls"], block)
        penalty = near.mean(axis=1) / 2  # cos - r(y) / 2 ranks like 2 cos - r(x) - r(y)
    # what a query has to beat: its best right candidate, computed apart, as no block has them all
    owner, right = _right_candidates(gold, same)
    score = _pair_cosines(queries, candidates, owner, right, block)
    if penalty is not None:
        score = score - penalty[right]
    bar = np.full(len(queries), -np.inf, np.float32)
    np.maximum.at(bar, owner, score)
    bar -= TIE
    above = np.zeros(len(queries), np.int64)
    for rows, cols, cosines in cosine_blocks(queries, candidates, block):
        if penalty is not None:
            cosines -= penalty[cols]
        above[rows] += np.count_nonzero(cosines >= bar[rows, None], axis=1)
    # right candidates that reach the bar were counted with the wrong ones
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
    check_vectors(queries, candidates)
    if product not in get_args(Product):
        raise ValueError(f"product={product!r} is not one of {', '.join(get_args(Product))}")
    if product == "cosine":
        queries, candidates = normalize(queries), normalize(candidates)
    queries, candidates = np.asarray(queries, np.float32), np.asarray(candidates, np.float32)
    total, rng = len(candidates), np.random.default_rng(seed)
    norms = [np.sqrt(np.einsum("nd,nd->n", x, x)) for x in (queries, candidates)]
    places = np.empty(len(queries), np.int64)
    # so many queries that their scores with all candidates fill one block
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


def precision_by_text(
    src: Real[np.ndarray, "B D"],
    tgt: Real[np.ndarray, "B D"],
    texts: Sequence[Sequence[Hashable]],
    scoring: str = "cosine",
) -> Accuracy:
    """`precision_at_1` in which equal sentences are one: finding any of them is right. This is what
    P@1 means wherever the program shows it.

    Args:
      texts: the sentences of both sides, [B] each, or what tells them apart.
    """
    same_src, same_tgt = map(text_labels, texts)
    return precision_at_1(src, tgt, scoring, same_src=same_src, same_tgt=same_tgt)


def weighted_f1(gold: Int[np.ndarray, " Q"], predicted: Int[np.ndarray, " Q"]) -> float:
    """Mean over the queries of the F1 of their candidate, from 0 to 1: what mteb calls F1.

        F1(y) = 2 |queries of y that predict y| / (|queries of y| + |queries that predict y|)

    Every candidate is a class, weighted by its queries. A candidate that many queries predict (a
    hub) has low precision, so F1 is below accuracy where the errors crowd.

    Source: `f1_score(average="weighted")` of scikit-learn in mteb's BitextMiningEvaluator.
    """
    _, codes = np.unique(np.concatenate([gold, predicted]), return_inverse=True)
    gold, predicted = np.split(codes, 2)
    size = codes.max() + 1
    support, asked = np.bincount(gold, minlength=size), np.bincount(predicted, minlength=size)
    hits = np.bincount(gold[gold == predicted], minlength=size)
    return float(np.sum(support * 2 * hits / np.maximum(support + asked, 1)) / len(gold))


def text_labels(texts: Sequence[Hashable]) -> Int[np.ndarray, " N"]:
    """[N] numbers that are equal where the texts are; sentences as the encoder reads them, where
    characters that nobody sees tell none apart."""
    seen: dict[Hashable, int] = {}
    read = (clean(text) if isinstance(text, str) else text for text in texts)
    return np.array([seen.setdefault(text, len(seen)) for text in read], np.int64)


def _margin_ranks(queries, candidates, gold, same, scoring, block):
    """`ranks` under a margin."""
    k = NEIGHBOURS[scoring]
    cosines, found = nearest(queries, candidates, k, block)  # [Q, K]
    back, _ = nearest(candidates, queries, k, block)
    around = (cosines.mean(axis=1)[:, None] + back.mean(axis=1)[found]) / 2  # [Q, K]
    if scoring == "margin":
        margins = ratio_margin(cosines, around, "--scoring cosine or csls")
    else:
        margins = cosines - around if scoring == "distance" else cosines
    right = found == gold[:, None] if same is None else same[found] == same[gold][:, None]
    best = np.where(right, margins, -np.inf).max(axis=1)
    wrong = np.count_nonzero(~right & (margins >= best[:, None] - TIE), axis=1)
    return np.where(right.any(axis=1), 1 + wrong, len(candidates))


def _right_candidates(gold, same):
    """Pairs (query, right candidate) as two arrays of equal length, ordered by query."""
    if same is None:
        return np.arange(len(gold)), gold
    # sorted by label, the right ones of a query are a stretch: from `first`, `count` of them
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
