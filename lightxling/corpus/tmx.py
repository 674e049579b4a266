"""TMX and XLIFF, the exchange formats of translators, read unit by unit."""

import collections
from collections.abc import Iterator, Sequence
from pathlib import Path

from lightxling.base.languages import Matching
from lightxling.base.lines import Problems
from lightxling.corpus.markup import Format, Segment, read_units

_SEGMENTS = 1000  # of a unit
_WITHOUT = "unit without all languages"
_UNFINISHED = frozenset(
    ["new", "needs-translation", "needs-adaptation", "needs-l10n", "initial"]
)  # states of a target that is no translation yet; XLIFF 1.2 section 3.3, 2.0 section 4.3.1


class _Tmx(Format):
    """Of several segments in one language the first that is not empty counts."""

    units, around, name = ("tu",), ("tmx", "body"), "TMX"

    def __init__(self, matching: Matching):
        super().__init__()
        self._matching = matching
        self._tags: list[str] = []
        self._texts: list[str] = []
        self._tag = ""
        self._met: collections.Counter[tuple[str, bool]] = collections.Counter()

    def start(self, name, attributes):
        if name == "tu":
            self._tags, self._texts = [], []
            self._met.clear()
            self.segment = None
        elif name == "tuv":
            self.segment = None
            self._tag = attributes.get("xml:lang") or attributes.get("lang") or ""
        elif name == "seg":
            self.segment = Segment()

    def end(self, name):
        if name == "seg" and self.segment is not None:
            text, self.segment = str(self.segment), None
            again = (self._tag, bool(text.strip()))
            # of what comes again and again, no more than there are sides can be chosen
            if self._met[again] < self._matching.count and len(self._tags) < _SEGMENTS:
                self._met[again] += 1
                self._tags.append(self._tag)
                self._texts.append(text)
        elif name == "tu":
            sides = self._matching.sides(self._tags, [bool(text.strip()) for text in self._texts])
            if sides is None:
                self.faults.append(_WITHOUT)
            else:
                self.pairs.append(tuple(self._texts[i] for i in sides))


class _Xliff(Format):
    """XLIFF 1.2 has languages in <file>, 2.0 in <xliff>; a unit of 2.0 has several segments."""

    units, around, name = ("trans-unit", "unit"), ("xliff", "file", "body"), "XLIFF"

    def __init__(self, matching: Matching):
        super().__init__()
        self._matching = matching
        self._source = self._target = ""
        self._texts: dict[str, str] = {}
        self._is_unfinished = False
        self._inside = 0  # elements whose source and target are not those of the unit

    def start(self, name, attributes):
        if name in ("xliff", "file"):
            self._source = (
                attributes.get("source-language") or attributes.get("srcLang") or self._source
            )
            self._target = (
                attributes.get("target-language") or attributes.get("trgLang") or self._target
            )
        elif name in ("trans-unit", "unit", "segment"):
            self._texts, self._inside = {}, 0
            self._is_unfinished = attributes.get("state") in _UNFINISHED
        elif name in ("alt-trans", "ignorable"):
            self._inside += 1
        elif name in ("source", "target") and not self._inside:
            self.segment = Segment()
            self._is_unfinished |= attributes.get("state") in _UNFINISHED

    def end(self, name):
        if name in ("source", "target") and self.segment is not None:
            self._texts[name] = str(self.segment)
            self.segment = None
        elif name in ("alt-trans", "ignorable"):
            self._inside -= self._inside > 0
        elif name in ("trans-unit", "segment"):
            self._finish()

    def _finish(self) -> None:
        texts = [self._texts.get(side, "") for side in ("source", "target")]
        sides = self._matching.sides([self._source, self._target], [True, True])
        if sides is None:
            self.faults.append(_WITHOUT)
        elif not texts[1].strip():
            self.faults.append("unit without a translation")
        elif self._is_unfinished:
            self.faults.append("translation marked as not done")
        else:
            self.pairs.append(tuple(texts[i] for i in sides))


def read_tmx(path: Path, languages: Sequence[str], problems: Problems) -> Iterator[tuple[str, ...]]:
    """The translation units of a TMX file that have a segment in all `languages`."""
    yield from _read(path, _Tmx, languages, problems)


def read_xliff(
    path: Path, languages: Sequence[str], problems: Problems
) -> Iterator[tuple[str, ...]]:
    """The translated segments of an XLIFF file, of version 1.2 or 2.0, in `languages`.

    What is not translated, or marked as not to be used yet, is counted.
    """
    yield from _read(path, _Xliff, languages, problems)


def _read(
    path: Path, form: type[Format], languages: Sequence[str], problems: Problems
) -> Iterator[tuple[str, ...]]:
    matching = Matching(languages)
    any_row = False
    for row in read_units(path, form(matching), problems):
        any_row = True
        yield row
    if not any_row and (tags := matching.told()):
        problems.add(
            f"file without units in {'-'.join(languages)}; its languages are {tags}", str(path)
        )
