"""The routes of the server, its limits and its metrics.

    POST /v1/embeddings   the OpenAI format: protocol.py
    GET  /v1/models       the one model
    GET  /health          200 while texts are encoded
    GET  /metrics         in the Prometheus text format

All but /health ask for a name of this server and for the key, if there is one: access.py. Every
refusal is the JSON of an OpenAI error.
"""

import asyncio
import time

import numpy as np
import prometheus_client as prometheus
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from lightxling.base.vectors import normalize
from lightxling.encode.encoder import Encoder
from lightxling.encode.serve import protocol
from lightxling.encode.serve.access import Door
from lightxling.encode.serve.batching import Batcher, CountedVectors
from lightxling.encode.serve.protocol import Refusal
from lightxling.encode.serve.settings import ServeSettings

GONE = 499
"""Status under which a request is counted whose client hung up; nobody gets it."""
LARGE = 1 << 16
"""Numbers in an answer that is written in another thread, so that others are served meanwhile."""
BODIES = 64
"""Bodies of the largest size that may be in memory together, so that many slow clients do not fill
it."""
SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30)
"""Bounds of the histograms of time."""


class ServerMetrics:
    """Counters, in a registry of their own."""

    def __init__(self):
        self.registry = prometheus.CollectorRegistry()
        prometheus.ProcessCollector(registry=self.registry)

        def make(kind, name: str, text: str, *labels: str, **options):
            return kind(f"lightxling_{name}", text, labels, registry=self.registry, **options)

        counter, gauge, histogram = prometheus.Counter, prometheus.Gauge, prometheus.Histogram
        self.requests = make(counter, "requests", "Requests by status.", "path", "status")
        self.seconds = make(
            histogram,
            "request_seconds",
            "From the head of a request to the end of its answer.",
            "path",
            buckets=SECONDS,
        )
        self.in_flight = make(gauge, "requests_in_flight", "Requests not answered yet.")
        self.connections = make(gauge, "connections", "Open connections.")
        self.ended = make(
            counter,
            "connections_ended",
            "Connections that were refused, sent no HTTP, or took too long, by what they were at.",
            "reason",
        )
        self.waiting = make(gauge, "texts_waiting", "Texts that are not being encoded yet.")
        self.texts = make(counter, "texts", "Texts encoded.")
        self.tokens = make(counter, "tokens", "Tokens read.")
        self.truncated = make(counter, "texts_truncated", "Texts longer than the encoder reads.")
        self.batch = make(
            histogram,
            "batch_texts",
            "Texts encoded together.",
            buckets=(1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024),
        )
        self.batch_seconds = make(
            histogram, "batch_seconds", "Time to encode a batch.", buckets=SECONDS
        )


class Service:
    """One encoder, asked over HTTP.

    Attributes:
      batcher: to be closed when the server has stopped.
      stopping: whether answers say that their connection ends.
    """

    def __init__(self, encoder: Encoder, settings: ServeSettings, name: str, door: Door):
        self.encoder, self.settings, self.name, self.door = encoder, settings, name, door
        self.stopping = False
        self.held = 0  # bytes of bodies that are not answered yet
        self.served = protocol.ServedModel(name, encoder.dimension, encoder.bundle.leading)
        self.started = int(time.time())
        self.metrics = ServerMetrics()
        encoder.encode(["warm up"])  # compiles, on accelerators
        self.batcher = Batcher(
            self._encode,
            batch=settings.batch,
            wait=settings.wait / 1000,
            limit=settings.max_waiting,
        )
        self.metrics.waiting.set_function(lambda: self.batcher.waiting)

    def app(self) -> "_Counting":
        """The ASGI application."""
        routes = {
            "/v1/embeddings": (self.embeddings, "POST"),
            "/v1/models": (self.models, "GET"),
            "/v1/models/{name:path}": (self.model, "GET"),
            "/metrics": (self.report, "GET"),
            "/health": (self.health, "GET"),
        }
        app = Starlette(
            routes=[
                Route(path, function, methods=[method])
                for path, (function, method) in routes.items()
            ],
            middleware=[
                Middleware(
                    CORSMiddleware,
                    allow_origins=self.settings.allow_origin,
                    allow_methods=("GET", "POST"),
                    allow_headers=("*",),
                )
            ]
            if self.settings.allow_origin
            else [],
            exception_handlers={
                Refusal: _refused,
                HTTPException: _no_such_route,
                ClientDisconnect: _hung_up,
                Exception: _failed,
            },
        )
        return _Counting(app, self, {path for path in routes if "{" not in path})

    def _encode(self, texts: list[str]) -> CountedVectors:
        """Vectors of length 1 or 0; not finite where the encoder's length is not, for one text must
        not fail those of other requests."""
        before = self.encoder.truncated
        with self.metrics.batch_seconds.time():
            vectors, tokens = self.encoder.encode_counted(texts, normalize=False)
        with np.errstate(over="ignore", invalid="ignore"):
            is_bad = ~np.isfinite(np.einsum("nd,nd->n", vectors, vectors))
        vectors = normalize(np.where(is_bad[:, None], 0, vectors))
        vectors[is_bad] = np.nan
        self.metrics.batch.observe(len(texts))
        self.metrics.texts.inc(len(texts))
        self.metrics.tokens.inc(int(tokens.sum()))
        self.metrics.truncated.inc(self.encoder.truncated - before)
        return vectors, tokens

    async def embeddings(self, request: Request) -> Response:
        self._admit(request)
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind != "application/json":  # what a page of another site cannot send unasked
            raise Refusal(415, "send the request with Content-Type: application/json")
        end = asyncio.get_running_loop().time() + self.settings.timeout
        parts: list[bytes] = []
        try:
            try:
                async with asyncio.timeout_at(end):
                    await self._body(request, parts)
            except TimeoutError:
                raise Refusal(
                    408, f"the body did not come within {self.settings.timeout:g} s", code="timeout"
                ) from None
            packing = request.headers.get("content-encoding", "").strip().lower()
            body = protocol.unpack(b"".join(parts), packing, self.settings.max_body)
            question = protocol.parse_request(body, self.served, self.settings)
            return await self._answer(question, end)
        finally:
            self.held -= sum(map(len, parts))

    async def _answer(self, question: protocol.Question, end: float) -> Response:
        future = self.batcher.submit(question.texts)
        try:
            async with asyncio.timeout_at(end):
                vectors, tokens = await asyncio.wrap_future(future)
        except TimeoutError:
            raise Refusal(
                503,
                f"there was no time for it within {self.settings.timeout:g} s; try again later",
                code="timeout",
                retry_after=1,
            ) from None
        given = question, self.served, vectors, tokens
        if len(vectors) * question.dimensions > LARGE:
            content = await asyncio.to_thread(protocol.answer, *given)
        else:
            content = protocol.answer(*given)
        return Response(content, media_type="application/json")

    async def _body(self, request: Request, parts: list[bytes]) -> None:
        """Appends the body of a request to `parts`, and counts it as held."""
        limit, size = self.settings.max_body, 0
        announced = request.headers.get("content-length", "0")
        if not (announced.isdecimal() and int(announced) > limit):
            async for part in request.stream():
                parts.append(part)
                self.held += len(part)
                size += len(part)
                if size > limit:
                    break
                if self.held > BODIES * limit:
                    raise Refusal(
                        503,
                        "the requests of others fill the memory for them; try again later",
                        code="no_room",
                        retry_after=1,
                    )
            else:
                return
        raise protocol.too_large(limit)

    async def models(self, request: Request) -> Response:
        self._admit(request)
        return JSONResponse({"object": "list", "data": [self._described()]})

    async def model(self, request: Request) -> Response:
        self._admit(request)
        self.served.check_name(request.path_params["name"])
        return JSONResponse(self._described())

    def _described(self) -> dict:
        return {
            "id": self.name,
            "object": "model",
            "created": self.started,
            "owned_by": "lightxling",
            "dimension": self.encoder.dimension,
            "max_length": self.encoder.max_length,  # tokens
            "languages": list(self.encoder.languages),
        }

    async def health(self, request: Request) -> Response:
        is_well = self.batcher.alive
        return JSONResponse(
            {"status": "ok" if is_well else "the encoder has stopped"}, 200 if is_well else 503
        )

    async def report(self, request: Request) -> Response:
        self._admit(request)
        text = prometheus.generate_latest(self.metrics.registry)
        return Response(text, headers={"content-type": prometheus.CONTENT_TYPE_LATEST})

    def _admit(self, request: Request) -> None:
        headers = request.headers
        self.door.check(headers.get("host", ""), headers.get("authorization", ""))


async def _refused(request: Request, refusal: Refusal) -> Response:
    headers = {}
    if refusal.retry_after:
        headers["retry-after"] = str(refusal.retry_after)
    if refusal.status == 401:
        headers["www-authenticate"] = "Bearer"
    if refusal.code == "unknown_encoding":
        headers["accept-encoding"] = "gzip"
    return JSONResponse(refusal.body(), refusal.status, headers)


async def _no_such_route(request: Request, error: HTTPException) -> Response:
    """404 and 405."""
    here = "; here are POST /v1/embeddings, GET /v1/models, /health and /metrics"
    asked = f"{request.method} {request.url.path}"
    refusal = Refusal(error.status_code, f"there is no {asked:.80}{here}")
    return JSONResponse(refusal.body(), error.status_code, error.headers)


async def _hung_up(request: Request, error: ClientDisconnect) -> Response:
    return Response(status_code=GONE)


async def _failed(request: Request, error: Exception) -> Response:
    refusal = Refusal(500, "this request failed; the server's log says how", code="internal_error")
    return JSONResponse(refusal.body(), 500)


class _Counting:
    """Middleware that counts and times requests; unknown paths are one, or they could be many."""

    def __init__(self, app, service: Service, paths: set[str]):
        self.app, self.service, self.metrics = app, service, service.metrics
        self.paths = paths

    async def __call__(self, scope, receive, send):
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        status, start = GONE, time.perf_counter()

        async def watched(message):
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                if self.service.stopping:
                    message["headers"] = [*message.get("headers", ()), (b"connection", b"close")]
            await send(message)

        path = scope["path"] if scope["path"] in self.paths else "other"
        with self.metrics.in_flight.track_inprogress():
            try:
                await self.app(scope, receive, watched)
            finally:
                self.metrics.requests.labels(path, str(status)).inc()
                self.metrics.seconds.labels(path).observe(time.perf_counter() - start)
