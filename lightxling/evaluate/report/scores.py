"""Sections of scores, of one run and side by side."""

from collections.abc import Mapping, Sequence
from typing import Any

from lightxling.evaluate import compare
from lightxling.evaluate.report import pieces
from lightxling.evaluate.report.markup import Markup, h, join_markup
from lightxling.evaluate.report.pieces import Shown, html_table
from lightxling.evaluate.tables import columns_of, described, shared_units
from lightxling.evaluate.tasks import COUNTS, DETAILS, TASKS
from lightxling.saved.results import POOLED, Results, mean_scores

NAMES = {"accuracy": "P@1", "error": "error", "forward": "P@1 there", "backward": "P@1 back"}
"""Of scores of the tasks that look for translations."""


def _score_name(results: Results, score: str) -> str:
    looks = any("forward" in unit["scores"] for unit in results["results"].values())
    return (NAMES.get(score) if looks else None) or score.replace("_", " ")


def all_of(one: Shown, level: int) -> Markup:
    if not one.run.results:
        words = f"lightxling evaluate {one.run.path} --task retrieval --data FILE"
        return pieces.missing("Nothing is in the folder evaluation yet: ", h("code", words))
    start, told = one.run.config.train.init_from, None
    drawn = []
    for name, results in one.run.results.items():
        beside = scores_of_start(results, one.run.start_results.get(name, {}))
        drawn.append(_benchmark(results, level, beside))
        if start and not beside and not told and results["task"] == "retrieval":
            words = f"lightxling evaluate {start} --task retrieval --data FILE"
            told = h("p", f"To see {start} beside these: ", h("code", words), class_="note")
    return join_markup(drawn, told)


def scores_of_start(results: Results, start: Results) -> dict[str, Mapping[str, float]]:
    """What the encoder that a run started from has in the same units of the same text."""
    if not start or start["settings"] != results["settings"]:
        return {}

    def text(unit: Mapping[str, Any]) -> object:
        data = unit.get("data")
        return [one.get("sha256") for one in data] if data else None

    return {
        name: start["results"][name]["scores"]
        for name, unit in results["results"].items()
        if name in start["results"]
        and text(unit) is not None
        and text(unit) == text(start["results"][name])
    }


def _benchmark(
    results: Results, level: int, start: Mapping[str, Mapping[str, float]] | None = None
) -> Markup:
    """A table: languages, scores (with their deviation beside them), candidates.

    Args:
      start: scores by unit of the encoder that the run started from.
    """
    units = results["results"]
    known, about = columns_of(results)
    scores = [name for name in known if not (name.endswith("_sd") and name[:-3] in known)]
    first = _headline(results, scores)
    rows = []
    for name, unit in units.items():
        cells = [_score(unit["scores"], score, score == first) for score in scores]
        if start:
            cells.append(_score(start.get(name, {}), first, False))
        rows.append((name, [*cells, *(described(unit.get(key), key) for key in about)]))
    if len(units) > 1:
        kept = {k: v for k, v in mean_scores(results).items() if not k.endswith("_sd")}
        cells = [_score(kept, score, score == first) for score in scores]
        cells += [""] * (len(about) + bool(start))
        rows.append((f"mean of {len(units.keys() - {POOLED})}", cells))
    head = [
        "",
        *(_score_name(results, score) for score in scores),
        *([f"{_score_name(results, first)} of the start"] if start else []),
        *(name.replace("_", " ") for name in about),
    ]
    options = {"mean": len(units) > 1, "strong": 1 + scores.index(first), "things": "languages"}
    table = html_table(f"{_benchmark_name(results)}, in per cent", head, rows, **options)
    return join_markup(h(f"h{level}", f"{results['task']}: {results['dataset']}"), table)


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
        return pieces.missing("No run has been evaluated yet.")
    tables = []
    for name, by_run in found.items():
        some = next(iter(by_run.values()))
        score = _headline(some, list(next(iter(some["results"].values()))["scores"]))
        units = dict.fromkeys(unit for results in by_run.values() for unit in results["results"])
        of_run = [by_run.get(i, {"results": {}}) for i in range(len(shown))]
        rows = []
        for unit in units:
            scored = [results["results"].get(unit, {}) for results in of_run]
            cells = [_score(result.get("scores", {}), score, True) for result in scored]
            told = [
                f"{described(one[k], k)} {k.replace('_', ' ')}"
                for one in scored
                for k in COUNTS
                if k in one
            ]
            rows.append((unit, [*cells, "; ".join(dict.fromkeys(told))]))
        shared = set(shared_units(list(by_run.values()))) - {POOLED}
        if has_mean := len(units) > 1 and bool(shared):
            means = [mean_scores(results, shared) for results in of_run]
            cells = [pieces.bar(mean[score]) if score in mean else "" for mean in means]
            all_have = "" if len(shared) == len(units.keys() - {POOLED}) else " that all have"
            rows.append((f"mean of {len(shared)}{all_have}", [*cells, ""]))
        head = ["", *(one.full_name for one in shown), "among"]
        caption = f"{name}: {_score_name(some, score)} in per cent"
        tables.append(h("h3", f"{some['task']}: {some['dataset']}"))
        tables.append(html_table(caption, head, rows, mean=has_mean, things="languages"))
    return join_markup(tables)


def side_by_side(shown: Sequence[Shown]) -> Markup:
    """The table of `lightxling compare`, without single languages; seeds are one column."""
    summaries = [compare.summary(one.run) for one in shown]
    columns, compared = compare.table_of(summaries, units=False)
    groups: dict[str, list[Shown]] = {}
    for one, summary in zip(shown, summaries, strict=True):
        groups.setdefault(summary.group, []).append(one)
    head = [""]
    for members in groups.values():
        letters = ", ".join(one.full_name for one in members)
        more = f" ({len(members)} seeds, mean ± standard deviation)" if len(members) > 1 else ""
        head.append(letters + more)
    names = {column: column.replace("_", " ") for column in columns}
    if dev := [n for one in shown for n in one.run.dev_candidates.values()]:
        names["best dev P@1"] = f"best dev P@1 (among {pieces.bounds(dev)})"
    for results in (results for one in shown for results in one.run.results.values()):
        counts = [unit.get("candidates") for unit in results["results"].values()]
        counts = [count for count in counts if isinstance(count, int)]
        column = f"{results['task']}.{results['dataset']} accuracy"
        if counts:
            names[column] = f"{column}: P@1 (among {pieces.bounds(counts)})"
    rows = [
        (names[name], [compare.as_text(name, row[name], row["runs"]) for row in compared])
        for name in columns
        if not name.endswith(DETAILS)
    ]
    caption = "Cost, and mean scores in per cent; candidates of P@1 in brackets"
    return html_table(caption, head, rows)
