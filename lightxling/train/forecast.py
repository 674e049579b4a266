"""What a run will need and take on TPUs that are not there: its step compiled for them, here.

The compiler for TPUs comes as a package (`libtpu`, extra `tpu`), and jax compiles with it for a
topology that the machine does not have. No number is measured: memory is what the compiler sets
aside, and times are the least that the chips' rates allow.
"""

import dataclasses
import functools
import os
from collections.abc import Sequence
from typing import Annotated, NamedTuple

import numpy as np
import tyro
from rich import box
from rich.console import Console
from rich.table import Table

from lightxling.base.errors import UserError
from lightxling.config.plan import rows_of
from lightxling.config.rules import validate
from lightxling.config.schema import Config
from lightxling.train.memory import readable


class Chip(NamedTuple):
    """Rates of one chip, as its maker gives them."""

    kind: str
    memory: float
    """Bytes."""
    products: float
    """Floating-point operations a second in bfloat16."""
    bandwidth: float
    """Bytes a second from and to its memory."""
    links: float
    """Bytes a second to its neighbours, all links together."""


CHIPS = {
    "v4": Chip("TPU v4", 32e9, 275e12, 1228e9, 300e9),
    "v5e": Chip("TPU v5e", 16e9, 197e12, 819e9, 200e9),
    "v5p": Chip("TPU v5p", 95e9, 459e12, 2765e9, 600e9),
    "v6e": Chip("TPU v6e", 32e9, 918e12, 1640e9, 448e9),
}
"""https://cloud.google.com/tpu/docs/system-architecture-tpu-vm"""

USUAL = 25
"""Tokens a side of everyday sentences: the padded length next to it is planned for."""


@dataclasses.dataclass(frozen=True)
class Planning:
    """For what a run is planned."""

    on: str
    """The chips: a generation and their arrangement, such as v5e:2x4 or v5p:2x2x1."""
    lengths: tuple[Annotated[int, tyro.conf.arg(metavar="TOKENS")], ...] = ()
    """Padded lengths of sentences to compile for; by default that of everyday sentences, and the
    longest one of the recipe."""
    languages: int = 2
    """How many languages the corpus has."""
    teacher_width: int = 384
    """Dimensions of the teacher's vectors, where the recipe has a teacher."""
    price: float | None = None
    """What a chip costs an hour, in any currency."""


class Forecast(NamedTuple):
    """Of one step at one padded length, on one chip."""

    length: int
    arguments: int
    """Bytes of parameters, optimizer state and batch."""
    temporaries: int
    """Bytes of gradients, activations and results beside them."""
    operations: float
    traffic: int
    """Bytes between memory and cores."""
    sent: float
    """Bytes sent to other chips."""
    collectives: dict[str, int]
    """How often each kind happens."""
    gathered: int
    """Bytes of the largest array that a chip gets whole from others: never a table."""

    @property
    def memory(self) -> int:
        return self.arguments + self.temporaries

    def seconds(self, chip: Chip) -> dict[str, float]:
        """The least that each takes alone."""
        return {
            "products": self.operations / chip.products,
            "memory": self.traffic / chip.bandwidth,
            "links": self.sent / chip.links,
        }


def topology(name: str) -> tuple[Chip, list]:
    """The chip of a topology such as `v5e:2x2`, and its devices, of which none need exist.

    Raises:
      UserError: there is no such generation or arrangement, or libtpu is not installed.
    """
    generation, _, shape = name.partition(":")
    if generation not in CHIPS or not shape:
        raise UserError(
            f"--on {name}: give a generation ({', '.join(CHIPS)}) and an arrangement of its chips, "
            "such as v5e:2x4 or v5p:2x2x1"
        )
    # without these libtpu looks for a machine on the net, and says on stderr that there is none
    quiet = {"TPU_SKIP_MDS_QUERY": "1", "TPU_WORKER_HOSTNAMES": "localhost", "TPU_WORKER_ID": "0"}
    quiet |= {"TPU_ACCELERATOR_TYPE": "v5litepod-4", "TPU_STDERR_LOG_LEVEL": "3"}
    # nothing runs on a chip, so several processes may compile at a time
    quiet |= {"TPU_MIN_LOG_LEVEL": "3", "ALLOW_MULTIPLE_LIBTPU_LOAD": "1"}
    for key, value in quiet.items():
        os.environ.setdefault(key, value)
    from jax.experimental import topologies

    try:
        found = topologies.get_topology_desc(platform="tpu", topology_name=name)
    except Exception as error:  # of jaxlib, of several classes
        reason = str(error).splitlines()[0]
        raise UserError(f"--on {name}: the compiler knows no such chips ({reason})") from None
    return CHIPS[generation], list(found.devices)


def lengths_of(config: Config) -> tuple[int, ...]:
    """Padded lengths that are planned for by default."""
    from lightxling.corpus.batches import bucket_lengths

    lengths = bucket_lengths(config.train.buckets, config.model.max_length)
    usual = next((length for length in lengths if length >= USUAL), lengths[-1])
    return tuple(sorted({usual, lengths[-1]}))


def check(config: Config) -> None:
    """Refuses what no step can be made of without a corpus.

    Raises:
      UserError: names the setting.
    """
    validate(config)
    if config.model.ngrams or config.tokenizer.model == "words":
        raise UserError("plan: how many words a vocabulary has, only its text says: not possible")
    if config.stages or any(task.objectives.active() for task in config.tasks):
        raise UserError(
            "plan: recipes of several tasks or stages are not planned; take one of them"
        )
    if rows_of(config.objectives) != "pairs":
        raise UserError("plan: only runs that learn from pairs are planned")


def forecast(config: Config, devices: Sequence, length: int, asked: Planning) -> Forecast:
    """Compiles the training step for `devices`, which need not exist, and reads off what it does.

    Raises:
      UserError: batch or mesh do not fit the devices.
    """
    from lightxling.corpus.batch import Batch
    from lightxling.train.compiled import measure
    from lightxling.train.optimizer import learning_rate, make_optimizer
    from lightxling.train.sharding import make_mesh
    from lightxling.train.state import batch_shapes, initial_state, on_mesh
    from lightxling.train.step import make_train_step
    from lightxling.train.tasks import RunTask, make_gradient

    train, vocabulary = config.train, config.tokenizer.vocab_size
    mesh = make_mesh(
        config.mesh,
        batch_size=train.batch_size,
        micro_batch=train.micro_batch,
        devices=devices,
    )
    width = asked.teacher_width if config.objectives.taught else 0
    languages = tuple(map(str, range(asked.languages)))
    schedule = learning_rate(config.optimizer, steps=1000, steps_per_epoch=1000)
    optimizer = make_optimizer(config.optimizer, schedule)
    state = on_mesh(
        lambda: initial_state(config, vocabulary, optimizer, len(languages), width), mesh
    )
    sides = 2 + config.objectives.ranking.negatives * bool(config.objectives.ranking.weight)
    row = Batch(
        tokens=np.zeros((1, sides, 1), np.uint16 if vocabulary <= 65_536 else np.int32),
        masked=np.zeros(1, np.int32),
        languages=np.zeros((1, 2), np.int32),
        teacher=np.zeros((1, 2, width), np.float32) if width else None,
        pivot=np.zeros(1, np.int32) if width else None,
    )
    task = RunTask("main", config, None, languages, None, None)
    step = make_train_step(
        make_gradient(task, vocabulary, width), optimizer, train.seed, trainable=train.trainable
    )
    shapes = batch_shapes(mesh, row, rows=train.batch_size, length=length)
    compiled = step.lower(state, shapes).compile()
    memory, work = compiled.memory_analysis(), measure(compiled.as_text(), len(devices))
    kinds = {}
    for one in work.collectives:
        kinds[one.kind] = kinds.get(one.kind, 0) + one.times
    return Forecast(
        length,
        memory.argument_size_in_bytes,
        memory.temp_size_in_bytes + memory.output_size_in_bytes - memory.alias_size_in_bytes,
        compiled.cost_analysis()["flops"] + work.loops,
        work.bytes,
        sum(one.sent for one in work.collectives),
        kinds,
        max((one.bytes for one in work.collectives if one.kind == "all-gather"), default=0),
    )


def plan(asked: Planning, config: Config, console: Console | None = None) -> list[Forecast]:
    """Prints what a step needs and takes at several lengths, and what the run will.

    Raises:
      UserError: the chips are unknown, or the recipe cannot be planned or does not fit them.
    """
    console = console or Console(highlight=False)
    say = functools.partial(console.print, markup=False, soft_wrap=True)
    check(config)
    chip, devices = topology(asked.on)
    hosts = len({device.process_index for device in devices})
    say(
        f"{config.name or 'recipe'} on {asked.on}: {len(devices)} chips of {chip.kind} and {hosts} "
        f"host{'s' * (hosts > 1)}; a chip has {readable(int(chip.memory))}, "
        f"{chip.products / 1e12:,.0f} TFLOP/s in bfloat16, {chip.bandwidth / 1e9:,.0f} GB/s of "
        f"memory, {chip.links / 1e9:,.0f} GB/s of links; batches of {config.train.batch_size:,} "
        "pairs"
    )
    found = []
    for length in asked.lengths or lengths_of(config):
        say(f"compiling for {length} tokens")
        found.append(forecast(config, devices, length, asked))
    console.print(table(found, chip, config.train.batch_size))
    for line in conclusions(found, chip, len(devices), config, asked):
        say(line)
    return found


def table(found: Sequence[Forecast], chip: Chip, batch: int) -> Table:
    """What a step is on each chip; a column for every length, so that it fits a terminal."""
    rows: dict[str, list[str]] = {}
    for one in found:
        seconds = one.seconds(chip)
        slowest = max(seconds, key=seconds.get)
        low, high = batch / sum(seconds.values()), batch / seconds[slowest]
        for name, cell in (
            ("memory held", readable(one.arguments)),
            ("memory beside it", readable(one.temporaries)),
            ("operations", f"{one.operations / 1e9:,.1f} G"),
            ("to and from memory", readable(one.traffic)),
            ("sent to other chips", readable(int(one.sent))),
            *((f"time of {name}", f"{1e3 * time:.2f} ms") for name, time in seconds.items()),
            ("the longest", slowest),
            ("pairs/s, one by one", f"{low:,.0f}"),
            ("pairs/s, all at once", f"{high:,.0f}"),
        ):
            rows.setdefault(name, []).append(cell)
    made = Table(box=box.SIMPLE_HEAD, title="a step, on each chip", title_justify="left")
    made.add_column("tokens")
    for one in found:
        made.add_column(str(one.length), justify="right")
    for name, cells in rows.items():
        made.add_row(name, *cells)
    return made


def conclusions(
    found: Sequence[Forecast], chip: Chip, chips: int, config: Config, asked: Planning
) -> list[str]:
    """What the table means for the run, in words."""
    lines = []
    largest, usual = max(found, key=lambda one: one.memory), found[0]
    if largest.memory > chip.memory:
        smaller = max(config.train.batch_size // 4, chips)
        lines.append(
            f"DOES NOT FIT: {readable(largest.memory)} of {readable(int(chip.memory))} at "
            f"{largest.length} tokens. Try --train.micro-batch {smaller}, --mesh.model 2, or "
            "--optimizer.name adafactor"
        )
    else:
        lines.append(
            f"fits: {readable(largest.memory)} of {readable(int(chip.memory))} at "
            f"{largest.length} tokens"
        )
    kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(usual.collectives.items()))
    line = f"at {usual.length} tokens the chips exchange: {kinds or 'nothing'}"
    if usual.gathered:
        line += f"; the largest array that is gathered has {readable(usual.gathered)}"
    lines.append(line)
    seconds = usual.seconds(chip)
    rates = [config.train.batch_size / of(seconds.values()) for of in (max, sum)]
    if not config.train.pairs:
        lines.append("for the hours of the run, give --train.pairs")
        return lines
    hours = [config.train.pairs / rate / 3600 for rate in rates]
    line = f"{config.train.pairs:,} pairs of {usual.length} tokens: at least {hours[0]:.2f} hours "
    line += f"where everything overlaps, {hours[1]:.2f} where nothing does"
    if asked.price is not None:
        line += f"; {hours[0] * chips * asked.price:,.2f} to {hours[1] * chips * asked.price:,.2f} "
        line += f"at {asked.price:g} a chip-hour"
    lines.append(line + ". Programs seldom reach half of the chips' rates")
    return lines
