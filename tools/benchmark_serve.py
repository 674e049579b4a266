"""Load on `lightxling serve` over the loopback address: requests per second, latency, losses.

    python tools/benchmark_serve.py
    python tools/benchmark_serve.py runs/five --connections 1 8 64 --texts 1 32 --seconds 10

Starts the server, lets that many connections ask one request after another (kept open, base64, the
next request as soon as the answer is there), and prints a line for every combination. Lost are
requests without an answer of status 200 with as many vectors as texts were sent. Latency is that
seen by the client, which shares the processors with the server; processor time is the server's, and
other work on the machine disturbs it less. Without MODEL, the encoder has random parameters and the
layers of `light` (2 x 256), over the 340 pieces of the tests. Other flags go to the server.
"""

import argparse
import asyncio
import contextlib
import dataclasses
import importlib.util
import json
import os
import re
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import numpy as np

SAMPLES = Path(__file__).parent.parent / "tests" / "export_samples.py"


@dataclasses.dataclass
class Load:
    """What came of one combination.

    Attributes:
      latencies: seconds of every answered request.
      lost: requests without their vectors.
      seconds: from the first request to the last answer.
    """

    latencies: list[float]
    lost: int
    seconds: float


def samples():
    """The module with the encoders and words of the tests."""
    spec = importlib.util.spec_from_file_location("export_samples", SAMPLES)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def untrained(folder: Path) -> Path:
    """Writes an encoder with random parameters."""
    from lightxling.export.formats import write_format

    shape = {"width": 256, "heads": 4, "feedforward": 512, "max_length": 128}
    write_format(samples().bundle(**shape), folder, "safetensors")
    return folder


def sentences(count: int) -> list[str]:
    """Three to fifteen words each, in many scripts."""
    rng, words = np.random.default_rng(0), samples().WORDS
    return [" ".join(rng.choice(words, rng.integers(3, 16))) for _ in range(count)]


@contextlib.contextmanager
def serving(model: Path, flags: list[str]) -> Iterator[tuple[int, str]]:
    """A server of its own process: its port, and the name of the model."""
    command = [sys.executable, "-m", "lightxling", "serve", str(model), "--port", "0", *flags]
    environment = {key: value for key, value in os.environ.items() if key != "LIGHTXLING_API_KEY"}
    server = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)
    try:
        line = server.stderr.readline()
        found = re.match(r"(.*) \(\d+ dimensions\) at http://127\.0\.0\.1:(\d+)/v1", line)
        if not found:
            sys.exit(line + server.communicate()[1])
        yield int(found[2]), found[1]
    finally:
        server.terminate()
        server.wait()


def request(name: str, texts: list[str]) -> bytes:
    body = json.dumps({"model": name, "input": texts, "encoding_format": "base64"}).encode()
    return (
        b"POST /v1/embeddings HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        b"Content-Length: %d\r\n\r\n" % len(body)
    ) + body


async def ask(reader, writer, question: bytes) -> tuple[int, bytes]:
    """Status and body of an answer."""
    writer.write(question)
    head = await reader.readuntil(b"\r\n\r\n")
    length = int(re.search(rb"content-length: (\d+)", head.lower())[1])
    return int(head.split(b" ", 2)[1]), await reader.readexactly(length)


async def put_load(
    port: int, questions: list[bytes], texts: int, connections: int, seconds: float
) -> Load:
    """All connections ask for some seconds, and wait for their last answer."""
    load, turn = Load([], 0, 0.0), iter(range(1 << 62))
    start = time.perf_counter()

    async def keep_asking():
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 26)
        while time.perf_counter() < start + seconds:
            question, sent = questions[next(turn) % len(questions)], time.perf_counter()
            try:
                status, body = await asyncio.wait_for(ask(reader, writer, question), 60)
            except (OSError, asyncio.IncompleteReadError, TimeoutError):
                load.lost += 1
                writer.close()
                reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 26)
                continue
            if status == 200 and body.count(b'"embedding":') == texts:
                load.latencies.append(time.perf_counter() - sent)
            else:
                load.lost += 1
        writer.close()

    await asyncio.gather(*(keep_asking() for _ in range(connections)))
    load.seconds = time.perf_counter() - start
    return load


def processor_seconds(port: int) -> float:
    """Of the server, so far."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
        text = answer.read().decode()
    return float(re.search(r"^process_cpu_seconds_total (.*)$", text, re.MULTILINE)[1])


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path, nargs="?")
    parser.add_argument("--connections", type=int, nargs="+", default=[1, 8, 64])
    parser.add_argument("--texts", type=int, nargs="+", default=[1, 32], help="in a request")
    parser.add_argument("--seconds", type=float, default=10.0, help="for each combination")
    args, flags = parser.parse_known_args(argv)  # the rest goes to the server
    with tempfile.TemporaryDirectory() as folder:
        model = args.model or untrained(Path(folder))
        given = sentences(64 * max(args.texts))
        heads = "connections", "texts", "requests/s", "texts/s", "p50 ms", "p99 ms"
        print("|", " | ".join((*heads, "processor ms a request", "answered", "lost")), "|")
        print("|" + " ---: |" * (len(heads) + 3))
        for texts in args.texts:
            slices = [given[i * texts : (i + 1) * texts] for i in range(64)]
            with serving(model, flags) as (port, name):
                questions = [request(name, part) for part in slices]
                for connections in args.connections:
                    asyncio.run(put_load(port, questions, texts, 1, 0.5))
                    used = processor_seconds(port)
                    load = asyncio.run(put_load(port, questions, texts, connections, args.seconds))
                    if not load.latencies:
                        sys.exit(f"none of {load.lost} requests was answered")
                    p50, p99 = 1000 * np.percentile(load.latencies, [50, 99])
                    used = 1000 * (processor_seconds(port) - used) / len(load.latencies)
                    rate = len(load.latencies) / load.seconds
                    numbers = [f"{rate:,.0f}", f"{rate * texts:,.0f}", f"{p50:.1f}", f"{p99:.1f}"]
                    numbers += [f"{used:.1f}", f"{len(load.latencies):,}", str(load.lost)]
                    print(f"| {connections} | {texts} |", " | ".join(numbers), "|", flush=True)


if __name__ == "__main__":
    main()
