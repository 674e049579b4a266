"""Counts which pieces every language of an encoder in the package uses, for `export --languages`.

    python tools/piece_use.py static "en-de=data/*.en-de.tsv.gz" "en-fr=data/*.en-fr.tsv.gz" ...

A piece is in use in a language if it occurs --least times in the rows that are read: --limit of
every source, those of the lowest hashes.
"""

import argparse
import heapq
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path

from lightxling.base.lines import Problems
from lightxling.base.places import packaged
from lightxling.corpus.cleaning import clean
from lightxling.corpus.readers import read_source
from lightxling.corpus.sources import Source
from lightxling.export.trim import Sentence, count_pieces
from lightxling.saved.bundle import load_bundle
from lightxling.saved.piece_use import write_piece_use


def sample(sources: Iterable[str], limit: int, unescape: bool) -> Iterator[Sentence]:
    """Language and sentence, cleaned, of a part of every source."""
    for text in sources:
        source = Source.parse(text)
        found = ((zlib.crc32(row[0].encode()), row) for row in read_source(source, Problems()))
        for _, row in heapq.nsmallest(limit, found):
            for code, sentence in zip(source.languages, row, strict=False):
                yield code, clean(sentence, unescape=unescape)


def write(folder: Path, sources: Iterable[str], *, limit: int, least: int) -> None:
    """Writes the file of an encoder's folder."""
    bundle = load_bundle(folder)
    text = sample(sources, limit, bundle.unescape)
    codes, counts = count_pieces(bundle.tokenizer, text, bundle.vocab_size)
    used = {code: row >= least for code, row in zip(codes, counts, strict=True)}
    write_piece_use(folder, bundle.tokenizer, dict(sorted(used.items())))
    for code, row in sorted(used.items()):
        print(f"{code:>4} {row.sum():>7,} of {bundle.vocab_size:,} pieces")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name", choices=list(packaged()))
    parser.add_argument("sources", nargs="+")
    parser.add_argument("--limit", type=int, default=20_000)
    parser.add_argument("--least", type=int, default=2)
    asked = parser.parse_args()
    write(packaged()[asked.name], asked.sources, limit=asked.limit, least=asked.least)
