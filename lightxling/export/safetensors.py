"""lightxling's own format: parameters, configuration, tokenizer; opened by `Encoder.load`."""

import dataclasses
import json
from pathlib import Path

from lightxling import __version__
from lightxling.bundle import DESCRIPTION, FORMAT, PARAMETERS, TOKENIZER, Bundle, write_params


def write(bundle: Bundle, folder: Path) -> None:
    """Writes the files of an export into a folder that exists."""
    write_params(folder / PARAMETERS, bundle.params, {"format": FORMAT})
    (folder / TOKENIZER).write_bytes(bundle.tokenizer)
    description = {
        "format": FORMAT,
        "format_version": 1,
        "lightxling": __version__,
        "dtype": bundle.dtype,
        "dimension": bundle.dimension,
        "leading": bundle.leading,
        "vocab_size": bundle.vocab_size,
        "languages": list(bundle.languages),
        "model": dataclasses.asdict(bundle.config),
        "scores": dict(bundle.scores),
    }
    (folder / DESCRIPTION).write_text(json.dumps(description, indent=2) + "\n")
