"""How well cosines follow human judgement (STS), and how alike two languages' vectors are arranged.

Correlations lie in -1 to 1 (papers print them times 100). They are undefined when one side is
constant; here that is 0, so that an encoder that maps everything to one vector scores 0.
"""

import dataclasses
from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np
from jaxtyping import Float, Real

from lightxling.config import UserError
from lightxling.evaluate.retrieval import normalize

Similarity = Literal["cosine", "angular"]


@dataclasses.dataclass(frozen=True)
class Correlation:
    """Agreement of similarities with human scores over `pairs` sentence pairs."""

    spearman: float
    pearson: float
    pairs: int


def pair_similarity(
    first: Real[np.ndarray, "N D"],
    second: Real[np.ndarray, "N D"],
    similarity: str = "cosine",
) -> Float[np.ndarray, " N"]:
    """Similarity of row i of `first` and row i of `second`: cos(u, v), or -arccos(cos(u, v)).

    Both rank alike; Pearson tells them apart. A zero vector has cosine 0 to everything.
    """
    if similarity not in get_args(Similarity):
        raise UserError(
            f"similarity={similarity!r} is not one of {', '.join(get_args(Similarity))}"
        )
    if first.shape != second.shape:
        raise ValueError(f"rows must be paired, got {first.shape} and {second.shape}")
    cosine = np.einsum("nd,nd->n", normalize(first), normalize(second), dtype=np.float64)
    # Rounding may push a cosine past 1, where arccos is not defined.
    return cosine if similarity == "cosine" else -np.arccos(np.clip(cosine, -1, 1))


def sts(
    first: Real[np.ndarray, "N D"],
    second: Real[np.ndarray, "N D"],
    scores: Real[np.ndarray, " N"],
    similarity: str = "cosine",
) -> Correlation:
    """Correlation of the pairs' similarities with human scores (any scale, higher: more alike)."""
    predicted = pair_similarity(first, second, similarity)
    if len(scores) != len(predicted):
        raise ValueError(f"{len(scores)} scores for {len(predicted)} pairs")
    return Correlation(spearman(predicted, scores), pearson(predicted, scores), len(scores))


def pearson(x: Real[np.ndarray, " N"], y: Real[np.ndarray, " N"]) -> float:
    """Linear correlation; 0 when a side is constant (or has one value)."""
    x, y = (np.asarray(v, np.float64) - np.mean(v, dtype=np.float64) for v in (x, y))
    scale = np.sqrt(np.dot(x, x) * np.dot(y, y))
    # What is left of a constant side is rounding: 1e-12 of a cosine.
    if np.ptp(x) < 1e-12 or np.ptp(y) < 1e-12:
        return 0.0
    return float(np.dot(x, y) / scale)


def spearman(x: Real[np.ndarray, " N"], y: Real[np.ndarray, " N"]) -> float:
    """Correlation of the ranks; equal values share the mean of their ranks."""
    return pearson(average_ranks(x), average_ranks(y))


def average_ranks(values: Real[np.ndarray, " N"]) -> Float[np.ndarray, " N"]:
    """Ranks 1 to N of the values; equal values get the mean of the places they take."""
    _, place, count = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(count)
    return (last - (count - 1) / 2)[place]


def rsim(src: Real[np.ndarray, "N D"], tgt: Real[np.ndarray, "N D"]) -> float:
    """Whether two languages arrange the same N sentences alike: 1 for a rotation of one another.

    Pearson between the cosines of all pairs i < j of `src` rows and those of the same pairs of
    `tgt` rows. Memory grows with N ** 2: 100 MB at 2,000.

    Source: Modular sentence encoders, arXiv 2407.14878.
    """
    if src.shape[0] != tgt.shape[0]:
        raise ValueError(f"rows must be paired, got {src.shape} and {tgt.shape}")
    upper = np.triu_indices(len(src), k=1)
    src, tgt = normalize(src), normalize(tgt)
    return pearson((src @ src.T)[upper], (tgt @ tgt.T)[upper])


def language_bias(
    similarities: Sequence[Real[np.ndarray, " _"]], scores: Sequence[Real[np.ndarray, " _"]]
) -> dict[str, float]:
    """What a common similarity scale over languages costs.

    Each item is one language pair's similarities and human scores. An encoder for which sentences
    of one language are nearer to each other than to their translations ranks well within each pair
    and badly over all pairs together.

    Returns:
      `separate`: mean Spearman over the pairs; `pooled`: Spearman of all of them concatenated;
      `bias`: their difference.

    Source: Modular sentence encoders, arXiv 2407.14878.
    """
    separate = np.mean([spearman(x, y) for x, y in zip(similarities, scores, strict=True)])
    pooled = spearman(np.concatenate(similarities), np.concatenate(scores))
    return {"separate": float(separate), "pooled": pooled, "bias": float(separate) - pooled}
