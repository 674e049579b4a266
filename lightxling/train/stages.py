"""A recipe of stages: runs one after the other, each started from the one before it.

    WORKDIR/stages/table     the run of a stage named table: config.json, checkpoints, best, ...
    WORKDIR                  the run of the recipe itself, which comes last

A stage that is finished is not trained again. All of them have one tokenizer, and one token store
where their objectives read the same rows.
"""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

from lightxling.base.errors import UserError
from lightxling.base.files import read_json
from lightxling.base.places import DESCRIPTION
from lightxling.config.plan import MAIN, naming, stage_alone
from lightxling.config.rules import validate
from lightxling.config.schema import Config
from lightxling.config.settings import change
from lightxling.saved import checkpoint
from lightxling.saved.run import STAGES
from lightxling.saved.workdir import alone_in, refuse_another_run
from lightxling.train.freeze import check_trainable
from lightxling.train.warm_start import refuse_other_encoder


def runs_of(config: Config, workdir: Path) -> dict[Path, Config]:
    """Folder and settings of every run of a recipe, in their order; the last is `workdir`.

    Raises:
      UserError: a stage cannot work, or the encoder of the next one does not hold its own.
    """
    if not config.stages:
        return {workdir: config}
    runs: dict[Path, Config] = {}
    for stage in config.stages:
        runs[workdir / STAGES / stage.name] = stage_alone(config, stage)
    runs[workdir] = config
    before = None
    for number, (folder, run) in enumerate(runs.items()):
        place = f"stages.{number}." if folder != workdir else ""
        if before:
            if run.train.init_from:
                raise UserError(
                    f"{place}train.init_from={run.train.init_from}: a stage starts from the one "
                    "before it; give stages.0.train.init_from for the first"
                )
            refuse_other_encoder(runs[before].model, run.model, str(before))
            runs[folder] = change(run, train__init_from=str(before))
        with naming(folder.name if place else MAIN, "stage"):
            validate(runs[folder])
            check_trainable(runs[folder])
        before = folder
    return runs


def earlier(
    runs: dict[Path, Config], workdir: Path, say: Callable[[str], None]
) -> Iterator[tuple[Path, Config]]:
    """The runs before the last that are not finished; `workdir` is held while they are trained.

    Raises:
      UserError: a folder holds another run.
    """
    *first, last = runs
    for folder, config in runs.items():
        refuse_another_run(folder, config)
    if not first or checkpoint.steps(last / "checkpoints"):
        return
    try:
        with alone_in(workdir):
            for folder in first:
                if is_finished(folder, runs[folder]):
                    say(f"{folder} is finished")
                else:
                    say(f"{folder}")
                    yield folder, runs[folder]
    finally:
        with contextlib.suppress(OSError):
            (workdir / STAGES).rmdir()  # where nothing came of it
            workdir.rmdir()


def is_finished(folder: Path, config: Config) -> bool:
    """Whether a run has come to the end that its settings ask for."""
    if not (folder / DESCRIPTION).is_file():
        return False
    about = read_json(folder / DESCRIPTION)
    train = about["config"]["train"]
    if (train["pairs"], train["epochs"]) != (config.train.pairs, config.train.epochs):
        return False
    return about.get("steps") in checkpoint.steps(folder / "checkpoints")
