"""Alignment losses: closed forms, a float64 loop, eight devices."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from lightxling.objectives.contrast import cosine_alignment, dot_alignment, normalize


def cross_entropy_loop(logits):
    total = 0.0
    for matrix in (logits, logits.T):
        for i, row in enumerate(matrix):
            total += (np.log(np.sum(np.exp(row - row.max()))) + row.max() - row[i]) / len(matrix)
    return total


def vectors(rows=16, width=8, seed=0, scale=1.0):
    rng = np.random.default_rng(seed)
    return [scale * rng.normal(size=(rows, width)) for _ in range(2)]


def as_arrays(pair):
    return [jnp.array(x, jnp.float32) for x in pair]


def test_equal_vectors_cost_two_log_batch():
    same = jnp.ones((16, 8))
    np.testing.assert_allclose(dot_alignment(same, same), 2 * np.log(16), rtol=1e-6)
    cosine = cosine_alignment(same, same, temperature=0.05)
    np.testing.assert_allclose(cosine, 2 * np.log(16), rtol=1e-6)


def test_dot_alignment_equals_a_loop():
    src, tgt = vectors(scale=3)
    np.testing.assert_allclose(
        dot_alignment(*as_arrays((src, tgt))), cross_entropy_loop(src @ tgt.T), rtol=1e-5
    )


@pytest.mark.parametrize("margin", [0.0, 0.3])
def test_cosine_alignment_equals_a_loop(margin):
    src, tgt = vectors()
    unit = [x / np.linalg.norm(x, axis=1, keepdims=True) for x in (src, tgt)]
    logits = (unit[0] @ unit[1].T - margin * np.eye(len(src))) / 0.1
    loss = cosine_alignment(*as_arrays((src, tgt)), temperature=0.1, margin=margin)
    np.testing.assert_allclose(loss, cross_entropy_loop(logits), rtol=1e-5)


def test_cosine_alignment_ignores_norms():
    src, tgt = as_arrays(vectors())
    loss = functools.partial(cosine_alignment, temperature=0.1)
    np.testing.assert_allclose(loss(src, tgt), loss(7 * src, tgt / 3), rtol=1e-5)


def test_normalize_has_a_finite_gradient_at_zero():
    gradient = jax.grad(lambda x: normalize(x).sum())(jnp.zeros((1, 4)))
    assert np.isfinite(gradient).all()


@pytest.mark.parametrize(
    "loss", [dot_alignment, functools.partial(cosine_alignment, temperature=0.2)]
)
def test_gradient_is_the_same_on_eight_devices(mesh, loss):
    src, tgt = as_arrays(vectors())
    gradient = jax.jit(jax.grad(loss))
    split = jax.device_put((src, tgt), NamedSharding(mesh, P("data")))
    np.testing.assert_allclose(gradient(*split), gradient(src, tgt), atol=1e-6)
