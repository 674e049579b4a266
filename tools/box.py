"""Puts a trained encoder into the package: its int4 export, and the card with its scores.

    python tools/box.py runs/boxed --dev "en-de=dev.en-de.tsv.gz" "en-fr=dev.en-fr.tsv.gz"
    python tools/box.py runs/static --name static --dev ...

The name is that of the folder in the package, and what commands call the encoder.
Every dev set is retrieved from in both directions, with the run's float32 parameters and with what
is shipped. Nothing is replaced if the export is larger than 10 MB.
"""

import shutil
import tempfile
import textwrap
import time
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import numpy as np
import piece_use
import tyro

from lightxling.base.files import PACKAGE, atomic
from lightxling.base.lines import Problems
from lightxling.base.places import DEFAULT, packaged
from lightxling.config.files import load
from lightxling.corpus.readers import read_source
from lightxling.corpus.sources import Source
from lightxling.encode.encoder import Encoder
from lightxling.evaluate import compare
from lightxling.evaluate.report.repeat import command
from lightxling.evaluate.report.runs import TrainedRun, read_trained
from lightxling.evaluate.retrieval import precision_at_1
from lightxling.export import export
from lightxling.export.quantize import Dtype
from lightxling.export.settings import ExportSettings

LARGEST = 10_000_000
"""Bytes."""

CORPORA = {
    "tatoeba-anki": ("CC BY 2.0 FR", "tatoeba.org, as packed by manythings.org/anki"),
    "tatoeba-packed": ("CC BY 2.0 FR", "the same, packs of further languages and years"),
    "tatoeba": ("CC BY 2.0 FR", "tatoeba.org, the test sets of the Tatoeba Challenge"),
    "tatoeba-pivot": ("CC BY 2.0 FR", "the same, joined to English through a third language"),
    "xed": ("CC BY 4.0", "github.com/Helsinki-NLP/XED, film subtitles"),
    "tldr": ("CC BY 4.0", "github.com/tldr-pages/tldr, descriptions of commands"),
    "homeassistant": ("Apache-2.0", "home-assistant.io, translations of the interface"),
    "tico19": ("CC0 1.0", "TICO-19, texts about COVID-19"),
    "massive": (
        "CC BY 4.0",
        "MASSIVE 1.0 (train, dev), utterances to a voice assistant, from SLURP",
    ),
    "chromium": ("BSD-3-Clause", "Chromium, texts of the interface"),
    "android": ("Apache-2.0", "Android 11 and apps of AOSP; a little of LineageOS"),
    "androidapps": ("Apache-2.0", "Wikipedia, Commons, Element, K-9 Mail, microG for Android"),
    "androidapps2": (
        "Apache-2.0, BSD-3-Clause",
        "DuckDuckGo, Corona-Warn-App, ODK Collect, DHIS2, Exposure Notifications",
    ),
    "element": ("Apache-2.0", "matrix-react-sdk before its change to AGPL, a chat client"),
    "webapps": (
        "Apache-2.0, MIT",
        "Mattermost, Zulip, Rocket.Chat, Excalidraw, Actual, Jenkins, Kolibri, bitcoin.org",
    ),
    "pydocs": ("PSF-2.0, CC0 1.0", "documentation of Python and its translations"),
    "tfdocs": ("Apache-2.0", "documentation of TensorFlow and its translations"),
    "qtapps": ("BSD-3-Clause", "Mumble, Monero GUI"),
    "foodmaps": ("Apache-2.0, ISC", "Open Food Facts, the iD editor of OpenStreetMap"),
    "scratch": ("BSD-3-Clause", "scratch-l10n before its change to AGPL"),
    "osguide": ("CC BY 4.0", "opensource.guide, Contributor Covenant"),
}
"""What the box may be made from: licence and origin, by the first part of the file's name."""

CARD = """\
# The encoder `{name}`

{intro}

## Scores

P@1 in per cent of retrieving a translation among all of a development set, English to the language
and back, with the float32 parameters of the run and with the {dtype} ones that are shipped. The
sentences were set aside by content; they are from the same sources as the training text, and of
others that it had none of (interfaces, manuals, games). Mean: {mean_run:.1f} before, **{mean:.1f}**
in the box. It encodes {rate:,.0f} sentences a second on two CPU cores (median of {passes} passes
over {count:,} dev sentences).

| language | training pairs | candidates | float32 en→xx | xx→en | {dtype} en→xx | xx→en |
| --- | ---: | ---: | ---: | ---: | ---: | ---: |
{scores}

## What it is bad at

- It has read sentences of seven words on average: everyday phrases, commands, settings. Paragraphs,
  literature, law and medicine are foreign to it; more than {max_length} tokens are cut off.
- Languages with few training pairs (see the table) are weak, and languages that are not in the
  table are guesses.
- A high cosine means "may be a translation". Negation, names and numbers weigh little in it.
- The subtitles contain slang, swearing and the prejudices of films.

## Data

| corpus | pairs | licence | origin |
| --- | ---: | --- | --- |
{corpora}

Attribution-only or freer corpora and nothing else; no other model's vectors or weights. The
sentences of Tatoeba are CC BY 2.0 FR.{remarks}

## How it was made

{pairs:,} pairs were seen in {hours:.1f} hours on a CPU, with seed {seed}. The recipe is
`configs/{recipe}.py`; every run has the files above as `--corpus.sources
"en-de=data/tatoeba.en-de.tsv.gz" ...` and `--corpus.dev "en-de=dev.en-de.tsv.gz" ...`, too:

```
{commands}
python tools/box.py runs/{last} --name {name} --dev "en-de=dev.en-de.tsv.gz" ...
```

## Licence

Apache-2.0, as the program. Who redistributes the encoder credits the corpora above.
"""


REMARKS = {
    "tatoeba": """ The Tatoeba Challenge, from whose test sets `tatoeba` and
`tatoeba-pivot` are taken, states CC BY-NC-SA 4.0 for its compiled releases. The Tatoeba Challenge's
test sets are in the training data: do not report that benchmark for it.""",
    "massive": """ MASSIVE is in
the training data: do not report MassiveIntent and MassiveScenario as zero-shot for it.""",
}
"""What is said where a corpus was read."""

USE = {
    DEFAULT: "`Encoder.load()` without a path, and `lightxling` commands without a MODEL "
    "(`encode`, `search`, `mine`, `evaluate`, `export`, `serve`), use this encoder"
}


def introduction(name: str, run: Encoder, size: int, dtype: str) -> str:
    """How the encoder is called, and how large it is."""
    use = USE.get(name, f"`Encoder.load({name!r})`, and `lightxling` commands with {name} as MODEL")
    config, millions = run.bundle.config, sum(p.size for p in run.bundle.params.values()) / 1e6
    layers = f"{config.layers} layers" if config.layers else "no layers, a table"
    text = (
        f"{use}: {len(run.languages)} languages, {millions:.1f} million parameters, {layers} of "
        f"width {config.width}, {run.tokenizer.vocab_size:,} pieces, vectors of {run.dimension} "
        f"dimensions, {size / 1e6:.1f} MB in {dtype}."
    )
    return textwrap.fill(text, 100, break_on_hyphens=False)


def read_dev(text: str) -> tuple[str, list[list[str]]]:
    """Name of the language beside English, and the two sides."""
    source = Source.parse(text)
    sides = list(zip(*(row[:2] for row in read_source(source, Problems())), strict=True))
    return source.languages[1], [list(side) for side in sides]


def accuracy(encoder: Encoder, sides: list[list[str]]) -> tuple[float, float]:
    """P@1 in per cent, forward and backward."""
    found = precision_at_1(*(encoder.encode(side) for side in sides))
    return 100 * found.forward, 100 * found.backward


def rate(encoder: Encoder, sentences: list[str], passes: int) -> float:
    """Sentences a second, the median of several passes."""
    times = []
    for _ in range(passes):
        start = time.perf_counter()
        encoder.encode(sentences)
        times.append(time.perf_counter() - start)
    return len(sentences) / float(np.median(times))


def count_pairs(sources: list[str]) -> tuple[dict[str, int], dict[str, int]]:
    """Training pairs by corpus and by language.

    Raises:
      SystemExit: a source is none of `CORPORA`.
    """
    by_corpus, by_language = dict.fromkeys(CORPORA, 0), {}
    for text in sources:
        source = Source.parse(text)
        corpus = Path(source.path).name.split(".")[0]
        if corpus not in CORPORA:
            raise SystemExit(f"{text}: the box is made from {', '.join(CORPORA)} only")
        count = sum(1 for _ in read_source(source, Problems()))
        by_corpus[corpus] += count
        by_language[source.languages[1]] = by_language.get(source.languages[1], 0) + count
    return by_corpus, by_language


def stages(run: Path) -> list[TrainedRun]:
    """The runs that led to it, each started from the one before; `run` is the last.

    Raises:
      SystemExit: one of them has other corpora, which the card would not name.
    """
    found = [read_trained(run)]
    while before := found[0].config.train.init_from:
        found.insert(0, read_trained(Path(before)))
        if corpora(found[0]) != corpora(found[1]):
            raise SystemExit(f"{before} was trained on other corpora than the run started from it")
    return found


def corpora(run: TrainedRun) -> set[str]:
    """Names of its files."""
    return {Path(Source.parse(text).path).name for text in run.config.corpus.sources}


def command_of(run: TrainedRun) -> str:
    """As it was typed, without the corpora, which all have in common."""
    before = Path(run.config.train.init_from).name
    settings = replace(
        run.config,
        corpus=load(run.config.name).corpus,
        train=replace(run.config.train, init_from=f"runs/{before}" if before else ""),
    )
    return command(settings, f"runs/{run.name}")


def place_of(name: str) -> Path:
    """The folder of an encoder in the package.

    Raises:
      SystemExit: it is no name, or code lies in that folder.
    """
    place = PACKAGE / name
    if Path(name).name != name or not name or (place.exists() and name not in packaged()):
        raise SystemExit(f"--name {name!r} is not free: {', '.join(packaged())} may be made again")
    return place


def main(
    run: Annotated[Path, tyro.conf.Positional],
    dev: tuple[str, ...],
    name: str = "boxed",
    passes: int = 5,
    dtype: Dtype = "int4",
) -> None:
    """Parsed by tyro.

    Args:
      run: the trained run.
      dev: one development set a language, `en-de=PATH`.
      name: of the encoder and its folder in the package.
      passes: over a sample of the dev sentences, to measure the speed.
      dtype: number format of what is shipped.
    """
    place = place_of(name)
    runs = stages(run)
    costs = [compare.summary(stage).values for stage in runs]
    config = runs[-1].config
    by_corpus, by_language = count_pairs(config.corpus.sources)
    with tempfile.TemporaryDirectory() as folder:
        made = export(ExportSettings(run, Path(folder) / name, dtype=dtype))
        if made.after > LARGEST:
            raise SystemExit(
                f"{made.after:,} bytes are more than {LARGEST:,}; nothing was replaced"
            )
        sets = dict(map(read_dev, dev))
        parent, boxed = Encoder.load(run), Encoder.load(made.folder)
        scores = {
            language: (*accuracy(parent, sides), *accuracy(boxed, sides))
            for language, sides in sets.items()
        }
        sentences = [text for sides in sets.values() for side in sides for text in side[:100]]
        speed = rate(boxed, sentences, passes)
        shutil.rmtree(place, ignore_errors=True)
        shutil.copytree(made.folder, place)
    piece_use.write(place, config.corpus.sources, limit=20_000, least=2)
    means = np.mean(list(scores.values()), axis=0)
    rows = [
        f"| {language} | {by_language[language]:,} | {len(sets[language][0]):,} | "
        + " | ".join(f"{value:.1f}" for value in values)
        + " |"
        for language, values in sorted(scores.items(), key=lambda item: -by_language[item[0]])
    ]
    read = [corpus for corpus, count in by_corpus.items() if count]
    card = CARD.format(
        name=name,
        dtype=dtype,
        recipe=config.name,
        intro=introduction(name, parent, made.after, dtype),
        remarks="".join(text for corpus, text in REMARKS.items() if corpus in read),
        mean_run=means[:2].mean(),
        mean=means[2:].mean(),
        rate=speed,
        passes=passes,
        count=len(sentences),
        scores="\n".join(rows),
        max_length=parent.max_length,
        corpora="\n".join(
            f"| {corpus} | {by_corpus[corpus]:,} | {' | '.join(CORPORA[corpus])} |"
            for corpus in read
        ),
        pairs=round(sum(cost["training pairs"] for cost in costs)),
        hours=sum(cost["training hours"] for cost in costs),
        seed=config.train.seed,
        commands="\n".join(map(command_of, runs)),
        last=runs[-1].name,
    )
    with atomic(place / "README.md") as path:
        path.write_text(card, "utf-8", newline="\n")
    print(card)


if __name__ == "__main__":
    tyro.cli(main, description=__doc__)
