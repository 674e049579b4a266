"""Composes the sentences of lightxling/corpus/everyday/composed.tsv.xz and writes that file.

    python tools/everyday

The file holds the first COUNT sentences that the templates give under SEED. A change to a template
or to the lexicon changes most of them.
"""

import itertools
import lzma
from pathlib import Path

from templates import composed

from lightxling.corpus import everyday

SEED, COUNT = 0, 12_000


def text() -> str:
    """The file's content before it is packed."""
    rows = itertools.islice(composed(SEED), COUNT)
    return "".join("\t".join((frame, *texts)) + "\n" for frame, texts in rows)


if __name__ == "__main__":
    packed = lzma.compress(text().encode(), preset=9 | lzma.PRESET_EXTREME)
    Path(everyday.__file__).with_name(everyday.COMPOSED).write_bytes(packed)
