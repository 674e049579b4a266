"""Exports: a trained encoder as files of a few megabytes that open where lightxling is not.

`export` shrinks first (vocabulary, dimensions, number format), then writes one format, and tells
what it cost in bytes and, given development pairs, in P@1.
"""

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Literal

import tyro

from lightxling import bundle as bundles
from lightxling.adapters import FORMAT as ADAPTER_FORMAT
from lightxling.adapters import SUFFIX, merged, with_adapters
from lightxling.adapters import write as write_adapter
from lightxling.base.lines import Problems, sound_lines
from lightxling.bundle import Bundle, write_bundle
from lightxling.config import UserError
from lightxling.export.quantize import Dtype, quantize
from lightxling.files import atomic_folder, write_json

Format = Literal["safetensors", "sentence-transformers", "onnx", "stablehlo", "web", "adapter"]


@dataclasses.dataclass(frozen=True)
class Report:
    """What an export did.

    Attributes:
      before, after: bytes of the encoder's parameters and tokenizer, and of the files written.
      scores: P@1 in per cent per language pair, before and after; both directions averaged.
      notes: lines about the format.
    """

    folder: Path
    before: int
    after: int
    scores: dict[str, tuple[float, float]]
    notes: Sequence[str] = ()

    def __str__(self) -> str:
        lines = [
            f"{self.folder}: {self.after / 1e6:,.1f} MB, from {self.before / 1e6:,.1f} MB of "
            "parameters and tokenizer"
        ]
        for name, (before, after) in self.scores.items():
            lines.append(f"  {name} P@1 {before:.2f} -> {after:.2f} ({after - before:+.2f})")
        lines += (f"  {note}" for note in self.notes)
        return "\n".join(lines)


def export(
    model: Annotated[Path | None, tyro.conf.Positional, tyro.conf.arg(metavar="[MODEL]")] = None,
    output: Annotated[Path | None, tyro.conf.arg(aliases=["-o"])] = None,
    *,
    format: Format = "safetensors",
    dtype: Dtype | None = None,
    checkpoint: str | None = None,
    adapters: Sequence[str] | None = None,
    languages: Sequence[str] = (),
    trim: bool = False,
    pieces: int | None = None,
    min_count: int = 1,
    dimensions: int | None = None,
    layers: int | None = None,
    leading: int | None = None,
    text: Sequence[Path] = (),
    dev: Sequence[str] = (),
    runtime: Path | None = None,
    overwrite: bool = False,
) -> Report:
    """Writes an encoder in a format that other programs open.

    Example: lightxling export runs/en-fr --format onnx --dtype int8 --trim True --dev en-fr=dev.tsv

    Args:
      model: a run or a `safetensors` export; by default the encoder in the box.
      output: folder to write; by default MODEL-FORMAT-DTYPE beside the model, or here for the one
        in the box.
      format: safetensors (for lightxling), sentence-transformers, onnx, stablehlo; web: a page that
        searches in the browser; adapter: the encoder's adapters alone, a file each, for
        `Encoder.load`.
      dtype: number format of the weights; by default int8 for web, float32 for the others.
      checkpoint: best, last or a step of a run.
      adapters: names and files of the adapters that go along; by default all that the encoder has.
        Low-rank ones are merged into its matrices.
      languages: keep only the pieces that these languages use in the text.
      trim: keep only the pieces that the text uses.
      pieces: keep at most this many pieces, those that the text uses most.
      min_count: times a piece must occur in the text to be kept.
      dimensions: shorten vectors to this many principal components of the text.
      layers: keep only the first layers; for encoders trained with objectives.ese.
      leading: shorten vectors to their first numbers as they are; for encoders trained with
        objectives.ese.
      text: files with a sentence per line; without any, the text is the corpus of the run.
      dev: pairs to measure the loss in P@1 on, as `en-fr=PATH`.
      runtime: the archive of onnxruntime-web for --format web, where npm's registry cannot be
        reached; otherwise it is fetched once and kept in the user's cache folder.
      overwrite: replace an export that stands at `output`.

    Raises:
      UserError: an argument does not fit the model or the format, or a file is missing.
    """
    dtype = dtype or ("int8" if format == "web" else "float32")
    model = bundles.folder_of(Path(model or bundles.BOXED))
    named = model.resolve() if model.name in ("", "..") else model
    beside = Path() if model == bundles.BOXED else named.parent
    output = output or beside / f"{named.name}-{format}-{dtype}"
    _check_output(output, overwrite)
    fewer = bool(languages) or trim or pieces is not None or min_count > 1
    if text and not fewer and dimensions is None:
        raise UserError(
            f"--text {text[0]} would not be read; say what it is for: --trim True, --languages, "
            "--pieces, --min-count or --dimensions"
        )
    pairs = _dev_pairs(dev)
    if runtime is not None and format != "web":
        raise UserError(f"--runtime belongs to --format web, not to {format}")
    loaded = bundles.load(model, checkpoint)
    original = with_adapters(loaded, adapters)
    _check_languages(original, languages)
    if format == "adapter":
        if fewer or dimensions is not None or dev or dtype != "float32":
            raise UserError(
                "--format adapter writes adapters as they are; leave out --dtype, --dev and what "
                "makes an encoder smaller"
            )
        if layers is not None or leading is not None:
            raise UserError("--format adapter keeps all layers; leave out --layers and --leading")
        return _write_adapters(original, output)
    if original.tokenizer.startswith(b"{") and (format != "safetensors" or fewer):
        raise UserError(
            f"{model} has a vocabulary of words, which only lightxling reads; give --format "
            "safetensors, without --trim, --languages and --pieces"
        )
    if format == "web":
        from lightxling.export import web

        web.check(original)
        runtime = web.runtime.find(runtime)
    small = merged(original)
    if layers is not None or leading is not None:
        from lightxling.export.trim import cut

        small = cut(small, layers=layers, leading=leading)
    if fewer:
        from lightxling.export.trim import trim_vocabulary

        sentences = _sentences(model, text, languages)
        small = trim_vocabulary(small, sentences, min_count=min_count, pieces=pieces)
    if languages:
        small = dataclasses.replace(small, languages=tuple(languages))
    if dimensions is not None:
        from lightxling.export.trim import reduce_dimensions

        small = reduce_dimensions(small, _sentences(model, text, languages), dimensions)
    small = quantize(small, dtype)
    if small.scores and small.fingerprint() != loaded.fingerprint():
        small = dataclasses.replace(small, scores={})  # they are of another encoder
    scores = {
        name: (_measure(original, *sides), _measure(small, *sides)) for name, sides in pairs.items()
    }
    measured = {f"{name}, P@1 in %, both directions": after for name, (_, after) in scores.items()}
    small = dataclasses.replace(small, scores={**small.scores, **measured})
    with atomic_folder(output) as folder:
        write(small, folder, format, runtime)
    return Report(
        output,
        before=original.nbytes + len(original.tokenizer),
        after=_bytes(output),
        scores=scores,
        notes=web.describe(output) if format == "web" else (),
    )


def _write_adapters(bundle: Bundle, output: Path) -> Report:
    names = [adapter.name for adapter in bundle.config.adapters]
    if not names:
        raise UserError("the encoder has no adapters to export")
    with atomic_folder(output) as folder:
        for name in names:
            write_adapter(bundle, name, folder / f"{name}{SUFFIX}")
        description = {"format": ADAPTER_FORMAT, "adapters": names}
        write_json(folder / bundles.DESCRIPTION, description)
    return Report(output, bundle.nbytes + len(bundle.tokenizer), _bytes(output), {})


def _bytes(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def write(bundle: Bundle, folder: Path, format: Format, runtime: Path | None = None) -> None:
    """Writes the files of one format into an empty folder.

    Args:
      runtime: the archive of onnxruntime-web, for `web` alone.
    """
    if format == "safetensors":
        write_bundle(bundle, folder)
    elif format == "stablehlo":
        from lightxling.export import stablehlo

        stablehlo.write(bundle, folder)
    elif format == "onnx":
        from lightxling.export import onnx

        onnx.write(bundle, folder)
    elif format == "web":
        from lightxling.export import web

        web.write(bundle, folder, runtime or web.runtime.find())
    else:
        from lightxling.export import sentence_transformers

        sentence_transformers.write(bundle, folder)


def _check_output(output: Path, overwrite: bool) -> None:
    if not output.name:
        raise UserError(f"--output {output} is no name of its own; give that of a new folder")
    if not output.absolute().parent.is_dir():
        raise UserError(f"--output {output}: there is no folder {output.absolute().parent}")
    if not output.exists():
        return
    if not overwrite:
        raise UserError(
            f"{output} exists; give another --output, or --overwrite True to replace it"
        )
    if not (output / bundles.DESCRIPTION).is_file() or (output / "checkpoints").exists():
        raise UserError(f"{output} is no export; it is not overwritten. Give another --output")


def _check_languages(bundle: Bundle, languages: Sequence[str]) -> None:
    unknown = sorted(set(languages) - set(bundle.languages))
    if bundle.languages and unknown:
        raise UserError(
            f"--languages {' '.join(unknown)}: the encoder knows {', '.join(bundle.languages)}"
        )


def _sentences(model: Path, text: Sequence[Path], languages: Sequence[str]) -> Iterator[str]:
    """The text that an encoder is fitted to: files, or the corpus that the run was trained on."""
    if text:
        problems = Problems()
        for path in text:
            yield from (line for line in sound_lines(path, problems) if line is not None)
        problems.warn("left out")
        return
    from lightxling.export.trim import corpus_sentences

    description = bundles.read_json(model / bundles.DESCRIPTION)
    sources = description.get("config", {}).get("corpus", {}).get("sources", [])
    if not sources:
        raise UserError(
            f"{model} does not say what it was trained on; name a text with --text FILE"
        )
    yield from corpus_sentences(sources, languages)


def _dev_pairs(dev: Sequence[str]) -> dict[str, tuple[list[str], list[str]]]:
    """Both sides of dev sets, as `lightxling evaluate` reads them, by name and size.

    Raises:
      UserError: a file cannot be read, or two would have one name.
    """
    if not dev:
        return {}
    from lightxling.corpus.sources import Source
    from lightxling.evaluate.tasks.parallel import parallel, read_pairs

    found: dict[str, tuple[list[str], list[str]]] = {}
    places: dict[str, str] = {}
    for text in dev:
        Source.parse(text)  # what names no languages is refused
        ((dataset, source),) = parallel([text])
        called = f"{dataset} {'-'.join(source.languages)}"
        if called in places:
            raise UserError(
                f"--dev {places[called]} and {source.path} would both be called {called}; rename "
                "one of the files"
            )
        places[called] = source.path
        sides = read_pairs(source)
        found[f"{called} ({len(sides[0]):,} candidates)"] = sides
    return found


def _measure(bundle: Bundle, src: list[str], tgt: list[str]) -> float:
    """P@1 of an encoder in per cent, mean of both directions."""
    from lightxling.encoder import Encoder
    from lightxling.evaluate.retrieval import precision_at_1

    encoder = Encoder(bundle)
    return 100 * precision_at_1(encoder.encode(src), encoder.encode(tgt)).mean
