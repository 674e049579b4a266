"""Sections of scores, of one run and side by side."""

from collections.abc import Mapping, Sequence
from typing import Any

from lightxling.evaluate import compare
from lightxling.evaluate.report import pieces
from lightxling.evaluate.report.markup import Markup, h, join
from lightxling.evaluate.report.pieces import Shown
from lightxling.evaluate.tables import described, mean_scores, shared_units
from lightxling.evaluate.tasks import COUNTS, DETAILS, TASKS
from lightxling.evaluate.tasks.sts import POOLED
from lightxling.saved.results import Results

NAMES = {"accuracy": "P@1", "error": "error", "forward": "P@1 there", "backward": "P@1 back"}
"""Of scores of the tasks that look for translations."""


def _score_name(results: Results, score: str) -> str:
    looks = any("forward" in unit["scores"] for unit in results["results"].values())
    return (NAMES.get(score) if looks else None) or score.replace("_", " ")


def all_of(one: Shown, level: int) -> Markup:
    if not one.run.results:
        return h(
            "p",
            "Nothing is in the folder evaluation yet: ",
            h("code", f"lightxling evaluate {one.run.path} --task retrieval --data FILE"),
            class_="missing",
        )
    return join([_benchmark(results, level) for results in one.run.results.values()])


def _benchmark(results: Results, level: int) -> Markup:
    """A table: languages, scores (with their deviation beside them), candidates."""
    units = results["results"]
    known = dict.fromkeys(name for unit in units.values() for name in unit["scores"])
    scores = [n for n in known if n not in DETAILS and not (n.endswith("_sd") and n[:-3] in known)]
    about = [n for n in COUNTS if any(n in unit for unit in units.values())]
    first = _headline(results, scores)
    rows = []
    for name, unit in units.items():
        cells: list[Any] = [_score(unit["scores"], score, score == first) for score in scores]
        cells += [described(unit.get(key)) for key in about]
        rows.append((name, cells))
    if len(units) > 1:
        mean = mean_scores(results)
        kept = {k: v for k, v in mean.items() if not k.endswith("_sd")}
        cells = [_score(kept, score, score == first) for score in scores] + [""] * len(about)
        rows.append((f"mean of {len(units.keys() - {POOLED})}", cells))
    head = ["", *(_score_name(results, score) for score in scores), *about]
    caption = f"{_benchmark_name(results)}, in per cent"
    table = pieces.table(caption, head, rows, mean=len(units) > 1, strong=1 + scores.index(first))
    return join(
        h(f"h{level}", f"{results['task']}: {results['dataset']}"),
        pieces.fold(table, f"The {len(units)} languages", len(units)),
    )


def _benchmark_name(results: Results) -> str:
    settings = results["settings"] if isinstance(results["settings"], dict) else {}
    told = ", ".join(f"{k.replace('_', ' ')} {v}" for k, v in settings.items() if v)
    return f"{results['task']} on {results['dataset']}" + (f" ({told})" if told else "")


def _headline(results: Results, scores: Sequence[str]) -> str:
    task = TASKS.get(results["task"])
    return task.headline if task and task.headline in scores else scores[0]


def _score(scores: Mapping[str, int | float], name: str, is_first: bool) -> Markup | str:
    if name not in scores:
        return ""
    deviation = f" ± {scores[f'{name}_sd']:.1f}" if f"{name}_sd" in scores else ""
    text = f"{scores[name]:.1f}{deviation}"
    return pieces.bar(scores[name], text) if is_first else text


def headlines(shown: Sequence[Shown]) -> Markup:
    """The main score of every benchmark and language, runs side by side."""
    found: dict[str, dict[int, Results]] = {}
    for i, one in enumerate(shown):
        for results in one.run.results.values():
            found.setdefault(_benchmark_name(results), {})[i] = results
    if not found:
        return h("p", "No run has been evaluated yet.", class_="missing")
    tables = []
    for name, by_run in found.items():
        some = next(iter(by_run.values()))
        score = _headline(some, list(next(iter(some["results"].values()))["scores"]))
        units = dict.fromkeys(unit for results in by_run.values() for unit in results["results"])
        rows = []
        for unit in units:
            cells: list[Any] = []
            told = []
            for i in range(len(shown)):
                result = by_run[i]["results"].get(unit, {}) if i in by_run else {}
                cells.append(_score(result.get("scores", {}), score, True))
                for key in COUNTS:
                    if key in result:
                        told.append(f"{described(result[key])} {key}")
            rows.append((unit, [*cells, "; ".join(dict.fromkeys(told))]))
        shared = set(shared_units(list(by_run.values()))) - {POOLED}
        if has_mean := len(units) > 1 and bool(shared):
            means = [
                mean_scores(by_run[i], shared) if i in by_run else {} for i in range(len(shown))
            ]
            cells = [pieces.bar(mean[score]) if score in mean else "" for mean in means]
            all_have = "" if len(shared) == len(units.keys() - {POOLED}) else " that all have"
            rows.append((f"mean of {len(shared)}{all_have}", [*cells, ""]))
        head = ["", *(f"{one.label} {one.run.name}" for one in shown), "among"]
        caption = f"{name}: {_score_name(some, score)} in per cent"
        table = pieces.table(caption, head, rows, mean=has_mean)
        tables.append(h("h3", f"{some['task']}: {some['dataset']}"))
        tables.append(pieces.fold(table, f"The {len(units)} languages", len(units)))
    return join(tables)


def side_by_side(shown: Sequence[Shown]) -> Markup:
    """The table of `lightxling compare`, without single languages; seeds are one column."""
    summaries = [compare.summary(one.run) for one in shown]
    columns, compared = compare.table_of(summaries, units=False)
    groups: dict[str, list[Shown]] = {}
    for one, summary in zip(shown, summaries, strict=True):
        groups.setdefault(summary.group, []).append(one)
    head = [""]
    for members in groups.values():
        letters = ", ".join(f"{one.label} {one.run.name}" for one in members)
        more = f" ({len(members)} seeds, mean ± standard deviation)" if len(members) > 1 else ""
        head.append(letters + more)
    dev = [n for one in shown for n in one.run.dev_candidates.values()]
    rows = []
    for column in columns:
        if column.endswith(DETAILS):
            continue
        name = column.replace("_", " ")
        if column == "best dev P@1" and dev:
            name = f"{column} (among {pieces.bounds(dev)})"
        for one in shown:
            for results in one.run.results.values():
                counts = [unit.get("candidates") for unit in results["results"].values()]
                counts = [count for count in counts if isinstance(count, int)]
                if counts and column == f"{results['task']}.{results['dataset']} accuracy":
                    name = f"{column}: P@1 (among {pieces.bounds(counts)})"
        cells = [compare.as_text(column, row[column], row["runs"]) for row in compared]
        rows.append((name, cells))
    caption = "Cost, and mean scores in per cent; candidates of P@1 in brackets"
    return pieces.table(caption, head, rows)
