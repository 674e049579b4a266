"""Saving and restoring with orbax: whole or not at all, checked by checksum, on any devices."""

import contextlib
import json
import re
import shutil
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp
from jax.sharding import SingleDeviceSharding

from lightxling.base import limits, processes
from lightxling.base.errors import UserError, first_line
from lightxling.base.files import file_sha256, parse_json

CHECKSUMS = "checksums.json"
PATIENT = ocp.options.AsyncOptions(timeout_secs=10**8, create_directories_asynchronously=False)
"""orbax waits by the wall clock, and one that jumps must not end a run: it waits for three years,
and for nothing between its own threads."""


_STEP = re.compile("0|[1-9][0-9]{0,18}")
"""The name of a checkpoint's folder."""


def digest(path: Path) -> dict[str, str]:
    """sha256 of every file below a folder, by relative name."""
    return {
        file.relative_to(path).as_posix(): file_sha256(file)
        for file in sorted(path.rglob("*"))
        if file.is_file() and file.name != CHECKSUMS
    }


@contextlib.contextmanager
def full_disk_explained(folder: Path):
    """Turns a full disk into a UserError; tensorstore reports it as a ValueError."""
    try:
        yield
    except (OSError, ValueError, UserError) as error:
        if "No space left on device" not in str(error):
            raise
        raise UserError(
            f"the disk of {folder} is full; the checkpoints written so far are whole. Free some "
            "space and type the same command again to go on from the last one"
        ) from error


def save(path: Path, tree: Any) -> None:
    """Writes a tree of arrays under a temporary name, with checksums, then renames.

    Called by every process of a run; the first one does the renaming, and all wait for it.

    Raises:
      UserError: the disk is full; what stood at `path` before is untouched.
    """
    path = path.absolute()
    temporary = path.with_name(path.name + ".writing")
    try:
        with full_disk_explained(path.parent):
            with ocp.StandardCheckpointer(async_options=PATIENT) as checkpointer:
                checkpointer.save(temporary, tree, force=True)
            if processes.is_first():
                checksums = temporary / CHECKSUMS
                checksums.write_text(json.dumps(digest(temporary)), "utf-8", newline="\n")
                old = path.with_name(path.name + ".old")
                shutil.rmtree(old, ignore_errors=True)
                if path.exists():
                    path.rename(old)
                temporary.rename(path)
                shutil.rmtree(old, ignore_errors=True)
    finally:
        if processes.is_first():
            for leftover in path.parent.glob(temporary.name + "*"):
                shutil.rmtree(leftover, ignore_errors=True)
    processes.wait(f"saved {path.name}")


def recover(path: Path) -> None:
    """Brings back what `save` had put aside when it was killed between its two renamings."""
    old = path.with_name(path.name + ".old")
    if processes.is_first() and old.exists() and not path.exists():
        old.rename(path)


def is_whole(path: Path) -> bool:
    """Whether every file of a checkpoint has the content that was written."""
    try:
        return parse_json(limits.read_bytes(path / CHECKSUMS)) == digest(path)
    except (OSError, ValueError):
        return False


def steps(folder: Path) -> list[int]:
    """Steps with a checkpoint, ascending; unfinished ones do not count.

    Only a folder with the name that `save` gives is one: no file `5`, and no folder `007`.
    """
    if not folder.is_dir():
        return []
    found = (child for child in folder.iterdir() if _STEP.fullmatch(child.name))
    return sorted(int(child.name) for child in found if child.is_dir())


def latest_whole(folder: Path, warn=print) -> int | None:
    """The newest undamaged checkpoint's step, saying which ones are passed over.

    With several processes the first one looks.
    """
    found = -1
    for step in reversed(steps(folder)) if processes.is_first() else ():
        if is_whole(folder / str(step)):
            found = step
            break
        warn(f"checkpoint {folder / str(step)} is damaged (checksum); trying the one before it")
    found = processes.from_first(found)
    return None if found < 0 else found


def set_aside(folder: Path, after: int) -> None:
    """Renames the checkpoints of later steps to N.damaged: what a run that goes on from `after`
    writes is newer than they, and `prune` counts by step."""
    if processes.is_first():
        for step in steps(folder):
            if step > after:
                aside = folder / f"{step}.damaged"
                shutil.rmtree(aside, ignore_errors=True)
                (folder / str(step)).rename(aside)
    processes.wait("set aside")


def prune(folder: Path, keep: int) -> None:
    """Deletes all but the newest `keep` checkpoints, and what a killed run left half-written."""
    if processes.is_first():
        for step in steps(folder)[:-keep]:  # half of one must not have the name of a step
            (folder / str(step)).rename(folder / f"{step}.old")
        for child in folder.iterdir():
            step, _, ending = child.name.partition(".")
            if _STEP.fullmatch(step) and (ending.startswith("writing") or ending == "old"):
                shutil.rmtree(child, ignore_errors=True)


def restore(path: Path, target: Any, *, partial: bool = False) -> Any:
    """Restores into an explicit target: a tree of ShapeDtypeStruct with shardings.

    Args:
      partial: the checkpoint may hold more than the target.

    Raises:
      UserError: the checkpoint has other shapes or names than the target.
    """
    try:
        if partial:
            wanted = ocp.args.PyTreeRestore(
                item=target,
                restore_args=ocp.checkpoint_utils.construct_restore_args(target),
                partial_restore=True,
            )
            with ocp.PyTreeCheckpointer() as checkpointer:
                return checkpointer.restore(path.absolute(), args=wanted)
        with ocp.StandardCheckpointer() as checkpointer:
            return checkpointer.restore(path.absolute(), target)
    except (ValueError, KeyError, FileNotFoundError) as error:
        raise UserError(
            f"checkpoint {path} does not fit this configuration or is damaged: {first_line(error)}"
        ) from error


def load_params(
    run: Path, which: str, target: Any, *, partial: bool = False
) -> tuple[Any, int | None]:
    """Parameters of a run on the default device: `which` is best, last or a step number.

    Args:
      target: tree of ShapeDtypeStruct, as `jax.eval_shape` of the model's initialisation gives it.
      partial: the run may have more parameters than the target.

    Returns:
      The parameters, and the step they are from where the folder's name says it.
    """
    folder = run / "checkpoints"
    device = SingleDeviceSharding(jax.local_devices()[0])
    target = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=device), target
    )
    best = run / "best"
    if not best.is_dir():
        best = best.with_name("best.old")  # `save` was killed between its two renamings
    if which == "best" and best.is_dir():
        if not is_whole(best):
            raise UserError(f"{best} is damaged (checksum); try --checkpoint last")
        return restore(best, target, partial=partial), None
    available = steps(folder)
    if not available:
        raise UserError(f"{run} has no checkpoint; train it first, or give another folder")
    if which in ("best", "last"):
        step = latest_whole(folder)
        if step is None:
            raise UserError(f"every checkpoint in {folder} is damaged")
    elif which in map(str, available):
        step = int(which)
        if not is_whole(folder / which):
            raise UserError(
                f"{folder / which} is damaged (checksum); try another: "
                f"{', '.join(str(other) for other in available if other != step) or 'best'}"
            )
    else:
        raise UserError(
            f"{run} has no checkpoint {which!r}; it has best, last, "
            + ", ".join(map(str, available))
        )
    return restore(folder / str(step), {"params": target}, partial=True)["params"], step
