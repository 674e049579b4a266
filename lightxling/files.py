"""Files and folders that get their name only when they are whole.

Whatever stood under the name stays until then, so an interrupted command loses nothing and leaves
no half file that looks complete.
"""

import contextlib
import fcntl
import json
import os
import shutil
import tokenize
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from lightxling.config import UserError


@contextlib.contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """A temporary path beside `path`: a file written there is renamed to it at the end.

    Raises:
      UserError: the disk refuses, with its reason.
    """
    temporary = _beside(path)
    try:
        yield temporary
        sync(temporary)
        temporary.replace(path)
    except OSError as error:
        raise _cannot_write(path, error) from None
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """The same for an empty folder, which replaces the one that stood there.

    Raises:
      UserError: the disk refuses, with its reason.
    """
    temporary = _beside(path)
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        temporary.mkdir()
        yield temporary
        if path.exists():
            old = path.with_name(f"{temporary.name}.old")
            path.rename(old)
            temporary.rename(path)
            shutil.rmtree(old)
        else:
            temporary.rename(path)
    except OSError as error:
        raise _cannot_write(path, error) from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


@contextlib.contextmanager
def lock(path: Path, busy: Callable[[], None]) -> Iterator[None]:
    """Holds the lock of the file `path`, which is made where there is none.

    Args:
      busy: called when another process holds it; it may raise, and otherwise that one is waited
        for.
    """
    with open(path, "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            busy()
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def sync(path: Path) -> None:
    """Waits until a file is on the disk: a power cut must not empty what was renamed."""
    with open(path, "rb") as file:
        os.fsync(file.fileno())


def cache() -> Path:
    """The folder for what can be had again: compiled programs, fetched files."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "lightxling"


def parse_json(text: str | bytes) -> Any:
    """`json.loads` of what anyone may have written.

    Raises:
      ValueError: it is no JSON, or nested too deeply to be read.
    """
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def map_array(path: Path) -> np.ndarray:
    """The array of an .npy file that anyone may have written, mapped into memory.

    Raises:
      OSError: there is none.
      ValueError: it is damaged.
    """
    try:
        return np.load(path, mmap_mode="r")
    except (EOFError, SyntaxError, ArithmeticError, tokenize.TokenError) as error:
        raise ValueError(f"{path} is no .npy file: {error}") from None


def write_json(path: Path, values: dict) -> None:
    """Writes a JSON object, atomically."""
    with atomic(path) as temporary:
        temporary.write_text(json.dumps(values, indent=2) + "\n")


def _beside(path: Path) -> Path:
    return path.with_name(f".{path.name}.{os.getpid()}.writing")


def _cannot_write(path: Path, error: OSError) -> Exception:
    if error.errno is None:  # of a reader inside the block, not of the disk
        return error
    return UserError(f"cannot write {path}: {error.strerror}")
