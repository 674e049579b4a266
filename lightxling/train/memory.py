"""What a training step needs of the memory, against what the device has, before it is asked for."""

import math
from pathlib import Path
from typing import NamedTuple

import jax

from lightxling.base.errors import UserError
from lightxling.config.schema import Config


class Need(NamedTuple):
    """Bytes per device."""

    parameters: int
    optimizer: int
    temporaries: int
    """Gradients, activations, logits, results: whatever the compiled step holds at its worst."""

    @property
    def total(self) -> int:
        return sum(self)


def size(tree) -> int:
    """Bytes of a tree of arrays or of shapes with shardings, on one device."""

    def on_device(leaf):
        sharding = getattr(leaf, "sharding", None)
        shape = sharding.shard_shape(leaf.shape) if sharding is not None else leaf.shape
        return math.prod(shape) * leaf.dtype.itemsize

    return sum(map(on_device, jax.tree.leaves(tree)))


def estimate(compiled: jax.stages.Compiled, state) -> Need | None:
    """What the compiled step needs; `state` is a TrainState of arrays or shapes.

    None where the backend does not tell.
    """
    memory = compiled.memory_analysis()
    if memory is None:
        return None
    # the old state is donated: what is not an alias of it comes on top
    results = memory.output_size_in_bytes - memory.alias_size_in_bytes
    return Need(size(state.params), size(state.opt_state), memory.temp_size_in_bytes + results)


def _number(path: Path) -> int | None:
    try:
        return int(path.read_text("utf-8"))
    except (OSError, ValueError):  # no such file, or "max"
        return None


def _left_in_group(folder: Path, limit: str, usage: str) -> int | None:
    """Bytes that a control group may still take; its file cache can be dropped and counts as free.

    None without a limit.
    """
    most, used = _number(folder / limit), _number(folder / usage)
    if most is None or used is None:
        return None
    try:
        stat = dict(
            line.split() for line in (folder / "memory.stat").read_text("utf-8").splitlines()
        )
        cache = int(stat.get("total_inactive_file", stat.get("inactive_file", 0)))
    except (OSError, ValueError):
        cache = 0
    return most - used + cache


def host_memory(root: Path = Path("/")) -> int | None:
    """Bytes that processes can still get: MemAvailable, or less where a control group says so.

    Args:
      root: where /proc and /sys are.

    Returns:
      None where there is no /proc/meminfo.
    """
    try:
        lines = (root / "proc/meminfo").read_text("utf-8").splitlines()
        meminfo = dict(line.split(":") for line in lines)
        left = [int(meminfo["MemAvailable"].split()[0]) * 1024]
    except (OSError, KeyError, ValueError):
        return None
    try:
        own = (root / "proc/self/cgroup").read_text("utf-8").splitlines()
    except OSError:
        own = []
    for line in own:
        _, controllers, path = line.split(":", 2)
        if not controllers:  # version 2
            base, names = root / "sys/fs/cgroup", ("memory.max", "memory.current")
        elif "memory" in controllers.split(","):
            base = root / "sys/fs/cgroup/memory"
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes")
        else:
            continue
        folder = base / path.lstrip("/")
        for group in (folder, *folder.parents):  # a limit above holds too
            left.append(_left_in_group(group, *names))
            if group == base:
                break
    return max(min(n for n in left if n is not None), 0)


def available() -> int | None:
    """Free bytes per local device; None where that is not known."""
    device = jax.local_devices()[0]
    if device.platform == "cpu":  # all virtual devices share the host's memory
        free = host_memory()
        return None if free is None else free // jax.local_device_count()
    stats = device.memory_stats() or {}
    if "bytes_limit" not in stats:
        return None
    return stats["bytes_limit"] - stats["bytes_in_use"]


def readable(count: int) -> str:
    return f"{count / 1e9:.2f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"


def check_memory(need: Need, free: int | None, config: Config) -> str:
    """The estimate in words.

    Raises:
      UserError: it does not fit; says what to lower.
    """
    parts = (
        f"parameters {readable(need.parameters)}, optimizer state {readable(need.optimizer)}, "
        f"gradients and activations {readable(need.temporaries)}"
    )
    if free is not None and need.total > free:
        train = config.train
        smaller = max(train.batch_size // 4, 1) if not train.micro_batch else train.micro_batch // 2
        ways = [
            f"train.micro_batch={smaller}" if smaller else "",
            f"a train.batch_size below {train.batch_size}",
            f"a tokenizer.vocab_size below {config.tokenizer.vocab_size}",
            "optimizer.name=adafactor" if config.optimizer.name != "adafactor" else "",
        ]
        raise UserError(
            f"a training step needs {readable(need.total)} ({parts}), but {readable(free)} are "
            f"free on each device, or allowed by train.memory. Try {', '.join(filter(None, ways))}"
        )
    of_free = f" of {readable(free)} free" if free is not None else ""
    return f"memory: {readable(need.total)}{of_free}: {parts}"
