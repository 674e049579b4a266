"""How much is read of a file that anyone may have made: its kind and its size are looked at before
a byte is read.

A pipe is waited for without end, a device gives bytes without end, and a sparse file of 20 GB takes
no place on a disk and all of the memory. What is beyond a limit is an OSError with a text that
says so, as if the disk had refused.
"""

import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path

JSON = 16 << 20
"""Bytes of a description: config.json, scores, manifests of folders."""
TOKENIZER = 256 << 20
METRICS = 1 << 30
"""Bytes of metrics.jsonl: about five million logged steps."""
METRICS_LINE = 1 << 20
PARAMETERS = 16 << 30
"""Bytes of a file of parameters: four billion numbers."""
HEADER = 8 << 20
"""Bytes of the header of such a file: some 80,000 arrays."""
LARGEST = {
    "layers": 1000,
    "width": 1 << 20,
    "feedforward": 1 << 24,
    "max_length": 1 << 20,
    "ngrams": 1 << 28,
}
"""Settings of a model that a description may have."""
ADAPTERS, RANK = 1000, 1 << 20
ADAPTED = 20_000
"""Layers times adapters."""
NUMBER = 1e100
"""A measurement beyond it is not one: sums and squares of it are infinite."""
STEP = 1 << 53


def open_file(path: str | os.PathLike[str], limit: int | None = None):
    """Opens a file for reading bytes, if it is one, of at most `limit` bytes.

    Raises:
      OSError: it cannot be read, is no file, or is larger.
    """
    number = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    try:
        about = os.fstat(number)
        if stat.S_ISDIR(about.st_mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        if not stat.S_ISREG(about.st_mode):
            raise OSError(errno.EINVAL, "it is a pipe or a device, not a file", str(path))
        if limit is not None and about.st_size > limit:
            what = f"it has {about.st_size:,} bytes, more than the {limit:,} that are read of one"
            raise OSError(errno.EFBIG, what, str(path))
        return open(number, "rb")
    except BaseException:
        os.close(number)
        raise


def check_file(path: str | os.PathLike[str], limit: int | None = None) -> None:
    """The same for a file that another library opens.

    Raises:
      OSError: as `open_file`.
    """
    open_file(path, limit).close()


def read_bytes(path: str | os.PathLike[str], limit: int = JSON) -> bytes:
    """The content of a file.

    Raises:
      OSError: as `open_file`.
    """
    with open_file(path, limit) as file:
        return file.read(min(limit, os.fstat(file.fileno()).st_size))


def read_lines(path: Path, limit: int, longest: int) -> Iterator[bytes]:
    """The lines of a file, without their ends; of one that is too long, its beginning.

    Raises:
      OSError: as `open_file`.
    """
    with open_file(path, limit) as file:
        while line := file.readline(longest):
            rest = line
            while len(rest) == longest and rest[-1:] != b"\n":
                rest = file.readline(longest)
            yield line.rstrip(b"\r\n")


def check_parameters(path: Path) -> None:
    """Looks at the size of a safetensors file and of its header, before that is read.

    Raises:
      OSError: as `open_file`, or the header is too large.
    """
    with open_file(path, PARAMETERS) as file:
        announced = int.from_bytes(file.read(8), "little")
        size = os.fstat(file.fileno()).st_size
    if HEADER < announced <= size:  # one beyond the file is damage, which safetensors finds
        what = f"its header has {announced:,} bytes, more than the {HEADER:,} that are read of one"
        raise OSError(errno.EFBIG, what, str(path))
