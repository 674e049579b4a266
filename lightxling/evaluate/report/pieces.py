"""What the sections of a report share: tables and numbers as text."""

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any, Literal

import numpy as np

from lightxling.evaluate.report import sentences
from lightxling.evaluate.report.markup import Markup, h
from lightxling.evaluate.report.runs import TrainedRun

OPEN_ROWS = 12
"""Rows of a table that is open from the start."""


@dataclasses.dataclass(frozen=True)
class Shown:
    """A run on the page.

    Attributes:
      label: A, B, ... where there are several.
      views: what its encoder makes of development sentences; empty where `no_views` says why.
    """

    run: TrainedRun
    label: str
    style: int
    views: list[sentences.View]
    no_views: str

    @property
    def id(self) -> str:
        return f"run{self.style}"

    @property
    def full_name(self) -> str:
        return f"{self.label} {self.run.name}".strip()


def html_table(
    caption: str,
    head: Sequence[str],
    rows: Sequence[tuple[Any, Sequence[Any]]],
    *,
    numeric: Sequence[int] | Literal[True] = True,
    mean: bool = False,
    strong: int | None = None,
    long: bool = False,
    things: str = "",
) -> Markup:
    """A table that scrolls sideways by itself where it is too wide.

    Args:
      rows: the header of each and its cells; a cell may be a whole <td>.
      numeric: columns of numbers, counted from 1; True: all.
      mean: the last row sums up the others.
      strong: the column of the main score.
      long: cells hold text that may be broken anywhere, such as paths.
      things: what the rows are; with it the table is folded where they are more than `OPEN_ROWS`.
    """
    classes = ["n" if i and (numeric is True or i in numeric) else None for i in range(len(head))]

    def cell(column: int, value: Any) -> Markup:
        if isinstance(value, Markup) and value.startswith("<td"):
            return value
        both = f"{classes[column] or ''}{' main' * (column == strong)}"
        return h("td", value, class_=both.strip() or None)

    top = [
        h("th", name, scope="col", class_=one) if name else h("td")
        for name, one in zip(head, classes, strict=True)
    ]
    heading = h("thead", h("tr", top)) if any(head) else None
    lines = []
    for row, (name, cells) in enumerate(rows, 1):
        values = [cell(i, value) for i, value in enumerate(cells, 1)]
        kind = "mean" if mean and row == len(rows) else None
        lines.append(h("tr", h("th", name, scope="row"), values, class_=kind))
    whole = h("table", h("caption", caption), heading, h("tbody", lines))
    if long or len(head) < 4:
        table = h("div", whole, class_="wide long" if long else "wide")
    else:  # what is likely to scroll can be reached by keyboard
        table = h("div", whole, class_="wide pin", role="region", aria_label=caption, tabindex=0)
    count = len(rows) - mean
    if not things or 0 < count <= OPEN_ROWS:
        return table
    return h("details", h("summary", f"The {count} {things}"), table)


def missing(*text: object) -> Markup:
    """A paragraph that says why something is not on the page."""
    return h("p", *text, class_="missing")


def bar(value: int | float | None, text: str | None = None) -> Markup | str:
    """A cell with a bar behind its number, which stands for per cent."""
    if value is None:
        return ""
    share = min(max(value, 0.0), 100.0)
    return h("td", text or percent(value), class_="n main bar", style=f"--p:{share:.1f}%")


def percent(value: int | float) -> str:
    return f"{value:.1f}"


def count_text(value: int | float | None) -> str:
    return "" if value is None or np.isnan(value) else f"{value:,.0f}"


def sentence(text: str) -> str:
    """A message as a sentence of the page."""
    return f"{text[:1].upper()}{text[1:]}."


def among(run: TrainedRun) -> str:
    """How many candidates a dev P@1 had."""
    counts = run.dev_candidates.values()
    if not counts:
        return f"among at most {run.config.corpus.dev_limit:,} candidates"
    mean = " for each language pair" if len(counts) > 1 else ""
    return f"among {bounds(counts)} candidates{mean}"


def bounds(counts: Iterable[int]) -> str:
    low, high = min(counts), max(counts)
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"
