"""Who may ask: the names that this server goes by, and the key.

A page of a stranger's site can have its own name point to 127.0.0.1 (DNS rebinding), and the
browser of whoever visits it then takes this server for that site. The `Host` of such a request is
the name of the site, so that names are checked. Addresses in numbers cannot be rebound and always
pass, as does `localhost`.
"""

import hmac
import ipaddress
import os
import socket
from pathlib import Path
from urllib.parse import urlsplit

from lightxling.base.errors import UserError
from lightxling.encode.serve.protocol import Refusal
from lightxling.encode.serve.settings import ServeSettings

KEY = "LIGHTXLING_API_KEY"
"""Environment variable with the key that requests must bring."""
_KEY_LIMIT = 4096  # characters


class Door:
    """Lets in who asks for one of the names, with the key if there is one."""

    def __init__(self, names: set[str], key: str | None):
        """
        Args:
          names: in small letters; `*.example.org` stands for all names below it, `*` for all.
        """
        self.names, self._key = names, None if key is None else key.encode()

    def check(self, host: str, authorization: str) -> None:
        """Takes the two headers of a request, empty where one was not sent.

        Raises:
          Refusal: 403 or 401.
        """
        name = host_name(host)
        if not self._knows(name):
            raise Refusal(
                403,
                f"the request is for host {name or host!r:.80}, which is no name of this server; "
                "start it with --allow-host and that name if it should be",
                code="host_not_allowed",
            )
        if self._key is None:
            return
        scheme, _, given = authorization.partition(" ")
        if scheme.lower() != "bearer" or not hmac.compare_digest(given.encode(), self._key):
            raise Refusal(
                401,
                "the key is wrong or missing: Authorization: Bearer KEY",
                code="invalid_api_key",
            )

    def _knows(self, name: str) -> bool:
        if "*" in self.names:
            return True
        if is_address(name) or name in self.names or name.endswith(".localhost"):
            return True
        above = name.partition(".")[2]
        while above:
            if f"*.{above}" in self.names:
                return True
            above = above.partition(".")[2]
        return False


def host_name(header: str) -> str:
    """The name in a `Host` header, without port and final dot, in small letters; empty if none."""
    try:
        parts = urlsplit(f"//{header}")
        return "" if parts.netloc != header else (parts.hostname or "").removesuffix(".")
    except ValueError:
        return ""


def is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def own_names(settings: ServeSettings) -> set[str]:
    """`localhost`, what the server listens on, the name of the machine, and `--allow-host`.

    Raises:
      UserError: a name to be allowed is none.
    """
    names = {"localhost", settings.host}
    if not (is_address(settings.host) and ipaddress.ip_address(settings.host).is_loopback):
        names.add(socket.gethostname())
    for name in settings.allow_host:
        bare = name.removeprefix("*.")
        if name != "*" and (bare != host_name(bare) or "*" in bare):
            raise UserError(
                f"--allow-host {name} is not a host's name; write it in small letters and without "
                "http:// and port, *.example.org for all names below one, or * for every name"
            )
    return {name.lower() for name in names} | set(settings.allow_host)


def read_key(file: Path | None) -> str | None:
    """The key of --key-file, or else of the environment; None if there is neither.

    White space around it is left out: a header has none, and a file ends in a newline.

    Raises:
      UserError: no header can hold it. The message does not hold it either.
    """
    if file is None:
        place, text = KEY, os.environ.get(KEY)
        if text is None:
            return None
    else:
        place = f"--key-file {file}"
        try:
            with open(file, encoding="utf-8") as opened:
                text = opened.read(_KEY_LIMIT + 1)
        except OSError as error:
            raise UserError(f"{place}: {error.strerror}") from None
        except UnicodeDecodeError:
            text = ""
    key = text.strip()
    if not (key.isascii() and key.isprintable() and key and len(text) <= _KEY_LIMIT):
        raise UserError(
            f"{place} should hold a key: one line of at most {_KEY_LIMIT:,} ASCII characters; to "
            "need no key, leave it out"
        )
    return key
