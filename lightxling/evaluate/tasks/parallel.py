"""Parallel text: retrieval, ranking, Tatoeba, Europarl, and BUCC's mining."""

import dataclasses
import functools
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lightxling.base.errors import UserError, at_least
from lightxling.base.languages import CODE
from lightxling.base.lines import Problems
from lightxling.base.unpacking import PACKED, plain_name
from lightxling.base.vectors import Encode, nearest
from lightxling.corpus import readers
from lightxling.corpus.cleaning import clean
from lightxling.corpus.sources import Source
from lightxling.encode import mining
from lightxling.evaluate import retrieval, similarity
from lightxling.evaluate.paired import pack_found
from lightxling.evaluate.tasks.units import (
    TaskSettings,
    Unit,
    constant,
    encode_sides,
    files_of,
    is_new,
    of_sides,
    tab_rows,
)

RSIM_LIMIT = 2000  # sentences; memory grows with the square

PARALLEL_NAME = re.compile(rf"(?:(?P<name>.+)\.)?(?P<a>{CODE})-(?P<b>{CODE})(?P<ending>\.\w+)")
"""Of a file that is not packed."""

TFDS_TATOEBA = (
    "af ar bg bn de el es et eu fa fi fr he hi hu id it ja jv ka kk ko ml mr nl pt ru sw ta te th "
    "tl tr ur vi zh"
)
"""Languages of the tensorflow-datasets builder."""


def parallel(data: Sequence[str]) -> list[tuple[str, Source]]:
    """Finds (dataset, source) in folders, in files and in sources written `en-fr=PATH`.

    In a folder: `NAME.en-fr.tsv`, `.txt` or `.tmx`, gzipped or not, and Moses files
    `NAME.en-fr.en`, `NAME.en-fr.fr`; NAME may be missing.
    """
    found: list[tuple[str, Source]] = []
    files: dict[tuple[str, tuple[str, ...]], Path] = {}

    def add(dataset: str, source: Source) -> None:
        what = f"{dataset} {'-'.join(source.languages)}"
        if is_new(files, (dataset, source.languages), Path(source.path), what):
            found.append((dataset, source))

    for entry in data:
        if "=" in entry:
            source = Source.parse(entry)
            add(_dataset(Path(source.path).name, source), source)
            continue
        path, has_any = Path(entry), False
        for file in files_of([entry]):
            match = PARALLEL_NAME.fullmatch(plain_name(file.name))
            sides = (f".{match['a']}", f".{match['b']}") if match else ()
            if not match or match["ending"] not in (*readers.READERS, *sides):
                continue
            where = str(file)
            if match["ending"] in sides:  # the stem of Moses files
                where = plain_name(where).removesuffix(match["ending"])
            dataset = match["name"] or file.absolute().parent.name
            add(dataset, Source((match["a"], match["b"]), 1.0, where))
            has_any = True
        if not has_any:
            raise UserError(
                f"{path} holds no parallel text named like NAME.en-fr.tsv or NAME.en-fr.en; name "
                f"the languages yourself: --data en-fr={path}"
            )
    return found


def _dataset(name: str, source: Source) -> str:
    """A short name for a file named by the user: without languages and endings."""
    endings = "|".join(map(re.escape, (*PACKED, *readers.READERS)))
    name = re.sub(rf"({endings})\b", "", name).replace("*", "")
    name = name.replace("-".join(source.languages), "").split("#")[0]
    return re.sub(r"[^\w]+", ".", name).strip(".") or "parallel"


def read_pairs(source: Source, keep_blank: bool = False) -> tuple[list[str], list[str]]:
    """Both sides of a parallel text; pairs with a blank side are left out unless `keep_blank`."""
    problems, rows = Problems(), []
    for number, row in enumerate(readers.read_source(source, problems), 1):
        sides = tuple(text.strip() for text in row)
        if keep_blank or all(map(clean, sides)):
            rows.append(sides)
        else:
            problems.add("blank side", f"{source.path}, pair {number}")
    problems.warn("left out")
    if not rows:
        raise UserError(f"{source.path} holds no {'-'.join(source.languages)} sentence pairs")
    return [row[0] for row in rows], [row[1] for row in rows]


@dataclasses.dataclass(frozen=True)
class RetrievalSettings(TaskSettings):
    scoring: retrieval.Scoring = "cosine"
    """Retrieval: cosine, csls (10 neighbours), or LASER's margins over 4 neighbours: margin (their
    ratio), distance, absolute."""


def find_retrieval(data: Sequence[str], settings: RetrievalSettings) -> list[Unit]:
    """Any parallel text: every sentence looks for its translation among all of the other side."""
    return [_unit(_run_retrieval, *found, settings) for found in parallel(data)]


def find_tatoeba(data: Sequence[str], settings: RetrievalSettings) -> list[Unit]:
    """`tatoeba.fra-eng.fra` and `.eng` in a folder, or tensorflow-datasets with `--data tfds`."""
    if list(data) == ["tfds"]:
        place = "tfds:tatoeba/tatoeba_{}#source_sentence,target_sentence"
        codes = TFDS_TATOEBA.split()
        found = [("tatoeba", Source((code, "en"), 1.0, place.format(code))) for code in codes]
    else:
        found = [one for one in parallel(data) if one[0] == "tatoeba"]
    return [_unit(_run_retrieval, *one, settings) for one in found]


def _unit(
    run: Callable[[Source, Any, Encode], dict[str, Any]],
    dataset: str,
    source: Source,
    settings: TaskSettings,
    *,
    is_drawn: bool = True,
) -> Unit:
    """A unit that runs on one parallel text, of which pictures can be drawn if it is not large."""
    name, files = "-".join(source.languages), functools.partial(readers.files, source)
    pairs = functools.partial(read_pairs, source) if is_drawn else None
    own_run = functools.partial(run, source, settings)
    return Unit(dataset, name, source.languages, files, own_run, pairs)


def _run_retrieval(source: Source, settings: RetrievalSettings, encode: Encode) -> dict[str, Any]:
    """Accuracy of both directions, and mteb's F1; see `retrieval.ranks` and `weighted_f1`.

    A sentence whose text occurs several times is found in any of these rows. By row, where only the
    row of the pair is right, such ties miss.
    """
    texts, scoring = read_pairs(source), settings.scoring
    src, tgt = encode_sides(encode, source.languages, texts)
    same = dict(zip(("same_src", "same_tgt"), map(retrieval.text_labels, texts), strict=True))
    repeated = [len(labels) - len(np.unique(labels)) for labels in same.values()]
    places = {
        "forward": retrieval.ranks(src, tgt, same=same["same_tgt"], scoring=scoring),
        "backward": retrieval.ranks(tgt, src, same=same["same_src"], scoring=scoring),
    }
    right = {name: 100 * retrieval.precision(ranks) for name, ranks in places.items()}
    mean = (right["forward"] + right["backward"]) / 2
    scores = {"accuracy": mean, "error": 100 - mean, **right}
    by_row = 100 * retrieval.precision_at_1(src, tgt, scoring).mean if any(repeated) else mean
    if scoring == "cosine":
        rows = np.arange(len(src))
        for name, one, other in (("forward_f1", src, tgt), ("backward_f1", tgt, src)):
            found = nearest(one, other, 1)[1][:, 0]
            scores[name] = 100 * retrieval.weighted_f1(rows, found)
    scores["by_row"] = by_row
    if 3 <= len(src) <= RSIM_LIMIT:
        scores["rsim"] = 100 * similarity.rsim(src, tgt)
    found = {way: pack_found(ranks) for way, ranks in places.items()}
    about = {"candidates": len(tgt), "repeated_texts": repeated, "found": found}
    return {"scores": scores, **about}


@dataclasses.dataclass(frozen=True)
class RankingSettings(TaskSettings):
    among: int = 1000
    """Ranking: candidates of each query, the right one and others drawn at random."""
    product: retrieval.Product = "dot"
    """Ranking: dot product of the vectors as they are, or cosine."""

    def __post_init__(self):
        if self.among < 2:
            raise UserError(f"--among {self.among} leaves nothing to rank; use 2 or more")
        super().__post_init__()


def find_ranking(data: Sequence[str], settings: RankingSettings) -> list[Unit]:
    """Any parallel text: every sentence looks for its translation among some drawn at random."""
    return [_unit(_run_ranking, *found, settings) for found in parallel(data)]


def _run_ranking(source: Source, settings: RankingSettings, encode: Encode) -> dict[str, Any]:
    src, tgt = encode_sides(encode, source.languages, read_pairs(source))
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


@dataclasses.dataclass(frozen=True)
class EuroparlSettings(RetrievalSettings):
    queries: int = 2000
    """Europarl: sentences that are looked for."""
    candidates: int = 200_000
    """Europarl: sentences they are looked for in; smaller files give what they have."""
    lowercase: bool = True
    """Europarl: fold case, as the protocol does."""

    def __post_init__(self):
        at_least(self, "queries", 1)
        at_least(self, "candidates", 1)
        super().__post_init__()


def find_europarl(data: Sequence[str], settings: EuroparlSettings) -> list[Unit]:
    """2,000 queries among 200,000 candidates of a parallel text, drawn as MUSE draws them."""
    return [_unit(_run_europarl, *found, settings, is_drawn=False) for found in parallel(data)]


def _run_europarl(source: Source, settings: EuroparlSettings, encode: Encode) -> dict[str, Any]:
    if settings.scoring in retrieval.MARGINS:
        raise UserError(
            "the europarl task scores by cosine or csls; leave --scoring "
            f"{settings.scoring} to retrieval and tatoeba"
        )
    texts = muse_order(*read_pairs(source, keep_blank=True), settings.lowercase)
    total = min(settings.candidates, len(texts[0]))
    random = np.random.RandomState(1234)
    rows = random.choice(total, min(settings.queries, total), replace=False)
    encoders, scores = of_sides(encode, source.languages), {}
    for name, side in (("forward", 0), ("backward", 1)):
        places = retrieval.ranks(
            encoders[side]([texts[side][row] for row in rows]),
            encoders[1 - side](texts[1 - side][:total]),
            rows,
            scoring=settings.scoring,
        )
        for end, k in (("", 1), ("_at_5", 5), ("_at_10", 10)):
            scores[name + end] = 100 * retrieval.precision(places, k)
    scores = {"accuracy": (scores["forward"] + scores["backward"]) / 2, **scores}
    return {"scores": scores, "queries": len(rows), "candidates": total}


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


@dataclasses.dataclass(frozen=True)
class BuccSettings(TaskSettings):
    margin: mining.Margin = "ratio"
    """Mining: the score of a pair."""
    direction: mining.Direction = "max"
    """Mining: which pairs are candidates."""
    neighbours: int = 4
    """Mining: neighbours of a sentence that are scored."""

    def __post_init__(self):
        at_least(self, "neighbours", 1)
        super().__post_init__()


def find_bucc(data: Sequence[str], settings: BuccSettings) -> list[Unit]:
    """`fr-en.training.fr`, `.en` and `.gold`, and another split: `id<TAB>sentence`, `id<TAB>id`."""
    splits: dict[tuple[str, str], dict[str, dict[str, Path]]] = {}
    for file in files_of(data):
        match = re.fullmatch(rf"({CODE})-({CODE})\.(\w+)\.(\w+)", plain_name(file.name))
        if match and match[4] in (match[1], match[2], "gold"):
            split = splits.setdefault((match[1], match[2]), {}).setdefault(match[3], {})
            is_new(split, match[4], file, match[0])
    units = []
    for pair, found in splits.items():
        whole = {name: files for name, files in found.items() if {*pair, "gold"} <= set(files)}
        if not whole:
            missing = {*pair, "gold"} - set(next(iter(found.values())))
            raise UserError(
                f"{'-'.join(pair)}: no split is whole; {', '.join(sorted(missing))} is missing"
            )
        files = constant(file for split in whole.values() for file in split.values())
        run = functools.partial(_run_bucc, pair, whole, settings)
        units.append(Unit("bucc", "-".join(pair), pair, files, run))
    if not units:
        raise UserError(
            f"{', '.join(data)} holds no files that are named like fr-en.training.fr, "
            "fr-en.training.en and fr-en.training.gold"
        )
    return units


def _run_bucc(pair, splits, settings: BuccSettings, encode: Encode) -> dict[str, Any]:
    """Fits the threshold on the training split and measures F1 on the others."""
    result: dict[str, Any] = {"scores": {}, "candidates": {}, "gold": {}, "dropped_gold": {}}
    threshold, kept = None, {}
    of_src, of_tgt = of_sides(encode, pair)
    for name in sorted(splits, key=lambda split: (not split.startswith("train"), split)):
        columns = [tab_rows(splits[name][side], 2) for side in (*pair, "gold")]
        split = mining.bucc_split(*columns)
        how = {"margin": settings.margin, "retrieval": settings.direction}
        vectors = of_src(split.src), of_tgt(split.tgt)
        mined = mining.mine_pairs(*vectors, k=settings.neighbours, **how)
        mined, right = split.judge(mined)
        result["candidates"][name] = [len(split.src), len(split.tgt)]
        result["gold"][name], result["dropped_gold"][name] = split.all_gold, split.dropped
        if threshold is None:
            threshold, f1 = mining.best_threshold(mined, right, split.all_gold)
            result |= {"threshold": threshold, "fitted_on": name}
            fitted = {"f1_fitted": 100 * f1}
            if len(splits) > 1:
                continue
        else:
            kept = mining.f1_score(right[mined.score >= threshold], split.all_gold)
        prefix = "" if len(splits) <= 2 else f"{name}_"
        kept |= _bitext(split, *vectors)
        result["scores"] |= {prefix + key: 100 * value for key, value in kept.items()}
    result["scores"] |= fitted
    return result


def _bitext(split: mining.Bucc, src: np.ndarray, tgt: np.ndarray) -> dict[str, float]:
    """mteb's scores of a BUCC split: the source of every gold pair looks for its target among all
    targets, by cosine."""
    if not split.asked:
        return {}
    asked, gold = np.array(split.asked).T
    found = nearest(src[asked], tgt, 1)[1][:, 0]
    # a target whose text an earlier line has is another row there, which nobody finds
    gold = np.where(gold < 0, -1 - np.arange(len(gold)), gold)
    return {
        "mteb_accuracy": retrieval.precision(np.where(found == gold, 1, 2)),
        "mteb_f1": retrieval.weighted_f1(gold, found),
    }
