"""P@1 of sentences as people paste them: the same text, disguised in ten ways.

    python tools/disguises.py FOLDER --languages de ar tr el zh
    python tools/disguises.py FOLDER --languages de --model runs/en-fr --through onnx

FOLDER holds development pairs, `dev.en-xx.tsv.gz`. The sentences of a language are disguised, and
searched among their English translations as these are. The table has P@1 in per cent.
"""

import dataclasses
import html.entities
import itertools
import re
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
from lightxling.corpus.readers import read_source
from lightxling.corpus.sources import Source
from lightxling.evaluate.retrieval import ranks
from lightxling.export.formats import write_format

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


def encode_with(model: Encoder, through: str, folder: Path) -> Callable[[list[str]], np.ndarray]:
    """Vectors of texts by the encoder itself, or by one of its exports in the program it is for."""
    if through == "Encoder":
        return model.encode
    write_format(model.bundle, folder, through)
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


@dataclasses.dataclass(frozen=True)
class Asked:
    """What is measured.

    Attributes:
      folder: of the development pairs.
      languages: their codes.
      model: a run or an export; by default the encoder that comes with the package.
      through: the program that encodes.
      pairs: of each language, at most.
    """

    folder: Annotated[Path, tyro.conf.Positional]
    languages: tuple[str, ...]
    model: Path | None = None
    through: Literal["Encoder", "sentence-transformers", "onnx"] = "Encoder"
    pairs: int = 1000


def main() -> None:
    asked = tyro.cli(Asked, description=__doc__)
    with tempfile.TemporaryDirectory() as folder:
        encode = encode_with(Encoder.load(asked.model), asked.through, Path(folder))
        columns = []
        for code in asked.languages:
            file = asked.folder / f"dev.en-{code}.tsv.gz"
            source = Source(("en", code), 1.0, str(file))
            pairs = list(itertools.islice(read_source(source, Problems()), asked.pairs))
            english, other = map(list, zip(*pairs, strict=True))
            candidates, scores = encode(english), []
            for disguise in DISGUISES.values():
                vectors = encode([disguise(text, code) for text in other])
                scores.append(100 * float(np.mean(ranks(vectors, candidates) == 1)))
            columns.append(scores)
            print(f"{code}: {len(pairs)} pairs", file=sys.stderr)
    print(f"| {asked.through} | {' | '.join(asked.languages)} |")
    print(f"| --- |{' ---: |' * len(asked.languages)}")
    for name, scores in zip(DISGUISES, zip(*columns, strict=True), strict=True):
        print(f"| {name} | {' | '.join(f'{score:.1f}' for score in scores)} |")


if __name__ == "__main__":
    main()
