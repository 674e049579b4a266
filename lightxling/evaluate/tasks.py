"""Named benchmarks: where their files are, and how they become arrays and scores.

A task finds its units in a folder. A unit is what one row of the result table stands for: a
language pair, or a test language. Running it encodes the sentences and returns scores in per cent,
beside what they mean nothing without (candidates, documents, pairs). Nothing here knows the model.
"""

import dataclasses
import functools
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from jaxtyping import Int

from lightxling.config import UserError
from lightxling.corpus import readers
from lightxling.corpus.readers import Problems, Source
from lightxling.evaluate import mining, retrieval, similarity
from lightxling.evaluate.similarity import Similarity

Encode = Callable[[list[str]], np.ndarray]
"""Sentences to vectors [N, D], not normalised."""

POOLED = "pooled"
"""Name of the unit that scores several language pairs together."""

RSIM_LIMIT = 2000  # sentences; memory grows with the square

PARALLEL_NAME = re.compile(
    r"(?:(?P<name>.+)\.)?(?P<a>{0})-(?P<b>{0})\.(?P<kind>{0})(\.gz)?".format(
        r"[a-z]{2,3}(?:_[A-Za-z0-9]+)?"
    )
)


@dataclasses.dataclass(frozen=True)
class Settings:
    """How the tasks score. Each task uses what concerns it, and its results say so."""

    scoring: retrieval.Scoring = "cosine"
    """Retrieval: cosine, csls (10 neighbours) or margin (ratio, 4 neighbours)."""
    queries: int = 2000
    """Europarl: sentences that are looked for."""
    candidates: int = 200_000
    """Europarl: sentences they are looked for in; smaller files give what they have."""
    lowercase: bool = True
    """Europarl: fold case, as the protocol does."""
    margin: mining.Margin = "ratio"
    """Mining: the score of a pair."""
    direction: mining.Direction = "max"
    """Mining: which pairs are candidates."""
    neighbours: int = 4
    """Mining: neighbours of a sentence that are scored."""
    head: Literal["mlp", "logistic"] = "mlp"
    """Classification: the LASER perceptron, or logistic regression with C chosen on dev."""
    documents: Literal["sentences", "whole"] = "sentences"
    """Classification: a document is the mean of its sentences' vectors, or one cut-off sequence."""
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
    similarity: Similarity = "cosine"
    """STS: angular is -arccos(cosine)."""
    among: int = 1000
    """Ranking: candidates of each query, the right one and others drawn at random."""
    product: retrieval.Product = "dot"
    """Ranking: dot product of the vectors as they are, or cosine."""


@dataclasses.dataclass(frozen=True)
class Unit:
    """One row of a result table, not yet computed."""

    dataset: str
    name: str
    languages: tuple[str, ...]
    files: Callable[[], Sequence[Path]]
    """What the scores depend on besides the model and the settings; may have to be fetched."""
    run: Callable[[Encode], dict[str, Any]]
    """Returns `scores` in per cent and what describes them."""
    pairs: Callable[[], tuple[list[str], list[str]]] | None = None
    """Both sides of the sentences, where the unit is a parallel text."""


@dataclasses.dataclass(frozen=True)
class Task:
    """A kind of benchmark."""

    find: Callable[[Sequence[str], Settings], list[Unit]]
    settings: tuple[str, ...]
    """Fields of `Settings` that it uses."""
    headline: str
    """The score that is plotted and averaged first."""


def of_sides(encode: Encode, languages: Sequence[str]) -> tuple[Encode, ...]:
    """The encoder of each side of a unit.

    They are one, but for encoders with a module per language: those have a method
    `choose(language, is_cross)`, in which is_cross says whether the unit compares languages.
    """
    choose = getattr(encode, "choose", None)
    if choose is None:
        return (encode,) * len(languages)
    codes = [_code(language) for language in languages]
    return tuple(choose(code, len(set(codes)) > 1) for code in codes)


# Parallel text


def parallel(data: Sequence[str]) -> list[tuple[str, Source]]:
    """Finds (dataset, source) in folders, in files and in sources written `en-fr=PATH`.

    In a folder: `NAME.en-fr.tsv`, `.txt` or `.tmx`, gzipped or not, and Moses files
    `NAME.en-fr.en`, `NAME.en-fr.fr`; NAME may be missing.
    """
    found: dict[tuple[str, Source], None] = {}
    for entry in data:
        if "=" in entry:
            source = Source.parse(entry)
            found[_dataset(Path(source.path).name, source), source] = None
            continue
        path = Path(entry)
        before = len(found)
        for file in files_in(path):
            match = PARALLEL_NAME.fullmatch(file.name)
            if not match or match["kind"] not in ("tsv", "txt", "tmx", match["a"], match["b"]):
                continue
            where = str(file)
            if match["kind"] in (match["a"], match["b"]):  # the stem of Moses files
                where = where.removesuffix(".gz").removesuffix(f".{match['kind']}")
            dataset = match["name"] or file.absolute().parent.name
            found[dataset, Source((match["a"], match["b"]), 1.0, where)] = None
        if len(found) == before:
            raise UserError(
                f"{path} holds no parallel text named like NAME.en-fr.tsv or NAME.en-fr.en; name "
                f"the languages yourself: --data en-fr={path}"
            )
    return list(found)


def files_in(path: Path) -> list[Path]:
    """The files of a folder in order, or the file itself."""
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise UserError(f"--data {path}: no such file or folder")
    return sorted(file for file in path.iterdir() if file.is_file())


def read_pairs(source: Source, keep_blank: bool = False) -> tuple[list[str], list[str]]:
    """Both sides of a parallel text; pairs with a blank side are left out unless `keep_blank`."""
    rows = [
        tuple(text.strip() for text in row)
        for row in readers.read(source, Problems())
        if keep_blank or all(text.strip() for text in row)
    ]
    if not rows:
        raise UserError(f"{source.path} holds no {'-'.join(source.languages)} sentence pairs")
    return [row[0] for row in rows], [row[1] for row in rows]


def find_retrieval(data: Sequence[str], settings: Settings) -> list[Unit]:
    """Any parallel text: every sentence looks for its translation among all of the other side."""
    return [_retrieval_unit(dataset, source, settings) for dataset, source in parallel(data)]


def find_tatoeba(data: Sequence[str], settings: Settings) -> list[Unit]:
    """`tatoeba.fra-eng.fra` and `.eng` in a folder, or tensorflow-datasets with `--data tfds`."""
    if list(data) == ["tfds"]:
        sources = [
            Source(
                (code, "en"), 1.0, f"tfds:tatoeba/tatoeba_{code}#source_sentence,target_sentence"
            )
            for code in TFDS_TATOEBA.split()
        ]
        return [_retrieval_unit("tatoeba", source, settings) for source in sources]
    return [
        _retrieval_unit(dataset, source, settings)
        for dataset, source in parallel(data)
        if dataset == "tatoeba"
    ]


def retrieval_scores(
    src: np.ndarray,
    tgt: np.ndarray,
    src_texts: list[str],
    tgt_texts: list[str],
    scoring: retrieval.Scoring,
) -> dict[str, Any]:
    """Accuracy of both directions by row and by text; see `retrieval.ranks`."""
    same_src, same_tgt = retrieval.text_labels(src_texts), retrieval.text_labels(tgt_texts)
    scores = {}
    for name, x, y, same in (("forward", src, tgt, same_tgt), ("backward", tgt, src, same_src)):
        places = retrieval.ranks(x, y, scoring=scoring)
        by_text = places
        if len(np.unique(same)) < len(same):
            by_text = retrieval.ranks(x, y, same=same, scoring=scoring)
        scores[name] = 100 * retrieval.precision(places)
        scores[f"{name}_by_text"] = 100 * retrieval.precision(by_text)
    accuracy = (scores["forward"] + scores["backward"]) / 2
    by_text = (scores.pop("forward_by_text"), scores.pop("backward_by_text"))
    scores = {
        "accuracy": accuracy,
        "error": 100 - accuracy,
        **scores,
        "by_text": sum(by_text) / 2,
        "forward_by_text": by_text[0],
        "backward_by_text": by_text[1],
    }
    if 3 <= len(src) <= RSIM_LIMIT:
        scores["rsim"] = 100 * similarity.rsim(src, tgt)
    repeated = [len(same) - len(np.unique(same)) for same in (same_src, same_tgt)]
    return {"scores": scores, "candidates": len(tgt), "repeated_texts": repeated}


def find_ranking(data: Sequence[str], settings: Settings) -> list[Unit]:
    """Any parallel text: every sentence looks for its translation among some drawn at random."""
    if settings.among < 2:
        raise UserError(f"--among {settings.among} leaves nothing to rank; use 2 or more")
    units = []
    for dataset, source in parallel(data):
        pairs = functools.partial(read_pairs, source)
        run = functools.partial(_run_ranking, source.languages, pairs, settings)
        files = functools.partial(readers.files, source)
        name = "-".join(source.languages)
        units.append(Unit(dataset, name, source.languages, files, run, pairs))
    return units


def _run_ranking(languages, pairs, settings: Settings, encode: Encode) -> dict[str, Any]:
    src, tgt = (one(side) for one, side in zip(of_sides(encode, languages), pairs(), strict=True))
    places = [
        retrieval.ranks_among(x, y, settings.among, product=settings.product)
        for x, y in ((src, tgt), (tgt, src))
    ]
    scores = {
        f"p_at_{k}": 100 * float(np.mean([retrieval.precision(one, k) for one in places]))
        for k in (1, 3, 10)
    }
    for name, one in zip(("forward", "backward"), places, strict=True):
        scores[name] = 100 * retrieval.precision(one)
    if len(src) >= 10:
        scores["eigen_similarity"] = 100 * similarity.eigen_similarity(src, tgt)
    return {"scores": scores, "queries": len(src), "candidates": min(settings.among, len(src))}


def _retrieval_unit(dataset: str, source: Source, settings: Settings) -> Unit:
    pairs = functools.partial(read_pairs, source)

    def run(encode: Encode) -> dict[str, Any]:
        src, tgt = pairs()
        one, other = of_sides(encode, source.languages)
        return retrieval_scores(one(src), other(tgt), src, tgt, settings.scoring)

    files = functools.partial(readers.files, source)
    return Unit(dataset, "-".join(source.languages), source.languages, files, run, pairs)


def find_europarl(data: Sequence[str], settings: Settings) -> list[Unit]:
    """2,000 queries among 200,000 candidates of a parallel text, drawn as MUSE draws them."""
    units = []
    for dataset, source in parallel(data):

        def run(encode: Encode, source: Source = source) -> dict[str, Any]:
            src, tgt = muse_order(*read_pairs(source, keep_blank=True), settings.lowercase)
            total = min(settings.candidates, len(src))
            random = np.random.RandomState(1234)
            rows = random.choice(total, min(settings.queries, total), replace=False)
            scores = {}
            sides = list(zip((src, tgt), of_sides(encode, source.languages), strict=True))
            for name, one, other in (("forward", *sides), ("backward", *sides[::-1])):
                places = retrieval.ranks(
                    one[1]([one[0][row] for row in rows]),
                    other[1](other[0][:total]),
                    rows,
                    scoring=settings.scoring,
                )
                scores[name] = 100 * retrieval.precision(places)
                scores[f"{name}_at_5"] = 100 * retrieval.precision(places, 5)
                scores[f"{name}_at_10"] = 100 * retrieval.precision(places, 10)
            accuracy = (scores["forward"] + scores["backward"]) / 2
            return {
                "scores": {"accuracy": accuracy, **scores},
                "queries": len(rows),
                "candidates": total,
            }

        if settings.scoring == "margin":
            run = _refuse_margin
        files = functools.partial(readers.files, source)
        units.append(Unit(dataset, "-".join(source.languages), source.languages, files, run))
    return units


def muse_order(src: list[str], tgt: list[str], lowercase: bool) -> tuple[list[str], list[str]]:
    """Pairs in the order of the MUSE sentence retrieval task.

    Words are split at white space; of pairs with one source sentence the first is kept, then of
    pairs with one target sentence; what is left is sorted by the target sentence, and shuffled with
    seed 1234.
    """

    def plain(text: str) -> str:
        return " ".join((text.lower() if lowercase else text).split())

    first: dict[str, str] = {}
    for one, other in zip(src, tgt, strict=True):
        first.setdefault(plain(one), plain(other))
    by_target: dict[str, str] = {}
    for one in sorted(first):
        by_target.setdefault(first[one], one)
    targets = sorted(by_target)
    order = np.random.RandomState(1234).permutation(len(targets))
    targets = [targets[i] for i in order]
    return [by_target[target] for target in targets], targets


def _refuse_margin(encode: Encode) -> dict[str, Any]:
    raise UserError("the europarl task scores by cosine or csls; leave --scoring margin to tatoeba")


# Mining


def find_bucc(data: Sequence[str], settings: Settings) -> list[Unit]:
    """`fr-en.training.fr`, `.en` and `.gold`, and another split: `id<TAB>sentence`, `id<TAB>id`."""
    splits: dict[tuple[str, str], dict[str, dict[str, Path]]] = {}
    for entry in data:
        for file in files_in(Path(entry)):
            name = file.name.removesuffix(".gz")
            match = re.fullmatch(r"([a-z]{2,3})-([a-z]{2,3})\.(\w+)\.(\w+)", name)
            if match and match[4] in (match[1], match[2], "gold"):
                pair = splits.setdefault((match[1], match[2]), {})
                pair.setdefault(match[3], {})[match[4]] = file
    units = []
    for pair, found in splits.items():
        whole = {name: files for name, files in found.items() if {*pair, "gold"} <= set(files)}
        if not whole:
            missing = {*pair, "gold"} - set(next(iter(found.values())))
            raise UserError(
                f"{'-'.join(pair)}: no split is whole; {', '.join(sorted(missing))} is missing"
            )
        files = _constant(file for split in whole.values() for file in split.values())
        run = functools.partial(_run_bucc, pair, whole, settings)
        units.append(Unit("bucc", "-".join(pair), pair, files, run))
    if not units:
        raise UserError(
            f"{', '.join(data)} holds no files that are named like fr-en.training.fr, "
            "fr-en.training.en and fr-en.training.gold"
        )
    return units


def _run_bucc(pair, splits, settings: Settings, encode: Encode) -> dict[str, Any]:
    """Fits the threshold on the training split and measures F1 on the others."""
    result: dict[str, Any] = {"scores": {}, "candidates": {}, "gold": {}, "dropped_gold": {}}
    threshold = None
    of_src, of_tgt = of_sides(encode, pair)
    for name in sorted(splits, key=lambda split: (not split.startswith("train"), split)):
        columns = [_rows(splits[name][side], 2) for side in (*pair, "gold")]
        split = mining.bucc_split(*columns)
        mined = mining.mine(
            of_src(split.src),
            of_tgt(split.tgt),
            margin=settings.margin,
            retrieval=settings.direction,
            k=settings.neighbours,
        )
        mined, right = split.judge(mined)
        result["candidates"][name] = [len(split.src), len(split.tgt)]
        result["gold"][name], result["dropped_gold"][name] = len(split.gold), split.dropped
        if threshold is None:
            threshold, f1 = mining.best_threshold(mined, right, len(split.gold))
            result |= {"threshold": threshold, "fitted_on": name}
            fitted = {"f1_fitted": 100 * f1}
        else:
            kept = mining.f1_score(right[mined.score >= threshold], len(split.gold))
            prefix = "" if len(splits) == 2 else f"{name}_"
            result["scores"] |= {prefix + key: 100 * value for key, value in kept.items()}
    result["scores"] |= fitted
    return result


# Classification and natural language inference


@dataclasses.dataclass(frozen=True)
class _Labelled:
    """The files of one data set, by split and language."""

    name: str
    files: dict[tuple[str, str], Path]

    def languages(self, split: str) -> list[str]:
        return sorted(language for part, language in self.files if part == split)


def find_classification(data: Sequence[str], settings: Settings) -> list[Unit]:
    """`NAME.train.en.tsv`, `NAME.dev.fr.tsv`, `NAME.test.fr.tsv`: `label<TAB>text` each."""
    return _find_labelled(data, settings, 2, functools.partial(_document_vectors, strip=False))


def find_mldoc(data: Sequence[str], settings: Settings) -> list[Unit]:
    """MLDoc: `english.train.1000`, `english.dev`, `french.test`, or `mldoc.train1000.en` etc."""
    return _find_labelled(data, settings, 2, functools.partial(_document_vectors, strip=True))


def find_nli(data: Sequence[str], settings: Settings) -> list[Unit]:
    """`NAME.train.en.tsv` and so on: `label<TAB>premise<TAB>hypothesis`."""
    if settings.head != "mlp":
        raise UserError("--head logistic is not defined for nli; leave it out")
    return _find_labelled(data, settings, 3, _premises_and_hypotheses)


def sentences(document: str) -> list[str]:
    """Cuts a document after full stops, question and exclamation marks; never returns nothing."""
    parts = re.split(r"(?<=[.!?])\s+|(?<=[。！？।])\s*", document)
    return [part.strip() for part in parts if part.strip()] or [document]


def _document_vectors(encode: Encode, texts, settings: Settings, strip: bool) -> np.ndarray:
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


def _premises_and_hypotheses(encode: Encode, texts, settings: Settings):
    """Two arrays [N, D] of unit vectors."""
    return tuple(retrieval.normalize(encode([row[side] for row in texts])) for side in (0, 1))


def _find_labelled(data, settings: Settings, columns: int, vectors) -> list[Unit]:
    """Units of test languages; they share one training of the heads."""
    sets: dict[str, dict[tuple[str, str], Path]] = {}
    for entry in data:
        for file in files_in(Path(entry)):
            if parts := _split_and_language(file.name):
                name, split, language = parts
                dataset = name or file.absolute().parent.name
                sets.setdefault(dataset, {})[split, language] = file
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


def _labelled_units(labelled: _Labelled, settings: Settings, columns: int, vectors):
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
    if not 0 <= settings.few_shot <= 1:
        raise UserError(f"--few-shot {settings.few_shot} should be a share, from 0 to 1")
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
        files = _constant(file for file in (train, dev, path, more) if file)
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
    train: Path, dev: Path | None, columns, vectors, settings: Settings, encode
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


def _fit_heads(examples: _Examples, columns: int, settings: Settings):
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
    parts = name.removesuffix(".gz").removesuffix(".tsv").removesuffix(".txt").split(".")
    split = language = None
    rest = []
    for part in parts:
        if split is None and (match := re.fullmatch(r"(train|dev|valid|test)(ing)?\d*", part)):
            split = {"valid": "dev"}.get(match[1], match[1])
        elif language is None and part.lower() in LANGUAGE_NAMES:
            language = LANGUAGE_NAMES[part.lower()]
        elif language is None and split and re.fullmatch(r"[a-z]{2,3}(_[A-Za-z]+)?", part):
            language = part
        elif not part.isdecimal():
            rest.append(part)
    return (".".join(rest), split, language) if split and language else None


def _labelled_rows(path: Path, columns: int) -> tuple[list[str], list[tuple[str, ...]]]:
    """Labels and texts of a file; a first line that names its columns says where they stand."""
    order = range(columns)
    rows = _rows(path, columns)
    if columns == 3 and (named := readers.labelled_columns(rows[0])):
        order, rows = named, rows[1:]
    labels = [row[order[0]].strip() for row in rows]
    if "" in labels:
        raise UserError(f"{path}: row {labels.index('') + 1} has an empty label")
    if columns == 3:
        labels = [{"contradictory": "contradiction"}.get(label, label) for label in labels]
    return labels, [tuple(row[i] for i in order[1:]) for row in rows]


def _rows(path: Path, columns: int) -> list[tuple[str, ...]]:
    """Rows of a tab-separated file in which only empty lines may lack columns."""
    problems = Problems()
    rows = list(readers.read_tsv(path, columns, problems))
    for reason, places in problems.places.items():
        if reason != "empty line":
            raise UserError(f"{places[0]}: {reason}; every line needs {columns}, with tabs between")
    if not rows:
        raise UserError(f"{path} is empty")
    return rows


# Semantic textual similarity


def find_sts(data: Sequence[str], settings: Settings) -> list[Unit]:
    """`NAME.en-fr.tsv`: `score<TAB>sentence<TAB>sentence`; `NAME.fr-fr.tsv` within a language.

    Training files (`.train.`) are left out. Two or more pairs of languages of one data set are also
    scored together, which shows the language bias.
    """
    units, across = [], {}
    for entry in data:
        for file in files_in(Path(entry)):
            match = re.fullmatch(
                r"(?:(.+)\.)?([a-z]{2,3}(?:_\w+)?)-([a-z]{2,3}(?:_\w+)?)\.(?:tsv|txt)(?:\.gz)?",
                file.name,
            )
            if not match or ".train." in f".{match[1]}.":
                continue
            dataset = match[1] or file.absolute().parent.name
            languages = match[2], match[3]
            run = functools.partial(_run_sts, file, languages, settings)
            units.append(
                Unit(
                    dataset,
                    "-".join(languages),
                    tuple(dict.fromkeys(languages)),
                    _constant([file]),
                    run,
                )
            )
            if match[2] != match[3]:
                across.setdefault(dataset, []).append((languages, file))
    if not units:
        raise UserError(f"{', '.join(data)} holds no files named like NAME.en-fr.tsv")
    for dataset, found in across.items():
        if len(found) > 1:
            units.append(_BiasUnit.of(dataset, found, settings))
    return units


def _run_sts(path: Path, languages, settings: Settings, encode: Encode) -> dict[str, Any]:
    predicted, gold = _sts_similarities(path, languages, settings, encode)
    return {
        "scores": {
            "spearman": 100 * similarity.spearman(predicted, gold),
            "pearson": 100 * similarity.pearson(predicted, gold),
        },
        "pairs": len(gold),
    }


def _sts_similarities(path: Path, languages, settings: Settings, encode: Encode):
    """Similarities of the encoder, and human scores."""
    rows = _rows(path, 3)
    gold = np.empty(len(rows))
    for i, (score, _, _) in enumerate(rows):
        try:
            gold[i] = float(score)
        except ValueError:
            raise UserError(
                f"{path}: {score!r} in row {i + 1} is no number; the columns are score, sentence, "
                "sentence"
            ) from None
    one, other = of_sides(encode, languages)
    first, second = one([row[1] for row in rows]), other([row[2] for row in rows])
    return similarity.pair_similarity(first, second, settings.similarity), gold


@dataclasses.dataclass(frozen=True)
class _BiasUnit(Unit):
    """All cross-lingual pairs of a data set on one scale; can be narrowed to some languages."""

    found: tuple = ()
    settings: Settings = Settings()

    @classmethod
    def of(cls, dataset: str, found, settings: Settings) -> "_BiasUnit":
        def run(encode: Encode) -> dict[str, Any]:
            results = [_sts_similarities(file, pair, settings, encode) for pair, file in found]
            bias = similarity.language_bias(*zip(*results, strict=True))
            return {
                "scores": {
                    "spearman": 100 * bias["pooled"],
                    "language_bias": 100 * bias["bias"],
                },
                "pairs": sum(len(gold) for _, gold in results),
                "pooled": ["-".join(languages) for languages, _ in found],
            }

        files = _constant(file for _, file in found)
        return cls(dataset, POOLED, (), files, run, None, tuple(found), settings)

    def narrowed(self, known: Callable[[str], bool]) -> "_BiasUnit | None":
        found = [(pair, file) for pair, file in self.found if all(map(known, pair))]
        return self.of(self.dataset, found, self.settings) if len(found) > 1 else None


# Choosing


RETRIEVAL = ("scoring",)
HEADS = ("head", "train_language", "seeds", "epochs", "few_shot")
TASKS: dict[str, Task] = {
    "retrieval": Task(find_retrieval, RETRIEVAL, "accuracy"),
    "ranking": Task(find_ranking, ("among", "product"), "p_at_1"),
    "tatoeba": Task(find_tatoeba, RETRIEVAL, "accuracy"),
    "europarl": Task(find_europarl, (*RETRIEVAL, "queries", "candidates", "lowercase"), "accuracy"),
    "bucc": Task(find_bucc, ("margin", "direction", "neighbours"), "f1"),
    "classification": Task(find_classification, (*HEADS, "documents"), "accuracy"),
    "mldoc": Task(find_mldoc, (*HEADS, "documents"), "accuracy"),
    "nli": Task(find_nli, HEADS, "accuracy"),
    "sts": Task(find_sts, ("similarity",), "spearman"),
}


def select(
    units: list[Unit], wanted: Sequence[str], trained: Sequence[str], data: str
) -> Iterator[Unit]:
    """The units whose languages are all wanted; by default those the encoder was trained on.

    English counts as wanted. Codes of two and of three letters are the same language.
    """
    have = {_code(language) for unit in units for language in unit.languages}
    for language in wanted:
        if _code(language) not in have:
            raise UserError(f"there is no {language} in {data}; there is {', '.join(sorted(have))}")
    allowed = {_code(language) for language in wanted or trained}
    if wanted:
        allowed.add("en")

    def known(language: str) -> bool:
        return not allowed or _code(language) in allowed

    chosen = []
    for unit in units:
        if isinstance(unit, _BiasUnit):
            unit = unit.narrowed(known)
        if unit and all(map(known, unit.languages)):
            chosen.append(unit)
    if not chosen:
        raise UserError(
            f"{data} has {', '.join(sorted(have))}, none of them with the languages that are "
            f"wanted ({', '.join(sorted(allowed))})"
        )
    yield from chosen


def _code(language: str) -> str:
    """Two-letter code without script or region, where there is one."""
    base = readers.language_tag(language).split("-")[0]
    return TWO_LETTERS.get(base, base)


def _constant(files: Iterable[Path]) -> Callable[[], Sequence[Path]]:
    files = tuple(files)
    return lambda: files


def _dataset(name: str, source: Source) -> str:
    """A short name for a file named by the user: without languages and endings."""
    name = re.sub(r"\.(gz|tsv|txt|tmx)\b", "", name).replace("*", "")
    name = name.replace("-".join(source.languages), "").split("#")[0]
    return re.sub(r"[^\w]+", ".", name).strip(".") or "parallel"


TFDS_FIELDS = "source_sentence,target_sentence"
TFDS_TATOEBA = (
    "af ar bg bn de el es et eu fa fi fr he hi hu id it ja jv ka kk ko ml mr nl pt ru sw ta te th "
    "tl tr ur vi zh"
)
"""Languages of the tensorflow-datasets builder."""

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

_CODES = (
    "afr:af amh:am ara:ar aze:az bel:be ben:bn bos:bs bre:br bul:bg cat:ca ces:cs cmn:zh "
    "cor:kw cym:cy dan:da deu:de ell:el eng:en epo:eo est:et eus:eu fao:fo fin:fi fra:fr "
    "fry:fy gla:gd gle:ga glg:gl heb:he hin:hi hrv:hr hun:hu hye:hy ido:io ile:ie ina:ia "
    "ind:id isl:is ita:it jav:jv jpn:ja kat:ka kaz:kk khm:km kor:ko kur:ku lat:la lav:lv "
    "lit:lt mal:ml mar:mr mkd:mk mon:mn nld:nl nno:nn nob:nb oci:oc pes:fa pol:pl por:pt "
    "ron:ro rus:ru slk:sk slv:sl spa:es sqi:sq srp:sr swe:sv swh:sw tam:ta tat:tt tel:te "
    "tgl:tl tha:th tuk:tk tur:tr uig:ug ukr:uk urd:ur uzb:uz vie:vi xho:xh yid:yi zsm:ms"
)
TWO_LETTERS = dict(pair.split(":") for pair in _CODES.split())
"""Codes of the Tatoeba files that have two letters elsewhere."""
