"""The loss of a run: the weighted sum of its terms, from a batch.

A new objective is one function in this folder, its settings in `config.ObjectivesConfig` and one
entry in `TERMS`.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
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
    languages: Int[Array, "B 2"] | None = None
    """Index of each side's language among the store's; only heads that ask for it read it."""


HEADS = 1 << 20
"""Folded into the step's key for the dropout of the heads: beyond the keys that the encoder splits
off."""


def token_term(settings, model: Model, batch: Batch, vectors: Float[Array, "2 B D"], key):
    """Mean over pairs of the KL of both sides ("batchmean", both sides added).

    What a side predicts is in the language of the other side.
    """
    ids, weights = tokens.targets(
        batch.tokens,
        batch.masked,
        kind=settings.kind,
        duplicates=settings.duplicates,
        mlm_overwrite=settings.mlm_overwrite,
        xtr_from=settings.xtr_from if settings.mask_inputs else "original",
    )
    B, _, K = ids.shape
    rows = vectors.swapaxes(0, 1).reshape(2 * B, -1)
    languages = None
    if settings.language_width:
        languages = batch.languages[:, ::-1].reshape(2 * B)
    key = None if key is None else jax.random.fold_in(key, HEADS)
    hidden, table, bias = model.prediction(rows, languages, key)
    loss = tokens.token_loss(
        hidden,
        table,
        bias,
        ids.reshape(2 * B, K),
        weights.reshape(2 * B, K),
        chunk=settings.vocab_block,
    )
    return loss / B


def align_term(settings, model: Model, batch: Batch, vectors: Float[Array, "2 B D"], key):
    if settings.projection:
        vectors = model.projection(vectors)
    if settings.similarity == "dot":
        return contrast.dot_alignment(*vectors)
    return contrast.cosine_alignment(
        *vectors, temperature=settings.temperature, margin=settings.margin
    )


def similarity_term(settings, model: Model, batch: Batch, vectors: Float[Array, "2 B D"], key):
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


def loss(
    objectives: ObjectivesConfig,
    graphdef: nnx.GraphDef,
    params: Params,
    batch: Batch,
    key: PRNGKeyArray | None,
) -> tuple[Float[Array, ""], Metrics]:
    """Weighted sum of the objectives, in nats, and every term unweighted.

    Both languages are encoded in one call. The masked text is what all terms see, as in the paper
    (unless `mask_inputs` is off).
    """
    model = merge(graphdef, params)
    weights = active(objectives)
    is_masked = "tokens" in weights and objectives.tokens.mask_inputs
    text = tokens.apply_mask(batch.tokens, batch.masked) if is_masked else batch.tokens
    B, sides, L = text.shape
    vectors = model.encoder(text.reshape(B * sides, L), key).reshape(B, sides, -1).swapaxes(0, 1)
    terms = {
        name: TERMS[name](getattr(objectives, name), model, batch, vectors, key) for name in weights
    }
    total = sum((weight * terms[name] for name, weight in weights.items()), jnp.zeros(()))
    return total, terms
