"""Bytes that a program makes up to reach every line of what reads a stranger's bytes.

    pip install atheris
    python tools/fuzz.py tsv --seconds 60

The targets are the readers of parallel text, of an index, of a description, of the tables of
results, and what the server reads of a connection: the head of a request, its body, how that is
packed. Coverage of the package leads the fuzzer (atheris, which is libFuzzer). A target may refuse
what it is given in one of our own messages; any other exception ends the fuzzing, and the bytes are
kept in a file. So do a minute for one input and two gigabytes of memory.
"""

import argparse
import asyncio
import contextlib
import io
import json
import os
import sys
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path

import atheris

os.environ.setdefault("JAX_PLATFORMS", "cpu")
sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
with atheris.instrument_imports(include=["lightxling"]):
    from lightxling.base.errors import UserError
    from lightxling.base.lines import Problems
    from lightxling.base.vectors import map_array
    from lightxling.config.files import from_dict
    from lightxling.config.rules import validate
    from lightxling.config.schema import Config
    from lightxling.corpus import readers
    from lightxling.corpus.cleaning import clean
    from lightxling.corpus.sentences import cut_sentences
    from lightxling.corpus.sources import Source
    from lightxling.corpus.tokenizer import read_tokenizer
    from lightxling.encode.serve import protocol
    from lightxling.encode.serve.access import Door, host_name
    from lightxling.encode.serve.settings import ServeSettings
    from lightxling.saved.run import read_metrics

PLACE = Path(tempfile.mkdtemp())
SEEDS = {
    "tsv": b"the cat\tle chat\nthe dog\tle chien\n",
    "csv": b'a,b\n"the ""cat""",le chat\n',
    "tmx": b'<?xml version="1.0"?><tmx version="1.4"><body><tu><tuv xml:lang="en"><seg>the cat'
    b'</seg></tuv><tuv xml:lang="fr"><seg>le <ph/>chat</seg></tuv></tu></body></tmx>',
    "xliff": b'<xliff version="1.2"><file source-language="en" target-language="fr"><body>'
    b"<trans-unit><source>the cat</source><target>le chat</target></trans-unit></body></file>"
    b"</xliff>",
    "po": b'msgid ""\nmsgstr "Language: fr\\n"\n\nmsgid "the cat"\nmsgstr "le chat"\n',
    "jsonl": b'{"en": "the cat", "fr": "le chat"}\n{"translation": {"en": "a", "fr": "b"}}\n',
    "text": "Dr. Smith left. “Why?” She asked... 3. Mai; 猫。犬！".encode(),
    "settings": json.dumps({"train": {"batch_size": 8}, "tasks": [{"name": "a"}]}).encode(),
    "metrics": b'{"step": 1, "loss": 2.5}\n{"step": 2, "dev_p@1": 0.5}\n',
    "array": b"\x93NUMPY\x01\x00v\x00{'descr': '<f4', 'fortran_order': False, 'shape': (2,), }\n",
    "tokenizer": b'{"format": "lightxling-words", "words": ["a"], "lowercase": true, '
    b'"hash_buckets": 5}',
    "body": b'{"model": "m", "input": ["the cat", "b"], "encoding_format": "base64"}',
    "gzip": b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03KT\x04\x00\xc7\xbeT\xf0\x02\x00\x00\x00",
    "http": b"POST /v1/embeddings HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    b'Content-Length: 28\r\n\r\n{"model":"m","input":["a b"]}',
    "host": b"[::1]:8000",
}


def reader(ending: str) -> Callable[[bytes], None]:
    def read(data: bytes) -> None:
        path = PLACE / f"text.{ending}"
        path.write_bytes(data)
        problems = Problems()
        for row in readers.read_source(Source.parse(f"en-fr={path}"), problems):
            assert len(row) == 2
            assert all(isinstance(side, str) for side in row)

    return read


def text(data: bytes) -> None:
    whole = data.decode("utf-8", "replace")
    assert "".join("".join(cut_sentences(whole)).split()) == "".join(whole.split())
    assert clean(clean(whole, unescape=False), unescape=False) == clean(whole, unescape=False)


def settings(data: bytes) -> None:
    with contextlib.suppress(ValueError, RecursionError):
        values = json.loads(data)
        if isinstance(values, dict):
            validate(from_dict(Config, values))


def metrics(data: bytes) -> None:
    path = PLACE / "metrics.jsonl"
    path.write_bytes(data)
    for record in read_metrics(path)[0]:
        assert isinstance(record["step"], int)


def array(data: bytes) -> None:
    path = PLACE / "a.npy"
    path.write_bytes(data)
    with contextlib.suppress(ValueError):
        assert map_array(path).nbytes <= len(data)


def tokenizer(data: bytes) -> None:
    ids, lengths = read_tokenizer(data).encode(["a b", ""], 5)
    assert lengths.sum() == len(ids)


SETTINGS = ServeSettings()
SERVED = protocol.ServedModel("m", 8, True)


def body(data: bytes) -> None:
    question = protocol.parse_request(data, SERVED, SETTINGS)
    assert 0 < len(question.texts) <= SETTINGS.max_inputs


def packed(data: bytes) -> None:
    assert len(protocol.unpack(data, "gzip", 10_000)) <= 10_000


def host(data: bytes) -> None:
    header = data.decode("latin-1")
    host_name(header)
    door = Door({"localhost"}, "key")
    with contextlib.suppress(protocol.Refusal):
        door.check(header, header)
        raise AssertionError("let in without the key")


class Transport(asyncio.Transport):
    """Keeps what is written."""

    def __init__(self):
        super().__init__({"peername": ("127.0.0.1", 1), "sockname": ("127.0.0.1", 2)})
        self.written, self.closed = b"", False

    def write(self, data):
        self.written += data

    def is_closing(self):
        return self.closed

    def close(self):
        self.closed = True

    abort = close

    def get_write_buffer_size(self):
        return 0

    def pause_reading(self):
        pass

    def resume_reading(self):
        pass

    def set_protocol(self, protocol):
        pass


class Http:
    """A connection of the server, to which bytes come."""

    def __init__(self):
        from export_samples import bundle

        from lightxling.encode.encoder import Encoder
        from lightxling.encode.serve.app import Service
        from lightxling.encode.serve.connections import Server

        self.loop = asyncio.new_event_loop()
        self.server = Server(
            Service(Encoder(bundle()), SETTINGS, "m", Door({"localhost"}, None)), 10
        )
        self.server.config.load()

    def __call__(self, data: bytes) -> None:
        async def talk() -> bytes:
            made = self.server.config.http_protocol_class(
                config=self.server.config, server_state=self.server.server_state, app_state={}
            )
            transport = Transport()
            made.connection_made(transport)
            for at in range(0, len(data), 1000):
                made.data_received(data[at : at + 1000])
                await asyncio.sleep(0)
            for _ in range(3):
                await asyncio.sleep(0)
            if not transport.closed:
                made.eof_received()
            made.connection_lost(None)
            for task in list(self.server.server_state.tasks):
                task.cancel()
            await asyncio.sleep(0)
            return transport.written

        written = self.loop.run_until_complete(talk())
        assert not written or written.startswith(b"HTTP/1.1 ")
        assert b"Traceback" not in written


TARGETS = {
    **{ending: reader(ending) for ending in ("tsv", "csv", "tmx", "xliff", "po", "jsonl")},
    **{"text": text, "settings": settings, "metrics": metrics, "array": array},
    **{"tokenizer": tokenizer, "body": body, "gzip": packed, "host": host, "http": None},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("target", choices=TARGETS)
    parser.add_argument("--seconds", type=int, default=60)
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    target = TARGETS[args.target] or Http()

    def one(data: bytes) -> None:
        refused = contextlib.suppress(UserError, protocol.Refusal)
        with contextlib.redirect_stdout(io.StringIO()), refused:
            target(data)

    seeds = PLACE / "seeds"
    seeds.mkdir()
    (seeds / "one").write_bytes(SEEDS[args.target])
    limits = ["-timeout=60", "-rss_limit_mb=2048", "-max_len=2000", "-print_final_stats=1"]
    kept = f"-artifact_prefix=fuzz-{args.target}-"
    words = [sys.argv[0], str(seeds), f"-max_total_time={args.seconds}", *limits, kept]
    atheris.Setup(words, one)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
