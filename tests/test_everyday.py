import collections
import hashlib
import itertools
import re
import unicodedata

import pytest
import templates
from lexicon import agree, render, words

from lightxling.corpus import everyday
from lightxling.corpus.everyday import (
    LANGUAGES,
    Row,
    hold_out,
    read_composed,
    read_sentences,
    text_pairs,
)


@pytest.fixture(scope="module")
def whole():
    return read_sentences()


@pytest.fixture(scope="module")
def made():
    return read_composed(3000)


def word(name, part="noun"):
    return next(w for w in words() if w.part == part and w.name == name and not w.plural)


def word_sets(row):
    return [set(re.findall(r"[^\W_]+", text.casefold())) for text in row.texts]


def near_copies(one, other):
    """Slowly, and sharing no code with the corpus."""
    return any(len(a & b) / len(a | b) >= 0.6 - 1e-12 for a, b in zip(one, other, strict=True))


def test_there_are_a_thousand_whole_sentences(whole):
    assert len({row.texts for row in whole}) >= 1000


def test_every_row_has_a_clean_text_in_every_language(whole, made):
    for row in whole + made:
        assert len(row.texts) == len(LANGUAGES)
        for text in row.texts:
            assert text
            assert text == text.strip()
            assert "  " not in text
            assert unicodedata.is_normalized("NFC", text), row
            assert not set("{}\t|") & set(text), row


@pytest.mark.parametrize("language", LANGUAGES)
def test_no_text_comes_twice_in_its_language(whole, made, language):
    for rows in (whole, made):
        texts = collections.Counter(text for text, _ in text_pairs(rows, language, language))
        assert [text for text, times in texts.items() if times > 1] == []


def test_pairs_are_ordered():
    row = Row("home:1", ("house", "Haus", "maison", "casa", "casa (it)"))
    assert text_pairs([row], "fr", "de") == [("maison", "Haus")]
    with pytest.raises(ValueError, match="choose from en, de, fr, es, it"):
        text_pairs([row], "en", "pt")


def test_a_larger_count_continues_the_list(made):
    assert read_composed(500) == made[:500]


def test_composed_rows_come_from_many_frames(made):
    assert len({row.frame for row in made}) >= 60


def test_asking_for_too_many_names_the_most_there_are():
    with pytest.raises(ValueError, match=r"count=12001 .* try 12000$"):
        read_composed(12_001)


def test_the_composed_rows_are_those_that_quickstart_was_measured_with():
    lines = "".join("\t".join((row.frame, *row.texts)) + "\n" for row in read_composed(12_000))
    assert hashlib.sha256(lines.encode()).hexdigest() == (
        "0b3c7a5d4cea7cee4ef94ff73e010dba0b4dce975006a93aef256efd675cb60a"
    )


def test_the_templates_still_give_the_composed_rows():
    rows = [Row(*row) for row in itertools.islice(templates.composed(seed=0), 12_000)]
    assert rows == read_composed(12_000)


def test_a_seed_gives_one_list():
    first = list(itertools.islice(templates.composed(seed=1), 100))
    assert list(itertools.islice(templates.composed(seed=1), 100)) == first
    assert list(itertools.islice(templates.composed(seed=0), 100)) != first


def test_templates_end_when_nothing_is_new(monkeypatch):
    few = tuple(t for t in templates.TEMPLATES if t.name in ("none_left", "pet_age"))
    monkeypatch.setattr(templates, "TEMPLATES", few)
    rows = list(templates.composed(seed=0))
    assert 0 < len(rows) < 5000
    assert {name for name, _ in rows} == {"none_left", "pet_age"}


def test_no_frame_is_on_both_sides(whole, made):
    training, held_out = hold_out(whole, made)
    assert not {row.frame for row in training} & {row.frame for row in held_out}
    assert {row.frame for row in held_out} <= {row.frame for row in whole}
    assert 0.15 < len(held_out) / len(whole) < 0.3
    assert len(training) + len(held_out) > len(whole) + 0.95 * len(made)


def test_no_near_copy_is_on_both_sides(whole, made):
    training, held_out = hold_out(whole, made[:1000])
    sets = [word_sets(row) for row in training[::2]]
    for held in held_out[::9]:
        held = word_sets(held)
        assert not any(near_copies(held, other) for other in sets)


def test_a_near_copy_in_one_language_is_enough(whole):
    few = whole[:200]
    training, (held, *_) = hold_out(few, [])
    other = ("Nothing alike.", "Ganz anders.", "Rien de tel.", "Nada igual.")
    for i in range(len(LANGUAGES)):
        row = Row("template", (*other[:i], held.texts[i], *other[i:]))
        assert hold_out(few, [row])[0] == training


def test_the_threshold_is_three_fifths(monkeypatch):
    monkeypatch.setattr(everyday, "HELD_OUT_SHARE", 1)
    held = Row("a:1", ("one two three four five",) * 5)
    near = Row("made", ("Five, four - three!", "a", "b", "c", "d"))  # shares 3 words of 5
    far = Row("made", ("five four three six", "a", "b", "c", "d"))  # shares 3 words of 6
    assert hold_out([held], [near, far]) == ([far], [held])


def test_near_copies_among_whole_sentences_stay_together(whole):
    held = hold_out(whole, [])[1][0]
    copy = Row("copies:1", tuple(f"{text} Oh!" if len(text) > 20 else text for text in held.texts))
    chained = Row("copies:2", ("Qwerty.", "Qwertz.", "Azerty.", *copy.texts[3:]))
    held_out = hold_out([*whole, copy, chained], [])[1]
    assert copy in held_out
    assert chained in held_out


def test_adding_sentences_moves_none(whole):
    training, held_out = hold_out(whole, [])
    added = [
        Row(f"new:{n}", tuple(f"xx{n} yy{n} {language}{n}" for language in LANGUAGES))
        for n in range(200)
    ]
    training_later, held_out_later = hold_out([*added, *whole], [])
    assert [row for row in training_later if row not in added] == training
    assert [row for row in held_out_later if row not in added] == held_out
    assert 20 < len(held_out_later) - len(held_out) < 60  # about a fifth of the 200


@pytest.mark.parametrize(
    ("name", "form", "language", "expected"),
    [
        # German: case, the -n of weak masculines, contractions, dative plurals
        ("table", "den", "de", "den Tisch"),
        ("table", "dem", "de", "dem Tisch"),
        ("kitchen", "dem", "de", "der Küche"),
        ("kitchen", "im", "de", "in der Küche"),
        ("living_room", "im", "de", "im Wohnzimmer"),
        ("library", "zum", "de", "zur Bibliothek"),
        ("hospital", "vom", "de", "vom Krankenhaus"),
        ("colleague", "meinem", "de", "meinem Kollegen"),
        ("colleague", "mein", "de", "mein Kollege"),
        ("apple", "dem+", "de", "den Äpfeln"),
        ("car", "dem+", "de", "den Autos"),
        ("milk", "keinen", "de", "keine Milch"),
        # French: elision, contractions, mon before a vowel, plurals
        ("water", "le", "fr", "l'eau"),
        ("water", "du", "fr", "de l'eau"),
        ("milk", "du", "fr", "du lait"),
        ("hospital", "au", "fr", "à l'hôpital"),
        ("hamster", "le", "fr", "le hamster"),
        ("yoghurt", "de", "fr", "de yaourt"),
        ("school", "mon", "fr", "mon école"),
        ("hotel", "ce", "fr", "cet hôtel"),
        ("cake", "le+", "fr", "les gâteaux"),
        ("horse", "un+", "fr", "des chevaux"),
        ("eye", "au+", "fr", "aux yeux"),
        # Spanish: contractions, el agua, plurals
        ("market", "al", "es", "al mercado"),
        ("beach", "del", "es", "de la playa"),
        ("water", "el", "es", "el agua"),
        ("lemon", "el+", "es", "los limones"),
        ("exam", "el+", "es", "los exámenes"),
        ("judge", "un+", "es", "unos jueces"),
        ("hand", "mi+", "es", "mis manos"),
        # Italian: lo, gli, uno, elision, contractions, possessives
        ("backpack", "il", "it", "lo zaino"),
        ("backpack", "il+", "it", "gli zaini"),
        ("mirror", "un", "it", "uno specchio"),
        ("yoghurt", "il", "it", "lo yogurt"),
        ("island", "un", "it", "un'isola"),
        ("tree", "un", "it", "un albero"),
        ("tree", "il+", "it", "gli alberi"),
        ("island", "il+", "it", "le isole"),
        ("zoo", "al", "it", "allo zoo"),
        ("hotel", "nel", "it", "nell'hotel"),
        ("shelf", "sul", "it", "sullo scaffale"),
        ("pharmacy", "luogo", "it", "in farmacia"),
        ("park", "luogo", "it", "al parco"),
        ("mother", "mio", "it", "mia madre"),
        ("neighbour", "mio", "it", "il mio vicino"),
        ("neighbour", "di_mio", "it", "del mio vicino"),
        ("brother", "a_mio", "it", "a mio fratello"),
        ("egg", "il", "it", "l'uovo"),
        ("egg", "quanto+", "it", "quante uova"),
        # English
        ("umbrella", "a", "en", "an umbrella"),
        ("university", "a", "en", "a university"),
        ("knife", "+", "en", "knives"),
    ],
)
def test_nouns_take_their_determiners(name, form, language, expected):
    assert render(word(name), form, language) == expected


@pytest.mark.parametrize(
    ("name", "form", "language", "adjective", "expected"),
    [
        ("coat", "einen", "de", "red", "einen roten Mantel"),
        ("coat", "ein", "de", "red", "ein roter Mantel"),
        ("dress", "ein", "de", "red", "ein rotes Kleid"),
        ("dress", "der", "de", "red", "das rote Kleid"),
        ("house", "einem", "de", "expensive", "einem teuren Haus"),
        ("shoe", "einen+", "de", "new", "neue Schuhe"),
        ("shoe", "der+", "de", "new", "die neuen Schuhe"),
        ("hotel", "un", "fr", "new", "un nouvel hôtel"),
        ("tree", "un", "fr", "beautiful", "un bel arbre"),
        ("flower", "un+", "fr", "beautiful", "de belles fleurs"),
        ("jacket", "un", "fr", "white", "une veste blanche"),
        ("shirt", "el", "es", "red", "la camisa roja"),
        ("water", "el", "es", "cold", "el agua fría"),
        ("mirror", "un", "it", "beautiful", "un bello specchio"),
        ("book", "un", "it", "beautiful", "un bel libro"),
        ("tree", "il+", "it", "beautiful", "i begli alberi"),
        ("tree", "un", "it", "beautiful", "un bell'albero"),
        ("mirror", "un", "it", "new", "un nuovo specchio"),
        ("skirt", "un", "it", "dirty", "una gonna sporca"),
        ("house", "a", "en", "old", "an old house"),
    ],
)
def test_adjectives_agree_beside_the_noun(name, form, language, adjective, expected):
    assert render(word(name), form, language, word(adjective, "adjective")) == expected


def test_adjectives_agree_after_the_verb():
    door, closed = word("door"), word("closed", "adjective")
    assert [agree(closed, door, language) for language in LANGUAGES] == [
        "closed",
        "geschlossen",
        "fermée",
        "cerrada",
        "chiusa",
    ]
    assert agree(word("white", "adjective"), door, "it", plural=True) == "bianche"
    assert agree(word("fresh", "adjective"), word("egg"), "it", plural=True) == "fresche"


def test_german_verbs_split_and_take_zu():
    assert render(word("tidy_up", "verb"), "zu", "de") == "aufzuräumen"
    assert render(word("buy", "verb"), "zu", "de") == "zu kaufen"
    assert render(word("tidy_up", "verb"), "sep", "de") == " auf"


def test_every_word_that_is_taken_exists():
    nouns = [w for w in words() if w.part == "noun"]
    known = {name for noun in nouns for name in (*noun.kinds, noun.name)} | {"person"}
    assert {name for w in words() for name in w.takes} <= known
