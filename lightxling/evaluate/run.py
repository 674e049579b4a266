"""`lightxling evaluate`: encode, score, keep, show.

Results lie in `evaluation/TASK.DATASET.json`, one file per benchmark, and are computed once: every
unit carries a key made of the encoder, the bytes of its files and the settings.
"""

import dataclasses
import datetime
import functools
import hashlib
import io
import json
import os
import re
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lightxling.base.errors import UserError
from lightxling.base.screen import Bar
from lightxling.base.vectors import Encode
from lightxling.base.version import __version__
from lightxling.config.identity import counting, first_defaults
from lightxling.evaluate.report.pictures import draw_pictures
from lightxling.evaluate.tables import screen_table
from lightxling.evaluate.tasks import TASKS, ScoringSettings, select_units
from lightxling.evaluate.tasks.units import Unit
from lightxling.saved.results import Results, load_results, save_results

_SPLIT = re.compile(r"(^|\.)(train|dev|valid|test)(\.|\d|$)")
_SHOWN = 3  # names of files that are not read


@dataclasses.dataclass(frozen=True)
class Asked:
    """What is evaluated, and where the results go."""

    tasks: Sequence[str]
    """Names from `TASKS`."""
    data: Sequence[str]
    """Folders, files, or `en-fr=PATH`."""
    folder: Path
    """For the results."""
    languages: Sequence[str] = ()
    """Which to evaluate; by default those in `trained`, or all when that is empty."""
    trained: Sequence[str] = ()
    """Languages that the encoder was trained on."""
    settings: ScoringSettings = dataclasses.field(default_factory=ScoringSettings)
    again: bool = False
    """Compute even what is kept."""
    plot: bool = False
    """Also write pictures, into `folder`."""
    everything: bool = False
    """Show all scores, not only those that one looks at first."""
    model: str = ""
    """Where the encoder lies, which results note."""
    truncated: Callable[[], int] = lambda: 0
    """How many sentences the encoder has cut off so far."""


def evaluate(
    encode: Encode, fingerprint: str, asked: Asked, screen: io.TextIOBase | None = None
) -> list[Results]:
    """Runs the tasks on the data, keeps the results in a folder and prints a table for each.

    Args:
      encode: sentences to vectors, not normalised.
      fingerprint: hash of everything that a vector depends on.
      screen: where tables go; None: to standard output.

    Raises:
      UserError: unknown task, missing files or languages, files that contradict each other, a
        folder that cannot be made.
    """
    folder = asked.folder
    encode = Stopwatch(encode)
    plan = _plan(asked)
    make_folder(folder)
    done: dict[Path, Results] = {}
    before: dict[Path, Results] = {}
    dropped: dict[Path, set[str]] = {}
    with Bar("evaluating", len(plan)) as bar:
        for task, unit in plan:
            bar.label = f"{task} {unit.dataset} {unit.name}"
            bar.advance(0)
            used = task_settings(task, asked.settings)
            path = folder / results_name(task, unit.dataset, used)
            asks = fingerprint
            if used.get("head") == "trained" and encode.inference:  # of the run
                asks += f" {encode.inference.fingerprint}"
            data = data_of(unit)
            key = unit_key(asks, task, unit, used, data)
            if path not in done:  # the first unit of a benchmark
                about = {"task": task, "dataset": unit.dataset, "settings": used}
                done[path] = {**about, "results": {}}
                before[path], dropped[path] = load_results(path), set()
            kept = before[path]["results"].get(unit.name, {})
            result = kept
            if asked.again or kept.get("key") != key:
                cut = asked.truncated()
                result = {**timed(unit, encode), "key": key, **origin(asked.model)}
                result |= {"data": data, "truncated": asked.truncated() - cut}
            done[path]["results"][unit.name] = result = {**result, "encoder": fingerprint}
            if result != kept:  # after every unit: a run that is stopped loses none
                dropped[path] |= save_results(path, done[path], fingerprint)
            bar.advance(1)
    for path, results in done.items():
        print(screen_table(results, asked.everything), file=screen)
        if others := sorted(dropped[path] - results["results"].keys()):
            print(f"{path}: left out {', '.join(others)}, scores of another encoder", file=screen)
    print(f"kept in {folder}", file=screen)
    if asked.plot:
        for picture in draw_pictures(encode, done, [unit for _, unit in plan], folder):
            print(f"drew {picture}", file=screen)
    return list(done.values())


def _plan(asked: Asked) -> list[tuple[str, Unit]]:
    """The units of every task, in their order."""
    tasks, data = asked.tasks, asked.data
    if not tasks:
        raise UserError(f"--task is empty; there are {', '.join(TASKS)}")
    if not data:
        raise UserError("--data is empty; give files, folders, or languages and a file: en-fr=PATH")
    for task in tasks:
        if task not in TASKS:
            raise UserError(f"there is no task {task!r}; there are {', '.join(TASKS)}")
    found = {task: TASKS[task].find(data, asked.settings) for task in dict.fromkeys(tasks)}
    for folder in data:
        _tell_unread(folder, found)
    return [
        (task, unit)
        for task, units in found.items()
        for unit in select_units(units, asked.languages, asked.trained, ", ".join(data))
    ]


def _tell_unread(folder: str, found: Mapping[str, Sequence[Unit]]) -> None:
    """Warns of files of a folder that no unit reads, as their names say nothing to its task; those
    of splits that it does not need are no surprise."""
    if not os.path.isdir(folder):
        return
    read = {file.resolve() for units in found.values() for unit in units for file in unit.files()}
    files = sorted(file for file in Path(folder).iterdir() if file.is_file())
    names = [file.name for file in files if file.resolve() not in read]
    others = [name for name in names if not (name.startswith(".") or _SPLIT.search(name))]
    if others:
        shown = ", ".join(others[:_SHOWN]) + ", ..." * (len(others) > _SHOWN)
        warnings.warn(
            f"{len(others):,} files of {folder} are not read by {', '.join(found)}: {shown}",
            stacklevel=2,
        )


class Stopwatch:
    """Counts sentences and seconds; one object per evaluation, which tasks may remember."""

    def __init__(self, encode: Encode):
        self._encode = encode
        self.seconds, self.sentences = 0.0, 0
        self.inference = getattr(encode, "inference", None)
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


# Names and keys of results


def task_settings(task: str, settings: ScoringSettings) -> dict[str, Any]:
    """What a task reads of the settings."""
    fields = dataclasses.fields(TASKS[task].settings)
    return {field.name: getattr(settings, field.name) for field in fields}


def results_name(task: str, dataset: str, settings: dict[str, Any]) -> str:
    """File name of a benchmark; settings other than their first defaults are part of it."""
    default = first_defaults(TASKS[task].settings, f"evaluate {task}")
    special = [f"{k}={v}" for k, v in settings.items() if v != default[k]]
    return ".".join([task, dataset, *special, "json"])


def data_of(unit: Unit) -> list[dict[str, str]]:
    """Path and sha256 of the files of a unit."""
    found = []
    for path in unit.files():
        with open(path, "rb") as file:
            sum_ = hashlib.file_digest(file, "sha256").hexdigest()
        found.append({"path": str(path), "sha256": sum_})
    return found


def origin(model: str) -> dict[str, str]:
    """What made a result, and when."""
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    return {"model": model, "version": __version__, "date": now}


def unit_key(
    fingerprint: str,
    task: str,
    unit: Unit,
    settings: dict[str, Any],
    data: Sequence[dict[str, str]],
) -> str:
    """Hash of the encoder, the contents of the unit's files, and the settings."""
    digest = hashlib.sha256(f"{__version__} {fingerprint} {unit.name}".encode())
    counts = counting(TASKS[task].settings, settings, f"evaluate {task}")
    if TASKS[task].definition > 1:
        counts["definition"] = TASKS[task].definition
    digest.update(json.dumps(counts, sort_keys=True).encode())
    for one in data:
        digest.update(bytes.fromhex(one["sha256"]))
    return digest.hexdigest()


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
