"""Which task a step belongs to: a function of (shares, seed, step), so that resuming needs only the
step."""

import dataclasses
from collections.abc import Iterator
from typing import Literal

import numpy as np

BLOCK_STEPS = 1 << 14
"""Steps that are worked out together."""


@dataclasses.dataclass(frozen=True)
class Turns:
    """The order of T tasks.

    cycle: the i-th step of a task (from 0) is due at time (i + 1/2) / share, and steps are taken in
    the order of these times, equal ones in the order of the tasks. After any number of steps a task
    has had its share of them but for less than one step for two tasks, and for little more with
    many; with whole numbers as shares the order repeats after their sum, and is exact there.
    sampled: every step draws its task by the shares.
    """

    shares: tuple[float, ...]
    order: Literal["cycle", "sampled"] = "cycle"
    seed: int = 0

    def steps(self, start: int, stop: int) -> Iterator[int]:
        """The task of each of the steps start ... stop - 1 (from 0)."""
        if len(self.shares) == 1:
            yield from (0 for _ in range(start, stop))
            return
        for number in range(start // BLOCK_STEPS, -(-stop // BLOCK_STEPS)):
            first = number * BLOCK_STEPS
            tasks = self._cycle(number)[0] if self.order == "cycle" else self._sampled(number)
            yield from tasks[max(start - first, 0) : stop - first].tolist()

    def counts(self, step: int) -> np.ndarray:
        """Steps that each task has among the first `step`, int64 [T]."""
        if len(self.shares) == 1:
            return np.array([step])
        number, rest = divmod(step, BLOCK_STEPS)
        if self.order == "cycle":
            tasks, counts = self._cycle(number)
        else:
            tasks, counts = self._sampled(number), np.zeros(len(self.shares), np.int64)
            for earlier in range(number):
                counts += np.bincount(self._sampled(earlier), minlength=len(counts))
        return counts + np.bincount(tasks[:rest], minlength=len(counts))

    def _cycle(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        """The tasks of a block of steps, and the steps that each task has before it."""
        T, total = len(self.shares), sum(self.shares)
        first = number * BLOCK_STEPS
        # by time t the tasks have had t * total steps together, but for half a step each
        begin, end = max(first - T, 0) / total, (first + BLOCK_STEPS + T) / total
        due, tasks, before = [], [], np.zeros(T, np.int64)
        for task, share in enumerate(self.shares):
            before[task] = max(int(begin * share) - 1, 0)
            times = (np.arange(before[task], int(end * share) + 2) + 0.5) / share
            late = int(np.count_nonzero(times < begin))
            before[task] += late
            due.append(times[late:])
            tasks.append(np.full(len(due[-1]), task))
        order = np.argsort(np.concatenate(due), kind="stable")
        tasks = np.concatenate(tasks)[order]
        skipped = first - before.sum()  # due after `begin`, and before the block
        before += np.bincount(tasks[:skipped], minlength=T)
        return tasks[skipped : skipped + BLOCK_STEPS], before

    def _sampled(self, number: int) -> np.ndarray:
        rng = np.random.default_rng([self.seed, number, 2])
        shares = np.array(self.shares)
        return rng.choice(len(shares), BLOCK_STEPS, p=shares / shares.sum())
