"""HTML entities: resolved in use as they were in training, in every format."""

import dataclasses
import html
import html.entities
import json
import re

import numpy as np
import pytest
from export_samples import bundle

from lightxling import Encoder
from lightxling.base.tree import nest
from lightxling.config.files import to_dict
from lightxling.config.schema import Config, CorpusConfig, TokenizerConfig
from lightxling.corpus.tokenizer import train_tokenizer
from lightxling.export.entities import patterns
from lightxling.export.formats import write_format
from lightxling.export.sentence_transformers import model_card
from lightxling.export.trim import trim_vocabulary
from lightxling.saved import bundle as bundles
from lightxling.saved.adapters import base_checksum

PATTERNS = [(re.compile(pattern), char) for pattern, char in patterns()]
CHARS = {char for _, char in PATTERNS}
FORMS = ["a &{}b", "&amp;{}", "&amp;amp;{}x", "&#38;{}", "x&AMP{};", "&#x26;{} ", "&#0038{}"]


def resolved(text):
    for pattern, char in PATTERNS:
        text = pattern.sub(lambda match, char=char: char, text)
    return text


def twice(text):
    return html.unescape(html.unescape(text))


def test_patterns_do_what_python_does_for_every_name_of_their_characters():
    names = [name for name, chars in html.entities.html5.items() if chars in CHARS]
    assert {f"{name};" for name in html.entities.name2codepoint} <= set(names)
    for name in names:
        text = " ".join(form.format(name) for form in FORMS)
        assert resolved(text) == twice(text), text


def test_patterns_do_what_python_does_for_every_number():
    numbers = [n for n in range(1, 10_000) if html.unescape(f"&#{n};") in CHARS]
    assert {39, 146, 160, 8217, 8364} <= set(numbers)
    for n in numbers:
        text = f"&#{n};&#0{n} &#x{n:X};&#X{n:x}&#{n}x&amp;#{n};&amp;#x{n:x}; &#{n}"
        assert resolved(text) == twice(text), text


def test_what_is_no_entity_stays():
    for text in ("AT&T", "R&D; a&b", "&", "&;", "&sup &#;", "&#390x"):
        assert resolved(text) == text


ESCAPED, PLAIN = "the &quot;cat&quot; &amp;amp; a dog", 'the "cat" & a dog'


@pytest.mark.parametrize("unescape", [True, False])
def test_an_export_resolves_what_its_training_resolved(unescape, tmp_path):
    small = dataclasses.replace(bundle(), unescape=unescape)
    write_format(small, tmp_path, "safetensors")
    loaded = bundles.load_bundle(tmp_path)
    assert loaded.unescape == unescape
    assert loaded.fingerprint() == small.fingerprint()
    escaped, plain = Encoder(loaded).encode([ESCAPED, PLAIN])
    assert np.allclose(escaped, plain, atol=1e-6) == unescape


def test_entities_change_the_encoder_but_not_what_its_adapters_fit():
    small = bundle()
    other = dataclasses.replace(small, unescape=False)
    assert other.fingerprint() != small.fingerprint()
    assert base_checksum(other) == base_checksum(small)


@pytest.mark.parametrize("unescape", [True, False])
def test_a_run_reads_entities_as_its_corpus_did(unescape, tmp_path, monkeypatch):
    small = bundle()
    config = Config(corpus=CorpusConfig(unescape=unescape), model=small.config)
    described = {"config": to_dict(config), "vocab_size": small.vocab_size, "languages": ["en"]}
    (tmp_path / "config.json").write_text(json.dumps(described))
    (tmp_path / "tokenizer.model").write_bytes(small.tokenizer)
    params = {"encoder": nest(small.params)}
    monkeypatch.setattr(bundles, "read_run_params", lambda run, checkpoint: params)
    assert bundles.load_bundle(tmp_path).unescape == unescape


def test_a_vocabulary_is_trimmed_to_the_text_as_it_is_read():
    small, text = bundle(), ["the\u00ad cat &eacute;l&egrave;ve"]
    trimmed = trim_vocabulary(small, (("en", one) for one in text))
    np.testing.assert_allclose(
        Encoder(trimmed).encode(text), Encoder(small).encode(text), atol=1e-6
    )
    kept = set(Encoder(trimmed).tokenizer.pieces())
    assert "é" in kept
    assert ";" not in kept


def test_a_card_says_what_its_tokenizer_does_otherwise(tmp_path):
    old = bundle()  # nmt_nfkc_cf
    said = "normalises text by its own rules (nmt_nfkc_cf), not by those of new tokenizers"
    assert said in model_card(old)
    train_tokenizer(["the cat sees a house"] * 9, TokenizerConfig(vocab_size=24), tmp_path / "new")
    new = dataclasses.replace(old, tokenizer=(tmp_path / "new").read_bytes())
    assert "rules" not in model_card(new)
    assert "entities" not in model_card(new)
    assert "`&amp;` are read as they stand" in model_card(dataclasses.replace(new, unescape=False))
