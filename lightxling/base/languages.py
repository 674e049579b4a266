"""Language codes, as sources, names of files and lines of text write them."""

import re

CODE = r"[a-z]{2,3}(?:_[A-Za-z0-9]+)*"
"""Pattern of a code: two or three letters, then perhaps script and region (zh_Hans, es_419)."""


def is_code(text: str) -> bool:
    return re.fullmatch(CODE, text) is not None


def language_tag(code: str) -> str:
    """A language code as it is compared with others: `zh-hant` for `zh_Hant`."""
    return code.replace("_", "-").lower()


def is_variety(tag: str, code: str) -> bool:
    """Whether the tag of a language is a code's or a variety's of it, as en-us is of en."""
    return tag == code or tag.startswith(f"{code}-")
