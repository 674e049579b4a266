"""Tokenizers that somebody has crafted: refused or run, in bounded time, and never a crash."""

import contextlib
import json
import random
import subprocess
import sys

import pytest
import sentencepiece
from export_samples import bundle

from lightxling.base.errors import UserError
from lightxling.corpus.tokenizer import read_tokenizer

pb = pytest.importorskip("sentencepiece.sentencepiece_model_pb2")

CRAFTED = """
import random, sys
from lightxling.base.errors import UserError
from lightxling.corpus.tokenizer import read_tokenizer
from sentencepiece import sentencepiece_model_pb2 as pb
model = pb.ModelProto.FromString(sys.stdin.buffer.read())
table = model.normalizer_spec.precompiled_charsmap
size, draw = int.from_bytes(table[:4], "little"), random.Random(0)
text = "".join(chr(draw.randrange(1, 0xD000)) for _ in range(2000))
taken = refused = 0
for number in range(60):
    data, kind = bytearray(table), number % 5
    for _ in range(draw.choice([1, 3, 40])):
        if kind == 0:  # a flipped bit of the trie
            data[4 + draw.randrange(size)] ^= 1 << draw.randrange(8)
        elif kind == 1:  # a node that leads anywhere
            at = 4 + 4 * draw.randrange(size // 4)
            data[at : at + 4] = draw.randbytes(4)
        elif kind == 2:  # values that are no text
            data[4 + size + draw.randrange(len(data) - size - 4)] = draw.randrange(256)
        elif kind == 3:  # another size of the trie
            length = draw.choice([0, 4, 1024, size - 4, 1 << 31, len(data)])
            data[:4] = length.to_bytes(4, "little")
        else:  # a trie at random
            data[4:] = draw.randbytes(2048)
            data[:4] = (1024).to_bytes(4, "little")
    model.normalizer_spec.precompiled_charsmap = bytes(data)
    try:
        ids, _ = read_tokenizer(model.SerializeToString()).encode([text, "ABC"], 50)
        assert ids.max() < 10**6
        taken += 1
    except UserError:
        refused += 1
print(taken, refused)
"""


def test_a_crafted_table_of_characters_crashes_nothing():
    """By a trie that leads beyond its end, memory of others would be read."""
    command = [sys.executable, "-c", CRAFTED]
    done = subprocess.run(command, input=bundle().tokenizer, capture_output=True, timeout=100)
    assert done.returncode == 0, done.stderr.decode()
    taken, refused = map(int, done.stdout.split())
    assert taken + refused == 60
    assert refused > 20


def test_a_table_whose_values_are_no_text_is_refused():
    model = pb.ModelProto.FromString(bundle().tokenizer)
    size = int.from_bytes(model.normalizer_spec.precompiled_charsmap[:4], "little")
    table = bytearray(model.normalizer_spec.precompiled_charsmap)
    for at in range(4 + size, len(table)):
        table[at] = table[at] and 0xFF
    model.normalizer_spec.precompiled_charsmap = bytes(table)
    raw = model.SerializeToString()
    with pytest.raises(UnicodeDecodeError):
        sentencepiece.SentencePieceProcessor(model_proto=raw).normalize("A")
    with pytest.raises(UserError, match="is damaged"):
        read_tokenizer(raw)


def word_level(**changes) -> bytes:
    """A tokenizer.json of three special pieces and the letter a."""
    vocab = {"[PAD]": 0, "[UNK]": 1, "[MASK]": 2, "a": 3}
    model = {"type": "WordLevel", "vocab": vocab, "unk_token": "[UNK]"}
    empty = dict.fromkeys(("truncation", "padding", "normalizer", "post_processor", "decoder"))
    whole = {"version": "1.0", **empty, "pre_tokenizer": None, "added_tokens": [], "model": model}
    return json.dumps({**whole, **changes}).encode()


def split(pattern: str) -> dict:
    """What cuts a text at an expression before pieces are looked for."""
    how = {"behavior": "Isolated", "invert": False}
    return {"pre_tokenizer": {"type": "Split", "pattern": {"Regex": pattern}, **how}}


@pytest.mark.parametrize("pattern", ["(a+)+b", "(a|aa)+$"])
def test_an_expression_that_goes_back_and_forth_ends_in_a_message(pattern, capfd):
    """The library panics, which is no Exception of Python, after ten million steps."""
    pytest.importorskip("tokenizers")
    tokenizer = read_tokenizer(word_level(**split(pattern)))
    with pytest.raises(UserError, match="more than the rules of the tokenizer bear"):
        tokenizer.encode(["a" * 5000 + "c"], 100)
    assert tokenizer.encode(["c"], 100)[0].tolist() == [1]


@pytest.mark.parametrize(
    "content",
    [
        word_level(**split("(")),
        word_level(model={"type": "WordLevel", "vocab": {"a": 1 << 62}, "unk_token": "[UNK]"}),
        word_level(model={"type": "BPE", "vocab": {"a": 0}, "merges": [["x", "y"]]}),
        word_level(added_tokens=[{"id": -1, "content": "a"}]),
        word_level(post_processor={"type": "TemplateProcessing", "single": "$A " * 5}),
        word_level()[:-5],
        word_level()[:20] + b"[" * 100_000,
    ],
)
def test_a_tokenizer_json_that_makes_no_sense_is_refused(content):
    pytest.importorskip("tokenizers")
    with pytest.raises(UserError, match="damaged"):
        read_tokenizer(content)


def test_random_changes_of_a_tokenizer_json_crash_nothing():
    pytest.importorskip("tokenizers")
    draw, whole = random.Random(0), word_level(**split(r"\w+|\s"))
    for _ in range(300):
        data = bytearray(whole)
        for _ in range(draw.randint(1, 4)):
            data[draw.randrange(12, len(data))] = draw.choice(b'"{}[],:0159-eaxn\\')
        with contextlib.suppress(UserError):
            read_tokenizer(bytes(data)).encode(["a b aa"], 10)


@pytest.mark.parametrize("buckets", [0, -1, 1 << 70])
def test_a_vocabulary_of_words_without_buckets_is_refused(buckets):
    about = {"format": "lightxling-words", "words": ["a"], "lowercase": True}
    assert read_tokenizer(json.dumps({**about, "hash_buckets": 5}).encode()).vocab_size == 9
    with pytest.raises(UserError, match=f"hash_buckets {buckets}"):
        read_tokenizer(json.dumps({**about, "hash_buckets": buckets}).encode())
