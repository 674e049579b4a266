"""Several tasks in one run: shares, resuming after kill -9, heads, devices, labels in the store."""

import dataclasses
import json
import math
import re
import subprocess

import jax
import numpy as np
import pytest
from test_train import command, environment, files, records, wait_for

from lightxling import cli
from lightxling.base.errors import UserError
from lightxling.base.tree import nest
from lightxling.config.files import differences, from_dict, to_dict
from lightxling.config.objectives import (
    InferenceConfig,
    MlmConfig,
    QuickThoughtConfig,
    RankingConfig,
    StsConfig,
    only,
)
from lightxling.config.plan import tasks_of
from lightxling.config.rules import validate
from lightxling.config.schema import Config, MeshConfig, TaskConfig
from lightxling.config.settings import change
from lightxling.corpus.batch import Batch
from lightxling.corpus.prepare import prepare, prepare_tasks
from lightxling.corpus.sources import NLI_LABELS
from lightxling.corpus.store import Store
from lightxling.corpus.tokenizer import load_tokenizer
from lightxling.encode.encoder import Encoder
from lightxling.model import build as models
from lightxling.model import parts
from lightxling.objectives import combine
from lightxling.saved import checkpoint
from lightxling.saved.bundle import read_run, read_run_params
from lightxling.train.freeze import check_trainable
from lightxling.train.loop import train
from lightxling.train.micro_batch import value_and_grad
from lightxling.train.optimizer import learning_rate, make_optimizer
from lightxling.train.sharding import make_mesh, put_batch, shardings
from lightxling.train.state import initial_state
from lightxling.train.step import make_train_step
from lightxling.train.tasks import make_batches, open_stores

INFERENCE = only(inference=InferenceConfig(weight=1.0, hidden=6))
THOUGHT = only(quick_thought=QuickThoughtConfig(weight=1.0, hidden=5))
STS = only(sts=StsConfig(weight=1.0))


def write_inference(path, rows=60):
    """Sentences whose words repeat the label, so that it can be learnt and recognised."""
    lines = []
    for i in range(rows):
        label = NLI_LABELS[i % 3]
        words = [chr(97 + (i * 7 + k) % 26) * 3 for k in range(3)]
        lines.append(f"{label}\t{' '.join(words)} {label}\t{' '.join(words[::-1])} {label}\n")
    path.write_text("".join(lines))
    return path


@pytest.fixture(scope="module")
def texts(tmp_path_factory):
    folder = tmp_path_factory.mktemp("texts")
    write_inference(folder / "nli.tsv")
    documents = []
    for d in range(12):
        documents.append(" ".join(f"Word{d} says number{s} again." for s in range(6)))
    (folder / "running.txt").write_text("\n\n".join(documents) + "\n")
    scores = [f"{i % 6}\tone two {'abcdef'[i % 6] * 3} {i}\tone three {i}\n" for i in range(40)]
    (folder / "sts.tsv").write_text("".join(scores))
    return folder


@pytest.fixture
def several(tiny, texts):
    """`tiny` with two further tasks, 2 : 1 : 1."""
    return dataclasses.replace(
        tiny,
        objectives=only(ranking=RankingConfig(weight=1.0)),
        train=dataclasses.replace(tiny.train, share=2.0, pairs=16 * 6, buckets=(24, 32)),
        tasks=(
            TaskConfig("nli", 1.0, (f"en-en={texts / 'nli.tsv'}",), 8, INFERENCE),
            TaskConfig("thought", 1.0, (f"en={texts / 'running.txt'}",), 8, THOUGHT),
        ),
    )


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    return tmp_path_factory.mktemp("several") / "run"


def run_straight(several, straight):
    if not straight.exists():
        subprocess.run(command(several, straight), env=environment(), check=True)
    return straight


def test_a_killed_run_resumes_to_the_same_bits(several, straight, tmp_path):
    whole = files(run_straight(several, straight))
    run = tmp_path / "run"
    process = subprocess.Popen(command(several, run), env=environment(), stdout=subprocess.DEVNULL)
    wait_for(lambda: checkpoint.steps(run / "checkpoints"), process, seconds=400)
    process.kill()
    process.wait()
    assert checkpoint.steps(run / "checkpoints") == [6]
    subprocess.run(command(several, run), env=environment(), check=True)
    resumed = files(run)
    assert resumed.keys() == whole.keys()
    for name in whole:
        np.testing.assert_array_equal(resumed[name], whole[name], err_msg=name)
    kept = ("loss", "nli/loss", "thought/loss", "nli/steps", "thought/pairs", "pairs")
    ours, theirs = (
        [{k: record[k] for k in kept if k in record} for record in records(path)]
        for path in (run, straight)
    )
    assert ours == theirs


def test_every_task_is_logged_with_its_share(several, straight):
    """2 : 1 : 1 of 12 steps, six of the main task with 16 pairs, three each with 8 rows."""
    last = records(run_straight(several, straight))[-1]
    assert last["step"] == 12
    steps = {name: last[f"{name}/steps"] for name in ("main", "nli", "thought")}
    assert steps == {"main": 6, "nli": 3, "thought": 3}
    assert last["nli/pairs"] == 24
    assert last["pairs"] == 6 * 16 + 2 * 3 * 8
    names = {name for record in records(straight) for name in record}
    assert {"loss", "ranking", "nli/inference", "thought/quick_thought", "dev_p@1"} <= names
    assert not {"inference", "quick_thought", "nli/ranking"} & names


def test_the_inference_head_of_a_run_is_scored_as_it_is(several, straight, texts, tmp_path, capsys):
    from lightxling import cli
    from lightxling.corpus.sources import NLI_LABELS
    from lightxling.encode.encoder import Encoder

    run = run_straight(several, straight)
    path = tmp_path / "mine.test.aa.tsv"
    path.write_text((texts / "nli.tsv").read_text())
    where = ["--data", str(path), "--output", str(tmp_path / "out"), "--checkpoint", "last"]
    cli.main(["evaluate", str(run), "--task", "nli", "--head", "trained", *where])
    (file,) = (tmp_path / "out").iterdir()
    found = json.loads(file.read_text())["results"]["aa"]["scores"]["accuracy"]

    head = read_run_params(read_run(run), "last")["tasks"]["nli"]["inference"]
    encoder = Encoder.load(run, checkpoint="last")
    right = []
    for line in path.read_text().splitlines():
        label, *pair = line.split("\t")
        u, v = (vector.astype(float) for vector in encoder.encode(pair, normalize=False))
        features = [*u, *v, *abs(u - v), *(u * v)]
        kernel, bias = (np.asarray(head["hidden"][n], float) for n in ("kernel", "bias"))
        hidden = [
            math.tanh(bias[h] + sum(f * kernel[i, h] for i, f in enumerate(features)))
            for h in range(len(bias))
        ]
        kernel, bias = (np.asarray(head["out"][n], float) for n in ("kernel", "bias"))
        logits = [bias[c] + sum(x * kernel[i, c] for i, x in enumerate(hidden)) for c in range(3)]
        right.append(NLI_LABELS[int(np.argmax(logits))] == label)
    assert found == pytest.approx(100 * sum(right) / len(right))
    assert cli.main(["evaluate", str(run), "--task", "classification", "--head", "trained", *where])
    assert "--head trained is for nli alone" in capsys.readouterr().err


def test_a_run_of_several_tasks_is_an_encoder_like_any(several, straight):
    run = run_straight(several, straight)
    encoder = Encoder.load(run)
    assert encoder.languages == ("aa", "bb", "en")
    assert np.isfinite(encoder.encode(["word says"])).all()
    params = read_run_params(read_run(run), "last")
    assert sorted(params["tasks"]) == ["nli", "thought"]
    np.testing.assert_array_equal(
        params["tasks"]["nli"]["inference"]["out"]["bias"],
        files(run)["['params']['tasks']['nli']['inference']['out']['bias']"],
    )


# One step


VOCAB = 40


def stepped(config, name, devices):
    """State before and after a step of a task, on so many devices."""
    mesh = make_mesh(MeshConfig(), batch_size=8, devices=jax.devices()[:devices])
    task = tasks_of(config)[name]
    optimizer = make_optimizer(
        config.optimizer, learning_rate(config.optimizer, steps=9, steps_per_epoch=9)
    )

    def initialise():
        return initial_state(config, VOCAB, optimizer, languages=3)

    state = jax.jit(initialise, out_shardings=shardings(mesh, jax.eval_shape(initialise)))()
    before = jax.device_get(state)
    graphdef = models.structure(config.model, VOCAB, models_heads(task))
    gradient = value_and_grad(task.objectives, graphdef, 0)
    rng = np.random.default_rng(0)
    sides = 3 if name == "thought" else 2
    batch = Batch(
        rng.integers(3, VOCAB, (8, sides, 6)).astype(np.int32),
        np.zeros(8, np.int32),
        labels=(np.arange(8) % 3).astype(np.float32) if name == "nli" else None,
    )
    step = make_train_step(gradient, optimizer, 0, name, config.train.trainable)
    state, metrics = step(state, put_batch(batch, mesh, 8))
    return before, jax.device_get(state), jax.device_get(metrics)


def models_heads(task):
    from lightxling.objectives.combine import heads_of

    return heads_of(task.objectives, 3)


def paths(tree):
    return {jax.tree_util.keystr(k): v for k, v in jax.tree_util.tree_leaves_with_path(tree)}


def quick(several, **optimizer):
    model = dataclasses.replace(several.model, dropout=0.0, init="scaled")
    optimizer = {"name": "adamw", "weight_decay": 0.1, "l2": 0.01, "warmup_steps": 0, **optimizer}
    return dataclasses.replace(
        several, model=model, optimizer=dataclasses.replace(several.optimizer, **optimizer)
    )


def test_a_step_moves_the_encoder_and_its_own_heads_only(several):
    """With decay and L2, which would move every other head too, and its moments."""
    before, after, _ = stepped(quick(several), "nli", 8)
    moved = {
        name
        for name, value in paths(after.params).items()
        if (value != paths(before.params)[name]).any()
    }
    assert "['tasks']['nli']['inference']['hidden']['kernel']" in moved
    assert any(name.startswith("['encoder']") for name in moved)
    assert not any("thought" in name for name in moved)
    moments = {name: value for name, value in paths(after.opt_state).items() if "thought" in name}
    assert moments
    assert not any(value.any() for value in moments.values())


def test_a_step_moves_what_its_task_trains(several):
    """Frozen parameters of the encoder and of a head, with decay and L2."""
    patterns = ("encoder.blocks", "tasks.nli.inference.out", "tasks.thought")
    config = change(quick(several), train__trainable=patterns)
    before, after, _ = stepped(config, "nli", 8)
    old, new = paths(before.params), paths(after.params)
    moved = {name for name, value in new.items() if (value != old[name]).any()}
    learns = ("['encoder']['blocks']", "['tasks']['nli']['inference']['out']")
    assert moved == {name for name in new if name.startswith(learns)}
    trained = [leaf for n, leaf in new.items() if n.startswith((*learns, "['tasks']['thought']"))]
    moments = [leaf for leaf in jax.tree.leaves(after.opt_state) if leaf.ndim]
    assert sum(m.size for m in moments) == 2 * sum(leaf.size for leaf in trained)


def test_a_task_without_anything_to_learn_is_named(several):
    for pattern, task in (("tasks.nli", "main"), ("tasks.*.inference", "main")):
        with pytest.raises(UserError, match=f"leaves the task {task} nothing to learn"):
            check_trainable(change(several, train__trainable=(pattern,)))
    with pytest.raises(UserError, match=r"no parameter is called 'inference'; near it"):
        check_trainable(change(several, train__trainable=("encoder", "inference")))
    check_trainable(change(several, train__trainable=("encoder.words", "tasks.nli.inference")))


@pytest.mark.parametrize("name", ["nli", "thought"])
def test_one_device_equals_eight(several, name):
    config = quick(several, name="sgd")
    _, alone, metrics = stepped(config, name, 1)
    _, many, split_metrics = stepped(config, name, 8)
    for key in metrics:
        np.testing.assert_allclose(split_metrics[key], metrics[key], rtol=2e-5, err_msg=key)
    for key, value in paths(alone.params).items():
        np.testing.assert_allclose(paths(many.params)[key], value, atol=1e-6, err_msg=key)


def test_parts_come_back_whole():
    params = {"encoder": {"w": 1}, "token_head": {"b": 2}, "tasks": {"x": {"head": {"k": 3}}}}
    tree = ((params,), 5, params)
    assert parts.own(params, "main") == {"encoder": {"w": 1}, "token_head": {"b": 2}}
    assert parts.own(tree, "x") == (
        ({"encoder": {"w": 1}, "head": {"k": 3}},),
        5,
        {"encoder": {"w": 1}, "head": {"k": 3}},
    )
    assert parts.own(params, "headless") == {"encoder": {"w": 1}}
    for name in ("main", "x", "headless"):
        assert parts.put(tree, parts.own(tree, name), name) == tree
    changed = parts.put(params, {"encoder": {"w": 7}, "head": {"k": 8}}, "x")
    assert changed["tasks"] == {"x": {"head": {"k": 8}}}
    assert changed["token_head"] == {"b": 2}
    assert changed["encoder"] == {"w": 7}
    assert nest(parts.heads(params)) == params


def test_the_main_task_starts_as_it_does_alone(several):
    alone = dataclasses.replace(several, tasks=())
    init = [
        jax.jit(lambda c=c: combine.initialise_tasks(c, VOCAB, jax.random.key(0), 3))()
        for c in (several, alone)
    ]
    for name, value in paths(init[1]).items():
        np.testing.assert_array_equal(paths(init[0])[name], value)
    assert set(init[0]) - set(init[1]) == {"tasks"}


# Stores


def test_labels_survive_the_store(several, texts):
    """Every label is the last word of its sentences too; the tokenizer is the main task's."""
    stores = open_stores(several, lambda line: None)
    config, store = stores["nli"]
    split, tokenizer = store.train, load_tokenizer(store.tokenizer_path)
    assert tokenizer.sha256 == load_tokenizer(stores["main"][1].tokenizer_path).sha256
    assert split.rows == 60
    words = [
        tokenizer.decode(split.tokens[split.offsets[2 * row] : split.offsets[2 * row + 1]])
        for row in range(split.rows)
    ]
    assert [NLI_LABELS[int(label)] for label in split.label] == [w.split()[-1] for w in words]
    batches = make_batches(config, store, tokenizer.maskable())
    batch = batches[3]
    assert (batch.teacher, batch.pivot) == (None, None)
    for row, label in zip(batch.tokens, batch.labels, strict=True):
        assert tokenizer.decode(row[1][row[1] > 0]).split()[-1] == NLI_LABELS[int(label)]


def test_a_changed_label_is_damage(several, tmp_path):
    moved = change(several, corpus__store=str(tmp_path))
    store = Store.open(prepare_tasks(moved)["nli"][1])
    path = store.path / "train" / "label.npy"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(UserError, match=re.escape(str(path))):
        Store.open(store.path)


def test_running_text_becomes_three_sentences_in_a_row(several):
    _, store = open_stores(several, lambda line: None)["thought"]
    split, tokenizer = store.train, load_tokenizer(store.tokenizer_path)
    assert (split.sides, split.rows, store.languages) == (3, 12 * 4, ["en"])
    ends = [
        re.findall(r"\d+", tokenizer.decode(split.tokens[a:b]))
        for a, b in zip(split.offsets[:3], split.offsets[1:4], strict=True)
    ]
    document, numbers = {found[0] for found in ends}, [int(found[1]) for found in ends]
    assert len(document) == 1  # a row stays within its document
    assert numbers == [numbers[0], numbers[0] + 1, numbers[0] + 2]


def test_masked_language_modelling_is_a_task_on_sentences_of_one_language(several, tmp_path):
    file = tmp_path / "lines.txt"
    file.write_text("".join(f"Line{i} of {'xyz'[i % 3] * 4} alone.\n" for i in range(40)))
    mlm = only(mlm=MlmConfig(weight=1.0))
    task = TaskConfig("masked", 1.0, (f"cc={file}",), 8, mlm)
    config = change(several, train__pairs=16 * 4, tasks=(task,))
    train(config, tmp_path / "run")
    last = records(tmp_path / "run")[-1]
    assert (last["main/steps"], last["masked/steps"]) == (4, 2)
    assert 0 < last["masked/mlm"] == last["masked/loss"] < 3 * np.log(300)
    params = read_run_params(read_run(tmp_path / "run"), "last")
    assert params["tasks"]["masked"].keys() == {"token_head"}
    stores = open_stores(config, print)
    store = stores["masked"][1]
    assert (store.train.sides, store.train.rows) == (1, 40)
    batch = make_batches(*stores["masked"], np.ones(300, bool))[0]
    assert batch.tokens.shape[:2] == (8, 1)
    pairs = dataclasses.replace(mlm, ranking=RankingConfig(weight=1.0))
    with pytest.raises(UserError, match="'cc' is not a language pair"):
        prepare_tasks(change(config, tasks=(dataclasses.replace(task, objectives=pairs),)))


def test_the_tokenizer_knows_the_text_of_all_tasks(several):
    alone = dataclasses.replace(several, tasks=())
    with_tasks, without = (
        load_tokenizer(prepare(config) / "tokenizer.model") for config in (several, alone)
    )
    word = "contradiction"
    assert len(with_tasks.encode([word], 99)[0]) < len(without.encode([word], 99)[0])


def test_scores_must_lie_in_their_range(several, texts, tmp_path):
    task = TaskConfig(
        "sts", 1.0, (f"en-en={texts / 'sts.tsv'}",), 8, only(sts=StsConfig(weight=1.0, highest=4.0))
    )
    with pytest.raises(UserError, match=r"task sts: .*scores up to 5, .*highest is 4"):
        train(dataclasses.replace(several, tasks=(task,)), tmp_path / "run")


# Settings


def test_a_task_without_text_is_left_out(several):
    empty = TaskConfig("later", objectives=STS)
    config = dataclasses.replace(several, tasks=(*several.tasks, empty))
    validate(config)
    assert list(tasks_of(config)) == ["main", "nli", "thought"]


def test_a_task_that_cannot_run_is_named(several, tmp_path):
    first, second = several.tasks
    large = dataclasses.replace(first, batch_size=256)
    with pytest.raises(UserError, match="task nli: 60 training pairs do not fill one batch"):
        train(dataclasses.replace(several, tasks=(large, second)), tmp_path / "run")
    odd = dataclasses.replace(first, batch_size=12)
    with pytest.raises(UserError, match=r"task nli: .*batch_size=12 does not divide"):
        train(dataclasses.replace(several, tasks=(odd, second)), tmp_path / "run")


def test_tasks_survive_json(several):
    assert from_dict(Config, json.loads(json.dumps(to_dict(several)))) == several


def test_a_changed_task_is_named(several):
    first, second = several.tasks
    other = dataclasses.replace(several, tasks=(dataclasses.replace(first, share=3.0), second))
    assert differences(several, other) == {"tasks.0.share": (1.0, 3.0)}
    fewer = dataclasses.replace(several, tasks=(first,))
    assert differences(several, fewer) == {"tasks.1.name": ("thought", None)}
    assert differences(fewer, several) == {"tasks.1.name": (None, "thought")}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"share": 0.0}, "tasks.0.share=0.0 should be greater than 0"),
        ({"share": -1.0}, "tasks.0.share=-1.0 should be greater than 0"),
        ({"share": float("inf")}, "tasks.0.share=inf"),
        ({"name": "thought"}, "tasks.1.name=thought is taken"),
        ({"name": "main"}, "tasks.0.name=main is taken"),
        ({"name": "a b"}, "tasks.0.name='a b' should be a word"),
        ({"batch_size": 1}, "batch_size=1 leaves no negatives"),
        ({"batch_size": -8}, "tasks.0.batch_size=-8 should be a number from 0 on"),
        ({"objectives": only()}, r"tasks.0 \(nli\): every objective has weight 0"),
        (
            {"objectives": only(sts=StsConfig(weight=1.0), ranking=RankingConfig(weight=1.0))},
            "objectives.sts and objectives.ranking read different data",
        ),
        (
            {"objectives": only(ranking=RankingConfig(weight=1.0, negatives=5))},
            "objectives.ranking.mined_by",
        ),
    ],
)
def test_impossible_tasks_are_named(several, changes, message):
    first, second = several.tasks
    config = dataclasses.replace(several, tasks=(dataclasses.replace(first, **changes), second))
    with pytest.raises(UserError, match=message):
        validate(config)


def test_the_main_task_reads_translations(several):
    with pytest.raises(UserError, match=r"objectives\.inference does not read translations"):
        validate(dataclasses.replace(several, objectives=INFERENCE))


def test_unknown_settings_of_a_task_are_named():
    with pytest.raises(UserError, match=r"unknown setting tasks.0.shares; perhaps .*share"):
        from_dict(Config, {"tasks": [{"shares": 3}]})
    with pytest.raises(UserError, match=r"tasks\.0 should be a table"):
        from_dict(Config, {"tasks": [3]})


# The command line


def recipe(several, folder):
    path = folder / "several.py"
    path.write_text(
        "from lightxling.config import Config, from_dict\n"
        f"config = from_dict(Config, {to_dict(several)!r})\n"
    )
    return str(path)


def test_settings_of_a_task_are_flags(several, tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr("lightxling.train.loop.train", lambda config, workdir: asked.append(config))
    flags = ["--tasks.0.share", "5", "--tasks.1.objectives.quick-thought.hidden", "9"]
    assert cli.main(["train", recipe(several, tmp_path), "--workdir", "x", *flags]) == 0
    first, second = asked[0].tasks
    assert (first.share, first.name, first.sources) == (5.0, "nli", several.tasks[0].sources)
    assert second.objectives.quick_thought == QuickThoughtConfig(weight=1.0, hidden=9)
    assert asked[0].train == several.train


def test_prepare_makes_a_store_for_every_task(several, tmp_path, capsys):
    assert cli.main(["prepare", recipe(several, tmp_path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    made = [Store.open(line) for line in lines if re.fullmatch(r"/.*/[0-9a-f]{12}", line)]
    assert [store.train.sides for store in made] == [2, 2, 3]
    assert [store.train.label is not None for store in made] == [False, True, False]
