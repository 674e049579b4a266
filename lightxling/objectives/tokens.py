"""Generative tasks on the pooled sentence vector: single-word masking (SMLM), cross-lingual token
reconstruction (XTR) and their union (UGT).

One distribution over the vocabulary is predicted per sentence. Targets are sparse: the ids of the
other sentence with a weight each, and the masked word. Nothing of the size [batch, vocab] holds
targets.

Letters in shapes: B pairs, L tokens, R rows (sentences, 2B), K target slots, E width, V vocabulary.

Source: ACL 2021 (arXiv 2105.13856), section 3.2, and its released code.
"""

import functools
from typing import Literal

import jax
import jax.numpy as jnp
from flax import nnx
from jax.scipy.special import xlogy
from jaxtyping import Array, Float, Int

from lightxling.config.objectives import ObjectivesConfig, TokensConfig
from lightxling.model.build import Model
from lightxling.model.heads import Sizes, TokenHead
from lightxling.objectives.term import HEADS, Head, Term, TermInputs

PAD, MASK = 0, 2

BLOCK_CELLS = 1 << 24
"""Largest temporary array of this file that grows faster than the batch, in cells: 64 MB of
float32."""


def apply_mask(tokens: Int[Array, "B S L"], masked: Int[Array, " B"]) -> Int[Array, "B S L"]:
    """Replaces one piece of each pair by <MASK>; `masked` counts side * L + position."""
    flat = tokens.reshape(len(tokens), -1)
    slots = jnp.arange(flat.shape[1])[None]
    return jnp.where(slots == masked[:, None], MASK, flat).reshape(tokens.shape)


def piece_weights(
    ids: Int[Array, "R L"], duplicates: Literal["fill", "count", "uniform"]
) -> Float[Array, "R L"]:
    """Target mass of a sentence's pieces, on the first occurrence of each id.

    fill: 1/n each, repeated or not, so a row with repetitions sums to less than 1 (the reference);
    count: occurrences/n; uniform: 1/distinct.  n is the sentence length; no pieces, no mass.
    """
    R, L = ids.shape
    real = ids != PAD
    position = jnp.arange(L)
    width = max(1, min(L, BLOCK_CELLS // max(R * L, 1)))  # columns compared with all others at once
    columns = jnp.pad(ids, ((0, 0), (0, -L % width)))  # with padding, which equals nothing

    def add_columns(carry, block):
        seen, count = carry
        others, start = block  # [R, width]
        same = (ids[:, :, None] == others[:, None, :]) & (others != PAD)[:, None, :]
        earlier = start + jnp.arange(width)[None, None, :] < position[None, :, None]
        return (seen | jnp.any(same & earlier, axis=2), count + same.sum(2)), None

    starts = jnp.arange(0, columns.shape[1], width)
    blocks = columns.reshape(R, -1, width).swapaxes(0, 1), starts
    carry = jnp.zeros((R, L), bool), jnp.zeros((R, L), jnp.int32)
    (seen, count), _ = jax.lax.scan(add_columns, carry, blocks)
    first = (real & ~seen).astype(jnp.float32)
    length = jnp.maximum(real.sum(1, keepdims=True), 1).astype(jnp.float32)
    return {
        "fill": lambda: first / length,
        "count": lambda: first * count.astype(jnp.float32) / length,
        "uniform": lambda: first / jnp.maximum(first.sum(1, keepdims=True), 1),
    }[duplicates]()


def targets(
    tokens: Int[Array, "B 2 L"],
    masked: Int[Array, " B"],
    *,
    kind: Literal["ugt", "xtr", "smlm"],
    duplicates: Literal["fill", "count", "uniform"],
    mlm_overwrite: bool,
    xtr_from: Literal["masked", "original"],
) -> tuple[Int[Array, "B 2 K"], Float[Array, "B 2 K"]]:
    """Sparse targets of both sides: ids and weights, K = L + 1 slots; an id has its mass in one
    slot.

    For the masked side c with masked piece m, and the other side o:

        UGT   t_c = 1/2 [m] + 1/2 pieces(x_o)     t_o = pieces(x_c)
        XTR   t_c = pieces(x_o)                   t_o = pieces(x_c)
        SMLM  t_c = [m]                           t_o = nothing

    Args:
      tokens: the pairs as they are in the text, padded with 0.
      masked: side * L + position of the masked piece.
      duplicates: how `pieces` counts repetitions, see `piece_weights`.
      mlm_overwrite: when m also stands in x_o, its half is replaced by the piece's mass (the
        reference) instead of added to it.
      xtr_from: whether `pieces(x_c)` is taken from the masked text, <MASK> included, or the
        original.
    """
    B, _, L = tokens.shape
    text = apply_mask(tokens, masked) if xtr_from == "masked" else tokens
    ids = jnp.concatenate([text[:, ::-1], jnp.zeros((B, 2, 1), tokens.dtype)], axis=2)
    weights = piece_weights(ids.reshape(2 * B, L + 1), duplicates).reshape(B, 2, L + 1)
    if kind == "xtr":
        return ids, weights

    word = jnp.take_along_axis(tokens.reshape(B, -1), masked[:, None], axis=1)  # [B, 1]
    is_masked_side = (jnp.arange(2)[None] == (masked // L)[:, None])[..., None]  # [B, 2, 1]
    word_slot = jnp.arange(L + 1)[None, None] == L
    ids = jnp.where(is_masked_side & word_slot, word[..., None], ids)
    if kind == "smlm":
        return ids, (is_masked_side & word_slot).astype(jnp.float32)

    shared = (ids == word[..., None]) & ~word_slot & (weights > 0)  # the word in the other sentence
    is_shared = jnp.any(shared, axis=2, keepdims=True)
    word_mass = word_slot & ~is_shared if mlm_overwrite else (word_slot & ~is_shared) | shared
    halves = weights / 2 + 0.5 * word_mass.astype(jnp.float32)
    return ids, jnp.where(is_masked_side, halves, weights)


def token_loss(
    hidden: Float[Array, "R E"],
    table: Float[Array, "V E"],
    bias: Float[Array, " V"],
    ids: Int[Array, "R K"],
    weights: Float[Array, "R K"],
    *,
    chunk: int = 0,
) -> Float[Array, ""]:
    """KL divergence of the prediction from the target, summed over rows.

        loss = sum_r sum_{v: t > 0} t_rv (log t_rv - log_softmax(E h_r + b)_v)

    Targets need not sum to 1 ("fill"), and a row without targets costs nothing.

    Args:
      chunk: vocabulary rows per block of logits: the [R, V] logits are never whole in memory. Large
        batches get smaller blocks, so that no block has more than BLOCK_CELLS logits. 0: one block.

    Returns:
      Loss in nats; 0 when the prediction equals the targets of every row.
    """
    chunk = min(chunk, max(BLOCK_CELLS // max(len(hidden), 1), 1))
    entropy = jnp.sum(xlogy(weights, weights))
    return entropy - jnp.sum(_log_likelihood(hidden, table, bias, ids, weights, chunk))


def _blocks(table, bias, chunk):
    """Splits the vocabulary into equal blocks, [N, size, E] and [N, size], and a remainder.

    The size is the largest divisor of V up to `chunk`, which leaves no remainder to be copied;
    where that is too small to be fast, it is `chunk`.
    """
    V = len(table)
    size = next((size for size in range(chunk, chunk // 4, -1) if V % size == 0), chunk)
    n, chunk = V // size, size
    whole = n * chunk
    blocks = table[:whole].reshape(n, chunk, -1), bias[:whole].reshape(n, chunk)
    return blocks, jnp.arange(n) * chunk, (table[whole:], bias[whole:], whole)


@functools.partial(jax.custom_vjp, nondiff_argnums=(5,))
def _log_likelihood(hidden, table, bias, ids, weights, chunk):
    """sum_k w_rk log_softmax(h_r E' + b)[ids_rk], [R]; logits are made block by block, twice."""
    return _forward(hidden, table, bias, ids, weights, chunk)[0]


def _logits(hidden, table, bias):
    return jnp.dot(hidden, table.T, preferred_element_type=jnp.float32) + bias[None]


def _forward(hidden, table, bias, ids, weights, chunk):
    def add_block(carry, block):
        highest, total, score = carry
        block_table, block_bias, start = block
        z = _logits(hidden, block_table, block_bias)
        new = jnp.maximum(highest, z.max(axis=1))
        total = total * jnp.exp(highest - new) + jnp.exp(z - new[:, None]).sum(axis=1)
        here = (ids >= start) & (ids < start + len(block_bias))
        picked = jnp.take_along_axis(z, jnp.where(here, ids - start, 0), axis=1)
        return (new, total, score + jnp.sum(jnp.where(here, weights, 0) * picked, axis=1)), None

    rows = len(hidden)
    carry = (jnp.full(rows, -jnp.inf), jnp.zeros(rows), jnp.zeros(rows))
    blocks, starts, rest = _blocks(table, bias, min(chunk or len(table), len(table)))
    carry, _ = jax.lax.scan(add_block, carry, (*blocks, starts))
    if len(rest[1]):
        carry, _ = add_block(carry, rest)
    highest, total, score = carry
    logsumexp = highest + jnp.log(total)
    residuals = (hidden, table, bias, ids, weights, logsumexp)
    return score - weights.sum(axis=1) * logsumexp, residuals


def _backward(chunk, residuals, gradient):
    hidden, table, bias, ids, weights, logsumexp = residuals
    weights = weights * gradient[:, None]
    mass = weights.sum(axis=1)
    row = jnp.arange(len(hidden))[:, None]

    def add_block(hidden_gradient, block):
        block_table, block_bias, start = block
        z = _logits(hidden, block_table, block_bias)
        dz = -mass[:, None] * jnp.exp(z - logsumexp[:, None])
        here = (ids >= start) & (ids < start + len(block_bias))
        dz = dz.at[row, jnp.where(here, ids - start, 0)].add(jnp.where(here, weights, 0))
        dz = dz.astype(hidden.dtype)
        dot = functools.partial(jnp.dot, preferred_element_type=jnp.float32)
        return hidden_gradient + dot(dz, block_table), (dot(dz.T, hidden), dz.sum(axis=0))

    blocks, starts, rest = _blocks(table, bias, min(chunk or len(table), len(table)))
    dh, (dtable, dbias) = jax.lax.scan(
        add_block, jnp.zeros(hidden.shape, jnp.float32), (*blocks, starts)
    )
    dtable, dbias = dtable.reshape(-1, hidden.shape[1]), dbias.reshape(-1)
    if len(rest[1]):
        dh, (rest_table, rest_bias) = add_block(dh, rest)
        dtable = jnp.concatenate([dtable, rest_table])
        dbias = jnp.concatenate([dbias, rest_bias])
    return (
        dh.astype(hidden.dtype),
        dtable.astype(table.dtype),
        dbias.astype(bias.dtype),
        None,
        None,
    )


_log_likelihood.defvjp(_forward, _backward)


def token_term(settings: TokensConfig, model: Model, inputs: TermInputs) -> Float[Array, ""]:
    """Mean over pairs of the KL of both sides ("batchmean", both sides added).

    What a side predicts is in the language of the other side.
    """
    batch, key = inputs.batch, inputs.key
    ids, weights = targets(
        batch.tokens,
        batch.masked,
        kind=settings.kind,
        duplicates=settings.duplicates,
        mlm_overwrite=settings.mlm_overwrite,
        xtr_from=settings.xtr_from if settings.mask_inputs else "original",
    )
    B, _, K = ids.shape
    rows = inputs.vectors.swapaxes(0, 1).reshape(2 * B, -1)
    languages = batch.languages[:, ::-1].reshape(2 * B) if settings.language_width else None
    key = None if key is None else jax.random.fold_in(key, HEADS)
    prediction = model.prediction(rows, languages, key)
    ids, weights = ids.reshape(2 * B, K), weights.reshape(2 * B, K)
    return token_loss(*prediction, ids, weights, chunk=settings.vocab_block) / B


def token_head(objectives: ObjectivesConfig, sizes: Sizes, rngs: nnx.Rngs) -> TokenHead:
    return TokenHead(objectives.tokens, sizes, rngs)


TOKEN_HEAD = Head("token_head", token_head)
TERMS = {"tokens": Term(token_term, TOKEN_HEAD)}
