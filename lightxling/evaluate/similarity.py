"""How well cosines follow human judgement (STS), and how alike two languages' vectors are arranged.

Correlations lie in -1 to 1 (papers print them times 100). They are undefined when one side is
constant; here that is 0, so that an encoder that maps everything to one vector scores 0.
"""

import dataclasses
from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np

from lightxling.base.errors import UserError
from lightxling.base.shapes import Float, Real
from lightxling.base.vectors import normalize

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


def eigen_similarity(
    src: Real[np.ndarray, "N D"],
    tgt: Real[np.ndarray, "N D"],
    *,
    pairs: int = 10,
    samples: int = 1000,
    neighbours: int = 1,
    seed: int = 0,
) -> float:
    """How far two languages' vectors are from being arranged alike: 0 for a rotation.

        Psi = mean over samples of sum_j (lambda_j(L_src) - lambda_j(L_tgt))^2

    A sample is `pairs` of the N translations, drawn without replacement; L is the Laplacian of the
    graph that joins each sentence of a sample with its nearest ones by cosine (`laplacians`), and
    lambda_j its eigenvalues in ascending order.

    Source: arXiv 1810.12836, section 5.3, after Sogaard et al. 2018 (arXiv 1805.03620). Neither
    says how many neighbours a sentence is joined with; it is one here.
    """
    if src.shape[0] != tgt.shape[0]:
        raise ValueError(f"rows must be paired, got {src.shape} and {tgt.shape}")
    if not neighbours < pairs <= len(src):
        raise ValueError(f"{len(src)} rows give no samples of {pairs} with {neighbours} neighbours")
    rng = np.random.default_rng(seed)
    rows = np.stack([rng.choice(len(src), pairs, replace=False) for _ in range(samples)])
    spectra = [
        np.linalg.eigvalsh(laplacians(normalize(side)[rows], neighbours)) for side in (src, tgt)
    ]
    return float(np.mean(np.sum((spectra[0] - spectra[1]) ** 2, axis=1)))


def laplacians(vectors: Float[np.ndarray, "S K D"], neighbours: int) -> Float[np.ndarray, "S K K"]:
    """D - A of the graphs of S samples; two of K sentences are joined (A is 1) where either is
    among the `neighbours` that have the largest product with the other."""
    products = np.einsum("skd,sjd->skj", vectors, vectors, dtype=np.float64)
    K = products.shape[1]
    products[:, np.arange(K), np.arange(K)] = -np.inf
    nearest = np.argsort(-products, axis=2, kind="stable")[:, :, :neighbours]
    joined = np.zeros(products.shape)
    np.put_along_axis(joined, nearest, 1, axis=2)
    joined = np.maximum(joined, joined.swapaxes(1, 2))
    return joined.sum(axis=2)[:, :, None] * np.eye(K) - joined


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
