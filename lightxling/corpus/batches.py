"""Batch `step` as a function of (seed, step): order, length buckets, masking, prefetch.

Nothing here has a state to save: a resumed run asks for batch `step` and gets the same one,
whatever the number of processes. Everything is vectorised over the batch; no Python runs per
sentence.
"""

import functools
import itertools
from collections.abc import Iterator
from typing import NamedTuple

import grain
import numpy as np

from lightxling.base.shapes import Bool, Float, Int
from lightxling.config.schema import ModelConfig, TrainConfig
from lightxling.corpus.batch import Batch
from lightxling.corpus.store import Split
from lightxling.corpus.vectors import SentenceVectors


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


def look_up_words(
    split: Split, tokens: np.ndarray, ngrams: int
) -> tuple[np.ndarray, np.ndarray | None]:
    """Rows of the embedding table for a split's tokens [...], and rows [..., G] of the n-grams in a
    table of `ngrams` buckets; the latter is None without buckets."""
    if split.words is None:
        return tokens, None
    return split.words.rows[tokens], split.words.buckets(tokens, ngrams) if ngrams else None


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
      tokens: int [B, S, L]
      maskable: bool [V], False for special pieces and punctuation.
      side: int [B], below S.
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


def earlier_equals(values: np.ndarray) -> np.ndarray:
    """How often each of `values` [N] occurs before its place; 0 at the first of its kind."""
    order = np.argsort(values, kind="stable")
    ordered = values[order]
    count = np.empty(len(values), np.int64)
    count[order] = np.arange(len(values)) - np.searchsorted(ordered, ordered)
    return count


def draws_per_epoch(
    rows: np.ndarray, weights: np.ndarray, pair: np.ndarray, temperature: float
) -> np.ndarray:
    """How many rows of each group an epoch draws, int64 [groups].

        draws_g proportional to weight_g rows_g n_p^(1/T - 1),  n_p = rows of the group's pair p

    so that a language pair without weights has the share n_p^(1/T) / sum_q n_q^(1/T) of the epoch.
    The sum over groups is that of temperature 1, sum_g weight_g rows_g; what rounding down leaves
    goes to the largest remainders.

    Args:
      rows: int [groups], rows of each group.
      weights: float [groups], of the group's source.
      pair: int [groups], number of the group's language pair.
      temperature: T > 0.

    Source: EMS code, where T is 5 and the option is off.
    """
    total = round(float(np.sum(weights * rows)))
    in_pair = np.maximum(np.bincount(pair, rows), 1)[pair]
    exact = weights * rows * (in_pair / in_pair.max()) ** (1 / temperature - 1)
    exact *= total / max(exact.sum(), 1e-300)
    draws = np.floor(exact).astype(np.int64)
    order = np.argsort(draws - exact, kind="stable")
    draws[order[: total - draws.sum()]] += 1
    return draws


class Groups(NamedTuple):
    """The groups that the rows of a split are of: one for every source."""

    weights: Float[np.ndarray, " G"]
    """How often a row of the group is drawn per epoch."""
    languages: Int[np.ndarray, "G S"]
    """Index of each side's language."""


class Batches:
    """Training batches of a store's split, by step number: `batches[step]`.

    A row has the sides of the split and its hard negatives. With several processes each has its
    own rows of every batch (`local`).

    An epoch is a fresh shuffle; the rows that do not fill a batch (with `train.batch_languages`
    single: of their language pair) sit it out, or are filled up (`train.pad_last`). Rows are then
    grouped by length bucket, and the batches shuffled: only the last batch of a bucket mixes two of
    them.
    """

    def __init__(
        self,
        split: Split,
        groups: Groups,
        train: TrainConfig,
        model: ModelConfig,
        *,
        maskable: Bool[np.ndarray, " V"],
        teacher: SentenceVectors | None = None,
        negatives: Int[np.ndarray, "R N"] | None = None,
        local: Int[np.ndarray, " B"] | None = None,
    ):
        """
        Args:
          maskable: the ids that may be masked.
          negatives: sentences (row * sides + side) that are added to each row.
          local: the places of a batch that this process fills; None: all.
        """
        self.split, self.batch_size, self.seed = split, train.batch_size, train.seed
        self.maskable, self.teacher, self.negatives = maskable, teacher, negatives
        self.ngrams = model.ngrams
        self.languages = groups.languages.astype(np.int32)
        self.pairs, pair = np.unique(self.languages, axis=0, return_inverse=True)
        self.group_pair = pair.reshape(-1)
        """Number of each group's language pair, a row of `pairs` [P, sides]."""
        most = min(train.max_length or model.max_length, model.max_length)
        self.buckets = np.array(bucket_lengths(train.buckets, most))
        longest = split.lengths.max(axis=1)
        if negatives is not None:
            longest = np.maximum(longest, split.lengths.reshape(-1)[negatives].max(axis=1))
        longest = np.minimum(longest, most)
        self.row_bucket = np.searchsorted(self.buckets, longest).astype(np.int16)
        self.local = slice(None) if local is None else local
        self.group_rows = np.bincount(split.group, minlength=len(groups.weights))
        self.draws = draws_per_epoch(
            self.group_rows, groups.weights, self.group_pair, train.sampling_temperature
        )
        self.rows_per_epoch = int(self.draws.sum())
        self.is_single = train.batch_languages == "single"
        self.pair_rows = np.bincount(self.group_pair, self.draws).astype(np.int64)
        """Rows of each language pair in an epoch, before remainders are dropped."""
        self.is_padded = train.pad_last == "duplicate"
        units = self.pair_rows if self.is_single else self.pair_rows.sum()
        round_up = self.batch_size - 1 if self.is_padded else 0
        self.steps_per_epoch = int(((units + round_up) // self.batch_size).sum())
        # two epochs: the prefetching thread may be one ahead of `pair_counts`
        self._epoch = functools.lru_cache(maxsize=2)(self._plan)

    def _draw(self, rng: np.random.Generator) -> np.ndarray:
        """Row numbers of an epoch, shuffled.

        A group that is drawn k times and a fraction has each row k times and a fraction of its rows
        once more, other ones each epoch. Of a row that is drawn m times, the copies lie 1/m of the
        epoch apart: in one batch they would be negatives of each other.
        """
        group = self.split.group
        if (self.draws == self.group_rows).all():
            return rng.permutation(len(group))
        times, rest = np.divmod(self.draws, np.maximum(self.group_rows, 1))
        rows = rng.permutation(len(group))
        is_more = earlier_equals(group[rows]) < rest[group[rows]]
        copies = times[group[rows]] + is_more
        drawn = np.repeat(rows, copies)
        place = (earlier_equals(drawn) + np.repeat(rng.random(len(rows)), copies)) / np.repeat(
            copies, copies
        )
        return drawn[np.argsort(place)]

    def _plan(self, epoch: int) -> np.ndarray:
        """Row numbers [steps_per_epoch, B] of an epoch."""
        rng = np.random.default_rng([self.seed, epoch])
        rows = self._draw(rng)
        unit = self._unit(rows)
        missing = -np.bincount(unit) % self.batch_size
        # every unit is brought to whole batches, so that the reshape below mixes none of them
        if self.is_padded:
            more = [rng.choice(rows[unit == u], missing[u]) for u in np.flatnonzero(missing)]
            rows = np.concatenate([rows, *more])
        else:
            whole = np.bincount(unit) // self.batch_size * self.batch_size
            rows = rows[earlier_equals(unit) < whole[unit]]
        rows = rows[np.lexsort((self.row_bucket[rows], self._unit(rows)))]
        return rng.permutation(rows.reshape(self.steps_per_epoch, self.batch_size))

    def _unit(self, rows: np.ndarray) -> np.ndarray:
        """What a batch may not mix: the number of each row's language pair, or nothing."""
        return self.group_pair[self.split.group[rows]] * self.is_single

    def pair_counts(self, start: int, stop: int) -> np.ndarray:
        """Rows of each language pair in the whole batches start ... stop - 1, int64 [P]."""
        counts = np.zeros(len(self.pairs), np.int64)
        while start < stop:
            epoch, i = divmod(start, self.steps_per_epoch)
            n = min(stop - start, self.steps_per_epoch - i)
            group = self.split.group[self._epoch(epoch)[i : i + n].reshape(-1)]
            counts += np.bincount(self.group_pair[group], minlength=len(counts))
            start += n
        return counts

    def __getitem__(self, step: int) -> Batch:
        epoch, i = divmod(step, self.steps_per_epoch)
        rows = self._epoch(epoch)[i]
        length = int(self.buckets[self.row_bucket[rows].max()])
        rng = np.random.default_rng([self.seed, step, 1])
        sides = self.split.sides
        side, uniform = rng.integers(0, min(sides, 2), len(rows)), rng.random(len(rows))
        local = rows[self.local]
        segments = local[:, None] * sides + np.arange(sides)
        if self.negatives is not None:
            segments = np.concatenate([segments, self.negatives[local]], axis=1)
        tokens = gather(self.split.tokens, self.split.offsets, segments.reshape(-1), length)
        tokens, ngrams = look_up_words(
            self.split, tokens.reshape(*segments.shape, length), self.ngrams
        )
        masked = draw_masked(tokens, self.maskable, side[self.local], uniform[self.local])
        teacher, pivot = self.teacher.pick(local) if self.teacher else (None, None)
        label = self.split.label
        return Batch(
            tokens,
            masked,
            self.languages[self.split.group[local]],
            teacher,
            pivot,
            labels=None if label is None else label[local],
            ngrams=ngrams,
        )

    @functools.cached_property
    def lengths(self) -> list[int]:
        """Padded lengths that batches may have."""
        return self.buckets[np.unique(self.row_bucket)].tolist()

    @property
    def longest(self) -> int:
        """Largest padded length that occurs."""
        return int(self.buckets[self.row_bucket.max()])

    def iterate(self, start: int, stop: int) -> Iterator[Batch]:
        """Batches start ... stop - 1, made ahead in a thread while the device works."""
        options = grain.ReadOptions(num_threads=1, prefetch_buffer_size=2)
        runs = grain.MapDataset.source(_Runs(self, range(start, stop)))
        return itertools.chain.from_iterable(runs.to_iter_dataset(options))


class _Runs:
    """Batches in runs: handing over an element costs grain as much as making a batch of 128."""

    PAIRS = 2048

    def __init__(self, batches: Batches, steps: range):
        self.batches, self.steps = batches, steps
        self.size = max(self.PAIRS // batches.batch_size, 1)

    def __len__(self) -> int:
        return -(-len(self.steps) // self.size)

    def __getitem__(self, run: int) -> list[Batch]:
        return [self.batches[step] for step in self.steps[run * self.size :][: self.size]]
