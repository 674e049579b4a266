"""`lightxling quickstart`: a tiny encoder for five languages, from nothing but the package."""

import functools
import itertools
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from lightxling.base.files import write_bytes
from lightxling.base.streams import Lasting
from lightxling.config.files import load
from lightxling.config.schema import Config
from lightxling.config.settings import change
from lightxling.corpus import everyday
from lightxling.encode.encoder import Encoder

COMPOSED_SENTENCES = 12_000
"""Sentences composed from templates, beside the written ones."""

SHOWN_SENTENCES = 4
"""Held-out sentences whose neighbours are printed."""


def write_corpus(folder: Path) -> tuple[Config, list[everyday.Row], int]:
    """Writes the shipped corpus as one TSV per language pair.

    Returns:
      The quickstart recipe with these files as its corpus, the held-out rows, and the number of
      training rows.
    """
    composed = everyday.read_composed(COMPOSED_SENTENCES)
    rows, held_out = everyday.hold_out(everyday.read_sentences(), composed)
    sources: dict[str, list[str]] = {"train": [], "dev": []}
    for a, b in itertools.combinations(everyday.LANGUAGES, 2):
        for split, part in (("train", rows), ("dev", held_out)):
            path = folder / f"{split}.{a}-{b}.tsv"
            lines = ["\t".join(pair) + "\n" for pair in everyday.text_pairs(part, a, b)]
            # where it holds the same already, the store that was made of it serves
            write_bytes(path, "".join(lines).encode())
            sources[split].append(f"{a}-{b}={path}")
    recipe = change(
        load("quickstart"),
        corpus__sources=tuple(sources["train"]),
        corpus__dev=tuple(sources["dev"]),
    )
    return recipe, held_out, len(rows)


FIRST = {
    "Wo ist der Bahnhof?": "Where is the station?",
    "Vlak má hodinu zpoždění.": "The train is an hour late.",
    "Buzdolabı çalışmıyor.": "The fridge does not work.",
    "Jag har glömt mitt lösenord.": "I have forgotten my password.",
}
"""Sentences of four languages, and what is asked in English."""


def at_work(encoder: Encoder) -> Iterator[str]:
    """Lines that show the encoder of the package finding sentences."""
    yield f"The encoder in the package, for {len(encoder.languages)} languages:"
    found = encoder.similarity(encoder.encode(list(FIRST.values())), encoder.encode(list(FIRST)))
    for question, scores in zip(FIRST.values(), found, strict=True):
        best = int(scores.argmax())
        yield f"  {question:<30} -> {list(FIRST)[best]}  {scores[best]:.2f}"
    yield "\nNow a tiny one is trained from nothing, to see how that goes:"


def accuracy_table(vectors: dict[str, np.ndarray], texts: dict[str, list[str]]) -> Table:
    """P@1 in per cent from each language (row) to each other (column)."""
    from lightxling.evaluate.retrieval import precision_by_text

    candidates = len(next(iter(vectors.values())))
    table = Table(title=f"P@1 in per cent, {candidates} held-out candidates")
    table.add_column("from \\ to")
    for language in vectors:
        table.add_column(language, justify="right")
    for a in vectors:
        found = {
            b: 100 * precision_by_text(vectors[a], vectors[b], (texts[a], texts[b])).forward
            for b in vectors
            if a != b
        }
        table.add_row(a, *(f"{found[b]:.1f}" if b in found else "-" for b in vectors))
    return table


def neighbours(vectors: dict[str, np.ndarray], texts: dict[str, list[str]], rows: list[int]):
    """For each row, asked in another language each time: (question, its answers in the others)."""
    from lightxling.base.vectors import nearest

    for number, row in enumerate(rows):
        languages = list(vectors)
        asked = languages[number % len(languages)]
        question = f"{asked}: {texts[asked][row]}"
        answers = []
        for language in languages:
            if language != asked:
                score, best = nearest(vectors[asked][row : row + 1], vectors[language], k=1)
                mark = "=" if best[0, 0] == row else " "
                answers.append(
                    f"  {mark} {score[0, 0]:.2f}  {language}: {texts[language][best[0, 0]]}"
                )
        yield question, answers


def quickstart(workdir: Path, console: Console | None = None) -> None:
    """Trains, evaluates on held-out sentences, shows neighbours and says what to do next."""
    from lightxling.train.loop import train

    console = console or Console(file=Lasting(sys.stdout), highlight=False)
    say = functools.partial(console.print, markup=False, soft_wrap=True)
    for line in at_work(Encoder.load()):
        say(line)
    config, held_out, count = write_corpus(workdir / "corpus")
    say(
        f"{count:,} sentences in {', '.join(everyday.LANGUAGES)} to learn from; "
        f"{len(held_out)} of other wording held out"
    )
    config = change(config, corpus__store=str(workdir / "stores"))
    if train(config, workdir, console) is None:
        return

    encoder = Encoder.load(workdir)
    texts = {
        language: [row.texts[i] for row in held_out]
        for i, language in enumerate(everyday.LANGUAGES)
    }
    vectors = {language: encoder.encode(lines) for language, lines in texts.items()}
    console.print(accuracy_table(vectors, texts))
    say("\nNearest held-out sentence in the other languages (= is the translation):")
    step = max(len(held_out) // SHOWN_SENTENCES, 1)
    for question, answers in neighbours(
        vectors, texts, list(range(0, len(held_out), step))[:SHOWN_SENTENCES]
    ):
        say("\n" + "\n".join([question, *answers]))
    source = workdir / "corpus" / "held-out.txt"
    rows = [f"{code}\t{text}\n" for code, lines in texts.items() for text in lines]
    write_bytes(source, "".join(rows).encode())
    say(
        "\nNext:\n"
        f"  lightxling search {workdir} {source}   ask in one language, find in another\n"
        f"  lightxling export {workdir} --format safetensors   a file to ship\n"
        '  lightxling train --workdir runs/mine --corpus.sources "en-fr=mine.tsv"'
        "   go on from an encoder in the package, with your own sentence pairs"
    )
