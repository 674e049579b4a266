"""Trains, loads and applies a sentencepiece model, whose ids 0, 1, 2 are <pad>, <unk>, <MASK>.

Vocabularies of words (`words.py`) are trained and read through the same functions.
"""

import dataclasses
import hashlib
import io
import itertools
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import sentencepiece

from lightxling.config import TokenizerConfig, UserError

PAD, UNK, MASK = 0, 1, 2
SPECIAL = ("<pad>", "<unk>", "<MASK>")
_LARGEST = re.compile(r"value <= (\d+)")  # what sentencepiece says of too large a vocabulary
_PUNCTUATION = frozenset(".?!,\":;<>-+=_'%&#@*()~`") | {"", " "}


def is_punctuation(piece: str) -> bool:
    """Whether a piece is one that masking leaves alone."""
    return piece in _PUNCTUATION


def sample_rates(counts: Mapping[str, int], total: int, exponent: float) -> dict[str, float]:
    """Returns for each language the share of its sentences to draw, at most 1.

    Language l gets a share of the `total` proportional to counts[l] ** exponent; what a small
    language cannot fill goes to the others. Exponent 1 draws uniformly, 0 as many of each language.
    """
    rates, left = {}, dict(counts)
    while left:
        norm = sum(n**exponent for n in left.values())
        wanted = {language: total * n**exponent / norm for language, n in left.items()}
        full = [language for language, n in left.items() if wanted[language] >= n]
        if not full:
            return rates | {language: wanted[language] / n for language, n in left.items()}
        for language in full:
            rates[language] = 1.0
            total -= left.pop(language)
    return rates


def train(
    sentences: Iterable[str], config: TokenizerConfig, path: Path, *, is_limit: bool = False
) -> None:
    """Trains a model and writes it to `path`; the same sentences give the same bytes.

    Args:
      sentences: read twice with `is_limit`.
      is_limit: where the text does not support `vocab_size` pieces, take as many as it does.
    """
    if config.model == "words":
        from lightxling.corpus import words

        words.train(sentences, config, path)
        return
    model = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(sentences),
            model_writer=model,
            model_type=config.model,
            vocab_size=config.vocab_size,
            normalization_rule_name="nmt_nfkc_cf" if config.lowercase else "nmt_nfkc",
            character_coverage=config.character_coverage,
            byte_fallback=config.byte_fallback,
            pad_id=PAD,
            unk_id=UNK,
            bos_id=-1,
            eos_id=-1,
            pad_piece=SPECIAL[PAD],
            unk_piece=SPECIAL[UNK],
            control_symbols=[SPECIAL[MASK]],  # a control symbol is never produced from text
            max_sentence_length=1 << 20,  # bytes; cleaning has bounded the sentences already
            num_threads=2,  # fixed: the unigram model depends on it in the last bits
            minloglevel=2,
        )
    except RuntimeError as error:
        largest = _LARGEST.search(str(error))
        if largest and is_limit:
            fewer = dataclasses.replace(config, vocab_size=int(largest[1]))
            return train(sentences, fewer, path)
        raise UserError(_training_error(str(error), config)) from None
    Path(path).write_bytes(model.getvalue())


def _training_error(message: str, config: TokenizerConfig) -> str:
    value = f"tokenizer.vocab_size={config.vocab_size}"
    if largest := _LARGEST.search(message):
        return (
            f"{value} is more than the text supports;"
            f" try --tokenizer.vocab-size {largest[1]} or less, or add text"
        )
    if smallest := re.search(r"required_chars\S* \d+ vs (\d+)", message):
        return (
            f"{value} does not hold the {smallest[1]} characters of the text; try"
            f" --tokenizer.vocab-size {2 * int(smallest[1])}"
            " or a smaller --tokenizer.character-coverage"
        )
    return f"sentencepiece cannot train {value}: {message}"


class Tokenizer:
    """A sentencepiece model.

    Attributes:
      vocab_size: number of pieces V, specials included.
      lowercase: whether the model folds case.
      dtype: smallest of uint16 and uint32 that holds every id.
      sha256: of the model file.
    """

    def __init__(self, model: bytes, name: str = "the tokenizer model"):
        try:
            if not model:
                raise RuntimeError("empty file")
            self._model = sentencepiece.SentencePieceProcessor(model_proto=model)
            first = [self._model.id_to_piece(i) for i in range(len(SPECIAL))]
        except (RuntimeError, IndexError, UnicodeDecodeError):
            raise UserError(
                f"{name} is damaged or no sentencepiece model; run `lightxling prepare` again"
            ) from None
        if first != list(SPECIAL):
            raise UserError(
                f"{name} starts with the pieces {' '.join(first)}, not {' '.join(SPECIAL)};"
                " leave tokenizer.file empty to train a model"
            )
        self.vocab_size = self._model.get_piece_size()
        self.lowercase = self._model.normalize("A").endswith("a")
        self.dtype = np.dtype(np.uint16 if self.vocab_size <= 1 << 16 else np.uint32)
        self.sha256 = hashlib.sha256(model).hexdigest()

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "Tokenizer":
        try:
            return read(Path(path).read_bytes(), str(path))
        except OSError as error:
            raise UserError(f"cannot read the tokenizer {path}: {error.strerror}") from None

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
        words = [not is_punctuation(piece.replace("▁", "")) for piece in self.pieces()]
        model = self._model
        return np.array(
            [
                word and not (model.is_control(i) or model.is_unknown(i) or model.is_byte(i))
                for i, word in enumerate(words)
            ]
        )


def read(model: bytes, name: str = "the tokenizer model") -> Tokenizer:
    """A tokenizer from the content of its file: a sentencepiece model, or a vocabulary of words."""
    if model.startswith(b"{"):
        from lightxling.corpus.words import WordTokenizer

        return WordTokenizer(model, name)
    return Tokenizer(model, name)
