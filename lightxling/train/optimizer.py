"""Update rules and learning-rate schedules, as optax transformations."""

import dataclasses
import functools
from collections.abc import Callable, Collection
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from lightxling.config.schema import OptimizerConfig

Scalar = Any
"""A number, or its place in a tree."""

EMBEDDING_TABLES = ("words", "ngrams", "piece_weights")
"""Names of the encoder's embedding tables, and of the column beside that of the pieces."""


class ScaleByAmsgradState(NamedTuple):
    count: jax.Array
    mu: optax.Updates
    nu: optax.Updates
    nu_max: optax.Updates


def scale_by_amsgrad(beta1: float, beta2: float, eps: float) -> optax.GradientTransformation:
    """AMSGrad by PyTorch's rule.

        m_t = b1 m_{t-1} + (1 - b1) g
        v_t = b2 v_{t-1} + (1 - b2) g^2
        w_t = max(w_{t-1}, v_t)
        update = m_t / (1 - b1^t) / (sqrt(w_t / (1 - b2^t)) + eps)

    PyTorch keeps the maximum of the *uncorrected* second moment and corrects afterwards.
    optax.scale_by_amsgrad keeps the maximum of the corrected one, in which the first step's value
    (v_1 / (1 - b2) = g_1^2) stays for ever.
    """

    def init(params):
        def zeros():
            return optax.tree.zeros_like(params)

        return ScaleByAmsgradState(jnp.zeros([], jnp.int32), zeros(), zeros(), zeros())

    def update(grads, state, params=None):
        del params
        count = state.count + 1
        mu = optax.tree.update_moment(grads, state.mu, beta1, 1)
        nu = optax.tree.update_moment(grads, state.nu, beta2, 2)
        nu_max = jax.tree.map(jnp.maximum, state.nu_max, nu)
        correction1, correction2 = 1 - beta1**count, 1 - beta2**count
        updates = jax.tree.map(
            lambda m, w: (m / correction1) / (jnp.sqrt(w / correction2) + eps), mu, nu_max
        )
        return updates, ScaleByAmsgradState(count, mu, nu, nu_max)

    return optax.GradientTransformation(init, update)


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=("peak", "warmup", "start", "span", "drop_at", "factor"),
    meta_fields=("kind",),
)
@dataclasses.dataclass(frozen=True)
class LearningRate:
    """An optax schedule whose numbers are leaves of a tree: given to a compiled step, they are no
    part of its program, and other numbers compile nothing. See `learning_rate`."""

    kind: str
    """As `optimizer.schedule`."""
    peak: Scalar
    warmup: Scalar
    start: Scalar
    """Step at which a cosine or a line begins, and after how many more it ends."""
    span: Scalar
    drop_at: Scalar
    """Step from which the rate is `factor` times that before it."""
    factor: Scalar

    def __call__(self, step: jax.typing.ArrayLike) -> jax.Array:
        t = jnp.asarray(step, jnp.float32)
        warmup = jnp.minimum(1, (t + 1) / self.warmup)
        done = jnp.clip((t - self.start) / self.span, 0, 1)
        decay = {
            "step": lambda: jnp.where(step >= self.drop_at, self.factor, 1),
            "cosine": lambda: (1 + jnp.cos(jnp.pi * done)) / 2,
            "linear": lambda: 1 - done,
            "constant": lambda: 1,
        }
        return self.peak * warmup * decay[self.kind]()


def learning_rate(config: OptimizerConfig, *, steps: int, steps_per_epoch: int) -> LearningRate:
    """Learning rate at step t (from 0): warm-up times the chosen decay.

    The warm-up is (t + 1) / warmup_steps: the reference's "untuned linear" rule gives 1999 steps
    for beta2 = 0.999, and the first step already moves.

    cosine and linear are (1 + cos(pi p)) / 2 and 1 - p, where p goes from 0 to 1: over the steps
    after the warm-up, or, with `decay_over` all, over every step, t / steps. The latter is
    PyTorch's CosineAnnealingLR under a dampening by warm-up; the rate then never reaches its peak.
    """
    start = config.warmup_steps if config.decay_over == "rest" else 0
    return LearningRate(
        kind=config.schedule,
        peak=np.float32(config.learning_rate),
        warmup=np.float32(max(config.warmup_steps, 1)),
        start=np.float32(start),
        span=np.float32(max(steps - start, 1)),
        drop_at=np.int32(min(config.decay_epoch * steps_per_epoch, np.iinfo(np.int32).max)),
        factor=np.float32(config.decay_factor),
    )


def decayed(params) -> optax.Params:
    """True for the leaves that decoupled weight decay acts on: matrices, not biases and norms."""
    return jax.tree.map(lambda leaf: leaf.ndim > 1, params)


def make_rule(config: OptimizerConfig) -> optax.GradientTransformation:
    """From gradients to directions, by the name of the optimizer.

    adafactor is without momentum and without scaling by the size of the parameters: second moments
    as row and column means, decay 1 - t^-0.8, and directions clipped to a root mean square of 1 per
    leaf (Shazeer and Stern 2018, arXiv 1804.04235, algorithm 4). Leaves whose second largest side
    is under 128 are not factored.
    lion: the sign of interpolated momentum (Chen et al. 2023, arXiv 2302.06675, algorithm 2).
    sgd: heavy-ball momentum beta1, m = beta1 m + g.
    """
    rules = {
        "amsgrad": lambda: scale_by_amsgrad(config.beta1, config.beta2, config.eps),
        "adamw": lambda: optax.scale_by_adam(config.beta1, config.beta2, config.eps),
        "lion": lambda: optax.scale_by_lion(config.beta1, config.beta2),
        "sgd": lambda: optax.trace(config.beta1) if config.beta1 else optax.identity(),
        "adafactor": lambda: optax.chain(
            optax.scale_by_factored_rms(decay_rate=0.8), optax.clip_by_block_rms(1.0)
        ),
    }
    return for_each(rules[config.name]())


def for_each(rule: optax.GradientTransformation) -> optax.GradientTransformation:
    """A rule with a state, and so a number of steps, for each parameter.

    The heads of a task move in its steps only: their bias correction has to count those, as
    PyTorch's does, and not all steps of the run.
    """

    def init(params):
        return jax.tree.map(rule.init, params)

    def update(grads, states, params=None):
        of = grads if params is None else params
        with jax.numpy_dtype_promotion("standard"):  # rules raise a decay to the number of steps
            moved = jax.tree.map(rule.update, grads, states, of)
        return tuple(jax.tree.map(lambda _, pair, i=i: pair[i], grads, moved) for i in (0, 1))

    return optax.GradientTransformation(init, update)


def scale_embeddings(factor: float) -> optax.GradientTransformation:
    """Multiplies the gradient of the encoder's embedding tables.

    Source: arXiv 1810.12836, section 3, where it is 100.
    """

    def scale(path, update):
        names = [getattr(key, "key", None) for key in path]
        is_table = "encoder" in names and names[-1] in EMBEDDING_TABLES
        return update * factor if is_table else update

    return optax.stateless(lambda updates, _: jax.tree_util.tree_map_with_path(scale, updates))


def scale_taken(factor: float, taken: Collection[str]) -> optax.GradientTransformation:
    """Multiplies the steps of some parameters.

    Args:
      taken: their names, such as `encoder.words`.
    """

    def scale(path, update):
        name = ".".join(str(getattr(key, "key", key)) for key in path)
        return update * factor if name in taken else update

    return optax.stateless(lambda updates, _: jax.tree_util.tree_map_with_path(scale, updates))


@dataclasses.dataclass(frozen=True)
class Optimizer:
    """An optax transformation that can be had with another learning rate.

    Attributes:
      schedule: its learning rate.
      with_rate: makes the same one with another, such as the traced one of a compiled step.
    """

    schedule: optax.Schedule
    with_rate: Callable[[optax.Schedule], optax.GradientTransformation]

    def init(self, params: optax.Params) -> optax.OptState:
        return self.with_rate(self.schedule).init(params)

    def update(
        self, grads: optax.Updates, state: optax.OptState, params: optax.Params | None = None
    ) -> tuple[optax.Updates, optax.OptState]:
        return self.with_rate(self.schedule).update(grads, state, params)


def make_optimizer(
    config: OptimizerConfig, schedule: optax.Schedule, taken: Collection[str] = ()
) -> Optimizer:
    """Clipping, L2 in the gradient, the rule, decoupled decay, learning rate: in this order; before
    them the factor of the embeddings, after them that of what is taken from another encoder, where
    there is one.

    Args:
      taken: names of the parameters that have `init_from_multiplier`.
    """

    def with_rate(schedule: optax.Schedule) -> optax.GradientTransformation:
        factor = config.embedding_gradient
        chain = optax.chain(
            optax.clip_by_global_norm(config.clip) if config.clip else optax.identity(),
            optax.add_decayed_weights(config.l2) if config.l2 else optax.identity(),
            make_rule(config),
            optax.add_decayed_weights(config.weight_decay, decayed)
            if config.weight_decay
            else optax.identity(),
            optax.scale_by_learning_rate(schedule),
        )
        if config.init_from_multiplier != 1:
            chain = optax.chain(chain, scale_taken(config.init_from_multiplier, taken))
        return chain if factor == 1 else optax.chain(scale_embeddings(factor), chain)

    return Optimizer(schedule, with_rate)
