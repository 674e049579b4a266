"""Pictures of an evaluation: scores per language, similarity matrices, a map of sentences.

Every one is a page of its own beside the results.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from lightxling.base.vectors import Encode, normalize
from lightxling.evaluate.report import charts, sentences
from lightxling.evaluate.report.markup import Markup, h, quoted
from lightxling.evaluate.report.page import write_page
from lightxling.evaluate.tasks import TASKS
from lightxling.evaluate.tasks.units import Unit, encode_sides
from lightxling.saved.results import POOLED, Results

SENTENCES = 40
"""Pairs in a similarity matrix: few enough to see a single cell."""
MAPPED = 8
"""Sentences on a map: few enough to tell apart."""


def draw_pictures(
    encode: Encode, results: Mapping[Path, Results], units: Sequence[Unit], folder: Path
) -> Iterator[Path]:
    """Draws what the results and the units give, into `folder`; yields the files.

    Args:
      results: of every benchmark, by the file that keeps them, beside which its picture lies.
    """
    for file, benchmark in results.items():
        headline = TASKS[benchmark["task"]].headline
        scores = {
            name: unit["scores"][headline]
            for name, unit in benchmark["results"].items()
            if name != POOLED and headline in unit["scores"]
        }
        if scores:
            title = f"{headline.replace('_', ' ')}, per cent"
            chart = charts.bar_chart(scores, title=title, name="bars")
            yield _write(file.with_suffix(".html"), chart)
    parallel = [(unit, *unit.pairs()) for unit in units if unit.pairs]
    for unit, *texts in parallel:
        pair = unit.languages[0], unit.languages[1]
        vectors = encode_sides(encode, pair, [side[:SENTENCES] for side in texts])
        src, tgt = map(normalize, vectors)
        cosines = src @ tgt.T
        chart = charts.matrix_chart(cosines, title=unit.name, name="matrix", languages=pair)
        yield _write(folder / f"similarity.{unit.dataset}.{unit.name}.html", chart)
    languages, texts = shared_sentences(parallel)
    if texts:
        yield _write(folder / "map.html", _map(encode, languages, texts))


def _map(encode: Encode, languages: Sequence[str], texts: Sequence[tuple[str, ...]]) -> Markup:
    """The same sentences in all languages; what means the same should lie together."""
    vectors = normalize(np.concatenate([encode(list(row)) for row in texts]))
    points, share = sentences.principal_plane(vectors)
    placed = [charts.Placed(str(i), tuple(languages), row) for i, row in enumerate(texts, 1)]
    title = f"Dots are sentences in {languages[0]}, squares their translations"
    points, note = points.reshape(len(texts), len(languages), 2), sentences.of_plane(share)
    chart = charts.map_chart(points, placed, title=title, name="map", note=note)
    items = [quoted("li", row[0], languages[0]) for row in texts]
    return h("div", chart, h("ol", items, class_="pairs"), class_="map")


def _write(path: Path, drawn: Markup) -> Path:
    write_page(path, path.stem, h("main", h("h1", path.stem), drawn, id="main"))
    return path


def shared_sentences(
    parallel: Sequence[tuple[Unit, list[str], list[str]]],
) -> tuple[list[str], list[tuple[str, ...]]]:
    """Up to `MAPPED` sentences in as many languages as possible.

    Units that have the same first language are joined by its sentences: the common ones of all
    units, or of the most units that have any in common.
    """
    if not parallel:
        return [], []
    languages = [parallel[0][0].languages[0]]
    common: set[str] = set()
    tables: list[dict[str, str]] = []
    for unit, src, tgt in parallel:
        first, second = unit.languages
        table = dict(zip(src, tgt, strict=True))
        joined = common & table.keys() if tables else set(table)
        if joined and first == languages[0] and second not in languages[1:]:
            common, languages, tables = joined, [*languages, second], [*tables, table]
    rows = sorted(common, key=lambda text: (abs(len(text) - 40), text))[:MAPPED]
    return languages, [(text, *(table[text] for table in tables)) for text in rows]
