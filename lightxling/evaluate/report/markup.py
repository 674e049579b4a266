"""HTML and SVG from nested calls, in which every text is escaped unless it is markup already."""

import html
import re
from collections.abc import Iterable

_UNPRINTABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")


class Markup(str):
    """Finished HTML: not escaped again."""


def escape(text: object) -> Markup:
    """Text as HTML, in elements and in quoted attributes; what no page may hold becomes U+FFFD."""
    if isinstance(text, Markup):
        return text
    return Markup(html.escape(_UNPRINTABLE.sub("\ufffd", str(text))))


def h(name: str, /, *children: object, **attributes: object) -> Markup:
    """An element: `h("td", "a < b", class_="n")`.

    Children are texts, numbers, markup, None (nothing), or lists of these. In the names of
    attributes an underscore stands for a hyphen and one at the end for nothing; None and False
    leave an attribute out, and a float is a place on a canvas.
    """
    given = ""
    for key, value in attributes.items():
        if value is not None and value is not False:
            text = "" if value is True else to_a_tenth(value) if type(value) is float else value
            given += f' {key.rstrip("_").replace("_", "-")}="{escape(text)}"'
    if name in ("br", "wbr"):
        return Markup(f"<{name}/>")
    return Markup(f"<{name}{given}>{join_markup(*children)}</{name}>")


def quoted(name: str, text: str, language: str) -> Markup:
    """A sentence in its own language and direction."""
    return h(name, text, lang=language.replace("_", "-"), dir="auto")


def to_a_tenth(place: int | float) -> str:
    return f"{place:.1f}".removesuffix(".0")


def join_markup(*children: object) -> Markup:
    """Children of an element without the element."""
    return Markup("".join(_parts(children)))


def _parts(children: Iterable[object]) -> Iterable[str]:
    for child in children:
        if child is None:
            continue
        if isinstance(child, Iterable) and not isinstance(child, str):
            yield from _parts(child)
        else:
            yield escape(child)
