"""What a run was trained on, with which settings, and the command that repeats it."""

import dataclasses
import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from lightxling.base import limits
from lightxling.base.tree import flatten
from lightxling.config.files import to_dict
from lightxling.config.plan import tasks_of
from lightxling.config.schema import Config
from lightxling.evaluate.compare import summary
from lightxling.evaluate.report import pieces
from lightxling.evaluate.report.markup import Markup, h, join_markup
from lightxling.evaluate.report.pieces import Shown, html_table
from lightxling.evaluate.report.repeat import changed, command, next_commands
from lightxling.evaluate.report.runs import DEV, TrainedRun
from lightxling.saved.curve import dev_curve, verdict

THIS_RUN = "this run"


def in_a_sentence(run: TrainedRun) -> str:
    model, done = run.config.model, run.share_done
    state = "Nothing was logged yet"
    if done is not None:
        seen = f"{run.last.get('pairs', 0):,.0f} pairs seen"
        state = f"{seen}, finished" if done > 0.9999 else f"{seen}, {100 * done:.0f} % of the way"
    count = _parameters(run).get("encoder")
    size = f"{_millions(count)} parameters in " if count else ""
    return (
        f"Recipe {run.config.name or 'without a name'}: {size}{model.layers} layers of width "
        f"{model.width}, {len(run.languages)} languages. {state}."
    )


def _parameters(run: TrainedRun) -> dict[str, int]:
    """How many the encoder has, and with the heads all that is trained, where the run notes it."""
    counts = _noted(run, "parameters")
    return {
        key: count
        for key, count in counts.items()
        if type(count) is int and 0 <= count <= limits.STEP
    }


def _noted(run: TrainedRun, key: str) -> dict[str, Any]:
    """A table of config.json beside the settings."""
    found = run.about.get(key)
    return found if isinstance(found, dict) else {}


def _millions(count: int | float) -> str:
    return f"{count / 1e6:,.1f} M" if count >= 1e5 else f"{count:,.0f}"


def damage(run: TrainedRun, before: str = "") -> Markup | None:
    told = []
    if run.damaged:
        lines = "a line is" if run.damaged == 1 else f"{run.damaged} lines are"
        told.append(f"{lines} damaged in metrics.jsonl and left out")
    if run.damaged_results:
        told.append(f"without readable scores: {', '.join(run.damaged_results)}")
    return pieces.missing(before, "; ".join(told), ".") if told else None


def result(run: TrainedRun) -> Markup | None:
    """What came of it, in the first line; nothing of a run without a measurement."""
    curve = dev_curve(run.records)
    return h("p", "dev P@1 ", h("b", verdict(curve)), class_="lead") if curve else None


def tiles(run: TrainedRun) -> Markup:
    values = summary(run).values
    tiles = []
    if "best dev P@1" in values:
        x, y = run.measured(DEV)
        more = f"per cent, {pieces.among(run)}, after {x[np.nanargmax(y)]:,.0f} pairs"
        tiles.append(("best dev P@1", f"{values['best dev P@1']:.1f}", more))
    if count := _parameters(run).get("encoder"):
        size = f"{4 * count / 1e6:,.1f} MB in float32"
        tiles.append(("parameters of the encoder", _millions(count), size))
    if "training pairs" in values:
        more = f"of {sum(run.train_rows.values()):,} there are" if run.train_rows else ""
        hours = values["training hours"]
        time = f"{hours:.1f} h" if hours >= 1 else f"{60 * hours:.0f} min"
        tiles.append(("pairs seen", f"{values['training pairs']:,.0f}", more))
        tiles.append(("pairs a second", f"{values['pairs/s']:,.0f}", "median"))
        tiles.append(("time", time, "of training"))
    if "peak memory" in values:
        size = values["peak memory"]
        told = f"{size / 1e9:.2f} GB" if size >= 1e9 else f"{size / 1e6:.0f} MB"
        tiles.append(("peak memory", told, "of the process"))
    drawn = [
        h("div", h("dt", name), h("dd", value, h("small", more)), class_="tile")
        for name, value, more in tiles
    ]
    return h("dl", drawn, class_="tiles")


def facts(run: TrainedRun) -> Markup:
    counts = _parameters(run)
    told = {"encoder": "in the encoder", "training": "in training, with the heads"}
    width, source = _noted(run, "teacher").get("width"), run.config.teacher.source
    facts = {
        "languages": ", ".join(run.languages),
        "started from": _start(run),
        "objectives": _objectives(run.config),
        "vocabulary": f"{run.vocab_size:,} pieces"
        + ", lower case" * run.config.tokenizer.lowercase,
        "parameters": ", ".join(f"{counts[k]:,} {v}" for k, v in told.items() if k in counts),
        # where it is from that the run notes, whatever it was asked for
        "teacher": source + f", of width {width}" * bool(width) if _noted(run, "teacher") else "",
        "device": str(run.about.get("devices") or ""),
        "commit": str(run.about.get("commit") or ""),
        "versions": ", ".join(f"{k} {version}" for k, version in _noted(run, "versions").items()),
    }
    rows = [(name, [value]) for name, value in facts.items() if value]
    return join_markup(
        html_table("The run", ["", ""], rows, numeric=(), long=True),
        _stages(run),
        _corpora(run),
        _tokens(run),
        _settings(run.config),
    )


def _start(run: TrainedRun) -> str:
    """What `train.init_from` named."""
    origin = _noted(run, "origin")
    if not origin:
        return run.config.train.init_from
    layers, new = origin.get("layers"), origin.get("new_layers")
    more = f", to which {new} were added" if new else ""
    factor = run.config.optimizer.init_from_multiplier
    rate = f"; what is from there learns at {factor:g} times the rate" if factor != 1 else ""
    return f"{origin.get('path')}, of {layers} layers{more}{rate}"


def _stages(run: TrainedRun) -> Markup | None:
    """The runs of a recipe of stages, the last of which is this one."""
    if not run.config.stages:
        return None
    settings = {stage.name: (stage.layers, stage) for stage in run.config.stages}
    settings[THIS_RUN] = run.config.model.layers, run.config
    folders, rows = run.stages | {THIS_RUN: dataclasses.replace(run, stages={})}, []
    for name, (layers, stage) in settings.items():
        values = summary(folders[name]).values if name in folders else {}
        pairs, hours, best = (
            values.get(k) for k in ("training pairs", "training hours", "best dev P@1")
        )
        cells = [f"{layers}", f"{stage.train.batch_size:,}", f"{stage.optimizer.learning_rate:g}"]
        cells += [pieces.count_text(pairs), "" if hours is None else f"{60 * hours:,.0f} min"]
        rows.append((name, [*cells, "" if best is None else f"{best:.1f}"]))
    head = ["stage", "layers", "batch", "learning rate", "pairs", "training", "best dev P@1"]
    return html_table("Stages", head, rows, long=True, things="stages")


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


def _corpora(run: TrainedRun) -> Markup:
    """Every source in the store with its pairs; what was asked for is among the settings."""
    if not run.store:
        return pieces.missing(pieces.sentence(run.no_store))
    rows = []
    for group in run.store.groups:
        name, weight = "-".join(group["languages"]), group.get("weight", 1)
        name += f" × {weight:g}" if weight != 1 else ""
        counts = [f"{group[key]:,}" if group[key] else "" for key in ("rows", "dev_rows")]
        rows.append((str(group["source"]).split("=", 1)[-1], [name, *counts]))
    head = ["source", "languages", "training rows", "dev rows"]
    return html_table("Corpora", head, rows, numeric=(2, 3), long=True, things="corpora")


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
    return html_table("Languages", head, rows, things="languages")


def _settings(config: Config) -> Markup:
    """All settings, first those that differ from the default."""
    first = changed(config, Config())
    values = first | flatten(to_dict(config))
    rows = [(_breakable(key), [_value(value)]) for key, value in values.items()]
    told = f"Every setting; the first {len(first)} differ from the defaults"
    table = html_table(told, ["setting", "value"], rows, numeric=(), long=True)
    return h("details", h("summary", "Every setting"), table)


def _breakable(key: str) -> Markup:
    """The name of a setting, which may be broken after its dots."""
    return join_markup([[part, h("wbr")] for part in re.findall(r"[^.]+\.?|\.", key)])


def _value(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    return "none" if value == "" else str(value)


def differing(shown: Sequence[Shown]) -> Markup:
    flat = [flatten(to_dict(one.run.config)) for one in shown]
    rows = [
        (_breakable(key), [_value(values[key]) if key in values else "" for values in flat])
        for key in dict.fromkeys(key for values in flat for key in values)
        if any(values.get(key) != flat[0].get(key) for values in flat)
    ]
    if not rows:
        return h("p", "All settings are the same.")
    head, told = ["setting", *(one.full_name for one in shown)], "settings that differ"
    return html_table(told.capitalize(), head, rows, numeric=(), long=True, things=told)


def following(run: TrainedRun) -> Markup:
    """What one types next."""
    code = "\n".join(next_commands(run.config, run.path))
    name = "The next commands"
    return h("pre", h("code", code), tabindex=0, role="region", aria_label=name)


def repeat(run: TrainedRun) -> Markup:
    told = (
        "Relative paths are from where the run was started; on the same machine and versions the "
        "numbers are the same."
    )
    name, code = "The command that repeats the run", h("code", command(run.config, run.path))
    return join_markup(h("p", told), h("pre", code, tabindex=0, role="region", aria_label=name))
