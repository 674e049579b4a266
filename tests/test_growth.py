"""An encoder that grows: its first vectors are those of the start, and what is new has its rate."""

import json
import re
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from lightxling import cli
from lightxling.base.errors import UserError
from lightxling.base.tree import flatten, nest
from lightxling.config.rules import validate
from lightxling.config.schema import AdapterConfig, ModelConfig, OptimizerConfig, StageConfig
from lightxling.config.settings import change
from lightxling.encode.encoder import Encoder
from lightxling.evaluate.compare import summary
from lightxling.evaluate.report import report
from lightxling.evaluate.report.repeat import command
from lightxling.export.sentence_transformers import model_card
from lightxling.model import build as models
from lightxling.model.growth import grow
from lightxling.saved.bundle import load_bundle, read_run, read_run_params, write_bundle
from lightxling.saved.run import read_folder
from lightxling.train.freeze import join_params
from lightxling.train.loop import train
from lightxling.train.optimizer import make_optimizer
from lightxling.train.plan import Plan
from lightxling.train.warm_start import refuse_other_encoder, taken_parameters

MODEL = ModelConfig(layers=0, width=16, heads=2, feedforward=24, embedding_width=8, max_length=40)


def any_params(config, seed):
    """Parameters with gains, biases and kernels that are nothing special."""
    rng = np.random.default_rng(seed)
    params = flatten(models.initialise(config, 50, jax.random.key(seed)))
    return nest({k: x + 0.5 * rng.normal(size=x.shape).astype("f") for k, x in params.items()})


@pytest.mark.parametrize(("layers", "more"), [(0, 1), (0, 2), (1, 3), (2, 3)])
def test_the_first_vectors_are_those_of_the_start(layers, more):
    adapters = (AdapterConfig("side"), AdapterConfig("low", kind="lora", rank=2))
    start = change(MODEL, layers=layers, adapters=adapters if layers else ())
    grown = change(start, layers=more)
    before = any_params(start, 1)
    fresh = models.initialise(grown, 50, jax.random.key(2))["encoder"]  # adapters as nothing
    after = {"encoder": grow(join_params(before["encoder"], fresh), layers)}
    tokens = np.random.default_rng(0).integers(1, 50, (5, 12)).astype(np.int32)
    tokens[1, 4:] = tokens[2, 1:] = 0
    old = models.encode_tokens(models.structure(start, 50), before, jnp.array(tokens))
    new = models.encode_tokens(models.structure(grown, 50), after, jnp.array(tokens))
    np.testing.assert_allclose(new, old, rtol=0, atol=1e-6 * np.abs(old).max())
    out = after["encoder"]["blocks"][more - 1]["qkv"]["kernel"]
    assert np.std(out) > 0  # so that the output projection has a gradient


@pytest.fixture(scope="module")
def bag(tmp_path_factory, corpus):
    """A run without layers, and its settings."""
    from lightxling.config.schema import Config, CorpusConfig, TokenizerConfig, TrainConfig

    folder = tmp_path_factory.mktemp("bag")
    config = Config(
        corpus=CorpusConfig(sources=(f"aa-bb={corpus}",), dev_share=0.1, store=str(folder / "s")),
        tokenizer=TokenizerConfig(vocab_size=150),
        model=MODEL,
        optimizer=OptimizerConfig(warmup_steps=2, schedule="constant"),
        train=TrainConfig(pairs=64, batch_size=16, buckets=(40,), dev_every=2),
    )
    train(config, folder / "run")
    return folder / "run", config


def test_a_run_starts_from_one_with_fewer_layers(bag, corpus, tmp_path, capsys):
    run, config = bag
    texts = [" ".join(line.split()[:3]) for line in corpus.read_text().splitlines()[:5]]
    # the number of heads and the width of the feed-forward layers mean nothing to a bag
    still = change(
        config,
        model__layers=2,
        model__heads=4,
        model__feedforward=40,
        optimizer__learning_rate=1e-30,
        train__init_from=str(run),
        train__pairs=16,
    )
    train(still, tmp_path / "run")
    vectors = [Encoder.load(path).encode(texts) for path in (run, tmp_path / "run")]
    np.testing.assert_allclose(*vectors, atol=1e-6)
    about = json.loads((tmp_path / "run" / "config.json").read_text())
    assert about["origin"] == {"path": str(run), "layers": 0, "new_layers": 2}
    printed = capsys.readouterr().out
    assert "new layers after 0: 2, start as nothing" in printed
    # one tokenizer and one text: what was prepared for the start serves
    assert about["store"] == json.loads((run / "config.json").read_text())["store"]
    assert "encoding" not in printed.split("using the store")[1]


def test_a_bag_without_positions_gets_some_that_start_as_nothing(bag, tmp_path):
    _, config = bag
    unordered = change(config, model__positions=False, train__pairs=16)
    train(unordered, tmp_path / "bag")
    grown = change(
        unordered,
        model__positions=True,
        model__layers=1,
        optimizer__learning_rate=1e-30,
        train__init_from=str(tmp_path / "bag"),
    )
    train(grown, tmp_path / "grown")
    texts = ["one two three", "three two one"]
    before, after = (Encoder.load(tmp_path / name).encode(texts) for name in ("bag", "grown"))
    np.testing.assert_allclose(after, before, atol=1e-6)
    fixed = change(grown, model__sinusoidal=True)
    with pytest.raises(UserError, match=r"model\.positions: False there, True here"):
        refuse_other_encoder(unordered.model, fixed.model, "x")


def test_what_is_new_learns_at_its_own_rate(bag):
    taken = taken_parameters(read_run(bag[0]))
    params = models.initialise(change(MODEL, layers=1), 150, jax.random.key(0))
    grads = jax.tree.map(lambda x: 0 * x + 1, params)
    settings = OptimizerConfig(name="sgd", beta1=0.0, l2=0.0, init_from_multiplier=0.25)
    rule = make_optimizer(settings, optax.constant_schedule(0.5), taken)
    steps = flatten(rule.update(grads, rule.init(params), params)[0])
    for name, step in steps.items():
        np.testing.assert_allclose(step, -0.5 if ".blocks." in name else -0.125, err_msg=name)
    assert {"encoder.words", "encoder.embedding_norm.scale"} <= taken


@pytest.mark.parametrize(
    ("there", "here", "message"),
    [
        ({"layers": 2}, {"layers": 1}, r"model.layers: 2 there, 1 here\n.*export --layers"),
        ({"layers": 1}, {"layers": 2, "feedforward": 32}, "model.feedforward: 24 there, 32 here"),
        ({"layers": 0}, {"layers": 2, "width": 32}, "model.width: 16 there, 32 here"),
    ],
)
def test_what_cannot_grow_is_named(there, here, message):
    with pytest.raises(UserError, match=message):
        refuse_other_encoder(change(MODEL, **there), change(MODEL, **here), "x")


def test_a_multiplier_without_a_start_is_refused(bag):
    with pytest.raises(UserError, match=r"init_from_multiplier=0\.5 is for .* name it as train"):
        validate(change(bag[1], optimizer__init_from_multiplier=0.5))


@pytest.fixture(scope="module")
def staged(bag):
    """The settings of two stages: a bag, and one layer on it."""
    _, config = bag
    first = StageConfig(
        name="table",
        objectives=config.objectives,
        optimizer=config.optimizer,
        train=change(config.train, checkpoint_every=2),
    )
    return change(config, model__layers=1, train__pairs=48, stages=(first,))


@pytest.fixture(scope="module")
def grown(staged, tmp_path_factory):
    """The run of `staged`, uninterrupted."""
    run = tmp_path_factory.mktemp("grown") / "run"
    train(staged, run)
    return run


def same_parameters(*runs):
    params = [flatten(read_run_params(read_run(run), "last")) for run in runs]
    assert params[0].keys() == params[1].keys()
    for name, values in params[0].items():
        np.testing.assert_array_equal(values, params[1][name], err_msg=name)


def test_stages_are_the_runs_one_by_one(bag, staged, grown, tmp_path):
    by_hand, config = tmp_path / "by-hand", change(staged, stages=())
    train(change(config, train__init_from=str(bag[0])), by_hand)
    same_parameters(bag[0], grown / "stages" / "table")
    same_parameters(by_hand, grown)
    assert Encoder.load(grown).bundle.config.layers == 1


@pytest.mark.parametrize("killed", ["first", "second"])
def test_stages_that_are_stopped_go_on_to_the_same_bits(
    staged, grown, tmp_path, monkeypatch, capsys, killed
):
    run, seen, due = tmp_path / "run", [], Plan.due

    def stop_once(plan, step, stop):
        layers = plan.config.model.layers
        if (layers, step) == (int(killed == "second"), 2):
            stop.set()
        seen.append((layers, step))
        return due(plan, step, stop)

    monkeypatch.setattr(Plan, "due", stop_once)
    assert train(staged, run) is None
    assert train(staged, run) is not None
    assert seen == [(0, 1), (0, 2), (0, 3), (0, 4), (1, 1), (1, 2), (1, 3)]
    same_parameters(run, grown)
    train(staged, run)  # nothing is left to do
    assert len(seen) == 7


def test_a_finished_stage_is_not_trained_again(staged, grown, tmp_path, capsys):
    run = tmp_path / "run"
    shutil.copytree(grown / "stages", run / "stages")
    train(staged, run)
    assert f"{run / 'stages' / 'table'} is finished" in capsys.readouterr().out
    same_parameters(run, grown)
    moved = tmp_path / "moved"
    run.rename(moved)
    train(staged, moved)
    with pytest.raises(
        UserError, match=r"stages/table .*\n +optimizer\.learning_rate: 0\.001 -> 0\.1"
    ):
        train(with_stage(staged, optimizer__learning_rate=0.1), moved)


def with_stage(config, **changes):
    return change(config, stages=(change(config.stages[0], **changes),))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"layers": 2}, "model.layers: 2 there, 1 here"),
        ({"name": "Table 1"}, r"stages\.0\.name='Table 1' should be a word"),
        ({"train__seed": 1}, r"stages\.0\.train\.seed=1: .* set train\.seed"),
        ({"train__batch_size": 1}, r"stage table: train\.batch_size=1 leaves no negatives"),
        ({"optimizer__init_from_multiplier": 0.5}, "stage table: optimizer.init_from_mult"),
    ],
)
def test_stages_that_cannot_work_are_refused_before_anything_is_made(
    staged, tmp_path, changes, message
):
    with pytest.raises(UserError, match=message):
        train(with_stage(staged, **changes), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def read_card(run, folder):
    """Lines of the model card of an export of an export."""
    write_bundle(load_bundle(run), folder)
    return model_card(load_bundle(folder)).splitlines()


def test_compare_report_and_card_show_all_stages(staged, grown, tmp_path):
    values = summary(read_folder(grown)).values
    assert values["training pairs"] == 64 + 48
    output = tmp_path / "report.html"
    report([grown], output, print)
    text = re.sub(r"<[^>]+>", " ", output.read_text())
    text = re.sub(r"\s+", " ", text)
    assert "Stages" in text
    assert re.search(r"table 0 16 0\.001 64 .* this run 1 16 0\.001 48 ", text)
    assert "started from" in text
    assert "of 0 layers, to which 1 were added" in text
    lines = read_card(grown, tmp_path)
    assert "- table: no layers, 64 pairs in batches of 16, learning rate 0.001" in lines
    assert "- then 1 layers, 48 pairs in batches of 16, learning rate 0.001" in lines
    repeated = command(read_run(grown).config, "x")
    assert "--stages.0.train.pairs 64" in repeated
    assert "init-from" not in repeated


def test_the_shipped_recipe_can_be_told_everything(capsys):
    with pytest.raises(SystemExit):
        cli.main(["train", "grow", "--help"])
    told = capsys.readouterr().out
    for flag in ("--stages.0.train.batch-size", "--stages.0.layers", "--train.batch-size"):
        assert flag in told
