"""HTML entities for programs that cannot call `html.unescape`: as patterns, and as a table."""

import functools
import html
import html.entities
import json
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

FILE = "entities.json"
_AMPERSAND = ord("&")
_MARKS = [code for code in range(0x21, 0x7F) if not chr(code).isalnum()]
"""ASCII signs, which pipelines escape by number: `&#39;`."""


def patterns() -> Iterator[tuple[str, str]]:
    """Regular expressions, and what takes the place of their matches, one after the other.

    Together they do what `html.unescape` does twice, for the characters that HTML 4 has names for
    and the signs of ASCII, by any name or number: all 2,200 names would make a tokenizer six times
    slower. Every expression resolves an ampersand that is escaped itself, and the one of the
    ampersand is the last, so that nothing is resolved a third time.
    """
    named = {ord(html.entities.html5[f"{name};"]) for name in html.entities.name2codepoint}
    codes = {*named, *_MARKS} - {_AMPERSAND}
    again = f"&(?:{_spellings(_AMPERSAND)})?"
    for code in sorted(codes):
        yield f"{again}(?:{_spellings(code)})", chr(code)
    yield f"{again}(?:{_spellings(_AMPERSAND)})", "&"


def _spellings(code: int) -> str:
    """What stands after the ampersand of an entity."""
    names, numbers = _names(), {code, *(n for n in range(0x80, 0xA0) if _resolved(n) == chr(code))}
    spelt = [rf"#0*{n}(?![0-9]);?" for n in sorted(numbers)]
    hexadecimal = [re.sub("[a-f]", lambda d: f"[{d[0]}{d[0].upper()}]", f"{n:x}") for n in numbers]
    spelt += [rf"#[xX]0*{n}(?![0-9a-fA-F]);?" for n in sorted(hexadecimal)]
    for name in sorted(names[chr(code)], reverse=True):
        # `&not` needs no semicolon, but the beginning of `&notin;` is something else
        longer = {
            other[len(name) :]
            for other in html.entities.html5
            if other.startswith(name) and other not in (name, f"{name};")
        }
        is_bare = not name.endswith(";")
        unless = f"(?!{'|'.join(map(re.escape, sorted(longer)))})" if is_bare and longer else ""
        spelt.append(re.escape(name) + unless + (";?" if is_bare else ""))
    return "|".join(spelt)


def _resolved(code: int) -> str:
    return html.unescape(f"&#{code};")


@functools.cache
def _names() -> dict[str, list[str]]:
    names = defaultdict(list)
    for name, characters in html.entities.html5.items():
        if not (name.endswith(";") and name[:-1] in html.entities.html5):
            names[characters].append(name)
    return names


def write_entities(folder: Path) -> None:
    """Writes all names with their characters, as JSON."""
    text = json.dumps(html.entities.html5, ensure_ascii=False, separators=(",", ":"))
    (folder / FILE).write_text(text, "utf-8", newline="\n")
