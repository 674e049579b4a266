"""The names by which sentence-transformers calls what an `Encoder` does, so that programs written
for it take one as it is."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, TypedDict

import numpy as np

from lightxling.base.errors import UserError
from lightxling.base.extras import needed_by
from lightxling.base.files import atomic_folder, check_parent
from lightxling.base.shapes import Float, Real
from lightxling.base.vectors import normalize as unit
from lightxling.saved.bundle import Bundle, write_bundle

Precision = Literal["float32", "int8", "uint8", "binary", "ubinary"]


class Named(TypedDict, total=False):
    """Arguments of `SentenceTransformer.encode`.

    Attributes:
      show_progress_bar: as `show_progress`.
      normalize_embeddings: True gives length 1; False adds nothing to what `normalize` says.
      convert_to_numpy: False gives a list of vectors.
      convert_to_tensor: give a tensor of torch.
      precision: number format of the vectors, by the rules of sentence-transformers: int8 and uint8
        over the range of each number in this call, binary and ubinary the signs, eight a byte.
      truncate_dim: give only the first numbers; for encoders whose first numbers stand alone.
      prompt: put before every text in place of the encoder's own.
      prompt_name: the same, by a name of the encoder's prompts.
      device: cpu; others are a matter of `Encoder.load(backend=...)`.
    """

    show_progress_bar: bool | None
    normalize_embeddings: bool
    convert_to_numpy: bool
    convert_to_tensor: bool
    precision: Precision
    truncate_dim: int | None
    prompt: str | None
    prompt_name: str | None
    device: Any


def prompt_of(bundle: Bundle, named: Named) -> str:
    """What is put before every text.

    Raises:
      UserError: the encoder has no prompt of that name.
    """
    if (prompt := named.get("prompt")) is not None:
        return prompt
    name = named.get("prompt_name") or ""
    if name and name not in bundle.prompts:
        known = ", ".join(filter(None, bundle.prompts)) or "none"
        raise UserError(f"prompt_name={name!r} is not a prompt of the encoder; it has {known}")
    return bundle.prompts.get(name, "")


def check_named(bundle: Bundle, named: Named) -> None:
    """Refuses arguments that have no meaning here.

    Raises:
      TypeError: one is not known.
      UserError: its value cannot be.
    """
    for name in named:
        if name not in Named.__annotations__:
            raise TypeError(f"encode() got an unexpected keyword argument {name!r}")
    device = named.get("device")
    if device is not None and str(device) != "cpu":
        raise UserError(
            f"device={device!s:.40}: an encoder computes on the CPU, or with "
            "Encoder.load(backend='jax') where jax does"
        )
    precision = named.get("precision", "float32")
    if precision not in Precision.__args__:  # type: ignore[attr-defined]
        raise UserError(f"precision={precision!r:.40} should be {', '.join(Precision.__args__)}")  # type: ignore[attr-defined]
    length = named.get("truncate_dim")
    if length is not None and not 1 <= length <= bundle.dimension:
        raise UserError(f"truncate_dim={length} should be from 1 to {bundle.dimension}")
    if length is not None and length < bundle.dimension and not bundle.leading:
        raise UserError(
            f"truncate_dim={length}: the first numbers of this encoder's vectors do not stand "
            "alone; they do when it is trained with objectives.ese or exported with --dimensions"
        )


def as_named(vectors: Float[np.ndarray, "*N D"], named: Named, *, normalize: bool) -> Any:
    """Vectors in the form that the arguments ask for."""
    if length := named.get("truncate_dim"):
        vectors = vectors[..., :length]
        vectors = unit(vectors) if normalize else vectors
    precision = named.get("precision", "float32")
    if precision != "float32":
        vectors = quantised(vectors, precision)
    if named.get("convert_to_tensor"):
        with needed_by("convert_to_tensor"):
            import torch

        return torch.from_numpy(vectors)
    return vectors if named.get("convert_to_numpy", True) else list(vectors)


def quantised(vectors: Float[np.ndarray, "*N D"], precision: Precision) -> np.ndarray:
    """Vectors in fewer bits.

        binary: the signs packed, minus 128;   int8: 255 steps from the least to the greatest of
        each number, minus 128

    Source: `quantize_embeddings` of sentence-transformers.
    """
    if precision.endswith("binary"):
        bits = np.packbits(vectors > 0, axis=-1)
        return bits if precision == "ubinary" else (bits.astype(np.int16) - 128).astype(np.int8)
    rows = np.atleast_2d(vectors)
    if len(rows) < 2:
        raise UserError(
            f"precision={precision} takes the range of each number from the sentences, and there "
            "is one; give more, or binary"
        )
    low, high = rows.min(axis=0), rows.max(axis=0)
    steps = np.where(high > low, (high - low) / np.float32(255), np.float32(1))
    numbers = np.clip(np.floor((rows - low) / steps), 0, 255)
    return (numbers - 128).astype(np.int8) if precision == "int8" else numbers.astype(np.uint8)


class OtherNames:
    """Methods of an encoder under the names that they have in sentence-transformers."""

    bundle: Bundle
    dimension: int
    max_length: int
    encode: Callable[..., Any]

    def encode_query(self, sentences: str | Sequence[str], **named: Any) -> Any:
        """`encode` with the prompt called query, if the encoder has one."""
        return self._encode_as("query", sentences, **named)

    def encode_document(self, sentences: str | Sequence[str], **named: Any) -> Any:
        """`encode` with the prompt called document or passage, if the encoder has one."""
        name = "document" if "document" in self.bundle.prompts else "passage"
        return self._encode_as(name, sentences, **named)

    def _encode_as(self, name: str, sentences: str | Sequence[str], **named: Any) -> Any:
        if name in self.bundle.prompts and not {"prompt", "prompt_name"} & named.keys():
            named["prompt_name"] = name
        return self.encode(sentences, **named)

    def similarity_pairwise(
        self, a: Real[np.ndarray, "N D"], b: Real[np.ndarray, "N D"]
    ) -> Float[np.ndarray, " N"]:
        """Cosine of every row of `a` with the same row of `b`."""
        return np.einsum("nd,nd->n", unit(np.atleast_2d(a)), unit(np.atleast_2d(b)))

    def get_sentence_embedding_dimension(self) -> int:
        return self.dimension

    @property
    def max_seq_length(self) -> int:
        """`max_length`."""
        return self.max_length

    def save_pretrained(self, path: str | Path) -> None:
        """Writes a `safetensors` export into a new folder, which `Encoder.load` opens.

        Raises:
          UserError: the folder exists.
        """
        folder = Path(path)
        check_parent(folder)
        if folder.exists():
            raise UserError(f"{folder} exists; give the name of a new folder")
        with atomic_folder(folder) as temporary:
            write_bundle(self.bundle, temporary)
