"""The similarity task: safe form against the printed one, and where the printed one breaks."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lightxling.objectives.similarity import similarity_matching, softmax_and_complement


def softmax(z):
    e = np.exp(z - z.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def printed_form(src, tgt):
    """-sum log cos(pi/2 (P1 - P2)), in float64."""
    return -np.sum(np.log(np.cos(np.pi / 2 * (softmax(src @ src.T) - softmax(tgt @ tgt.T)))))


def vectors(scale, rows=6, width=4, seed=0):
    rng = np.random.default_rng(seed)
    return scale * rng.normal(size=(2, rows, width))


@pytest.mark.parametrize("scale", [0.1, 0.5, 1.0])
def test_safe_form_equals_the_printed_one_on_mild_input(scale):
    src, tgt = vectors(scale)
    loss = similarity_matching(*jnp.array((src, tgt), jnp.float32), eps=1e-7)
    np.testing.assert_allclose(loss, printed_form(src, tgt), rtol=2e-5, atol=1e-6)


def test_mean_divides_by_the_cells():
    src, tgt = jnp.array(vectors(0.5), jnp.float32)
    total = similarity_matching(src, tgt)
    np.testing.assert_allclose(
        similarity_matching(src, tgt, reduction="mean"), total / 36, rtol=1e-6
    )


def test_agreement_costs_nothing():
    src = jnp.array(vectors(1.0)[0], jnp.float32)
    np.testing.assert_allclose(similarity_matching(src, src), 0, atol=1e-5)


def test_opposite_certainty_is_finite_and_bounded():
    """P1 = I and P2 = a permuted I: the printed form takes the logarithm of a negative number."""
    one_hot = 40 * np.eye(4)
    src, tgt = one_hot, np.stack([one_hot[0], one_hot[0], one_hot[1], one_hot[1]])
    eps = 1e-5
    arrays = jnp.array((src, tgt), jnp.float32)
    loss, gradient = jax.value_and_grad(lambda x: similarity_matching(*x, eps=eps))(arrays)
    assert np.isfinite(loss)
    assert np.isfinite(gradient).all()
    assert loss <= 16 * -np.log(np.sin(np.pi / 2 * eps))


def test_complement_is_exact_near_one():
    logits = np.array([[20.0, 0.0, -1.0]])
    exact = np.sum(softmax(logits)[0, 1:])
    _, complement = softmax_and_complement(jnp.array(logits, jnp.float32))
    np.testing.assert_allclose(complement[0, 0], exact, rtol=1e-5)


def test_gradient_equals_finite_differences():
    src, tgt = vectors(0.7)
    gradient = jax.grad(similarity_matching)(*jnp.array((src, tgt), jnp.float32), eps=1e-7)
    direction = np.random.default_rng(1).normal(size=src.shape)
    step = 1e-6 * direction
    slope = (printed_form(src + step, tgt) - printed_form(src - step, tgt)) / 2e-6
    assert np.sum(np.array(gradient) * direction) == pytest.approx(slope, rel=1e-3)
