"""The training step: compiled once for every task."""

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from lightxling.base import allocator
from lightxling.base.errors import UserError
from lightxling.config.plan import MAIN
from lightxling.config.rules import bytes_of
from lightxling.corpus.batch import Batch
from lightxling.model import parts
from lightxling.train import freeze, memory
from lightxling.train.optimizer import Optimizer
from lightxling.train.plan import Plan
from lightxling.train.state import TrainState, batch_shapes, seed_data
from lightxling.train.tasks import make_gradient


class Values(NamedTuple):
    """What differs between runs that share one compiled step."""

    seed: np.ndarray
    """Key data of the run's seed, [2] uint32."""
    rate: Any
    """The learning rate, `optimizer.LearningRate`."""


@dataclasses.dataclass(frozen=True)
class Step:
    """A jitted step and the values of a run: called, `step(state, batch) -> (state, metrics)`."""

    jitted: Any
    values: Values

    def __call__(self, state: TrainState, batch: Batch) -> tuple[TrainState, dict]:
        return self.jitted(state, batch, self.values)

    def lower(self, state: TrainState, batch: Batch) -> jax.stages.Lowered:
        """For arrays or shapes."""
        return self.jitted.lower(state, batch, self.values)


def make_train_step(
    value_and_grad: Callable,
    optimizer: Optimizer,
    seed: int,
    task: str = MAIN,
    trainable: Sequence[str] = (),
) -> Step:
    """Returns jitted `step(state, batch) -> (state, metrics)`; the old state is donated.

    `value_and_grad(trained, batch, key, frozen)` gives ((loss, terms), gradients), see
    `micro_batch`; `trainable` says which parameters are trained, see `freeze`. A step moves the
    encoder and the heads of its task; those of other tasks and their moments stay.
    Seed and learning rate, with the number of steps, are inputs of the program and not constants:
    runs that differ in them find each other's in the compilation cache.
    The key is folded from the step, so a resumed run draws the same dropout. A step whose loss or
    gradient is not finite leaves the parameters and the optimizer as they were and says so in
    `metrics["finite"]`.
    """

    def train_step(state: TrainState, batch: Batch, values: Values):
        key = jax.random.fold_in(jax.random.wrap_key_data(values.seed), state.step)
        rule = optimizer.with_rate(values.rate)
        trained, frozen = freeze.split_params(state.params, trainable)
        own = parts.own((trained, state.opt_state), task)
        (value, terms), grads = value_and_grad(own[0], batch, key, parts.own(frozen, task))
        norm = optax.tree.norm(grads)
        finite = jnp.isfinite(value) & jnp.isfinite(norm)

        def update(params, opt_state):
            updates, opt_state = rule.update(grads, opt_state, params)
            return optax.apply_updates(params, updates), opt_state

        # cond instead of a where on every leaf, which copies parameters and moments
        own = jax.lax.cond(finite, update, lambda *same: same, *own)
        trained, opt_state = parts.put((trained, state.opt_state), own, task)
        metrics = {**terms, "loss": value, "grad_norm": norm, "finite": finite}
        params = freeze.join_params(trained, frozen)
        return TrainState(state.step + 1, params, opt_state, state.best), metrics

    options = None
    if jax.default_backend() == "cpu" and jax.device_count() == 1:
        # the default order keeps everything alive: a third more memory. Not for several virtual
        # devices, whose collectives then wait for each other
        options = {"xla_cpu_enable_concurrency_optimized_scheduler": False}
    jitted = jax.jit(train_step, donate_argnums=0, compiler_options=options)
    return Step(jitted, Values(seed_data(seed), optimizer.schedule))


class Compiled(NamedTuple):
    """The steps of a run, by the names of their tasks, and what the one that needs most needs of
    the memory; None where the backend does not tell."""

    plan: Plan
    steps: dict[str, Step]
    need: memory.Need | None


def compile_steps(plan: Plan, say: Callable[[str], None]) -> Compiled:
    """Compiles the steps for their largest batches, and says what they take of the memory.

    With `train.memory` and no `train.micro_batch`, the plan returned has the largest micro-batch
    with which they fit.

    Raises:
      UserError: they do not fit there.
    """
    train, budget = plan.config.train, bytes_of(plan.config.train.memory)
    for task in plan.tasks:
        say(f"compiling the step for {task.rows:,} pairs of {task.batches.longest} tokens")
    compiled = compile_plan(plan)
    if budget and compiled.need is None:
        raise UserError(
            f"train.memory={train.memory}: this backend does not tell what a step needs; leave it "
            "out, and set train.micro_batch"
        )
    if budget and not train.micro_batch and compiled.need.total > budget:
        compiled = fit(plan, budget)
        say(
            f"train.memory={train.memory}: {compiled.plan.config.train.micro_batch} pairs at a "
            f"time, of {train.batch_size}"
        )
    if compiled.need is not None:
        free = memory.available()
        limits = [limit for limit in (free, budget) if limit]
        least = min(limits, default=free)
        say(memory.check_memory(compiled.need, least, compiled.plan.config))
    allocator.trim()
    return compiled


def compile_plan(plan: Plan) -> Compiled:
    """Nothing is allocated on the devices. The first call of these shapes finds what was compiled:
    nothing is compiled twice."""
    steps, needs = {}, []
    for task in plan.tasks:
        step = make_train_step(
            make_gradient(task, plan.vocab_size, plan.teacher_width),
            plan.optimizer,
            plan.config.train.seed,
            task.name,
            plan.config.train.trainable,
        )
        batch, length = task.batches[0], task.batches.longest
        shapes = batch_shapes(plan.mesh, batch, rows=task.rows, length=length)
        needs.append(memory.estimate(step.lower(plan.target, shapes).compile(), plan.target))
        steps[task.name] = step
    known = [need for need in needs if need is not None]
    return Compiled(plan, steps, max(known, key=lambda need: need.total, default=None))


def fit(plan: Plan, budget: int) -> Compiled:
    """The steps with the largest micro-batch that needs at most `budget` bytes on a device.

    It divides the batches of all tasks, and over the devices. A larger one needs more: halving the
    candidates finds it with few compilations.

    Raises:
      UserError: none does; names the smallest budget that would do.
    """
    rows, devices = math.gcd(*(task.rows for task in plan.tasks)), plan.mesh.shape["data"]
    sizes = [n for n in range(devices, rows, devices) if rows % n == 0]
    found = compile_plan(plan.with_micro_batch(sizes[0])) if sizes else compile_plan(plan)
    if found.need.total > budget:
        least = -(-found.need.total // 10**6)
        pairs = f" with {sizes[0]} pairs at a time" if sizes else ""
        raise UserError(
            f"train.memory={plan.config.train.memory}: a training step needs "
            f"{memory.readable(found.need.total)} even{pairs}; give --train.memory {least}MB, a "
            "smaller tokenizer.vocab_size, or optimizer.name=adafactor"
        )
    low, high = 0, len(sizes) - 1
    while low < high:
        middle = (low + high + 1) // 2
        tried = compile_plan(plan.with_micro_batch(sizes[middle]))
        if tried.need.total <= budget:
            low, found = middle, tried
        else:
            high = middle - 1
    return found
