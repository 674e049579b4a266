"""Curves, similarity matrices and maps of sentences as inline SVG with a text and a table.

Drawn on a canvas of 400 units, so that text is readable on a phone; style.css has the colours.
"""

import dataclasses
import math
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np

from lightxling.base.shapes import Float, Real
from lightxling.evaluate.report.markup import Markup, h, join_markup, to_a_tenth
from lightxling.evaluate.report.pieces import html_table
from lightxling.evaluate.report.scales import Scale, scale_for, short, spread, thin

WIDTH, HEIGHT = 400, 230
LEFT, RIGHT, TOP, BOTTOM = 46, 388, 12, 194
"""Edges of the area in which curves are drawn."""
LABEL_ROOM = 36
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
    form: Callable[[float], str],
    zero: bool = False,
    dots: bool = False,
) -> Markup:
    """A figure of curves over pairs seen, with its main numbers as a table.

    Args:
      name: of the figure within the page, for ids.
      form: a value as text.
      zero: let the y axis begin at 0.
      dots: mark every point; for few measurements.
    """
    series = [one for one in series if len(one.finite()[0])]
    if not series:
        return h("p", f"{title}: nothing was logged.", class_="missing")
    right = RIGHT - (LABEL_ROOM if len(series) > 1 else 0)
    xs, ys = map(np.concatenate, zip(*(one.finite() for one in series), strict=True))
    across = Scale(0, max(float(xs.max()), 1), LEFT, right)
    up = scale_for(ys, BOTTOM, TOP, zero=zero)
    marks = [axes(across, up)]
    for one in sorted(series, key=lambda one: not one.faint):  # what is faint lies below
        marks.append(_curve(one, across, up, form, dots))
    if len(series) > 1:
        named = [one for one in series if not one.faint]
        ends = [up(one.finite()[1][-1]) for one in named]
        for one, place in zip(named, spread(ends, 11, TOP, BOTTOM), strict=True):
            classes = f"end {style_classes(one.style)}"
            marks.append(h("text", one.label, x=right + 5, y=place + 4, class_=classes))
    rows = [(one.name, _summary(one, form)) for one in series]
    told = "; ".join(
        f"{one} from {cells[0]} to {cells[3]}, lowest {cells[1]}, highest {cells[2]}"
        for one, cells in rows[:12]
    )
    scale = ", logarithmic scale" if up.log else ""
    caption = f"{title}: main numbers, each with pairs seen"
    table = html_table(caption, ["", "first", "lowest", "highest", "last"], rows)
    numbers = h("details", h("summary", "Numbers"), table, class_="numbers")
    told = f"Curves over pairs seen. {told}."
    return figure(name, f"{title}{scale}", told, HEIGHT, marks, below=numbers)


def bar_chart(scores: Mapping[str, float], *, title: str, name: str) -> Markup:
    """A bar for every name, the longest first, with its number; their mean is a dashed line."""
    order = sorted(scores, key=lambda name: -scores[name])
    left, top, row = 110, 8, 20
    mean, bottom = float(np.mean(list(scores.values()))), top + row * len(order)
    across = Scale(0, max(100.0, *scores.values()), left, RIGHT - LABEL_ROOM)
    marks = []
    for i, one in enumerate(order):
        y, end = top + i * row, across(max(scores[one], 0.0))
        marks += [
            h("text", one, x=left - 6, y=y + 14, class_="right"),
            _box("shade", left, y + 3, end - left, row - 6),
            h("text", f"{scores[one]:.1f}", x=RIGHT, y=y + 14, class_="right"),
        ]
    x = across(max(mean, 0.0))
    marks.append(h("path", d=f"M{to_a_tenth(x)} {top}V{bottom}", class_="line s1 d1"))
    marks.append(h("text", f"mean {mean:.1f}", x=x, y=bottom + 13, class_="mid"))
    told = "; ".join(f"{one} {scores[one]:.1f}" for one in order)
    return figure(name, title, f"{told}; mean {mean:.1f}.", bottom + 18, marks)


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
    middle = cell / 2
    low, high = float(cosines.min()), float(cosines.max())
    shade = Scale(low, high if high > low else low + 1, 0.0, 1.0)
    nearest = np.argmax(cosines, axis=1)
    right = int(np.sum(nearest == np.arange(count)))
    marks = [h("text", f"rows {languages[0]}, columns {languages[1]}", x=edge, y=12)]
    for i in range(count):
        x, y = edge + i * cell, top + i * cell
        if (i + 1) % every == 0:
            marks.append(h("text", i + 1, x=x + middle, y=top - 5, class_="mid small"))
            marks.append(h("text", i + 1, x=edge - 5, y=y + middle + 4, class_="right small"))
        for j in range(count):
            tip = f"{i + 1} {languages[0]}, {j + 1} {languages[1]}: cosine {cosines[i, j]:.2f}"
            opacity = f"{shade(float(cosines[i, j])):.2f}"
            place, tip = (edge + j * cell, y, cell, cell), h("title", tip)
            marks.append(_box("shade", *place, inside=tip, opacity=opacity))
    for i, j in enumerate(nearest.tolist()):
        x, y, size = edge + j * cell + middle, top + i * cell + middle, cell / 5
        if i == j:
            marks.append(h("circle", cx=x, cy=y, r=size, class_="mark"))
        else:
            one, two = to_a_tenth(2 * size), to_a_tenth(-2 * size)
            cross = (
                f"M{to_a_tenth(x - size)} {to_a_tenth(y - size)}l{one} {one}m0 {two}l{two} {one}"
            )
            marks.append(h("path", d=cross, class_="cross"))
        x, y = edge + i * cell + 1, top + i * cell + 1
        marks.append(_box("frame", x, y, cell - 2, cell - 2))
    bottom = top + count * cell
    marks.append(h("text", f"{low:.2f}", x=edge, y=bottom + 20))
    marks.append(h("text", f"cosine {high:.2f}", x=RIGHT, y=bottom + 20, class_="right"))
    for step in range(12):
        x, opacity = edge + 34 + step * 20, f"{step / 11:.2f}"
        marks.append(_box("shade", x, bottom + 10, 20, 11, opacity=opacity))
    told = (
        f"Cosines of {count} {languages[0]} sentences with their {count} {languages[1]} "
        f"translations, from {low:.2f} to {high:.2f}; darker is nearer in the light scheme and "
        f"brighter in the dark one. The nearest is the translation in {right} of {count} rows."
    )
    caption = f"{title}: nearest is right in {right} of {count} rows"
    return figure(name, title, told, math.ceil(bottom + 28), marks, caption=caption)


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
    left, below = ((low + high) / 2 - span / 2).tolist()
    across = Scale(left, left + span, 24, WIDTH - 24)
    up = Scale(below, below + span, WIDTH - 24, 24)
    places = np.array([[across(x), up(y)] for x, y in flat.tolist()]).reshape(points.shape)
    marks, taken = [], [tuple(place) for place in places.reshape(-1, 2).tolist()]
    ties, lengths = [], np.linalg.norm(points[:, :1] - points[:, 1:], axis=2)
    for number, ((one, *others), pair) in enumerate(zip(places.tolist(), pairs, strict=True)):
        tip = " | ".join(f"{a}: {b}" for a, b in zip(pair.languages, pair.texts, strict=True))
        squares = []
        for language, (x, y) in zip(pair.languages[1:], others, strict=True):
            ties.append(h("path", d=line_path([one, (x, y)]), class_="tie"))
            squares.append(_box("square", x - 4, y - 4, 8, 8))
            if len(others) > 1:
                squares.append(h("text", language, x=x + 6, y=y + 4, class_="small"))
        x, y = _free_place(one, 3.2 * len(pair.label), taken)
        taken += [(x, y), (x - 3 * len(pair.label), y), (x + 3 * len(pair.label), y)]
        marks.append(
            h(
                "g",
                h("title", f"{pair.label}. {tip}"),
                h("circle", cx=one[0], cy=one[1], r=4.5, class_="dot"),
                squares,
                h("text", pair.label, x=x, y=y + 4, class_="mid label"),
                class_=style_classes(number) if len(others) > 1 else None,
            )
        )
    told = (
        f"{len(pairs)} sentences as dots, each joined by a line to its translation, a square. "
        f"The lines are {lengths.mean():.2f} long on average, the map is {span:.2f} wide. {note}."
    )
    below = h("p", f"{note}.", class_="note")
    return figure(name, title, told, WIDTH, [*ties, *marks], below=below)


def spark(y: Real[np.ndarray, " N"], low: float, high: float) -> Markup:
    """A curve the size of a word, for a table that has its numbers: hidden from screen readers."""
    keep = np.flatnonzero(np.isfinite(y))
    if len(keep) < 2:
        return join_markup()
    scale = Scale(low, high if high > low else low + 1, 20, 2)
    step = 86 / (len(y) - 1)
    line = line_path((2 + i * step, scale(float(y[i]))) for i in keep[thin(y[keep], 80)])
    return hidden_svg(90, 22, h("path", d=line, class_="line s0 d0"), class_="spark")


def hidden_svg(width: int, height: int, marks: Markup, **attributes: object) -> Markup:
    """A picture that screen readers pass over."""
    hidden = {**attributes, "aria_hidden": "true", "focusable": "false"}
    return h("svg", marks, viewBox=f"0 0 {width} {height}", **hidden)


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


def axes(across: Scale, up: Scale, below: str = "pairs seen") -> list[Markup]:
    """Grid, ticks and the name of what goes from left to right."""
    marks, end = [], to_a_tenth(across.end)
    for value in up.ticks():
        y = up(value)
        marks.append(h("path", d=f"M{LEFT} {to_a_tenth(y)}H{end}", class_="grid"))
        marks.append(h("text", short(value), x=LEFT - 6, y=y + 4, class_="right y"))
    for value in across.ticks(4):
        x = across(value)
        marks.append(h("path", d=f"M{to_a_tenth(x)} {BOTTOM}v4", class_="axis"))
        marks.append(h("text", short(value), x=x, y=BOTTOM + 16, class_="mid x"))
    marks.append(h("path", d=f"M{LEFT} {BOTTOM}H{end}", class_="axis"))
    marks.append(h("text", below, x=(LEFT + across.end) / 2, y=HEIGHT - 4, class_="mid"))
    return marks


def _curve(
    one: Series, across: Scale, up: Scale, form: Callable[[float], str], dots: bool
) -> list[Markup]:
    keep = thin(one.y)
    x, y = one.x[keep].tolist(), one.y[keep].tolist()
    finite = np.isfinite(one.y[keep])
    classes = "faint" if one.faint else style_classes(one.style)
    d, alone = "", []
    for part in np.split(np.arange(len(y)), np.flatnonzero(~finite)):
        part = part[finite[part]]
        if len(part) == 1:
            alone.append(part[0])
        elif len(part):
            d += line_path((across(x[i]), up(y[i])) for i in part)
    marks = [h("path", d=d, class_=f"line {classes}")] if d else []
    marked = np.flatnonzero(finite) if dots and not one.faint and len(y) <= 60 else alone
    for i in marked:
        tip = h("title", f"{one.name}, {x[i]:,.0f} pairs: {form(y[i])}")
        place = {"cx": across(x[i]), "cy": up(y[i])}
        marks.append(h("circle", tip, **place, r=2.6, class_=f"point {classes}"))
    return marks


def _summary(one: Series, form: Callable[[float], str]) -> list[str]:
    """First, lowest, highest and last value, each with its place."""
    x, y = one.finite()
    return [
        f"{form(float(y[i]))} ({x[i]:,.0f} pairs)"
        for i in (0, int(np.argmin(y)), int(np.argmax(y)), len(y) - 1)
    ]


def line_path(points: Iterable[Sequence[int | float]]) -> str:
    """A path of straight lines."""
    return "M" + "L".join(f"{to_a_tenth(x)} {to_a_tenth(y)}" for x, y in points)


def _box(
    class_: str, *place: int | float, inside: Markup | None = None, opacity: str | None = None
) -> Markup:
    """A rectangle; its place is x, y, width and height."""
    where = dict(zip(("x", "y", "width", "height"), place, strict=True))
    return h("rect", inside, **where, class_=class_, fill_opacity=opacity)


def figure(
    name: str,
    title: str,
    told: str,
    height: int,
    marks: object,
    *,
    caption: str | None = None,
    below: Markup | None = None,
) -> Markup:
    """A drawing with its caption (by default its title), and what it shows told in words."""
    drawing = h(
        "svg",
        h("title", title, id=f"{name}-title"),
        h("desc", told, id=f"{name}-desc"),
        marks,
        viewBox=f"0 0 {WIDTH} {height}",
        role="img",
        aria_labelledby=f"{name}-title {name}-desc",
    )
    return h("figure", h("figcaption", caption or title), drawing, below)
