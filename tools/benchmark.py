"""Speed and memory of a training step on synthetic batches, beside the time of its matrix products
alone.

    python tools/benchmark.py                      # acl2021 at 25 tokens a side, batch 128
    python tools/benchmark.py --config light --batch 512

The floor is the time that plain float32 matrix products of the same operation count take in the
same process on the same machine, measured as one square product; the ratio to it is what all else
costs.
"""

import dataclasses
import functools
import statistics
import time
from typing import Annotated

import jax
import jax.numpy as jnp
import numpy as np
import tyro

from lightxling.config import Config, MeshConfig, load
from lightxling.model import build as models
from lightxling.model.heads import heads_of
from lightxling.objectives import combine
from lightxling.train.loop import initial_state, make_train_step
from lightxling.train.optimizer import learning_rate, make_optimizer
from lightxling.train.progress import peak_memory
from lightxling.train.sharding import make_mesh, put_batch


def products(config: Config, *, batch: int, length: int) -> float:
    """Operations of a step's matrix products, forward and backward, without recomputation."""
    model, tokens = config.model, 2 * batch * length
    block = 4 * model.width**2 + 2 * model.width * model.feedforward
    attention = 2 * length * model.width  # scores and weighted values, per token
    per_token = model.layers * (block + attention)
    vocabulary = 0
    if config.objectives.tokens.weight:
        head = config.objectives.tokens
        seen = model.width + head.language_width
        width = model.width if head.decoder == "tied" else seen
        embedding = (model.embedding_width or width) if head.decoder == "tied" else width
        vocabulary = 2 * batch * (config.tokenizer.vocab_size * embedding + seen * width)
    return 6 * (tokens * per_token + vocabulary)


def median_seconds(function, repeats: int) -> float:
    """Median wall time of `function()` after one warm-up call."""
    function()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def matmul_rate(size: int = 3072) -> float:
    """Operations per second of a square float32 product."""
    a = jax.random.normal(jax.random.key(0), (size, size))
    product = jax.jit(jnp.dot)
    return 2 * size**3 / median_seconds(lambda: jax.block_until_ready(product(a, a)), 5)


def synthetic_batch(config: Config, *, batch: int, length: int) -> combine.Batch:
    """Full-length sentences of random pieces."""
    rng = np.random.default_rng(0)
    tokens = rng.integers(3, config.tokenizer.vocab_size, (batch, 2, length)).astype(np.int32)
    masked = rng.integers(0, 2 * length, batch).astype(np.int32)
    return combine.Batch(tokens, masked, np.tile(np.arange(2, dtype=np.int32), (batch, 1)))


def training(config: Config, *, batch: int, length: int, repeats: int) -> dict[str, float]:
    """Times one configuration's training step."""
    mesh = make_mesh(MeshConfig(), batch_size=batch)
    schedule = learning_rate(config.optimizer, steps=1000, steps_per_epoch=1000)
    optimizer = make_optimizer(config.optimizer, schedule)
    vocab_size = config.tokenizer.vocab_size
    graphdef = models.structure(config.model, vocab_size, **heads_of(config.objectives, 2))
    state = [jax.jit(lambda: initial_state(config, vocab_size, optimizer))()]
    count = models.count(state[0].params)
    step = make_train_step(
        functools.partial(combine.loss, config.objectives, graphdef), optimizer, seed=0
    )
    data = put_batch(synthetic_batch(config, batch=batch, length=length), mesh)

    def run():
        state[0], metrics = step(state[0], data)
        jax.block_until_ready(metrics)

    start = time.perf_counter()
    run()
    compile_seconds = time.perf_counter() - start
    seconds = median_seconds(run, repeats)
    memory = peak_memory()
    floor = products(config, batch=batch, length=length) / matmul_rate()
    return {
        "parameters": count,
        "pairs_per_second": batch / seconds,
        "step_ms": seconds * 1e3,
        "floor_ms": floor * 1e3,
        "ratio": seconds / floor,
        "peak_memory_gb": memory / 1e9,
        "compile_s": compile_seconds,
    }


def main(
    config: Annotated[str, tyro.conf.arg(help="recipe")] = "acl2021",
    batch: int = 128,
    length: int = 25,
    vocab: int = 0,
    layers: int = -1,
    repeats: int = 7,
) -> None:
    """Prints one table row of the training step."""
    chosen = load(config)
    if vocab:
        chosen = dataclasses.replace(
            chosen, tokenizer=dataclasses.replace(chosen.tokenizer, vocab_size=vocab)
        )
    if layers >= 0:
        chosen = dataclasses.replace(chosen, model=dataclasses.replace(chosen.model, layers=layers))
    for name, value in training(chosen, batch=batch, length=length, repeats=repeats).items():
        print(f"{name:>18}  {value:,.4g}" if value < 1e5 else f"{name:>18}  {value:,.0f}")


if __name__ == "__main__":
    tyro.cli(main, description=__doc__)
