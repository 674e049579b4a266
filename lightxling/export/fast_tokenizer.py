"""A sentencepiece model as `tokenizer.json`, the format of the `tokenizers` library (its relative
in JavaScript skips the normalisation; `web` brings a tokenizer of its own).

The ids are the same for every text, which takes more than copying the pieces:

- sentencepiece normalises by the longest match in a table of strings (`charsmap`); the library's
  `Precompiled` normaliser reads the same table, but replaces a whole grapheme by its shortest match
  (A + combining accent -> a). So every combining character is kept apart from what stands before it
  while `Precompiled` maps single characters; NFC then composes what the table would have composed,
  and a sentinel stands where it would not have.
- Special and byte pieces are never produced from text that spells them out.
- A BPE piece may be merged from several pairs: all are listed, by the rank of the piece.

Three differences are known: a unigram model that can cut a run of one character in several equally
likely ways (`....`) may cut it in another order, as sentencepiece adds in float32; a few
mathematical letters followed by Greek combining marks; and the two noncharacters used as sentinels,
with byte fallback.
"""

import base64
import collections
import functools
import json
import unicodedata
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from lightxling.corpus.cleaning import INVISIBLE
from lightxling.corpus.foreign_pieces import is_foreign
from lightxling.corpus.normaliser import read_charsmap
from lightxling.corpus.pieces import read_model
from lightxling.export.entities import patterns
from lightxling.saved.bundle import Bundle

# noncharacters; those in the text become the last one, as unknown as themselves
_APART, _BARRIER, _NEITHER = "\ufdd0", "\ufdd1", "\ufdd2"
_FINALS = {chr(code) for code in range(0x11A8, 0x11C3)}  # Hangul letters that end a syllable
_NORMAL, _UNKNOWN, _CONTROL = 1, 2, 3  # types of pieces


def fast_tokenizer(tokenizer: bytes, max_length: int) -> dict[str, Any]:
    """The content of tokenizer.json; texts are cut to `max_length` tokens."""
    model = read_model(tokenizer)
    is_unigram = model.trainer_spec.model_type == 1
    metaspace = {"replacement": "▁", "prepend_scheme": "always", "split": True}
    pre_tokenizers: list[dict[str, Any]] = [{"type": "Metaspace", **metaspace}]
    if is_unigram:  # a text that spells a special or byte piece must not find it in the vocabulary
        names = "|".join(p.piece[1:] for p in model.pieces if p.type in (_UNKNOWN, _CONTROL))
        spelt = f"(?<=<)(?={names}|0x[0-9A-F]{{2}}>)"
        pre_tokenizers.append(
            {"type": "Split", "pattern": {"Regex": spelt}, "behavior": "Isolated", "invert": False}
        )
    return {
        "version": "1.0",
        "truncation": _truncation(max_length),
        "padding": None,
        "added_tokens": [],
        "normalizer": {"type": "Sequence", "normalizers": list(_normalizers(model))},
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": pre_tokenizers},
        "post_processor": None,
        "decoder": {"type": "Metaspace", **metaspace},
        "model": _unigram(model) if is_unigram else _bpe(model),
    }


def write_tokenizer(bundle: Bundle, folder: Path) -> None:
    """Writes tokenizer.json into a folder that exists; texts are cleaned as `Encoder` cleans them,
    but for entities that are not those of `entities.patterns`.
    """
    length = bundle.config.max_length
    if is_foreign(bundle.tokenizer):
        tokenizer = json.loads(bundle.tokenizer)
        tokenizer["truncation"] = _truncation(length)
        own = [tokenizer["normalizer"]] if tokenizer.get("normalizer") else []
    else:
        tokenizer = fast_tokenizer(bundle.tokenizer, length)
        own = tokenizer["normalizer"]["normalizers"]
    resolved = [_replace(*pattern) for pattern in patterns()] if bundle.unescape else []
    steps = [*resolved, *_cleaning()] if bundle.cleans else []
    if steps != _flat(own)[: len(steps)]:  # what was read from an export has them
        tokenizer["normalizer"] = {"type": "Sequence", "normalizers": [*steps, *own]}
    (folder / "tokenizer.json").write_text(
        json.dumps(tokenizer, ensure_ascii=False), "utf-8", newline="\n"
    )


def _truncation(max_length: int) -> dict[str, Any]:
    return {
        "direction": "Right",
        "max_length": max_length,
        "strategy": "LongestFirst",
        "stride": 0,
    }


def _flat(normalizers: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Without sequences of sequences."""
    flat = []
    for step in normalizers:
        flat += _flat(step["normalizers"]) if step["type"] == "Sequence" else [step]
    return flat


def _unigram(model) -> dict[str, Any]:
    return {
        "type": "Unigram",
        "unk_id": 1,
        "vocab": [[piece.piece, piece.score] for piece in model.pieces],
        "byte_fallback": model.trainer_spec.byte_fallback,
    }


def _bpe(model) -> dict[str, Any]:
    scores = {p.piece: p.score for p in model.pieces if p.type == _NORMAL}
    merges = []
    for piece, score in scores.items():
        for cut in range(1, len(piece)):
            left, right = piece[:cut], piece[cut:]
            if left in scores and right in scores:
                merges.append((-score, cut, [left, right]))
    merges.sort(key=lambda merge: merge[:2])
    return {
        "type": "BPE",
        "dropout": None,
        "unk_token": "<unk>",
        "continuing_subword_prefix": None,
        "end_of_word_suffix": None,
        "fuse_unk": True,
        "byte_fallback": model.trainer_spec.byte_fallback,
        "ignore_merges": False,
        "vocab": {piece.piece: i for i, piece in enumerate(model.pieces)},
        "merges": [pair for _, _, pair in merges],
    }


def _replace(pattern: str, content: str, *, regex: bool = True) -> dict[str, Any]:
    kind = "Regex" if regex else "String"
    return {"type": "Replace", "pattern": {kind: pattern}, "content": content}


def _cleaning() -> Iterable[dict[str, Any]]:
    """`corpus.cleaning.clean`, whose class without surrogates: text of the library has none."""
    yield _replace(INVISIBLE.pattern.replace("\ud800-\udfff", ""), "")
    yield {"type": "NFKC"}
    yield _replace(r"[\s\x1c-\x1f]+", " ")


def _normalizers(model) -> Iterable[dict[str, Any]]:
    """Steps that together do what sentencepiece's normaliser does."""
    blob = model.normalizer_spec.precompiled_charsmap
    if blob:
        table = read_charsmap(blob)
        yield _replace(f"[{_APART}{_BARRIER}]", _NEITHER)
        deleted = [key for key, value in table.items() if not value and key != "\0"]
        yield _replace(_class(deleted), _BARRIER)
        joining = _class(_combining(table), r"\p{M}")
        finals = {key for key, value in table.items() if len(key) == 1 and value in _FINALS}
        # the table composes letters to syllables, but adds none to a syllable
        yield _replace(f"(?<=[\uac00-\ud7a3])(?={_class(finals | _FINALS)})", _BARRIER)
        inside = rf"(?<=[\s\S])(?={joining})"  # before a combining character, but not at the start
        yield _replace(inside + _unless_composed(table), _BARRIER)
        yield _replace(rf"(?<!{_BARRIER}){inside}", _APART)
        yield {"type": "Precompiled", "precompiled_charsmap": base64.b64encode(blob).decode()}
        yield _replace(_APART, "", regex=False)
        yield {"type": "NFC"}
        if table.get("i\u0307") == "i":  # no composition: the table folds a dotted i
            yield _replace("i\u0307", "i", regex=False)
        yield _replace(_BARRIER, "", regex=False)
    yield _replace(" +", " ")
    yield _replace("^ | $", "")


@functools.cache
def _is_jamo(char: str) -> bool:
    """Hangul letters compose by rule, in the table as in NFC."""
    folded = unicodedata.normalize("NFKC", char)
    return "\u1100" <= folded[0] <= "\u11ff" or "\uac00" <= folded[0] <= "\ud7a3"


def _combining(table: dict[str, str]) -> set[str]:
    """Characters, marks apart, that may join what stands before them."""
    later = {char for key in table for char in key[1:]}
    first = {key for key, value in table.items() if len(key) == 1 and value and _combines(value[0])}
    emoji = {chr(code) for code in (*range(0x1F3FB, 0x1F400), *range(0xE0020, 0xE0080))}
    return (
        {char for char in later | first if not _is_jamo(char)}
        | emoji
        | set("\u200c\u200d\u0e33\u0eb3")
    )


def _combines(char: str) -> bool:
    return unicodedata.combining(char) != 0


def _unless_composed(table: dict[str, str]) -> str:
    """A negative condition: the next character ends a key of the table that begins before it."""
    before = collections.defaultdict(set)  # last characters of a key -> its first character
    for key in table:
        if len(key) > 1 and not _is_jamo(key[-1]):
            before[key[1:]].add(key[0])
    ways = [
        f"(?<={_class(starts)}{rest[:-1]})(?={rest[-1]})" for rest, starts in sorted(before.items())
    ]
    return f"(?!{'|'.join(ways)})" if ways else ""


def _class(chars: Iterable[str], *more: str) -> str:
    """A character class, with runs as ranges."""
    codes = sorted(map(ord, chars))
    parts, start = [], 0
    for i, code in enumerate(codes):
        if i + 1 == len(codes) or codes[i + 1] != code + 1:
            run = codes[start : i + 1]
            parts += [chr(run[0])] if len(run) == 1 else [chr(run[0]), "-", chr(run[-1])]
            start = i + 1
    escaped = ("\\" + part if part in "\\]^[&" else part for part in parts)
    return f"[{''.join(escaped)}{''.join(more)}]"
