"""The optimiser and its schedule against the rules they claim to follow."""

import dataclasses
import functools
import typing

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from lightxling.config.objectives import ObjectivesConfig
from lightxling.config.plan import MAIN
from lightxling.config.schema import ModelConfig, OptimizerConfig
from lightxling.model import build as models
from lightxling.model import parts
from lightxling.objectives.combine import heads_of
from lightxling.train.memory import size
from lightxling.train.optimizer import learning_rate, make_optimizer, scale_by_amsgrad

REFERENCE = OptimizerConfig()


def pytorch_amsgrad(start, gradients, *, lr, l2, beta1=0.9, beta2=0.999, eps=1e-8):
    """torch.optim.Adam(amsgrad=True, weight_decay=l2), written out in float64."""
    x = np.array(start, np.float64)
    m, v, highest = np.zeros_like(x), np.zeros_like(x), np.zeros_like(x)
    for t, gradient in enumerate(gradients, 1):
        g = gradient + l2 * x
        m = beta1 * m + (1 - beta1) * g
        v = beta2 * v + (1 - beta2) * g * g
        highest = np.maximum(highest, v)
        denominator = np.sqrt(highest) / np.sqrt(1 - beta2**t) + eps
        x = x - lr / (1 - beta1**t) * m / denominator
    return x


def run(transformation, start, gradients):
    params = {"w": jnp.array(start, jnp.float32)}
    state = transformation.init(params)
    for gradient in gradients:
        grads = {"w": jnp.array(gradient, jnp.float32)}
        updates, state = transformation.update(grads, state, params)
        params = optax.apply_updates(params, updates)
    return np.array(params["w"])


def problem(steps=10):
    """Gradients that shrink, so that the maximum of the second moment matters."""
    rng = np.random.default_rng(0)
    start = rng.normal(size=(3, 4))
    return start, [rng.normal(size=(3, 4)) * 2.0**-t for t in range(steps)]


def test_ten_steps_of_amsgrad_with_l2_equal_pytorch_s_rule():
    start, gradients = problem()
    config = dataclasses.replace(REFERENCE, l2=1e-2)
    ours = run(make_optimizer(config, optax.constant_schedule(1e-3)), start, gradients)
    expected = pytorch_amsgrad(start, gradients, lr=1e-3, l2=1e-2)
    np.testing.assert_allclose(ours - start, expected - start, rtol=2e-4)


@pytest.mark.parametrize("name", ["amsgrad", "adamw"])
def test_the_head_of_a_task_counts_its_own_steps(name):
    """Its first step is as long as a first step is, whenever it comes: lr sign(g)."""
    optimizer = make_optimizer(
        dataclasses.replace(REFERENCE, name=name, l2=0.0), optax.constant_schedule(0.1)
    )
    params = {"encoder": jnp.ones(3), "tasks": {"nli": {"inference": jnp.zeros(2)}}}
    gradient = {"encoder": jnp.ones(3), "inference": jnp.array([2.0, -0.5])}

    def step(params, state, task):
        own = parts.own((params, state), task)
        grads = {name: gradient[name] for name in own[0]}
        updates, new = optimizer.update(grads, own[1], own[0])
        return parts.put((params, state), (optax.apply_updates(own[0], updates), new), task)

    state = optimizer.init(params)
    for _ in range(100):
        params, state = step(params, state, MAIN)
    np.testing.assert_allclose(params["encoder"], 1 - 100 * 0.1, rtol=1e-3)
    params, state = step(params, state, "nli")
    np.testing.assert_allclose(params["tasks"]["nli"]["inference"], [-0.1, 0.1], rtol=1e-4)


def test_optax_s_amsgrad_is_another_rule():
    start, gradients = problem()
    expected = pytorch_amsgrad(start, gradients, lr=1e-3, l2=0)
    with jax.numpy_dtype_promotion("standard"):  # both raise a decay to the number of steps
        ours, theirs = (
            run(optax.chain(rule(0.9, 0.999, 1e-8), optax.scale(-1e-3)), start, gradients)
            for rule in (scale_by_amsgrad, optax.scale_by_amsgrad)
        )
    np.testing.assert_allclose(ours - start, expected - start, rtol=2e-4)
    assert np.abs(theirs - expected).max() > 10 * np.abs(ours - expected).max()


def test_learning_rate_of_the_paper():
    """Linear over 1999 steps, a tenth from the third epoch on."""
    schedule = learning_rate(REFERENCE, steps=50_000, steps_per_epoch=4000)
    expected = {0: 1e-3 / 1999, 999: 1e-3 * 1000 / 1999, 1998: 1e-3, 1999: 1e-3}
    expected |= {3 * 4000 - 1: 1e-3, 3 * 4000: 1e-4}
    for step, rate in expected.items():
        assert float(schedule(step)) == pytest.approx(rate, rel=1e-5)


@pytest.mark.parametrize(("name", "middle"), [("cosine", 0.5), ("linear", 0.5), ("constant", 1.0)])
def test_schedules_start_at_the_peak_and_end_where_they_should(name, middle):
    config = dataclasses.replace(REFERENCE, schedule=name, warmup_steps=10, learning_rate=1.0)
    schedule = learning_rate(config, steps=110, steps_per_epoch=5)
    assert float(schedule(4)) == pytest.approx(0.5)
    assert float(schedule(10)) == pytest.approx(1.0, abs=1e-6)
    assert float(schedule(60)) == pytest.approx(middle, abs=1e-6)
    assert float(schedule(110)) == pytest.approx(1.0 if name == "constant" else 0.0, abs=1e-6)


def test_linear_decay_is_the_one_of_the_papers_that_have_it():
    """transformers' get_linear_schedule_with_warmup: (T - t) / (T - W) after the warm-up, from 1 at
    its end; without warm-up that is 1 - t / T, over whichever steps it is said to run."""
    config = dataclasses.replace(REFERENCE, schedule="linear", warmup_steps=10, learning_rate=1.0)
    schedule = learning_rate(config, steps=50, steps_per_epoch=5)
    for t in range(10, 50):
        assert float(schedule(t)) == pytest.approx((50 - t) / (50 - 10), abs=1e-6)
    for over in ("rest", "all"):
        config = dataclasses.replace(config, warmup_steps=0, decay_over=over)
        schedule = learning_rate(config, steps=50, steps_per_epoch=5)
        for t in (0, 1, 25, 49):
            assert float(schedule(t)) == pytest.approx(1 - t / 50, abs=1e-6)


def test_decoupled_decay_acts_on_matrices_only():
    config = OptimizerConfig(name="adamw", l2=0.0, weight_decay=0.1)
    optimizer = make_optimizer(config, optax.constant_schedule(1.0))
    params = {"kernel": jnp.ones((2, 2)), "bias": jnp.ones(2)}
    updates, _ = optimizer.update(
        jax.tree.map(jnp.zeros_like, params), optimizer.init(params), params
    )
    np.testing.assert_allclose(updates["kernel"], -0.1, rtol=1e-6)
    np.testing.assert_array_equal(updates["bias"], 0)


def test_clipping_bounds_the_global_norm():
    start, gradients = problem(1)
    config = OptimizerConfig(
        name="adamw", l2=0.0, clip=1e-3, eps=1.0
    )  # eps keeps the scale visible
    moved = run(make_optimizer(config, optax.constant_schedule(1.0)), start, gradients)
    assert np.linalg.norm(moved - start) == pytest.approx(1e-3, rel=1e-2)


RULES = {"amsgrad": 12, "adamw": 8, "lion": 4, "sgd": 4, "adafactor": 0}


def state_bytes_per_parameter(config: OptimizerConfig) -> float:
    """Of a model of the usual size; nothing is allocated."""
    shapes = jax.eval_shape(
        functools.partial(
            models.initialise, ModelConfig(), 50_000, heads=heads_of(ObjectivesConfig(), 2)
        ),
        jax.random.key(0),
    )
    optimizer = make_optimizer(config, optax.constant_schedule(1.0))
    return size(jax.eval_shape(optimizer.init, shapes)) / models.count_parameters(shapes)


@pytest.mark.parametrize("name", typing.get_args(typing.get_type_hints(OptimizerConfig)["name"]))
def test_bytes_of_state_per_parameter(name):
    """The table of the documentation."""
    found = state_bytes_per_parameter(OptimizerConfig(name=name))
    assert found == pytest.approx(RULES[name], abs=0.02)


def test_sgd_without_momentum_has_no_state():
    assert state_bytes_per_parameter(OptimizerConfig(name="sgd", beta1=0.0)) < 1e-3


def test_lion_is_the_sign_of_interpolated_momentum():
    start, gradients = problem()
    config = OptimizerConfig(name="lion", beta1=0.9, beta2=0.99, l2=0.0)
    ours = run(make_optimizer(config, optax.constant_schedule(1e-3)), start, gradients)
    x, m = start.copy(), np.zeros_like(start)
    for g in gradients:
        x -= 1e-3 * np.sign(0.9 * m + 0.1 * g)
        m = 0.99 * m + 0.01 * g
    np.testing.assert_allclose(ours, x, atol=1e-6)


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_sgd_is_heavy_ball_with_l2(momentum):
    start, gradients = problem()
    config = OptimizerConfig(name="sgd", beta1=momentum, l2=0.1)
    ours = run(make_optimizer(config, optax.constant_schedule(1e-2)), start, gradients)
    x, m = start.copy(), np.zeros_like(start)
    for g in gradients:
        m = momentum * m + g + 0.1 * x
        x = x - 1e-2 * m
    np.testing.assert_allclose(ours, x, atol=1e-6)


def test_adafactor_divides_by_the_product_of_row_and_column_means():
    """Algorithm 4 without relative step sizes, on a matrix that is large enough to be factored."""
    rng = np.random.default_rng(0)
    start, gradients = rng.normal(size=(128, 130)), rng.normal(size=(3, 128, 130))
    gradients[1] *= 10  # so that clipping acts
    config = OptimizerConfig(name="adafactor", l2=0.0)
    ours = run(make_optimizer(config, optax.constant_schedule(1e-2)), start, gradients)
    x, rows, columns = start.copy(), np.zeros((128, 1)), np.zeros((1, 130))
    for t, g in enumerate(gradients, 1):
        beta = 1 - t**-0.8
        rows = beta * rows + (1 - beta) * (g * g).mean(axis=1, keepdims=True)
        columns = beta * columns + (1 - beta) * (g * g).mean(axis=0, keepdims=True)
        u = g / np.sqrt(rows * columns / rows.mean())
        x -= 1e-2 * u / max(1, np.sqrt((u * u).mean()))
    np.testing.assert_allclose(ours - start, x - start, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("name", list(RULES))
def test_decay_and_schedule_are_the_same_for_every_rule(name):
    """Without a gradient only decoupled decay is left, times the learning rate."""
    config = OptimizerConfig(name=name, l2=0.0, weight_decay=0.1, learning_rate=0.5, clip=1.0)
    params = {"kernel": jnp.ones((2, 2)), "bias": jnp.ones(2)}
    config = dataclasses.replace(config, warmup_steps=10)
    optimizer = make_optimizer(config, learning_rate(config, steps=20, steps_per_epoch=5))
    zeros = jax.tree.map(jnp.zeros_like, params)
    updates, _ = optimizer.update(zeros, optimizer.init(params), params)
    np.testing.assert_allclose(updates["kernel"], -0.1 * 0.5 / 10, rtol=1e-6)
    np.testing.assert_array_equal(updates["bias"], 0)


def test_the_gradient_of_embeddings_alone_is_multiplied():
    config = OptimizerConfig(
        name="sgd", beta1=0.0, l2=0.0, learning_rate=0.1, embedding_gradient=100.0, warmup_steps=0
    )
    optimizer = make_optimizer(config, optax.constant_schedule(0.1))
    ones = jnp.ones((2, 2))
    params = {
        "encoder": {"words": ones, "ngrams": ones, "positions": ones, "blocks": {0: ones}},
        "token_head": {"words": ones},
    }
    updates, _ = optimizer.update(params, optimizer.init(params), params)
    leaves = jax.tree_util.tree_leaves_with_path(updates)
    moved = {jax.tree_util.keystr(path): float(leaf[0, 0]) for path, leaf in leaves}
    assert moved == {
        "['encoder']['words']": pytest.approx(-10.0),
        "['encoder']['ngrams']": pytest.approx(-10.0),
        "['encoder']['positions']": pytest.approx(-0.1),
        "['encoder']['blocks'][0]": pytest.approx(-0.1),
        "['token_head']['words']": pytest.approx(-0.1),
    }


def test_without_a_factor_the_state_is_what_it_was():
    """Checkpoints of earlier runs keep their form."""
    plain, scaled = (
        make_optimizer(OptimizerConfig(embedding_gradient=f), optax.constant_schedule(1.0))
        for f in (1.0, 2.0)
    )
    params = {"encoder": {"words": jnp.ones((2, 2))}}
    assert len(plain.init(params)) == 5
    assert len(scaled.init(params)) == 2
