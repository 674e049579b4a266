"""What `lightxling sweep` compares: the runs of recipes x settings x seeds, and their folders."""

import dataclasses
import itertools
import re
from collections.abc import Sequence
from pathlib import Path

import tyro

from lightxling.base.errors import UserError


@dataclasses.dataclass(frozen=True)
class Sweep:
    """What is compared, and where it lies.

    Attributes:
      recipes: names of recipes, or files of your own.
      workdir: folder that receives a folder for every run, the table and the page.
      seeds: every combination is trained once with each.
      grid: SETTING=VALUE,VALUE: every value is combined with every value of another one.
      task: tasks of `lightxling evaluate`.
      data: their files, folders, or `en-fr=PATH`.
    """

    recipes: tyro.conf.Positional[tuple[str, ...]]
    workdir: Path
    seeds: tuple[int, ...] = (0,)
    grid: tuple[str, ...] = ()
    task: tuple[str, ...] = ()
    data: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Planned:
    """A run of a sweep.

    Attributes:
      name: of its folder in that of the sweep.
      label: what runs of other seeds have in common with it.
      words: what follows `lightxling train`, but for --workdir.
    """

    name: str
    label: str
    words: tuple[str, ...]


def plan_runs(asked: Sweep, options: Sequence[str]) -> list[Planned]:
    """All combinations: the seeds of a recipe follow each other.

    Args:
      options: of `lightxling train`, for all runs.

    Raises:
      UserError: there is no recipe or seed, a setting has no values, two runs would have one name,
        or an option belongs to the sweep.
    """
    if not asked.recipes:
        raise UserError("no recipe is given: lightxling sweep light acl2021 --workdir runs/sweep")
    if not asked.seeds:
        raise UserError("--seeds is empty; give one or several, such as --seeds 0 1 2")
    for option in options:
        for own, instead in (("workdir", "--workdir"), ("train.seed", "--seeds")):
            if re.fullmatch(rf"--{own}(=.*)?", option):
                raise UserError(f"{option} is different for every run; give {instead} before --")
    if bool(asked.task) != bool(asked.data):
        raise UserError("--task and --data belong together; give both, or none")
    axes = [_axis(text) for text in asked.grid]
    names = [name for name, _ in axes]
    short = [name.rpartition(".")[2] for name in names]
    runs = []
    for recipe, *values in itertools.product(asked.recipes, *(values for _, values in axes)):
        told = [
            f"{name if short.count(last) > 1 else last}={value}"
            for name, last, value in zip(names, short, values, strict=True)
        ]
        set_to = [
            word for name, value in zip(names, values, strict=True) for word in (f"--{name}", value)
        ]
        label = re.sub(r"[^\w.=+-]", "_", "-".join([Path(recipe).stem, *told]))
        for seed in map(str, asked.seeds):
            words = recipe, *options, *set_to, "--train.seed", seed
            runs.append(Planned(f"{label}-{seed}", label, words))
    seen: set[str] = set()
    for run in runs:
        if run.name in seen:
            raise UserError(
                f"two runs would be called {run.name}; leave out what is given twice, and give "
                "recipe files of one name others"
            )
        seen.add(run.name)
    return runs


def _axis(text: str) -> tuple[str, list[str]]:
    """Name and values of `SETTING=VALUE,VALUE`."""
    name, _, values = text.removeprefix("--").partition("=")
    name, found = name.replace("_", "-"), [one.strip() for one in values.split(",")]
    if name in ("train.seed", "workdir"):
        raise UserError(
            f"--grid {text}: take --seeds for seeds; the folders are named by the sweep"
        )
    if not re.fullmatch(r"[a-z0-9-]+(\.[a-z0-9-]+)+", name) or not all(found):
        raise UserError(
            f"--grid {text!r} should be SETTING=VALUE,VALUE, such as "
            "optimizer.learning-rate=1e-3,3e-4"
        )
    return name, found
