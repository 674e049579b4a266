"""Classification and natural language inference: a head sees one language, others are tested."""

import dataclasses
import functools
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from lightxling.base.errors import UserError, at_least
from lightxling.base.languages import CODE, is_code
from lightxling.base.shapes import Int
from lightxling.base.unpacking import plain_name
from lightxling.base.vectors import Encode, normalize
from lightxling.corpus import readers
from lightxling.corpus.sources import NLI_LABELS
from lightxling.evaluate.tasks.units import (
    TaskSettings,
    Unit,
    constant,
    files_of,
    is_new,
    of_sides,
    tab_rows,
)

_NAMES = "english:en german:de spanish:es french:fr italian:it japanese:ja russian:ru chinese:zh"
LANGUAGE_NAMES = dict(pair.split(":") for pair in _NAMES.split())
"""Languages of MLDoc as its files spell them."""


@dataclasses.dataclass(frozen=True)
class HeadSettings(TaskSettings):
    head: Literal["mlp", "logistic", "trained"] = "mlp"
    """Classification: the LASER perceptron, or logistic regression with C chosen on dev. NLI: that
    perceptron, or the head that the run itself has trained (objective inference)."""
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
        if not is_code(self.train_language):
            raise UserError(f"--train-language {self.train_language!r} should be a code such as en")
        if not 0 <= self.few_shot <= 1:
            raise UserError(f"--few-shot {self.few_shot} should be a share, from 0 to 1")
        super().__post_init__()


@dataclasses.dataclass(frozen=True)
class ClassificationSettings(HeadSettings):
    documents: Literal["sentences", "whole"] = "sentences"
    """Classification: a document is the mean of its sentences' vectors, or one cut-off sequence."""


ToVectors = Callable[[Encode, list[tuple[str, ...]], Any], np.ndarray | tuple[np.ndarray, ...]]
"""(encode, texts of N rows, settings) -> [N, D], or several such arrays."""


def find_classification(data: Sequence[str], settings: ClassificationSettings) -> list[Unit]:
    """`NAME.train.en.tsv`, `NAME.dev.fr.tsv`, `NAME.test.fr.tsv`: `label<TAB>text` each."""
    return _find_documents(data, settings, strip=False)


def find_mldoc(data: Sequence[str], settings: ClassificationSettings) -> list[Unit]:
    """MLDoc: `english.train.1000`, `english.dev`, `french.test`, or `mldoc.train1000.en` etc."""
    return _find_documents(data, settings, strip=True)


def _find_documents(
    data: Sequence[str], settings: ClassificationSettings, strip: bool
) -> list[Unit]:
    if settings.head == "trained":
        raise UserError("--head trained is for nli alone; use mlp or logistic")
    return _find_labelled(data, settings, 2, functools.partial(_document_vectors, strip=strip))


def find_nli(data: Sequence[str], settings: HeadSettings) -> list[Unit]:
    """`NAME.train.en.tsv` and so on: `label<TAB>premise<TAB>hypothesis`."""
    if settings.head == "logistic":
        raise UserError("--head logistic is not defined for nli; use mlp or trained")
    return _find_labelled(data, settings, 3, _premises_and_hypotheses)


def cut_sentences(document: str) -> list[str]:
    """Cuts a document after full stops, question and exclamation marks; never returns nothing."""
    parts = re.split(r"(?<=[.!?])\s+|(?<=[。！？।])\s*", document)
    return [part.strip() for part in parts if part.strip()] or [document]


def _document_vectors(
    encode: Encode, texts: list[tuple[str]], settings: ClassificationSettings, strip: bool
) -> np.ndarray:
    """[N, D]: means over the sentences of each document, or one vector of the whole."""
    documents = [text for (text,) in texts]
    if strip:
        documents = [re.sub(r"\(c\) Reuters Limited \d{4}", " ", text) for text in documents]
    if settings.documents == "whole":
        return encode(documents)
    parts = [cut_sentences(document) for document in documents]
    vectors = encode([sentence for part in parts for sentence in part])
    counts = np.array([len(part) for part in parts])
    starts = np.cumsum(counts) - counts
    return np.add.reduceat(vectors, starts, axis=0) / counts[:, None]


def _premises_and_hypotheses(encode: Encode, texts, settings: HeadSettings):
    """Two arrays [N, D] of unit vectors."""
    return tuple(normalize(encode([row[side] for row in texts])) for side in (0, 1))


def _labelled_files(data: Sequence[str]) -> dict[str, dict[tuple[str, str], Path]]:
    """Data set -> (split, language) -> file."""
    sets: dict[str, dict[tuple[str, str], Path]] = {}
    for file in files_of(data):
        if parts := _split_and_language(file.name):
            name, split, language = parts
            dataset = name or file.absolute().parent.name
            what = f"{dataset} {split} {language}"
            is_new(sets.setdefault(dataset, {}), (split, language), file, what)
    return sets


def _find_labelled(
    data: Sequence[str], settings: HeadSettings, columns: int, vectors: ToVectors
) -> list[Unit]:
    """Units of test languages; they share one training of the heads."""
    if settings.head == "trained":
        return _find_trained(data)
    sets = _labelled_files(data)
    home, units = settings.train_language, []
    for name, files in sets.items():
        train = files.get(("train", home))
        if train is None:
            has = ", ".join(sorted(language for split, language in files if split == "train"))
            raise UserError(
                f"{name} has no training file in {home} (training languages: {has or 'none'}); "
                "choose with --train-language"
            )
        tested = "test" if any(split == "test" for split, _ in files) else "dev"
        dev = files.get(("dev", home)) if tested == "test" else None
        heads = _Heads(train, dev, columns, vectors, settings)
        for language in sorted(language for split, language in files if split == tested):
            path = files[tested, language]
            more = files.get(("train", language)) if settings.few_shot else None
            needed = constant(file for file in (train, dev, path, more) if file)
            run = functools.partial(heads.run, path, more, language)
            units.append(Unit(name, language, (language,), needed, run))
    if not units:
        raise UserError(
            f"{', '.join(data)} holds no files named like NAME.train.{home}.tsv and "
            "NAME.test.fr.tsv"
        )
    return units


def _find_trained(data: Sequence[str]) -> list[Unit]:
    """Units of test languages for the head of the run, which needs no training file."""
    units = []
    for name, files in _labelled_files(data).items():
        tested = "test" if any(split == "test" for split, _ in files) else "dev"
        for language in sorted(language for split, language in files if split == tested):
            path = files[tested, language]
            run = functools.partial(_run_trained, path, language)
            units.append(Unit(name, language, (language,), constant([path]), run))
    if not units:
        raise UserError(f"{', '.join(data)} holds no files named like NAME.test.fr.tsv")
    return units


def _run_trained(path: Path, language: str, encode: Encode) -> dict[str, Any]:
    """Scores of the inference head of a run, which has seen no example in a language of its own
    unless the run had one."""
    from lightxling.evaluate.classification import score_heads  # jax

    head = getattr(encode, "inference", None)
    if head is None:
        raise UserError(
            "--head trained needs a run with the objective inference (recipe dual-encoder), whose "
            "checkpoints hold the head; exports do not. Give that run, or leave --head out"
        )
    labels, texts = _labelled_rows(path, 3)
    classes = list(NLI_LABELS)
    if strange := sorted(set(labels) - set(classes)):
        raise UserError(f"{path}: label {strange[0]!r} should be one of {', '.join(classes)}")
    (one,) = of_sides(encode, (language,))
    logits = head(*(one([row[side] for row in texts]) for side in (0, 1)))
    gold = np.array([classes.index(label) for label in labels])
    result = score_heads(logits.argmax(axis=1)[None], gold, len(classes))
    return {
        "scores": {name: 100 * getattr(result, name) for name in ("accuracy", "macro_f1")},
        "documents": result.documents,
        "classes": classes,
        "confusion": result.confusion,
        "trained_on": "what the run was trained on",
    }


class _Examples(NamedTuple):
    """What a head is trained and selected on: vectors (an array, or several) and classes."""

    classes: list[str]
    inputs: Any
    labels: np.ndarray
    dev_inputs: Any
    dev_labels: np.ndarray
    selected_on: str

    def with_more(self, inputs: Any, labels: np.ndarray) -> "_Examples":
        """With further training examples."""
        if isinstance(inputs, tuple):
            inputs = tuple(map(np.concatenate, zip(self.inputs, inputs, strict=True)))
        else:
            inputs = np.concatenate([self.inputs, inputs])
        return self._replace(inputs=inputs, labels=np.concatenate([self.labels, labels]))


class _Heads:
    """Heads of one data set, which are trained once for all languages that are tested.

    Attributes:
      dev: the head is selected on it; without, on a tenth of the training examples.
      columns: of the files; 2 have a document, 3 a premise and a hypothesis.
    """

    def __init__(
        self,
        train: Path,
        dev: Path | None,
        columns: int,
        vectors: ToVectors,
        settings: HeadSettings,
    ):
        self.train, self.dev, self.columns, self.settings = train, dev, columns, settings
        self.vectors = lambda encode, texts: vectors(encode, texts, settings)
        self.trained = functools.lru_cache(1)(self._train)  # of the last encoder

    def run(self, path: Path, more: Path | None, language: str, encode: Encode) -> dict[str, Any]:
        """Scores of the heads in a language.

        Args:
          more: a training file in that language, which few shots are drawn from.
        """
        from lightxling.evaluate.classification import score_heads  # jax

        home, share = self.settings.train_language, self.settings.few_shot
        at_home, encode = of_sides(encode, (home, language))
        examples, fitted = self.trained(at_home)
        classes, count, scores, about = examples.classes, len(examples.labels), {}, {}
        texts, gold = self._read(path, classes)
        few = bool(share) and language != home
        if few:
            pool, pool_gold = self._read(more, classes) if more else (texts, gold)
            shots, left = few_shots(len(pool), share, is_training_file=bool(more))
            shown, shown_gold = [pool[row] for row in shots], pool_gold[shots]
            if not more:
                texts, gold = [texts[row] for row in left], gold[left]
        inputs = self.vectors(encode, texts)  # the same for both scores, with and without shots
        if few:
            zero_shot = score_heads(fitted.predict(inputs), gold, len(classes))
            scores["zero_shot_accuracy"] = 100 * zero_shot.accuracy
            about["few_shot"] = f"{len(shots)} of {(more or path).name}"
            if len(shots):
                fitted = self._fit(examples.with_more(self.vectors(encode, shown), shown_gold))
        result = score_heads(fitted.predict(inputs), gold, len(classes))
        names = ("accuracy", "accuracy_sd", "macro_f1", "macro_f1_sd")
        return {
            "scores": {**{name: 100 * getattr(result, name) for name in names}, **scores},
            "accuracies": [100 * value for value in result.accuracies],
            "documents": result.documents,
            "classes": classes,
            "confusion": result.confusion,
            "trained_on": f"{count} of {self.train.name}",
            "selected_on": examples.selected_on,
            "dev_accuracies": [100 * float(value) for value in fitted.dev_accuracy],
            **about,
        }

    def _train(self, encode: Encode):
        """Examples in the training language and the heads that they make."""
        labels, texts = _labelled_rows(self.train, self.columns)
        classes = sorted(set(labels))
        if len(classes) < 2:
            raise UserError(
                f"{self.train} has one label only, {classes[0]!r}: nothing to tell apart"
            )
        gold = np.array([classes.index(label) for label in labels])
        inputs = self.vectors(encode, texts)
        if self.dev is not None:
            texts, dev_gold = self._read(self.dev, classes)
            dev_inputs = self.vectors(encode, texts)
            examples = _Examples(classes, inputs, gold, dev_inputs, dev_gold, self.dev.name)
            return examples, self._fit(examples)
        order = np.random.default_rng(0).permutation(len(gold))
        kept, held = order[len(gold) // 10 :], order[: max(len(gold) // 10, 1)]
        empty = sorted(set(classes) - {classes[i] for i in gold[kept]})
        if empty:
            raise UserError(
                f"{self.train}: label {empty[0]!r} has too few documents to hold a tenth of them "
                f"out; give a development file in {self.settings.train_language}"
            )

        def part(rows: np.ndarray) -> tuple[Any, np.ndarray]:
            is_several = isinstance(inputs, tuple)
            own = tuple(array[rows] for array in inputs) if is_several else inputs[rows]
            return own, gold[rows]

        selected_on = f"a tenth of {self.train.name}"
        examples = _Examples(classes, *part(kept), *part(held), selected_on)
        return examples, self._fit(examples)

    def _fit(self, examples: _Examples):
        from lightxling.evaluate import classification  # jax

        classes, *data, _ = examples
        if self.settings.head == "logistic":
            return classification.fit_logistic(*data, classes=len(classes))
        head = classification.NLI if self.columns == 3 else classification.LASER
        if self.settings.epochs:
            head = dataclasses.replace(head, epochs=self.settings.epochs)
        seeds = range(self.settings.seeds)
        return classification.fit_mlp(*data, classes=len(classes), seeds=seeds, head=head)

    def _read(self, path: Path, classes: list[str]) -> tuple[list[tuple[str, ...]], np.ndarray]:
        """Texts and classes of a file; refuses labels that the training file does not have."""
        labels, texts = _labelled_rows(path, self.columns)
        strange = sorted(set(labels) - set(classes))
        if strange:
            raise UserError(
                f"{path}: label {strange[0]!r} does not occur in {self.train}, which has "
                f"{', '.join(classes)}"
            )
        return texts, np.array([classes.index(label) for label in labels])


def few_shots(
    rows: int, share: float, is_training_file: bool
) -> tuple[Int[np.ndarray, " _"], Int[np.ndarray, " _"]]:
    """Rows that a head is trained on, and rows that are left for its test.

    Of a tested file, half is never trained on. A larger share holds the rows of a smaller one.
    """
    order = np.random.default_rng(0).permutation(rows)
    pool, tested = (order, order[:0]) if is_training_file else np.split(order, [rows // 2])
    return pool[: round(share * len(pool))], np.sort(tested)


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
    rows = tab_rows(path, columns)
    if columns == 3 and (named := readers.labelled_columns(rows[0])):
        order, rows = named, rows[1:]
    labels = [row[order[0]].strip() for row in rows]
    if "" in labels:
        raise UserError(f"{path}: row {labels.index('') + 1} has an empty label")
    if columns == 3:
        labels = [{"contradictory": "contradiction"}.get(label, label) for label in labels]
    return labels, [tuple(row[i] for i in order[1:]) for row in rows]
