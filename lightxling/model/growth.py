"""Layers added to a trained encoder, so that its vectors are what they were.

Letters in shapes: D width.
"""

import numpy as np

from lightxling.model.build import ParamTree

NOTHING = ("out", "down")
"""The output projections of a block: of attention and of the feed-forward layer."""


def grow(encoder: ParamTree, layers: int) -> ParamTree:
    """The encoder with its blocks from number `layers` on as new ones that change nothing.

    A block is post-norm: y = N2(x + F(x)) and x = N1(s + A(s)). With the output projections of A
    and F at zero, both norms are applied to what the norm before has normalised, and are the
    identity if their gain is 1 and their bias 0. So the gain g and the bias b of the last norm of
    the start go to the last norm of the grown encoder, and all norms between them have 1 and 0:

        N2(N1(z)) g + b = z g + b   for z of mean 0 and variance 1,

    up to `model.norm_eps` (1e-12) of the variance. The input projections (qkv, up) stay as they are
    in `encoder`, freshly drawn, so that the output projections have a gradient at the first step.

    Args:
      encoder: parameters of all blocks; those of the start first.
      layers: how many of the blocks are the start's.
    """
    blocks = dict(encoder["blocks"])
    last_norm = blocks[layers - 1]["output_norm"] if layers else encoder["embedding_norm"]
    for number in range(layers, len(blocks)):
        block = {name: dict(part) for name, part in blocks[number].items()}
        for name in NOTHING:
            block[name] = {key: np.zeros_like(np.asarray(x)) for key, x in block[name].items()}
        block["attention_norm"] = block["output_norm"] = _identity(last_norm)
        blocks[number] = block
    blocks[len(blocks) - 1] = blocks[len(blocks) - 1] | {"output_norm": last_norm}
    if not layers:
        return {**encoder, "blocks": blocks, "embedding_norm": _identity(last_norm)}
    blocks[layers - 1] = blocks[layers - 1] | {"output_norm": _identity(last_norm)}
    return {**encoder, "blocks": blocks}


def _identity(norm: ParamTree) -> ParamTree:
    """A norm of gain 1 and bias 0, of the shape of another."""
    scale = np.asarray(norm["scale"])
    return {"scale": np.ones_like(scale), "bias": np.zeros_like(scale)}
