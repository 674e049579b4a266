import zlib

import numpy as np
import pytest

pytest.importorskip("torch")
mteb = pytest.importorskip("mteb")
datasets = pytest.importorskip("datasets")

from mteb.abstasks.sts import AbsTaskSTS  # noqa: E402
from mteb.abstasks.task_metadata import TaskMetadata  # noqa: E402

from lightxling.evaluate.mteb import MtebEncoder  # noqa: E402
from lightxling.evaluate.similarity import sts  # noqa: E402

FIRST = ["a b c", "d e f", "g h i", "j k l", "m n o", "v w"]
SECOND = ["a b c", "d e x", "g y z", "p q r", "m n o s t", "u"]
SCORES = [5.0, 3.0, 2.0, 0.0, 4.0, 1.0]


def encode(texts):
    vectors = np.zeros((len(texts), 32), np.float32)
    for row, text in zip(vectors, texts, strict=True):
        for word in text.split():
            row[zlib.crc32(word.encode()) % 32] += 1
    return vectors


class LocalSts(AbsTaskSTS):
    """Six pairs that need no hub."""

    metadata = TaskMetadata(
        name="LocalSTS",
        description="six pairs",
        reference=None,
        dataset={"path": "local", "revision": "1"},
        type="STS",
        category="t2t",
        modalities=["text"],
        eval_splits=["test"],
        eval_langs=["eng-Latn"],
        main_score="cosine_spearman",
        date=None,
        domains=None,
        task_subtypes=None,
        license=None,
        annotations_creators=None,
        dialect=None,
        sample_creation=None,
        bibtex_citation=None,
    )
    min_score, max_score = 0, 5

    def load_data(self, **_):
        rows = {"sentence1": FIRST, "sentence2": SECOND, "score": SCORES}
        self.dataset = datasets.DatasetDict({"test": datasets.Dataset.from_dict(rows)})
        self.data_loaded = True


def test_mteb_gives_the_same_figures():
    model = MtebEncoder(encode, "words", "0123", 32)
    (result,) = mteb.evaluate(model, [LocalSts()], cache=None).task_results
    scores = result.scores["test"][0]
    expected = sts(encode(FIRST), encode(SECOND), np.array(SCORES))
    assert scores["cosine_spearman"] == pytest.approx(expected.spearman, abs=1e-6)
    assert scores["cosine_pearson"] == pytest.approx(expected.pearson, abs=1e-5)


def test_the_encoder_has_the_protocol_and_a_name():
    model = MtebEncoder(encode, "words", "0123", 32)
    assert isinstance(model, mteb.EncoderProtocol)
    assert model.mteb_model_meta.name == "lightxling/words"
