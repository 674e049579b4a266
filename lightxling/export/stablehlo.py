"""The compiled form: StableHLO through `jax.export`, served without lightxling's Python code.

    exported = jax.export.deserialize(pathlib.Path("encoder.stablehlo").read_bytes())
    vectors = exported.call(tokens)

`tokens` are int32 [B, L], padded with 0, and `vectors` float32 [B, D], not normalised.
B is any number of sentences, L any number of tokens up to `max_length`; it runs on cpu, cuda, rocm
and tpu.
"""

from pathlib import Path

import numpy as np

from lightxling.base.files import write_json
from lightxling.base.places import DESCRIPTION, TOKENIZER
from lightxling.base.tree import nest
from lightxling.export.fast_tokenizer import write_tokenizer
from lightxling.model.params import scale_axis
from lightxling.saved.bundle import Bundle

FILE = "encoder.stablehlo"


def write_stablehlo(bundle: Bundle, folder: Path) -> None:
    """Writes the program with its parameters inside, and the tokenizer."""
    (folder / FILE).write_bytes(serialize(bundle))
    (folder / TOKENIZER).write_bytes(bundle.tokenizer)
    write_tokenizer(bundle, folder)
    description = {
        "format": "stablehlo",
        "input": "int32 [sentences, tokens], padded with 0",
        "output": f"float32 [sentences, {bundle.dimension}], not normalised",
        "max_length": bundle.config.max_length,
        "languages": list(bundle.languages),
    }
    write_json(folder / DESCRIPTION, description)


def serialize(bundle: Bundle) -> bytes:
    """The program as bytes. Parameters keep their number format inside it."""
    import jax
    import jax.export
    import jax.numpy as jnp

    from lightxling.model import build

    graphdef = build.structure(bundle.config, bundle.vocab_size)

    def encode(tokens):
        params = {}
        for name, values in bundle.params.items():
            if name.endswith(".scales"):
                continue
            # a barrier keeps the compiler from unpacking the constants into the file
            kept = jax.lax.optimization_barrier(jnp.asarray(values))
            if values.dtype == np.uint8:  # as `unpack` does
                kept = jnp.concatenate([kept & 15, kept >> 4], axis=1)
                kept = kept.astype(jnp.float32) - 8
            kept = kept.astype(jnp.float32)
            scales = bundle.params.get(f"{name}.scales")
            if scales is not None:
                kept = kept * jnp.expand_dims(jnp.asarray(scales), 1 - scale_axis(name))
            params[name] = kept
        projection = params.pop("projection", None)
        vectors = build.encode_tokens(graphdef, {"encoder": nest(params)}, tokens)
        return vectors if projection is None else vectors @ projection

    limit = bundle.config.max_length
    shape = jax.export.symbolic_shape("batch, length", constraints=[f"length <= {limit}"])
    tokens = jax.ShapeDtypeStruct(shape, jnp.int32)
    platforms = ["cpu", "cuda", "rocm", "tpu"]
    return bytes(jax.export.export(jax.jit(encode), platforms=platforms)(tokens).serialize())
