"""Sections of curves: losses, dev P@1, speed and memory."""

import functools
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from lightxling.config.objective import meaning_of
from lightxling.evaluate.report import charts, pieces
from lightxling.evaluate.report.charts import Series, line_chart
from lightxling.evaluate.report.markup import Markup, h, join_markup
from lightxling.evaluate.report.pieces import Shown, html_table
from lightxling.evaluate.report.runs import DEV, TrainedRun
from lightxling.saved.run import number

CURVES = 6
"""Language pairs that have a curve with a name; of more, the mean stands out."""


def key(shown: Sequence[Shown]) -> Markup:
    """Which curve is whose."""
    items = []
    for one in shown:
        line = h("path", d="M1 6H35", class_=f"line {charts.style_classes(one.style)}")
        text = [charts.hidden_svg(36, 12, line), h("b", one.label), f" {one.run.name}"]
        items.append(h("li", text, class_=f"s{one.style % charts.STYLES}"))
    return h("ul", items, class_="key", role="list", aria_label="Runs and their curves")


def _curves_of(shown: Sequence[Shown], key: str, factor: int | float = 1) -> list[Series]:
    found = []
    for one in shown:
        x, y = one.run.measured(key)
        found.append(Series(one.run.name, one.label, x, factor * y, one.style))
    return found


def losses(shown: Sequence[Shown]) -> Markup:
    names = dict.fromkeys(name for one in shown for name in one.run.losses)
    if not names:
        return pieces.missing("No loss was logged.")
    drawn = []
    for i, name in enumerate(names):
        task, _, term = name.rpartition("/")
        title = (f"{task}: " if task else "") + ("loss, weighted sum" if term == "loss" else term)
        drawn.append(
            line_chart(_curves_of(shown, name), title=title, name=f"loss-{i}", form=number)
        )
    told = "Means between two log lines; terms before they are weighted."
    meanings = [
        h("li", h("b", name), f": {meaning}") for name, meaning in _meanings(shown, names).items()
    ]
    return join_markup(
        h("p", told, class_="note"),
        h("ul", meanings, class_="note") if meanings else None,
        h("div", drawn, class_="charts"),
    )


def _meanings(shown: Sequence[Shown], names: Iterable[str]) -> dict[str, str]:
    """What the terms of the losses stand for, whatever their task."""
    terms = dict.fromkeys(name.rpartition("/")[2] for name in names)
    found = {}
    for one in shown:
        for part in (one.run.config, *one.run.config.tasks, *one.run.config.stages):
            for term in terms:
                if objective := getattr(part.objectives, term, None):
                    found.setdefault(term, meaning_of(objective))
    return {term: found[term] for term in terms if found.get(term)}


def dev(shown: Sequence[Shown], level: int) -> Markup:
    """Dev P@1 over training; of a single run also per language pair."""
    heading = h(f"h{level}", "Dev P@1")
    if not any(DEV in one.run.logged for one in shown):
        return join_markup(heading, pieces.missing("Dev P@1 was not measured, or not yet."))
    labels: dict[str, list[str]] = {}
    for one in shown:
        labels.setdefault(pieces.among(one.run), []).append(one.label)
    among = "; ".join(
        f"{', '.join(letters)} {text}" if len(labels) > 1 else text
        for text, letters in labels.items()
    )
    told = (
        "Share of sentences whose nearest neighbour in the other language is their translation, "
        f"mean of both directions, in per cent; {among}."
    )
    chart = functools.partial(line_chart, form=pieces.percent, dots=True)
    drawn = [chart(_curves_of(shown, DEV), title="dev P@1, per cent", name="dev")]
    if len(shown) == 1 and len(shown[0].run.dev_names) > 1:
        title = "dev P@1 per language pair, per cent"
        drawn.append(chart(_pair_curves(shown[0].run), title=title, name="devs"))
    table = pairs_table(shown[0]) if len(shown) == 1 else _dev_pairs_of_all(shown)
    return join_markup(
        heading, h("p", told, class_="note"), h("div", drawn, class_="charts"), table
    )


def _pair_curves(run: TrainedRun) -> list[Series]:
    """A curve per language pair, or grey ones with the best, the worst and the mean."""
    names = _best_first(run, run.dev_names)
    few = len(names) <= CURVES
    curves = []
    for i, name in enumerate(names):
        x, y = run.measured(f"{DEV}/{name}")
        named = few or i in (0, len(names) - 1)
        style = i if few else 1 if i == 0 else 3
        curves.append(Series(name, name, x, y, style if named else 0, faint=not named))
    return curves if few else [*curves, Series("mean", "mean", *run.measured(DEV))]


def _scores(run: TrainedRun, name: str) -> np.ndarray:
    """Dev P@1 of a language pair, where it is finite."""
    _, y = run.measured(f"{DEV}/{name}")
    return y[np.isfinite(y)]


def _last(run: TrainedRun, name: str) -> float:
    return next(iter(_scores(run, name)[::-1].tolist()), 0.0)


def _best_first(run: TrainedRun, names: Sequence[str]) -> list[str]:
    return sorted(names, key=lambda name: -_last(run, name))


def pairs_table(one: Shown) -> Markup:
    """Every language pair with its training pairs, those seen, its curve and its scores."""
    run = one.run
    names = list(dict.fromkeys([*run.dev_names, *run.train_rows]))
    if not names:
        return pieces.missing("There is no score per language pair.")
    values = np.concatenate([_scores(run, name) for name in names])
    is_curved = len(values) > len(run.dev_names)  # measured more than once
    low, high = (float(values.min()), float(values.max())) if len(values) else (0.0, 1.0)
    rows = []
    for name in _best_first(run, names):
        finite, curve = _scores(run, name), run.measured(f"{DEV}/{name}")[1]
        cells = [
            pieces.bar(_last(run, name) if len(finite) else None),
            pieces.percent(float(finite.max())) if len(finite) else "",
            pieces.count_text(run.dev_candidates.get(name)),
            pieces.count_text(run.last.get(f"pairs/{name}")),
            pieces.count_text(run.train_rows.get(name)),
        ]
        rows.append((name, [charts.spark(curve, low, high), *cells] if is_curved else cells))
    head = ["last P@1", "best", "candidates", "pairs seen", "training pairs"]
    head = ["pair", "curve", *head] if is_curved else ["pair", *head]
    caption = "Dev P@1 per language pair, per cent" + "; the curves share one scale" * is_curved
    return html_table(caption, head, rows, things="language pairs")


def _dev_pairs_of_all(shown: Sequence[Shown]) -> Markup | None:
    names = list(dict.fromkeys(name for one in shown for name in one.run.dev_names))
    if len(names) < 2:
        return None
    rows = []
    for name in _best_first(shown[0].run, names):
        cells = [
            pieces.bar(_last(one.run, name)) if name in one.run.dev_names else "" for one in shown
        ]
        counts = [count for one in shown if (count := one.run.dev_candidates.get(name))]
        rows.append((name, [*cells, pieces.bounds(counts) if counts else ""]))
    head = ["pair", *(one.full_name for one in shown), "candidates"]
    caption = "Last dev P@1 per language pair, per cent"
    return html_table(caption, head, rows, things="language pairs")


_COSTS: dict[str, tuple[str, int | float, Callable[[float], str], bool]] = {
    "pairs_per_second": ("pairs a second", 1, number, True),
    "peak_memory": ("peak memory of the process, GB", 1e-9, "{:.2f} GB".format, True),
    "device_memory": ("memory of the device, GB", 1e-9, "{:.2f} GB".format, True),
    "input_wait": ("time spent waiting for batches, per cent", 100, "{:.3g} %".format, True),
    "padding": ("padding in the batches, per cent", 100, "{:.3g} %".format, True),
    "learning_rate": ("learning rate", 1, number, True),
    "grad_norm": ("gradient norm", 1, number, False),
}
"""Title, factor, a value as text, and whether the axis begins at 0, by the name in the records."""


def costs(shown: Sequence[Shown]) -> Markup:
    if not any(one.run.records for one in shown):
        return pieces.missing("Nothing was logged yet.")
    logged = {key for one in shown for key in one.run.logged}
    drawn = []
    for key, (title, factor, form, zero) in _COSTS.items():
        if key in logged:
            curves, name = _curves_of(shown, key, factor), f"cost-{key.replace('_', '-')}"
            drawn.append(line_chart(curves, title=title, name=name, form=form, zero=zero))
    skipped = [
        h("p", f"{one.full_name}: {one.run.last['skipped']:,.0f} steps were skipped.")
        for one in shown
        if one.run.last.get("skipped")
    ]
    return join_markup(h("div", drawn, class_="charts"), skipped)
