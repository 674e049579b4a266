"""The whole story of a training run."""

import contextlib
import functools
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import jax
from rich.console import Console

from lightxling.base import allocator, interrupts, processes
from lightxling.base.errors import UserError
from lightxling.base.files import write_bytes, write_json
from lightxling.base.streams import Lasting
from lightxling.config.objective import meaning_of
from lightxling.config.schema import Config
from lightxling.corpus.batch import Batch
from lightxling.corpus.store import describe_dev
from lightxling.model import build as models
from lightxling.saved import checkpoint
from lightxling.saved.workdir import alone_in, as_begun, as_fitted, description
from lightxling.train import freeze
from lightxling.train.closing import closing
from lightxling.train.dev import Dev
from lightxling.train.plan import Plan, check_settings
from lightxling.train.profile import Trace
from lightxling.train.progress import Progress
from lightxling.train.record import Recorder
from lightxling.train.sharding import put_batch
from lightxling.train.stages import earlier, runs_of
from lightxling.train.state import TrainState, seed_data
from lightxling.train.step import compile_steps
from lightxling.train.tasks import RunTask
from lightxling.train.warm_start import describe_origin, warm_start

OnRecord = Callable[[dict[str, float | int]], None]


def train(
    config: Config,
    workdir: Path,
    console: Console | None = None,
    on_record: OnRecord = lambda record: None,
) -> dict[str, float] | None:
    """Trains, resuming from `workdir` where it holds checkpoints.

    Args:
      on_record: called with every record that metrics.jsonl gets, in all processes.

    Returns:
      The last dev scores; None if SIGTERM, SIGHUP or Ctrl-C stopped the run before its end.

    Raises:
      UserError: bad settings, data, checkpoints, a full disk or a non-finite loss.
    """
    console = console or Console(file=Lasting(sys.stdout), highlight=False)
    with checkpoint.full_disk_explained(workdir), processes.ending_together():
        console = console if processes.is_first() else Console(quiet=True)
        say = functools.partial(console.print, markup=False, soft_wrap=True)
        config = as_begun(config, workdir, say)
        check_settings(config)
        runs = runs_of(config, workdir)
        for folder, stage in earlier(runs, workdir, say):
            if _train_in(stage, folder, console, on_record) is None:
                return None
        return _train_in(runs[workdir], workdir, console, on_record)


def _train_in(
    config: Config, workdir: Path, console: Console, on_record: OnRecord
) -> dict[str, float] | None:
    if not processes.is_first():  # what the first process says holds for all
        return _train(config, workdir, console, on_record)
    with alone_in(workdir):
        return _train(config, workdir, console, on_record)


def _train(
    config: Config, workdir: Path, console: Console, on_record: OnRecord
) -> dict[str, float] | None:
    say = functools.partial(console.print, markup=False, soft_wrap=True)
    plan = Plan.open(as_fitted(config, workdir), workdir, say)
    # compiled before anything is on the devices: a step too large for them is refused at once
    with interrupts.watched(interrupts.end):  # nothing is lost yet
        plan, steps, _ = compile_steps(plan, say)
    state = recover_state(plan, workdir, say)
    describe_run(plan, state, workdir, say)
    first, last, count = int(state.step), plan.steps, config.train.profile_steps
    recorder, dev = Recorder(plan, first), Dev(plan)
    written = workdir if processes.is_first() else None
    # the innermost ends first: a trace is whole before the old handlers of signals are back
    with (
        Progress(written, start=first, stop=last, console=console) as progress,
        stop_on_signals() as stop,
        interrupts.watched(
            interrupts.announce("stopping after this step; Ctrl-C again ends at once, unsaved")
        ),
        Trace(workdir / "profile", start=first, stop=last, count=count) as trace,
    ):
        if plan.origin and not first and plan.has_dev:
            state, scores = dev.measure(state, workdir / "best")
            record = {"step": 0, "pairs": 0, **scores}
            progress.log(record, [])
            on_record(record)
        shapes = Shapes(plan, progress)
        for step, task, batch in recorder.timed(plan.batches(first)):
            trace.before(step, state)
            shapes.before(task, batch)
            # only begins the step; the next batch is made while the devices compute
            state, metrics = steps[task.name](state, put_batch(batch, plan.mesh, task.rows))
            recorder.add(step, task, batch, metrics)
            due = plan.due(step, stop)
            if not due:
                continue
            record = recorder.record()  # waits for the step, and ends here if it is not finite
            if due.dev:
                # before the checkpoint, which holds the best score so far
                state, scores = dev.measure(state, workdir / "best")
                record |= scores
            # before it too: a resumed run forgets the records after its checkpoint, and needs those
            # up to it
            progress.log(record, recorder.shown)
            on_record(record)
            if due.save:
                checkpoint.save(workdir / "checkpoints" / str(step), state._asdict())
                checkpoint.prune(workdir / "checkpoints", config.train.keep)
            if due.stop:
                progress.say(f"stopped at step {step:,}; the same command goes on from there")
                return None
    if processes.is_first():
        for line in closing(config, workdir):
            say(line)
    return dev.scores


def recover_state(plan: Plan, workdir: Path, say: Callable[[str], None]) -> TrainState:
    """The state of the newest whole checkpoint; or that of step 0, with the parameters of
    `plan.origin` where there is one.

    Raises:
      UserError: there are checkpoints and none is whole, or the origin's does not fit.
    """
    checkpoint.recover(workdir / "best")
    folder = workdir / "checkpoints"
    latest = checkpoint.latest_whole(folder, say)
    if latest is not None:
        say(f"resuming from {folder / str(latest)}")
        state = TrainState(**checkpoint.restore(folder / str(latest), plan.target._asdict()))
        checkpoint.set_aside(folder, after=latest)
    elif checkpoint.steps(folder):
        raise UserError(
            f"every checkpoint in {folder} is damaged; delete them to start again, or give "
            "another --workdir"
        )
    else:
        layout = jax.tree.map(lambda leaf: leaf.sharding, plan.target)
        initialise = jax.jit(plan.initialise, out_shardings=layout)
        state = initialise(seed_data(plan.config.train.seed))  # no constant of the program
    if plan.origin and not int(state.step):
        params = warm_start(plan.origin, state.params, plan.main.languages, say)
        state = state._replace(params=params)
    allocator.trim()
    return state


@contextlib.contextmanager
def stop_on_signals() -> Iterator[threading.Event]:
    """Yields an event that SIGTERM, SIGHUP (the terminal was closed) and Ctrl-C set; a second
    Ctrl-C interrupts at once. Under nohup, SIGHUP stays without effect."""
    stop = threading.Event()

    def handle(number, frame):
        if stop.is_set() and number == signal.SIGINT:
            raise KeyboardInterrupt
        stop.set()

    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    numbers = [signal.SIGTERM, signal.SIGINT]
    hangup = getattr(signal, "SIGHUP", None)  # Windows has none
    if hangup is not None and signal.getsignal(hangup) != signal.SIG_IGN:
        numbers.append(hangup)
    previous = {s: signal.signal(s, handle) for s in numbers}
    try:
        yield stop
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def describe_run(plan: Plan, state: TrainState, workdir: Path, say: Callable[[str], None]) -> None:
    """Writes into the folder of the run what it is, and says how large.

    Raises:
      UserError: the processes do not see one folder.
    """
    if processes.is_first():
        (workdir / "checkpoints").mkdir(parents=True, exist_ok=True)
        store, languages = plan.main.store, plan.main.languages
        about = description(plan.config, store, languages, plan.vocab_size, state.params)
        for task in plan.tasks:
            if task.taught:
                about["teacher"] = {**task.taught.manifest["teacher"], "width": task.taught.width}
        about["steps"] = plan.steps
        if plan.origin:
            about["origin"] = describe_origin(plan.origin, plan.config)
        about["miners"] = plan.digests["miners"]
        about["data"] = {task.name: task.store.content for task in plan.tasks}
        write_json(workdir / "config.json", about)
        write_bytes(workdir / "tokenizer.model", store.tokenizer_path.read_bytes())
    processes.wait("workdir")
    if not (workdir / "config.json").exists():
        raise UserError(
            f"--workdir {workdir} is not the folder that process 0 writes to; give one on a file "
            "system that all hosts share"
        )
    for line in (
        *sizes(plan, state.params),
        *describe_dev(plan.main.store.manifest),
        *losses(plan),
    ):
        say(line)


def sizes(plan: Plan, params: models.ParamTree) -> Iterator[str]:
    """Parameters, rows and steps in words, a line for every task."""
    learning, main = "", plan.main
    if plan.config.train.trainable:
        trained, _ = freeze.split_params(params, plan.config.train.trainable)
        learning = f"; {models.count_parameters(trained):,} learn"
    yield (
        f"{models.count_parameters(params):,} parameters "
        f"({models.count_parameters(params['encoder']):,} in the encoder{learning}), "
        f"{main.store.train.rows:,} training pairs, {main.store.dev.rows:,} dev pairs, "
        f"{main.batches.steps_per_epoch:,} steps an epoch, {plan.steps:,} steps"
    )
    for task in plan.tasks[1:]:
        share = task.config.train.share / sum(plan.turns.shares)
        yield (
            f"task {task.name}: {task.store.train.rows:,} rows, {task.batches.steps_per_epoch:,} "
            f"steps an epoch, {share:.1%} of the steps"
        )


def losses(plan: Plan) -> Iterator[str]:
    """What the names of the losses stand for, a line each."""
    for task in plan.tasks:
        for name in task.terms:
            if meaning := meaning_of(getattr(task.config.objectives, name)):
                yield f"loss {task.prefix}{name}: {meaning}"


class Shapes:
    """Says when a batch is the first of its shape, which the step is compiled for."""

    def __init__(self, plan: Plan, progress: Progress):
        self.progress, self.seen = progress, set()
        self.total = sum(len(task.batches.lengths) for task in plan.tasks)

    def before(self, task: RunTask, batch: Batch) -> None:
        """To be called before every step."""
        shape = task.name, batch.tokens.shape
        if shape in self.seen:
            return
        if not self.seen:
            self.progress.say(
                f"compiling the step for each of {self.total} lengths when it first comes up"
            )
        self.seen.add(shape)
        self.progress.show(
            f"compiling for {batch.tokens.shape[-1]} tokens, {len(self.seen)} of {self.total}"
        )
