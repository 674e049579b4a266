"""A profiler trace of a few training steps, to be opened in TensorBoard or Perfetto."""

from pathlib import Path

import jax

WARM_UP = 5
"""Steps before the trace, in which most shapes are compiled; fewer in a shorter run."""


class Trace:
    """Traces steps first ... first + count - 1 of a run; a context manager that ends what it began.

    Does nothing for a count of 0.
    """

    def __init__(self, folder: Path, *, start: int, stop: int, count: int):
        """
        Args:
          start, stop: the run goes from step start + 1 to step stop.
        """
        self.folder = folder
        self.first = min(start + WARM_UP, max(stop - count, start)) + 1
        self.end = self.first + count
        self.is_on = False

    def before(self, step: int, state) -> None:
        """To be called before each step, with the arrays that the step before is computing."""
        if self.is_on and step == self.end:
            self._finish(state)
        if step == self.first and step < self.end:
            jax.block_until_ready(state)
            jax.profiler.start_trace(str(self.folder))
            self.is_on = True

    def _finish(self, state) -> None:
        jax.block_until_ready(state)
        jax.profiler.stop_trace()
        self.is_on = False

    def __enter__(self) -> "Trace":
        return self

    def __exit__(self, *_) -> None:
        if self.is_on:
            self._finish(())
