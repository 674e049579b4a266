"""The classification tasks of SentEval, from its files on the disk: English sentences, a logistic
regression on their vectors.

Source: Conneau and Kiela 2018 (arXiv 1803.05449) and its code. Departure: C is chosen on one of the
ten folds, not in a cross-validation of its own within the others.
"""

import functools
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lightxling.base.errors import UserError
from lightxling.base.shapes import Int
from lightxling.base.vectors import Encode
from lightxling.evaluate.tasks.units import TaskSettings, Unit, constant, of_sides

OF_TWO_FILES = {
    "MR": ("rt-polarity.neg", "rt-polarity.pos"),
    "CR": ("custrev.neg", "custrev.pos"),
    "SUBJ": ("subj.subjective", "subj.objective"),
    "MPQA": ("mpqa.neg", "mpqa.pos"),
}
"""A file a class, in latin-1: ten folds."""
OF_SPLITS = {
    "SST2": ("sentiment-train", "sentiment-dev", "sentiment-test"),
    "SST5": ("sentiment-train", "sentiment-dev", "sentiment-test"),
    "TREC": ("train_5500.label", "TREC_10.label"),
}
"""Files to train on, to choose C on where there is one (else on a tenth), and to test."""
FOLDERS = {"SST2": "SST/binary", "SST5": "SST/fine"}
FOLDS = 10

Examples = tuple[list[str], list[str]]
"""Labels and sentences."""


def find_senteval(data: Sequence[str], settings: TaskSettings) -> list[Unit]:
    """`MR/rt-polarity.pos` and so on, below a folder such as `SentEval/data/downstream`."""
    units = []
    for name, files in (OF_TWO_FILES | OF_SPLITS).items():
        for folder in map(Path, data):
            paths = [folder / FOLDERS.get(name, name) / file for file in files]
            if all(path.is_file() for path in paths):
                run = _run_folds if name in OF_TWO_FILES else _run_splits
                part = functools.partial(run, paths)
                units.append(Unit("senteval", name, ("en",), constant(paths), part))
            elif any(path.is_file() for path in paths):
                missing = next(path for path in paths if not path.is_file())
                raise UserError(f"{missing} is missing beside the other files of {name}")
    if not units:
        raise UserError(
            f"{', '.join(data)} holds none of the folders {', '.join(OF_TWO_FILES)}, SST and TREC; "
            "give SentEval/data/downstream"
        )
    return units


def folds_of(labels: Int[np.ndarray, " N"]) -> Int[np.ndarray, " N"]:
    """The fold of every example: ten, in each of which every class has its share, drawn once."""
    order = np.random.default_rng(1111).permutation(len(labels))
    by_class = order[np.argsort(labels[order], kind="stable")]
    folds = np.empty(len(labels), np.int64)
    folds[by_class] = np.arange(len(labels)) % FOLDS
    return folds


def _run_folds(paths: Sequence[Path], encode: Encode) -> dict[str, Any]:
    (one,) = of_sides(encode, ("en",))
    texts = [_lines(path, "latin-1") for path in paths]
    gold = np.repeat(np.arange(len(texts)), [len(lines) for lines in texts])
    if min(map(len, texts)) < FOLDS:
        raise UserError(f"{paths[0].parent}: a class has fewer than {FOLDS} sentences")
    vectors, folds = one([text for lines in texts for text in lines]), folds_of(gold)
    right = np.zeros(len(gold), bool)
    for fold in range(FOLDS):
        tested, chosen = folds == fold, folds == (fold + 1) % FOLDS
        predict = _fit(vectors, gold, ~(tested | chosen), chosen)
        right[tested] = predict(vectors[tested]) == gold[tested]
    return _told(right, [path.name for path in paths], f"a fold of {FOLDS}")


def _run_splits(paths: Sequence[Path], encode: Encode) -> dict[str, Any]:
    (one,) = of_sides(encode, ("en",))
    read = _trec if paths[0].name.endswith(".label") else _sst
    parts = [read(path) for path in paths]
    classes = sorted(set(parts[0][0]))
    for path, (labels, _) in zip(paths, parts, strict=True):
        if strange := sorted(set(labels) - set(classes)):
            raise UserError(f"{path}: label {strange[0]!r} does not occur in {paths[0]}")
    gold, vectors = [], []
    for labels, texts in parts:
        gold.append(np.array([classes.index(label) for label in labels]))
        vectors.append(one(texts))
    *known, tested = range(len(parts))
    all_gold = np.concatenate([gold[i] for i in known])
    all_vectors = np.concatenate([vectors[i] for i in known])
    chosen = folds_of(all_gold) == 0
    if len(known) == 2:
        chosen = np.arange(len(all_gold)) >= len(gold[0])
    predict = _fit(all_vectors, all_gold, ~chosen, chosen)
    selected_on = paths[1].name if len(known) == 2 else f"a fold of {FOLDS}"
    return _told(predict(vectors[tested]) == gold[tested], classes, selected_on)


def _fit(
    vectors: np.ndarray, gold: np.ndarray, train: np.ndarray, dev: np.ndarray
) -> Callable[[np.ndarray], np.ndarray]:
    from lightxling.evaluate.classification import fit_logistic  # jax

    classes = int(gold.max()) + 1
    data = vectors[train], gold[train], vectors[dev], gold[dev]
    fitted = fit_logistic(*data, classes=classes)
    return lambda x: fitted.predict(x)[0]


def _told(right: np.ndarray, classes: Iterable[str], selected_on: str) -> dict[str, Any]:
    return {
        "scores": {"accuracy": 100 * float(right.mean())},
        "documents": len(right),
        "classes": list(classes),
        "selected_on": selected_on,
    }


def _lines(path: Path, encoding: str) -> list[str]:
    try:
        text = path.read_text(encoding=encoding)
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not in {encoding}: {error.reason}") from None
    return [line.strip() for line in text.split("\n") if line.strip()]


def _trec(path: Path) -> Examples:
    """`NUM:dist How far is it ?`: the coarse class stands before the colon."""
    return _cut(path, _lines(path, "latin-1"), lambda line: line.partition(" "), ":")


def _sst(path: Path) -> Examples:
    """`sentence<TAB>label`."""
    return _cut(path, _lines(path, "utf-8"), lambda line: line.rpartition("\t")[::-1], "")


def _cut(
    path: Path, lines: list[str], parts: Callable[[str], Sequence[str]], stop: str
) -> Examples:
    labels, texts = [], []
    for number, line in enumerate(lines, 1):
        label, found, text = parts(line)
        if not (found and text.strip()):
            raise UserError(f"{path}:{number}: no label stands in {line[:40]!r}")
        labels.append(label.partition(stop)[0] if stop else label.strip())
        texts.append(text)
    return labels, texts
