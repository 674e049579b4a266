"""The encoder: sizes of the paper's code, a slow NumPy forward, and what padding must not do."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lightxling.config.objectives import ObjectivesConfig
from lightxling.config.schema import ModelConfig
from lightxling.model import build as models
from lightxling.model.build import NO_HEADS
from lightxling.model.encoder import dropout, max_pool
from lightxling.objectives.combine import heads_of

SMALL = ModelConfig(
    layers=2, width=8, heads=2, feedforward=12, max_length=9, identical_layers=False
)
VOCAB = 20


TOKEN_HEAD = heads_of(ObjectivesConfig(), 2)


def make(config=SMALL, vocab=VOCAB, heads=NO_HEADS, seed=0):
    graphdef = models.structure(config, vocab, heads)
    params = models.initialise(config, vocab, jax.random.key(seed), heads)
    return graphdef, params


def shapes(config, vocab, heads=NO_HEADS):
    return jax.eval_shape(lambda: models.initialise(config, vocab, jax.random.key(0), heads))


def test_parameter_counts_of_the_paper():
    params = shapes(ModelConfig(), 50_000, TOKEN_HEAD)
    assert models.count_parameters(params["encoder"]) == 29_909_504
    assert models.count_parameters(params) == 30_223_184


def draw_pooling(encoder):
    """Random numbers in place of what the pooling starts with, which is all equal."""
    for name in {"piece_weights", "pooling_query"} & encoder.keys():
        encoder[name] = jax.random.normal(jax.random.key(5), encoder[name].shape)


def slow_forward(params, tokens, config):
    """One sentence, float64, loops over heads and positions."""

    def norm(x, p):
        x = x - x.mean(axis=-1, keepdims=True)
        variance = (x**2).mean(axis=-1, keepdims=True)
        return x / np.sqrt(variance + 1e-12) * p["scale"] + p["bias"]

    def dense(x, p):
        return x @ p["kernel"] + p["bias"]

    p = jax.tree.map(lambda x: np.array(x, np.float64), params["encoder"])
    tokens = [t for t in tokens if t]
    x = p["words"][tokens]
    if "word_projection" in p:
        x = x @ p["word_projection"]
    if "positions" in p:
        x = x + p["positions"][1 : len(tokens) + 1]
    if config.sinusoidal:
        for t, row in enumerate(x):
            for i in range(config.width):
                angle = t / 10000 ** (i // 2 * 2 / config.width)
                row[i] += np.cos(angle) if i % 2 else np.sin(angle)
    if config.embedding_norm:
        x = norm(x, p["embedding_norm"])
    size = config.width // config.heads
    for block in p.get("blocks", {}).values():
        qkv = dense(x, block["qkv"])
        q, k, v = np.split(qkv, 3, axis=1)
        heads = []
        for h in range(config.heads):
            part = slice(h * size, (h + 1) * size)
            rows = []
            for i in range(len(tokens)):
                scores = [q[i, part] @ k[j, part] / np.sqrt(size) for j in range(len(tokens))]
                weights = np.exp(scores) / np.sum(np.exp(scores))
                rows.append(sum(w * v[j, part] for j, w in enumerate(weights)))
            heads.append(rows)
        x = norm(x + dense(np.concatenate(heads, axis=1), block["out"]), block["attention_norm"])
        hidden = dense(x, block["up"])
        if config.activation == "relu":
            hidden = np.where(hidden > 0, hidden, 0)
        elif config.activation == "gelu_new":  # as Hugging Face's NewGELUActivation
            tanh = np.tanh(np.sqrt(2 / np.pi) * (hidden + 0.044715 * hidden**3))
            hidden = 0.5 * hidden * (1 + tanh)
        else:
            hidden = hidden / (1 + np.exp(-hidden))
        x = norm(x + dense(hidden, block["down"]), block["output_norm"])
    if config.pooling in ("weighted", "attention"):
        total, pooled = 0.0, np.zeros(config.width)
        for token, state in zip(tokens, x, strict=True):
            if config.pooling == "weighted":
                weight = np.log(1 + np.exp(10 * p["piece_weights"][token]))
            else:
                weight = np.exp(sum(q * h for q, h in zip(p["pooling_query"], state, strict=True)))
            total, pooled = total + weight, pooled + weight * state
        return pooled / total
    return {"mean": x.mean(0), "max": x.max(0), "sum": x.sum(0)}[config.pooling]


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"layers": 0},
        {"embedding_width": 4},
        {"positions": False},
        {"pooling": "max"},
        {"pooling": "sum", "layers": 1},
        {"activation": "relu", "sinusoidal": True},
        {"activation": "gelu_new", "layers": 1},
        {"embedding_norm": False},
        {"pooling": "weighted"},
        {"pooling": "weighted", "layers": 0, "positions": False, "embedding_norm": False},
        {"pooling": "attention", "layers": 1},
        {"pooling": "attention", "layers": 0, "embedding_norm": False},
    ],
    ids=str,
)
def test_forward_equals_a_slow_loop(changes):
    config = dataclasses.replace(SMALL, **changes)
    graphdef, params = make(config)
    draw_pooling(params["encoder"])
    tokens = np.array([[3, 7, 7, 0, 0], [4, 0, 0, 0, 0], [5, 6, 7, 8, 9]])
    expected = np.stack([slow_forward(params, row, config) for row in tokens])
    np.testing.assert_allclose(
        models.encode_tokens(graphdef, params, jnp.array(tokens)), expected, atol=2e-5
    )


@pytest.mark.parametrize("pooling", ["mean", "max", "sum", "weighted", "attention"])
def test_padding_changes_nothing_and_an_empty_sentence_is_zero(pooling):
    graphdef, params = make(dataclasses.replace(SMALL, pooling=pooling))
    draw_pooling(params["encoder"])
    short = models.encode_tokens(graphdef, params, jnp.array([[3, 4, 5], [0, 0, 0]]))
    padded = models.encode_tokens(graphdef, params, jnp.array([[3, 4, 5, 0, 0, 0], [0] * 6]))
    np.testing.assert_allclose(short, padded, atol=1e-6)
    np.testing.assert_array_equal(short[1], 0)


def test_a_negative_maximum_beats_padding():
    hidden = jnp.array([[[-2.0], [-1.0], [5.0]]])
    np.testing.assert_array_equal(max_pool(hidden, jnp.array([[True, True, False]])), [[-1.0]])


def test_reference_layers_start_identical_and_padding_rows_at_zero():
    _, params = make(dataclasses.replace(SMALL, identical_layers=True))
    blocks = params["encoder"]["blocks"]
    jax.tree.map(np.testing.assert_array_equal, blocks[0], blocks[1])
    np.testing.assert_array_equal(params["encoder"]["words"][0], 0)
    np.testing.assert_array_equal(params["encoder"]["positions"][0], 0)
    _, params = make()
    blocks = params["encoder"]["blocks"]
    assert not np.array_equal(blocks[0]["qkv"]["kernel"], blocks[1]["qkv"]["kernel"])


def test_initialisation_has_the_reference_scales():
    config = ModelConfig(layers=1, width=64, heads=2, feedforward=128)
    _, params = make(config, vocab=2000)
    kernel = params["encoder"]["blocks"][0]["down"]["kernel"]
    assert np.abs(kernel).max() <= 128**-0.5
    assert np.std(kernel) == pytest.approx(128**-0.5 / np.sqrt(3), rel=0.05)
    assert np.std(params["encoder"]["words"]) == pytest.approx(1, rel=0.02)


def test_no_gradient_reaches_padding():
    graphdef, params = make()
    tokens = jnp.array([[3, 4, 0, 0]])
    gradient = jax.grad(lambda p: models.encode_tokens(graphdef, p, tokens).sum())(params)[
        "encoder"
    ]
    np.testing.assert_array_equal(gradient["words"][0], 0)
    np.testing.assert_array_equal(gradient["positions"][0], 0)
    np.testing.assert_array_equal(gradient["positions"][3:], 0)


def test_dropout_keeps_the_mean_and_drops_its_share():
    x = jnp.ones((400, 257))
    y = np.array(dropout(x, 0.1, jax.random.key(0)))
    assert np.mean(y == 0) == pytest.approx(26 / 256, abs=3e-3)
    assert y.mean() == pytest.approx(1, abs=5e-3)
    assert abs(np.corrcoef(y[:, 0], y[:, 1])[0, 1]) < 0.2
    np.testing.assert_array_equal(dropout(x, 0.1, None), x)


def test_tied_logits_of_a_factorised_table():
    config = dataclasses.replace(SMALL, embedding_width=4)
    graphdef, params = make(config, heads=TOKEN_HEAD)
    model = models.merge(graphdef, params)
    vectors = jnp.ones((2, 8))
    hidden, table, bias = model.prediction(vectors)
    encoder = params["encoder"]
    full = np.array(encoder["words"]) @ np.array(encoder["word_projection"])
    expected = np.array(model.token_head(vectors)) @ full.T + np.array(bias)
    np.testing.assert_allclose(hidden @ table.T + bias[None], expected, atol=1e-5)


def test_bfloat16_stays_close_and_returns_float32():
    graphdef, params = make()
    half = models.structure(dataclasses.replace(SMALL, compute_dtype="bfloat16"), VOCAB)
    tokens = jnp.array([[3, 4, 5, 6]])
    exact, rough = (models.encode_tokens(g, params, tokens) for g in (graphdef, half))
    assert rough.dtype == jnp.float32
    np.testing.assert_allclose(rough, exact, atol=0.1)


def test_sinusoids_are_no_parameters():
    _, learned = make()
    _, fixed = make(dataclasses.replace(SMALL, sinusoidal=True))
    missing = learned["encoder"].keys() - fixed["encoder"].keys()
    assert missing == {"positions"}
