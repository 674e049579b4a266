"""Settings as files: recipes, config.json, and which runs are the same."""

import dataclasses
import difflib
import hashlib
import json
import re
import sys
import types
import typing
from pathlib import Path
from typing import Any, Literal

from lightxling.base.errors import UserError
from lightxling.base.files import PACKAGE
from lightxling.base.tree import flatten
from lightxling.config.identity import renewed
from lightxling.config.objective import Objective, taken_up
from lightxling.config.objectives import ObjectivesConfig
from lightxling.config.schema import Config
from lightxling.config.settings import Table, unknown_setting

__all__ = ["HARMLESS", "differences", "fingerprint", "from_dict", "load", "recipes", "to_dict"]


def recipes() -> dict[str, Path]:
    """Shipped recipes by name."""
    folders = [PACKAGE / "configs", PACKAGE.parent / "configs"]  # wheel, checkout
    return {file.stem: file for folder in folders for file in sorted(folder.glob("*.py"))}


def load(name: str) -> Config:
    """A recipe by name, or a Python file that holds `config = Config(...)`.

    Raises:
      UserError: no such recipe or file, or it holds no Config.
    """
    path = Path(name)
    if path.suffix != ".py":
        known = recipes()
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"; perhaps you meant {near[0]}" if near else ""
            raise UserError(
                f"no recipe {name!r}{hint}. Shipped recipes: {', '.join(sorted(known))}; "
                "a recipe of your own is given by its path, with .py at the end"
            )
        path = known[name]
    if not path.is_file():
        raise UserError(f"no config file {path}")
    try:
        config = getattr(_module(path), "config", None)
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"{path} could not be run: {type(error).__name__}: {error}") from error
    if not isinstance(config, Config):
        raise UserError(f"{path} must hold `config = Config(...)`")
    return dataclasses.replace(config, name=path.stem)


def _module(path: Path) -> types.ModuleType:
    """A recipe file as a module that Python knows, as dataclasses need it. One with objectives of
    its own is run once: each run would make other classes."""
    code = path.read_bytes()
    name = f"recipe_{path.stem}_{hashlib.sha256(code).hexdigest()[:16]}"
    module = types.ModuleType(name)
    if name in sys.modules and any(
        isinstance(one, type) and issubclass(one, Objective) and one.__module__ == name
        for one in vars(sys.modules[name]).values()
    ):
        return sys.modules[name]
    module.__file__ = str(path.absolute())
    sys.modules[name] = module
    folder = str(path.absolute().parent)
    sys.path.insert(0, folder)  # as for a script: it may have modules of its own beside it
    try:
        exec(compile(code, str(path), "exec"), vars(module))
    except BaseException:
        del sys.modules[name]
        raise
    finally:
        sys.path.remove(folder)
    return module


def to_dict(config: Any) -> dict[str, Any]:
    """Nested plain values, as written to config.json."""
    return json.loads(json.dumps(_values(config)))


def _values(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_values(item) for item in value]
    if not dataclasses.is_dataclass(value):
        return value
    fields = {
        field.name: _values(getattr(value, field.name)) for field in dataclasses.fields(value)
    }
    own = isinstance(value, Objective) and value.source
    return fields | {"source": value.source} if own else fields


def from_dict(kind: type[Table], values: Any, path: str = "") -> Table:
    """A config dataclass from plain values; every key must be known and every value of its type.

    Raises:
      UserError: names the key.
    """
    if not isinstance(values, dict):
        raise UserError(
            f"{path.rstrip('.') or 'config'} should be a table of settings, got {values!r}"
        )
    if issubclass(kind, ObjectivesConfig):
        kind, values = taken_up(kind, values)
    values = renewed(kind, values)
    types = typing.get_type_hints(kind)
    known = [field.name for field in dataclasses.fields(kind)]
    for key in values:
        if key not in known:
            raise unknown_setting(path, str(key), known)
    return kind(**{key: _typed(types[key], value, path + key) for key, value in values.items()})


def _typed(kind: Any, value: Any, path: str) -> Any:
    if dataclasses.is_dataclass(kind):
        return from_dict(kind, value, path + ".")
    if typing.get_origin(kind) is tuple:
        if not isinstance(value, list | tuple):
            raise UserError(f"{path}={value!r} should be a list")
        kind = typing.get_args(kind)[0]
        if dataclasses.is_dataclass(kind):
            return tuple(_typed(kind, item, f"{path}.{i}") for i, item in enumerate(value))
        return tuple(_typed(kind, item, path) for item in value)
    if typing.get_origin(kind) is Literal:
        if value not in typing.get_args(kind):
            raise UserError(f"{path}={value!r} should be one of {typing.get_args(kind)}")
        return value
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise UserError(f"{path}={value!r} should be of type {kind.__name__}")
    return value


HARMLESS = {
    "name",
    "corpus.store",
    "corpus.identify",
    "teacher.source",  # the vectors themselves are compared
    "teacher.text",
    "objectives.tokens.vocab_block",
    "objectives.mlm.vocab_block",
    "train.memory",
    "train.skip_nonfinite",
    "train.profile_steps",
    "train.log_every",
    "train.dev_every",
    "train.checkpoint_every",
    "train.keep",
    "mesh.data",
    "mesh.model",
}
"""Settings that may change when a run is resumed: they do not touch the mathematics."""


def differences(old: Config, new: Config) -> dict[str, tuple]:
    """Settings that differ and would change the mathematics of a resumed run: name -> (old, new).

    The length of a run counts only where the schedule depends on it, and micro-batches only with
    dropout.
    """
    harmless = set(HARMLESS)
    if new.optimizer.schedule in ("step", "constant"):
        harmless |= {"train.pairs", "train.epochs"}
    if not new.model.dropout:  # otherwise other dropout is drawn
        harmless.add("train.micro_batch")
    if new.tokenizer.file:  # its content is compared
        harmless |= {f"tokenizer.{field.name}" for field in dataclasses.fields(new.tokenizer)}
    if new.stages:
        harmless.add("train.init_from")  # in the folder of the run, which may have moved
    before, after = flatten(to_dict(old)), flatten(to_dict(new))
    changed = {
        key: (before.get(key), after.get(key))
        for key in {**after, **before}
        if re.sub(
            r"^(tasks\.\d+\.(?=objectives)|stages\.\d+\.(?!train\.(pairs|epochs|micro_batch)|name))",
            "",
            key,
        )
        not in harmless
        and not key.endswith(".source.file")  # its content is compared
        and before.get(key) != after.get(key)
    }
    both = min(len(old.tasks), len(new.tasks))  # of further tasks, the name tells enough
    return {
        key: values
        for key, values in changed.items()
        if not (match := re.match(r"tasks\.(\d+)\.(.+)", key))
        or int(match[1]) < both
        or match[2] == "name"
    }


def fingerprint(values: Any) -> str:
    """Hex digest of plain values, the same for equal ones."""
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()
