import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lightxling.config.schema import CorpusConfig
from lightxling.corpus.cleaning import Cleaner, HashSet, clean, content, content_hash, flaw


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("  two\t spaces \n", "two spaces"),
        ("caf\u0065\u0301", "café"),  # NFC
        ("ﬁne ２０ ｋｍ…", "fine 20 km..."),  # the K of NFKC
        ("A&amp;B &quot;x&quot;&nbsp;&#8364;", 'A&B "x" €'),
        ("soft\u00adhyphen\u200b and\u0007 bell", "softhyphen and bell"),
        ("می\u200cخواهم", "می\u200cخواهم"),  # the joiner is spelling
        ("half \ud800 a pair", "half a pair"),
        ("\ufeff\u202bשלום\u202c", "שלום"),
        ("\x00\x1f\u2028", ""),
    ],
)
def test_clean(text, expected):
    assert clean(text) == expected


def test_entities_stay_when_asked():
    assert clean("A &amp; B", unescape=False) == "A &amp; B"


@settings(deadline=None)
@given(st.text(st.characters(codec=None)))
def test_clean_text_is_one_encodable_line_and_stays_as_it_is(text):
    once = clean(text, unescape=False)
    assert clean(once, unescape=False) == once
    assert once == " ".join(once.split())
    once.encode()


def test_content_drops_case_punctuation_and_spaces_but_no_vowel_signs():
    assert content("«L’Été», n° 5 !") == "létén5"
    assert content("कि") != content("का")


def test_content_hash_is_the_same_for_ever():
    """The dev split of every corpus hangs on these numbers."""
    assert content_hash("Hello, world!") == content_hash("hello world") == 6801638793323236970
    assert content_hash("") == 13020603013274838756


@settings(deadline=None)
@given(st.lists(st.lists(st.integers(1, 2**64 - 1) | st.integers(1, 20))))
def test_hash_set_finds_the_first_of_equals(batches):
    ours, pythons = HashSet(), set()
    for batch in batches:
        expected = []
        for value in batch:
            expected.append(value not in pythons)
            pythons.add(value)
        assert ours.add(np.array(batch, np.uint64)).tolist() == expected
        assert len(ours) == len(pythons)


def test_hash_set_grows():
    values = np.random.default_rng(0).integers(1, 2**64, 300_000, np.uint64, endpoint=False)
    hashes = HashSet()
    assert all(hashes.add(part).all() for part in np.split(values, 6))
    assert not any(hashes.add(part).any() for part in np.split(values, 6))
    # Values that fall on the same slots, the last ones of the table.
    rivals = np.arange(1, 1000, dtype=np.uint64) << np.uint64(44) | np.uint64(2**44 - 1)
    assert hashes.add(rivals).all()
    assert not hashes.add(rivals).any()


@pytest.mark.parametrize(
    ("sides", "reason"),
    [
        (("", "Oui."), "blank side"),
        (("a" * 401, "b" * 300), "longer than 400 characters"),
        (("a" * 400, "b" * 300), None),
        (("a" * 81, "b" * 20), "length ratio over 4"),
        (("a" * 80, "b" * 20), None),
        (("a" * 80, "b"), None),  # short sides count as 20 characters
        (("a" * 81, "b"), "length ratio over 4"),
        (("Paris!", "paris"), "identical sides"),
        (("12 %", "13 %"), "no letters"),
        (("???", "Quoi ?"), "no letters"),
        (("Yes.", "Oui."), None),
    ],
)
def test_flaw(sides, reason):
    assert flaw(sides, [content(side) for side in sides], CorpusConfig()) == reason


def test_cleaner_keeps_the_first_of_duplicates_and_counts_every_row():
    cleaner = Cleaner(CorpusConfig())
    rows, hashes = cleaner([("Yes.", "Oui."), ("yes !", "OUI"), ("Yes", "Ouais")], ("en", "fr"))
    assert rows == [("Yes.", "Oui."), ("Yes", "Ouais")]
    assert hashes.tolist() == [content_hash("Yes")] * 2
    assert cleaner([("Yes", "Oui"), ("", "rien")], ("en", "fr"))[0] == []
    assert cleaner([("Yes", "Oui")], ("en", "ca"))[0] == [("Yes", "Oui")]  # other languages
    assert cleaner.read == 6
    assert cleaner.dropped == {"duplicate": 2, "blank side": 1}


def test_duplicates_stay_when_asked():
    config = dataclasses.replace(CorpusConfig(), deduplicate=False)
    assert len(Cleaner(config)([("Yes", "Oui")] * 3, ("en", "fr"))[0]) == 3


def test_sides_do_not_run_into_each_other():
    """("ab", "c") and ("a", "bc") have the same letters, but are different pairs."""
    assert len(Cleaner(CorpusConfig())([("ab", "c"), ("a", "bc")], ("en", "fr"))[0]) == 2
