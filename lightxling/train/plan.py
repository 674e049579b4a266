"""What a run does, worked out once: its tasks with their text, its steps, and what is due after
each. Everything is checked, and nothing compiled."""

import dataclasses
import functools
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
from jax.sharding import Mesh

from lightxling.base import processes
from lightxling.base.errors import UserError
from lightxling.config.files import fingerprint, to_dict
from lightxling.config.objective import is_stand_in
from lightxling.config.plan import MAIN, naming, tasks_of
from lightxling.config.rules import validate
from lightxling.config.schema import Config
from lightxling.config.settings import change
from lightxling.corpus.batch import Batch
from lightxling.corpus.batches import Batches
from lightxling.corpus.tokenizer import load_tokenizer
from lightxling.saved.bundle import Run
from lightxling.saved.workdir import refuse_another_run
from lightxling.train import freeze
from lightxling.train.frozen import ask, digests, find_frozen
from lightxling.train.optimizer import LearningRate, Optimizer, learning_rate, make_optimizer
from lightxling.train.state import TrainState, initial_state, on_mesh
from lightxling.train.tasks import (
    RunTask,
    check_sides,
    check_stores,
    dev_batches,
    interleave,
    mesh_for,
    open_stores,
    open_tasks,
)
from lightxling.train.teacher import Pivots, dev_pivots, dev_vectors
from lightxling.train.turns import Turns
from lightxling.train.warm_start import Export, read_origin, taken_parameters


class Due(NamedTuple):
    """What follows a step, besides a record of those since the last one."""

    dev: bool
    save: bool
    stop: bool
    """A signal has come before the last step."""


@dataclasses.dataclass(frozen=True, eq=False)
class Plan:
    """A run that can start.

    Attributes:
      origin: what `train.init_from` names.
      digests: of the frozen encoders, see `frozen.digests`.
      tasks: the main one first.
      steps: of all tasks, from the beginning of the run.
      pivots: the other encoder's vectors of the development pairs, where they are ranked with it.
      dev: the development pairs, where their loss counts.
    """

    config: Config
    origin: Run | Export | None
    mesh: Mesh
    digests: dict[str, Any]
    tasks: tuple[RunTask, ...]
    turns: Turns
    steps: int
    schedule: LearningRate
    optimizer: Optimizer
    vocab_size: int
    pivots: Pivots | None
    dev: Batches | None

    @classmethod
    def open(cls, config: Config, workdir: Path, say: Callable[[str], None]) -> "Plan":
        """Makes what the run reads and is not on the disk yet: tokenizer and stores, then vectors
        and hard negatives. What can be refused is refused before each.

        Raises:
          UserError: files, devices or text that do not fit, or `workdir` holds another run.
        """
        refuse_another_run(workdir, config)
        origin = read_origin(config) if config.train.init_from else None
        mesh, frozen = mesh_for(config), find_frozen(config)
        sums = digests(frozen)
        refuse_another_run(workdir, config, frozen=sums)
        stores = open_stores(config, say)
        opened = {name: store for name, (_, store) in stores.items()}
        processes.check_same(
            "settings or data",
            fingerprint([to_dict(config), *(store.manifest for store in opened.values())]),
            "start all of them with the same command line, on the same files",
        )
        refuse_another_run(workdir, config, frozen=sums, stores=opened)
        check_stores(stores)
        answers = {}
        for name, (task, store) in stores.items():
            with naming(name):
                answers[name] = ask(task, store, frozen[name], say)
        tasks = open_tasks(stores, answers, mesh)
        pivots = None
        if config.objectives.pivot.weight:
            pivots = dev_pivots(config, tasks[0].store, frozen[MAIN].teacher)
        dev = None
        if config.train.best == "loss":
            teacher, store = frozen[MAIN].teacher, tasks[0].store
            dev = dev_batches(tasks[0], teacher and dev_vectors(config, store, teacher))
        shares = tuple(task.config.train.share for task in tasks)
        per_epoch, per_step = tasks[0].batches.steps_per_epoch, sum(shares) / shares[0]
        # those of the other tasks come on top
        steps = round(count_steps(config, per_epoch) * per_step)
        schedule = learning_rate(
            config.optimizer, steps=steps, steps_per_epoch=round(per_epoch * per_step)
        )
        return cls(
            config=config,
            origin=origin,
            mesh=mesh,
            digests=sums,
            tasks=tuple(tasks),
            turns=Turns(shares, config.train.task_order, config.train.seed),
            steps=steps,
            schedule=schedule,
            optimizer=make_optimizer(config.optimizer, schedule, taken_parameters(origin)),
            vocab_size=load_tokenizer(tasks[0].store.tokenizer_path).vocab_size,
            pivots=pivots,
            dev=dev,
        )

    @property
    def main(self) -> RunTask:
        return self.tasks[0]

    def with_micro_batch(self, size: int) -> "Plan":
        """The same run, with so many pairs encoded at once."""
        tasks = [
            task._replace(config=change(task.config, train__micro_batch=size))
            for task in self.tasks
        ]
        config = change(self.config, train__micro_batch=size)
        return dataclasses.replace(self, config=config, tasks=tuple(tasks))

    @property
    def teacher_width(self) -> int:
        return max(task.teacher_width for task in self.tasks)

    @property
    def has_dev(self) -> bool:
        """Whether there are development pairs."""
        dev = self.main.store.dev
        return dev.rows > 0 and dev.sides > 1

    def initialise(self, seed: jax.Array | None = None) -> TrainState:
        """The state at step 0, see `initial_state`."""
        return initial_state(
            self.config,
            self.vocab_size,
            self.optimizer,
            len(self.main.languages),
            self.teacher_width,
            seed,
        )

    @functools.cached_property
    def target(self) -> TrainState:
        """The state as shapes with shardings."""
        return on_mesh(self.initialise, self.mesh)

    def batches(self, start: int) -> Iterator[tuple[int, RunTask, Batch]]:
        """Number, task and batch of every step after `start`; the number counts from 1."""
        turns = interleave(self.tasks, self.turns, start, self.steps)
        for step, (number, batch) in enumerate(turns, start + 1):
            yield step, self.tasks[number], batch

    def due(self, step: int, stop: threading.Event) -> Due | None:
        """What follows a step; None: the next one. Called by all processes after each step."""
        train, is_end = self.config.train, step == self.steps
        is_log = step % train.log_every == 0
        # asked once, so that what stops also saves; several processes ask each other seldom
        if jax.process_count() == 1:
            is_stopped = stop.is_set()
        else:
            is_stopped = is_log and processes.any_of_all(stop.is_set())
        is_dev = self.has_dev and (step % train.dev_every == 0 or is_end)
        is_save = step % train.checkpoint_every == 0 or is_end or is_stopped
        if not (is_dev or is_save or is_log):
            return None
        return Due(is_dev, is_save, is_stopped and not is_end)


def check_settings(config: Config) -> None:
    """Refuses what can be refused without reading a file.

    Raises:
      UserError: names the setting.
    """
    validate(config)
    for name, task in tasks_of(config).items():
        for term, settings in task.objectives.active().items():
            if is_stand_in(settings):
                with naming(name):
                    raise UserError(
                        f"objectives.{term} is defined in {settings.source['file']}, which was not "
                        "read; give that file as the recipe"
                    )
    check_sides(config)
    freeze.check_trainable(config)


def count_steps(config: Config, per_epoch: int) -> int:
    """Steps of the main task.

    Args:
      per_epoch: how many its epoch has.

    Raises:
      UserError: there are none.
    """
    steps = config.train.pairs // config.train.batch_size
    if not config.train.pairs:
        steps = round(config.train.epochs * per_epoch)
    if not steps:
        raise UserError(
            f"train.epochs={config.train.epochs} of {per_epoch:,} steps are none; train for longer"
        )
    return steps
