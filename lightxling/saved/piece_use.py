"""Which pieces of an encoder in the package its languages use: the text that it learnt from is not
there, and `lightxling export --languages` cuts the vocabulary by this file."""

import hashlib
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from lightxling.base.errors import UserError
from lightxling.base.shapes import Bool

FILE = "pieces.npz"


def write_piece_use(
    folder: Path, tokenizer: bytes, used: Mapping[str, Bool[np.ndarray, " V"]]
) -> None:
    """Writes which pieces every language uses."""
    np.savez_compressed(
        folder / FILE,
        tokenizer=np.array(hashlib.sha256(tokenizer).hexdigest()),
        languages=np.array(list(used)),
        used=np.packbits(np.stack(list(used.values())), axis=1),
    )


def read_piece_use(
    folder: Path, tokenizer: bytes, languages: Iterable[str], size: int
) -> Bool[np.ndarray, " V"] | None:
    """The pieces that some of these languages use; None where nothing is known of the tokenizer.

    Raises:
      UserError: the file is damaged, or one of the languages is not in it.
    """
    if not (folder / FILE).is_file():
        return None
    try:
        with open(folder / FILE, "rb") as file, np.load(file, allow_pickle=False) as kept:
            if str(kept["tokenizer"]) != hashlib.sha256(tokenizer).hexdigest():
                return None
            rows = [str(code) for code in kept["languages"]]
            used = np.unpackbits(kept["used"], axis=1, count=size).astype(bool)
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise UserError(f"{folder / FILE} is damaged: {error}; install lightxling again") from None
    missing = [code for code in languages if code not in rows]
    if missing or used.shape != (len(rows), size):
        raise UserError(
            f"{folder / FILE} does not say which pieces {', '.join(missing) or 'there are'}; name "
            "a text with --text FILE"
        )
    return used[[rows.index(code) for code in languages]].any(axis=0)
