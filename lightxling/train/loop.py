"""State, step and loop: the whole story of a training run."""

import contextlib
import functools
import shutil
import signal
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
from rich.console import Console

from lightxling import allocator
from lightxling import teacher as teachers
from lightxling.config import MAIN, Config, UserError, fingerprint, to_dict
from lightxling.corpus.batch import Batch
from lightxling.corpus.batches import bucket_lengths
from lightxling.corpus.tokenizer import load_tokenizer
from lightxling.files import write_json
from lightxling.model import build as models
from lightxling.model import parts
from lightxling.objectives.combine import initialise_tasks
from lightxling.train import checkpoint, freeze, memory, processes
from lightxling.train.dev import dev_scores, encode_split, make_encode
from lightxling.train.optimizer import learning_rate, make_optimizer
from lightxling.train.profile import Trace
from lightxling.train.progress import Progress, peak_memory
from lightxling.train.sharding import put_batch, shardings
from lightxling.train.tasks import (
    check_sides,
    digests,
    find_frozen,
    gradient_of,
    interleave,
    mesh_for,
    open_stores,
    open_tasks,
    pair_names,
)
from lightxling.train.turns import Turns
from lightxling.train.warm_start import read_origin, warm_start
from lightxling.train.workdir import alone_in, check_workdir, describe
from lightxling.validate import validate


class TrainState(NamedTuple):
    step: jax.Array
    params: models.Params
    opt_state: optax.OptState
    best: jax.Array
    """Best dev P@1 so far, in per cent; -1 before the first measurement."""


def initial_state(
    config: Config,
    vocab_size: int,
    optimizer: optax.GradientTransformation,
    languages: int = 2,
    teacher_width: int = 0,
) -> TrainState:
    """Step 0; to be jitted with shardings, or given to `jax.eval_shape` for the shapes.

    Args:
      languages: how many the corpus has.
    """
    key = jax.random.key(config.train.seed)
    params = initialise_tasks(config, vocab_size, key, languages, teacher_width)
    step, best = jnp.zeros([], jnp.int32), jnp.full([], -1.0, jnp.float32)
    trained, _ = freeze.split(params, config.train.trainable)
    return TrainState(step, params, optimizer.init(trained), best)


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
        trained, frozen = freeze.split(state.params, trainable)
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
        params = freeze.join(trained, frozen)
        return TrainState(state.step + 1, params, opt_state, state.best), metrics

    options = None
    if jax.default_backend() == "cpu" and jax.device_count() == 1:
        # the default order keeps everything alive: a third more memory. Not for several virtual
        # devices, whose collectives then wait for each other
        options = {"xla_cpu_enable_concurrency_optimized_scheduler": False}
    return jax.jit(train_step, donate_argnums=0, compiler_options=options)


@contextlib.contextmanager
def stop_on_signals():
    """Yields an event that SIGTERM and Ctrl-C set; a second Ctrl-C interrupts at once."""
    stop = threading.Event()

    def handle(number, frame):
        if stop.is_set() and number == signal.SIGINT:
            raise KeyboardInterrupt
        stop.set()

    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    previous = {s: signal.signal(s, handle) for s in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield stop
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def check_finite(records: list[dict], terms: list[str], allowed: int, skipped: int) -> int:
    """Counts the skipped steps; beyond `allowed` of them the run ends.

    Raises:
      UserError: names the step and the term.
    """
    for record in records:
        if record["finite"]:
            continue
        skipped += 1
        if skipped > allowed:
            culprits = [n for n in terms if n in record and not np.isfinite(record[n])]
            loss = next(value for name, value in record.items() if name.endswith("loss"))
            raise UserError(
                f"step {record['step']}: {' and '.join(culprits) or 'the gradient'} is not finite "
                f"(loss {loss}, gradient norm {record['grad_norm']}). The last good checkpoint is "
                "kept: the same command with a higher --train.skip-nonfinite goes on from it and "
                "leaves out single steps. Otherwise start again in another --workdir, with a lower "
                "--optimizer.learning-rate or --optimizer.clip 1"
            )
    return skipped


def means(records: list[dict], names: list[str]) -> dict[str, float]:
    """Mean of every value over the records that have it; a name that none has is left out."""
    found = {name: [r[name] for r in records if name in r] for name in names}
    return {name: float(np.mean(values)) for name, values in found.items() if values}


def batch_shapes(mesh: Mesh, batch: Batch, *, rows: int, length: int) -> Batch:
    """One process's `batch` as the global one of `rows` pairs, padded to `length`: shapes only."""
    by_row = NamedSharding(mesh, P("data"))

    def of_all_rows(x, *shape):
        return jax.ShapeDtypeStruct((rows, *(shape or x.shape[1:])), x.dtype, sharding=by_row)

    def padded(x):
        return None if x is None else of_all_rows(x, x.shape[1], length, *x.shape[3:])

    shapes = jax.tree.map(of_all_rows, batch)
    return shapes._replace(tokens=padded(batch.tokens), ngrams=padded(batch.ngrams))


def on_mesh(initialise: Callable[[], TrainState], mesh: Mesh) -> TrainState:
    """The state as shapes with shardings: nothing is allocated."""
    shapes = jax.eval_shape(initialise)
    return jax.tree.map(
        lambda leaf, sharding: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding),
        shapes,
        shardings(mesh, shapes),
    )


def start_or_resume(
    initialise: Callable[[], TrainState],
    target: TrainState,
    folder: Path,
    say: Callable[[str], None],
) -> TrainState:
    """The state of the newest whole checkpoint, or a fresh one; with the shardings of `target`.

    Raises:
      UserError: there are checkpoints, and none is whole.
    """
    latest = checkpoint.latest_whole(folder, say)
    if latest is None:
        if checkpoint.steps(folder):
            raise UserError(
                f"every checkpoint in {folder} is damaged; delete them to start anew, or give "
                "another --workdir"
            )
        layout = jax.tree.map(lambda leaf: leaf.sharding, target)
        return jax.jit(initialise, out_shardings=layout)()
    say(f"resuming from {folder / str(latest)}")
    state = TrainState(**checkpoint.restore(folder / str(latest), target._asdict()))
    checkpoint.set_aside(folder, after=latest)
    return state


def train(config: Config, workdir: Path, console: Console | None = None) -> dict[str, float] | None:
    """Trains, resuming from `workdir` where it holds checkpoints.

    Returns:
      The last dev scores; None if SIGTERM or Ctrl-C stopped the run before its end.

    Raises:
      UserError: bad settings, data, checkpoints, a full disk or a non-finite loss.
    """
    console = console or Console(highlight=False)
    with checkpoint.full_disk_explained(workdir), processes.ending_together():
        validate(config)
        check_sides(config)
        freeze.check_trainable(config)
        if not processes.is_first():  # what the first process says holds for all
            return _train(config, workdir, Console(quiet=True))
        with alone_in(workdir):
            return _train(config, workdir, console)


def _train(config: Config, workdir: Path, console: Console) -> dict[str, float] | None:
    say = functools.partial(console.print, markup=False, soft_wrap=True)
    origin = read_origin(config) if config.train.init_from else None
    mesh = mesh_for(config)
    frozen = find_frozen(config)
    stores = open_stores(config, say)
    processes.check_same(
        "settings or data",
        fingerprint([to_dict(config), *(store.manifest for _, store in stores.values())]),
        "start all of them with the same command line, on the same files",
    )
    data = {name: store.content for name, (_, store) in stores.items()}
    check_workdir(workdir, config, stores[MAIN][1], data, digests(frozen))
    run_tasks = open_tasks(stores, frozen, mesh, say)
    main, shares = run_tasks[0], tuple(task.config.train.share for task in run_tasks)
    turns = Turns(shares, config.train.task_order, config.train.seed)
    per_epoch, per_step = main.batches.steps_per_epoch, sum(shares) / shares[0]
    pivots = None
    if config.objectives.pivot.weight:
        pivots = teachers.dev_pivots(config, main.store, frozen[MAIN].teacher)
    steps = config.train.pairs // config.train.batch_size
    if not config.train.pairs:
        steps = round(config.train.epochs * per_epoch)
    if not steps:
        raise UserError(
            f"train.epochs={config.train.epochs} of {per_epoch:,} steps are none; train for longer"
        )
    steps = round(steps * per_step)  # those of the other tasks come on top

    schedule = learning_rate(
        config.optimizer, steps=steps, steps_per_epoch=round(per_epoch * per_step)
    )
    optimizer = make_optimizer(config.optimizer, schedule)
    store, languages = main.store, main.languages
    vocab_size = load_tokenizer(store.tokenizer_path).vocab_size
    teacher_width = max(task.teacher_width for task in run_tasks)
    initialise = functools.partial(
        initial_state, config, vocab_size, optimizer, len(languages), teacher_width
    )
    target = on_mesh(initialise, mesh)
    train_steps, needs, trainable = {}, [], config.train.trainable
    for task in run_tasks:
        gradient = gradient_of(task, vocab_size, teacher_width)
        train_steps[task.name] = make_train_step(
            gradient, optimizer, config.train.seed, task.name, trainable
        )
        shapes = batch_shapes(
            mesh,
            task.batches[0],
            rows=task.batches.batch_size,
            length=task.batches.longest,
        )
        # the first call of this shape finds the compiled step: nothing is compiled twice
        compiled = train_steps[task.name].lower(target, shapes).compile()
        needs.append(memory.estimate(compiled, target))
    if needs[0] is not None:
        say(memory.check(max(needs, key=lambda need: need.total), memory.available(), config))
    del compiled
    allocator.trim()
    checkpoint.recover(workdir / "best")
    state = start_or_resume(initialise, target, workdir / "checkpoints", say)
    if origin and not int(state.step):
        state = state._replace(params=warm_start(origin, state.params, languages, say))
    allocator.trim()

    if processes.is_first():
        (workdir / "checkpoints").mkdir(parents=True, exist_ok=True)
        about = describe(config, store, languages, vocab_size, state.params)
        for task in run_tasks:
            if task.taught:
                about["teacher"] = {**task.taught.manifest["teacher"], "width": task.taught.width}
        about["miners"], about["data"] = digests(frozen)["miners"], data
        write_json(workdir / "config.json", about)
        shutil.copyfile(store.tokenizer_path, workdir / "tokenizer.model")
    processes.wait("workdir")
    if not (workdir / "config.json").exists():
        raise UserError(
            f"--workdir {workdir} is not the folder that process 0 writes to; give one on a file "
            "system that all hosts share"
        )
    learning = ""
    if trainable:
        trained, _ = freeze.split(state.params, trainable)
        learning = f"; {models.count(trained):,} learn"
    say(
        f"{models.count(state.params):,} parameters "
        f"({models.count(state.params['encoder']):,} in the encoder{learning}), "
        f"{store.train.rows:,} training pairs, {store.dev.rows:,} dev pairs, "
        f"{per_epoch:,} steps an epoch, {steps:,} steps"
    )
    for task in run_tasks[1:]:
        say(
            f"task {task.name}: {task.store.train.rows:,} rows, {task.batches.steps_per_epoch:,} "
            f"steps an epoch, {task.config.train.share / sum(shares):.1%} of the steps"
        )

    encode = make_encode(models.structure(config.model, vocab_size), mesh)
    pair = np.array(["-".join(group["languages"]) for group in store.groups])[store.dev.group]
    buckets = bucket_lengths(config.train.buckets, config.model.max_length)
    has_dev = store.dev.rows and store.dev.sides > 1
    start, skipped, is_alone = int(state.step), 0, jax.process_count() == 1
    sizes = np.array([task.batches.batch_size for task in run_tasks])
    done = turns.counts(start)  # steps of each task
    names, seen = pair_names(main.batches, languages), main.batches.pair_counts(0, int(done[0]))
    losses = [task.prefix + "loss" for task in run_tasks]
    terms = [task.prefix + term for task in run_tasks for term in task.terms]
    scores: dict[str, float] = {}
    with (
        Progress(
            workdir if processes.is_first() else None, start=start, stop=steps, console=console
        ) as progress,
        stop_on_signals() as stop,
        Trace(
            workdir / "profile", start=start, stop=steps, count=config.train.profile_steps
        ) as trace,
    ):
        pending: list[dict] = []
        clock, waited, logged = time.perf_counter(), 0.0, done.copy()
        slots, filled = 0, 0  # of this process's tokens
        source = interleave(run_tasks, turns, start, steps)
        for step in range(start + 1, steps + 1):
            asked = time.perf_counter()
            number, batch = next(source)
            task, done[number] = run_tasks[number], done[number] + 1
            waited += time.perf_counter() - asked
            slots, filled = slots + batch.tokens.size, filled + np.count_nonzero(batch.tokens)
            trace.before(step, state)
            rows = put_batch(batch, mesh, task.batches.batch_size)
            state, metrics = train_steps[task.name](state, rows)
            pending.append({"step": step, **task.named(metrics)})

            is_log = step % config.train.log_every == 0
            # asked once, so that what stops also saves; several processes ask each other seldom
            is_stopped = (
                stop.is_set() if is_alone else is_log and processes.any_of_all(stop.is_set())
            )
            is_last = step == steps or is_stopped
            is_dev = has_dev and (step % config.train.dev_every == 0 or step == steps)
            is_save = step % config.train.checkpoint_every == 0 or is_last
            if not (is_dev or is_save or is_log):
                continue

            records, pending = jax.device_get(pending), []
            skipped = check_finite(records, terms, config.train.skip_nonfinite, skipped)
            seconds = time.perf_counter() - clock
            record = {
                "step": step,
                "pairs": int(done @ sizes),
                "epoch": float(done[0] / per_epoch),
                **means(records, [*losses, *terms]),
                "grad_norm": float(records[-1]["grad_norm"]),
                "learning_rate": float(schedule(step - 1)),
                "pairs_per_second": float((done - logged) @ sizes / seconds),
                "input_wait": waited / seconds,
                "padding": 1 - filled / slots,
                "skipped": skipped,
                "peak_memory": peak_memory(),
            }
            if len(names) > 1:
                seen += main.batches.pair_counts(int(logged[0]), int(done[0]))
                record |= {f"pairs/{n}": int(k) for n, k in zip(names, seen, strict=True)}
            if len(run_tasks) > 1:
                for one, count, size in zip(run_tasks, done.tolist(), sizes.tolist(), strict=True):
                    record |= {f"{one.name}/steps": count, f"{one.name}/pairs": count * size}
            if is_dev:
                encoder = {"encoder": state.params["encoder"]}
                vectors = encode_split(
                    encode,
                    encoder,
                    store.dev,
                    buckets,
                    config.model.max_length,
                    ngrams=config.model.ngrams,
                )
                if not np.isfinite(vectors).all():
                    raise UserError(
                        f"step {step}: the encoder gives vectors that are not finite; start again "
                        "in another --workdir, with a lower --optimizer.learning-rate or "
                        "--optimizer.clip 1"
                    )
                if pivots:
                    vectors[np.arange(store.dev.rows), pivots.side] = pivots.vectors
                scores = dev_scores(vectors, pair)
                record |= scores | {"dev_candidates": len(pair) / len(np.unique(pair))}
                if scores["dev_p@1"] > float(state.best):
                    # in its old place: another layout of the state would compile the step anew
                    best = jax.device_put(np.float32(scores["dev_p@1"]), state.best.sharding)
                    state = state._replace(best=best)
                    checkpoint.save(workdir / "best", state.params)
            progress.log(record, terms if len(run_tasks) == 1 else losses)
            if is_save:
                checkpoint.save(workdir / "checkpoints" / str(step), state._asdict())
                checkpoint.prune(workdir / "checkpoints", config.train.keep)
            clock, waited, logged = time.perf_counter(), 0.0, done.copy()
            slots, filled = 0, 0
            if is_stopped and step < steps:
                progress.say(f"stopped at step {step:,}; the same command goes on from there")
                return None
    return scores
