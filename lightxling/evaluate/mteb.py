"""Hands a run or an export to MTEB: `mteb.evaluate(MtebEncoder.load("runs/en-fr"), tasks)`.

Needs the extra: `pip install "lightxling[mteb]"`. Note that what MTEB calls Tatoeba, BUCC and XNLI
are other measures than the tasks of those names here: F1 of X to English only, retrieval of pairs
that are given, and average precision of two classes.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from lightxling.base.extras import needed_by
from lightxling.base.places import locate
from lightxling.base.vectors import Encode


class MtebEncoder:
    """An encoder in the shape that MTEB asks for (its EncoderProtocol). No prompts are used.

    Args:
      encode: sentences to vectors [N, D].
      name: shown in MTEB's results.
      revision: tells MTEB's kept results of different parameters apart.
      dimension: of the vectors.
      max_tokens: that the encoder reads of a sentence.
    """

    def __init__(
        self,
        encode: Encode,
        name: str = "encoder",
        revision: str = "",
        dimension: int | None = None,
        max_tokens: int | None = None,
    ):
        with needed_by("MtebEncoder"):
            from mteb.models.model_meta import ModelMeta, ScoringFunction
        self._encode = encode
        self.mteb_model_meta = ModelMeta.create_empty(
            {
                "name": f"lightxling/{name}",
                "revision": revision[:16] or None,
                "embed_dim": dimension,
                "max_tokens": max_tokens,
                "similarity_fn_name": ScoringFunction.COSINE,
                "framework": ["JAX"],
                "use_instructions": False,
            }
        )

    @classmethod
    def load(cls, path: str | Path | None = None) -> "MtebEncoder":
        """Reads a run directory, an export or an encoder of the package, as `Encoder.load` does."""
        from lightxling.encode.encoder import Encoder

        encoder = Encoder.load(path)
        name = locate(path).absolute().name
        size = encoder.dimension, encoder.max_length
        return cls(encoder.encode, name, encoder.fingerprint, *size)

    def encode(self, inputs: Iterable[Mapping[str, Any]], **_: Any) -> np.ndarray:
        """Vectors [N, D] of all texts of the batches, which MTEB passes as `{"text": [...]}`."""
        return self._encode([text for batch in inputs for text in batch["text"]])

    def similarity(self, first: np.ndarray, second: np.ndarray) -> Any:
        """Cosine of every row of `first` with every row of `second`."""
        from mteb.similarity_functions import cos_sim

        return cos_sim(first, second)

    def similarity_pairwise(self, first: np.ndarray, second: np.ndarray) -> Any:
        """Cosine of row i of `first` and row i of `second`."""
        from mteb.similarity_functions import pairwise_cos_sim

        return pairwise_cos_sim(first, second)
