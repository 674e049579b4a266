"""The server as people use it: a process, asked by the openai client and by sockets."""

import asyncio
import base64
import contextlib
import gzip
import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from export_samples import HOSTILE, WORDS, bundle

from lightxling.encode.encoder import Encoder
from lightxling.encode.serve.access import KEY, Door
from lightxling.encode.serve.settings import ServeSettings
from lightxling.export.formats import write_format

openai = pytest.importorskip("openai")
pytest.importorskip("starlette")
pytest.importorskip("uvicorn")
pytest.importorskip("prometheus_client")

pytestmark = [
    pytest.mark.serve,
    pytest.mark.filterwarnings("ignore:a sentence is longer"),
]
JSON = {"Content-Type": "application/json"}
TEXTS = [" ".join(np.random.default_rng(i).choice(WORDS, 1 + i % 9)) for i in range(60)]


class Server(NamedTuple):
    """A server that runs."""

    process: subprocess.Popen
    host: str
    port: int
    said: str

    def ask(self, method: str, path: str, body=None, headers=JSON) -> tuple[int, dict, bytes]:
        """Status, headers in small letters and body of an answer."""
        connection = http.client.HTTPConnection(self.host, self.port, timeout=60)
        with contextlib.closing(connection):
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            return answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read()

    def metrics(self) -> dict[str, float]:
        lines = self.ask("GET", "/metrics")[2].decode().splitlines()
        samples = (line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
        return {name: float(value) for name, value in samples}

    def client(self, kind=openai.OpenAI, **options):
        options = {"api_key": "none", "max_retries": 0, **options}
        return kind(base_url=f"http://{self.host}:{self.port}/v1", **options)


def start(model, *flags, **variables: str) -> subprocess.Popen:
    command = [sys.executable, "-m", "lightxling", "serve", str(model), *map(str, flags)]
    environment = {key: value for key, value in os.environ.items() if key != KEY}
    return subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True, env={**environment, **variables}
    )


@contextlib.contextmanager
def serving(model, *flags, **variables: str) -> Iterator[Server]:
    process, said = start(model, "--port", 0, *flags, **variables), ""
    try:
        for line in process.stderr:
            said += line
            if found := re.search(r"at http://(.*):(\d+)/v1", line):
                yield Server(process, found[1], int(found[2]), said)
                break
        else:
            pytest.fail(f"the server ended: {said}")
    finally:
        process.kill()
        process.communicate()


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "tiny"
    folder.mkdir()
    write_format(bundle(), folder, "safetensors")
    return folder


@pytest.fixture(scope="module")
def encoder(model):
    return Encoder.load(model)


@pytest.fixture(scope="module")
def server(model):
    with serving(model, "--wait", 20.0, "--max-body", 100_000) as running:
        yield running


def numbers(response) -> np.ndarray:
    return np.array([row.embedding for row in response.data], np.float32)


def test_the_openai_client_gets_the_vectors_of_the_encoder(server, encoder):
    client = server.client()
    response = client.embeddings.create(model="tiny", input=HOSTILE)  # base64, unless told
    expected, counts = encoder.encode_counted(HOSTILE)
    np.testing.assert_allclose(numbers(response), expected, atol=1e-6)
    assert [row.index for row in response.data] == list(range(len(HOSTILE)))
    assert response.model == "tiny"
    assert response.usage.prompt_tokens == response.usage.total_tokens == counts.sum()
    as_text = client.embeddings.create(model="tiny", input=HOSTILE, encoding_format="float")
    np.testing.assert_allclose(numbers(as_text), numbers(response), rtol=0, atol=5e-7)
    single = client.embeddings.create(model="tiny", input="the cat", dimensions=32, user="me")
    np.testing.assert_allclose(numbers(single), encoder.encode(["the cat"]), atol=1e-6)


def test_a_key_is_compared_without_the_white_space_around_it(model):
    flags = model / "model.safetensors", "--wait", 0.0
    with serving(*flags, **{KEY: " secret\n"}) as running:
        for key, status in (("secret", 200), ("secre", 401)):
            headers = {**JSON, "Authorization": f"Bearer {key}"}
            body = json.dumps({"model": "tiny", "input": "the cat"})
            assert running.ask("POST", "/v1/embeddings", body, headers)[0] == status


def test_base64_equals_float(server):
    bodies = [
        server.ask(
            "POST", "/v1/embeddings", json.dumps({"model": "tiny", "input": "le chat"} | how)
        )
        for how in ({}, {"encoding_format": "float"}, {"encoding_format": "base64"})
    ]
    plain, as_float, as_base64 = (json.loads(b)["data"][0]["embedding"] for _, _, b in bodies)
    assert plain == as_float
    raw = np.frombuffer(base64.b64decode(as_base64), "<f4")
    assert as_float == [float(f"{number:.7g}") for number in raw]


def test_half_a_character_is_read_as_the_encoder_reads_it(server, encoder):
    body = b'{"model": "tiny", "input": "the \\ud800 cat"}'
    status, _, found = server.ask("POST", "/v1/embeddings", body)
    assert status == 200
    expected = encoder.encode("the \ud800 cat")
    np.testing.assert_allclose(json.loads(found)["data"][0]["embedding"], expected, atol=1e-6)


def test_models_and_health(server, encoder):
    client = server.client()
    (listed,) = client.models.list().data
    assert (listed.id, listed.dimension, listed.languages) == ("tiny", 32, ["en", "fr", "de"])
    assert client.models.retrieve("tiny") == listed
    with pytest.raises(openai.NotFoundError, match="this server has 'tiny'"):
        client.models.retrieve("other/one")
    assert server.ask("GET", "/health")[::2] == (200, b'{"status":"ok"}')


def test_requests_at_once_are_all_answered_and_share_batches(server, encoder):
    before = server.metrics()
    requests = [TEXTS[i % 50 : i % 50 + 1 + i % 7] for i in range(150)]

    async def ask_all():
        async with server.client(openai.AsyncOpenAI) as client:
            at_once = asyncio.Semaphore(20)

            async def ask(texts):
                async with at_once:
                    return await client.embeddings.create(model="tiny", input=texts)

            return await asyncio.gather(*map(ask, requests))

    for texts, response in zip(requests, asyncio.run(ask_all()), strict=True):
        np.testing.assert_allclose(numbers(response), encoder.encode(texts), atol=1e-6)
    after = server.metrics()
    grown = {name: after[name] - before.get(name, 0) for name in after}
    assert grown["lightxling_texts_total"] == sum(map(len, requests))
    tokens = sum(encoder.encode_counted(texts)[1].sum() for texts in requests)
    assert grown["lightxling_tokens_total"] == tokens
    answered = 'lightxling_requests_total{path="/v1/embeddings",status="200"}'
    assert grown[answered] == len(requests)
    assert grown["lightxling_batch_texts_count"] < len(requests)
    assert after["lightxling_texts_waiting"] == 0
    assert after["lightxling_requests_in_flight"] == 1  # this one


POST = "POST", "/v1/embeddings"


@pytest.mark.parametrize(
    ("method", "path", "body", "headers", "status", "words"),
    [
        (*POST, b"", JSON, 400, "not JSON"),
        (*POST, b'{"model": "tiny"', JSON, 400, "not JSON"),
        (*POST, b"\xff\xfe", JSON, 400, "not JSON"),
        (*POST, b'{"model": "tiny", "input": [1, 2]}', JSON, 400, "token numbers"),
        (*POST, b'{"model": "tiny", "input": "a", "dimensions": 8}', JSON, 400, "stand alone"),
        (*POST, b'{"model": "ada", "input": "a"}', JSON, 404, "this server has 'tiny'"),
        (*POST, b'{"model": "tiny", "input": "a"}', {}, 415, "Content-Type"),
        (*POST, b'"' + b"x" * 100_000, JSON, 413, "larger than 100,000 bytes"),
        ("GET", "/v1/embeddings", None, {}, 405, "there is no GET /v1/embeddings"),
        ("GET", "/v1/completions", None, {}, 404, "here are POST /v1/embeddings"),
        ("GET", "/" + "%C3%A9" * 500, None, {}, 404, "here are"),
    ],
)
def test_bad_requests(server, method, path, body, headers, status, words):
    found, _, text = server.ask(method, path, body, headers)
    assert found == status, text
    error = json.loads(text)["error"]
    assert words in error["message"]
    assert error["type"] == "invalid_request_error"
    assert server.ask("GET", "/health")[0] == 200


def test_what_is_not_http_and_who_hangs_up_do_no_harm(server):
    with socket.create_connection((server.host, server.port), timeout=60) as connection:
        connection.sendall(b"\x16\x03\x01 hello\r\n\r\n")
        assert b" 400 " in connection.makefile("rb").readline()
    with socket.create_connection((server.host, server.port)) as connection:
        connection.sendall(head(500) + b"{")
    gone = 'lightxling_requests_total{path="/v1/embeddings",status="499"}'
    until(lambda: server.metrics().get(gone))


def test_a_body_without_end_is_refused_before_it_ends(server):
    announced = head(1 << 40)
    endless = head(0).replace(b"Content-Length: 0", b"Transfer-Encoding: chunked")
    endless += (b"%x\r\n" % 60_000 + b"x" * 60_000 + b"\r\n") * 2
    for start in (announced, endless):
        with socket.create_connection((server.host, server.port), timeout=20) as connection:
            connection.sendall(start)
            assert b" 413 " in connection.makefile("rb").readline()


def head(length: int) -> bytes:
    """The head of a request whose body has `length` bytes."""
    return (
        b"POST /v1/embeddings HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        b"Content-Length: %d\r\n\r\n" % length
    )


def until(condition, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.02)


def test_a_body_that_does_not_come(model):
    with (
        serving(model, "--timeout", 0.5) as server,
        socket.create_connection((server.host, server.port), timeout=60) as connection,
    ):
        connection.sendall(head(500) + b"{")
        assert b" 408 " in connection.makefile("rb").readline()


def test_a_full_queue_says_when_to_come_back(model, encoder):
    """Four texts may wait, and wait for others for four seconds: a fifth is sent away."""
    flags = "--max-inputs", 4, "--max-waiting", 4, "--wait", 4000.0
    with serving(model, *flags) as server, ThreadPoolExecutor(1) as pool:
        create = server.client().embeddings.create
        first = pool.submit(create, model="tiny", input=TEXTS[:4])
        until(lambda: server.metrics()["lightxling_texts_waiting"] == 4)
        with pytest.raises(openai.RateLimitError, match="4 texts are waiting") as caught:
            create(model="tiny", input="one more")
        assert int(caught.value.response.headers["retry-after"]) >= 1
        patient = server.client(max_retries=5)
        second = patient.embeddings.create(model="tiny", input="one more")
        np.testing.assert_allclose(numbers(first.result()), encoder.encode(TEXTS[:4]), atol=1e-6)
        np.testing.assert_allclose(numbers(second), encoder.encode(["one more"]), atol=1e-6)


def test_a_key(model):
    with serving(model, **{KEY: "s3cret"}) as server:
        right = server.client(api_key="s3cret")
        assert len(right.embeddings.create(model="tiny", input="the cat").data) == 1
        assert right.models.list().data[0].id == "tiny"
        with pytest.raises(openai.AuthenticationError, match="key is wrong or missing"):
            server.client(api_key="guess").embeddings.create(model="tiny", input="the cat")
        for headers in ({}, {"Authorization": "Basic s3cret"}, {"Authorization": "Bearer s3cré"}):
            status, answer, body = server.ask("GET", "/v1/models", None, headers)
            assert (status, answer["www-authenticate"]) == (401, "Bearer")
            assert json.loads(body)["error"]["code"] == "invalid_api_key"
        assert server.ask("GET", "/metrics")[0] == 401
        assert server.ask("GET", "/health")[0] == 200


def test_no_accepted_request_is_lost_when_the_server_is_told_to_stop(model, encoder):
    """Eight requests have sent half of their bodies when SIGTERM comes."""
    with serving(model) as server, contextlib.ExitStack() as stack:
        idle = stack.enter_context(socket.create_connection((server.host, server.port)))
        halves = []
        for text in TEXTS[:8]:
            body = json.dumps({"model": "tiny", "input": text}).encode()
            connection = socket.create_connection((server.host, server.port), timeout=60)
            stack.enter_context(connection).sendall(head(len(body)) + body[:10])
            halves.append((connection, body[10:], text))
        until(lambda: server.metrics()["lightxling_requests_in_flight"] == 9)
        server.process.send_signal(signal.SIGTERM)
        until(lambda: not accepts(server))
        assert server.process.poll() is None
        for connection, rest, text in halves:
            connection.sendall(rest)
            answer = http.client.HTTPResponse(connection)
            answer.begin()
            assert answer.status == 200
            vector = json.loads(answer.read())["data"][0]["embedding"]
            np.testing.assert_allclose(vector, encoder.encode(text), atol=1e-6)
        assert idle.recv(1) == b""
        assert server.process.wait(60) == 0
        assert server.process.stderr.read() == "stopped\n"


def accepts(server: Server) -> bool:
    try:
        socket.create_connection((server.host, server.port), timeout=60).close()
    except OSError:
        return False
    return True


def test_the_keyboard_stops_it_too_and_an_open_address_is_pointed_out(model):
    with serving(model, "--host", "0.0.0.0", "--name", "text-embedding-3-small") as server:
        assert f"whoever reaches 0.0.0.0 may ask; set {KEY} or --key-file" in server.said
        assert "text-embedding-3-small (32 dimensions)" in server.said
        server.process.send_signal(signal.SIGINT)
        assert server.process.wait(60) == 0


def test_an_address_that_is_taken_is_one_message(model):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        process = start(model, "--port", taken.getsockname()[1])
        _, said = process.communicate(timeout=60)
    assert process.returncode == 2
    assert re.fullmatch(r"lightxling: cannot listen on 127.0.0.1 port \d+: Address .*\n", said)
    process = start(model, "--host", "203.0.113.1")
    _, said = process.communicate(timeout=60)
    assert process.returncode == 2
    assert said.startswith("lightxling: cannot listen on 203.0.113.1 port 8000: ")


def test_too_few_descriptors_are_said_at_the_start(model):
    command = 'ulimit -n 40; exec "$0" -m lightxling serve "$1" --port 0'
    done = subprocess.run(
        ["bash", "-c", command, sys.executable, model], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 2
    assert re.fullmatch(
        r"lightxling: this process may open 40 files .*`ulimit -Hn`.*\n", done.stderr
    )


class Slow(Encoder):
    """Waits until it is let go, or fails."""

    go = threading.Event()

    def encode_counted(self, sentences, *args, **options):
        if "fail" in sentences:
            raise ValueError("a secret of the house")
        assert "wait" not in sentences or self.go.wait(60)
        return super().encode_counted(sentences, *args, **options)


def asgi(app, texts: list[str]) -> tuple[int, dict, dict]:
    """Status, headers and body that an application answers, without a server."""
    body = json.dumps({"model": "slow", "input": texts}).encode()
    scope = {
        "type": "http",
        "method": "POST",
        "path": "/v1/embeddings",
        "headers": [(b"content-type", b"application/json"), (b"host", b"localhost")],
        "query_string": b"",
    }
    sent = []

    async def receive():
        return {"type": "http.request", "body": body}

    async def send(message):
        sent.append(message)

    with contextlib.suppress(ValueError):  # is raised on, for the log
        asyncio.run(app(scope, receive, send))
    headers = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
    text = b"".join(message.get("body", b"") for message in sent[1:])
    return sent[0]["status"], headers, json.loads(text)


def test_what_takes_too_long_and_what_fails():
    from lightxling.encode.serve.app import Service

    service = Service(Slow(bundle()), ServeSettings(timeout=0.3), "slow", Door({"localhost"}, None))
    app = service.app()
    try:
        status, headers, body = asgi(app, ["wait"])
        assert (status, headers["retry-after"]) == (503, "1")
        assert "within 0.3 s" in body["error"]["message"]
        assert body["error"]["type"] == "server_error"
        Slow.go.set()
        status, _, body = asgi(app, ["fail"])
        assert (status, body["error"]["code"]) == (500, "internal_error")
        assert "secret" not in json.dumps(body)
        assert asgi(app, ["fine"])[0] == 200
    finally:
        Slow.go.set()
        service.batcher.close()


def ask_raw(server: Server, text: bytes) -> bytes:
    """All that is answered until the server closes the connection."""
    with socket.create_connection((server.host, server.port), timeout=30) as connection:
        connection.sendall(text)
        return connection.makefile("rb").read()


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost:80", 200),
        ("127.0.0.1", 200),
        ("[::1]:8000", 200),
        ("evil.example", 403),
        ("127.0.0.1.evil.example:8000", 403),
        ("localhost@evil.example", 403),
    ],
)
def test_a_page_of_another_site_gets_no_vectors(server, host, status):
    body = json.dumps({"model": "tiny", "input": "the cat"})
    for method, path, text in ((*POST, body), ("GET", "/v1/models", None), ("GET", "/metrics", "")):
        found, _, answer = server.ask(method, path, text, {**JSON, "Host": host})
        assert found == status
        assert status == 200 or json.loads(answer)["error"]["code"] == "host_not_allowed"
    assert server.ask("GET", "/health", None, {"Host": host})[0] == 200  # as balancers ask


def test_names_and_sites_by_option_and_a_key_in_a_file(model, tmp_path):
    (tmp_path / "key").write_text("s3cret\n")
    flags = "--key-file", tmp_path / "key", "--allow-host", "box", "*.example.org"
    with serving(model, *flags, "--allow-origin", "https://app.example") as server:
        key = {"Authorization": "Bearer s3cret"}
        for host, status in (("box", 200), ("a.example.org", 200), ("example.org", 403)):
            assert server.ask("GET", "/v1/models", None, {**key, "Host": host})[0] == status
        assert server.ask("GET", "/v1/models", None, {"Host": "box"})[0] == 401
        for site, shown in (("https://app.example", "https://app.example"), ("https://b.c", None)):
            found = server.ask("GET", "/v1/models", None, {**key, "Origin": site})[1]
            assert found.get("access-control-allow-origin") == shown
        asked = {"Access-Control-Request-Method": "POST", "Origin": "https://app.example"}
        asked["Access-Control-Request-Headers"] = "authorization,content-type,x-stainless-os"
        assert server.ask("OPTIONS", "/v1/embeddings", None, asked)[0] == 200
        server.process.terminate()
        assert "s3cret" not in server.said + server.process.stderr.read()


def test_a_packed_body(server):
    body = json.dumps({"model": "tiny", "input": "the cat"}).encode()
    plain = server.ask(*POST, body)[2]
    bomb = gzip.compress(b" " * 10_000_000)
    for packed, coding, status in (
        (gzip.compress(body), "gzip", 200),
        (gzip.compress(body[:9]) + gzip.compress(body[9:]), "gzip", 200),
        (gzip.compress(body)[:-3], "gzip", 400),
        (body, "gzip", 400),
        (bomb, "gzip", 413),
        (body, "br", 415),
    ):
        found, _, answer = server.ask(*POST, packed, {**JSON, "Content-Encoding": coding})
        assert found == status
        assert status != 200 or answer == plain


def test_who_is_silent_or_slow_is_cut_off(model):
    """Nobody stays for ever: with no byte, half a head, a kept connection, an endless body."""
    flags = "--head-timeout", 0.5, "--keep-alive", 1.0
    with serving(model, *flags) as server:
        start = time.monotonic()
        assert ask_raw(server, b"") == b""
        assert b" 408 " in ask_raw(server, b"GET /health HTTP/1.1\r\nHost: a").split(b"\r\n")[0]
        kept = ask_raw(server, b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n")
        assert kept.startswith(b"HTTP/1.1 200")
        assert kept.count(b"HTTP/1.1") == 1
        assert b" 413 " in ask_raw(server, head(1 << 40)).split(b"\r\n")[0]
        assert time.monotonic() - start < 10
        slow = b"GET /health HTTP/1.1\r\nHost: a"
        with socket.create_connection((server.host, server.port), timeout=30) as connection:
            with contextlib.suppress(OSError):
                while time.monotonic() < start + 20:  # a byte now and then does not help
                    connection.sendall(slow[:1])
                    slow = slow[1:] or b"b"
                    time.sleep(0.05)
            assert time.monotonic() < start + 20
        until(lambda: server.metrics()["lightxling_connections"] == 1)


def test_who_never_reads_is_cut_off(model):
    with serving(model, "--keep-alive", 1.0) as server:
        body = json.dumps({"model": "tiny", "input": ["the cat"] * 2048}).encode()
        connection = socket.socket()
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        with contextlib.closing(connection):
            connection.connect((server.host, server.port))
            with contextlib.suppress(OSError):
                connection.settimeout(5)
                for _ in range(20):
                    connection.sendall(head(len(body)) + body)
            ended = 'lightxling_connections_ended_total{reason="unread"}'
            until(lambda: server.metrics().get(ended))


def test_too_many_connections(model):
    with serving(model, "--max-connections", 3) as server, contextlib.ExitStack() as stack:
        for _ in range(3):
            stack.enter_context(socket.create_connection((server.host, server.port)))
        status, headers, body = server.ask("GET", "/health")
        assert (status, headers["connection"], headers["retry-after"]) == (503, "close", "1")
        assert json.loads(body)["error"]["code"] == "too_many_connections"
        stack.close()
        until(lambda: server.ask("GET", "/health")[0] == 200)


def test_a_request_on_a_kept_connection_is_answered_after_the_signal(model):
    body = json.dumps({"model": "tiny", "input": "the cat"}).encode()
    with serving(model) as server, contextlib.ExitStack() as stack:
        kept = []
        for _ in range(8):
            connection = socket.create_connection((server.host, server.port), timeout=30)
            stack.enter_context(connection).sendall(head(len(body)) + body)
            answer = http.client.HTTPResponse(connection)
            answer.begin()
            assert len(answer.read()) > 100
            kept.append(connection)
        server.process.terminate()
        until(lambda: not accepts(server))
        for connection in kept:
            connection.sendall(head(len(body)) + body)
            answer = http.client.HTTPResponse(connection)
            answer.begin()
            assert (answer.status, answer.headers["Connection"]) == (200, "close")
            assert len(json.loads(answer.read())["data"]) == 1
        assert server.process.wait(30) == 0


class Broken(Encoder):
    """Has no finite vector for one text."""

    def encode_counted(self, sentences, *args, **options):
        vectors, tokens = super().encode_counted(sentences, *args, **options)
        vectors[[text == "huge" for text in sentences]] = 1e30  # its square is not finite
        return vectors, tokens


def test_a_text_without_a_finite_vector_fails_alone():
    from lightxling.encode.serve.app import Service

    settings = ServeSettings(wait=300.0)
    service = Service(Broken(bundle()), settings, "slow", Door({"localhost"}, None))
    app = service.app()
    try:
        with ThreadPoolExecutor(2) as pool:
            bad = pool.submit(asgi, app, ["fine", "huge"])
            good = pool.submit(asgi, app, ["the cat"])
        status, _, body = bad.result()
        assert (status, body["error"]["code"]) == (500, "not_finite")
        assert "text 1" in body["error"]["message"]
        status, _, body = good.result()
        assert status == 200
        expected = Encoder(bundle()).encode("the cat")
        np.testing.assert_allclose(body["data"][0]["embedding"], expected, atol=1e-6)
    finally:
        service.batcher.close()


def test_a_soak_leaves_the_server_as_it_was(monkeypatch, capsys, model):
    """Six hundred mixed requests; tools/soak_serve.py has the long one."""
    monkeypatch.syspath_prepend(Path(__file__).parent.parent / "tools")
    import soak_serve

    assert soak_serve.main([str(model), "--requests", "600", "--connections", "8"]) == 0
    rows = re.findall(r"\| [\d,]+ \| (\d+) \| (\d+) \| (\d+) \|", capsys.readouterr().out)
    memory, descriptors, threads = np.array(rows, int)[2:].T  # the first ones open connections
    assert np.ptp(memory) < 20  # MB
    assert np.ptp(descriptors) <= 12
    assert np.ptp(threads) <= 4
