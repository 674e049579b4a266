"""Which sentences of a batch have the same text, so that they are no wrong answers.

Texts are equal where all their pieces are. Pieces are compared by a hash of 64 bits: one number
pair a sentence goes over devices instead of its pieces, and nothing depends on the padded length.

Letters in shapes: B rows of the global batch, S sentences a row, L tokens, C candidates.
"""

from collections.abc import Sequence

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, UInt

PAD = 0
SEEDS = (0x9E3779B9, 0x85EBCA6B)
WRONG = -jnp.inf
"""The logit of what is left out of a denominator."""


def text_hashes(tokens: Int[Array, "*B L"]) -> UInt[Array, "*B 2"]:
    """Two hashes of 32 bits of every sentence: sums of mixed (piece, position), padding left out.

    Equal texts have equal hashes; different ones share both in one of 2^64 pairs. The mixing is the
    finaliser of MurmurHash3.
    """
    position = jnp.arange(tokens.shape[-1], dtype=jnp.uint32)
    position = position.reshape(*[1] * (tokens.ndim - 1), -1)
    hashes = []
    for seed in SEEDS:
        x = mixed(tokens.astype(jnp.uint32) ^ mixed(position + jnp.uint32(seed)))
        hashes.append(jnp.sum(jnp.where(tokens == PAD, 0, x), axis=-1, dtype=jnp.uint32))
    return jnp.stack(hashes, axis=-1)


def mixed(x: UInt[Array, "*n"]) -> UInt[Array, "*n"]:
    """A bijection of 32 bits in which every bit of x moves all others."""
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):
        x = (x ^ (x >> shift)) * jnp.uint32(factor)
    return x ^ (x >> 16)


def same_text(a: UInt[Array, "B 2"], b: UInt[Array, "C 2"]) -> Bool[Array, "B C"]:
    """Whether sentence i of `a` and sentence j of `b` have the same text."""
    return (a[:, None, 0] == b[None, :, 0]) & (a[:, None, 1] == b[None, :, 1])


def no_negatives(queries: UInt[Array, "B 2"], candidates: UInt[Array, "B 2"]) -> Bool[Array, "B B"]:
    """Cells (i, j), i != j, that do not hold a wrong answer.

    Candidate j is not wrong for query i if its text is that of the right one, if its own query has
    the text of query i, or if it has the text of query i itself: a sentence translates itself.
    """
    equal = same_text(queries, queries) | same_text(candidates, candidates)
    equal |= same_text(queries, candidates)
    return equal & ~jnp.eye(len(queries), dtype=bool)


def no_wrong_answers(
    queries: UInt[Array, "B 2"],
    candidates: UInt[Array, "B 2"],
    negatives: Sequence[UInt[Array, "B 2"]] | UInt[Array, "K B 2"],
    *,
    is_shared: bool,
) -> Bool[Array, "B C"]:
    """`no_negatives` of the batch and, beside it, of the K hard negatives of every row: B columns
    for each k where they are shared by all rows, otherwise one."""
    columns = [no_negatives(queries, candidates)]
    for texts in negatives:
        equal = same_text(queries, texts) | same_text(candidates, texts)
        columns.append(equal if is_shared else jnp.diagonal(equal)[:, None])
    return jnp.concatenate(columns, axis=1)


def leave_out(logits: Float[Array, "B C"], where: Bool[Array, "B C"] | None) -> Float[Array, "B C"]:
    """Logits without those cells: their mass is 0, and no gradient goes through them."""
    return logits if where is None else jnp.where(where, WRONG, logits)
