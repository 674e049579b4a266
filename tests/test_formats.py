"""Files as other programs write them, and damaged ones: read, or refused by what they are."""

import bz2
import collections
import gzip
import io
import lzma
import pickle
import sqlite3
import sys
import time
import types
import zipfile
from pathlib import Path

import numpy as np
import pytest
from export_samples import bundle
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lightxling.base import kinds, unpacking
from lightxling.base.errors import UserError
from lightxling.base.languages import Matching, distance
from lightxling.base.lines import Lines, Problems, sound_lines
from lightxling.corpus import readers, tables
from lightxling.corpus.sources import Source
from lightxling.encode.encoder import Encoder, encode_file
from lightxling.encode.search import Index

FUZZ = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
TEXT = "the cat\nle chat\nla gare\n"
PAIRS = [("Yes", "Oui"), ("Nø", "Non")]
TSV = "Yes\tOui\nNø\tNon\n"


def zipped(data, name="text.txt", **others):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for one, content in {name: data, **others}.items():
            archive.writestr(one, content)
    return buffer.getvalue()


def zstd(data):
    return pytest.importorskip("backports.zstd").compress(data)


PACK = {"gzip": gzip.compress, "bzip2": bz2.compress, "xz": lzma.compress, "zip": zipped}
packings = pytest.mark.parametrize("pack", [*PACK.values(), zstd], ids=[*PACK, "Zstandard"])


def rows_of(spec):
    problems = Problems()
    return list(readers.read_source(Source.parse(spec), problems)), problems


def lines_of(path):
    return list(sound_lines(path, Problems()))


# What packs a file is told by its bytes


@packings
@pytest.mark.parametrize("name", ["a.tsv", "a.TSV.GZ", "a"])
def test_a_packed_file_is_read_whatever_its_name(tmp_path, pack, name):
    (tmp_path / name).write_bytes(pack(TSV.encode()))
    assert rows_of(f"en-fr={tmp_path / name}")[0] == PAIRS


def test_what_is_packed_twice_and_in_several_pieces_is_read(tmp_path):
    (tmp_path / "a").write_bytes(gzip.compress(lzma.compress(b"one\n") + lzma.compress(b"two\n")))
    assert lines_of(tmp_path / "a") == ["one", "two"]
    (tmp_path / "b").write_bytes(gzip.compress(gzip.compress(gzip.compress(b"one\n"))))
    with pytest.raises(UserError, match="packed more than 2 times"):
        lines_of(tmp_path / "b")


@pytest.mark.parametrize("pack", PACK)
@pytest.mark.parametrize("cut", [0.5, 0.9])
def test_a_truncated_archive_is_named_with_the_last_line(tmp_path, pack, cut):
    data = PACK[pack]("".join(f"{i * i}\n" for i in range(30_000)).encode())
    (tmp_path / "a").write_bytes(data[: int(len(data) * cut)])
    with pytest.raises(UserError, match=rf"a is a damaged {pack} file.*fetch it again") as error:
        lines_of(tmp_path / "a")
    if pack in ("gzip", "xz"):  # bzip2 unpacks by blocks; the list of a zip is at its end
        assert int(str(error.value).split("after line ")[1].split(" ")[0].replace(",", "")) > 3000


@pytest.mark.parametrize("pack", ["gzip", "xz", "zip"])
def test_a_wrong_checksum_is_found(tmp_path, pack):
    data = bytearray(PACK[pack](b"x" * 500 + b"\n"))
    place = {"gzip": -8, "xz": -25, "zip": data.find(b"PK\1\2") + 16}[pack]
    data[place] ^= 1
    (tmp_path / "a").write_bytes(data)
    with pytest.raises(UserError, match=f"damaged {pack} file"):
        lines_of(tmp_path / "a")


@pytest.mark.parametrize("inside", ["", "en-fr/"])
def test_the_archive_of_moses_files_is_their_pairs(tmp_path, inside):
    path, name = tmp_path / "en-fr.zip", f"{inside}X.en-fr"
    path.write_bytes(
        zipped("Yes\nNø\n", f"{name}.en", **{f"{name}.fr": "Oui\nNon\n", "README": "?"})
    )
    assert rows_of(f"en-fr={path}")[0] == PAIRS
    assert rows_of(f"fr-en={path}")[0] == [row[::-1] for row in PAIRS]
    assert readers.files(Source.parse(f"en-fr={path}")) == [path]
    assert lines_of(path / f"{name}.fr") == ["Oui", "Non"]
    with pytest.raises(UserError, match=r"holds 2 files, not one: .*X\.en-fr\.en"):
        rows_of(f"en-de={path}")
    with pytest.raises(UserError, match=r"holds no X\.en-fr\.de; it holds"):
        lines_of(path / "X.en-fr.de")


@packings
def test_commands_that_take_lines_read_packed_ones(tmp_path, pack):
    (tmp_path / "a.txt").write_bytes(pack(TEXT.encode()))
    encoder = Encoder(bundle())
    assert encode_file(encoder, tmp_path / "a.txt", tmp_path / "out.npy") == 3
    np.testing.assert_allclose(
        np.load(tmp_path / "out.npy"), encoder.encode(TEXT.splitlines()), atol=1e-6
    )
    (hits,) = Index.open(encoder, tmp_path / "a.txt").search("le chat", 1)
    assert (hits[0].line, hits[0].sentence) == (2, "le chat")
    assert not Index.open(encoder, tmp_path / "a.txt").rebuilt


# Encodings and ends of lines


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_byte_order_marks_and_ends_of_lines(tmp_path, encoding, end, pack):
    lines = [f"猫 {i} é" for i in range(200)]
    (tmp_path / "a").write_bytes(pack(end.join(lines).encode(encoding)))
    assert lines_of(tmp_path / "a") == lines
    (hits,) = Index.open(Encoder(bundle()), tmp_path / "a").search("猫 100 é", 200)
    assert {hit.sentence == lines[hit.line - 1] for hit in hits} == {True}


def test_big_endian_and_damaged_utf16(tmp_path):
    data = b"\xfe\xff" + "one\ntwo\nthree\n".encode("utf-16-be")
    (tmp_path / "a").write_bytes(data)
    assert lines_of(tmp_path / "a") == ["one", "two", "three"]
    lone = data[:10] + b"\xd8\0" + data[12:-1]
    (tmp_path / "a").write_bytes(lone)
    problems = Problems()
    assert list(sound_lines(tmp_path / "a", problems)) == [
        "one",
        None,
        None,
    ]  # the last line lacks a half
    assert problems.counts == {"invalid UTF-8": 2}


def test_a_carriage_return_ends_a_line_only_where_no_newline_does(tmp_path):
    (tmp_path / "a").write_bytes(b"a\rb\nc\r\n")
    assert lines_of(tmp_path / "a") == ["a\rb", "c"]
    long = [f"{i:100}" for i in range(12_000)]  # more than the first MiB
    (tmp_path / "a").write_bytes("\r".join(long).encode() + b"\n\r\nend")
    assert lines_of(tmp_path / "a") == [*long, "", "end"]


# What a file is, when it is not sentences


def sqlite(path):
    with sqlite3.connect(path) as connection:
        connection.execute("create table t (x text)")
    connection.close()


def saved(write):
    buffer = io.BytesIO()
    write(buffer)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (b"%PDF-1.7\n...", "a PDF document; save it as plain text first: pdftotext"),
        (zipped("<x/>", "word/document.xml"), "a Word document"),
        (zipped("<x/>", "xl/workbook.xml"), "an Excel workbook"),
        (b"\x89PNG\r\n\x1a\n", "a picture"),
        (pickle.dumps({"a": [1]}), "a pickle of Python"),
        (saved(lambda file: np.save(file, np.ones(3))), "an array of numpy"),
        (saved(lambda file: np.savez(file, a=np.ones(3))), "holds arrays of numpy"),
        (b"<!DOCTYPE html><html>", "an HTML page"),
        (b"\n<html lang='en'>", "an HTML page"),
        (b'<?xml version="1.0"?>\n<!DOCTYPE cesAlign PUBLIC "x" "">\n<cesAlign>', "XCES"),
        (b"<?xml version='1.0'?><tmx version='1.4'>", "TMX"),
        (b'{"en": "Yes", "fr": "Oui"}\n', "JSON"),
        (b'# A comment\n#, fuzzy\nmsgid ""\nmsgstr ""\n', "PO"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "git lfs pull"),
        (b"PAR1....", "Parquet"),
    ],
)
def test_what_is_no_text_is_named_by_what_it_is(tmp_path, data, what):
    path = tmp_path / "text.txt"
    path.write_bytes(data)
    with pytest.raises(UserError, match=what) as error, Lines.open(path) as lines:
        list(lines)
    assert str(path) in str(error.value)
    assert "FILE" not in str(error.value).replace("en-fr=", "")


def test_a_database_is_named(tmp_path):
    sqlite(tmp_path / "a.txt")
    with pytest.raises(UserError, match="an SQLite database"):
        rows_of(f"en-fr={tmp_path}/a.txt")


@pytest.mark.parametrize(
    "text",
    ["{curly} text", "[1] A note", "<b>bold", "msgid is a word", "# 1", "BM 1234", "{}", "MZ"],
)
def test_sentences_that_begin_oddly_are_sentences(tmp_path, text):
    (tmp_path / "a").write_text(text + "\n")
    assert lines_of(tmp_path / "a") == [text]


def test_the_page_names_all_that_is_read_and_refused():
    page = " ".join((Path(__file__).parent.parent / "docs" / "files.md").read_text().split())
    names = [kind.name.split(",")[0] for kind in (*kinds.BINARY, *kinds.STRUCTURED)]
    names += [f"`{ending}`" for ending in (*readers.READERS, *unpacking.PACKED)]
    names += [packing.name for packing in unpacking.PACKINGS]
    assert [name for name in names if name not in page] == []


def test_telling_a_kind_takes_no_longer_for_what_is_made_to():
    start = time.perf_counter()
    for head in (b"<!--" * 2000, b"<!---->" * 1100, b"<?x?>" * 1600, b" " * 8000, b"#\n" * 4000):
        assert kinds.text_kind(head) is None or head.startswith(b"<?x")
    assert time.perf_counter() - start < 1


# TMX: damage costs its unit


def tmx(*units, head='<?xml version="1.0" encoding="UTF-8"?>'):
    body = "\n".join(f"<tu>{unit}</tu>" for unit in units)
    return f'{head}\n<tmx version="1.4"><header/><body>\n{body}\n</body></tmx>'


def tuv(code, text):
    return f'<tuv xml:lang="{code}"><seg>{text}</seg></tuv>'


YES, NO = tuv("en", "Yes") + tuv("fr", "Oui"), tuv("en", "No") + tuv("fr", "Non")
DAMAGE = {
    "a bare ampersand": tuv("en", "Tom & Mary") + tuv("fr", "x"),
    "a control character": tuv("en", "Press \x0b") + tuv("fr", "x"),
    "a reference to one": tuv("en", "Press &#x1F;") + tuv("fr", "x"),
    "half a surrogate pair": tuv("en", "&#xD83D;&#xDE00;") + tuv("fr", "x"),
    "a bare less-than": tuv("en", "if a < b") + tuv("fr", "x"),
    "a tag that is not closed": "<tuv xml:lang='en'><seg>a</tuv>" + tuv("fr", "x"),
    "an attribute twice": '<tuv a="1" a="1" xml:lang="en"><seg>a</seg></tuv>' + tuv("fr", "x"),
    "an entity of nobody": tuv("en", "&nobody;") + tuv("fr", "x"),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
@pytest.mark.parametrize("before", [0, 1000])  # units: more than one chunk
def test_damage_costs_the_unit_and_is_located(tmp_path, damage, before):
    units = [*[YES] * before, YES, damage, NO, YES]
    (tmp_path / "a.tmx").write_text(tmx(*units))
    rows, problems = rows_of(f"en-fr={tmp_path}/a.tmx")
    assert rows == [("Yes", "Oui")] * (before + 1) + [("No", "Non"), ("Yes", "Oui")]
    ((_, places),) = problems.places.items()
    assert places == [f"{tmp_path}/a.tmx:{before + 4}"]  # two lines stand before the first unit


def test_a_byte_of_another_encoding_costs_the_unit(tmp_path):
    data = tmx(YES, tuv("en", "cafe") + tuv("fr", "caf?"), NO).encode().replace(b"?<", b"\xe9<")
    (tmp_path / "a.tmx").write_bytes(data)
    rows, problems = rows_of(f"en-fr={tmp_path}/a.tmx")
    assert rows == [("Yes", "Oui"), ("No", "Non")]
    assert list(problems.places.values()) == [[f"{tmp_path}/a.tmx:4"]]


def test_every_second_unit_may_be_damaged(tmp_path):
    (tmp_path / "a.tmx").write_text(tmx(*[YES, tuv("en", "&"), NO] * 500))
    rows, problems = rows_of(f"en-fr={tmp_path}/a.tmx")
    assert len(rows) == 1000
    assert problems.counts.total() == 500


@pytest.mark.parametrize("head", ["", '<!DOCTYPE tmx SYSTEM "tmx14.dtd">'])
def test_entities_of_html_are_known(tmp_path, head):
    (tmp_path / "a.tmx").write_text(
        tmx(tuv("en", "caf&eacute;&nbsp;1") + tuv("fr", "x"), head=head)
    )
    assert rows_of(f"en-fr={tmp_path}/a.tmx")[0] == [("café\xa01", "x")]


@pytest.mark.parametrize("encoding", ["iso-8859-1", "windows-1252", "koi8-r", "utf-16"])
def test_the_encoding_that_xml_declares(tmp_path, encoding):
    word = "при" if encoding == "koi8-r" else "été"
    text = tmx(
        tuv("en", word) + tuv("fr", "x"), head=f"<?xml version='1.0' encoding='{encoding}'?>"
    )
    (tmp_path / "a.tmx").write_bytes(text.encode(encoding))
    assert rows_of(f"en-fr={tmp_path}/a.tmx")[0] == [(word, "x")]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Click<ph/>here", "Click here"),
        ("Click <g>here</g><x/>now", "Click here now"),
        ("Un<bpt i='1'>b</bpt>believ<ept i='1'>b</ept>able", "Unbelievable"),
        ("a<ph/> b<ph/>.", "a b."),
        ("点<ph/>击", "点击"),
        ("<ph/>a<it>x</it><ph/>b<ph/>", "a b"),
    ],
)
def test_a_code_that_stands_alone_does_not_glue_words(tmp_path, text, expected):
    (tmp_path / "a.tmx").write_text(tmx(tuv("en", text) + tuv("fr", "x")))
    assert rows_of(f"en-fr={tmp_path}/a.tmx")[0] == [(expected, "x")]


def test_an_empty_segment_does_not_hide_a_full_one(tmp_path):
    (tmp_path / "a.tmx").write_text(tmx(tuv("en", "") + tuv("en", "Yes") + tuv("fr", "Oui")))
    assert rows_of(f"en-fr={tmp_path}/a.tmx")[0] == [("Yes", "Oui")]


def test_where_nothing_matches_the_tags_are_listed(tmp_path):
    (tmp_path / "a.tmx").write_text(tmx(YES, NO, tuv("en", "x") + tuv("de-AT", "y")))
    _, problems = rows_of(f"en-ja={tmp_path}/a.tmx")
    assert "en (3), fr (2), de-AT (1)" in " ".join(what for _, what in problems.told())


# Language codes


@pytest.mark.parametrize(
    ("tag", "code", "expected"),
    [
        ("eng", "en", 0), ("fra", "fr", 0), ("fre", "fr", 0), ("iw", "he", 0), ("in", "id", 0),
        ("ji", "yi", 0), ("no", "nb", 0), ("nb", "no", 0), ("nn", "nb", None),
        ("zh-CN", "zh_Hans", 0),
        ("zh-TW", "zh_Hans", None), ("zh-HK", "zh_Hant", 0), ("cmn", "zh", 0), ("zho", "zh", 0),
        ("EN-us", "en", 0), ("en", "en_GB", 1), ("en-US", "en_GB", None), ("sh", "sr_Latn", 0),
        ("sr-Cyrl", "sr_Latn", None), ("pt", "pt_BR", 1), ("zh-Hans", "zh_CN", 1),
        ("de", "en", None),
        ("es-419", "es", 0), ("", "en", None),
    ],
)  # fmt: skip
def test_distance_of_codes(tag, code, expected):
    assert distance(tag, code) == expected


def test_the_nearest_tag_is_the_side():
    assert Matching(["en", "pt_BR"]).sides(["pt", "en", "pt-BR"], [True] * 3) == [1, 2]
    assert Matching(["en", "en"]).sides(["en-US", "en-GB"], [True] * 2) == [0, 1]
    assert Matching(["en", "en"]).sides(["en"], [True]) is None


# Files of other programs


def test_xliff_of_translate_toolkit(tmp_path):
    xliff = pytest.importorskip("translate.storage.xliff")
    file = xliff.xlifffile()
    file.setsourcelanguage("en")
    file.settargetlanguage("fr-CA")
    file.addsourceunit("Yes & no").target = "Oui & non"
    file.addsourceunit("Nothing")
    fuzzy = file.addsourceunit("Hm")
    fuzzy.target = "Heu"
    fuzzy.markfuzzy()
    (tmp_path / "a.xlf").write_bytes(bytes(file))
    rows, problems = rows_of(f"en-fr={tmp_path}/a.xlf")
    assert rows == [("Yes & no", "Oui & non")]
    assert problems.counts == {"unit without a translation": 1, "translation marked as not done": 1}
    assert rows_of(f"fr-en={tmp_path}/a.xlf")[0] == [("Oui & non", "Yes & no")]
    assert "en (3), fr-CA (3)" in str(rows_of(f"en-de={tmp_path}/a.xlf")[1].places)


def test_xliff_2_and_its_codes(tmp_path):
    (tmp_path / "a.xml").write_text(
        '<xliff version="2.0" srcLang="en" trgLang="fr"><file id="f"><unit id="1">'
        "<segment><source>One<ph id='1'/>two</source><target>Un<ph id='1'/>deux</target></segment>"
        "<ignorable><source> </source></ignorable>"
        '<segment state="initial"><source>A</source><target>B</target></segment></unit>'
        '<unit id="2"><segment><source>Yes & no</source><target>x</target></segment></unit>'
        '<unit id="3"><segment><source>Yes</source><target>Oui</target></segment></unit>'
        "</file></xliff>"
    )
    rows, problems = rows_of(f"en-fr={tmp_path}/a.xml")
    assert rows == [("One two", "Un deux"), ("Yes", "Oui")]
    assert problems.counts.total() == 2


def test_po_of_translate_toolkit(tmp_path):
    pypo = pytest.importorskip("translate.storage.pypo")
    file = pypo.pofile()
    file.updateheader(add=True, Language="fr", Plural_Forms="nplurals=2; plural=(n > 1);")
    file.addsourceunit("Yes").target = "Oui"
    file.addsourceunit("No")
    fuzzy, old = file.addsourceunit("Hm"), file.addsourceunit("Old")
    fuzzy.target, old.target = "Heu", "Vieux"
    fuzzy.markfuzzy()
    old.makeobsolete()
    file.addsourceunit(["%d file", "%d files"]).target = ["%d fichier", "%d fichiers"]
    (tmp_path / "fr").write_bytes(bytes(file))
    rows, problems = rows_of(f"en-fr={tmp_path}/fr")
    assert rows == [("Yes", "Oui"), ("%d file", "%d fichier"), ("%d files", "%d fichiers")]
    assert problems.counts == {
        "entry without a translation": 1, "fuzzy entry": 1, "obsolete entry": 1
    }  # fmt: skip
    assert rows_of(f"fr-en={tmp_path}/fr")[0][0] == ("Oui", "Yes")
    with pytest.raises(UserError, match="says that its translations are in fr, not de"):
        rows_of(f"en-de={tmp_path}/fr")
    (tmp_path / "fr").write_bytes(bytes(file) + b"\n msgid broken")
    with pytest.raises(UserError, match="cannot be read as PO"):
        rows_of(f"en-fr={tmp_path}/fr")


@pytest.mark.parametrize(
    "line", ['{"fr": "Oui", "id": 7, "en": "Yes"}', '{"translation": {"en": "Yes", "fr": "Oui"}}']
)
def test_json_lines(tmp_path, line):
    (tmp_path / "a").write_text(f'{line}\n[1]\n\n{{"en\n{{"en": "No", "fr": null}}\n{line}\n')
    rows, problems = rows_of(f"en-fr={tmp_path}/a")
    assert rows == [("Yes", "Oui")] * 2
    assert {place[0].rsplit(":")[-1] for place in problems.places.values()} == {"2", "4", "5"}
    with pytest.raises(UserError, match="has no column for each of en, de; its columns are"):
        rows_of(f"en-de={tmp_path}/a")
    assert rows_of(f"en-de={tmp_path}/a#en,fr")[0] == rows
    with pytest.raises(UserError, match="has no column pt; its columns are"):
        rows_of(f"en-de={tmp_path}/a#en,pt")


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_csv(tmp_path, delimiter):
    import csv

    with open(tmp_path / "a.CSV", "w", newline="") as file:
        writer = csv.writer(file, delimiter=delimiter)
        writer.writerows([["id", "fr", "en"], [1, 'Oui, "oui"', "Yes;\nyes"], [2, "x"]])
    rows, problems = rows_of(f"en-fr={tmp_path}/a.CSV")
    assert rows == [("Yes;\nyes", 'Oui, "oui"')]
    assert problems.counts == {"2 of 3 columns": 1}
    assert rows_of(f"fr-en={tmp_path}/a.CSV#fr,en")[0] == [row[::-1] for row in rows]
    (tmp_path / "b.csv").write_text("7,Yes,Oui\n8,No,Non\n")
    assert rows_of(f"fr-en={tmp_path}/b.csv#3,2")[0] == [("Oui", "Yes"), ("Non", "No")]
    (tmp_path / "b.csv").write_text("Yes,Oui\nNo,Non\n")
    assert rows_of(f"en-fr={tmp_path}/b.csv")[0] == [("Yes", "Oui"), ("No", "Non")]


def test_parquet_of_pyarrow(tmp_path):
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    columns = {"id": [1, 2], "fr": ["Oui", None], "en": ["Yes", "No"]}
    pq.write_table(pa.table(columns), tmp_path / "a")
    rows, problems = rows_of(f"en-fr={tmp_path}/a")
    assert rows == [("Yes", "Oui")]
    assert problems.places == {"row without a text of every language": [f"{tmp_path}/a, row 2"]}
    nested = pa.table({"translation": [{"en": "Yes", "fr": "Oui"}]})
    pq.write_table(nested, tmp_path / "b.parquet")
    assert rows_of(f"en-fr={tmp_path}/b.parquet")[0] == [("Yes", "Oui")]
    with pytest.raises(UserError, match="has no column for each of en, de"):
        rows_of(f"en-de={tmp_path}/b.parquet")
    assert rows_of(f"en-de={tmp_path}/a#3,fr")[0] == [("Yes", "Oui")]
    data = (tmp_path / "a").read_bytes()
    (tmp_path / "a").write_bytes(data[: len(data) // 2])
    with pytest.raises(UserError, match="damaged Parquet file"):
        rows_of(f"en-fr={tmp_path}/a")


def test_the_columns_of_a_table():
    assert tables.pick(Path("f"), ["id", "English", "fra", "eng"], ["en", "fr"]) == ["eng", "fra"]
    assert tables.pick(Path("f"), ["Source", "Target", "x"], ["en", "fr"]) == ["Source", "Target"]


def stub(monkeypatch, home):
    """Modules in the place of mtdata, with the names and calls of version 0.5: one corpus."""
    Id = collections.namedtuple("Id", "group name version langs")
    key = Id("Made", "talks", "1", ("deu", "eng"))

    def parse(name):
        group, title, version, *langs = name.split("-")
        return Id(group, title, version, tuple(langs))

    class Index:
        ref_db = types.SimpleNamespace(get_bibtex=lambda key: "@misc{made}")

        @classmethod
        def get_instance(cls):
            return cls()

        def __contains__(self, wanted):
            return wanted == key

        def __getitem__(self, wanted):
            url = "https://example.org/talks.tsv"
            return types.SimpleNamespace(did=wanted, url=url, cite=(), in_ext=None)

    class Cache:
        def __init__(self, root):
            assert root == home

        def get_entry(self, entry):
            if not (home / "talks.tsv").exists():
                raise OSError("no network")
            return home / "talks.tsv"

    class Parser:
        def __init__(self, path, ext, ent):
            self.path = path

        def read_segs(self, show_pbar):
            return (line.split("\t") for line in self.path.read_text().splitlines())

    modules = {"": {"cache_dir": home}, ".index": {"Index": Index}, ".cache": {"Cache": Cache}}
    modules |= {
        ".parser": {"Parser": Parser},
        ".entry": {"DatasetId": types.SimpleNamespace(parse=parse)},
    }
    for name, content in modules.items():
        module = types.ModuleType(f"mtdata{name}")
        module.__dict__.update(content)
        monkeypatch.setitem(sys.modules, f"mtdata{name}", module)


def test_a_corpus_of_mtdata(tmp_path, monkeypatch):
    stub(monkeypatch, tmp_path)
    with pytest.raises(UserError, match=r"mtdata cannot fetch https://example.*: no network"):
        rows_of("en-de=mtdata:Made-talks-1-deu-eng")
    (tmp_path / "talks.tsv").write_text("Ja\tYes\nNein\n")
    with pytest.warns(UserWarning, match=r"from https://example.org/talks.tsv, whose licence"):
        rows, problems = rows_of("en-de=mtdata:Made-talks-1-deu-eng")
    assert rows == [("Yes", "Ja")]
    assert problems.counts.total() == 1
    source = Source.parse("en-de=mtdata:Made-talks-1-deu-eng")
    assert readers.files(source) == [tmp_path / "talks.tsv"]
    with pytest.raises(UserError, match="mtdata has no Made-walks-1-deu-eng; look it up"):
        rows_of("en-de=mtdata:Made-walks-1-deu-eng")
    with pytest.raises(UserError, match="is in deu and eng"):
        rows_of("en-fr=mtdata:Made-talks-1-deu-eng")


def test_mtdata_is_an_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "mtdata", None)
    monkeypatch.setitem(sys.modules, "mtdata.entry", None)
    with pytest.raises(UserError, match=r"pip install 'lightxling\[mtdata\]'"):
        rows_of("en-de=mtdata:Made-talks-1-deu-eng")


PIECES = st.sampled_from(
    [
        *(b"<?xml version='1.0'?>", b"<xliff srcLang='en' trgLang='fr'>", b"<unit>", b"</unit>"),
        *(b"<segment>", b"</segment>", b"<source>", b"</source>", b"<target>", b"</target>"),
        *(
            b'msgid "a"\n',
            b'msgstr "b"\n',
            b'{"en": "a", "fr": "b"}\n',
            b"en,fr\n",
            b'"',
            b",",
            b"\n",
        ),
        *(
            b"\r",
            b"PAR1",
            b"\xff\xfe",
            b"\xfe\xff",
            b"PK\3\4",
            b"BZh91AY&SY",
            b"\xfd7zXZ\0",
            b"&x;",
        ),
        *(b"\x28\xb5\x2f\xfd", b"<tu>", b"<tmx>", b"&", "é".encode(), b"\xe9", b"\0", b"text"),
    ]
)


@FUZZ
@given(
    st.binary(max_size=300) | st.lists(PIECES, max_size=30).map(b"".join),
    st.sampled_from(["a.tsv", "a.csv", "a.xlf", "a.jsonl"]),
    st.sampled_from([bytes, *PACK.values()]),
)
def test_any_bytes_give_rows_or_a_message(tmp_path, data, name, pack):
    (tmp_path / name).write_bytes(pack(data))
    message = ""
    try:
        rows, _ = rows_of(f"en-fr={tmp_path / name}")
        assert all(len(row) == 2 for row in rows)
        "".join(side for row in rows for side in row).encode()
        with Lines.open(tmp_path / name, Problems()) as lines:
            "".join(lines).encode()
    except UserError as error:
        message = str(error)
    assert not message or str(tmp_path) in message
