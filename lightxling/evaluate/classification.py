"""Zero-shot classification: a small head is trained on vectors of one language and tested on
others.

Heads are pure functions over dictionaries of arrays. All seeds train at once: their parameters
carry a leading axis S, and one `vmap` runs them together. The epoch (or regularisation) is chosen
on development data of the training language, never on the language that is tested.
"""

import dataclasses
import functools
import itertools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Float, Int, UInt32

from lightxling.base.vectors import normalize
from lightxling.objectives import inference

HeadInputs = np.ndarray | tuple[np.ndarray, ...]
"""[N, D] vectors, or several such arrays that `MlpHead.features` combines."""

Array = jax.Array | np.ndarray

Kernel = dict[str, Any]
"""`kernel` [F, K] and `bias` [K] of a linear layer; both with a leading axis where there are
several."""


def unchanged(vectors: Array) -> Array:
    return vectors


def concatenated(pair: tuple[Array, Array]) -> jax.Array:
    """Features of two sentences: vectors u, v [..., D] to (u, v, |u - v|, u * v) [..., 4 D]."""
    return inference.pair_features(*map(jnp.asarray, pair))


@dataclasses.dataclass(frozen=True)
class MlpHead:
    """A perceptron with tanh layers, dropout before every linear layer, and how it is trained."""

    hidden: tuple[int, ...] = (10, 8)
    dropout: float = 0.2
    batch_size: int = 12
    epochs: int = 500
    learning_rate: float = 1e-3
    features: Callable = unchanged
    """Inputs of a batch to [B, F]: wide features are never in memory for all rows."""


LASER = MlpHead()
"""The document classifier of the LASER toolkit."""

NLI = MlpHead((512, 384), dropout=0.3, batch_size=128, epochs=200, features=concatenated)
"""The inference classifier of the LASER toolkit: entailment, neutral, contradiction."""


@dataclasses.dataclass(frozen=True)
class Fitted:
    """Trained heads of S seeds, and how the choice on development data came out."""

    predict: Callable[[HeadInputs], Int[np.ndarray, "S N"]]
    """Classes that each head assigns."""
    dev_accuracy: Float[np.ndarray, " S"]
    chosen: Float[np.ndarray, " S"]
    """Epoch (from 1) that was kept, or C of the logistic regression."""
    params: Any
    """Kernels and biases, with a leading axis S."""


def fit_mlp(
    train: HeadInputs,
    train_labels: Int[np.ndarray, " N"],
    dev: HeadInputs,
    dev_labels: Int[np.ndarray, " M"],
    *,
    classes: int,
    seeds: Sequence[int] = range(5),
    head: MlpHead = LASER,
) -> Fitted:
    """Trains one head per seed with Adam and keeps each head's last epoch of best dev accuracy.

    Args:
      train, dev: [N, D] and [M, D] vectors, or tuples of them, as they come from the encoder.
      train_labels, dev_labels: classes, 0 to `classes` - 1.
      seeds: of the initial weights, the order of the examples and the dropout.
    """
    _check(train, train_labels, classes, "training")
    _check(dev, dev_labels, classes, "development")
    rows, batch_size = len(train_labels), min(head.batch_size, len(train_labels))
    steps = -(-rows // batch_size)
    # The last batch is filled up with examples of weight 0.
    real = (np.arange(steps * batch_size) < rows).astype(np.float32).reshape(steps, batch_size)
    filling = np.zeros(steps * batch_size - rows, np.int64)
    sample = jax.tree.map(lambda x: np.asarray(x[:1], np.float32), train)
    widths = (head.features(sample).shape[-1], *head.hidden, classes)

    rngs = [np.random.default_rng(seed) for seed in seeds]
    params = jax.tree.map(lambda *leaves: np.stack(leaves), *(_init(rng, widths) for rng in rngs))
    best = Best(params, np.full(len(rngs), -1), np.zeros(len(rngs), np.int64))
    heads = params, jax.vmap(optax.adam(head.learning_rate).init)(params), best
    data = jax.tree.map(jnp.asarray, (_float32(train), train_labels, _float32(dev), dev_labels))
    for epoch in range(head.epochs):
        order = [np.append(rng.permutation(rows), filling) for rng in rngs]
        order = np.stack(order).reshape(len(rngs), steps, batch_size)
        drawn = np.array([rng.integers(2**32, dtype=np.uint32) for rng in rngs])
        heads = _epoch(heads, epoch, order, drawn, real, data, head)
    best = heads[2]
    accuracy = np.asarray(best.right) / len(dev_labels)
    chosen = np.asarray(best.epoch, np.float64)
    return Fitted(_predictor(best.params, head), accuracy, chosen, best.params)


def fit_logistic(
    train: Float[np.ndarray, "N D"],
    train_labels: Int[np.ndarray, " N"],
    dev: Float[np.ndarray, "M D"],
    dev_labels: Int[np.ndarray, " M"],
    *,
    classes: int,
    strengths: Sequence[float] = (0.01, 0.1, 1.0, 10.0, 100.0, 1000.0),
    steps: int = 500,
) -> Fitted:
    """Multinomial logistic regression by L-BFGS; the C of best dev accuracy, the smallest of
    equals.

        loss = sum_i CE(W x_i + b, y_i) + |W|^2 / (2 C)

    Vectors are normalised and centred on the training mean. The problem is convex: there is no
    seed, and the result has S = 1.
    """
    _check(train, train_labels, classes, "training")
    _check(dev, dev_labels, classes, "development")
    unit = normalize(train)
    centre = unit.mean(axis=0)
    params = _fit_strengths(
        jnp.asarray(strengths, jnp.float32), unit - centre, train_labels, classes, steps
    )
    kernel, bias = np.asarray(params["kernel"]), np.asarray(params["bias"])  # [C, D, K], [C, K]
    right = [
        np.mean(((normalize(dev) - centre) @ w + b).argmax(1) == dev_labels)
        for w, b in zip(kernel, bias, strict=True)
    ]
    best = int(np.argmax(right))

    def predict(vectors: HeadInputs) -> np.ndarray:
        return ((normalize(vectors) - centre) @ kernel[best] + bias[best]).argmax(1)[None]

    kept = {"kernel": kernel[best : best + 1], "bias": bias[best : best + 1]}
    return Fitted(predict, np.array(right[best : best + 1]), np.array([strengths[best]]), kept)


@dataclasses.dataclass(frozen=True)
class Scores:
    """Accuracy and macro-F1 in 0 to 1, over S seeds; `sd` is the sample standard deviation."""

    accuracy: float
    accuracy_sd: float
    macro_f1: float
    macro_f1_sd: float
    accuracies: list[float]
    confusion: list[list[float]]
    """Row: true class; column: assigned class; mean number of documents over the seeds."""
    documents: int


def score_heads(
    predicted: Int[np.ndarray, "S N"], labels: Int[np.ndarray, " N"], classes: int
) -> Scores:
    """Compares the classes that S heads assign with the true ones.

    Macro-F1 is the plain mean of F1 over the classes; a class that neither occurs nor is assigned
    is left out of it. The spread of a single seed is 0.
    """
    tables = np.stack([confusion_matrix(labels, row, classes) for row in predicted])
    accuracies = np.trace(tables, axis1=1, axis2=2) / len(labels)
    f1 = np.array([macro_f1(table) for table in tables])
    return Scores(
        accuracy=float(accuracies.mean()),
        accuracy_sd=_spread(accuracies),
        macro_f1=float(f1.mean()),
        macro_f1_sd=_spread(f1),
        accuracies=accuracies.tolist(),
        confusion=tables.mean(axis=0).tolist(),
        documents=len(labels),
    )


def confusion_matrix(
    labels: Int[np.ndarray, " N"], predicted: Int[np.ndarray, " N"], classes: int
) -> Int[np.ndarray, "K K"]:
    """[K, K] counts; row: true class, column: assigned class."""
    return np.bincount(labels * classes + predicted, minlength=classes**2).reshape(classes, classes)


def macro_f1(confusion: Int[np.ndarray, "K K"]) -> float:
    """Mean F1 of the classes that occur or are assigned."""
    hits, sizes = np.diagonal(confusion), confusion.sum(axis=0) + confusion.sum(axis=1)
    present = sizes > 0
    return float(np.mean(2 * hits[present] / sizes[present]))


@functools.partial(jax.jit, static_argnames=("classes", "steps"))
def _fit_strengths(
    strengths: Float[Array, " C"], x: Float[Array, "N D"], labels: Array, classes: int, steps: int
) -> Kernel:
    """Logistic regression for each of C strengths: kernel [C, D, K] and bias [C, K]."""
    start = {"kernel": jnp.zeros((x.shape[1], classes)), "bias": jnp.zeros(classes)}

    def fit(strength: jax.Array) -> Kernel:
        return _minimize(functools.partial(_penalised, x, labels, strength), start, steps)

    return jax.lax.map(fit, strengths)  # one after the other: each stops when it has converged


def _penalised(
    x: Float[Array, "N D"], labels: Int[Array, " N"], strength: Array, params: Kernel
) -> Array:
    """Mean cross-entropy plus |W|^2 / (2 C N)."""
    penalty = jnp.sum(params["kernel"] ** 2) / (2 * strength * len(x))
    logits = x @ params["kernel"] + params["bias"][None]
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean() + penalty


def _minimize(loss: Callable[[Kernel], jax.Array], start: Kernel, steps: int) -> Kernel:
    """L-BFGS until the gradient is shorter than 1e-5, or so many steps have been made."""
    tx = optax.lbfgs()
    value_and_grad = optax.value_and_grad_from_state(loss)

    def step(carry):
        params, state, _, i = carry
        value, grad = value_and_grad(params, state=state)
        updates, state = tx.update(grad, state, params, value=value, grad=grad, value_fn=loss)
        return optax.apply_updates(params, updates), state, optax.tree.norm(grad), i + 1

    def unfinished(carry):
        return (carry[2] > 1e-5) & (carry[3] < steps)

    return jax.lax.while_loop(unfinished, step, (start, tx.init(start), jnp.inf, 0))[0]


class Best(NamedTuple):
    """The parameters that got most of the development data right; [S] or with a leading axis S."""

    params: list[Kernel]
    right: Array
    epoch: Array


@functools.partial(jax.jit, static_argnames="head", donate_argnums=0)
def _epoch(
    heads: tuple[list[Kernel], optax.OptState, Best],
    epoch: int | jax.Array,
    order: Int[Array, "S T B"],
    drawn: UInt32[Array, " S"],
    real: Float[Array, "T B"],
    data: tuple[Any, ...],
    head: MlpHead,
) -> tuple[list[Kernel], optax.OptState, Best]:
    """One epoch of S heads at once, over T batches of B rows, and its judgement.

    `real` is 0 for the examples that fill up the last batch, `drawn` seeds the dropout, `data` are
    inputs and labels to train on and those of the development data.
    """
    train, train_labels, dev, dev_labels = data
    tx = optax.adam(head.learning_rate)

    def one_head(params, state, best, order, drawn):
        def step(carry, batch):
            params, state = carry
            rows, real, number = batch
            key = jax.random.fold_in(jax.random.key(drawn), number)
            inputs = jax.tree.map(lambda x: x[rows], train)
            grad = jax.grad(_mean_loss)(params, inputs, train_labels[rows], real, key, head)
            # Adam raises a decay to the number of steps
            with jax.numpy_dtype_promotion("standard"):
                updates, state = tx.update(grad, state)
            return (optax.apply_updates(params, updates), state), None

        batches = (order, real, jnp.arange(len(real)))
        (params, state), _ = jax.lax.scan(step, (params, state), batches)
        right = jnp.sum(jnp.argmax(_apply(params, head.features(dev)), axis=-1) == dev_labels)
        now = Best(params, right, epoch + 1)
        better = right >= best.right
        best = jax.tree.map(lambda new, old: jnp.where(better, new, old), now, best)
        return params, state, best

    return jax.vmap(one_head)(*heads, order, drawn)


def _mean_loss(
    params: list[Kernel], inputs: Any, labels: Array, real: Array, key: jax.Array, head: MlpHead
) -> Array:
    """Mean cross-entropy of the examples that are real."""
    logits = _apply(params, head.features(inputs), head.dropout, key)
    loss = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    return jnp.sum(loss * real) / jnp.sum(real)


def _init(rng: np.random.Generator, widths: Sequence[int]) -> list[Kernel]:
    """Weights and biases uniform in +-1 / sqrt(fan in), as the reference's linear layers have."""

    def uniform(bound: float, *shape: int) -> np.ndarray:
        return rng.uniform(-bound, bound, shape).astype(np.float32)

    return [
        {"kernel": uniform(a**-0.5, a, b), "bias": uniform(a**-0.5, b)}
        for a, b in itertools.pairwise(widths)
    ]


def _apply(
    params: list[Kernel], x: Float[Array, "N F"], dropout: float = 0.0, key: Array | None = None
) -> Float[Array, "N K"]:
    """Logits; dropout only with a key."""
    keep = None
    if key is not None and dropout > 0:  # one draw for all layers: it compiles sooner
        widths = [len(layer["kernel"]) for layer in params]
        keep = jax.random.bernoulli(key, 1 - dropout, (len(x), sum(widths)))
        keep = jnp.split(keep, np.cumsum(widths)[:-1], axis=1)
    for i, layer in enumerate(params):
        if i:
            x = jnp.tanh(x)
        if keep is not None:
            x = jnp.where(keep[i], x / (1 - dropout), 0)
        x = x @ layer["kernel"] + layer["bias"][None]
    return x


@functools.partial(jax.jit, static_argnames="head")
def _classify(params: list[Kernel], inputs: Any, head: MlpHead) -> Int[jax.Array, "S N"]:
    logits = jax.vmap(lambda p: _apply(p, head.features(inputs)))(params)  # [S, N, K]
    return jnp.argmax(logits, axis=-1)


def _predictor(
    params: list[Kernel], head: MlpHead, block: int = 4096
) -> Callable[[HeadInputs], Int[np.ndarray, "S N"]]:
    """Function from inputs to classes, computed in blocks."""

    def predict(inputs: HeadInputs) -> np.ndarray:
        parts = []
        for start in range(0, len(jax.tree.leaves(inputs)[0]), block):
            stop = start + block
            part = jax.tree.map(lambda x, rows=slice(start, stop): x[rows], inputs)
            parts.append(_classify(params, _float32(part), head))
        return np.concatenate(parts, axis=1)

    return predict


def _float32(inputs: HeadInputs) -> HeadInputs:
    return jax.tree.map(lambda x: np.asarray(x, np.float32), inputs)


def _spread(values: Float[np.ndarray, " S"]) -> float:
    return float(np.std(values, ddof=1)) if len(values) > 1 else 0.0


def _check(inputs: HeadInputs, labels: np.ndarray, classes: int, name: str) -> None:
    """Refuses labels that do not belong to the inputs or are not classes."""
    sizes = {len(x) for x in jax.tree.leaves(inputs)}
    if sizes != {len(labels)} or not len(labels):
        raise ValueError(f"{name}: {len(labels)} labels for {sorted(sizes)} vectors")
    if labels.min() < 0 or labels.max() >= classes:
        raise ValueError(
            f"{name}: labels lie in {labels.min()} to {labels.max()}, not in 0 to {classes - 1}"
        )
