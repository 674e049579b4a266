"""The tokenizer of a folder that another program has saved: a `tokenizer.json`.

One that an export of ours wrote (`export.fast_tokenizer`) becomes the sentencepiece model that it
was written from; others are numbered anew (`foreign_pieces`)."""

import base64
import binascii
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightxling.base import limits
from lightxling.base.errors import UserError
from lightxling.base.files import parse_json, read_json
from lightxling.corpus.foreign_pieces import (
    TOKENIZER_JSON,
    dumped,
    names_of,
    order_of,
    read_tokenizer_json,
    renumbered,
)
from lightxling.corpus.pieces import MASK, PAD, SPECIAL, UNK

MODULES = "modules.json"
"""Lists the modules of a sentence-transformers folder."""
_NORMAL, _UNKNOWN, _CONTROL, _BYTE = 1, 2, 3, 6  # types of pieces
_UNIGRAM, _BPE = 1, 2
_IS_BYTE = re.compile("<0x[0-9A-F]{2}>")


def is_model2vec(settings: Mapping[str, Any]) -> bool:
    """Whether a config.json is of model2vec, which since 0.10 does not say so; all of transformers
    name a type."""
    return settings.get("model_type", "model2vec") == "model2vec"


def first_module(folder: Path) -> tuple[Path, bool]:
    """Where the first module of a sentence-transformers folder is, and whether it is a table.

    Raises:
      UserError: the list of modules is damaged.
    """
    try:
        if not (folder / MODULES).is_file():
            about = folder / "config.json"
            settings = read_json(about) if about.is_file() else {}
            is_table = folder.name.endswith("_StaticEmbedding")  # given as the module's own
            return folder, is_table or is_model2vec(settings)
        first = parse_json(limits.read_bytes(folder / MODULES))[0]
        place = folder / str(first["path"])
        if not place.resolve().is_relative_to(folder.resolve()):
            raise ValueError(f"{first['path']} is outside of the folder")
    except OSError as error:
        raise UserError(f"cannot read {folder / MODULES}: {error.strerror}") from None
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise UserError(f"{folder / MODULES} is damaged ({error}); save the model again") from None
    return place, str(first["type"]).endswith(".StaticEmbedding")


def folder_tokenizer(place: Path, *, bare: bool = False) -> tuple[bytes, list[int] | None]:
    """The tokenizer of a module, and the rows of its table in the order of the new ids; None: they
    are in that order.

    Args:
      bare: it puts nothing around a text, whatever it says.

    Raises:
      UserError: it cannot be read, or is of a kind that is not known.
    """
    path = place / TOKENIZER_JSON
    if not path.is_file() and any(place.glob("vocab.*")):
        raise UserError(
            f"{place} has no {TOKENIZER_JSON}; transformers writes one: "
            f"AutoTokenizer.from_pretrained({str(place)!r}).save_pretrained({str(place)!r})"
        )
    content = read_tokenizer_json(path)
    if is_ours(content):
        return pieces_model(path), None
    about = place / "tokenizer_config.json"
    try:
        if bare:
            content["post_processor"] = None
        order = order_of(content, read_json(about) if about.is_file() else {})
        return dumped(renumbered(content, order)), order
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise UserError(
            f"{path} is not a tokenizer that is read: WordPiece, Unigram, BPE ({error!r:.80})"
        ) from None


def is_ours(content: Mapping[str, Any]) -> bool:
    """Whether a tokenizer.json begins with the special pieces of lightxling."""
    try:
        names = names_of(content)
        return tuple(names.get(i) for i in range(len(SPECIAL))) == SPECIAL
    except (KeyError, TypeError, ValueError):
        return False


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
