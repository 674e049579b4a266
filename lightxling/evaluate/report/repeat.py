"""The command that repeats a run, from its settings."""

import shlex
from pathlib import Path
from typing import Any

from lightxling import config as configs
from lightxling.base.tree import flatten
from lightxling.config.files import to_dict
from lightxling.config.schema import Config


def command(config: Config, workdir: Path | str) -> str:
    """Lines for a shell: the nearest shipped recipe, and every setting that differs from it.

    A recipe of the run's own name is taken however much differs. Where no recipe has as many
    tasks, flags cannot name them: a recipe file is written first.
    """
    wanted = flatten(to_dict(config))
    found = []
    for name in configs.recipes():
        recipe = configs.load(name)
        if len(recipe.tasks) != len(config.tasks):
            continue
        before = flatten(to_dict(recipe))
        changed = {
            key: value
            for key, value in wanted.items()
            if key != "name" and (key not in before or before[key] != value)
        }
        found.append((name != config.name, len(changed), name, changed))
    if not found:
        return _with_file(config, workdir)
    _, _, name, changed = min(found, key=lambda one: one[:3])
    lines = [f"lightxling train {name} --workdir {shlex.quote(str(workdir))}"]
    for key, value in changed.items():
        values = value if isinstance(value, list) else [value]
        words = [_word(item) for item in values]
        flag = f"--{key.replace('_', '-')}"
        together = " ".join([flag, *words])
        lines += [together] if len(together) <= 100 else [flag, *(f"  {word}" for word in words)]
    return " \\\n  ".join(lines)


def _word(value: Any) -> str:
    return shlex.quote(value if isinstance(value, str) else repr(value))


def _with_file(config: Config, workdir: Path | str) -> str:
    file = f"{config.name or 'recipe'}.py"
    return (
        f"cat > {shlex.quote(file)} <<'END'\n"
        "from lightxling.config import Config, from_dict\n"
        f"config = from_dict(Config, {to_dict(config)!r})\n"
        "END\n"
        f"lightxling train {shlex.quote('./' + file)} --workdir {shlex.quote(str(workdir))}"
    )
