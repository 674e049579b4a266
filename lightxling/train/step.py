"""The training step: compiled once for every task."""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import optax

from lightxling.base import allocator
from lightxling.config.plan import MAIN
from lightxling.corpus.batch import Batch
from lightxling.model import parts
from lightxling.train import freeze, memory
from lightxling.train.plan import Plan
from lightxling.train.state import TrainState, batch_shapes
from lightxling.train.tasks import make_gradient


def make_train_step(
    value_and_grad: Callable,
    optimizer: optax.GradientTransformation,
    seed: int,
    task: str = MAIN,
    trainable: Sequence[str] = (),
) -> Callable:
    """Returns jitted `step(state, batch) -> (state, metrics)`; the old state is donated.

    `value_and_grad(trained, batch, key, frozen)` gives ((loss, terms), gradients), see
    `micro_batch`; `trainable` says which parameters are trained, see `freeze`. A step moves the
    encoder and the heads of its task; those of other tasks and their moments stay.
    The key is folded from the step, so a resumed run draws the same dropout. A step whose loss or
    gradient is not finite leaves the parameters and the optimizer as they were and says so in
    `metrics["finite"]`.
    """

    def train_step(state: TrainState, batch: Batch):
        key = jax.random.fold_in(jax.random.key(seed), state.step)
        trained, frozen = freeze.split_params(state.params, trainable)
        own = parts.own((trained, state.opt_state), task)
        (value, terms), grads = value_and_grad(own[0], batch, key, parts.own(frozen, task))
        norm = optax.tree.norm(grads)
        finite = jnp.isfinite(value) & jnp.isfinite(norm)

        def update(params, opt_state):
            updates, opt_state = optimizer.update(grads, opt_state, params)
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
    return jax.jit(train_step, donate_argnums=0, compiler_options=options)


def compile_steps(plan: Plan, say: Callable[[str], None]) -> dict[str, Callable]:
    """The step of every task, by its name, compiled for the largest batch; says what the one that
    needs most takes of the memory.

    Raises:
      UserError: it does not fit there.
    """
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
        say(f"compiling the step for {task.rows:,} pairs of {length} tokens")
        shapes = batch_shapes(plan.mesh, batch, rows=task.rows, length=length)
        # the first call of this shape finds the compiled step: nothing is compiled twice
        needs.append(memory.estimate(step.lower(plan.target, shapes).compile(), plan.target))
        steps[task.name] = step
    if needs[0] is not None:
        largest = max(needs, key=lambda need: need.total)
        say(memory.check_memory(largest, memory.available(), plan.config))
    allocator.trim()
    return steps
