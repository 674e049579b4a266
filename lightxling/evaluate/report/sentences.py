"""Development sentences as the encoder sees them: similarities, a map, neighbours."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from lightxling.base.shapes import Float, Int, Real
from lightxling.base.vectors import Encode, normalize
from lightxling.corpus.store import Store
from lightxling.evaluate.retrieval import precision, ranks, text_labels

LANGUAGE_PAIRS = 4
"""Language pairs whose sentences are shown."""
ENCODED = 500
"""Sentences of a language pair that are encoded: seconds, where all would take minutes."""
IN_MATRIX = 16
"""Pairs in a matrix, and on the map of all languages together."""
READABLE = 40
"""Characters of a sentence that is chosen for matrix and map, about."""
RIGHT_ONES, WRONG_ONES = 3, 5
"""Neighbours that are written out for a language pair."""


@dataclasses.dataclass(frozen=True)
class Sentences:
    """Development pairs of two languages."""

    languages: tuple[str, str]
    texts: list[tuple[str, str]]
    total: int
    """Pairs there are; `texts` may be fewer."""


@dataclasses.dataclass(frozen=True)
class Neighbour:
    """A sentence, its translation, and the most similar sentence that is not its translation."""

    query: str
    answer: str
    other: str
    rank: int
    """Place of the translation; 1 is found, a tie is not."""
    to_answer: float
    """Cosine."""
    to_other: float


@dataclasses.dataclass(frozen=True)
class View:
    """What one language pair looks like.

    Attributes:
      chosen: rows of `sentences` for matrix and map.
      cosines: of the chosen ones.
      vectors: of the chosen ones, of length 1.
      right, wrong: sentences of the first language that found their translation, and that did not.
      found: share of all that did.
    """

    sentences: Sentences
    chosen: Int[np.ndarray, " M"]
    cosines: Float[np.ndarray, "M M"]
    vectors: Float[np.ndarray, "M 2 D"]
    right: list[Neighbour]
    wrong: list[Neighbour]
    found: float


def of_store(store: Store) -> list[Sentences]:
    """Up to LANGUAGE_PAIRS language pairs, from the one with most training pairs to the one with
    fewest, and up to ENCODED development pairs of each, evenly over the file.

    The choice does not depend on the encoder: runs on one corpus show the same sentences.

    Raises:
      ValueError: the store has no sentences in pairs.
    """
    if store.manifest["sides"] != 2:
        raise ValueError("the development sentences are not pairs")
    texts = store.dev.texts()
    if len(texts) != store.dev.rows or any(len(row) != 2 for row in texts):
        raise ValueError("the development sentences in the token store are damaged")
    names = [tuple(group["languages"]) for group in store.groups]
    trained = dict.fromkeys(names, 0)
    for name, group in zip(names, store.groups, strict=True):
        trained[name] += group["rows"]
    rows: dict[tuple[str, str], list[int]] = {}
    for row, group in enumerate(store.dev.group.tolist()):
        rows.setdefault(names[group], []).append(row)
    order = sorted((name for name in rows if len(rows[name]) > 1), key=lambda n: (-trained[n], n))
    found = []
    for name in (order[i] for i in evenly(len(order), LANGUAGE_PAIRS)):
        own = rows[name]
        chosen = [texts[own[i]] for i in evenly(len(own), ENCODED)]
        found.append(Sentences(name, chosen, len(own)))
    return found


def evenly(count: int, limit: int) -> list[int]:
    """Up to `limit` of 0 .. count - 1 at equal distances, the first and the last among them."""
    return np.unique(np.linspace(0, count - 1, min(count, limit)).round().astype(int)).tolist()


def look(sentences: Sentences, encode: Encode, shown: int = IN_MATRIX) -> View:
    """Encodes the sentences and asks, with each of the first language, for the second.

    Raises:
      ValueError: the encoder returns NaN.
    """
    src, tgt = ([row[side] for row in sentences.texts] for side in (0, 1))
    one, other = normalize(encode(src)), normalize(encode(tgt))
    same = text_labels(tgt)
    places = ranks(one, other, same=same)
    cosines = one @ other.T
    is_same = same[:, None] == same[None]
    answers = np.where(is_same, cosines, -np.inf).max(axis=1)
    others = np.where(is_same, -np.inf, cosines)
    nearest = others.argmax(axis=1)
    neighbours = [
        Neighbour(src[i], tgt[i], tgt[j], int(places[i]), float(answers[i]), float(others[i, j]))
        for i, j in enumerate(nearest.tolist())
        if np.isfinite(others[i, j])  # all translations may have the same text
    ]
    ordered = sorted(neighbours, key=lambda n: n.to_answer - n.to_other)
    right = [n for n in ordered if n.rank == 1]
    wrong = [n for n in ordered if n.rank > 1]
    chosen = _readable(sentences.texts, shown)
    return View(
        sentences,
        chosen,
        cosines[np.ix_(chosen, chosen)],
        np.stack([one[chosen], other[chosen]], axis=1),
        [right[i] for i in evenly(len(right), RIGHT_ONES)] if right else [],
        wrong[:WRONG_ONES],
        precision(places),
    )


def plane(views: Sequence[View]) -> tuple[list[tuple[View, int]], np.ndarray, float]:
    """A map of about IN_MATRIX pairs of all views.

    Returns:
      The pairs as (view, place in its `chosen`), their points [pairs, 2 sides, 2], and the share of
      the variance in that plane.
    """
    each = max(IN_MATRIX // len(views), 1)
    pairs: list[tuple[View, int]] = []
    seen: set[str] = set()
    for view in views:  # languages may share sentences, whose dots would hide each other
        texts = [view.sentences.texts[row] for row in view.chosen.tolist()]
        new = [i for i, row in enumerate(texts) if row[0] not in seen][:each]
        pairs += [(view, i) for i in new or range(min(each, len(texts)))]
        seen |= {texts[i][0] for i in new}
    vectors = np.stack([view.vectors[i] for view, i in pairs])
    points, share = principal_plane(vectors.reshape(-1, vectors.shape[-1]))
    return pairs, points.reshape(-1, 2, 2), share


def principal_plane(
    vectors: Real[np.ndarray, "N D"],
) -> tuple[Float[np.ndarray, "N 2"], float]:
    """Coordinates in the plane of most variance, and the share of the variance it has."""
    centred = np.asarray(vectors, np.float64) - np.mean(vectors, axis=0)
    u, s, _ = np.linalg.svd(centred, full_matrices=False)
    points = np.zeros((len(vectors), 2))
    points[:, : min(2, len(s))] = (u * s)[:, :2]
    total = float(np.sum(s**2))
    return points, float(np.sum(s[:2] ** 2)) / total if total else 0.0


def of_plane(share: float) -> str:
    return (
        f"The plane of the first two principal components has {100 * share:.0f} % of the variance"
    )


def _readable(texts: Sequence[tuple[str, str]], count: int) -> Int[np.ndarray, " M"]:
    """Rows of about READABLE characters whose sentences all differ."""
    seen: set[str] = set()
    rows = []
    for i in sorted(range(len(texts)), key=lambda i: (abs(len(texts[i][0]) - READABLE), i)):
        if len(rows) < count and not seen & set(texts[i]):
            rows.append(i)
            seen |= set(texts[i])
    return np.array(rows, np.int64)
