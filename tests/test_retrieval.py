import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jaxtyping import TypeCheckError

from lightxling.base.vectors import nearest, normalize
from lightxling.corpus.store import Split
from lightxling.evaluate.retrieval import (
    Accuracy,
    precision,
    precision_at_1,
    precision_by_text,
    ranks,
    ranks_among,
    text_labels,
    weighted_f1,
)
from lightxling.train.dev import dev_scores, dev_texts

UNPAIRED = (ValueError, TypeCheckError)  # by our own check, or by the shape annotations
SCORINGS = ("cosine", "csls", "margin", "distance", "absolute")


def slow_cosines(queries, candidates):
    table = []
    for x in queries.tolist():
        row = []
        for y in candidates.tolist():
            lengths = math.sqrt(sum(a * a for a in x)) * math.sqrt(sum(b * b for b in y))
            row.append(sum(a * b for a, b in zip(x, y, strict=True)) / lengths if lengths else 0.0)
        table.append(row)
    return table


def slow_mean_of_nearest(row, k):
    top = sorted(row, reverse=True)[:k]
    return sum(top) / len(top)


def slow_ranks(queries, candidates, gold, labels, scoring):
    """Scores the whole table in float64 and counts the wrong candidates at least as good."""
    cosines = slow_cosines(queries, candidates)
    columns = [list(column) for column in zip(*cosines, strict=True)]
    k = {"cosine": 1, "csls": 10}.get(scoring, 4)
    r_x = [slow_mean_of_nearest(row, k) for row in cosines]
    r_y = [slow_mean_of_nearest(column, k) for column in columns]
    places = []
    for i, row in enumerate(cosines):
        compete = range(len(row))
        if scoring == "cosine":
            scores = row
        elif scoring == "csls":
            scores = [2 * c - r_x[i] - r for c, r in zip(row, r_y, strict=True)]
        else:
            around = [(r_x[i] + r) / 2 for r in r_y]
            margin = {
                "margin": lambda a, b: a / max(b, 1e-6),
                "distance": lambda a, b: a - b,
                "absolute": lambda a, b: a,
            }[scoring]
            scores = [margin(c, r) for c, r in zip(row, around, strict=True)]
            compete = sorted(compete, key=lambda j: -row[j])[:4]
        right = [scores[j] for j in compete if labels[j] == labels[gold[i]]]
        if not right:
            places.append(len(row))
            continue
        wrong = [scores[j] for j in compete if labels[j] != labels[gold[i]]]
        places.append(1 + sum(score >= max(right) - 1e-6 for score in wrong))
    return places


def pairs(rows, width=12, noise=1.0, seed=0):
    rng = np.random.default_rng(seed)
    src = rng.normal(size=(rows, width)) + 1  # a common direction makes hubs
    return src.astype(np.float32), (src + noise * rng.normal(size=src.shape)).astype(np.float32)


@pytest.mark.parametrize("block", [7, 64, 2048])
@pytest.mark.parametrize("scoring", SCORINGS)
def test_ranks_equal_a_float64_loop_over_the_whole_table(scoring, block):
    src, tgt = pairs(90, width=5, noise=0.8)
    queries, gold = src[10:70], np.arange(10, 70)
    expected = slow_ranks(queries, tgt, gold, range(90), scoring)
    found = ranks(queries, tgt, gold, scoring=scoring, block=block)
    np.testing.assert_array_equal(found, expected)
    assert 0.1 < precision(found) < 0.9  # the data must be able to tell right from wrong


@pytest.mark.parametrize("scoring", SCORINGS)
def test_any_of_several_equal_texts_is_right(scoring):
    src, tgt = pairs(60, seed=1)
    labels = np.arange(60) % 45  # 15 sentences occur twice
    tgt[45:] = tgt[:15]
    expected = slow_ranks(src, tgt, range(60), labels, scoring)
    np.testing.assert_array_equal(ranks(src, tgt, same=labels, scoring=scoring), expected)
    assert precision(ranks(src, tgt, same=labels, scoring=scoring)) > precision(
        ranks(src, tgt, scoring=scoring)
    )


def test_worked_example_of_the_three_scorings():
    def at(*degrees):
        return np.array([[math.cos(math.radians(d)), math.sin(math.radians(d))] for d in degrees])

    src, tgt = at(0, 60), at(40, 50)
    # Cosines: src 0 has .766 and .643, src 1 has .940 and .985. With fewer than k neighbours r is
    # the plain mean: .704 and .962 for src, .853 and .814 for tgt.
    # src 0: csls 2 * .766 - .853 = .679 beats 2 * .643 - .814 = .472; margin .984 beats .847.
    # tgt 0 prefers src 1: cosine .940 > .766; csls .917 > .828; margin 1.035 > .984.
    for scoring in SCORINGS:
        assert precision_at_1(src, tgt, scoring) == Accuracy(1.0, 0.5, 2)
    np.testing.assert_array_equal(ranks(src, tgt[::-1]), [2, 2])


def test_csls_demotes_a_hub():
    # The hub has cosines .68 and .70 to the queries, the pair of query 0 has .66 and .10.
    def with_cosines(a, b):
        return [a, b, math.sqrt(1 - a * a - b * b)]

    src = np.eye(3)[:2]
    hub = with_cosines(0.68, 0.70)
    own = with_cosines(0.66, 0.1)
    # csls, query 0: own 2 * .66 - (.66 + .1) / 2 = .94; hub 2 * .68 - (.68 + .70) / 2 = .67
    tgt = np.array([own, hub])
    np.testing.assert_array_equal(ranks(src, tgt), [2, 1])
    np.testing.assert_array_equal(ranks(src, tgt, scoring="csls"), [1, 1])


@pytest.mark.parametrize("scoring", SCORINGS)
def test_a_collapsed_encoder_scores_zero(scoring):
    same = np.tile(np.random.default_rng(0).normal(size=(1, 37)), (301, 1))
    assert precision_at_1(same, same, scoring) == Accuracy(0.0, 0.0, 301)


@pytest.mark.filterwarnings("ignore:some sentences have a negative mean cosine")
@pytest.mark.parametrize("scoring", SCORINGS)
def test_zero_vectors_find_nothing_and_give_no_nan(scoring):
    zeros = np.zeros((5, 4), np.float32)
    assert precision_at_1(zeros, zeros, scoring).mean == 0
    src, tgt = pairs(6, noise=0.01)
    src[2] = 0  # an empty line among real ones
    places = ranks(src, tgt, scoring=scoring)
    assert places[2] > 1
    np.testing.assert_array_equal(np.delete(places, 2), 1)


def test_a_negative_neighbourhood_is_reported_with_another_scoring():
    with pytest.warns(UserWarning, match=r"negative mean cosine .*--scoring cosine or csls"):
        ranks(np.array([[1.0, 0.0]]), np.array([[-1.0, 0.0]]), scoring="margin")


def test_two_equal_candidates_both_miss_by_row_and_both_hit_by_text():
    src, tgt = np.eye(4), np.eye(4)
    tgt[3] = tgt[2]
    src[3] = src[2]
    assert precision_at_1(src, tgt).forward == 0.5
    labels = text_labels(["a", "b", "c", "c"])
    assert precision_at_1(src, tgt, same_src=labels, same_tgt=labels) == Accuracy(1.0, 1.0, 4)


def test_equal_texts_of_one_side_help_the_direction_that_looks_for_them():
    src, tgt = np.eye(4), np.eye(4)
    tgt[3], src[3] = tgt[2], src[2]
    labels = text_labels(["a", "b", "c", "c"])
    assert precision_at_1(src, tgt, same_tgt=labels) == Accuracy(1.0, 0.5, 4)
    assert precision_at_1(src, tgt, same_src=labels) == Accuracy(0.5, 1.0, 4)


@pytest.mark.parametrize("scoring", SCORINGS)
def test_one_candidate_is_always_found(scoring):
    one = np.array([[0.6, 0.8]])
    assert precision_at_1(one, one, scoring) == Accuracy(1.0, 1.0, 1)


def test_directions_are_counted_separately():
    src = np.array([[1.0, 0.0], [0.8, 0.6]])
    tgt = np.array([[0.8, 0.6], [0.0, 1.0]])
    # Forward: both queries choose row 0, 1 of 2 is right. Backward: (.8, .6) chooses its equal, row
    # 1, a miss; (0, 1) chooses row 1, a hit.
    result = precision_at_1(src, tgt)
    assert (result.forward, result.backward, result.mean) == (0.5, 0.5, 0.5)
    np.testing.assert_array_equal(ranks(src, tgt), [1, 2])
    np.testing.assert_array_equal(ranks(tgt, src), [2, 1])


def test_a_translation_outside_the_neighbours_is_last_under_margin():
    rng = np.random.default_rng(0)
    query = np.eye(8)[:1]
    near = np.eye(8)[0] + 0.1 * rng.normal(size=(9, 8))
    far = np.eye(8)[1:2] + 0.1
    assert ranks(query, np.concatenate([near, far]), np.array([9]), scoring="margin") == [10]


@given(
    queries=st.integers(1, 9),
    candidates=st.integers(1, 30),
    k=st.integers(1, 12),
    block=st.integers(1, 11),
)
@settings(max_examples=60, deadline=None)
def test_nearest_sorts_like_the_whole_table(queries, candidates, k, block):
    rng = np.random.default_rng(queries * 1000 + candidates)
    x, y = rng.normal(size=(queries, 5)), rng.normal(size=(candidates, 5))
    scores, indices = nearest(x, y, k, block)
    table = slow_cosines(x, y)
    for i, row in enumerate(table):
        order = sorted(range(candidates), key=lambda j: -row[j])[:k]
        assert indices[i].tolist() == order
        np.testing.assert_allclose(scores[i], [row[j] for j in order], atol=1e-6)


def test_nearest_orders_equal_candidates_by_row():
    scores, indices = nearest(np.ones((1, 3)), np.ones((5, 3)), 5, block=2)
    np.testing.assert_array_equal(indices, [[0, 1, 2, 3, 4]])
    np.testing.assert_allclose(scores, 1, rtol=1e-6)


def test_scale_and_number_format_of_the_vectors_do_not_matter():
    src, tgt = pairs(50, noise=0.5)
    expected = ranks(src, tgt)
    np.testing.assert_array_equal(ranks(100 * src, 0.01 * tgt), expected)
    halves = ranks(src.astype(np.float16), tgt.astype(np.float64))
    assert np.mean(halves == expected) > 0.9


def test_normalize_leaves_its_argument_alone_and_zero_rows_zero():
    vectors = np.array([[3.0, 4.0], [0.0, 0.0]], np.float32)
    np.testing.assert_allclose(normalize(vectors), [[0.6, 0.8], [0, 0]], rtol=1e-6)
    np.testing.assert_array_equal(vectors, [[3, 4], [0, 0]])


def test_precision_at_k():
    places = np.array([1, 2, 3, 11])
    assert [precision(places, k) for k in (1, 2, 10)] == [0.25, 0.5, 0.75]


def test_mistakes_are_named():
    with pytest.raises(ValueError, match="3 queries and 4 candidates are not paired"):
        ranks(np.eye(4)[:3], np.eye(4))
    with pytest.raises(UNPAIRED):
        ranks(np.ones((2, 3)), np.ones((2, 4)))
    with pytest.raises(ValueError, match="nothing to search"):
        precision_at_1(np.ones((0, 3)), np.ones((0, 3)))
    with pytest.raises(ValueError, match="vector 1 is not finite"):
        precision_at_1(np.array([[1.0], [np.nan]]), np.ones((2, 1)))
    with pytest.raises(ValueError, match="'cslss' is not one of"):
        precision_at_1(np.eye(2), np.eye(2), "cslss")


def test_memory_does_not_grow_with_the_table():
    import tracemalloc

    src, tgt = pairs(500, width=8), pairs(60_000, width=8)
    tracemalloc.start()
    ranks(src[0], tgt[0], np.arange(500), scoring="csls", block=512)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 15e6  # the whole table would be 120 MB


@pytest.mark.parametrize("product", ["dot", "cosine"])
def test_ranks_among_all_equal_a_float64_loop(product):
    src, tgt = pairs(60, noise=3.0)
    x, y = (
        [v / np.linalg.norm(v) if product == "cosine" else v for v in side.astype(np.float64)]
        for side in (src, tgt)
    )
    expected = [1 + sum(q @ c >= q @ y[i] for c in y) - 1 for i, q in enumerate(x)]
    for block in (7, 2048):
        found = ranks_among(src, tgt, 1000, product=product, block=block)
        assert found.tolist() == expected
    assert max(expected) > 5


def test_ranks_among_some_have_the_mean_of_the_draw():
    """a of N - 1 wrong ones are better: of m - 1 drawn, a (m - 1) / (N - 1) are so on average."""
    total, among = 400, 100
    queries = np.ones((total, 1), np.float32)
    candidates = np.arange(total, dtype=np.float32)[:, None]
    better = total - 1 - np.arange(total)
    found = np.mean(
        [ranks_among(queries, candidates, among, seed=seed) for seed in range(60)], axis=0
    )
    expected = 1 + better * (among - 1) / (total - 1)
    assert abs(found - expected).max() < 3.5  # the draw's deviation over sqrt(60) is at most 0.6
    assert abs(found - expected).mean() < 0.6
    assert found[-1] == 1
    assert found[0] == among


def test_ranks_among_is_the_same_whenever_it_is_asked():
    src, tgt = pairs(90, noise=3.0)
    np.testing.assert_array_equal(ranks_among(src, tgt, 20), ranks_among(src, tgt, 20))
    assert (ranks_among(src, tgt, 20) != ranks_among(src, tgt, 20, seed=1)).any()


def test_a_collapsed_encoder_is_last_among_all():
    same = np.ones((50, 4), np.float32)
    assert set(ranks_among(same, same, 20).tolist()) == {20}


def slow_weighted_f1(gold, predicted):
    """f1_score(gold, predicted, average="weighted") of scikit-learn, from its documentation: F1 of
    every label, and their mean weighted by the number of true instances of each."""
    total = 0.0
    for label in set(gold):
        pairs = list(zip(gold, predicted, strict=True))
        hits = sum(one == label == other for one, other in pairs)
        precision = hits / max(sum(other == label for other in predicted), 1)
        recall = hits / sum(one == label for one in gold)
        f1 = 2 * precision * recall / (precision + recall) if hits else 0.0
        total += sum(one == label for one in gold) * f1
    return total / len(gold)


def test_f1_is_the_weighted_mean_of_that_of_every_candidate():
    rng = np.random.default_rng(0)
    for size in (1, 3, 40):
        gold, predicted = rng.integers(0, 30, size), rng.integers(0, 30, size) - 3
        predicted = np.where(rng.random(size) < 0.5, gold, predicted)
        expected = slow_weighted_f1(gold.tolist(), predicted.tolist())
        assert weighted_f1(gold, predicted) == pytest.approx(expected, abs=1e-12)
    # rows 0 and 1 both find 0, row 2 itself: F1 of 0 is 2/3, of 1 it is 0, of 2 it is 1
    assert weighted_f1(np.arange(3), np.array([0, 0, 2])) == pytest.approx(5 / 9)


def test_equal_sentences_are_one_in_training_as_in_evaluation(tmp_path):
    """Four pairs, of which the last two say the same: each is found in the row of the other too."""
    offsets = np.array([0, 1, 3, 4, 5, 8, 9, 12, 13])
    tokens = np.array([5, 6, 7, 6, 7, 5, 5, 5, 4, 5, 5, 5, 4], np.uint16)
    split = Split(tokens, offsets, np.zeros(4, np.uint16), 2, tmp_path)
    labels = dev_texts(split)
    # sentences: [5] [6 7] | [6] [7] | [5 5 5] [4] | [5 5 5] [4]
    assert labels.tolist() == [[0, 1], [2, 3], [4, 5], [4, 5]]
    vectors = np.repeat(np.eye(4, dtype=np.float32)[[0, 1, 2, 2]][:, None], 2, axis=1)
    scores = dev_scores(vectors, np.array(["en-fr"] * 4), labels)
    assert scores == {"dev_p@1": 100, "dev_p@1/en-fr": 100}
    different = dev_scores(vectors, np.array(["en-fr"] * 4), np.arange(8).reshape(4, 2))
    assert different["dev_p@1"] == 50  # a tie between different sentences misses
    texts = ["a", "b", "c", "c"], ["d", "e", "f", "f"]
    assert precision_by_text(vectors[:, 0], vectors[:, 1], texts).mean == 1
