"""From `tokenizer.json` back to the sentencepiece model that an export wrote it from
(`export.fast_tokenizer`), for folders that another program has saved again."""

import base64
import binascii
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightxling.base import limits
from lightxling.base.errors import UserError
from lightxling.base.files import parse_json
from lightxling.corpus.pieces import MASK, PAD, SPECIAL, UNK

FILE = "tokenizer.json"
_NORMAL, _UNKNOWN, _CONTROL, _BYTE = 1, 2, 3, 6  # types of pieces
_UNIGRAM, _BPE = 1, 2
_IS_BYTE = re.compile("<0x[0-9A-F]{2}>")


def read_tokenizer_json(path: Path) -> dict[str, Any]:
    """The content of a tokenizer.json.

    Raises:
      UserError: it cannot be read, or is damaged.
    """
    try:
        content = parse_json(limits.read_bytes(path, limits.TOKENIZER))
    except OSError as error:
        raise UserError(f"cannot read the tokenizer {path}: {error.strerror}") from None
    except ValueError as error:
        raise UserError(f"{path} is damaged ({error}); save it again") from None
    if not isinstance(content, dict):
        raise UserError(f"{path} is not a tokenizer; save it again")
    return content


def pieces_model(path: Path) -> bytes:
    """The sentencepiece model of a tokenizer.json of ours; it gives the same ids for every text.

    The scores of BPE pieces are the ranks of their merges, whose order is all that they tell.

    Raises:
      UserError: it cannot be read, or is the tokenizer of another encoder.
    """
    content = read_tokenizer_json(path)
    try:
        scored, kind, fallback = _scored_pieces(content["model"])
        if [piece for piece, _ in scored[: len(SPECIAL)]] != list(SPECIAL):
            raise ValueError
        blob = _charsmap(content["normalizer"])
    except (KeyError, TypeError, ValueError, AttributeError, binascii.Error):
        raise UserError(
            f"{path} is not a tokenizer that lightxling wrote, whose first pieces are "
            f"{' '.join(SPECIAL)}; only encoders that were trained here are read"
        ) from None
    return _model(scored, kind, fallback, blob)


def _scored_pieces(model: Mapping[str, Any]) -> tuple[list[tuple[str, float]], int, bool]:
    """Pieces with their scores, in the order of their ids; the kind of model; byte fallback."""
    fallback = model.get("byte_fallback") is True
    if model["type"] == "Unigram":
        return [(str(piece), float(score)) for piece, score in model["vocab"]], _UNIGRAM, fallback
    if model["type"] != "BPE":
        raise ValueError
    vocab = sorted(model["vocab"].items(), key=lambda item: item[1])
    if [number for _, number in vocab] != list(range(len(vocab))):
        raise ValueError
    ranks: dict[str, float] = {}
    for rank, (left, right) in enumerate(model["merges"]):
        ranks.setdefault(left + right, -float(rank))
    lowest = -float(len(model["merges"]))  # nothing is merged to a single character
    return [(piece, ranks.get(piece, lowest)) for piece, _ in vocab], _BPE, fallback


def _charsmap(normalizer: Mapping[str, Any] | None) -> bytes:
    """The table that text is normalised by; empty where there is none."""
    steps = (normalizer or {}).get("normalizers", [])
    blobs = [step["precompiled_charsmap"] for step in steps if step["type"] == "Precompiled"]
    return base64.b64decode(blobs[0], validate=True) if blobs else b""


def _model(scored: list[tuple[str, float]], kind: int, fallback: bool, charsmap: bytes) -> bytes:
    from sentencepiece import sentencepiece_model_pb2

    model = sentencepiece_model_pb2.ModelProto()
    types = {PAD: _CONTROL, UNK: _UNKNOWN, MASK: _CONTROL}
    for number, (piece, score) in enumerate(scored):
        is_byte = fallback and _IS_BYTE.fullmatch(piece)
        of_text = _BYTE if is_byte else _NORMAL
        model.pieces.add(piece=piece, score=score, type=types.get(number, of_text))
    trainer = model.trainer_spec
    trainer.model_type, trainer.vocab_size, trainer.byte_fallback = kind, len(scored), fallback
    trainer.pad_id, trainer.unk_id, trainer.bos_id, trainer.eos_id = PAD, UNK, -1, -1
    trainer.pad_piece, trainer.unk_piece = SPECIAL[PAD], SPECIAL[UNK]
    trainer.control_symbols.append(SPECIAL[MASK])
    spec = model.normalizer_spec
    spec.name, spec.precompiled_charsmap = "lightxling", charsmap
    spec.add_dummy_prefix = spec.remove_extra_whitespaces = spec.escape_whitespaces = True
    return model.SerializeToString(deterministic=True)
