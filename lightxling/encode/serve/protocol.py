"""The OpenAI embeddings format: what a request may say, and what it gets.

    POST /v1/embeddings  {"model": "five", "input": ["Where is it?", "Où est-ce ?"]}
    -> {"object": "list", "model": "five", "data": [{"object": "embedding", "index": 0,
        "embedding": [...]}, ...], "usage": {"prompt_tokens": 9, "total_tokens": 9}}

Where that format leaves a choice: an empty text is answered with zeros, as `Encoder.encode` does; a
text longer than the encoder reads is cut off; token numbers are refused, for they are those of
another tokenizer; the name of the model is checked, so that vectors of two models are not mixed up;
null means "not given"; another key that is not known is refused, for it may ask for other vectors.
"""

import base64
import dataclasses
import json
import zlib
from typing import Any, Literal

import numpy as np

from lightxling.base.files import parse_json
from lightxling.base.shapes import Float, Int
from lightxling.base.vectors import normalize
from lightxling.encode.serve.settings import ServeSettings

_POWERS = np.array([10**n for n in range(23)], np.float64)
KNOWN = ("model", "input", "encoding_format", "dimensions", "user")
MEMBERS = 100
"""Of gzip in the body of a request; what programs write has one."""


class Refusal(Exception):
    """A request that is not answered with vectors.

    Attributes:
      status: of HTTP.
      param: the key of the request that is at fault.
      code: short name of the fault, for programs.
      retry_after: seconds after which to try again.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        retry_after: int | None = None,
    ):
        super().__init__(message)
        self.status, self.param, self.code, self.retry_after = status, param, code, retry_after

    def body(self) -> dict[str, Any]:
        if self.status == 429:
            kind = "rate_limit_error"
        else:
            kind = "server_error" if self.status >= 500 else "invalid_request_error"
        message = {"message": str(self), "type": kind, "param": self.param, "code": self.code}
        return {"error": message}


@dataclasses.dataclass(frozen=True)
class ServedModel:
    """What there is to ask for.

    Attributes:
      name: of the model.
      dimension: of its vectors.
      leading: whether their first numbers may stand alone.
    """

    name: str
    dimension: int
    leading: bool

    def check_name(self, name: Any) -> None:
        """Refuses to answer for another model."""
        if name != self.name:
            message = f"model {name!r:.80} is not here; this server has {self.name!r}"
            raise Refusal(404, message, param="model", code="model_not_found")


@dataclasses.dataclass(frozen=True)
class Question:
    """A request that can be answered."""

    texts: list[str]
    encoding: Literal["float", "base64"]
    dimensions: int


def parse_request(body: bytes, served: ServedModel, settings: ServeSettings) -> Question:
    """Reads the body of a request.

    Raises:
      Refusal: says what is wrong with it.
    """
    try:
        asked = parse_json(body)
    except ValueError as error:  # bytes that are not UTF-8 among them
        raise Refusal(400, f"the body is not JSON: {error}", code="invalid_json") from None
    if not isinstance(asked, dict):
        raise Refusal(400, "the body should be a JSON object", code="invalid_json")
    asked = {key: value for key, value in asked.items() if value is not None}
    for key in asked:
        if key not in KNOWN:
            message = f"unknown parameter {key!r:.80}; known are {', '.join(KNOWN)}"
            shown = key.encode(errors="backslashreplace").decode()  # half characters are not UTF-8
            raise Refusal(400, message, param=shown[:80], code="unknown_parameter")
    for key in ("model", "input"):
        if key not in asked:
            raise Refusal(400, f"{key} is missing", param=key, code="missing_required_parameter")
    served.check_name(asked["model"])
    encoding = asked.get("encoding_format", "float")
    if encoding not in ("float", "base64"):
        raise _invalid("encoding_format", f"is {encoding!r:.80}, not 'float' or 'base64'")
    dimensions = asked.get("dimensions", served.dimension)
    return Question(
        _texts(asked["input"], settings), encoding, _check_dimensions(dimensions, served)
    )


def too_large(limit: int) -> Refusal:
    return Refusal(413, f"the body is larger than {limit:,} bytes", code="too_large")


def unpack(body: bytes, packing: str, limit: int) -> bytes:
    """The body of a request, whatever its Content-Encoding.

    Args:
      packing: gzip, or empty for none.
      limit: bytes of what comes out; no more is unpacked.

    Raises:
      Refusal: it is packed otherwise, damaged, or too large.
    """
    if packing in ("", "identity"):
        return body
    if packing not in ("gzip", "x-gzip"):
        raise Refusal(
            415, f"Content-Encoding {packing!r:.80} is not read; gzip is", code="unknown_encoding"
        )
    parts = []
    while body or not parts:  # a file of gzip may have several members
        if len(parts) == MEMBERS:  # what is left is copied with each
            raise Refusal(
                400, f"the body has more than {MEMBERS} members of gzip", code="invalid_encoding"
            )
        reader = zlib.decompressobj(wbits=31)
        try:
            part = reader.decompress(body, limit + 1)
        except zlib.error:
            part = b""
        if len(part) > limit:
            raise too_large(limit)
        if not reader.eof:
            raise Refusal(400, "the body is not gzip, or not all of it", code="invalid_encoding")
        parts.append(part)
        limit, body = limit - len(part), reader.unused_data
    return b"".join(parts)


def _invalid(param: str, rule: str) -> Refusal:
    return Refusal(400, f"{param} {rule}", param=param, code="invalid_value")


def _texts(value: Any, settings: ServeSettings) -> list[str]:
    """The texts of an `input`."""
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list):
        raise _invalid("input", f"should be a text or a list of texts, not {value!r:.80}")
    if not texts:
        raise _invalid("input", "is an empty list")
    if len(texts) > settings.max_inputs:
        raise _invalid(
            "input",
            f"holds {len(texts):,} texts; at most {settings.max_inputs:,} fit in one request",
        )
    for i, text in enumerate(texts):
        if isinstance(text, int | list):
            raise _invalid(
                "input",
                f"holds numbers at {i}: token numbers are those of another tokenizer; send text "
                "(LangChain does with check_embedding_ctx_length=False)",
            )
        if not isinstance(text, str):
            raise _invalid("input", f"should hold texts; number {i} is {text!r:.80}")
        if len(text) > settings.max_characters:
            raise _invalid(
                "input",
                f"holds {len(text):,} characters in text {i}; at most "
                f"{settings.max_characters:,} are taken",
            )
    return texts


def _check_dimensions(value: Any, served: ServedModel) -> int:
    if type(value) is not int or not 1 <= value <= served.dimension:
        raise _invalid("dimensions", f"is {value!r:.80}, not a number from 1 to {served.dimension}")
    if value < served.dimension and not served.leading:
        raise _invalid(
            "dimensions",
            f"is {value}, but the first numbers of this encoder's vectors do not stand alone; "
            f"leave it out, or serve what `lightxling export --dimensions {value}` writes",
        )
    return value


def answer(
    question: Question,
    served: ServedModel,
    vectors: Float[np.ndarray, "N D"],
    tokens: Int[np.ndarray, " N"],
) -> bytes:
    """The body of an answer.

    Args:
      vectors: of the question's texts, in their order, of length 1 or zero.
      tokens: that the encoder read of each.

    Raises:
      Refusal: a vector is not finite.
    """
    is_bad = ~np.isfinite(vectors).all(axis=1)
    if is_bad.any():
        raise Refusal(
            500,
            f"the encoder has no finite vector for text {int(np.argmax(is_bad))}; leave it out",
            param="input",
            code="not_finite",
        )
    if question.dimensions < served.dimension:
        vectors = normalize(vectors[:, : question.dimensions])
    if question.encoding == "base64":
        rows = [base64.b64encode(row).decode() for row in vectors.astype("<f4", order="C")]
    else:
        rows = _seven_digits(vectors).tolist()
    total = int(tokens.sum())
    body = {
        "object": "list",
        "model": served.name,
        "data": [
            {"object": "embedding", "index": i, "embedding": row} for i, row in enumerate(rows)
        ],
        "usage": {"prompt_tokens": total, "total_tokens": total},
    }
    return as_json(body)


def as_json(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def _seven_digits(values: Float[np.ndarray, "N D"]) -> Float[np.ndarray, "N D"]:
    """float64 numbers that are written with seven digits, as many as float32 has."""
    sizes = np.abs(values, dtype=np.float64)
    sizes = np.where(sizes > 1e-15, sizes, 1)  # smaller ones become 0
    scale = _POWERS[6 - np.floor(np.log10(sizes)).astype(int)]
    # of two exact numbers, the quotient is the number nearest to the decimal one
    return np.round(values * scale) / scale
