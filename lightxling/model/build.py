"""From a config to `(graphdef, params)`: the only form in which a model leaves this folder.

`params` is a plain nested dict of arrays, so that sharding, freezing, checkpoints and exports need
to know nothing of flax.
"""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int, PRNGKeyArray

from lightxling.config import ModelConfig
from lightxling.model.encoder import Encoder, linear
from lightxling.model.heads import FC, Heads, Inference, Projection, QuickThought, TokenHead

Params = dict[str, Any]


class Model(nnx.Module):
    """The encoder and the heads that the objectives ask for."""

    def __init__(
        self,
        config: ModelConfig,
        vocab_size: int,
        *,
        token_head: bool,
        heads: Heads = Heads(),  # noqa: B008, it is frozen
        rngs: nnx.Rngs,
    ):
        self.dtype = jnp.dtype(config.compute_dtype)
        self.encoder = Encoder(config, vocab_size, rngs)
        self.token_head = TokenHead(config, vocab_size, heads, rngs) if token_head else None
        self.projection = (
            Projection(config.width, heads.projection, rngs) if heads.projection else None
        )
        self.teacher_map = (
            linear(config.width, heads.teacher_width, dtype=jnp.float32, rngs=rngs)
            if heads.teacher_width not in (0, config.width)
            else None
        )
        width = config.width
        self.response = FC(width, heads.response, rngs) if heads.response else None
        self.quick_thought = (
            QuickThought(width, heads.quick_thought, rngs) if heads.quick_thought else None
        )
        self.inference = Inference(4 * width, heads.inference, rngs) if heads.inference else None

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


def structure(
    config: ModelConfig,
    vocab_size: int,
    *,
    token_head: bool,
    heads: Heads = Heads(),  # noqa: B008
) -> nnx.GraphDef:
    """The model without its parameters; nothing is allocated.

    Args:
      token_head: whether there is one; `heads` has the shapes (`heads_of` gives both for a run).
    """
    model = nnx.eval_shape(
        lambda: Model(config, vocab_size, token_head=token_head, heads=heads, rngs=nnx.Rngs(0))
    )
    return nnx.split(model)[0]


def initialise(
    config: ModelConfig,
    vocab_size: int,
    key: PRNGKeyArray,
    *,
    token_head: bool,
    heads: Heads = Heads(),  # noqa: B008
) -> Params:
    """Fresh parameters; to be jitted, or given to `jax.eval_shape` for their shapes."""
    return parameters(
        Model(config, vocab_size, token_head=token_head, heads=heads, rngs=nnx.Rngs(key))
    )


def parameters(model: Model) -> Params:
    """The inverse of `merge`."""
    return nnx.to_pure_dict(nnx.state(model))


def merge(graphdef: nnx.GraphDef, params: Params) -> Model:
    """The callable model, to be used inside a pure function."""
    return nnx.merge(graphdef, nnx.State(params))


def encode(
    graphdef: nnx.GraphDef,
    params: Params,
    tokens: Int[Array, "B L"],
    ngrams: Int[Array, "B L G"] | None = None,
) -> Float[Array, "B D"]:
    """Sentence vectors in evaluation mode: float32, not normalised."""
    return merge(graphdef, params).encoder(tokens, ngrams=ngrams)


def count(params: Params) -> int:
    """Number of scalars."""
    return sum(leaf.size for leaf in jax.tree.leaves(params))
