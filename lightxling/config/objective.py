"""What an objective says of itself, and objectives that a recipe brings along in a file of its own.

A recipe's own objective is a dataclass of settings with a `term` (`objectives.term.Term`). Files of
runs name it with the sha256 of its file, and never run that file: what is read without it gets a
stand-in, with the same settings and nothing to train with.
"""

import ast
import dataclasses
import functools
import hashlib
import inspect
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightxling.base.errors import UserError
from lightxling.base.files import file_sha256
from lightxling.config.settings import FromZero

__all__ = ["Objective"]


@dataclasses.dataclass(frozen=True)
class Objective:
    """What the rest of the program asks of an objective; its settings say what is not as here.

    Its loss, and the head that it trains, are in `lightxling.objectives`.
    """

    weight: FromZero[float] = 0.0
    """Factor of this loss; 0: left out."""
    reads = "pairs"
    """What the rows of its text are (`corpus.sources.Rows`); empty: whatever the objectives beside
    it read, and alone sentences of any one language."""
    sees_all_sentences = False
    """Whether it sees all sentences of a row, or only the first two."""
    takes_negatives = False
    """Whether further sentences of a row of pairs are wrong answers to it."""
    takes_any_width = False
    """Whether it takes the leading dimensions of vectors as well as all of them (ESE)."""
    term = None
    """Loss and head of an objective that a recipe brings along (`objectives.term.Term`)."""
    source = None
    """File, sha256 and class of such an objective, as config.json has them."""

    def taught_sides(self, pivot: int) -> set[int]:
        """The sides of a pair whose teacher vectors it reads; none: it has no teacher.

        Args:
          pivot: the side that the teacher knows best.
        """
        return set()


_KNOWN: dict[tuple[str, str], type[Objective]] = {}
"""Own objectives that this process has seen, by the sha256 of their file and their name there."""

_SCALARS = (bool, int, float, str)


def widened(base: type, kinds: Mapping[str, type]) -> type:
    """`base` (the class of all objectives) with further ones, which follow those it has.

    Raises:
      UserError: one of them is not an objective, has no `term`, a setting without a default, a name
        that is taken, or no file.
    """
    for name, kind in kinds.items():
        _check_own(base, name, kind)
    return _widened(base, tuple(kinds.items()))


@functools.cache
def _widened(base: type, kinds: tuple[tuple[str, type], ...]) -> type:
    fields = [(name, kind, kind(weight=0.0)) for name, kind in kinds]
    return dataclasses.make_dataclass(base.__name__, fields, bases=(base,), frozen=True)


def _check_own(base: type, name: str, kind: type) -> None:
    if not (isinstance(kind, type) and issubclass(kind, Objective)):
        raise UserError(f"objectives.{name} should be settings derived from Objective, got {kind}")
    if not name.isidentifier() or name.startswith("_") or hasattr(base, name):
        raise UserError(f"objectives.{name}: the name is taken or no word; give it another")
    if kind.source:  # seen before, or a stand-in
        return
    if kind.term is None:
        raise UserError(f"{kind.__name__} has no loss: set `term = Term(function)` in its body")
    own = {field.name: field for field in dataclasses.fields(kind)}
    if taken := {"term", "source", *vars(Objective)} & own.keys() - {"weight"}:
        raise UserError(f"{kind.__name__}: the setting {min(taken)} needs another name")
    for field in own.values():
        if isinstance(field.type, str):
            raise UserError(
                f"{kind.__name__}.{field.name}: its type is a text; take `from __future__ import "
                "annotations` out of the file"
            )
        if field.default is dataclasses.MISSING:
            raise UserError(f"{kind.__name__}.{field.name} has no default; give it one")
    path = getattr(sys.modules.get(kind.__module__), "__file__", None)
    if not path or not Path(path).is_file():
        raise UserError(
            f"{kind.__name__} is in no file; write it into a .py file, from which a run of it can "
            "be gone on with"
        )
    kind.source = {
        "file": Path(path).name,
        "sha256": _sha256(Path(path)),
        "class": kind.__name__,
    }
    _KNOWN[kind.source["sha256"], kind.__name__] = kind


def files_of(path: Path) -> list[Path]:
    """A recipe file and the modules beside it that it imports, and those that they import."""
    folder, found, open_ = path.parent, [path], [path]
    while open_:
        for node in ast.walk(ast.parse(open_.pop().read_bytes())):
            if isinstance(node, ast.Import):
                names = [one.name for one in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                names = [node.module, *(f"{node.module}.{one.name}" for one in node.names)]
            else:
                continue
            for name in names:
                place = folder.joinpath(*name.split("."))
                for file in (place.with_name(f"{place.name}.py"), place / "__init__.py"):
                    if file.is_file() and file not in found:
                        found.append(file)
                        open_.append(file)
    return found


def _sha256(path: Path) -> str:
    """Of a recipe file; with its own modules, of their names and sums."""
    file, *more = files_of(path)
    if not more:
        return file_sha256(file)
    sums = {one.relative_to(path.parent).as_posix(): file_sha256(one) for one in (file, *more)}
    return hashlib.sha256(json.dumps(sums, sort_keys=True).encode()).hexdigest()


def taken_up(base: type, values: Mapping[str, Any]) -> tuple[type, dict[str, Any]]:
    """The class for objectives that a file of settings has, and these without their sources.

    Raises:
      UserError: a source, or a setting of an unknown objective, is damaged.
    """
    known = {field.name for field in dataclasses.fields(base)}
    kinds, plain = {}, dict(values)
    for name, settings in values.items():
        if not (isinstance(settings, dict) and isinstance(settings.get("source"), dict)):
            continue
        source = settings["source"]
        if set(source) != {"file", "sha256", "class"} or not all(
            isinstance(text, str) and text.isprintable() for text in source.values()
        ):
            raise UserError(f"objectives.{name}.source={source!r:.100} is damaged")
        plain[name] = {key: value for key, value in settings.items() if key != "source"}
        if name not in known:
            kind = _KNOWN.get((source["sha256"], source["class"]))
            kinds[name] = kind or _stand_in(name, json.dumps([plain[name], source]))
    return (widened(base, kinds) if kinds else base), plain


@functools.lru_cache(64)
def _stand_in(name: str, described: str) -> type[Objective]:
    """An objective whose file was not read: its settings as they were."""
    settings, source = json.loads(described)
    fields = []
    for key, value in settings.items():
        is_list = isinstance(value, list)
        sample = (value or [""])[0] if is_list else value
        if not key.isidentifier() or (hasattr(Objective, key) and key != "weight"):
            raise UserError(f"objectives.{name}: {key!r:.50} cannot be a setting")
        if not isinstance(sample, _SCALARS):
            raise UserError(f"objectives.{name}.{key}={value!r:.50} is no value of a setting")
        if key != "weight":
            kind = type(sample)
            fields.append((key, tuple[kind, ...], ()) if is_list else (key, kind, value))
    try:
        kind = dataclasses.make_dataclass(source["class"], fields, bases=(Objective,), frozen=True)
    except TypeError as error:  # keywords as names
        raise UserError(f"objectives.{name} is damaged: {error}") from None
    kind.source = source
    return kind


def is_stand_in(objective: Objective) -> bool:
    """Whether its file was not read: there is nothing to train with."""
    return objective.source is not None and objective.term is None


def meaning_of(objective: Objective) -> str:
    """The first sentence of what is written under an objective's name, without its full stop;
    nothing of one without a text."""
    kind = type(objective)
    text = inspect.getdoc(kind) or ""
    if text.startswith(f"{kind.__name__}("):  # what dataclasses write themselves
        return ""
    first = " ".join(text.split("\n\n")[0].split()).split(". ")[0].removesuffix(".")
    return first[:1].lower() + first[1:]
