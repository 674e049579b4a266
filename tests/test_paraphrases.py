"""Paraphrases out of parallel text, against a search through all paths."""

import itertools
import random

import pytest

from lightxling.base.errors import UserError
from lightxling.base.lines import Problems
from lightxling.cli import main
from lightxling.corpus.cleaning import content_hash
from lightxling.corpus.paraphrases import find_paraphrases, read_rows, write_paraphrases

ROWS = [
    (("en", "de"), pair)
    for pair in [
        ("He is ill.", "Er ist krank."),
        ("He is sick.", "Er ist krank."),
        ("He is sick.", "Ihm ist schlecht."),
        ("he is sick", "Ihm ist schlecht!"),  # the same sentences
        ("Go!", "Geh!"),
        ("Same.", "Same."),
    ]
]


def test_a_small_text_by_hand():
    assert find_paraphrases(ROWS) == {
        ("de", "de"): [("Er ist krank.", "Ihm ist schlecht.")]
        if content_hash("Er ist krank.") < content_hash("Ihm ist schlecht.")
        else [("Ihm ist schlecht.", "Er ist krank.")],
        ("en", "en"): [("He is ill.", "He is sick.")]
        if content_hash("He is ill.") < content_hash("He is sick.")
        else [("He is sick.", "He is ill.")],
        ("en", "de"): [("He is ill.", "Ihm ist schlecht.")],
    }


def made(languages=("de", "fr"), rows=60, sentences=15, seed=0):
    rng = random.Random(seed)
    return [
        (("en", code), (f"en {rng.randrange(sentences)}", f"{code} {rng.randrange(sentences)}"))
        for code in rng.choices(languages, k=rows)
    ]


def slow(rows):
    """All pairs at distance 2 within a language, and 3 across, that no row has; without limits."""
    edges = {(a, b) for _, (a, b) in rows} | {(b, a) for _, (a, b) in rows}
    nodes = {a for a, _ in edges}
    within = {(a, c) for a, b in edges for b2, c in edges if b == b2 and a != c and a[:2] == c[:2]}
    across = {
        (a, d)
        for a, c in within
        for c2, d in edges
        if c == c2 and (a, d) not in edges and "en" in (a[:2], d[:2]) and a in nodes
    }
    return within, across


def test_without_a_limit_all_paths_are_found():
    rows = made()
    within, across = slow(rows)
    found = find_paraphrases(rows, limit=100)
    both = {p for (a, b), pairs in found.items() if a == b for p in pairs}
    assert both | {p[::-1] for p in both} == within
    assert len(both) == len(within) / 2
    ours = {p for (a, b), pairs in found.items() if a != b for p in pairs}
    assert ours == {p if p[0][:2] == "en" else p[::-1] for p in across}


def test_paraphrases_that_are_known_lead_across_like_those_that_were_found():
    """What one language's rows give with the English paraphrases of all is their part of all."""
    rows = made(rows=80)
    together = find_paraphrases(rows, limit=100)
    known = [(("en", "en"), pair) for pair in together["en", "en"]]
    for code in ("de", "fr"):
        own = [row for row in rows if row[0] == ("en", code)]
        alone, found = find_paraphrases(own, limit=100), find_paraphrases(own, known, limit=100)
        assert found["en", code] == together["en", code] != alone["en", code]
        assert found["en", "en"] == alone["en", "en"]


def test_a_limit_takes_some_and_invents_none():
    rows = made(sentences=6, rows=80)
    few, all_of_them = find_paraphrases(rows, limit=2), find_paraphrases(rows, limit=100)
    for languages, pairs in few.items():
        both_orders = {*all_of_them[languages], *(p[::-1] for p in all_of_them[languages])}
        assert set(pairs) <= both_orders
        assert len(pairs) < len(all_of_them[languages])


def test_the_order_of_the_rows_changes_nothing():
    rows = made()
    mixed = random.Random(1).sample([*rows, *rows[:9]], len(rows) + 9)
    assert find_paraphrases(mixed) == find_paraphrases(rows)


def test_no_pair_is_a_translation_of_the_rows():
    rows = made()
    for languages, pairs in find_paraphrases(rows).items():
        assert not {pair for _, pair in rows} & set(pairs)
        for a, b in pairs:
            assert (a[:2], b[:2]) == languages


def test_the_command_writes_files_that_sources_can_name(tmp_path, capsys):
    lines = "".join(f"{a}\t{b}\n" for _, (a, b) in ROWS)
    (tmp_path / "made.tsv").write_text(lines)
    source, out = f"en-de={tmp_path / 'made.tsv'}", tmp_path / "out"
    assert main(["paraphrases", source, "-o", str(out)]) == 0
    assert "paraphrases.en-de.tsv" in capsys.readouterr().out
    names = {f"paraphrases.{pair}.tsv" for pair in ("de-de", "en-de", "en-en")}
    assert {file.name for file in out.iterdir()} == names
    read = read_rows([f"en-de={out / 'paraphrases.en-de.tsv'}"], Problems())
    assert list(read) == [(("en", "de"), ("He is ill.", "Ihm ist schlecht."))]
    before = {file: file.read_bytes() for file in out.iterdir()}
    write_paraphrases([source], out)
    assert {file: file.read_bytes() for file in out.iterdir()} == before


def test_text_without_paraphrases_is_refused(tmp_path):
    (tmp_path / "made.tsv").write_text("one\teins\ntwo\tzwei\n")
    with pytest.raises(UserError, match="no sentence has several translations"):
        write_paraphrases([f"en-de={tmp_path / 'made.tsv'}"], tmp_path / "out")
    assert not (tmp_path / "out").exists()
    with pytest.raises(UserError, match="should be of two languages"):
        list(read_rows([f"en-de-fr={tmp_path / 'made.tsv'}"], Problems()))


def test_what_shows_no_paraphrases_is_counted_and_said(tmp_path):
    rows = ["He is ill.\tEr ist krank.", "He is sick.\tEr ist krank.", "He ails.\tEr ist krank."]
    (tmp_path / "a.tsv").write_text("\n".join([*rows, "...\t!", "one side", "x\t"]) + "\n")
    source, out = f"en-de={tmp_path / 'a.tsv'}", str(tmp_path / "out")
    with pytest.warns(UserWarning, match="left out") as warned:
        assert main(["paraphrases", source, "-o", out, "--limit", "2"]) == 0
    said = " ".join(str(one.message) for one in warned)
    assert "2 left out: a side without letters ('... | !', 'x | ')" in said
    assert "1 left out: 1 of 2 columns" in said
    assert "1 left out: more than 2 translations of one sentence (He " in said


def test_pairs_are_distinct():
    for pairs in find_paraphrases(made(rows=200, sentences=8), limit=3).values():
        assert len({frozenset(pair) for pair in pairs}) == len(pairs)
        assert all(a != b for a, b in itertools.chain(pairs))
