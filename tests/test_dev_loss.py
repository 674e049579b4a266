"""The best parameters by the loss on the development pairs (train.best=loss)."""

import json

import numpy as np
import pytest

from lightxling.base.errors import UserError
from lightxling.config import AlignConfig, change, only
from lightxling.encode.encoder import Encoder
from lightxling.train import dev
from lightxling.train.loop import train


@pytest.fixture
def by_loss(tiny, corpus, tmp_path):
    """A run on which the loss of sixteen other pairs, one batch, decides."""
    lines = corpus.read_text().splitlines(keepends=True)
    (tmp_path / "train.tsv").write_text("".join(lines[16:]))
    (tmp_path / "dev.tsv").write_text("".join(lines[:16]))
    return change(
        tiny,
        corpus__sources=(f"aa-bb={tmp_path / 'train.tsv'}",),
        corpus__dev=(f"aa-bb={tmp_path / 'dev.tsv'}",),
        corpus__store=str(tmp_path / "stores"),
        model__layers=0,
        model__dropout=0.0,
        objectives=only(align=AlignConfig(weight=1.0, similarity="cosine", temperature=0.05)),
        optimizer__learning_rate=1.0,
        optimizer__schedule="constant",
        optimizer__warmup_steps=0,
        train__pairs=16 * 3,
        train__dev_every=1,
        train__best="loss",
    )


def contrastive(encoder: Encoder, pairs: list[list[str]]) -> float:
    """The loss of one batch, a slow sum in float64."""
    a, b = (encoder.encode(list(side)).astype(np.float64) for side in zip(*pairs, strict=True))
    z, total = a @ b.T / 0.05, 0.0
    for i in range(len(z)):
        for row in (z[i], z[:, i]):
            total += np.log(sum(np.exp(x) for x in row)) - z[i, i]
    return total / len(z)


def test_the_parameters_of_the_lowest_dev_loss_are_kept(by_loss, tmp_path, monkeypatch):
    rising = iter(range(1, 100))  # by P@1 the last would be the best
    monkeypatch.setattr(dev, "dev_scores", lambda *_: {"dev_p@1": float(next(rising))})
    train(by_loss, tmp_path / "run")
    records = list(map(json.loads, (tmp_path / "run/metrics.jsonl").read_text().splitlines()))
    losses = [record["dev_loss"] for record in records]
    assert np.argmin(losses) != len(losses) - 1  # or this would show nothing
    pairs = [line.split("\t") for line in (tmp_path / "dev.tsv").read_text().splitlines()]
    for checkpoint, expected in (("best", min(losses)), ("last", losses[-1])):
        encoder = Encoder.load(tmp_path / "run", checkpoint=checkpoint)
        assert contrastive(encoder, pairs) == pytest.approx(expected, rel=1e-3), checkpoint


def test_too_few_development_pairs_for_a_batch_are_refused(by_loss, tmp_path):
    config = change(by_loss, train__batch_size=32)
    with pytest.raises(UserError, match=r"16 development pairs do not fill one batch of .*32"):
        train(config, tmp_path / "run")
