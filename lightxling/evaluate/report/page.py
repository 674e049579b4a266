"""A report put together from its sections, of one run or of several, in the frame of a page."""

import string
from collections.abc import Iterable, Sequence
from pathlib import Path

from lightxling.base.files import PACKAGE, atomic
from lightxling.base.version import __version__
from lightxling.evaluate.report import about, curves, examples, scores
from lightxling.evaluate.report.markup import Markup, escape, h, join
from lightxling.evaluate.report.pieces import Shown


def write(output: Path, title: str, body: Markup) -> None:
    """Writes a page that any browser opens, without a network."""
    folder, colours = PACKAGE / "evaluate" / "report", PACKAGE / "palette.css"
    whole = string.Template((folder / "page.html").read_text("utf-8")).substitute(
        version=escape(__version__),
        title=escape(title),
        style=colours.read_text("utf-8") + (folder / "style.css").read_text("utf-8"),
        body=body,
    )
    with atomic(output) as temporary:
        temporary.write_text(whole, "utf-8")


def body(shown: Sequence[Shown], words: str) -> Markup:
    """Everything between <body> and </body>.

    Args:
      words: the command that made this page.
    """
    return _one(shown[0], words) if len(shown) == 1 else _several(shown, words)


def title(shown: Sequence[Shown]) -> str:
    names = [one.run.name for one in shown]
    return f"{names[0]}: a lightxling run" if len(names) == 1 else " / ".join(names)


# The page of one run, and of several


def _one(one: Shown, words: str) -> Markup:
    run = one.run
    parts = {
        "trained": ("What was trained on what", about.facts(run)),
        "curves": ("Losses and dev P@1", [curves.losses([one]), curves.dev([one], 3)]),
        "cost": ("Speed and memory", curves.costs([one])),
        "scores": ("Scores", scores.all_of(one, 3)),
        "sentences": ("Sentences", examples.section(one, 3)),
        "repeat": ("Repeat it", about.repeat(one.run)),
    }
    return join(
        h(
            "header",
            h("h1", run.name),
            h("p", about.in_a_sentence(run), class_="lead"),
            about.damage(run),
            about.tiles(run),
            _contents((name, heading) for name, (heading, _) in parts.items()),
        ),
        h(
            "main",
            [
                h("section", h("h2", heading, id=name), content, aria_labelledby=name)
                for name, (heading, content) in parts.items()
            ],
            id="main",
        ),
        _made_by(words),
    )


def _several(shown: Sequence[Shown], words: str) -> Markup:
    parts = {
        "compared": ("Side by side", [scores.side_by_side(shown), about.differing(shown)]),
        "curves": (
            "Losses and dev P@1",
            [curves.key(shown), curves.losses(shown), curves.dev(shown, 3)],
        ),
        "cost": ("Speed and memory", [curves.key(shown), curves.costs(shown)]),
        "scores": ("Scores", scores.headlines(shown)),
    }
    links = [(name, heading) for name, (heading, _) in parts.items()]
    links += [(one.id, f"{one.label} {one.run.name}") for one in shown]
    return join(
        h(
            "header",
            h("h1", f"{len(shown)} runs compared"),
            h(
                "ul",
                [
                    h(
                        "li",
                        h("b", f"{one.label} {one.run.name}"),
                        ": ",
                        about.in_a_sentence(one.run),
                    )
                    for one in shown
                ],
                role="list",
            ),
            [about.damage(one.run, f"{one.label} {one.run.name}: ") for one in shown],
            _contents(links),
        ),
        h(
            "main",
            [
                h("section", h("h2", heading, id=name), content, aria_labelledby=name)
                for name, (heading, content) in parts.items()
            ],
            [_folded(one) for one in shown],
            id="main",
        ),
        _made_by(words),
    )


def _folded(one: Shown) -> Markup:
    """All that is one run's own, on a page of several."""
    return h(
        "details",
        h("summary", h("h2", f"{one.label} {one.run.name}", id=one.id)),
        h("h3", "What was trained on what"),
        about.facts(one.run),
        h("h3", "Dev P@1 per language pair"),
        curves.pairs(one),
        h("h3", "All scores"),
        scores.all_of(one, 4),
        h("h3", "Sentences"),
        examples.section(one, 4),
        h("h3", "Repeat it"),
        about.repeat(one.run),
        class_="run",
    )


def _contents(links: Iterable[tuple[str, str]]) -> Markup:
    items = [h("li", h("a", text, href=f"#{name}")) for name, text in links]
    return h("nav", h("ul", items, role="list"), aria_label="Contents")


def _made_by(words: str) -> Markup:
    return h("footer", h("p", "Made by ", h("code", words), class_="note"))
