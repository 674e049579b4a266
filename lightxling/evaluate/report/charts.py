"""Curves, similarity matrices and maps of sentences as inline SVG with a text and a table.

Drawn on a canvas of 400 units, so that text is readable on a phone; style.css has the colours.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from jaxtyping import Float, Real

from lightxling.evaluate.report.markup import Markup, h, join
from lightxling.evaluate.report.scales import Scale, scale_for, short, spread, thin

WIDTH, HEIGHT = 400, 230
LEFT, RIGHT, TOP, BOTTOM = 46, 388, 12, 194
"""Edges of the area in which curves are drawn."""
LABELS = 36
"""Room for the names at the ends of curves."""
STYLES, DASHES = 6, 4
"""Colours, and then dash patterns, of style.css."""


@dataclasses.dataclass(frozen=True)
class Series:
    """A curve: x ascending, y with NaN where there is a gap."""

    name: str
    label: str
    """Short, for the end of the curve."""
    x: Real[np.ndarray, " N"]
    y: Real[np.ndarray, " N"]
    style: int = 0
    faint: bool = False
    """In the background: thin, grey and without a name."""

    def finite(self) -> tuple[Real[np.ndarray, " M"], Real[np.ndarray, " M"]]:
        keep = np.isfinite(self.y)
        return self.x[keep], self.y[keep]


def style_classes(style: int) -> str:
    """Colour and dash pattern of the n-th curve; 24 differ."""
    return f"s{style % STYLES} d{style // STYLES % DASHES}"


def line_chart(
    series: Sequence[Series],
    *,
    title: str,
    name: str,
    x_label: str,
    form: Callable[[float], str],
    x_form: Callable[[float], str],
    zero: bool = False,
    dots: bool = False,
) -> Markup:
    """A figure of curves over one x axis, with its main numbers as a table.

    Args:
      name: of the figure within the page, for ids.
      form: a value as text.
      x_form: a place on the x axis as text.
      zero: let the y axis begin at 0.
      dots: mark every point; for few measurements.
    """
    series = [one for one in series if len(one.finite()[0])]
    if not series:
        return h("p", f"{title}: nothing was logged.", class_="missing")
    named = [one for one in series if not one.faint]
    right = RIGHT - (LABELS if len(series) > 1 else 0)
    xs, ys = (np.concatenate([one.finite()[i] for one in series]) for i in (0, 1))
    across = Scale(0, max(float(xs.max()), 1), LEFT, right)
    up = scale_for(ys, BOTTOM, TOP, zero=zero)
    marks = [_axes(across, up, x_label)]
    marks += [_curve(one, across, up, form, x_form, dots) for one in series if one.faint]
    marks += [_curve(one, across, up, form, x_form, dots) for one in named]
    if len(series) > 1:
        ends = [up(one.finite()[1][-1]) for one in named]
        for one, place in zip(named, spread(ends, 11, TOP, BOTTOM), strict=True):
            classes = f"end {style_classes(one.style)}"
            marks.append(h("text", one.label, x=right + 5, y=_n(place + 4), class_=classes))
    rows = [(one.name, _summary(one, form, x_form)) for one in series]
    told = "; ".join(
        f"{one} from {cells[0]} to {cells[3]}, lowest {cells[1]}, highest {cells[2]}"
        for one, cells in rows[:12]
    )
    scale = ", logarithmic scale" if up.log else ""
    table = _numbers(
        f"{title}: main numbers, each with {x_label}",
        ["", "first", "lowest", "highest", "last"],
        rows,
    )
    return h(
        "figure",
        h("figcaption", title + scale),
        _svg(name, f"{title}{scale}", f"Curves over {x_label}. {told}.", HEIGHT, marks),
        table,
    )


def bar_chart(scores: Mapping[str, float], *, title: str, name: str) -> Markup:
    """A bar for every name, the longest first, with its number; their mean is a dashed line."""
    order = sorted(scores, key=lambda name: -scores[name])
    left, top, row = 110, 8, 20
    mean, bottom = float(np.mean(list(scores.values()))), top + row * len(order)
    across = Scale(0, max(100.0, *scores.values()), left, RIGHT - LABELS)
    marks = []
    for i, one in enumerate(order):
        y, end = top + i * row, across(max(scores[one], 0.0))
        marks += [
            h("text", one, x=left - 6, y=y + 14, class_="right"),
            h("rect", x=left, y=y + 3, width=_n(end - left), height=row - 6, class_="shade"),
            h("text", f"{scores[one]:.1f}", x=RIGHT, y=y + 14, class_="right"),
        ]
    x = _n(across(max(mean, 0.0)))
    marks.append(h("path", d=f"M{x} {top}V{bottom}", class_="line s1 d1"))
    marks.append(h("text", f"mean {mean:.1f}", x=x, y=bottom + 13, class_="mid"))
    told = "; ".join(f"{one} {scores[one]:.1f}" for one in order)
    return h(
        "figure",
        h("figcaption", title),
        _svg(name, title, f"{told}; mean {mean:.1f}.", bottom + 18, marks),
    )


def matrix_chart(
    cosines: Float[np.ndarray, "N N"], *, title: str, name: str, languages: tuple[str, str]
) -> Markup:
    """Cosine of every sentence (rows) with every translation (columns), as shades.

    The diagonal has frames: there the pairs are. Every row's nearest column has a dot if it is the
    pair, a cross if not.
    """
    count = len(cosines)
    every = 1 if count <= 20 else 10  # of the rows and columns have room for their number
    edge, top = 24, 38
    cell = (RIGHT - edge) / count
    low, high = float(cosines.min()), float(cosines.max())
    shade = Scale(low, high if high > low else low + 1, 0.0, 1.0)
    nearest = np.argmax(cosines, axis=1)
    right = int(np.sum(nearest == np.arange(count)))
    marks = [h("text", f"rows {languages[0]}, columns {languages[1]}", x=edge, y=12)]
    for i in range(count):
        x, y = edge + i * cell, top + i * cell
        middle = cell / 2
        if (i + 1) % every == 0:
            marks.append(h("text", i + 1, x=_n(x + middle), y=top - 5, class_="mid small"))
            marks.append(h("text", i + 1, x=edge - 5, y=_n(y + middle + 4), class_="right small"))
        for j in range(count):
            tip = f"{i + 1} {languages[0]}, {j + 1} {languages[1]}: cosine {cosines[i, j]:.2f}"
            marks.append(
                h(
                    "rect",
                    h("title", tip),
                    x=_n(edge + j * cell),
                    y=_n(y),
                    width=_n(cell),
                    height=_n(cell),
                    class_="shade",
                    fill_opacity=f"{shade(float(cosines[i, j])):.2f}",
                )
            )
    for i, j in enumerate(nearest.tolist()):
        x, y, size = edge + j * cell + cell / 2, top + i * cell + cell / 2, cell / 5
        if i == j:
            marks.append(h("circle", cx=_n(x), cy=_n(y), r=_n(size), class_="mark"))
        else:
            cross = f"M{_n(x - size)} {_n(y - size)}l{_n(2 * size)} {_n(2 * size)}"
            cross += f"m0 {_n(-2 * size)}l{_n(-2 * size)} {_n(2 * size)}"
            marks.append(h("path", d=cross, class_="cross"))
        frame = {"x": _n(edge + i * cell + 1), "y": _n(top + i * cell + 1)}
        frame |= {"width": _n(cell - 2), "height": _n(cell - 2)}
        marks.append(h("rect", **frame, class_="frame"))
    bottom = top + count * cell
    marks += [
        h("text", f"{low:.2f}", x=edge, y=_n(bottom + 20)),
        h("text", f"cosine {high:.2f}", x=RIGHT, y=_n(bottom + 20), class_="right"),
    ]
    for step in range(12):
        box = {"x": _n(edge + 34 + step * 20), "y": _n(bottom + 10), "width": 20, "height": 11}
        marks.append(h("rect", **box, class_="shade", fill_opacity=f"{step / 11:.2f}"))
    told = (
        f"Cosines of {count} {languages[0]} sentences with their {count} {languages[1]} "
        f"translations, from {low:.2f} to {high:.2f}; darker is nearer in the light scheme and "
        f"brighter in the dark one. The nearest is the translation in {right} of {count} rows."
    )
    return h(
        "figure",
        h("figcaption", f"{title}: nearest is right in {right} of {count} rows"),
        _svg(name, title, told, math.ceil(bottom + 28), marks),
    )


@dataclasses.dataclass(frozen=True)
class Placed:
    """A sentence and its translations on a map."""

    label: str
    languages: tuple[str, ...]
    texts: tuple[str, ...]


def map_chart(
    points: Real[np.ndarray, "N L 2"], pairs: Sequence[Placed], *, title: str, name: str, note: str
) -> Markup:
    """Sentences as dots, translations as squares, and lines between; [sentence, language, x or y].

    With several translations every sentence has a colour, and every square its language.

    Args:
      note: what the two directions are.
    """
    flat = points.reshape(-1, 2)
    low, high = flat.min(axis=0), flat.max(axis=0)
    span = float(max((high - low).max(), 1e-9))  # the same scale in both directions
    middle = (low + high) / 2
    across = Scale(float(middle[0]) - span / 2, float(middle[0]) + span / 2, 24, WIDTH - 24)
    up = Scale(float(middle[1]) - span / 2, float(middle[1]) + span / 2, WIDTH - 24, 24)
    places = np.array([[across(x), up(y)] for x, y in flat.tolist()]).reshape(points.shape)
    marks, taken = [], [tuple(place) for place in places.reshape(-1, 2).tolist()]
    lines, lengths = [], np.linalg.norm(points[:, :1] - points[:, 1:], axis=2)
    for number, ((one, *others), pair) in enumerate(zip(places.tolist(), pairs, strict=True)):
        tip = " | ".join(f"{a}: {b}" for a, b in zip(pair.languages, pair.texts, strict=True))
        squares = []
        for language, other in zip(pair.languages[1:], others, strict=True):
            line = f"M{_n(one[0])} {_n(one[1])}L{_n(other[0])} {_n(other[1])}"
            lines.append(h("path", d=line, class_="tie"))
            square = {"x": _n(other[0] - 4), "y": _n(other[1] - 4), "width": 8, "height": 8}
            squares.append(h("rect", **square, class_="square"))
            if len(others) > 1:
                at = {"x": _n(other[0] + 6), "y": _n(other[1] + 4)}
                squares.append(h("text", language, **at, class_="small"))
        x, y = _free_place(one, 3.2 * len(pair.label), taken)
        taken += [(x, y), (x - 3 * len(pair.label), y), (x + 3 * len(pair.label), y)]
        marks.append(
            h(
                "g",
                h("title", f"{pair.label}. {tip}"),
                h("circle", cx=_n(one[0]), cy=_n(one[1]), r=4.5, class_="dot"),
                squares,
                h("text", pair.label, x=_n(x), y=_n(y + 4), class_="mid label"),
                class_=style_classes(number) if len(others) > 1 else None,
            )
        )
    told = (
        f"{len(pairs)} sentences as dots, each joined by a line to its translation, a square. "
        f"The lines are {lengths.mean():.2f} long on average, the map is {span:.2f} wide. {note}."
    )
    return h(
        "figure",
        h("figcaption", title),
        _svg(name, title, told, WIDTH, [*lines, *marks]),
        h("p", f"{note}.", class_="note"),
    )


def spark(y: Real[np.ndarray, " N"], low: float, high: float) -> Markup:
    """A curve the size of a word, for a table that has its numbers: hidden from screen readers."""
    keep = np.flatnonzero(np.isfinite(y))
    if len(keep) < 2:
        return join()
    scale = Scale(low, high if high > low else low + 1, 20, 2)
    step = 86 / (len(y) - 1)
    d = "L".join(f"{_n(2 + i * step)} {_n(scale(float(y[i])))}" for i in keep[thin(y[keep], 80)])
    return h(
        "svg",
        h("path", d="M" + d, class_="line s0 d0"),
        viewBox="0 0 90 22",
        class_="spark",
        aria_hidden="true",
        focusable="false",
    )


def _free_place(
    point: Sequence[float], half: float, taken: Sequence[tuple[float, float]]
) -> tuple[float, float]:
    """Middle of a label of half such a width, beside a point and far from everything else."""
    across, up = half + 7, 12
    spots = [(point[0] + a * across, point[1] + b * up) for a, b in _AROUND]
    spots = [s for s in spots if half < s[0] < WIDTH - half and 6 < s[1] < WIDTH - 6] or spots
    others = [place for place in taken if math.dist(place, point) > 1e-9]

    def room(spot: tuple[float, float]) -> float:
        ends = [(spot[0] + shift, spot[1]) for shift in (-half, 0, half)]
        return min((math.dist(end, place) for end in ends for place in others), default=0)

    return max(spots, key=room)


_AROUND = ((1, 0), (-1, 0), (0, 1), (0, -1), (0.8, 0.8), (0.8, -0.8), (-0.8, 0.8), (-0.8, -0.8))


def _axes(across: Scale, up: Scale, x_label: str) -> list[Markup]:
    marks = []
    for value in up.ticks():
        y = _n(up(value))
        marks.append(h("path", d=f"M{LEFT} {y}H{_n(across.end)}", class_="grid"))
        marks.append(h("text", short(value), x=LEFT - 6, y=_n(up(value) + 4), class_="right y"))
    for value in across.ticks(4):
        x = _n(across(value))
        marks.append(h("path", d=f"M{x} {BOTTOM}v4", class_="axis"))
        marks.append(h("text", short(value), x=x, y=BOTTOM + 16, class_="mid x"))
    marks.append(h("path", d=f"M{LEFT} {BOTTOM}H{_n(across.end)}", class_="axis"))
    marks.append(h("text", x_label, x=_n((LEFT + across.end) / 2), y=HEIGHT - 4, class_="mid"))
    return marks


def _curve(
    one: Series,
    across: Scale,
    up: Scale,
    form: Callable[[float], str],
    x_form: Callable[[float], str],
    dots: bool,
) -> list[Markup]:
    keep = thin(one.y)
    x, y = one.x[keep], one.y[keep]
    classes = "faint" if one.faint else style_classes(one.style)
    marks, d, alone = [], "", []
    for part in np.split(np.arange(len(y)), np.flatnonzero(~np.isfinite(y))):
        part = part[np.isfinite(y[part])]
        places = [(_n(across(float(x[i]))), _n(up(float(y[i])))) for i in part]
        if len(places) == 1:
            alone.append(part[0])
        elif places:
            d += "M" + "L".join(f"{a} {b}" for a, b in places)
    if d:
        marks.append(h("path", d=d, class_=f"line {classes}"))
    marked = np.flatnonzero(np.isfinite(y)) if dots and not one.faint and len(y) <= 60 else alone
    for i in marked:
        tip = f"{one.name}, {x_form(float(x[i]))}: {form(float(y[i]))}"
        place = {"cx": _n(across(float(x[i]))), "cy": _n(up(float(y[i])))}
        marks.append(h("circle", h("title", tip), **place, r=2.6, class_=f"point {classes}"))
    return marks


def _summary(
    one: Series, form: Callable[[float], str], x_form: Callable[[float], str]
) -> list[str]:
    """First, lowest, highest and last value, each with its place."""
    x, y = one.finite()
    return [
        f"{form(float(y[i]))} ({x_form(float(x[i]))})"
        for i in (0, int(np.argmin(y)), int(np.argmax(y)), len(y) - 1)
    ]


def _numbers(
    caption: str, head: Sequence[str], rows: Sequence[tuple[str, Sequence[str]]]
) -> Markup:
    cells = [
        h("tr", h("th", name, scope="row"), [h("td", value, class_="n") for value in values])
        for name, values in rows
    ]
    top = [h("th", name, scope="col") if name else h("td") for name in head]
    table = h("table", h("caption", caption), h("thead", h("tr", top)), h("tbody", cells))
    wrapped = h("div", table, class_="wide", role="region", aria_label=caption, tabindex=0)
    return h("details", h("summary", "Numbers"), wrapped, class_="numbers")


def _svg(name: str, title: str, told: str, height: int, marks: object) -> Markup:
    return h(
        "svg",
        h("title", title, id=f"{name}-title"),
        h("desc", told, id=f"{name}-desc"),
        marks,
        viewBox=f"0 0 {WIDTH} {height}",
        role="img",
        aria_labelledby=f"{name}-title {name}-desc",
    )


def _n(value: int | float) -> str:
    """A place, to a twentieth of a unit."""
    return f"{value:.1f}".removesuffix(".0")
