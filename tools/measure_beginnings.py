"""What so much text is worth: from an encoder in the package, and from nothing.

    python tools/measure_beginnings.py DATA --workdir FOLDER [--rows 1k/package ...] [--seeds 0 1]

DATA has `CORPUS.en-xx.tsv.gz`. Two thousand pairs a language of the texts of programs are set aside
by a hash of the English sentence, half as development set and half as test; no sentence of theirs
is trained on, in any row. Rows of 1,000 to 60,000 pairs are drawn from the rest of these texts,
which the encoders in the package have not read; those of 300,000 and a million are all corpora.
Every row is `lightxling train` and `lightxling evaluate`, and is written to results.tsv at once:
P@1 of the test in per cent, the mean of both directions and of the languages.
"""

import argparse
import gzip
import hashlib
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

PROGRAMS = ("debapps", "debian", "gnomedocs", "libreoffice", "mozilla", "wordpress")
CORPORA = (
    *PROGRAMS,
    *("cataclysm", "freeciv", "homeassistant", "mediawiki", "tatoeba", "tatoeba-anki"),
    *("tatoeba-pivot", "tico19", "tldr", "wesnoth", "xed"),
)
HELD_OUT = 2000
SIZES = {"1k": 1_000, "10k": 10_000, "60k": 60_000, "300k": None, "1M": None}
WAYS = {
    "package": [],
    "scratch": ["--from-scratch", "True"],
    "static": [],  # the recipe static, from nothing
}
# of from nothing with the recipe static: pieces there are enough text for, pairs seen
PIECES = {"1k": 2_000, "10k": 8_000, "60k": 16_000, "300k": 32_000, "1M": 48_000}
SEEN = {"1k": 40_000, "10k": 200_000, "60k": 720_000, "300k": 1_200_000, "1M": 2_000_000}


def read(data: Path, corpora: tuple[str, ...], language: str) -> list[str]:
    """The rows of these corpora, those of all together drawn in an order of their hash."""
    rows = set()
    for name in corpora:
        path = data / f"{name}.en-{language}.tsv.gz"
        if path.exists():
            rows.update(gzip.decompress(path.read_bytes()).decode().splitlines())
    return sorted(rows, key=lambda row: hashlib.sha256(row.encode()).digest())


def held_out(data: Path, language: str) -> list[str]:
    """Rows with at least four English words, every sentence once."""
    found, seen = [], set()
    for row in read(data, PROGRAMS, language):
        english, other = row.split("\t")
        if len(english.split()) >= 4 and not {english.lower(), other.lower()} & seen:
            seen |= {english.lower(), other.lower()}
            found.append(row)
        if len(found) == HELD_OUT:
            return found
    raise SystemExit(f"{data} has no {HELD_OUT} pairs of programs in {language}")


def write_texts(data: Path, folder: Path, size: str, seed: int) -> dict[str, list[str]]:
    """The files of one row: training text, and dev and test of every language."""
    languages = ["de", "fr", "es", "it"] if size == "1M" else ["de"]
    files = {"train": [], "dev": [], "test": []}
    for language in languages:
        aside = held_out(data, language)
        theirs = {side.lower() for row in aside for side in row.split("\t")}
        corpora = PROGRAMS if SIZES[size] else CORPORA
        rows = [
            row
            for row in read(data, corpora, language)
            if not theirs & {side.lower() for side in row.split("\t")}
        ]
        order = np.random.default_rng(seed).permutation(len(rows))[: SIZES[size]]
        parts = {"train": [rows[i] for i in order], "dev": aside[::2], "test": aside[1::2]}
        for part, lines in parts.items():
            name = f"{part}-{size}-{seed}" if part == "train" else part
            path = folder / f"{name}.en-{language}.tsv"
            path.write_text("\n".join(lines) + "\n", "utf-8")
            files[part].append(f"en-{language}={path}")
    return files


def command(size: str, way: str, files: dict[str, list[str]], workdir: Path, seed: int) -> list:
    """What is typed to train a row."""
    given = ["static"] if way == "static" else []
    given += ["--workdir", workdir, *WAYS[way]]
    given += ["--corpus.sources", *files["train"], "--corpus.dev", *files["dev"]]
    given += ["--train.seed", seed]
    if way == "static":
        steps = SEEN[size] // 512
        given += ["--tokenizer.vocab-size", PIECES[size], "--train.pairs", SEEN[size]]
        given += ["--train.batch-size", 512, "--train.dev-every", max(steps // 10, 1)]
        given += ["--train.checkpoint-every", max(steps // 2, 1), "--corpus.dev-limit", 2000]
    return ["train", *map(str, given)]


def measured(model: Path | str, files: list[str], folder: Path) -> float:
    """P@1 of the test, from the results that `evaluate` leaves."""
    given = ["evaluate", str(model), "--task", "retrieval", "--data", *files]
    lightxling([*given, "--output", str(folder), "--again", "True"])
    (result,) = folder.glob("retrieval*.json")
    units = json.loads(result.read_text("utf-8"))["results"].values()
    return float(np.mean([unit["scores"]["accuracy"] for unit in units]))


def lightxling(arguments: list[str]) -> None:
    print("$ lightxling", *arguments, flush=True)
    subprocess.run([sys.executable, "-m", "lightxling", *arguments], check=True)


def rows(names: list[str]) -> Iterator[tuple[str, str]]:
    for name in names or [f"{size}/{way}" for size in SIZES for way in WAYS]:
        size, _, way = name.partition("/")
        yield size, way


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--workdir", type=Path, required=True)
    parser.add_argument("--rows", nargs="*", default=[])
    parser.add_argument("--seeds", nargs="*", type=int, default=[0, 1])
    parser.add_argument("--options", default="", help="further options of train, in one string")
    asked = parser.parse_args()
    asked.workdir.mkdir(parents=True, exist_ok=True)
    table = asked.workdir / "results.tsv"
    for size, way in rows(asked.rows):
        for seed in asked.seeds:
            files = write_texts(asked.data, asked.workdir, size, seed)
            name = f"{size}-{way}-{seed}" + asked.options.replace(" ", "_")
            begun, workdir = time.monotonic(), asked.workdir / name
            if way in WAYS:
                lightxling(command(size, way, files, workdir, seed) + asked.options.split())
            else:  # the name of an encoder in the package, as it is
                workdir = Path(way.removesuffix("-untouched"))
            seconds = time.monotonic() - begun
            score = measured(workdir, files["test"], asked.workdir / "scores" / name)
            with table.open("a", encoding="utf-8") as out:
                out.write(f"{size}\t{way}\t{seed}\t{asked.options}\t{seconds:.0f}\t{score:.2f}\n")


if __name__ == "__main__":
    main()
