"""Runs functions in processes that are forked from a warm one: a start costs no imports.

Reads a JSON object a line, {"call": NAME, "log": FILE, ...arguments}; writes the number of the
process that does it, and then how it ended, as subprocess.Popen.returncode has it.
"""

import json
import os
import random
import resource
import shutil
import sys
import time
import traceback
from pathlib import Path

import jax
import numpy as np

from lightxling.config.files import from_dict
from lightxling.config.schema import Config
from lightxling.saved import checkpoint
from lightxling.train.loop import train


def run(workdir: str, config: dict, clock: int = 0, memory: int = 0, lose: str = "") -> None:
    """`train`.

    Args:
      clock: seed of a clock that jumps by up to a day at every look.
      memory: bytes that it may have beside those of the process that it is forked from.
      lose: a folder that is deleted after the fourth step.
    """
    if clock:
        rng, real = random.Random(clock), time.time_ns
        time.time_ns = lambda: real() + rng.randint(-86_400, 86_400) * 10**9
        time.time = lambda: time.time_ns() / 1e9
    # as `lightxling train` does: only the first process of a test compiles
    jax.config.update("jax_compilation_cache_dir", str(Path(workdir).parent / "compiled"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    if memory:
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + memory,) * 2)

    def on_record(record: dict) -> None:
        if lose and record["step"] == 4:
            shutil.rmtree(lose)

    train(from_dict(Config, config), Path(workdir), on_record=on_record)


def content(step: int) -> dict[str, np.ndarray]:
    """What a checkpoint of `save_many` should hold."""
    return {"step": np.int32(step), "moment": np.full((3, 5), step / 4, np.float32)}


def save_many(folder: str, steps: int) -> None:
    """Resumes, then saves and prunes as `train` does; notes what is saved in FOLDER/journal."""
    checkpoints, best = Path(folder) / "checkpoints", Path(folder) / "best"
    checkpoints.mkdir(parents=True, exist_ok=True)
    device = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    target = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=device), content(0)
    )
    start = checkpoint.latest_whole(checkpoints) or 0
    with open(Path(folder) / "journal", "a", buffering=1) as journal:
        print(f"from {start}", file=journal)
        if start:
            restored = checkpoint.restore(checkpoints / str(start), target)
            jax.tree.map(np.testing.assert_array_equal, restored, content(start))
        for step in range(start + 1, steps + 1):
            state = jax.device_put(content(step))
            checkpoint.save(best, state)
            checkpoint.save(checkpoints / str(step), state)
            checkpoint.prune(checkpoints, 2)
            print(f"saved {step}", file=journal)


def main() -> None:
    for line in sys.stdin:
        asked = json.loads(line)
        call, log = globals()[asked.pop("call")], asked.pop("log")
        if not (child := os.fork()):
            status = 1
            try:
                output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
                os.dup2(output, 1)
                os.dup2(output, 2)
                call(**asked)
                status = 0
            except BaseException:
                traceback.print_exc()
            finally:
                sys.stdout.flush()
                os._exit(status)
        print(child, flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


if __name__ == "__main__":
    main()
