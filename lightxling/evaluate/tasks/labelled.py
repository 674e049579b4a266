"""Classification and natural language inference: a head sees one language, others are tested."""

import dataclasses
import functools
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from jaxtyping import Int

from lightxling.base.errors import UserError, at_least
from lightxling.base.languages import CODE
from lightxling.base.lines import plain_name
from lightxling.base.vectors import Encode, normalize
from lightxling.corpus import readers
from lightxling.evaluate.tasks.units import (
    TaskSettings,
    Unit,
    constant,
    files_in,
    is_new,
    of_sides,
    rows_of,
)

LANGUAGE_NAMES = {
    "english": "en",
    "german": "de",
    "spanish": "es",
    "french": "fr",
    "italian": "it",
    "japanese": "ja",
    "russian": "ru",
    "chinese": "zh",
}
"""Languages of MLDoc as its files spell them."""


@dataclasses.dataclass(frozen=True)
class HeadSettings(TaskSettings):
    head: Literal["mlp", "logistic"] = "mlp"
    """Classification: the LASER perceptron, or logistic regression with C chosen on dev."""
    train_language: str = "en"
    """Classification and NLI: the language that the head is trained and selected on."""
    seeds: int = 5
    """Classification and NLI: heads trained, for mean and spread."""
    epochs: int = 0
    """Classification and NLI: passes over the training data; 0: as published (500 and 200)."""
    few_shot: float = 0.0
    """Classification and NLI: share of the training examples in the tested language that the head
    is trained on as well; without a training file in that language, half of its tested examples
    serve as one."""

    def __post_init__(self):
        at_least(self, "seeds", 1)
        at_least(self, "epochs", 0)
        if not 0 <= self.few_shot <= 1:
            raise UserError(f"--few-shot {self.few_shot} should be a share, from 0 to 1")
        super().__post_init__()


@dataclasses.dataclass(frozen=True)
class ClassificationSettings(HeadSettings):
    documents: Literal["sentences", "whole"] = "sentences"
    """Classification: a document is the mean of its sentences' vectors, or one cut-off sequence."""


@dataclasses.dataclass(frozen=True)
class _Labelled:
    """The files of one data set, by split and language."""

    name: str
    files: dict[tuple[str, str], Path]

    def languages(self, split: str) -> list[str]:
        return sorted(language for part, language in self.files if part == split)


def find_classification(data: Sequence[str], settings: ClassificationSettings) -> list[Unit]:
    """`NAME.train.en.tsv`, `NAME.dev.fr.tsv`, `NAME.test.fr.tsv`: `label<TAB>text` each."""
    return _find_labelled(data, settings, 2, functools.partial(_document_vectors, strip=False))


def find_mldoc(data: Sequence[str], settings: ClassificationSettings) -> list[Unit]:
    """MLDoc: `english.train.1000`, `english.dev`, `french.test`, or `mldoc.train1000.en` etc."""
    return _find_labelled(data, settings, 2, functools.partial(_document_vectors, strip=True))


def find_nli(data: Sequence[str], settings: HeadSettings) -> list[Unit]:
    """`NAME.train.en.tsv` and so on: `label<TAB>premise<TAB>hypothesis`."""
    if settings.head != "mlp":
        raise UserError("--head logistic is not defined for nli; leave it out")
    return _find_labelled(data, settings, 3, _premises_and_hypotheses)


def sentences(document: str) -> list[str]:
    """Cuts a document after full stops, question and exclamation marks; never returns nothing."""
    parts = re.split(r"(?<=[.!?])\s+|(?<=[。！？।])\s*", document)
    return [part.strip() for part in parts if part.strip()] or [document]


def _document_vectors(
    encode: Encode, texts, settings: ClassificationSettings, strip: bool
) -> np.ndarray:
    """[N, D]: means over the sentences of each document, or one vector of the whole."""
    documents = [text for (text,) in texts]
    if strip:
        documents = [re.sub(r"\(c\) Reuters Limited \d{4}", " ", text) for text in documents]
    if settings.documents == "whole":
        return encode(documents)
    parts = [sentences(document) for document in documents]
    vectors = encode([sentence for part in parts for sentence in part])
    counts = np.array([len(part) for part in parts])
    starts = np.cumsum(counts) - counts
    return np.add.reduceat(vectors, starts, axis=0) / counts[:, None]


def _premises_and_hypotheses(encode: Encode, texts, settings: HeadSettings):
    """Two arrays [N, D] of unit vectors."""
    return tuple(normalize(encode([row[side] for row in texts])) for side in (0, 1))


def _find_labelled(data, settings: HeadSettings, columns: int, vectors) -> list[Unit]:
    """Units of test languages; they share one training of the heads."""
    sets: dict[str, dict[tuple[str, str], Path]] = {}
    for entry in data:
        for file in files_in(Path(entry)):
            if parts := _split_and_language(file.name):
                name, split, language = parts
                dataset = name or file.absolute().parent.name
                what = f"{dataset} {split} {language}"
                is_new(sets.setdefault(dataset, {}), (split, language), file, what)
    units = []
    for name, files in sets.items():
        labelled = _Labelled(name, files)
        units += _labelled_units(labelled, settings, columns, vectors)
    if not units:
        names = ", ".join(data)
        raise UserError(
            f"{names} holds no files named like NAME.train.{settings.train_language}.tsv and "
            "NAME.test.fr.tsv"
        )
    return units


def _labelled_units(labelled: _Labelled, settings: HeadSettings, columns: int, vectors):
    home = settings.train_language
    train = labelled.files.get(("train", home))
    if train is None:
        has = ", ".join(labelled.languages("train")) or "none"
        raise UserError(
            f"{labelled.name} has no training file in {home} (training languages: {has}); "
            "choose with --train-language"
        )
    tested = "test" if labelled.languages("test") else "dev"
    dev = labelled.files.get(("dev", home)) if tested == "test" else None
    trained = {}

    def heads(encode: Encode):
        if encode not in trained:
            trained.clear()
            examples = _head_examples(train, dev, columns, vectors, settings, encode)
            trained[encode] = examples, _fit_heads(examples, columns, settings)
        return trained[encode]

    def run(path: Path, more: Path | None, language: str, encode: Encode) -> dict[str, Any]:
        from lightxling.evaluate import classification  # jax

        at_home, encode = of_sides(encode, (home, language))
        examples, fitted = heads(at_home)
        classes, count, scores, about = examples.classes, len(examples.labels), {}, {}
        labels, texts = _labelled_rows(path, columns)
        gold = _numbered(labels, classes, path, train)
        few = bool(settings.few_shot) and language != home
        if few:
            pool, pool_gold = texts, gold
            if more:
                labels, pool = _labelled_rows(more, columns)
                pool_gold = _numbered(labels, classes, more, train)
            shots, left = few_shots(len(pool), settings.few_shot, is_training_file=bool(more))
            shown, shown_gold = [pool[row] for row in shots], pool_gold[shots]
            if not more:
                texts, gold = [texts[row] for row in left], gold[left]
        inputs = vectors(encode, texts, settings)
        if few:
            zero_shot = classification.score(fitted.predict(inputs), gold, len(classes))
            scores["zero_shot_accuracy"] = 100 * zero_shot.accuracy
            about["few_shot"] = f"{len(shots)} of {(more or path).name}"
            if len(shots):
                examples = examples.with_more(vectors(encode, shown, settings), shown_gold)
                fitted = _fit_heads(examples, columns, settings)
        predicted = fitted.predict(inputs)
        result = classification.score(predicted, gold, len(classes))
        return {
            "scores": {
                "accuracy": 100 * result.accuracy,
                "accuracy_sd": 100 * result.accuracy_sd,
                "macro_f1": 100 * result.macro_f1,
                "macro_f1_sd": 100 * result.macro_f1_sd,
                **scores,
            },
            "accuracies": [100 * value for value in result.accuracies],
            "documents": result.documents,
            "classes": classes,
            "confusion": result.confusion,
            "trained_on": f"{count} of {train.name}",
            "selected_on": examples.selected_on,
            "dev_accuracies": [100 * float(value) for value in fitted.dev_accuracy],
            **about,
        }

    units = []
    for language in labelled.languages(tested):
        path, more = labelled.files[tested, language], None
        if settings.few_shot:
            more = labelled.files.get(("train", language))
        files = constant(file for file in (train, dev, path, more) if file)
        unit_run = functools.partial(run, path, more, language)
        units.append(Unit(labelled.name, language, (language,), files, unit_run))
    return units


def few_shots(
    rows: int, share: float, is_training_file: bool
) -> tuple[Int[np.ndarray, " _"], Int[np.ndarray, " _"]]:
    """Rows that a head is trained on, and rows that are left for its test.

    Of a tested file, half is never trained on. A larger share holds the rows of a smaller one.
    """
    order = np.random.default_rng(0).permutation(rows)
    pool, tested = (order, order[:0]) if is_training_file else np.split(order, [rows // 2])
    return pool[: round(share * len(pool))], np.sort(tested)


class _Examples(NamedTuple):
    """What a head is trained and selected on: vectors (an array, or several) and classes."""

    classes: list[str]
    inputs: Any
    labels: np.ndarray
    dev_inputs: Any
    dev_labels: np.ndarray
    selected_on: str

    def with_more(self, inputs, labels: np.ndarray) -> "_Examples":
        """With further training examples."""
        if isinstance(inputs, tuple):
            inputs = tuple(map(np.concatenate, zip(self.inputs, inputs, strict=True)))
        else:
            inputs = np.concatenate([self.inputs, inputs])
        return self._replace(inputs=inputs, labels=np.concatenate([self.labels, labels]))


def _numbered(labels: list[str], classes: list[str], path: Path, train: Path) -> np.ndarray:
    """Numbers of the classes; refuses labels that the training file does not have."""
    strange = sorted(set(labels) - set(classes))
    if strange:
        raise UserError(
            f"{path}: label {strange[0]!r} does not occur in {train}, which has "
            f"{', '.join(classes)}"
        )
    return np.array([classes.index(label) for label in labels])


def _head_examples(
    train: Path, dev: Path | None, columns, vectors, settings: HeadSettings, encode
) -> _Examples:
    labels, texts = _labelled_rows(train, columns)
    classes = sorted(set(labels))
    if len(classes) < 2:
        raise UserError(f"{train} has one label only, {classes[0]!r}: nothing to tell apart")
    gold = _numbered(labels, classes, train, train)
    inputs = vectors(encode, texts, settings)
    if dev is not None:
        dev_labels, dev_texts = _labelled_rows(dev, columns)
        dev_gold = _numbered(dev_labels, classes, dev, train)
        dev_inputs = vectors(encode, dev_texts, settings)
        return _Examples(classes, inputs, gold, dev_inputs, dev_gold, dev.name)
    order = np.random.default_rng(0).permutation(len(gold))
    kept, held = order[len(gold) // 10 :], order[: max(len(gold) // 10, 1)]
    empty = sorted(set(classes) - {classes[i] for i in gold[kept]})
    if empty:
        raise UserError(
            f"{train}: label {empty[0]!r} has too few documents to hold a tenth of them out; "
            f"give a development file in {settings.train_language}"
        )

    def part(rows):
        if isinstance(inputs, tuple):
            return tuple(array[rows] for array in inputs)
        return inputs[rows]

    selected_on = f"a tenth of {train.name}"
    return _Examples(classes, part(kept), gold[kept], part(held), gold[held], selected_on)


def _fit_heads(examples: _Examples, columns: int, settings: HeadSettings):
    from lightxling.evaluate import classification  # jax

    classes, *data, _ = examples
    if settings.head == "logistic":
        return classification.fit_logistic(*data, classes=len(classes))
    head = classification.NLI if columns == 3 else classification.LASER
    if settings.epochs:
        head = dataclasses.replace(head, epochs=settings.epochs)
    return classification.fit_mlp(
        *data, classes=len(classes), seeds=range(settings.seeds), head=head
    )


def _split_and_language(name: str) -> tuple[str, str, str] | None:
    """(data set, train/dev/test, language) of a file name such as `mldoc.train1000.en.tsv.gz`."""
    parts = plain_name(name).removesuffix(".tsv").removesuffix(".txt").split(".")
    split = language = None
    rest = []
    for part in parts:
        if split is None and (match := re.fullmatch(r"(train|dev|valid|test)(ing)?\d*", part)):
            split = {"valid": "dev"}.get(match[1], match[1])
        elif language is None and part.lower() in LANGUAGE_NAMES:
            language = LANGUAGE_NAMES[part.lower()]
        elif language is None and split and re.fullmatch(CODE, part):
            language = part
        elif not part.isdecimal():
            rest.append(part)
    return (".".join(rest), split, language) if split and language else None


def _labelled_rows(path: Path, columns: int) -> tuple[list[str], list[tuple[str, ...]]]:
    """Labels and texts of a file; a first line that names its columns says where they stand."""
    order = range(columns)
    rows = rows_of(path, columns)
    if columns == 3 and (named := readers.labelled_columns(rows[0])):
        order, rows = named, rows[1:]
    labels = [row[order[0]].strip() for row in rows]
    if "" in labels:
        raise UserError(f"{path}: row {labels.index('') + 1} has an empty label")
    if columns == 3:
        labels = [{"contradictory": "contradiction"}.get(label, label) for label in labels]
    return labels, [tuple(row[i] for i in order[1:]) for row in rows]
