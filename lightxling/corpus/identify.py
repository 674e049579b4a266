"""Whether the sides of a source are in the languages that they are said to be in."""

import collections
import functools
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

from lightxling.base.extras import needed_by, require
from lightxling.base.languages import parts
from lightxling.corpus.sources import Source

PACKAGE = "py3langid"


def check_identifier() -> None:
    """Finds out early whether the package is there.

    Raises:
      UserError: it is not; names its extra.
    """
    require("corpus.identify", PACKAGE)


@functools.cache
def _identifier() -> Any:
    with needed_by("corpus.identify"):
        from py3langid.langid import MODEL_FILE, LanguageIdentifier
    return LanguageIdentifier.from_model_file(MODEL_FILE)


def languages_of(texts: Sequence[str]) -> collections.Counter[str]:
    """How many texts are in each language, by py3langid; without script and region."""
    return collections.Counter(parts(_identifier().classify(text)[0])[0] for text in texts)


def told(source: Source, rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """What the sides of some rows of a source are in, in one line; warns where most of a side is in
    another language than the source says."""
    known = {parts(label)[0] for label in _identifier().labels}
    said, found = [], []
    for side, code in enumerate(source.languages):
        wanted = parts(code)[0]
        if wanted not in known:
            said.append(f"{code} is not one that {PACKAGE} knows")
            found.append("")
            continue
        counts = languages_of([row[side] for row in rows])
        said.append(f"{code} {counts[wanted] / len(rows):.0%}")
        found.append(counts.most_common(1)[0][0])
    yield f"of the first {len(rows):,} rows of {source} in the languages named: {', '.join(said)}"
    wanted = [parts(code)[0] for code in source.languages]
    others = [i for i, one in enumerate(found) if one not in ("", wanted[i])]
    if not others:
        return
    what = ", ".join(f"{source.languages[i]} is mostly {found[i]}" for i in others)
    remedy = "check the source"
    if len(found) == 2 and found == wanted[::-1]:
        codes = "-".join(source.languages)
        swapped = "-".join(reversed(source.languages))
        remedy = f"its sides are swapped: write {swapped}=PATH in place of {codes}=PATH"
    warnings.warn(f"{source}: {what}; {remedy}", stacklevel=2)
