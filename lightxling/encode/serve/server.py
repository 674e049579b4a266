"""The server's process: the address, the model, the signals that end it."""

import ipaddress
import os
import signal
import socket
import warnings
from collections.abc import Callable
from pathlib import Path

from lightxling.base.errors import UserError
from lightxling.base.extras import needed_by
from lightxling.encode.serve.access import KEY, Door, own_names, read_key
from lightxling.encode.serve.settings import ServeSettings


def serve_encoder(
    model: Path | None,
    settings: ServeSettings,
    *,
    checkpoint: str | None = None,
    say: Callable[[str], None],
) -> None:
    """Answers requests until SIGTERM or Ctrl-C.

    Args:
      model: as in `Encoder.load`.
      say: receives the address, and what to know about it, as lines of text.

    Raises:
      UserError: a setting, the address or the model does not work.
    """
    settings.validate()
    door = Door(own_names(settings), key := read_key(settings.key_file))
    with needed_by("lightxling serve"):
        # read when numpy is imported
        for library in ("OMP", "OPENBLAS", "MKL"):
            os.environ[f"{library}_NUM_THREADS"] = str(settings.threads)
        from lightxling.encode.serve.app import Service
        from lightxling.encode.serve.connections import Server, allowed_connections
    from lightxling.base.places import locate
    from lightxling.encode.encoder import Encoder

    limit = allowed_connections(settings)
    with listen(settings.host, settings.port) as listener:
        encoder = Encoder.load(model, checkpoint=checkpoint)
        # counted in /metrics instead
        warnings.filterwarnings("ignore", message="a sentence is longer than")
        name = locate(model).resolve().name
        service = Service(encoder, settings, settings.name or name, door)
        server = Server(service, limit)
        # uvicorn passes a signal on to the handlers that it found: these make that a normal end
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, server.handle_exit)
        host, port = listener.getsockname()[:2]
        if not ipaddress.ip_address(host.partition("%")[0]).is_loopback and key is None:
            say(f"whoever reaches {host} may ask; set {KEY} or --key-file to demand a key")
        if limit < settings.max_connections:
            say(f"at most {limit:,} connections: `ulimit -Hn` allows no more descriptors")
        place = f"[{host}]" if ":" in host else host
        say(
            f"{service.name} ({encoder.dimension} dimensions) at http://{place}:{port}/v1; "
            "Ctrl-C stops it"
        )
        try:
            server.run(sockets=[listener])
        finally:
            service.batcher.close()
        say("stopped")


def listen(host: str, port: int) -> socket.socket:
    """An open socket; who connects before the model is read waits.

    Raises:
      UserError: the address is not one of this machine, or taken.
    """
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        return socket.create_server(address[:2], family=family, backlog=1024)
    except socket.gaierror as error:
        raise UserError(f"--host {host}: {error.strerror}") from None
    except UnicodeError:
        raise UserError(
            f"--host {host} is not a name: its parts have 1 to 63 letters; give one of this "
            "machine's addresses, such as 127.0.0.1"
        ) from None
    except OSError as error:
        raise UserError(
            f"cannot listen on {host} port {port}: {os.strerror(error.errno)}; give another "
            "--port, or 0 for a free one"
        ) from None
