"""Running text: where sentences end, what is a document, rows of three; labelled files."""

import subprocess
import sys

import pytest

from lightxling.base.errors import UserError
from lightxling.base.lines import Problems
from lightxling.corpus import readers
from lightxling.corpus.sentences import cut_sentences
from lightxling.corpus.sources import Source


@pytest.mark.parametrize(
    "parts",
    [
        ["It rains.", "We stay!", "Why not?", "Because."],
        ["Dr. Smith met Mr. J. R. Brown, e.g. at 5 p.m. on Monday.", "He left."],
        ["Am 3. Mai kam er, z. B. mit Frau Prof. Vogel.", "Das war's."],
        ["Il pèse env. 3.5 kg.", "« Où est-il ? »", "Personne ne sait."],
        ["¿Qué hora es?", "¡Son las dos!", "El Sr. Gómez duerme."],
        ["Il dott. Rossi arriva.", "“Bene!”", "(Forse no.)", "Poi parte."],
        ["Version 2.0 is out.", "Wait... really?", "Yes… Perhaps."],
        ["おはよう。", "元気ですか？", "はい。"],
        ["no end"],
    ],
)
def test_a_text_is_cut_where_its_sentences_end(parts):
    joined = "".join(parts) if "。" in parts[0] else " ".join(parts)
    if parts[-1] == "Yes… Perhaps.":  # an ellipsis before a capital does end a sentence
        parts = [*parts[:-1], "Yes…", "Perhaps."]
    assert cut_sentences(joined) == parts


def test_nothing_has_no_sentences():
    assert cut_sentences("") == []
    assert cut_sentences(" \n ") == []


def rows_of(text, rows, problems=None):
    return list(readers.read_source(Source.parse(text, rows), problems or Problems(), rows))


def test_a_blank_line_ends_a_document(tmp_path):
    path = tmp_path / "book.txt"
    path.write_text("One is here. Two\ngoes on. Three.\nFour.\n\nA. b. C.\n \nFive. Six. Seven.\n")
    assert rows_of(f"en={path}", "text") == [
        ("One is here.", "Two goes on.", "Three."),
        ("Two goes on.", "Three.", "Four."),
        ("Five.", "Six.", "Seven."),
    ]


def test_every_line_of_a_tsv_is_a_document(tmp_path):
    path = tmp_path / "docs.tsv"
    path.write_text("x\tIt is. It was. It will.\ny\tOnly one.\n\nz\tAye. Nay. Say. Day.\n")
    assert rows_of(f"en={path}", "text") == [
        ("It is.", "It was.", "It will."),
        ("Aye.", "Nay.", "Say."),
        ("Nay.", "Say.", "Day."),
    ]


def test_rows_of_three_may_be_given(tmp_path):
    path = tmp_path / "three.tsv"
    path.write_text("a\tb\tc\n")
    source = Source.parse(f"en-en-en={path}", "text")
    assert list(readers.read_source(source, Problems(), "text")) == [("a", "b", "c")]
    assert str(source) == f"en-en-en={path}"
    running = Source.parse("en@2=x.txt", "text")
    assert (running.languages, running.weight) == (("en",) * 3, 2.0)
    assert str(running) == "en@2=x.txt"


def test_running_text_has_one_language():
    with pytest.raises(UserError, match=r"running text has one language; write it like en=books"):
        Source.parse("en-fr=x.txt", "text")
    with pytest.raises(UserError, match="not a language pair"):
        Source.parse("en=x.txt")


# Labels and scores


def test_labels_become_numbers(tmp_path):
    path = tmp_path / "nli.tsv"
    path.write_text("neutral\ta\tb\nentailment\tc\td\n-\te\tf\ncontradiction\tg\th\nshort\n")
    problems = Problems()
    assert rows_of(f"en-en={path}", "labels", problems) == [
        ("a", "b", "1"),
        ("c", "d", "0"),
        ("g", "h", "2"),
    ]
    assert problems.counts == {"no agreed label": 1, "1 of 3 columns": 1}


def test_the_first_line_may_name_the_columns(tmp_path):
    path = tmp_path / "snli.txt"
    path.write_text(
        "gold_label\tsentence1_parse\tsentence2_parse\tsentence1\tsentence2\tid\n"
        "neutral\t( a )\t( b )\ta\tb\t1\n"
    )
    assert rows_of(f"en-en={path}", "labels") == [("a", "b", "1")]
    path.write_text("premise\thypo\tlabel\na\tb\tcontradictory\n")
    assert rows_of(f"en-en={path}", "labels") == [("a", "b", "2")]


def test_scores_are_numbers(tmp_path):
    path = tmp_path / "sts.tsv"
    path.write_text("4.25\ta\tb\n0\tc\td\n")
    assert rows_of(f"en-en={path}", "scores") == [("a", "b", "4.25"), ("c", "d", "0.0")]


@pytest.mark.parametrize(
    ("rows", "line", "message"),
    [
        ("labels", "maybe\ta\tb", "'maybe' is not a label; they are entailment, neutral"),
        ("labels", "a\tb\tneutral", "'a' is not a label"),
        ("scores", "a\tb\t3.0", "'a' is not a score"),
        ("scores", "nan\ta\tb", "'nan' is not a score"),
        ("scores", "-1\ta\tb", "'-1' is not a score"),
    ],
)
def test_what_is_no_label_is_named_with_its_line(tmp_path, rows, line, message):
    path = tmp_path / "bad.tsv"
    good = {"labels": "neutral\tx\ty", "scores": "1\tx\ty"}[rows]
    path.write_text(f"{good}\n{line}\n")
    with pytest.raises(UserError, match=f"{path}:2: {message}"):
        rows_of(f"en-en={path}", rows)


LONG = 1 << 17  # characters; the longest line that is read has eight times as many


PIECES = [
    *(".", '."', ". ", ".a", "a.", "!?", "…»", ". »", ".)\u3000", "a. a ", "。", "。」", "x", "1."),
    *(" ", " »", "\t.", "_.", "。 ", "...a"),
]


def test_time_is_linear_in_the_text():
    """By a quadratic rule, one of these would take hours; the process ends whatever happens."""
    program = f"""
from lightxling.corpus.sentences import cut_sentences
for piece in {PIECES!r}:
    for end in ("", "x"):
        cut_sentences(piece * ({LONG} // len(piece)) + end)
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=90)
