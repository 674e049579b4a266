"""Tables, options and bars as a terminal shows them."""

import io

import pytest

from lightxling.base import screen


class Terminal(io.StringIO):
    """Keeps what is written, and what a terminal shows of its last line."""

    def isatty(self):
        return True

    def shown(self):
        cells = []
        for part in self.getvalue().rsplit("\n", 1)[-1].split("\r"):
            cells[: len(part)] = part
        return "".join(cells).rstrip()


def test_a_table_has_names_on_the_left_and_numbers_on_the_right():
    made = screen.table(["", "ratio margin"], [["en-de", "9.5"], ["x", "100.0"]], title="all")
    assert made.splitlines() == [
        "all",
        "        ratio",
        "       margin",
        "─────────────",
        "en-de     9.5",
        "x       100.0",
    ]


def test_no_cell_is_cut_on_a_narrow_screen(monkeypatch):
    monkeypatch.setenv("COLUMNS", "20")
    name = "a very long name of a run [red] :smile:"
    assert f"{name}  1.0" in screen.table(["", "b"], [[name, "1.0"]])


def test_columns_stand_below_each_other_in_every_script():
    """東 takes two places, and the vowel sign of हि stands with its consonant."""
    rows = [["東京", "1"], ["abcd", "2"], ["हि", "3"], ["e\u0301", "4"]]
    found = screen.table(["", ""], rows).splitlines()[-4:]
    assert found[0] == "東京  1"
    assert found[1] == "abcd  2"
    assert found[3] == "e\u0301     4"
    assert [screen.cells(line) for line in found] == [7, 7, 7, 7]


def test_options_and_what_they_mean_fit_the_screen(monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    pairs = [("  --short N", "word " * 12), ("  --" + "x" * 30, "said")]
    lines = screen.definitions(pairs).splitlines()
    assert max(map(len, lines)) <= 40
    assert " ".join(lines).count("word") == 12
    assert "".join(line[:24].strip() for line in lines[3:]).endswith("x" * 30)


@pytest.mark.parametrize("width", ["1", "80"])
def test_a_bar_shows_how_far_it_is_and_goes_away(width, monkeypatch):
    monkeypatch.setenv("COLUMNS", width)
    monkeypatch.setattr(screen, "_PAUSE", 0)
    terminal = Terminal()
    with screen.Bar("encoding", 2000, terminal) as bar:
        bar.advance(500)
        if width == "80":
            assert "encoding [#####...............] 500/2,000" in terminal.shown()
        bar.say("compiling")
        bar.advance(1500)
        if width == "80":
            assert "[####################] 2,000/2,000 0:00" in terminal.shown()
    assert terminal.shown() == ""
    assert "compiling\n" in terminal.getvalue()


def test_what_is_left_goes_by_what_is_done():
    bar = screen.Bar("encoding", 100, io.StringIO())
    assert bar.line(7.0) == "encoding [....................] 0/100"
    bar.advance(25)
    assert bar.line(30.0) == "encoding [#####...............] 25/100 1:30"


@pytest.mark.parametrize(("total", "said"), [(0, ""), (5, "compiling\n")])
def test_elsewhere_than_on_a_terminal_there_is_no_bar(total, said):
    file = io.StringIO()
    with screen.Bar("encoding", total, file) as bar:
        bar.advance(total)
        bar.say("compiling")
    assert file.getvalue() == said
