"""Small modules beside the layers of an encoder: they start as nothing, and can be left out.

An adapter is one module with a part per block. Its parameters are at encoder.adapters.NAME, so that
they are frozen, saved and copied by their path; the blocks know only what is given to them.

Letters in shapes: T tokens of all sentences, D width, I and O input and output of a projection, R
width in between.

Sources: parallel adapters: He et al. 2022, "Towards a Unified View of Parameter-Efficient Transfer
Learning" (arXiv 2110.04366); low rank: Hu et al. 2022, "LoRA" (arXiv 2106.09685); both as modular
sentence encoders use them (arXiv 2407.14878).
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from lightxling.config.schema import AdapterConfig, ModelConfig
from lightxling.model.params import FUSED


class Bottleneck(nnx.Module):
    """scale * (relu(x A + a) B + b): A starts U(-1, 1) / sqrt(D), the rest at zero.

    That is `kaiming_uniform_(a=sqrt(5))`, as in the library that arXiv 2407.14878 uses.
    """

    def __init__(self, config: AdapterConfig, model: ModelConfig, rngs: nnx.Rngs):
        width, narrow = model.width, model.width // config.reduction
        dtype = jnp.dtype(model.compute_dtype)
        zeros = nnx.initializers.zeros_init()
        # limit sqrt(3 / 3 / fan_in)
        start = nnx.initializers.variance_scaling(1 / 3, "fan_in", "uniform")
        self.scale = config.scale
        self.down = nnx.Linear(width, narrow, kernel_init=start, dtype=dtype, rngs=rngs)
        self.up = nnx.Linear(narrow, width, kernel_init=zeros, dtype=dtype, rngs=rngs)

    def __call__(self, x: Float[Array, "T D"]) -> Float[Array, "T D"]:
        return self.scale * self.up(jax.nn.relu(self.down(x)))


class LowRankChange(nnx.Module):
    """scale * (x A) B: A starts U(-1, 1) / sqrt(I), B at zero."""

    def __init__(self, fan_in: int, fan_out: int, config: AdapterConfig, dtype, rngs: nnx.Rngs):
        self.dtype, self.scale = dtype, config.alpha / config.rank
        uniform = jax.random.uniform(rngs.params(), (fan_in, config.rank), minval=-1, maxval=1)
        self.a = nnx.Param(fan_in**-0.5 * uniform)
        self.b = nnx.Param(jnp.zeros((config.rank, fan_out)))

    def __call__(self, x: Float[Array, "T I"]) -> Float[Array, "T O"]:
        a, b = self.a[...].astype(self.dtype), self.b[...].astype(self.dtype)
        return self.scale * (x.astype(self.dtype) @ a @ b)


class LowRank(nnx.Module):
    """Changes of some of a block's projections, one attribute each."""

    def __init__(self, config: AdapterConfig, model: ModelConfig, rngs: nnx.Rngs):
        width, dtype = model.width, jnp.dtype(model.compute_dtype)
        sizes = {"up": (width, model.feedforward), "down": (model.feedforward, width)}
        for target in config.targets:
            size = sizes.get(target, (width, width))
            setattr(self, target, LowRankChange(*size, config, dtype, rngs))


PARTS = {"parallel": Bottleneck, "lora": LowRank}


class Adapter(nnx.Module):
    """One adapter: a part for every block."""

    def __init__(self, config: AdapterConfig, model: ModelConfig, rngs: nnx.Rngs):
        part = PARTS[config.kind]
        self.blocks = nnx.List([part(config, model, rngs) for _ in range(model.layers)])


def project(
    y: Float[Array, "T O"], x: Float[Array, "T I"], target: str, parts: Sequence[nnx.Module]
) -> Float[Array, "T O"]:
    """The projection y of x with the changes that low-rank parts make to it.

    Args:
      target: qkv, out, up or down; qkv stands for its three thirds.
      parts: of one block, of any kind.
    """
    for part in parts:
        if not isinstance(part, LowRank):
            continue
        if target != "qkv":
            change = getattr(part, target, None)
            y = y if change is None else y + change(x)
        elif any(hasattr(part, third) for third in FUSED):
            unchanged = jnp.zeros((len(y), y.shape[1] // 3), y.dtype)
            thirds = [getattr(part, third, lambda x: unchanged)(x) for third in FUSED]  # noqa: B023
            y = y + jnp.concatenate(thirds, axis=1)
    return y


def beside(
    y: Float[Array, "T D"], x: Float[Array, "T D"], parts: Sequence[nnx.Module]
) -> Float[Array, "T D"]:
    """The output y of the feed-forward layer of x, with those of the bottlenecks parallel to it."""
    for part in parts:
        if isinstance(part, Bottleneck):
            y = y + part(x)
    return y
