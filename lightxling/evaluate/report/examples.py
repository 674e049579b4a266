"""The section of development sentences: map, matrices, neighbours."""

import numpy as np

from lightxling.evaluate.report import charts, pieces, sentences
from lightxling.evaluate.report.markup import Markup, h, join_markup, quoted
from lightxling.evaluate.report.pieces import Shown

QUOTED = 300
"""Characters of a sentence that are written out."""


def section(one: Shown, level: int) -> Markup:
    if not one.views:
        return pieces.missing(pieces.sentence(one.no_views))
    names = ", ".join("-".join(view.sentences.languages) for view in one.views)
    chosen = " (the most, the fewest and between in training pairs)" * (len(one.views) > 1)
    return join_markup(
        h("p", f"Development sentences of {names}{chosen}.", class_="note"),
        h(f"h{level}", "A map of translations"),
        _map(one),
        h(f"h{level}", "Similarity matrices"),
        _matrices(one),
        h(f"h{level}", "Nearest neighbours, right and wrong"),
        [_neighbours(view, level + 1, i == 0) for i, view in enumerate(one.views)],
    )


def _map(one: Shown) -> Markup:
    pairs, points, share = sentences.plane(one.views)
    placed, items = [], []
    for i, (view, row) in enumerate(pairs, 1):
        languages, texts = view.sentences.languages, view.sentences.texts[view.chosen[row]]
        label = f"{i} {languages[1]}" if len(one.views) > 1 else str(i)
        placed.append(charts.Placed(label, languages, texts))
        items.append(_translation(texts, languages, float(np.dot(*view.vectors[row]))))
    title = "Dots are sentences, squares their translations"
    note = sentences.of_plane(share)
    chart = charts.map_chart(points, placed, title=title, name=f"{one.id}-map", note=note)
    return h("div", chart, h("ol", items, class_="pairs"), class_="map")


def _translation(
    texts: tuple[str, str], languages: tuple[str, str], cosine: float, more: str = ""
) -> Markup:
    """An item of a list: a sentence, its translation, their cosine."""
    one, other = map(_quote, texts, languages)
    told = h("small", f" {languages[1]}, cosine {cosine:.2f}{more}")
    return h("li", one, h("br"), other, told)


def _matrices(one: Shown) -> Markup:
    figures = []
    for i, view in enumerate(one.views):
        languages = view.sentences.languages
        title, name = "-".join(languages), f"{one.id}-matrix-{i}"
        chart = charts.matrix_chart(view.cosines, title=title, name=name, languages=languages)
        items = []
        for row, (place, cosines) in enumerate(zip(view.chosen, view.cosines, strict=True)):
            near = int(np.argmax(cosines))
            more = "" if near == row else f"; nearest is {near + 1} with {cosines[near]:.2f}"
            texts = view.sentences.texts[place]
            items.append(_translation(texts, languages, float(cosines[row]), more))
        told = h("summary", f"The sentences of {title}")
        figures.append(h("div", chart, h("details", told, h("ol", items, class_="pairs"))))
    told = (
        "Rows are sentences, columns translations, and a frame is a pair. A dot: the nearest is "
        "the translation. A cross: the nearest is another."
    )
    return join_markup(h("p", told, class_="note"), h("div", figures, class_="charts large"))


def _neighbours(view: sentences.View, level: int, is_open: bool) -> Markup:
    one, other = view.sentences.languages
    shown, total = len(view.sentences.texts), view.sentences.total
    out_of = f" (out of {total:,} dev pairs)" if total > shown else ""
    items = [_neighbour(n, one, other) for n in [*view.wrong, *view.right]]
    told = (
        f"Of {shown:,} sentences{out_of}, {100 * view.found:.1f} % find their translation "
        f"among {shown:,} candidates. Below are the wrong ones that are farthest off, then "
        "right ones, from the narrowest to the clearest; cosines in brackets."
    )
    heading = h(f"h{level}", f"{one} to {other}: {100 * view.found:.1f} % right")
    asked = h("ul", items, class_="asked", role="list")
    return h("details", h("summary", heading), h("p", told), asked, open=is_open)


def _neighbour(found: sentences.Neighbour, one: str, other: str) -> Markup:
    right = found.rank == 1
    verdict = "✓ right" if right else f"✗ wrong, translation at rank {found.rank:,}"
    answer = [_quote(found.answer, other), f" ({found.to_answer:.2f})"]
    wrong = [_quote(found.other, other), f" ({found.to_other:.2f})"]
    rows = {"asked": _quote(found.query, one)}
    rows |= {"found": answer, "next": wrong} if right else {"found": wrong, "wanted": answer}
    told = h("dl", [[h("dt", name), h("dd", text)] for name, text in rows.items()])
    return h("li", h("span", verdict, class_="verdict"), told, class_="s2" if right else "s1")


def _quote(text: str, language: str) -> Markup:
    cut = text if len(text) <= QUOTED else text[: QUOTED - 1] + "…"
    return quoted("span", cut, language)
