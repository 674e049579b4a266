"""What `lightxling export` is told."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import tyro

from lightxling.base.errors import UserError, at_least
from lightxling.base.places import locate, name_in_package
from lightxling.export.formats import EXPORT_FORMATS, ExportFormat
from lightxling.export.quantize import Dtype

_ABOUT = "; ".join(": ".join(filter(None, (f.name, f.about))) for f in EXPORT_FORMATS.values())


@dataclasses.dataclass(frozen=True)
class ExportSettings:
    """What is exported, and how it is made smaller.

    Attributes:
      model: a run, a `safetensors` export, or the name of an encoder in the package; by default
        static.
      output: folder to write; by default MODEL-FORMAT-DTYPE beside the model, or here for one in
        the package.
      dtype: number format of the weights; by default int4 for web, float32 for the others.
      checkpoint: best, last or a step of a run.
      adapters: names and files of the adapters that go along; by default all that the encoder has.
        Low-rank ones are merged into its matrices.
      languages: keep only the pieces that these languages use in the text.
      trim: keep only the pieces that the text uses.
      pieces: keep at most this many pieces, those that the text uses most,
        each in the language that uses it most.
      min_count: times a piece must occur in the text to be kept.
      dimensions: shorten vectors to this many principal components of the text.
      layers: keep only the first layers; for encoders trained with objectives.ese.
      spread: keep this many layers, evenly from the first to the last; a start for a small student.
      leading: shorten vectors to their first numbers as they are; for encoders trained with
        objectives.ese.
      text: files with a sentence per line; without any, the text is the corpus of the run.
      dev: pairs to measure the loss in P@1 on, as `en-fr=PATH`.
      runtime: the archive of onnxruntime-web for --format web, where npm's registry cannot be
        reached; otherwise it is fetched once and kept in the user's cache folder.
      overwrite: replace an export that stands at `output`.
    """

    model: Annotated[Path | None, tyro.conf.Positional, tyro.conf.arg(metavar="[MODEL]")] = None
    output: Annotated[Path | None, tyro.conf.arg(aliases=["-o"])] = None
    _: dataclasses.KW_ONLY
    format: Annotated[Literal[*EXPORT_FORMATS], tyro.conf.arg(help=f"{_ABOUT}.")] = "safetensors"
    dtype: Dtype | None = None
    checkpoint: str | None = None
    adapters: Sequence[str] | None = None
    languages: Sequence[str] = ()
    trim: bool = False
    pieces: int | None = None
    min_count: int = 1
    dimensions: int | None = None
    layers: int | None = None
    spread: int | None = None
    leading: int | None = None
    text: Sequence[Path] = ()
    dev: Sequence[str] = ()
    runtime: Path | None = None
    overwrite: bool = False

    @property
    def entry(self) -> ExportFormat:
        return EXPORT_FORMATS[self.format]

    @property
    def weights(self) -> Dtype:
        """Their number format."""
        return self.dtype or self.entry.dtype

    @property
    def fewer(self) -> bool:
        """Whether pieces are left out."""
        return bool(self.languages) or self.trim or self.pieces is not None or self.min_count > 1

    @property
    def options(self) -> dict:
        """The settings that belong to the format, by name."""
        return {name: getattr(self, name) for name in self.entry.options}

    def places(self) -> tuple[Path, Path]:
        """The folder that is read and the one that is written."""
        model = locate(self.model)
        named = model.resolve() if model.name in ("", "..") else model
        beside = Path() if name_in_package(model) else named.parent
        return model, self.output or beside / f"{named.name}-{self.format}-{self.weights}"

    def check(self) -> None:
        """Refuses what does not go together, whatever the encoder.

        Raises:
          UserError: names the options and the rule.
        """
        at_least(self, "min_count", 1)
        if self.text and not self.fewer and self.dimensions is None:
            raise UserError(
                f"--text {self.text[0]} would not be read; say what it is for: --trim True, "
                "--languages, --pieces, --min-count or --dimensions"
            )
        for other in EXPORT_FORMATS.values():
            for option in set(other.options) - set(self.entry.options):
                if getattr(self, option) is not None:
                    raise UserError(
                        f"--{option} belongs to --format {other.name}, not to {self.format}"
                    )
        if self.layers is not None and self.spread is not None:
            raise UserError("--layers and --spread both say which layers stay; give one of them")
        if self.entry.whole:
            self._check_whole()

    def _check_whole(self) -> None:
        smaller = self.fewer or self.dimensions is not None or self.weights != self.entry.dtype
        if smaller or self.dev:
            raise UserError(
                f"--format {self.format} writes adapters as they are; leave out --dtype, --dev and "
                "what makes an encoder smaller"
            )
        if not self.layers == self.spread == self.leading is None:
            raise UserError(
                f"--format {self.format} keeps all layers; leave out --layers, --spread and "
                "--leading"
            )
