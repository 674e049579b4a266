"""Latin characters that a character of another script stands for, and what length rules keep.

    python tools/measure_lengths.py FOLDER

FOLDER holds `NAME.en-xx.tsv.gz`. The first table has, by script, English characters per character
of text in which that script makes up nine tenths of the letters (kana: what the Chinese characters
beside them do not explain). The second has, by language, pairs and those that the rules drop, with
lengths in characters and by script.
"""

import collections
import random
import re
import sys
import unicodedata
from pathlib import Path

from lightxling.base.lines import Problems
from lightxling.config import CorpusConfig
from lightxling.corpus.cleaning import clean, content, flaw
from lightxling.corpus.readers import read_source
from lightxling.corpus.sources import Source

_SAMPLE = 4000  # pairs of a file, drawn at random


def script(character: str) -> str:
    """The first word of a character's name, which is its script; CJK for Chinese characters."""
    return unicodedata.name(character, "?").split()[0].split("-")[0]


def sample(folder: Path) -> dict[str, list[list[str]]]:
    """Cleaned pairs by language; long files give `_SAMPLE` of theirs."""
    pairs = collections.defaultdict(list)
    for file in sorted(folder.glob("*.en-*.tsv.gz")):
        code = re.search(r"\.en-(\w+)\.tsv", file.name)[1]
        rows = list(read_source(Source(("en", code), 1.0, str(file)), Problems()))
        rows = random.Random(0).sample(rows, min(_SAMPLE, len(rows)))
        pairs[code] += [[clean(side) for side in row] for row in rows]
    return pairs


def latin_per_character(pairs: dict[str, list[list[str]]]) -> dict[str, float]:
    """English characters for one of each script."""
    english, other = collections.Counter(), collections.Counter()
    for english_side, side in (pair for rows in pairs.values() for pair in rows):
        scripts = collections.Counter(script(c) for c in side if c.isalpha())
        kana = scripts["HIRAGANA"] + scripts["KATAKANA"] + scripts["KATAKANA-HIRAGANA"]
        if kana:
            english["kana"] += len(english_side) - len(side) + kana + scripts["CJK"]
            english["kana beside"] += scripts["CJK"]
            other["kana"] += kana
        elif scripts and scripts.most_common(1)[0][1] >= 0.9 * scripts.total():
            name = scripts.most_common(1)[0][0]
            english[name] += len(english_side)
            other[name] += len(side)
    found = {name: english[name] / n for name, n in other.items() if n > 20_000 and name != "kana"}
    if other["kana"]:
        rest = english["kana"] - found["CJK"] * english["kana beside"]
        found["kana"] = rest / other["kana"]
    return found


def main() -> None:
    pairs = sample(Path(sys.argv[1]))
    for name, value in sorted(latin_per_character(pairs).items(), key=lambda item: -item[1]):
        print(f"{name:>12} {value:.2f}")
    print("language  pairs  too long or too uneven: in characters, by script")
    for code, rows in sorted(pairs.items()):
        dropped = []
        for unit in ("characters", "latin"):
            config = CorpusConfig(length_unit=unit)
            reasons = (flaw(row, list(map(content, row)), config) or "" for row in rows)
            dropped.append(sum(reason.startswith(("length", "longer")) for reason in reasons))
        shares = "  ".join(f"{n:>6,} ({n / len(rows):.2%})" for n in dropped)
        print(f"{code:>8}  {len(rows):>9,}  {shares}")


if __name__ == "__main__":
    main()
