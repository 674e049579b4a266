"""One text: the table in new tokenizers, and the door of `Encoder`; from Unicode's own data."""

import unicodedata

import numpy as np
import pytest
import sentencepiece

from lightxling import Encoder
from lightxling.base.errors import UserError
from lightxling.config.schema import TokenizerConfig
from lightxling.corpus.cleaning import clean
from lightxling.corpus.normaliser import read_charsmap
from lightxling.corpus.sources import Source
from lightxling.corpus.tokenizer import train_tokenizer
from lightxling.encode.mining import unique_texts
from lightxling.evaluate.retrieval import precision_by_text, text_labels
from lightxling.evaluate.tasks.parallel import read_pairs
from lightxling.train.specialise import tokenizer_settings

TEXT = [f"the cat {i} sees a house, straße ist i ss σ" for i in range(50)]
UNSEEN = "\u00ad\u061c\u200b\u200e\u200f\u202a\u202b\u202c\u2060\u2066\u2067\u2069\ufeff\x01\x9f"
SPACES = "\t\v\x85\u00a0\u2003\u202f\u3000"


@pytest.fixture(scope="module", params=[True, False])
def model(tmp_path_factory, request):
    path = tmp_path_factory.mktemp("normaliser") / "m"
    config = TokenizerConfig(vocab_size=50, character_coverage=1.0, lowercase=request.param)
    train_tokenizer(TEXT, config, path)
    return request.param, path.read_bytes()


def test_what_nobody_sees_is_removed_and_spaces_are_spaces(model):
    normalize = sentencepiece.SentencePieceProcessor(model_proto=model[1]).normalize
    plain = normalize("the cat")
    for char in UNSEEN + "\ufe0f\U000e0100":
        assert normalize(f"t{char}he{char} cat{char}") == plain, ascii(char)
    for char in SPACES:
        assert normalize(f"the{char}cat{char}") == plain, ascii(char)


def test_case_is_folded_in_full_or_not_at_all(model):
    lowercase, content = model
    normalize = sentencepiece.SentencePieceProcessor(model_proto=content).normalize
    assert tokenizer_settings(content).lowercase == lowercase
    if not lowercase:
        assert normalize("STRAßE") == "▁STRAßE"
        return
    for char in map(chr, range(0x41, 0x1F000)):
        category = unicodedata.category(char)
        if category[0] == "L" and unicodedata.normalize("NFKC", char) == char != "\u0130":
            folded = unicodedata.normalize("NFC", char.casefold())
            assert normalize(char)[1:] == folded, ascii(char)
    for dotted in ("\u0130", "I\u0307", "\u0130".lower()):
        assert normalize(f"{dotted}yi") == "▁iyi"


def test_the_same_vector_whatever_nobody_sees_is_in_the_text():
    encoder, plain = Encoder.load(), 'Die "Donau" & der Frühling kommen.'
    disguised = [
        *(plain.replace("on", f"o{char}n") + char for char in UNSEEN),
        *(plain.replace(" ", char) for char in SPACES),
        plain.replace("&", "&amp;").replace('"', "&quot;"),
        plain.replace("&", "&amp;amp;").replace('"', "&amp;quot;"),
        unicodedata.normalize("NFD", plain),
        plain + "\r\n",
    ]
    vectors = encoder.encode([plain, *disguised])
    np.testing.assert_allclose(vectors[1:], vectors[:1].repeat(len(disguised), 0), atol=1e-6)


def test_the_same_text_gives_the_same_file(model, tmp_path):
    lowercase, content = model
    config = TokenizerConfig(vocab_size=50, character_coverage=1.0, lowercase=lowercase)
    train_tokenizer(TEXT, config, tmp_path / "again")
    assert (tmp_path / "again").read_bytes() == content


def test_invisible_lines_are_blank(tmp_path):
    assert not Encoder.load().encode("\u00ad\u200b").any()
    assert unique_texts(["\u00ad", "a", " \u2060 "])[0] == ["a"]
    (tmp_path / "x.en-fr.tsv").write_text("a\tb\n\u00ad\tb\nc\td\n", "utf-8")
    with pytest.warns(UserWarning, match="1 left out: blank side"):
        sides = read_pairs(Source(("en", "fr"), 1.0, str(tmp_path / "x.en-fr.tsv")))
    assert sides == (["a", "c"], ["b", "d"])


def test_texts_that_look_alike_are_one():
    """What an encoder cannot tell apart is neither a rival in mining nor a wrong answer."""
    texts = ["a b", "c", "a\u00a0b", "a\u00ad b", "c."]
    found, rows = unique_texts(texts)
    assert (found, rows.tolist()) == (["a b", "c", "c."], [0, 1, 4])
    assert text_labels(texts).tolist() == [0, 1, 0, 0, 2]
    vectors = np.array([[1, 0], [0, 1], [1, 0], [1, 0], [1, 1]], np.float32)
    assert precision_by_text(vectors, vectors, (texts, texts)).mean == 1


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("می\u200cخواهم", "▁می▁خواهم"),  # U+200C: a space
        ("क्\u200dष", "▁क्\u200dष"),  # U+200D: part of the spelling
    ],
)
def test_joiners_are_the_same_in_training_and_in_use(model, text, read):
    """`clean` leaves them to the tokenizer, which every export has too."""
    normalize = sentencepiece.SentencePieceProcessor(model_proto=model[1]).normalize
    assert clean(text) == text
    assert normalize(text) == read


def test_clean_text_stays():
    assert clean("R&D, AT&T; 5 < 6") == "R&D, AT&T; 5 < 6"


@pytest.mark.parametrize(
    "units",
    [
        [0, 1 << 10 | 1],  # a node that is its own child
        [1 << 10 | 0x100, 0],  # a value far behind the end
    ],
)
def test_a_damaged_table_ends_and_says_so(units):
    table = np.array([4 * len(units), *units], "<u4").tobytes()
    with pytest.raises(UserError, match="table of characters is damaged"):
        read_charsmap(table)
