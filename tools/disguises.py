"""P@1 of sentences as people paste them: the same text, disguised in ten ways.

    python tools/disguises.py FOLDER --languages de ar tr el zh th --model static
    python tools/disguises.py FOLDER --languages de --model runs/en-fr --through evaluate onnx

FOLDER holds development pairs, `dev.en-xx.tsv.gz`. The sentences of a language are disguised, and
searched among their English translations as these are. There is a table for each program that
encodes, with P@1 in per cent, and below it how far from the plain sentences the disguised ones are.
A tie misses; the command `evaluate` takes one between equal texts for right. Its files have a
sentence a line, so there CRLF only ends it.
"""

import dataclasses
import html.entities
import itertools
import json
import re
import subprocess
import sys
import tempfile
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import tyro

from lightxling import Encoder
from lightxling.base.lines import Problems
from lightxling.base.places import DEFAULT
from lightxling.corpus.readers import read_source
from lightxling.corpus.sources import Source
from lightxling.evaluate.retrieval import ranks
from lightxling.export import export
from lightxling.export.settings import ExportSettings

Pairs = dict[str, tuple[list[str], list[str]]]
"""English sentences and their translations, by language."""
Scores = dict[tuple[str, str], float]
"""By disguise and language."""

_WIDE = {code: code + 0xFEE0 for code in range(0x21, 0x7F)}
_INSIDE = re.compile(r"(\w{4})(?=\w{2})")

DISGUISES: dict[str, Callable[[str, str], str]] = {
    "as it is": lambda text, code: text,
    "soft hyphens in words": lambda text, code: _INSIDE.sub("\\1\u00ad", text),
    "zero-width spaces in words": lambda text, code: _INSIDE.sub("\\1\u200b", text),
    "word joiners in words": lambda text, code: _INSIDE.sub("\\1\u2060", text),
    "bidirectional marks around": lambda text, code: f"\u202b\u2067{text}\u2069\u202c\u200e",
    "entities of HTML": lambda text, code: "".join(map(_entity, text)),
    "full-width signs": lambda text, code: text.translate(_WIDE),
    "capitals": lambda text, code: capitals(text, code),
    "decomposed (NFD)": lambda text, code: unicodedata.normalize("NFD", text),
    "no-break spaces": lambda text, code: text.replace(" ", "\u00a0"),
    "CRLF in the middle and at the end": lambda text, code: _broken(text) + "\r\n",
}


def capitals(text: str, code: str) -> str:
    """The sentence in capitals, as its language writes them."""
    return (text.replace("i", "\u0130") if code in ("tr", "az") else text).upper()


def _entity(char: str) -> str:
    name = "#39" if char == "'" else html.entities.codepoint2name.get(ord(char))
    return f"&{name};" if name else char


def _broken(text: str) -> str:
    words = text.split(" ")
    half = len(words) // 2
    return "\r\n".join([" ".join(words[:half]), " ".join(words[half:])]) if half else text


def encode_with(model: str, through: str, folder: Path) -> Callable[[list[str]], np.ndarray]:
    """Vectors of texts by the encoder itself, or by one of its exports in the program it is for."""
    if through == "Encoder":
        return Encoder.load(model).encode
    folder = folder / through
    export(ExportSettings(model, format=through, output=folder))
    if through == "sentence-transformers":
        from sentence_transformers import SentenceTransformer

        return SentenceTransformer(str(folder)).encode
    import onnxruntime
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.enable_padding(pad_id=0)
    (file,) = (folder / "onnx").iterdir()
    session = onnxruntime.InferenceSession(file)

    def encode(texts: list[str]) -> np.ndarray:
        vectors = []
        for start in range(0, len(texts), 64):
            tokens = tokenizer.encode_batch(texts[start : start + 64])
            inputs = {
                "input_ids": np.array([text.ids for text in tokens], np.int64),
                "attention_mask": np.array([text.attention_mask for text in tokens], np.int64),
            }
            vectors.append(session.run(["sentence_embedding"], inputs)[0])
        return np.concatenate(vectors)

    return encode


def by_vectors(encode: Callable[[list[str]], np.ndarray], pairs: Pairs) -> Scores:
    """P@1 of every disguise and language."""
    scores = {}
    for code, (english, other) in pairs.items():
        candidates = encode(english)
        for name, disguise in DISGUISES.items():
            vectors = encode([disguise(text, code) for text in other])
            scores[name, code] = 100 * float(np.mean(ranks(vectors, candidates) == 1))
    return scores


def by_evaluate(model: str, pairs: Pairs, folder: Path) -> Scores:
    """P@1 of every disguise and language as the command `evaluate` prints it of files."""
    names = {f"disguise{i}": name for i, name in enumerate(DISGUISES)}
    for file, name in names.items():
        for code, sides in pairs.items():
            lines = []
            for english, other in zip(*sides, strict=True):
                text = DISGUISES[name](other, code)
                end = "\r\n" if text.endswith("\r\n") else "\n"
                text = text.removesuffix(end).replace("\r\n", " ")
                lines.append(f"{english}\t{text}{end}")
            path = folder / f"{file}.en-{code}.tsv"
            path.write_text("".join(lines), "utf-8", newline="")
    command = [sys.executable, "-m", "lightxling", "evaluate", model, "--task", "retrieval"]
    results = folder / "results"
    command += ["--data", *map(str, folder.glob("*.tsv")), "--output", str(results)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    found = [json.loads(file.read_text("utf-8")) for file in results.glob("*.json")]
    return {
        (names[one["dataset"]], pair.removeprefix("en-")): result["scores"]["backward"]
        for one in found
        for pair, result in one["results"].items()
    }


@dataclasses.dataclass(frozen=True)
class Asked:
    """What is measured.

    Attributes:
      folder: of the development pairs.
      languages: their codes.
      model: a run, an export or an encoder of the package; by default the one that is used where
        none is named.
      through: the programs that encode.
      pairs: of each language, at most.
    """

    folder: Annotated[Path, tyro.conf.Positional]
    languages: tuple[str, ...]
    model: str = DEFAULT
    through: tuple[Literal["Encoder", "evaluate", "sentence-transformers", "onnx"], ...] = (
        "Encoder",
    )
    pairs: int = 1000


def read_pairs(asked: Asked) -> Pairs:
    """The first development pairs of every language."""
    pairs = {}
    for code in asked.languages:
        source = Source(("en", code), 1.0, str(asked.folder / f"dev.en-{code}.tsv.gz"))
        rows = list(itertools.islice(read_source(source, Problems()), asked.pairs))
        english, other = map(list, zip(*rows, strict=True))
        pairs[code] = english, other
    return pairs


def main() -> None:
    asked = tyro.cli(Asked, description=__doc__)
    pairs = read_pairs(asked)
    first = next(iter(DISGUISES))
    print(f"pairs: {', '.join(f'{code} {len(sides[0]):,}' for code, sides in pairs.items())}")
    for through in asked.through:
        with tempfile.TemporaryDirectory() as text:
            if through == "evaluate":
                scores = by_evaluate(asked.model, pairs, Path(text))
            else:
                scores = by_vectors(encode_with(asked.model, through, Path(text)), pairs)
        print(f"\n| {through} | {' | '.join(pairs)} |")
        print(f"| --- |{' ---: |' * len(pairs)}")
        for name in DISGUISES:
            print(f"| {name} | {' | '.join(f'{scores[name, code]:.1f}' for code in pairs)} |")
        far = {key: abs(score - scores[first, key[1]]) for key, score in scores.items()}
        worst = max(far, key=far.__getitem__)
        print(f"\nfarthest from plain: {far[worst]:.2f} ({', '.join(worst)})", flush=True)


if __name__ == "__main__":
    main()
