"""The tasks of a run, and what the rows of each are."""

import contextlib
import dataclasses
from collections.abc import Iterator
from pathlib import Path

from lightxling.base.errors import UserError
from lightxling.config.objectives import ObjectivesConfig
from lightxling.config.schema import Config, StageConfig, TaskConfig
from lightxling.config.settings import change

__all__ = [
    "MAIN",
    "naming",
    "rows_of",
    "stage_alone",
    "task_alone",
    "tasks_of",
    "training_in_words",
]

MAIN = "main"
"""Name of the task that `corpus` and `objectives` describe."""


def tasks_of(config: Config) -> dict[str, Config]:
    """Every task of a run as a run of its own, the main one first; those without text are left out.

    A task has its sources, objectives, batch size and share, and the rest from the run; only the
    main one has development pairs.
    """
    tasks = {MAIN: dataclasses.replace(config, tasks=())}
    return tasks | {task.name: task_alone(config, task) for task in config.tasks if task.sources}


def task_alone(config: Config, task: TaskConfig) -> Config:
    """One further task as a run of its own."""
    micro_batch, size = config.train.micro_batch, task.batch_size or config.train.batch_size
    return change(
        config,
        tasks=(),
        corpus__sources=task.sources,
        corpus__dev=(),
        corpus__dev_share=0.0,
        objectives=task.objectives,
        train__share=task.share,
        train__batch_size=size,
        train__micro_batch=micro_batch if micro_batch < size else 0,
    )


def stage_alone(config: Config, stage: StageConfig) -> Config:
    """One stage of a recipe as a run of its own."""
    return change(
        config,
        stages=(),
        model__layers=stage.layers,
        objectives=stage.objectives,
        optimizer=stage.optimizer,
        train=change(stage.train, seed=config.train.seed),
    )


def training_in_words(config: Config) -> tuple[str, ...]:
    """How a run was trained, a line for every stage."""
    told = []
    for name, run in [(stage.name, stage_alone(config, stage)) for stage in config.stages] + [
        ("", config)
    ]:
        train, layers = run.train, run.model.layers or "no"
        length = f"{train.pairs:,} pairs" if train.pairs else f"{train.epochs:g} epochs"
        line = f"{layers} layers, {length} in batches of {train.batch_size:,}"
        line += f", learning rate {run.optimizer.learning_rate:g}"
        if train.init_from and not (config.stages and not name):
            line += f", started from {Path(train.init_from).name}"
        told.append(f"{name}: {line}" if name else line)
    if config.stages:
        told[-1] = f"then {told[-1]}"
    return tuple(told)


@contextlib.contextmanager
def naming(part: str, kind: str = "task") -> Iterator[None]:
    """Puts the name of a further task, or of another part of a run, before what is wrong with
    it."""
    try:
        yield
    except UserError as error:
        if part == MAIN:
            raise
        raise UserError(f"{kind} {part}: {error}") from None


def rows_of(objectives: ObjectivesConfig) -> str:
    """What the rows are that the objectives read, see `corpus.sources.Rows`.

    Raises:
      UserError: they do not read the same.
    """
    terms = objectives.active()
    kinds = {name: term.reads for name, term in terms.items() if term.reads}
    if len(set(kinds.values())) > 1:
        odd = next(name for name in kinds if kinds[name] != "pairs")
        other = next(name for name in kinds if kinds[name] != kinds[odd])
        raise UserError(
            f"objectives.{odd} and objectives.{other} read different data; give one of them a task "
            "of its own in `tasks`"
        )
    return next(iter(kinds.values()), "sentences" if terms else "pairs")
