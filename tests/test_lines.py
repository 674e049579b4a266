"""One policy for text that is not text: every command counts the same lines, and says so."""

import contextlib
import gzip
import io
import sys
import warnings

import numpy as np
import pytest
from export_samples import WORDS, bundle
from hypothesis import given, settings
from hypothesis import strategies as st

from lightxling.base import lines as text_lines
from lightxling.base.errors import UserError
from lightxling.base.languages import is_code
from lightxling.base.lines import Lines, Problems, slabs, sound_lines
from lightxling.config.schema import Config, CorpusConfig, TokenizerConfig
from lightxling.corpus import readers
from lightxling.corpus.paraphrases import read_rows
from lightxling.corpus.prepare import prepare
from lightxling.corpus.sources import Source
from lightxling.corpus.store import Store
from lightxling.encode.encode_jobs import _Read
from lightxling.encode.encoder import Encoder, encode_file
from lightxling.encode.mine_files import mine_files
from lightxling.encode.search import Index
from lightxling.evaluate.tasks.parallel import read_pairs
from lightxling.export.trim import corpus_sentences
from lightxling.train.specialise import read_sentences
from lightxling.train.teacher import _open_matrix

LINES = b"the cat\r\n|\n|a \xff dog\n|le\0chat\n|la gare\r\r\n| \r\n|house".split(b"|")
"""Seven lines: two are blank, one is not UTF-8, one holds a NUL byte."""
REPAIRED = ["the cat", "", "a \ufffd dog", "le\ufffdchat", "la gare", " ", "house"]
SOUND = [*REPAIRED[:2], None, None, *REPAIRED[4:]]


@pytest.fixture(params=[bytes, gzip.compress], ids=["plain", "gzip"])
def path(request, tmp_path):
    (tmp_path / "text").write_bytes(request.param(b"".join(LINES)))
    return tmp_path / "text"


def told(path, outcome):
    return {f"1 {outcome}: invalid UTF-8 ({path}:3)", f"1 {outcome}: NUL byte (UTF-16?) ({path}:4)"}


@contextlib.contextmanager
def warns(path, outcome, *more):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
    assert {str(one.message) for one in caught} == told(path, outcome) | set(more)


def test_a_line_that_is_not_text_is_repaired_or_left_out_and_counted(path):
    with warns(path, "repaired"), Lines.open(path) as lines:
        assert list(lines) == REPAIRED
    problems = Problems()
    assert list(sound_lines(path, problems)) == SOUND
    assert problems.places == {"invalid UTF-8": [f"{path}:3"], "NUL byte (UTF-16?)": [f"{path}:4"]}


def test_what_the_caller_counts_is_not_warned_of(path, recwarn):
    problems = Problems()
    with Lines.open(path, problems) as lines:
        assert len(list(lines)) == len(LINES)
    assert problems.counts.total() == 2
    assert not recwarn.list


def test_a_replacement_character_that_was_written_is_text(tmp_path, recwarn):
    (tmp_path / "in").write_text("\ufffd\n")
    with Lines.open(tmp_path / "in") as lines:
        assert list(lines) == ["\ufffd"]
    assert not recwarn.list


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_a_byte_order_mark_is_no_part_of_the_first_line(tmp_path, pack):
    (tmp_path / "in").write_bytes(pack("\ufeffthe cat\n\ufeffa dog\n".encode()))
    assert list(sound_lines(tmp_path / "in", Problems())) == ["the cat", "\ufeffa dog"]
    (tmp_path / "in").write_bytes(pack("\ufeff".encode()))
    assert list(sound_lines(tmp_path / "in", Problems())) == []


def test_only_newlines_end_lines(tmp_path):
    (tmp_path / "in").write_text("a\u2028b\x0cc\x85d\re\n", newline="")
    assert list(sound_lines(tmp_path / "in", Problems())) == ["a\u2028b\x0cc\x85d\re"]


def test_an_endless_line_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr(text_lines, "LINE_LIMIT", 16)
    (tmp_path / "in").write_bytes(b"x" * 100 + b"\nnext\n" + b"z" * 15 + b"\n" + b"y" * 50)
    problems = Problems()
    with Lines.open(tmp_path / "in", problems) as lines:
        assert list(lines) == ["x" * 16, "next", "z" * 15, "y" * 16]
    assert list(sound_lines(tmp_path / "in", Problems())) == [None, "next", "z" * 15, None]
    assert problems.places == {
        "line longer than 1 MiB": [f"{tmp_path / 'in'}:1", f"{tmp_path / 'in'}:4"]
    }


@given(st.lists(st.text(st.characters(exclude_characters="\n\r\0"), max_size=8)))
@settings(max_examples=50, deadline=None)
def test_what_was_written_as_lines_is_read_as_lines(written):
    data = "".join(f"{line}\n" for line in written).encode("utf-8", "replace")
    expected = data.decode().removeprefix("\ufeff").split("\n")[:-1]
    lines = Lines(io.BufferedReader(io.BytesIO(data)), "", Problems())
    assert [line for slab in slabs(lines, 2) for line in slab] == expected
    assert not lines.problems.counts


def test_slabs_are_of_one_size(tmp_path):
    (tmp_path / "in").write_text("the cat\n" * 95)
    with Lines.open(tmp_path / "in") as lines:
        assert [len(slab) for slab in slabs(lines, 10)] == [10] * 9 + [5]


def test_standard_input_is_read_like_a_file(monkeypatch):
    stdin = io.TextIOWrapper(io.BufferedReader(io.BytesIO(gzip.compress(b"".join(LINES)))))
    monkeypatch.setattr(sys, "stdin", stdin)
    problems = Problems()
    assert list(sound_lines("-", problems)) == SOUND
    assert problems.places["invalid UTF-8"] == ["standard input:3"]


def test_what_cannot_be_read_is_named(tmp_path):
    with pytest.raises(UserError, match=r"cannot read .*/none: No such file"):
        list(sound_lines(tmp_path / "none", Problems()))
    (tmp_path / "cut").write_bytes(gzip.compress(b"the cat\n" * 1000)[:-20])
    with pytest.raises(UserError, match=r"cut is a damaged gzip file"):
        list(sound_lines(tmp_path / "cut", Problems()))


# Commands that keep line n line n


def test_encode_writes_a_vector_of_every_line_and_says_which_were_repaired(path):
    with warns(path, "repaired"):
        assert encode_file(Encoder(bundle()), path, path.with_name("out.npy")) == len(LINES)
    vectors = np.load(path.with_name("out.npy"))
    assert vectors.any(axis=1).tolist() == [bool(line.strip()) for line in REPAIRED]
    np.testing.assert_allclose(vectors, Encoder(bundle()).encode(REPAIRED), atol=1e-6)


def test_jobs_read_every_line_and_count_the_same_ones(path):
    parts = list(_Read([str(path)], 3)({"file": 0}))
    assert [line for part in parts for line in part["text"]] == REPAIRED
    assert sum(part["damaged"] for part in parts) == 2


def test_search_counts_every_line_and_shows_what_it_indexed(tmp_path):
    (tmp_path / "text").write_bytes(b"".join(LINES))
    with warns(tmp_path / "text", "repaired"):
        index = Index.open(Encoder(bundle()), tmp_path / "text")
    (hits,) = index.search("the cat", k=9)
    assert {hit.line: hit.sentence for hit in hits} == {
        number: line for number, line in enumerate(REPAIRED, 1) if line.strip()
    }


def test_every_line_of_a_teachers_text_has_a_row(path):
    np.save(path.with_name("matrix.npy"), np.zeros((len(LINES), 2), np.float32))
    with warns(path, "repaired"):
        assert len(_open_matrix(path.with_name("matrix.npy"), path)) == len(LINES)


# Commands that learn from text or mine it


def test_mine_leaves_out_what_encode_repairs(path):
    with warns(path, "left out"):
        done = mine_files(Encoder(bundle()).encode, path, path, path.with_name("out.tsv"))
    assert done["sentences"] == [3, 3]  # 7 lines without 2 that are blank and 2 that are not text


def test_specialise_learns_from_the_sound_lines(path):
    with warns(path, "left out"):
        assert read_sentences([path]) == ["the cat", "la gare", "house"]


@pytest.fixture
def parallel(path):
    """The lines as one side of Moses files, beside seven that are sound."""
    path.rename(path.with_name("text.en"))
    path.with_name("text.fr").write_text("".join(f"la gare {word}\n" for word in WORDS[:7]))
    return path


def test_benchmarks_and_corpora_leave_out_the_same_rows(parallel):
    spec, name = f"en-fr={parallel}", f"{parallel}.en"
    problems = Problems()
    rows = list(readers.read_source(Source.parse(spec), problems))
    assert [row[0] for row in rows] == [line for line in SOUND if line is not None]
    assert {f"{n} left out: {what}" for n, what in problems.told()} == told(name, "left out")
    blank = f"2 left out: blank side ({parallel}, pair 2, {parallel}, pair 4)"
    with warns(name, "left out", blank):
        assert read_pairs(Source.parse(spec))[0] == ["the cat", "la gare", "house"]
    problems = Problems()
    read = [row[1][0] for row in read_rows([spec], problems)]
    assert read == ["the cat", "", "la gare", "", "house"]
    assert {f"{n} left out: {what}" for n, what in problems.told()} == told(name, "left out")
    with warns(name, "left out"):
        assert list(corpus_sentences([spec], ["en"])) == [("en", row[0]) for row in rows]


def test_prepare_leaves_out_the_same_rows(tmp_path):
    rows = [f"the {a} {b}\tle {b} {a}\n" for a in WORDS for b in WORDS if a < b]
    whole = [b"the\xff cat\tx\n", *(row.encode() for row in rows), b"a\0\tb\n"]
    (tmp_path / "a.tsv").write_bytes(b"".join(whole))
    said = []
    config = Config(
        corpus=CorpusConfig(
            sources=(f"en-fr={tmp_path}/a.tsv",), store=str(tmp_path / "stores"), dev_share=0.2
        ),
        tokenizer=TokenizerConfig(vocab_size=200, character_coverage=1.0),
    )
    counts = Store.open(prepare(config, progress=said.append)).manifest["counts"]
    assert counts["unreadable"] == {"invalid UTF-8": 1, "NUL byte (UTF-16?)": 1}
    assert counts["read"] == len(rows)
    assert f"unreadable: NUL byte (UTF-16?) ({tmp_path}/a.tsv:{len(whole)})" in "\n".join(said)


# Language codes


@pytest.mark.parametrize("code", ["en", "ast", "zh_Hans", "zho_Hant", "es_419", "sr_Latn_RS"])
def test_a_code_means_the_same_everywhere(tmp_path, code):
    from lightxling.encode.search import split_language
    from lightxling.evaluate.tasks import TASKS, ScoringSettings
    from lightxling.evaluate.tasks.labelled import _split_and_language

    assert is_code(code)
    assert Source.parse(f"en-{code}=a.tsv").languages == ("en", code)
    assert split_language(f"{code}\ttext") == (code, "text")
    assert _split_and_language(f"set.train.{code}.tsv.gz") == ("set", "train", code)
    for task, name, text in (
        ("retrieval", f"set.fr-{code}.tsv", "a\tb\n"),
        ("retrieval", f"more.fr-{code}.{code}", "a\n"),
        ("sts", f"set.fr-{code}.tsv", "1\ta\tb\n"),
    ):
        folder = tmp_path / task / name
        folder.mkdir(parents=True)
        (folder / name).write_text(text)
        (unit,) = TASKS[task].find([str(folder)], ScoringSettings())
        assert unit.languages == ("fr", code)


@pytest.mark.parametrize("code", ["", "e", "EN", "english", "zh_", "_en", "e1", "en "])
def test_what_is_not_a_code_is_refused(code):
    assert not is_code(code)
    with pytest.raises(UserError, match=r"source .*write"):
        Source.parse(f"fr_CA-{code}=a.tsv")
