"""The exports in the libraries that they are made for; runs where those are installed."""

import dataclasses
import re

import numpy as np
import pytest
from export_samples import (
    ALPHABETS,
    ESCAPED,
    HOSTILE,
    KINDS,
    VARIANTS,
    WORDS,
    bundle,
    ids,
    tokenizer,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from lightxling.base.errors import UserError
from lightxling.config.schema import TokenizerConfig
from lightxling.corpus.cleaning import clean
from lightxling.corpus.tokenizer import train_tokenizer
from lightxling.encode.encoder import Encoder
from lightxling.export.fast_tokenizer import write_tokenizer
from lightxling.export.formats import write_format
from lightxling.export.quantize import quantize
from lightxling.export.trim import reduce_dimensions

pytestmark = [
    pytest.mark.export,
    pytest.mark.filterwarnings("ignore:a sentence is longer"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]

TEXT = [" ".join(np.random.default_rng(i).choice(WORDS, 1 + i % 9)) for i in range(40)]


def fast(model: bytes, max_length: int = 100_000):
    import json

    tokenizers = pytest.importorskip("tokenizers")
    from lightxling.export.fast_tokenizer import fast_tokenizer

    return tokenizers.Tokenizer.from_str(json.dumps(fast_tokenizer(model, max_length)))


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_fast_tokenizer_is_sentencepiece(kind):
    model = tokenizer(*kind)
    texts = TEXT + [text for text in HOSTILE if kind[0] == "bpe" or "...." not in text]
    found = [encoding.ids for encoding in fast(model).encode_batch(texts)]
    for text, a, b in zip(texts, found, ids(model, texts), strict=True):
        assert a == b, ascii(text[:80])


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_fast_tokenizer_cuts_at_the_same_token(kind):
    model = tokenizer(*kind)
    found = [encoding.ids for encoding in fast(model, 5).encode_batch(TEXT)]
    assert found == ids(model, TEXT, 5)


@pytest.mark.parametrize("kind", ["bpe", "bpe with bytes"])
@given(text=st.one_of([st.text(alphabet, max_size=12) for alphabet in ALPHABETS]))
@settings(max_examples=300, deadline=None)
def test_any_text_has_the_same_ids(kind, text):
    if kind not in FAST:
        model = tokenizer(*KINDS[kind])
        FAST[kind] = (model, fast(model))
    model, library = FAST[kind]
    assert library.encode(text).ids == ids(model, [text])[0]


FAST = {}


@pytest.mark.parametrize("kind", ["bpe", "unigram"])
def test_the_table_of_our_own_is_read_as_sentencepiece_reads_it(kind, tmp_path):
    config = TokenizerConfig(model=kind, vocab_size=100, character_coverage=1.0)
    train_tokenizer(
        [f"{text} i ss \u03b9 \u03b1 \u03c3" for text in TEXT * 9], config, tmp_path / "m"
    )
    model = (tmp_path / "m").read_bytes()
    dotted = [
        "\u0130yi I\u0307yi i\u0307yi \u0130\u0307",
        "STRA\u1e9eE \u1fb3 \u1fbc \u03b1\u0345 \u0390",
    ]
    unseen = ["a\u00adb\u200bc \u202aabc\u202c \ufe0f\U000e0100", "a\vb\x85c\x1cd"]
    texts = [text for text in HOSTILE if kind == "bpe" or "...." not in text] + dotted + unseen
    found = [encoding.ids for encoding in fast(model).encode_batch(texts)]
    for text, a, b in zip(texts, found, ids(model, texts), strict=True):
        assert a == b, ascii(text[:80])


@pytest.mark.parametrize("unescape", [True, False])
def test_a_tokenizer_file_cleans_as_the_encoder_does(unescape, tmp_path):
    library = pytest.importorskip("tokenizers")
    small = dataclasses.replace(bundle(max_length=10_000), unescape=unescape)
    write_tokenizer(small, tmp_path)
    tokens = library.Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    for text in [*HOSTILE, *ESCAPED]:
        cleaned = clean(text, unescape=unescape)
        assert tokens.encode(text).ids == ids(small.tokenizer, [cleaned], 10_000)[0], ascii(text)


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16", "int8", "int4"])
@pytest.mark.parametrize(
    "changes", [*VARIANTS.values(), {"pooling": "sum"}], ids=[*VARIANTS, "sum pooling"]
)
def test_onnx_gives_the_same_vectors(changes, dtype, tmp_path):
    pytest.importorskip("onnx")
    runtime = pytest.importorskip("onnxruntime")
    library = pytest.importorskip("tokenizers")
    small = bundle(**changes)
    if dtype != "float32":
        small = reduce_dimensions(small, TEXT, 12)
    small = quantize(small, dtype)
    write_format(small, tmp_path, "onnx")
    (graph,) = (tmp_path / "onnx").iterdir()
    session = runtime.InferenceSession(graph)
    tokens = library.Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    tokens.enable_padding(pad_id=0)
    for texts in (TEXT, ["", "the cat"], ["a"]):
        encoded = tokens.encode_batch(texts)
        inputs = {
            "input_ids": np.array([e.ids for e in encoded]),
            "attention_mask": np.array([e.attention_mask for e in encoded]),
        }
        (vectors,) = session.run(["sentence_embedding"], inputs)
        expected = Encoder(small).encode(texts, normalize=False)
        np.testing.assert_allclose(vectors, expected, atol=1e-5, rtol=1e-5)
    hidden = session.run(["last_hidden_state"], inputs)[0]
    assert hidden.shape == (1, inputs["input_ids"].shape[1], 32)


@pytest.mark.parametrize("dtype", ["float32", "float16", "int8", "int4"])
def test_the_card_of_an_onnx_export_says_how_to_use_it(dtype, tmp_path, monkeypatch):
    for library in ("onnx", "onnxruntime", "tokenizers"):
        pytest.importorskip(library)
    small = quantize(bundle(), dtype)
    write_format(small, tmp_path, "onnx")
    card = (tmp_path / "README.md").read_text()
    assert "library_name: onnx\n" in card
    assert "SentenceTransformer" not in card
    monkeypatch.chdir(tmp_path)
    values = {}
    exec(re.search(r"```python\n(.*?)```", card, re.DOTALL)[1], values)
    texts = ["Where is the station?", "Où est la gare ?"]
    expected = Encoder(small).encode(texts, normalize=False)
    np.testing.assert_allclose(values["vectors"], expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("changes", VARIANTS.values(), ids=VARIANTS)
def test_sentence_transformers_opens_the_folder(changes, dtype, tmp_path):
    library = pytest.importorskip("sentence_transformers")
    small = bundle(**changes)
    if dtype != "float32":
        small = reduce_dimensions(small, TEXT, 12)
    small = quantize(small, dtype)
    if changes.get("pooling") == "attention":
        with pytest.raises(UserError, match="has no attention pooling; use --format onnx"):
            write_format(small, tmp_path, "sentence-transformers")
        return
    write_format(small, tmp_path, "sentence-transformers")
    model = library.SentenceTransformer(str(tmp_path), device="cpu")
    texts = [text for text in TEXT + HOSTILE if clean(text)]
    is_table = type(model[0]).__name__ == "StaticEmbedding"
    assert is_table == (changes.get("layers") == 0 and not changes.get("positions", True))
    # products are rounded again; torch adds the rows of a table in their own format
    merged = ("embedding_width" in changes or is_table) and dtype != "float32"
    limit = (3e-3 if dtype == "float16" else 2e-2) if merged else 1e-6
    np.testing.assert_allclose(
        model.encode(texts).astype(np.float32), Encoder(small).encode(texts), atol=limit
    )
    assert is_table or model.max_seq_length == 24
    assert not np.abs(model.encode("<MASK>") - model.encode("x")).max() > 1e3  # one path, no error


@pytest.mark.parametrize("norm", [True, False])
@pytest.mark.parametrize("pooling", ["mean", "sum", "weighted", "attention"])
def test_a_bag_is_one_table(pooling, norm, tmp_path):
    library = pytest.importorskip("sentence_transformers")
    small = bundle(
        layers=0, positions=False, pooling=pooling, embedding_norm=norm, embedding_width=8
    )
    small = reduce_dimensions(small, TEXT, 12)
    write_format(small, tmp_path, "sentence-transformers")
    model = library.SentenceTransformer(str(tmp_path), device="cpu")
    texts = TEXT + HOSTILE
    found = model.encode(texts)
    np.testing.assert_allclose(found, Encoder(small).encode(texts), atol=1e-6)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"embedding_norm": False},
            r"normalises its embeddings.*embedding_norm=False.*onnx",
        ),
        ({"pooling": "sum"}, "has no sum pooling; use --format onnx"),
    ],
)
def test_what_a_bert_cannot_have_is_refused(changes, message, tmp_path):
    with pytest.raises(UserError, match=message):
        write_format(bundle(**changes), tmp_path, "sentence-transformers")
