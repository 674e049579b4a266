"""The state of a run: the step, parameters and moments, on the devices or as shapes alone."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh

from lightxling.config.schema import Config
from lightxling.corpus.batch import Batch
from lightxling.model.build import ParamTree
from lightxling.objectives.combine import initialise_tasks
from lightxling.train import freeze
from lightxling.train.optimizer import Optimizer
from lightxling.train.sharding import by_row, shardings


class TrainState(NamedTuple):
    step: jax.Array
    params: ParamTree
    opt_state: optax.OptState
    best: jax.Array
    """Best dev P@1 so far, in per cent, -1 before the first measurement; where the loss counts, the
    negative of the lowest."""


def seed_data(seed: int) -> np.ndarray:
    """Key data of a seed, [2] uint32, on the host: of all processes the same."""
    return np.asarray(jax.random.key_data(jax.random.key(seed)))


def initial_state(
    config: Config,
    vocab_size: int,
    optimizer: Optimizer,
    languages: int = 2,
    teacher_width: int = 0,
    seed: np.ndarray | jax.Array | None = None,
) -> TrainState:
    """Step 0; to be jitted with shardings, or given to `jax.eval_shape` for the shapes.

    Args:
      languages: how many the corpus has.
      seed: key data, see `seed_data`; by default of `train.seed`. As an argument of the jitted
        function it is no part of the program.
    """
    if seed is None:
        key = jax.random.key(config.train.seed)
    else:
        key = jax.random.wrap_key_data(jnp.asarray(seed))
    params = initialise_tasks(config, vocab_size, key, languages, teacher_width)
    worst = -1.0 if config.train.best == "p@1" else -jnp.inf
    step, best = jnp.zeros([], jnp.int32), jnp.full([], worst, jnp.float32)
    trained, _ = freeze.split_params(params, config.train.trainable)
    return TrainState(step, params, optimizer.init(trained), best)


def batch_shapes(mesh: Mesh, batch: Batch, *, rows: int, length: int) -> Batch:
    """One process's `batch` as the global one of `rows` pairs, padded to `length`: shapes only."""
    split = by_row(mesh, rows)

    def of_all_rows(x, *shape):
        return jax.ShapeDtypeStruct((rows, *(shape or x.shape[1:])), x.dtype, sharding=split)

    def padded(x):
        return None if x is None else of_all_rows(x, x.shape[1], length, *x.shape[3:])

    shapes = jax.tree.map(of_all_rows, batch)
    return shapes._replace(tokens=padded(batch.tokens), ngrams=padded(batch.ngrams))


def on_mesh(initialise: Callable[[], TrainState], mesh: Mesh) -> TrainState:
    """The state as shapes with shardings: nothing is allocated."""
    shapes = jax.eval_shape(initialise)
    return jax.tree.map(
        lambda leaf, sharding: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding),
        shapes,
        shardings(mesh, shapes),
    )
