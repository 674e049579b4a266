"""`lightxling compare`: one table over runs, with what each cost and what it scores.

Runs whose settings differ in the seed only are one row: mean ± standard deviation. The mean over
the languages of a benchmark is taken over those that all of these runs were scored in.
"""

import csv
import dataclasses
import io
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from lightxling.base import limits, screen
from lightxling.base.errors import UserError
from lightxling.base.places import PARAMETERS
from lightxling.evaluate.pairwise import rows_by_pair
from lightxling.evaluate.tables import shared_units
from lightxling.evaluate.tasks import DETAILS
from lightxling.saved.results import POOLED, Results, mean_scores
from lightxling.saved.run import RunFolder, read_folder

TableFormat = Literal["table", "markdown", "csv"]
Values = dict[str, int | float]


@dataclasses.dataclass(frozen=True)
class Summary:
    """A run, or an export, in numbers."""

    name: str
    group: str
    """Equal for runs that may be averaged."""
    values: Values
    """Size and cost: column to number, in the order in which they are shown."""
    benchmarks: Mapping[str, Results]
    """Results by the name of their file."""


class Average(NamedTuple):
    """Of a number over the runs of a row that have it."""

    mean: float
    spread: float | None
    """Sample standard deviation; None for a single run."""
    runs: int


def unique_runs(paths: Iterable[Path]) -> list[Path]:
    """The first of the paths to every folder."""
    first: dict[Path, Path] = {}
    for path in paths:
        first.setdefault(path.resolve(), path)
    return list(first.values())


def summary(run: RunFolder) -> Summary:
    """What the files of a run say in numbers; what is missing is left out.

    Raises:
      UserError: they are not as a run writes them, or the parameters of an export are damaged.
    """
    try:
        values = {**_size(run), **_cost(run)}
        numbers = {name: float(value) for name, value in values.items()}
        return Summary(run.name, _without_seed(run), numbers, _benchmarks(run))
    except (KeyError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
        raise UserError(
            f"config.json, metrics.jsonl or evaluation in {run.path} are not as a run writes them "
            f"({error!r}); copy or train the run again"
        ) from None


def compare(paths: Sequence[Path], *, units: bool = True) -> tuple[list[str], list[dict[str, Any]]]:
    """Columns and rows of the table over some runs and exports, see `table_of`.

    Raises:
      UserError: no run is given, or one is not a run, is damaged, or has scores of several
        encoders.
    """
    paths = unique_runs(paths)
    if not paths:
        raise UserError("no run is given; lightxling compare RUN RUN ...")
    return table_of([summary(read_folder(path)) for path in paths], units=units)


def show(paths: Sequence[Path], form: TableFormat, *, everything: bool = False) -> None:
    """Prints the table over runs and exports, and the one by language pair.

    Args:
      everything: also scores that tell little.

    Raises:
      UserError: as `compare`.
    """
    columns, rows = compare(paths)
    if not everything:
        columns = [name for name in columns if not name.endswith(DETAILS)]
    by_pair = rows_by_pair([read_folder(path) for path in unique_runs(paths)])
    tables = [render(columns, rows, form)]
    if by_pair and form != "csv":
        tables.append(_as_text(by_pair, form))
    for i, table in enumerate(tables):
        if i and form == "markdown":
            print()
        print(table)


def table_of(
    summaries: Sequence[Summary], *, units: bool = True
) -> tuple[list[str], list[dict[str, Any]]]:
    """Columns and rows of the table, in the order of the runs.

    A row has `run` (the names of its runs), `runs` (how many) and, per column, an `Average` over
    the runs that have the column; None where none has it.

    Args:
      units: the scores of single languages too, not only their means.
    """
    groups: dict[str, list[Summary]] = {}
    for run in summaries:
        groups.setdefault(run.group, []).append(run)
    several = _of_several_units(summaries) if units else set()
    first = [
        [run.values | means for run, means in zip(runs, _mean_scores(runs), strict=True)]
        for runs in groups.values()
    ]
    then = [[_unit_scores(run, several) for run in runs] for runs in groups.values()]
    columns = dict.fromkeys(name for runs in first + then for run in runs for name in run)
    rows = []
    for runs, means, scores in zip(groups.values(), first, then, strict=True):
        row: dict[str, Any] = {"run": ", ".join(run.name for run in runs), "runs": len(runs)}
        found = [one | more for one, more in zip(means, scores, strict=True)]
        for name in columns:
            row[name] = _average([one[name] for one in found if name in one])
        rows.append(row)
    return list(columns), rows


def render(columns: list[str], rows: list[dict[str, Any]], form: TableFormat) -> str:
    """The table for the screen, as Markdown, or as CSV (deviations in columns of their own, and
    how many runs have the number)."""
    if form == "csv":
        return _csv(columns, rows)
    return _as_text(_lines(columns, rows), form)


def _as_text(lines: list[list[str]], form: TableFormat) -> str:
    return _markdown(lines) if form == "markdown" else screen.table(lines[0], lines[1:])


def _lines(columns: list[str], rows: list[dict[str, Any]]) -> list[list[str]]:
    """The table as text, its head first: runs stand side by side, as there are more scores."""
    names = [f"{row['run']} ({row['runs']})" if row["runs"] > 1 else row["run"] for row in rows]
    lines = [[column, *(_cell(column, row, rows) for row in rows)] for column in columns]
    return [["", *names], *lines]


def _cell(column: str, row: dict[str, Any], rows: list[dict[str, Any]]) -> str:
    """A number as text, with the number of candidates where it is not the same in all rows."""
    text = as_text(column, row[column], row["runs"])
    before, _, last = column.rpartition(" ")
    sizes = "dev candidates" if column == "best dev P@1" else f"{before} candidates"
    differ = {one[sizes].mean for one in rows if one.get(sizes)}
    if text and last != "candidates" and len(differ) > 1 and row.get(sizes):
        text += f" of {row[sizes].mean:,.0f}"
    return text


def _markdown(lines: list[list[str]]) -> str:
    head, *rest = lines
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rest]
    return "\n".join(
        "| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines
    )


def _size(run: RunFolder) -> Values:
    """Parameters and bytes: of the files of an export, or of a float32 export of a run."""
    path, about = run.path, run.about
    if "config" in about:
        count = about.get("parameters", {}).get("encoder")
        tokenizer = path / "tokenizer.model"
        more = tokenizer.stat().st_size if tokenizer.is_file() else 0
        is_count = type(count) is int and 0 <= count <= limits.STEP
        return {} if not is_count else {"parameters": count, "bytes": 4 * count + more}
    files = [file for file in path.rglob("*") if "evaluation" not in file.relative_to(path).parts]
    size = sum(file.stat().st_size for file in files if file.is_file())
    return {**_exported_parameters(path / PARAMETERS), "bytes": size}


def _exported_parameters(path: Path) -> Values:
    """How many numbers the file of an export has, without the scales of int8; its header says."""
    if not path.exists():
        return {}
    from safetensors import SafetensorError, safe_open

    try:
        limits.check_parameters(path)
        with safe_open(path, framework="np") as file:
            names = [name for name in file.keys() if not name.endswith(".scales")]  # noqa: SIM118
            slices = [file.get_slice(name) for name in names]
            count = sum(math.prod(s.get_shape()) * (1 + (s.get_dtype() == "U8")) for s in slices)
            return {"parameters": count}  # two to an octet in int4
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from None
    except SafetensorError as error:
        raise UserError(f"{path} is damaged ({error}); export it again") from None


def _cost(run: RunFolder) -> Values:
    """Pairs trained on, time and memory, from metrics.jsonl; pairs and time are those of all
    stages together, the rest is of the last one."""
    values = _cost_alone(run)
    for stage in map(_cost_alone, run.stages.values() if values else ()):
        for name in ("training pairs", "training hours"):
            values[name] += stage.get(name, 0)
    return values


def _cost_alone(run: RunFolder) -> Values:
    records = [
        r for r in run.records if r.get("pairs_per_second", 0) > 0 and r.get("pairs", -1) >= 0
    ]
    if not records:
        return {}
    seconds, before = 0.0, 0
    for record in records:
        seconds += (record["pairs"] - before) / record["pairs_per_second"]
        before = record["pairs"]
    values = {
        "training pairs": records[-1]["pairs"],
        "training hours": seconds / 3600,
        "pairs/s": float(np.median([record["pairs_per_second"] for record in records])),
    }
    if memory := [r[k] for r in records for k in ("device_memory", "peak_memory") if k in r]:
        values["peak memory"] = max(memory)
    if dev := [r["dev_p@1"] for r in run.records if not math.isnan(r.get("dev_p@1", math.nan))]:
        values["best dev P@1"] = max(dev)
        if sizes := [r["dev_candidates"] for r in records if "dev_candidates" in r]:
            values["dev candidates"] = sizes[-1]
    return values


def _benchmarks(run: RunFolder) -> dict[str, Results]:
    """Benchmarks with all scores, and among how many candidates they are, as floats."""
    found: dict[str, Results] = {}
    for name, results in run.results.items():
        found[name] = {"results": {}}
        for unit, result in results["results"].items():
            size = {"candidates": result["candidates"]} if result.get("candidates") else {}
            scores = {key: float(value) for key, value in (result["scores"] | size).items()}
            found[name]["results"][unit] = {"scores": scores}
    return found


def _mean_scores(runs: Sequence[Summary]) -> list[Values]:
    """For each run, means of every benchmark over the units that all of them have that have it."""
    having: dict[str, list[Results]] = {}
    for run in runs:
        for name, results in run.benchmarks.items():
            having.setdefault(name, []).append(results)
    shared = {name: shared_units(benchmarks) for name, benchmarks in having.items()}
    return [
        {
            f"{name} {score}": mean
            for name, results in run.benchmarks.items()
            for score, mean in mean_scores(results, shared[name]).items()
        }
        for run in runs
    ]


def _of_several_units(runs: Iterable[Summary]) -> set[str]:
    """Benchmarks with more to show than their means."""
    units: dict[str, set[str]] = {}
    for run in runs:
        for name, results in run.benchmarks.items():
            units.setdefault(name, set()).update(results["results"])
    return {name for name, names in units.items() if len(names) > 1 or POOLED in names}


def _unit_scores(run: Summary, benchmarks: Iterable[str]) -> Values:
    """Scores of single units of some benchmarks."""
    return {
        f"{name} {unit} {score}": value
        for name, results in run.benchmarks.items()
        if name in benchmarks
        for unit, result in results["results"].items()
        for score, value in result["scores"].items()
    }


def _average(values: Sequence[float]) -> Average | None:
    if not values:
        return None
    spread = float(np.std(values, ddof=1)) if len(values) > 1 else None
    return Average(float(np.mean(values)), spread, len(values))


def _without_seed(run: RunFolder) -> str:
    """The settings of a run without its seed; an export has none and stands alone."""
    config = run.about
    if not isinstance(config.get("config"), dict):
        return str(run.path.absolute())
    settings = {k: v for k, v in config["config"].items() if k not in ("mesh", "name")}
    corpus, train = (dict(settings.get(part, {})) for part in ("corpus", "train"))
    corpus.pop("store", None)
    for key in ("seed", "dev_every", "log_every", "checkpoint_every", "keep"):
        train.pop(key, None)  # all but the seed change no parameter
    settings |= {"corpus": corpus, "train": train}
    if settings.get("stages"):
        train.pop("init_from", None)  # in the folder of the run
    return json.dumps([settings, config.get("store", {}).get("tokenizer")], sort_keys=True)


def as_text(column: str, value: Average | None, runs: int) -> str:
    """A number of the table as text, with n where fewer than all `runs` of the row have it."""
    if value is None:
        return ""
    mean, spread = value.mean, value.spread
    if column in ("bytes", "peak memory"):
        text = f"{mean / 1e6:,.1f} MB"
    elif column.endswith(("parameters", "training pairs", "pairs/s", "candidates")):
        text = f"{mean:,.0f}"
    else:
        digits = 2 if column == "training hours" else 1
        text = f"{mean:.{digits}f}" + (f" ± {spread:.{digits}f}" if spread is not None else "")
    return text + (f" (n={value.runs})" if value.runs < runs else "")


def _csv(columns: list[str], rows: list[dict[str, Any]]) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["run", "runs", *(name for c in columns for name in (c, f"{c} sd", f"{c} n"))])
    for row in rows:
        numbers = [part for c in columns for part in (row[c] or (None, None, 0))]
        cells = ["" if number is None else f"{number:.6g}" for number in numbers]
        writer.writerow([row["run"], row["runs"], *cells])
    return out.getvalue()
