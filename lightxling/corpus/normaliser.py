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

from lightxling.base.errors import UserError
from lightxling.corpus.cleaning import INVISIBLE

OWN = ("lightxling", "lightxling_cf")
"""Names of the table in models: case kept, case folded."""
_SELECTORS = (*range(0xFE00, 0xFE10), *range(0xE0100, 0xE01F0))
"""Variation selectors: how the character before them is drawn."""
_SPACES = "\v\x1c\x1d\x1e\x1f\x85"
"""White space that sentencepiece's table removes or keeps."""
_TAB, _END = "\ud800\ud801"
"""Between the sides of a rule and after it, while it is text: no table has surrogates."""
_LONGEST, _MOST = 256, 1 << 22
"""Octets of a key and keys of a table, of which sentencepiece's has 12 and 226,000."""
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
    """What is to be said of a tokenizer whose table is another than those of models trained now;
    nothing of those, nor of vocabularies of words."""
    from sentencepiece import sentencepiece_model_pb2

    if content.startswith(b"{"):
        return ""
    spec = sentencepiece_model_pb2.ModelProto.FromString(content).normalizer_spec
    # a name may be anything, of any length
    name = "" if spec.name in OWN else spec.name or "unnamed"
    said = f"normalises text by its own rules ({name:.40}), not by those of new tokenizers"
    return said if name else ""


def _folded(table: dict[str, str]) -> dict[str, str]:
    """A table whose results are folded, and so are the characters that it does not have."""
    assigned = (chr(code) for code in range(0x20000) if not 0xD800 <= code < 0xE000)
    table = {char: char for char in assigned if char.casefold() != char} | table
    # folding takes some Greek letters apart, such as U+0390
    folded = {value: normalize("NFC", value.casefold()) for value in set(table.values())}
    table = {key: folded[value] for key, value in table.items() if key != folded[value]}
    return table | dict.fromkeys(_DOTTED, "i")


def _as_rules(table: dict[str, str]) -> str:
    # in one text, for a call for each of 226,000 rules takes long
    text = "".join([f"{key}{_TAB}{value}{_END}" for key, value in sorted(table.items())])
    digits = {char: f"{ord(char):X} " for char in set(text)} | {_TAB: "\t", _END: "\n"}
    rules = "".join([digits[char] for char in text])
    return rules.replace(" \t", "\t").replace(" \n", "\n")


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

    Raises:
      UserError: it is damaged.
    """
    try:
        return _walk(blob) if blob else {}
    except (IndexError, ValueError):
        raise UserError("the tokenizer's table of characters is damaged") from None


def _walk(blob: bytes) -> dict[str, str]:
    size = int.from_bytes(blob[:4], "little")
    units, values = np.frombuffer(blob, "<u4", size // 4, offset=4), blob[4 + size :]
    # a unit's place and octet tell where its parent's children lie: with them in order, those of
    # all nodes of a level are found at once
    places = np.arange(len(units), dtype=np.uint32)
    is_child = (units & 0x80000000 == 0) & (units & 0xFF > 0)
    bases = places ^ (units & 0xFF)
    children = places[is_child][np.argsort(bases[is_child], kind="stable")]
    bases = bases[children]
    table = {}
    nodes, keys = np.zeros(1, np.uint32), np.zeros((1, 0), np.uint8)  # and the octets to each
    while len(nodes):
        if keys.shape[1] > _LONGEST or len(nodes) > _MOST:
            raise ValueError("a trie that leads back into itself")
        unit = units[nodes]
        base = nodes ^ ((unit >> 10) << ((unit & 0x200) >> 6))
        ends = unit & 0x100 > 0
        starts = (units[base[ends]] & 0x7FFFFFFF).tolist()
        texts = {n: values[n : values.index(b"\0", n)].decode() for n in set(starts)}
        found = np.pad(keys[ends], ((0, 0), (0, 1))).tobytes().decode().split("\0")
        table.update(zip(found, map(texts.__getitem__, starts), strict=False))
        first, last = np.searchsorted(bases, base), np.searchsorted(bases, base, side="right")
        count = last - first
        parents = np.repeat(np.arange(len(nodes)), count)
        within = np.arange(len(parents)) - np.repeat(np.cumsum(count) - count, count)
        nodes = children[first[parents] + within]
        octets = (units[nodes] & 0xFF).astype(np.uint8)
        keys = np.concatenate([keys[parents], octets[:, None]], axis=1)
    return table
