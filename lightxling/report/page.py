"""The sections of a report, from what `runs` and `sentences` gathered to HTML."""

import dataclasses
import functools
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from lightxling.config import Config, flatten, tasks_of, to_dict
from lightxling.evaluate import compare
from lightxling.evaluate.run import DESCRIPTIONS, DETAILS, Results, mean_scores
from lightxling.evaluate.tasks import POOLED, TASKS
from lightxling.report import charts, sentences
from lightxling.report.charts import Series
from lightxling.report.markup import Markup, h, join
from lightxling.report.repeat import command
from lightxling.report.runs import DEV, Run
from lightxling.train.progress import number

CURVES = 6
"""Language pairs that have a curve with a name; of more, the mean stands out."""
OPEN_ROWS = 12
"""Rows of a table that is open from the start."""
LONGEST = 300
"""Characters of a sentence that are written out."""


@dataclasses.dataclass(frozen=True)
class Shown:
    """A run on the page.

    Attributes:
      label: A, B, ... where there are several.
      views: what its encoder makes of development sentences; empty where `no_views` says why.
    """

    run: Run
    label: str
    style: int
    views: list[sentences.View]
    no_views: str

    @property
    def id(self) -> str:
        return f"run{self.style}"


def body(shown: Sequence[Shown], words: str) -> Markup:
    """Everything between <body> and </body>.

    Args:
      words: the command that made this page.
    """
    return _one(shown[0], words) if len(shown) == 1 else _several(shown, words)


def title(shown: Sequence[Shown]) -> str:
    names = [one.run.name for one in shown]
    return f"{names[0]}: a lightxling run" if len(names) == 1 else " / ".join(names)


# The page of one run, and of several


def _one(one: Shown, words: str) -> Markup:
    run = one.run
    parts = {
        "trained": ("What was trained on what", _about(one, 3)),
        "curves": ("Losses and dev P@1", [_loss_curves([one]), _dev([one], 3)]),
        "cost": ("Speed and memory", _cost_curves([one])),
        "scores": ("Scores", _scores(one, 3)),
        "sentences": ("Sentences", _sentences(one, 3)),
        "repeat": ("Repeat it", _repeat(one)),
    }
    return join(
        h(
            "header",
            h("h1", run.name),
            h("p", _in_a_sentence(run), class_="lead"),
            _damage(run),
            _tiles(run),
            _contents((name, heading) for name, (heading, _) in parts.items()),
        ),
        h(
            "main",
            [
                h("section", h("h2", heading, id=name), content, aria_labelledby=name)
                for name, (heading, content) in parts.items()
            ],
            id="main",
        ),
        _made_by(words),
    )


def _several(shown: Sequence[Shown], words: str) -> Markup:
    parts = {
        "compared": ("Side by side", [_side_by_side(shown), _differing(shown)]),
        "curves": ("Losses and dev P@1", [_key(shown), _loss_curves(shown), _dev(shown, 3)]),
        "cost": ("Speed and memory", [_key(shown), _cost_curves(shown)]),
        "scores": ("Scores", _headlines(shown)),
    }
    links = [(name, heading) for name, (heading, _) in parts.items()]
    links += [(one.id, f"{one.label} {one.run.name}") for one in shown]
    return join(
        h(
            "header",
            h("h1", f"{len(shown)} runs compared"),
            h(
                "ul",
                [
                    h("li", h("b", f"{one.label} {one.run.name}"), ": ", _in_a_sentence(one.run))
                    for one in shown
                ],
                role="list",
            ),
            [_damage(one.run, f"{one.label} {one.run.name}: ") for one in shown],
            _contents(links),
        ),
        h(
            "main",
            [
                h("section", h("h2", heading, id=name), content, aria_labelledby=name)
                for name, (heading, content) in parts.items()
            ],
            [_folded(one) for one in shown],
            id="main",
        ),
        _made_by(words),
    )


def _folded(one: Shown) -> Markup:
    """All that is one run's own, on a page of several."""
    return h(
        "details",
        h("summary", h("h2", f"{one.label} {one.run.name}", id=one.id)),
        h("h3", "What was trained on what"),
        _about(one, 4),
        h("h3", "Dev P@1 per language pair"),
        _dev_pairs(one),
        h("h3", "All scores"),
        _scores(one, 4),
        h("h3", "Sentences"),
        _sentences(one, 4),
        h("h3", "Repeat it"),
        _repeat(one),
        class_="run",
    )


def _contents(links: Iterable[tuple[str, str]]) -> Markup:
    items = [h("li", h("a", text, href=f"#{name}")) for name, text in links]
    return h("nav", h("ul", items, role="list"), aria_label="Contents")


def _made_by(words: str) -> Markup:
    return h("footer", h("p", "Made by ", h("code", words), class_="note"))


def _key(shown: Sequence[Shown]) -> Markup:
    """Which curve is whose."""
    items = []
    for one in shown:
        classes = charts.style_classes(one.style)
        sample = h("path", d="M1 6H35", class_=f"line {classes}")
        drawn = h("svg", sample, viewBox="0 0 36 12", aria_hidden="true", focusable="false")
        text = [drawn, h("b", one.label), f" {one.run.name}"]
        items.append(h("li", text, class_=f"s{one.style % charts.STYLES}"))
    return h("ul", items, class_="key", role="list", aria_label="Runs and their curves")


# What was trained on what


def _in_a_sentence(run: Run) -> str:
    model, done = run.config.model, run.share_done
    state = "Nothing was logged yet"
    if done is not None:
        seen = f"{run.last.get('pairs', 0):,.0f} pairs seen"
        state = f"{seen}, finished" if done > 0.9999 else f"{seen}, {100 * done:.0f} % of the way"
    count = _parameters(run)
    size = f"{_millions(count)} parameters in " if count else ""
    return (
        f"Recipe {run.config.name or 'without a name'}: {size}{model.layers} layers of width "
        f"{model.width}, {len(run.languages)} languages. {state}."
    )


def _parameters(run: Run) -> int | None:
    counts = run.about.get("parameters")
    count = counts.get("encoder") if isinstance(counts, dict) else None
    return count if isinstance(count, int) else None


def _millions(count: float) -> str:
    return f"{count / 1e6:,.1f} M" if count >= 1e5 else f"{count:,.0f}"


def _damage(run: Run, before: str = "") -> Markup | None:
    told = []
    if run.damaged:
        lines = "a line is" if run.damaged == 1 else f"{run.damaged} lines are"
        told.append(f"{lines} damaged in metrics.jsonl and left out")
    if run.damaged_results:
        told.append(f"without readable scores: {', '.join(run.damaged_results)}")
    return h("p", before, "; ".join(told), ".", class_="missing") if told else None


def _tiles(run: Run) -> Markup:
    values = compare.read_run(run.path, units=False).values
    tiles = []
    if "best dev P@1" in values:
        x, y = run.measured(DEV)
        at = x[np.nanargmax(y)]
        more = f"per cent, {_among(run)}, after {at:,.0f} pairs"
        tiles.append(("best dev P@1", f"{values['best dev P@1']:.1f}", more))
    if count := _parameters(run):
        bytes_ = f"{4 * count / 1e6:,.1f} MB in float32"
        tiles.append(("parameters of the encoder", _millions(count), bytes_))
    if "training pairs" in values:
        more = f"of {sum(run.train_rows.values()):,} there are" if run.train_rows else ""
        tiles.append(("pairs seen", f"{values['training pairs']:,.0f}", more))
        tiles.append(("pairs a second", f"{values['pairs/s']:,.0f}", "median"))
        tiles.append(("time", _hours(values["training hours"]), "of training"))
    if "peak memory" in values:
        tiles.append(("peak memory", _gigabytes(values["peak memory"]), "of the process"))
    return h(
        "dl",
        [
            h("div", h("dt", name), h("dd", value, h("small", more)), class_="tile")
            for name, value, more in tiles
        ],
        class_="tiles",
    )


def _among(run: Run) -> str:
    """How many candidates a dev P@1 had."""
    counts = run.dev_candidates.values()
    if not counts:
        return f"among at most {run.config.corpus.dev_limit:,} candidates"
    mean = " for each language pair" if len(counts) > 1 else ""
    return f"among {_range(counts)} candidates{mean}"


def _range(counts: Iterable[int]) -> str:
    low, high = min(counts), max(counts)
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def _hours(hours: float) -> str:
    return f"{hours:.1f} h" if hours >= 1 else f"{60 * hours:.0f} min"


def _gigabytes(count: float) -> str:
    return f"{count / 1e9:.2f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"


def _about(one: Shown, level: int) -> Markup:
    run, config = one.run, one.run.config
    about = run.about
    tokenizer = config.tokenizer
    kind = "whole words" if tokenizer.model == "words" else f"sentencepiece {tokenizer.model}"
    if tokenizer.file:
        kind = f"sentencepiece from {tokenizer.file}"
    facts = {
        "recipe": config.name,
        "languages": ", ".join(run.languages),
        "objectives": _objectives(config),
        "tokenizer": f"{kind}, {run.vocab_size:,} pieces"
        + (", lower case" if tokenizer.lowercase else "")
        + (", unknown characters as bytes" if tokenizer.byte_fallback else ""),
        "encoder": _encoder(config),
        "parameters": _all_parameters(about.get("parameters")),
        "optimizer": f"{config.optimizer.name}, learning rate {config.optimizer.learning_rate:g} "
        f"at its peak, {config.optimizer.warmup_steps:,} steps of warm-up, "
        f"{config.optimizer.schedule} schedule",
        "training": f"{config.train.pairs:,} pairs" * bool(config.train.pairs)
        or f"{config.train.epochs:g} epochs",
        "batches": f"{config.train.batch_size} pairs"
        + (f", {config.train.micro_batch} at a time" if config.train.micro_batch else ""),
        "teacher": config.teacher.source if config.objectives.soft.weight else "",
        "started from": config.train.init_from,
        "seed": str(config.train.seed),
        "device": str(about.get("devices") or ""),
        "commit": str(about.get("commit") or ""),
        "versions": _pairs_of(about.get("versions")),
    }
    rows = [(name, [value]) for name, value in facts.items() if value]
    return join(
        _table("The run", ["", ""], rows, numeric=False, long=True),
        _corpora(run, level),
        _tokens(run),
        _settings(config),
    )


def _objectives(config: Config) -> str:
    tasks = tasks_of(config)
    told = []
    for name, task in tasks.items():
        terms = ", ".join(
            f"{field.name} × {weight:g}"
            for field in dataclasses.fields(task.objectives)
            if (weight := getattr(task.objectives, field.name).weight)
        )
        share = f" ({task.train.share:g} of {sum(t.train.share for t in tasks.values()):g} steps)"
        told.append(f"{name}: {terms}{share}" if len(tasks) > 1 else terms)
    return "; ".join(told)


def _encoder(config: Config) -> str:
    model = config.model
    parts = [f"{model.layers} layers", f"width {model.width}"]
    if model.layers:
        parts += [f"{model.heads} heads", f"feed-forward {model.feedforward}"]
    if model.embedding_width:
        parts.append(f"embeddings of width {model.embedding_width}")
    parts += [f"{model.pooling} pooling", f"at most {model.max_length} tokens"]
    if model.dropout:
        parts.append(f"dropout {model.dropout:g}")
    return ", ".join(parts)


def _all_parameters(counts: Any) -> str:
    if not isinstance(counts, dict):
        return ""
    told = {"encoder": "in the encoder", "training": "in training, with the heads"}
    return ", ".join(
        f"{counts[k]:,} {v}" for k, v in told.items() if isinstance(counts.get(k), int)
    )


def _pairs_of(versions: Any) -> str:
    if not isinstance(versions, dict):
        return ""
    return ", ".join(f"{name} {version}" for name, version in versions.items())


def _corpora(run: Run, level: int) -> Markup:
    """Every source with its pairs; from the settings alone where the store is gone."""
    rows: list[tuple[Any, list[Any]]] = []
    if run.store:
        for group in run.store.groups:
            name, weight = "-".join(group["languages"]), group.get("weight", 1)
            name += f" × {weight:g}" if weight != 1 else ""
            counts = [f"{group[key]:,}" if group[key] else "" for key in ("rows", "dev_rows")]
            rows.append((_place(str(group["source"])), [name, *counts]))
    else:
        for use, sources in (("", run.config.corpus.sources), (" (dev)", run.config.corpus.dev)):
            rows += [(_place(text), [_languages(text) + use, "", ""]) for text in sources]
    for task in run.config.tasks:
        rows += [
            (_place(text), [f"{_languages(text)} (task {task.name})", "", ""])
            for text in task.sources
        ]
    head = ["source", "languages", "training rows", "dev rows"]
    total = f": {len(rows)} sources" if len(rows) > OPEN_ROWS else ""
    table = _table(f"Corpora{total}", head, rows, numeric=(2, 3), long=True)
    gone = None if run.store else h("p", _sentence(run.no_store), class_="missing")
    return join(gone, _fold(table, f"The {len(rows)} corpora", len(rows)))


def _place(source: str) -> str:
    """`data/*.tsv` of the source `en-fr=data/*.tsv`."""
    return source.split("=", 1)[-1]


def _languages(source: str) -> str:
    return source.split("=", 1)[0]


def _tokens(run: Run) -> Markup | None:
    tokens = run.store.manifest.get("tokens") if run.store else None
    if not isinstance(tokens, dict):
        return None
    rows = []
    for language, count in tokens.items():
        if not isinstance(count, dict):
            return None
        size, total, unknown = (count.get(k, 0) for k in ("sentences", "tokens", "unknown"))
        mean, share = total / max(size, 1), 100 * unknown / max(total, 1)
        rows.append((language, [f"{size:,}", f"{mean:.1f}", f"{share:.2f} %"]))
    head = ["language", "sentences", "tokens a sentence", "unknown tokens"]
    return _fold(_table("Languages", head, rows), f"The {len(rows)} languages", len(rows))


def _settings(config: Config) -> Markup:
    default, values = flatten(to_dict(Config())), flatten(to_dict(config))
    rows = [
        (
            _breakable(key),
            [_value(value), "" if default.get(key) == value else "differs from the default"],
        )
        for key, value in values.items()
    ]
    table = _table("Every setting", ["setting", "value", "note"], rows, numeric=False, long=True)
    return h("details", h("summary", "Every setting"), table)


def _breakable(key: str) -> Markup:
    """The name of a setting, which may be broken after its dots."""
    return join([[part, h("wbr")] for part in re.findall(r"[^.]+\.?|\.", key)])


def _value(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    return "none" if value == "" else str(value)


def _differing(shown: Sequence[Shown]) -> Markup:
    flat = [flatten(to_dict(one.run.config)) for one in shown]
    keys = dict.fromkeys(key for values in flat for key in values)
    rows = [
        (_breakable(key), [_value(values[key]) if key in values else "" for values in flat])
        for key in keys
        if any(values.get(key) != flat[0].get(key) for values in flat)
    ]
    if not rows:
        return h("p", "All settings are the same.")
    head = ["setting", *(f"{one.label} {one.run.name}" for one in shown)]
    table = _table("Settings that differ", head, rows, numeric=False, long=True)
    return _fold(table, f"The {len(rows)} settings that differ", len(rows))


# Curves


def _curves_of(shown: Sequence[Shown], key: str, factor: float = 1.0) -> list[Series]:
    found = []
    for one in shown:
        x, y = one.run.measured(key)
        found.append(Series(one.run.name, one.label, x, factor * y, one.style))
    return found


def _pairs_seen(value: float) -> str:
    return f"{value:,.0f} pairs"


_chart = functools.partial(charts.line_chart, x_label="pairs seen", x_form=_pairs_seen)


def _loss_curves(shown: Sequence[Shown]) -> Markup:
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


def _dev(shown: Sequence[Shown], level: int) -> Markup:
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
        labels.setdefault(_among(one.run), []).append(one.label)
    among = "; ".join(
        f"{', '.join(letters)} {text}" if len(labels) > 1 else text
        for text, letters in labels.items()
    )
    percent = functools.partial(_chart, form=_percent, dots=True)
    drawn = [percent(_curves_of(shown, DEV), title="dev P@1, per cent", name="dev")]
    if len(shown) == 1 and len(shown[0].run.dev_names) > 1:
        drawn.append(
            percent(
                _pair_curves(shown[0].run), title="dev P@1 per language pair, per cent", name="devs"
            )
        )
    table = _dev_pairs(shown[0]) if len(shown) == 1 else _dev_pairs_of_all(shown)
    return join(
        heading,
        h("p", f"{told}; {among}.", class_="note"),
        h("div", drawn, class_="charts"),
        table,
    )


def _pair_curves(run: Run) -> list[Series]:
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


def _last(run: Run, name: str) -> float:
    _, y = run.measured(f"{DEV}/{name}")
    y = y[np.isfinite(y)]
    return float(y[-1]) if len(y) else 0.0


def _dev_pairs(one: Shown) -> Markup:
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
        best = _percent(float(finite.max())) if len(finite) else ""
        last = float(finite[-1]) if len(finite) else None
        seen = run.last.get(f"pairs/{name}")
        rows.append(
            (
                name,
                [
                    *([charts.spark(y, low, high)] if is_curved else []),
                    _bar(last),
                    best,
                    _count(candidates.get(name)),
                    _count(seen),
                    _count(trained.get(name)),
                ],
            )
        )
    curve = ["curve"] if is_curved else []
    head = ["pair", *curve, "last P@1", "best", "candidates", "pairs seen", "training pairs"]
    caption = "Dev P@1 per language pair, per cent" + "; the curves share one scale" * is_curved
    return _fold(_table(caption, head, rows), f"The {len(rows)} language pairs", len(rows))


def _dev_pairs_of_all(shown: Sequence[Shown]) -> Markup | None:
    names = dict.fromkeys(name for one in shown for name in one.run.dev_names)
    if len(names) < 2:
        return None
    rows = []
    for name in sorted(names, key=lambda name: -_last(shown[0].run, name)):
        cells = []
        for one in shown:
            has_any = name in one.run.dev_names
            cells.append(_bar(_last(one.run, name)) if has_any else "")
        counts = [one.run.dev_candidates.get(name) for one in shown]
        cells.append(_range([n for n in counts if n]) if any(counts) else "")
        rows.append((name, cells))
    head = ["pair", *(f"{one.label} {one.run.name}" for one in shown), "candidates"]
    table = _table("Last dev P@1 per language pair, per cent", head, rows)
    return _fold(table, f"The {len(rows)} language pairs", len(rows))


def _cost_curves(shown: Sequence[Shown]) -> Markup:
    if not any(one.run.records for one in shown):
        return h("p", "Nothing was logged yet.", class_="missing")

    def hundredths(value: float) -> str:
        return f"{value:.3g} %"

    plans: list[tuple[str, str, float, Callable[[float], str], bool]] = [
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


# Scores


NAMES = {"accuracy": "P@1", "error": "error", "forward": "P@1 there", "backward": "P@1 back"}
"""Of scores of the tasks that look for translations."""


def _score_name(results: Results, score: str) -> str:
    looks = any("forward" in unit["scores"] for unit in results["results"].values())
    return (NAMES.get(score) if looks else None) or score.replace("_", " ")


def _scores(one: Shown, level: int) -> Markup:
    if not one.run.results:
        return h(
            "p",
            "Nothing is in the folder evaluation yet: ",
            h("code", f"lightxling evaluate {one.run.path} --task retrieval --data FILE"),
            class_="missing",
        )
    return join([_benchmark(results, level) for results in one.run.results])


def _benchmark(results: Results, level: int) -> Markup:
    """A table: languages, scores (with their deviation beside them), candidates."""
    units = results["results"]
    known = dict.fromkeys(name for unit in units.values() for name in unit["scores"])
    scores = [n for n in known if n not in DETAILS and not (n.endswith("_sd") and n[:-3] in known)]
    about = [n for n in DESCRIPTIONS if any(n in unit for unit in units.values())]
    first = _headline(results, scores)
    rows = []
    for name, unit in units.items():
        cells: list[Any] = [_score(unit["scores"], score, score == first) for score in scores]
        cells += [_described(unit.get(key)) for key in about]
        rows.append((name, cells))
    if len(units) > 1:
        mean = mean_scores(results)
        kept = {k: v for k, v in mean.items() if not k.endswith("_sd")}
        cells = [_score(kept, score, score == first) for score in scores] + [""] * len(about)
        rows.append((f"mean of {len(units.keys() - {POOLED})}", cells))
    head = ["", *(_score_name(results, score) for score in scores), *about]
    caption = f"{_benchmark_name(results)}, in per cent"
    table = _table(caption, head, rows, mean=len(units) > 1, strong=1 + scores.index(first))
    return join(
        h(f"h{level}", f"{results['task']}: {results['dataset']}"),
        _fold(table, f"The {len(units)} languages", len(units)),
    )


def _benchmark_name(results: Results) -> str:
    settings = results["settings"] if isinstance(results["settings"], dict) else {}
    told = ", ".join(f"{k.replace('_', ' ')} {v}" for k, v in settings.items() if v)
    return f"{results['task']} on {results['dataset']}" + (f" ({told})" if told else "")


def _headline(results: Results, scores: Sequence[str]) -> str:
    task = TASKS.get(results["task"])
    return task.headline if task and task.headline in scores else scores[0]


def _score(scores: Mapping[str, float], name: str, is_first: bool) -> Markup | str:
    if name not in scores:
        return ""
    deviation = f" ± {scores[f'{name}_sd']:.1f}" if f"{name}_sd" in scores else ""
    text = f"{scores[name]:.1f}{deviation}"
    return _bar(scores[name], text) if is_first else text


def _described(value: Any) -> str:
    """A number of candidates, queries, pairs or documents."""
    if isinstance(value, dict):
        return "; ".join(f"{name} {_described(item)}" for name, item in value.items())
    if isinstance(value, list):
        return " x ".join(_described(item) for item in value)
    return "" if value is None else f"{value:,}" if isinstance(value, int) else str(value)


def _headlines(shown: Sequence[Shown]) -> Markup:
    """The main score of every benchmark and language, runs side by side."""
    found: dict[str, dict[int, Results]] = {}
    for i, one in enumerate(shown):
        for results in one.run.results:
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
                for key in DESCRIPTIONS:
                    if key in result:
                        told.append(f"{_described(result[key])} {key}")
            rows.append((unit, [*cells, "; ".join(dict.fromkeys(told))]))
        if len(units) > 1:
            means = [mean_scores(by_run[i]) if i in by_run else {} for i in range(len(shown))]
            cells = [_bar(mean[score]) if score in mean else "" for mean in means]
            rows.append(("mean", [*cells, ""]))
        head = ["", *(f"{one.label} {one.run.name}" for one in shown), "among"]
        caption = f"{name}: {_score_name(some, score)} in per cent"
        table = _table(caption, head, rows, mean=len(units) > 1)
        tables.append(h("h3", f"{some['task']}: {some['dataset']}"))
        tables.append(_fold(table, f"The {len(units)} languages", len(units)))
    return join(tables)


def _side_by_side(shown: Sequence[Shown]) -> Markup:
    """The table of `lightxling compare`, without single languages; seeds are one column."""
    paths = [one.run.path for one in shown]
    columns, compared = compare.compare(paths, units=False)
    groups: dict[str, list[Shown]] = {}
    for one in shown:
        groups.setdefault(compare.read_run(one.run.path, units=False).group, []).append(one)
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
            name = f"{column} (among {_range(dev)})"
        for one in shown:
            for results in one.run.results:
                counts = [unit.get("candidates") for unit in results["results"].values()]
                counts = [count for count in counts if isinstance(count, int)]
                if counts and column == f"{results['task']}.{results['dataset']} accuracy":
                    name = f"{column}: P@1 (among {_range(counts)})"
        rows.append((name, [compare.as_text(column, row[column]) for row in compared]))
    caption = "Cost, and mean scores in per cent; candidates of P@1 in brackets"
    return _table(caption, head, rows)


# Sentences


def _sentences(one: Shown, level: int) -> Markup:
    if not one.views:
        return h("p", _sentence(one.no_views), class_="missing")
    names = ", ".join("-".join(view.sentences.languages) for view in one.views)
    chosen = " (the most, the fewest and between in training pairs)" * (len(one.views) > 1)
    return join(
        h("p", f"Development sentences of {names}{chosen}.", class_="note"),
        h(f"h{level}", "A map of translations"),
        _map(one),
        h(f"h{level}", "Similarity matrices"),
        _matrices(one),
        h(f"h{level}", "Nearest neighbours, right and wrong"),
        [_neighbours(view, level + 1, i == 0) for i, view in enumerate(one.views)],
    )


def _map(one: Shown) -> Markup:
    pairs, points, share = sentences.plane(one.views)
    placed, items = [], []
    for i, (view, row) in enumerate(pairs, 1):
        languages, texts = view.sentences.languages, view.sentences.texts[view.chosen[row]]
        label = f"{i} {languages[1]}" if len(one.views) > 1 else str(i)
        placed.append(charts.Placed(label, languages, texts))
        items.append(_translation(texts, languages, float(np.dot(*view.vectors[row]))))
    chart = charts.map_chart(
        points,
        placed,
        title="Dots are sentences, squares their translations",
        name=f"{one.id}-map",
        note=f"The plane of the first two principal components has {100 * share:.0f} % of the "
        "variance",
    )
    return h("div", chart, h("ol", items, class_="pairs"), class_="map")


def _translation(
    texts: tuple[str, str], languages: tuple[str, str], cosine: float, more: str = ""
) -> Markup:
    """An item of a list: a sentence, its translation, their cosine."""
    one, other = (_quote(text, code) for text, code in zip(texts, languages, strict=True))
    told = h("small", f" {languages[1]}, cosine {cosine:.2f}{more}")
    return h("li", one, h("br"), other, told)


def _matrices(one: Shown) -> Markup:
    figures = []
    for number_, view in enumerate(one.views):
        languages = view.sentences.languages
        name = "-".join(languages)
        chart = charts.matrix_chart(
            view.cosines, title=name, name=f"{one.id}-matrix-{number_}", languages=languages
        )
        items = []
        for i, row in enumerate(view.chosen.tolist()):
            near, cosines = int(np.argmax(view.cosines[i])), view.cosines[i]
            more = "" if near == i else f"; nearest is {near + 1} with {cosines[near]:.2f}"
            items.append(
                _translation(view.sentences.texts[row], languages, float(cosines[i]), more)
            )
        told = h("summary", f"The sentences of {name}")
        figures.append(h("div", chart, h("details", told, h("ol", items, class_="pairs"))))
    told = (
        "Rows are sentences, columns translations, and a frame is a pair. A dot: the nearest is "
        "the translation. A cross: the nearest is another."
    )
    return join(h("p", told, class_="note"), h("div", figures, class_="charts large"))


def _neighbours(view: sentences.View, level: int, is_open: bool) -> Markup:
    one, other = view.sentences.languages
    shown, total = len(view.sentences.texts), view.sentences.total
    out_of = f" (out of {total:,} dev pairs)" if total > shown else ""
    items = [_neighbour(n, one, other) for n in [*view.wrong, *view.right]]
    return h(
        "details",
        h("summary", h(f"h{level}", f"{one} to {other}: {100 * view.found:.1f} % right")),
        h(
            "p",
            f"Of {shown:,} sentences{out_of}, {100 * view.found:.1f} % find their translation "
            f"among {shown:,} candidates. Below are the wrong ones that are farthest off, then "
            "right ones, from the narrowest to the clearest; cosines in brackets.",
        ),
        h("ul", items, class_="asked", role="list"),
        open=is_open,
    )


def _neighbour(found: sentences.Neighbour, one: str, other: str) -> Markup:
    right = found.rank == 1
    verdict = "✓ right" if right else f"✗ wrong, translation at rank {found.rank:,}"
    answer = [_quote(found.answer, other), f" ({found.to_answer:.2f})"]
    wrong = [_quote(found.other, other), f" ({found.to_other:.2f})"]
    rows = [("asked", _quote(found.query, one))]
    if right:
        rows += [("found", answer), ("next", wrong)]
    else:
        rows += [("found", wrong), ("wanted", answer)]
    return h(
        "li",
        h("span", verdict, class_="verdict"),
        h("dl", [[h("dt", name), h("dd", text)] for name, text in rows]),
        class_="s2" if right else "s1",
    )


def _quote(text: str, language: str) -> Markup:
    cut = text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"
    return h("span", cut, lang=language.replace("_", "-"), dir="auto")


# Repeat it


def _repeat(one: Shown) -> Markup:
    run = one.run
    versions = run.about.get("versions")
    version = versions.get("lightxling") if isinstance(versions, dict) else None
    told = [f"lightxling {version}"] if version else []
    if run.about.get("commit"):
        told.append(f"commit {run.about['commit']}")
    origin = f" It was {', '.join(told)}." if told else ""
    return join(
        h(
            "p",
            "Relative paths are from where the run was started; on the same machine and versions "
            f"the numbers are the same.{origin}",
        ),
        h(
            "pre",
            h("code", command(run.config, run.path)),
            tabindex=0,
            role="region",
            aria_label="The command that repeats the run",
        ),
    )


# Pieces


def _table(
    caption: str,
    head: Sequence[str],
    rows: Sequence[tuple[Any, Sequence[Any]]],
    *,
    numeric: Iterable[int] | bool = True,
    mean: bool = False,
    strong: int | None = None,
    long: bool = False,
) -> Markup:
    """A table that scrolls sideways by itself where it is too wide.

    Args:
      rows: the header of each and its cells; a cell may be a whole <td>.
      numeric: columns of numbers, counted from the header's 0; True: all.
      mean: the last row sums up the others.
      strong: the column of the main score.
      long: cells hold text that may be broken anywhere, such as paths.
    """
    columns = range(1, len(head)) if numeric is True else set(numeric or ())

    def cell(column: int, value: Any) -> Markup:
        if isinstance(value, Markup) and value.startswith("<td"):
            return value
        classes = "n" * (column in columns) + " main" * (column == strong)
        return h("td", value, class_=classes.strip() or None)

    top = [
        h("th", name, scope="col", class_="n" if i in columns else None) if name else h("td")
        for i, name in enumerate(head)
    ]
    heading = h("thead", h("tr", top)) if any(head) else None
    lines = [
        h(
            "tr",
            h("th", name, scope="row"),
            [cell(i, value) for i, value in enumerate(cells, 1)],
            class_="mean" if mean and row == len(rows) - 1 else None,
        )
        for row, (name, cells) in enumerate(rows)
    ]
    table = h("table", h("caption", caption), heading, h("tbody", lines))
    if long or len(head) < 4:
        return h("div", table, class_="wide long" if long else "wide")
    # what is likely to scroll can be reached by keyboard
    return h("div", table, class_="wide pin", role="region", aria_label=caption, tabindex=0)


def _fold(table: Markup, summary: str, rows: int) -> Markup:
    """A table that is open if it is short; with 0 rows it is closed."""
    if 0 < rows <= OPEN_ROWS:
        return table
    return h("details", h("summary", summary), table)


def _bar(value: float | None, text: str | None = None) -> Markup | str:
    """A cell with a bar behind its number, which stands for per cent."""
    if value is None:
        return ""
    share = min(max(value, 0.0), 100.0)
    return h("td", text or _percent(value), class_="n main bar", style=f"--p:{share:.1f}%")


def _percent(value: float) -> str:
    return f"{value:.1f}"


def _count(value: float | None) -> str:
    return "" if value is None or np.isnan(value) else f"{value:,.0f}"


def _sentence(text: str) -> str:
    """A message as a sentence of the page."""
    return f"{text[:1].upper()}{text[1:]}."
