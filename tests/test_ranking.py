"""Losses of the multi-task dual encoder: closed forms, float64 loops, eight devices; its heads."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from lightxling.config.objectives import InferenceConfig, QuickThoughtConfig, RankingConfig, only
from lightxling.config.schema import ModelConfig
from lightxling.corpus.batch import Batch
from lightxling.model import build as models
from lightxling.objectives import combine
from lightxling.objectives.combine import heads_of
from lightxling.objectives.inference import classification, pair_features, score_regression
from lightxling.objectives.ranking import quick_thought, ranking

B, D, K, V = 8, 6, 3, 30


def draw(*shape, seed=0):
    return np.random.default_rng([seed, *shape]).normal(size=shape)


def f32(*arrays):
    return [jnp.array(x, jnp.float32) for x in arrays]


def ranking_loop(q, c, n=None, *, scale=1.0, margin=0.0, exclude=False, shared=False):
    """The docstring's formula, one exponential at a time."""
    total = 0.0
    for i in range(len(q)):
        right = scale * (sum(q[i] * c[i]) - margin)
        below = 0.0
        for j in range(len(c)):
            if j == i:
                below += 0 if exclude else np.exp(right)
            else:
                below += np.exp(scale * sum(q[i] * c[j]))
        if n is not None:
            for k in range(len(n)):
                for j in range(len(c)) if shared else [i]:
                    below += np.exp(scale * sum(q[i] * n[k, j]))
        total -= right - np.log(below)
    return total / len(q)


@pytest.mark.parametrize("negatives", [0, K])
@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ({}, {}),
        ({"scale": 2.5, "margin": 0.3}, {"scale": 2.5, "margin": 0.3}),
        ({"exclude_positive": True, "margin": 0.5}, {"exclude": True, "margin": 0.5}),
        ({"shared_negatives": True}, {"shared": True}),
    ],
)
def test_ranking_equals_a_loop(negatives, ours, theirs):
    q, c = draw(B, D), draw(B, D, seed=1)
    n = draw(negatives, B, D) if negatives else None
    ranked = ranking(*f32(q, c), None if n is None else f32(n)[0], **ours)
    np.testing.assert_allclose(ranked, ranking_loop(q, c, n, **theirs), rtol=1e-5)


def test_equal_vectors_cost_the_logarithm_of_the_candidates():
    same, hard = jnp.ones((B, D)), jnp.ones((K, B, D))
    np.testing.assert_allclose(ranking(same, same), np.log(B), rtol=1e-6)
    np.testing.assert_allclose(ranking(same, same, hard), np.log(B + K), rtol=1e-6)
    shared = ranking(same, same, hard, shared_negatives=True)
    np.testing.assert_allclose(shared, np.log(B + B * K), rtol=1e-6)
    np.testing.assert_allclose(ranking(same, same, exclude_positive=True), np.log(B - 1), rtol=1e-6)


def test_quick_thought_is_the_sum_of_two_rankings():
    x, before, after = (draw(B, D, seed=s) for s in range(3))
    expected = ranking_loop(x, before) + ranking_loop(x, after)
    np.testing.assert_allclose(quick_thought(*f32(x, before, after)), expected, rtol=1e-5)


def test_inference_equals_a_loop():
    logits, labels = draw(B, 3), np.arange(B) % 3
    expected = -np.mean(
        [logits[i, y] - np.log(sum(np.exp(logits[i]))) for i, y in enumerate(labels)]
    )
    np.testing.assert_allclose(
        classification(f32(logits)[0], jnp.array(labels)), expected, rtol=1e-5
    )


def test_features_are_both_vectors_their_difference_and_product():
    u, v = jnp.array([1.0, 2.0]), jnp.array([3.0, -4.0])
    np.testing.assert_array_equal(pair_features(u, v), [1, 2, 3, -4, 2, 6, 3, -8])


def test_score_regression_equals_a_loop():
    u, v, scores = draw(B, D), draw(B, D, seed=1), np.linspace(0, 1, B)
    cosines = [sum(a * b) / (sum(a * a) * sum(b * b)) ** 0.5 for a, b in zip(u, v, strict=True)]
    expected = np.mean([(c - s) ** 2 for c, s in zip(cosines, scores, strict=True)])
    np.testing.assert_allclose(score_regression(*f32(u, v, scores)), expected, rtol=1e-5)
    assert float(score_regression(*f32(u, 3 * u, np.ones(B)))) < 1e-10


@pytest.mark.parametrize("shared", [False, True])
def test_the_gradient_is_the_same_on_eight_devices(mesh, shared):
    def loss(q, c, n):
        return ranking(q, c, n.swapaxes(0, 1), shared_negatives=shared)

    arrays = f32(draw(B, D), draw(B, D, seed=1), draw(B, K, D))
    gradient = jax.jit(jax.grad(loss, argnums=(0, 1, 2)))
    split = jax.device_put(arrays, NamedSharding(mesh, P("data")))
    for ours, theirs in zip(gradient(*split), gradient(*arrays), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-6)


# Heads

SMALL = ModelConfig(layers=0, width=D, max_length=5, dropout=0.0, init="scaled")


def params_of(objectives):
    """Parameters of a small model, and how many each head has."""
    initialise = functools.partial(models.initialise, SMALL, V, heads=heads_of(objectives, 2))
    params = jax.jit(initialise)(jax.random.key(0))
    return params, {
        name: models.count_parameters(params[name]) for name in params if name != "encoder"
    }


def fc_count(hidden):
    return D * hidden + hidden + hidden * D + D


@pytest.mark.parametrize(
    ("objectives", "counts"),
    [
        (only(ranking=RankingConfig(weight=1.0)), {}),
        (only(ranking=RankingConfig(weight=1.0, head=5)), {"response": fc_count(5)}),
        (only(ranking=RankingConfig(weight=0.0, head=5)), {}),
        (
            only(quick_thought=QuickThoughtConfig(weight=1.0, hidden=4)),
            {"quick_thought": 3 * fc_count(4)},
        ),
        (
            only(inference=InferenceConfig(weight=1.0, hidden=7)),
            {"inference": 4 * D * 7 + 7 + 7 * 3 + 3},
        ),
    ],
)
def test_heads_have_the_layers_that_the_paper_gives_them(objectives, counts):
    assert params_of(objectives)[1] == counts


def test_the_paper_s_heads_at_its_width():
    """Two tanh layers of 320 and 512; a layer of 512 on four vectors of 512."""
    paper = ModelConfig(layers=0, width=512)
    objectives = only(
        quick_thought=QuickThoughtConfig(weight=1.0), inference=InferenceConfig(weight=1.0)
    )
    shapes = jax.eval_shape(
        lambda: models.initialise(paper, V, jax.random.key(0), heads_of(objectives, 2))
    )
    kernels = {
        jax.tree_util.keystr(path, simple=True, separator="."): leaf.shape
        for path, leaf in jax.tree_util.tree_leaves_with_path(shapes)
        if path[-1].key == "kernel"
    }
    for head in ("sentence", "before", "after"):
        assert kernels[f"quick_thought.{head}.hidden.kernel"] == (512, 320)
        assert kernels[f"quick_thought.{head}.out.kernel"] == (320, 512)
    assert kernels["inference.hidden.kernel"] == (2048, 512)
    assert kernels["inference.out.kernel"] == (512, 3)


# From a batch to its loss


def batch_of(sentences, labels=None):
    tokens = np.random.default_rng(0).integers(3, V, (B, sentences, 4)).astype(np.int32)
    return Batch(
        jnp.array(tokens),
        jnp.zeros(B, jnp.int32),
        labels=None if labels is None else jnp.array(labels, jnp.float32),
    )


def scored(objectives, batch):
    """The loss, the sentence vectors [S, B, D] in float64, and the parameters."""
    params, _ = params_of(objectives)
    graphdef = models.structure(SMALL, V, heads_of(objectives, 2))
    loss, _ = combine.loss(objectives, graphdef, params, batch, None)
    flat = models.encode_tokens(graphdef, params, batch.tokens.reshape(-1, 4))
    vectors = np.asarray(flat, np.float64).reshape(B, -1, D).swapaxes(0, 1)
    return float(loss), vectors, jax.tree.map(lambda x: np.asarray(x, np.float64), params)


def dense(layer, x):
    return np.tanh(x @ layer["kernel"] + layer["bias"])


def fc(head, x):
    return dense(head["out"], dense(head["hidden"], x))


@pytest.mark.parametrize("direction", ["forward", "backward", "both"])
def test_the_negatives_belong_to_the_side_that_is_looked_for(direction):
    """Two negatives for each direction; `both` has those of the second side first."""
    settings = RankingConfig(
        weight=1.0, direction=direction, negatives=2, mined_by="x", similarity="cosine", scale=5.0
    )
    batch = batch_of(6 if direction == "both" else 4)
    loss, vectors, _ = scored(only(ranking=settings), batch)
    src, tgt, *hard = vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)
    forward = ranking_loop(src, tgt, np.stack(hard[:2]), scale=5.0)
    backward = ranking_loop(tgt, src, np.stack(hard[-2:]), scale=5.0)
    parts = {"forward": forward, "backward": backward, "both": forward + backward}
    assert loss == pytest.approx(parts[direction], rel=1e-5)


def test_only_responses_go_through_the_head():
    settings = RankingConfig(weight=1.0, direction="forward", head=5)
    loss, (inputs, responses), params = scored(only(ranking=settings), batch_of(2))
    assert loss == pytest.approx(ranking_loop(inputs, fc(params["response"], responses)), rel=1e-5)


def test_quick_thought_reads_before_sentence_after():
    objectives = only(quick_thought=QuickThoughtConfig(weight=1.0, hidden=4))
    loss, (before, sentence, after), params = scored(objectives, batch_of(3))
    heads = params["quick_thought"]
    asked = fc(heads["sentence"], sentence)
    expected = ranking_loop(asked, fc(heads["before"], before))
    expected += ranking_loop(asked, fc(heads["after"], after))
    assert loss == pytest.approx(expected, rel=1e-5)


def test_inference_reads_the_labels_of_the_batch():
    labels = np.arange(B) % 3
    objectives = only(inference=InferenceConfig(weight=1.0, hidden=7))
    loss, (u, v), params = scored(objectives, batch_of(2, labels))
    head = params["inference"]
    hidden = dense(head["hidden"], np.concatenate([u, v, abs(u - v), u * v], axis=1))
    logits = hidden @ head["out"]["kernel"] + head["out"]["bias"]
    expected = np.mean(
        [np.log(np.exp(z).sum()) - z[y] for z, y in zip(logits, labels, strict=True)]
    )
    assert loss == pytest.approx(expected, rel=1e-5)
