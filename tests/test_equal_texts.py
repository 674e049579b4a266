"""Equal texts are no negatives of each other: loops over texts, closed forms, devices, pieces."""

import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from lightxling.base.errors import UserError
from lightxling.config.files import load
from lightxling.config.objectives import (
    AlignConfig,
    PivotConfig,
    QuickThoughtConfig,
    RankingConfig,
    SoftConfig,
    only,
)
from lightxling.config.rules import validate
from lightxling.config.schema import ModelConfig
from lightxling.config.settings import change
from lightxling.corpus.batch import Batch
from lightxling.model import build as models
from lightxling.objectives import combine
from lightxling.objectives.contrast import alignment
from lightxling.objectives.equal import no_negatives, text_hashes
from lightxling.saved.bundle import read_run
from lightxling.train.loop import train
from lightxling.train.micro_batch import value_and_grad

B, L, D, V = 16, 6, 8, 40
TEXTS = np.array(
    # rows 0 and 3 are one pair; 1 and 5 share the first side, 2 and 6 the second; 4 is its own
    # translation; the second side of 7 is the first of 8
    [[0, 1], [2, 3], [4, 5], [0, 1], [6, 6], [2, 7], [8, 5], [9, 10], [10, 11]]
    + [[20 + i, 40 + i] for i in range(B - 9)]
)


def tokens(texts, length=L):
    """Any number of pieces for every text, the same for equal ones."""
    out = np.zeros((*np.shape(texts), length), np.int32)
    for place in np.ndindex(np.shape(texts)):
        rng = np.random.default_rng(texts[place])
        count = rng.integers(2, L + 1)
        out[place][:count] = rng.integers(3, V, count)
    return out


def batch(texts=TEXTS, **more):
    languages = np.zeros((len(texts), texts.shape[1]), np.int32)
    whole = Batch(tokens(texts), np.zeros(len(texts), np.int32), languages, **more)
    return jax.tree.map(jnp.array, whole)


def is_no_negative(texts, query, candidate, i, j):
    """Whether candidate j is right, or as good as right, for query i."""
    return i != j and (
        texts[j][candidate] == texts[i][candidate]
        or texts[j][query] == texts[i][query]
        or texts[j][candidate] == texts[i][query]
    )


def nll_loop(scores, is_out, i):
    below = sum(np.exp(score) for j, score in enumerate(scores) if not is_out(j))
    return np.log(below) - scores[i]


def draw(*shape):
    return np.random.default_rng([7, *shape]).normal(size=shape)


def loss_of(objectives, vectors, given):
    """The objective of vectors [S, B, D], as the training step computes it."""
    model = models.merge(*built(objectives))
    encoded = combine.EncodedBatch(jnp.array(vectors, jnp.float32)[None])
    return float(combine.score_batch(objectives, model, given, encoded, None)[0])


def built(objectives):
    config = ModelConfig(layers=0, width=D, heads=1, max_length=L, dropout=0.0)
    heads = combine.heads_of(objectives, 2)
    params = models.initialise(config, V, jax.random.key(0), heads)
    return models.structure(config, V, heads), params


def unit(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def align_loop(texts, src, tgt, temperature):
    z = unit(src) @ unit(tgt).T / temperature
    total = 0.0
    for i in range(len(z)):
        total += nll_loop(z[i], lambda j, i=i: is_no_negative(texts, 0, 1, i, j), i)
        total += nll_loop(z[:, i], lambda j, i=i: is_no_negative(texts, 1, 0, i, j), i)
    return total / len(z)


ALIGN = only(
    align=AlignConfig(weight=1.0, similarity="cosine", temperature=0.2, exclude_equal=True)
)


def test_alignment_equals_a_loop_over_texts():
    src, tgt = draw(2, B, D)
    ours = loss_of(ALIGN, [src, tgt], batch())
    np.testing.assert_allclose(ours, align_loop(TEXTS, src, tgt, 0.2), rtol=1e-5)
    off = change(ALIGN, align__exclude_equal=False)
    assert ours < loss_of(off, [src, tgt], batch()) - 0.01


def test_hard_labels_are_alignment():
    src, tgt = draw(2, B, D)
    soft = SoftConfig(weight=1.0, labels="hard", temperature=0.2, exclude_equal=True)
    ours = loss_of(only(soft=soft), [src, tgt], batch())
    np.testing.assert_allclose(ours, align_loop(TEXTS, src, tgt, 0.2), rtol=1e-5)
    with_mono = only(soft=change(soft, tcm=True))
    assert np.isfinite(loss_of(with_mono, [src, tgt], batch()))


def test_the_pivot_equals_a_loop_over_texts():
    trained, teacher = draw(2, B, D)
    pivot = np.arange(B, dtype=np.int32) % 2
    both = np.stack([teacher, teacher], 1).astype("f")  # of either side, the same
    given = batch(teacher=both, pivot=pivot)
    z = unit(trained) @ unit(teacher).T / 0.05
    sides = np.where(pivot[:, None] == 1, TEXTS, TEXTS[:, ::-1])  # what is trained, then the pivot
    wanted = np.mean(
        [nll_loop(z[i], lambda j, i=i: is_no_negative(sides, 0, 1, i, j), i) for i in range(B)]
    )
    settings = only(pivot=PivotConfig(weight=1.0, exclude_equal=True))
    np.testing.assert_allclose(loss_of(settings, [trained], given), wanted, rtol=1e-5)


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("direction", ["forward", "backward", "both"])
def test_ranking_equals_a_loop_over_texts(direction, shared):
    """With two hard negatives of each sentence, some of them equal to what is right."""
    N = 2
    hard = np.array([[60 + i, 80 + i] for i in range(B)])
    hard[0, 0], hard[2, 1], hard[5, 0], hard[9, 1] = TEXTS[0, 1], TEXTS[2, 0], 1, 5
    columns = [TEXTS] + [hard] * (2 if direction == "both" else 1)
    texts = np.concatenate(columns, axis=1)
    vectors = draw(texts.shape[1], B, D)
    ways = {"forward": [(0, 1, 2)], "backward": [(1, 0, 2)], "both": [(0, 1, 2), (1, 0, 4)]}
    wanted = 0.0
    for query, candidate, first in ways[direction]:
        for i in range(B):
            scores, out = [], []
            for j in range(B):
                scores.append(vectors[query, i] @ vectors[candidate, j])
                out.append(is_no_negative(texts, query, candidate, i, j))
            for k in range(first, first + N):
                for j in range(B) if shared else [i]:
                    scores.append(vectors[query, i] @ vectors[k, j])
                    right = texts[i, candidate], texts[i, query]
                    out.append(texts[j, k] in right)
            wanted += nll_loop(np.array(scores), lambda j, out=out: out[j], i) / B
    settings = RankingConfig(
        weight=1.0,
        direction=direction,
        negatives=N,
        mined_by="x",
        shared_negatives=shared,
        exclude_equal=True,
    )
    ours = loss_of(only(ranking=settings), vectors, batch(texts))
    np.testing.assert_allclose(ours, wanted, rtol=1e-5)


def test_quick_thought_leaves_out_equal_neighbours():
    """Three texts that all stand twice: every row has one answer that is not wrong."""
    texts = np.tile(np.arange(3 * B // 2).reshape(-1, 3), (2, 1))
    settings = only(quick_thought=QuickThoughtConfig(weight=1.0, hidden=4, exclude_equal=True))
    same = np.ones((3, B, D))
    np.testing.assert_allclose(loss_of(settings, same, batch(texts)), 2 * np.log(B - 1), rtol=1e-5)


@pytest.mark.parametrize("copies", [1, 2, 4, B])
def test_rows_that_stand_several_times(copies):
    """All vectors equal: of B cells of a row, those of its copies are left out. A batch of one pair
    alone has nothing to learn, where it cost 2 log B."""
    texts = np.arange(2 * B).reshape(B, 2) // 2 // copies * 2 + np.arange(2)
    same = np.ones((2, B, D))
    ours = loss_of(ALIGN, same, batch(texts))
    np.testing.assert_allclose(ours, 2 * np.log(B - copies + 1), atol=1e-5)


def test_without_equal_texts_nothing_changes():
    src, tgt = (jnp.array(x, jnp.float32) for x in draw(2, B, D))
    texts = text_hashes(jnp.array(tokens(np.arange(2 * B).reshape(B, 2))))
    left_out = no_negatives(texts[:, 0], texts[:, 1])
    assert not left_out.any()
    loss = functools.partial(alignment, temperature=0.1)
    gradient = jax.jit(jax.value_and_grad(loss, argnums=(0, 1)))
    ours = gradient(src, tgt, left_out=left_out)
    rounding = functools.partial(np.testing.assert_allclose, atol=1e-6)
    jax.tree.map(rounding, ours, gradient(src, tgt))


def test_hashes_are_of_the_text_alone():
    texts = np.arange(500)
    short, long = (text_hashes(jnp.array(tokens(texts, length))) for length in (L, 3 * L))
    np.testing.assert_array_equal(short, long)  # whatever the padding
    different = np.unique(tokens(texts), axis=0)
    assert len(np.unique(np.asarray(short), axis=0)) == len(different)
    for half in short.T:  # each alone tells short sentences of few pieces apart
        assert len(np.unique(np.asarray(half))) == len(different)
    pairs = jnp.array([[5, 7, 0], [7, 5, 0], [5, 7, 5], [12, 0, 0]], jnp.int32)
    assert len(np.unique(np.asarray(text_hashes(pairs)), axis=0)) == 4


def test_the_gradient_is_the_same_on_eight_devices_and_in_pieces(mesh):
    graphdef, params = built(ALIGN)
    given = batch()
    whole = jax.jit(value_and_grad(ALIGN, graphdef))(params, given, None)
    by_row = NamedSharding(mesh, P("data"))
    split = jax.device_put(given, by_row)
    for micro_batch, rows in ((0, split), (8, given), (8, split)):
        (loss, _), grads = jax.jit(value_and_grad(ALIGN, graphdef, micro_batch))(params, rows, None)
        np.testing.assert_allclose(loss, whole[0][0], rtol=1e-6)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), grads, whole[1])


def test_which_recipes_leave_equal_texts_out():
    for name in ("light", "many", "boxed", "light-soft", "grow"):
        assert load(name).objectives.align.exclude_equal, name
    for name in ("acl2021", "clean", "ems", "ems-code", "dual-encoder", "soft", "modular-align"):
        for term in load(name).objectives.active().values():
            assert not getattr(term, "exclude_equal", False), name


@pytest.mark.parametrize(
    ("objectives", "message"),
    [
        (only(soft=SoftConfig(weight=1.0, exclude_equal=True)), "soft.* labels=hard only"),
        (
            only(ranking=RankingConfig(weight=1.0, exclude_equal=True, exclude_positive=True)),
            "ranking.* exclude_positive=False only",
        ),
        (
            only(pivot=PivotConfig(weight=1.0, exclude_equal=True, loss="cosine")),
            "pivot.* loss=contrastive only",
        ),
    ],
)
def test_where_it_means_nothing_it_is_refused(objectives, message):
    with pytest.raises(UserError, match=message):
        validate(change(load("light"), objectives=objectives))


def test_a_run_of_light_that_was_begun_before_goes_on(tiny, tmp_path, capsys):
    """Its config.json has no such setting, and the same command resumes it."""
    light = load("light")
    config = change(tiny, name="light", objectives__align=light.objectives.align)
    run = tmp_path / "run"
    train(change(config, train__pairs=32, objectives__align__exclude_equal=False), run)
    about = json.loads((run / "config.json").read_text())
    for term in about["config"]["objectives"].values():
        term.pop("exclude_equal", None)
    (run / "config.json").write_text(json.dumps(about))
    capsys.readouterr()
    train(change(config, train__pairs=64), run)
    printed = capsys.readouterr().out
    assert "begun before there was objectives.align.exclude_equal: it goes on with False" in printed
    assert "resuming from" in printed
    assert read_run(run).config.objectives.align.exclude_equal is False

    # one that has the setting is another run
    with pytest.raises(UserError, match="exclude_equal: False -> True"):
        train(change(config, train__pairs=96), run)
