"""What a run says at its end: what came of it, whether to go on, and what to type next."""

import shlex
from collections.abc import Iterator
from pathlib import Path

from lightxling.base.places import locate, name_in_package
from lightxling.config.schema import Config
from lightxling.config.settings import change
from lightxling.evaluate.report.repeat import command
from lightxling.saved.curve import best_point, dev_curve, verdict
from lightxling.saved.run import read_metrics

MOST = 4
"""Files that a command to be typed names."""


def closing(config: Config, workdir: Path) -> Iterator[str]:
    """Lines about a run that is at its end, from its metrics.jsonl; none without a measurement."""
    curve = dev_curve(read_metrics(workdir / "metrics.jsonl")[0])
    if not curve:
        return
    step, _ = best_point(curve)
    told = f"the best is of step {step:,}, in {workdir / 'best'}"
    if config.train.best == "loss":
        told = f"{workdir / 'best'} has the step of the lowest dev loss"
    yield f"dev P@1 {verdict(curve)}; {told}"
    yield "next:"
    yield from ("  " + line.replace("\n", "\n  ") for line in next_commands(config, workdir))


def next_commands(config: Config, workdir: Path) -> Iterator[str]:
    """What one does next: evaluate, beside the encoder that it started from; export; go on."""
    run, data = shlex.quote(str(workdir)), "TEST.tsv"
    if config.corpus.dev:
        data = " ".join(map(shlex.quote, config.corpus.dev[:MOST]))
        data += " ..." if config.corpus.dev[MOST:] else ""
    elif config.corpus.sources:
        languages = config.corpus.sources[0].partition("=")[0].partition("@")[0]
        data = f"{languages}={data}"
    start = config.train.init_from
    named = name_in_package(locate(start)) if start else None
    yield f"lightxling evaluate {run} --task retrieval --data {data}"
    if named:
        yield f"lightxling evaluate {named} --task retrieval --data {data}"
        yield f"lightxling compare {named} {run}"
    yield f"lightxling export {run} --dtype int8"
    if len(config.corpus.sources) <= MOST and not (config.tasks or config.stages):
        longer = change(config, train__init_from=str(workdir))
        yield command(longer, f"{workdir}-longer")
