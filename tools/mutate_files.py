"""Damages files of ours at random places, again and again: is that noticed?

    python tools/mutate_files.py
    python tools/mutate_files.py --mutations 1000 --kinds export adapter

Of a folder as a command wrote it, one file is damaged: bits flipped, a stretch set to zero, its end
cut off, two stretches exchanged, bytes put in, or the whole replaced by bytes at random. Then it is
opened as a command opens it. It may be refused in one message, made again, or give what the whole
one gives, where the damage does not count (white space of a description, a score). Anything else is
wrong: other vectors or rows, an error that is no message, or more than ten seconds. With anything
wrong the exit code is 1.
"""

import argparse
import collections
import contextlib
import dataclasses
import io
import random
import shutil
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
TEXTS = ["the cat", "le chat", "der hund ist im haus", "猫"]
SLOW = 10.0
"""Seconds."""


@dataclasses.dataclass(frozen=True)
class Kind:
    """
    Attributes:
      make: writes the files into an empty folder.
      look: opens them, and gives what must be the same.
      again: whether what is damaged is made again where it is opened.
    """

    make: Callable[[Path], Any]
    look: Callable[[Path], bytes]
    again: bool = False


def write_export(folder: Path) -> None:
    from export_samples import bundle

    from lightxling.saved.bundle import write_bundle

    write_bundle(bundle(), folder)


def vectors_of(folder: Path) -> bytes:
    from lightxling.encode.encoder import Encoder

    return Encoder.load(folder).encode(TEXTS, normalize=False).tobytes()


def write_adapter(folder: Path) -> None:
    from export_samples import bundle

    from lightxling.config.schema import AdapterConfig
    from lightxling.saved import adapters

    one = bundle(adapters=(AdapterConfig(name="de", rank=2),))
    adapters.write_adapter(one, "de", folder / "de.safetensors")


def adapted(folder: Path) -> bytes:
    from export_samples import bundle

    from lightxling.encode.encoder import Encoder
    from lightxling.saved.adapters import read_adapter

    one = read_adapter(bundle(), folder / "de.safetensors")
    return Encoder(one).encode(TEXTS, normalize=False).tobytes()


def write_index(folder: Path) -> None:
    (folder.parent / "lines.txt").write_text("\n".join(TEXTS) + "\n")
    found(folder)


def found(folder: Path) -> bytes:
    from export_samples import bundle

    from lightxling.encode.encoder import Encoder
    from lightxling.encode.search import Index

    index = Index.open(Encoder(bundle()), folder.parent / "lines.txt", index=folder / "index")
    return repr(index.search(TEXTS, 2)).encode()


def write_store(folder: Path) -> None:
    from lightxling.config.schema import Config, CorpusConfig, TokenizerConfig
    from lightxling.corpus.prepare import prepare

    source, draw = folder.parent / "pairs.tsv", random.Random(0)
    words = ["".join(draw.choices("fgklmnprst", k=3)) for _ in range(30)]
    rows = [" ".join(draw.choices(words, k=5)) for _ in range(80)]
    source.write_text("".join(f"{row}\t{row} ba\n" for row in rows))
    corpus = CorpusConfig(sources=(f"en-fr={source}",), dev_share=0.1, store=str(folder))
    config = Config(corpus=corpus, tokenizer=TokenizerConfig(vocab_size=60))
    prepare(config, progress=lambda line: None).rename(folder / "store")


def rows_of(folder: Path) -> bytes:
    from lightxling.corpus.store import Store

    store = Store.open(folder / "store")
    arrays = store.train.tokens, store.train.offsets, store.dev.tokens, store.dev.offsets
    return b"".join(array.tobytes() for array in arrays) + repr(store.dev.texts()).encode()


def write_checkpoint(folder: Path) -> None:
    import jax

    from lightxling.saved import checkpoint

    checkpoint.save(folder / "checkpoints" / "7", jax.device_put({"params": numbers()}))


def numbers() -> dict[str, np.ndarray]:
    return {"table": np.arange(300, dtype=np.float32).reshape(30, 10)}


def restored(folder: Path) -> bytes:
    import jax

    from lightxling.saved import checkpoint

    target = {name: jax.ShapeDtypeStruct(x.shape, x.dtype) for name, x in numbers().items()}
    return np.asarray(checkpoint.load_params(folder, "7", target)[0]["table"]).tobytes()


KINDS = {
    "export": Kind(write_export, vectors_of),
    "adapter": Kind(write_adapter, adapted),
    "index": Kind(write_index, found, again=True),
    "store": Kind(write_store, rows_of),
    "checkpoint": Kind(write_checkpoint, restored),
}


def mutate(draw: random.Random, content: bytes) -> bytes:
    """Never the same bytes."""
    size, data = len(content), bytearray(content)
    a, b = sorted((draw.randrange(size), draw.randrange(size)))
    length = draw.randint(1, 40)
    match draw.randrange(6):
        case 0:
            for _ in range(draw.randint(1, 40)):
                data[draw.randrange(size)] ^= 1 << draw.randrange(8)
        case 1:
            data[a : a + length] = bytes(len(data[a : a + length]))
        case 2:
            del data[a:]
        case 3:
            data[a : a + length], data[b : b + length] = data[b : b + length], data[a : a + length]
        case 4:
            data[a:a] = draw.randbytes(length)
        case 5:
            data = bytearray(draw.randbytes(length))
    return bytes(data) if data != content else mutate(draw, content)


def judge(kind: Kind, folder: Path, expected: bytes) -> str:
    from lightxling.base.errors import UserError

    began = time.perf_counter()
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            outcome = "same" if kind.look(folder) == expected else "WRONG"
    except UserError:
        outcome = "refused"
    except Exception as error:
        outcome = f"WRONG: {error!r:.100}"
    return outcome if time.perf_counter() - began < SLOW else "WRONG: slow"


def campaign(name: str, mutations: int) -> bool:
    """Prints a row; whether all was well."""
    kind, draw, counts = KINDS[name], random.Random(name), collections.Counter()
    with tempfile.TemporaryDirectory() as place:
        whole, folder = Path(place, "whole"), Path(place, "damaged")
        folder.mkdir()
        kind.make(folder)
        expected = kind.look(folder)
        shutil.copytree(folder, whole)
        files = [
            path for path in sorted(whole.rglob("*")) if path.is_file() and path.stat().st_size
        ]
        for _ in range(mutations):
            shutil.rmtree(folder)
            shutil.copytree(whole, folder)
            file = draw.choice(files).relative_to(whole)
            (folder / file).write_bytes(mutate(draw, (whole / file).read_bytes()))
            outcome = judge(kind, folder, expected)
            counts[outcome.partition(":")[0]] += 1
            if outcome.startswith("WRONG"):
                print(f"{name}: {file}: {outcome}", file=sys.stderr)
    same = "made again or without effect" if kind.again else "without effect"
    cells = [mutations, counts["refused"], f"{counts['same']} {same}", counts["WRONG"]]
    print(f"| {name} |", " | ".join(map(str, cells)), "|", flush=True)
    return not counts["WRONG"]


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--mutations", type=int, default=1000)
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    args = parser.parse_args(argv)
    warnings.simplefilter("ignore")
    print("| files | damaged | refused | the same | wrong |\n| --- |" + " ---: |" * 4, flush=True)
    wells = [campaign(name, args.mutations) for name in args.kinds]
    return int(not all(wells))


if __name__ == "__main__":
    sys.exit(main())
