"""Masked language modelling, position by position: which pieces are predicted, and from what.

Letters in shapes: B rows of the batch, S sides, L tokens, K slots, the largest number of pieces of
a sentence that are predicted, M rows of predictions, E width, V vocabulary.

Source: BERT (arXiv 1810.04805), section 3.1 and appendix A.1.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from lightxling.config.objectives import MlmConfig
from lightxling.model.build import Model
from lightxling.objectives.term import Term, TermInputs
from lightxling.objectives.tokens import MASK, TOKEN_HEAD, token_loss

FIRST_PIECE = 3
"""Ids below are <pad>, <unk> and <MASK>: never chosen, and never put in the place of a piece."""
NO_SLOT = -1


def choose(tokens: Int[Array, "B S L"], share: float, key: PRNGKeyArray) -> Int[Array, "B S K"]:
    """Positions to be predicted: of n pieces round(share * n), at least one, drawn uniformly.

    The number is fixed, as in BERT's own data, not binomial: short sentences are seldom without
    one, and K = round(share * L) slots are enough. Unused slots are `NO_SLOT`.
    """
    L = tokens.shape[-1]
    K = max(1, round(share * L))
    is_piece = tokens >= FIRST_PIECE
    count = is_piece.sum(-1, keepdims=True)
    share_of_count = jnp.round(share * count.astype(jnp.float32)).astype(jnp.int32)
    wanted = jnp.minimum(jnp.maximum(share_of_count, 1), jnp.minimum(count, K))
    noise = jnp.where(is_piece, jax.random.uniform(key, tokens.shape), 2)
    order = jnp.argsort(noise, axis=-1)[..., :K]
    return jnp.where(jnp.arange(K)[None, None] < wanted, order, NO_SLOT).astype(jnp.int32)


def pick(tokens: Int[Array, "B S L"], slots: Int[Array, "B S K"]) -> Int[Array, "B S K"]:
    """The pieces at the slots; 0 for unused ones."""
    return jnp.where(slots < 0, 0, jnp.take_along_axis(tokens, jnp.maximum(slots, 0), axis=-1))


def corrupt(
    tokens: Int[Array, "B S L"],
    slots: Int[Array, "B S K"],
    key: PRNGKeyArray,
    *,
    mask: float,
    random: float,
    vocab_size: int,
) -> Int[Array, "B S L"]:
    """What the encoder sees: a share `mask` of the slots <MASK>, a share `random` any piece."""
    draw_key, piece_key = jax.random.split(key)
    draw = jax.random.uniform(draw_key, slots.shape)
    other = jax.random.randint(piece_key, slots.shape, FIRST_PIECE, vocab_size, tokens.dtype)
    seen = jnp.where(draw < mask + random, other, pick(tokens, slots))
    seen = jnp.where(draw < mask, MASK, seen).astype(tokens.dtype)
    B, S, L = tokens.shape
    row, side = jnp.arange(B)[:, None, None], jnp.arange(S)[None, :, None]
    return tokens.at[row, side, jnp.where(slots < 0, L, slots)].set(seen, mode="drop")


def masked_loss(
    hidden: Float[Array, "M E"],
    table: Float[Array, "V E"],
    bias: Float[Array, " V"],
    answers: Int[Array, " M"],
    *,
    chunk: int = 0,
) -> Float[Array, ""]:
    """Mean cross entropy over the predicted pieces, in nats.

        loss = -1/n sum_m log_softmax(E h_m + b)[answer_m],  over the n rows whose answer is not 0

    Args:
      chunk: vocabulary rows per block of logits, see `tokens.token_loss`.
    """
    weights = (answers > 0).astype(jnp.float32)
    total = token_loss(hidden, table, bias, answers[:, None], weights[:, None], chunk=chunk)
    return total / jnp.maximum(weights.sum(), 1)


def mlm_term(settings: MlmConfig, model: Model, inputs: TermInputs) -> Float[Array, ""]:
    """Of the token states at the masked slots instead of sentence vectors."""
    answers = inputs.batch.answers.transpose(2, 1, 0)  # [K, S, B]
    prediction = model.prediction(inputs.states.reshape(answers.size, -1))
    return masked_loss(*prediction, answers.reshape(-1), chunk=settings.vocab_block)


TERMS = {"mlm": Term(mlm_term, TOKEN_HEAD)}
