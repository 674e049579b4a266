"""The table by which a trained sentencepiece model normalises text, inside the model's file.

It is sentencepiece's own (NFKC with its changes for translation, `nmt_nfkc`), with two gaps closed:
characters that nobody sees are removed instead of becoming spaces or unknown pieces, and case is
folded in full (CaseFolding.txt of Unicode, statuses C and F), where `nmt_nfkc_cf` leaves out what
grows: ß and ẞ become ss, İ becomes i.
"""

import functools
import io
import tempfile
from pathlib import Path
from unicodedata import normalize

import numpy as np
import sentencepiece

from lightxling.corpus.cleaning import INVISIBLE

OWN = ("lightxling", "lightxling_cf")
"""Names of the table in models: case kept, case folded."""
_SELECTORS = (*range(0xFE00, 0xFE10), *range(0xE0100, 0xE01F0))
"""Variation selectors: how the character before them is drawn."""
_SPACES = "\v\x1c\x1d\x1e\x1f\x85"
"""White space that sentencepiece's table removes or keeps."""
_DOTTED = ("\u0130", "I\u0307", "i\u0307")
"""The Turkish capital i, in one character, in two, and after Python's `lower`."""


@functools.cache
def normalisation_rules(lowercase: bool) -> str:
    """The table as sentencepiece's `normalization_rule_tsv`: code points in hexadecimal digits."""
    name = "nmt_nfkc_cf" if lowercase else "nmt_nfkc"
    table = read_charsmap(_compiled(normalization_rule_name=name)).copy()
    if lowercase:
        table = _folded(table)
    table |= dict.fromkeys(_SPACES, " ")
    # the private use planes would double the table and occur nowhere; `clean` removes them
    unseen = (*range(0x1, 0xD800), *range(0xE000, 0x10000), *range(0xE0000, 0xE0080))
    table |= dict.fromkeys((c for c in map(chr, unseen) if INVISIBLE.match(c)), "")
    table |= dict.fromkeys(map(chr, _SELECTORS), "")
    return _as_rules(table)


def with_folding(content: bytes) -> bytes:
    """A sentencepiece model whose table folds case after what it does already."""
    from sentencepiece import sentencepiece_model_pb2

    model = sentencepiece_model_pb2.ModelProto.FromString(content)
    spec = model.normalizer_spec
    with tempfile.TemporaryDirectory() as folder:
        rules = Path(folder) / "rules.tsv"
        table = _folded(read_charsmap(spec.precompiled_charsmap))
        rules.write_text(_as_rules(table), "utf-8", newline="\n")
        spec.precompiled_charsmap = _compiled(normalization_rule_tsv=str(rules))
    spec.name = f"{spec.name or 'own'}+{OWN[1]}"
    return model.SerializeToString(deterministic=True)


def own_rules(content: bytes) -> str:
    """The name of the table of a sentencepiece model that has another one than those trained now;
    nothing for those."""
    from sentencepiece import sentencepiece_model_pb2

    name = sentencepiece_model_pb2.ModelProto.FromString(content).normalizer_spec.name
    return "" if name in OWN else name or "unnamed"


def _folded(table: dict[str, str]) -> dict[str, str]:
    """A table whose results are folded, and so are the characters that it does not have."""
    assigned = (chr(code) for code in range(0x20000) if not 0xD800 <= code < 0xE000)
    table = {char: char for char in assigned if char.casefold() != char} | table
    # folding takes some Greek letters apart, such as U+0390
    folded = {key: normalize("NFC", value.casefold()) for key, value in table.items()}
    return {k: value for k, value in folded.items() if k != value} | dict.fromkeys(_DOTTED, "i")


def _as_rules(table: dict[str, str]) -> str:
    hexadecimal = _Hexadecimal()

    def digits(text: str) -> str:
        return " ".join(map(hexadecimal.__getitem__, text))

    return "".join(f"{digits(key)}\t{digits(value)}\n" for key, value in sorted(table.items()))


class _Hexadecimal(dict):
    """Code points of characters; a table has the same ones again and again."""

    def __missing__(self, char: str) -> str:
        self[char] = f"{ord(char):X}"
        return self[char]


def _compiled(**rules: str) -> bytes:
    """The compiled table of a name or of a file, out of a model trained for it."""
    from sentencepiece import sentencepiece_model_pb2

    file = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(["a b"]),
        model_writer=file,
        model_type="char",
        hard_vocab_limit=False,
        **rules,
        minloglevel=2,
    )
    model = sentencepiece_model_pb2.ModelProto()
    model.ParseFromString(file.getvalue())
    return model.normalizer_spec.precompiled_charsmap


@functools.lru_cache(maxsize=4)
def read_charsmap(blob: bytes) -> dict[str, str]:
    """The table of a `precompiled_charsmap`: a double-array trie, then values that end in 0.

    A unit of the trie holds the octet that leads to it, the place of its children relative to its
    own, and whether a key ends there.
    """
    if not blob:
        return {}
    size = int.from_bytes(blob[:4], "little")
    units, values = np.frombuffer(blob, "<u4", size // 4, offset=4), blob[4 + size :]
    octets = np.arange(1, 256, dtype=np.uint32)
    table = {}
    level = [(np.zeros(1, np.uint32), [b""])]  # nodes and the keys that lead to them
    while level:
        nodes, keys = level.pop()
        unit = units[nodes]
        base = nodes ^ ((unit >> 10) << ((unit & 0x200) >> 6))
        for i in np.flatnonzero(unit & 0x100):
            start = int(units[base[i]] & 0x7FFFFFFF)
            table[keys[i].decode()] = values[start : values.index(b"\0", start)].decode()
        children = base[:, None] ^ octets
        known = children < len(units)
        labels = units[np.where(known, children, 0)] & 0x800000FF
        parents, which = np.nonzero(known & (labels == octets))
        below = [keys[i] + bytes([j + 1]) for i, j in zip(parents, which, strict=True)]
        found = children[parents, which]
        for start in range(0, len(found), 4096):
            level.append((found[start : start + 4096], below[start : start + 4096]))
    return table
