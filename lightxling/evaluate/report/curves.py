"""Sections of curves: losses, dev P@1, speed and memory."""

import functools
from collections.abc import Callable, Sequence

import numpy as np

from lightxling.evaluate.report import charts, pieces
from lightxling.evaluate.report.charts import Series
from lightxling.evaluate.report.markup import Markup, h, join
from lightxling.evaluate.report.pieces import Shown
from lightxling.evaluate.report.runs import DEV, TrainedRun
from lightxling.saved.run import number

CURVES = 6
"""Language pairs that have a curve with a name; of more, the mean stands out."""


def key(shown: Sequence[Shown]) -> Markup:
    """Which curve is whose."""
    items = []
    for one in shown:
        classes = charts.style_classes(one.style)
        sample = h("path", d="M1 6H35", class_=f"line {classes}")
        drawn = h("svg", sample, viewBox="0 0 36 12", aria_hidden="true", focusable="false")
        text = [drawn, h("b", one.label), f" {one.run.name}"]
        items.append(h("li", text, class_=f"s{one.style % charts.STYLES}"))
    return h("ul", items, class_="key", role="list", aria_label="Runs and their curves")


def _curves_of(shown: Sequence[Shown], key: str, factor: int | float = 1) -> list[Series]:
    found = []
    for one in shown:
        x, y = one.run.measured(key)
        found.append(Series(one.run.name, one.label, x, factor * y, one.style))
    return found


def _pairs_seen(value: int | float) -> str:
    return f"{value:,.0f} pairs"


_chart = functools.partial(charts.line_chart, x_label="pairs seen", x_form=_pairs_seen)


def losses(shown: Sequence[Shown]) -> Markup:
    names = dict.fromkeys(name for one in shown for name in one.run.losses)
    if not names:
        return h("p", "No loss was logged.", class_="missing")
    drawn = [
        _chart(
            _curves_of(shown, name),
            title=_loss_title(name),
            name=f"loss-{number_}",
            form=number,
        )
        for number_, name in enumerate(names)
    ]
    return join(
        h("p", "Means between two log lines; terms before they are weighted.", class_="note"),
        h("div", drawn, class_="charts"),
    )


def _loss_title(name: str) -> str:
    task, _, term = name.rpartition("/")
    title = "loss, weighted sum" if term == "loss" else term
    return f"{task}: {title}" if task else title


def dev(shown: Sequence[Shown], level: int) -> Markup:
    """Dev P@1 over training; of a single run also per language pair."""
    heading = h(f"h{level}", "Dev P@1")
    if not any(DEV in record for one in shown for record in one.run.records):
        return join(
            heading,
            h("p", "Dev P@1 was not measured, or not yet.", class_="missing"),
        )
    told = (
        "Share of sentences whose nearest neighbour in the other language is their translation, "
        "mean of both directions, in per cent"
    )
    labels: dict[str, list[str]] = {}
    for one in shown:
        labels.setdefault(pieces.among(one.run), []).append(one.label)
    among = "; ".join(
        f"{', '.join(letters)} {text}" if len(labels) > 1 else text
        for text, letters in labels.items()
    )
    chart = functools.partial(_chart, form=pieces.percent, dots=True)
    drawn = [chart(_curves_of(shown, DEV), title="dev P@1, per cent", name="dev")]
    if len(shown) == 1 and len(shown[0].run.dev_names) > 1:
        drawn.append(
            chart(
                _pair_curves(shown[0].run), title="dev P@1 per language pair, per cent", name="devs"
            )
        )
    table = pairs(shown[0]) if len(shown) == 1 else _dev_pairs_of_all(shown)
    return join(
        heading,
        h("p", f"{told}; {among}.", class_="note"),
        h("div", drawn, class_="charts"),
        table,
    )


def _pair_curves(run: TrainedRun) -> list[Series]:
    """A curve per language pair, or grey ones with the best, the worst and the mean."""
    names = sorted(run.dev_names, key=lambda name: -_last(run, name))
    curves = []
    for i, name in enumerate(names):
        x, y = run.measured(f"{DEV}/{name}")
        named = len(names) <= CURVES or i in (0, len(names) - 1)
        style = i if len(names) <= CURVES else 1 if i == 0 else 3
        curves.append(Series(name, name, x, y, style if named else 0, faint=not named))
    if len(names) > CURVES:
        curves.append(Series("mean", "mean", *run.measured(DEV)))
    return curves


def _last(run: TrainedRun, name: str) -> float:
    _, y = run.measured(f"{DEV}/{name}")
    y = y[np.isfinite(y)]
    return float(y[-1]) if len(y) else 0.0


def pairs(one: Shown) -> Markup:
    """Every language pair with its training pairs, those seen, its curve and its scores."""
    run = one.run
    candidates, trained = run.dev_candidates, run.train_rows
    names = list(dict.fromkeys([*run.dev_names, *trained]))
    if not names:
        return h("p", "There is no score per language pair.", class_="missing")
    all_scores = [run.measured(f"{DEV}/{name}")[1] for name in run.dev_names]
    values = np.concatenate([y[np.isfinite(y)] for y in all_scores] or [np.zeros(0)])
    is_curved = len(values) > len(all_scores)  # measured more than once
    low, high = (float(values.min()), float(values.max())) if len(values) else (0.0, 1.0)
    rows = []
    for name in sorted(names, key=lambda name: -_last(run, name)):
        y = run.measured(f"{DEV}/{name}")[1]
        finite = y[np.isfinite(y)]
        best = pieces.percent(float(finite.max())) if len(finite) else ""
        last = float(finite[-1]) if len(finite) else None
        seen = run.last.get(f"pairs/{name}")
        rows.append(
            (
                name,
                [
                    *([charts.spark(y, low, high)] if is_curved else []),
                    pieces.bar(last),
                    best,
                    pieces.count(candidates.get(name)),
                    pieces.count(seen),
                    pieces.count(trained.get(name)),
                ],
            )
        )
    curve = ["curve"] if is_curved else []
    head = ["pair", *curve, "last P@1", "best", "candidates", "pairs seen", "training pairs"]
    caption = "Dev P@1 per language pair, per cent" + "; the curves share one scale" * is_curved
    return pieces.fold(
        pieces.table(caption, head, rows), f"The {len(rows)} language pairs", len(rows)
    )


def _dev_pairs_of_all(shown: Sequence[Shown]) -> Markup | None:
    names = dict.fromkeys(name for one in shown for name in one.run.dev_names)
    if len(names) < 2:
        return None
    rows = []
    for name in sorted(names, key=lambda name: -_last(shown[0].run, name)):
        cells = []
        for one in shown:
            has_any = name in one.run.dev_names
            cells.append(pieces.bar(_last(one.run, name)) if has_any else "")
        counts = [one.run.dev_candidates.get(name) for one in shown]
        cells.append(pieces.bounds([n for n in counts if n]) if any(counts) else "")
        rows.append((name, cells))
    head = ["pair", *(f"{one.label} {one.run.name}" for one in shown), "candidates"]
    table = pieces.table("Last dev P@1 per language pair, per cent", head, rows)
    return pieces.fold(table, f"The {len(rows)} language pairs", len(rows))


def costs(shown: Sequence[Shown]) -> Markup:
    if not any(one.run.records for one in shown):
        return h("p", "Nothing was logged yet.", class_="missing")

    def hundredths(value: int | float) -> str:
        return f"{value:.3g} %"

    plans: list[tuple[str, str, int | float, Callable[[float], str], bool]] = [
        ("pairs_per_second", "pairs a second", 1, number, True),
        ("peak_memory", "peak memory of the process, GB", 1e-9, "{:.2f} GB".format, True),
        ("device_memory", "memory of the device, GB", 1e-9, "{:.2f} GB".format, True),
        ("input_wait", "time spent waiting for batches, per cent", 100, hundredths, True),
        ("padding", "padding in the batches, per cent", 100, hundredths, True),
        ("learning_rate", "learning rate", 1, number, True),
        ("grad_norm", "gradient norm", 1, number, False),
    ]
    drawn = [
        _chart(
            _curves_of(shown, key, factor),
            title=title_,
            name=f"cost-{key.replace('_', '-')}",
            form=form,
            zero=zero,
        )
        for key, title_, factor, form, zero in plans
        if any(key in record for one in shown for record in one.run.records)
    ]
    skipped = [
        h("p", f"{one.label} {one.run.name}: {one.run.last['skipped']:,.0f} steps were skipped.")
        for one in shown
        if one.run.last.get("skipped")
    ]
    return join(h("div", drawn, class_="charts"), skipped)
