"""Losses over pairs of sentences that people have judged: inference labels, similarity scores.

Letters in shapes: B pairs, D width.
"""

import jax.numpy as jnp
import optax
from flax import nnx
from jaxtyping import Array, Float, Int

from lightxling.config.objectives import InferenceConfig, ObjectivesConfig, StsConfig
from lightxling.model.build import Model
from lightxling.model.heads import Sizes, TwoLayers
from lightxling.objectives.contrast import unit_rows
from lightxling.objectives.term import Head, Term, TermInputs


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
    cosines = jnp.sum(unit_rows(first) * unit_rows(second), axis=1)
    return jnp.mean((cosines - scores) ** 2)


def inference_term(settings: InferenceConfig, model: Model, inputs: TermInputs) -> Float[Array, ""]:
    logits = model.inference(pair_features(*inputs.vectors))
    return classification(logits, inputs.batch.labels.astype(jnp.int32))


def inference_head(objectives: ObjectivesConfig, sizes: Sizes, rngs: nnx.Rngs) -> TwoLayers:
    """Features of two sentences -> logits of entailment, neutral, contradiction.

    One tanh layer before the softmax; the paper (arXiv 1810.12836, section 2) gives its width, not
    its activation.
    """
    return TwoLayers(4 * sizes.model.width, objectives.inference.hidden, 3, jnp.tanh, rngs)


def sts_term(settings: StsConfig, model: Model, inputs: TermInputs) -> Float[Array, ""]:
    return score_regression(*inputs.vectors, inputs.batch.labels / settings.highest)


TERMS = {
    "inference": Term(inference_term, Head("inference", inference_head)),
    "sts": Term(sts_term),
}
