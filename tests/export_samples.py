"""Small encoders with random parameters, and texts that tokenizers trip over."""

import functools
import io

import numpy as np
import sentencepiece
from hypothesis import strategies as st

from lightxling.config.schema import ModelConfig
from lightxling.corpus.pieces import Tokenizer
from lightxling.model.params import shapes
from lightxling.saved.bundle import Bundle

WORDS = (  # noqa: SIM905
    "the a cat dog house station where is this and of to in it was le la un une chat chien "
    "maison gare où est ce et de à dans il était der die das katze hund haus bahnhof wo ist "
    "dies und von im es straße ça élève niño mañana 12 3.5 don't you're 猫 犬 駅 どこ "
    "です고양이 개 집 역 어디 привет мир кот дом где שלום עולם مرحبا العالم ความ นี้ ắ ộ ữ "
    "... -- <b> haha"
).split()

HOSTILE = [
    "",
    " ",
    "\t\n \u3000",
    "a",
    "A\u0301 E\u0301 u\u0308 n\u0303",  # marks after capitals, which a table composes
    "a\u0302\u0301 a\u0301\u0302 a\u0323\u0302 a\u0302\u0323",  # in and out of canonical order
    "Z\u0351\u036b\u0343\u036a\u0302A\u0334\u0301L\u0335G\u0336O",
    "\u0651\u064e \u0628\u0651\u064e\u0628\u064e\u0651",  # Arabic marks, both orders
    "\u05e9\u05c1\u05b8\u05dc\u05d5\u05b9\u05dd",
    "\u1100\u1161\u11a8 \uac00\u11a8 \u1100\u1161 \uffa1\uffc2 \u3131\u314f",  # Hangul in letters
    "か\u3099 ｶﾞ ﾊﾟ",
    "👩‍👩‍👧‍👦🇫🇷👍🏽 ❤️",
    "\u200fשלום\u202eabc\u202c\u200e",
    "e\x01\u0301 a\x00b \x7f \x85 \x1b[0m",
    "\r\n\t x \r",
    "<pad> <unk> <MASK> <s> </s> <0x41> <0xE2>",
    "▁▁a▁b ▁",
    "\ufffe\uffff\ufdd2 \U0010fffe",
    "İstanbul ISPARTA Straße ẞ ΣΑΣ ς ŉ Ǆ ﬁ\u0301 ﷺ ①½²\u0301 𝕳𝖊 \u212b \u0344",
    "\ufeffa\u00adb\u200bc",
    "\u0e19\u0e49\u0e33 \u0e4d\u0e32 नमस्ते क\u093c",
    "........ -------- hhhh",
    "a" * 10_000,
    "the cat " * 1_250,
    "\U0001f600" * 10_000,
]


ESCAPED = [
    "the &quot;cat&quot; &amp;amp; a dog &#39;x&#39; caf&eacute; &nbsp; &amp;lt;b&amp;gt;",
    "AT&T R&D &amp;amp;lt; &copy 2020 &hellip;&shy;x&#8217;s &#x2014; &#146; &notin; &notit;",
]
"""Texts with HTML entities that all formats resolve."""


MARKS = "".join(
    map(chr, [*range(0x300, 0x370), *range(0x64B, 0x660), 0x3099, 0x5B0, 0x200D, 0xFE0F])
)
JAMO = "".join(map(chr, [*range(0x1100, 0x1113), *range(0x1161, 0x1176), *range(0x11A8, 0x11C3)]))
ALPHABETS = [
    st.characters(exclude_categories=["Cs", "Cn", "Co"], max_codepoint=0xFFFF),
    st.sampled_from("aeouncAEOUNC" + MARKS),
    st.sampled_from(JAMO + "가각\uffa1\uffc2\u3131\u314f"),
    st.sampled_from("<>/padunkMASK0x41 ▁\x00\x01\t"),
    st.sampled_from("the cat"),
]

KINDS = {
    "bpe": ("bpe", False, True),
    "bpe with bytes": ("bpe", True, True),
    "bpe with case": ("bpe", False, False),
    "unigram": ("unigram", False, True),
    "unigram with bytes": ("unigram", True, True),
}


@functools.cache
def tokenizer(kind: str = "bpe", byte_fallback: bool = False, lowercase: bool = True) -> bytes:
    """A sentencepiece model with the special pieces of lightxling."""
    rng = np.random.default_rng(0)
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(" ".join(rng.choice(WORDS, 8)) for _ in range(2000)),
        model_writer=model,
        model_type=kind,
        vocab_size=600 if byte_fallback else 340,
        normalization_rule_name="nmt_nfkc_cf" if lowercase else "nmt_nfkc",
        character_coverage=1.0,
        byte_fallback=byte_fallback,
        hard_vocab_limit=False,
        pad_id=0,
        unk_id=1,
        bos_id=-1,
        eos_id=-1,
        pad_piece="<pad>",
        unk_piece="<unk>",
        control_symbols=["<MASK>"],
        minloglevel=2,
    )
    return model.getvalue()


def ids(model: bytes, texts, max_length: int = 100_000):
    flat, lengths = Tokenizer(model).encode(texts, max_length)
    return [part.tolist() for part in np.split(flat, np.cumsum(lengths)[:-1])]


TINY = ModelConfig(width=32, heads=4, feedforward=48, max_length=24, identical_layers=False)

VARIANTS = {
    "plain": {},
    "factorised": {"embedding_width": 8},
    "no layers": {"layers": 0},
    "max pooling": {"pooling": "max"},
    "no positions": {"positions": False},
    "three layers": {"layers": 3, "heads": 2},
    "relu": {"activation": "relu"},
    "gelu_new": {"activation": "gelu_new", "layers": 1},
    "weighted": {"layers": 1, "pooling": "weighted"},
    "attention": {"layers": 1, "pooling": "attention", "embedding_norm": False},
    "weighted bag": {
        "layers": 0,
        "positions": False,
        "pooling": "weighted",
        "embedding_norm": False,
    },
}


def bundle(tokenizer_model: bytes | None = None, seed: int = 0, **changes) -> Bundle:
    """An encoder with random parameters, biases and norms too, as training leaves them."""
    config = ModelConfig(**{**vars(TINY), **changes})
    model = tokenizer_model or tokenizer()
    vocab_size = sentencepiece.SentencePieceProcessor(model_proto=model).get_piece_size()
    rng = np.random.default_rng(seed)
    params = {}
    for name, shape in shapes(config, vocab_size, config.width).items():
        scale = shape[0] ** -0.5 if name.endswith("kernel") else 0.3
        offset = 1 if name.endswith(".scale") else 0
        params[name] = (offset + scale * rng.normal(size=shape)).astype(np.float32)
    params["words"][0] = 0
    return Bundle(config, params, model, ("en", "fr", "de"))
