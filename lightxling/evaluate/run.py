"""`lightxling evaluate` and `lightxling mine`: encode, score, keep, show.

Results lie in `evaluation/TASK.DATASET.json`, one file per benchmark, and are computed once: every
unit carries a key made of the encoder, the bytes of its files and the settings.
"""

import dataclasses
import functools
import hashlib
import json
import tempfile
import time
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Float
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table
from rich.text import Text

from lightxling.base.lines import Problems
from lightxling.base.version import __version__
from lightxling.config import UserError
from lightxling.corpus.readers import read_moses
from lightxling.evaluate import mining
from lightxling.evaluate.retrieval import nearest, normalize
from lightxling.evaluate.tasks import TASKS, select
from lightxling.evaluate.tasks.sts import POOLED
from lightxling.evaluate.tasks.units import Encode, Settings, Unit, at_least
from lightxling.files import atomic, check_output, is_device, parse_json, write_json
from lightxling.identity import counting, first_defaults

Results = dict[str, Any]
"""task, dataset, settings, and per unit its scores in per cent and what describes them."""


def evaluate(
    encode: Encode,
    fingerprint: str,
    *,
    tasks: Sequence[str],
    data: Sequence[str],
    folder: Path,
    languages: Sequence[str] = (),
    trained: Sequence[str] = (),
    settings: Settings | None = None,
    again: bool = False,
    plot: bool = False,
    console: Console | None = None,
) -> list[Results]:
    """Runs the tasks on the data, keeps the results in `folder` and prints a table for each.

    Args:
      encode: sentences to vectors, not normalised.
      fingerprint: hash of everything that a vector depends on.
      tasks: names from `TASKS`.
      data: folders, files, or `en-fr=PATH`.
      languages: which to evaluate; by default those in `trained`, or all when that is empty.
      again: compute even what is kept.
      plot: also write pictures, into `folder`.

    Raises:
      UserError: unknown task, missing files or languages, files that contradict each other, a
        folder that cannot be made.
    """
    console, settings = console or Console(), settings or Settings()
    encode = Stopwatch(encode)
    if not tasks:
        raise UserError(f"--task is empty; there are {', '.join(TASKS)}")
    if not data:
        raise UserError("--data is empty; give files, folders, or languages and a file: en-fr=PATH")
    for task in tasks:
        if task not in TASKS:
            raise UserError(f"there is no task {task!r}; there are {', '.join(TASKS)}")
    plan = {}
    for task in dict.fromkeys(tasks):
        units = TASKS[task].find(data, settings)
        plan[task] = list(select(units, languages, trained, ", ".join(data)))
    make_folder(folder)

    done: dict[Path, Results] = {}
    before: dict[Path, Results] = {}
    dropped: dict[Path, set[str]] = {}
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=20),
        MofNCompleteColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )
    with bar:
        shown = bar.add_task("", total=sum(map(len, plan.values())))
        for task, units in plan.items():
            used = {name: getattr(settings, name) for name in TASKS[task].settings}
            for unit in units:
                bar.update(shown, description=f"{task} {unit.dataset} {unit.name}")
                path = folder / results_name(task, unit.dataset, used)
                key = unit_key(fingerprint, task, unit, used)
                if path not in done:
                    done[path], before[path] = _empty(task, unit.dataset, used), load_results(path)
                kept = before[path]["results"].get(unit.name, {})
                result = kept
                if again or kept.get("key") != key:
                    result = {**timed(unit, encode), "key": key}
                done[path]["results"][unit.name] = result = {**result, "encoder": fingerprint}
                if result != kept:
                    others = save_results(path, done[path], fingerprint)
                    dropped.setdefault(path, set()).update(others)
                bar.advance(shown)
    for path, results in done.items():
        console.print(table(results))
        if others := sorted(dropped.get(path, set()) - results["results"].keys()):
            console.print(
                f"{path}: left out {', '.join(others)}, scores of another encoder",
                markup=False,
                highlight=False,
            )
    console.print(f"kept in {folder}", markup=False, highlight=False)
    if plot:
        from lightxling.evaluate import plots

        for picture in plots.all_pictures(encode, done, plan, folder):
            console.print(f"drew {picture}", markup=False, highlight=False)
    return list(done.values())


class Stopwatch:
    """Counts sentences and seconds; one object per evaluation, which tasks may remember."""

    def __init__(self, encode: Encode):
        self._encode = encode
        self.seconds, self.sentences = 0.0, 0
        if hasattr(encode, "choose"):  # see `units.of_sides`
            self.choose = functools.cache(
                lambda language, is_cross: functools.partial(
                    self._timed, encode.choose(language, is_cross)
                )
            )

    def __call__(self, sentences: list[str]) -> np.ndarray:
        return self._timed(self._encode, sentences)

    def _timed(self, encode: Encode, sentences: list[str]) -> np.ndarray:
        start = time.perf_counter()
        vectors = np.asarray(encode(sentences))
        self.seconds += time.perf_counter() - start
        self.sentences += len(sentences)
        return vectors


def timed(unit: Unit, encode: Stopwatch) -> dict[str, Any]:
    """Runs a unit; adds the seconds that encoding and scoring took, and the sentences encoded."""
    encode.seconds, encode.sentences = 0.0, 0
    start = time.perf_counter()
    result = unit.run(encode)
    total = time.perf_counter() - start
    return {
        **result,
        "sentences": encode.sentences,
        "seconds": {"encode": round(encode.seconds, 3), "score": round(total - encode.seconds, 3)},
    }


# Results on disk


def results_name(task: str, dataset: str, settings: dict[str, Any]) -> str:
    """File name of a benchmark; settings other than their first defaults are part of it."""
    default = first_defaults(f"evaluate {task}")
    special = [f"{k}={v}" for k, v in settings.items() if v != default[k]]
    return ".".join([task, dataset, *special, "json"])


def unit_key(fingerprint: str, task: str, unit: Unit, settings: dict[str, Any]) -> str:
    """Hash of the encoder, the contents of the unit's files, and the settings."""
    digest = hashlib.sha256(f"{__version__} {fingerprint} {unit.name}".encode())
    counts = counting(f"evaluate {task}", settings)
    digest.update(json.dumps(counts, sort_keys=True).encode())
    for path in unit.files():
        with open(path, "rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


def load_results(path: Path) -> Results:
    """What an evaluation file holds; nothing of what is missing, damaged or without scores."""
    try:
        whole = parse_json(path.read_bytes())
        units = whole["results"].items()
        scored = {name: unit for name, unit in units if _are_scores(unit["scores"])}
        return {**whole, "results": scored}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {"results": {}}


def _are_scores(scores: Any) -> bool:
    if not isinstance(scores, dict) or not scores:
        return False
    return all(type(value) in (int, float) for value in scores.values())


def load_folder(folder: Path) -> dict[str, Results]:
    """What the evaluation files of a folder hold, by their names without `.json`.

    Units written before the encoder was kept beside them may be of any.

    Raises:
      UserError: the scores are those of several encoders: no table may have them side by side.
    """
    found = {
        file.name.removesuffix(".json"): load_results(file)
        for file in sorted(folder.glob("*.json"))
    }
    first: dict[str, str] = {}
    for name, results in found.items():
        for unit, result in results["results"].items():
            if isinstance(encoder := result.get("encoder"), str):
                first.setdefault(encoder, f"{name} {unit}")
    if len(first) > 1:
        raise UserError(
            f"{folder} holds scores of {len(first)} encoders ({'; '.join(first.values())}): "
            "--checkpoint or --adapters differed, or the run was trained on; evaluate all of it "
            "again with one encoder, and give the others an --output of their own"
        )
    return found


def save_results(path: Path, results: Results, fingerprint: str) -> set[str]:
    """Writes the units computed now, and those of other languages that the file has of the same
    encoder. Returns the names of the units that it has of others: they are gone."""
    before = load_results(path)["results"]
    kept = {name: unit for name, unit in before.items() if unit.get("encoder") == fingerprint}
    write_json(path, {**results, "results": {**kept, **results["results"]}})
    return before.keys() - kept.keys()


def make_folder(folder: Path) -> None:
    """Makes the folder for results and those above it.

    Raises:
      UserError: a file has the name, or the disk refuses.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"cannot make the folder {folder}: {error.strerror}; name another with --output"
        ) from None


def _empty(task: str, dataset: str, settings: dict[str, Any]) -> Results:
    return {"task": task, "dataset": dataset, "settings": settings, "results": {}}


# On the screen

DETAILS = ("forward_by_text", "backward_by_text")
DESCRIPTIONS = ("candidates", "queries", "pairs", "documents")


def shared_units(benchmarks: Sequence[Results]) -> list[str]:
    """Names of the units that all of these results of one benchmark have."""
    first, *others = (results["results"] for results in benchmarks)
    return [name for name in first if all(name in units for units in others)]


def mean_scores(results: Results, among: Collection[str] | None = None) -> dict[str, float]:
    """Mean of every score over the units; the pooled one of STS is not averaged again.

    Args:
      among: names of the units that are averaged; by default all.
    """
    rows = [
        unit["scores"]
        for name, unit in results["results"].items()
        if name != POOLED and (among is None or name in among)
    ]
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: float(np.mean([row[name] for row in rows if name in row])) for name in names}


def table(results: Results) -> Table:
    """The units of a benchmark, one in a row, with their mean."""
    units = results["results"]
    scores = dict.fromkeys(name for unit in units.values() for name in unit["scores"])
    scores = [name for name in scores if name not in DETAILS]
    about = [name for name in DESCRIPTIONS if any(name in unit for unit in units.values())]
    settings = ", ".join(f"{k} {v}" for k, v in results["settings"].items() if v)
    title = Text(f"{results['task']} {results['dataset']} ({settings})", "table.title")
    out = Table(title=title, title_justify="left", box=SIMPLE_HEAD, padding=0)
    out.add_column("", no_wrap=True)
    for name in (*scores, *about):
        out.add_column(name.replace("_", " "), justify="right")
    for name, unit in units.items():
        out.add_row(
            Text(name),  # no markup
            *(_percent(unit["scores"].get(score)) for score in scores),
            *(_count(unit.get(column)) for column in about),
        )
    if len(units) > 1:
        mean = mean_scores(results)
        out.add_section()
        out.add_row(
            f"mean of {len(units.keys() - {POOLED})}",
            *(_percent(mean.get(score)) for score in scores),
        )
    return out


def _percent(value: float | None) -> str:
    return "" if value is None else f"{value:.1f}"


def _count(value: Any) -> str:
    if isinstance(value, dict):
        return "; ".join(f"{name} {_count(item)}" for name, item in value.items())
    if isinstance(value, list):
        return " x ".join(f"{item:,}" for item in value)
    return "" if value is None else f"{value:,}"


# Mining files

SearchName = Literal["auto", "exact", "faiss"]
EXACT_LIMIT = 2e10  # products of vectors: some minutes of exact search
IN_MEMORY = 200_000  # sentences; beyond, unit vectors lie on disk as float16


@dataclasses.dataclass(frozen=True)
class MineSettings:
    """How pairs are found in two files of sentences."""

    margin: mining.Margin = "ratio"
    """The score of a pair."""
    direction: mining.Direction = "max"
    """Which pairs are candidates."""
    neighbours: int = 4
    """Neighbours of a sentence that are scored."""
    threshold: float | None = None
    """Lowest score that is written; 1.06 is a usual choice for ratio. By default all pairs are."""
    search: SearchName = "auto"
    """exact: every sentence with every other; faiss: an approximate index; auto: by size."""
    index: str = ""
    """faiss factory string, such as IVF4096,SQ8; by default chosen by size."""
    probes: int = 32
    """Lists of the index that are searched per sentence."""

    def __post_init__(self):
        at_least(self, "neighbours", 1)


def mine_files(
    encode: Encode,
    src: Path,
    tgt: Path,
    output: Path,
    settings: MineSettings | None = None,
    console: Console | None = None,
) -> dict[str, Any]:
    """Writes `score<TAB>source<TAB>target`, best first, from two files with one sentence per line.

    Blank and repeated lines are left out, and those that are no text, which are counted. Progress
    goes to standard error: nobody who stops reading it stops the work.

    Returns:
      What was done, in numbers.
    """
    console, settings = console or Console(stderr=True), settings or MineSettings()
    check_output(output)
    start = time.perf_counter()
    texts = []
    for path in (src, tgt):
        problems = Problems()
        unique, _ = mining.unique_texts(line for (line,) in read_moses([path], problems))
        for count, what in problems.told():
            console.print(f"{count:,} left out: {what}", markup=False)
        if not unique:
            raise UserError(f"{path} holds no sentences")
        texts.append(unique)
        console.print(f"{path}: {len(unique):,} different sentences", markup=False)
    products = len(texts[0]) * len(texts[1])
    name = settings.search
    if name == "auto":
        name = "exact" if products <= EXACT_LIMIT else "faiss"
    search = nearest if name == "exact" else mining.faiss_search(settings.index, settings.probes)
    place = None if is_device(output) else output.absolute().parent  # /dev holds no vectors
    with tempfile.TemporaryDirectory(dir=place, prefix=".mine-") as scratch:
        vectors = [
            _unit_vectors(encode, side, Path(scratch) / f"{i}.npy") for i, side in enumerate(texts)
        ]
        encoded = time.perf_counter()
        console.print(f"encoded in {encoded - start:.0f} s; searching ({name})", markup=False)
        mined = mining.mine(
            *vectors,
            margin=settings.margin,
            retrieval=settings.direction,
            k=settings.neighbours,
            search=search,
        )
    if settings.threshold is not None:
        mined = mined.above(settings.threshold)
    pairs = ((texts[0][i], texts[1][j]) for i, j in zip(mined.src, mined.tgt, strict=True))
    write_pairs(output, mined.score, pairs)
    console.print(f"{len(mined):,} pairs in {output}", markup=False)
    return {
        "sentences": [len(side) for side in texts],
        "pairs": len(mined),
        "search": name,
        "seconds": {
            "encode": round(encoded - start, 3),
            "search": round(time.perf_counter() - encoded, 3),
        },
    }


def write_pairs(
    output: Path, scores: Float[np.ndarray, " M"], pairs: Iterable[tuple[str, str]]
) -> None:
    """Writes `score<TAB>source<TAB>target`, a pair a line."""
    with atomic(output) as temporary, open(temporary, "w", encoding="utf-8") as file:
        for score, (one, other) in zip(scores, pairs, strict=True):
            one, other = one.replace("\t", " "), other.replace("\t", " ")
            file.write(f"{score:.4f}\t{one}\t{other}\n")


def _unit_vectors(encode: Encode, texts: list[str], path: Path, chunk: int = 50_000) -> np.ndarray:
    """[N, D] unit vectors; many of them as float16 in a file, for D times N times 2 bytes."""
    if len(texts) <= IN_MEMORY:
        return normalize(encode(texts))
    vectors = None
    for start in range(0, len(texts), chunk):
        part = normalize(encode(texts[start : start + chunk]))
        if vectors is None:
            shape = len(texts), part.shape[1]
            vectors = np.lib.format.open_memmap(path, "w+", np.float16, shape)
        vectors[start : start + len(part)] = part
    return vectors
