"""The largest difference between an encoder here and the same in another program.

    python tools/doors.py FOLDER --text dev.en-de.tsv.gz dev.en-ja.tsv.gz --sentences 500

A folder of sentence-transformers or model2vec is opened by that program and by `Encoder`; any other
encoder is exported, and each export is opened by the program that it is for. Differences are of a
component of a vector of length 1. Needs the extras export, sentence-transformers and tokenizers.
"""

import contextlib
import dataclasses
import gzip
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro

from lightxling.base.vectors import normalize
from lightxling.encode.encoder import Encoder
from lightxling.export.formats import write_format
from lightxling.export.quantize import quantize
from lightxling.saved.sentence_transformers import is_sentence_transformers


@dataclasses.dataclass(frozen=True)
class Settings:
    """What is compared.

    Attributes:
      model: a run, an export, or a folder of another program.
      text: tab-separated files (.gz too); every column counts.
      sentences: of every column of every file, the first ones.
    """

    model: Annotated[Path, tyro.conf.Positional]
    text: tuple[Path, ...]
    sentences: int = 500


def read_columns(path: Path, count: int) -> Iterator[list[str]]:
    with (gzip.open if path.suffix == ".gz" else open)(path, "rt", encoding="utf-8") as file:
        rows = [line.rstrip("\n").split("\t") for _, line in zip(range(count), file, strict=False)]
    yield from (list(column) for column in zip(*rows, strict=True))


def by_sentence_transformers(folder: Path, texts: list[str]) -> np.ndarray:
    from sentence_transformers import SentenceTransformer

    return SentenceTransformer(str(folder), device="cpu").encode(texts)


def by_model2vec(folder: Path, texts: list[str]) -> np.ndarray:
    import model2vec

    return model2vec.StaticModel.from_pretrained(folder, normalize=True).encode(texts)


def by_onnxruntime(folder: Path, texts: list[str]) -> np.ndarray:
    import onnxruntime
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    session = onnxruntime.InferenceSession(str(folder / "onnx" / "model.onnx"))
    vectors = []
    for text in texts:
        ids = np.array([tokenizer.encode(text).ids], np.int64)
        inputs = {"input_ids": ids, "attention_mask": np.ones_like(ids)}
        vectors.append(session.run(["sentence_embedding"], inputs)[0][0])
    return normalize(np.array(vectors))


OUT: dict[str, Callable[[Path, list[str]], np.ndarray]] = {
    "safetensors": lambda folder, texts: Encoder.load(folder).encode(texts),
    "sentence-transformers": by_sentence_transformers,
    "onnx": by_onnxruntime,
}


def main(settings: Settings) -> None:
    columns = [
        column for path in settings.text for column in read_columns(path, settings.sentences)
    ]
    texts = list(dict.fromkeys(text for column in columns for text in column))
    encoder = Encoder.load(settings.model)
    ours = encoder.encode(texts)
    print(f"{settings.model}: {len(texts):,} sentences")
    if is_sentence_transformers(settings.model):
        is_listed = (settings.model / "modules.json").is_file()
        other = by_sentence_transformers if is_listed else by_model2vec
        report("in", ours, other(settings.model, texts))
    for format, opened in OUT.items():
        with tempfile.TemporaryDirectory() as name:
            write_format(quantize(encoder.bundle, "float32"), Path(name), format)
            report(f"out, {format}", ours, opened(Path(name), texts))


def report(door: str, ours: np.ndarray, theirs: np.ndarray) -> None:
    apart = np.abs(ours - theirs).max(axis=1)
    print(f"{door:<26} largest difference {apart.max():.1e}; above 1e-5: {(apart > 1e-5).sum():,}")


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        main(tyro.cli(Settings, description=__doc__))
