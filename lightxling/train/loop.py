"""State, step and loop: the whole story of a training run."""

import contextlib
import dataclasses
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

from lightxling import teacher as teachers
from lightxling.config import Config, UserError, validate
from lightxling.corpus.batches import Batches, bucket_lengths
from lightxling.corpus.prepare import prepare
from lightxling.corpus.store import Store
from lightxling.corpus.tokenizer import Tokenizer
from lightxling.corpus.vectors import SentenceVectors
from lightxling.files import write_json
from lightxling.model import build as models
from lightxling.model.heads import heads_of
from lightxling.objectives import combine
from lightxling.train import checkpoint, freeze, memory
from lightxling.train.dev import dev_scores, encode_split, make_encode
from lightxling.train.freeze import check_trainable
from lightxling.train.micro_batch import value_and_grad
from lightxling.train.optimizer import learning_rate, make_optimizer
from lightxling.train.profile import Trace
from lightxling.train.progress import Progress, peak_memory
from lightxling.train.sharding import make_mesh, put_batch, shardings
from lightxling.train.warm_start import read_origin, warm_start
from lightxling.train.workdir import check_workdir, describe


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
    params = models.initialise(
        config.model,
        vocab_size,
        jax.random.key(config.train.seed),
        **heads_of(config.objectives, languages, teacher_width),
    )
    step, best = jnp.zeros([], jnp.int32), jnp.full([], -1.0, jnp.float32)
    trained, _ = freeze.split(params, config.train.trainable)
    return TrainState(step, params, optimizer.init(trained), best)


def make_train_step(
    value_and_grad: Callable,
    optimizer: optax.GradientTransformation,
    seed: int,
    trainable: Sequence[str] = (),
) -> Callable:
    """Returns jitted `step(state, batch) -> (state, metrics)`; the old state is donated.

    `value_and_grad(trained, batch, key, frozen)` gives ((loss, terms), gradients), see
    `micro_batch`; `trainable` says which parameters are trained, see `freeze`.
    The key is folded from the step, so a resumed run draws the same dropout. A step whose loss or
    gradient is not finite leaves the parameters and the optimizer as they were and says so in
    `metrics["finite"]`.
    """

    def train_step(state: TrainState, batch: combine.Batch):
        key = jax.random.fold_in(jax.random.key(seed), state.step)
        trained, frozen = freeze.split(state.params, trainable)
        (value, terms), grads = value_and_grad(trained, batch, key, frozen)
        norm = optax.tree.norm(grads)
        finite = jnp.isfinite(value) & jnp.isfinite(norm)

        def update(params, opt_state):
            updates, opt_state = optimizer.update(grads, opt_state, params)
            return optax.apply_updates(params, updates), opt_state

        # cond instead of a where on every leaf, which copies parameters and moments
        trained, opt_state = jax.lax.cond(
            finite, update, lambda *same: same, trained, state.opt_state
        )
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
            culprits = [name for name in terms if not np.isfinite(record[name])]
            raise UserError(
                f"step {record['step']}: {' and '.join(culprits) or 'the gradient'} is not finite "
                f"(loss {record['loss']}, gradient norm {record['grad_norm']}). "
                "The last good checkpoint is kept. Try a lower optimizer.learning_rate, "
                "optimizer.clip=1, or train.skip_nonfinite to leave out single steps"
            )
    return skipped


def make_batches(
    config: Config, store: Store, maskable: np.ndarray, teacher: SentenceVectors | None = None
) -> Batches:
    """This process's share of the training batches.

    Raises:
      UserError: the pairs do not fill one batch; with `batch_languages=single`, those of one
        language pair do not.
    """
    batches = Batches(
        store.train,
        weights=np.array([group["weight"] for group in store.groups], float),
        batch_size=config.train.batch_size,
        buckets=config.train.buckets,
        max_length=config.model.max_length,
        maskable=maskable,
        seed=config.train.seed,
        languages=np.array(
            [list(map(store.languages.index, g["languages"])) for g in store.groups]
        ),
        temperature=config.train.sampling_temperature,
        batch_languages=config.train.batch_languages,
        teacher=teacher,
        process_index=jax.process_index(),
        process_count=jax.process_count(),
    )
    if not batches.steps_per_epoch:
        raise UserError(
            f"{batches.rows_per_epoch} training pairs do not fill one batch of "
            f"train.batch_size={config.train.batch_size}; use a smaller batch or more text"
        )
    rows, size = batches.pair_rows, config.train.batch_size
    few = (rows > 0) & (rows < size)
    if config.train.batch_languages == "single" and few.any():
        names = np.array(pair_names(batches, store))
        raise UserError(
            "train.batch_languages=single: these language pairs have fewer training pairs an epoch "
            f"than train.batch_size={size} and would never be seen: "
            + ", ".join(f"{name} ({n})" for name, n in zip(names[few], rows[few], strict=True))
            + ". Use a smaller batch, a higher train.sampling_temperature or "
            "train.batch_languages=mixed"
        )
    return batches


def pair_names(batches: Batches, store: Store) -> list[str]:
    """Names such as `en-fr` of the language pairs that `batches.pair_counts` counts."""
    return ["-".join(store.languages[i] for i in pair) for pair in batches.pairs]


def batch_shapes(mesh: Mesh, batch: combine.Batch, *, rows: int, length: int) -> combine.Batch:
    """One process's `batch` as the global one of `rows` pairs, padded to `length`: shapes only."""
    by_row = NamedSharding(mesh, P("data"))

    def of_all_rows(x, *shape):
        return jax.ShapeDtypeStruct((rows, *(shape or x.shape[1:])), x.dtype, sharding=by_row)

    tokens = of_all_rows(batch.tokens, batch.tokens.shape[1], length)
    return jax.tree.map(of_all_rows, batch)._replace(tokens=tokens)


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
    """The state of the newest whole checkpoint, or a fresh one; with the shardings of `target`."""
    latest = checkpoint.latest_whole(folder, say)
    if latest is None:
        layout = jax.tree.map(lambda leaf: leaf.sharding, target)
        return jax.jit(initialise, out_shardings=layout)()
    say(f"resuming from {folder / str(latest)}")
    return TrainState(**checkpoint.restore(folder / str(latest), target._asdict()))


def train(config: Config, workdir: Path, console: Console | None = None) -> dict[str, float]:
    """Trains, resuming from `workdir` where it holds checkpoints.

    Returns:
      The last dev scores.

    Raises:
      UserError: bad settings, data, checkpoints, a full disk or a non-finite loss.
    """
    with checkpoint.full_disk_explained(workdir):
        return _train(config, workdir, console or Console(highlight=False))


def _train(config: Config, workdir: Path, console: Console) -> dict[str, float]:
    say = functools.partial(console.print, markup=False, soft_wrap=True)
    validate(config)
    check_trainable(config)
    origin = read_origin(config) if config.train.init_from else None
    mesh = make_mesh(
        config.mesh,
        batch_size=config.train.batch_size,
        micro_batch=config.train.micro_batch,
    )
    objectives, teacher = config.objectives, teachers.find(config)
    store = Store.open(prepare(config, progress=say))
    check_workdir(workdir, config, store, teacher.sha256 if teacher else None)
    taught = teachers.sentence_vectors(config, store, teacher, progress=say) if teacher else None
    pivots = teachers.dev_pivots(config, store, teacher) if objectives.pivot.weight else None
    tokenizer = Tokenizer.load(store.tokenizer_path)
    is_word = config.objectives.tokens.maskable == "words"
    maskable = tokenizer.maskable() if is_word else np.ones(tokenizer.vocab_size, bool)
    batches = make_batches(config, store, maskable, taught)
    per_epoch = batches.steps_per_epoch
    steps = config.train.pairs // config.train.batch_size or round(config.train.epochs * per_epoch)

    if config.mesh.model > 1:  # a split table is one block
        tokens = dataclasses.replace(objectives.tokens, vocab_block=0)
        mlm = dataclasses.replace(objectives.mlm, vocab_block=0)
        objectives = dataclasses.replace(objectives, tokens=tokens, mlm=mlm)
    terms = list(combine.active(objectives))
    schedule = learning_rate(config.optimizer, steps=steps, steps_per_epoch=per_epoch)
    optimizer = make_optimizer(config.optimizer, schedule)
    vocab_size = tokenizer.vocab_size
    languages, teacher_width = len(store.languages), taught.width if taught else 0
    graphdef = models.structure(
        config.model, vocab_size, **heads_of(objectives, languages, teacher_width)
    )
    initialise = functools.partial(
        initial_state, config, vocab_size, optimizer, languages, teacher_width
    )
    target = on_mesh(initialise, mesh)
    gradient = value_and_grad(objectives, graphdef, config.train.micro_batch)
    train_step = make_train_step(gradient, optimizer, config.train.seed, config.train.trainable)
    shapes = batch_shapes(
        mesh,
        combine.Batch(*batches[0]),
        rows=config.train.batch_size,
        length=batches.longest,
    )
    # the first call of this shape finds the compiled step: nothing is compiled twice
    compiled = train_step.lower(target, shapes).compile()
    need = memory.estimate(compiled, target)
    if need is not None:
        say(memory.check(need, memory.available(), config))
    state = start_or_resume(initialise, target, workdir / "checkpoints", say)
    if origin and not int(state.step):
        state = state._replace(params=warm_start(origin, state.params, store.languages, say))

    is_first = jax.process_index() == 0
    (workdir / "checkpoints").mkdir(parents=True, exist_ok=True)
    if is_first:
        about = describe(config, store, vocab_size, state.params)
        if taught:
            about["teacher"] = {**taught.manifest["teacher"], "width": taught.width}
        write_json(workdir / "config.json", about)
        shutil.copyfile(store.tokenizer_path, workdir / "tokenizer.model")
    learning = ""
    if config.train.trainable:
        trained, _ = freeze.split(state.params, config.train.trainable)
        learning = f"; {models.count(trained):,} learn"
    say(
        f"{models.count(state.params):,} parameters "
        f"({models.count(state.params['encoder']):,} in the encoder{learning}), "
        f"{store.train.rows:,} training pairs, {store.dev.rows:,} dev pairs, "
        f"{per_epoch:,} steps an epoch, {steps:,} steps"
    )

    encode = make_encode(graphdef)
    pair = np.array(["-".join(group["languages"]) for group in store.groups])[store.dev.group]
    buckets = bucket_lengths(config.train.buckets, config.model.max_length)
    has_dev = store.dev.rows and store.dev.sides > 1
    start, skipped = int(state.step), 0
    names, seen = pair_names(batches, store), batches.pair_counts(0, start)
    scores: dict[str, float] = {}
    with (
        Progress(workdir, start=start, stop=steps, console=console) as progress,
        stop_on_signals() as stop,
        Trace(
            workdir / "profile", start=start, stop=steps, count=config.train.profile_steps
        ) as trace,
    ):
        pending: list[dict] = []
        clock, waited, logged = time.perf_counter(), 0.0, start
        slots, filled = 0, 0  # of this process's tokens
        source = batches.iterate(start, steps)
        for step in range(start + 1, steps + 1):
            asked = time.perf_counter()
            batch = combine.Batch(*next(source))
            waited += time.perf_counter() - asked
            slots, filled = slots + batch.tokens.size, filled + np.count_nonzero(batch.tokens)
            trace.before(step, state)
            state, metrics = train_step(state, put_batch(batch, mesh))
            pending.append({"step": step, **metrics})

            is_stopped = stop.is_set()  # asked once, so that what stops also saves
            is_last = step == steps or is_stopped
            is_dev = has_dev and (step % config.train.dev_every == 0 or step == steps)
            is_save = step % config.train.checkpoint_every == 0 or is_last
            if not (is_dev or is_save or step % config.train.log_every == 0):
                continue

            records, pending = jax.device_get(pending), []
            skipped = check_finite(records, terms, config.train.skip_nonfinite, skipped)
            seconds = time.perf_counter() - clock
            record = {
                "step": step,
                "pairs": step * config.train.batch_size,
                "epoch": step / per_epoch,
                **{name: float(np.mean([r[name] for r in records])) for name in ("loss", *terms)},
                "grad_norm": float(records[-1]["grad_norm"]),
                "learning_rate": float(schedule(step - 1)),
                "pairs_per_second": (step - logged) * config.train.batch_size / seconds,
                "input_wait": waited / seconds,
                "padding": 1 - filled / slots,
                "skipped": skipped,
                "peak_memory": peak_memory(),
            }
            if len(names) > 1:
                seen += batches.pair_counts(logged, step)
                record |= {f"pairs/{n}": int(k) for n, k in zip(names, seen, strict=True)}
            if is_dev:
                vectors = encode_split(
                    encode, state.params, store.dev, buckets, config.model.max_length
                )
                if pivots:
                    vectors[np.arange(store.dev.rows), pivots.side] = pivots.vectors
                scores = dev_scores(vectors, pair)
                record |= scores
                if scores["dev_p@1"] > float(state.best):
                    # in its old place: another layout of the state would compile the step anew
                    best = jax.device_put(np.float32(scores["dev_p@1"]), state.best.sharding)
                    state = state._replace(best=best)
                    checkpoint.save(workdir / "best", state.params)
            if is_first:
                progress.log(record, terms)
            if is_save:
                checkpoint.save(workdir / "checkpoints" / str(step), state._asdict())
                checkpoint.prune(workdir / "checkpoints", config.train.keep)
            clock, waited, logged = time.perf_counter(), 0.0, step
            slots, filled = 0, 0
            if is_stopped and step < steps:
                progress.say(f"stopped at step {step:,}; the same command goes on from there")
                break
    return scores
