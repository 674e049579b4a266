"""What sits on the sentence vector in training only.

Letters in shapes: B sentences, D width of the sentence vectors, E width of the embedding table, G
width of the language embedding, V vocabulary.
"""

import dataclasses

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int, PRNGKeyArray

from lightxling.config import ModelConfig, ObjectivesConfig
from lightxling.model.encoder import dropout, layer_norm, linear


@dataclasses.dataclass(frozen=True)
class Heads:
    """Shapes of the heads. The defaults are those of ACL 2021: a tied token head, no projection."""

    languages: int = 0
    """Rows of the language table."""
    language_width: int = 0
    """G; 0: the token head is not told the language."""
    is_tied: bool = True
    """Whether the logits are products with the encoder's embeddings or with a table of the head."""
    has_bias: bool = True
    """Whether the logits have a bias."""
    projection: int = 0
    """Width of the vectors that are aligned; 0: the sentence vectors, and no head."""
    teacher_width: int = 0
    """Width of the teacher's vectors, to which sentence vectors of another width are mapped; 0: no
    teacher that asks for it."""
    response: int = 0
    """Hidden width of the head on responses; 0: none."""
    quick_thought: int = 0
    """Hidden width of the three heads of quick-thought; 0: none."""
    inference: int = 0
    """Hidden width of the head of natural language inference; 0: none."""


def heads_of(objectives: ObjectivesConfig, languages: int, teacher_width: int = 0) -> dict:
    """The keyword arguments of `build.structure` and `build.initialise` for a run.

    Args:
      languages: how many the run's corpus has.
      teacher_width: of the teacher's vectors; 0 without a teacher.
    """
    tokens, align = objectives.tokens, objectives.align
    heads = Heads(
        languages=languages if tokens.language_width else 0,
        language_width=tokens.language_width,
        is_tied=tokens.decoder == "tied",
        has_bias=tokens.decoder_bias,
        projection=align.projection if align.weight else 0,
        teacher_width=teacher_width if objectives.regression.weight else 0,
        response=objectives.ranking.head if objectives.ranking.weight else 0,
        quick_thought=objectives.quick_thought.hidden if objectives.quick_thought.weight else 0,
        inference=objectives.inference.hidden if objectives.inference.weight else 0,
    )
    return {"token_head": bool(tokens.weight or objectives.mlm.weight), "heads": heads}


class TokenHead(nnx.Module):
    """Sentence vector -> the hidden vector, table and bias of the vocabulary logits `z = T h + b`.

        h = LN(silu(W [g; s] + b)),   g = dropout(LN(language embedding)),  if there is one

    Tied, T is the encoder's embedding table E and h as wide as s; untied, T is a table of the
    head's own and h as wide as [g; s]. Source: ACL 2021 code (tied, no language, b_v starts at
    zero); EMS code (language embedding N(0, 1) of 128, untied, no b_v).
    """

    def __init__(self, config: ModelConfig, vocab_size: int, heads: Heads, rngs: nnx.Rngs):
        seen = config.width + heads.language_width
        width = config.width if heads.is_tied else seen
        self.rate = config.dropout
        self.dense = linear(seen, width, dtype=jnp.float32, rngs=rngs)
        self.norm = layer_norm(width, rngs)
        self.bias = nnx.Param(jnp.zeros(vocab_size)) if heads.has_bias else None
        if heads.is_tied:
            self.decoder = None
        else:
            uniform = jax.random.uniform(rngs.params(), (vocab_size, width), minval=-1, maxval=1)
            self.decoder = nnx.Param(width**-0.5 * uniform)
        if heads.language_width:
            table = jax.random.normal(rngs.params(), (heads.languages, heads.language_width))
            self.languages = nnx.Param(table)
            self.language_norm = layer_norm(heads.language_width, rngs)
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
        return self.norm(jax.nn.silu(self.dense(vectors)))


class Projection(nnx.Module):
    """Sentence vector -> the vector that is aligned: Linear-ReLU-Linear. Source: EMS code."""

    def __init__(self, width: int, projected: int, rngs: nnx.Rngs):
        self.hidden = linear(width, width, dtype=jnp.float32, rngs=rngs)
        self.out = linear(width, projected, dtype=jnp.float32, rngs=rngs)

    def __call__(self, vectors: Float[Array, "*B D"]) -> Float[Array, "*B _"]:
        return self.out(jax.nn.relu(self.hidden(vectors)))


class FC(nnx.Module):
    """Sentence vector -> the vector that is ranked: two tanh layers, the last as wide as the
    encoder, whose vectors it is multiplied with. Source: arXiv 1810.12836, section 2."""

    def __init__(self, width: int, hidden: int, rngs: nnx.Rngs):
        self.hidden = linear(width, hidden, dtype=jnp.float32, rngs=rngs)
        self.out = linear(hidden, width, dtype=jnp.float32, rngs=rngs)

    def __call__(self, vectors: Float[Array, "*B D"]) -> Float[Array, "*B D"]:
        return jnp.tanh(self.out(jnp.tanh(self.hidden(vectors))))


class QuickThought(nnx.Module):
    """A head each for a sentence, the one before it and the one after it. Source: arXiv 1810.12836,
    section 2."""

    def __init__(self, width: int, hidden: int, rngs: nnx.Rngs):
        self.sentence = FC(width, hidden, rngs)
        self.before = FC(width, hidden, rngs)
        self.after = FC(width, hidden, rngs)


class Inference(nnx.Module):
    """Features of two sentences -> logits of entailment, neutral, contradiction.

    One tanh layer before the softmax; the paper (arXiv 1810.12836, section 2) gives its width, not
    its activation.
    """

    def __init__(self, features: int, hidden: int, rngs: nnx.Rngs):
        self.hidden = linear(features, hidden, dtype=jnp.float32, rngs=rngs)
        self.out = linear(hidden, 3, dtype=jnp.float32, rngs=rngs)

    def __call__(self, features: Float[Array, "B _"]) -> Float[Array, "B 3"]:
        return self.out(jnp.tanh(self.hidden(features)))
