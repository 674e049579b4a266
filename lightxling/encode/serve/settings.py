"""The settings of the server."""

import dataclasses
import math
from pathlib import Path
from urllib.parse import urlsplit

from lightxling.base.errors import UserError

POSITIVE = (
    *("max_body", "max_inputs", "max_characters", "batch", "timeout"),
    *("max_connections", "keep_alive", "head_timeout", "threads"),
)
"""Settings that are greater than 0."""


@dataclasses.dataclass(frozen=True)
class ServeSettings:
    """Where the server listens and what a request may ask for.

    Attributes:
      host: address to listen on; by default only this machine is answered, 0.0.0.0 answers all.
      port: 0 takes a free one.
      name: what requests call the model; empty: the name of its folder.
      max_body: bytes of a request.
      max_inputs: texts in a request.
      max_characters: characters of a text. The encoder reads its first tokens only.
      max_waiting: texts that wait, of all requests together; a request beyond it is sent away
        with 429.
      batch: texts encoded together, at most.
      wait: milliseconds that a text may wait for others to be encoded with.
      timeout: seconds from the head of a request to its answer.
      key_file: file with the key that requests must bring as `Authorization: Bearer KEY`; without
        it, that of the environment variable LIGHTXLING_API_KEY. The key itself is no option, for
        everyone on the machine sees those.
      allow_host: further names under which requests may ask for this server, `*.example.org` for
        those below one, `*` for every name. Addresses, `localhost`, --host and the machine's name
        need none.
      allow_origin: sites whose pages may ask, such as https://example.org; `*` for all.
      max_connections: open at a time; who comes then is answered with 503.
      keep_alive: seconds that a connection stays open on which nothing happens.
      head_timeout: seconds for the head of a request to come.
      threads: threads that multiply matrices. More are of use to large encoders on idle cores; on
        busy ones they wait for each other.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    name: str = ""
    max_body: int = 4 << 20
    max_inputs: int = 2048
    max_characters: int = 32_768
    max_waiting: int = 8192
    batch: int = 256
    wait: float = 2.0
    timeout: float = 30.0
    key_file: Path | None = None
    allow_host: tuple[str, ...] = ()
    allow_origin: tuple[str, ...] = ()
    max_connections: int = 1000
    keep_alive: float = 30.0
    head_timeout: float = 10.0
    threads: int = 1

    def validate(self) -> None:
        """Refuses what cannot work.

        Raises:
          UserError: names the value and the rule.
        """
        for field in POSITIVE:
            if not 0 < getattr(self, field) < math.inf:
                raise UserError(f"{_flag(field)}={getattr(self, field)} should be greater than 0")
        if not 0 <= self.port < 1 << 16:
            raise UserError(f"--port={self.port} should be from 0 (any free one) to 65535")
        if not 0 <= self.wait < 1000 * self.timeout:
            raise UserError(f"--wait={self.wait} ms should be from 0 to the --timeout")
        if self.max_waiting < self.max_inputs:
            raise UserError(
                f"--max-waiting={self.max_waiting} should be at least "
                f"--max-inputs={self.max_inputs}: a request that is allowed must fit"
            )
        for origin in self.allow_origin:
            if origin != "*" and not _is_origin(origin):
                raise UserError(
                    f"--allow-origin {origin} is not the origin of a site, such as "
                    "https://example.org or http://localhost:3000, without a path"
                )


def _is_origin(text: str) -> bool:
    try:
        parts = urlsplit(text)
    except ValueError:
        return False
    return bool(parts.netloc) and text == f"{parts.scheme}://{parts.netloc}".lower()


def _flag(field: str) -> str:
    return "--" + field.replace("_", "-")
