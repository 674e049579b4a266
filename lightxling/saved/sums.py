"""Checksums of what an encoder is made of, as its description holds them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightxling.base.errors import UserError
from lightxling.base.files import file_sha256
from lightxling.config.files import fingerprint


def settings_sum(description: Mapping[str, Any]) -> str:
    """sha256 of what vectors depend on in the description of an export or of a run."""
    names = ("dimension", "vocab_size", "languages", "model", "unescape")
    read = {name: description.get(name) for name in names}
    return fingerprint({**read, "leading": description.get("leading") is True})


def sums_of(folder: Path, description: Mapping[str, Any], about: str, *files: str) -> dict:
    """sha256 of files of an encoder, and of its settings under the name `about` of the file that
    holds them."""
    return {
        **{name: file_sha256(folder / name) for name in files},
        about: settings_sum(description),
    }


def check_sums(folder: Path, told: Any, sums: Mapping[str, str], about: str) -> None:
    """Compares checksums with those that `told`, read from the file `about`, has of them; what was
    made before has none.

    Raises:
      UserError: they differ.
    """
    if not isinstance(told, dict):
        raise UserError(f"sha256 in {folder / about} should be by name; export it again")
    for name, found in sums.items():
        if told.get(name, found) != found:
            raise UserError(
                f"{folder / name} is damaged: its sha256 is not the one in {about}; export or copy "
                "it again"
            )
