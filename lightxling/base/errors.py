"""What errors say: our own, and those of other libraries in the words that we pass on."""

from typing import Any


class UserError(Exception):
    """A mistake of the person at the keyboard: one message, no traceback, exit code 2."""


def first_line(error: BaseException) -> str:
    """The first line of an error's text, or its name where it has none."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def at_least(settings: Any, name: str, least: int) -> None:
    """Refuses a setting below `least`, by the name of its flag."""
    value = getattr(settings, name)
    if value < least:
        flag = name.replace("_", "-")
        raise UserError(f"--{flag} {value} is too few; use {least} or more")
