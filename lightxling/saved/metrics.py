"""metrics.jsonl, the numbers that a run leaves behind: one object a line, in the order of steps."""

import math
from pathlib import Path

from lightxling.base.files import atomic, parse_json


def number(value: float) -> str:
    """Four significant digits, without an exponent where it is readable."""
    return f"{value:.4g}" if abs(value) < 10_000 else f"{value:,.0f}"


def forget_after(path: Path, step: int) -> None:
    """Drops lines of metrics beyond the restored step (a killed run had written them), and half a
    line."""
    if not path.exists():
        return
    kept = []
    for line in path.read_bytes().splitlines():
        try:
            at = parse_json(line)["step"]
        except (ValueError, TypeError, KeyError):
            continue
        if isinstance(at, int) and at <= step:
            kept.append(line + b"\n")
    with atomic(path) as temporary:
        temporary.write_bytes(b"".join(kept))


def read_metrics(path: Path) -> tuple[list[dict[str, int | float]], int]:
    """The records of a metrics.jsonl in the order of their steps, and how many lines are damaged.

    A killed run leaves half a line. Of a record, what is a number is kept; what was not finite
    (null) becomes NaN. A missing file has no records.
    """
    records, damaged = [], 0
    for line in path.read_bytes().splitlines() if path.is_file() else ():
        try:
            record = parse_json(line)
        except ValueError:
            record = None
        if not isinstance(record, dict) or type(record.get("step")) is not int:
            damaged += bool(line.strip())
            continue
        records.append(
            {
                key: math.nan if value is None else value
                for key, value in record.items()
                if value is None or type(value) in (int, float)
            }
        )
    return sorted(records, key=lambda record: record["step"]), damaged
