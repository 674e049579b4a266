"""Values that no option should take: refused in words before anything is written.

`tools/wrong_inputs.py` gives all options of all commands many more.
"""

import dataclasses
import math

import pytest

from lightxling import cli
from lightxling.base.errors import UserError
from lightxling.config.rules import validate
from lightxling.config.schema import Config, CorpusConfig
from lightxling.config.settings import change, settings_of


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A working folder with two texts."""
    monkeypatch.chdir(tmp_path)
    for name in ("en.txt", "fr.txt"):
        (tmp_path / name).write_text("the cat\nthe dog\n")
    return tmp_path


@pytest.mark.parametrize("path", ["", " "])
@pytest.mark.parametrize(
    "words",
    [
        ("encode", "boxed", "en.txt", "--output"),
        ("mine", "boxed", "en.txt", "fr.txt", "-o"),
        ("dedup", "boxed", "en.txt", "--output"),
        ("dedup", "boxed", "en.txt", "--removed"),
        ("search", "boxed", "en.txt", "--query", "a", "--index"),
        ("evaluate", "boxed", "--task", "sts", "--data", "en.txt", "--output"),
        ("export", "boxed", "--output"),
        ("export", "boxed", "--trim", "True", "--text"),
        ("specialise", "boxed", "en.txt", "--language", "en", "--output"),
        ("paraphrases", "en-fr=pairs.tsv", "--output"),
        ("serve", "boxed", "--key-file"),
        ("report", "run", "--output"),
        ("train", "light", "--workdir"),
        ("sweep", "light", "--workdir"),
        ("quickstart", "--workdir"),
    ],
)
def test_an_empty_path_is_not_the_folder_that_one_is_in(place, capsys, words, path):
    """It comes of a variable of the shell that is not set, and `Path("")` is `Path(".")`."""
    with pytest.raises(SystemExit) as ended:
        cli.main([*words, path])
    assert ended.value.code == 2
    said = " ".join(capsys.readouterr().err.replace("│", "").split())
    assert "is empty" in said or f"arguments: [{path!r}]" in said
    assert sorted(one.name for one in place.iterdir()) == ["en.txt", "fr.txt"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("encode", "boxed", "en.txt", "--worker-cpus", "0"), "--worker-cpus 0 is too few"),
        (("encode", "boxed", "en.txt", "--batch-size", "0"), "--batch-size 0 is too few"),
        (("mine", "boxed", "en.txt", "fr.txt", "--workers", "-1"), "--workers -1 is too few"),
        (("mine", "boxed", "en.txt", "fr.txt", "--threshold", "nan"), "nan is no score"),
        (("mine", "boxed", "en.txt", "fr.txt", "--probes", "0"), "--probes 0 is too few"),
        (
            ("mine", "boxed", "en.txt", "fr.txt", "--search", "exact", "--index", "Flat"),
            "--index Flat is for --search faiss",
        ),
        (("search", "boxed", "en.txt", "--query", " "), "--query is empty"),
        (("export", "boxed", "-o", "x", "--min-count", "0"), "--min-count 0 is too few"),
        (
            ("specialise", "boxed", "en.txt", "-o", "x", "--language", "some words"),
            "'some words' should be a code",
        ),
        (
            ("specialise", "boxed", "en.txt", "-o", "x", "--language", "en", "--vocab-size=-1"),
            "--vocab-size -1 should be 0 or more",
        ),
        (
            ("evaluate", "boxed", "--task", "nli", "--data", "x", "--train-language", ""),
            "--train-language '' should be a code",
        ),
        (("dedup", "boxed", "en.txt", "--removed", "n" * 250), "File name too long"),
    ],
)
def test_what_makes_no_sense_is_refused_before_anything_is_written(place, capsys, words, said):
    assert cli.main(list(words)) == 2
    assert said in capsys.readouterr().err
    assert sorted(one.name for one in place.iterdir()) == ["en.txt", "fr.txt"]


CONFIG = Config(corpus=CorpusConfig(sources=("en-fr=x.tsv",)))
NUMBERS = [one for one in settings_of(CONFIG) if one.kind in (int, float)]


@pytest.mark.parametrize("setting", NUMBERS, ids=[one.name for one in NUMBERS])
def test_no_setting_is_beyond_all_numbers(setting):
    value = math.nan if setting.kind is float else 10**20
    with pytest.raises(UserError, match=rf"{setting.name}={value} "):
        validate(change(CONFIG, **{setting.name.replace(".", "__"): value}))


@pytest.mark.parametrize("store", ["", " "])
def test_the_folder_of_stores_has_a_name(store):
    with pytest.raises(UserError, match=r"corpus\.store='.*' is empty; name a folder"):
        validate(dataclasses.replace(CONFIG, corpus=CorpusConfig(sources=("a",), store=store)))
