"""EMS: sizes of the paper's code, its loss against float64 loops, languages, masking."""

import dataclasses
import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lightxling.base.errors import UserError
from lightxling.config.files import load
from lightxling.config.objectives import ObjectivesConfig
from lightxling.config.rules import validate
from lightxling.config.schema import Config, ModelConfig
from lightxling.config.settings import change
from lightxling.corpus.batch import Batch
from lightxling.model import build as models
from lightxling.objectives import combine
from lightxling.objectives.combine import heads_of
from lightxling.objectives.tokens import MASK
from lightxling.train.optimizer import learning_rate

VOCAB, LANGUAGES = 23, 5
SMALL = ModelConfig(layers=1, width=8, heads=2, feedforward=12, max_length=9)
EMS = load("ems").objectives


@functools.cache
def make(objectives: ObjectivesConfig, config: ModelConfig = SMALL):
    heads = heads_of(objectives, LANGUAGES)
    graphdef = models.structure(config, VOCAB, heads)
    initialise = functools.partial(models.initialise, config, VOCAB, heads=heads)
    return graphdef, jax.jit(initialise)(jax.random.key(0))


@functools.cache
def compiled(objectives: ObjectivesConfig):
    """Jitted `loss(params, batch) -> (loss, terms)` without dropout."""
    graphdef, _ = make(objectives)
    return jax.jit(lambda p, batch: combine.loss(objectives, graphdef, p, batch, None))


def make_batch(pairs=4, length=6) -> Batch:
    rng = np.random.default_rng(0)
    tokens = rng.integers(3, 12, (pairs, 2, length))
    sizes = rng.integers(2, length + 1, (pairs, 2, 1))
    tokens *= np.arange(length) < sizes
    masked = rng.integers(0, 2, pairs) * length
    languages = np.array([[0, 1], [0, 2], [4, 0], [3, 0]])
    return Batch(*(jnp.array(x, jnp.int32) for x in (tokens, masked, languages[:pairs])))


def test_parameter_counts_of_the_code():
    """The code's table holds 62 languages."""
    config = load("ems")
    heads = heads_of(config.objectives, 62)
    params = jax.eval_shape(
        lambda: models.initialise(config.model, 60_000, jax.random.key(0), heads)
    )
    assert models.count_parameters(params["encoder"]) == 137_143_296
    assert models.count_parameters(params) == 208_782_848


def ems_loss(params, graphdef, batch, objectives, seen=None) -> tuple[float, float]:
    """The two terms, float64, a loop over pairs, sides and pieces; `seen` is what is encoded."""
    p = jax.tree.map(lambda x: np.array(x, np.float64), params)
    tokens = np.array(batch.tokens)
    seen = tokens if seen is None else seen
    B, _, L = tokens.shape
    encoded = models.encode_tokens(graphdef, params, jnp.array(seen).reshape(2 * B, L))
    vectors = np.array(encoded, np.float64).reshape(B, 2, -1)

    def dense(x, layer):
        return x @ layer["kernel"] + layer["bias"]

    def norm(x, layer):
        x = x - x.mean()
        return x / np.sqrt((x**2).mean() + 1e-12) * layer["scale"] + layer["bias"]

    head, xtr = p["token_head"], 0.0
    for b in range(B):
        for side in (0, 1):
            other = 1 - side
            x = vectors[b, side]
            if objectives.tokens.language_width:
                embedding = head["languages"][int(batch.languages[b, other])]
                x = np.concatenate([norm(embedding, head["language_norm"]), x])
            x = dense(x, head["dense"])
            hidden = norm(x / (1 + np.exp(-x)), head["norm"])
            if objectives.tokens.decoder == "tied":
                logits = p["encoder"]["words"] @ hidden
            else:
                logits = head["decoder"] @ hidden
            if objectives.tokens.decoder_bias:
                logits = logits + head["bias"]
            log_q = logits - logits.max()
            log_q -= np.log(np.exp(log_q).sum())
            words = [int(t) for t in seen[b, other] if t]
            for v in set(words):
                xtr += 1 / len(words) * (np.log(1 / len(words)) - log_q[v]) / B

    projected = vectors
    if objectives.align.projection:
        projected = dense(
            np.maximum(dense(vectors, p["projection"]["hidden"]), 0), p["projection"]["out"]
        )
    unit = projected / np.linalg.norm(projected, axis=2, keepdims=True)
    align = 0.0
    for i in range(B):
        for here, there in ((0, 1), (1, 0)):
            z = np.array([unit[i, here] @ unit[j, there] / 0.1 for j in range(B)])
            align += 2 * 0.5 * -(z[i] - np.log(np.exp(z).sum())) / B
    return xtr, align


VARIANTS = [
    {},
    {"tokens__decoder": "tied"},
    {"tokens__language_width": 0},
    {"tokens__decoder_bias": True, "align__projection": 0},
]


@pytest.mark.parametrize("changes", VARIANTS, ids=str)
def test_the_loss_equals_a_slow_loop(changes):
    objectives = change(EMS, **changes)
    graphdef, params = make(objectives)
    # what starts at zero or one should count too
    rng = np.random.default_rng(1)
    params = jax.tree.map(lambda x: np.array(x) + 0.1 * rng.normal(size=x.shape), params)
    params = jax.tree.map(jnp.float32, params)
    batch = make_batch()
    loss, terms = compiled(objectives)(params, batch)
    xtr, align = ems_loss(params, graphdef, batch, objectives)
    np.testing.assert_allclose(terms["tokens"], xtr, rtol=1e-5)
    np.testing.assert_allclose(loss, xtr + align, rtol=1e-5)


def test_the_target_language_matters_for_the_words_but_not_for_the_vector():
    graphdef, params = make(EMS)
    model, batch = models.merge(graphdef, params), make_batch()
    vectors = models.encode_tokens(graphdef, params, batch.tokens[:, 0])
    french, german = (model.prediction(vectors, jnp.full(4, code))[0] for code in (1, 2))
    assert np.abs(french - german).max(axis=1).min() > 1e-3

    loss = compiled(EMS)
    for side in (0, 1):
        other = batch._replace(languages=batch.languages.at[:, side].set(3))
        losses = [loss(params, b)[1] for b in (batch, other)]
        assert abs(losses[0]["tokens"] - losses[1]["tokens"]) > 1e-4
        assert losses[0]["align"] == losses[1]["align"]
    # a head whose table has one row for all cannot tell
    same = jax.tree.map(lambda x: x, params)
    same["token_head"]["languages"] = jnp.tile(params["token_head"]["languages"][:1], (5, 1))
    losses = [
        loss(same, batch._replace(languages=languages))[0]
        for languages in (batch.languages, batch.languages[::-1])
    ]
    assert losses[0] == losses[1]


def test_each_side_is_told_the_language_of_the_other():
    """Only the rows of languages to be predicted have a gradient."""
    batch = make_batch()._replace(
        tokens=make_batch().tokens.at[:, 1].set(0),  # side 1 is empty: side 0 predicts nothing
        languages=jnp.array([[1, 2]] * 4),
    )
    objectives = change(EMS, align__weight=0.0)
    _, params = make(objectives)
    gradient = jax.jit(jax.grad(compiled(objectives), has_aux=True))(params, batch)[0]
    moved = np.abs(gradient["token_head"]["languages"]).max(axis=1) > 0
    assert moved.tolist() == [False, True, False, False, False]


def test_dropout_of_the_language_embedding():
    config = dataclasses.replace(SMALL, layers=0, dropout=0.5)
    graphdef, params = make(EMS, config)
    model = models.merge(graphdef, params)
    vectors, languages = jnp.ones((2, 8)), jnp.zeros(2, int)
    kept, dropped = (
        model.prediction(vectors, languages, key)[0] for key in (None, jax.random.key(0))
    )
    assert not np.allclose(kept, dropped)
    np.testing.assert_array_equal(kept[0], kept[1])
    assert not np.allclose(dropped[0], dropped[1])


def test_ems_reads_whole_sentences_and_its_code_masked_ones():
    batch = make_batch()
    masked = np.array(batch.tokens).reshape(4, -1)
    masked[np.arange(4), np.array(batch.masked)] = MASK
    masked = masked.reshape(batch.tokens.shape)
    for name, seen in (("ems", None), ("ems-code", masked)):
        objectives = load(name).objectives
        graphdef, params = make(objectives)
        loss, _ = compiled(objectives)(params, batch)
        expected = sum(ems_loss(params, graphdef, batch, objectives, seen))
        np.testing.assert_allclose(loss, expected, rtol=1e-5, err_msg=name)


def test_the_paper_s_schedule():
    """A cosine over all steps, times a linear warm-up of 10,000; math.cos, not ours."""
    expected = {0: 3e-8, 9_999: 1.5e-4, 10_000: 1.5e-4, 15_000: 4.39340e-5, 20_000: 0}
    for name in ("ems", "ems-code"):
        optimizer = load(name).optimizer
        schedule = learning_rate(optimizer, steps=20_000, steps_per_epoch=1)
        for step, rate in expected.items():
            assert float(schedule(step)) == pytest.approx(rate, rel=2e-4, abs=1e-11)
        for step in range(0, 20_000, 777):
            cosine = (1 + math.cos(math.pi * step / 20_000)) / 2
            rate = 3e-4 * cosine * min(1, (step + 1) / 10_000)
            assert float(schedule(step)) == pytest.approx(rate, rel=1e-4)
        assert (optimizer.name, optimizer.l2) == ("amsgrad", 1e-5)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tokens__kind": "ugt"}, "mask_inputs=False leaves kind='ugt' no masked word"),
        ({"tokens__language_width": -1}, "language_width=-1"),
        ({"align__projection": -1}, "projection=-1"),
    ],
)
def test_impossible_heads_are_named(changes, message):
    with pytest.raises(UserError, match=message):
        validate(dataclasses.replace(Config(), objectives=change(EMS, **changes)))
