"""Connections over time: how many there are, how long each may take, how they end.

uvicorn ends a connection that is idle after an answer. A client may also never send the head of a
request, never end it, never read its answer, or never stop sending after the answer; each of them
holds a descriptor, and here each has its time. An application of its own bounds the time of a body
and of an answer: app.py.
"""

import asyncio
import time
from typing import Any

import uvicorn
from h11 import DONE, IDLE
from uvicorn.protocols.http.h11_impl import H11Protocol

from lightxling.base.errors import UserError
from lightxling.encode.serve.app import Service
from lightxling.encode.serve.protocol import Refusal, as_json
from lightxling.encode.serve.settings import ServeSettings

SPARE = 64
"""Connections beyond the limit that are still told so; further ones are closed at once. And
descriptors for all else."""
BEYOND = 1.0
"""Seconds in which who comes beyond the limit should ask, to be told."""
GRACE = 1.0
"""Seconds after SIGTERM in which idle connections are answered once more: a request may be under
way."""
TICKS = 5
"""Connections are looked at every so many tenths of a second."""


def allowed_connections(settings: ServeSettings) -> int:
    """--max-connections, or as many as the process may open descriptors for.

    The limit that the shell gave is raised as far as the machine allows.

    Raises:
      UserError: that is too few for any connection.
    """
    try:
        import resource
    except ImportError:  # Windows counts them otherwise
        return settings.max_connections
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = settings.max_connections + 2 * SPARE
    if soft != resource.RLIM_INFINITY and soft < needed:
        soft = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
        if soft <= 2 * SPARE:
            raise UserError(
                f"this process may open {soft} files and connections, and the server needs "
                f"{2 * SPARE} beside those of its clients; raise the limit (`ulimit -Hn`)"
            )
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        return min(settings.max_connections, soft - 2 * SPARE)
    return settings.max_connections


class Server(uvicorn.Server):
    """Serves a `Service` whose connections are those below."""

    def __init__(self, service: Service, limit: int):
        """
        Args:
          limit: of connections.
        """
        settings, self.service = service.settings, service

        class Limited(Connection):
            pass

        Limited.service, Limited.limit = service, limit
        config = uvicorn.Config(
            service.app(),
            http=Limited,
            ws="none",
            lifespan="off",
            log_level="error",  # bad requests are counted in /metrics, not written to a log
            access_log=False,
            server_header=False,
            timeout_keep_alive=settings.keep_alive,
            # no request takes longer, but a client may never read its answer
            timeout_graceful_shutdown=int(settings.timeout) + 5,
        )
        super().__init__(config)
        service.metrics.connections.set_function(lambda: len(self.server_state.connections))

    async def on_tick(self, counter: int) -> bool:
        if counter % TICKS == 0:
            now = time.monotonic()
            for connection in list(self.server_state.connections):
                connection.check(now)
        return await super().on_tick(counter)

    async def shutdown(self, sockets=None) -> None:
        self.service.stopping = True  # answers say from now on that the connection ends
        await super().shutdown(sockets)


class Connection(H11Protocol):
    """One connection, which `Server` looks at now and then."""

    service: Service
    limit: int

    def connection_made(self, transport: asyncio.Transport) -> None:
        beyond = len(self.connections) - self.limit
        if beyond >= SPARE:
            self._count("refused")
            transport.abort()
            return
        super().connection_made(transport)
        self._state: tuple | None = None
        self._since = time.monotonic()
        self._is_beyond = beyond >= 0
        if self._is_beyond:
            self._count("refused")
            self.app = _full

    def connection_lost(self, error: Exception | None) -> None:
        if self.transport is not None:  # else it was closed at once
            super().connection_lost(error)

    def check(self, now: float) -> None:
        """Ends the connection if what it is at takes too long."""
        settings = self.service.settings
        phase, seconds = self._phase(settings)
        # an answer that flows, however slowly, is no standstill
        state = phase, self.cycle, self.transport.get_write_buffer_size()
        if state != self._state:
            self._state, self._since = state, now
        elif now - self._since > seconds:
            self._count(phase)
            if phase == "head":
                self._tell(Refusal(408, "the head of the request did not come", code="timeout"))
            if phase in ("idle", "head"):
                self.transport.close()  # and what is left in its buffer may be at a standstill
            else:
                self.transport.abort()

    def _phase(self, settings: ServeSettings) -> tuple[str, float]:
        """What the connection is at, and the seconds which that may take."""
        if self.transport.is_closing():
            return "unread", settings.keep_alive
        if self.cycle is not None and not self.cycle.response_complete:
            is_stuck = self.transport.get_write_buffer_size() > 0
            return "unread", settings.keep_alive if is_stuck else float("inf")
        if self.conn.their_state is not IDLE:
            # after an answer that came before the end of the body
            return "rest", settings.head_timeout if self.conn.our_state is DONE else GRACE
        if self._is_beyond:
            return "beyond", BEYOND
        if self.conn.trailing_data[0]:
            return "head", settings.head_timeout
        return "idle", settings.head_timeout if self.cycle is None else settings.keep_alive

    def shutdown(self) -> None:
        """Told by uvicorn that the server stops."""
        if self.cycle is None or self.cycle.response_complete:
            self.loop.call_later(GRACE, self._close_if_idle)
        else:
            super().shutdown()

    def _close_if_idle(self) -> None:
        if self.cycle is None or self.cycle.response_complete:
            self.transport.close()

    def send_400_response(self, msg: str) -> None:
        """Told by uvicorn that what came is not HTTP."""
        self._count("invalid")
        self._tell(Refusal(400, "the request is not HTTP, or its head is too long"))
        self.transport.close()

    def _tell(self, refusal: Refusal) -> None:
        body = as_json(refusal.body())
        head = f"HTTP/1.1 {refusal.status} \r\nContent-Type: application/json\r\n"
        head += f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        self.transport.write(head.encode() + body)

    def _count(self, reason: str) -> None:
        self.service.metrics.ended.labels(reason).inc()


async def _full(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """The application of who comes beyond the limit of connections."""
    refusal = Refusal(
        503, "too many connections are open; try again later", code="too_many_connections"
    )
    headers = [
        *((b"content-type", b"application/json"), (b"retry-after", b"1")),
        (b"connection", b"close"),
    ]
    await send({"type": "http.response.start", "status": refusal.status, "headers": headers})
    await send({"type": "http.response.body", "body": as_json(refusal.body())})
