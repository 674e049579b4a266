"""Bytes, P@1, speed and memory of every export of an encoder, beside models of the sizes in use
today.

    python tools/benchmark_export.py runs/light --dev "en-fr=dev.en-fr.tsv.gz" \\
        "en-de=dev.en-de.tsv.gz"

Every row runs in a process of its own, so that peak memory is its own: the encoder as it was
trained, its exports, and BertModels with random weights (through torch) for speed and memory only.
All encode the same dev sentences; each takes its best batch size of those tried. Vectors of length
1 are compared with those of the run: the largest difference of a component, and the mean cosine.
Needs the extras export and sentence-transformers; what is not installed is left out, and said.
"""

import dataclasses
import gc
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import tyro

RANDOM = {"118 M, 12 x 384": (250_037, 384, 12, 1536), "471 M, 12 x 768": (501_153, 768, 12, 3072)}
"""Vocabulary, width, heads, feed-forward of the models beside ours."""


@dataclasses.dataclass
class Row:
    """One line of the table.

    Attributes:
      scores: P@1 in per cent, forward and backward, per dev set.
      difference, cosine: of the vectors from the run's, where they are comparable.
      rate: sentences per second at the best batch size.
      cpu_rate: sentences per second of processor time, which a busy machine disturbs less.
      memory: peak resident bytes of the process.
    """

    name: str
    bytes: int
    scores: dict[str, tuple[float, float]]
    rate: float
    cpu_rate: float
    batch: int
    memory: int
    difference: float | None = None
    cosine: float | None = None


def read_dev(sources: list[str], limit: int) -> dict[str, list[tuple[str, str]]]:
    """Dev pairs by name."""
    from lightxling.base.lines import Problems
    from lightxling.corpus.readers import read_source
    from lightxling.corpus.sources import Source

    dev = {}
    for text in sources:
        source = Source.parse(text)
        dev["-".join(source.languages)] = [row[:2] for row in read_source(source, Problems())][
            :limit
        ]
    return dev


def best_rate(
    encode: Callable, sentences: list[str], batches: list[int], passes: int
) -> tuple[float, float, int]:
    """Sentences per second, of time and of processor time, at the best batch size."""
    rates = {}
    for batch in batches:
        encode(sentences[:batch], batch)
        times = []
        for _ in range(passes):
            start, cpu = time.perf_counter(), time.process_time()
            encode(sentences, batch)
            times.append((time.perf_counter() - start, time.process_time() - cpu))
        fastest = map(min, zip(*times, strict=True))
        rates[batch] = [len(sentences) / seconds for seconds in fastest]
    batch = max(rates, key=rates.get)
    return *rates[batch], batch


def peak_memory() -> int:
    """Peak resident bytes of this program; `getrusage` would count what started it, too."""
    try:
        (line,) = (x for x in Path("/proc/self/status").read_text().splitlines() if "VmHWM" in x)
        return int(line.split()[1]) * 1024
    except (OSError, ValueError):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def loader(kind: str, path: str) -> Callable:
    """`encode(sentences, batch_size) -> vectors` of one row."""
    if kind in ("run", "safetensors"):
        from lightxling.encode.encoder import Encoder

        return Encoder.load(path).encode
    if kind == "sentence-transformers":
        from sentence_transformers import SentenceTransformer

        model = SentenceTransformer(path, device="cpu")
        return lambda sentences, batch: model.encode(sentences, batch_size=batch)
    if kind == "onnx":
        return onnx_loader(Path(path))
    if kind == "stablehlo":
        return stablehlo_loader(Path(path))
    return random_loader(*RANDOM[path])


def sorted_batches(run: Callable, sentences: list[str], batch: int) -> np.ndarray:
    """Encodes batches of sentences of similar length, and puts the vectors back in order."""
    order = np.argsort([len(text) for text in sentences])
    parts = [order[start : start + batch] for start in range(0, len(order), batch)]
    vectors = np.concatenate([run([sentences[i] for i in part]) for part in parts])
    return vectors[np.argsort(order)]


def onnx_loader(path: Path) -> Callable:
    import onnxruntime
    import tokenizers

    tokens = tokenizers.Tokenizer.from_file(str(path / "tokenizer.json"))
    tokens.enable_padding(pad_id=0)
    (graph,) = (path / "onnx").iterdir()
    session = onnxruntime.InferenceSession(graph)

    def run(sentences):
        encoded = tokens.encode_batch(sentences)
        ids = np.array([e.ids for e in encoded])
        mask = np.array([e.attention_mask for e in encoded])
        return session.run(["sentence_embedding"], {"input_ids": ids, "attention_mask": mask})[0]

    return lambda sentences, batch: sorted_batches(run, sentences, batch)


def stablehlo_loader(path: Path) -> Callable:
    import jax
    import jax.export

    from lightxling.corpus.tokenizer import load_tokenizer

    tokenizer = load_tokenizer(path / "tokenizer.model")
    limit = json.loads((path / "config.json").read_text())["max_length"]
    program = jax.jit(
        jax.export.deserialize(bytearray((path / "encoder.stablehlo").read_bytes())).call
    )

    def run(sentences):
        ids, lengths = tokenizer.encode(sentences, limit)
        padded = min(limit, -(-max(lengths.max(), 1) // 16) * 16)  # few shapes to compile
        tokens = np.zeros((len(sentences), padded), np.int32)
        tokens[np.arange(padded) < lengths[:, None]] = ids
        return np.asarray(program(tokens))

    return lambda sentences, batch: sorted_batches(run, sentences, batch)


def random_loader(vocab_size: int, width: int, heads: int, feedforward: int) -> Callable:
    """A BertModel with random weights; 4.5 characters make a token, about as in practice."""
    import torch
    from transformers import BertConfig, BertModel

    config = BertConfig(
        vocab_size=vocab_size,
        hidden_size=width,
        num_hidden_layers=12,
        num_attention_heads=heads,
        intermediate_size=feedforward,
    )
    model = BertModel(config, add_pooling_layer=False).eval()

    @torch.inference_mode()
    def run(sentences):
        lengths = torch.tensor([max(1, round(len(text) / 4.5)) + 2 for text in sentences]).clamp(
            max=200
        )
        mask = (torch.arange(int(lengths.max())) < lengths[:, None]).long()
        ids = torch.randint(3, vocab_size, mask.shape) * mask
        hidden = model(input_ids=ids, attention_mask=mask).last_hidden_state
        weight = mask[..., None]
        return ((hidden * weight).sum(1) / weight.sum(1)).numpy()

    return lambda sentences, batch: sorted_batches(run, sentences, batch)


def measure(
    kind: str,
    path: str,
    dev: dict[str, list[tuple[str, str]]],
    sentences: list[str],
    batches: list[int],
    passes: int,
    output: str,
) -> Row:
    """One row; runs in its own process and leaves the dev vectors in the file `output`."""
    encode = loader(kind, path)
    scores = {}
    if kind != "random":
        from lightxling.base.vectors import normalize
        from lightxling.evaluate.retrieval import precision_at_1

        vectors = []
        for name, pairs in dev.items():
            src, tgt = (np.asarray(encode(list(side), 64)) for side in zip(*pairs, strict=True))
            accuracy = precision_at_1(src, tgt)
            scores[name] = (100 * accuracy.forward, 100 * accuracy.backward)
            vectors += [normalize(src), normalize(tgt)]
        np.save(output, np.concatenate(vectors))
    gc.collect()
    rate, cpu_rate, batch = best_rate(encode, sentences, batches, passes)
    if kind == "random":
        vocab_size, width, _, feedforward = RANDOM[path]
        block = 4 * width**2 + 2 * width * feedforward + 9 * width + feedforward
        size = 4 * ((vocab_size + 514 + 2) * width + 12 * block)
    elif kind == "run":
        from lightxling.saved import bundle

        loaded = bundle.load_bundle(Path(path))
        size = loaded.nbytes + len(loaded.tokenizer)
    else:
        size = sum(file.stat().st_size for file in Path(path).rglob("*") if file.is_file())
    return Row(kind, size, scores, rate, cpu_rate, batch, peak_memory())


def table(rows: list[Row]) -> str:
    names = list(rows[0].scores)
    titles = [
        "format",
        "MB",
        "largest difference",
        "mean cosine",
        *(f"P@1 {name}" for name in names),
        "sentences/s",
        "per CPU s",
        "batch",
        "peak MB",
    ]
    lines = [" | ".join(titles), " | ".join("---" for _ in titles)]
    for row in rows:
        scores = [
            "{:.2f} / {:.2f}".format(*row.scores[name]) if row.scores else "" for name in names
        ]
        cells = [
            row.name,
            f"{row.bytes / 1e6:.1f}",
            "" if row.difference is None else f"{row.difference:.1e}",
            "" if row.cosine is None else f"{row.cosine:.5f}",
            *scores,
            f"{row.rate:,.0f}",
            f"{row.cpu_rate:,.0f}",
        ]
        lines.append(" | ".join([*cells, str(row.batch), f"{row.memory / 1e6:,.0f}"]))
    return "\n".join(f"| {line} |" for line in lines)


HOSTILE = (
    "",
    " ",
    "\t\r\n tabs\tand\nlines \r\n",
    "👩‍👩‍👧‍👦 family 🇫🇷 flag 🤷🏽‍♀️",
    "שלום עולם العربية \u202eoverride\u202c \u200f",
    "e\u0301 n\u0303 a\u0308\u0304 \u0301 ẛ̣ ﬁ Ⅳ ㎏ ½ İı ẞß",
    "\x00\x01\x1f\x7f\x85\xad\ufeff\u200b\u200d\u2028\u2029",
    "<pad> <unk> <MASK> </s> [CLS] ▁ ▁▁ &amp; %s \\",
    "日本語の文章、改行なし。한국어 ไทย हिन्दी ภาษา",
    "\ud7ff\ue000\ufffd\uffff\U0010ffff \U0001d4d0\U0001d7d8",
    "x" * 10_000,
    "Où est la gare ? " * 600,
)
"""Strings on which tokenizers like to differ."""


def compare_tokenizers(jobs: list[tuple[str, str, str]], sentences: list[str]) -> tuple[int, int]:
    """How many texts get the same ids from tokenizer.json and from the sentencepiece model."""
    import tokenizers

    from lightxling.corpus.pieces import Tokenizer
    from lightxling.saved import bundle

    (run,) = (path for _, kind, path in jobs if kind == "run")
    (export, *_) = (path for _, kind, path in jobs if kind == "sentence-transformers")
    fast = tokenizers.Tokenizer.from_file(str(Path(export) / "tokenizer.json"))
    fast.no_truncation()
    texts = [*sentences, *HOSTILE]
    ids, lengths = Tokenizer(bundle.load_bundle(Path(run)).tokenizer).encode(texts, 1 << 20)
    ours = np.split(ids, np.cumsum(lengths)[:-1])
    found = [encoded.ids for encoded in fast.encode_batch(texts)]
    equal = sum(a.tolist() == b for a, b in zip(ours, found, strict=True))
    return equal, len(texts) - equal


def main(
    model: Path,
    /,
    dev: tuple[str, ...],
    text: tuple[Path, ...] = (),
    pieces: int = 0,
    dimensions: int = 0,
    limit: int = 2000,
    batches: tuple[int, ...] = (16, 32, 64, 128, 256),
    passes: int = 3,
    sentences: int = 2000,
    large: bool = True,
    only: tuple[str, ...] = (),
) -> None:
    """Measures every export of MODEL.

    Args:
      dev: pairs as `en-fr=PATH`; the rows of each are its candidates.
      text: what the trimmed exports are fitted to; by default the corpus of the run.
      pieces: vocabulary of the trimmed exports; 0 keeps what the text uses.
      dimensions: also measure exports with vectors of so many dimensions.
      limit: candidates per dev set.
      batches: sizes tried.
      passes: over the sentences, per batch size; the fastest counts.
      sentences: encoded for the measurement of speed.
      large: measure the random models too.
      only: measure rows whose name holds one of these.
    """
    from lightxling.export import export
    from lightxling.export.settings import ExportSettings

    pairs = read_dev(list(dev), limit)
    pool = [side for rows in pairs.values() for row in rows for side in row]
    chosen = np.random.default_rng(0).permutation(len(pool))[:sentences]
    counts = ", ".join(f"{name} {len(rows):,}" for name, rows in pairs.items())
    print(f"candidates: {counts}; {len(chosen):,} sentences timed; {os.cpu_count()} processors")
    jobs = [("run", "run", str(model))]
    rows = []
    reference = None
    with tempfile.TemporaryDirectory() as folder:
        trimmed = {"trim": True, "text": text, "pieces": pieces or None}
        variants = [
            *(("safetensors", dtype, {}) for dtype in ("float32", "float16", "bfloat16", "int8")),
            ("safetensors", "int8", trimmed),
            ("sentence-transformers", "float32", {}),
            ("sentence-transformers", "float16", {}),
            ("onnx", "float32", {}),
            ("onnx", "int8", {}),
            ("onnx", "int8", trimmed),
            ("stablehlo", "float32", {}),
        ]
        if dimensions:
            variants.append(("safetensors", "int8", {**trimmed, "dimensions": dimensions}))
        for number, (kind, dtype, options) in enumerate(variants):
            output = Path(folder) / str(number)
            export(ExportSettings(model, output, format=kind, dtype=dtype, **options))
            name = " ".join([kind, dtype, "trimmed" * bool(options)]).strip()
            if "dimensions" in options:
                name += f" {dimensions} dimensions"
            jobs.append((name, kind, str(output)))
        if large:
            jobs += [(f"random weights {name}", "random", name) for name in RANDOM]
        work = Path(folder) / "work.json"
        given = {"dev": pairs, "sentences": [pool[i] for i in chosen]}
        work.write_text(json.dumps({**given, "batches": batches, "passes": passes}))
        same, differing = compare_tokenizers(jobs, pool)
        print(f"tokenizer.json: {same:,} sentences and hostile strings the same, {differing} not")
        for name, kind, path in jobs:
            if only and not any(part in name for part in only):
                continue
            output = Path(folder) / "vectors.npy"
            command = [sys.executable, __file__, "--measure", kind, path, str(work), str(output)]
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode:
                reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
                print(f"left out: {name} ({reason})")
                continue
            row = Row(**{**json.loads(done.stdout.splitlines()[-1]), "name": name})
            if kind != "random":
                vectors = np.load(output)
                reference = vectors if reference is None else reference
                if vectors.shape == reference.shape:
                    row.difference = float(np.abs(vectors - reference).max())
                    row.cosine = float(np.einsum("nd,nd->n", vectors, reference).mean())
            rows.append(row)
            print(f"measured: {name}", file=sys.stderr)
    print(table(rows))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--measure"]:
        kind, path, work, output = sys.argv[2:]
        given = json.loads(Path(work).read_text())
        print(json.dumps(dataclasses.asdict(measure(kind, path, output=output, **given))))
    else:
        tyro.cli(main)
