"""Tokenizers that exist already, in place of one that would be trained: `tokenizer.file`, and that
of the encoder that a run starts from.

Their settings are in their files. Of those of `TokenizerConfig` only `lowercase` is left: a model
that keeps case is given the table that folds it.
"""

import dataclasses
import functools
import json
from pathlib import Path
from typing import Any

from lightxling.base import limits
from lightxling.base.errors import UserError
from lightxling.base.files import parse_json
from lightxling.base.places import locate
from lightxling.config.schema import Config, TokenizerConfig
from lightxling.corpus.foreign_pieces import is_foreign
from lightxling.corpus.normaliser import own_rules, with_folding
from lightxling.corpus.tokenizer import read_tokenizer
from lightxling.corpus.tokenizer_json import first_module, folder_tokenizer

_TRAINED = [
    f.name for f in dataclasses.fields(TokenizerConfig) if f.name not in ("lowercase", "file")
]
"""Settings of a tokenizer that is trained."""


def refuse_idle(config: Config, recipe: Config) -> None:
    """Refuses settings of a tokenizer that were typed, but would do nothing.

    Args:
      recipe: the settings without those typed. What a recipe has for the tokenizer that it would
        train is no mistake where a file takes its place.

    Raises:
      UserError: names the setting, and what takes its place.
    """
    tokenizer, start = config.tokenizer, config.train.init_from
    if not (tokenizer.file or start):
        return
    typed = [n for n in _TRAINED if getattr(tokenizer, n) != getattr(recipe.tokenizer, n)]
    if start:
        if tokenizer.lowercase != recipe.tokenizer.lowercase:
            typed.append("lowercase")
        # those of the start are right: they find its store
        known = _settings_of_start(locate(start))
        typed = [name for name in typed if known.get(name) != getattr(tokenizer, name)]
    if typed:
        name, place = typed[0], f"tokenizer.file={tokenizer.file}"
        if start:
            place = f"train.init_from={start}"
        raise UserError(
            f"tokenizer.{name}={getattr(tokenizer, name)} is for a tokenizer that is trained, and "
            f"{place} brings its own; leave one of them out"
        )


def _settings_of_start(folder: Path) -> dict[str, Any]:
    """The settings of the tokenizer of a run; empty where they are not known."""
    try:
        found = parse_json(limits.read_bytes(folder / "config.json"))
        settings = found["config"]["tokenizer"]
    except (OSError, ValueError, KeyError, TypeError, UserError):
        return {}
    return settings if isinstance(settings, dict) else {}


def existing_tokenizer(config: TokenizerConfig) -> tuple[bytes, str]:
    """The content of `config.file` as it is used here, and what is to be said of it.

    Raises:
      UserError: it does not exist, cannot be read, or folds case where case is to be kept.
    """
    path = Path(config.file)
    if not path.is_file():
        raise UserError(f"tokenizer.file={path} does not exist; leave it empty to train a model")
    content = tokenizer_content(path)
    tokenizer = read_tokenizer(content, str(path))
    if tokenizer.lowercase and not config.lowercase:
        raise UserError(
            f"tokenizer.file={path} folds case, and tokenizer.lowercase=False would keep it; leave "
            "that out, or leave tokenizer.file empty to train a model"
        )
    if is_foreign(content) and config.lowercase != tokenizer.lowercase:
        raise UserError(
            f"tokenizer.file={path} is of another program and keeps case; give "
            "--tokenizer.lowercase False"
        )
    if config.lowercase and not tokenizer.lowercase:
        return _folding(content), (
            f"{path} keeps case; here it folds it (tokenizer.lowercase=False: leave it as it is)"
        )
    said = own_rules(content)
    return content, said and f"{path} {said}"


def tokenizer_content(path: Path) -> bytes:
    """The content of a file of a tokenizer; of a tokenizer.json, as it is used here.

    Raises:
      UserError: it cannot be read.
    """
    if path.suffix == ".json":
        _, is_table = first_module(path.parent)
        return folder_tokenizer(path.parent, bare=is_table)[0]
    try:
        return limits.read_bytes(path, limits.TOKENIZER)
    except OSError as error:
        raise UserError(f"cannot read tokenizer.file={path}: {error.strerror}") from None


@functools.lru_cache(maxsize=2)
def _folding(content: bytes) -> bytes:
    if content.startswith(b"{"):
        words = parse_json(content) | {"lowercase": True}
        return json.dumps(words, ensure_ascii=False).encode()
    return with_folding(content)
