"""What a sweep ends with: a table and the differences on the screen, sweep.csv and sweep.html."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from lightxling.base import screen
from lightxling.base.files import atomic
from lightxling.evaluate import compare
from lightxling.evaluate.paired import Difference, Shares, difference, shares_of, stacked
from lightxling.evaluate.report.sweep import described, write_sweep
from lightxling.saved.run import RunFolder, read_folder


def conclude(folders: Sequence[Path], labels: Mapping[str, str], workdir: Path) -> Iterator[str]:
    """Writes sweep.csv and sweep.html into the folder of a sweep; yields what the screen shows.

    Args:
      labels: by the name of a run, that of its recipe and settings, which its row has.
    """
    groups: dict[str, list[RunFolder]] = {}
    for folder in folders:
        groups.setdefault(labels[folder.name], []).append(read_folder(folder))
    summaries = [
        dataclasses.replace(compare.summary(run), name=label, group=label)
        for label, runs in groups.items()
        for run in runs
    ]
    columns, rows = compare.table_of(summaries)
    for row, label in zip(rows, groups, strict=True):
        row["run"] = label  # not once for every seed
    found = {label: found_by(runs) for label, runs in groups.items()}
    first, *others = found
    pairs = {label: difference(found[first], found[label]) for label in others}
    known = {label: one for label, one in pairs.items() if one is not None}
    with atomic(workdir / "sweep.csv") as temporary:
        table = compare.render(columns, rows, "csv")
        temporary.write_text(table, "utf-8", newline="\n")
    write_sweep(workdir / "sweep.html", columns, rows, known)
    yield compare.render(columns, rows, "table")
    if known:
        yield _difference_table(first, known)
    yield f"kept in {workdir / 'sweep.csv'} and {workdir / 'sweep.html'}"


def found_by(runs: Sequence[RunFolder]) -> Shares:
    """Of every benchmark and language pair, what each run has found; see `paired`."""
    each = [
        {
            f"{name} {unit}": share
            for name, results in run.results.items()
            for unit, share in shares_of(results).items()
        }
        for run in runs
    ]
    return stacked(each)


def _difference_table(first: str, differences: Mapping[str, Difference]) -> str:
    title = f"accuracy less that of {first}: paired bootstrap of sentences and seeds"
    rows = [[label, *described(one)] for label, one in differences.items()]
    return screen.table(["", "difference", "95% interval", "p"], rows, title=title)
