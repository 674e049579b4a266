"""The quickstart with a short training: what it prints and leaves behind."""

import dataclasses

import numpy as np
from rich.console import Console

from lightxling.config.files import load
from lightxling.corpus import everyday
from lightxling.train import quickstart as module


def test_tables_and_neighbours_know_a_perfect_encoder_from_a_rotated_one():
    rng = np.random.default_rng(0)
    right = rng.normal(size=(20, 8)).astype(np.float32)
    vectors = {"en": right, "de": right.copy(), "fr": np.roll(right, 1, axis=0)}
    texts = {language: [f"{language}{i}" for i in range(20)] for language in vectors}
    table = module.accuracy_table(vectors, texts)
    assert "20 held-out candidates" in table.title
    columns = {column.header: list(column.cells) for column in table.columns}
    assert columns["en"] == ["-", "100.0", "0.0"]
    question, answers = next(iter(module.neighbours(vectors, texts, [3])))
    assert question == "en: en3"
    assert answers == ["  = 1.00  de: de3", "    1.00  fr: fr4"]


def test_quickstart_trains_evaluates_and_says_what_next(tmp_path, monkeypatch):
    recipe = load("quickstart")
    short = dataclasses.replace(recipe.train, pairs=128 * 3, dev_every=3)
    model = dataclasses.replace(recipe.model, layers=1, width=32)
    monkeypatch.setattr(
        module, "load", lambda name: dataclasses.replace(recipe, train=short, model=model)
    )
    monkeypatch.setattr(module, "COMPOSED_SENTENCES", 1500)
    console = Console(record=True, width=200)
    module.quickstart(tmp_path / "quick", console)
    text = console.export_text()
    _, held_out = everyday.hold_out(everyday.read_sentences(), everyday.read_composed(1500))
    assert f"{len(held_out)} held-out candidates" in text
    assert "lightxling search" in text
    assert text.count("  it: ") == module.SHOWN_SENTENCES
    assert (tmp_path / "quick" / "best").is_dir()


def test_a_stopped_quickstart_evaluates_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "COMPOSED_SENTENCES", 1500)
    monkeypatch.setattr("lightxling.train.loop.train", lambda *settings: None)  # as after Ctrl-C
    console = Console(record=True, width=200)
    module.quickstart(tmp_path / "quick", console)
    assert "Next" not in console.export_text()
