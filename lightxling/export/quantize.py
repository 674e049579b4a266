"""Smaller numbers: half precision, or int8 with a scale per row."""

import dataclasses
from typing import Literal, get_args

import numpy as np

from lightxling.base.shapes import Float, Int8
from lightxling.model.params import Params, dequantize, scale_axis
from lightxling.saved.bundle import Bundle

Dtype = Literal["float32", "float16", "bfloat16", "int8"]
DTYPES: tuple[Dtype, ...] = get_args(Dtype)


def quantize(bundle: Bundle, dtype: Dtype) -> Bundle:
    """The same encoder with its matrices in another number format.

    Biases and norms, a thousandth of the whole, stay float32.
    """
    params: Params = {}
    for name, values in dequantize(bundle.params).items():
        if values.ndim < 2 or dtype == "float32":
            params[name] = values
        elif dtype == "int8":
            params[name], params[f"{name}.scales"] = to_int8(values, scale_axis(name))
        elif dtype == "bfloat16":
            import ml_dtypes  # a part of jax

            params[name] = values.astype(ml_dtypes.bfloat16)
        else:
            limit = np.finfo(np.float16).max
            params[name] = np.clip(values, -limit, limit).astype(np.float16)
    return dataclasses.replace(bundle, params=params)


def to_int8(
    values: Float[np.ndarray, "R C"], axis: int
) -> tuple[Int8[np.ndarray, "R C"], Float[np.ndarray, " N"]]:
    """Symmetric int8: values = scales * integers, with a scale for each index of `axis`.

        scale = max |row| / 127,    integer = round(value / scale)

    A row of zeros has scale 0.
    """
    scales = np.abs(values).max(axis=1 - axis) / np.float32(127)
    steps = np.expand_dims(np.where(scales > 0, scales, 1), 1 - axis)
    return np.rint(values / steps).astype(np.int8), scales.astype(np.float32)
