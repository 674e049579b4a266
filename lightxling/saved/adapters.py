"""Adapters of a trained encoder as plain data: chosen, merged, kept in files of their own.

An adapter file is a safetensors file of a few hundred kilobytes. Its header says what it is and
which encoder it was trained on: the sha256 of that encoder without any adapters. On another one it
would be noise, and is refused.
"""

import contextlib
import dataclasses
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lightxling.base.errors import UserError
from lightxling.base.files import atomic, parse_json, write_json
from lightxling.base.places import DESCRIPTION
from lightxling.base.version import __version__
from lightxling.config.files import from_dict
from lightxling.config.identity import first_defaults
from lightxling.config.rules import validate
from lightxling.config.schema import AdapterConfig, Config, ModelConfig
from lightxling.model.params import FREE, Params, merge_lora, shapes
from lightxling.saved.bundle import Bundle, language_codes, update_digest
from lightxling.saved.parameters import read_header, read_params, write_params

ADAPTER_FORMAT = "lightxling-adapter"
SUFFIX = ".safetensors"


def merge_adapters(bundle: Bundle) -> Bundle:
    """`merge_lora` of a bundle."""
    config, params = merge_lora(bundle.config, bundle.params)
    return dataclasses.replace(bundle, config=config, params=params)


def select_adapters(bundle: Bundle, names: Sequence[str]) -> Bundle:
    """The encoder with these adapters only; () is the encoder without any. Nothing is copied.

    Raises:
      UserError: it has no adapter of a name.
    """
    have = [adapter.name for adapter in bundle.config.adapters]
    for name in names:
        if name not in have:
            raise UserError(
                f"there is no adapter {name!r}; the encoder has {', '.join(have) or 'none'}"
            )
    kept = tuple(adapter for adapter in bundle.config.adapters if adapter.name in names)
    folders = tuple(f"adapters.{name}." for name in names)
    return dataclasses.replace(
        bundle,
        config=dataclasses.replace(bundle.config, adapters=kept),
        params={
            name: values
            for name, values in bundle.params.items()
            if not name.startswith("adapters.") or name.startswith(folders)
        },
    )


def base_checksum(bundle: Bundle) -> str:
    """sha256 of the encoder without adapters: of its sizes, its tokenizer and its parameters."""
    bare = select_adapters(bundle, ())
    first = first_defaults(ModelConfig)
    config = dataclasses.replace(bare.config, **{name: first[name] for name in FREE})
    return dataclasses.replace(
        bare, config=config, unescape=True, cleans=True, prompts={}
    ).fingerprint()


def write_adapter(bundle: Bundle, name: str, path: Path) -> None:
    """Writes one adapter of an encoder as a file.

    Raises:
      UserError: there is no such adapter.
    """
    adapter = select_adapters(bundle, [name]).config.adapters[0]
    prefix = f"adapters.{name}."
    params = {n.removeprefix(prefix): v for n, v in bundle.params.items() if n.startswith(prefix)}
    settings = json.dumps(dataclasses.asdict(adapter))
    about = {
        "format": ADAPTER_FORMAT,
        "lightxling": __version__,
        "adapter": settings,
        "sha256": _checksum(settings, params),
        "base": base_checksum(bundle),
        "languages": json.dumps(list(bundle.languages)),
    }
    with atomic(path) as temporary:
        write_params(temporary, params, about)


def _checksum(settings: str, params: Params) -> str:
    """sha256 of all that an adapter file adds to an encoder."""
    digest = hashlib.sha256(settings.encode())
    update_digest(digest, params)
    return digest.hexdigest()


def check_adapters(bundle: Bundle) -> None:
    """Finds out early whether there is something to export."""
    if not bundle.config.adapters:
        raise UserError("the encoder has no adapters to export")


def write_adapters(bundle: Bundle, folder: Path) -> None:
    """Writes all adapters, a file each, and a description that tells the folder from others."""
    names = [adapter.name for adapter in bundle.config.adapters]
    for name in names:
        write_adapter(bundle, name, folder / f"{name}{SUFFIX}")
    write_json(folder / DESCRIPTION, {"format": ADAPTER_FORMAT, "adapters": names})


def read_adapter(bundle: Bundle, path: Path) -> Bundle:
    """The encoder with the adapter of a file beside those that it has.

    Raises:
      UserError: the file is not an adapter, is damaged, belongs to another encoder, or its name
        is taken.
    """
    header = read_header(path)
    if header.get("format") != ADAPTER_FORMAT:
        raise UserError(
            f"{path} is not an adapter; `lightxling export RUN --format adapter` writes one"
        )
    try:
        adapter = from_dict(AdapterConfig, parse_json(header["adapter"]), "adapter.")
    except (KeyError, ValueError) as error:
        raise UserError(f"{path} is damaged ({error}); export it again") from None
    if adapter.name in [present.name for present in bundle.config.adapters]:
        raise UserError(
            f"{path} holds an adapter {adapter.name!r}, and the encoder has one already"
        )
    if header.get("base") != base_checksum(bundle):
        codes: Any = header.get("languages", "[]")
        with contextlib.suppress(ValueError):  # a text is not a list of codes either
            codes = parse_json(codes)
        languages = language_codes(codes, path)
        raise UserError(
            f"the adapter {adapter.name!r} of {path} was trained on another encoder (of the "
            f"languages {', '.join(languages) or 'unknown'}); load it on the run "
            "that it was exported from, or on that run's export without adapters"
        )
    config = dataclasses.replace(bundle.config, adapters=(*bundle.config.adapters, adapter))
    validate(dataclasses.replace(Config(), model=config))
    prefix = f"adapters.{adapter.name}."
    expected = {
        name.removeprefix(prefix): shape
        for name, shape in shapes(config, bundle.vocab_size, bundle.dimension).items()
        if name.startswith(prefix)
    }
    found = read_params(path, expected)
    if header.get("sha256") not in (None, _checksum(header["adapter"], found)):  # None: an old file
        raise UserError(
            f"{path} is damaged: what it holds has not the sha256 that it was written with; export "
            "or copy it again"
        )
    params = {prefix + name: values for name, values in found.items()}
    return dataclasses.replace(bundle, config=config, params={**bundle.params, **params})


def with_adapters(bundle: Bundle, wanted: Sequence[str | Path] | None) -> Bundle:
    """The encoder with the adapters of some names and files, and no others; None: as it is.

    What ends in .safetensors is a file.
    """
    if wanted is None:
        return bundle
    files = [Path(one) for one in wanted if str(one).endswith(SUFFIX)]
    chosen = select_adapters(bundle, [str(one) for one in wanted if not str(one).endswith(SUFFIX)])
    for file in files:
        chosen = read_adapter(chosen, file)
    return chosen
