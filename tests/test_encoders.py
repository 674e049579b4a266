"""The encoder in the package: small, described, used when no model is named, and any good."""

import re

import numpy as np
import pytest
from test_cli import run

from lightxling import Encoder
from lightxling.base.places import DEFAULT, packaged
from lightxling.corpus import everyday
from lightxling.evaluate.retrieval import precision_at_1


@pytest.fixture(scope="module")
def encoder():
    return Encoder.load()


@pytest.mark.parametrize("name", packaged())
def test_it_has_at_most_ten_megabytes(name):
    assert sum(file.stat().st_size for file in packaged()[name].iterdir()) <= 10_000_000


@pytest.mark.parametrize("name", packaged())
def test_the_card_has_a_row_for_every_language(capsys, name):
    card = (packaged()[name] / "README.md").read_text("utf-8")
    rows = re.findall(r"^\| ([a-z]{2,3}) \| [\d,]+ \| [\d,]+ \|", card, re.MULTILINE)
    mean = re.search(r"before, \*\*([\d.]+)\*\*\s+in\s+the\s+box", card)[1]
    assert sorted({*rows, "en"}) == sorted(Encoder.load(name).languages)
    code, said = run(capsys, "models")  # which reads the card
    assert code == 0, said
    assert re.search(rf"^{name} .* {mean} +Apache-2.0 *$", said, re.MULTILINE), said


def test_the_default_has_the_languages_of_quickstart(encoder):
    assert {"en", "de", "fr", "es", "it"} <= set(encoder.languages)
    assert encoder.fingerprint == Encoder.load(DEFAULT).fingerprint


@pytest.mark.parametrize("language", ["de", "fr", "es", "it"])
def test_it_finds_translations_of_sentences_that_it_has_never_read(encoder, language):
    texts = [dict(zip(everyday.LANGUAGES, s.texts, strict=True)) for s in everyday.read_sentences()]
    found = precision_at_1(
        encoder.encode([t["en"] for t in texts]), encoder.encode([t[language] for t in texts])
    )
    assert found.candidates > 100
    assert found.mean > 0.5


def test_commands_take_it_where_no_model_is_named(encoder, capsys, tmp_path):
    lines = ["Where is the station?", "", "Où est la gare ?", "Der Hund schläft."]
    text = tmp_path / "mixed.txt"
    text.write_text("\n".join(lines) + "\n")
    code, said = run(capsys, "encode", text, "-o", tmp_path / "v.npy")
    assert code == 0, said
    np.testing.assert_allclose(np.load(tmp_path / "v.npy"), encoder.encode(lines), atol=1e-6)
    code, said = run(capsys, "search", text, "--query", "¿Dónde está la estación?", "--k", 1)
    assert code == 0, said
    assert "station" in said or "gare" in said
    (tmp_path / "a.en").write_text("Where is the station?\nThe dog is sleeping.\n")
    (tmp_path / "a.fr").write_text("Le chien dort.\nOù est la gare ?\n")
    out = tmp_path / "mined.tsv"
    code, said = run(capsys, "mine", tmp_path / "a.en", tmp_path / "a.fr", "-o", out)
    assert code == 0, said
    pairs = {tuple(line.split("\t")[1:3]) for line in out.read_text().splitlines()}
    assert pairs == {
        ("Where is the station?", "Où est la gare ?"),
        ("The dog is sleeping.", "Le chien dort."),
    }
