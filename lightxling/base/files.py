"""Files and folders that get their name only when they are whole.

Whatever stood under the name stays until then, so an interrupted command loses nothing and leaves
no half file that looks complete.
"""

import contextlib
import errno
import glob
import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import filelock

from lightxling.base import limits
from lightxling.base.errors import UserError

PACKAGE = Path(__file__).parent.parent
"""The folder of lightxling's code, and of the files that come with it."""


@contextlib.contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """A temporary path beside `path`: a file written there is renamed to it at the end.

    A link stays, and what it leads to is replaced. What is neither a file nor a folder, such as a
    pipe or /dev/null, is written to as it is.

    Raises:
      UserError: the disk refuses, with its reason.
    """
    try:
        if is_device(path):
            yield path
            return
        target = _followed(path)
        with _temporary(target) as temporary:
            yield temporary
            sync(temporary)
            temporary.replace(target)
            sync_folder(target.parent)
    except OSError as error:
        raise _cannot_write(path, error) from None


@contextlib.contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """The same for an empty folder, which replaces the one that stood there.

    No system that we know replaces a folder in one step everywhere: the old one is put aside, then
    the new one gets its name. Who is killed between the two leaves neither under the name, and
    `recover`, which whoever opens such a folder calls, brings the old one back.

    Raises:
      UserError: the disk refuses, with its reason.
    """
    try:
        target = _followed(path)
        recover(target)
        with _temporary(target) as temporary:
            temporary.mkdir()
            yield temporary
            for place, _, names in os.walk(temporary):
                for name in names:
                    sync(Path(place, name))
                sync_folder(Path(place))
            while not _take_place(temporary, target):
                pass
            sync_folder(target.parent)
    except OSError as error:
        raise _cannot_write(path, error) from None


@contextlib.contextmanager
def scratch_folder(place: Path, name: str) -> Iterator[Path]:
    """An empty folder in `place` for files that nobody reads later; it is removed at the end, and
    by the next who writes there if this process is killed.

    Raises:
      UserError: the disk refuses to make it, with its reason.
    """
    with contextlib.ExitStack() as stack:
        try:
            temporary = stack.enter_context(_temporary(place / name))
            temporary.mkdir()
        except OSError as error:
            raise _cannot_write(place / name, error) from None
        yield temporary


def recover(path: Path) -> None:
    """Brings back a folder if a process was killed while it replaced it.

    It is asked before a folder that `atomic_folder` writes is opened, or found to be missing.
    """
    target = _followed(path)
    if not target.name or os.path.exists(target):
        return
    with contextlib.suppress(OSError):  # a folder that cannot be read or written to
        for held in target.parent.glob(f".{glob.escape(target.name)}.*{_WRITING}.lock"):
            _inherit(held, lambda: None)  # by one that is alive: waited for


_WRITING = ".writing"
_swept: set[Path] = set()
"""Folders in which this process has removed what killed ones had left."""


@contextlib.contextmanager
def _temporary(target: Path) -> Iterator[Path]:
    """A name beside `target` that no other process takes; what stands there is removed at the end.

    While its owner lives, it holds the lock of the file NAME.lock: what has a lock that is free was
    left by a killed process, and the next one that writes in the same folder removes it.
    """
    if not target.name:
        raise UserError(f"cannot write {target}: this is not a name of its own; give one")
    parent = target.absolute().parent
    if parent not in _swept:
        _swept.add(parent)
        _sweep(parent)
    temporary = _new_temporary(target)
    held = temporary.with_name(f"{temporary.name}.lock")
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(lock(held, lambda: None))
        except OSError as error:
            if error.errno not in (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP):
                raise
            _remove(held)  # a file system without locks: nobody may take it for left behind
        try:
            yield temporary
        finally:
            _settle(temporary, target)
            _remove(held)


def _new_temporary(target: Path) -> Path:
    return target.with_name(f".{target.name}.{secrets.token_hex(4)}{_WRITING}")


def _take_place(temporary: Path, target: Path) -> bool:
    """Gives a folder its name; False: another process has just given it to a folder of its own."""
    _remove(_aside(temporary))
    if target.exists():
        with contextlib.suppress(FileNotFoundError):  # that one has put it aside
            target.rename(_aside(temporary))
    try:
        temporary.rename(target)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
        return False
    return True


def _settle(temporary: Path, target: Path) -> None:
    """Ends what was begun under a temporary name: nothing of it stays, and what was put aside for
    it comes back if nothing has taken its place."""
    old = _aside(temporary)
    if old.exists() and not target.exists():
        with contextlib.suppress(OSError):  # or it would hide the reason why it is needed
            old.rename(target)
    _remove(temporary)
    if target.exists():
        _remove(old)


def _sweep(folder: Path) -> None:
    """Removes what killed processes have left in a folder; a process at work holds its lock."""

    def busy():
        raise BlockingIOError

    with contextlib.suppress(OSError):
        for held in folder.glob(f".*{_WRITING}.lock"):
            with contextlib.suppress(OSError):
                _inherit(held, busy)


def _inherit(held: Path, busy: Callable[[], None]) -> None:
    """Ends what the owner of a lock's temporary name had begun, if it is dead.

    Args:
      busy: as for `lock`.
    """
    with lock(held, busy):
        temporary = held.with_suffix("")
        target = temporary.name[1:].removesuffix(_WRITING).rpartition(".")[0]
        _settle(temporary, temporary.with_name(target))
        held.unlink(missing_ok=True)


def _aside(temporary: Path) -> Path:
    """Where the folder is put that a temporary one replaces."""
    return temporary.with_name(f"{temporary.name}.old")


def _remove(path: Path) -> None:
    """Removes a file or a folder, if it is there and the disk lets us."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)


def sync_folder(path: Path) -> None:
    """Waits until the names in a folder are on the disk, where the system can."""
    with contextlib.suppress(OSError):
        number = os.open(path, os.O_RDONLY)
        try:
            os.fsync(number)
        finally:
            os.close(number)


@contextlib.contextmanager
def lock(path: Path, busy: Callable[[], None]) -> Iterator[None]:
    """Holds the lock of the file `path`, which is made where there is none.

    Args:
      busy: called when another process holds it; it may raise, and otherwise that one is waited
        for.

    Raises:
      OSError: the file cannot be made.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if filelock.FileLock is not filelock.SoftFileLock:  # to which any file is a lock that is held
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o644))  # or filelock might try for ever
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
      UserError: there is no folder to write it in, a folder in its place, or the name is too long.
    """
    if os.path.isdir(path):
        raise UserError(f"--output {path} is a folder; give the name of a file")
    check_parent(path)
    with contextlib.suppress(FileNotFoundError):
        try:
            os.lstat(_new_temporary(path))
        except OSError as error:
            if error.errno == errno.ENAMETOOLONG:
                raise _cannot_write(path, error) from None


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


def file_sha256(path: Path) -> str:
    """sha256 of a file, read in pieces."""
    with limits.open_file(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


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
        value = parse_json(limits.read_bytes(path))
        if not isinstance(value, dict):
            raise ValueError("not a JSON object")
        return value
    except OSError as error:
        raise UserError(
            f"cannot read {path}: {error.strerror}; a model is the folder of a run or of an export"
        ) from None
    except ValueError as error:
        raise UserError(f"{path} is damaged ({error}); export or copy it again") from None


def write_bytes(path: Path, content: bytes) -> None:
    """Writes a file, atomically. One that holds the same already stays, with its time."""
    if path.is_file() and path.stat().st_size == len(content) and path.read_bytes() == content:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic(path) as temporary:
        temporary.write_bytes(content)


def write_json(path: Path, values: dict | list) -> None:
    """Writes a JSON object or list, atomically."""
    with atomic(path) as temporary:
        temporary.write_text(json.dumps(values, indent=2) + "\n", "utf-8", newline="\n")


def _followed(path: Path) -> Path:
    """Where a link leads; any other path as it is."""
    return Path(os.path.realpath(path)) if os.path.islink(path) else path


def _cannot_write(path: Path, error: OSError) -> Exception:
    if error.errno is None:  # of a reader inside the block, not of the disk
        return error
    return UserError(f"cannot write {path}: {error.strerror}")
