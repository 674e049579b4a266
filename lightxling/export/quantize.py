"""Smaller numbers: half precision, or int8 and int4 with a scale per row."""

import dataclasses
from typing import Literal, get_args

import numpy as np

from lightxling.base.errors import UserError
from lightxling.base.shapes import Float, Int8
from lightxling.model.params import PACKABLE, Params, dequantize, pack, scale_axis
from lightxling.saved.bundle import Bundle

Dtype = Literal["float32", "float16", "bfloat16", "int8", "int4"]
DTYPES: tuple[Dtype, ...] = get_args(Dtype)
CLIPPED = np.linspace(1, 0.6, 9, dtype=np.float32)
"""Shares of a row's largest number that its 4-bit scale may reach to."""


def quantize(bundle: Bundle, dtype: Dtype) -> Bundle:
    """The same encoder with its matrices in another number format.

    Biases and norms, a thousandth of the whole, stay float32. int4 is for the tables, most of
    a small encoder; the other matrices are int8 then.

    Raises:
      UserError: int4, and a table of odd width.
    """
    params: Params = {}
    for name, values in dequantize(bundle.params).items():
        if values.ndim < 2 or dtype == "float32":
            params[name] = values
        elif dtype == "int4" and name in PACKABLE:
            if values.shape[1] % 2:
                raise UserError(
                    f"int4 has two columns to an octet, and the table {name} has "
                    f"{values.shape[1]}; give --dtype int8"
                )
            integers, params[f"{name}.scales"] = to_int4(values)
            params[name] = pack(integers)
        elif dtype in ("int8", "int4"):
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


def to_int4(
    values: Float[np.ndarray, "R C"],
) -> tuple[Int8[np.ndarray, "R C"], Float[np.ndarray, " R"]]:
    """Symmetric int4: values = scales * integers from -7 to 7, with a scale for each row.

        scale = c max |row| / 7,    integer = round(value / scale), cut at 7

    c is what of `CLIPPED` leaves the least squared error in the row: a few large numbers that are
    cut cost less than steps that are wide for all. A row of zeros has scale 0.
    """
    largest = np.abs(values).max(axis=1) / np.float32(7)
    best, least = largest.copy(), np.full(len(values), np.inf, np.float32)
    for share in CLIPPED:
        scales = share * largest
        wrong = np.square(values - scales[:, None] * _cut(values, scales)).sum(axis=1)
        np.copyto(best, scales, where=wrong < least)
        np.minimum(least, wrong, out=least)
    return _cut(values, best).astype(np.int8), best.astype(np.float32)


def _cut(values: Float[np.ndarray, "R C"], scales: Float[np.ndarray, " R"]) -> np.ndarray:
    steps = np.where(scales > 0, scales, 1)[:, None]
    return np.clip(np.rint(values / steps), -7, 7)
