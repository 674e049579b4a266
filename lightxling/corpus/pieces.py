"""A sentencepiece model, whose ids 0, 1, 2 are <pad>, <unk>, <MASK>."""

import hashlib
import itertools
import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import sentencepiece

from lightxling.base.errors import UserError

PAD, UNK, MASK = 0, 1, 2
SPECIAL = ("<pad>", "<unk>", "<MASK>")
PUNCTUATION = frozenset(".?!,\":;<>-+=_'%&#@*()~`") | {"", " "}
"""Pieces that masking leaves alone."""


class Tokenizer:
    """A sentencepiece model.

    Attributes:
      vocab_size: number of pieces V, specials included.
      lowercase: whether the model folds case.
      dtype: smallest of uint16 and uint32 that holds every id.
      sha256: of the model file.
      tail: pieces that stand after every text.
    """

    tail = 0

    def __init__(self, model: bytes, name: str = "the tokenizer model"):
        try:
            if not model:
                raise RuntimeError("empty file")
            self._model = sentencepiece.SentencePieceProcessor(model_proto=model)
            first = [self._model.id_to_piece(i) for i in range(len(SPECIAL))]
            self.lowercase = self._model.normalize("A").endswith("a")
        except (RuntimeError, IndexError, UnicodeDecodeError):
            raise UserError(
                f"{name} is damaged or not a sentencepiece model; run `lightxling prepare` again"
            ) from None
        if first != list(SPECIAL):
            raise UserError(
                f"{name} starts with the pieces {' '.join(first)}, not {' '.join(SPECIAL)};"
                " leave tokenizer.file empty to train a model"
            )
        self.vocab_size = self._model.get_piece_size()
        self.dtype = np.dtype(np.uint16 if self.vocab_size <= 1 << 16 else np.uint32)
        self.sha256 = hashlib.sha256(model).hexdigest()

    def new_lexicon(self) -> Any:
        """What `encode` keeps unknown words in; None: there are none, but unknown pieces."""
        return None

    def encode(
        self, sentences: Sequence[str], max_length: int, lexicon: Any = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Returns all ids end to end, and how many each sentence has: at most `max_length`."""
        try:
            rows = self._model.encode(list(sentences), num_threads=os.cpu_count())
        except (TypeError, UnicodeEncodeError):  # lone surrogates
            sentences = [text.encode("utf-8", "replace").decode() for text in sentences]
            rows = self._model.encode(sentences, num_threads=os.cpu_count())
        rows = [row[:max_length] for row in rows]
        lengths = np.fromiter(map(len, rows), np.int64, len(rows))
        ids = np.fromiter(itertools.chain.from_iterable(rows), self.dtype, lengths.sum())
        return ids, lengths

    def unknown(self, ids: np.ndarray) -> np.ndarray:
        """Whether each id stands for something that is not in the vocabulary."""
        return ids == UNK

    def decode(self, ids: Sequence[int] | np.ndarray) -> str:
        return self._model.decode([int(i) for i in ids])

    def pieces(self) -> list[str]:
        return [self._model.id_to_piece(i) for i in range(self.vocab_size)]

    def maskable(self) -> np.ndarray:
        """Returns bool [V]: False for special pieces, bytes, punctuation and the bare space."""
        words = [piece.replace("▁", "") not in PUNCTUATION for piece in self.pieces()]
        model = self._model
        return np.array(
            [
                word and not (model.is_control(i) or model.is_unknown(i) or model.is_byte(i))
                for i, word in enumerate(words)
            ]
        )


def read_model(tokenizer: bytes) -> Any:
    """The sentencepiece model as a protocol buffer.

    Raises:
      UserError: it is not one, or of a kind that encoders of lightxling do not have.
    """
    from google.protobuf.message import DecodeError
    from sentencepiece import sentencepiece_model_pb2

    model = sentencepiece_model_pb2.ModelProto()
    try:
        model.ParseFromString(tokenizer)
    except DecodeError:
        raise UserError("the tokenizer is damaged or not a sentencepiece model") from None
    if model.trainer_spec.model_type not in (1, 2):
        raise UserError("only unigram and bpe tokenizers can be exported")
    spec = model.normalizer_spec
    if not (spec.add_dummy_prefix and spec.remove_extra_whitespaces and spec.escape_whitespaces):
        raise UserError("only tokenizers with sentencepiece's default white space can be exported")
    return model
