"""SentEval's classification tasks from files as they are distributed."""

import numpy as np
import pytest

from lightxling.base.errors import UserError
from lightxling.evaluate.tasks import ScoringSettings
from lightxling.evaluate.tasks.senteval import find_senteval, folds_of


@pytest.fixture
def downstream(tmp_path):
    for folder in ("MR", "TREC", "SST/binary"):
        (tmp_path / folder).mkdir(parents=True)
    rng = np.random.default_rng(0)
    for name, mark in (("neg", "bad"), ("pos", "good")):
        lines = [f"caf\xe9 {mark} {rng.integers(1000)}\n" for _ in range(40)]
        (tmp_path / "MR" / f"rt-polarity.{name}").write_bytes("".join(lines).encode("latin-1"))
    for name, count in (("train_5500.label", 60), ("TREC_10.label", 12)):
        lines = [f"{c}:x good {n} {c}\n" for n in range(count // 3) for c in ("NUM", "LOC", "HUM")]
        (tmp_path / "TREC" / name).write_text("".join(lines))
    for name in ("train", "dev", "test"):
        lines = [f"{mark} {n}\t{label}\n" for n in range(12) for label, mark in enumerate("ab")]
        (tmp_path / "SST/binary" / f"sentiment-{name}").write_text("".join(lines))
    return tmp_path


MARKS = ("bad", "good", "NUM", "LOC", "HUM", "a ", "b ")


def told(sentences):
    """Vectors that say which mark a sentence has."""
    return np.array([[mark in text for mark in MARKS] for text in sentences], np.float32) + 0.01


def test_what_vectors_say_is_found_and_what_they_do_not_say_is_not(downstream):
    units = {unit.name: unit for unit in find_senteval([str(downstream)], ScoringSettings())}
    assert list(units) == ["MR", "SST2", "TREC"]
    results = {name: unit.run(told) for name, unit in units.items()}
    assert {name: one["scores"]["accuracy"] for name, one in results.items()} == {
        "MR": 100.0,
        "SST2": 100.0,
        "TREC": 100.0,
    }
    assert [one["documents"] for one in results.values()] == [80, 24, 12]
    assert results["TREC"]["classes"] == ["HUM", "LOC", "NUM"]
    assert results["SST2"]["selected_on"] == "sentiment-dev"
    mute = units["MR"].run(lambda texts: np.ones((len(texts), 3), np.float32))
    assert mute["scores"]["accuracy"] <= 50


def test_every_fold_has_its_share_of_every_class():
    labels = np.array([0] * 40 + [1] * 60)
    folds = folds_of(labels)
    for fold in range(10):
        assert np.bincount(labels[folds == fold]).tolist() == [4, 6]
    assert len(set(folds[:10].tolist())) > 3  # not in the order of the file


def test_missing_files_are_named(downstream):
    (downstream / "MR" / "rt-polarity.pos").unlink()
    with pytest.raises(UserError, match=r"polarity\.pos is missing beside the other files of MR"):
        find_senteval([str(downstream)], ScoringSettings())
    with pytest.raises(UserError, match="give SentEval/data/downstream"):
        find_senteval([str(downstream / "MR")], ScoringSettings())
