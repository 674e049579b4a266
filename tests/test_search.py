import numpy as np
import pytest
from export_samples import bundle

from lightxling.base.errors import UserError
from lightxling.encode import search
from lightxling.encode.encoder import Encoder
from lightxling.encode.search import Hit, Index, answers, prompt, show, split_language

TEXT = "the cat is in the house\nfr\tle chat est dans la maison\n\nwhere is the station\n"


@pytest.fixture
def encoder():
    return Encoder(bundle())


@pytest.fixture
def text(tmp_path):
    (tmp_path / "lines.txt").write_text(TEXT)
    return tmp_path / "lines.txt"


def test_a_line_finds_itself(encoder, text):
    index = Index.open(encoder, text)
    (hits,) = index.search("le chat est dans la maison", k=2)
    assert hits[0].line == 2
    assert hits[0].language == "fr"
    assert hits[0].sentence == "le chat est dans la maison"
    np.testing.assert_allclose(hits[0].score, 1, atol=1e-3)  # float16 vectors
    assert hits[1].score < hits[0].score
    assert len(index) == 3
    assert [len(found) for found in index.search(["a", "b"], k=9)] == [3, 3]


def test_index_is_kept_and_made_again_when_the_text_or_the_encoder_changes(encoder, text):
    assert Index.open(encoder, text).rebuilt
    assert not Index.open(encoder, text).rebuilt
    text.write_text(TEXT.replace("cat", "dog"))  # the same size, perhaps the same second
    assert Index.open(encoder, text).rebuilt
    assert not Index.open(encoder, text).rebuilt
    other = Encoder(bundle(seed=1))
    assert Index.open(other, text).rebuilt
    assert Index.open(encoder, text).rebuilt


def test_damaged_index_is_made_again(encoder, text):
    Index.open(encoder, text)
    path = text.with_name("lines.txt.index")
    for name in ("vectors.npy", "starts.npy", "lines.npy", "origin.json"):
        whole = (path / name).read_bytes()
        for damaged in (whole[: len(whole) // 2], b"\xff" * 100):
            (path / name).write_bytes(damaged)
            index = Index.open(encoder, text)
            assert index.rebuilt
            assert index.search("where is the station")[0][0].line == 4
    np.save(path / "vectors.npy", np.zeros((3, 5), np.float16))
    assert Index.open(encoder, text).rebuilt


def test_a_folder_that_is_no_index_is_left_alone(encoder, text, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "file").touch()
    with pytest.raises(UserError, match="is not an index"):
        Index.open(encoder, text, index=tmp_path / "mine")
    assert (tmp_path / "mine" / "file").exists()


def test_interrupted_indexing_leaves_no_index(encoder, text, monkeypatch):
    def fail(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(encoder, "encode", fail)
    with pytest.raises(KeyboardInterrupt):
        Index.open(encoder, text)
    assert list(text.parent.iterdir()) == [text]


@pytest.mark.parametrize("ending", ["\n", "", "\r\n"])
def test_line_places(encoder, tmp_path, ending, monkeypatch):
    monkeypatch.setattr(search, "_SLAB", 3)
    lines = ["the cat", "", "a dog", "le chat", "où est la gare"]
    path = tmp_path / "t"
    path.write_bytes((ending or "\n").join(lines).encode() + ending.encode())
    index = Index.open(encoder, path)
    assert len(index) == len(lines) - 1
    for number, line in enumerate(lines, 1):
        if line:
            assert index.search(line)[0][0].line == number
            assert index.search(line)[0][0].sentence == line


def test_blank_lines_are_not_found_and_are_counted(encoder, tmp_path):
    lines = ["", "the cat", " \t", "fr\t", "fr\tla gare", "\u3000", "the house", ""]
    (tmp_path / "t").write_text("\n".join(lines) + "\n")
    (hits,) = Index.open(encoder, tmp_path / "t").search("zzz", k=8)
    assert sorted(hit.line for hit in hits) == [2, 5, 7]
    assert all(hit.sentence for hit in hits)


@pytest.mark.parametrize("ending", ["\n", "", "\r\n"])
def test_a_byte_order_mark_is_no_part_of_the_text(encoder, tmp_path, ending):
    text = f"fr\tOù est la gare ?{ending}"
    (tmp_path / "t").write_bytes(b"\xef\xbb\xbf" + text.encode() + b"the cat\n" * bool(ending))
    (hits,) = Index.open(encoder, tmp_path / "t").search("Où est la gare ?", k=1)
    assert (hits[0].line, hits[0].language, hits[0].sentence) == (1, "fr", "Où est la gare ?")
    np.testing.assert_allclose(hits[0].score, 1, atol=1e-3)


@pytest.mark.parametrize("content", [b"", b"\n \n\n", b"\xef\xbb\xbf"])
def test_empty_text_finds_nothing(encoder, tmp_path, content):
    (tmp_path / "t").write_bytes(content)
    assert Index.open(encoder, tmp_path / "t").search("the cat") == [[]]


def test_language_of_the_file_name(encoder, tmp_path):
    (tmp_path / "corpus.fr").write_text("le chat\nde\tdie katze\n")
    index = Index.open(encoder, tmp_path / "corpus.fr")
    assert {hit.language for hit in index.search("le chat")[0]} == {"fr", "de"}


def test_split_language():
    assert split_language("zh_Hans\t你好\tx") == ("zh_Hans", "你好\tx")
    assert split_language("Hello\tworld") == ("", "Hello\tworld")
    assert split_language("hello") == ("", "hello")


def test_prompt_ends_with_the_input():
    def ask(lines):
        source = iter(lines)

        def read(prompt):
            for line in source:
                return line
            raise EOFError

        return read

    assert list(prompt(ask(["a", "b"]))) == ["a", "b"]
    assert list(prompt(ask(["a", " ", "b"]))) == ["a"]


def test_answers_and_show(encoder, text):
    index = Index.open(encoder, text)
    ((query, hits),) = answers(index, ["", "where is the station"], k=1)
    assert (query, hits[0].line) == ("where is the station", 4)
    assert show([Hit(0.5, 1, "fr", "x"), Hit(0.25, 2, "", "y")]) == " 0.500  fr  x\n 0.250      y"
    assert show([]) == ""


def test_mistakes_are_explained(encoder, tmp_path):
    with pytest.raises(UserError, match="cannot read"):
        Index.open(encoder, tmp_path / "missing")
    (tmp_path / "t.gz").write_bytes(b"\x1f\x8b\x08")
    with pytest.raises(UserError, match="damaged gzip"):
        Index.open(encoder, tmp_path / "t.gz")
