"""What the cards of the encoders in the package say; `tools/box.py` writes both."""

import dataclasses
import re
from collections.abc import Sequence
from pathlib import Path

from lightxling.base.errors import UserError
from lightxling.base.files import read_json
from lightxling.base.places import DESCRIPTION, packaged

CARD = "README.md"


@dataclasses.dataclass(frozen=True)
class Card:
    """An encoder in the package, without its parameters.

    Attributes:
      nbytes: of its files, the card left out.
      scores: P@1 in per cent on the dev sentences of a language, of the encoder as it is shipped,
        with English in both directions; by the code of the language.
      licence: of the encoder.
      credits: licences of the corpora that it was made from.
    """

    name: str
    folder: Path
    languages: tuple[str, ...]
    nbytes: int
    dimension: int
    layers: int
    scores: dict[str, float]
    licence: str
    credits: tuple[str, ...]

    def __str__(self) -> str:
        lines = [
            " ".join(self.languages),
            f"made from text under {', '.join(self.credits)}",
            str(self.folder / CARD),
        ]
        return "\n  ".join([f"{self.name}:", *lines])

    @property
    def mean(self) -> float:
        """Of the scores; NaN without any."""
        return sum(self.scores.values()) / len(self.scores) if self.scores else float("nan")


def cards(languages: Sequence[str] = ()) -> list[Card]:
    """Those of the encoders in the package that have all of these languages, the default first.

    Raises:
      UserError: none has them, or a card is damaged.
    """
    every = [read_card(folder) for folder in packaged().values()]
    found = [card for card in every if set(languages) <= set(card.languages)]
    if not found:
        known = sorted({code for card in every for code in card.languages})
        raise UserError(
            f"no encoder in the package has {' and '.join(languages)}; there are {', '.join(known)}"
        )
    return found


def read_card(folder: Path) -> Card:
    """Reads what describes an encoder in the package.

    Raises:
      UserError: a file is damaged.
    """
    about = read_json(folder / DESCRIPTION)
    try:
        text = (folder / CARD).read_text("utf-8")
        scores = {row[0]: (float(row[1]) + float(row[2])) / 2 for row in _ROW.findall(text)}
        return Card(
            folder.name,
            folder,
            tuple(about["languages"]),
            sum(file.stat().st_size for file in folder.iterdir() if file.name != CARD),
            about["dimension"],
            about["model"]["layers"],
            scores,
            _LICENCE.search(text)[1],
            tuple(dict.fromkeys(", ".join(_CORPUS.findall(text)).split(", "))),
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"the encoder {folder.name} in the package is damaged ({error!r}); install lightxling "
            "again"
        ) from None


_ROW = re.compile(
    r"^\| ([a-z]{2,3}(?:_\w+)?) \| [\d,]+ \| [\d,]+ \| [\d.]+ \| [\d.]+ \| ([\d.]+) \| ([\d.]+) \|",
    re.MULTILINE,
)
"""Language, training pairs, candidates, P@1 in float32 both ways, as shipped both ways."""
_CORPUS = re.compile(r"^\| [\w-]+ \| [\d,]+ \| ([^|]+?) \| [^|]+ \|$", re.MULTILINE)
"""Corpus, pairs, licence, origin."""
_LICENCE = re.compile(r"^## Licence\n+([\w.-]+)", re.MULTILINE)
