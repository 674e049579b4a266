"""The encoders in the package side by side: a table, and a picture of bytes against quality.

    python tools/family.py --retrieval dev.en-{de,fr,es,it}.tsv.gz --sts stsb.dev.*.tsv.gz \\
        --topics topics.*.tsv.gz --write docs/encoders.md

Every encoder is scored by `lightxling evaluate`, so give languages that all of them know; what is
kept in `evaluation/` is not computed again. In FILE the lines between `<!-- measured -->` and
`<!-- end -->` are replaced, and the picture is FILE with `.svg`.
"""

import argparse
import json
import statistics
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from box import rate

from lightxling.base.files import PACKAGE
from lightxling.encode.encoder import Encoder
from lightxling.evaluate.tasks.parallel import parallel, read_pairs
from lightxling.saved.cards import Card, cards

START, END = "<!-- measured -->\n", "<!-- end -->"
HEAD = """\
| encoder | MB | numbers | layers | width | P@1 | STS, en | within | across | topics | sentences/s |
| --- | ---: | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |
"""
WIDTH, HEIGHT, LEFT, BOTTOM = 640, 320, 56, 48


class Measured(NamedTuple):
    """An encoder, and its scores in per cent."""

    card: Card
    dtype: str
    p_at_1: float
    english: float
    within: float
    across: float
    topics: float
    rate: float


def scores(name: str, task: str, data: Sequence[str], key: str) -> dict[str, float]:
    """One score of every unit of a task."""
    command = [sys.executable, "-m", "lightxling", "evaluate", name, "--task", task, "--data"]
    subprocess.run([*command, *data], check=True, stdout=subprocess.DEVNULL)
    (kept,) = Path("evaluation", name).glob(f"{task}.*.json")
    results = json.loads(kept.read_text("utf-8"))["results"]
    return {unit: found["scores"][key] for unit, found in results.items() if "pooled" not in unit}


def measure(card: Card, arguments: argparse.Namespace, sample: list[str]) -> Measured:
    """All scores of an encoder."""
    found = scores(card.name, "retrieval", arguments.retrieval, "accuracy")
    sts = scores(card.name, "sts", arguments.sts, "spearman")
    own = {unit: value for unit, value in sts.items() if len(set(unit.split("-"))) == 1}
    topics = scores(card.name, "classification", arguments.topics, "accuracy")
    encoder = Encoder.load(card.folder)
    return Measured(
        card,
        encoder.bundle.dtype,
        statistics.mean(found.values()),
        own.pop("en-en"),
        statistics.mean(own.values()),
        statistics.mean(value for unit, value in sts.items() if unit not in (*own, "en-en")),
        statistics.mean(topics.values()),
        rate(encoder, sample, arguments.passes),
    )


def row(one: Measured) -> str:
    card, width = one.card, Encoder.load(one.card.folder).bundle.config.width
    numbers = (one.p_at_1, one.english, one.within, one.across, one.topics)
    return (
        f"| `{card.name}` | {card.nbytes / 1e6:.1f} | {one.dtype} | {card.layers} | {width} | "
        + " | ".join(f"{number:.1f}" for number in numbers)
        + f" | {one.rate:,.0f} |\n"
    )


def picture(found: Sequence[Measured]) -> str:
    """Megabytes to the right, P@1 upwards, a dot for every encoder."""
    most = 2 * int(np.ceil(max(one.card.nbytes for one in found) / 2e6))
    low = 5 * int(min(one.p_at_1 for one in found) // 5)
    marks = []

    def across(megabytes: float) -> float:
        return LEFT + megabytes / most * (WIDTH - LEFT - 90)

    def up(score: float) -> float:
        return HEIGHT - BOTTOM - (score - low) / (100 - low) * (HEIGHT - BOTTOM - 16)

    for megabytes in range(0, most + 1, 2):
        x = across(megabytes)
        marks.append(f'<text x="{x:.0f}" y="{HEIGHT - 28}" text-anchor="middle">{megabytes}</text>')
    for score in range(low, 101, 5):
        y = up(score)
        marks.append(f'<line x1="{LEFT}" x2="{across(most):.0f}" y1="{y:.0f}" y2="{y:.0f}"/>')
        marks.append(f'<text x="{LEFT - 8}" y="{y + 4:.0f}" text-anchor="end">{score}</text>')
    for one in found:
        x, y = across(one.card.nbytes / 1e6), up(one.p_at_1)
        marks.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="5"/>')
        marks.append(f'<text class="name" x="{x + 9:.1f}" y="{y + 4:.1f}">{one.card.name}</text>')
    palette = (PACKAGE / "palette.css").read_text("utf-8")
    about = "Bytes against quality: " + "; ".join(
        f"{one.card.name} {one.card.nbytes / 1e6:.1f} MB, P@1 {one.p_at_1:.1f}" for one in found
    )
    style = (
        "text { font: 13px system-ui, sans-serif; fill: var(--muted) } "
        "line { stroke: var(--line) } circle { fill: var(--s0) } .name { fill: var(--text) }"
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-label="{about}">\n<style>{palette}{style}</style>\n'
        f'<rect width="{WIDTH}" height="{HEIGHT}" style="fill: var(--back)"/>\n'
        + "\n".join(marks)
        + f'\n<text x="{across(most / 2):.0f}" y="{HEIGHT - 8}" text-anchor="middle">megabytes'
        f'</text>\n<text x="{LEFT + 4}" y="34">P@1</text>\n</svg>\n'
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name in ("retrieval", "sts", "topics"):
        parser.add_argument(f"--{name}", nargs="+", required=True, metavar="FILE")
    parser.add_argument("--passes", type=int, default=5, help="to measure the speed")
    parser.add_argument("--write", type=Path, required=True, metavar="FILE")
    arguments = parser.parse_args()
    read = [read_pairs(source) for _, source in parallel(arguments.retrieval)]
    sample = [text for sides in read for side in sides for text in side[:500]]
    found = [measure(card, arguments, sample) for card in cards()]
    found.sort(key=lambda one: one.card.nbytes)
    table = HEAD + "".join(map(row, found))
    print(table)
    page = arguments.write.read_text("utf-8")
    before, _, rest = page.partition(START)
    after = rest.partition(END)[2]
    arguments.write.write_text(f"{before}{START}{table}{END}{after}", "utf-8", newline="\n")
    arguments.write.with_suffix(".svg").write_text(picture(found), "utf-8", newline="\n")


if __name__ == "__main__":
    main()
