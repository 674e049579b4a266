"""Ctrl-C while the program is deep in a library, which lets no Python code run for many seconds.

A signal's handler in Python runs only when the main thread is back in Python. The system's part of
it runs at once, and writes a byte that a thread waits for.
"""

import contextlib
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator

OWN_PROCESS = threading.Event()
"""Set by the command line: the process is ours, and may be ended without more ado. In a program of
somebody else Ctrl-C stays a KeyboardInterrupt."""


@contextlib.contextmanager
def watched(react: Callable[[int], None]) -> Iterator[None]:
    """Calls `react(times)` from another thread at once whenever Ctrl-C is pressed, with how many
    times it has been; the handler in Python comes later, as always."""
    if not OWN_PROCESS.is_set() or threading.current_thread() is not threading.main_thread():
        yield
        return
    reader, writer = socket.socketpair()
    writer.setblocking(False)

    def listen() -> None:
        times = 0
        while data := reader.recv(64):
            for number in data:
                if number == signal.SIGINT:
                    times += 1
                    react(times)

    before = signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
    thread = threading.Thread(target=listen, daemon=True)
    thread.start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(before)
        writer.close()
        thread.join()
        reader.close()


def end(times: int = 1) -> None:
    """Ends the process as Ctrl-C does, whatever its other threads are at."""
    _write("lightxling: interrupted")
    os._exit(130)


def announce(text: str) -> Callable[[int], None]:
    """For `watched`: says the text at the first Ctrl-C, and ends the process at the second."""

    def react(times: int) -> None:
        _write(text) if times == 1 else end()

    return react


def _write(line: str) -> None:
    """To standard error, past all buffers and locks."""
    with contextlib.suppress(OSError):
        os.write(2, f"\n{line}\n".encode())
