"""The formats of an export, one entry each: a new one is a file with a writer, and an entry."""

import dataclasses
import importlib.util
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from lightxling.base.errors import UserError
from lightxling.export import adapter, onnx, sentence_transformers, stablehlo, web
from lightxling.export.quantize import DTYPES, Dtype
from lightxling.saved.bundle import Bundle, write_bundle


@dataclasses.dataclass(frozen=True)
class Format:
    """What an export may ask of a format, and who writes it.

    Attributes:
      name: as `--format` has it.
      write: writes the files of an encoder into an empty folder; takes `options` by name.
      about: for the help text; empty where the name says it.
      package: that the writer needs, of the extra `export`.
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
    package: str = ""
    dtypes: Sequence[Dtype] = DTYPES
    dtype: Dtype = "float32"
    options: Sequence[str] = ()
    check: Callable[..., None] = lambda bundle: None
    whole: bool = False
    words: bool = False
    describe: Callable[[Path], Sequence[str]] = lambda folder: ()


_ALL = (
    Format("safetensors", write_bundle, "for lightxling", words=True),
    Format("sentence-transformers", sentence_transformers.write, dtypes=DTYPES[:3]),
    Format("onnx", onnx.write, package="onnx"),
    Format("stablehlo", stablehlo.write, package="flatbuffers"),
    Format(
        "web",
        web.write,
        "a page that searches in the browser",
        package="onnx",
        dtype="int8",
        options=("runtime",),
        check=web.check,
        describe=web.describe,
    ),
    Format(
        "adapter",
        adapter.write,
        "the encoder's adapters alone, a file each, for `Encoder.load`",
        check=adapter.check,
        whole=True,
        words=True,
    ),
)
FORMATS: Mapping[str, Format] = {format.name: format for format in _ALL}


def check(bundle: Bundle, format: str, dtype: str, **options) -> None:
    """Finds out early whether a format can be written here, of an encoder with such weights.

    Args:
      options: those of the format's entry.

    Raises:
      UserError: says what to use instead, or to install.
    """
    entry = FORMATS[format]
    if dtype not in entry.dtypes:
        raise UserError(
            f"{format} has no {dtype} weights; use float16, or --format onnx for {dtype}"
        )
    if entry.package and importlib.util.find_spec(entry.package) is None:
        needing = [other.name for other in _ALL if other.package == entry.package]
        raise UserError(
            f"--format {' and '.join(needing)} need{'s' * (len(needing) == 1)} the {entry.package} "
            "package: pip install 'lightxling[export]'"
        )
    entry.check(bundle, **options)


def write(bundle: Bundle, folder: Path, format: str, **options) -> None:
    """Writes the files of one format into an empty folder.

    Args:
      options: those of the format's entry.
    """
    check(bundle, format, bundle.dtype, **options)
    FORMATS[format].write(bundle, folder, **options)
