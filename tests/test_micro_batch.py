"""Micro-batches: the whole batch's loss and gradient, whatever the size of the pieces."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lightxling.base.errors import UserError
from lightxling.config.files import differences
from lightxling.config.files import load as load_recipe
from lightxling.config.rules import validate
from lightxling.config.schema import Config, MeshConfig, ModelConfig
from lightxling.corpus.batch import Batch
from lightxling.model import build as models
from lightxling.objectives.combine import heads_of
from lightxling.objectives.term import EncodedBatch
from lightxling.train.micro_batch import join_pieces, split_batch, split_encoded, value_and_grad
from lightxling.train.optimizer import learning_rate, make_optimizer
from lightxling.train.sharding import make_mesh, put_batch
from lightxling.train.state import initial_state
from lightxling.train.step import make_train_step

VOCAB, BATCH = 50, 16
SMALL = ModelConfig(
    layers=1, width=16, heads=2, feedforward=16, max_length=8, dropout=0.0, init="scaled"
)


HEADS = heads_of(load_recipe("light").objectives, 2)


def make_batch(seed=0) -> Batch:
    rng = np.random.default_rng(seed)
    tokens = rng.integers(3, VOCAB, (BATCH, 2, 7))
    tokens *= np.arange(7) < rng.integers(2, 8, (BATCH, 2, 1))
    return Batch(jnp.array(tokens, jnp.int32), jnp.array(rng.integers(0, 2, BATCH) * 7, jnp.int32))


def setup(recipe: str, **changes):
    """Objectives of a recipe, and a small model."""
    model = dataclasses.replace(SMALL, **changes)
    graphdef = models.structure(model, VOCAB, heads=HEADS)
    initialise = functools.partial(models.initialise, model, VOCAB, heads=HEADS)
    return load_recipe(recipe).objectives, graphdef, jax.jit(initialise)(jax.random.key(0))


def compiled(objectives, graphdef, micro_batch=0):
    return jax.jit(value_and_grad(objectives, graphdef, micro_batch))


@pytest.mark.parametrize(
    ("recipe", "changes"), [("light", {"embedding_width": 8}), ("acl2021", {})]
)
def test_the_gradient_is_that_of_the_whole_batch(recipe, changes):
    objectives, graphdef, params = setup(recipe, **changes)
    batch = make_batch()
    (loss, terms), exact = compiled(objectives, graphdef)(params, batch, None)
    gradient = compiled(objectives, graphdef, 4)
    (same, same_terms), grads = gradient(params, batch, None)
    np.testing.assert_allclose(same, loss, rtol=1e-6)
    assert same_terms.keys() == terms.keys()
    for (path, a), b in zip(
        jax.tree_util.tree_leaves_with_path(exact), jax.tree.leaves(grads), strict=True
    ):
        error = np.linalg.norm(a - b) / max(np.linalg.norm(a), 1e-3)
        assert error < 1e-5, jax.tree_util.keystr(path)


def test_the_table_s_gradient_holds_both_of_its_uses():
    """Every row is predicted by the head; a row is looked up only where its piece occurs."""
    objectives, graphdef, params = setup("light")
    batch = make_batch()
    words = {}
    for name in ("tokens", "align"):
        off = {t: {"weight": 0.0} for t in ("tokens", "align", "similarity") if t != name}
        only = dataclasses.replace(
            objectives, **{t: dataclasses.replace(getattr(objectives, t), **off[t]) for t in off}
        )
        _, grads = compiled(only, graphdef, 2)(params, batch, None)
        words[name] = np.array(grads["encoder"]["words"])
    text = set(np.unique(batch.tokens)) - {0}
    absent = sorted(set(range(3, VOCAB)) - text)
    assert absent
    assert (words["align"][absent] == 0).all()
    assert (np.abs(words["align"][sorted(text)]).max(axis=1) > 0).all()
    assert (np.abs(words["tokens"]).max(axis=1) > 0)[1:].all()


def test_both_passes_draw_the_same_dropout():
    """The gradient is the slope of the loss it comes with, dropout included."""
    objectives, graphdef, params = setup("light", dropout=0.3)
    batch, key = make_batch(), jax.random.key(5)
    f = compiled(objectives, graphdef, 4)
    _, grads = f(params, batch, key)
    name = "embedding_norm"
    direction = jax.random.normal(jax.random.key(1), (SMALL.width,))

    def at(step):
        moved = {**params["encoder"][name], "bias": step * direction}
        encoder = {**params["encoder"], name: moved}
        return float(f({**params, "encoder": encoder}, batch, key)[0][0])

    slope = (at(1e-2) - at(-1e-2)) / 2e-2
    ours = float(grads["encoder"][name]["bias"] @ direction)
    assert ours == pytest.approx(slope, rel=2e-2)
    assert abs(ours) > 0.05  # else the comparison says nothing


def test_pieces_draw_different_dropout():
    objectives, graphdef, params = setup("light", dropout=0.5)
    one = jax.tree.map(lambda x: jnp.repeat(x[:1], BATCH, axis=0), make_batch())
    (_, terms), _ = compiled(objectives, graphdef, 1)(params, one, jax.random.key(0))
    assert abs(float(terms["align"]) - 2 * np.log(BATCH)) > 0.1  # equal rows cost 2 log B


def test_vectors_are_joined_in_the_order_of_the_batch():
    """A device's third of the rows keeps its third of every piece."""
    batch = Batch(jnp.zeros((12, 2, 1), jnp.int32), jnp.arange(12, dtype=jnp.int32))
    pieces = split_batch(batch, 3).masked
    np.testing.assert_array_equal(pieces, [[0, 4, 8], [1, 5, 9], [2, 6, 10], [3, 7, 11]])
    vectors = jnp.stack([batch.masked, -batch.masked])[None, ..., None].astype(jnp.float32)
    encoded = EncodedBatch(vectors, 2 * vectors)
    parts = split_encoded(encoded, 3)
    np.testing.assert_array_equal(parts.vectors[:, 0, 0, :, 0], pieces)
    np.testing.assert_array_equal(parts.states[:, 0, 1, :, 0], -2 * pieces)
    jax.tree.map(np.testing.assert_array_equal, join_pieces(parts), encoded)


def one_step(mesh, micro_batch):
    config = Config(model=SMALL, optimizer=load_recipe("light").optimizer)
    optimizer = make_optimizer(
        config.optimizer, learning_rate(config.optimizer, steps=9, steps_per_epoch=9)
    )
    state = jax.jit(functools.partial(initial_state, config, VOCAB, optimizer))()
    graphdef = models.structure(SMALL, VOCAB, heads=HEADS)
    gradient = value_and_grad(load_recipe("light").objectives, graphdef, micro_batch)
    _, metrics = make_train_step(gradient, optimizer, seed=0)(
        state, put_batch(make_batch(), mesh, BATCH)
    )
    return jax.device_get(metrics)


def test_eight_devices_give_the_loss_and_gradient_norm_of_one(mesh):
    alone = one_step(make_mesh(MeshConfig(1, 1), batch_size=BATCH, devices=jax.devices()[:1]), 0)
    many = one_step(mesh, 8)
    for name in alone:
        np.testing.assert_allclose(many[name], alone[name], rtol=2e-5, err_msg=name)


def step_memory(batch_size, micro_batch):
    """Bytes of temporaries of a compiled gradient."""
    model = dataclasses.replace(SMALL, width=32, feedforward=64, max_length=16)
    graphdef = models.structure(model, VOCAB, heads=HEADS)
    params = jax.eval_shape(lambda: models.initialise(model, VOCAB, jax.random.key(0), heads=HEADS))
    batch = Batch(
        jax.ShapeDtypeStruct((batch_size, 2, 16), jnp.int32),
        jax.ShapeDtypeStruct((batch_size,), jnp.int32),
    )
    f = value_and_grad(load_recipe("light").objectives, graphdef, micro_batch)
    return jax.jit(f).lower(params, batch, None).compile().memory_analysis().temp_size_in_bytes


def test_activations_do_not_grow_with_the_batch():
    """What grows is the B x B similarities and a vector a sentence; whole batches grow faster."""
    growth = step_memory(256, 16) - step_memory(128, 16)
    assert growth < 0.1 * (step_memory(256, 0) - step_memory(128, 0))


@pytest.mark.parametrize(("micro_batch", "hint"), [(12, "try 8"), (256, "try 128"), (-1, "try 0")])
def test_the_pieces_must_divide_the_batch(micro_batch, hint):
    config = Config(train=dataclasses.replace(Config().train, micro_batch=micro_batch))
    with pytest.raises(
        UserError, match=f"train.micro_batch={micro_batch} .*batch_size=128; {hint}"
    ):
        validate(config)


def test_the_pieces_must_divide_over_the_devices():
    with pytest.raises(UserError, match=r"micro_batch=12 does not divide .* try 8"):
        make_mesh(MeshConfig(data=8, model=1), batch_size=24, micro_batch=12)


def test_pieces_may_change_on_resuming_only_without_dropout():
    def changed(dropout):
        old = Config(model=dataclasses.replace(Config().model, dropout=dropout))
        new = dataclasses.replace(old, train=dataclasses.replace(old.train, micro_batch=32))
        return list(differences(old, new))

    assert changed(0.0) == []
    assert changed(0.1) == ["train.micro_batch"]
