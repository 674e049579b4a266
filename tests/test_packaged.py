"""Encoders of the package by their names: who understands them, and what lies beside them."""

import math
import re
import shutil

import pytest
from export_samples import bundle
from test_cli import run

from lightxling import Encoder
from lightxling.base import places
from lightxling.base.errors import UserError
from lightxling.config.settings import change
from lightxling.export.formats import write_format
from lightxling.saved.cards import read_card

CARD = """
| language | training pairs | candidates | float32 en→xx | xx→en | int8 en→xx | xx→en |
| --- | ---: | ---: | ---: | ---: | ---: | ---: |
| fr | 2,000 | 1,000 | 90.0 | 90.0 | 70.0 | 72.0 |
| zh_hant | 1,000 | 500 | 90.0 | 90.0 | 50.0 | 48.0 |

| corpus | pairs | licence | origin |
| --- | ---: | --- | --- |
| tatoeba-anki | 486,549 | CC BY 2.0 FR | tatoeba.org |
| tldr | 65 | CC BY 4.0 | tldr |
| xed | 5 | CC BY 4.0 | films |

## Licence

Apache-2.0, as the program. Who passes it on names the corpora.
"""


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package with two tiny encoders and a folder of code; its user stands in an empty folder."""
    package, here = tmp_path / "package", tmp_path / "here"
    here.mkdir()
    (package / "train").mkdir(parents=True)
    (package / "train" / "config.json").write_text("{}")
    for seed, name in enumerate(("static", "mini")):
        (package / name).mkdir()
        write_format(bundle(seed=seed), package / name, "safetensors")
        (package / name / "README.md").write_text(CARD, "utf-8")
    monkeypatch.setattr(places, "PACKAGE", package)
    monkeypatch.chdir(here)
    places.packaged.cache_clear()
    yield package
    places.packaged.cache_clear()


def files(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


def test_names_are_those_of_the_folders(package):
    assert list(places.packaged()) == ["static", "mini"]
    assert Encoder.load("mini").fingerprint == Encoder.load(package / "mini").fingerprint
    assert Encoder.load("mini").fingerprint != Encoder.load("static").fingerprint
    assert Encoder.load().fingerprint == Encoder.load("static").fingerprint


def test_a_model_in_a_folder_of_the_name_wins_with_a_word(package, tmp_path):
    shutil.copytree(package / "static", tmp_path / "here" / "mini")
    with pytest.warns(
        UserWarning, match=f"not the encoder in the package, which is {package}/mini"
    ):
        assert Encoder.load("mini").fingerprint == Encoder.load("static").fingerprint


def test_a_folder_of_the_name_without_a_model_is_refused(package, tmp_path):
    (tmp_path / "here" / "mini").mkdir()
    with pytest.raises(
        UserError, match=f"hides the encoder mini.*name the encoder as {package}/mini"
    ):
        Encoder.load("mini")


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("minni", "perhaps you meant mini: .* in the package: static, mini"),
        ("runs", "in the package: static, mini"),
        ("runs/mini", "no model at runs/mini; give the folder of a run or of an export$"),
        ("train", "in the package: static, mini"),
        ("", "the path of the model is empty"),
    ],
)
def test_an_unknown_name_is_told_those_there_are(package, name, told):
    with pytest.raises(UserError, match=told):
        Encoder.load(name)


def test_every_command_takes_the_name_and_leaves_the_package_as_it_is(package, capsys, tmp_path):
    here, before = tmp_path / "here", files(package)
    (here / "en.txt").write_text("the cat\na house\n")
    (here / "fr.txt").write_text("le chat\nune maison\n")
    (here / "dev.en-fr.tsv").write_text("the cat\tle chat\na house\tune maison\n")
    for words in (
        ["encode", "mini", "en.txt"],
        ["search", "mini", "fr.txt", "--query", "the cat"],
        ["mine", "mini", "en.txt", "fr.txt"],
        ["evaluate", "mini", "--task", "retrieval", "--data", "dev.en-fr.tsv"],
        ["evaluate", "--task", "retrieval", "--data", "dev.en-fr.tsv"],
        ["export", "mini"],
    ):
        code, said = run(capsys, *words)
        assert code == 0, said
    assert files(package) == before
    there = {"vectors.npy", "fr.txt.index", "mined.tsv", "mini-safetensors-float32/config.json"}
    scores = {f"evaluation/{name}/retrieval.dev.json" for name in ("static", "mini")}
    assert {*there, *scores} <= set(files(here))
    code, said = run(capsys, "compare", "mini", "static", "--format", "csv")
    assert code == 0, said
    head, *rows = [line.split(",") for line in said.strip().splitlines()]
    column = head.index("retrieval.dev forward")
    assert [row[0] for row in rows if row[0]] == ["mini", "static"]
    assert all(row[column] for row in rows)


def test_a_run_starts_from_the_name(package, tiny):
    from lightxling.corpus.prepare import _tokenizer_of_start
    from lightxling.train.warm_start import read_origin

    named = change(tiny, train__init_from="mini", model=bundle(seed=1).config)
    assert _tokenizer_of_start(named) == package / "mini" / "tokenizer.model"
    assert read_origin(named).languages == Encoder.load("mini").languages
    with pytest.raises(UserError, match=r"train.init_from=minni .* perhaps you meant mini"):
        read_origin(change(named, train__init_from="minni"))


def test_models_lists_what_the_cards_say(package, capsys):
    code, said = run(capsys, "models")
    assert code == 0
    for name in ("static", "mini"):
        assert re.search(rf"^{name} +.* 60\.0 +Apache-2\.0 *$", said, re.MULTILINE)
        assert str(package / name / "README.md") in said
    code, said = run(capsys, "models", "fr", "xx")
    assert code == 2
    assert "no encoder in the package has fr and xx; there are" in said


def test_a_card_in_numbers(package):
    card = read_card(package / "mini")
    assert card.scores == {"fr": 71.0, "zh_hant": 49.0}
    assert card.credits == ("CC BY 2.0 FR", "CC BY 4.0")
    own = [path for path in (package / "mini").iterdir() if path.name != "README.md"]
    assert card.nbytes == sum(path.stat().st_size for path in own)
    (package / "mini" / "README.md").write_text("## Licence\n\nMIT", "utf-8")
    assert math.isnan(read_card(package / "mini").mean)
