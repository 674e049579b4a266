"""One thread that encodes what several requests wait for, together.

A lone sentence costs nearly as much as ten: the thread takes what has gathered while it encoded the
last batch, and the encoder sorts it by length. No request may hold up the others: each gives a
share of a batch in turn, so that one sentence does not wait behind two thousand.
"""

import contextlib
import dataclasses
import math
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, InvalidStateError

import numpy as np

from lightxling.base.shapes import Float, Int
from lightxling.encode.serve.protocol import Refusal

SHARE = 32
"""Texts that a request gives to a batch before it is the next one's turn."""
LONGEST_RETRY = 60
"""Seconds: no client is told to stay away for longer."""

CountedVectors = tuple[Float[np.ndarray, "N D"], Int[np.ndarray, " N"]]
"""Vectors, and the tokens read of each text."""


@dataclasses.dataclass(eq=False)
class _Job:
    """A request: its texts, how many of them were taken, and what came of them."""

    texts: list[str]
    future: Future
    arrived: float = dataclasses.field(default_factory=time.monotonic)
    taken: int = 0
    parts: list[CountedVectors] = dataclasses.field(default_factory=list)


class Batcher:
    """Encodes texts of many requests in one thread.

    Attributes:
      waiting: texts that are not being encoded yet.
    """

    def __init__(
        self, encode: Callable[[list[str]], CountedVectors], *, batch: int, wait: float, limit: int
    ):
        """
        Args:
          encode: called in the thread with at most `batch` texts.
          wait: seconds that a text may wait for others.
          limit: texts that may wait.
        """
        self.encode, self.batch, self.wait, self.limit = encode, batch, wait, limit
        self.waiting = 0
        self._rate = 0.0  # texts a second, of late
        self._jobs: deque[_Job] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._work, name="encode", daemon=True)
        self._thread.start()

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()

    def submit(self, texts: list[str]) -> Future:
        """Puts texts in the queue; the future gets vectors and token counts. May be cancelled.

        Raises:
          Refusal: too many wait already.
        """
        job = _Job(texts, Future())
        with self._changed:
            if self._closed:
                raise Refusal(503, "the server is stopping", code="stopping", retry_after=1)
            if self.waiting + len(texts) > self.limit:
                raise Refusal(
                    429,
                    f"{self.waiting:,} texts are waiting and {self.limit:,} may; try again later",
                    code="rate_limit_exceeded",
                    retry_after=self._seconds_left(),
                )
            self._jobs.append(job)
            self.waiting += len(texts)
            self._changed.notify()
        return job.future

    def close(self) -> None:
        """Encodes what is in the queue, then ends the thread."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()

    def _seconds_left(self) -> int:
        """Until the queue is empty, roughly."""
        return min(LONGEST_RETRY, max(1, math.ceil(self.waiting / self._rate))) if self._rate else 1

    def _work(self) -> None:
        while parts := self._next():
            self._encode_parts(parts)

    def _encode_parts(self, parts: list[tuple[_Job, list[str]]]) -> None:
        texts = [text for _, part in parts for text in part]
        start = time.monotonic()
        try:
            vectors, tokens = self.encode(texts)
        except Exception as error:
            if len(parts) == 1:
                _settle(parts[0][0].future.set_exception, error)
            else:  # which request it is about is found by taking each alone
                for part in parts:
                    self._encode_parts([part])
            return
        rate = len(texts) / max(time.monotonic() - start, 1e-6)
        self._rate = 0.8 * self._rate + 0.2 * rate if self._rate else rate
        first = 0
        for job, part in parts:
            last = first + len(part)
            job.parts.append((vectors[first:last], tokens[first:last]))
            first = last
            if sum(len(counts) for _, counts in job.parts) == len(job.texts):
                done = tuple(np.concatenate(kind) for kind in zip(*job.parts, strict=True))
                _settle(job.future.set_result, done)

    def _next(self) -> list[tuple[_Job, list[str]]]:
        """Waits for a batch: requests, and the texts of theirs that are in it. Empty: closed."""
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._jobs or self._closed)
                if not self._jobs:
                    return []
                left = self._jobs[0].arrived + self.wait - time.monotonic()
                self._changed.wait_for(
                    lambda: self.waiting >= self.batch or self._closed, timeout=max(0, left)
                )
                if parts := self._take():
                    return parts

    def _take(self) -> list[tuple[_Job, list[str]]]:
        parts, room = [], self.batch
        while self._jobs and room:
            job = self._jobs.popleft()
            if job.future.done():  # given up, or one of its batches failed
                self.waiting -= len(job.texts) - job.taken
                continue
            part = job.texts[job.taken : job.taken + min(SHARE, room)]
            job.taken += len(part)
            room -= len(part)
            self.waiting -= len(part)
            parts.append((job, part))
            if job.taken < len(job.texts):
                self._jobs.append(job)
        return parts


def _settle(set_outcome: Callable, outcome) -> None:
    """Gives a future its outcome, unless whoever waited for it has gone."""
    with contextlib.suppress(InvalidStateError):
        set_outcome(outcome)
