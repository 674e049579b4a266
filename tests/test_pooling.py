"""Learnt weights of the pooling: what they start as, how they learn, where they go with pieces."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from export_samples import WORDS, bundle

from lightxling.config.schema import ModelConfig
from lightxling.corpus.pieces import Tokenizer
from lightxling.encode.encoder import Encoder
from lightxling.export.quantize import quantize
from lightxling.export.trim import trim_vocabulary
from lightxling.model import build
from lightxling.model.encoder import weighted_pool
from lightxling.train.specialise import specialise

TEXT = [" ".join(np.random.default_rng(i).choice(WORDS, 1 + i % 9)) for i in range(40)]
BAG = ModelConfig(layers=0, width=8, heads=1, positions=False, pooling="weighted")


def vectors(config, params, tokens):
    return build.encode_tokens(build.structure(config, 20), params, jnp.array(tokens))


def test_what_is_learnt_starts_as_the_mean():
    config = dataclasses.replace(BAG, layers=1, feedforward=12, pooling="mean")
    params = build.initialise(config, 20, jax.random.key(0))
    tokens = [[3, 7, 7, 5], [4, 0, 0, 0]]
    expected = vectors(config, params, tokens)
    for pooling in ("weighted", "attention"):
        changed = dataclasses.replace(config, pooling=pooling)
        fresh = build.initialise(changed, 20, jax.random.key(0))
        (name,) = fresh["encoder"].keys() - params["encoder"].keys()
        given = {"encoder": {**params["encoder"], name: fresh["encoder"][name]}}
        np.testing.assert_allclose(vectors(changed, given, tokens), expected, atol=1e-6)


def test_the_slope_of_a_weight_is_its_state_s_distance_from_the_mean():
    """ds/dc_i = 10 sigmoid(10 c_i) / sum_j softplus(10 c_j) (h_i - s); an absent piece has none."""
    params = build.initialise(BAG, 20, jax.random.key(0))
    c = 0.1 * jax.random.normal(jax.random.key(1), (20,))
    tokens, direction = np.array([3, 7, 5]), np.arange(8) - 2.5

    def along(c):
        given = {"encoder": {**params["encoder"], "piece_weights": c}}
        return vectors(BAG, given, [[*tokens, 0, 0]])[0] @ direction

    rows = np.array(params["encoder"]["words"], np.float64)[tokens]
    states = (rows - rows.mean(1, keepdims=True)) / rows.std(1, keepdims=True)
    raised = np.exp(10 * np.array(c, np.float64)[tokens])
    weight = np.log(1 + raised)
    mean = weight @ states / weight.sum()
    slope = 10 * raised / (1 + raised) / weight.sum() * ((states - mean) @ direction)
    gradient = np.array(jax.grad(along)(c))
    np.testing.assert_allclose(gradient[tokens], slope, rtol=1e-4)
    assert np.abs(slope).min() > 1e-3
    assert not np.delete(gradient, tokens).any()


def test_no_weight_is_too_small_or_too_large():
    states = jnp.arange(6.0).reshape(1, 2, 3)
    for weight in (1e-12, 1.0, 1e12):
        np.testing.assert_allclose(
            weighted_pool(states, jnp.full((1, 2), weight)), [[1.5, 2.5, 3.5]], rtol=1e-6
        )
    np.testing.assert_array_equal(weighted_pool(states, jnp.zeros((1, 2))), 0)
    for c in (-1e4, 1e4):
        small = bundle(layers=0, pooling="weighted")
        small.params["piece_weights"][:] = c
        for backend in ("numpy", "jax"):
            assert np.isfinite(Encoder(small, backend=backend).encode(TEXT[:3])).all()


def test_weights_are_cut_with_their_pieces_and_stay_float32():
    small = quantize(bundle(layers=1, pooling="weighted"), "int8")
    assert small.params["piece_weights"].dtype == np.float32
    trimmed = trim_vocabulary(small, (("en", text) for text in TEXT[:10]))
    assert len(trimmed.params["piece_weights"]) == trimmed.vocab_size < small.vocab_size
    np.testing.assert_array_equal(
        Encoder(trimmed).encode(TEXT[:10]), Encoder(small).encode(TEXT[:10])
    )


@pytest.mark.parametrize("new_pieces", ["parts", "similar"])
def test_another_tokenizer_s_pieces_have_the_weights_that_they_had(new_pieces):
    base = bundle(layers=1, pooling="weighted")
    special, report = specialise(base, TEXT * 5, "de", 120, new_pieces)
    ours, theirs = special.params["piece_weights"], base.params["piece_weights"]
    old, new = Tokenizer(base.tokenizer).pieces(), Tokenizer(special.tokenizer).pieces()
    known = [(row, old.index(piece)) for row, piece in enumerate(new) if piece in old]
    assert len(known) == report.copied > 50
    for row, number in known:
        assert ours[row] == theirs[number]
    assert ours.shape == (special.vocab_size,)
    plain = bundle(layers=1)
    plain.params["words"][:] = base.params["words"]
    alone, _ = specialise(plain, TEXT * 5, "de", 120, new_pieces)
    np.testing.assert_array_equal(special.params["words"], alone.params["words"])
