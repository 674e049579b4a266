"""By how much one encoder finds more than another, and what results keep of it."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lightxling.evaluate.pairwise import rows_by_pair
from lightxling.evaluate.retrieval import paired_difference
from lightxling.saved.results import pack_hits, unpack_hits
from lightxling.saved.run import RunFolder


def drawn_again(first, second, draws, seed):
    """The definition: sentences drawn with replacement, one mean for every draw."""
    rng, means = np.random.default_rng(seed), []
    for _ in range(draws):
        rows = rng.integers(first.shape[1], size=first.shape[1])
        means.append(second[:, rows].mean() - first[:, rows].mean())
    return np.quantile(means, [0.025, 0.975])


def test_the_interval_is_that_of_sentences_drawn_again():
    rng = np.random.default_rng(0)
    first = rng.random((2, 300)) < 0.8
    second = np.where(rng.random((2, 300)) < 0.9, first, rng.random((2, 300)) < 0.9)
    mean, low, high = paired_difference(first, second)
    assert mean == pytest.approx(second.mean() - first.mean())
    np.testing.assert_allclose([low, high], drawn_again(first, second, 4000, 1), atol=0.003)


def test_the_interval_is_that_of_the_normal_law_where_there_are_many():
    rng = np.random.default_rng(1)
    first, second = rng.random((2, 1, 20_000)) < [[[0.8]], [[0.82]]]
    mean, low, high = paired_difference(first, second)
    spread = 1.96 * np.std(second[0] * 1.0 - first[0]) / np.sqrt(20_000)
    np.testing.assert_allclose([low, high], [mean - spread, mean + spread], atol=3e-4)


def test_equal_encoders_differ_by_nothing():
    hits = np.array([[True, False, True], [True, True, False]])
    assert paired_difference(hits, hits) == (0, 0, 0)


@settings(deadline=None)
@given(st.lists(st.booleans(), min_size=1, max_size=40))
def test_hits_come_back(found):
    assert unpack_hits(pack_hits(np.array(found)), len(found)).tolist() == found


def folder(tmp_path, name, hits, sha="a"):
    found = np.array(hits, bool)
    scores = dict(zip(("forward", "backward"), (100 * found.mean(axis=1)).tolist(), strict=True))
    unit = {
        "scores": scores,
        "candidates": found.shape[1],
        "hits": dict(zip(scores, map(pack_hits, found), strict=True)),
        "data": [{"path": "x.tsv", "sha256": sha}],
    }
    results = {"retrieval.dev": {"results": {"en-fr": unit}}}
    return RunFolder(tmp_path / name, {}, [], 0, results, [])


def test_a_row_has_both_encoders_and_what_is_between_them(tmp_path):
    one = folder(tmp_path, "boxed", [[1, 0, 0, 0], [1, 1, 0, 0]])
    two = folder(tmp_path, "mine", [[1, 1, 1, 1], [1, 1, 1, 1]])
    head, row = rows_by_pair([one, two])
    assert head == ["", "boxed →", "boxed ←", "mine →", "mine ←", "candidates", "mine − boxed"]
    assert row[:6] == ["retrieval.dev en-fr", "25.0", "50.0", "100.0", "100.0", "4"]
    assert row[6].startswith("+62.5 (+")


@pytest.mark.parametrize("other", [{"sha": "b"}, {}])
def test_scores_on_other_text_are_not_subtracted(tmp_path, other):
    hits = [[1, 0, 0], [1, 1, 0]]
    head, row = rows_by_pair([folder(tmp_path, "a", hits), folder(tmp_path, "b", hits, **other)])
    assert row[-1] == ("other text" if "sha" in other else "+0.0 (+0.0 to +0.0)")
    assert len(head) == len(row)


def test_results_without_hits_have_a_difference_without_an_interval(tmp_path):
    one, two = (folder(tmp_path, name, [[1, 0], [1, 1]]) for name in "ab")
    del two.results["retrieval.dev"]["results"]["en-fr"]["hits"]
    assert rows_by_pair([one, two])[1][-1] == "+0.0"
