"""Tokenizers of other programs: a `tokenizer.json` that the library `tokenizers` runs (WordPiece,
Unigram, BPE), with its pieces numbered anew so that the first three are ours.

Padding, unknown and mask get the ids 0, 1 and 2, as everywhere here; the rows of the embedding
table go the same way. What the tokenizer puts around a text (`[CLS]` and `[SEP]`, `<s>` and `</s>`)
it still does.
"""

import contextlib
import copy
import hashlib
import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lightxling.base import limits
from lightxling.base.errors import UserError
from lightxling.base.extras import require
from lightxling.base.files import parse_json
from lightxling.corpus.pieces import MASK, PAD, PUNCTUATION, SPECIAL, UNK, Tokenizer

TOKENIZER_JSON = "tokenizer.json"
NEW = -1
"""In place of the id of a special piece that a tokenizer does not have."""
_OPENING = b'{"version"'  # of what `dumped` writes
_NAMES = {PAD: ("[PAD]", "<pad>"), UNK: ("[UNK]", "<unk>"), MASK: ("[MASK]", "<mask>")}
_SETTINGS = {PAD: "pad_token", UNK: "unk_token", MASK: "mask_token"}


def is_foreign(tokenizer: bytes) -> bool:
    """Whether the tokenizer of an encoder is one that this module runs."""
    return tokenizer.startswith(_OPENING)


@contextlib.contextmanager
def _panics_told(what: str, *others: type[Exception]) -> Iterator[None]:
    """Makes a message of a panic of the library, whose class cannot be imported and is no
    `Exception`: of a regular expression, for one, that goes back and forth ten million times.

    Args:
      others: exceptions that get the same message.

    Raises:
      UserError: with the library's reason.
    """
    try:
        yield
    except BaseException as error:
        if isinstance(error, others) or type(error).__name__ == "PanicException":
            raise UserError(f"{what} ({error!s:.200}); export it again") from None
        raise


class ForeignTokenizer(Tokenizer):
    """A tokenizer.json that `renumbered` wrote.

    Attributes:
      tail: pieces that it puts after every text; they stay where a text is cut.
    """

    def __init__(self, model: bytes, name: str = "the tokenizer"):
        require(f"{name}, which is a {TOKENIZER_JSON},", "tokenizers")
        import tokenizers

        with _panics_told(f"{name} is damaged", Exception):  # the library raises Exception itself
            self._content = parse_json(model)
            self._model = tokenizers.Tokenizer.from_str(model.decode())
            around = self._model.encode("a").special_tokens_mask
            self.tail = len(list(itertools.takewhile(bool, reversed(around))))
            self._around = len(self._model.encode("").ids)
            upper, lower = (self._model.encode(text).ids for text in "Aa")
        self.lowercase = upper == lower
        self.vocab_size = self._model.get_vocab_size()
        self.dtype = np.dtype(np.uint16 if self.vocab_size <= 1 << 16 else np.uint32)
        self.sha256 = hashlib.sha256(model).hexdigest()

    def encode(
        self, sentences: Sequence[str], max_length: int, lexicon: Any = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Ids with those around a text; a text without pieces has none of these either."""
        with _panics_told("a text is more than the rules of the tokenizer bear"):
            try:
                found = self._model.encode_batch_fast(list(sentences))
            except (TypeError, UnicodeEncodeError):  # lone surrogates
                sentences = [text.encode("utf-8", "replace").decode() for text in sentences]
                found = self._model.encode_batch_fast(sentences)
        rows = [self._cut(text.ids, max_length) for text in found]
        lengths = np.fromiter(map(len, rows), np.int64, len(rows))
        ids = np.fromiter(itertools.chain.from_iterable(rows), self.dtype, lengths.sum())
        return ids, lengths

    def _cut(self, ids: list[int], max_length: int) -> list[int]:
        if len(ids) == self._around:
            return []
        if len(ids) <= max_length:
            return ids
        last = len(ids) - self.tail
        return ids[: max(max_length - self.tail, 0)] + ids[last:]

    def decode(self, ids: Sequence[int] | np.ndarray) -> str:
        return self._model.decode([int(i) for i in ids])

    def pieces(self) -> list[str]:
        names = names_of(self._content)
        return [names[i] for i in range(self.vocab_size)]

    def maskable(self) -> np.ndarray:
        """Returns bool [V]: False for special pieces, punctuation and the bare space."""
        special = always_kept(self._content)
        marks = ("▁", "Ġ", "##")
        plain = list(self.pieces())
        for mark in marks:
            plain = [piece.removeprefix(mark) for piece in plain]
        return np.array(
            [piece not in PUNCTUATION and i not in special for i, piece in enumerate(plain)]
        )


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


def names_of(content: Mapping[str, Any]) -> dict[int, str]:
    """Pieces by their ids, added ones too."""
    vocab = content["model"]["vocab"]
    if isinstance(vocab, Mapping):
        names = {int(i): str(piece) for piece, i in vocab.items()}
    else:
        names = {i: str(piece) for i, (piece, _) in enumerate(vocab)}
    added = content.get("added_tokens") or []
    return names | {int(token["id"]): str(token["content"]) for token in added}


def always_kept(content: Mapping[str, Any]) -> set[int]:
    """Ids that a tokenizer cannot do without: special ones and those that it puts around a text."""
    kept = {PAD, UNK, MASK} | {int(token["id"]) for token in content.get("added_tokens") or []}
    return kept | {ids[i] for ids, i in _places_around(content.get("post_processor"))}


def special_ids(content: Mapping[str, Any], settings: Mapping[str, Any]) -> list[int]:
    """The ids of padding, unknown and mask, or `NEW`.

    Args:
      settings: tokenizer_config.json, which may name them.
    """
    numbers = {piece: i for i, piece in names_of(content).items()}
    model, found = content["model"], []
    for number, usual in _NAMES.items():
        said = settings.get(_SETTINGS[number])
        said = said.get("content") if isinstance(said, Mapping) else said
        names = [name for name in (said, *usual) if name in numbers]
        found.append(numbers[names[0]] if names else NEW)
    if type(model.get("unk_id")) is int:
        found[UNK] = model["unk_id"]
    elif model.get("unk_token") in numbers:
        found[UNK] = numbers[model["unk_token"]]
    return found


def order_of(content: Mapping[str, Any], settings: Mapping[str, Any]) -> list[int]:
    """Ids in the order that `renumbered` gives them: padding, unknown, mask, then the others."""
    special = special_ids(content, settings)
    return [*special, *sorted(names_of(content).keys() - set(special))]


def renumbered(content: Mapping[str, Any], order: Sequence[int]) -> dict[str, Any]:
    """A tokenizer.json with its pieces in another order, or with fewer.

    Args:
      order: for each new id the old one, or `NEW`.

    Raises:
      KeyError, TypeError, ValueError: it is not a tokenizer, or one of another kind.
    """
    content = copy.deepcopy(dict(content))
    names, model = names_of(content), content["model"]
    place = {old: new for new, old in enumerate(order) if old != NEW}
    # no text spells the names of those that are new: they hold a noncharacter
    listed = [names[old] if old != NEW else f"\ufdd0{SPECIAL[i]}" for i, old in enumerate(order)]
    if model["type"] == "Unigram":
        scores = dict(enumerate(score for _, score in model["vocab"]))
        model["vocab"] = [
            [name, scores.get(old, 0.0)] for name, old in zip(listed, order, strict=True)
        ]
        if type(model.get("unk_id")) is int:
            model["unk_id"] = place[model["unk_id"]]
    elif model["type"] in ("WordPiece", "BPE", "WordLevel"):
        model["vocab"] = {name: i for i, name in enumerate(listed)}
        if len(model["vocab"]) != len(listed):
            raise ValueError("two pieces have one name")
    else:
        raise ValueError(f"a model of type {model['type']}")
    if model["type"] == "BPE":
        model["merges"] = [
            [left, right]
            for left, right in map(_pair, model["merges"])
            if {left, right, merged(content, left, right)} <= model["vocab"].keys()
        ]
    added = [token for token in content.get("added_tokens") or [] if int(token["id"]) in place]
    for token in added:
        token["id"] = place[int(token["id"])]
    content["added_tokens"] = sorted(added, key=lambda token: token["id"])
    for ids, i in _places_around(content.get("post_processor")):
        ids[i] = place[ids[i]]
    content["truncation"] = content["padding"] = None
    return content


def dumped(content: Mapping[str, Any]) -> bytes:
    """As bytes that `is_foreign` knows."""
    return json.dumps({"version": "1.0", **content}, ensure_ascii=False).encode()


def merged(content: Mapping[str, Any], left: str, right: str) -> str:
    """The piece that BPE makes of two."""
    return left + right.removeprefix(content["model"].get("continuing_subword_prefix") or "")


def _pair(merge: Any) -> tuple[str, str]:
    left, right = merge.split(" ") if isinstance(merge, str) else merge
    return left, right


def _places_around(processor: Any) -> Iterator[tuple[list, int]]:
    """Where ids stand in a post-processor: lists, and places in them."""
    if not isinstance(processor, dict):
        return
    for part in processor.get("processors", []):
        yield from _places_around(part)
    for token in processor.get("special_tokens", {}).values():
        yield from ((token["ids"], i) for i in range(len(token["ids"])))
    for name in ("sep", "cls"):
        if isinstance(processor.get(name), list):
            yield processor[name], 1  # after the piece
