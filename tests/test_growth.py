"""An encoder that grows: its first vectors are those of the start, and what is new has its rate."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from lightxling.base.errors import UserError
from lightxling.base.tree import flatten, nest
from lightxling.config.rules import validate
from lightxling.config.schema import AdapterConfig, ModelConfig, OptimizerConfig
from lightxling.config.settings import change
from lightxling.encode.encoder import Encoder
from lightxling.model import build as models
from lightxling.model.growth import grow
from lightxling.saved.bundle import read_run
from lightxling.train.freeze import join_params
from lightxling.train.loop import train
from lightxling.train.optimizer import make_optimizer
from lightxling.train.warm_start import refuse_other_encoder, taken_parameters

MODEL = ModelConfig(layers=0, width=16, heads=2, feedforward=24, embedding_width=8, max_length=12)


def any_params(config, seed):
    """Parameters with gains, biases and kernels that are nothing special."""
    rng = np.random.default_rng(seed)
    params = flatten(models.initialise(config, 50, jax.random.key(seed)))
    return nest({k: x + 0.5 * rng.normal(size=x.shape).astype("f") for k, x in params.items()})


@pytest.mark.parametrize(("layers", "more"), [(0, 1), (0, 2), (1, 3), (2, 3)])
def test_the_first_vectors_are_those_of_the_start(layers, more):
    adapters = (AdapterConfig("side"), AdapterConfig("low", kind="lora", rank=2))
    start = change(MODEL, layers=layers, adapters=adapters if layers else ())
    grown = change(start, layers=more)
    before = any_params(start, 1)
    fresh = models.initialise(grown, 50, jax.random.key(2))["encoder"]  # adapters as nothing
    after = {"encoder": grow(join_params(before["encoder"], fresh), layers)}
    tokens = np.random.default_rng(0).integers(1, 50, (5, 12)).astype(np.int32)
    tokens[1, 4:] = tokens[2, 1:] = 0
    old = models.encode_tokens(models.structure(start, 50), before, jnp.array(tokens))
    new = models.encode_tokens(models.structure(grown, 50), after, jnp.array(tokens))
    np.testing.assert_allclose(new, old, rtol=0, atol=1e-6 * np.abs(old).max())
    out = after["encoder"]["blocks"][more - 1]["qkv"]["kernel"]
    assert np.std(out) > 0  # so that the output projection has a gradient


@pytest.fixture(scope="module")
def bag(tmp_path_factory, corpus):
    """A run without layers, and its settings."""
    from lightxling.config.schema import Config, CorpusConfig, TokenizerConfig, TrainConfig

    folder = tmp_path_factory.mktemp("bag")
    config = Config(
        corpus=CorpusConfig(sources=(f"aa-bb={corpus}",), dev_share=0.1, store=str(folder / "s")),
        tokenizer=TokenizerConfig(vocab_size=150),
        model=MODEL,
        optimizer=OptimizerConfig(warmup_steps=2, schedule="constant"),
        train=TrainConfig(pairs=64, batch_size=16, buckets=(12,), dev_every=2),
    )
    train(config, folder / "run")
    return folder / "run", config


def test_a_run_starts_from_one_with_fewer_layers(bag, corpus, tmp_path, capsys):
    run, config = bag
    texts = corpus.read_text().split("\n")[:5]
    # the number of heads and the width of the feed-forward layers mean nothing to a bag
    still = change(
        config,
        model__layers=2,
        model__heads=4,
        model__feedforward=40,
        optimizer__learning_rate=1e-30,
        train__init_from=str(run),
        train__pairs=16,
    )
    train(still, tmp_path / "run")
    vectors = [Encoder.load(path).encode(texts) for path in (run, tmp_path / "run")]
    np.testing.assert_allclose(*vectors, atol=1e-6)
    about = json.loads((tmp_path / "run" / "config.json").read_text())
    assert about["origin"] == {"path": str(run), "layers": 0, "new_layers": 2}
    printed = capsys.readouterr().out
    assert "new layers after 0: 2, start as nothing" in printed
    # one tokenizer and one text: what was prepared for the start serves
    assert about["store"] == json.loads((run / "config.json").read_text())["store"]
    assert "encoding" not in printed.split("using the store")[1]


def test_what_is_new_learns_at_its_own_rate(bag):
    taken = taken_parameters(read_run(bag[0]))
    params = models.initialise(change(MODEL, layers=1), 150, jax.random.key(0))
    grads = jax.tree.map(lambda x: 0 * x + 1, params)
    settings = OptimizerConfig(name="sgd", beta1=0.0, l2=0.0, init_from_multiplier=0.25)
    rule = make_optimizer(settings, optax.constant_schedule(0.5), taken)
    steps = flatten(rule.update(grads, rule.init(params), params)[0])
    for name, step in steps.items():
        np.testing.assert_allclose(step, -0.5 if ".blocks." in name else -0.125, err_msg=name)
    assert {"encoder.words", "encoder.embedding_norm.scale"} <= taken


@pytest.mark.parametrize(
    ("there", "here", "message"),
    [
        ({"layers": 2}, {"layers": 1}, r"model.layers: 2 there, 1 here\n.*export --layers"),
        ({"layers": 1}, {"layers": 2, "feedforward": 32}, "model.feedforward: 24 there, 32 here"),
        ({"layers": 0}, {"layers": 2, "width": 32}, "model.width: 16 there, 32 here"),
    ],
)
def test_what_cannot_grow_is_named(there, here, message):
    with pytest.raises(UserError, match=message):
        refuse_other_encoder(change(MODEL, **there), change(MODEL, **here), "x")


def test_a_multiplier_without_a_start_is_refused(bag):
    with pytest.raises(UserError, match=r"init_from_multiplier=0\.5 is for .* name it as train"):
        validate(change(bag[1], optimizer__init_from_multiplier=0.5))
