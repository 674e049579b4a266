"""Near duplicates: against a slow loop, and on real sentences with the encoder in the package."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_cli import run

from lightxling.encode import dedup


def slowly(rows, sides, threshold):
    """The definition, row by row."""
    digits = [[letter for letter in "".join(row) if letter.isdigit()] for row in rows]
    kept, gone = [], []
    for i in range(len(rows)):
        like = [
            j
            for j in kept
            if digits[i] == digits[j]
            and min(float(side[i] @ side[j]) for side in sides) >= threshold
        ]
        if like:
            gone.append(i)
        else:
            kept.append(i)
    return gone


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 2), st.integers(1, 60), st.integers(2, 5))
def test_it_drops_what_the_definition_drops(seed, count, size, width):
    rng = np.random.default_rng(seed)
    sides = [rng.normal(size=(size, width)).astype(np.float32) for _ in range(count)]
    sides = [side / np.linalg.norm(side, axis=1, keepdims=True) for side in sides]
    rows = [(f"a {rng.integers(3)}",) * count for _ in range(size)]
    before, dedup.BLOCK = dedup.BLOCK, 7  # several blocks
    try:
        found = dedup.duplicates(rows, sides, 0.9)
    finally:
        dedup.BLOCK = before
    assert [one.row for one in found] == slowly(rows, sides, 0.9)
    gone = {one.row for one in found}
    for one in found:
        assert one.kept < one.row
        assert one.kept not in gone
        assert one.score == pytest.approx(min(float(s[one.row] @ s[one.kept]) for s in sides))


def test_a_memory_loses_repetitions_and_keeps_numbers(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    rows = [
        ("The file could not be opened.", "Die Datei konnte nicht geöffnet werden."),
        ("Page 12 of 40", "Seite 12 von 40"),
        ("The file could not be opened!", "Die Datei konnte nicht geöffnet werden!"),
        ("Page 13 of 40", "Seite 13 von 40"),
        ("The file could not be opened.", "Das Haus ist rot."),
    ]
    (tmp_path / "memory.tsv").write_text("".join("\t".join(row) + "\n" for row in rows), "utf-8")
    code, said = run(capsys, "dedup", "en-de=memory.tsv", "--removed", "gone.tsv")
    assert code == 0, said
    kept = [
        tuple(line.split("\t")) for line in (tmp_path / "kept.tsv").read_text("utf-8").split("\n")
    ]
    assert kept[:-1] == [rows[0], rows[1], rows[3], rows[4]]
    score, *gone = (tmp_path / "gone.tsv").read_text("utf-8").rstrip("\n").split("\t")
    assert float(score) > 0.95
    assert gone == [*rows[2], *rows[0]]
    assert "4 of 5 rows stay, in kept.tsv" in said


def test_in_a_text_a_translation_is_a_duplicate(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    lines = ["Where is the station?", "The dog is sleeping.", "Wo ist der Bahnhof?", ""]
    (tmp_path / "mixed.txt").write_text("\n".join(lines), "utf-8")
    code, said = run(capsys, "dedup", "mixed.txt", "-o", "out.txt", "--threshold", 0.6)
    assert code == 0, said
    assert (tmp_path / "out.txt").read_text("utf-8").splitlines() == lines[:2]


@pytest.mark.parametrize("threshold", ["0", "1.5", "-1"])
def test_a_threshold_is_a_cosine(capsys, threshold):
    code, said = run(capsys, "dedup", "x.txt", f"--threshold={threshold}")
    assert code == 2
    assert "should be a cosine above 0" in said
