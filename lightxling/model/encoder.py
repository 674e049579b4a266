"""The shared transformer: token ids -> one vector per sentence.

One set of weights encodes every language; there is no language id in the encoder. Letters in
shapes: B sentences, L tokens, D width, E embedding width, H heads, K = D/H, F feed-forward, V
vocabulary.

Source: Lightweight Cross-Lingual Sentence Representation Learning (ACL 2021), section 3, and its
released code: post-norm blocks, SiLU feed-forward, learned absolute positions counted from 1, mean
pooling.
"""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from lightxling.config.schema import ModelConfig
from lightxling.model.adapters import Adapter, beside, project
from lightxling.model.params import PIECE_RATE, TINY, sinusoids

PAD = 0


def dropout(x: Float[Array, "..."], rate: float, key: PRNGKeyArray | None) -> Float[Array, "..."]:
    """Zeroes a share of x and scales the rest so that the mean stays; no key, no dropout.

    One threefry word serves four elements, as random bits are a tenth of a step on CPUs: the rate
    is therefore rounded to 1/256 (0.1 becomes 0.1016), and the scale is exact for the rounded rate.
    """
    dropped = round(rate * 256)
    if key is None or dropped == 0:
        return x
    words = jax.random.bits(key, (*x.shape[:-1], -(-x.shape[-1] // 4)), jnp.uint32)
    octets = jax.lax.bitcast_convert_type(words, jnp.uint8)  # [..., words, 4]
    octets = octets.reshape(*x.shape[:-1], -1)[..., : x.shape[-1]]
    return jnp.where(octets >= dropped, x * (256 / (256 - dropped)), 0)


@jax.custom_vjp
def look_up_rows(
    table: Float[Array, "V E"], ids: Int[Array, "B L"]
) -> tuple[Float[Array, "B L E"], Float[Array, "V E"]]:
    """Rows of the table, and the table itself for its later uses.

    The gradient of the rows is added in place to that of the returned table. Left to autodiff, each
    use of the table has a [V, E] gradient of its own: 100 MB more at 50,000 x 512.
    """
    return table[ids], table


def _look_up_rows_forward(table, ids):
    return look_up_rows(table, ids), ids


def _look_up_rows_backward(ids, gradients):
    rows, table = gradients
    return table.at[ids].add(rows), None


look_up_rows.defvjp(_look_up_rows_forward, _look_up_rows_backward)


def mean_pool(hidden: Float[Array, "B L D"], real: Bool[Array, "B L"]) -> Float[Array, "B D"]:
    """Averages over the tokens where `real`; a sentence without tokens gives zeros."""
    weight = real[..., None].astype(hidden.dtype)
    return jnp.sum(hidden * weight, axis=1) / jnp.maximum(jnp.sum(weight, axis=1), 1)


def max_pool(hidden: Float[Array, "B L D"], real: Bool[Array, "B L"]) -> Float[Array, "B D"]:
    """Largest value over real tokens; padding cannot win, and an empty sentence gives zeros."""
    best = jnp.max(jnp.where(real[..., None], hidden, -jnp.inf), axis=1)
    return jnp.where(jnp.any(real, axis=1)[:, None], best, 0)


def sum_pool(hidden: Float[Array, "B L D"], real: Bool[Array, "B L"]) -> Float[Array, "B D"]:
    """Sums over the tokens where `real`."""
    return jnp.sum(jnp.where(real[..., None], hidden, 0), axis=1)


def weighted_pool(
    hidden: Float[Array, "B L D"], weight: Float[Array, "B L"]
) -> Float[Array, "B D"]:
    """Weighted mean over the tokens; without any of positive weight it is zero.

        s = sum_i w_i h_i / sum_i w_i

    Args:
      weight: not negative; 0 at padding.
    """
    total = jnp.sum(weight, axis=1, keepdims=True)
    return jnp.einsum("bld,bl->bd", hidden, weight) / jnp.maximum(total, TINY)


def attention_weights(
    hidden: Float[Array, "B L D"], real: Bool[Array, "B L"], query: Float[Array, " D"]
) -> Float[Array, "B L"]:
    """softmax(h q) over the tokens where `real`, 0 elsewhere."""
    scores = jnp.where(real, hidden @ query, jnp.finfo(hidden.dtype).min)
    return jnp.where(real, jax.nn.softmax(scores, axis=1), 0)


def first_pool(hidden: Float[Array, "B L D"], real: Bool[Array, "B L"]) -> Float[Array, "B D"]:
    """The first token's; a sentence without tokens gives zeros."""
    return jnp.where(real[:, :1], hidden[:, 0], 0)


ACTIVATION = {
    "swish": jax.nn.silu,
    "relu": jax.nn.relu,
    "gelu": functools.partial(jax.nn.gelu, approximate=False),
    "gelu_new": functools.partial(jax.nn.gelu, approximate=True),
}
POOLING = {"mean": mean_pool, "max": max_pool, "sum": sum_pool, "cls": first_pool}


def linear(fan_in: int, fan_out: int, *, dtype, rngs: nnx.Rngs) -> nnx.Linear:
    """A dense layer that starts as PyTorch's does: kernel and bias U(-1, 1) / sqrt(fan_in)."""
    bound = fan_in**-0.5

    def uniform(key, shape, dtype=jnp.float32, out_sharding=None):
        del out_sharding
        return jax.random.uniform(key, shape, dtype, -bound, bound)

    return nnx.Linear(
        fan_in, fan_out, kernel_init=uniform, bias_init=uniform, dtype=dtype, rngs=rngs
    )


def layer_norm(width: int, rngs: nnx.Rngs, epsilon: float = 1e-12) -> nnx.LayerNorm:
    """Normalisation in float32 whatever the compute type: epsilon vanishes in 16 bits."""
    return nnx.LayerNorm(width, epsilon=epsilon, dtype=jnp.float32, rngs=rngs)


class Block(nnx.Module):
    """Self-attention and feed-forward, each followed by dropout, the residual sum and LayerNorm."""

    def __init__(self, config: ModelConfig, rngs: nnx.Rngs):
        dtype = jnp.dtype(config.compute_dtype)
        self.heads, self.rate, self.dtype = config.heads, config.dropout, dtype
        self.activation = ACTIVATION[config.activation]
        width = config.width
        self.qkv = linear(width, 3 * width, dtype=dtype, rngs=rngs)
        self.out = linear(width, width, dtype=dtype, rngs=rngs)
        self.attention_norm = layer_norm(width, rngs, config.norm_eps)
        self.up = linear(width, config.feedforward, dtype=dtype, rngs=rngs)
        self.down = linear(config.feedforward, width, dtype=dtype, rngs=rngs)
        self.output_norm = layer_norm(width, rngs, config.norm_eps)

    def attend(
        self, x: Float[Array, "BL D"], real: Bool[Array, "B L"], key, parts: Sequence[nnx.Module]
    ) -> Float[Array, "BL D"]:
        B, L = real.shape
        K = x.shape[1] // self.heads
        qkv = project(self.qkv(x), x, "qkv", parts)
        q, k, v = jnp.split(qkv.reshape(B, L, 3 * self.heads, K), 3, axis=2)
        scores = jnp.einsum("blhk,bmhk->bhlm", q, k, preferred_element_type=jnp.float32)
        scores = jnp.where(real[:, None, None, :], scores * K**-0.5, -1e6)
        weights = dropout(jax.nn.softmax(scores, axis=-1), self.rate, key).astype(self.dtype)
        mixed = jnp.einsum("bhlm,bmhk->blhk", weights, v).reshape(B * L, -1)
        return project(self.out(mixed), mixed, "out", parts)

    def __call__(
        self,
        x: Float[Array, "BL D"],
        real: Bool[Array, "B L"],
        key: PRNGKeyArray | None,
        parts: Sequence[nnx.Module] = (),
    ) -> Float[Array, "BL D"]:
        """The block with the parts that adapters have for it."""
        keys = [None] * 3 if key is None else jax.random.split(key, 3)
        attended = self.attend(x, real, keys[0], parts)
        x = self.attention_norm(x + dropout(attended, self.rate, keys[1]).astype(x.dtype))
        inner = self.activation(project(self.up(x), x, "up", parts))
        hidden = dropout(project(self.down(inner), inner, "down", parts), self.rate, keys[2])
        return self.output_norm(x + beside(hidden, x, parts).astype(x.dtype))


class TransformerEncoder(nnx.Module):
    """Embeddings, `layers` blocks, pooling.

    What is learnt for the pooling starts at zero, which makes all weights equal. A piece's weight
    is softplus(10 c), c a number beside its row of the table, and the same in whatever sentence it
    stands; attention weighs what stands in a sentence by its state.
    """

    def __init__(self, config: ModelConfig, vocab_size: int, rngs: nnx.Rngs):
        self.rate, self.pooling = config.dropout, config.pooling
        is_weighted, is_attention = (config.pooling == p for p in ("weighted", "attention"))
        self.piece_weights = nnx.Param(jnp.zeros(vocab_size)) if is_weighted else None
        self.pooling_query = nnx.Param(jnp.zeros(config.width)) if is_attention else None
        std = {"reference": 1.0, "scaled": 0.02}[config.init]
        width = config.embedding_width or config.width
        normal = nnx.initializers.normal(std)

        def table(rows, width):  # row 0, the padding, starts at zero
            return nnx.Param(normal(rngs.params(), (rows, width)).at[PAD].set(0))

        self.words = table(vocab_size, width)
        self.word_projection = (
            nnx.Param(nnx.initializers.normal(width**-0.5)(rngs.params(), (width, config.width)))
            if width != config.width
            else None
        )
        letters = linear(width, width, dtype=jnp.float32, rngs=rngs) if config.ngrams else None
        self.ngrams = table(config.ngrams + 1, width) if config.ngrams else None
        self.ngram_layer = letters
        is_learned = config.positions and not config.sinusoidal
        self.positions = table(config.max_length + 1, config.width) if is_learned else None
        self.is_sinusoidal = config.positions and config.sinusoidal
        norm = layer_norm(config.width, rngs, config.norm_eps) if config.embedding_norm else None
        self.embedding_norm = norm
        blocks = [Block(config, rngs) for _ in range(config.layers)]
        if config.identical_layers:
            for block in blocks[1:]:
                nnx.update(block, nnx.state(blocks[0]))
        self.blocks = nnx.List(blocks)
        width = config.width
        self.dense = linear(width, width, dtype=jnp.float32, rngs=rngs) if config.dense else None
        adapters = {adapter.name: Adapter(adapter, config, rngs) for adapter in config.adapters}
        self.adapters = nnx.Dict(adapters) if adapters else None

    def states(
        self,
        tokens: Int[Array, "B L"],
        key: PRNGKeyArray | None = None,
        *,
        ngrams: Int[Array, "B L G"] | None = None,
    ) -> list[Float[Array, "B L D"]]:
        """The embeddings and the output of every layer, token by token; see `__call__`."""
        real = tokens != PAD
        keys: list[PRNGKeyArray | None] = [None] * (len(self.blocks) + 1)
        if key is not None:
            keys = list(jax.random.split(key, len(keys)))
        x, self.words[...] = look_up_rows(self.words[...], tokens)
        if self.ngrams is not None:
            letters = jnp.tanh(self.ngram_layer(self.ngrams[...][ngrams]))  # [B, L, G, E]
            x = x + jnp.sum(jnp.where((ngrams > 0)[..., None], letters, 0), axis=2)
        if self.word_projection is not None:
            x = x @ self.word_projection[...]
        if self.positions is not None:
            position = jnp.arange(1, tokens.shape[1] + 1)[None]
            x = x + self.positions[...][jnp.where(real, position, PAD)]
        if self.is_sinusoidal:
            x = x + sinusoids(tokens.shape[1], x.shape[-1])[None, 1:]  # padding is masked anyway
        if self.embedding_norm is not None:
            x = self.embedding_norm(x)
        x = dropout(x, self.rate, keys.pop())
        x = x.reshape(tokens.size, -1)  # [BL, D]: XLA's gradients of 3-D products are slow on CPUs
        states = [x]
        adapters = () if self.adapters is None else list(self.adapters.values())
        for i, (block, block_key) in enumerate(zip(self.blocks, keys, strict=True)):
            x = block(x, real, block_key, [adapter.blocks[i] for adapter in adapters])
            states.append(x)
        return [state.reshape(*tokens.shape, -1) for state in states]

    def pool(self, hidden: Float[Array, "B L D"], tokens: Int[Array, "B L"]) -> Float[Array, "B D"]:
        """The sentence vectors of states, one per token; padding counts for nothing."""
        pooled = self._pool(hidden, tokens)
        return pooled if self.dense is None else jnp.tanh(self.dense(pooled))

    def _pool(
        self, hidden: Float[Array, "B L D"], tokens: Int[Array, "B L"]
    ) -> Float[Array, "B D"]:
        real = tokens != PAD
        if self.piece_weights is not None:
            weight = jax.nn.softplus(PIECE_RATE * self.piece_weights[...][tokens])
            return weighted_pool(hidden, jnp.where(real, weight, 0))
        if self.pooling_query is not None:
            weight = attention_weights(hidden, real, self.pooling_query[...])
            return weighted_pool(hidden, weight)
        return POOLING[self.pooling](hidden, real)

    def __call__(
        self,
        tokens: Int[Array, "B L"],
        key: PRNGKeyArray | None = None,
        *,
        ngrams: Int[Array, "B L G"] | None = None,
    ) -> Float[Array, "B D"]:
        """Sentence vectors, float32 and not normalised.

        Args:
          tokens: padded with 0 at the end.
          key: for dropout; None means evaluation.
          ngrams: rows of the words' n-grams in their table, 0 beyond them; for encoders with one.
        """
        return self.pool(self.states(tokens, key, ngrams=ngrams)[-1], tokens)
