"""Similarity-matrix losses: two languages should agree on which sentences of a batch resemble each
other.

Letters in shapes: B pairs of the global batch, D width.
"""

from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from lightxling.config.objectives import SimilarityConfig
from lightxling.model.build import Model
from lightxling.objectives.contrast import products
from lightxling.objectives.term import Term, TermInputs


def softmax_and_complement(
    logits: Float[Array, "B C"],
) -> tuple[Float[Array, "B C"], Float[Array, "B C"]]:
    """P = softmax_row(logits) and 1 - P, the latter exact where P is close to 1.

    1 - P_ij is the softmax mass of the other cells of the row. Only the largest cell of a row can
    be close to 1, so only there the sum is taken again, without that cell.
    """
    log_p = jax.nn.log_softmax(logits, axis=-1)
    p = jnp.exp(log_p)
    is_top = jax.nn.one_hot(jnp.argmax(logits, axis=-1), logits.shape[-1], dtype=bool)
    others = jnp.sum(jnp.where(is_top, 0, p), axis=-1, keepdims=True)
    return p, jnp.where(is_top, others, 1 - p)


def similarity_matching(
    src: Float[Array, "B D"],
    tgt: Float[Array, "B D"],
    *,
    reduction: Literal["sum", "mean"] = "sum",
    eps: float = 1e-5,
) -> Float[Array, ""]:
    """Distance of the two languages' in-batch similarity distributions.

        P_l = softmax_row(S_l S_l')        diagonal included, no temperature
        loss = -sum_ij log cos(pi/2 (P_1 - P_2)_ij)

    Computed as -log sin(pi/2 q) with q = 1 - |P_1 - P_2| = (1 - larger) + smaller, which stays
    accurate as the difference goes to 1, where the printed form gives the logarithm of a negative
    number.

    Args:
      src, tgt: embeddings, paired row by row; raw dot products are taken.
      reduction: sum over the B x B cells (the released code) or their mean.
      eps: floor of q; bounds the loss of a cell by log(2 / (pi eps)) and its slope by 1 / eps.

    Returns:
      Loss in nats; 0 when both distributions agree.

    Source: ACL 2021, section 3.3.
    """
    p1, rest1 = softmax_and_complement(products(src, src))
    p2, rest2 = softmax_and_complement(products(tgt, tgt))
    q = jnp.clip(jnp.where(p1 >= p2, rest1 + p2, rest2 + p1), eps, 1)
    cells = -jnp.log(jnp.sin(jnp.pi / 2 * q))
    return {"sum": jnp.sum, "mean": jnp.mean}[reduction](cells)


def similarity_term(
    settings: SimilarityConfig, model: Model, inputs: TermInputs
) -> Float[Array, ""]:
    vectors = inputs.vectors
    if settings.after_head:
        vectors = jax.vmap(model.token_head)(vectors)
    return similarity_matching(*vectors, reduction=settings.reduction, eps=settings.eps)


TERMS = {"similarity": Term(similarity_term)}
