"""What sits on the sentence vector in training only.

Letters in shapes: B sentences, D width of the sentence vectors, E width of the embedding table, G
width of the language embedding, V vocabulary.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int, PRNGKeyArray

from lightxling.config.objectives import TokensConfig
from lightxling.config.schema import ModelConfig
from lightxling.model.encoder import dropout, layer_norm, linear


class Sizes(NamedTuple):
    """What the shapes of a head depend on beside the settings of its objective."""

    model: ModelConfig
    vocab_size: int
    languages: int
    """How many the text of the run has."""
    teacher_width: int = 0
    """Of the teacher's vectors; 0 without a teacher."""


class TokenHead(nnx.Module):
    """Sentence vector -> the hidden vector, table and bias of the vocabulary logits `z = T h + b`.

        h = LN(silu(W [g; s] + b)),   g = dropout(LN(language embedding)),  if there is one
        h = s   without `transform`

    Tied, T is the encoder's embedding table E and h as wide as s; untied, T is a table of the
    head's own and h as wide as [g; s]. Source: ACL 2021 code (tied, no language, b_v starts at
    zero); EMS code (language embedding N(0, 1) of 128, untied, no b_v).
    """

    def __init__(self, settings: TokensConfig, sizes: Sizes, rngs: nnx.Rngs):
        language_width, is_tied = settings.language_width, settings.decoder == "tied"
        seen = sizes.model.width + language_width
        width = sizes.model.width if is_tied else seen
        self.rate = sizes.model.dropout
        if settings.transform:
            self.dense = linear(seen, width, dtype=jnp.float32, rngs=rngs)
            self.norm = layer_norm(width, rngs)
        else:
            self.dense = self.norm = None
        self.bias = nnx.Param(jnp.zeros(sizes.vocab_size)) if settings.decoder_bias else None
        if is_tied:
            self.decoder = None
        else:
            shape = (sizes.vocab_size, width)
            uniform = jax.random.uniform(rngs.params(), shape, minval=-1, maxval=1)
            self.decoder = nnx.Param(width**-0.5 * uniform)
        if language_width:
            table = jax.random.normal(rngs.params(), (sizes.languages, language_width))
            self.languages = nnx.Param(table)
            self.language_norm = layer_norm(language_width, rngs)
        else:
            self.languages = self.language_norm = None

    def __call__(
        self,
        vectors: Float[Array, "B D"],
        languages: Int[Array, " B"] | None = None,
        key: PRNGKeyArray | None = None,
    ) -> Float[Array, "B _"]:
        """The hidden vector h.

        Args:
          languages: of the text to be predicted; read by a head with a language table.
          key: for dropout; None means evaluation.
        """
        if self.languages is not None:
            language = dropout(self.language_norm(self.languages[...][languages]), self.rate, key)
            vectors = jnp.concatenate([language, vectors], axis=1)
        return vectors if self.dense is None else self.norm(jax.nn.silu(self.dense(vectors)))


class TwoLayers(nnx.Module):
    """Linear, an activation, linear."""

    def __init__(self, fan_in: int, hidden: int, fan_out: int, activation, rngs: nnx.Rngs):
        self.activation = activation
        self.hidden = linear(fan_in, hidden, dtype=jnp.float32, rngs=rngs)
        self.out = linear(hidden, fan_out, dtype=jnp.float32, rngs=rngs)

    def __call__(self, x: Float[Array, "*B I"]) -> Float[Array, "*B O"]:
        return self.out(self.activation(self.hidden(x)))


class FC(TwoLayers):
    """Sentence vector -> the vector that is ranked: two tanh layers, the last as wide as the
    encoder, whose vectors it is multiplied with. Source: arXiv 1810.12836, section 2."""

    def __init__(self, width: int, hidden: int, rngs: nnx.Rngs):
        super().__init__(width, hidden, width, jnp.tanh, rngs)

    def __call__(self, x: Float[Array, "*B D"]) -> Float[Array, "*B D"]:
        return jnp.tanh(super().__call__(x))


class QuickThought(nnx.Module):
    """A head each for a sentence, the one before it and the one after it. Source: arXiv 1810.12836,
    section 2."""

    def __init__(self, width: int, hidden: int, rngs: nnx.Rngs):
        self.sentence = FC(width, hidden, rngs)
        self.before = FC(width, hidden, rngs)
        self.after = FC(width, hidden, rngs)
