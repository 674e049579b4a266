"""What sits on the sentence vector in training only."""

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from lightxling.config import ModelConfig
from lightxling.model.encoder import layer_norm, linear


class TokenHead(nnx.Module):
    """Sentence vector -> the hidden vector and bias of the vocabulary logits `z = E h + b`.

    E is the encoder's own embedding table (tied), so the head holds one dense layer, its norm and
    the bias.  Source: ACL 2021 code: h = LN(silu(W s + b)), b_v starts at zero.
    """

    def __init__(self, config: ModelConfig, vocab_size: int, rngs: nnx.Rngs):
        self.dense = linear(config.width, config.width, dtype=jnp.float32, rngs=rngs)
        self.norm = layer_norm(config.width, rngs)
        self.bias = nnx.Param(jnp.zeros(vocab_size))

    def __call__(self, vectors: Float[Array, "B D"]) -> Float[Array, "B D"]:
        return self.norm(jax.nn.silu(self.dense(vectors)))


def teacher_map(config: ModelConfig, teacher_width: int, rngs: nnx.Rngs) -> nnx.Linear:
    """Sentence vector -> the width of the teacher's vectors."""
    return linear(config.width, teacher_width, dtype=jnp.float32, rngs=rngs)
