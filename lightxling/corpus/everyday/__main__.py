"""Writes files as people have them, to follow the tutorials with.

python -m lightxling.corpus.everyday sample
"""

import sys
from pathlib import Path
from xml.sax.saxutils import escape

from lightxling.corpus.everyday import (
    LANGUAGES,
    hold_out,
    read_composed,
    read_sentences,
    text_pairs,
)

COMPOSED = 1500

_HEAD = """<?xml version="1.0" encoding="UTF-8"?>
<tmx version="1.4"><header srclang="en" segtype="sentence" datatype="plaintext"/><body>
"""
_UNIT = """<tu><tuv xml:lang="en"><seg>{}</seg></tuv><tuv xml:lang="de"><seg>{}</seg></tuv></tu>
"""


def write_sample(folder: Path) -> list[Path]:
    """Writes a translation memory, further pairs, those to measure with, and a text.

    Returns:
      memory.tmx and pairs.tsv, with half of the learning sentences each; dev.en-de.tsv and
      dev.en-fr.tsv, of other wording; answers.txt, sentences in five languages.
    """
    learnt, held_out = hold_out(read_sentences(), read_composed(COMPOSED))
    pairs = text_pairs(learnt, "en", "de")
    units = "".join(_UNIT.format(*map(escape, pair)) for pair in pairs[::2])
    answers = [row.texts[i % len(LANGUAGES)] for i, row in enumerate(held_out)]
    files = {
        "memory.tmx": f"{_HEAD}{units}</body></tmx>\n",
        "pairs.tsv": _columns(pairs[1::2]),
        "pairs.en-fr.tsv": _columns(text_pairs(learnt, "en", "fr")),
        "dev.en-de.tsv": _columns(text_pairs(held_out, "en", "de")),
        "dev.en-fr.tsv": _columns(text_pairs(held_out, "en", "fr")),
        "answers.txt": "".join(f"{text}\n" for text in answers),
    }
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name).write_text(text, "utf-8", newline="\n")
    return [folder / name for name in files]


def _columns(pairs: list[tuple[str, str]]) -> str:
    return "".join("\t".join(pair) + "\n" for pair in pairs)


if __name__ == "__main__":
    for path in write_sample(Path(sys.argv[1] if len(sys.argv) > 1 else "sample")):
        print(path)
