"""Batches: a function of (seed, step), whole epochs, and the masking of the paper."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from lightxling.config.schema import ModelConfig, TrainConfig
from lightxling.corpus.batches import (
    Batches,
    Groups,
    bucket_lengths,
    by_length,
    draw_masked,
    draws_per_epoch,
    earlier_equals,
    gather,
)
from lightxling.corpus.store import Split

VOCAB = 40


def make_split(rows=103, longest=20, groups=2, seed=0) -> Split:
    """Row r holds piece 3 + r % 30 first, so that rows can be told apart by their lengths too."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, longest + 1, 2 * rows)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    tokens = rng.integers(3, VOCAB, offsets[-1]).astype(np.uint16)
    group = (np.arange(rows) % groups).astype(np.uint16)
    return Split(tokens=tokens, offsets=offsets, group=group, sides=2, folder=Path())


def make(split, **changes) -> Batches:
    """`changes` are those of the settings of `train`, and arguments of `Batches` and `Groups`."""
    weights = changes.pop("weights", np.ones(2))
    languages = changes.pop("languages", np.tile([0, 1], (len(weights), 1)))
    model = ModelConfig(max_length=changes.pop("max_length", 20))
    maskable = changes.pop("maskable", np.ones(VOCAB, bool))
    local = changes.pop("local", None)
    changes |= {"max_length": changes.pop("most", 0)}
    train = TrainConfig(**{"batch_size": 8, "buckets": (4, 8, 16), **changes})
    groups = Groups(weights, languages)
    return Batches(split, groups, train, model, maskable=maskable, local=local)


def sentences(tokens: np.ndarray) -> list[tuple]:
    """Rows of a batch as hashable pairs without padding."""
    return [tuple(tuple(int(t) for t in side if t) for side in pair) for pair in tokens]


def everything(split: Split) -> list[tuple]:
    parts = [split.tokens[a:b] for a, b in zip(split.offsets, split.offsets[1:], strict=False)]
    flat = [tuple(int(t) for t in part) for part in parts]
    return [tuple(flat[i : i + 2]) for i in range(0, len(flat), 2)]


def test_a_batch_is_a_function_of_seed_and_step():
    split = make_split()
    first, second = make(split), make(split)
    for step in (30, 2, 17):
        for a, b in zip(first[step], second[step], strict=True):
            np.testing.assert_array_equal(a, b)
    assert sentences(make(split, seed=1)[2].tokens) != sentences(first[2].tokens)


def test_iterating_equals_indexing():
    batches = make(make_split())
    for step, batch in zip(range(9, 15), batches.iterate(9, 15), strict=True):
        np.testing.assert_array_equal(batch.tokens, batches[step].tokens)
        np.testing.assert_array_equal(batch.masked, batches[step].masked)


def test_an_epoch_holds_every_row_once_but_for_the_remainder():
    split = make_split()
    batches = make(split)
    assert batches.steps_per_epoch == 103 // 8
    known = everything(split)
    orders = []
    for epoch in range(2):
        steps = range(epoch * 12, (epoch + 1) * 12)
        seen = [pair for step in steps for pair in sentences(batches[step].tokens)]
        assert len(seen) == 96
        assert not {*seen} - {*known}
        assert all(seen.count(pair) <= known.count(pair) for pair in seen)
        orders.append(seen)
    assert orders[0] != orders[1]


@pytest.mark.parametrize("weight", [0.0, 0.5, 2.0, 2.5])
def test_weights_are_draws_per_epoch(weight):
    split = make_split(rows=100)
    batches = make(split, weights=np.array([1.0, weight]), batch_size=2)
    assert batches.rows_per_epoch == 50 + round(50 * weight)
    drawn = split.group[batches._draw(np.random.default_rng(3))]
    assert (drawn == 1).sum() == round(50 * weight)


def test_rows_share_a_bucket_but_for_one_batch_in_each():
    batches = make(make_split(rows=400))
    mixed = 0
    for step in range(batches.steps_per_epoch):
        tokens = batches[step].tokens
        longest = (tokens > 0).sum(axis=2).max(axis=1)
        assert tokens.shape[2] in (4, 8, 16, 20)
        assert longest.max() <= tokens.shape[2]
        own = np.array([next(b for b in (4, 8, 16, 20) if b >= n) for n in longest])
        mixed += len(set(own)) > 1
    assert mixed <= 3


def test_processes_share_the_rows_of_the_whole_batch():
    split = make_split()
    whole = make(split)
    parts = [make(split, local=places) for places in np.arange(8).reshape(4, 2)]
    for step in (0, 13):
        for k in range(3):
            joined = np.concatenate([part[step][k] for part in parts])
            np.testing.assert_array_equal(joined, whole[step][k])


def test_sentences_beyond_the_limit_are_cut():
    tokens = make(make_split(), max_length=6)[0].tokens
    assert tokens.shape[2] <= 6


def test_training_may_read_less_of_a_sentence_than_the_encoder_does():
    split = make_split(longest=20)
    assert split.lengths.max() > 7
    cut = make(split, most=7)
    assert max(cut[step].tokens.shape[2] for step in range(cut.steps_per_epoch)) == 7
    for more in (0, 1000):
        as_ever, given = make(split), make(split, most=more)
        for step in range(2):
            np.testing.assert_array_equal(given[step].tokens, as_ever[step].tokens)


def test_by_length_covers_every_row_once_in_few_shapes():
    lengths = np.random.default_rng(0).integers(0, 30, 101)
    found = list(by_length(lengths, buckets=(8, 16, 30), batch_size=10))
    assert sorted(np.concatenate([rows for rows, _ in found])) == list(range(101))
    assert all(lengths[rows].max() <= length for rows, length in found)
    assert {length for _, length in found} <= {8, 16, 30}


def test_gather_pads_and_cuts():
    out = gather(np.array([5, 6, 7, 8], np.uint16), np.array([0, 3, 3, 4]), np.array([0, 1, 2]), 2)
    np.testing.assert_array_equal(out, [[5, 6], [0, 0], [8, 0]])


def test_bucket_lengths_end_at_the_limit():
    assert bucket_lengths((64, 8, 200), 48) == (8, 48)


def draw(tokens, maskable, count=4000):
    rng = np.random.default_rng(0)
    repeated = np.repeat(tokens[None], count, axis=0)
    return draw_masked(repeated, maskable, rng.integers(0, 2, count), rng.random(count))


def test_masking_takes_each_side_half_the_time_and_each_word_as_often():
    maskable = np.ones(VOCAB, bool)
    maskable[[0, 1, 2, 10]] = False  # 10 is a comma
    tokens = np.array([[5, 10, 6, 0], [7, 8, 9, 10]])
    chosen = draw(tokens, maskable)
    share = np.bincount(chosen, minlength=8) / len(chosen)
    expected = [1 / 4, 0, 1 / 4, 0, 1 / 6, 1 / 6, 1 / 6, 0]
    np.testing.assert_allclose(share, expected, atol=0.025)


def test_masking_of_punctuation_alone_ends_and_stays_in_the_sentence():
    maskable = np.zeros(VOCAB, bool)
    tokens = np.array([[5, 5, 5, 0, 0], [5, 0, 0, 0, 0]])
    assert set(draw(tokens, maskable)) == {0, 1, 2, 5}


SIZES, PAIR = np.array([640, 320, 64, 0]), np.array([0, 0, 1, 2])
"""Two sources of pair 0, one of pair 1, and a pair that has no training rows."""
LANGUAGES = np.array([[2, 0], [2, 0], [2, 1], [2, 3]])


def multilingual(seed=0) -> Split:
    """Rows in random order of groups; side s of row r starts with a piece that tells r apart."""
    rng = np.random.default_rng(seed)
    group = rng.permutation(np.repeat(np.arange(4), SIZES)).astype(np.uint16)
    lengths = rng.integers(2, 20, 2 * len(group))
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    tokens = rng.integers(3, VOCAB, offsets[-1]).astype(np.uint16)
    tokens[offsets[:-1]] = VOCAB + np.repeat(np.arange(len(group)), 2)
    return Split(tokens=tokens, offsets=offsets, group=group, sides=2, folder=Path())


def make_multilingual(split, **changes) -> Batches:
    settings = {
        "weights": np.ones(4),
        "languages": LANGUAGES,
        "maskable": np.ones(VOCAB + len(split.group), bool),
        "batch_size": 16,
    }
    return make(split, **{**settings, **changes})


def epoch_rows(batches: Batches, epoch: int) -> list[np.ndarray]:
    """Row numbers of every batch of an epoch, read from the tokens."""
    steps = range(epoch * batches.steps_per_epoch, (epoch + 1) * batches.steps_per_epoch)
    return [batches[step].tokens[:, 0, 0] - VOCAB for step in steps]


@pytest.mark.parametrize("temperature", [1.0, 2.0, 5.0, 1e6])
@pytest.mark.parametrize("weights", [(1, 1, 1, 1), (2, 1, 0.5, 1)])
def test_sampling_follows_the_closed_form(temperature, weights):
    weights = np.array(weights, float)
    draws = draws_per_epoch(SIZES, weights, PAIR, temperature)
    assert draws.sum() == round((weights * SIZES).sum())
    share = np.zeros(4)
    for g in range(3):
        n = sum(SIZES[h] for h in range(4) if PAIR[h] == PAIR[g])
        share[g] = weights[g] * n ** (1 / temperature) * SIZES[g] / n
    np.testing.assert_allclose(draws, draws.sum() * share / share.sum(), atol=1)


def test_equal_pairs_at_high_temperature_and_rows_as_often_as_each_other():
    split = multilingual()
    batches = make_multilingual(split, sampling_temperature=1e9, batch_size=2)
    rows = [np.concatenate(epoch_rows(batches, epoch)) for epoch in range(2)]
    assert [len(r) for r in rows] == [1024, 1024]
    times = np.array([np.bincount(r, minlength=1024) for r in rows])
    small = split.group == 2
    np.testing.assert_array_equal(times[:, small], 8)  # 512 draws of 64 rows
    assert times[:, ~small].max() == 1
    for epoch in range(2):
        by_group = np.bincount(split.group, times[epoch], minlength=4)
        np.testing.assert_allclose(by_group, [512 * 2 / 3, 512 / 3, 512, 0], atol=1)
    assert (times[0] != times[1]).any()  # the large pair is drawn again


def test_temperature_1_is_plain_shuffling():
    split = multilingual()
    plain = make(split, weights=np.ones(4), maskable=np.ones(VOCAB + 1024, bool))
    again = make_multilingual(split, batch_size=8)
    np.testing.assert_array_equal(plain[3].tokens, again[3].tokens)


def test_languages_follow_the_rows():
    split = multilingual()
    batches = make_multilingual(split, sampling_temperature=3.0)
    for step in (0, 70, 5):
        batch = batches[step]
        rows, languages = batch.tokens[:, 0, 0] - VOCAB, batch.languages
        np.testing.assert_array_equal(languages, LANGUAGES[split.group[rows]])
        assert len(np.unique(languages, axis=0)) == 2  # mixed
    parts = [make_multilingual(split, local=places) for places in np.arange(16).reshape(4, 4)]
    joined = np.concatenate([part[5].languages for part in parts])
    np.testing.assert_array_equal(joined, make_multilingual(split)[5].languages)


def test_single_language_batches_hold_one_pair_and_every_row_once():
    split = multilingual()
    batches = make_multilingual(split, batch_languages="single", batch_size=10)
    assert batches.steps_per_epoch == 960 // 10 + 64 // 10
    for epoch in range(2):
        found = epoch_rows(batches, epoch)
        pairs = [np.unique(PAIR[split.group[rows]]) for rows in found]
        assert all(len(pair) == 1 for pair in pairs)
        assert np.bincount(np.concatenate(pairs)).tolist() == [96, 6]
        assert np.ptp(np.flatnonzero(np.concatenate(pairs))) > 6  # among the others
        counts = np.bincount(np.concatenate(found), minlength=1024)
        assert counts.max() == 1
        assert (counts[PAIR[split.group] == 0] == 1).all()
        assert counts.sum() == 960 + 60


def test_single_language_batches_stay_in_a_length_bucket():
    batches = make_multilingual(multilingual(), batch_languages="single", batch_size=8)
    mixed = 0
    for step in range(batches.steps_per_epoch):
        longest = (batches[step].tokens > 0).sum(axis=2).max(axis=1)
        mixed += len({int(np.searchsorted((4, 8, 16, 20), n)) for n in longest}) > 1
    assert mixed <= 2 * 3  # the last batch of each bucket of each pair


def test_copies_of_a_row_do_not_meet_in_a_single_language_batch():
    split = multilingual()
    batches = make_multilingual(
        split, batch_languages="single", batch_size=4, sampling_temperature=1e9, buckets=()
    )
    meetings = sum(len(rows) - len(np.unique(rows)) for rows in epoch_rows(batches, 0))
    assert meetings == 0  # eight passes over 64 rows


def test_copies_of_a_row_do_not_meet_in_a_mixed_batch():
    split = multilingual()
    batches = make_multilingual(split, weights=np.array([3.0, 1.0, 2.5, 1.0]), buckets=())
    for epoch in range(2):
        found = epoch_rows(batches, epoch)
        assert sum(len(rows) - len(np.unique(rows)) for rows in found) == 0
        assert np.bincount(np.concatenate(found)).max() == 3


def test_there_may_be_a_bucket_for_every_length():
    split = dataclasses.replace(
        make_split(rows=8), tokens=np.full(16 * 180, 3, np.uint16), offsets=np.arange(17) * 180
    )
    batches = make(split, buckets=tuple(range(1, 201)), max_length=200)
    assert batches[0].tokens.shape == (8, 2, 180)


@pytest.mark.parametrize("batch_languages", ["mixed", "single"])
def test_the_last_batch_may_be_filled_with_rows_drawn_again(batch_languages):
    split = multilingual()
    batches = make_multilingual(
        split, batch_languages=batch_languages, batch_size=100, pad_last="duplicate"
    )
    found = epoch_rows(batches, 0)
    assert [len(rows) for rows in found] == [100] * 11  # of 1,024 rows: 960 and 64
    rows = np.concatenate(found)
    assert set(rows) == set(range(1024))
    if batch_languages == "single":
        assert all(len(np.unique(PAIR[split.group[rows]])) == 1 for rows in found)
        assert np.bincount(PAIR[split.group[rows]]).tolist() == [1000, 100]


def test_pair_counts_are_those_of_the_batches():
    split = multilingual()
    batches = make_multilingual(split, sampling_temperature=2.0)
    expected = np.zeros(3)
    for step in range(50, 100):  # over the end of an epoch
        for row in batches[step].tokens[:, 0, 0] - VOCAB:
            expected[PAIR[split.group[row]]] += 1
    assert batches.steps_per_epoch == 64
    np.testing.assert_array_equal(batches.pair_counts(50, 100), expected)
    np.testing.assert_array_equal(batches.pairs, [[2, 0], [2, 1], [2, 3]])


def test_earlier_equals():
    np.testing.assert_array_equal(earlier_equals(np.array([5, 3, 5, 5, 3])), [0, 0, 1, 2, 1])


def test_the_longest_length_is_one_that_occurs():
    batches = make(make_split(longest=14), buckets=(4, 8, 16))
    lengths = {batches[step].tokens.shape[2] for step in range(batches.steps_per_epoch)}
    assert batches.longest == max(lengths) == 16


def test_iterating_may_begin_and_end_anywhere():
    batches = make(make_split())
    for start, stop in ((0, 1), (3, 12), (5, 5)):
        found = list(batches.iterate(start, stop))
        assert len(found) == stop - start
        for step, batch in zip(range(start, stop), found, strict=True):
            np.testing.assert_array_equal(batch.tokens, batches[step].tokens)


def test_the_last_sentence_is_padded_not_read_beyond_the_end():
    out = gather(np.array([5, 6, 7], np.uint16), np.array([0, 2, 3]), np.array([1]), 4)
    np.testing.assert_array_equal(out, [[7, 0, 0, 0]])
