"""Targets and loss of the generative tasks, against loops that follow the paper's code."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lightxling.objectives import tokens as tokens_module
from lightxling.objectives.tokens import MASK, apply_mask, piece_weights, targets, token_loss

REFERENCE = {
    "kind": "ugt",
    "duplicates": "fill",
    "mlm_overwrite": True,
    "xtr_from": "masked",
}
VOCAB = 30


def random_pairs(pairs=6, length=7, vocab=VOCAB, seed=0):
    """Pairs with repeated pieces and padding; some masked words also stand on the other side."""
    rng = np.random.default_rng(seed)
    tokens = rng.integers(3, 3 + vocab // 4, (pairs, 2, length))
    sizes = rng.integers(2, length + 1, (pairs, 2))
    tokens *= np.arange(length) < sizes[..., None]
    side = rng.integers(0, 2, pairs)
    position = (rng.random(pairs) * sizes[np.arange(pairs), side]).astype(int)
    return tokens.astype(np.int32), (side * length + position).astype(np.int32)


def dense(ids, weights, vocab=VOCAB):
    """Sparse targets as a [B, 2, V] table."""
    table = np.zeros((*ids.shape[:2], vocab))
    for index in np.ndindex(*ids.shape):
        table[index[0], index[1], ids[index]] += weights[index]
    return table


def reference_targets(tokens, masked, *, kind, duplicates, mlm_overwrite, xtr_from):
    """A loop over pairs, sides and pieces; `index_fill_` is a plain assignment."""
    table = np.zeros((len(tokens), 2, VOCAB))
    for b, pair in enumerate(tokens):
        c, position = divmod(int(masked[b]), pair.shape[1])
        o, word = 1 - c, int(pair[c, position])
        hidden = pair.copy()
        hidden[c, position] = MASK
        seen = {
            o: [int(i) for i in pair[o] if i],
            c: [int(i) for i in (hidden if xtr_from == "masked" else pair)[c] if i],
        }

        def mass(piece, sentence):
            n = len(sentence)
            return {
                "fill": 1 / n,
                "count": sentence.count(piece) / n,
                "uniform": 1 / len(set(sentence)),
            }[duplicates]

        if kind in ("ugt", "smlm"):
            table[b, c, word] = 0.5 if kind == "ugt" else 1
        if kind in ("ugt", "xtr"):
            share = 0.5 if kind == "ugt" else 1
            for piece in set(seen[o]):
                value = share * mass(piece, seen[o])
                if piece == word and kind == "ugt" and not mlm_overwrite:
                    value += table[b, c, piece]
                table[b, c, piece] = value
            for piece in set(seen[c]):
                table[b, o, piece] = mass(piece, seen[c])
    return table


@pytest.mark.parametrize("kind", ["ugt", "xtr", "smlm"])
@pytest.mark.parametrize("duplicates", ["fill", "count", "uniform"])
@pytest.mark.parametrize("mlm_overwrite", [True, False])
@pytest.mark.parametrize("xtr_from", ["masked", "original"])
def test_targets_equal_a_loop_over_pieces(kind, duplicates, mlm_overwrite, xtr_from):
    options = {
        "kind": kind,
        "duplicates": duplicates,
        "mlm_overwrite": mlm_overwrite,
        "xtr_from": xtr_from,
    }
    tokens, masked = random_pairs(pairs=20)
    ids, weights = targets(jnp.array(tokens), jnp.array(masked), **options)
    expected = reference_targets(tokens, masked, **options)
    np.testing.assert_allclose(dense(np.array(ids), np.array(weights)), expected, atol=1e-6)


def mass_of_masked_side(masked_sentence, other_sentence, position, **changes):
    length = max(len(masked_sentence), len(other_sentence))
    pair = [s + [0] * (length - len(s)) for s in (masked_sentence, other_sentence)]
    _, weights = targets(jnp.array([pair]), jnp.array([position]), **{**REFERENCE, **changes})
    return float(weights[0, 0].sum())


def test_row_sums_of_the_reference():
    """A duplicate costs its share, a masked word that stands on the other side costs half."""
    assert mass_of_masked_side([5, 6], [7, 8, 8, 9], 0) == pytest.approx(0.875)
    assert mass_of_masked_side([5, 6], [5, 7, 8, 9], 0) == pytest.approx(0.5)
    assert mass_of_masked_side([5, 6], [7, 8, 9], 0) == pytest.approx(1.0)


def test_row_sums_of_clean_targets():
    clean = {"duplicates": "count", "mlm_overwrite": False, "xtr_from": "original"}
    for other in ([7, 8, 8, 9], [5, 7, 8, 9], [7, 8, 9]):
        assert mass_of_masked_side([5, 6], other, 0, **clean) == pytest.approx(1.0)


def test_only_the_reference_asks_for_the_mask_symbol():
    tokens, masked = random_pairs()
    for xtr_from, expected in (("masked", True), ("original", False)):
        ids, weights = targets(
            jnp.array(tokens), jnp.array(masked), **{**REFERENCE, "xtr_from": xtr_from}
        )
        assert bool(jnp.any((ids == MASK) & (weights > 0))) == expected


def test_apply_mask_changes_one_piece_of_each_pair():
    tokens, masked = random_pairs()
    changed = np.array(apply_mask(jnp.array(tokens), jnp.array(masked)))
    assert ((changed != tokens).sum(axis=(1, 2)) == 1).all()
    assert (changed.reshape(len(tokens), -1)[np.arange(len(tokens)), masked] == MASK).all()


def test_an_empty_sentence_has_no_targets():
    weights = piece_weights(jnp.zeros((2, 4), jnp.int32), "fill")
    np.testing.assert_array_equal(weights, 0)


@pytest.mark.parametrize("duplicates", ["fill", "count", "uniform"])
def test_weights_do_not_depend_on_the_blocks(duplicates, monkeypatch):
    ids = jnp.array(random_pairs(pairs=9)[0].reshape(18, 7))
    whole = piece_weights(ids, duplicates)
    for cells in (1, 18 * 7 * 3):  # one and three columns at once; 7 is no multiple of 3
        monkeypatch.setattr(tokens_module, "BLOCK_CELLS", cells)
        np.testing.assert_array_equal(piece_weights(ids, duplicates), whole)


def temporaries(function, *shapes) -> int:
    """Bytes that the compiled function needs beside its arguments and results."""
    arguments = [jax.ShapeDtypeStruct(shape, dtype) for shape, dtype in shapes]
    return jax.jit(function).lower(*arguments).compile().memory_analysis().temp_size_in_bytes


def test_targets_of_a_large_batch_stay_small():
    rows, length = 16_384, 201
    weights = functools.partial(piece_weights, duplicates="count")
    assert temporaries(weights, ((rows, length), jnp.int32)) < rows * length * length / 3


def test_logits_of_a_large_batch_stay_small():
    rows, slots = 16_384, 201
    gradient = jax.value_and_grad(functools.partial(token_loss, chunk=8192), argnums=(0, 1, 2))
    f32, i32 = jnp.float32, jnp.int32
    shapes = ((rows, 32), f32), ((50_000, 32), f32), ((50_000,), f32)
    targets = ((rows, slots), i32), ((rows, slots), f32)
    assert temporaries(gradient, *shapes, *targets) < 4 * rows * 8192 * 0.6


def problem(rows=5, width=4, vocab=23, slots=6, seed=1):
    rng = np.random.default_rng(seed)
    hidden = rng.normal(size=(rows, width))
    table = rng.normal(size=(vocab, width))
    bias = rng.normal(size=vocab)
    ids = np.stack([rng.permutation(vocab)[:slots] for _ in range(rows)])
    weights = rng.random((rows, slots)) * (rng.random((rows, slots)) < 0.7)
    arrays = [jnp.array(x, jnp.float32) for x in (hidden, table, bias)]
    return (hidden, table, bias, ids, weights), (
        *arrays,
        jnp.array(ids, jnp.int32),
        jnp.array(weights, jnp.float32),
    )


def kl_loop(hidden, table, bias, ids, weights):
    """Float64, one dense row at a time."""
    total = 0.0
    for r in range(len(hidden)):
        z = table @ hidden[r] + bias
        log_q = z - z.max() - np.log(np.exp(z - z.max()).sum())
        for v, t in zip(ids[r], weights[r], strict=True):
            if t > 0:
                total += t * (np.log(t) - log_q[v])
    return total


@pytest.mark.parametrize("chunk", [0, 23, 8, 5, 100])
def test_token_loss_equals_a_dense_loop(chunk):
    exact, arrays = problem()
    np.testing.assert_allclose(token_loss(*arrays, chunk=chunk), kl_loop(*exact), rtol=1e-5)


@pytest.mark.parametrize("chunk", [0, 8, 5])
def test_token_loss_gradient_equals_finite_differences(chunk):
    exact, arrays = problem()
    gradients = jax.grad(functools.partial(token_loss, chunk=chunk), argnums=(0, 1, 2))(*arrays)
    rng = np.random.default_rng(2)
    for which, gradient in enumerate(gradients):
        direction = rng.normal(size=gradient.shape)
        moved = [list(exact), list(exact)]
        for sign, arguments in zip((1, -1), moved, strict=True):
            arguments[which] = exact[which] + sign * 1e-5 * direction
        slope = (kl_loop(*moved[0]) - kl_loop(*moved[1])) / 2e-5
        assert np.sum(np.array(gradient) * direction) == pytest.approx(slope, rel=1e-4)


def test_token_loss_is_zero_for_the_right_distribution():
    vocab = 8
    weights = jnp.full((3, vocab), 1 / vocab)
    ids = jnp.tile(jnp.arange(vocab), (3, 1))
    loss = token_loss(jnp.zeros((3, 4)), jnp.ones((vocab, 4)), jnp.zeros(vocab), ids, weights)
    np.testing.assert_allclose(loss, 0, atol=1e-5)
