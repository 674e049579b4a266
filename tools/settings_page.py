"""Writes docs/settings.md: every setting of a run, from the texts in lightxling/config/.

python tools/settings_page.py
"""

import inspect
import itertools
import re
from pathlib import Path

from lightxling.cli_options import describe_setting
from lightxling.config.schema import AdapterConfig, Config, StageConfig, TaskConfig
from lightxling.config.settings import Setting, change, settings_of

PAGE = Path(__file__).parent.parent / "docs" / "settings.md"

INTRODUCTION = """\
# Every setting

A setting is given on the command line (`--train.batch-size 256`) or in a recipe
(`change(light, train__batch_size=256)`); the command line wins. The values here are the defaults,
which are those of the recipe `acl2021`; `lightxling train light --help-all` shows those of `light`.
`(>0)` is the range of a number, `(a | b)` a choice. Tasks, stages and adapters are given by
recipes and changed by number: `--tasks.0.share 2`, `--stages.0.train.pairs 100000`,
`--model.adapters.0.rank 8`. A stage has objectives, optimizer and train of its own, with all their
settings.

This page is written by `python tools/settings_page.py`, from the texts in the code.
"""


def page() -> str:
    """The whole page."""
    one = {"tasks": (TaskConfig(),), "stages": (StageConfig(),)}
    config = change(Config(), **one, model__adapters=(AdapterConfig(),))
    lines = [INTRODUCTION]
    for (table, place), settings in itertools.groupby(
        settings_of(config), lambda setting: (setting.table, setting.place)
    ):
        if re.match(r"tasks\.0\.objectives|stages\.0\..", place):
            continue  # what stands at objectives, optimizer and train
        text = " ".join(inspect.getdoc(table).split())
        lines += [f"## {place.replace('.0', '.N') or 'The run'}\n", text, ""]
        lines += ["| setting | default | |", "| --- | --- | --- |", *map(row, settings), ""]
    return "\n".join(lines)


def row(setting: Setting) -> str:
    """A row of a table: name, default, text."""
    value = setting.value
    shown = " ".join(map(str, value)) if isinstance(value, tuple) else str(value)
    cells = (f"`{setting.name.replace('.0.', '.N.')}`", shown, describe_setting(setting))
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
