"""What the steps of a run had and took, for metrics.jsonl."""

import time
from collections.abc import Iterable, Iterator
from typing import Any

import jax
import numpy as np

from lightxling.base.errors import UserError
from lightxling.corpus.batch import Batch
from lightxling.train.plan import Plan
from lightxling.train.progress import peak_memory
from lightxling.train.tasks import RunTask, pair_names


class Recorder:
    """Makes one record of all steps since the one before it.

    Its clock starts with the first step after a record: what is done on account of one does not
    count as training.

    Attributes:
      shown: names of the losses that tell most.
    """

    def __init__(self, plan: Plan, start: int):
        """
        Args:
          start: steps that the run has had before.
        """
        self.plan, tasks, main = plan, plan.tasks, plan.main
        self.number = {task.name: number for number, task in enumerate(tasks)}
        self.rows = np.array([task.rows for task in tasks])
        self.done = plan.turns.counts(start)  # steps of each task
        self.pairs = pair_names(main.batches, main.languages)
        self.seen = main.batches.pair_counts(0, int(self.done[0]))  # rows of each language pair
        self.losses = [task.prefix + "loss" for task in tasks]
        self.terms = [task.prefix + term for task in tasks for term in task.terms]
        self.shown = self.terms if len(tasks) == 1 else self.losses
        self.skipped = 0
        self._restart()

    def _restart(self) -> None:
        self.pending: list[dict[str, Any]] = []  # on the device
        self.clock, self.waited, self.logged = time.perf_counter(), 0.0, self.done.copy()
        self.slots = self.filled = 0  # of this process's tokens

    def timed(
        self, batches: Iterable[tuple[int, RunTask, Batch]]
    ) -> Iterator[tuple[int, RunTask, Batch]]:
        """Passes batches on, and takes the time that they are waited for."""
        batches = iter(batches)
        while True:
            if not self.pending:
                self._restart()
            asked = time.perf_counter()
            upcoming = next(batches, None)
            if upcoming is None:
                return
            self.waited += time.perf_counter() - asked
            yield upcoming

    def add(self, step: int, task: RunTask, batch: Batch, metrics: dict[str, jax.Array]) -> None:
        """Notes a step that has begun, and does not wait for its end.

        Args:
          batch: this process's part.
          metrics: what `make_train_step` gives.
        """
        self.done[self.number[task.name]] += 1
        self.slots += batch.tokens.size
        self.filled += np.count_nonzero(batch.tokens)
        self.pending.append({"step": step, **task.named(metrics)})

    def record(self) -> dict[str, float | int]:
        """The steps since the last record, which it waits for.

        Raises:
          UserError: see `check_finite`.
        """
        plan, main = self.plan, self.plan.main
        steps, self.pending = jax.device_get(self.pending), []
        self.skipped = check_finite(
            steps, self.terms, plan.config.train.skip_nonfinite, self.skipped
        )
        seconds, step = time.perf_counter() - self.clock, steps[-1]["step"]
        record = {
            "step": step,
            "pairs": int(self.done @ self.rows),
            "epoch": float(self.done[0] / main.batches.steps_per_epoch),
            **means(steps, [*self.losses, *self.terms]),
            "grad_norm": float(steps[-1]["grad_norm"]),
            "learning_rate": float(plan.schedule(step - 1)),
            "pairs_per_second": float((self.done - self.logged) @ self.rows / seconds),
            "input_wait": self.waited / seconds,
            "padding": 1 - self.filled / self.slots,
            "skipped": self.skipped,
        }
        if peak := peak_memory():
            record["peak_memory"] = peak
        if len(self.pairs) > 1:
            self.seen += main.batches.pair_counts(int(self.logged[0]), int(self.done[0]))
            record |= {f"pairs/{n}": int(k) for n, k in zip(self.pairs, self.seen, strict=True)}
        if len(plan.tasks) > 1:
            for task, count in zip(plan.tasks, self.done.tolist(), strict=True):
                record |= {f"{task.name}/steps": count, f"{task.name}/pairs": count * task.rows}
        return record


def check_finite(records: list[dict], terms: list[str], allowed: int, skipped: int) -> int:
    """Counts the skipped steps; beyond `allowed` of them the run ends.

    Raises:
      UserError: names the step and the term.
    """
    for record in records:
        if record["finite"]:
            continue
        skipped += 1
        if skipped > allowed:
            culprits = [n for n in terms if n in record and not np.isfinite(record[n])]
            loss = next(value for name, value in record.items() if name.endswith("loss"))
            raise UserError(
                f"step {record['step']}: {' and '.join(culprits) or 'the gradient'} is not finite "
                f"(loss {loss}, gradient norm {record['grad_norm']}). The last good checkpoint is "
                "kept: the same command with a higher --train.skip-nonfinite goes on from it and "
                "leaves out single steps. Otherwise start again in another --workdir, with a lower "
                "--optimizer.learning-rate or --optimizer.clip 1"
            )
    return skipped


def means(records: list[dict], names: list[str]) -> dict[str, float]:
    """Mean of every value over the records that have it; a name that none has is left out."""
    found = {name: [r[name] for r in records if name in r] for name in names}
    return {name: float(np.mean(values)) for name, values in found.items() if values}
