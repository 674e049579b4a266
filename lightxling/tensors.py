"""Reads and writes safetensors files: a JSON header and plain bytes, nothing that could be run.

Layout: the header's length (8 bytes, little endian), the header, the tensors. Files may come from
strangers, so everything the header says is checked against the file before an array is made of it;
arrays are views of the memory-mapped file, and what is not used is never read.
"""

import io
import json
import math
import mmap
import os
import struct
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from lightxling.config import UserError

_HEADER_LIMIT = 16 << 20  # bytes
_NAMES = {
    "float32": "F32",
    "float16": "F16",
    "bfloat16": "BF16",
    "int8": "I8",
    "uint8": "U8",
    "int64": "I64",
}


def _dtype(name: str) -> np.dtype:
    if name == "bfloat16":
        import ml_dtypes  # a part of jax

        return np.dtype(ml_dtypes.bfloat16)
    return np.dtype(name)


def write_header(
    file: io.BufferedIOBase,
    tensors: Iterable[tuple[str, str, tuple[int, ...]]],
    metadata: Mapping[str, str],
) -> None:
    """Writes the header; the bytes of `tensors` (name, dtype, shape) must follow in their order."""
    header: dict = {"__metadata__": dict(metadata)} if metadata else {}
    start = 0
    for name, dtype, shape in tensors:
        end = start + math.prod(shape) * _dtype(dtype).itemsize
        header[name] = {"dtype": _NAMES[dtype], "shape": list(shape), "data_offsets": [start, end]}
        start = end
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    file.write(struct.pack("<Q", len(text)) + text)


def write(
    path: Path, tensors: Mapping[str, np.ndarray], metadata: Mapping[str, str] | None = None
) -> None:
    """Writes `tensors`, the widest number formats first so that every array is aligned."""
    order = sorted(tensors, key=lambda name: (-tensors[name].dtype.itemsize, name))
    with open(path, "wb") as file:
        described = [(name, tensors[name].dtype.name, tensors[name].shape) for name in order]
        write_header(file, described, metadata or {})
        for name in order:
            file.write(np.ascontiguousarray(tensors[name]).tobytes())


def read(path: str | os.PathLike[str]) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Returns the tensors of a file, as read-only views of it, and its metadata.

    Raises:
      UserError: the file is cut off, damaged or no safetensors file.
    """
    try:
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size < 8:
                raise ValueError(f"{size} bytes are no header")
            (length,) = struct.unpack("<Q", file.read(8))
            if length > min(size - 8, _HEADER_LIMIT):
                raise ValueError(f"a header of {length} bytes does not fit")
            header = json.loads(file.read(length))
            data = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))[8 + length :]
        return _views(header, data)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise UserError(
            f"{path} is damaged or no safetensors file ({error}); export it again"
        ) from None


def _views(header: object, data: memoryview) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    if not isinstance(header, dict):
        raise ValueError("the header is no table")
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
        raise ValueError("the metadata is no table of texts")
    dtypes = {short: name for name, short in _NAMES.items()}
    tensors, covered = {}, 0
    for name, entry in header.items():
        if not isinstance(entry, dict) or entry.keys() != {"dtype", "shape", "data_offsets"}:
            raise ValueError(f"tensor {name[:80]!r} is not described")
        if entry["dtype"] not in _NAMES.values():
            raise ValueError(f"tensor {name[:80]!r} has the unknown type {entry['dtype']!r}")
        shape, offsets = entry["shape"], entry["data_offsets"]
        for numbers in (shape, offsets):
            if not isinstance(numbers, list) or not all(type(n) is int and n >= 0 for n in numbers):
                raise ValueError(f"tensor {name[:80]!r} has no proper shape and place")
        dtype = _dtype(dtypes[entry["dtype"]])
        if len(offsets) != 2 or len(shape) > 8 or offsets[1] > len(data):
            raise ValueError(f"tensor {name[:80]!r} reaches beyond the end of the file")
        if offsets[1] - offsets[0] != math.prod(shape) * dtype.itemsize:
            raise ValueError(f"tensor {name[:80]!r} of shape {shape} does not fill its place")
        tensors[name] = np.frombuffer(data[offsets[0] : offsets[1]], dtype).reshape(shape)
        covered += offsets[1] - offsets[0]
    if covered != len(data):
        raise ValueError(f"{len(data)} bytes of data, of which the header describes {covered}")
    return tensors, metadata
