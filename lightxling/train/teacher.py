"""The frozen teacher of soft labels and regression: any function from sentences to vectors.

It is a model of sentence-transformers, a run or export of lightxling, or a matrix on disk. It is
asked once for every distinct training sentence that an objective reads; training itself only looks
its vectors up.
"""

import functools
import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from lightxling.base.errors import UserError, first_line
from lightxling.base.extras import require
from lightxling.base.files import file_sha256
from lightxling.base.lines import Lines, Problems
from lightxling.base.places import locate
from lightxling.base.shapes import Float, Int
from lightxling.base.vectors import Encode, map_array
from lightxling.config.objectives import ObjectivesConfig
from lightxling.config.schema import Config
from lightxling.corpus.cleaning import clean
from lightxling.corpus.sources import Source
from lightxling.corpus.store import Store
from lightxling.corpus.vectors import FrozenEncoder, SentenceVectors, prepare_vectors
from lightxling.encode.encoder import Encoder
from lightxling.saved import bundle as bundles


class Pivots(NamedTuple):
    """The teacher's vectors of the development pairs' pivots."""

    side: Int[np.ndarray, " N"]
    vectors: Float[np.ndarray, "N T"]


def read_sides(objectives: ObjectivesConfig, pivot: int) -> set[int]:
    """The sides of a pair whose teacher vectors the objectives read, given the pair's pivot."""
    return set().union(*(term.taught_sides(pivot) for term in objectives.active().values()))


def find_teacher(config: Config) -> FrozenEncoder | None:
    """The teacher of a run, checked before anything expensive; None if no objective has one.

    Raises:
      UserError: it or its extra is missing, it is damaged, or does not know a language.
    """
    if not config.objectives.taught:
        return None
    sources = [Source.parse(text) for text in config.corpus.sources]
    for source in sources:
        if len(source.languages) != 2:
            raise UserError(f"a teacher takes pairs of languages; corpus.sources has {source}")
    asked = {
        source.languages[side] for source in sources for side in _sides(config, source.languages)[1]
    }
    teacher = _find(config)
    unknown = sorted(asked - set(teacher.languages))
    if teacher.languages and unknown:
        raise UserError(
            f"the teacher {config.teacher.source} was trained on {', '.join(teacher.languages)}, "
            f"and is asked for {', '.join(unknown)}; change teacher.priority or "
            "objectives.soft.labels"
        )
    if config.objectives.pivot.weight and teacher.width not in (0, config.model.width):
        raise UserError(
            f"objectives.pivot compares vectors of width model.width={config.model.width} with "
            f"those of {config.teacher.source}, which have {teacher.width}; they must be as wide"
        )
    return teacher


def pivot(languages: Sequence[str], priority: Sequence[str]) -> int:
    """The side whose language comes first in the priority list.

    Raises:
      UserError: none of the languages is in the list.
    """
    ranks = [priority.index(code) if code in priority else len(priority) for code in languages]
    if min(ranks) == len(priority):
        raise UserError(
            f"teacher.priority={' '.join(priority)} has neither language of {'-'.join(languages)}; "
            "add the one that the teacher knows best"
        )
    return int(np.argmin(ranks))


def _sides(config: Config, languages: Sequence[str]) -> tuple[int, set[int]]:
    """The pivot of a language pair (0 where none counts), and the sides that are read."""
    terms = config.objectives.active().values()
    counts = any(term.taught_sides(0) != term.taught_sides(1) for term in terms)
    side = pivot(languages, config.teacher.priority) if counts else 0
    return side, read_sides(config.objectives, side)


def sentence_vectors(
    config: Config, store: Store, teacher: FrozenEncoder, *, progress: Callable[[str], None] = print
) -> SentenceVectors:
    """The teacher's vectors of a store's training sentences, computed where they are not on disk.

    Only the sides that the objectives read are computed.

    Raises:
      UserError: see `corpus.vectors.prepare_vectors`.
    """
    pivots = np.zeros(len(store.groups), int)
    wanted = np.zeros((len(store.groups), 2), bool)
    for number, group in enumerate(store.groups):
        if group["rows"]:  # the others are for the dev score
            pivots[number], sides = _sides(config, group["languages"])
            wanted[number, list(sides)] = True
    identity = {
        "teacher": {"sha256": teacher.sha256, "prefix": config.teacher.prefix},
        "wanted": wanted.astype(int).tolist(),
    }
    load = functools.partial(_prefixed, teacher.load, config.teacher.prefix)
    return prepare_vectors(
        config,
        store,
        identity=identity,
        wanted=wanted,
        pivot=pivots,
        load=load,
        progress=progress,
    )


def dev_pivots(config: Config, store: Store, teacher: FrozenEncoder) -> Pivots:
    """The teacher's vectors of one side of every development pair; the other is ranked with it."""
    sides = np.array([_sides(config, group["languages"])[0] for group in store.groups])
    side = sides[store.dev.group]
    texts = [row[i] for row, i in zip(store.dev.texts(), side, strict=True)]
    encode = _prefixed(teacher.load, config.teacher.prefix)
    return Pivots(side, np.asarray(encode(texts), np.float32))


def dev_vectors(config: Config, store: Store, teacher: FrozenEncoder) -> SentenceVectors:
    """The teacher's vectors of the development pairs, of the sides that the objectives read."""
    chosen = [_sides(config, group["languages"]) for group in store.groups]
    group, index, texts = store.dev.group, np.full((store.dev.rows, 2), -1, np.int32), []
    for row, sentences in enumerate(store.dev.texts()):
        for side in chosen[group[row]][1]:
            index[row, side] = len(texts)
            texts.append(sentences[side])
    vectors = np.asarray(_prefixed(teacher.load, config.teacher.prefix)(texts), np.float32)
    pivots = np.array([side for side, _ in chosen], np.int32)
    return SentenceVectors(vectors, index, pivots[group], {})


def _prefixed(load: Callable[[], Encode], prefix: str) -> Encode:
    encode = load()
    return lambda sentences: encode([prefix + text for text in sentences])


def _find(config: Config) -> FrozenEncoder:
    settings = config.teacher
    source = Path(settings.source)
    if settings.source and not source.exists():
        source = locate(source)
    kinds = "a folder of sentence-transformers, a run or export of lightxling, or a matrix .npy"
    if not settings.source:
        raise UserError(
            f"objectives.{' and '.join(config.objectives.taught)}: a teacher is needed; set "
            f"teacher.source to {kinds}"
        )
    if not source.exists():
        raise UserError(
            f"teacher.source={source} does not exist; give {kinds}. Nothing is fetched from "
            "elsewhere"
        )
    if source.suffix == ".npy":
        matrix, text = _open_matrix(source, Path(settings.text)), Path(settings.text)
        digest = hashlib.sha256(f"{file_sha256(source)} {file_sha256(text)}".encode())
        load = functools.partial(_matrix, matrix, text, config.corpus.unescape)
        return FrozenEncoder(digest.hexdigest(), load, width=matrix.shape[1])
    if (source / "modules.json").is_file():
        digest = hashlib.sha256()
        for file in sorted(path for path in source.rglob("*") if path.is_file()):
            digest.update(f"{file.relative_to(source).as_posix()} {file_sha256(file)}\n".encode())
        teacher = FrozenEncoder(
            digest.hexdigest(), functools.partial(_sentence_transformers, source)
        )
        if not _has_computed(teacher, Path(config.corpus.store)):
            require(f"the teacher {source}", "sentence_transformers")
        return teacher
    if not source.is_dir():
        raise UserError(f"teacher.source={source} is a file of another kind; give {kinds}")
    bundle = bundles.load_bundle(source)

    def load() -> Encode:
        return functools.partial(Encoder(bundle).encode, normalize=False)

    return FrozenEncoder(bundle.fingerprint(), load, bundle.languages, bundle.dimension)


def _has_computed(teacher: FrozenEncoder, stores: Path) -> bool:
    """Whether vectors of the teacher are on disk, so that it may not be needed any more."""
    manifests = stores.glob("*-teacher-*/manifest.json")
    return any(teacher.sha256 in manifest.read_text("utf-8") for manifest in manifests)


def _sentence_transformers(folder: Path) -> Encode:
    try:
        from sentence_transformers import SentenceTransformer

        model = SentenceTransformer(str(folder), local_files_only=True)
    except (ImportError, OSError, ValueError, KeyError) as error:
        raise UserError(
            f"teacher.source={folder} cannot be loaded by sentence-transformers: "
            f"{first_line(error)}"
        ) from error
    return functools.partial(
        model.encode, batch_size=64, convert_to_numpy=True, show_progress_bar=False
    )


def _open_matrix(path: Path, text: Path) -> np.ndarray:
    """A matrix [N, T] of the vectors of the N lines of a text."""
    try:
        matrix = map_array(path)
    except (OSError, ValueError) as error:
        raise UserError(f"teacher.source={path} is not an array of numpy: {error}") from None
    if matrix.ndim != 2 or matrix.dtype.kind != "f":
        raise UserError(
            f"teacher.source={path} has shape {matrix.shape} and type {matrix.dtype}; it should be "
            "a matrix of floats, one row a sentence"
        )
    with Lines.open(text) as lines:
        count = sum(1 for _ in lines)
    if count != len(matrix):
        raise UserError(
            f"teacher.source={path} has {len(matrix):,} rows and teacher.text={text} has "
            f"{count:,} lines; row i must be the vector of line i"
        )
    return matrix


def _matrix(matrix: np.ndarray, text: Path, unescape: bool) -> Encode:
    """Looks sentences up in a matrix; they are compared as the corpus has them, cleaned."""
    rows: dict[bytes, int] = {}
    problems = Problems()
    with Lines.open(text) as lines:
        for row, line in enumerate(lines):
            first = rows.setdefault(_digest(clean(line, unescape=unescape)), row)
            if first != row and not np.array_equal(matrix[first], matrix[row]):
                problems.add("an earlier line has the text and another vector", f"{text}:{row + 1}")
    problems.warn("vectors left out")

    def encode(sentences: Sequence[str]) -> np.ndarray:
        missing = [sentence for sentence in sentences if _digest(sentence) not in rows]
        if missing:
            raise UserError(
                f"{len(missing):,} of {len(sentences):,} sentences of the corpus are missing in "
                f"teacher.text={text}, such as {missing[0][:80]!r}; the matrix must have a vector "
                "of every sentence on the sides that the objectives read"
            )
        return matrix[[rows[_digest(sentence)] for sentence in sentences]]

    return encode


def _digest(text: str) -> bytes:
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()
