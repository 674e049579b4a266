"""The settings of the server."""

import dataclasses
import math

from lightxling.base.errors import UserError


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
    threads: int = 1

    def validate(self) -> None:
        """Refuses what cannot work.

        Raises:
          UserError: names the value and the rule.
        """
        for field in ("max_body", "max_inputs", "max_characters", "batch", "timeout", "threads"):
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


def _flag(field: str) -> str:
    return "--" + field.replace("_", "-")
