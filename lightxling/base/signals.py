"""Signals that end a command as Ctrl-C does: what is half written is removed."""

import signal


class Signalled(BaseException):
    """A signal that ends the process, as an exception: what is half written is removed."""

    def __init__(self, number: int):
        super().__init__(number)
        self.signal = signal.Signals(number)


def raise_signals() -> None:
    """Has SIGTERM and SIGHUP (the terminal was closed) end a command as Ctrl-C does; who has them
    ignored, such as nohup, keeps that."""

    def end(number, frame):
        raise Signalled(number)

    for number in (signal.SIGTERM, getattr(signal, "SIGHUP", None)):  # Windows has no SIGHUP
        if number is not None and signal.getsignal(number) == signal.SIG_DFL:
            signal.signal(number, end)
