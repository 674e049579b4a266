import math

import jax
import numpy as np
import pytest
import scipy.optimize

from lightxling.evaluate.classification import (
    LASER,
    NLI,
    MlpHead,
    _apply,
    _init,
    concatenated,
    confusion_matrix,
    fit_logistic,
    fit_mlp,
    macro_f1,
    score_heads,
)

QUICK = MlpHead(epochs=25, learning_rate=1e-2)


def documents(rows, seed, classes=3, width=8, noise=0.7):
    """Vectors around one centre per class, the same centres for every seed."""
    centres = np.random.default_rng(99).normal(size=(classes, width))
    rng = np.random.default_rng(seed)
    labels = np.arange(rows) % classes
    vectors = centres[labels] + noise * rng.normal(size=(rows, width))
    return vectors.astype(np.float32), labels


TRAIN, DEV, TEST = documents(90, 0), documents(45, 1), documents(60, 2)


def slow_macro_f1(labels, predicted):
    scores = []
    for c in sorted(set(labels) | set(predicted)):
        both = list(zip(labels, predicted, strict=True))
        hits = sum(t == p == c for t, p in both)
        scores.append(2 * hits / (sum(t == c for t, _ in both) + sum(p == c for _, p in both)))
    return math.fsum(scores) / len(scores)


def test_scores_equal_counting_by_hand():
    labels = np.array([0, 0, 1, 1])
    predicted = np.array([[0, 1, 1, 1], [0, 0, 1, 1], [1, 1, 0, 0]])
    result = score_heads(predicted, labels, 3)  # class 2 neither occurs nor is assigned
    assert result.accuracies == [0.75, 1.0, 0.0]
    assert result.accuracy == pytest.approx(1.75 / 3)
    assert result.accuracy_sd == pytest.approx(np.std([0.75, 1, 0], ddof=1))
    # first seed: F1 of class 0 is 2 * 1 / 3, of class 1 is 2 * 2 / 5
    assert result.macro_f1 == pytest.approx(((2 / 3 + 4 / 5) / 2 + 1 + 0) / 3)
    np.testing.assert_allclose(result.confusion, [[1, 1, 0], [2 / 3, 4 / 3, 0], [0, 0, 0]])
    assert result.documents == 4


def test_one_seed_has_no_spread():
    result = score_heads(np.array([[0, 1]]), np.array([0, 1]), 2)
    assert (result.accuracy, result.accuracy_sd, result.macro_f1_sd) == (1.0, 0.0, 0.0)


def test_macro_f1_and_confusion_equal_a_loop():
    rng = np.random.default_rng(0)
    for _ in range(20):
        labels, predicted = rng.integers(0, 5, (2, int(rng.integers(1, 25))))
        table = confusion_matrix(labels, predicted, 5)
        for t in range(5):
            for p in range(5):
                both = zip(labels, predicted, strict=True)
                assert table[t, p] == sum((a, b) == (t, p) for a, b in both)
        assert macro_f1(table) == pytest.approx(slow_macro_f1(labels.tolist(), predicted.tolist()))


def test_a_class_absent_from_the_test_counts_when_it_is_assigned():
    # 3 of 4 right; class 1 has F1 0, class 0 has 6/7
    table = confusion_matrix(np.zeros(4, int), np.array([0, 0, 0, 1]), 2)
    assert macro_f1(table) == pytest.approx(3 / 7)


def test_logistic_regression_reaches_the_optimum_of_its_formula():
    (x, y), dev = TRAIN, DEV
    fitted = fit_logistic(x, y, *dev, classes=3, strengths=(0.5,))
    unit = x.astype(np.float64) / np.linalg.norm(x.astype(np.float64), axis=1, keepdims=True)
    centred = unit - unit.mean(axis=0)

    def loss(flat):
        kernel, bias = flat[:24].reshape(8, 3), flat[24:]
        total = (kernel**2).sum() / (2 * 0.5)
        for row, label in zip(centred @ kernel + bias, y, strict=True):
            total += np.log(np.sum(np.exp(row - row.max()))) + row.max() - row[label]
        return total

    best = scipy.optimize.minimize(loss, np.zeros(27), method="BFGS").x
    points = documents(5000, 4)[0]  # many, so that a shifted boundary shows
    test = points / np.linalg.norm(points, axis=1, keepdims=True) - unit.mean(axis=0)
    expected = (test @ best[:24].reshape(8, 3) + best[24:]).argmax(1)
    assert np.mean(fitted.predict(points)[0] != expected) <= 0.001


def test_strength_is_chosen_on_dev_the_smallest_of_equals():
    train, dev = documents(90, 5, noise=3.0), documents(45, 6, noise=3.0)
    each = [
        fit_logistic(*train, *dev, classes=3, strengths=(c,)).dev_accuracy.item()
        for c in (0.1, 1e3)
    ]
    assert each[0] != each[1]
    fitted = fit_logistic(*train, *dev, classes=3, strengths=(0.1, 1e3))
    assert fitted.chosen == (0.1, 1e3)[each[1] > each[0]]
    assert fitted.dev_accuracy == max(each)
    assert fit_logistic(*train, *dev, classes=3, strengths=(1.0, 1.0 + 1e-6)).chosen == 1.0


@pytest.fixture(scope="module")
def three_seeds():
    return fit_mlp(*TRAIN, *DEV, classes=3, seeds=(7, 8, 9), head=QUICK)


def test_mlp_learns_and_seeds_differ(three_seeds):
    predicted = three_seeds.predict(TEST[0])
    assert predicted.shape == (3, 60)
    assert score_heads(predicted, TEST[1], 3).accuracy > 0.7
    assert not np.array_equal(predicted[0], predicted[2])


def test_a_seed_trained_beside_others_equals_one_trained_alone(three_seeds):
    alone = fit_mlp(*TRAIN, *DEV, classes=3, seeds=(8,), head=QUICK)
    np.testing.assert_allclose(three_seeds.dev_accuracy[1], alone.dev_accuracy[0], atol=0.05)
    assert np.mean(three_seeds.predict(TEST[0])[1] == alone.predict(TEST[0])[0]) > 0.95


def test_dev_accuracy_is_that_of_the_kept_parameters(three_seeds):
    right = np.mean(three_seeds.predict(DEV[0]) == DEV[1], axis=1)
    np.testing.assert_allclose(right, three_seeds.dev_accuracy, atol=1e-6)
    assert np.all((three_seeds.chosen >= 1) & (three_seeds.chosen <= QUICK.epochs))


def test_last_of_equally_good_epochs_is_kept():
    # With a learning rate of 0 every epoch is equally good.
    still = MlpHead(epochs=6, learning_rate=0.0)
    assert fit_mlp(*TRAIN, *DEV, classes=3, seeds=(0,), head=still).chosen == [6]


def test_forward_pass_equals_a_float64_loop():
    params = _init(np.random.default_rng(0), (8, 10, 8, 3))
    x = TEST[0][:5]
    expected = x.astype(np.float64)
    for i, layer in enumerate(params):
        expected = np.tanh(expected) if i else expected
        expected = expected @ np.float64(layer["kernel"]) + np.float64(layer["bias"])
        bound = len(layer["kernel"]) ** -0.5
        assert 0.9 * bound < np.abs(layer["kernel"]).max() <= bound
    np.testing.assert_allclose(_apply(params, x), expected, rtol=1e-5, atol=1e-6)


def test_dropout_keeps_the_mean():
    params = [{"kernel": np.ones((4000, 1), np.float32), "bias": np.zeros(1, np.float32)}]
    kept = _apply(params, np.ones((1, 4000), np.float32), 0.25, jax.random.key(0))
    np.testing.assert_allclose(kept, 4000, rtol=0.05)
    assert not np.isclose(kept.item(), 4000, rtol=1e-6)


def test_training_equals_adam_by_hand_with_a_short_last_batch():
    x, y = documents(5, 3)
    head = MlpHead((), dropout=0.0, batch_size=2, epochs=3, learning_rate=0.1)
    never = np.zeros((1, 8), np.float32), np.array([3])  # no epoch gets it right: the last is kept
    fitted = fit_mlp(x, y, *never, classes=4, seeds=(4,), head=head)
    assert fitted.chosen == [3]

    random = np.random.default_rng(4)
    (layer,) = _init(random, (8, 4))
    w = np.concatenate([np.float64(layer["kernel"]), np.float64(layer["bias"])[None]])
    first, second, t = np.zeros_like(w), np.zeros_like(w), 0
    ones = np.concatenate([np.float64(x), np.ones((5, 1))], axis=1)
    for _ in range(3):
        order = random.permutation(5)
        random.integers(2**32, dtype=np.uint32)  # for the dropout
        for rows in (order[:2], order[2:4], order[4:]):
            p = np.exp(ones[rows] @ w)
            p /= p.sum(axis=1, keepdims=True)
            grad = ones[rows].T @ (p - np.eye(4)[y[rows]]) / len(rows)
            t += 1
            first, second = 0.9 * first + 0.1 * grad, 0.999 * second + 0.001 * grad**2
            w -= 0.1 * (first / (1 - 0.9**t)) / (np.sqrt(second / (1 - 0.999**t)) + 1e-8)
    np.testing.assert_allclose(fitted.params[0]["kernel"][0], w[:8], rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(fitted.params[0]["bias"][0], w[8], rtol=1e-3, atol=1e-4)


def test_nli_features_by_hand_and_head_over_pairs():
    u, v = np.array([[1.0, -2.0]]), np.array([[3.0, 0.5]])
    np.testing.assert_allclose(concatenated((u, v)), [[1, -2, 3, 0.5, 2, 2.5, 3, -1]])
    rng = np.random.default_rng(0)
    first = rng.normal(size=(120, 6)).astype(np.float32)
    labels = np.arange(120) % 2
    second = np.where(labels[:, None], first, -first)  # the same, or the opposite
    head = MlpHead((16,), 0.1, 16, 30, 1e-2, concatenated)
    pair, rest = (first[:80], second[:80]), (first[80:], second[80:])
    fitted = fit_mlp(pair, labels[:80], rest, labels[80:], classes=2, seeds=(0, 1), head=head)
    assert score_heads(fitted.predict(rest), labels[80:], 2).accuracy > 0.9


def test_published_heads():
    assert (LASER.hidden, LASER.dropout, LASER.batch_size, LASER.epochs) == ((10, 8), 0.2, 12, 500)
    assert (NLI.hidden, NLI.dropout, NLI.batch_size, NLI.epochs) == ((512, 384), 0.3, 128, 200)


def test_mistakes_are_named():
    with pytest.raises(ValueError, match=r"training: 2 labels for \[3\] vectors"):
        fit_mlp(np.ones((3, 2)), np.array([0, 1]), *DEV, classes=3)
    with pytest.raises(ValueError, match=r"development: labels lie in 0 to 3, not in 0 to 2"):
        fit_mlp(*TRAIN, np.ones((4, 8)), np.arange(4), classes=3)


def test_zero_vectors_are_classified_without_nan():
    zeros, labels = np.zeros((90, 8), np.float32), np.repeat([0, 0, 1, 0, 2], 18)
    dev = zeros[:45], labels[:45]
    for fitted in (
        fit_logistic(zeros, labels, *dev, classes=3, strengths=(0.5,)),
        fit_mlp(zeros, labels, *dev, classes=3, seeds=(7, 8, 9), head=QUICK),
    ):
        assert np.all(fitted.predict(zeros) == 0)
