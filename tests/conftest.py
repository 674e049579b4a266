"""Eight virtual devices, checked shapes, no silent promotion: set before jax is imported."""

import os
import tempfile

# Threads that carry the devices. By default one each on a small machine: too few where several
# collectives are under way, each of which holds a thread until all devices have come to it.
os.environ["NPROC"] = "256"
os.environ["XLA_FLAGS"] = " ".join(
    [
        os.environ.get("XLA_FLAGS", ""),
        "--xla_force_host_platform_device_count=8",
        # on a busy machine eight threads may wait long for each other; the default is 40 s
        "--xla_cpu_collective_call_terminate_timeout_seconds=600",
        # most of the time is compilation: the programs are many and their arrays tiny
        "--xla_backend_optimization_level=0",
        "--xla_llvm_disable_expensive_passes=true",
    ]
)
os.environ["JAX_PLATFORMS"] = "cpu"
# A program that one test has compiled serves the others too, those of other workers and the
# commands that tests start. The first process makes the folder; it goes when that one ends.
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    _compiled = tempfile.TemporaryDirectory(prefix="lightxling-compiled-")
    os.environ["JAX_COMPILATION_CACHE_DIR"] = _compiled.name
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
os.environ["JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES"] = "-1"

import hypothesis
import jax
import pytest
from jaxtyping import install_import_hook

# The same examples in every run; new ones with --hypothesis-profile explore
hypothesis.settings.register_profile("same", derandomize=True)
hypothesis.settings.register_profile("explore")
hypothesis.settings.load_profile("same")
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_cpu_enable_async_dispatch", False)  # one program at a time on those threads
install_import_hook("lightxling", "beartype.beartype")


@pytest.fixture(scope="session")
def mesh():
    """Eight devices as data 8 x model 1."""
    from lightxling.config.schema import MeshConfig
    from lightxling.train.sharding import make_mesh

    return make_mesh(MeshConfig(data=8, model=1), batch_size=8)


@pytest.fixture(scope="session")
def corpus(tmp_path_factory):
    """A TSV of 600 pairs in two made-up languages with a word-by-word dictionary."""
    import random

    rng = random.Random(0)
    syllables = [a + b for a in "bdfgklmnprst" for b in "aeiou"]
    words = ["".join(rng.sample(syllables, 2)) for _ in range(150)]
    other = ["".join(rng.sample(syllables, 2)) + "x" for _ in range(150)]
    lines = []
    for _ in range(600):
        chosen = rng.choices(range(150), k=rng.randint(3, 12))
        lines.append(
            " ".join(words[i] for i in chosen) + "\t" + " ".join(other[i] for i in chosen) + "\n"
        )
    path = tmp_path_factory.mktemp("corpus") / "made.aa-bb.tsv"
    path.write_text("".join(lines))
    return path


@pytest.fixture
def tiny(corpus, tmp_path_factory):
    """A config that trains in a second on `corpus`."""
    from lightxling.config.schema import (
        Config,
        CorpusConfig,
        ModelConfig,
        OptimizerConfig,
        TokenizerConfig,
        TrainConfig,
    )

    return Config(
        name="tiny",
        corpus=CorpusConfig(
            sources=(f"aa-bb={corpus}",),
            dev_share=0.1,
            store=str(tmp_path_factory.getbasetemp() / "stores"),
        ),
        tokenizer=TokenizerConfig(vocab_size=300, model="unigram"),
        model=ModelConfig(layers=1, width=16, heads=2, feedforward=16, max_length=32),
        optimizer=OptimizerConfig(warmup_steps=5),
        train=TrainConfig(
            pairs=16 * 12,
            batch_size=16,
            buckets=(32,),
            log_every=2,
            dev_every=6,
            checkpoint_every=6,
        ),
    )
