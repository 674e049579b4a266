"""Arrays on disk: safetensors files, whose headers are checked before an array is made."""

import contextlib
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from lightxling.base import limits
from lightxling.base.errors import UserError
from lightxling.model.params import PACKABLE, Params, scale_axis


def write_params(path: Path, params: Params, metadata: Mapping[str, str]) -> None:
    """Writes arrays as a safetensors file."""
    from safetensors.numpy import save

    arrays = {name: np.ascontiguousarray(values) for name, values in params.items()}
    path.write_bytes(save(arrays, dict(metadata)))  # `save_file` lets nobody else read it


def read_params(path: Path, expected: Mapping[str, tuple[int, ...]]) -> Params:
    """Arrays of a safetensors file, if they are those that its configuration describes.

    The header is checked before an array is made: the file may come from a stranger.

    Raises:
      UserError: the file is missing, damaged, or holds other arrays or NaN.
    """
    import ml_dtypes  # noqa: F401, a part of jax: tells numpy what bfloat16 is

    with _open(path) as file:
        _check({name: file.get_slice(name) for name in file.keys()}, expected, path)  # noqa: SIM118
        params = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    check_finite_params(params, str(path))
    return params


def read_arrays(path: Path, integers: Collection[str] = ()) -> Params:
    """Arrays of a safetensors file of any program: floats, in float32 where they are double.

    Args:
      integers: names of arrays of whole numbers that are read; others are left out.

    Raises:
      UserError: the file is missing, damaged, or holds other numbers, or NaN.
    """
    import ml_dtypes  # noqa: F401, a part of jax: tells numpy what bfloat16 is

    with _open(path) as file:
        params = {}
        for name in file.keys():  # noqa: SIM118
            kind = file.get_slice(name).get_dtype()
            if kind in ("F32", "F16", "BF16") or name in integers:
                params[name] = file.get_tensor(name)
            elif kind == "F64":
                params[name] = file.get_tensor(name).astype(np.float32)
            elif kind not in ("I64", "I32"):  # numbers of positions
                raise UserError(f"{path}: {name} is {kind}, not floats")
    check_finite_params(params, str(path))
    return params


def check_finite_params(params: Params, place: str) -> None:
    for name, values in params.items():
        if not np.isfinite(values).all():
            raise UserError(
                f"{place} has NaN or infinity in {name}, so that no sentence has a vector; take "
                "another checkpoint, or train again with a lower optimizer.learning_rate"
            )


def read_header(path: Path) -> dict[str, str]:
    """What a safetensors file says about itself.

    Raises:
      UserError: the file is missing or damaged.
    """
    with _open(path) as file:
        return file.metadata() or {}


@contextlib.contextmanager
def _open(path: Path) -> Iterator[Any]:
    from safetensors import SafetensorError, safe_open

    try:
        limits.check_parameters(path)
        with safe_open(path, framework="np") as file:
            yield file
    except OSError as error:
        reason = error.strerror or error
        raise UserError(f"cannot read {path}: {reason}") from None
    except SafetensorError as error:
        raise UserError(
            f"{path} is damaged or not a safetensors file ({error}); export it again"
        ) from None


def _check(given: Mapping[str, Any], expected: Mapping[str, tuple[int, ...]], path: Path) -> None:
    """Compares the arrays that a file announces with those that it should hold."""
    names = {name for name in given if not name.endswith(".scales")}
    if names != expected.keys():
        odd = sorted(names ^ expected.keys())
        raise UserError(f"{path} does not fit its config.json: see {', '.join(odd[:5])}")
    for name, shape in expected.items():
        found = tuple(given[name].get_shape())
        kind, scales = given[name].get_dtype(), given.get(f"{name}.scales")
        if kind == "U8" and name in PACKABLE:
            found = (found[0], 2 * found[1]) if len(found) == 2 else found
        if found != shape:
            raise UserError(f"{path} does not fit its config.json: {name} is {found}, not {shape}")
        kinds = ("F32", "F16", "BF16", "I8", *(["U8"] if name in PACKABLE else []))
        if kind not in kinds:
            raise UserError(f"{path}: {name} is {kind}; parameters are floats, int8 or int4")
        rows = [shape[scale_axis(name)]] if len(shape) > 1 else []
        if (kind in ("I8", "U8")) != (scales is not None) or (
            scales is not None and (scales.get_shape() != rows or scales.get_dtype() != "F32")
        ):
            raise UserError(f"{path}: the scales of {name} do not fit it")
