"""Soft labels, teacher regression and ESE: closed forms and slow float64 loops."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lightxling.base.errors import UserError
from lightxling.base.tree import flatten
from lightxling.config.objectives import EseConfig, ObjectivesConfig, SoftConfig
from lightxling.config.rules import validate
from lightxling.config.schema import Config, ModelConfig
from lightxling.corpus.batch import Batch
from lightxling.export.trim import shorten
from lightxling.model import build as models
from lightxling.model.forward import Forward
from lightxling.model.params import shapes
from lightxling.objectives import combine
from lightxling.objectives.contrast import alignment
from lightxling.objectives.distillation import (
    compression,
    layer_weights,
    principal,
    similarity_regression,
    soft_contrast,
    soft_term,
    teacher_similarities,
    vector_regression,
)
from lightxling.objectives.term import TermInputs
from lightxling.saved.bundle import Bundle
from lightxling.train.teacher import read_sides

B, D, T = 6, 5, 7
RNG = np.random.default_rng(3)
SRC, TGT = 3 * RNG.normal(size=(2, B, D))
TEACHER = RNG.normal(size=(B, 2, T))
TEACHER[1] = TEACHER[0] + 0.01  # two pairs that the teacher holds for the same: the margin acts
PIVOT = np.array([0, 1, 0, 0, 1, 1])


def f32(*arrays):
    return [jnp.array(a, jnp.int32 if a.dtype.kind == "i" else jnp.float32) for a in arrays]


def cosine(x, y):
    return sum(x * y) / np.sqrt(sum(x * x) * sum(y * y))


def cosines(xs, ys):
    return np.array([[cosine(x, y) for y in ys] for x in xs])


def teacher_loop(labels):
    sides = [cosines(TEACHER[:, s], TEACHER[:, s]) for s in (0, 1)]
    if labels == "average":
        return (sides[0] + sides[1]) / 2
    if labels == "priority":
        chosen = np.array([TEACHER[i, PIVOT[i]] for i in range(B)])
        return cosines(chosen, chosen)
    return sides[["left", "right"].index(labels)]


def term_loop(c, m, tau, tau_teacher, targets, margin):
    """One l(C, M) of the docstring, cell by cell."""
    total = 0.0
    for i in range(len(c)):
        raw = [np.exp(v / tau_teacher) for v in m[i]]
        weights = m[i] if targets == "raw" else [v / sum(raw) for v in raw]
        logits = [(c[i, j] - margin * (m[i, j] > 0.95)) / tau for j in range(len(c))]
        norm = np.log(sum(np.exp(v) for v in logits))
        total -= sum(w * (v - norm) for w, v in zip(weights, logits, strict=True))
    return total / len(c)


@pytest.mark.parametrize("labels", ["priority", "average", "left", "right"])
def test_teacher_similarities_are_the_cosines_of_the_chosen_sides(labels):
    given = jax.jit(functools.partial(teacher_similarities, labels=labels))(*f32(TEACHER, PIVOT))
    np.testing.assert_allclose(given, teacher_loop(labels), atol=1e-6)


def test_priority_is_average_when_the_sides_have_the_same_vectors():
    twice = np.repeat(TEACHER[:, :1], 2, axis=1)
    priority, average = (
        teacher_similarities(*f32(twice, PIVOT), labels) for labels in ("priority", "average")
    )
    np.testing.assert_allclose(priority, average, atol=1e-6)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"teacher_temperature": None, "mono": 1.0, "cross": 0.5},
        {"temperature": 0.05, "teacher_temperature": 0.4, "mono": 2.0, "margin": 0.3},
    ],
)
def test_soft_contrast_equals_a_loop(settings):
    m = teacher_loop("priority")
    m[2, 3] += 0.1  # not symmetric: the way back uses the transpose
    full = {
        "temperature": 0.1, "teacher_temperature": 0.1, "cross": 1.0, "mono": 0.0, "margin": 0.0,
    } | settings  # fmt: skip
    cost = functools.partial(
        term_loop,
        tau=full["temperature"],
        tau_teacher=full["teacher_temperature"] or 1.0,
        targets="softmax" if full["teacher_temperature"] else "raw",
        margin=full["margin"],
    )
    expected = full["cross"] * (cost(cosines(SRC, TGT), m) + cost(cosines(TGT, SRC), m.T))
    expected += full["mono"] * (cost(cosines(SRC, SRC), m) + cost(cosines(TGT, TGT), m))
    given = jax.jit(functools.partial(soft_contrast, **settings))(*f32(SRC, TGT, m))
    np.testing.assert_allclose(given, expected, rtol=2e-5)


def test_hard_labels_are_the_contrastive_loss():
    src, tgt, m = f32(SRC, TGT, np.eye(B))
    hard = soft_contrast(src, tgt, m, teacher_temperature=None, temperature=0.1)
    np.testing.assert_allclose(hard, alignment(src, tgt, temperature=0.1), rtol=1e-6)


def test_mono_adds_four_monolingual_terms():
    """With one language twice, each monolingual term costs what a cross-lingual one does."""
    src, m = f32(SRC, teacher_loop("left"))
    cross, whole, once = (soft_contrast(src, src, m, mono=mono) for mono in (0.0, 2.0, 1.0))
    np.testing.assert_allclose(whole, cross * (2 + 4) / 2, rtol=1e-6)
    np.testing.assert_allclose(once, cross * (2 + 2) / 2, rtol=1e-6)


def test_a_student_that_sees_what_the_teacher_sees_pays_the_entropy():
    src, m = f32(SRC, cosines(SRC, SRC))
    p = np.exp(np.asarray(m, np.float64) / 0.1)
    p /= p.sum(axis=1, keepdims=True)
    entropy = -(p * np.log(p)).sum(axis=1).mean()
    np.testing.assert_allclose(soft_contrast(src, src, m), 2 * entropy, rtol=1e-5)
    slope = jax.jit(jax.grad(lambda x: soft_contrast(x, x, m)))(src)
    np.testing.assert_allclose(slope, 0, atol=1e-5)


def test_no_gradient_reaches_the_teacher():
    src, tgt, teacher, pivot = f32(SRC, TGT, TEACHER, PIVOT)

    def all_losses(teacher):
        m = teacher_similarities(teacher, pivot, "average")
        return (
            soft_contrast(src, tgt, m, mono=2.0)
            + similarity_regression(src, tgt, m)
            + vector_regression(jnp.zeros((B, T)), jnp.zeros((B, T)), teacher, pivot)
        )

    assert not np.any(jax.jit(jax.grad(all_losses))(teacher))


def test_regressions_equal_loops():
    m = teacher_loop("average")
    c = cosines(SRC, TGT)
    expected = np.mean([((c[i, j] - m[i, j]) / 0.1) ** 2 for i in range(B) for j in range(B)])
    np.testing.assert_allclose(similarity_regression(*f32(SRC, TGT, m)), expected, rtol=1e-5)
    x, y = RNG.normal(size=(2, B, T))
    expected = 0.0
    for i in range(B):
        for d in range(T):
            expected += (x[i, d] - TEACHER[i, PIVOT[i], d]) ** 2 / (B * T)
            expected += (y[i, d] - TEACHER[i, PIVOT[i], d]) ** 2 / (B * T)
    given = vector_regression(*f32(x, y, TEACHER, PIVOT))
    np.testing.assert_allclose(given, expected, rtol=1e-5)


def released_loss(settings: SoftConfig, m) -> float:
    """The released code's arithmetic for one batch, in float64: its names in quotes."""
    unit = [x / np.linalg.norm(x, axis=1, keepdims=True) for x in (SRC, TGT)]

    def of_type(sim, labels):  # "_compute_loss_from_type"
        exps = np.exp(labels / settings.temperature)
        w = labels if settings.targets == "raw" else exps / exps.sum(axis=1, keepdims=True)
        if settings.loss == "mse":  # "MMSE"
            return np.mean(((sim - w) / settings.temperature) ** 2)
        exps = np.exp(sim / settings.temperature)  # "CS"
        return -np.sum(w * np.log(exps / exps.sum(axis=1, keepdims=True))) / len(sim)

    pairs = [(0, 1), *([(0, 0), (1, 1)] if settings.tcm else [])]  # "train_mono_space"
    sims = [unit[x] @ unit[y].T for x, y in pairs]
    return sum(of_type(sim, m) + of_type(sim.T, m.T) for sim in sims)


@functools.cache
def no_model():
    params = models.initialise(dataclasses.replace(MODEL, layers=0), 9, jax.random.key(0))
    return models.merge(models.structure(dataclasses.replace(MODEL, layers=0), 9), params)


@pytest.mark.parametrize("loss", ["mse", "cross-entropy"])
@pytest.mark.parametrize("labels", ["hard", "left"])
@pytest.mark.parametrize("targets", ["softmax", "raw"])
@pytest.mark.parametrize("tcm", [False, True])
def test_every_combination_of_the_released_code(loss, labels, targets, tcm):
    settings = SoftConfig(
        weight=1.0,
        loss=loss,
        labels=labels,
        targets=targets,
        tcm=tcm,
        released=True,
        temperature=0.4,
    )
    validate(dataclasses.replace(Config(), objectives=off(soft=settings)))
    src, tgt, teacher, pivot = f32(SRC, TGT, TEACHER, PIVOT)
    none = jnp.zeros((B, 2, 3), jnp.int32), jnp.zeros(B, jnp.int32)
    inputs = TermInputs(Batch(*none, teacher=teacher, pivot=pivot), jnp.stack([src, tgt]))
    m = np.eye(B) if labels == "hard" else teacher_loop(labels)
    given = soft_term(settings, no_model(), inputs)
    np.testing.assert_allclose(given, released_loss(settings, m), rtol=2e-5)


def principal_reference(m, k):
    a = np.exp(m.T @ m / np.sqrt(m.shape[1]))
    u, s, _ = np.linalg.svd(a / a.sum(axis=1, keepdims=True))
    u = u[:, :k] * np.sign(u[np.abs(u).argmax(axis=0), range(m.shape[1])])[:k]
    return m @ u @ np.diag(s[:k])


def test_compression_equals_a_loop_and_moves_the_leading_dimensions_only():
    m, k, t = RNG.normal(size=(9, 8)), 3, 0.7
    c = principal_reference(m, k)
    np.testing.assert_allclose(principal(*f32(m), k), c, atol=1e-4)
    expected = np.mean((m[:, :k] - c) ** 2)
    for i in range(len(m)):
        p, q = (np.exp(v / t) / np.exp(v / t).sum() for v in (c[i], m[i, :k]))
        expected += t / len(m) * sum(p * np.log(p / q))
    cost = functools.partial(compression, k=k, temperature=t)
    value, slope = jax.jit(jax.value_and_grad(cost))(*f32(m))
    np.testing.assert_allclose(value, expected, rtol=1e-4)
    assert np.any(slope[:, :k])
    assert not np.any(slope[:, k:])  # the target has no gradient


def test_layer_weights():
    third = {1: 1 / 3, 2: 1 / 3 / (1 + np.log(2)), 3: 1 / 3 / (1 + np.log(3))}
    assert layer_weights(4) == pytest.approx(third)
    slip = {0: 1 / 3, 1: 1 / 3 / (1 + np.log(2)), 2: 1 / 3 / (1 + np.log(3))}
    assert layer_weights(4, published_index=True) == pytest.approx(slip)
    assert layer_weights(2) == {1: 1.0}
    assert layer_weights(1) == layer_weights(0) == {}


MODEL = ModelConfig(layers=3, width=8, heads=2, feedforward=8, max_length=9, dropout=0.0)


def every_layer(graphdef, params, tokens):
    """Pooled vectors of the embeddings and of all layers, [N, rows, D]."""

    @jax.jit
    def run(params, tokens):
        encoder = models.merge(graphdef, params).encoder
        return jnp.stack([encoder.pool(state, tokens) for state in encoder.states(tokens)])

    return run(params, jnp.array(tokens))


def off(**terms) -> ObjectivesConfig:
    zero = ObjectivesConfig()
    none = {
        name: dataclasses.replace(getattr(zero, name), weight=0.0)
        for name in ("tokens", "align", "similarity")
    }
    return dataclasses.replace(zero, **(none | terms))


@pytest.mark.parametrize("share", [1.0, 0.25, 0.0])
def test_ese_gives_the_objectives_to_inner_layers_and_leading_dimensions(share):
    soft = SoftConfig(weight=2.0, labels="hard")
    ese = EseConfig(weight=0.5, dimensions=3, compression=share)
    model = dataclasses.replace(MODEL, identical_layers=False, init="scaled")
    params = models.initialise(model, 20, jax.random.key(0))
    graphdef = models.structure(model, 20)
    tokens = RNG.integers(3, 20, (B, 2, 9)).astype(np.int32)
    tokens[2, 0, 4:] = 0
    batch = Batch(jnp.array(tokens), jnp.zeros(B, jnp.int32))
    total, terms = jax.jit(functools.partial(combine.loss, off(soft=soft, ese=ese), graphdef))(
        params, batch, None
    )
    assert terms.keys() == {"soft", "ese"}
    np.testing.assert_allclose(total, 2 * terms["soft"] + 0.5 * terms["ese"], rtol=1e-6)

    flat = tokens.reshape(2 * B, 9)
    layers = every_layer(graphdef, params, flat)
    assert layers.shape == (4, 2 * B, 8)
    last = jax.jit(functools.partial(models.encode_tokens, graphdef))(params, flat)
    np.testing.assert_allclose(layers[-1], last, atol=1e-6)

    @jax.jit
    def cost(vectors):
        pairs = vectors.reshape(B, 2, 8)
        slim = alignment(pairs[:, 0, :3], pairs[:, 1, :3], temperature=0.1)
        return 2 * slim + share * compression(vectors, k=3)

    weights = {1: 0.5, 2: 0.5 / (1 + np.log(2)), 3: 1.0}
    expected = sum(weight * cost(layers[i]) for i, weight in weights.items())
    np.testing.assert_allclose(terms["ese"], expected, rtol=1e-4)


def test_objectives_read_the_sides_they_need():
    def sides(pivot, regression=0.0, **soft):
        base = ObjectivesConfig()
        objectives = dataclasses.replace(
            base,
            soft=SoftConfig(**soft),
            regression=dataclasses.replace(base.regression, weight=regression),
        )
        return read_sides(objectives, pivot)

    assert sides(1) == set()
    assert sides(1, weight=1.0) == {1}
    assert sides(1, weight=1.0, labels="left") == {0}
    assert sides(0, weight=1.0, labels="average") == {0, 1}
    assert sides(0, weight=1.0, labels="hard") == set()
    assert sides(0, regression=1.0, weight=1.0, labels="right") == {0, 1}


@pytest.mark.parametrize(
    ("part", "changes", "message"),
    [
        ("soft", {"weight": 1.0, "temperature": 0.0}, "soft.temperature=0.0"),
        ("soft", {"weight": 1.0, "teacher_temperature": -1.0}, "teacher_temperature=-1.0"),
        ("soft", {"weight": 1.0, "loss": "mse", "tcm": True}, "mse does not know tcm"),
        (
            "soft",
            {"weight": 1.0, "loss": "mse", "margin": 0.1, "released": True},
            "mse does not know margin; leave that out, or use cross-entropy$",
        ),
        (
            "soft",
            {"weight": 1.0, "labels": "hard", "exclude_equal": True, "released": True},
            "exclude_equal=True leaves out",
        ),
        ("ese", {"weight": 1.0, "dimensions": 512}, "ese.dimensions=512 should be below"),
    ],
)
def test_impossible_settings_are_named(part, changes, message):
    objectives = ObjectivesConfig()
    changed = dataclasses.replace(getattr(objectives, part), **changes)
    objectives = dataclasses.replace(objectives, **{part: changed})
    with pytest.raises(UserError, match=message):
        validate(dataclasses.replace(Config(), objectives=objectives))


def test_ese_needs_an_objective_that_takes_any_width():
    with pytest.raises(UserError, match="give one of them a weight"):
        validate(dataclasses.replace(Config(), objectives=off(ese=EseConfig(weight=1.0))))


def test_a_cut_encoder_gives_the_inner_layer_s_leading_dimensions():
    model = dataclasses.replace(MODEL, identical_layers=False)
    params = models.initialise(model, 20, jax.random.key(1))
    graphdef = models.structure(model, 20)
    tokens = RNG.integers(3, 20, (B, 9)).astype(np.int32)
    layers = every_layer(graphdef, params, tokens)
    bundle = Bundle(model, flatten(jax.device_get(params["encoder"])), b"")
    for count in (0, 1, 3):
        small = shorten(bundle, layers=count, leading=3)
        assert small.params.keys() == shapes(small.config, 20, 3).keys()
        given = Forward(small.config, small.params)([tokens])
        np.testing.assert_allclose(given, layers[count][:, :3], atol=1e-5)
    for wrong, message in (({"layers": 4}, "--layers 4"), ({"leading": 8}, "--leading 8")):
        with pytest.raises(UserError, match=message):
            shorten(bundle, **wrong)
