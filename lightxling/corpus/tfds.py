"""Datasets of tensorflow-datasets, read without TensorFlow."""

import contextlib
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from lightxling.base.errors import UserError, first_line
from lightxling.base.extras import needed_by
from lightxling.base.languages import is_variety, language_tag
from lightxling.base.lines import Problems
from lightxling.corpus.sources import NUMBERS, Rows, Source

PREFIX = "tfds:"
"""Of the path of such a source."""

_TFDS = re.compile(
    r"tfds:(?P<name>[\w/.+-]+(:\d+\.\d+\.\d+)?)(:(?P<split>[^#]+))?(#(?P<fields>.+))?"
)
_TEXT_FIELDS = (("premise", "hypothesis"), ("sentence1", "sentence2"))


def _parts(source: Source) -> re.Match[str]:
    match = _TFDS.fullmatch(source.path)
    if not match:
        raise UserError(
            f"source {source}: write tfds:NAME/CONFIG, tfds:NAME/CONFIG:SPLIT or, to name the text"
            " fields, tfds:NAME/CONFIG:SPLIT#FIELD,FIELD"
        )
    return match


@contextlib.contextmanager
def _errors(source: Source) -> Iterator[None]:
    """Turns what tensorflow-datasets raises into UserErrors that say what to do."""
    name = _parts(source)["name"]
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        cause = error
        while cause is not None:
            if isinstance(cause, ImportError) and (cause.name or "").startswith("tensorflow"):
                raise UserError(
                    f"tensorflow-datasets needs TensorFlow to unpack {name}, though not to read it."
                    " In an environment that has TensorFlow, type once\n"
                    '  python -c "import tensorflow_datasets as tfds;'
                    f" tfds.builder('{name}', file_format='array_record').download_and_prepare()\""
                    "\nand then this again"
                ) from None
            cause = cause.__cause__ or cause.__context__
        if isinstance(error, NotImplementedError):
            raise UserError(
                f"{name} lies on the disk in a format that only TensorFlow reads; set TFDS_DATA_DIR"
                " to an empty folder to prepare it again, as array_record"
            ) from None
        message = first_line(error)
        raise UserError(f"source {source}: tensorflow-datasets says: {message}") from error


def _builder(source: Source) -> Any:
    """The builder of a tensorflow-datasets source, with its array_record files prepared."""
    with needed_by(f"source {source}"):
        import tensorflow_datasets as tfds  # a third of a second, and few need it
        import tensorflow_datasets.text  # registers snli and multi_nli
        import tensorflow_datasets.translate  # registers wmt and flores

    name = _parts(source)["name"]
    with _errors(source):
        builder = tfds.builder(name, file_format="array_record")
        builder.download_and_prepare(
            download_config=tfds.download.DownloadConfig(try_download_gcs=False)
        )
    return builder


def tfds_files(source: Source) -> list[Path]:
    folder = Path(_builder(source).data_dir)
    return sorted(path for path in folder.glob("*") if path.is_file())


def read_tfds(
    source: Source, problems: Problems, rows: Rows = "pairs"
) -> Iterator[tuple[str, ...]]:
    """The rows of a dataset of tensorflow-datasets; TensorFlow is not imported."""
    parts = _parts(source)
    builder = _builder(source)
    features, fields = builder.info.features, parts["fields"]
    label = _label(source, features, rows) if rows in NUMBERS else None
    if label:
        known = [f"{a},{b}" for a, b in _TEXT_FIELDS if a in features and b in features]
        fields = fields or next(iter(known), None)
    sides = _sides(source, features, fields)
    with _errors(source):
        examples = builder.as_data_source(split=parts["split"] or "train")
    for number in range(len(examples)):
        with _errors(source):
            example = examples[number]
        place = f"{source.path}:{number}"
        try:
            row = tuple(t.decode() if isinstance(t, bytes) else t for t in sides(example))
        except UnicodeDecodeError:
            problems.add("invalid UTF-8", place)
            continue
        if None in row:
            problems.add("example without all languages", place)
        elif not label:
            yield row
        elif (value := label(example, place)) is None:
            problems.add("no agreed label", place)
        else:
            yield *row, value


def _label(source: Source, features: Any, rows: Rows) -> Callable[[Any, str], str | None]:
    """The function that takes the number of a label out of an example at some place."""
    from tensorflow_datasets import features as kinds

    if not isinstance(features, kinds.FeaturesDict) or "label" not in features:
        raise UserError(f"source {source}: its examples have no field named label")
    names = getattr(features["label"], "names", None) if rows == "labels" else None

    def number(example: Any, place: str) -> str | None:
        value = example["label"]
        if names:
            value = names[value] if value >= 0 else "-"
        return NUMBERS[rows](str(value).strip(), place)

    return number


def _sides(
    source: Source, features: Any, fields: str | None
) -> Callable[[Any], Sequence[bytes | str | None]]:
    """The function that takes the sentences of all languages out of an example."""
    from tensorflow_datasets import features as kinds

    codes = [language_tag(code) for code in source.languages]
    if not isinstance(features, kinds.FeaturesDict):
        raise UserError(f"source {source}: its examples have no named fields")
    if not (fields or isinstance(features, kinds.Translation)):
        for key, feature in features.items():
            if isinstance(feature, kinds.Translation):
                inner = _sides(source, feature, None)
                return lambda example: inner(example[key])
            if isinstance(feature, kinds.TranslationVariableLanguages):
                return lambda example: _variable_sides(example[key], codes)
    texts = [key for key, feature in features.items() if isinstance(feature, kinds.Text)]
    if fields:
        keys = fields.split(",")
    else:
        keys = [
            next((k for k in texts if is_variety(language_tag(k), code)), None) for code in codes
        ]
        named_otherwise = None in keys and len(texts) == len(codes)  # such as source and target
        if named_otherwise and not isinstance(features, kinds.Translation):
            keys = texts
    if len(keys) != len(codes) or not set(keys) <= set(texts):
        raise UserError(
            f"source {source}: the text fields are {', '.join(texts) or 'none'}; name one for each"
            f" of {', '.join(source.languages)} at the end, such as #{','.join(texts[:2])}"
        )
    return lambda example: [example[key] for key in keys]


def _variable_sides(example: Any, codes: Sequence[str]) -> list[bytes | str | None]:
    """The first sentence of each language, None for a language that is missing."""
    tags = [tag.decode() if isinstance(tag, bytes) else tag for tag in example["language"]]
    found = dict(
        zip(map(language_tag, reversed(tags)), reversed(example["translation"]), strict=True)
    )
    return [
        found.get(code, next((text for tag, text in found.items() if is_variety(tag, code)), None))
        for code in codes
    ]
