"""Batch `step` as a function of (seed, step): order, length buckets, masking, prefetch.

Nothing here has a state to save: a resumed run asks for batch `step` and gets the same one,
whatever the number of processes. Everything is vectorised over the batch; no Python runs per
sentence.
"""

import itertools
from collections.abc import Iterator

import grain
import numpy as np

from lightxling.corpus.store import Split


def gather(
    tokens: np.ndarray, offsets: np.ndarray, segments: np.ndarray, length: int
) -> np.ndarray:
    """Sentences as a padded int32 matrix [len(segments), length]; longer ones are cut off.

    Args:
      tokens: flat ids of all sentences; sentence s is tokens[offsets[s]:offsets[s + 1]].
    """
    start = offsets[segments]
    position = np.arange(length)
    # reading on into the next sentence, and zeroing that, is faster than masking the index
    out = tokens.take(start[:, None] + position, mode="clip").astype(np.int32)
    out[position >= (offsets[segments + 1] - start)[:, None]] = 0
    return out


def by_length(
    lengths: np.ndarray, *, buckets: tuple[int, ...], batch_size: int
) -> Iterator[tuple[np.ndarray, int]]:
    """Row numbers and padded length of batches that cover every row once, short ones first."""
    order = np.argsort(lengths, kind="stable")
    for i in range(0, len(order), batch_size):
        rows = order[i : i + batch_size]
        longest = lengths[rows[-1]]
        yield rows, next((bucket for bucket in buckets if bucket >= longest), buckets[-1])


def bucket_lengths(buckets: tuple[int, ...], max_length: int) -> tuple[int, ...]:
    """The padded lengths in use: those below `max_length`, and `max_length`."""
    return (*sorted(bucket for bucket in set(buckets) if bucket < max_length), max_length)


def draw_masked(
    tokens: np.ndarray, maskable: np.ndarray, side: np.ndarray, uniform: np.ndarray
) -> np.ndarray:
    """Chooses the piece to mask in each pair, as side * L + position.

    Uniform over the pieces of that side that are not punctuation; a side with only punctuation is
    masked anywhere. The reference draws until it meets such a piece: the same distribution, without
    its endless loop.

    Args:
      tokens: int [B, 2, L]
      maskable: bool [V], False for special pieces and punctuation.
      side: int [B], 0 or 1.
      uniform: float [B] in [0, 1).
    """
    text = tokens[np.arange(len(tokens)), side]
    real = text > 0
    allowed = maskable.take(text) & real
    nowhere = ~allowed.any(axis=1)
    allowed[nowhere] = real[nowhere]
    count = np.cumsum(allowed, axis=1, dtype=np.int32)
    rank = (uniform * count[:, -1]).astype(int)
    position = (count > rank[:, None]).argmax(axis=1)
    return (side * tokens.shape[2] + position).astype(np.int32)


class Batches:
    """Training batches of a store's split, by step number.

    `batches[step]` is a pair of int32 arrays: tokens [B, 2, L] and masked [B] (`draw_masked`). With
    several processes each gets its own contiguous share of the rows.

    An epoch is a fresh shuffle; the rows that do not fill a batch sit it out. Rows are then grouped
    by length bucket, and the batches shuffled: only the last batch of a bucket mixes two of them.
    """

    def __init__(
        self,
        split: Split,
        *,
        weights: np.ndarray,
        batch_size: int,
        buckets: tuple[int, ...],
        max_length: int,
        maskable: np.ndarray,
        seed: int,
        process_index: int = 0,
        process_count: int = 1,
    ):
        """
        Args:
          weights: float [groups], how often a row of the group is drawn per epoch.
        """
        self.split, self.weights, self.batch_size, self.seed = split, weights, batch_size, seed
        self.maskable = maskable
        self.buckets = np.array(bucket_lengths(buckets, max_length))
        longest = np.minimum(split.lengths.max(axis=1), max_length)
        self.row_bucket = np.searchsorted(self.buckets, longest).astype(np.int8)
        share = batch_size // process_count
        self.local = slice(process_index * share, (process_index + 1) * share)
        self.rows_per_epoch = len(self._draw(np.random.default_rng(0)))
        self.steps_per_epoch = self.rows_per_epoch // batch_size
        self._plan = (-1, None)

    def _draw(self, rng: np.random.Generator) -> np.ndarray:
        """Row numbers of an epoch, shuffled; fractional weights sample their group anew."""
        group = self.split.group
        if (self.weights == 1).all():
            return rng.permutation(len(group))
        rows = [np.repeat(np.arange(len(group)), np.floor(self.weights).astype(int)[group])]
        for number, fraction in enumerate(self.weights % 1):
            members = np.flatnonzero(group == number)
            rows.append(rng.permutation(members)[: round(fraction * len(members))])
        return rng.permutation(np.concatenate(rows))

    def _epoch(self, epoch: int) -> np.ndarray:
        """Row numbers [steps_per_epoch, B]."""
        if self._plan[0] != epoch:
            rng = np.random.default_rng([self.seed, epoch])
            rows = self._draw(rng)[: self.steps_per_epoch * self.batch_size]
            rows = rows[np.argsort(self.row_bucket[rows], kind="stable")]
            plan = rows.reshape(self.steps_per_epoch, self.batch_size)
            self._plan = (epoch, rng.permutation(plan))
        return self._plan[1]

    def __getitem__(self, step: int) -> tuple[np.ndarray, np.ndarray]:
        epoch, i = divmod(step, self.steps_per_epoch)
        rows = self._epoch(epoch)[i]
        length = int(self.buckets[self.row_bucket[rows].max()])
        rng = np.random.default_rng([self.seed, step, 1])
        side, uniform = rng.integers(0, 2, len(rows)), rng.random(len(rows))

        sides = self.split.sides
        segments = (rows[self.local, None] * sides + np.arange(sides)).reshape(-1)
        tokens = gather(self.split.tokens, self.split.offsets, segments, length)
        tokens = tokens.reshape(-1, sides, length)
        return tokens, draw_masked(tokens, self.maskable, side[self.local], uniform[self.local])

    @property
    def longest(self) -> int:
        """Largest padded length that occurs."""
        return int(self.buckets[self.row_bucket.max()])

    def iterate(self, start: int, stop: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Batches start ... stop - 1, made ahead in a thread while the device works."""
        options = grain.ReadOptions(num_threads=1, prefetch_buffer_size=2)
        runs = grain.MapDataset.source(_Runs(self, range(start, stop)))
        return itertools.chain.from_iterable(runs.to_iter_dataset(options))


class _Runs:
    """Batches in runs of a few: handing over an element costs grain as much as making a batch."""

    SIZE = 4

    def __init__(self, batches: Batches, steps: range):
        self.batches, self.steps = batches, steps

    def __len__(self) -> int:
        return -(-len(self.steps) // self.SIZE)

    def __getitem__(self, run: int) -> list[tuple[np.ndarray, np.ndarray]]:
        return [self.batches[step] for step in self.steps[run * self.SIZE :][: self.SIZE]]
