"""Which columns of other people's files are the sentences; lengths by script; what is left out."""

import random
import warnings

import pytest

from lightxling.base.errors import UserError
from lightxling.base.lines import Problems
from lightxling.config import CorpusConfig
from lightxling.corpus import readers
from lightxling.corpus.cleaning import content, flaw, latin_length
from lightxling.corpus.columns import kind_of
from lightxling.corpus.sources import Source
from lightxling.corpus.spool import Spool
from lightxling.evaluate import tasks
from lightxling.evaluate.tasks.parallel import read_pairs

PAIRS = [(f"The cat number {i} sleeps.", f"Le chat numéro {i} dort.") for i in range(30)]
LAYOUTS = {  # as the corpora are published; the columns of the text
    "paracrawl": (["http://a.org/{i}", "http://b.org/{i}", "{en}", "{fr}", "0.{i}"], "3,4"),
    "ccmatrix": (["1.2{i}", "{en}", "{fr}"], "2,3"),
    "ids": (["S-{i}", "{en}", "{fr}"], "2,3"),
    "opus": (["en/1996/{i}.xml.gz", "fr/1996/{i}.xml.gz", "{en}", "{fr}"], "3,4"),
}


def write(path, cells):
    lines = [
        "\t".join(cell.format(i=i, en=en, fr=fr) for cell in cells)
        for i, (en, fr) in enumerate(PAIRS)
    ]
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


def rows_of(spec):
    return list(readers.read_source(Source.parse(spec), Problems()))


@pytest.mark.parametrize("name", LAYOUTS)
def test_what_is_not_text_is_refused_with_what_to_type_and_that_reads_it(tmp_path, name):
    cells, columns = LAYOUTS[name]
    path = write(tmp_path / "a.tsv", cells)
    with pytest.raises(UserError, match="not sentences") as error:
        rows_of(f"en-fr={path}")
    typed = f"en-fr={path}#{columns}"
    assert f"write {typed}," in str(error.value)
    assert PAIRS[3][0] not in str(error.value)  # one row is shown
    assert rows_of(typed) == PAIRS


def test_a_score_behind_is_not_read(tmp_path):
    assert rows_of(f"en-fr={write(tmp_path / 'a.tsv', ['{en}', '{fr}', '1.0{i}'])}") == PAIRS


def test_columns_may_be_turned_and_named_by_the_header(tmp_path):
    path = write(tmp_path / "a.tsv", ["{i}", "{fr}", "{en}"])
    path.write_text("Id\tFR\tEn\n" + path.read_text("utf-8"), encoding="utf-8")
    assert rows_of(f"en-fr={path}#en,fr") == PAIRS
    with pytest.raises(UserError, match=r"no column is named de; its first line is 'id, fr, en'"):
        rows_of(f"en-de={path}#en,de")


def test_a_wrong_number_is_warned_of(tmp_path):
    path = write(tmp_path / "a.tsv", LAYOUTS["paracrawl"][0])
    with pytest.warns(UserWarning, match=r"column 5 holds numbers.*#3,4"):
        assert rows_of(f"en-fr={path}#3,5")[0] == (PAIRS[0][0], "0.0")


@pytest.mark.parametrize("header", ["en\tfr", "Source\tTarget", "sentence1\tsentence2"])
def test_a_header_is_said(tmp_path, header):
    path = write(tmp_path / "a.tsv", ["{en}", "{fr}"])
    path.write_text(f"{header}\n" + path.read_text("utf-8"), encoding="utf-8")
    with pytest.warns(UserWarning, match="looks like a header") as said:
        rows_of(f"en-fr={path}")
    assert f"#{header.replace(chr(9), ',')} " in str(said[0].message)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert rows_of(f"en-fr={path}#{header.replace(chr(9), ',')}") == PAIRS


@pytest.mark.parametrize(
    ("cells", "kind"),
    [
        (["OK", "7", "https://a.org", "v1.2", "Save as", "12 %"] * 5, "text"),
        (["第3章第4節", "版本2.0", "用户1", "第5章", "共6页"] * 5, "text"),
        (["1", "-2.5", "3e-4", "0,7", "12%"], "numbers"),
        (["1"] * 8 + ["Yes", "No"], "text"),
        (["1"] * 9 + ["Yes"], "numbers"),
        (["", " "], "nothing"),
    ],
)
def test_kinds_of_columns(cells, kind):
    assert kind_of(cells) == kind


def test_few_rows_are_not_judged(tmp_path):
    (tmp_path / "a.tsv").write_text("1\t2\n3\t4\n")
    assert rows_of(f"en-fr={tmp_path}/a.tsv") == [("1", "2"), ("3", "4")]


def test_columns_are_of_tables_only(tmp_path):
    for name in ("c.en", "c.fr"):
        (tmp_path / name).write_text("Yes\n")
    with pytest.raises(UserError, match="has no columns to choose from"):
        rows_of(f"en-fr={tmp_path}/c#1,2")


# Lengths


@pytest.mark.parametrize(
    ("text", "length"),
    [("abc é", 5), ("中文", 6.4), ("カナ", 3.4), ("한국", 4), ("Android 中", 11.2), ("зима", 4)],
)
def test_a_character_of_a_dense_script_counts_as_several(text, length):
    assert latin_length(text) == pytest.approx(length)


@pytest.mark.parametrize("unit", ["latin", "characters"])
def test_a_dense_translation_stays_and_a_word_beside_a_paragraph_goes(unit):
    def reason(*sides):
        return flaw(sides, list(map(content, sides)), CorpusConfig(length_unit=unit))

    dense = reason("a" * 130, "中" * 25)
    assert dense == (None if unit == "latin" else "length ratio over 4")
    assert reason("a" * 300, "中文") == "length ratio over 4"
    assert reason("a" * 20, "中" * 40) == (None if unit == "characters" else "length ratio over 4")


def test_short_cuts_change_no_verdict():
    rng = random.Random(0)
    config, verdicts = CorpusConfig(max_chars=200), set()
    for _ in range(3000):
        sides = [rng.choice("aé中カ한") * rng.randint(1, 90) + "x" for _ in range(2)]
        lengths = [sum(map(latin_length, side)) for side in sides]
        expected = None
        if max(lengths) > 200:
            expected = "longer than 200 characters"
        elif max(20, *lengths) > 4 * max(20, min(lengths)):
            expected = "length ratio over 4"
        assert flaw(sides, ["p", "q"], config) == expected
        verdicts.add(expected)
    assert len(verdicts) == 3


# What is left out of an evaluation


def test_a_blank_side_is_said(tmp_path):
    (tmp_path / "a.tsv").write_text("Yes\tOui\nNo\t \n")
    with pytest.warns(UserWarning, match=r"1 left out: blank side \(.*a\.tsv, pair 2\)"):
        assert read_pairs(Source.parse(f"en-fr={tmp_path}/a.tsv")) == (["Yes"], ["Oui"])


def test_files_in_languages_that_were_not_trained_are_said(tmp_path):
    for code in ("fr", "de", "ja"):
        (tmp_path / f"dev.en-{code}.tsv").write_text("a\tb\n")
    units = tasks.TASKS["retrieval"].find([str(tmp_path)], tasks.ScoringSettings())
    said = r"left out dev en-de, dev en-ja: the encoder was not trained on de, ja; --lang"
    with pytest.warns(UserWarning, match=said):
        assert len(tasks.select_units(units, [], ["en", "fr"], "x")) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(tasks.select_units(units, ["de"], ["en", "fr"], "x")) == 1


# The table of prepare


def test_every_source_is_told_with_what_it_lost(tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "60")
    good = write(tmp_path / "good.tsv", ["{en}", "{fr}"])
    mixed, empty = tmp_path / "mixed.tsv", tmp_path / "empty.tsv"
    mixed.write_text("Yes\tOui\nNo\t \nalone\n\n" + "word\x1b[31m\t" + "mot " * 60 + "\n")
    empty.write_text("")
    sources = [Source.parse(f"en-fr={path}") for path in (good, mixed, good, empty)]
    spool = Spool(CorpusConfig(dev_share=0.0), sources, [], "pairs", tmp_path, print)
    spool.fill()
    ratio = "length ratio over 4"
    lost = {"blank side": 1, ratio: 1, "unreadable: blank line": 1, "unreadable: 1 of 2 columns": 1}
    assert spool.told == [(30, 30, {}), (3, 1, lost), (30, 0, {"duplicate": 30}), (0, 0, {})]
    table = list(spool.by_source())
    assert table[-1].split() == ["0", "0", f"en-fr={empty}", "gave", "nothing"]
    assert table[-2].strip() == "30 duplicate"
    said = spool.reasons().splitlines()
    assert f"such as {PAIRS[0][0][:14]}" in said[said.index(f"{30:>16,}  duplicate") + 1]
    assert "such as word[31m | mot mot" in said[said.index(f"{1:>16,}  {ratio}") + 1]
    assert all(len(line) <= 60 and line.isprintable() for line in said if "such as" in line)
