"""Frozen parameters: bit for bit the same after training, without gradient and optimizer state."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lightxling.base.errors import UserError
from lightxling.config.files import load
from lightxling.config.schema import AdapterConfig, Config, ModelConfig, OptimizerConfig
from lightxling.corpus.batch import Batch
from lightxling.model import build as models
from lightxling.objectives.combine import heads_of
from lightxling.train import freeze
from lightxling.train.memory import size
from lightxling.train.micro_batch import value_and_grad
from lightxling.train.optimizer import learning_rate, make_optimizer
from lightxling.train.state import initial_state
from lightxling.train.step import make_train_step

VOCAB, BATCH = 40, 8
SETTINGS = Config(
    model=ModelConfig(
        layers=1,
        width=16,
        heads=2,
        feedforward=16,
        max_length=8,
        dropout=0.0,
        adapters=(AdapterConfig("align"), AdapterConfig("de", "lora", rank=2)),
    ),
    objectives=load("light").objectives,
    optimizer=OptimizerConfig(name="amsgrad", l2=0.1, weight_decay=0.1, warmup_steps=0),
)


def trainable(*patterns: str) -> Config:
    train = dataclasses.replace(SETTINGS.train, trainable=patterns)
    return dataclasses.replace(SETTINGS, train=train)


def make_batch() -> Batch:
    rng = np.random.default_rng(0)
    tokens = rng.integers(3, VOCAB, (BATCH, 2, 7))
    masked = rng.integers(0, 14, BATCH)
    return Batch(jnp.array(tokens, jnp.int32), jnp.array(masked, jnp.int32))


def start(config: Config):
    optimizer = make_optimizer(
        config.optimizer, learning_rate(config.optimizer, steps=4, steps_per_epoch=4)
    )
    initialise = functools.partial(initial_state, config, VOCAB, optimizer)
    return jax.jit(initialise)(), optimizer


def gradient(config: Config, micro_batch: int = 0):
    graphdef = models.structure(config.model, VOCAB, heads_of(config.objectives, 2))
    return value_and_grad(config.objectives, graphdef, micro_batch)


def leaves(tree) -> dict[str, np.ndarray]:
    return {
        jax.tree_util.keystr(path): np.array(leaf)
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }


@pytest.fixture(scope="module")
def trained():
    """Parameters before and after three steps in which only the adapter `align` learns."""
    config = trainable("encoder.adapters.align")
    state, optimizer = start(config)
    before = leaves(state.params)
    step = make_train_step(gradient(config), optimizer, 0, trainable=config.train.trainable)
    for _ in range(3):
        state, _ = step(state, make_batch())
    return before, state


def test_frozen_leaves_keep_every_bit_under_decay_and_l2(trained):
    before, state = trained
    for name, after in leaves(state.params).items():
        if "['align']" not in name:
            np.testing.assert_array_equal(after, before[name], err_msg=name)
        else:
            assert not np.array_equal(after, before[name]), name


def test_frozen_leaves_have_no_optimizer_state(trained):
    _, state = trained
    mine = size(state.params["encoder"]["adapters"]["align"])
    moments = [leaf for leaf in jax.tree.leaves(state.opt_state) if leaf.ndim]
    assert size(moments) == 3 * mine  # amsgrad: three numbers per parameter
    everything, _ = start(trainable())
    assert size(everything.opt_state) > 3 * size(everything.params)


@pytest.mark.parametrize("micro_batch", [0, 2])
def test_the_gradient_of_a_part_is_that_part_of_the_whole_gradient(micro_batch):
    config = trainable("encoder.words", "encoder.adapters.de", "token_head")
    state, _ = start(config)
    batch = make_batch()
    _, whole = jax.jit(gradient(config))(state.params, batch, None)
    parts = freeze.split_params(state.params, config.train.trainable)
    _, part = jax.jit(gradient(config, micro_batch))(parts[0], batch, None, parts[1])
    expected = leaves(freeze.split_params(whole, config.train.trainable)[0])
    assert leaves(part).keys() == expected.keys()
    for name, value in leaves(part).items():
        np.testing.assert_allclose(value, expected[name], atol=1e-5, err_msg=name)


def test_split_and_join_are_inverse():
    tree = {"a": {0: {"x": 1, "y": 2}, 1: {"x": 3}}, "b": 4, "c": {"d": 5}}
    for patterns in ((), ("a",), ("a.0.x", "b"), ("a.*.x",), ("c.d", "a.1"), ("*",)):
        sides = freeze.split_params(tree, patterns)
        assert freeze.join_params(*sides) == tree
        assert freeze.join_params(*sides[::-1]) == tree
    assert freeze.split_params(tree, ("a.*.x",)) == (
        {"a": {0: {"x": 1}, 1: {"x": 3}}},
        {"a": {0: {"y": 2}}, "b": 4, "c": {"d": 5}},
    )
    assert freeze.split_params(tree, ()) == (tree, {})


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("encoder.adapters.aling", r"called 'encoder.adapters.aling'; near it: encoder.adapters"),
        ("encoder.wrods", "near it: .*encoder.words"),
        ("adapters.*", "no parameter is called 'adapters"),
        ("decoder", "near it: .*encoder"),
    ],
)
def test_unknown_patterns_are_refused_with_the_nearest_names(pattern, message):
    with pytest.raises(UserError, match=message):
        freeze.check_trainable(trainable("encoder.words", pattern))


def test_known_patterns_pass():
    freeze.check_trainable(trainable("encoder.adapters.align.*", "encoder.blocks.0", "token_head"))
    freeze.check_trainable(trainable())
