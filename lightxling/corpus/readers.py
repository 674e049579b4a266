"""Sources of parallel text. Every reader streams rows of sentences, one sentence per language.

Files come from strangers: what cannot be a sentence is counted and skipped, a file that cannot be
read is a UserError, and no file, however odd, is held in memory.
"""

import collections
import contextlib
import dataclasses
import glob
import gzip
import io
import itertools
import math
import os
import re
import xml.sax
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Literal

import defusedxml
import defusedxml.sax

from lightxling.config import UserError
from lightxling.corpus.sentences import sentences

_CODE = re.compile(r"[a-z]{2,3}(_[A-Za-z0-9]+)?")
_TFDS = re.compile(
    r"tfds:(?P<name>[\w/.+-]+(:\d+\.\d+\.\d+)?)(:(?P<split>[^#]+))?(#(?P<fields>.+))?"
)
_LABEL_COLUMNS = ("label", "gold_label", "score")
_TEXT_COLUMNS = ("premise", "hypothesis", "hypo", "sentence1", "sentence2")
_TEXT_FIELDS = (("premise", "hypothesis"), ("sentence1", "sentence2"))
_LINE_LIMIT = 1 << 20  # bytes; a longer line is no sentence
_SEGMENT_LIMIT = 1 << 16  # characters of a TMX segment that are kept; cleaning drops it later
_TOKEN_LIMIT = 1 << 20  # bytes of XML without a single element or text
_DEPTH_LIMIT = 100  # elements
_SHOWN = 5  # places remembered per reason


Rows = Literal["pairs", "sentences", "text", "labels", "scores"]
"""What a row is: sentences of several languages, of one language or more, three sentences of
running text, or two sentences with a label or a score."""

LABELS = ("entailment", "neutral", "contradiction")
"""Of natural language inference, in the order of their numbers."""


@dataclasses.dataclass(frozen=True)
class Source:
    """Text in several languages, as one entry of `corpus.sources` names it.

    Attributes:
      languages: code of each side, in order.
      weight: how often a row is drawn per epoch.
      path: file, glob, stem of files or `tfds:NAME/CONFIG`.
      is_running: the files hold running text in one language; a row is three sentences of it.
    """

    languages: tuple[str, ...]
    weight: float
    path: str
    is_running: bool = False

    def __str__(self) -> str:
        weight = "" if self.weight == 1 else f"@{self.weight:g}"
        codes = self.languages[:1] if self.is_running else self.languages
        return f"{'-'.join(codes)}{weight}={self.path}"

    @classmethod
    def parse(cls, text: str, rows: Rows = "pairs") -> "Source":
        """Reads `en-fr=PATH` or `en-fr@2=PATH`; for running text and for sentences, `en=PATH`."""
        left, equals, path = text.partition("=")
        codes, at, weight_text = left.partition("@")
        languages = tuple(codes.split("-"))
        if not (equals and path.strip()):
            raise UserError(f"source {text!r} names no file; write it like en-fr=corpus.tsv")
        is_running = rows == "text" and len(languages) == 1
        if is_running:
            languages *= 3
        if rows == "text" and len(languages) != 3:
            raise UserError(
                f"source {text!r}: running text has one language; write it like en=books/*.txt, or"
                " en-en-en=FILE.tsv for a sentence before, a sentence and one after it in each line"
            )
        fewest = 1 if rows == "sentences" else 2
        if len(languages) < fewest or not all(_CODE.fullmatch(code) for code in languages):
            raise UserError(
                f"source {text!r}: {codes!r} is no language pair; write two codes, such as en-fr"
                " or en-zh_Hans"
            )
        try:
            weight = float(weight_text) if at else 1.0
        except ValueError:
            weight = math.nan
        if not 0 < weight < math.inf:
            raise UserError(
                f"source {text!r}: weight {weight_text!r} is no positive number; write it like"
                " en-fr@2=PATH"
            )
        return cls(languages, weight, path.strip(), is_running)


class Problems:
    """Counts what could not be read, by reason, and remembers the first places of each."""

    def __init__(self):
        self.counts = collections.Counter()
        self.places = collections.defaultdict(list)

    def add(self, reason: str, place: str) -> None:
        self.counts[reason] += 1
        if len(self.places[reason]) < _SHOWN:
            self.places[reason].append(place)

    def told(self) -> Iterator[tuple[int, str]]:
        """How often each reason was met, and the reason with its first places; the most frequent
        first."""
        for reason, n in self.counts.most_common():
            places = self.places[reason]
            yield n, f"{reason} ({', '.join(places)}{', ...' if n > len(places) else ''})"


def files(source: Source) -> list[Path]:
    """Returns the files that `source` reads; UserError when there are none."""
    if source.path.startswith("tfds:"):
        return _tfds_files(source)
    return [file for group in _resolve(source) for file in group]


def read(source: Source, problems: Problems, rows: Rows = "pairs") -> Iterator[tuple[str, ...]]:
    """Yields the rows of `source`; what holds none is counted in `problems`.

    Args:
      rows: with labels or scores, a row ends in one, written as a number.

    Raises:
      UserError: a file cannot be read, or has a label that is none.
    """
    if source.path.startswith("tfds:"):
        yield from read_tfds(source, problems, rows)
        return
    for group in _resolve(source):
        if rows in ("labels", "scores"):
            yield from read_labelled(group[0], rows, problems)
        elif source.is_running:
            yield from read_running(group[0], problems)
        elif len(group) > 1:
            yield from read_moses(group, problems)
        elif _plain_name(group[0]).endswith(".tmx"):
            yield from read_tmx(group[0], source.languages, problems)
        else:
            yield from read_tsv(group[0], len(source.languages), problems)


def _plain_name(path: str | os.PathLike[str]) -> str:
    return os.fspath(path).removesuffix(".gz")


def _resolve(source: Source) -> list[tuple[Path, ...]]:
    """Returns the files of `source`, in order; those to be read side by side in one tuple."""
    found = [source.path] if os.path.isfile(source.path) else glob.glob(source.path, recursive=True)
    found = sorted(file for file in found if os.path.isfile(file))
    if not found:
        group = _moses_files(source.path, source.languages)
        if not any(file.is_file() for file in group):
            raise UserError(
                f"source {source}: there is no file {source.path}, nor {group[0]}; check the path"
            )
        found = [str(group[0])]
    groups = {}  # a stem matched by the files of several languages is one group
    for file in found:
        group = (Path(file),)
        for code in source.languages if len(set(source.languages)) > 1 else ():
            if _plain_name(file).endswith(f".{code}"):
                group = _moses_files(_plain_name(file).removesuffix(f".{code}"), source.languages)
        groups[group] = None
    for group in groups:
        for file in group:
            if not file.is_file():
                raise UserError(f"source {source}: {file} is missing beside the other languages")
    return list(groups)


def _moses_files(stem: str, languages: Sequence[str]) -> tuple[Path, ...]:
    files = []
    for code in languages:
        plain, packed = Path(f"{stem}.{code}"), Path(f"{stem}.{code}.gz")
        files.append(packed if packed.is_file() and not plain.is_file() else plain)
    return tuple(files)


@contextlib.contextmanager
def _open(path: Path) -> Iterator[BinaryIO]:
    """Opens `path` to read bytes; what starts like gzip is decompressed."""
    try:
        with open(path, "rb") as file:
            if file.peek(2)[:2] == b"\x1f\x8b":
                yield io.BufferedReader(gzip.GzipFile(fileobj=file), 1 << 18)
            else:
                yield file
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise UserError(f"{path} is a damaged gzip file ({error}); fetch it again") from None
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from None


def _lines(path: Path, problems: Problems) -> Iterator[str | None]:
    """Yields the lines of a text file without their ends; None for a line that is no text."""
    with _open(path) as file:
        number = 0
        while raw := file.readline(_LINE_LIMIT):
            number += 1
            if number == 1:
                raw = raw.removeprefix(b"\xef\xbb\xbf")
            if len(raw) == _LINE_LIMIT and raw[-1:] != b"\n":
                problems.add("line longer than 1 MiB", f"{path}:{number}")
                while (rest := file.readline(_LINE_LIMIT)) and rest[-1:] != b"\n":
                    pass
                line = None
            elif b"\0" in raw:
                problems.add("NUL byte (UTF-16?)", f"{path}:{number}")
                line = None
            else:
                try:
                    line = raw.decode().rstrip("\r\n")
                except UnicodeDecodeError:
                    problems.add("invalid UTF-8", f"{path}:{number}")
                    line = None
            yield line


def read_tsv(path: Path, columns: int, problems: Problems) -> Iterator[tuple[str, ...]]:
    """Yields the first `columns` columns of a tab-separated file."""
    for number, line in enumerate(_lines(path, problems), 1):
        if line is None:
            continue
        row = line.split("\t", columns)
        if len(row) >= columns:
            yield tuple(row[:columns])
        else:
            reason = f"{len(row)} of {columns} columns" if line else "empty line"
            problems.add(reason, f"{path}:{number}")


def labelled_columns(header: Sequence[str]) -> list[int] | None:
    """Columns of the label and of both sentences, where the first line of a file names them."""
    names = [name.strip().lower() for name in header]
    label = next((i for i, name in enumerate(names) if name in _LABEL_COLUMNS), None)
    if label is None:
        return None
    texts = [i for i, name in enumerate(names) if name in _TEXT_COLUMNS]
    if len(texts) != 2:
        texts = [i for i in range(len(names)) if i != label][:2]
    return [label, *texts]


def label_number(label: str, rows: Rows, place: str) -> str | None:
    """A label or score as a number, written out; None where annotators agreed on no label.

    Raises:
      UserError: it is neither.
    """
    label = label.strip()
    if rows == "scores":
        try:
            if 0 <= float(label) < math.inf:
                return str(float(label))
        except ValueError:
            pass
        raise UserError(
            f"{place}: {label!r} is no score, a number from 0 upwards; the columns are score, "
            "sentence, sentence"
        )
    label = {"contradictory": "contradiction"}.get(label, label)
    if label == "-":
        return None
    if label not in LABELS:
        raise UserError(
            f"{place}: {label!r} is no label; they are {', '.join(LABELS)}, and the columns are "
            "label, sentence, sentence, unless the first line names them"
        )
    return str(LABELS.index(label))


def read_labelled(path: Path, rows: Rows, problems: Problems) -> Iterator[tuple[str, str, str]]:
    """Yields (sentence, sentence, number) from lines `label<TAB>sentence<TAB>sentence`.

    The first line may name the columns (gold_label, sentence1, ...), which then stand in any order.

    Raises:
      UserError: something stands for a label that is none.
    """
    order = [0, 1, 2]
    for number, line in enumerate(_lines(path, problems), 1):
        if line is None:
            continue
        place, row = f"{path}:{number}", line.split("\t")
        if number == 1 and (named := labelled_columns(row)):
            order = named
        elif len(row) <= max(order):
            reason = f"{len(row)} of {max(order) + 1} columns" if line else "empty line"
            problems.add(reason, place)
        else:
            label, first, second = (row[i] for i in order)
            value = label_number(label, rows, place)
            if value is None:
                problems.add("no agreed label", place)
            else:
                yield first, second, value


def read_running(path: Path, problems: Problems) -> Iterator[tuple[str, str, str]]:
    """Yields every three sentences that stand in a row within a document of running text.

    In a `.tsv` file every line is a document, its last column. In any other, a blank line ends a
    document, and the lines in between belong together.
    """
    for document in _documents(path, problems):
        found = sentences(document)
        yield from zip(found, found[1:], found[2:], strict=False)


def _documents(path: Path, problems: Problems) -> Iterator[str]:
    lines = _lines(path, problems)
    if _plain_name(path).endswith(".tsv"):
        yield from (line.rpartition("\t")[2] for line in lines if line)
        return
    block, length = [], 0
    for line in itertools.chain(lines, [None]):
        if line and line.strip() and length < _LINE_LIMIT:
            block.append(line.strip())
            length += len(line)
        elif block:
            yield " ".join(block)
            block, length = ([line.strip()], len(line)) if line and line.strip() else ([], 0)


def read_moses(paths: Sequence[Path], problems: Problems) -> Iterator[tuple[str, ...]]:
    """Yields line n of every file, for every n; UserError if one file ends before the others."""
    readers = [_lines(path, problems) for path in paths]
    end = object()
    number = 0
    while True:
        row = tuple(next(reader, end) for reader in readers)
        ended = [path for path, line in zip(paths, row, strict=True) if line is end]
        if len(ended) == len(paths):
            return
        if ended:
            others = [path for path in paths if path not in ended]
            raise UserError(
                f"{ended[0]} ends after line {number}, before {' and '.join(map(str, others))};"
                " all must have the same number of lines, for line n is the translation of line n"
            )
        number += 1
        if None not in row:
            yield row


class _TmxHandler(xml.sax.handler.ContentHandler):
    """Collects finished units in `rows`; keeps no more than one unit in memory."""

    # Elements inside a segment that hold codes of the original format, not words.
    _CODES = frozenset(["bpt", "ept", "it", "ph", "ut"])

    def __init__(self, parser: Any, languages: Sequence[str], path: Path, problems: Problems):
        super().__init__()
        self.rows = []
        self.events = 0
        self._parser = parser
        self._codes = [language_tag(code) for code in languages]
        self._path, self._problems = path, problems
        self._sides = [None] * len(languages)
        self._side = None  # of the <tuv> being read
        self._text = None  # pieces of the <seg> being read
        self._length = 0
        self._depth = self._hidden = 0  # of elements, and of those inside codes

    def startElement(self, name, attrs):
        self.events += 1
        self._depth += 1
        if self._depth > _DEPTH_LIMIT:
            raise UserError(f"{self._path} is no TMX: it nests more than {_DEPTH_LIMIT} elements")
        if name == "tu":
            self._sides = [None] * len(self._codes)
        elif name == "tuv":
            self._text = None
            tag = language_tag(attrs.get("xml:lang") or attrs.get("lang") or "")
            free = (i for i, side in enumerate(self._sides) if side is None)
            self._side = next((i for i in free if _speaks(tag, self._codes[i])), None)
        elif name == "seg" and self._side is not None:
            self._text, self._length, self._hidden = [], 0, 0
        elif self._text is not None and (self._hidden or name in self._CODES):
            self._hidden += 1

    def characters(self, content):
        self.events += 1
        if self._text is not None and not self._hidden and self._length < _SEGMENT_LIMIT:
            self._text.append(content)
            self._length += len(content)

    def endElement(self, name):
        self._depth -= 1
        if name == "seg" and self._text is not None:
            self._sides[self._side] = "".join(self._text)
            self._text = self._side = None
        elif name == "tu":
            if None in self._sides:
                place = f"{self._path}:{self._parser.getLineNumber()}"
                self._problems.add("unit without all languages", place)
            else:
                self.rows.append(tuple(self._sides))
        elif self._text is not None and self._hidden:
            self._hidden -= 1


def language_tag(code: str) -> str:
    """Returns a language code as it is compared with others: `zh-hant` for `zh_Hant`."""
    return code.replace("_", "-").lower()


def _speaks(tag: str, code: str) -> bool:
    """Whether `tag` is `code` or a variety of it, as en-us is of en."""
    return tag == code or tag.startswith(f"{code}-")


def read_tmx(path: Path, languages: Sequence[str], problems: Problems) -> Iterator[tuple[str, ...]]:
    """Yields the translation units of a TMX file that have a segment in all `languages`.

    Of several segments in one language the first counts. Codes of the original format inside a
    segment (<bpt>, <ept>, <it>, <ph>, <ut>) are left out, the text inside <hi> stays. A file that
    defines entities, from within or from other files, is refused.
    """
    parser = defusedxml.sax.make_parser()
    parser.forbid_external = False  # <!DOCTYPE tmx SYSTEM "tmx14.dtd"> is usual; nothing is fetched
    handler = _TmxHandler(parser, languages, path, problems)
    parser.setContentHandler(handler)
    quiet, events = 0, 0
    try:
        with _open(path) as file:
            while chunk := file.read(1 << 16):
                parser.feed(chunk)
                yield from handler.rows
                handler.rows.clear()
                quiet = quiet + len(chunk) if handler.events == events else 0
                events = handler.events
                if quiet > _TOKEN_LIMIT:
                    raise UserError(f"{path} is no TMX: a tag or comment longer than 1 MiB")
            parser.close()
        yield from handler.rows
    except xml.sax.SAXParseException as error:
        raise UserError(
            f"{path}:{error.getLineNumber()} is not well-formed XML: {error.getMessage()}"
        ) from None
    except defusedxml.DefusedXmlException:
        raise UserError(
            f"{path} defines entities of its own, which is refused; if you trust it, expand"
            " them first: `xmllint --noent`"
        ) from None
    except (ValueError, LookupError) as error:  # an encoding that expat does not know
        raise UserError(f"{path} cannot be read as XML: {error}") from None


def _tfds_parts(source: Source) -> re.Match[str]:
    match = _TFDS.fullmatch(source.path)
    if not match:
        raise UserError(
            f"source {source}: write tfds:NAME/CONFIG, tfds:NAME/CONFIG:SPLIT or, to name the text"
            " fields, tfds:NAME/CONFIG:SPLIT#FIELD,FIELD"
        )
    return match


@contextlib.contextmanager
def _tfds_errors(source: Source) -> Iterator[None]:
    """Turns what tensorflow-datasets raises into UserErrors that say what to do."""
    name = _tfds_parts(source)["name"]
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
        message = str(error).strip().split("\n")[0]
        raise UserError(f"source {source}: tensorflow-datasets says: {message}") from error


def _tfds_builder(source: Source) -> Any:
    """Returns the builder of a tensorflow-datasets source, with its array_record files prepared."""
    import tensorflow_datasets as tfds  # a third of a second, and few need it
    import tensorflow_datasets.text  # registers snli and multi_nli
    import tensorflow_datasets.translate  # registers wmt and flores

    name = _tfds_parts(source)["name"]
    with _tfds_errors(source):
        builder = tfds.builder(name, file_format="array_record")
        builder.download_and_prepare(
            download_config=tfds.download.DownloadConfig(try_download_gcs=False)
        )
    return builder


def _tfds_files(source: Source) -> list[Path]:
    folder = Path(_tfds_builder(source).data_dir)
    return sorted(path for path in folder.glob("*") if path.is_file())


def read_tfds(
    source: Source, problems: Problems, rows: Rows = "pairs"
) -> Iterator[tuple[str, ...]]:
    """Yields the rows of a dataset of tensorflow-datasets; TensorFlow is not imported."""
    parts = _tfds_parts(source)
    builder = _tfds_builder(source)
    features, fields = builder.info.features, parts["fields"]
    label = _tfds_label(source, features, rows) if rows in ("labels", "scores") else None
    if label:
        known = [f"{a},{b}" for a, b in _TEXT_FIELDS if a in features and b in features]
        fields = fields or next(iter(known), None)
    sides = _tfds_sides(source, features, fields)
    with _tfds_errors(source):
        examples = builder.as_data_source(split=parts["split"] or "train")
    for number in range(len(examples)):
        with _tfds_errors(source):
            example = examples[number]
        try:
            row = tuple(t.decode() if isinstance(t, bytes) else t for t in sides(example))
        except UnicodeDecodeError:
            problems.add("invalid UTF-8", f"{source.path}:{number}")
            continue
        if None in row:
            problems.add("example without all languages", f"{source.path}:{number}")
        elif not label:
            yield row
        elif (value := label(example, f"{source.path}:{number}")) is None:
            problems.add("no agreed label", f"{source.path}:{number}")
        else:
            yield *row, value


def _tfds_label(source: Source, features: Any, rows: Rows) -> Callable[[Any, str], str | None]:
    """Returns the function that takes the number of an example's label out of it."""
    from tensorflow_datasets import features as kinds

    if not isinstance(features, kinds.FeaturesDict) or "label" not in features:
        raise UserError(f"source {source}: its examples have no field named label")
    names = getattr(features["label"], "names", None) if rows == "labels" else None

    def number(example: Any, place: str) -> str | None:
        value = example["label"]
        if names:
            value = names[value] if value >= 0 else "-"
        return label_number(str(value), rows, place)

    return number


def _tfds_sides(
    source: Source, features: Any, fields: str | None
) -> Callable[[Any], Sequence[bytes | str | None]]:
    """Returns the function that takes the sentences of all languages out of an example."""
    from tensorflow_datasets import features as kinds

    codes = [language_tag(code) for code in source.languages]
    if not isinstance(features, kinds.FeaturesDict):
        raise UserError(f"source {source}: its examples have no named fields")
    if not (fields or isinstance(features, kinds.Translation)):
        for key, feature in features.items():
            if isinstance(feature, kinds.Translation):
                inner = _tfds_sides(source, feature, None)
                return lambda example: inner(example[key])
            if isinstance(feature, kinds.TranslationVariableLanguages):
                return lambda example: _variable_sides(example[key], codes)
    texts = [key for key, feature in features.items() if isinstance(feature, kinds.Text)]
    if fields:
        keys = fields.split(",")
    else:
        keys = [next((k for k in texts if _speaks(language_tag(k), code)), None) for code in codes]
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
    """Returns the first sentence of each language, None for a language that is missing."""
    tags = [tag.decode() if isinstance(tag, bytes) else tag for tag in example["language"]]
    found = dict(
        zip(map(language_tag, reversed(tags)), reversed(example["translation"]), strict=True)
    )
    return [
        found.get(code, next((text for tag, text in found.items() if _speaks(tag, code)), None))
        for code in codes
    ]
