"""Cuts running text into sentences, by rules for languages written with Latin, Cyrillic or Greek
letters (and by their own full stops for Chinese, Japanese and Hindi).
"""

import re

_END = re.compile(  # begins where a row of marks begins: time is linear in the text
    r"(?<![.!?…])[.!?…]++(?:[\"'”’“»)\]]|\s»)*\s+|[。！？।]+[」』”）]*\s*"
)
_LAST_WORD = re.compile(r"(?<![\w.])[\w.]*$")
_WORD_LIMIT = 64  # characters looked at before a mark; longer than any abbreviation
_ABBREVIATED = """
approx art bd bsp bspw bzw ca cap cf chap co corp dipl dott dr ed eds ee eg env evtl excl fig ggf
gral hrsg ie inc incl inkl ing jr lic ltd mio mlle mm mme mr mrs ms nr núm op p.es p.ex pag pág pp
prof rev sig sog sr sra srta st sta ste str tel ud uds usf usw vgl vol vs zzgl
"""
_ABBREVIATIONS = frozenset(_ABBREVIATED.split())


def cut_sentences(text: str) -> list[str]:
    """Cuts a text after full stops, question and exclamation marks.

    A mark ends a sentence when white space follows it, and then anything but a small letter. A full
    stop after a single letter (initials, `z. B.`), after a number of one or two digits (`3. Mai`)
    or after a common abbreviation of English, German, French, Spanish or Italian ends none. Quotes
    and brackets that close after the mark stay with the sentence.

    The documents of classification benchmarks are cut otherwise: as their protocols say, in
    `evaluate.tasks.labelled`.
    """
    parts, start = [], 0
    for match in _END.finditer(text):
        following = text[match.end() : match.end() + 1]
        if following.islower() or (match[0][0] == "." and _goes_on(text, start, match.start())):
            continue
        parts.append(text[start : match.end()].strip())
        start = match.end()
    parts.append(text[start:].strip())
    return [part for part in parts if part]


def _goes_on(text: str, start: int, stop: int) -> bool:
    """Whether a full stop after `text[start:stop]` belongs to its last word."""
    word = _LAST_WORD.search(text[max(start, stop - _WORD_LIMIT) : stop])[0].lower()
    last = word.rpartition(".")[2]
    return (
        (len(last) == 1 and last.isalpha())
        or (last.isdecimal() and len(word) <= 2)
        or word in _ABBREVIATIONS
    )
