"""Training and opening a tokenizer of either kind: pieces (`pieces.py`) or words (`words.py`)."""

import dataclasses
import io
import os
import re
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path

import sentencepiece

from lightxling.base import limits
from lightxling.base.errors import UserError
from lightxling.config.schema import TokenizerConfig
from lightxling.corpus import foreign_pieces, words
from lightxling.corpus.normaliser import OWN, normalisation_rules
from lightxling.corpus.pieces import MASK, PAD, SPECIAL, UNK, Tokenizer

_MOST = 1 << 24  # pieces, more than any text supports; with many more, sentencepiece hangs
_LARGEST = re.compile(r"value <= (\d+)")  # what sentencepiece says of too large a vocabulary


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


def train_tokenizer(
    sentences: Iterable[str], config: TokenizerConfig, path: Path, *, is_limit: bool = False
) -> None:
    """Trains a model and writes it to `path`; the same sentences give the same bytes.

    Args:
      sentences: read twice with `is_limit`.
      is_limit: where the text does not support `vocab_size` pieces, take as many as it does.
    """
    if config.model == "words":
        words.write_vocabulary(sentences, config, path)
        return
    model = io.BytesIO()
    with tempfile.TemporaryDirectory() as folder:
        rules = Path(folder) / "rules.tsv"
        rules.write_text(normalisation_rules(config.lowercase), "utf-8", newline="\n")
        try:
            _train_pieces(sentences, config, model, rules)
        except RuntimeError as error:
            largest = _LARGEST.search(str(error))
            if not (largest and is_limit):
                raise UserError(_training_error(str(error), config)) from None
            config = dataclasses.replace(config, vocab_size=int(largest[1]))
            return train_tokenizer(sentences, config, path)
    Path(path).write_bytes(_named(model.getvalue(), config.lowercase))


def _named(content: bytes, lowercase: bool) -> bytes:
    """The model with a name for its table in place of the path of the temporary file."""
    from sentencepiece import sentencepiece_model_pb2

    model = sentencepiece_model_pb2.ModelProto.FromString(content)
    model.normalizer_spec.name = OWN[lowercase]
    model.normalizer_spec.ClearField("normalization_rule_tsv")
    return model.SerializeToString(deterministic=True)


def _train_pieces(
    sentences: Iterable[str], config: TokenizerConfig, model: io.BytesIO, rules: Path
) -> None:
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(sentences),
        model_writer=model,
        model_type=config.model,
        vocab_size=min(config.vocab_size, _MOST),
        normalization_rule_tsv=str(rules),
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


def load_tokenizer(path: str | os.PathLike[str]) -> Tokenizer:
    """The tokenizer of a file.

    Raises:
      UserError: it cannot be read, or is damaged.
    """
    try:
        return read_tokenizer(limits.read_bytes(path, limits.TOKENIZER), str(path))
    except OSError as error:
        raise UserError(f"cannot read the tokenizer {path}: {error.strerror}") from None


def read_tokenizer(model: bytes, name: str = "the tokenizer model") -> Tokenizer:
    """A tokenizer from the content of its file: a sentencepiece model, a vocabulary of words, or
    the tokenizer.json of another program."""
    if foreign_pieces.is_foreign(model):
        return foreign_pieces.ForeignTokenizer(model, name)
    if model.startswith(b"{"):
        return words.WordTokenizer(model, name)
    return Tokenizer(model, name)
