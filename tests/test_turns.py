"""The order of tasks: shares exact, the same from any step on."""

import numpy as np
import pytest

from lightxling.train.turns import BLOCK_STEPS, Turns

SHARES = [(1.0,), (1.0, 1.0), (2.0, 1.0), (3.7, 1.2, 0.31), (0.001, 5.0, 2.0, 2.0), (100.0, 1.0)]


def sequence(turns, stop):
    return np.array(list(turns.steps(0, stop)))


@pytest.mark.parametrize("shares", SHARES)
def test_the_cycle_takes_whoever_is_due_first(shares):
    """A slow loop that keeps counts; it crosses the border of a block."""
    stop = BLOCK_STEPS + 700
    counts, expected = np.zeros(len(shares), int), []
    for _ in range(stop):
        task = min(range(len(shares)), key=lambda t: ((counts[t] + 0.5) / shares[t], t))
        counts[task] += 1
        expected.append(task)
    np.testing.assert_array_equal(sequence(Turns(shares), stop), expected)


def test_whole_shares_repeat_and_are_exact():
    turns = Turns((4.0, 2.0, 1.0))
    order = sequence(turns, 7 * 3000).reshape(3000, 7)
    assert (order == order[0]).all()
    assert np.bincount(order[0]).tolist() == [4, 2, 1]
    assert order[0].tolist() == [0, 1, 0, 2, 0, 1, 0]


@pytest.mark.parametrize("shares", SHARES)
def test_the_cycle_is_never_a_step_behind(shares):
    order = sequence(Turns(shares), 5000)
    counts = np.cumsum(order[:, None] == np.arange(len(shares)), axis=0)
    ideal = np.arange(1, 5001)[:, None] * np.array(shares) / sum(shares)
    assert np.abs(counts - ideal).max() < 1


@pytest.mark.parametrize("order", ["cycle", "sampled"])
def test_counts_and_steps_agree_from_anywhere(order):
    turns = Turns((3.0, 1.5, 1.0), order, seed=3)
    whole = sequence(turns, 2 * BLOCK_STEPS + 50)
    for step in (0, 1, 9, BLOCK_STEPS - 1, BLOCK_STEPS, BLOCK_STEPS + 1, 2 * BLOCK_STEPS + 49):
        np.testing.assert_array_equal(turns.counts(step), np.bincount(whole[:step], minlength=3))
    for start, stop in (
        (0, 0),
        (5, 5),
        (3, 90),
        (BLOCK_STEPS - 5, BLOCK_STEPS + 5),
        (BLOCK_STEPS, 2 * BLOCK_STEPS),
    ):
        assert list(turns.steps(start, stop)) == whole[start:stop].tolist()


def test_samples_have_their_shares_and_depend_on_the_seed():
    order = sequence(Turns((3.0, 1.0), "sampled", seed=0), 40_000)
    assert np.mean(order == 0) == pytest.approx(0.75, abs=0.01)
    again = np.mean(order[1:][order[:-1] == 1] == 1)  # independent of the step before
    assert again == pytest.approx(0.25, abs=0.02)
    assert (order != sequence(Turns((3.0, 1.0), "sampled", seed=1), 40_000)).any()
