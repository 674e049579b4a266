"""Public parallel corpora by the names that mtdata gives them."""

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lightxling.base.errors import UserError, first_line
from lightxling.base.languages import Matching
from lightxling.base.lines import Problems
from lightxling.corpus.sources import Source

PREFIX = "mtdata:"
"""Of the path of such a source."""


def _entry(source: Source) -> tuple[Any, Any]:
    """The library's index and its entry of a source."""
    try:
        from mtdata.entry import DatasetId
        from mtdata.index import Index
    except ImportError:
        raise UserError(
            f"source {source}: mtdata is an extra: pip install 'lightxling[mtdata]'"
        ) from None
    name = source.path.removeprefix(PREFIX)
    try:
        wanted = DatasetId.parse(name)
    except Exception as error:  # the library raises no type of its own
        raise UserError(
            f"source {source}: {first_line(error)}; write"
            " mtdata:Statmt-news_commentary-16-deu-eng, as `mtdata list -id` prints it"
        ) from None
    index = Index.get_instance()
    if wanted not in index:
        raise UserError(
            f"source {source}: mtdata has no {name}; look it up: mtdata list -id | grep"
            f" {wanted.name}"
        )
    return index, index[wanted]


def _fetched(source: Source, entry: Any) -> Any:
    """What the library keeps of an entry: a path, several, or a dataset of its own."""
    from mtdata import cache_dir
    from mtdata.cache import Cache

    try:
        return Cache(cache_dir).get_entry(entry)
    except Exception as error:
        raise UserError(
            f"source {source}: mtdata cannot fetch {entry.url}: {first_line(error)}"
        ) from None


def mtdata_files(source: Source) -> list[Path]:
    """The files in the cache of mtdata, which are fetched where they are missing."""
    found = _fetched(source, _entry(source)[1])
    found = found if isinstance(found, list | tuple) else [found]
    # of a file within an archive, the archive
    paths = [one if isinstance(one, Path) else getattr(one, "root", None) for one in found]
    return [Path(path) for path in dict.fromkeys(paths) if path]


def read_mtdata(source: Source, problems: Problems) -> Iterator[tuple[str, ...]]:
    """The pairs of a corpus that mtdata knows; a warning says where it is from and what to cite.

    Raises:
      UserError: there is no such corpus, it is in other languages or cannot be fetched.
    """
    index, entry = _entry(source)
    tags = [str(tag) for tag in entry.did.langs]
    sides = Matching(source.languages).sides(tags, [True] * len(tags))
    if sides is None:
        raise UserError(f"source {source}: {entry.did} is in {' and '.join(tags)}")
    fetched = _fetched(source, entry)
    warnings.warn(_credit(index, entry), stacklevel=2)
    from mtdata.parser import Parser

    number = 0
    try:
        for row in Parser(fetched, ext=entry.in_ext or None, ent=entry).read_segs(show_pbar=False):
            number += 1
            if len(row) > max(sides) and all(isinstance(row[i], str) for i in sides):
                yield tuple(row[i] for i in sides)
            else:
                problems.add("row without a text of every language", f"{source.path}:{number}")
    except Exception as error:
        if isinstance(error, UserError):
            raise
        raise UserError(
            f"source {source}: mtdata cannot read it after row {number:,}: {first_line(error)}"
        ) from None


def _credit(index: Any, entry: Any) -> str:
    """Where a corpus is from and which papers to cite; mtdata knows no licences."""
    cited = ", ".join(entry.cite or ()) or "no paper"
    where = entry.url if isinstance(entry.url, str) else " and ".join(entry.url)
    texts = [index.ref_db.get_bibtex(key) for key in entry.cite or () if key in index.ref_db]
    return (
        f"{entry.did} is from {where}, whose licence holds; its authors ask to cite {cited}"
        + "".join(f"\n{text.strip()}" for text in texts)
    )
