"""The page of a sweep: quality against cost, all numbers, and what is more than chance."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lightxling.evaluate import compare
from lightxling.evaluate.paired import Difference
from lightxling.evaluate.report import charts
from lightxling.evaluate.report.markup import Markup, h
from lightxling.evaluate.report.page import write_page
from lightxling.evaluate.report.pieces import html_table, missing
from lightxling.evaluate.report.scales import scale_for, short

Row = Mapping[str, Any]
"""Of `compare.table_of`."""

COSTS = {
    "bytes": ("megabytes of the encoder", 1e-6),
    "training hours": ("minutes of training", 60.0),
    "peak memory": ("megabytes of memory in training", 1e-6),
}
"""Columns of cost: what is drawn of each, and its factor."""


def quality_of(columns: Sequence[str], rows: Sequence[Row]) -> str | None:
    """The column by which recipes are compared: the first accuracy that all of them have, or dev
    P@1."""
    known = [name for name in columns if all(row[name] is not None for row in rows)]
    scores = [name for name in known if name.endswith(" accuracy")]
    return next(iter([*scores, *(name for name in known if name == "best dev P@1")]), None)


def front(points: Sequence[tuple[float, float]]) -> list[int]:
    """Which of the points (cost, quality) no other beats: none costs as little or less and is as
    good or better, and better in one of the two. By rising cost; of equal points all."""
    kept = [
        i
        for i, (cost, good) in enumerate(points)
        if not any(c <= cost and g >= good and (c, g) != (cost, good) for c, g in points)
    ]
    return sorted(kept, key=lambda i: points[i])


def front_chart(rows: Sequence[Row], cost: str, quality: str) -> Markup | None:
    """Every recipe as a dot, cost to the right, quality upwards; those of the front are joined."""
    what, factor = COSTS[cost]
    rows = [row for row in rows if row.get(cost) and row.get(quality)]
    if len(rows) < 2:
        return None
    points = [(factor * row[cost].mean, row[quality].mean) for row in rows]
    best = front(points)
    xs, ys = (np.array(values) for values in zip(*points, strict=True))
    bars = [row[quality].spread or 0.0 for row in rows]
    room = np.concatenate([ys - bars, ys + bars])
    across = scale_for(xs, charts.LEFT, charts.RIGHT - 8)
    up = scale_for(room, charts.BOTTOM, charts.TOP)
    marks: list[object] = [charts.axes(across, up, what)]
    joined = [(across(points[i][0]), up(points[i][1])) for i in best]
    if len(joined) > 1:
        marks.append(h("path", d=charts.line_path(joined), class_="line faint"))
    labels = [(row["run"], across(x), up(y)) for row, (x, y) in zip(rows, points, strict=True)]
    for i, (name, x, y) in enumerate(labels):
        tip = f"{name}: {short(points[i][0])} {what}, {quality} {points[i][1]:.1f}"
        if bars[i]:
            ends = [(x, up(points[i][1] - bars[i])), (x, up(points[i][1] + bars[i]))]
            marks.append(h("path", d=charts.line_path(ends), class_="axis"))
        style = charts.style_classes(i)
        marks.append(h("circle", h("title", tip), cx=x, cy=y, r=4.0, class_=f"point {style}"))
    for i, (name, x, y) in enumerate(placed(labels)):
        side = "" if x > labels[i][1] else " right"
        classes = f"end {charts.style_classes(i)}{side}"
        marks.append(h("text", name, x=x, y=y, class_=classes))
    told = "; ".join(
        f"{row['run']} {short(x)} and {y:.1f}" for (x, y), row in zip(points, rows, strict=True)
    )
    on_front = ", ".join(rows[i]["run"] for i in best)
    told = f"{what.capitalize()} and {quality}: {told}. No other is cheaper and better than: "
    name = "front-" + cost.replace(" ", "-")
    caption = f"{quality} against {what}; on the front: {on_front}"
    return charts.figure(name, caption, told + on_front + ".", charts.HEIGHT, marks)


def placed(points: Sequence[tuple[str, float, float]]) -> list[tuple[str, float, float]]:
    """Names beside their points, inwards, and moved down where two would overlap."""
    middle, taken, found = (charts.LEFT + charts.RIGHT) / 2, [], []
    for name, x, y in points:
        width = 6.5 * len(name)
        left = x + 7 if x <= middle else x - 7 - width
        while any(abs(y - b) < 11 and left < c and a < left + width for a, b, c in taken):
            y += 3
        taken.append((left, y, left + width))
        found.append((name, x + 7 if x <= middle else x - 7, y + 4))
    return found


def write_sweep(
    output: Path,
    columns: Sequence[str],
    rows: Sequence[Row],
    differences: Mapping[str, Difference],
) -> None:
    """Writes the page.

    Args:
      columns, rows: of `compare.table_of`.
      differences: of every recipe from the first one, by its name.
    """
    quality = quality_of(columns, rows)
    drawn = [quality and front_chart(rows, cost, quality) for cost in COSTS]
    head = ["", *(f"{row['run']} ({row['runs']})" for row in rows)]
    lines = [
        (name, [compare.as_text(name, row[name], row["runs"]) for row in rows]) for name in columns
    ]
    caption = "Mean ± standard deviation over the seeds, whose number is in brackets"
    parts = [
        h("h2", "Quality against cost"),
        [one for one in drawn if one] or missing("There is nothing to compare."),
        h("p", "Bars are one standard deviation over the seeds.", class_="note"),
        h("h2", "All numbers"),
        html_table(caption, head, lines),
        h("h2", "Differences"),
        _differences(rows, differences),
    ]
    title = f"{len(rows)} recipes compared"
    write_page(output, title, h("main", h("h1", title), parts, id="main"))


def _differences(rows: Sequence[Row], differences: Mapping[str, Difference]) -> Markup:
    if not differences:
        return missing("Nothing was scored on parallel text with two recipes or more.")
    caption = (
        f"Accuracy less that of {rows[0]['run']}, in points; sentences and seeds drawn again "
        "(paired bootstrap)"
    )
    cells = [(name, [*described(one)]) for name, one in differences.items()]
    return html_table(caption, ["", "difference", "95% interval", "p"], cells)


def described(one: Difference) -> tuple[str, str, str]:
    """Difference, interval and p as texts."""
    p = "< 0.001" if one.p < 0.001 else f"{one.p:.3f}"
    return f"{one.mean:+.1f}", f"{one.low:+.1f} to {one.high:+.1f}", p
