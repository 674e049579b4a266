"""The command that repeats a run, from its settings, and those that come after it."""

import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lightxling import config as configs
from lightxling.base.errors import UserError
from lightxling.base.places import locate, name_in_package
from lightxling.base.tree import flatten
from lightxling.config.files import to_dict
from lightxling.config.schema import Config
from lightxling.config.settings import change

MOST = 4
"""Files that a command to be typed names."""


def changed(config: Config, before: Config) -> dict[str, Any]:
    """Settings, by their dotted names, that another config has not or has otherwise."""
    old = flatten(to_dict(before))
    now = flatten(to_dict(config))
    return {key: value for key, value in now.items() if key not in old or old[key] != value}


def nearest(config: Config) -> Iterator[tuple[str, Config]]:
    """Names of recipes that a command may begin with, and what they are."""
    settings = flatten(to_dict(config))
    files = {value for key, value in settings.items() if key.endswith(".source.file")}
    for name in files or configs.recipes():
        try:
            yield name, configs.load(name)
        except UserError:  # the file is elsewhere; its objectives are named by nothing else
            yield name, config


def command(config: Config, workdir: Path | str) -> str:
    """Lines for a shell: the nearest shipped recipe, and every setting that differs from it.

    A recipe of the run's own name is taken however much differs, and where an objective comes from
    a file, that file. Where no recipe has as many tasks, flags cannot name them: a recipe file is
    written first.
    """
    found, into = [], f"--workdir {shlex.quote(str(workdir))}"
    for name, recipe in nearest(config):
        same_parts = len(recipe.tasks) == len(config.tasks)
        if same_parts and len(recipe.stages) == len(config.stages):
            flags = {k: value for k, value in changed(config, recipe).items() if k != "name"}
            flags = {k: value for k, value in flags.items() if ".source." not in k}
            if config.stages:  # the stage before, which the recipe itself starts from
                flags.pop("train.init_from", None)
            found.append((name != config.name, len(flags), name, flags))
    if not found:
        file = f"{config.name or 'recipe'}.py"
        return (
            f"cat > {shlex.quote(file)} <<'END'\n"
            "from lightxling.config import Config, from_dict\n"
            f"config = from_dict(Config, {to_dict(config)!r})\n"
            f"END\nlightxling train {shlex.quote('./' + file)} {into}"
        )
    _, _, name, flags = min(found, key=lambda one: one[:3])
    lines = [f"lightxling train {name} {into}"]
    for key, value in flags.items():
        values = value if isinstance(value, list) else [value]
        words = [shlex.quote(one if isinstance(one, str) else repr(one)) for one in values]
        flag = f"--{key.replace('_', '-')}"
        together = " ".join([flag, *words])
        lines += [together] if len(together) <= 100 else [flag, *(f"  {word}" for word in words)]
    return " \\\n  ".join(lines)


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
