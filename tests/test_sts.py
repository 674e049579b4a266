import math

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from jaxtyping import TypeCheckError

from lightxling.base.errors import UserError
from lightxling.evaluate.similarity import (
    Correlation,
    average_ranks,
    eigen_similarity,
    language_bias,
    laplacians,
    pair_similarity,
    pearson,
    rsim,
    spearman,
    sts,
)

UNPAIRED = (ValueError, TypeCheckError)  # by our own check, or by the shape annotations


def slow_pearson(x, y):
    mx, my = math.fsum(x) / len(x), math.fsum(y) / len(y)
    over = math.fsum((a - mx) * (b - my) for a, b in zip(x, y, strict=True))
    under = math.fsum((a - mx) ** 2 for a in x) * math.fsum((b - my) ** 2 for b in y)
    return over / math.sqrt(under)


def slow_ranks(values):
    return [
        sum(other < value for other in values) + (sum(other == value for other in values) + 1) / 2
        for value in values
    ]


def slow_cosine(x, y):
    return math.fsum(a * b for a, b in zip(x, y, strict=True)) / math.sqrt(
        math.fsum(a * a for a in x) * math.fsum(b * b for b in y)
    )


def encoded(rows=40, width=6, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(2, rows, width)).astype(np.float32)


@pytest.mark.parametrize("similarity", ["cosine", "angular"])
def test_sts_equals_float64_loops(similarity):
    first, second = encoded()
    scores = np.random.default_rng(1).integers(0, 6, 40)  # many ties
    cosines = [slow_cosine(x, y) for x, y in zip(first.tolist(), second.tolist(), strict=True)]
    predicted = cosines if similarity == "cosine" else [-math.acos(c) for c in cosines]
    result = sts(first, second, scores, similarity)
    assert result.pairs == 40
    np.testing.assert_allclose(result.pearson, slow_pearson(predicted, scores), atol=1e-6)
    expected = slow_pearson(slow_ranks(predicted), slow_ranks(scores.tolist()))
    np.testing.assert_allclose(result.spearman, expected, atol=1e-9)


def test_worked_example():
    first = np.array([[1.0, 0.0]] * 3)
    second = np.array([[1.0, 0.0], [0.0, 2.0], [-3.0, 0.0]])
    # Cosines 1, 0, -1; scores 5, 3, 0: covariance 5, squares 2 and 38/3.
    expected = 5 / math.sqrt(2 * 38 / 3)
    result = sts(first, second, np.array([5, 3, 0]))
    assert (result.spearman, result.pairs) == (1.0, 3)
    assert result.pearson == pytest.approx(expected)
    np.testing.assert_allclose(pair_similarity(first, second), [1, 0, -1], atol=1e-7)
    angles = pair_similarity(first, second, "angular")
    np.testing.assert_allclose(angles, [0, -math.pi / 2, -math.pi], atol=1e-3)


def test_angular_changes_pearson_but_not_spearman():
    first, second = encoded(seed=3)
    second += first
    scores = np.random.default_rng(0).normal(size=40)
    cosine, angular = sts(first, second, scores), sts(first, second, scores, "angular")
    assert cosine.spearman == angular.spearman
    assert abs(cosine.pearson - angular.pearson) > 1e-3


def test_collapsed_and_zero_vectors_score_zero():
    scores = np.arange(30)
    same = np.tile(np.random.default_rng(0).normal(size=(1, 512)), (30, 1))
    assert sts(same, same, scores) == Correlation(0.0, 0.0, 30)
    zeros = np.zeros((30, 4))
    assert sts(zeros, same[:, :4], scores, "angular") == Correlation(0.0, 0.0, 30)
    assert rsim(same, encoded(30, 512)[0]) == 0


@given(
    arrays(np.int64, st.integers(2, 30), elements=st.integers(0, 5)),
    st.integers(0, 1000),
)
@settings(max_examples=50, deadline=None)
def test_ranks_and_correlations_agree_with_scipy(x, seed):
    y = np.random.default_rng(seed).normal(size=len(x))
    np.testing.assert_allclose(average_ranks(x), scipy.stats.rankdata(x))
    if np.ptp(x) == 0:
        assert spearman(x, y) == pearson(x, y) == 0
    else:
        np.testing.assert_allclose(spearman(x, y), scipy.stats.spearmanr(x, y)[0], atol=1e-9)
        np.testing.assert_allclose(pearson(x, y), scipy.stats.pearsonr(x, y)[0], atol=1e-9)


def test_one_pair_has_no_correlation():
    assert sts(np.ones((1, 2)), np.ones((1, 2)), np.array([3.0])) == Correlation(0.0, 0.0, 1)


def test_rsim_equals_a_loop_over_pairs_of_sentences():
    src, tgt = encoded(12)
    pairs = [(i, j) for i in range(12) for j in range(i)]
    expected = slow_pearson(
        [slow_cosine(src[i].tolist(), src[j].tolist()) for i, j in pairs],
        [slow_cosine(tgt[i].tolist(), tgt[j].tolist()) for i, j in pairs],
    )
    np.testing.assert_allclose(rsim(src, tgt), expected, atol=1e-6)


def test_rsim_does_not_see_a_rotation():
    src = encoded(30, 6)[0]
    rotation = np.linalg.qr(np.random.default_rng(1).normal(size=(6, 6)))[0]
    np.testing.assert_allclose(rsim(src, 3 * src @ rotation), 1, atol=1e-6)
    assert abs(rsim(*encoded(200, 6))) < 0.1


def test_language_bias_by_hand():
    # Each pair is ranked perfectly, but all similarities of the second lie above the first's.
    similarities = [np.array([0.1, 0.2, 0.3]), np.array([0.7, 0.8, 0.9])]
    scores = [np.array([1, 2, 3]), np.array([1, 2, 3])]
    # Ranks 1..6 against 1.5 3.5 5.5 1.5 3.5 5.5: covariance 8, squares 17.5 and 16.
    result = language_bias(similarities, scores)
    pooled = 8 / math.sqrt(17.5 * 16)
    assert result == {
        "separate": pytest.approx(1),
        "pooled": pytest.approx(pooled),
        "bias": pytest.approx(1 - pooled),
    }


def test_mistakes_are_named():
    first, second = encoded()
    with pytest.raises(UserError, match="similarity='dot' is not one of cosine, angular"):
        sts(first, second, np.zeros(40), "dot")
    with pytest.raises(UNPAIRED):
        sts(first, second, np.zeros(39))
    with pytest.raises(UNPAIRED):
        sts(first, second[:39], np.zeros(40))


def on_circle(*degrees):
    angles = np.radians(np.array(degrees, np.float64))
    return np.stack([np.cos(angles), np.sin(angles)], axis=1)


def test_eigen_similarity_of_a_path_and_two_edges():
    """Spectra (0, 2 - r, 2, 2 + r) and (0, 0, 2, 2) with r the root of 2: (2 - r)^2 + r^2."""
    path, edges = on_circle(0, 40, 70, 90), on_circle(0, 5, 90, 95)
    root = math.sqrt(2)
    expected = (2 - root) ** 2 + root**2
    assert eigen_similarity(path, edges, pairs=4, samples=3) == pytest.approx(expected)
    joined = -np.array([[0, 1, 0, 0], [1, 0, 1, 0], [0, 1, 0, 1], [0, 0, 1, 0]])
    np.testing.assert_array_equal(laplacians(path[None], 1)[0], joined + np.diag([1, 2, 2, 1]))


def test_eigen_similarity_is_zero_for_a_rotation_and_grows_with_noise():
    rng = np.random.default_rng(0)
    src = rng.normal(size=(60, 8))
    turn = np.linalg.qr(rng.normal(size=(8, 8)))[0]
    assert eigen_similarity(src, 3 * src @ turn, samples=50) == pytest.approx(0, abs=1e-20)
    noisy = [
        eigen_similarity(src, src @ turn + noise * rng.normal(size=src.shape), samples=300)
        for noise in (0.1, 0.4, 2.0)
    ]
    assert 0 < noisy[0] < noisy[1] < noisy[2]


def test_laplacians_equal_a_loop():
    """Float64, three neighbours, two samples of six."""
    vectors = np.random.default_rng(0).normal(size=(2, 6, 5))
    for found, x in zip(laplacians(vectors, 3), vectors, strict=True):
        expected = np.zeros((6, 6))
        for i in range(6):
            for j in sorted((j for j in range(6) if j != i), key=lambda j: -x[i] @ x[j])[:3]:
                expected[i, j] = expected[j, i] = -1
        np.fill_diagonal(expected, -expected.sum(axis=1))
        np.testing.assert_array_equal(found, expected)


def test_eigen_similarity_needs_enough_sentences():
    few = np.ones((5, 3))
    with pytest.raises(ValueError, match="5 rows give no samples of 10"):
        eigen_similarity(few, few)
