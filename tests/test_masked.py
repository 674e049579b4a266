"""Masked language modelling: which pieces, what the encoder sees, and the loss."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lightxling.base.errors import UserError
from lightxling.config.files import load as load_recipe
from lightxling.config.objectives import MlmConfig, TokensConfig
from lightxling.config.rules import validate
from lightxling.config.schema import Config, ModelConfig
from lightxling.corpus.batch import Batch
from lightxling.model import build as models
from lightxling.objectives import combine, masked
from lightxling.train.micro_batch import value_and_grad

VOCAB, PAD, UNK, MASK = 30, 0, 1, 2


def text(rows=400, sides=1, length=20, seed=0):
    """Sentences of 1 to `length` pieces, now and then unknown ones."""
    rng = np.random.default_rng(seed)
    tokens = rng.integers(3, VOCAB, (rows, sides, length))
    tokens[rng.random(tokens.shape) < 0.05] = UNK
    return tokens * (np.arange(length) < rng.integers(1, length + 1, (rows, sides, 1)))


def test_a_fixed_share_of_the_pieces_is_chosen_once_each():
    tokens = text()
    slots = np.array(masked.choose(jnp.array(tokens), 0.15, jax.random.key(0)))
    assert slots.shape == (400, 1, 3)
    for row, chosen in zip(tokens[:, 0], slots[:, 0], strict=True):
        used = chosen[chosen >= 0]
        pieces = int((row >= 3).sum())
        assert len(used) == (max(1, round(0.15 * pieces)) if pieces else 0)
        assert len(set(used)) == len(used)
        assert (row[used] >= 3).all()
    tokens = np.full((4000, 1, 5), 7)
    slots = np.array(masked.choose(jnp.array(tokens), 0.15, jax.random.key(0)))
    counts = np.bincount(slots.reshape(-1), minlength=5)
    assert np.abs(counts - 800).max() < 4 * np.sqrt(800)


def test_of_ten_chosen_pieces_eight_are_hidden_and_one_is_another():
    tokens = jnp.array(text(4000, 2))
    slots = masked.choose(tokens, 0.15, jax.random.key(0))
    draw = functools.partial(masked.corrupt, tokens, slots, jax.random.key(1), vocab_size=VOCAB)
    seen, tokens, slots = np.array(draw(mask=0.8, random=0.1)), np.array(tokens), np.array(slots)
    is_slot = np.zeros(tokens.shape, bool)
    row, side, _ = np.nonzero(slots >= 0)
    is_slot[row, side, slots[slots >= 0]] = True
    np.testing.assert_array_equal(seen[~is_slot], tokens[~is_slot])
    now, then = seen[is_slot], tokens[is_slot]
    hidden = (now == MASK).mean()
    other = ((now != MASK) & (now != then)).mean()
    assert hidden == pytest.approx(0.8, abs=0.02)
    assert other == pytest.approx(0.1 * 26 / 27, abs=0.02)  # 1 of 27 draws is the piece itself
    assert now.min() >= MASK
    picked = np.array(masked.pick(jnp.array(tokens), jnp.array(slots)))
    np.testing.assert_array_equal(picked[slots >= 0], tokens[row, side, slots[slots >= 0]])
    assert (picked[slots < 0] == PAD).all()
    everything = np.array(draw(mask=1.0, random=0.0))
    assert (everything[is_slot] == MASK).all()
    np.testing.assert_array_equal(draw(mask=0.0, random=0.0), tokens)


@pytest.mark.parametrize("chunk", [0, 7])
def test_the_loss_is_the_mean_cross_entropy_of_a_loop(chunk):
    rng = np.random.default_rng(0)
    hidden, table, bias = (rng.normal(size=s) for s in ((6, 8), (VOCAB, 8), (VOCAB,)))
    answers = np.array([5, 0, 9, 0, 29, 5])
    total = 0.0
    for h, answer in zip(hidden, answers, strict=True):
        if answer:
            z = table @ h + bias
            total += np.log(np.sum(np.exp(z - z.max()))) + z.max() - z[answer]
    arrays = [jnp.array(x, jnp.float32) for x in (hidden, table, bias)]
    loss = masked.masked_loss(*arrays, jnp.array(answers), chunk=chunk)
    np.testing.assert_allclose(loss, total / 4, rtol=1e-5)
    assert masked.masked_loss(*arrays, jnp.zeros(6, int), chunk=chunk) == 0


SMALL = ModelConfig(layers=1, width=16, heads=2, feedforward=16, max_length=20, dropout=0.0)
OBJECTIVES = load_recipe("modular-language").objectives
HEADS = combine.heads_of(OBJECTIVES, 1)


@pytest.fixture(scope="module")
def problem():
    graphdef = models.structure(SMALL, VOCAB, HEADS)
    params = models.initialise(SMALL, VOCAB, jax.random.key(0), HEADS)
    tokens = jnp.array(text(8, 1), jnp.int32)
    return graphdef, params, Batch(tokens, jnp.zeros(8, jnp.int32))


def test_the_objective_predicts_every_masked_position_from_its_own_state(problem):
    """Position by position: the sentence alone, through the encoder and the head."""
    graphdef, params, batch = problem
    key = jax.random.key(3)
    loss, terms = jax.jit(combine.loss, static_argnums=(0, 1))(
        OBJECTIVES, graphdef, params, batch, key
    )
    assert terms.keys() == {"mlm"}
    model = models.merge(graphdef, params)
    hidden = combine.mask_batch(OBJECTIVES, model, batch, key)
    assert not np.array_equal(hidden.tokens, batch.tokens)
    total, count = 0.0, 0
    predict = jax.jit(lambda p, state: models.merge(graphdef, p).prediction(state[None]))
    encode = jax.jit(lambda p, t: models.merge(graphdef, p).encoder.states(t)[-1][0])
    for row in range(len(batch.tokens)):
        states = encode(params, hidden.tokens[row])
        for position in np.array(hidden.slots)[row, 0]:
            if position < 0:
                continue
            h, table, bias = (np.array(x, np.float64) for x in predict(params, states[position]))
            z = table @ h[0] + bias
            answer = int(batch.tokens[row, 0, position])
            total += np.log(np.sum(np.exp(z - z.max()))) + z.max() - z[answer]
            count += 1
    np.testing.assert_allclose(loss, total / count, rtol=1e-4)


def test_masks_are_the_same_in_pieces(problem):
    graphdef, params, batch = problem
    key = jax.random.key(3)
    (loss, _), whole = jax.jit(value_and_grad(OBJECTIVES, graphdef))(params, batch, key)
    (same, _), grads = jax.jit(value_and_grad(OBJECTIVES, graphdef, 2))(params, batch, key)
    np.testing.assert_allclose(same, loss, rtol=1e-5)
    for a, b in zip(jax.tree.leaves(whole), jax.tree.leaves(grads), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5 * max(1, float(jnp.abs(a).max())))


def test_a_word_that_is_hidden_hides_its_letters(problem):
    *_, batch = problem
    config = dataclasses.replace(SMALL, ngrams=5)
    fresh = models.initialise(config, VOCAB, jax.random.key(0), HEADS)
    graphdef = models.structure(config, VOCAB, HEADS)
    letters = np.random.default_rng(0).integers(1, 6, (*batch.tokens.shape, 4))
    batch = batch._replace(ngrams=jnp.array(letters, jnp.int32))
    seen = combine.mask_batch(OBJECTIVES, models.merge(graphdef, fresh), batch, jax.random.key(3))
    is_changed = np.array(seen.tokens != batch.tokens)
    assert is_changed.any(axis=(0, 2)).all()
    assert not np.array(seen.ngrams)[is_changed].any()
    np.testing.assert_array_equal(np.array(seen.ngrams)[~is_changed], letters[~is_changed])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mlm": MlmConfig(weight=1.0), "tokens": TokensConfig()}, "both ask for the token head"),
        ({"mlm": MlmConfig(weight=1.0, share=0.0)}, "share=0.0 should be between 0 and 1"),
        ({"mlm": MlmConfig(weight=1.0, mask=0.9, random=0.2)}, "mask=0.9 and random=0.2"),
        ({"tokens": TokensConfig(weight=0.0, decoder="untied")}, "the encoder's own table"),
    ],
)
def test_impossible_settings_are_named(changes, message):
    with pytest.raises(UserError, match=message):
        validate(Config(objectives=dataclasses.replace(OBJECTIVES, **changes)))
