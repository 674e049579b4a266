"""Many languages in one run, from text to checkpoint, and starting a run from another."""

import dataclasses
import json
import random
from pathlib import Path

import jax
import numpy as np
import pytest

from lightxling.base.errors import UserError
from lightxling.config.files import load
from lightxling.config.schema import (
    Config,
    CorpusConfig,
    ModelConfig,
    OptimizerConfig,
    TokenizerConfig,
    TrainConfig,
)
from lightxling.config.settings import change
from lightxling.encode.encoder import Encoder
from lightxling.objectives.combine import initialise_tasks
from lightxling.saved import checkpoint
from lightxling.saved.bundle import read_run, read_run_params
from lightxling.train.loop import train
from lightxling.train.warm_start import read_origin, warm_start

SIZES = {"bb": 240, "cc": 80, "dd": 80}


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Config:
    """An EMS of two language pairs, 8 steps; made-up words whose last letter is their language."""
    folder = tmp_path_factory.mktemp("many")
    rng = random.Random(0)
    words = ["".join(rng.choices("fgklmnprst", k=3)) for _ in range(60)]
    for language, rows in SIZES.items():
        lines = []
        for _ in range(rows):
            chosen = rng.choices(words, k=rng.randint(4, 7))
            sides = (" ".join(word + last for word in chosen) for last in ("a", language[0]))
            lines.append("\t".join(sides) + "\n")
        (folder / f"made.aa-{language}.tsv").write_text("".join(lines))
    ems = load("ems").objectives
    return Config(
        corpus=CorpusConfig(
            sources=tuple(f"aa-{code}={folder / f'made.aa-{code}.tsv'}" for code in ("bb", "cc")),
            dev_share=0.1,
            store=str(folder / "stores"),
        ),
        tokenizer=TokenizerConfig(vocab_size=120),
        model=ModelConfig(layers=1, width=16, heads=2, feedforward=16, max_length=32),
        objectives=dataclasses.replace(
            ems,
            tokens=dataclasses.replace(ems.tokens, language_width=8),
            align=dataclasses.replace(ems.align, projection=8),
        ),
        optimizer=OptimizerConfig(warmup_steps=2, schedule="constant"),
        train=TrainConfig(
            pairs=16 * 8,
            batch_size=16,
            buckets=(32,),
            sampling_temperature=5.0,
            log_every=4,
            dev_every=4,
            checkpoint_every=4,
        ),
    )


@pytest.fixture(scope="module")
def trained(base, tmp_path_factory) -> Path:
    """The run of `base`, uninterrupted."""
    run = tmp_path_factory.mktemp("trained") / "run"
    train(base, run)
    return run


def records(run: Path) -> list[dict]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def with_language(base: Config, trained: Path, **changes) -> Config:
    """`base` with a third language, started from the run `trained`."""
    source = base.corpus.sources[0].replace("aa-bb", "aa-dd")
    sources = (*base.corpus.sources, source)
    return change(base, corpus__sources=sources, train__init_from=str(trained), **changes)


def test_a_stopped_multilingual_run_resumes_to_the_same_bits(base, trained, tmp_path):
    run = tmp_path / "run"
    train(change(base, train__pairs=16 * 4), run)
    assert checkpoint.steps(run / "checkpoints") == [4]
    train(base, run)
    last = [read_run_params(read_run(path), "last") for path in (run, trained)]
    jax.tree.map(np.testing.assert_array_equal, *last)
    for resumed, straight in zip(records(run), records(trained), strict=True):
        for name in straight:
            if name not in ("pairs_per_second", "input_wait", "peak_memory"):
                assert resumed[name] == straight[name], name


def test_every_language_pair_is_counted_and_scored(trained):
    last = records(trained)[-1]
    seen = {name: last[f"pairs/{name}"] for name in ("aa-bb", "aa-cc")}
    assert sum(seen.values()) == last["pairs"] == 128
    # 240 : 80 rows, drawn as 240^(1/5) : 80^(1/5) = 1.25 : 1
    assert seen["aa-bb"] < 2 * seen["aa-cc"]
    mean = (last["dev_p@1/aa-bb"] + last["dev_p@1/aa-cc"]) / 2
    assert last["dev_p@1"] == pytest.approx(mean)


def test_heads_stay_behind(trained):
    encoder = Encoder.load(trained)
    assert encoder.languages == ("aa", "bb", "cc")
    assert encoder.encode(["fga klb"]).shape == (1, 16)


def test_starting_from_a_run_gives_its_vectors_before_the_first_step(base, trained, tmp_path):
    """One step of no length; the tokenizer comes along, the third language is new."""
    still = with_language(base, trained, train__pairs=16, optimizer__learning_rate=1e-30)
    train(still, tmp_path / "run")
    texts = ["fgka lmnb prsc", "tttd", ""]
    vectors = [Encoder.load(path).encode(texts) for path in (trained, tmp_path / "run")]
    np.testing.assert_array_equal(*vectors)
    assert records(tmp_path / "run")[-1]["pairs/aa-dd"] > 0


@pytest.mark.parametrize("pooling", ["weighted", "attention"])
def test_the_mean_may_become_a_learnt_pooling(base, trained, pooling):
    config = with_language(base, trained, model__pooling=pooling)
    origin = read_origin(config)
    fresh = initialise_tasks(config, origin.vocab_size, jax.random.key(3), 4)
    started = warm_start(origin, fresh, ["aa", "bb", "cc", "dd"], lambda text: None)["encoder"]
    old = read_run_params(origin, "best")["encoder"]
    (new,) = started.keys() - old.keys()
    assert not np.asarray(started.pop(new)).any()
    jax.tree.map(np.testing.assert_array_equal, started, old)


def test_a_learnt_pooling_does_not_become_another(base, trained, monkeypatch):
    run = read_run(trained)
    theirs = dataclasses.replace(run, config=change(run.config, model__pooling="weighted"))
    monkeypatch.setattr("lightxling.train.warm_start.read_run", lambda path: theirs)
    for pooling in ("mean", "attention"):
        with pytest.raises(UserError, match=f"model.pooling: 'weighted' there, '{pooling}' here"):
            read_origin(with_language(base, trained, model__pooling=pooling))


def test_languages_keep_their_rows_and_heads_that_fit_are_taken(base, trained):
    config = with_language(base, trained)
    origin = read_origin(config)
    old = read_run_params(origin, "best")
    rng = np.random.default_rng(0)
    fresh = jax.tree.map(lambda x: jax.numpy.array(rng.normal(size=x.shape), x.dtype), old)
    languages = ["aa", "ab", "bb", "cc", "dd"]
    fresh["token_head"]["languages"] = jax.numpy.array(rng.normal(size=(5, 8)))
    fresh["projection"]["out"]["bias"] = jax.numpy.zeros(3)

    said = []
    started = warm_start(origin, fresh, languages, said.append)
    jax.tree.map(np.testing.assert_array_equal, started["encoder"], old["encoder"])
    table = started["token_head"].pop("languages")
    np.testing.assert_array_equal(
        table[jax.numpy.array([0, 2, 3])], old["token_head"].pop("languages")
    )
    new = jax.numpy.array([1, 4])
    np.testing.assert_array_equal(table[new], fresh["token_head"].pop("languages")[new])
    jax.tree.map(np.testing.assert_array_equal, started["token_head"], old["token_head"])
    jax.tree.map(np.testing.assert_array_equal, started["projection"], fresh["projection"])
    assert "a fresh projection" in said[0]
    assert "new languages: ab, dd" in said[0]

    fresh["encoder"]["words"] = jax.numpy.zeros((7, 16))
    with pytest.raises(UserError, match=r"encoder\.words is \(120, 16\) .* \(7, 16\) here"):
        warm_start(origin, fresh, languages, said.append)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model__width": 32}, r"model.width: 16 there, 32 here"),
        ({"model__heads": 4}, r"model.heads: 2 there, 4 here"),
        ({"model__max_length": 40}, r"model.max_length: 32 there, 40 here"),
        ({"tokenizer__file": "x.model"}, "leave tokenizer.file out"),
        ({"train__init_from": "nowhere"}, "init_from=nowhere is not the folder of a run"),
    ],
)
def test_what_cannot_be_started_from_is_named(base, trained, tmp_path, changes, message):
    with pytest.raises(UserError, match=message):
        train(change(with_language(base, trained), **changes), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_pair_too_small_for_a_batch_of_its_own_is_named(base, tmp_path):
    config = change(
        base, train__batch_languages="single", train__batch_size=96, train__sampling_temperature=1.0
    )
    with pytest.raises(UserError, match=r"never be seen: aa-cc \(\d\d\)\. "):
        train(config, tmp_path / "run")
