"""Parameters of an encoder as plain numpy arrays: their names, shapes and formats.

A flat dict under dotted names (`blocks.0.qkv.kernel`), kept in the number format of the file. An
int8 array has its scales beside it, in `NAME.scales`; so has a table in four bits, two columns to
an octet (`pack`).
"""

import dataclasses

import numpy as np

from lightxling.base.shapes import Float, Int8, UInt8
from lightxling.config.schema import ModelConfig

TABLES = ("words", "ngrams", "positions")
"""Parameters of which single rows are looked up."""

PACKABLE = ("words", "ngrams")
"""Tables that may have four bits a number."""

FREE = ("dropout", "init", "identical_layers", "compute_dtype")
"""Settings of the model that are not a part of the function that was learnt."""

Params = dict[str, np.ndarray]

TINY = np.float32(1e-30)
"""Least sum of weights that a weighted mean is divided by, so that nothing is divided by zero."""

GELU_SCALE, GELU_CUBE = float(np.sqrt(2 / np.pi)), 0.044715
"""gelu_new(x) = x/2 (1 + tanh z), z = GELU_SCALE (x + GELU_CUBE x^3)."""

PIECE_RATE = 10.0
"""A piece's weight is softplus(10 c), c what is learnt: rules such as Adam's move c by the learning
rate in a step, so that with c alone all weights would still be much the same after 1,000 steps."""

FUSED = ("q", "k", "v")
"""Thirds of the columns of a block's `qkv`, in their order."""


def shapes(config: ModelConfig, vocab_size: int, dimension: int) -> dict[str, tuple[int, ...]]:
    """Name and shape of every parameter of an encoder."""
    width, feedforward = config.width, config.feedforward
    table = config.embedding_width or width
    expected: dict[str, tuple[int, ...]] = {"words": (vocab_size, table)}
    if table != width:
        expected["word_projection"] = (table, width)
    if config.ngrams:
        expected["ngrams"] = (config.ngrams + 1, table)
        expected["ngram_layer.kernel"], expected["ngram_layer.bias"] = (table, table), (table,)
    if config.positions:
        expected["positions"] = (config.max_length + 1, width)

    def norm(name):
        expected[f"{name}.scale"] = expected[f"{name}.bias"] = (width,)

    def linear(name, fan_in, fan_out):
        expected[f"{name}.kernel"], expected[f"{name}.bias"] = (fan_in, fan_out), (fan_out,)

    if config.embedding_norm:
        norm("embedding_norm")
    if config.pooling == "weighted":
        expected["piece_weights"] = (vocab_size,)
    if config.pooling == "attention":
        expected["pooling_query"] = (width,)
    for i in range(config.layers):
        linear(f"blocks.{i}.qkv", width, 3 * width)
        linear(f"blocks.{i}.out", width, width)
        norm(f"blocks.{i}.attention_norm")
        linear(f"blocks.{i}.up", width, feedforward)
        linear(f"blocks.{i}.down", feedforward, width)
        norm(f"blocks.{i}.output_norm")
    if config.dense:
        linear("dense", width, width)
    for adapter in config.adapters:
        for i in range(config.layers):
            part = f"adapters.{adapter.name}.blocks.{i}"
            if adapter.kind == "parallel":
                narrow = width // adapter.reduction
                linear(f"{part}.down", width, narrow)
                linear(f"{part}.up", narrow, width)
                continue
            for target in adapter.targets:
                fan_in = feedforward if target == "down" else width
                fan_out = feedforward if target == "up" else width
                expected[f"{part}.{target}.a"] = (fan_in, adapter.rank)
                expected[f"{part}.{target}.b"] = (adapter.rank, fan_out)
    if dimension != width:
        expected["projection"] = (width, dimension)
    return expected


def scale_axis(name: str) -> int:
    """Axis of an int8 array that has a scale per index: rows of tables, outputs of kernels."""
    return 0 if name in TABLES else 1


def pack(integers: Int8[np.ndarray, "R C"]) -> UInt8[np.ndarray, "R H"]:
    """Integers from -8 to 7, two to an octet.

    Octet j of a row, H = C / 2 of them, has column j in its low four bits and column H + j in its
    high ones, both plus 8.
    """
    nibbles = (integers + 8).astype(np.uint8)
    half = nibbles.shape[1] // 2
    return nibbles[:, :half] | nibbles[:, half:] << 4


def unpack(octets: UInt8[np.ndarray, "R H"]) -> Float[np.ndarray, "R C"]:
    """The integers that were packed, as float32."""
    half = octets.shape[1]
    values = np.empty((len(octets), 2 * half), np.float32)
    np.subtract(octets & 15, 8, out=values[:, :half], casting="unsafe", dtype=np.float32)
    np.subtract(octets >> 4, 8, out=values[:, half:], casting="unsafe", dtype=np.float32)
    return values


def array(params: Params, name: str) -> np.ndarray:
    """A parameter in float32, whatever its format."""
    stored = params[name]
    values = unpack(stored) if stored.dtype == np.uint8 else np.asarray(stored, np.float32)
    scales = params.get(f"{name}.scales")
    if scales is None:
        return values
    return values * np.expand_dims(scales, 1 - scale_axis(name))


def dequantize(params: Params) -> Params:
    """All parameters in float32."""
    return {name: array(params, name) for name in params if not name.endswith(".scales")}


def merge_lora(config: ModelConfig, params: Params) -> tuple[ModelConfig, Params]:
    """The same function with its low-rank adapters added to the projections that they change.

        kernel' = kernel + alpha / rank * A B

    Kernels that change become float32; parallel adapters stay.
    """
    params, rest = dict(params), []
    for adapter in config.adapters:
        if adapter.kind != "lora":
            rest.append(adapter)
            continue
        scale = np.float32(adapter.alpha / adapter.rank)
        for i in range(config.layers):
            for target in adapter.targets:
                part = f"adapters.{adapter.name}.blocks.{i}.{target}"
                change = scale * (array(params, f"{part}.a") @ array(params, f"{part}.b"))
                name = f"blocks.{i}.{'qkv' if target in FUSED else target}.kernel"
                kernel = array(params, name).copy()
                third = FUSED.index(target) * config.width if target in FUSED else 0
                kernel[:, third : third + change.shape[1]] += change
                params.pop(f"{name}.scales", None)
                params[name] = kernel
        params = {n: v for n, v in params.items() if not n.startswith(f"adapters.{adapter.name}.")}
    return dataclasses.replace(config, adapters=tuple(rest)), params


def sinusoids(longest: int, width: int) -> Float[np.ndarray, "_ D"]:
    """Table of fixed positions 0 ... longest; row 0, the padding, is zero.

        sin(t / 10000^(2 i / D)) at 2 i,   cos(t / 10000^(2 i / D)) at 2 i + 1,   t = 0 in row 1

    Source: "Attention Is All You Need" (arXiv 1706.03762), section 3.5.
    """
    position = np.arange(longest)[:, None]
    angles = position / 10000 ** (np.arange(0, width, 2) / width)
    table = np.zeros((longest + 1, width))
    table[1:, 0::2] = np.sin(angles)
    table[1:, 1::2] = np.cos(angles[:, : width // 2])
    return table.astype(np.float32)
