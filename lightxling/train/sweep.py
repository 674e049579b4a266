"""`lightxling sweep`: recipes x settings x seeds, one run after another, and one table at the end.

Every run is a process of its own, as `lightxling train` starts it: a run that fails or is killed
takes no other with it. What is complete is not begun again, what is not is gone on with, and
several sweeps of one folder, on as many machines as see it, share the runs among them.
"""

import contextlib
import functools
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from lightxling.base import limits
from lightxling.base.errors import UserError
from lightxling.base.files import lock, parse_json
from lightxling.base.places import DESCRIPTION
from lightxling.config.files import from_dict
from lightxling.config.rules import validate
from lightxling.config.schema import Config
from lightxling.config.settings import change
from lightxling.config.sweep import Planned, Sweep, plan_runs
from lightxling.evaluate.sweep_table import conclude
from lightxling.saved import checkpoint
from lightxling.saved.workdir import as_fitted, refuse_another_run

Say = Callable[[str], None]


class Outcome(NamedTuple):
    """Of a sweep.

    Attributes:
      done: folders of complete runs, in the order of the runs.
      failed: names of runs that ended with an error.
    """

    done: list[Path]
    failed: list[str]


TRAIN = ("-m", "lightxling", "train")

LOCKS = ".locks"
"""Folder in that of a sweep: a file for each run, held by the process that trains it."""


def is_complete(folder: Path, config: Config) -> bool:
    """Whether the run of a folder has made all the steps that are asked for."""
    if not (folder / DESCRIPTION).is_file():
        return False
    try:
        about = parse_json(limits.read_bytes(folder / DESCRIPTION))
        begun = from_dict(Config, about["config"]).train
    except (OSError, ValueError, KeyError, TypeError, UserError):
        return False  # `lightxling train` says what is wrong
    is_as_long = (begun.pairs, begun.epochs) == (config.train.pairs, config.train.epochs)
    return is_as_long and about.get("steps") in checkpoint.steps(folder / "checkpoints")


def sweep(
    asked: Sweep,
    options: Sequence[str],
    parse: Callable[[tuple[str, ...]], Config],
    score: Callable[[list[str]], None],
    say: Say,
) -> None:
    """Trains what is not complete, scores every run, shows the table and writes the page.

    Args:
      options: of `lightxling train`, for all runs.
      parse: words behind `lightxling train` -> settings.
      score: `lightxling evaluate`, given its words; it computes nothing that it has.

    Raises:
      UserError: settings that cannot work, or a folder holds a run with others; or, at the end,
        some runs have failed.
    """
    runs = with_settings(plan_runs(asked, options), parse)
    outcome = train_all(runs, asked, score, say)
    if outcome.done:
        labels = {run.name: run.label for run, _ in runs}
        for shown in conclude(outcome.done, labels, asked.workdir):
            print(shown)
    if outcome.failed:
        raise UserError(
            f"{len(outcome.failed)} of {len(runs)} runs have failed, for the reasons above: "
            f"{', '.join(outcome.failed)}; the same command tries them again"
        )


def with_settings(
    runs: Sequence[Planned], parse: Callable[[tuple[str, ...]], Config]
) -> list[tuple[Planned, Config]]:
    """The runs with their settings, all of them checked.

    Raises:
      UserError: settings that cannot work; names the recipe.
    """
    parse, found = functools.cache(parse), []
    for run in runs:
        try:
            config = parse((*run.words[:-2], "--workdir", run.label))  # once for all seeds
            validate(config)
        except UserError as error:
            raise UserError(f"{run.label}: {error}") from None
        found.append((run, change(config, train__seed=int(run.words[-1]))))
    return found


def train_all(
    runs: Sequence[tuple[Planned, Config]],
    asked: Sweep,
    score: Callable[[list[str]], None],
    say: Say,
) -> Outcome:
    """Trains what is not complete, and scores every run; see `sweep`."""
    workdir = asked.workdir
    for run, config in runs:  # all, before hours are spent on one
        folder = workdir / run.name
        refuse_another_run(folder, as_fitted(config, folder))
    (workdir / LOCKS).mkdir(parents=True, exist_ok=True)
    done, failed, busy = [], [], []
    for number, (run, config) in enumerate(runs, 1):
        folder = workdir / run.name
        with _alone(workdir / LOCKS / run.name) as is_alone:
            if not is_alone:
                busy.append(run.name)
                continue
            if not is_complete(folder, config):
                say(f"run {number} of {len(runs)}: {run.name}")
                code, is_stopped = train_apart((*run.words, "--workdir", str(folder)))
                if is_stopped:
                    say("stopped; the same command goes on from there")
                    break
                if code or not is_complete(folder, config):
                    failed.append(run.name)
                    say(f"{run.name} has failed (exit code {code})")
                    continue
            if asked.task:
                score([str(folder), "--task", *asked.task, "--data", *asked.data])
            done.append(folder)
    if busy:
        say(f"trained by other processes: {', '.join(busy)}; the same command adds them later")
    return Outcome(done, failed)


@contextlib.contextmanager
def _alone(path: Path) -> Iterator[bool]:
    """Whether this process has the lock of a run, which it then holds."""

    class Busy(Exception):
        pass

    def busy():
        raise Busy

    with contextlib.ExitStack() as held:
        try:
            held.enter_context(lock(path, busy))
        except Busy:
            yield False
        else:
            yield True


def train_apart(words: Sequence[str]) -> tuple[int, bool]:
    """Runs `lightxling train` in a process of its own, and passes signals on to it: it saves a
    checkpoint and ends.

    Returns:
      Its exit code, and whether a signal has come.
    """
    command = [sys.executable, *TRAIN, *words]
    stopped = threading.Event()
    # a session of its own: Ctrl-C comes to it from here, once
    process = subprocess.Popen(command, start_new_session=True)

    def pass_on(number, frame):
        stopped.set()
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(number)

    numbers = [signal.SIGINT, signal.SIGTERM]
    hangup = getattr(signal, "SIGHUP", None)  # Windows has none
    if hangup is not None and signal.getsignal(hangup) != signal.SIG_IGN:
        numbers.append(hangup)
    if threading.current_thread() is not threading.main_thread():
        numbers = []
    previous = {number: signal.signal(number, pass_on) for number in numbers}
    try:
        return process.wait(), stopped.is_set()
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
