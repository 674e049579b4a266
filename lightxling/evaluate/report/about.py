"""What a run was trained on, with which settings, and the command that repeats it."""

import dataclasses
import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from lightxling.base.tree import flatten
from lightxling.config.files import to_dict
from lightxling.config.plan import tasks_of
from lightxling.config.schema import Config
from lightxling.evaluate import compare
from lightxling.evaluate.report import pieces
from lightxling.evaluate.report.markup import Markup, h, join
from lightxling.evaluate.report.pieces import Shown
from lightxling.evaluate.report.repeat import command
from lightxling.evaluate.report.runs import DEV, TrainedRun


def in_a_sentence(run: TrainedRun) -> str:
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


def _parameters(run: TrainedRun) -> int | None:
    counts = run.about.get("parameters")
    count = counts.get("encoder") if isinstance(counts, dict) else None
    return count if isinstance(count, int) else None


def _millions(count: int | float) -> str:
    return f"{count / 1e6:,.1f} M" if count >= 1e5 else f"{count:,.0f}"


def damage(run: TrainedRun, before: str = "") -> Markup | None:
    told = []
    if run.damaged:
        lines = "a line is" if run.damaged == 1 else f"{run.damaged} lines are"
        told.append(f"{lines} damaged in metrics.jsonl and left out")
    if run.damaged_results:
        told.append(f"without readable scores: {', '.join(run.damaged_results)}")
    return h("p", before, "; ".join(told), ".", class_="missing") if told else None


def tiles(run: TrainedRun) -> Markup:
    values = compare.summary(run).values
    tiles = []
    if "best dev P@1" in values:
        x, y = run.measured(DEV)
        at = x[np.nanargmax(y)]
        more = f"per cent, {pieces.among(run)}, after {at:,.0f} pairs"
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


def _hours(hours: float) -> str:
    return f"{hours:.1f} h" if hours >= 1 else f"{60 * hours:.0f} min"


def _gigabytes(count: int | float) -> str:
    return f"{count / 1e9:.2f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"


def facts(run: TrainedRun) -> Markup:
    about, lowercase = run.about, run.config.tokenizer.lowercase
    facts = {
        "recipe": run.config.name,
        "languages": ", ".join(run.languages),
        "objectives": _objectives(run.config),
        "vocabulary": f"{run.vocab_size:,} pieces" + ", lower case" * lowercase,
        "parameters": _all_parameters(about.get("parameters")),
        "teacher": _teacher(run),
        "device": str(about.get("devices") or ""),
        "commit": str(about.get("commit") or ""),
        "versions": _pairs_of(about.get("versions")),
    }
    rows = [(name, [value]) for name, value in facts.items() if value]
    return join(
        pieces.table("The run", ["", ""], rows, numeric=False, long=True),
        _corpora(run),
        _tokens(run),
        _settings(run.config),
    )


def _teacher(run: TrainedRun) -> str:
    """Where the teacher is from that the run notes, whatever it was asked for."""
    noted = run.about.get("teacher")
    if not isinstance(noted, dict):
        return ""
    width = noted.get("width")
    return run.config.teacher.source + (f", of width {width}" if width else "")


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


def _corpora(run: TrainedRun) -> Markup:
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
    table = pieces.table("Corpora", head, rows, numeric=(2, 3), long=True)
    gone = None if run.store else h("p", pieces.sentence(run.no_store), class_="missing")
    return join(gone, pieces.fold(table, f"The {len(rows)} corpora", len(rows)))


def _place(source: str) -> str:
    """`data/*.tsv` of the source `en-fr=data/*.tsv`."""
    return source.split("=", 1)[-1]


def _languages(source: str) -> str:
    return source.split("=", 1)[0]


def _tokens(run: TrainedRun) -> Markup | None:
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
    return pieces.fold(
        pieces.table("Languages", head, rows), f"The {len(rows)} languages", len(rows)
    )


def _settings(config: Config) -> Markup:
    """All settings, first those that differ from the default."""
    default, values = flatten(to_dict(Config())), flatten(to_dict(config))
    changed = [key for key, value in values.items() if key not in default or default[key] != value]
    rows = [(_breakable(key), [_value(values[key])]) for key in dict.fromkeys([*changed, *values])]
    told = f"Every setting; the first {len(changed)} differ from the defaults"
    table = pieces.table(told, ["setting", "value"], rows, numeric=False, long=True)
    return h("details", h("summary", "Every setting"), table)


def _breakable(key: str) -> Markup:
    """The name of a setting, which may be broken after its dots."""
    return join([[part, h("wbr")] for part in re.findall(r"[^.]+\.?|\.", key)])


def _value(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    return "none" if value == "" else str(value)


def differing(shown: Sequence[Shown]) -> Markup:
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
    table = pieces.table("Settings that differ", head, rows, numeric=False, long=True)
    return pieces.fold(table, f"The {len(rows)} settings that differ", len(rows))


def repeat(run: TrainedRun) -> Markup:
    return join(
        h(
            "p",
            "Relative paths are from where the run was started; on the same machine and versions "
            "the numbers are the same.",
        ),
        h(
            "pre",
            h("code", command(run.config, run.path)),
            tabindex=0,
            role="region",
            aria_label="The command that repeats the run",
        ),
    )
