import dataclasses
import itertools
import os
import unicodedata

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lightxling.base.errors import UserError
from lightxling.config.schema import TokenizerConfig
from lightxling.corpus import tokenizer
from lightxling.corpus.pieces import MASK, PAD, UNK
from lightxling.corpus.tokenizer import load_tokenizer, sample_rates

TEXT = "the a cat dog house Tree, river; walks runs sees 'old' (new) small & big isn't why?"
SENTENCES = [
    " ".join(p) + "." for p in itertools.islice(itertools.permutations(TEXT.split(), 4), 2000)
]
SMALL = TokenizerConfig(vocab_size=100, character_coverage=1.0)


def trained(path, sentences=SENTENCES, **changes):
    tokenizer.train_tokenizer(sentences, dataclasses.replace(SMALL, **changes), path)
    return load_tokenizer(path)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return trained(tmp_path_factory.mktemp("model") / "tokenizer.model")


@pytest.mark.parametrize("kind", ["bpe", "unigram"])
def test_special_ids_and_size(tmp_path, kind):
    model = trained(tmp_path / "m", model=kind, vocab_size=40)
    assert (PAD, UNK, MASK) == (0, 1, 2)
    assert not {"<s>", "</s>"} & set(model.pieces())
    assert model.pieces()[:3] == ["<pad>", "<unk>", "<MASK>"]
    assert model.vocab_size == len(model.pieces()) == 40


def test_the_two_kinds_differ(tmp_path):
    bpe, unigram = (trained(tmp_path / k, model=k, vocab_size=40) for k in ("bpe", "unigram"))
    assert bpe.pieces() != unigram.pieces()


@pytest.mark.parametrize("kind", ["bpe", "unigram"])
def test_training_is_deterministic(tmp_path, kind):
    first = trained(tmp_path / "1", model=kind, vocab_size=40)
    assert first.sha256 == trained(tmp_path / "2", model=kind, vocab_size=40).sha256
    assert (tmp_path / "1").read_bytes() == (tmp_path / "2").read_bytes()


def test_text_never_becomes_a_special_id(model):
    ids, _ = model.encode(["the <MASK> cat <pad>", "<MASK>"], 100)
    assert not np.isin(ids, [PAD, MASK]).any()


def test_lowercase_travels_with_the_file(tmp_path):
    folded, kept = trained(tmp_path / "1"), trained(tmp_path / "2", lowercase=False)
    assert folded.lowercase
    assert not kept.lowercase
    upper, lower = folded.encode(["THE CAT", "the cat"], 100)[0].reshape(2, -1)
    np.testing.assert_array_equal(upper, lower)
    assert folded.decode(lower) == "the cat"
    assert UNK in kept.encode(["THE CAT"], 100)[0]


def test_encode_lays_sentences_end_to_end(model):
    sentences = ["the cat walks", "", "a small dog sees the river", "why?"]
    ids, lengths = model.encode(sentences, 100)
    assert ids.dtype == model.dtype == np.uint16
    assert lengths.dtype == np.int64
    assert lengths[1] == 0
    parts = np.split(ids, np.cumsum(lengths)[:-1])
    assert [model.decode(part) for part in parts] == sentences
    for part, sentence in zip(parts, sentences, strict=True):
        np.testing.assert_array_equal(part, model.encode([sentence], 100)[0])


def test_encode_truncates_to_a_prefix(model):
    whole, _ = model.encode(SENTENCES[:1], 100)
    part, lengths = model.encode(SENTENCES[:1], 3)
    assert lengths.tolist() == [3]
    np.testing.assert_array_equal(part, whole[:3])


def test_encode_of_nothing(model):
    ids, lengths = model.encode([], 10)
    assert (len(ids), len(lengths)) == (0, 0)


@settings(deadline=None)
@given(st.lists(st.text(st.characters(codec=None))))
def test_encode_takes_any_text(model, sentences):
    ids, lengths = model.encode(sentences, 50)
    assert len(lengths) == len(sentences)
    assert lengths.sum() == len(ids)
    assert (ids < model.vocab_size).all()


def test_large_vocabularies_need_uint32(tmp_path):
    words = ("".join("abcdefghij"[int(d)] for d in f"{i * 7919:09d}") for i in range(70_000))
    model = trained(tmp_path / "m", words, model="bpe", vocab_size=66_000)
    assert model.dtype == np.uint32
    assert model.encode(["abc"], 9)[0].dtype == np.uint32


def test_punctuation_bytes_and_specials_are_not_maskable(tmp_path):
    model = trained(tmp_path / "m", byte_fallback=True, vocab_size=380)
    maskable = dict(zip(model.pieces(), model.maskable().tolist(), strict=True))
    assert len(maskable) == 380
    for piece in ["<pad>", "<unk>", "<MASK>", "▁", ".", ",", "?", "'", "&", "(", "<0x41>"]:
        assert not maskable[piece], piece
    assert not maskable.get("▁(", False)
    assert maskable["▁cat"]
    assert maskable["s"]


def test_byte_fallback_knows_every_character(tmp_path):
    plain, bytewise = (
        trained(tmp_path / "1"),
        trained(tmp_path / "2", byte_fallback=True, vocab_size=380),
    )
    assert UNK in plain.encode(["猫"], 9)[0]
    ids, _ = bytewise.encode(["猫"], 9)
    assert UNK not in ids
    assert bytewise.decode(ids) == "猫"


@pytest.mark.parametrize("kind", ["bpe", "unigram"])
def test_a_vocabulary_the_text_cannot_fill_names_the_largest(tmp_path, kind):
    with pytest.raises(UserError, match=r"vocab_size=5000 .*--tokenizer.vocab-size (\d+)") as error:
        trained(tmp_path / "m", model=kind, vocab_size=5000)
    largest = int(str(error.value).split("--tokenizer.vocab-size ")[1].split()[0])
    assert trained(tmp_path / "m", model=kind, vocab_size=largest).vocab_size == largest
    with pytest.raises(UserError):
        trained(tmp_path / "m", model=kind, vocab_size=largest + 1)


def test_a_vocabulary_smaller_than_the_alphabet_names_a_way_out(tmp_path):
    with pytest.raises(UserError, match=r"vocab_size=10 does not hold the \d+ characters"):
        trained(tmp_path / "m", vocab_size=10)


@pytest.mark.parametrize("spoil", ["empty", "short", "noise", "letter", "missing"])
def test_damaged_files_are_refused(tmp_path, spoil, capfd):
    path = tmp_path / "tokenizer.model"
    tokenizer.train_tokenizer(SENTENCES, SMALL, path)
    data = path.read_bytes()
    if spoil == "missing":
        path.unlink()
    else:
        spoilt = {
            "empty": b"",
            "short": data[:-100],
            "noise": os.urandom(500),
            "letter": data.replace(b"<pad>", b"\x80pad>"),  # no UTF-8
        }
        path.write_bytes(spoilt[spoil])
    with pytest.raises(UserError, match=r"tokenizer\.model"):
        load_tokenizer(path)
    assert capfd.readouterr().err == ""  # sentencepiece has an opinion of its own


def test_models_with_other_special_pieces_are_refused(tmp_path):
    import sentencepiece

    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(SENTENCES),
        model_prefix=str(tmp_path / "other"),
        vocab_size=40,
        minloglevel=2,
    )
    with pytest.raises(UserError, match="starts with the pieces <unk> <s> </s>"):
        load_tokenizer(tmp_path / "other.model")


def test_sample_rates():
    assert sample_rates({"en": 300, "fr": 100}, 1000, 1.0) == {"en": 1.0, "fr": 1.0}
    assert sample_rates({"en": 300, "fr": 100}, 500, 1.0) == {"en": 1.0, "fr": 1.0}
    assert sample_rates({"en": 300, "fr": 100}, 100, 1.0) == {"en": 0.25, "fr": 0.25}
    assert sample_rates({"en": 300, "fr": 100}, 100, 0.0) == {"en": 50 / 300, "fr": 0.5}
    # 10 of Breton is all there is; the other 80 are shared by square roots, 3 to 1.
    assert sample_rates({"en": 900, "fr": 100, "br": 10}, 90, 0.0) == pytest.approx(
        {"en": 40 / 900, "fr": 0.4, "br": 1.0}
    )
    rates = sample_rates({"en": 900, "fr": 100}, 80, 0.5)
    assert rates == pytest.approx({"en": 60 / 900, "fr": 20 / 100})


SCRIPTS = {
    "en": "the river runs under an old bridge",
    "ru": "река течёт под старым мостом",
    "el": "το ποτάμι κυλά κάτω από τη γέφυρα",
    "hi": "नदी पुराने पुल के नीचे बहती है",
    "th": "แม่น้ำไหลอยู่ใต้สะพานเก่า",
    "ja": "川は古い橋の下を流れている",
    "ar": "النهر يجري تحت جسر قديم",
}


def in_many_scripts(seed=0) -> list[str]:
    """4,000 English sentences for every ten of another script; words in any order."""
    rng = np.random.default_rng(seed)
    rows = []
    for code, text in SCRIPTS.items():
        words = text.split() if " " in text else list(text)
        joint = " " if " " in text else ""
        rows += [joint.join(rng.permutation(words)) for _ in range(4000 if code == "en" else 10)]
    return rows


@pytest.mark.parametrize("kind", ["bpe", "unigram"])
def test_full_coverage_or_bytes_leave_nothing_unknown_in_any_script(tmp_path, kind):
    """At a coverage of 0.98 English alone has its letters; bytes spell what then has no piece."""
    texts, sentences = list(SCRIPTS.values()), in_many_scripts()
    rare, every = {"character_coverage": 0.98}, {"character_coverage": 1.0}
    cut = trained(tmp_path / "1", sentences, model=kind, vocab_size=25, **rare)
    full = trained(tmp_path / "2", sentences, model=kind, vocab_size=110, **every)
    spelt = trained(
        tmp_path / "3", sentences, model=kind, vocab_size=281, byte_fallback=True, **rare
    )
    unknown = [
        [bool((model.encode([text], 200)[0] == UNK).any()) for text in texts]
        for model in (cut, full, spelt)
    ]
    assert unknown[0] == [False] + [True] * 6
    assert unknown[1] == unknown[2] == [False] * 7
    for model in (full, spelt):
        for text in texts:
            assert model.decode(model.encode([text], 200)[0]) == unicodedata.normalize("NFKC", text)


def test_smoothed_sampling_gives_small_languages_shorter_sentences(tmp_path):
    """In pieces: what a language gets of the sample, it gets of the vocabulary."""
    counts = {code: 1000 if code == "en" else 10 for code in SCRIPTS}
    lengths = {}
    for exponent in (1.0, 0.0):
        rates = sample_rates(counts, 70, exponent)
        sample = []
        for code, text in SCRIPTS.items():
            sample += [text] * round(rates[code] * counts[code])
        sample += list(SCRIPTS.values())  # every character occurs
        model = trained(tmp_path / str(exponent), sample, model="bpe", vocab_size=130)
        lengths[exponent] = {code: model.encode([t], 200)[1][0] for code, t in SCRIPTS.items()}
    others = [code for code in SCRIPTS if code != "en"]
    assert sum(lengths[0.0][c] for c in others) < sum(lengths[1.0][c] for c in others)
