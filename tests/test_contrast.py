"""Alignment losses: closed forms, a float64 loop, eight devices."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from lightxling.objectives.contrast import alignment, unit_rows


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


@pytest.mark.parametrize("similarity", ["dot", "cosine"])
def test_equal_vectors_cost_two_log_batch(similarity):
    same = jnp.ones((16, 8))
    loss = alignment(same, same, similarity=similarity, temperature=0.05)
    np.testing.assert_allclose(loss, 2 * np.log(16), rtol=1e-5)


@pytest.mark.parametrize("similarity", ["dot", "cosine"])
@pytest.mark.parametrize(("temperature", "margin"), [(1.0, 0.0), (0.1, 0.0), (0.5, 0.3)])
def test_alignment_equals_a_loop(similarity, temperature, margin):
    src, tgt = vectors()
    unit = [x / np.linalg.norm(x, axis=1, keepdims=True) for x in (src, tgt)]
    a, b = unit if similarity == "cosine" else (src, tgt)
    logits = (a @ b.T - margin * np.eye(len(src))) / temperature
    settings = {"similarity": similarity, "temperature": temperature, "margin": margin}
    loss = alignment(*as_arrays((src, tgt)), **settings)
    np.testing.assert_allclose(loss, cross_entropy_loop(logits), rtol=1e-5)


def test_cosine_alignment_ignores_norms():
    src, tgt = as_arrays(vectors())
    loss = functools.partial(alignment, temperature=0.1)
    np.testing.assert_allclose(loss(src, tgt), loss(7 * src, tgt / 3), rtol=1e-5)


def test_unit_rows_has_a_finite_gradient_at_zero():
    gradient = jax.grad(lambda x: unit_rows(x).sum())(jnp.zeros((1, 4)))
    assert np.isfinite(gradient).all()


@pytest.mark.parametrize("similarity", ["dot", "cosine"])
def test_gradient_is_the_same_on_eight_devices(mesh, similarity):
    src, tgt = as_arrays(vectors())
    loss = functools.partial(alignment, similarity=similarity, temperature=0.2)
    gradient = jax.jit(jax.grad(loss))
    split = jax.device_put((src, tgt), NamedSharding(mesh, P("data")))
    np.testing.assert_allclose(gradient(*split), gradient(src, tgt), atol=1e-6)
