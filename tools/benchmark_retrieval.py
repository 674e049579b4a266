"""Seconds and peak memory of exact retrieval, ours beside faiss.IndexFlatIP, in fresh processes.

    python tools/benchmark_retrieval.py
    python tools/benchmark_retrieval.py --queries 2000 --candidates 200000 --width 512 --k 1 10
    python tools/benchmark_retrieval.py --mine 1000000 --width 256

Both get the same random float32 vectors, of any length: ours normalises while it searches, faiss
needs normalised copies, and making them is part of its time. Runs alternate; medians are printed.
Memory is the growth of the largest resident size over that of the process with its vectors.

`--mine N` mines N by N sentences as `lightxling mine` does with its index: vectors as float16 on
disk, four neighbours both ways, max retrieval; its memory is that of the whole process.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np


def vectors(queries: int, candidates: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Candidates, and queries that are noisy copies of the first of them."""
    rng = np.random.default_rng(0)
    y = rng.standard_normal((candidates, width), np.float32)
    return y[:queries] + rng.standard_normal((queries, width), np.float32), y


def peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024  # MiB on Linux


def measure(method: str, queries: int, candidates: int, width: int, k: int) -> dict[str, float]:
    """One search; the answer's P@1 shows that both did the same."""
    x, y = vectors(queries, candidates, width)
    if method == "faiss":
        import faiss
    else:
        from lightxling.base.vectors import nearest
    before, start = peak(), time.perf_counter()
    if method == "faiss":
        index = faiss.IndexFlatIP(width)
        index.add(y / np.linalg.norm(y, axis=1, keepdims=True))
        _, found = index.search(x / np.linalg.norm(x, axis=1, keepdims=True), k)
    else:
        _, found = nearest(x, y, k)
    seconds = time.perf_counter() - start
    right = float(np.mean(found[:, 0] == np.arange(queries)))
    return {"seconds": seconds, "mib": peak() - before, "p@1": right}


def translations(sentences: int, width: int, folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Memory-mapped float16 vectors of both sides, in the same order.

    Sentences lie around 10,000 topics, so that neighbours compete; a translation has cosine 0.8 or
    so with its sentence.
    """
    rng = np.random.default_rng(0)
    topics = rng.standard_normal((10_000, width), np.float32)
    shape, block = (sentences, width), 1 << 16
    sides = [
        np.lib.format.open_memmap(folder / f"{side}.npy", "w+", np.float16, shape)
        for side in ("src", "tgt")
    ]
    for start in range(0, sentences, block):
        rows = min(block, sentences - start)
        meaning = topics[rng.integers(0, len(topics), rows)]
        meaning = meaning + rng.standard_normal((rows, width), np.float32)
        for side in sides:
            noise = 0.7 * rng.standard_normal((rows, width), np.float32)
            side[start : start + rows] = meaning + noise
    return sides[0], sides[1]


def mine(sentences: int, width: int) -> None:
    """Prints seconds, memory and how many of the pairs were found."""
    from lightxling.encode import mining

    with tempfile.TemporaryDirectory() as folder:
        src, tgt = translations(sentences, width, Path(folder))
        start = time.perf_counter()
        found = mining.mine_pairs(src, tgt, search=mining.faiss_search())
        seconds = time.perf_counter() - start
    right = np.count_nonzero(found.src == found.tgt)
    print(
        f"{sentences:,} x {sentences:,}, width {width}: {seconds:,.0f} s, {peak():,.0f} MiB, "
        f"{right:,} of {sentences:,} pairs among the {len(found):,} mined"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--queries", type=int, default=2000)
    parser.add_argument("--candidates", type=int, default=200_000)
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--k", type=int, nargs="+", default=[1, 10])
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--method", choices=["lightxling", "faiss"], help=argparse.SUPPRESS)
    parser.add_argument("--mine", type=int, metavar="N", help="mine N by N sentences instead")
    args = parser.parse_args()
    if args.mine:
        mine(args.mine, args.width)
        return
    if args.method:
        sizes = args.queries, args.candidates, args.width, args.k[0]
        print(json.dumps(measure(args.method, *sizes)))
        return
    shape = ["--queries", args.queries, "--candidates", args.candidates, "--width", args.width]
    print(f"{args.queries:,} x {args.candidates:,}, width {args.width}, median of {args.repeat}")
    for k in args.k:
        runs: dict[str, list[dict[str, float]]] = {"lightxling": [], "faiss": []}
        for _ in range(args.repeat):
            for method, done in runs.items():
                command = [sys.executable, __file__, *map(str, shape), "--k", str(k)]
                out = subprocess.run(
                    [*command, "--method", method], check=True, capture_output=True, text=True
                ).stdout
                done.append(json.loads(out))
        for method, done in runs.items():
            middle = {key: statistics.median(run[key] for run in done) for key in done[0]}
            each = " ".join(f"{run['seconds']:.2f}" for run in done)
            print(
                f"k={k:<3} {method:<11} {middle['seconds']:7.2f} s  +{middle['mib']:,.0f} MiB  "
                f"P@1 {middle['p@1']:.4f}  (runs: {each})"
            )


if __name__ == "__main__":
    main()
