"""Throughput and peak memory of training, input, encoding and retrieval, beside a floor.

    python tools/benchmark.py                      # acl2021's step at 25 tokens a side, batch 128
    python tools/benchmark.py train --config light --batch 128 512 --micro-batch 0 32
    python tools/benchmark.py train --vocab 8000 16000 32000 --csv vocab.csv --plot vocab.png
    python tools/benchmark.py input | encode | retrieval

A setting with several values is swept, several settings in all combinations. Every combination runs
in a fresh process `runs` times, so that the peak is its own; medians are printed, of time and
memory. The floor is the time of the work that cannot be left out, measured in the same process:
plain float32 matrix products of the same operation count (train, encode, retrieval), or copying the
ids of a batch (input). The ratio to it is what all else costs.
"""

import csv
import dataclasses
import functools
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Literal

import numpy as np
import tyro

from lightxling.base import allocator
from lightxling.config.files import load
from lightxling.config.rules import validate
from lightxling.config.schema import Config, MeshConfig, ModelConfig, TrainConfig
from lightxling.config.settings import change
from lightxling.saved.run import number
from lightxling.train.progress import peak_memory


@dataclasses.dataclass(frozen=True)
class Train:
    """A training step on sentences of full length."""

    config: tuple[str, ...] = ("acl2021",)
    batch: tuple[int, ...] = (128,)
    length: tuple[int, ...] = (25,)
    """Tokens a side."""
    vocab: tuple[int, ...] = (0,)
    """0: the recipe's, as in the fields below."""
    width: tuple[int, ...] = (0,)
    layers: tuple[int, ...] = (-1,)
    """-1: the recipe's."""
    micro_batch: tuple[int, ...] = (0,)
    optimizer: tuple[str, ...] = ("",)


@dataclasses.dataclass(frozen=True)
class Input:
    """Batches of a memory-mapped store of a million pairs, without a model."""

    batch: tuple[int, ...] = (128,)
    length: tuple[int, ...] = (25,)
    """Tokens a side."""
    pairs: tuple[int, ...] = (1_000_000,)


@dataclasses.dataclass(frozen=True)
class Encode:
    """Sentence vectors from token ids, in evaluation mode."""

    config: tuple[str, ...] = ("acl2021",)
    backend: tuple[Literal["jax", "numpy"], ...] = ("jax",)
    batch: tuple[int, ...] = (256,)
    """Sentences."""
    length: tuple[int, ...] = (25,)
    vocab: tuple[int, ...] = (0,)
    width: tuple[int, ...] = (0,)
    layers: tuple[int, ...] = (-1,)


@dataclasses.dataclass(frozen=True)
class Retrieval:
    """Exact nearest neighbours (`benchmark_retrieval.py` compares with faiss in more detail)."""

    method: tuple[Literal["lightxling", "faiss"], ...] = ("lightxling",)
    queries: tuple[int, ...] = (2000,)
    candidates: tuple[int, ...] = (200_000,)
    width: tuple[int, ...] = (512,)
    k: tuple[int, ...] = (1,)


def recipe(
    config: str,
    *,
    vocab: int = 0,
    width: int = 0,
    layers: int = -1,
    batch: int = 128,
    micro_batch: int = 0,
    optimizer: str = "",
) -> Config:
    """A recipe with what differs; another width keeps the sides of feed-forward in proportion."""
    chosen = load(config)
    model, width = chosen.model, width or chosen.model.width
    chosen = change(
        chosen,
        model__width=width,
        model__feedforward=model.feedforward * width // model.width,
        model__layers=model.layers if layers < 0 else layers,
        tokenizer__vocab_size=vocab or chosen.tokenizer.vocab_size,
        train__batch_size=batch,
        train__micro_batch=micro_batch,
        optimizer__name=optimizer or chosen.optimizer.name,
    )
    validate(chosen)
    return chosen


def encoder_products(model: ModelConfig, *, sentences: int, length: int) -> int:
    """Operations of the encoder's matrix products, forward."""
    block = 4 * model.width**2 + 2 * model.width * model.feedforward
    attention = 2 * length * model.width  # scores and weighted values, per token
    embedding = model.embedding_width * model.width
    return 2 * sentences * length * (model.layers * (block + attention) + embedding)


def step_products(config: Config, *, batch: int, length: int) -> int:
    """Operations of a step's matrix products, forward and backward, without recomputation."""
    model, vocabulary = config.model, 0
    if config.objectives.tokens.weight:
        head = config.objectives.tokens
        seen = model.width + head.language_width
        width = model.width if head.decoder == "tied" else seen
        embedding = (model.embedding_width or width) if head.decoder == "tied" else width
        vocabulary = 4 * batch * (config.tokenizer.vocab_size * embedding + seen * width)
    return 3 * (encoder_products(model, sentences=2 * batch, length=length) + vocabulary)


def median_seconds(function, repeats: int) -> float:
    """Median wall time of `function()` after one warm-up call."""
    function()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def jax_rate(size: int = 3072) -> float:
    """Operations per second of a square float32 product."""
    import jax
    import jax.numpy as jnp

    a = jax.random.normal(jax.random.key(0), (size, size))
    product = jax.jit(jnp.dot)
    return 2 * size**3 / median_seconds(lambda: jax.block_until_ready(product(a, a)), 5)


def numpy_rate(size: int = 3072) -> float:
    """The same in numpy."""
    a = np.random.default_rng(0).standard_normal((size, size), np.float32)
    return 2 * size**3 / median_seconds(lambda: a @ a, 5)


def random_pairs(config: Config, *, batch: int, length: int) -> tuple[np.ndarray, ...]:
    """Full-length sentences of random pieces, a masked piece of each pair, and its languages."""
    rng = np.random.default_rng(0)
    tokens = rng.integers(3, config.tokenizer.vocab_size, (batch, 2, length)).astype(np.int32)
    masked = rng.integers(0, 2 * length, batch).astype(np.int32)
    return tokens, masked, np.tile(np.arange(2, dtype=np.int32), (batch, 1))


def measure_train(*, batch: int, length: int, repeats: int, **settings) -> dict[str, float]:
    """Times one configuration's training step."""
    import jax

    from lightxling.corpus.batch import Batch
    from lightxling.model import build as models
    from lightxling.objectives.combine import heads_of
    from lightxling.train import memory
    from lightxling.train.micro_batch import value_and_grad
    from lightxling.train.optimizer import learning_rate, make_optimizer
    from lightxling.train.sharding import make_mesh, put_batch
    from lightxling.train.state import batch_shapes, initial_state, on_mesh
    from lightxling.train.step import make_train_step

    config = recipe(batch=batch, **settings)
    train = config.train
    mesh = make_mesh(MeshConfig(), batch_size=batch, micro_batch=train.micro_batch)
    schedule = learning_rate(config.optimizer, steps=1000, steps_per_epoch=1000)
    optimizer = make_optimizer(config.optimizer, schedule)
    vocab_size = config.tokenizer.vocab_size
    graphdef = models.structure(config.model, vocab_size, heads_of(config.objectives, 2))
    initialise = functools.partial(initial_state, config, vocab_size, optimizer)
    target = on_mesh(initialise, mesh)
    gradient = value_and_grad(config.objectives, graphdef, train.micro_batch)
    step = make_train_step(gradient, optimizer, seed=0)
    local = Batch(*random_pairs(config, batch=batch, length=length))
    data = put_batch(local, mesh, batch)

    start = time.perf_counter()
    shapes = batch_shapes(mesh, local, rows=batch, length=length)
    compiled = step.lower(target, shapes).compile()
    compile_seconds = time.perf_counter() - start
    need = memory.estimate(compiled, target)
    del compiled
    allocator.trim()
    layout = jax.tree.map(lambda leaf: leaf.sharding, target)
    state = [jax.block_until_ready(jax.jit(initialise, out_shardings=layout)())]
    allocator.trim()

    def run():
        state[0], metrics = step(state[0], data)
        jax.block_until_ready(metrics)

    seconds = median_seconds(run, repeats)
    peak = peak_memory()
    floor = step_products(config, batch=batch, length=length) / jax_rate()
    return {
        "parameters": models.count_parameters(target.params),
        "pairs_per_second": batch / seconds,
        "step_ms": seconds * 1e3,
        "floor_ms": floor * 1e3,
        "ratio": seconds / floor,
        "peak_memory_gb": peak / 1e9,
        "parameters_mb": need.parameters / 1e6,
        "optimizer_mb": need.optimizer / 1e6,
        "temporaries_mb": need.temporaries / 1e6,
        "compile_s": compile_seconds,
    }


def measure_input(*, batch: int, length: int, pairs: int, repeats: int) -> dict[str, float]:
    """Times the batches of half an epoch, made ahead in a thread."""
    from lightxling.corpus.batches import Batches, Groups
    from lightxling.corpus.store import Split

    with tempfile.TemporaryDirectory() as folder:
        path, ids = Path(folder) / "tokens.bin", 2 * pairs * length
        rng = np.random.default_rng(0)
        with path.open("wb") as file:
            for start in range(0, ids, 1 << 22):
                part = rng.integers(3, 50_000, min(1 << 22, ids - start))
                file.write(part.astype(np.uint16).tobytes())
        tokens = np.asarray(np.memmap(path, np.uint16, "r")).view(np.ndarray)
        split = Split(
            tokens=tokens,
            offsets=np.arange(2 * pairs + 1) * length,
            group=np.zeros(pairs, np.uint16),
            sides=2,
            folder=Path(folder),
        )
        batches = Batches(
            split,
            Groups(np.ones(1), np.array([[0, 1]])),
            TrainConfig(batch_size=batch, buckets=(length,)),
            ModelConfig(max_length=length),
            maskable=np.ones(50_000, bool),
        )
        count = max(batches.steps_per_epoch // 2, 1)
        warm_up = min(count, 50)
        for _ in batches.iterate(0, warm_up):
            pass
        before = peak_memory()
        seconds = median_seconds(lambda: [None for _ in batches.iterate(0, count)], repeats) / count
        growth = peak_memory() - before
        floor = median_seconds(lambda: tokens[: 2 * batch * length].astype(np.int32), 100)
    return {
        "pairs_per_second": batch / seconds,
        "batch_us": seconds * 1e6,
        "floor_us": floor * 1e6,
        "ratio": seconds / floor,
        "peak_memory_gb": peak_memory() / 1e9,
        "growth_mb": growth / 1e6,
    }


def measure_encode(
    *, backend: str, batch: int, length: int, repeats: int, **settings
) -> dict[str, float]:
    """Times the vectors of one batch of sentences."""
    import jax

    from lightxling.base.tree import flatten
    from lightxling.model import build as models
    from lightxling.model.forward import Forward
    from lightxling.train.dev import make_encode
    from lightxling.train.sharding import make_mesh

    config = recipe(**settings)
    vocab_size = config.tokenizer.vocab_size
    initialise = functools.partial(models.initialise, config.model, vocab_size)
    params = jax.jit(initialise)(jax.random.key(0))
    tokens = random_pairs(config, batch=batch, length=length)[0][:, 0]
    if backend == "jax":
        graphdef = models.structure(config.model, vocab_size)
        encode = make_encode(graphdef, make_mesh(MeshConfig(), batch_size=jax.device_count()))
        run = functools.partial(encode, params, tokens)
    else:
        forward = Forward(config.model, flatten(jax.device_get(params["encoder"])))
        run = functools.partial(forward, [tokens])
    seconds = median_seconds(run, repeats)
    peak = peak_memory()
    rate = {"jax": jax_rate, "numpy": numpy_rate}[backend]()
    floor = encoder_products(config.model, sentences=batch, length=length) / rate
    return {
        "sentences_per_second": batch / seconds,
        "batch_ms": seconds * 1e3,
        "floor_ms": floor * 1e3,
        "ratio": seconds / floor,
        "peak_memory_gb": peak / 1e9,
    }


def measure_retrieval(*, repeats: int, **settings) -> dict[str, float]:
    """Times one search; `repeats` is of no use, as a search is long."""
    del repeats
    from benchmark_retrieval import measure

    found = measure(**settings)
    peak = peak_memory()
    operations = 2 * settings["queries"] * settings["candidates"] * settings["width"]
    floor = operations / numpy_rate()
    return {
        "queries_per_second": settings["queries"] / found["seconds"],
        "seconds": found["seconds"],
        "floor_s": floor,
        "ratio": found["seconds"] / floor,
        "peak_memory_gb": peak / 1e9,
        "growth_mib": found["mib"],
        "p@1": found["p@1"],
    }


COMMANDS = {
    "train": (Train, measure_train),
    "input": (Input, measure_input),
    "encode": (Encode, measure_encode),
    "retrieval": (Retrieval, measure_retrieval),
}


def in_fresh_process(command: str, settings: dict, runs: int) -> dict[str, float]:
    """Medians over runs of a measure, each in a process of its own."""
    results = []
    for _ in range(runs):
        arguments = [sys.executable, __file__, "--measure", command, json.dumps(settings)]
        env = allocator.environment(os.environ)
        done = subprocess.run(arguments, stdout=subprocess.PIPE, text=True, env=env)
        if done.returncode:
            raise SystemExit(f"{command} {settings} failed, see above")
        results.append(json.loads(done.stdout.splitlines()[-1]))
    return {name: statistics.median(result[name] for result in results) for name in results[0]}


def combinations(sweep: Train | Input | Encode | Retrieval) -> list[dict]:
    """All combinations of the values of a sweep's fields, the last field fastest."""
    fields = dataclasses.asdict(sweep)
    every = itertools.product(*fields.values())
    return [dict(zip(fields, values, strict=True)) for values in every]


def fit_line(x: list[float], y: list[float]) -> tuple[float, float]:
    """Slope and intercept of the least-squares line."""
    slope, intercept = np.polyfit(x, y, 1)
    return float(slope), float(intercept)


def plot(rows: list[dict], swept: list[str], path: Path) -> None:
    """Time and peak memory over the one swept number, each with its fitted line."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    (name,) = swept
    x = [row[name] for row in rows]
    times = ("step_ms", "batch_us", "batch_ms", "seconds")
    columns = [next(c for c in times if c in rows[0]), "peak_memory_gb"]
    figure, axes = pyplot.subplots(1, 2, figsize=(9, 3.5), layout="constrained")
    for axis, column in zip(axes, columns, strict=True):
        y = [row[column] for row in rows]
        slope, intercept = fit_line(x, y)
        axis.plot(x, y, "o")
        ends = np.array([min(x), max(x)])
        axis.plot(ends, intercept + slope * ends, label=f"{intercept:.4g} + {slope:.3g} {name}")
        axis.set(xlabel=name, ylabel=column, ylim=(0, None))
        axis.legend()
    figure.savefig(path)


def benchmark(
    command: str,
    sweep: Train | Input | Encode | Retrieval,
    repeats: int = 7,
    runs: int = 1,
    csv_file: Path | None = None,
    plot_file: Path | None = None,
) -> None:
    """Measures all combinations and prints a table with one column each."""
    settings = combinations(sweep)
    swept = [name for name, values in dataclasses.asdict(sweep).items() if len(set(values)) > 1]
    if plot_file and (len(swept) != 1 or isinstance(settings[0][swept[0]], str)):
        raise SystemExit("--plot needs one number with several values, such as --batch 64 128 256")
    rows = []
    for chosen in settings:
        title = " ".join(f"{name}={chosen[name]}" for name in swept)
        result = in_fresh_process(command, {**chosen, "repeats": repeats}, runs)
        rows.append({**chosen, **result})
        if title:
            print(f"\n{title}")
        for name, value in result.items():
            print(f"{name:>20}  {number(value)}", flush=True)
    if csv_file:
        with csv_file.open("w", newline="") as file:
            writer = csv.DictWriter(file, rows[0])
            writer.writeheader()
            writer.writerows(rows)
    if plot_file:
        plot(rows, swept, plot_file)


OPTIONS = """

Args:
  repeats: timed calls in a process, after one for warming up.
  runs: processes per combination.
  csv: file for the table.
  plot: file for a picture over the one swept number (needs matplotlib).
"""


def command(name: str, kind: type):
    """The subcommand of a sweep, for tyro."""

    def run(
        sweep: tyro.conf.OmitArgPrefixes[kind] = kind(),  # noqa: B008, it is frozen
        repeats: int = 7,
        runs: int = 1,
        csv: Path | None = None,
        plot: Path | None = None,
    ) -> None:
        benchmark(name, sweep, repeats, runs, csv, plot)

    run.__doc__ = kind.__doc__ + OPTIONS
    return run


def main(arguments: list[str]) -> None:
    if arguments[:1] == ["--measure"]:  # the fresh process
        name, settings = arguments[1:]
        print(json.dumps(COMMANDS[name][1](**json.loads(settings))))
        return
    if not arguments or (arguments[0].startswith("-") and arguments[0] not in ("-h", "--help")):
        arguments = ["train", *arguments]
    commands = {name: command(name, kind) for name, (kind, _) in COMMANDS.items()}
    tyro.extras.subcommand_cli_from_dict(commands, args=arguments, description=__doc__)


if __name__ == "__main__":
    main(sys.argv[1:])
