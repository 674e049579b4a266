"""Identities: those of lightxling 0.1 stay what they are, whatever settings are added."""

import dataclasses
import os
from pathlib import Path

import numpy as np
import pytest

from lightxling.base.errors import UserError
from lightxling.config import identity as identities
from lightxling.config.files import differences, fingerprint, from_dict, to_dict
from lightxling.config.identity import identity_of
from lightxling.config.objectives import InferenceConfig, ObjectivesConfig, only
from lightxling.config.plan import tasks_of
from lightxling.config.schema import (
    AdapterConfig,
    Config,
    CorpusConfig,
    MeshConfig,
    ModelConfig,
    TaskConfig,
    TokenizerConfig,
    TrainConfig,
)
from lightxling.config.settings import change
from lightxling.corpus import prepare
from lightxling.evaluate import run
from lightxling.evaluate.tasks import TASKS, ScoringSettings
from lightxling.evaluate.tasks.units import Unit
from lightxling.saved.adapters import base_checksum
from lightxling.saved.bundle import Bundle
from lightxling.train import modular

MODEL = ModelConfig(layers=1, width=4, heads=2, feedforward=6, max_length=8, dropout=0.2)
ADAPTERS = (
    AdapterConfig(name="near", reduction=2),
    AdapterConfig(name="low", kind="lora", rank=2, targets=("q", "down")),
)
TASK = TaskConfig(
    name="nli",
    sources=("aa-aa=made.aa-bb.tsv",),
    objectives=only(inference=InferenceConfig(weight=1.0)),
)
CONFIG = Config(
    name="x",
    corpus=CorpusConfig(sources=("aa-bb=made.aa-bb.tsv",)),
    model=dataclasses.replace(MODEL, adapters=ADAPTERS),
    tasks=(TASK,),
    train=TrainConfig(trainable=("encoder.words",)),
)


def bundle(model: ModelConfig) -> Bundle:
    params = {
        "words": np.arange(12, dtype=np.float32).reshape(3, 4),
        "blocks.0.up.kernel": np.ones((4, 6), np.float16),
    }
    if model.adapters:
        params["adapters.near.blocks.0.down.bias"] = np.zeros(2, np.float32)
    return Bundle(model, params, b"pieces")


@pytest.fixture
def corpus(tmp_path, monkeypatch):
    """A folder with the files that `CONFIG` names, of known times."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "made.aa-bb.tsv").write_text("a\tb\n")
    (tmp_path / "x.model").write_bytes(b"pieces")
    os.utime("made.aa-bb.tsv", ns=(10**18, 10**18))
    # whatever a tokenizer's file holds is used as it is: here that is no model
    as_it_is = lambda config: (Path(config.file).read_bytes(), "")  # noqa: E731
    monkeypatch.setattr(prepare, "existing_tokenizer", as_it_is)


def store(config: Config) -> str:
    others = [] if config.tokenizer.file else list(tasks_of(config).values())[1:]
    sources = prepare._parsed(["aa-bb=made.aa-bb.tsv"], "pairs")
    return prepare._fingerprint(config, sources, others)


def as_in_version_1(config: Config) -> Config:
    """With the first defaults of what has another one now, as a file of then is read."""
    return change(config, corpus__length_unit="characters")


def stage(config: Config) -> str:
    return fingerprint(modular._mathematics(config))


def unit_key(task: str, settings: ScoringSettings, **more) -> str:
    unit = Unit("d", "aa-bb", ("aa", "bb"), lambda: ["made.aa-bb.tsv"], lambda encode: {})
    fields = dataclasses.fields(TASKS[task].settings)
    used = {field.name: getattr(settings, field.name) for field in fields}
    return run.unit_key("f00d", task, unit, used | more, run.data_of(unit))


# Identities of 0.1, computed with its code


def test_encoders_have_the_checksums_of_version_1():
    assert bundle(MODEL).fingerprint() == (
        "9b096560acbd919b3d8294de9fbdb480dd0dfafcb66fd27221072d18ac42e495"
    )
    assert bundle(CONFIG.model).fingerprint() == (
        "8c66e3d8f5f311e893e9293d61318ba25702eafe0db5ee56e11d1d4f95c8bef8"
    )


def test_adapters_belong_to_the_encoders_of_version_1():
    expected = "db4b4f1c16b6f1c6e980b19c69999be25151b794638ce78178c565143a308cce"
    assert base_checksum(bundle(MODEL)) == expected
    assert base_checksum(bundle(CONFIG.model)) == expected


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (Config(), "cb751f6cbce8e54335056bf721f707c314934f9ae13a8aaf30aa3e1eb128b020"),
        (CONFIG, "1066ef0ba883af0e9403f43b0361068be845b3cfa5df84e7ec8930e72c4ac6e8"),
        (
            Config(tokenizer=TokenizerConfig(model="words", vocab_size=100)),
            "a3de2c8f8eaa1dd17c0ccf6327460d0f5a966bd580661a1da739f6c524371f7c",
        ),
        (
            Config(tokenizer=TokenizerConfig(file="x.model")),
            "ffe8247e19fe8f0f48dd4b9a9f63d94d70fdc04d6efe1415f9b73ce9992f95fe",
        ),
    ],
    ids=["pieces", "tasks", "words", "file"],
)
def test_stores_have_the_names_of_version_1(corpus, config, expected):
    assert store(as_in_version_1(config)) == expected


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (Config(), "3eb3da8eddf1ba57cbadda44a8294bd7c6a85148b1e3e6adc465897b45a76807"),
        (CONFIG, "ccc10f60b46c51a994e85825b7d6e195092fdfddf03401b4bf1a871b06ce8049"),
    ],
)
def test_stages_of_modules_have_the_keys_of_version_1(config, expected):
    assert stage(as_in_version_1(config)) == expected


@pytest.mark.parametrize(
    ("task", "expected"),
    [
        ("retrieval", "95830141b2ae4b9f3038ce00825b927c842547bb1803de2a5402582ad2c0700f"),
        ("ranking", "65a5f38c5e9acd496591a836f63d1a5971ee79289d91db397aadf129eec85bd5"),
        ("tatoeba", "95830141b2ae4b9f3038ce00825b927c842547bb1803de2a5402582ad2c0700f"),
        ("europarl", "e4ea3979b9eb0ee5f5aaf2d3570f4b7294bb680723c82f38cefe2801b9a04295"),
        ("bucc", "537f0dbcae55d2a4bf2cda811ffcd445a13fd9f6b066cc7e1cafb458677642a8"),
        ("classification", "7e8be878f85d2e3239eb3a96d4d5c87fdcc802304a339dadd1acccd59b08ca08"),
        ("mldoc", "7e8be878f85d2e3239eb3a96d4d5c87fdcc802304a339dadd1acccd59b08ca08"),
        ("nli", "fcd510790c843cb46d0691077d5ff9f8fe708713f41fa1c86190ed48a06ce036"),
        ("sts", "a735db1c73f1570e27c8448be3676f9dab54a5c6f40a9e66f10b6dd1077b34d5"),
    ],
)
def test_kept_scores_have_the_keys_of_version_1(corpus, monkeypatch, task, expected):
    monkeypatch.setattr(run, "__version__", "0.1.0")
    as_then = dataclasses.replace(run.TASKS[task], definition=1)
    now = unit_key(task, ScoringSettings())
    # what scores mean has changed since: those kept from before are computed again
    assert (now != expected) == (task in ("retrieval", "tatoeba", "bucc"))
    monkeypatch.setitem(run.TASKS, task, as_then)
    assert unit_key(task, ScoringSettings()) == expected


def test_files_of_scores_are_named_after_what_differs_from_the_first_defaults():
    used = {"scoring": "csls", "queries": 10, "candidates": 200_000, "lowercase": True}
    assert run.results_name("europarl", "d", used) == "europarl.d.scoring=csls.queries=10.json"
    assert run.results_name("tatoeba", "d", {"scoring": "cosine"}) == "tatoeba.d.json"


# A setting is added


def grown(settings, extra: int, default: int = 3):
    """The settings with one more, `extra`."""
    bigger = with_extra(type(settings), default)
    own = {field.name: getattr(settings, field.name) for field in dataclasses.fields(settings)}
    return bigger(**own, extra=extra)


def with_extra(kind: type, default: int = 3) -> type:
    field = ("extra", int, dataclasses.field(default=default))
    return dataclasses.make_dataclass(kind.__name__, [field], bases=(kind,), frozen=True)


@pytest.fixture
def since(monkeypatch):
    """Writes down that the setting `extra` of a class came with the default 3."""

    def say(table: str) -> None:
        monkeypatch.setitem(identities.SINCE, table, {"extra": 3})

    return say


def test_a_new_setting_of_the_model_changes_no_checksum_at_its_default():
    same, other = (bundle(grown(MODEL, extra)) for extra in (3, 4))
    assert same.fingerprint() == bundle(MODEL).fingerprint() != other.fingerprint()
    assert base_checksum(same) == base_checksum(bundle(MODEL)) != base_checksum(other)


def test_a_default_that_is_changed_later_changes_no_checksum(since):
    since("ModelConfig")
    same, other = (bundle(grown(MODEL, extra, default=4)) for extra in (3, 4))
    assert same.fingerprint() == bundle(MODEL).fingerprint() != other.fingerprint()
    assert base_checksum(same) == base_checksum(bundle(MODEL)) != base_checksum(other)


def test_where_a_setting_of_a_class_stands_does_not_matter():
    one, other = (
        dataclasses.make_dataclass("MeshConfig", [(name, int, 0) for name in names])
        for names in (("data", "a", "b"), ("b", "a", "data"))
    )
    assert list(identity_of(one(1, 2, 3)).items()) == list(identity_of(other(3, 2, 1)).items())


def test_a_new_setting_of_adapters_changes_no_checksum_at_its_default():
    same, other = (
        dataclasses.replace(MODEL, adapters=(grown(ADAPTERS[0], extra), ADAPTERS[1]))
        for extra in (3, 4)
    )
    checksum = bundle(CONFIG.model).fingerprint()
    assert bundle(same).fingerprint() == checksum != bundle(other).fingerprint()


@pytest.mark.parametrize("part", ["corpus", "tokenizer"])
def test_a_new_setting_makes_no_new_store_at_its_default(corpus, part):
    same, other = (
        dataclasses.replace(CONFIG, **{part: grown(getattr(CONFIG, part), extra)})
        for extra in (3, 4)
    )
    assert store(same) == store(CONFIG) != store(other)


@pytest.mark.parametrize("part", ["train", "model", "objectives", "teacher"])
def test_a_new_setting_makes_no_new_stage_at_its_default(part):
    same, other = (
        dataclasses.replace(CONFIG, **{part: grown(getattr(CONFIG, part), extra)})
        for extra in (3, 4)
    )
    assert stage(same) == stage(CONFIG) != stage(other)


def test_a_new_objective_counts_where_it_differs_from_its_defaults():
    hinge = dataclasses.make_dataclass(
        "HingeConfig", [("weight", float, 0.0), ("margin", float, 0.2)], frozen=True
    )
    objectives = dataclasses.make_dataclass(
        "ObjectivesConfig", [("hinge", hinge, hinge())], bases=(ObjectivesConfig,), frozen=True
    )
    before = identity_of(ObjectivesConfig())
    assert identity_of(objectives()) == before
    assert identity_of(objectives(hinge=hinge(1.0))) == before | {"hinge": {"weight": 1.0}}
    same, other = (
        dataclasses.replace(CONFIG, objectives=objectives(hinge=hinge(w))) for w in (0, 1)
    )
    assert stage(same) == stage(CONFIG) != stage(other)


def test_a_new_setting_of_a_task_voids_no_kept_score_at_its_default(corpus, monkeypatch):
    before = unit_key("sts", ScoringSettings())
    task = TASKS["sts"]
    monkeypatch.setitem(TASKS, "sts", dataclasses.replace(task, settings=with_extra(task.settings)))
    same, other = (grown(ScoringSettings(), extra) for extra in (3, 4))
    assert unit_key("sts", same) == before != unit_key("sts", other)
    used = {"similarity": "cosine", "extra": 3}
    assert run.results_name("sts", "d", used) == "sts.d.json"
    assert run.results_name("sts", "d", used | {"extra": 4}) == "sts.d.extra=4.json"


def test_files_without_a_setting_mean_its_first_default(since):
    assert from_dict(with_extra(TrainConfig), to_dict(TrainConfig())).extra == 3
    since("TrainConfig")
    now = grown(TrainConfig(), 4, default=4)
    assert from_dict(type(now), to_dict(TrainConfig())).extra == 3
    assert from_dict(type(now), to_dict(now)).extra == 4


def test_a_run_from_before_a_setting_resumes_with_its_first_default_alone(since):
    """The settings of an old config.json, against those of the same command now."""
    since("TrainConfig")
    written = to_dict(Config())
    now = dataclasses.make_dataclass(
        "Config", [("train", with_extra(TrainConfig, 4))], bases=(Config,), frozen=True
    )
    old = from_dict(now, written)
    same, other = (now(train=grown(TrainConfig(), extra, 4)) for extra in (3, 4))
    assert differences(old, same) == {}
    assert differences(old, other) == {"train.extra": (3, 4)}


def test_a_setting_that_was_taken_away_counts_with_its_first_default(monkeypatch):
    monkeypatch.setitem(identities.VERSION_1, "MeshConfig", {"data": 0, "model": 1, "gone": (1,)})
    assert identity_of(MeshConfig()) == {"data": 0, "model": 1, "gone": [1]}
    assert from_dict(MeshConfig, {"gone": [1], "model": 2}) == MeshConfig(model=2)
    with pytest.raises(UserError, match=r"unknown setting mesh\.gone"):
        from_dict(MeshConfig, {"gone": [2]}, "mesh.")


def test_a_later_setting_that_was_taken_away_counts_no_more(since):
    since("MeshConfig")
    assert identity_of(MeshConfig()) == {"data": 0, "model": 1}
    assert from_dict(MeshConfig, {"extra": 3}) == MeshConfig()
    with pytest.raises(UserError, match=r"unknown setting mesh\.extra"):
        from_dict(MeshConfig, {"extra": 4}, "mesh.")
