"""`lightxling compare`: one table over runs, with what each cost and what it scores.

Runs whose settings differ in the seed only are one row: mean ± standard deviation.
"""

import csv
import dataclasses
import io
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from rich.table import Table

from lightxling.config import UserError
from lightxling.evaluate.run import load_results, mean_scores
from lightxling.files import parse_json
from lightxling.train.progress import read_metrics

Format = Literal["table", "markdown", "csv"]
Values = dict[str, int | float]


@dataclasses.dataclass(frozen=True)
class Run:
    """What a run directory (or an export) says about itself."""

    name: str
    group: str
    """Equal for runs that may be averaged."""
    values: Values
    """Column to number; columns in the order in which they are shown."""


def read_run(path: Path, *, units: bool = True) -> Run:
    """Reads config.json, metrics.jsonl and evaluation/*.json; what is missing is left empty.

    Args:
      units: the scores of single languages too, not only their means.
    """
    try:
        config = parse_json((path / "config.json").read_bytes())
    except OSError:
        raise UserError(
            f"{path} is no run: it has no config.json; give the folders that `lightxling train` "
            "or `lightxling export` wrote"
        ) from None
    except ValueError:
        config = None
    if not isinstance(config, dict):
        raise UserError(f"{path}/config.json is damaged; copy or train the run again")
    try:
        values = {**_size(path, config), **_cost(path), **_scores(path, units)}
        numbers = {name: float(value) for name, value in values.items()}
        return Run(path.absolute().name, _without_seed(path, config), numbers)
    except (KeyError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
        raise UserError(
            f"config.json, metrics.jsonl or evaluation in {path} are not as a run writes them "
            f"({error!r}); copy or train the run again"
        ) from None


def compare(paths: Sequence[Path], *, units: bool = True) -> tuple[list[str], list[dict[str, Any]]]:
    """Columns and rows of the table, in the order of the runs.

    A row has `run` (the names of its runs), `runs` (how many) and, per column, (mean, sample
    standard deviation); the deviation is None for a single run, and a column that a run lacks is
    None.
    """
    groups: dict[str, list[Run]] = {}
    for path in paths:
        run = read_run(path, units=units)
        groups.setdefault(run.group, []).append(run)
    columns = list(dict.fromkeys(c for runs in groups.values() for r in runs for c in r.values))
    rows = []
    for runs in groups.values():
        row: dict[str, Any] = {"run": ", ".join(run.name for run in runs), "runs": len(runs)}
        for column in columns:
            values = [run.values[column] for run in runs if column in run.values]
            spread = float(np.std(values, ddof=1)) if len(values) > 1 else None
            row[column] = (float(np.mean(values)), spread) if values else None
        rows.append(row)
    return columns, rows


def render(columns: list[str], rows: list[dict[str, Any]], form: Format) -> str | Table:
    """The table for the screen, as Markdown, or as CSV (deviations in columns of their own)."""
    if form == "csv":
        return _csv(columns, rows)
    # runs stand side by side: there are more scores than runs
    names = [f"{row['run']} ({row['runs']})" if row["runs"] > 1 else row["run"] for row in rows]
    lines = [[column, *(as_text(column, row[column]) for row in rows)] for column in columns]
    if form == "markdown":
        lines = [["", *names], ["---", *["---:"] * len(rows)], *lines]
        return "\n".join("| " + " | ".join(_escape(cell) for cell in line) + " |" for line in lines)
    table = Table("", *names)
    for column in table.columns[1:]:
        column.justify = "right"
    for line in lines:
        table.add_row(*line)
    return table


def _size(path: Path, config: dict[str, Any]) -> Values:
    """Parameters and bytes: of the files of an export, or of a float32 export of a run."""
    if "config" not in config:
        files = [
            file for file in path.rglob("*") if "evaluation" not in file.relative_to(path).parts
        ]
        return {"bytes": sum(file.stat().st_size for file in files if file.is_file())}
    count = config.get("parameters", {}).get("encoder")
    if count is None:
        return {}
    tokenizer = path / "tokenizer.model"
    return {
        "parameters": count,
        "bytes": 4 * count + (tokenizer.stat().st_size if tokenizer.is_file() else 0),
    }


def _exported_parameters(path: Path) -> Values:
    if not path.is_file():
        return {}
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="np") as file:
            names = [name for name in file.keys() if not name.endswith(".scales")]  # noqa: SIM118
            return {"parameters": sum(math.prod(file.get_slice(n).get_shape()) for n in names)}
    except SafetensorError as error:
        raise UserError(f"{path} is damaged ({error}); export it again") from None


def _cost(path: Path) -> Values:
    """Pairs trained on, time and memory, from metrics.jsonl."""
    records, _ = read_metrics(path / "metrics.jsonl")
    records = [r for r in records if r.get("pairs_per_second", 0) > 0 and r.get("pairs", -1) >= 0]
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
    memory = [
        record[k] for record in records for k in ("device_memory", "peak_memory") if k in record
    ]
    if memory:
        values["peak memory"] = max(memory)
    dev = [r["dev_p@1"] for r in records if not math.isnan(r.get("dev_p@1", math.nan))]
    if dev:
        values["best dev P@1"] = max(dev)
    return values


def _scores(path: Path, with_units: bool) -> Values:
    """Mean of every score of every benchmark; the scores of single units follow."""
    values: Values = {}
    single: Values = {}
    for file in sorted((path / "evaluation").glob("*.json")):
        results = load_results(file)
        if not results["results"]:
            continue
        name = file.name.removesuffix(".json")
        units = results["results"]
        values |= {f"{name} {score}": mean for score, mean in mean_scores(results).items()}
        if with_units and len(units) > 1:
            for unit, result in units.items():
                single |= {f"{name} {unit} {k}": v for k, v in result["scores"].items()}
    return {**values, **single}


def _without_seed(path: Path, config: dict[str, Any]) -> str:
    """The settings of a run without its seed; an export has none and stands alone."""
    if not isinstance(config.get("config"), dict):
        return str(path.absolute())
    settings = {k: v for k, v in config["config"].items() if k not in ("mesh", "name")}
    corpus, train = (dict(settings.get(part, {})) for part in ("corpus", "train"))
    corpus.pop("store", None)
    for key in ("seed", "dev_every", "log_every", "checkpoint_every", "keep"):
        train.pop(key, None)  # all but the seed change no parameter
    settings |= {"corpus": corpus, "train": train}
    return json.dumps([settings, config.get("store", {}).get("tokenizer")], sort_keys=True)


def as_text(column: str, value: tuple[float, float | None] | None) -> str:
    """A number of the table as text."""
    if value is None:
        return ""
    mean, spread = value
    if column in ("bytes", "peak memory"):
        return f"{mean / 1e6:,.1f} MB"
    if column in ("parameters", "training pairs", "pairs/s"):
        return f"{mean:,.0f}"
    digits = 2 if column == "training hours" else 1
    return f"{mean:.{digits}f}" + (f" ± {spread:.{digits}f}" if spread is not None else "")


def _csv(columns: list[str], rows: list[dict[str, Any]]) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["run", "runs", *(name for c in columns for name in (c, f"{c} sd"))])
    for row in rows:
        cells = [part for c in columns for part in (row[c] or (None, None))]
        writer.writerow(
            [row["run"], row["runs"], *("" if c is None else f"{c:.6g}" for c in cells)]
        )
    return out.getvalue()


def _escape(cell: str) -> str:
    return cell.replace("|", "\\|")
