"""Files and folders that get their name only when they are whole.

Whatever stood under the name stays until then, so an interrupted command loses nothing and leaves
no half file that looks complete.
"""

import contextlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from lightxling.base.errors import UserError
from lightxling.base.extras import needed_by

PACKAGE = Path(__file__).parent.parent
"""The folder of lightxling's code, and of the files that come with it."""

_JSON_LIMIT = 16 << 20  # bytes


@contextlib.contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """A temporary path beside `path`: a file written there is renamed to it at the end.

    A link stays, and what it leads to is replaced. What is neither a file nor a folder, such as a
    pipe or /dev/null, is written to as it is.

    Raises:
      UserError: the disk refuses, with its reason.
    """
    direct = is_device(path)
    target = path if direct else _followed(path)
    temporary = path if direct else _beside(target)
    try:
        yield temporary
        if not direct:
            sync(temporary)
            temporary.replace(target)
    except OSError as error:
        raise _cannot_write(path, error) from None
    finally:
        if not direct:
            with contextlib.suppress(OSError):  # or it would hide the reason above
                temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """The same for an empty folder, which replaces the one that stood there.

    Raises:
      UserError: the disk refuses, with its reason.
    """
    target = _followed(path)
    temporary = _beside(target)
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        temporary.mkdir()
        yield temporary
        if target.exists():
            old = target.with_name(f"{temporary.name}.old")
            target.rename(old)
            temporary.rename(target)
            shutil.rmtree(old)
        else:
            temporary.rename(target)
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
    with needed_by("the preparation of text"):
        import filelock  # who encodes takes no locks

    held = filelock.FileLock(path)
    try:
        held.acquire(blocking=False)
    except filelock.Timeout:
        busy()
        held.acquire()
    try:
        yield
    finally:
        held.release()


def check_output(path: Path) -> None:
    """Finds out early whether `atomic` could write a file.

    Raises:
      UserError: there is no folder to write it in, or a folder in its place.
    """
    if os.path.isdir(path):
        raise UserError(f"--output {path} is a folder; give the name of a file")
    check_parent(path)


def check_parent(path: Path) -> None:
    """Finds out early whether there is a folder for an output.

    Raises:
      UserError: there is none.
    """
    if not os.path.isdir(path.absolute().parent):
        raise UserError(f"--output {path}: there is no folder {path.absolute().parent}")


def is_device(path: Path) -> bool:
    """Whether something stands there that is neither a file nor a folder, nor leads to one."""
    return os.path.exists(path) and not os.path.isfile(path) and not os.path.isdir(path)


def sync(path: Path) -> None:
    """Waits until a file is on the disk: a power cut must not empty what was renamed."""
    with open(path, "r+b") as file:  # Windows syncs only what may be written to
        os.fsync(file.fileno())


def cache() -> Path:
    """The folder for what can be had again: compiled programs, fetched files."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "lightxling"


def parse_json(text: str | bytes) -> Any:
    """`json.loads` of what anyone may have written.

    Raises:
      ValueError: it is not JSON, or nested too deeply to be read.
    """
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file that may come from a stranger."""
    try:
        with open(path, "rb") as file:
            text = file.read(_JSON_LIMIT + 1)
        if len(text) > _JSON_LIMIT:
            raise ValueError("too large")
        value = parse_json(text)
        if not isinstance(value, dict):
            raise ValueError("not a JSON object")
        return value
    except OSError as error:
        raise UserError(
            f"cannot read {path}: {error.strerror}; a model is the folder of a run or of an export"
        ) from None
    except ValueError as error:
        raise UserError(f"{path} is damaged ({error}); export or copy it again") from None


def write_json(path: Path, values: dict | list) -> None:
    """Writes a JSON object or list, atomically."""
    with atomic(path) as temporary:
        temporary.write_text(json.dumps(values, indent=2) + "\n", "utf-8", newline="\n")


def _followed(path: Path) -> Path:
    """Where a link leads; any other path as it is."""
    return Path(os.path.realpath(path)) if os.path.islink(path) else path


def _beside(path: Path) -> Path:
    if not path.name:
        raise UserError(f"cannot write {path}: this is not a name of its own; give one")
    return path.with_name(f".{path.name}.{os.getpid()}.writing")


def _cannot_write(path: Path, error: OSError) -> Exception:
    if error.errno is None:  # of a reader inside the block, not of the disk
        return error
    return UserError(f"cannot write {path}: {error.strerror}")
