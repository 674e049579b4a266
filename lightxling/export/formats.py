"""The formats of an export, one entry each: a new one is a file with a writer, and an entry."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from lightxling.bundle import Bundle
from lightxling.config import UserError
from lightxling.export import adapter, onnx, safetensors, sentence_transformers, stablehlo, web
from lightxling.export.quantize import DTYPES, Dtype


@dataclasses.dataclass(frozen=True)
class Format:
    """What an export may ask of a format, and who writes it.

    Attributes:
      name: as `--format` has it.
      write: writes the files of an encoder into an empty folder; takes `options` by name.
      about: for the help text; empty where the name says it.
      check: finds out early what `write` would refuse of the encoder as it was loaded, such as a
        package that is not installed; takes `options` by name.
      dtypes: number formats that the weights may have.
      dtype: the one that they have where none is asked for.
      whole: the encoder is written as it is, with nothing merged, cut, rounded or measured.
      words: a vocabulary of words can be written; the other formats have sentencepiece's only.
      options: settings that not every format has; None is their default.
      describe: lines about the folder that was written.
    """

    name: str
    write: Callable[..., None]
    about: str = ""
    check: Callable[..., None] = lambda bundle: None
    dtypes: Sequence[Dtype] = DTYPES
    dtype: Dtype = "float32"
    whole: bool = False
    words: bool = False
    options: Sequence[str] = ()
    describe: Callable[[Path], Sequence[str]] = lambda folder: ()

    def check_dtype(self, dtype: str) -> None:
        """Refuses a number format that this one has no place for.

        Raises:
          UserError: names one that it has, and a format that has this one.
        """
        if dtype not in self.dtypes:
            raise UserError(
                f"{self.name} has no {dtype} weights; use float16, or --format onnx for {dtype}"
            )


FORMATS: Mapping[str, Format] = {
    format.name: format
    for format in (
        Format("safetensors", safetensors.write, "for lightxling", words=True),
        Format(
            "sentence-transformers",
            sentence_transformers.write,
            dtypes=("float32", "float16", "bfloat16"),
        ),
        Format("onnx", onnx.write, check=onnx.check),
        Format("stablehlo", stablehlo.write, check=stablehlo.check),
        Format(
            "web",
            web.write,
            "a page that searches in the browser",
            check=web.check,
            dtype="int8",
            options=("runtime",),
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
}


def write(bundle: Bundle, folder: Path, format: str, **options) -> None:
    """Writes the files of one format into an empty folder.

    Args:
      options: those of the format's entry.
    """
    FORMATS[format].check_dtype(bundle.dtype)
    FORMATS[format].write(bundle, folder, **options)
