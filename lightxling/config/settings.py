"""Settings: their bounds, the walk through them, other values."""

import dataclasses
import difflib
import math
import typing
from collections.abc import Callable, Iterable, Iterator
from typing import Annotated, Any, NamedTuple, TypeVar

from lightxling.base.errors import UserError

__all__ = ["Bound", "Setting", "change", "settings_of", "unknown_setting"]


class Bound(NamedTuple):
    """What a number may be: stands at its field, is checked by `validate` and told by `--help`."""

    short: str
    """For the help text."""
    told: str
    """Completes "should be"."""
    holds: Callable[[float], bool]


Number = TypeVar("Number", int, float)
Positive = Annotated[Number, Bound(">0", "greater than 0", lambda x: 0 < x < math.inf)]
FromZero = Annotated[Number, Bound(">=0", "a number from 0 on", lambda x: 0 <= x < math.inf)]
BelowOne = Annotated[Number, Bound(">=0 and <1", "at least 0 and below 1", lambda x: 0 <= x < 1)]
Fraction = Annotated[Number, Bound(">0 and <1", "between 0 and 1", lambda x: 0 < x < 1)]


class Setting(NamedTuple):
    """A single setting of a run."""

    name: str
    """As it is typed, with dots: train.batch_size."""
    value: Any
    """`dataclasses.MISSING` where it has to be given."""
    kind: Any
    """Its type, without its bound."""
    bound: Bound | None
    table: type
    """The dataclass whose field it is."""

    @property
    def place(self) -> str:
        """The name without its last part."""
        return self.name.rpartition(".")[0]


def settings_of(table: Any, prefix: str = "") -> Iterator[Setting]:
    """Every setting in a dataclass of settings (or, by its defaults, in the class) and below it."""
    kind = table if isinstance(table, type) else type(table)
    for field in dataclasses.fields(kind):
        name, value = prefix + field.name, getattr(table, field.name, dataclasses.MISSING)
        if dataclasses.is_dataclass(value):
            yield from settings_of(value, f"{name}.")
        elif dataclasses.is_dataclass(next(iter(typing.get_args(field.type)), None)):
            for number, item in enumerate(value):
                yield from settings_of(item, f"{name}.{number}.")
        else:
            plain, *told = typing.get_args(field.type) if _is_bounded(field.type) else [field.type]
            yield Setting(name, value, plain, told[0] if told else None, kind)


def _is_bounded(kind: Any) -> bool:
    return typing.get_origin(kind) is Annotated and isinstance(kind.__metadata__[0], Bound)


Table = TypeVar("Table")


def change(table: Table, **changes: Any) -> Table:
    """A recipe, or a part of one, with other settings; two underscores stand for a dot.

        change(load("light"), train__pairs=51_200, model__layers=1)

    Raises:
      UserError: there is no such setting.
    """
    return _change(table, changes, "")


def _change(table: Any, changes: dict[str, Any], prefix: str) -> Any:
    values: dict[str, Any] = {}
    below: dict[str, dict[str, Any]] = {}
    for name, value in changes.items():
        first, _, rest = name.partition("__")
        if rest:
            below.setdefault(first, {})[rest] = value
        else:
            values[first] = value
    known = {field.name: getattr(table, field.name) for field in dataclasses.fields(table)}
    for first in [*values, *below]:
        if first not in known or (first in below and not dataclasses.is_dataclass(known[first])):
            rest = "".join(f".{name.replace('__', '.')}" for name in below.get(first, ()))
            raise unknown_setting(prefix, first, known, rest)
    values |= {
        first: _change(values.get(first, known[first]), rest, f"{prefix}{first}.")
        for first, rest in below.items()
    }
    return dataclasses.replace(table, **values)


def unknown_setting(prefix: str, name: str, known: Iterable[str], rest: str = "") -> UserError:
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"; perhaps you meant {prefix}{near[0]}" if near else ""
    written = repr(name)[1:-1]  # line breaks written out
    return UserError(f"unknown setting {prefix}{written}{rest}{hint}")
