"""Several processes as one run: how they find each other, and what they agree on.

Every process runs the same program on its share of the devices. The first one writes the files of
the run, in a folder that all of them see.
"""

import contextlib
import hashlib
import importlib.util
import os
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path

import jax
import numpy as np
from jax.experimental import multihost_utils

from lightxling.base.errors import UserError, first_line

HEARTBEAT = 20
"""Seconds without a sign of life after which a process counts as dead, and all others end."""


def is_launched() -> bool:
    """Whether jax finds the other processes by itself.

    True in a step of Slurm or under Open MPI with several tasks, and on a Cloud TPU, whatever the
    number of its hosts. A shell within an allocation of Slurm is not a step.
    """
    tasks = (os.environ.get(name, "1") for name in ("SLURM_STEP_NUM_TASKS", "OMPI_COMM_WORLD_SIZE"))
    if any(count.isdecimal() and int(count) > 1 for count in tasks):
        return True
    has_tpu = any(Path(device).exists() for device in ("/dev/accel0", "/dev/vfio/0"))
    return has_tpu and importlib.util.find_spec("libtpu") is not None


def join_processes(
    coordinator_address: str | None, num_processes: int | None, process_id: int | None
) -> None:
    """Joins the other processes; to be called before jax sees its devices.

    Args:
      coordinator_address: HOST:PORT of process 0; None, with the other two: see `is_launched`.

    Raises:
      UserError: some of the three are missing or out of range, or the others were not found.
    """
    given = (coordinator_address, num_processes, process_id)
    if any(value is None for value in given) and any(value is not None for value in given):
        raise UserError(
            "--coordinator-address, --num-processes and --process-id belong together, as in "
            "--coordinator-address host0:1234 --num-processes 2 --process-id 0 on the first of two "
            "hosts"
        )
    if coordinator_address is not None:
        host, _, port = coordinator_address.rpartition(":")
        if not host or not port.isdecimal():
            raise UserError(
                f"--coordinator-address {coordinator_address} should be HOST:PORT, with a port "
                "that is free on the host of process 0"
            )
        if not 0 <= process_id < num_processes:
            raise UserError(
                f"--process-id {process_id} should be from 0 to {num_processes - 1}, as there are "
                f"--num-processes {num_processes}"
            )
    elif not is_launched():
        return
    try:
        jax.distributed.initialize(
            coordinator_address,
            num_processes,
            process_id,
            heartbeat_timeout_seconds=HEARTBEAT,
            shutdown_timeout_seconds=HEARTBEAT,
        )
    except RuntimeError as error:
        reason = first_line(error)
        raise UserError(f"the processes of the run did not find each other: {reason}") from error


@contextlib.contextmanager
def ending_together() -> Iterator[None]:
    """Where one of several processes fails, it ends at once, and the others notice.

    Left to the interpreter, jax would say farewell to the other processes first, which wait in a
    computation for this one.
    """
    try:
        yield
    except BaseException as error:
        if jax.process_count() == 1:
            raise
        who = f"lightxling: process {jax.process_index()} of {jax.process_count()}"
        if isinstance(error, UserError):
            print(f"{who}: {error}", file=sys.stderr, flush=True)
            os._exit(2)
        if isinstance(error, jax.errors.JaxRuntimeError):  # mostly: another process is gone
            reason = first_line(error)
        else:
            reason = traceback.format_exc()
        print(
            f"{reason}\n{who} ends. Start all of them again when the others are gone too: the run "
            "goes on from its last checkpoint",
            file=sys.stderr,
            flush=True,
        )
        os._exit(1)


def is_first() -> bool:
    """Whether this process writes the files of the run."""
    return jax.process_index() == 0


def wait(name: str) -> None:
    """Until all processes are here."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(name)


def any_of_all(flag: bool) -> bool:
    """Whether the flag is set in any process."""
    if jax.process_count() == 1:
        return flag
    return bool(multihost_utils.process_allgather(np.array(flag)).any())


def from_first(number: int) -> int:
    """The number that process 0 has."""
    if jax.process_count() == 1:
        return number
    return int(multihost_utils.broadcast_one_to_all(np.int32(number)))


def check_same(what: str, fingerprint: str, hint: str) -> None:
    """
    Raises:
      UserError: the processes have different fingerprints; `hint` says what to do.
    """
    if jax.process_count() == 1:
        return
    digest = np.frombuffer(hashlib.sha256(fingerprint.encode()).digest(), np.uint32)
    everyone = multihost_utils.process_allgather(digest)
    different = np.flatnonzero((everyone != everyone[0]).any(axis=1))
    if different.size:
        raise UserError(
            f"process {', '.join(map(str, different))} and process 0 have different {what}; {hint}"
        )
