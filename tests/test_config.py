"""Configs: every recipe builds, unknown and impossible settings are refused by name."""

import dataclasses
import functools
import json
import re

import jax
import pytest

from lightxling import config as configs
from lightxling.base.errors import UserError
from lightxling.config.files import from_dict, load, recipes, to_dict
from lightxling.config.objectives import ObjectivesConfig
from lightxling.config.rules import validate
from lightxling.config.schema import AdapterConfig, Config, TaskConfig
from lightxling.config.settings import change, settings_of
from lightxling.model import build as models
from lightxling.objectives.combine import TERMS, initialise_tasks


def shapes_of(config):
    """Parameters of a run of all tasks, whether or not the recipe names their text."""
    tasks = tuple(dataclasses.replace(task, sources=("en-fr=text",)) for task in config.tasks)
    config = dataclasses.replace(config, tasks=tasks)
    initialise = functools.partial(initialise_tasks, config, config.tokenizer.vocab_size)
    return jax.eval_shape(lambda: initialise(jax.random.key(0), languages=3, teacher_width=7))


@pytest.mark.parametrize("name", sorted(recipes()))
def test_every_recipe_builds_its_model_and_the_heads_of_its_tasks(name):
    config = load(name)
    validate(config)
    assert config.name == name
    params = shapes_of(config)
    terms = {task.name: task.objectives.active() for task in config.tasks}
    with_heads = {"tokens", "mlm", "quick_thought", "inference"}
    assert params.get("tasks", {}).keys() == {
        task for task, own in terms.items() if own.keys() & with_heads or "response" in task
    }
    assert models.count_parameters(params["encoder"]) > 0


def test_the_dual_encoder_has_a_head_for_each_of_its_five_tasks():
    heads = {name: set(own) for name, own in shapes_of(load("dual-encoder"))["tasks"].items()}
    assert heads == {
        "response-source": {"response"},
        "response-target": {"response"},
        "thought-source": {"quick_thought"},
        "thought-target": {"quick_thought"},
        "nli": {"inference"},
    }


def test_the_paper_recipe_keeps_the_paper_s_settings():
    config = load("acl2021")
    assert (config.optimizer.learning_rate, config.optimizer.l2) == (1e-3, 1e-5)
    weights = {name: term.weight for name, term in config.objectives.active().items()}
    assert weights == {"tokens": 1.0, "align": 2.0, "similarity": 2.0}


def test_every_objective_has_settings_and_a_term():
    """ESE has none of its own: it gives the others to lower layers and fewer dimensions."""
    assert {field.name for field in dataclasses.fields(ObjectivesConfig)} == {*TERMS, "ese"}


def test_objectives_say_what_they_read_and_who_teaches_them():
    hard = configs.SoftConfig(weight=1.0, labels="hard")
    soft = configs.SoftConfig(weight=1.0, labels="average")
    regression = configs.RegressionConfig(weight=1.0)
    assert configs.only(soft=hard, regression=regression).taught == ["regression"]
    assert configs.only(soft=soft, regression=regression).taught == ["soft", "regression"]
    mlm, sts = configs.MlmConfig(weight=1.0), configs.StsConfig(weight=1.0)
    assert configs.rows_of(configs.only(mlm=mlm)) == "sentences"
    assert configs.rows_of(configs.only(mlm=mlm, sts=sts)) == "scores"
    with pytest.raises(UserError, match=r"sts and objectives\.soft read different data"):
        configs.rows_of(configs.only(soft=soft, sts=sts))


def test_a_config_survives_json():
    config = load("light")
    assert from_dict(Config, json.loads(json.dumps(to_dict(config)))) == config


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"train": {"batchsize": 3}}, "unknown setting train.batchsize; perhaps .*batch_size"),
        ({"train": {"batch_size": "3"}}, "train.batch_size='3' should be of type int"),
        ({"train": {"batch_size": True}}, "train.batch_size=True should be of type int"),
        ({"model": {"pooling": "median"}}, "model.pooling='median' should be one of"),
        ({"model": 3}, "model should be a table"),
        ({"train": {"buckets": 3}}, "train.buckets=3 should be a list"),
    ],
)
def test_bad_values_in_a_file_are_named(values, message):
    with pytest.raises(UserError, match=message):
        from_dict(Config, values)


@pytest.mark.parametrize(
    ("part", "changes", "message"),
    [
        ("model", {"width": 500, "heads": 8}, "model.width=500 .* model.heads=8; try 496 or 504"),
        ("model", {"embedding_width": 600}, "model.embedding_width=600 is larger"),
        ("model", {"layers": -1}, "model.layers=-1"),
        ("model", {"dropout": 1.0}, "model.dropout=1.0"),
        ("train", {"batch_size": 1}, "no negatives"),
        ("train", {"batch_size": 0}, "train.batch_size=0"),
        ("train", {"epochs": 0.0}, "train.epochs=0.0"),
        ("train", {"epochs": float("inf")}, "train.epochs=inf"),
        ("train", {"seed": -1}, "train.seed=-1"),
        ("train", {"pairs": 20}, "train.pairs=20 do not fill one batch of train.batch_size=128"),
        ("mesh", {"model": 0}, "mesh.model=0"),
        ("model", {"embedding_width": -5}, "model.embedding_width=-5"),
        ("model", {"dropout": 0.999}, "model.dropout=0.999 leaves nothing"),
        ("model", {"max_length": 513}, "model.max_length=513 is more than the 512 tokens"),
        ("model", {"positions": False, "sinusoidal": True}, "model.sinusoidal=True needs"),
        ("tokenizer", {"model": "words", "vocab_size": 3}, "vocab_size=3 .* leaves no word"),
        ("optimizer", {"clip": -1.0}, "optimizer.clip=-1.0"),
        ("optimizer", {"weight_decay": -0.1}, "optimizer.weight_decay=-0.1"),
        ("objectives", {"tokens": configs.TokensConfig(weight=-1.0)}, "objectives.tokens.weight"),
        ("objectives", {"tokens": configs.TokensConfig(vocab_block=-1)}, "tokens.vocab_block=-1"),
        ("objectives", {"soft": configs.SoftConfig(loss="mse", cross=2.0)}, "does not know cross"),
        ("objectives", {"ranking": configs.RankingConfig(shared_negatives=True)}, "is for hard"),
        ("train", {"buckets": ()}, "train.buckets"),
        ("train", {"sampling_temperature": 0.0}, "train.sampling_temperature=0.0"),
        ("tokenizer", {"character_coverage": 0.9}, "character_coverage=0.9 should be from 0.98"),
        ("optimizer", {"learning_rate": float("nan")}, "optimizer.learning_rate=nan"),
        (
            "objectives",
            {"mlm": configs.MlmConfig(share=1.0)},
            "mlm.share=1.0 should be between 0 and 1",
        ),
    ],
)
def test_impossible_settings_are_named(part, changes, message):
    config = dataclasses.replace(
        Config(), **{part: dataclasses.replace(getattr(Config(), part), **changes)}
    )
    with pytest.raises(UserError, match=message):
        validate(config)


def numbers() -> list[str]:
    """Names of all settings that are numbers, of tasks and adapters too."""
    whole = change(Config(), tasks=(TaskConfig(),), model__adapters=(AdapterConfig("a"),))
    return [one.name for one in settings_of(whole) if one.kind in (int, float)]


def with_value(name: str, value: float) -> Config:
    """The default configuration, with a task and an adapter, and one number in it."""
    whole = change(Config(), tasks=(TaskConfig("nli"),), model__adapters=(AdapterConfig("a"),))
    values = to_dict(whole)
    *places, last = name.split(".")
    table = values
    for place in places:
        table = table[int(place) if place.isdigit() else place]
    table[last] = value
    return from_dict(Config, values)


FREE = {  # any number has a meaning, or the range depends on other settings
    "corpus.max_chars",
    "corpus.max_ratio",
    "tokenizer.character_coverage",
    "objectives.align.margin",
    "objectives.soft.cross",
    "objectives.soft.margin",
    "objectives.ranking.margin",
    "optimizer.decay_epoch",
    "train.micro_batch",
}


@pytest.mark.parametrize(
    "name", [name for name in numbers() if name.removeprefix("tasks.0.") not in FREE]
)
def test_no_number_is_below_zero(name):
    config = with_value(name, -1)
    with pytest.raises(UserError, match=rf"^{re.escape(name)}=-1(\.0)? should be "):
        validate(config)


def test_settings_are_changed_by_name():
    light = load("light")
    changed = change(light, train__pairs=3, train__seed=4, model__layers=1, name="mine")
    assert (changed.train.pairs, changed.train.seed, changed.model.layers) == (3, 4, 1)
    assert changed.name == "mine"
    back = change(
        changed, model=light.model, train__pairs=light.train.pairs, train__seed=0, name="light"
    )
    assert back == light
    assert change(light.model, width=8).width == 8
    assert change(light, objectives__align__weight=3.0).objectives.align.weight == 3.0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train__pair": 3}, "unknown setting train.pair; perhaps you meant train.pairs"),
        ({"trian__pairs": 3}, "unknown setting trian.pairs; perhaps you meant train"),
        ({"pairs": 3}, "unknown setting pairs"),
        ({"train__pairs__x": 3}, "unknown setting train.pairs.x"),
    ],
)
def test_only_settings_that_exist_are_changed(changes, message):
    with pytest.raises(UserError, match=message):
        change(load("light"), **changes)


def test_a_run_must_learn_something():
    terms = {
        name: dataclasses.replace(getattr(Config().objectives, name), weight=0.0)
        for name in ("tokens", "align", "similarity")
    }
    with pytest.raises(UserError, match="nothing would be learnt"):
        validate(dataclasses.replace(Config(), objectives=configs.ObjectivesConfig(**terms)))


def test_recipes_that_cannot_be_loaded(tmp_path):
    with pytest.raises(UserError, match="perhaps you meant light"):
        load("lihgt")
    with pytest.raises(UserError, match="no config file"):
        load(str(tmp_path / "missing.py"))
    (tmp_path / "empty.py").write_text("")
    with pytest.raises(UserError, match="must hold"):
        load(str(tmp_path / "empty.py"))
    (tmp_path / "broken.py").write_text("1 / 0")
    with pytest.raises(UserError, match="ZeroDivisionError"):
        load(str(tmp_path / "broken.py"))
