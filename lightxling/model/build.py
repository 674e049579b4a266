"""From a config to `(graphdef, params)`: the only form in which a model leaves this folder.

`params` is a plain nested dict of arrays, so that sharding, freezing, checkpoints and exports need
to know nothing of flax.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int, PRNGKeyArray

from lightxling.config.schema import ModelConfig
from lightxling.model.encoder import TransformerEncoder

ParamTree = dict[str, Any]

Heads = Mapping[str, Callable[[ModelConfig, int, nnx.Rngs], nnx.Module | None]]
"""Place among the parameters -> what makes the head, or none, from the model's settings, the size
of the vocabulary and the keys. `objectives.combine.heads_of` gives those of a run."""
NO_HEADS: Heads = MappingProxyType({})


class Model(nnx.Module):
    """The encoder, and the heads that the objectives ask for as attributes with their names."""

    def __init__(self, config: ModelConfig, vocab_size: int, heads: Heads, rngs: nnx.Rngs):
        self.dtype = jnp.dtype(config.compute_dtype)
        self.encoder = TransformerEncoder(config, vocab_size, rngs)
        for name, make in heads.items():  # in this order, in which they take their keys
            setattr(self, name, make(config, vocab_size, rngs))

    def prediction(
        self,
        vectors: Float[Array, "B D"],
        languages: Int[Array, " B"] | None = None,
        key: PRNGKeyArray | None = None,
    ) -> tuple[Array, Array, Array]:
        """Hidden [B, E], table [V, E] and bias [V] such that logits = hidden @ table.T + bias.

        Args:
          languages: of the text to be predicted, for heads with a language table.
          key: for dropout; None means evaluation.
        """
        head = self.token_head
        hidden = head(vectors, languages, key)
        if head.decoder is not None:
            table = head.decoder[...]
        else:
            table = self.encoder.words[...]
            if self.encoder.word_projection is not None:
                hidden = hidden @ self.encoder.word_projection[...].T
        bias = jnp.zeros(len(table)) if head.bias is None else head.bias[...]
        return hidden.astype(self.dtype), table.astype(self.dtype), bias


def structure(config: ModelConfig, vocab_size: int, heads: Heads = NO_HEADS) -> nnx.GraphDef:
    """The model without its parameters; nothing is allocated."""
    model = nnx.eval_shape(lambda: Model(config, vocab_size, heads, nnx.Rngs(0)))
    return nnx.split(model)[0]


def initialise(
    config: ModelConfig, vocab_size: int, key: PRNGKeyArray, heads: Heads = NO_HEADS
) -> ParamTree:
    """Fresh parameters; to be jitted, or given to `jax.eval_shape` for their shapes."""
    return parameters(Model(config, vocab_size, heads, nnx.Rngs(key)))


def parameters(model: Model) -> ParamTree:
    """The inverse of `merge`."""
    return nnx.to_pure_dict(nnx.state(model))


def merge(graphdef: nnx.GraphDef, params: ParamTree) -> Model:
    """The callable model, to be used inside a pure function."""
    return nnx.merge(graphdef, nnx.State(params))


def encode_tokens(
    graphdef: nnx.GraphDef,
    params: ParamTree,
    tokens: Int[Array, "B L"],
    ngrams: Int[Array, "B L G"] | None = None,
) -> Float[Array, "B D"]:
    """Sentence vectors in evaluation mode: float32, not normalised."""
    return merge(graphdef, params).encoder(tokens, ngrams=ngrams)


def count_parameters(params: ParamTree) -> int:
    """Number of scalars."""
    return sum(leaf.size for leaf in jax.tree.leaves(params))
