"""Many mixed requests to `lightxling serve`: does it stay as it was?

    python tools/soak_serve.py
    python tools/soak_serve.py lightxling/boxed --requests 50000 --connections 16

A tenth of the requests is aborted (the connection ends in the middle of the body or before the
answer), a tenth is malformed (no HTTP, no JSON, wrong keys, a body that is announced too long); the
others have one to eight texts. Prints, ten times, the server's memory, descriptors and threads, and
at the end the latency of the answered ones. Lost are well-formed requests without their vectors,
and malformed ones without a refusal; with any, the exit code is 1.
"""

import argparse
import asyncio
import random
import re
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from benchmark_serve import ask, request, sentences, serving, untrained

MALFORMED = (
    b"\x16\x03\x01 hello\r\n\r\n",
    b"POST /v1/embeddings HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n",
    b"POST /v1/embeddings HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    b"Content-Length: 3\r\n\r\n{{{",
    b"POST /v1/embeddings HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    b"Content-Length: 99999999999\r\n\r\n",
    b"GET /v1/models HTTP/1.1\r\nHost: evil.example\r\n\r\n",
)


def server_process(port: int) -> int:
    """The process that listens on a port of this machine."""
    table = Path("/proc/net/tcp").read_text().splitlines()[1:]
    inode = next(
        row.split()[9] for row in table if row.split()[1].endswith(f":{port:04X}") and " 0A " in row
    )
    for link in Path("/proc").glob("[0-9]*/fd/*"):
        try:
            if link.readlink().name == f"socket:[{inode}]":
                return int(link.parts[2])
        except OSError:
            continue
    raise SystemExit(f"nothing listens on port {port}")


def state(process: int) -> tuple[float, int, int]:
    """Megabytes in memory, descriptors, threads."""
    status = Path(f"/proc/{process}/status").read_text()
    memory, threads = (
        int(re.search(rf"^{name}:\s+(\d+)", status, re.MULTILINE)[1])
        for name in ("VmRSS", "Threads")
    )
    return memory / 1024, len(list(Path(f"/proc/{process}/fd").iterdir())), threads


class Soak:
    """Asks in turns, from several connections.

    Attributes:
      latencies: seconds of every answered request.
      lost: requests that did not get what they should.
    """

    def __init__(self, port: int, questions: list[tuple[bytes, int]], count: int):
        self.port, self.questions, self.count = port, questions, count
        self.done, self.lost, self.latencies = 0, 0, []

    async def work(self, seed: int) -> None:
        draw, open_one = random.Random(seed), None
        while self.done < self.count:
            self.done += 1
            kind = draw.random()
            if open_one is None:
                open_one = await asyncio.open_connection("127.0.0.1", self.port, limit=1 << 24)
            reader, writer = open_one
            question, texts = draw.choice(self.questions)
            if kind < 0.1:
                writer.write(question[: draw.randrange(1, len(question) + 1)])
                await writer.drain()
            elif kind < 0.2:
                status, _ = await self._ask(reader, writer, draw.choice(MALFORMED))
                self.lost += not 400 <= status < 500
            else:
                start = time.perf_counter()
                status, body = await self._ask(reader, writer, question)
                if status == 200 and body.count(b'"embedding":') == texts:
                    self.latencies.append(time.perf_counter() - start)
                    continue
                self.lost += 1
            writer.close()
            open_one = None
        if open_one is not None:
            open_one[1].close()

    async def _ask(self, reader, writer, question: bytes) -> tuple[int, bytes]:
        try:
            return await asyncio.wait_for(ask(reader, writer, question), 60)
        except (OSError, asyncio.IncompleteReadError, TimeoutError):
            return 0, b""


async def soak(port: int, asked: Soak, connections: int) -> None:
    process = server_process(port)
    workers = [asyncio.create_task(asked.work(seed)) for seed in range(connections)]
    for part in range(11):
        while asked.done < asked.count * part // 10:
            await asyncio.sleep(0.01)
        print(f"| {asked.done:,} | {' | '.join(f'{x:.0f}' for x in state(process))} |", flush=True)
    await asyncio.gather(*workers)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path, nargs="?")
    parser.add_argument("--requests", type=int, default=50_000)
    parser.add_argument("--connections", type=int, default=16)
    args = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        given = sentences(512)
        with serving(args.model or untrained(Path(folder)), []) as (port, name):
            sizes = [1 + i % 8 for i in range(64)]
            questions = [(request(name, given[i * 8 : i * 8 + n]), n) for i, n in enumerate(sizes)]
            asked = Soak(port, questions, args.requests)
            print("| requests | memory MB | descriptors | threads |\n|" + " ---: |" * 4)
            asyncio.run(soak(port, asked, args.connections))
            p50, p99 = 1000 * np.percentile(asked.latencies, [50, 99])
            print(f"\nanswered {len(asked.latencies):,}, lost {asked.lost}, ", end="")
            print(f"p50 {p50:.1f} ms, p99 {p99:.1f} ms")
    return int(asked.lost > 0)


if __name__ == "__main__":
    sys.exit(main())
