"""Standard streams that are closed, full, or read by nobody: long work does not end because of
them."""

import os
import sys
from typing import Any, TextIO


def open_closed_streams() -> None:
    """Gives standard streams that are closed (`>&-`) their numbers back, which the next file that
    is opened would take otherwise. What is read or printed there fails; messages are thrown away.
    """
    for number, mode in enumerate((os.O_WRONLY, os.O_RDONLY, os.O_WRONLY)):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, mode)
    sys.stdin = sys.stdin or open(0, encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stdout = sys.stdout or _writer(1)
    sys.stderr = sys.stderr or _writer(2)


def _writer(number: int) -> TextIO:
    return open(number, "w", encoding="utf-8", newline="\n", closefd=False)


def silence(stream: Any) -> None:
    """Throws away what is still to be written to standard output or standard error, or the
    interpreter would try it at its end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


class Lasting:
    """A stream for messages of long work. Once it cannot be written to (a full disk; a terminal or
    the reader of a pipe that is gone), what is written is thrown away."""

    def __init__(self, stream: Any):
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        try:
            return self._stream.write(text)
        except OSError:
            silence(self._stream)
            return len(text)

    def flush(self) -> None:
        try:
            self._stream.flush()
        except OSError:
            silence(self._stream)
