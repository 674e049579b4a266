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
from lightxling.objectives import (
    contrast,
    distillation,
    inference,
    masked,
    ranking,
    similarity,
    tokens,
)

Metrics = dict[str, Float[Array, ""]]


class Batch(NamedTuple):
    """B rows of one padded length; ids are 0 beyond the sentence."""

    tokens: Int[Array, "B S L"]
    """S sentences a row: a pair and its hard negatives, three in a row of a text, or one."""
    masked: Int[Array, " B"]
    """side * L + position of the one piece to mask."""
    languages: Int[Array, "B _"] | None = None
    """Index of each side's language among the store's; only heads that ask for it read it."""
    teacher: Float[Array, "B 2 T"] | None = None
    """The teacher's vectors where an objective has one; zeros for the sides that none reads."""
    pivot: Int[Array, " B"] | None = None
    """0 or 1: the side that the teacher knows best."""
    labels: Float[Array, " B"] | None = None
    """The number of the row's class, or its score."""
    ngrams: Int[Array, "B S L G"] | None = None
    """Rows of the words' n-grams in their table, 0 beyond them."""
    slots: Int[Array, "B S K"] | None = None
    """Positions that masked language modelling predicts, see `mask`."""
    answers: Int[Array, "B S K"] | None = None
    """The pieces that stood there."""


HEADS, MASKS, ORDER = 1 << 20, 1 << 21, 1 << 22
"""Folded into the step's key for the dropout of the heads, for masked positions and for the order
of pairs: beyond the keys that the encoder splits off."""


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


def mlm_term(settings, model: Model, batch: Batch, slots: Float[Array, "K S B D"], key):
    """Of the token states at the masked slots instead of sentence vectors."""
    answers = batch.answers.transpose(2, 1, 0)  # [K, S, B]
    hidden, table, bias = model.prediction(slots.reshape(answers.size, -1))
    return masked.masked_loss(hidden, table, bias, answers.reshape(-1), chunk=settings.vocab_block)


def align_term(settings, model: Model, batch: Batch, vectors: Float[Array, "2 B D"], key):
    if settings.projection:
        vectors = model.projection(vectors)
    return contrast.alignment(
        *vectors,
        similarity=settings.similarity,
        temperature=settings.temperature,
        margin=settings.margin,
        directions=settings.directions,
    )


def similarity_term(settings, model: Model, batch: Batch, vectors: Float[Array, "2 B D"], key):
    return similarity.similarity_matching(*vectors, reduction=settings.reduction, eps=settings.eps)


def soft_term(settings, model: Model, batch: Batch, vectors: Float[Array, "2 B D"], key):
    src, tgt = vectors
    if settings.labels == "hard":
        similarities, targets = jnp.eye(len(src)), "raw"
    else:
        targets = settings.targets
        similarities = distillation.teacher_similarities(
            batch.teacher, batch.pivot, settings.labels
        )
    if settings.loss == "mse":
        return distillation.similarity_regression(
            src, tgt, similarities, temperature=settings.temperature
        )
    return distillation.soft_contrast(
        src,
        tgt,
        similarities,
        temperature=settings.temperature,
        teacher_temperature=settings.teacher_temperature or settings.temperature,
        targets=targets,
        cross=settings.cross,
        tcm=settings.tcm,
        tcm_double=settings.tcm_double,
        margin=settings.margin,
    )


def regression_term(settings, model: Model, batch: Batch, vectors: Float[Array, "2 B D"], key):
    if model.teacher_map is not None:
        vectors = model.teacher_map(vectors)
    return distillation.vector_regression(*vectors, batch.teacher, batch.pivot)


def ranking_term(settings, model: Model, batch: Batch, vectors: Float[Array, "S B D"], key):
    """Sum over the directions; the hard negatives of each follow the pair."""
    if settings.similarity == "cosine":
        vectors = contrast.normalize(vectors)
    (src, tgt), hard = vectors[:2], vectors[2:]
    directions = {"forward": [(src, tgt)], "backward": [(tgt, src)]}
    directions["both"] = directions["forward"] + directions["backward"]
    loss = jnp.zeros(())
    for number, (queries, candidates) in enumerate(directions[settings.direction]):
        negatives = None
        if settings.negatives:
            negatives = hard[number * settings.negatives :][: settings.negatives]
        if model.response is not None:
            candidates = model.response(candidates)
            negatives = None if negatives is None else model.response(negatives)
        loss += ranking.ranking(
            queries,
            candidates,
            negatives,
            scale=settings.scale,
            margin=settings.margin,
            exclude_positive=settings.exclude_positive,
            shared_negatives=settings.shared_negatives,
        )
    return loss


def quick_thought_term(settings, model: Model, batch: Batch, vectors: Float[Array, "3 B D"], key):
    before, sentence, after = vectors
    heads = model.quick_thought
    return ranking.quick_thought(heads.sentence(sentence), heads.before(before), heads.after(after))


def inference_term(settings, model: Model, batch: Batch, vectors: Float[Array, "2 B D"], key):
    logits = model.inference(inference.pair_features(*vectors))
    return inference.classification(logits, batch.labels.astype(jnp.int32))


def sts_term(settings, model: Model, batch: Batch, vectors: Float[Array, "2 B D"], key):
    return inference.score_regression(*vectors, batch.labels / settings.highest)


def pivot_term(settings, model: Model, batch: Batch, vectors: Float[Array, "1 B D"], key):
    """The trained side against the teacher's vectors of the pivot, which are constants."""
    (trained,) = vectors
    pivot = batch.teacher[jnp.arange(len(trained)), batch.pivot]
    if settings.loss != "contrastive":
        is_squared = settings.loss == "cosine-squared"
        return contrast.cosine_distance(trained, pivot, is_squared=is_squared)
    swapped = jnp.zeros(len(trained), bool)
    if key is not None:
        swapped = jax.random.bernoulli(jax.random.fold_in(key, ORDER), shape=swapped.shape)
    anchors, positives = contrast.swap_rows(trained, pivot, swapped)
    return contrast.alignment(
        anchors, positives, temperature=settings.temperature, directions="forward"
    )


def ese_loss(
    objectives: ObjectivesConfig, model: Model, batch: Batch, layers: Float[Array, "N 2 B D"]
) -> Float[Array, ""]:
    """What ESE adds to the loss of the last layer.

        l(h_n[:k]) + c D(h_n) + sum_i w_i (l(h_i[:k]) + c D(h_i))

    l is the weighted sum of the objectives that take vectors of any width, D is
    `distillation.compression` over the sentences of both languages with its share c (1 in the
    paper), w `distillation.layer_weights`.

    Args:
      layers: pooled vectors h_0 (embeddings) ... h_n.
    """
    settings = objectives.ese
    names = [name for name in active(objectives) if name in ANY_WIDTH]
    weights = distillation.layer_weights(
        len(layers) - 1, published_index=settings.published_index
    ) | {len(layers) - 1: 1.0}
    total = jnp.zeros(())
    for i, weight in weights.items():
        slim = layers[i][..., : settings.dimensions]
        for name in names:
            term = getattr(objectives, name)
            total += weight * term.weight * TERMS[name](term, model, batch, slim, None)
        if settings.compression:
            vectors = layers[i].reshape(-1, layers.shape[-1])
            divergence = distillation.compression(
                vectors, k=settings.dimensions, temperature=settings.temperature
            )
            total += weight * settings.compression * divergence
    return total


TERMS: dict[str, Callable] = {
    "tokens": token_term,
    "mlm": mlm_term,
    "align": align_term,
    "similarity": similarity_term,
    "soft": soft_term,
    "regression": regression_term,
    "pivot": pivot_term,
    "ranking": ranking_term,
    "quick_thought": quick_thought_term,
    "inference": inference_term,
    "sts": sts_term,
}
ALL_SENTENCES = ("mlm", "ranking", "quick_thought")
"""Terms that read all sentences of a row; the others read the pair, the first two."""
ANY_WIDTH = ("align", "similarity", "soft")
"""Terms that take the leading dimensions of vectors as well as all of them."""


def active(objectives: ObjectivesConfig) -> dict[str, float]:
    """Name -> weight of the terms that count."""
    weights = {name: getattr(objectives, name).weight for name in (*TERMS, "ese")}
    return {name: weight for name, weight in weights.items() if weight}


def mask(
    objectives: ObjectivesConfig, model: Model, batch: Batch, key: PRNGKeyArray | None
) -> Batch:
    """The batch as the encoder sees it, with what masked language modelling hides and asks for.

    Drawn for the whole batch before it is cut into pieces. No key: the same positions every time.
    """
    settings = objectives.mlm
    if not settings.weight:
        return batch
    base = jax.random.key(0) if key is None else jax.random.fold_in(key, MASKS)
    slot_key, piece_key = jax.random.split(base)
    slots = masked.choose(batch.tokens, settings.share, slot_key)
    seen = masked.corrupt(
        batch.tokens,
        slots,
        piece_key,
        mask=settings.mask,
        random=settings.random,
        vocab_size=len(model.encoder.words[...]),
    )
    answers = masked.pick(batch.tokens, slots)
    seen, ngrams = _seen(batch, seen)
    return batch._replace(tokens=seen, ngrams=ngrams, slots=slots, answers=answers)


def _seen(
    batch: Batch, tokens: Int[Array, "B S L"]
) -> tuple[Int[Array, "B S L"], Int[Array, "B S L G"] | None]:
    """Tokens that stand for those of the batch, and n-grams without the letters of hidden words."""
    if batch.ngrams is None:
        return tokens, None
    return tokens, jnp.where((tokens != batch.tokens)[..., None], 0, batch.ngrams)


def encode(
    objectives: ObjectivesConfig, model: Model, batch: Batch, key: PRNGKeyArray | None
) -> Float[Array, "N S B D"]:
    """Sentence vectors of all sides: those of the last layer, under ESE those of every layer.

    All sides are encoded in one call. The masked text is what all terms see, as in the paper
    (unless `mask_inputs` is off). A row depends on its own pair alone. Where there are `slots`, the
    states of the last layer at the K slots follow the vectors; the objective `pivot` has one side
    encoded only.
    """
    weights = active(objectives)
    is_masked = "tokens" in weights and objectives.tokens.mask_inputs
    text, ngrams = batch.tokens, batch.ngrams
    if is_masked:
        text, ngrams = _seen(batch, tokens.apply_mask(text, batch.masked))
    if "pivot" in weights:
        rows, trained = jnp.arange(len(text)), 1 - batch.pivot
        text, ngrams = jax.tree.map(lambda x: x[rows, trained][:, None], (text, ngrams))
    B, sides, L = text.shape
    text = text.reshape(B * sides, L)
    ngrams = None if ngrams is None else ngrams.reshape(B * sides, L, -1)
    if batch.slots is None:
        encoded = model.encoder(text, key, ngrams=ngrams, every_layer="ese" in weights)
        return encoded.reshape(-1, B, sides, encoded.shape[-1]).swapaxes(1, 2)
    states = model.encoder.states(text, key, ngrams=ngrams)
    real = text != tokens.PAD
    pooled = [model.encoder.pool(state, real) for state in states]
    slots = jnp.maximum(batch.slots.reshape(B * sides, -1), 0)
    at_slots = jnp.take_along_axis(states[-1], slots[..., None], axis=1).swapaxes(0, 1)
    encoded = jnp.concatenate([jnp.stack(pooled if "ese" in weights else pooled[-1:]), at_slots])
    return encoded.reshape(-1, B, sides, encoded.shape[-1]).swapaxes(1, 2)


def score(
    objectives: ObjectivesConfig,
    model: Model,
    batch: Batch,
    layers: Float[Array, "N S B D"],
    key: PRNGKeyArray | None,
) -> tuple[Float[Array, ""], Metrics]:
    """Weighted sum of the objectives, in nats, and every term unweighted; needs the whole batch."""
    weights, at_slots = active(objectives), None
    if batch.slots is not None:
        slots = batch.slots.shape[-1]
        layers, at_slots = layers[:-slots], layers[-slots:]
    pairs, pair_layers = batch._replace(tokens=batch.tokens[:, :2]), layers[:, :2]
    terms = {}
    for name in weights:
        settings = getattr(objectives, name)
        if name == "ese":
            terms[name] = ese_loss(objectives, model, pairs, pair_layers)
        elif name in ALL_SENTENCES:
            inputs = at_slots if name == "mlm" else layers[-1]
            terms[name] = TERMS[name](settings, model, batch, inputs, key)
        else:
            terms[name] = TERMS[name](settings, model, pairs, pair_layers[-1], key)
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
    batch = mask(objectives, model, batch, key)
    return score(objectives, model, batch, encode(objectives, model, batch, key), key)
