"""The loss of a run: the weighted sum of its terms, from a batch.

A new objective is one function in this folder, its settings in `config.ObjectivesConfig` and one
entry in `TERMS`.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int, PRNGKeyArray

from lightxling.config import ObjectivesConfig
from lightxling.model.build import Model, Params, merge
from lightxling.objectives import contrast, similarity, tokens

Metrics = dict[str, Float[Array, ""]]


class Batch(NamedTuple):
    """B pairs of one padded length; ids are 0 beyond the sentence."""

    tokens: Int[Array, "B 2 L"]
    masked: Int[Array, " B"]
    """side * L + position of the one piece to mask."""


def token_term(settings, model: Model, batch: Batch, vectors: Float[Array, "2 B D"]):
    """Mean over pairs of the KL of both sides ("batchmean", both sides added)."""
    ids, weights = tokens.targets(
        batch.tokens,
        batch.masked,
        kind=settings.kind,
        duplicates=settings.duplicates,
        mlm_overwrite=settings.mlm_overwrite,
        xtr_from=settings.xtr_from,
    )
    B, _, K = ids.shape
    rows = vectors.swapaxes(0, 1).reshape(2 * B, -1)
    hidden, table, bias = model.prediction(rows)
    loss = tokens.token_loss(
        hidden,
        table,
        bias,
        ids.reshape(2 * B, K),
        weights.reshape(2 * B, K),
        chunk=settings.vocab_block,
    )
    return loss / B


def align_term(settings, model: Model, batch: Batch, vectors: Float[Array, "2 B D"]):
    if settings.similarity == "dot":
        return contrast.dot_alignment(*vectors)
    return contrast.cosine_alignment(
        *vectors, temperature=settings.temperature, margin=settings.margin
    )


def similarity_term(settings, model: Model, batch: Batch, vectors: Float[Array, "2 B D"]):
    return similarity.similarity_matching(*vectors, reduction=settings.reduction, eps=settings.eps)


TERMS: dict[str, Callable] = {
    "tokens": token_term,
    "align": align_term,
    "similarity": similarity_term,
}


def active(objectives: ObjectivesConfig) -> dict[str, float]:
    """Name -> weight of the terms that count."""
    weights = {name: getattr(objectives, name).weight for name in TERMS}
    return {name: weight for name, weight in weights.items() if weight}


def encode(
    objectives: ObjectivesConfig, model: Model, batch: Batch, key: PRNGKeyArray | None
) -> Float[Array, "2 B D"]:
    """Sentence vectors of both sides; each row depends on its own pair alone.

    Both languages are encoded in one call. The masked text is what all terms see, as in the paper.
    """
    is_masked = "tokens" in active(objectives)
    text = tokens.apply_mask(batch.tokens, batch.masked) if is_masked else batch.tokens
    B, sides, L = text.shape
    return model.encoder(text.reshape(B * sides, L), key).reshape(B, sides, -1).swapaxes(0, 1)


def score(
    objectives: ObjectivesConfig, model: Model, batch: Batch, vectors: Float[Array, "2 B D"]
) -> tuple[Float[Array, ""], Metrics]:
    """Weighted sum of the objectives, in nats, and every term unweighted; needs the whole batch."""
    weights = active(objectives)
    terms = {
        name: TERMS[name](getattr(objectives, name), model, batch, vectors) for name in weights
    }
    return sum((weight * terms[name] for name, weight in weights.items()), jnp.zeros(())), terms


def loss(
    objectives: ObjectivesConfig,
    graphdef: nnx.GraphDef,
    params: Params,
    batch: Batch,
    key: PRNGKeyArray | None,
) -> tuple[Float[Array, ""], Metrics]:
    """The loss of a batch and its terms: `score` of `encode`."""
    model = merge(graphdef, params)
    return score(objectives, model, batch, encode(objectives, model, batch, key))
