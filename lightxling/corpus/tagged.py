"""Pairs whose words carry their language: `the_en cat_en <<split>> le_fr chat_fr`, one pair a line.

The files of the first system (ACL 2021) and of Bi-Sent2Vec are written so.
"""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from lightxling.base.errors import UserError
from lightxling.base.lines import Problems

SPLIT = "<<split>>"


def is_tagged(lines: Sequence[str]) -> bool:
    """Whether nearly all lines are such pairs."""
    tagged = sum(f" {SPLIT} " in line for line in lines)
    return tagged >= 0.9 * max(len(lines), 1)


def read_tagged(
    path: Path,
    lines: Iterable[tuple[int, str]],
    languages: Sequence[str],
    problems: Problems,
    *,
    loses_last: bool = False,
) -> Iterator[tuple[str, str]]:
    """The pairs, words without their tags; a word with neither tag is left out.

    Args:
      lines: with their numbers.
      loses_last: see `sources.RELEASED`.

    Raises:
      UserError: the sides stand in the other order, or the source has not two languages.
    """
    if len(languages) != 2:
        raise UserError(f"{path} has pairs of tagged words; write two codes, such as en-fr")
    tags = tuple(f"_{code.lower()}" for code in languages)
    for number, line in lines:
        words = line.split(" ")
        if SPLIT not in words:
            problems.add(f"line without {SPLIT}", f"{path}:{number}")
            continue
        cut = words.index(SPLIT)
        sides = words[:cut], words[cut + 1 : -1] if loses_last else words[cut + 1 :]
        if sides[0] and all(word.lower().endswith(tags[1]) for word in sides[0]):
            raise UserError(
                f"{path}:{number}: the first side is in {languages[1]}; write "
                f"{languages[1]}-{languages[0]}={path}"
            )
        first, second = (
            " ".join(word[: -len(tag)] for word in side if (tag := _tag(word, tags)))
            for side in sides
        )
        if first and second:
            yield first, second
        else:
            problems.add("side without a word of its languages", f"{path}:{number}")


def _tag(word: str, tags: Sequence[str]) -> str:
    return next((tag for tag in tags if word.lower().endswith(tag)), "")
