"""Exports: a trained encoder as files of a few megabytes that open where lightxling is not.

`export` shrinks first (vocabulary, dimensions, number format), then writes one format, and tells
what it cost in bytes and, given development pairs, in P@1. The formats are entries of a table,
`formats.FORMATS`.
"""

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path

from lightxling.base.errors import UserError
from lightxling.base.files import atomic_folder, check_parent, read_json, recover
from lightxling.base.lines import Problems, sound_lines
from lightxling.corpus.normaliser import own_rules
from lightxling.corpus.tokenizer import read_tokenizer
from lightxling.corpus.words import WordTokenizer
from lightxling.encode.encoder import Encoder
from lightxling.export.formats import check_format, write_format
from lightxling.export.quantize import quantize
from lightxling.export.settings import ExportSettings
from lightxling.export.trim import (
    Sentence,
    corpus_sentences,
    keep_pieces,
    reduce_dimensions,
    shorten,
    thin_out,
    trim_vocabulary,
)
from lightxling.saved import bundle as bundles
from lightxling.saved.adapters import merge_adapters, with_adapters
from lightxling.saved.bundle import Bundle
from lightxling.saved.piece_use import read_piece_use

Sides = tuple[list[str], list[str]]
"""Sentences, and their translations in the same order."""


@dataclasses.dataclass(frozen=True)
class ExportReport:
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


def export(settings: ExportSettings) -> ExportReport:
    """Writes an encoder in a format that other programs open.

    Example: lightxling export runs/en-fr --format onnx --dtype int8 --trim True --dev en-fr=dev.tsv

    Raises:
      UserError: a setting does not fit the model or the format, or a file is missing.
    """
    entry, (model, output) = settings.entry, settings.places()
    _check_output(output, settings.overwrite)
    settings.check()
    pairs = _dev_pairs(settings.dev)
    loaded = bundles.load_bundle(model, settings.checkpoint)
    original = with_adapters(loaded, settings.adapters)
    _check_encoder(original, model, settings)
    small = original if entry.whole else _smaller(original, model, settings)
    if small.scores and small.fingerprint() != loaded.fingerprint():
        small = dataclasses.replace(small, scores={})  # they are of another encoder
    scores = {
        name: (_measure(original, sides), _measure(small, sides)) for name, sides in pairs.items()
    }
    measured = {f"{name}, P@1 in %, both directions": after for name, (_, after) in scores.items()}
    small = dataclasses.replace(small, scores={**small.scores, **measured})
    said = own_rules(small.tokenizer)
    with atomic_folder(output) as folder:
        write_format(small, folder, settings.format, **settings.options)
    return ExportReport(
        output,
        before=original.nbytes + len(original.tokenizer),
        after=sum(file.stat().st_size for file in output.rglob("*") if file.is_file()),
        scores=scores,
        notes=[*entry.describe(output), *([f"the tokenizer {said}"] if said else [])],
    )


def _check_output(output: Path, overwrite: bool) -> None:
    if not output.name:
        raise UserError(f"--output {output} is not a name of its own; give that of a new folder")
    check_parent(output)
    recover(output)
    if not output.exists():
        return
    if not overwrite:
        raise UserError(
            f"{output} exists; give another --output, or --overwrite True to replace it"
        )
    if not (output / bundles.DESCRIPTION).is_file() or (output / "checkpoints").exists():
        raise UserError(f"{output} is not an export; it is not overwritten. Give another --output")


def _check_encoder(bundle: Bundle, model: Path, settings: ExportSettings) -> None:
    unknown = sorted(set(settings.languages) - set(bundle.languages))
    if bundle.languages and unknown:
        raise UserError(
            f"--languages {' '.join(unknown)}: the encoder knows {', '.join(bundle.languages)}"
        )
    has_words = isinstance(read_tokenizer(bundle.tokenizer), WordTokenizer)
    if has_words and (settings.fewer or not settings.entry.words):
        raise UserError(
            f"{model} has a vocabulary of words, which only lightxling reads; give --format "
            "safetensors, without --trim, --languages and --pieces"
        )
    check_format(bundle, settings.format, settings.weights, **settings.options)


def _smaller(bundle: Bundle, model: Path, settings: ExportSettings) -> Bundle:
    """The encoder with less of all that the settings name, in their number format."""
    languages, small = settings.languages, merge_adapters(bundle)
    if settings.spread is not None:
        small = thin_out(small, settings.spread)
    if settings.layers is not None or settings.leading is not None:
        small = shorten(small, layers=settings.layers, leading=settings.leading)
    used = None
    if languages and not (settings.text or settings.pieces or settings.min_count > 1):
        used = read_piece_use(model, bundle.tokenizer, languages, bundle.vocab_size)
    if used is not None:
        small = keep_pieces(small, used)
    elif settings.fewer:
        small = trim_vocabulary(
            small,
            _sentences(model, settings.text, languages),
            min_count=settings.min_count,
            pieces=settings.pieces,
        )
    if languages:
        small = dataclasses.replace(small, languages=tuple(languages))
    if settings.dimensions is not None:
        sentences = (sentence for _, sentence in _sentences(model, settings.text, languages))
        small = reduce_dimensions(small, sentences, settings.dimensions)
    return quantize(small, settings.weights)


def _sentences(model: Path, text: Sequence[Path], languages: Sequence[str]) -> Iterator[Sentence]:
    """The text that an encoder is fitted to: files, or the corpus that the run was trained on."""
    if text:
        problems = Problems()
        for path in text:
            lines = sound_lines(path, problems)
            yield from ((str(path), line) for line in lines if line is not None)
        problems.warn("left out")
        return
    description = read_json(model / bundles.DESCRIPTION)
    sources = description.get("config", {}).get("corpus", {}).get("sources", [])
    if not sources:
        raise UserError(
            f"{model} does not say what it was trained on; name a text with --text FILE"
        )
    yield from corpus_sentences(sources, languages)


def _dev_pairs(dev: Sequence[str]) -> dict[str, Sides]:
    """Both sides of dev sets, as `lightxling evaluate` reads them, by name and size.

    Raises:
      UserError: a file cannot be read, or two would have one name.
    """
    if not dev:
        return {}
    from lightxling.corpus.sources import Source
    from lightxling.evaluate.tasks.parallel import parallel, read_pairs

    found: dict[str, Sides] = {}
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


def _measure(bundle: Bundle, sides: Sides) -> float:
    """P@1 of an encoder in per cent, mean of both directions."""
    from lightxling.evaluate.retrieval import precision_by_text

    src, tgt = map(Encoder(bundle).encode, sides)
    return 100 * precision_by_text(src, tgt, sides).mean
