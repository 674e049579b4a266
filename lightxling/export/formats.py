"""The formats of an export, one entry each: a new one is a file with a writer, and an entry."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from lightxling.base.errors import UserError
from lightxling.base.extras import require
from lightxling.export import web
from lightxling.export.onnx import write_onnx
from lightxling.export.quantize import DTYPES, Dtype
from lightxling.export.sentence_transformers import (
    check_sentence_transformers,
    write_sentence_transformers,
)
from lightxling.export.stablehlo import write_stablehlo
from lightxling.saved.adapters import check_adapters, write_adapters
from lightxling.saved.bundle import Bundle, write_bundle


@dataclasses.dataclass(frozen=True)
class ExportFormat:
    """What an export may ask of a format, and who writes it.

    Attributes:
      name: as `--format` has it.
      write: writes the files of an encoder into an empty folder; takes `options` by name.
      about: for the help text; empty where the name says it.
      packages: that the writer needs, of extras.
      dtypes: number formats that the weights may have.
      dtype: the one that they have where none is asked for.
      options: settings that not every format has; None is their default.
      check: finds out early what `write` would refuse of an encoder; takes `options` by name.
      whole: the encoder is written as it is, with nothing merged, cut, rounded or measured.
      words: a vocabulary of words can be written, not only sentencepiece's.
      describe: lines about the folder that was written.
    """

    name: str
    write: Callable[..., None]
    about: str = ""
    packages: Sequence[str] = ()
    dtypes: Sequence[Dtype] = DTYPES
    dtype: Dtype = "float32"
    options: Sequence[str] = ()
    check: Callable[..., None] = lambda bundle: None
    whole: bool = False
    words: bool = False
    describe: Callable[[Path], Sequence[str]] = lambda folder: ()


_ALL = (
    ExportFormat("safetensors", write_bundle, "for lightxling", words=True),
    ExportFormat(
        "sentence-transformers",
        write_sentence_transformers,
        dtypes=DTYPES[:3],
        check=check_sentence_transformers,
    ),
    ExportFormat("onnx", write_onnx, packages=["onnx"]),
    ExportFormat("stablehlo", write_stablehlo, packages=["jax", "flatbuffers"]),
    ExportFormat(
        "web",
        web.write_web,
        "a page that searches in the browser",
        dtype="int4",
        options=("runtime",),
        check=web.check_web,
        describe=web.describe_web,
    ),
    ExportFormat(
        "adapter",
        write_adapters,
        "the encoder's adapters alone, a file each, for `Encoder.load`",
        check=check_adapters,
        whole=True,
        words=True,
    ),
)
EXPORT_FORMATS: Mapping[str, ExportFormat] = {format.name: format for format in _ALL}


def check_format(bundle: Bundle, format: str, dtype: str, **options) -> None:
    """Finds out early whether a format can be written here, of an encoder with such weights.

    Args:
      options: those of the format's entry.

    Raises:
      UserError: says what to use instead, or to install.
    """
    entry = EXPORT_FORMATS[format]
    if dtype not in entry.dtypes:
        raise UserError(
            f"{format} has no {dtype} weights; use float16, or --format onnx for {dtype}"
        )
    require(f"--format {format}", *entry.packages)
    entry.check(bundle, **options)


def write_format(bundle: Bundle, folder: Path, format: str, **options) -> None:
    """Writes the files of one format into an empty folder.

    Args:
      options: those of the format's entry.
    """
    check_format(bundle, format, bundle.dtype, **options)
    EXPORT_FORMATS[format].write(bundle, folder, **options)
