"""A frozen teacher's view of a batch as the target: soft labels, teacher regression; and ESE, where
a model teaches its own lower layers and leading dimensions.

Letters in shapes: B pairs of the global batch, D width of the student, T width of the teacher, R
rows (sentences, 2B), k leading dimensions. All losses are computed in float32.

Sources: Improving Multi-lingual Alignment Through Soft Contrastive Learning (IMASCL, arXiv
2405.16155); Making Monolingual Sentence Embeddings Multilingual using Knowledge Distillation (arXiv
2004.09813); ESE: Espresso Sentence Embeddings (arXiv 2402.14776).
"""

import math
from typing import Literal

import jax
import jax.numpy as jnp
from flax import nnx
from jax.scipy.special import xlogy
from jaxtyping import Array, Bool, Float, Int

from lightxling.config.objectives import ObjectivesConfig, RegressionConfig, SoftConfig
from lightxling.model.build import Model
from lightxling.model.encoder import linear
from lightxling.model.heads import Sizes
from lightxling.objectives.contrast import equal_pairs, products, unit_rows
from lightxling.objectives.equal import leave_out
from lightxling.objectives.term import Head, Term, TermInputs

SAME = 0.95
"""Similarity to the teacher above which two sentences count as the same, and get the margin."""


def teacher_similarities(
    teacher: Float[Array, "B 2 T"],
    pivot: Int[Array, " B"],
    labels: Literal["priority", "average", "left", "right"],
) -> Float[Array, "B B"]:
    """Cosines M of the pairs of a batch, as the teacher sees them.

        priority:     M = G G'      G_i the teacher's vector of side pivot_i of pair i
        average:      M = (G1 G1' + G2 G2') / 2
        left, right:  M = G1 G1', M = G2 G2'

    Args:
      teacher: vectors of any norm; sides that the labels do not use may hold anything finite.
      pivot: 0 or 1, the side of each pair whose language comes first in the priority list.
    """
    left, right = (unit_rows(teacher[:, side].astype(jnp.float32)) for side in (0, 1))
    if labels == "average":
        return (products(left, left) + products(right, right)) / 2
    if labels == "priority":
        chosen = jnp.where(pivot[:, None] == 0, left, right)
    else:
        chosen = {"left": left, "right": right}[labels]
    return products(chosen, chosen)


def soft_cross_entropy(
    cosines: Float[Array, "B B"],
    weights: Float[Array, "B B"],
    *,
    temperature: float,
    left_out: Bool[Array, "B B"] | None = None,
) -> Float[Array, ""]:
    """Cross entropy of rows to given weights, which need not sum to 1.

    l(C, W) = -1/B sum_ij W_ij log softmax_row(C / temperature)_ij

    Args:
      left_out: cells of C without mass, and without weight.
    """
    log_p = jax.nn.log_softmax(leave_out(cosines / temperature, left_out), axis=-1)
    if left_out is not None:
        log_p = jnp.where(left_out, 0, log_p)  # -inf, which 0 times would be NaN
    return -jnp.mean(jnp.sum(weights * log_p, axis=-1))


def soft_contrast(
    src: Float[Array, "B D"],
    tgt: Float[Array, "B D"],
    similarities: Float[Array, "B B"],
    *,
    temperature: float = 0.1,
    teacher_temperature: float | None = 0.1,
    cross: float = 1.0,
    mono: float = 0.0,
    margin: float = 0.0,
    left_out: Bool[Array, "B B"] | None = None,
) -> Float[Array, ""]:
    """Contrastive loss whose labels are the similarities that a teacher sees.

        W(M)    = softmax_row(M / teacher_temperature), or M itself without one
        l(C, M) = -1/B sum_ij W(M)_ij log softmax_row((C - margin [M > 0.95]) / temperature)_ij
        L_cross = l(A B', M) + l(B A', M')
        L_mono  = l(A A', M) + l(B B', M)
        loss    = cross L_cross + mono L_mono

    A and B are the rows of `src` and `tgt` at unit length; the diagonal of A A' and B B', which is
    1, is kept.

    Args:
      src, tgt: embeddings of any norm, paired row by row.
      similarities: M, the teacher's cosines of the pairs.
      teacher_temperature: None: the weights are M, which may be negative and is not normalised;
        with M = I they are hard labels.
      cross: weight of the cross-lingual part, the paper's lambda.
      mono: weight of the monolingual part. 2 in the released code, which adds each term and its
        equal transpose.
      margin: subtracted from the cosine of what the teacher holds for the same.
      left_out: cells of all matrices that are in no denominator; hard labels only, whose weight
        there is 0.

    Returns:
      Loss in nats. Hard labels and no margin give `contrast.alignment`.

    Source: IMASCL, section 3, and its released code, whose lambda is 1.
    """
    similarities = jax.lax.stop_gradient(similarities)
    a, b = unit_rows(src.astype(jnp.float32)), unit_rows(tgt.astype(jnp.float32))

    def weigh(m):
        return m if teacher_temperature is None else jax.nn.softmax(m / teacher_temperature)

    weights, back = weigh(similarities), weigh(similarities.T)
    lowered = margin * (similarities > SAME).astype(jnp.float32)

    def cost(x, y, weights, lowered, out=left_out):
        cosines = products(x, y) - lowered
        return soft_cross_entropy(cosines, weights, temperature=temperature, left_out=out)

    out_back = None if left_out is None else left_out.T
    loss = cross * (cost(a, b, weights, lowered) + cost(b, a, back, lowered.T, out_back))
    if mono:
        loss += mono * (cost(a, a, weights, lowered) + cost(b, b, weights, lowered, out_back))
    return loss


def similarity_regression(
    src: Float[Array, "B D"],
    tgt: Float[Array, "B D"],
    similarities: Float[Array, "B B"],
    *,
    temperature: float = 0.1,
) -> Float[Array, ""]:
    """Mean squared error between the student's cosines across languages and the teacher's.

        loss = mean_ij ((A B' - M)_ij / temperature)^2

    Source: IMASCL's released code, the baseline it calls MSE, which adds that of the transposes:
    twice this (`soft_regression`).
    """
    similarities = jax.lax.stop_gradient(similarities)
    cosines = products(unit_rows(src.astype(jnp.float32)), unit_rows(tgt.astype(jnp.float32)))
    return jnp.mean(((cosines - similarities) / temperature) ** 2)


def soft_regression(
    src: Float[Array, "B D"],
    tgt: Float[Array, "B D"],
    similarities: Float[Array, "B B"],
    *,
    temperature: float = 0.1,
    teacher_temperature: float | None = 0.1,
    cross: float = 1.0,
    mono: float = 0.0,
) -> Float[Array, ""]:
    """`soft_contrast` with squared errors in place of cross entropies.

        l(C, M) = mean_ij ((C - W(M))_ij / temperature)^2

    The targets of raw weights (no teacher temperature) are cosines; with mono 0 that is twice
    `similarity_regression`.

    Args: as those of `soft_contrast`.

    Source: IMASCL's released code, loss type MMSE.
    """
    similarities = jax.lax.stop_gradient(similarities)
    a, b = unit_rows(src.astype(jnp.float32)), unit_rows(tgt.astype(jnp.float32))

    def cost(x, y, m):
        weights = m if teacher_temperature is None else jax.nn.softmax(m / teacher_temperature)
        return jnp.mean(((products(x, y) - weights) / temperature) ** 2)

    loss = cross * (cost(a, b, similarities) + cost(b, a, similarities.T))
    if mono:
        loss += mono * (cost(a, a, similarities) + cost(b, b, similarities))
    return loss


def vector_regression(
    src: Float[Array, "B T"],
    tgt: Float[Array, "B T"],
    teacher: Float[Array, "B 2 T"],
    pivot: Int[Array, " B"],
) -> Float[Array, ""]:
    """Mean squared error of both languages' vectors to the teacher's vector of one of them.

        loss = mean_id (src_id - G_id)^2 + mean_id (tgt_id - G_id)^2
        G_i  = the teacher's vector of side pivot_i of pair i

    Nothing is normalised: the student takes over the teacher's lengths too.

    Args:
      src, tgt: student vectors, already of the teacher's width.

    Source: arXiv 2004.09813, eq. 1, with the mean over dimensions in place of their sum.
    """
    rows = jnp.arange(len(pivot))
    target = jax.lax.stop_gradient(teacher[rows, pivot].astype(jnp.float32))
    return jnp.mean((src - target) ** 2) + jnp.mean((tgt - target) ** 2)


def principal(vectors: Float[Array, "R D"], k: int) -> Float[Array, "R k"]:
    """The first k principal features of a batch, without gradient.

        A = softmax_row(m'm / sqrt(D)),  A = U S V',  result = m U_k S_k

    The sign of a singular vector is arbitrary; here its largest entry is positive, so that the
    target is the same on every device and does not jump between steps.
    """
    m = jax.lax.stop_gradient(vectors.astype(jnp.float32))
    moments = jnp.einsum("rd,re->de", m, m, precision="highest")
    u, s, _ = jnp.linalg.svd(jax.nn.softmax(moments / math.sqrt(m.shape[1])))
    u, s = u[:, :k], s[:k]
    largest = jnp.take_along_axis(u, jnp.argmax(jnp.abs(u), axis=0)[None], axis=0)  # [1, k]
    basis = u * jnp.where(largest < 0, -1, 1) * s[None]
    return jnp.einsum("rd,dk->rk", m, basis, precision="highest")


def compression(
    vectors: Float[Array, "R D"], *, k: int, temperature: float = 1.0
) -> Float[Array, ""]:
    """Learn-to-compress: the first k dimensions take over the k principal features of all D.

        c    = principal(vectors, k)
        loss = mean (h[:k] - c)^2 + T / R sum_i KL(softmax(c_i / T) || softmax(h_i[:k] / T))

    Source: ESE, section 3.2, and its released code.
    """
    targets = principal(vectors, k)
    slim = vectors[:, :k].astype(jnp.float32)
    p = jax.nn.softmax(targets / temperature)
    log_q = jax.nn.log_softmax(slim / temperature)
    divergence = jnp.sum(xlogy(p, p) - p * log_q, axis=-1)
    return jnp.mean((slim - targets) ** 2) + temperature * jnp.mean(divergence)


def layer_weights(layers: int, *, published_index: bool = False) -> dict[int, float]:
    """Learn-to-express: weight of every inner layer i in ESE's loss (0: embeddings, n: the last).

        1 / (n - 1) / (1 + ln i)  for i = 1 ... n - 1

    The published code counts from 0 to n - 2 with weights 1 / (n - 1) / (1 + ln(1 + i)): it trains
    the output of the embeddings and leaves out the last layer but one. `published_index` does that.
    """
    inner = range(layers - 1) if published_index else range(1, layers)
    shift = 1 if published_index else 0
    return {i: 1 / (layers - 1) / (1 + math.log(i + shift)) for i in inner}


def soft_term(settings: SoftConfig, model: Model, inputs: TermInputs) -> Float[Array, ""]:
    (src, tgt), batch = inputs.vectors, inputs.batch
    is_hard, temperature = settings.labels == "hard", settings.temperature
    if is_hard:
        similarities = jnp.eye(len(src))
    else:
        similarities = teacher_similarities(batch.teacher, batch.pivot, settings.labels)
    if settings.loss == "mse" and not settings.released:
        return similarity_regression(src, tgt, similarities, temperature=temperature)
    is_raw = settings.targets == "raw" or (is_hard and not settings.released)
    numbers = {
        "temperature": temperature,
        "teacher_temperature": None if is_raw else settings.teacher_temperature or temperature,
        "cross": settings.cross,
        "mono": (2.0 if settings.tcm_double else 1.0) if settings.tcm else 0.0,
    }
    if settings.loss == "mse":
        return soft_regression(src, tgt, similarities, **numbers)
    return soft_contrast(
        src,
        tgt,
        similarities,
        **numbers,
        margin=settings.margin,
        left_out=equal_pairs(batch) if settings.exclude_equal else None,
    )


def regression_term(
    settings: RegressionConfig, model: Model, inputs: TermInputs
) -> Float[Array, ""]:
    vectors, batch = inputs.vectors, inputs.batch
    if model.teacher_map is not None:
        vectors = model.teacher_map(vectors)
    return vector_regression(*vectors, batch.teacher, batch.pivot)


def teacher_map(objectives: ObjectivesConfig, sizes: Sizes, rngs: nnx.Rngs) -> nnx.Linear | None:
    """Sentence vector -> a vector as wide as the teacher's, where those have another width."""
    width, wanted = sizes.model.width, sizes.teacher_width
    return linear(width, wanted, dtype=jnp.float32, rngs=rngs) if wanted not in (0, width) else None


TERMS = {
    "soft": Term(soft_term),
    "regression": Term(regression_term, Head("teacher_map", teacher_map)),
}
