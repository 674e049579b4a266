"""Sentences per second and cold start of `Encoder`, of its exports in the programs they are for,
and of random models of the sizes in use today, in one run.

    python tools/benchmark_encode.py boxed static --text sentences.txt

Every contestant is a process of its own that waits until it is asked. They take turns: in each of
five rounds every one encodes all sentences once, so that what else the machine does meets all
alike, and the median of the rounds counts; seconds of the processor, in which programs that wait
for their own threads count too, are disturbed the least. Each has its best batch size of those
tried, sentences sorted by length, and torch flushes denormal numbers. A cold start is a new
process, from nothing to the first vector. Needs the extras export and sentence-transformers, and
onnxruntime.
"""

import contextlib
import dataclasses
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import tyro
from benchmark_export import onnx_loader, random_loader

RANDOM = {"118 M": (250_037, 384, 12, 1536), "471 M": (501_153, 768, 12, 3072)}
"""Vocabulary, width, heads, feed-forward of BertModels of twelve layers."""
FIRST = "Where is the station?"


def loader(kind: str, path: str) -> Callable[[list[str], int], np.ndarray]:
    """`encode(sentences, batch_size) -> vectors` of a contestant."""
    if kind == "Encoder":
        import lightxling

        return lightxling.Encoder.load(path).encode
    if kind == "ONNX":
        return onnx_loader(Path(path))
    import torch

    torch.set_flush_denormal(True)
    if kind == "random":
        return random_loader(*RANDOM[path])
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(path, device="cpu")
    return lambda sentences, batch: model.encode(sentences, batch_size=batch)


def work(kind: str, path: str, texts: str) -> None:
    """A contestant: encodes the first N sentences in batches of B for each line `N B` of standard
    input, and prints the seconds that passed and those of the processor."""
    sentences = Path(texts).read_text("utf-8").splitlines()
    encode = loader(kind, path)
    encode([FIRST], 1)
    print("ready", flush=True)
    for line in sys.stdin:
        count, batch = map(int, line.split())
        start, busy = time.perf_counter(), time.process_time()
        encode(sentences[:count], batch)
        print(time.perf_counter() - start, time.process_time() - busy, flush=True)


@dataclasses.dataclass
class Contestant:
    """A running process, and what was measured of it."""

    name: str
    kind: str
    path: str
    process: subprocess.Popen
    count: int = 0
    batch: int = 0
    seconds: list[tuple[float, float]] = dataclasses.field(default_factory=list)
    cold: list[tuple[float, float]] = dataclasses.field(default_factory=list)

    def ask(self, count: int, batch: int) -> tuple[float, float]:
        """Seconds that passed, and those of the processor."""
        print(count, batch, file=self.process.stdin, flush=True)
        passed, busy = map(float, self.process.stdout.readline().split())
        return passed, busy

    def rates(self) -> list[float]:
        """Sentences per second, and per second of the processor."""
        return [self.count / seconds for seconds in medians(self.seconds)]


def medians(found: list[tuple[float, float]]) -> list[float]:
    return [statistics.median(column) for column in zip(*found, strict=True)]


@contextlib.contextmanager
def started(jobs: list[tuple[str, str, str]], texts: Path) -> Iterator[list[Contestant]]:
    command = [sys.executable, __file__, "--work"]
    found = []
    try:
        for name, kind, path in jobs:
            process = subprocess.Popen(
                [*command, kind, path, str(texts)],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            )  # fmt: skip
            if process.stdout.readline().strip() == "ready":
                found.append(Contestant(name, kind, path, process))
            else:
                reason = (process.communicate()[1].strip().splitlines() or ["no reason given"])[-1]
                print(f"left out: {name} ({reason})")
        yield found
    finally:
        for one in found:
            one.process.kill()
            one.process.communicate()


def cold_start(kind: str, path: str) -> tuple[float, float]:
    """Seconds from a new process to the end of one that has made a vector; the processor's too."""
    start, before = time.perf_counter(), os.times()
    command = [sys.executable, __file__, "--work", kind, path, os.devnull]
    subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, check=True)
    after = os.times()
    busy = sum(getattr(after, f"children_{k}") - getattr(before, f"children_{k}")
               for k in ("user", "system"))  # fmt: skip
    return time.perf_counter() - start, busy


def exported(encoder: str, folder: Path) -> list[tuple[str, str, str]]:
    """The contestants of an encoder: itself and two of its exports."""
    from lightxling.export import export
    from lightxling.export.settings import ExportSettings

    jobs = [(f"{encoder}: Encoder", "Encoder", encoder)]
    for kind, shown in (("onnx", "ONNX"), ("sentence-transformers", "sentence-transformers")):
        output = folder / f"{Path(encoder).name}-{kind}"
        export(ExportSettings(encoder, output, format=kind))
        jobs.append((f"{encoder}: {shown}", shown, str(output)))
    return jobs


def largest_difference(jobs: list[tuple[str, str, str]], sentences: list[str]) -> float:
    """Of a component of vectors of length 1, between `Encoder` and the ONNX file."""
    from lightxling.base.vectors import normalize

    ours, theirs = (normalize(loader(kind, path)(sentences, 32)) for _, kind, path in jobs[:2])
    return float(np.abs(ours - theirs).max())


def main(
    encoders: tuple[str, ...],
    /,
    text: Path,
    sentences: int = 2000,
    few: int = 200,
    batches: tuple[int, ...] = (16, 32, 64, 128, 256),
    rounds: int = 5,
    random: bool = True,
) -> None:
    """Measures ENCODERS, names or folders.

    Args:
      text: a file of sentences, a line each.
      sentences: encoded at a time, drawn from the file.
      few: the same for the random models, which take long.
      batches: sizes tried.
      rounds: in which all take turns.
      random: measure the random models too.
    """
    pool = text.read_text("utf-8").splitlines()
    chosen = np.random.default_rng(0).permutation(len(pool))[:sentences]
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        texts = folder / "sentences.txt"
        texts.write_text("".join(f"{pool[i]}\n" for i in chosen), "utf-8")
        jobs = []
        for encoder in encoders:
            own = exported(encoder, folder)
            most = largest_difference(own, [pool[i] for i in chosen])
            print(f"{encoder}: Encoder and ONNX differ by {most:.1e} at most")
            jobs += own
        jobs += [(f"random weights, {name}", "random", name) for name in RANDOM if random]
        with started(jobs, texts) as found:
            for one in found:
                one.count = few if one.kind == "random" else len(chosen)
                one.ask(min(one.count, few), batches[0])
                tried = {batch: one.ask(one.count, batch)[1] for batch in batches}
                one.batch = min(tried, key=tried.get)
            for _ in range(rounds):
                for one in found:
                    one.seconds.append(one.ask(one.count, one.batch))
            for _ in range(rounds):
                for one in found:
                    if one.kind != "random":
                        one.cold.append(cold_start(one.kind, one.path))
    print(f"{len(chosen):,} sentences, {os.cpu_count()} processors, medians of {rounds}")
    print("| what | sentences/s | a processor second | batch | cold start, s | processor, s |")
    print("| --- | ---: | ---: | ---: | ---: | ---: |")
    for one in found:
        cold = [f"{seconds:.2f}" for seconds in medians(one.cold)] if one.cold else ["", ""]
        rates = [f"{rate:,.0f}" for rate in one.rates()]
        print(f"| {' | '.join([one.name, *rates, str(one.batch), *cold])} |", flush=True)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--work"]:
        work(*sys.argv[2:])
    else:
        tyro.cli(main)
