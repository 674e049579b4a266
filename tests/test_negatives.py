"""Hard negatives: the nearest wrong sentences, against a loop; kept, reopened, put in batches."""

import dataclasses
import itertools
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from test_teacher import export_toy, toy, two_corpora  # noqa: F401

from lightxling.base.errors import UserError
from lightxling.config.objectives import RankingConfig, only
from lightxling.config.rules import validate
from lightxling.config.schema import ModelConfig, TaskConfig, TrainConfig
from lightxling.corpus.batches import Batches, Groups
from lightxling.corpus.prepare import prepare
from lightxling.corpus.store import Split, Store
from lightxling.corpus.vectors import FrozenEncoder, SentenceVectors
from lightxling.train import negatives
from lightxling.train.frozen import find_frozen
from lightxling.train.loop import train


def vectors_of(index, width=5, seed=0):
    table = np.random.default_rng(seed).normal(size=(index.max() + 1, width)).astype(np.float16)
    return SentenceVectors(table, index.astype(np.int32), np.zeros(len(index), np.int32), {})


def loop(vectors, side, count, allowed=None):
    """For every row: sort all rows by cosine, skip what is right, keep texts apart."""
    table, index = vectors.vectors.astype(np.float64), vectors.index
    table /= np.linalg.norm(table, axis=1, keepdims=True)
    expected = []
    for row in range(len(index)):
        query = index[row, 1 - side]
        right = {index[r, side] for r in range(len(index)) if index[r, 1 - side] == query} | {query}
        order = sorted(range(len(index)), key=lambda r: (-table[query] @ table[index[r, side]], r))
        chosen, texts = [], set()
        for r in order:
            if allowed is not None and index[r, side] not in allowed:
                continue
            if index[r, side] not in right | texts and len(chosen) < count:
                texts.add(index[r, side])
                chosen.append(2 * r + side)
        expected.append(chosen)
    return np.array(expected)


@pytest.mark.parametrize("side", [0, 1])
def test_the_nearest_wrong_sentences_equal_a_loop(side, monkeypatch):
    """Repeated texts, several translations of one, and a text that stands on both sides."""
    monkeypatch.setattr(negatives, "CHUNK", 7)
    rng = np.random.default_rng(1)
    index = np.stack([rng.integers(0, 25, 70), rng.integers(20, 50, 70)], axis=1)
    assert set(index[:, 0]) & set(index[:, 1])
    vectors = vectors_of(np.concatenate([index, [[0, 49], [0, 48], [0, 47], [1, 47]]]))
    found = negatives.mine_negatives(vectors, side, 4)
    np.testing.assert_array_equal(found, loop(vectors, side, 4))


@pytest.mark.parametrize("side", [0, 1])
def test_of_some_sentences_the_nearest_wrong_ones_are_found(side):
    rng = np.random.default_rng(1)
    vectors = vectors_of(np.stack([rng.integers(0, 25, 70), rng.integers(20, 50, 70)], axis=1))
    found = negatives.mine_negatives(vectors, side, 4, among=12)
    drawn = set(vectors.index[found // 2, side].ravel())
    assert 4 < len(drawn) <= 12
    np.testing.assert_array_equal(found, loop(vectors, side, 4, drawn))


def test_more_negatives_than_wrong_sentences_is_refused():
    index = np.array([[0, 3], [1, 4], [2, 5]])
    assert negatives.mine_negatives(vectors_of(index), 1, 2).shape == (3, 2)
    with pytest.raises(UserError, match="negatives=3 is more than the corpus has wrong sentences"):
        negatives.mine_negatives(vectors_of(index), 1, 3)


def mined(config, source, **ranking):
    settings = RankingConfig(weight=1.0, negatives=3, mined_by=str(source), **ranking)
    return dataclasses.replace(config, objectives=only(ranking=settings))


class Loads(list):
    """A miner whose encoder is a hash, and the times it was loaded."""

    def miner(self, name):
        return FrozenEncoder(name, lambda: self.append(name) or toy)


def test_negatives_are_kept_and_are_wrong(two_corpora):  # noqa: F811
    config = mined(two_corpora, "earlier", direction="both")
    store = Store.open(prepare(config))
    loads = Loads()
    miner = loads.miner("toy")
    said = []
    first = negatives.sentence_negatives(config, store, miner, progress=said.append)
    assert any("miner" in line for line in said)
    assert not any("teacher" in line for line in said)
    again = negatives.sentence_negatives(config, store, miner)
    assert loads == ["toy"]
    np.testing.assert_array_equal(first, again)
    assert first.shape == (store.train.rows, 6)
    tokens = [tuple(store.train.tokens[a:b]) for a, b in itertools.pairwise(store.train.offsets)]
    for row, chosen in enumerate(first):
        assert [sentence % 2 for sentence in chosen] == [1, 1, 1, 0, 0, 0]
        assert 2 * row not in chosen
        assert 2 * row + 1 not in chosen
        pair = {tokens[2 * row], tokens[2 * row + 1]}
        assert sum(tokens[sentence] in pair for sentence in chosen) <= 1  # but for case and <unk>

    (folder,) = Path(config.corpus.store).glob("[!.]*-negatives-*")
    with open(folder / "negatives.npy", "r+b") as file:
        file.seek(-1, 2)
        file.write(b"\x55")
    with pytest.raises(UserError, match="is damaged; remove it"):
        negatives.sentence_negatives(config, store, miner)


def test_another_encoder_finds_other_negatives(two_corpora):  # noqa: F811
    config = mined(two_corpora, "earlier")
    store = Store.open(prepare(config))
    loads = Loads()
    for name in ("one", "other"):
        negatives.sentence_negatives(config, store, loads.miner(name))
    assert loads == ["one", "other"]
    assert len(list(Path(config.corpus.store).glob("[!.]*-negatives-*"))) == 2


def test_the_earlier_encoder_must_be_there(tiny, tmp_path):
    with pytest.raises(UserError, match=r"mined_by=.*nowhere: no model at"):
        negatives.find_miner(mined(tiny, tmp_path / "nowhere"))
    few = mined(tiny, tmp_path / "earlier", mined_among=3)
    with pytest.raises(UserError, match="mined_among=3 leaves no choice"):
        validate(few)
    found = negatives.find_miner(mined(tiny, export_toy(tiny, tmp_path / "earlier")))
    assert len(found.sha256) == 64
    assert negatives.find_miner(tiny) is None


def test_what_is_wrong_with_the_encoder_of_a_task_is_said_with_its_name(tiny, tmp_path):
    objectives = mined(tiny, tmp_path / "nowhere").objectives
    task = TaskConfig("other", 1.0, tiny.corpus.sources, 8, objectives)
    with pytest.raises(UserError, match=r"^task other: objectives\.ranking\.mined_by=.*nowhere"):
        find_frozen(dataclasses.replace(tiny, tasks=(task,)))


def test_a_batch_holds_the_negatives_of_its_rows():
    rng = np.random.default_rng(0)
    lengths = rng.integers(1, 9, 2 * 40)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    tokens = rng.integers(3, 5000, offsets[-1]).astype(np.uint16)
    split = Split(tokens, offsets, np.zeros(40, np.uint16), 2, Path())
    hard = rng.integers(0, 80, (40, 3))
    batches = Batches(
        split,
        Groups(np.ones(1), np.array([[0, 1]])),
        TrainConfig(batch_size=8, buckets=(2, 4)),
        ModelConfig(max_length=8),
        maskable=np.ones(5000, bool),
        negatives=hard,
    )
    sentences = [tuple(tokens[a:b]) for a, b in itertools.pairwise(offsets)]
    rows = {(sentences[2 * r], sentences[2 * r + 1]): r for r in range(40)}
    for step in range(batches.steps_per_epoch):
        batch = batches[step]
        assert batch.tokens.shape[:2] == (8, 5)
        for texts, place in zip(batch.tokens, batch.masked, strict=True):
            src, tgt, *more = (tuple(text[text > 0]) for text in texts)
            assert more == [sentences[s] for s in hard[rows[src, tgt]]]  # none is cut off
            assert place < 2 * batch.tokens.shape[2]  # what is masked is a piece of the pair


def test_a_run_learns_from_hard_negatives(tiny, tmp_path):
    """More wrong candidates cost more; another encoder in the same place is refused."""
    quick = dataclasses.replace(tiny.train, pairs=16 * 2, dev_every=9, buckets=(32,))
    model = dataclasses.replace(tiny.model, dropout=0.0, init="scaled")
    tiny = dataclasses.replace(tiny, train=quick, model=model)
    losses = {}
    plain = only(ranking=RankingConfig(weight=1.0, direction="both"))
    for name, config in {
        "with": mined(tiny, export_toy(tiny, tmp_path / "with"), direction="both"),
        "without": dataclasses.replace(tiny, objectives=plain),
    }.items():
        train(config, tmp_path / f"run-{name}")
        first = (tmp_path / f"run-{name}" / "metrics.jsonl").read_text().splitlines()[0]
        losses[name] = json.loads(first)["ranking"]
    gain = 2 * np.log((16 + 3) / 16)  # near the start, all are equally likely
    assert losses["with"] - losses["without"] == pytest.approx(gain, rel=0.3)

    shutil.rmtree(tmp_path / "with")
    export_toy(tiny, tmp_path / "with", width=12)
    with pytest.raises(UserError, match=r"negatives of the task main .* another encoder"):
        train(mined(tiny, tmp_path / "with", direction="both"), tmp_path / "run-with")
