"""What the folder of a run, or of an export, tells about itself: everything but parameters.

metrics.jsonl has what a run measures: one object a line, in the order of steps.
"""

import dataclasses
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lightxling.base import limits
from lightxling.base.errors import UserError
from lightxling.base.files import atomic, parse_json, read_json, recover
from lightxling.base.places import DESCRIPTION, locate, other_names, results_of
from lightxling.saved.results import Results, load_folder

STAGES = "stages"
"""Folder in that of a run for the runs that came before it, see `config.schema.StageConfig`."""


@dataclasses.dataclass(frozen=True)
class RunFolder:
    """A folder, read once.

    Attributes:
      about: config.json as it is; of a run, `config` in it are the settings.
      records: of metrics.jsonl, in the order of their steps.
      damaged: lines of it that could not be read.
      results: of evaluation/*.json, by the name of the file without `.json`.
      damaged_results: names of those files that have no scores that can be read.
      stages: the runs that came before it, by their names.
    """

    path: Path
    about: dict[str, Any]
    records: list[dict[str, int | float]]
    damaged: int
    results: dict[str, Results]
    damaged_results: list[str]
    stages: dict[str, "RunFolder"] = dataclasses.field(default_factory=dict, kw_only=True)

    @property
    def name(self) -> str:
        return self.path.absolute().name


def read_folder(path: Path) -> RunFolder:
    """Reads config.json, metrics.jsonl and evaluation/*.json; the last two may be missing.

    Args:
      path: or the name of an encoder in the package, whose results lie in evaluation/NAME here.

    Raises:
      UserError: there is no config.json, it is damaged, or the scores are of several encoders.
    """
    path = locate(path)
    recover(path)
    if not (path / DESCRIPTION).is_file():
        raise UserError(f"{path} is not a run: it has no {DESCRIPTION}; {other_names(path)}")
    about = read_json(path / DESCRIPTION)
    records, damaged = read_metrics(path / "metrics.jsonl")
    found = load_folder(results_of(path))
    settings = about.get("config")
    asked = settings.get("stages") if isinstance(settings, dict) else None
    names = [str(stage.get("name")) for stage in asked or () if isinstance(stage, dict)]
    before = {name: path / STAGES / name for name in names}
    return RunFolder(
        path,
        about,
        records,
        damaged,
        {name: results for name, results in found.items() if results["results"]},
        [f"{name}.json" for name, results in found.items() if not results["results"]],
        stages={
            name: read_folder(at) for name, at in before.items() if (at / DESCRIPTION).is_file()
        },
    )


def number(value: float) -> str:
    """Four significant digits, without an exponent where it is readable."""
    return f"{value:.4g}" if abs(value) < 10_000 else f"{value:,.0f}"


def forget_after(path: Path, step: int) -> None:
    """Drops lines of metrics beyond the restored step (a killed run had written them), and half a
    line."""
    if not path.exists():
        return
    kept = [line + b"\n" for line, record in _lines(path) if record and record["step"] <= step]
    with atomic(path) as temporary:
        temporary.write_bytes(b"".join(kept))


def read_metrics(path: Path) -> tuple[list[dict[str, int | float]], int]:
    """The records of a metrics.jsonl in the order of their steps, and how many lines are damaged.

    A killed run leaves half a line. Of a record, what is a number is kept; what was not finite
    (null), or is beyond all measure (`limits.NUMBER`), becomes NaN. A missing file has no records.
    """
    records, damaged = [], 0
    for line, record in _lines(path) if path.exists() else ():
        damaged += not record and bool(line.strip())
        numbers = {
            key: value if value is not None and abs(value) <= limits.NUMBER else math.nan
            for key, value in record.items()
            if value is None or type(value) in (int, float)
        }
        records += [numbers] if record else []
    return sorted(records, key=lambda record: record["step"]), damaged


def _lines(path: Path) -> Iterator[tuple[bytes, dict[str, Any]]]:
    """Every line of metrics, and its record; {} where it has none."""
    try:
        for line in limits.read_lines(path, limits.METRICS, limits.METRICS_LINE):
            try:
                record = parse_json(line)
            except ValueError:
                record = None
            is_whole = isinstance(record, dict) and type(record.get("step")) is int
            yield line, record if is_whole and abs(record["step"]) <= limits.STEP else {}
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from None
