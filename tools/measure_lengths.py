"""Latin characters that a character of another script stands for, and what length rules keep.

    python tools/measure_lengths.py FOLDER [EXAMPLES]

FOLDER holds `NAME.en-xx.tsv.gz`. The first table has, by script, English characters per character
of text in which that script makes up nine tenths of the letters (kana: what the Chinese characters
beside them do not explain); long files give 4,000 pairs. The second has, by language, all pairs and
those that the length rules keep, with lengths in characters and by script. EXAMPLES is the number
of pairs to show, drawn at random, of every script and judgement.
"""

import collections
import random
import re
import sys
import unicodedata
from collections.abc import Iterator
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


def files(folder: Path) -> Iterator[tuple[str, Path]]:
    """Files of pairs, with the language beside English."""
    for file in sorted(folder.glob("*.en-*.tsv.gz")):
        yield re.search(r"\.en-(\w+)\.tsv", file.name)[1], file


def sample(folder: Path) -> dict[str, list[list[str]]]:
    """Cleaned pairs by language; long files give `_SAMPLE` of theirs."""
    pairs = collections.defaultdict(list)
    for code, file in files(folder):
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


def kept(folder: Path, examples: int) -> Iterator[str]:
    """Pairs of every language that the length rules keep; and pairs that they judge differently, by
    the script of the other side."""
    rules = {unit: CorpusConfig(length_unit=unit) for unit in ("characters", "latin")}
    totals, counts = collections.Counter(), collections.Counter()
    differing: dict[tuple[str, str], list[str]] = collections.defaultdict(list)
    draw, seen = random.Random(0), collections.Counter()
    for code, file in files(folder):
        for row in read_source(Source(("en", code), 1.0, str(file)), Problems()):
            sides = [clean(side) for side in row]
            contents = list(map(content, sides))
            found = {unit: flaw(sides, contents, rule) or "" for unit, rule in rules.items()}
            is_out = {unit: why.startswith(("length", "longer")) for unit, why in found.items()}
            totals[code] += 1
            counts.update((code, unit) for unit, out in is_out.items() if not out)
            if is_out["latin"] or is_out["characters"]:
                letters = collections.Counter(map(script, filter(str.isalpha, sides[1])))
                key = _judged(is_out), letters.most_common(1)[0][0] if letters else "no letters"
                seen[key] += 1
                line = f"{code}: {sides[0]} | {sides[1]}"
                if len(differing[key]) < examples:
                    differing[key].append(line)
                elif (place := draw.randrange(seen[key])) < examples:
                    differing[key][place] = line
    for code, total in sorted(totals.items()):
        shown = (f"{counts[code, u]:,} | {1 - counts[code, u] / total:.2%}" for u in rules)
        yield f"| {code} | {total:,} | {' | '.join(shown)} |"
    sums = (f"{sum(counts[code, u] for code in totals):,} | " for u in rules)
    yield f"| all | {totals.total():,} | {'| '.join(sums)}|"
    for key, lines in sorted(differing.items()):
        yield f"\n{' in '.join(key)}: {seen[key]:,} pairs"
        yield from (f"  {line}" for line in lines)


def _judged(is_out: dict[str, bool]) -> str:
    if all(is_out.values()):
        return "dropped by both"
    return "kept now" if is_out["characters"] else "dropped now"


def main() -> None:
    folder, examples = Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 0
    pairs = sample(folder)
    for name, value in sorted(latin_per_character(pairs).items(), key=lambda item: -item[1]):
        print(f"{name:>12} {value:.2f}")
    print("| language | pairs | kept by characters | dropped | kept by script | dropped |")
    print("| --- |" + " ---: |" * 5)
    for line in kept(folder, examples):
        print(line, flush=True)


if __name__ == "__main__":
    main()
