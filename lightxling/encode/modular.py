"""The use of modular encoders, from the folder with a module for every language.

Source: modular sentence encoders (arXiv 2407.14878).
"""

import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lightxling.base.errors import UserError
from lightxling.base.files import read_json
from lightxling.base.places import MODULES, locate
from lightxling.base.shapes import Float
from lightxling.config.files import fingerprint
from lightxling.encode.encoder import Encoder

MODULES_FORMAT = "lightxling-modular"
ALIGN = "align"
"""The adapter that is off where everything is in one language."""


class ModularEncoder:
    """The modules of several languages. Sentences come with their language and their use.

    Attributes:
      languages: codes, the pivot first.
      pivot: the language without alignment adapter.
    """

    def __init__(self, encoders: dict[str, Encoder], pivot: str):
        self.languages, self.pivot, self._encoders = tuple(encoders), pivot, encoders

    @classmethod
    def load(cls, workdir: Path) -> "ModularEncoder":
        """Loads what `build` made.

        Raises:
          UserError: it is damaged, or not finished.
        """
        description = read_description(workdir)
        pivot, done = description["languages"][0], description["done"]
        encoders = {}
        for code in description["languages"]:
            run = workdir / code / (ALIGN if code != pivot else "sentence")
            if code == pivot and f"{pivot}/start" not in done:
                run = Path(description["base"])  # not specialised
            elif f"{code}/{run.name}" not in done:
                raise UserError(f"{run} is not finished; run `lightxling modular` again")
            encoders[code] = Encoder.load(run)
        return cls(encoders, pivot)

    @functools.cached_property
    def fingerprint(self) -> str:
        """A hash of all that vectors depend on."""
        return fingerprint([[code, one.fingerprint] for code, one in self._encoders.items()])

    @functools.cache  # noqa: B019, as many as languages
    def of(self, language: str, *, is_cross: bool) -> Encoder:
        """The encoder of a language.

        Args:
          is_cross: whether its vectors are compared with those of other languages; only then the
            alignment adapter is on.

        Raises:
          UserError: there is no module of this language.
        """
        if language not in self._encoders:
            raise UserError(f"no module of {language!r}; there are {', '.join(self.languages)}")
        encoder = self._encoders[language]
        names = [adapter.name for adapter in encoder.bundle.config.adapters]
        if is_cross or ALIGN not in names:
            return encoder
        return encoder.using(*(name for name in names if name != ALIGN))

    def choose(self, language: str, is_cross: bool) -> Callable[[list[str]], np.ndarray]:
        """The function from sentences to vectors, not normalised, that evaluation asks for."""
        return functools.partial(self.of(language, is_cross=is_cross).encode, normalize=False)

    def __call__(self, sentences: list[str]) -> np.ndarray:
        raise UserError(
            "modular encoders need the language of every sentence, which is not said here; give "
            "the run of one language instead"
        )

    def encode(
        self, sentences: Sequence[str], language: str, *, is_cross: bool = True, **options
    ) -> Float[np.ndarray, "N D"]:
        """Vectors of sentences of one language; see `of` and `Encoder.encode`."""
        return self.of(language, is_cross=is_cross).encode(sentences, **options)


def read_description(workdir: Path) -> dict[str, Any]:
    """What stands in `workdir` about its languages and which of their parts are done.

    Raises:
      UserError: it is damaged.
    """
    description = read_json(workdir / MODULES)
    is_whole = (
        description.get("format") == MODULES_FORMAT
        and isinstance(description.get("done"), dict)
        and all(isinstance(description.get(key), list) for key in ("languages", "pivot_text"))
        and isinstance(description.get("base"), str)
        and description["languages"]
    )
    if not is_whole:
        raise UserError(f"{workdir / MODULES} is damaged; run `lightxling modular` again")
    return description


def open_encoder(
    path: Path | None, *, checkpoint: str | None = None, adapters: Sequence[str] | None = None
) -> Encoder | ModularEncoder:
    """What a path holds: an encoder, or one for each language in the folder of modules.

    Args:
      path: as in `Encoder.load`.
      checkpoint, adapters: as in `Encoder.load`.

    Raises:
      UserError: nothing is there, it is damaged, or it has modules and a checkpoint is named.
    """
    path = locate(path)
    if not (path / MODULES).is_file():
        return Encoder.load(path, checkpoint=checkpoint, adapters=adapters)
    if checkpoint or adapters is not None:
        raise UserError("--checkpoint and --adapters are for single runs; leave them out")
    return ModularEncoder.load(path)
