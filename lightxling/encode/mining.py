"""Find translations in two unaligned collections: margin scores, thresholds and the BUCC measure.

A mined pair is two row numbers and a score. Texts are made unique before they are encoded
(`unique_texts`), because a sentence that occurs twice would be its own rival.
"""

import dataclasses
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Literal, get_args

import numpy as np

from lightxling.base.errors import UserError
from lightxling.base.extras import needed_by
from lightxling.base.shapes import Bool, Float, Int, Real
from lightxling.base.vectors import nearest, normalize, ratio_margin
from lightxling.corpus.cleaning import clean

Margin = Literal["ratio", "distance", "absolute"]
Direction = Literal["forward", "backward", "intersection", "max"]
Search = Callable[[np.ndarray, np.ndarray, int], tuple[np.ndarray, np.ndarray]]
"""(queries [Q, D], candidates [N, D], k) -> cosines and rows [Q, K], best first, as `nearest`."""


@dataclasses.dataclass(frozen=True)
class Mined:
    """M pairs of rows, best score first; pairs of equal score are ordered by row."""

    src: Int[np.ndarray, " M"]
    tgt: Int[np.ndarray, " M"]
    score: Float[np.ndarray, " M"]

    def __len__(self) -> int:
        return len(self.score)

    def above(self, threshold: float) -> "Mined":
        """The pairs that score `threshold` or more."""
        keep = self.score >= threshold
        return Mined(self.src[keep], self.tgt[keep], self.score[keep])


def mine_pairs(
    src: Real[np.ndarray, "S D"],
    tgt: Real[np.ndarray, "T D"],
    *,
    margin: str = "ratio",
    retrieval: str = "max",
    k: int = 4,
    search: Search = nearest,
) -> Mined:
    """Scores the k nearest neighbours of every sentence and keeps the best pairs.

        a(x, y) = (mean cos(x, k nearest of x) + mean cos(y, k nearest of y)) / 2
        ratio cos(x, y) / a    distance cos(x, y) - a    absolute cos(x, y)

    Args:
      src, tgt: [S, D] and [T, D] vectors of any norm.
      margin: ratio, distance or absolute; the last is the plain cosine.
      retrieval: forward: the best target of each source sentence; backward: the best source of each
        target; intersection: pairs that are both; max: the union, from the best score down, each
        sentence used once.
      k: neighbours; the smaller side may have fewer.
      search: how neighbours are found; `nearest` is exact, see also `faiss_search`.
    """
    _check(margin, Margin, "margin")
    _check(retrieval, Direction, "retrieval")
    return best_pairs(search(src, tgt, k), search(tgt, src, k), margin=margin, retrieval=retrieval)


def best_pairs(
    of_src: tuple[Float[np.ndarray, "S K"], Int[np.ndarray, "S K"]],
    of_tgt: tuple[Float[np.ndarray, "T L"], Int[np.ndarray, "T L"]],
    *,
    margin: str = "ratio",
    retrieval: str = "max",
) -> Mined:
    """What `mine_pairs` makes of the neighbours (cosines and rows, best first) of both sides."""
    (forward_cos, forward_at), (backward_cos, backward_at) = of_src, of_tgt
    around_src, around_tgt = forward_cos.mean(axis=1), backward_cos.mean(axis=1)

    def score(cosine, around):
        if margin == "ratio":
            return ratio_margin(cosine, around, "--margin distance or absolute")
        return cosine - around if margin == "distance" else cosine

    forward = score(forward_cos, (around_src[:, None] + around_tgt[forward_at]) / 2)
    backward = score(backward_cos, (around_tgt[:, None] + around_src[backward_at]) / 2)
    # the best of its neighbours for every sentence of either side, as (source rows, target rows)
    rows = np.arange(len(forward)), _pick(forward_at, forward)
    cols = _pick(backward_at, backward), np.arange(len(backward))
    if retrieval == "forward":
        return _ordered(*rows, forward.max(axis=1))
    if retrieval == "backward":
        return _ordered(*cols, backward.max(axis=1))
    if retrieval == "intersection":
        both = cols[0][rows[1]] == rows[0]
        return _ordered(rows[0][both], rows[1][both], forward.max(axis=1)[both])
    union = _ordered(
        np.concatenate([rows[0], cols[0]]),
        np.concatenate([rows[1], cols[1]]),
        np.concatenate([forward.max(axis=1), backward.max(axis=1)]),
    )
    # from the best pair down: a sentence has one translation
    keep = _first_use(union, len(forward), len(backward))
    return Mined(union.src[keep], union.tgt[keep], union.score[keep])


def best_threshold(mined: Mined, right: Bool[np.ndarray, " M"], gold: int) -> tuple[float, float]:
    """The score that separates right from wrong pairs best, and the F1 it gives on these pairs.

    Args:
      mined: pairs, best first.
      right: [M] whether each is a gold pair.
      gold: number of gold pairs, mined or not.

    Returns:
      The midpoint between the last score of the prefix with the best F1 and the score after it (the
      last score itself when that prefix is the whole list), and F1 in 0 to 1. Of equally good
      prefixes, the shortest. Pairs of equal score stay together.
    """
    if gold < 1 or not len(mined):
        raise ValueError(f"no threshold can be fitted: {len(mined)} mined pairs, {gold} gold pairs")
    score = np.asarray(mined.score, np.float64)
    f1 = 2 * np.cumsum(right) / (np.arange(1, len(score) + 1) + gold)
    ends = np.append(score[1:] < score[:-1], True)
    last = int(np.argmax(np.where(ends, f1, -1)))
    if last == len(score) - 1:
        return float(score[last]), float(f1[last])
    return float((score[last] + score[last + 1]) / 2), float(f1[last])


def f1_score(right: Bool[np.ndarray, " M"], gold: int) -> dict[str, float]:
    """Precision, recall and F1, in 0 to 1, of pairs of which `right` are among the `gold` ones."""
    hits = int(np.count_nonzero(right))
    return {
        "precision": hits / len(right) if len(right) else 0.0,
        "recall": hits / gold if gold else 0.0,
        "f1": 2 * hits / (len(right) + gold) if hits else 0.0,
    }


def unique_texts(texts: Iterable[str]) -> tuple[list[str], Int[np.ndarray, " U"]]:
    """The different texts in order of occurrence and the row of each; blank ones are left out.

    Texts that the encoder reads as one, because they differ only in what nobody sees, are one.
    """
    first: dict[str, tuple[str, int]] = {}
    for row, text in enumerate(texts):
        if read := clean(text):
            first.setdefault(read, (text, row))
    rows = np.fromiter((row for _, row in first.values()), np.int64, len(first))
    return [text for text, _ in first.values()], rows


@dataclasses.dataclass(frozen=True)
class Bucc:
    """One split of a BUCC language pair, made unique by text.

    Sentences are the different texts of each side. Mined pairs with a text that the file has more
    than once are left out of the measure, as its identifier is not determined; gold pairs with such
    a text cannot be found then, and count as missed, as in LASER's and BUCC's own programs.
    """

    src: list[str]
    tgt: list[str]
    gold: frozenset[tuple[int, int]]
    """Gold pairs that can be found, as rows of `src` and `tgt`."""
    repeated_src: frozenset[int]
    repeated_tgt: frozenset[int]
    dropped: int
    """Gold pairs that cannot be found because a text of theirs is repeated."""
    asked: list[tuple[int, int]]
    """Of every gold pair, the row in `src` and in `tgt`; -1 for a target whose text an earlier line
    has too."""

    @property
    def all_gold(self) -> int:
        """Gold pairs of the split, which recall divides by."""
        return len(self.gold) + self.dropped

    def judge(self, mined: Mined) -> tuple[Mined, Bool[np.ndarray, " M"]]:
        """The mined pairs that can be judged, and which of them are gold."""
        pairs = list(zip(mined.src.tolist(), mined.tgt.tolist(), strict=True))
        keep = np.array(
            [s not in self.repeated_src and t not in self.repeated_tgt for s, t in pairs], bool
        )
        right = np.array([pair in self.gold for pair in pairs], bool)
        return Mined(mined.src[keep], mined.tgt[keep], mined.score[keep]), right[keep]


def bucc_split(
    src: Sequence[tuple[str, str]], tgt: Sequence[tuple[str, str]], gold: Sequence[tuple[str, str]]
) -> Bucc:
    """Makes a split from its three files: (identifier, text) of both sides, pairs of identifiers.

    Raises `UserError` for a gold identifier that neither side has. Gold columns may be swapped.
    """
    src_texts, src_row, src_repeated = _identified(src)
    tgt_texts, tgt_row, tgt_repeated = _identified(tgt)
    first: dict[int, str] = {}
    for identifier, row in tgt_row.items():
        first.setdefault(row, identifier)
    pairs, asked, dropped = set(), [], 0
    swapped = ((b, a) if b in src_row and a in tgt_row else (a, b) for a, b in gold)
    for a, b in dict.fromkeys(swapped):
        if a not in src_row or b not in tgt_row:
            raise UserError(
                f"gold pair {a} {b}: the sentence files have no such identifiers; are the three "
                "files of one split and one language pair?"
            )
        pair = src_row[a], tgt_row[b]
        asked.append((pair[0], pair[1] if first[pair[1]] == b else -1))
        if pair[0] in src_repeated or pair[1] in tgt_repeated:
            dropped += 1
        else:
            pairs.add(pair)
    repeated = src_repeated, tgt_repeated
    return Bucc(src_texts, tgt_texts, frozenset(pairs), *repeated, dropped, asked)


def faiss_search(index: str = "", probes: int = 32, chunk: int = 65_536) -> Search:
    """A `search` for large collections, by an inverted file of one byte per dimension.

    Neighbours are approximate, their cosines exact. One million candidates of width 512 take 0.5 GB
    of memory in the index, beside the vectors (which may be memory-mapped).

    Args:
      index: a faiss factory string such as `Flat` (exact) or `IVF4096,SQ8`; empty: exact up to
        100,000 candidates, above that IVF with 4 sqrt(N) lists and SQ8.
      probes: lists visited per query; more finds more and takes longer.
      chunk: rows added or asked at once.
    """
    with needed_by("this search"):
        import faiss

    def search(queries, candidates, k):
        k, rows, width = min(k, len(candidates)), *candidates.shape
        spec = index or ("Flat" if rows <= 100_000 else f"IVF{int(4 * rows**0.5)},SQ8")
        try:
            table = faiss.index_factory(width, spec, faiss.METRIC_INNER_PRODUCT)
        except RuntimeError:
            raise UserError(
                f"--index {spec!r} is no index that faiss makes for {width} dimensions; give one "
                "such as IVF4096,SQ8, or leave it out"
            ) from None
        if not table.is_trained:
            lists = getattr(faiss.try_extract_index_ivf(table), "nlist", 256)
            sample = np.random.default_rng(0).choice(rows, min(rows, 64 * lists), replace=False)
            table.train(normalize(candidates[np.sort(sample)]))
        for start in range(0, rows, chunk):
            table.add(normalize(candidates[start : start + chunk]))
        if (inverted := faiss.try_extract_index_ivf(table)) is not None:
            inverted.nprobe = min(probes, inverted.nlist)
        scores = np.empty((len(queries), k), np.float32)
        found = np.empty((len(queries), k), np.int64)
        for start in range(0, len(queries), chunk):
            part = slice(start, start + chunk)
            asked = normalize(queries[part])
            _, at = table.search(asked, k)
            # Fewer than k found in the lists visited: repeat the best, which adds no pair.
            found[part] = np.where(at < 0, np.maximum(at[:, :1], 0), at)
            scores[part] = _cosines(asked, candidates, found[part])  # exact: SQ8 is not
        order = np.argsort(-scores, axis=1, kind="stable")
        return np.take_along_axis(scores, order, axis=1), np.take_along_axis(found, order, axis=1)

    return search


def _cosines(asked, candidates, found, block=4096):
    """[Q, K] cosines of unit vectors asked [Q, D] with the candidates in the rows found [Q, K]."""
    scores = np.empty(found.shape, np.float32)
    for start in range(0, len(asked), block):
        part = slice(start, start + block)
        rows = found[part]
        near = normalize(candidates[rows.ravel()]).reshape(*rows.shape, -1)
        scores[part] = np.einsum("qd,qkd->qk", asked[part], near)
    return scores


def _identified(sentences):
    """(different texts, row of each identifier, rows whose text the file has more than once)."""
    rows: dict[str, int] = {}
    by_id = {identifier: rows.setdefault(text, len(rows)) for identifier, text in sentences}
    count = Counter(by_id.values())
    return list(rows), by_id, frozenset(row for row, times in count.items() if times > 1)


def _first_use(pairs, sources, targets):
    """[M] whether neither sentence of a pair occurs in an earlier kept pair."""
    free_src, free_tgt = np.ones(sources, bool), np.ones(targets, bool)
    keep = np.zeros(len(pairs), bool)
    for i, (s, t) in enumerate(zip(pairs.src.tolist(), pairs.tgt.tolist(), strict=True)):
        if free_src[s] and free_tgt[t]:
            keep[i] = True
            free_src[s] = free_tgt[t] = False
    return keep


def _ordered(src, tgt, score):
    order = np.lexsort((tgt, src, -score))
    return Mined(src[order], tgt[order], score[order])


def _pick(neighbours, score):
    return np.take_along_axis(neighbours, score.argmax(axis=1)[:, None], axis=1)[:, 0]


def _check(value, allowed, name):
    if value not in get_args(allowed):
        raise UserError(f"{name}={value!r} is not one of {', '.join(get_args(allowed))}")
