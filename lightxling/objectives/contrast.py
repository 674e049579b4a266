"""In-batch alignment losses: a sentence finds its translation among the batch.

Letters in shapes: B pairs of the global batch, D width.
"""

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float


def normalize(x: Float[Array, "*B D"]) -> Float[Array, "*B D"]:
    """Rows of unit length; a zero row stays zero, with a finite gradient."""
    return x * jax.lax.rsqrt(jnp.maximum(jnp.sum(x * x, axis=-1, keepdims=True), 1e-12))


def products(a: Float[Array, "B D"], b: Float[Array, "C D"]) -> Float[Array, "B C"]:
    """All dot products, float32: raw ones reach several hundred, where bfloat16 is 2 apart."""
    return jnp.einsum("bd,cd->bc", a, b, precision="highest", preferred_element_type=jnp.float32)


def symmetric_cross_entropy(logits: Float[Array, "B B"]) -> Float[Array, ""]:
    """Mean cross entropy of the diagonal over rows plus the same over columns, in nats."""
    pair = jnp.arange(len(logits))
    nll = optax.softmax_cross_entropy_with_integer_labels
    return nll(logits, pair).mean() + nll(logits.T, pair).mean()


def dot_alignment(src: Float[Array, "B D"], tgt: Float[Array, "B D"]) -> Float[Array, ""]:
    """Alignment by raw dot products.

        Z = S1 S2',  loss = CE(Z) + CE(Z')

    Row i of `src` translates row i of `tgt`; the other B - 1 rows are the negatives.

    Returns:
      The sum of both directions, in nats. All rows equal gives 2 log(B).

    Source: ACL 2021, section 3.3, as released: no temperature, no normalisation.
    """
    return symmetric_cross_entropy(products(src, tgt))


def cosine_alignment(
    src: Float[Array, "B D"],
    tgt: Float[Array, "B D"],
    *,
    temperature: float,
    margin: float = 0.0,
) -> Float[Array, ""]:
    """Alignment by cosine (InfoNCE in both directions), with an optional additive margin.

        Z_ij = (cos(src_i, tgt_j) - margin [i = j]) / temperature,  loss = CE(Z) + CE(Z')

    Args:
      src, tgt: embeddings of any norm, paired row by row.
      margin: 0 is EMS's loss; LaBSE uses 0.3.

    Returns:
      The sum of both directions, in nats. All rows equal and no margin gives 2 log(B).

    Source: EMS (arXiv 2205.15744), section 3.2; margin: LaBSE (arXiv 2007.01852), eq. 1.
    """
    cosines = products(normalize(src), normalize(tgt))
    return symmetric_cross_entropy((cosines - margin * jnp.eye(len(cosines))) / temperature)
