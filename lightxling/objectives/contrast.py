"""In-batch alignment losses: a sentence finds its translation among the batch.

Letters in shapes: B pairs of the global batch, D width.
"""

from typing import Literal

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jaxtyping import Array, Bool, Float, Shaped

from lightxling.config.objectives import AlignConfig, ObjectivesConfig, PivotConfig
from lightxling.corpus.batch import Batch
from lightxling.model.build import Model
from lightxling.model.heads import Sizes, TwoLayers
from lightxling.objectives.equal import leave_out, no_negatives, no_wrong_answers, text_hashes
from lightxling.objectives.term import ORDER, Head, Term, TermInputs, given_sides


def unit_rows(x: Float[Array, "*B D"]) -> Float[Array, "*B D"]:
    """Rows of unit length; a zero row stays zero, with a finite gradient."""
    return x * jax.lax.rsqrt(jnp.maximum(jnp.sum(x * x, axis=-1, keepdims=True), 1e-12))


def products(a: Float[Array, "B D"], b: Float[Array, "C D"]) -> Float[Array, "B C"]:
    """All dot products, float32: raw ones reach several hundred, where bfloat16 is 2 apart."""
    return jnp.einsum("bd,cd->bc", a, b, precision="highest", preferred_element_type=jnp.float32)


Directions = Literal["both", "forward"]


def cross_entropy(logits: Float[Array, "B C"], directions: Directions = "both") -> Float[Array, ""]:
    """Mean cross entropy of the diagonal over rows, in nats, plus (`both`) that over the first B
    columns."""
    pair = jnp.arange(len(logits))
    nll = optax.softmax_cross_entropy_with_integer_labels
    rows = nll(logits, pair).mean()
    return rows if directions == "forward" else rows + nll(logits[:, : len(pair)].T, pair).mean()


def alignment(
    src: Float[Array, "B D"],
    tgt: Float[Array, "B D"],
    *,
    similarity: Literal["dot", "cosine"] = "cosine",
    temperature: float = 1.0,
    margin: float = 0.0,
    directions: Directions = "both",
    negatives: Float[Array, "K B D"] | None = None,
    left_out: Bool[Array, "B C"] | None = None,
) -> Float[Array, ""]:
    """In-batch contrastive loss (InfoNCE), with an optional additive margin.

        Z_ij = (sim(src_i, tgt_j) - margin [i = j]) / temperature
        loss = CE([Z W]) + CE(Z'),  or CE([Z W]) (forward)

    Row i of `src` translates row i of `tgt`; the other B - 1 rows are the negatives, and so are,
    for all rows of `src`, the hard negatives: W_ij = sim(src_i, n_j) / temperature.

    Args:
      src, tgt: embeddings of any norm.
      similarity: dot products as they are, or cosines.
      margin: 0 is EMS's loss; LaBSE uses 0.3.
      negatives: K hard negatives of each row.
      left_out: cells of [Z W] that are in no denominator, see `equal.no_wrong_answers`.

    Returns:
      The sum of both directions, in nats. All rows equal and no margin gives 2 log(B); where m_i
      cells are left out of row i and of column i, the mean of 2 log(B - m_i).

    Source: dot, without temperature: ACL 2021, section 3.3, as released; cosine: EMS
    (arXiv 2205.15744), section 3.2; margin: LaBSE (arXiv 2007.01852), eq. 1; forward alone, and
    hard negatives: modular sentence encoders (arXiv 2407.14878), released code, which takes the
    MultipleNegativesRankingLoss of sentence-transformers.
    """
    wrong = None if negatives is None else negatives.reshape(-1, src.shape[-1])
    if similarity == "cosine":
        src, tgt = unit_rows(src), unit_rows(tgt)
        wrong = None if wrong is None else unit_rows(wrong)
    logits = (products(src, tgt) - margin * jnp.eye(len(src))) / temperature
    if wrong is not None:
        logits = jnp.concatenate([logits, products(src, wrong) / temperature], axis=1)
    return cross_entropy(leave_out(logits, left_out), directions)


def swap_rows(
    a: Shaped[Array, "B D"], b: Shaped[Array, "B D"], swapped: Bool[Array, " B"]
) -> tuple[Shaped[Array, "B D"], Shaped[Array, "B D"]]:
    """The pairs (a_i, b_i), those in the other order where `swapped`."""
    swapped = swapped[:, None]
    return jnp.where(swapped, b, a), jnp.where(swapped, a, b)


def cosine_distance(
    src: Float[Array, "B D"], tgt: Float[Array, "B D"], *, is_squared: bool = False
) -> Float[Array, ""]:
    """How far pairs are from pointing the same way, without negatives: 0 at best.

        loss = 1/B sum_i (1 - cos(src_i, tgt_i)),  or the square of each term

    A zero vector has cosine 0 to everything.

    Source: modular sentence encoders (arXiv 2407.14878), the loss on parallel pairs; whether it is
    squared there is not known to us.
    """
    distance = 1 - jnp.sum(unit_rows(src) * unit_rows(tgt), axis=-1)
    return jnp.mean(distance**2 if is_squared else distance)


def equal_pairs(batch: Batch, sides: int = 2) -> Bool[Array, "B C"]:
    """What is no wrong answer among the second sentences of all rows, and their hard negatives."""
    src, tgt, *wrong = text_hashes(batch.tokens[:, :sides]).swapaxes(0, 1)
    return no_wrong_answers(src, tgt, wrong, is_shared=True)


def align_term(settings: AlignConfig, model: Model, inputs: TermInputs) -> Float[Array, ""]:
    sides = given_sides(inputs)
    vectors = inputs.vectors[:sides]
    if settings.projection:
        vectors = model.projection(vectors)
    if settings.after_head:
        vectors = jax.vmap(model.token_head)(vectors)
    return alignment(
        *vectors[:2],
        negatives=vectors[2:] if sides > 2 else None,
        similarity=settings.similarity,
        temperature=settings.temperature,
        margin=settings.margin,
        directions=settings.directions,
        left_out=equal_pairs(inputs.batch, sides) if settings.exclude_equal else None,
    )


def projection(objectives: ObjectivesConfig, sizes: Sizes, rngs: nnx.Rngs) -> TwoLayers | None:
    """Sentence vector -> the vector that is aligned: Linear-ReLU-Linear. Source: EMS code."""
    width, projected = sizes.model.width, objectives.align.projection
    return TwoLayers(width, width, projected, jax.nn.relu, rngs) if projected else None


def pivot_term(settings: PivotConfig, model: Model, inputs: TermInputs) -> Float[Array, ""]:
    """The trained side against the teacher's vectors of the pivot, which are constants."""
    (trained,), batch, key = inputs.vectors, inputs.batch, inputs.key
    pivot = batch.teacher[jnp.arange(len(trained)), batch.pivot]
    if settings.loss != "contrastive":
        return cosine_distance(trained, pivot, is_squared=settings.loss == "cosine-squared")
    swapped = jnp.zeros(len(trained), bool)
    if key is not None:
        swapped = jax.random.bernoulli(jax.random.fold_in(key, ORDER), shape=swapped.shape)
    anchors, positives = swap_rows(trained, pivot, swapped)
    left_out = None
    if settings.exclude_equal:
        rows, texts = jnp.arange(len(trained)), text_hashes(batch.tokens)
        sides = texts[rows, 1 - batch.pivot], texts[rows, batch.pivot]
        left_out = no_negatives(*swap_rows(*sides, swapped))
    return alignment(
        anchors,
        positives,
        temperature=settings.temperature,
        directions="forward",
        left_out=left_out,
    )


TERMS = {
    "align": Term(align_term, Head("projection", projection)),
    "pivot": Term(pivot_term),
}
