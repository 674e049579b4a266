"""Losses over pairs of sentences that people have judged: inference labels, similarity scores.

Letters in shapes: B pairs, D width.
"""

import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

from lightxling.objectives.contrast import normalize


def pair_features(u: Float[Array, "*B D"], v: Float[Array, "*B D"]) -> Float[Array, "*B _"]:
    """(u, v, |u - v|, u * v), as wide as four vectors. Source: InferSent (arXiv 1705.02364)."""
    return jnp.concatenate([u, v, jnp.abs(u - v), u * v], axis=-1)


def classification(logits: Float[Array, "B C"], labels: Int[Array, " B"]) -> Float[Array, ""]:
    """Mean cross entropy of the right classes, in nats; equal logits give log(C).

    Source: arXiv 1810.12836, section 2.
    """
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()


def score_regression(
    first: Float[Array, "B D"], second: Float[Array, "B D"], scores: Float[Array, " B"]
) -> Float[Array, ""]:
    """Mean squared difference of the cosines and the scores.

    Args:
      first, second: vectors of any norm.
      scores: 0 to 1, the similarity that people see.

    Source: Sentence-BERT (arXiv 1908.10084), section 3, regression objective.
    """
    cosines = jnp.sum(normalize(first) * normalize(second), axis=1)
    return jnp.mean((cosines - scores) ** 2)
