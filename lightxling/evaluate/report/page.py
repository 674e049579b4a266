"""A report put together from its sections, of one run or of several, in the frame of a page."""

import string
from collections.abc import Mapping, Sequence
from pathlib import Path

from lightxling.base.files import PACKAGE, atomic
from lightxling.base.version import __version__
from lightxling.evaluate.report import about, curves, examples, scores
from lightxling.evaluate.report.markup import Markup, escape, h, join_markup
from lightxling.evaluate.report.pieces import Shown


def write_page(output: Path, title: str, body: Markup) -> None:
    """Writes a page that any browser opens, without a network."""
    folder, colours = PACKAGE / "evaluate" / "report", PACKAGE / "palette.css"
    whole = string.Template((folder / "page.html").read_text("utf-8")).substitute(
        version=escape(__version__),
        title=escape(title),
        style=colours.read_text("utf-8") + (folder / "style.css").read_text("utf-8"),
        body=body,
    )
    with atomic(output) as temporary:
        temporary.write_text(whole, "utf-8", newline="\n")


def title_of(shown: Sequence[Shown]) -> str:
    names = [one.run.name for one in shown]
    return f"{names[0]}: a lightxling run" if len(names) == 1 else " / ".join(names)


def body_of(shown: Sequence[Shown], words: str) -> Markup:
    """Everything between <body> and </body>.

    Args:
      words: the command that made this page.
    """
    if len(shown) > 1:
        header, sections, folded = _several(shown)
    else:
        header, sections, folded = *_one(shown[0]), []
    links = [(name, heading) for name, (heading, _) in sections.items()]
    links += [(one.id, one.full_name) for one in shown if folded]
    items = [h("li", h("a", text, href=f"#{name}")) for name, text in links]
    contents = h("nav", h("ul", items, role="list"), aria_label="Contents")
    drawn = [
        h("section", h("h2", heading, id=name), content, aria_labelledby=name)
        for name, (heading, content) in sections.items()
    ]
    made_by = h("p", "Made by ", h("code", words), class_="note")
    return join_markup(
        h("header", header, contents), h("main", drawn, folded, id="main"), h("footer", made_by)
    )


Sections = Mapping[str, tuple[str, object]]
"""Heading and content of every section, by its id."""


def _one(one: Shown) -> tuple[list[Markup | None], Sections]:
    run = one.run
    lead = h("p", about.in_a_sentence(run), class_="lead")
    header = [h("h1", run.name), about.result(run), lead, about.damage(run), about.tiles(run)]
    return header, {
        "trained": ("What was trained on what", about.facts(run)),
        "curves": ("Losses and dev P@1", [curves.losses([one]), curves.dev([one], 3)]),
        "cost": ("Speed and memory", curves.costs([one])),
        "scores": ("Scores", scores.all_of(one, 3)),
        "sentences": ("Sentences", examples.section(one, 3)),
        "next": ("What comes next", about.following(run)),
        "repeat": ("Repeat it", about.repeat(run)),
    }


def _several(shown: Sequence[Shown]) -> tuple[list[object], Sections, list[Markup]]:
    """Header, sections, and what is folded below them: all that is one run's own."""
    told = [
        h("li", h("b", one.full_name), ": ", about.in_a_sentence(one.run), about.result(one.run))
        for one in shown
    ]
    header = [
        h("h1", f"{len(shown)} runs compared"),
        h("ul", told, role="list"),
        [about.damage(one.run, f"{one.full_name}: ") for one in shown],
    ]
    key = curves.key(shown)
    drawn = [key, curves.losses(shown), curves.dev(shown, 3)]
    sections = {
        "compared": ("Side by side", [scores.side_by_side(shown), about.differing(shown)]),
        "curves": ("Losses and dev P@1", drawn),
        "cost": ("Speed and memory", [key, curves.costs(shown)]),
        "scores": ("Scores", scores.headlines(shown)),
    }
    folded = []
    for one in shown:
        parts = {
            "What was trained on what": about.facts(one.run),
            "Dev P@1 per language pair": curves.pairs_table(one),
            "All scores": scores.all_of(one, 4),
            "Sentences": examples.section(one, 4),
            "Repeat it": about.repeat(one.run),
        }
        own = [[h("h3", heading), content] for heading, content in parts.items()]
        summary = h("summary", h("h2", one.full_name, id=one.id))
        folded.append(h("details", summary, own, class_="run"))
    return header, sections, folded
