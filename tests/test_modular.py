"""Modular encoders: the pivot objective, and all stages on a made-up corpus."""

import dataclasses
import itertools
import json
import random
import shutil
import signal
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from export_samples import bundle
from test_train import environment, wait_for

from lightxling.base.errors import UserError
from lightxling.config.files import load
from lightxling.config.objectives import MlmConfig, ObjectivesConfig, PivotConfig, TokensConfig
from lightxling.config.rules import validate
from lightxling.config.schema import Config, TokenizerConfig
from lightxling.config.settings import change
from lightxling.corpus import tokenizer as tokenizers
from lightxling.corpus.batch import Batch
from lightxling.encode.encoder import Encoder
from lightxling.encode.modular import ModularEncoder
from lightxling.evaluate.tasks import ScoringSettings
from lightxling.evaluate.tasks.parallel import find_retrieval
from lightxling.evaluate.tasks.sts import find_sts
from lightxling.evaluate.tasks.units import of_sides
from lightxling.export.formats import write_format
from lightxling.export.trim import shorten
from lightxling.model import build as models
from lightxling.objectives import combine, contrast
from lightxling.objectives.term import ORDER
from lightxling.saved import bundle as bundles
from lightxling.train import modular
from lightxling.train.loop import train
from lightxling.train.modular import ModularPlan, build
from lightxling.train.warm_start import read_origin


def unit(x):
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def test_cosine_distance_by_hand():
    src = jnp.array([[1.0, 0.0], [2.0, 0.0], [0.0, 3.0], [0.0, 0.0]])
    tgt = jnp.array([[5.0, 0.0], [0.0, 1.0], [0.0, -1.0], [1.0, 1.0]])
    assert contrast.cosine_distance(src, tgt) == pytest.approx((0 + 1 + 2 + 1) / 4)
    squared = contrast.cosine_distance(src, tgt, is_squared=True)
    assert squared == pytest.approx((0 + 1 + 4 + 1) / 4)
    assert np.isfinite(jax.grad(lambda x: contrast.cosine_distance(x, tgt))(src)).all()


def test_forward_alone_is_the_cross_entropy_of_rows():
    rng = np.random.default_rng(0)
    src, tgt = rng.normal(size=(2, 6, 5))
    z = 20 * unit(src) @ unit(tgt).T
    loop = np.mean([np.log(np.exp(row).sum()) - row[i] for i, row in enumerate(z)])
    arrays = jnp.array(src, jnp.float32), jnp.array(tgt, jnp.float32)
    forward = contrast.alignment(*arrays, temperature=0.05, directions="forward")
    assert forward == pytest.approx(loop, rel=1e-4)
    back = contrast.alignment(*arrays[::-1], temperature=0.05, directions="forward")
    both = contrast.alignment(*arrays, temperature=0.05)
    assert both == pytest.approx(float(forward + back), rel=1e-5)


SMALL = {"layers": 1, "width": 16, "heads": 2, "feedforward": 16, "max_length": 32}


def pivot_problem():
    config = dataclasses.replace(load("light").model, **SMALL, ngrams=7)
    graphdef = models.structure(config, 30)
    params = models.initialise(config, 30, jax.random.key(0))
    rng = np.random.default_rng(0)
    batch = Batch(
        jnp.array(rng.integers(3, 30, (6, 2, 5)), jnp.int32),
        jnp.zeros(6, jnp.int32),
        teacher=jnp.array(rng.normal(size=(6, 2, 16)), jnp.float32),
        pivot=jnp.array([0, 0, 1, 0, 1, 1]),
        ngrams=jnp.array(rng.integers(0, 8, (6, 2, 5, 3)), jnp.int32),
    )
    return graphdef, params, batch


@pytest.mark.parametrize("kind", ["contrastive", "cosine", "cosine-squared"])
def test_one_side_meets_the_teacher_s_vectors_of_the_other(kind):
    graphdef, params, batch = pivot_problem()
    terms = load("modular-align").objectives
    terms = dataclasses.replace(terms, pivot=PivotConfig(weight=1.0, loss=kind))
    key = jax.random.key(7)
    loss, _ = combine.loss(terms, graphdef, params, batch, key)
    trained, pivots = [], []
    for i, side in enumerate(np.array(batch.pivot)):
        tokens, ngrams = batch.tokens[i, 1 - side][None], batch.ngrams[i, 1 - side][None]
        trained.append(
            np.array(models.encode_tokens(graphdef, params, tokens, ngrams)[0], np.float64)
        )
        pivots.append(np.array(batch.teacher[i, side], np.float64))
    a, b = unit(np.array(trained)), unit(np.array(pivots))
    if kind != "contrastive":
        distance = 1 - (a * b).sum(1)
        expected = np.mean(distance**2 if "squared" in kind else distance)
    else:
        swapped = np.array(jax.random.bernoulli(jax.random.fold_in(key, ORDER), shape=(6,)))
        assert 0 < swapped.sum() < 6
        anchors = np.where(swapped[:, None], b, a)
        positives = np.where(swapped[:, None], a, b)
        z = anchors @ positives.T / 0.05
        expected = np.mean([np.log(np.exp(row).sum()) - row[i] for i, row in enumerate(z)])
    assert loss == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize(
    ("objectives", "message"),
    [
        (ObjectivesConfig(pivot=PivotConfig(weight=1.0)), "weight of tokens, align, similarity to"),
        (
            dataclasses.replace(
                load("modular-align").objectives, pivot=PivotConfig(weight=1.0, temperature=0.0)
            ),
            "pivot.temperature=0.0 should be greater",
        ),
    ],
)
def test_settings_that_do_not_go_together_are_named(objectives, message):
    with pytest.raises(UserError, match=message):
        validate(Config(objectives=objectives))


def test_only_masked_language_modelling_reads_text_of_one_language(tmp_path):
    from lightxling.corpus.prepare import prepare

    (tmp_path / "de.txt").write_text("eins zwei\n" * 3)
    config = change(Config(), corpus__sources=(f"de={tmp_path / 'de.txt'}",))
    with pytest.raises(UserError, match="'de' is not a language pair"):
        prepare(config)
    terms = ObjectivesConfig(tokens=TokensConfig(weight=0.0), mlm=MlmConfig(weight=1.0))
    with pytest.raises(UserError, match="'de' is not a language pair"):  # align is on
        prepare(dataclasses.replace(config, objectives=terms))


# All stages


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A base with random parameters, and parallel text in which sentences have translations twice.

    Words end in the first letter of their language.
    """
    folder = tmp_path_factory.mktemp("world")
    rng = random.Random(0)
    words = ["".join(rng.choices("fgklmnprst", k=3)) for _ in range(40)]
    everything = []
    for code in ("bb", "cc"):
        lines = []
        for _ in range(60):
            chosen = rng.choices(words, k=rng.randint(4, 6))
            for last in (["x", ""], ["", ""], ["", "y"]):  # variants of either side
                sides = (
                    " ".join([w + c[0] for w in chosen] + [e] * bool(e))
                    for c, e in zip(("aa", code), last, strict=True)
                )
                lines.append("\t".join(sides) + "\n")
                everything.append(lines[-1].replace("\t", " "))
        (folder / f"made.aa-{code}.tsv").write_text("".join(lines))
    model = folder / "base.model"
    tokenizers.train_tokenizer(everything, TokenizerConfig(model="unigram", vocab_size=120), model)
    (folder / "base").mkdir()
    write_format(bundle(model.read_bytes(), **SMALL), folder / "base", "safetensors")
    return folder


def plan(world, *codes, **changes) -> ModularPlan:
    sources = tuple(f"aa-{code}={world / f'made.aa-{code}.tsv'}" for code in codes)
    return ModularPlan(sources, pivot="aa", vocab_size=90, **changes)


@pytest.fixture(scope="module", autouse=True)
def small_recipes():
    """The recipes with batches of 16 and few of them."""

    def small(name):
        return change(load(name), train__batch_size=16, train__pairs=32, train__buckets=(32,))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(modular, "load", small)
        yield


@pytest.fixture(scope="module")
def built(world, tmp_path_factory):
    """Modules of `aa` and `bb`, and what was said."""
    workdir, said = tmp_path_factory.mktemp("modular") / "m", []
    build(world / "base", workdir, plan(world, "bb"), progress=said.append)
    return workdir, said


TEXT = ["fgka lmnb", "prsb tttb", "klma", ""]


def test_stages_are_runs_that_change_what_they_should(built):
    workdir, _ = built
    runs = {name: bundles.load_bundle(workdir / "bb" / name) for name in ("start", "language")}
    runs |= {name: bundles.load_bundle(workdir / "bb" / name) for name in ("sentence", "align")}
    names = list(runs)
    adapters = [[a.name for a in run.config.adapters] for run in runs.values()]
    assert adapters == [
        [],
        ["language"],
        ["language", "sentence"],
        ["language", "sentence", "align"],
    ]
    learns = {"language": ("words", "adapters.language."), "sentence": ("adapters.sentence.",)}
    learns["align"] = ("adapters.align.",)
    for before, after in itertools.pairwise(names):
        for name, value in runs[after].params.items():
            is_same = name in runs[before].params and np.array_equal(
                value, runs[before].params[name]
            )
            assert is_same != name.startswith(learns[after]), (after, name)


def test_the_alignment_adapter_is_off_within_a_language_and_for_the_pivot(built):
    workdir, _ = built
    encoder = ModularEncoder.load(workdir)
    assert encoder.languages == ("aa", "bb")
    alone = encoder.encode(TEXT, "bb", is_cross=False)
    np.testing.assert_array_equal(alone, Encoder.load(workdir / "bb" / "sentence").encode(TEXT))
    across = encoder.encode(TEXT, "bb")
    np.testing.assert_array_equal(across, Encoder.load(workdir / "bb" / "align").encode(TEXT))
    assert np.abs(across - alone).max() > 1e-5  # a few steps of training
    for is_cross in (True, False):
        np.testing.assert_array_equal(
            encoder.encode(TEXT, "aa", is_cross=is_cross),
            Encoder.load(workdir / "aa" / "sentence").encode(TEXT),
        )
    with pytest.raises(UserError, match="no module of 'cc'; there are aa, bb"):
        encoder.encode(TEXT, "cc")
    with pytest.raises(UserError, match="need the language of every sentence"):
        encoder(TEXT)


def test_evaluation_takes_the_encoder_of_each_side(built, world, tmp_path):
    workdir, _ = built
    asked = []

    class Noted(ModularEncoder):
        def choose(self, language, is_cross):
            asked.append((language, is_cross))
            return super().choose(language, is_cross)

    encoder = Noted(ModularEncoder.load(workdir)._encoders, "aa")
    for pair in ("aa-bb", "bb-bb"):
        (tmp_path / f"made.{pair}.tsv").write_text("1\tfgka lmna\tfgkb\n3\tklma\tprsb\n")
    for one in find_sts([str(tmp_path)], ScoringSettings()):
        one.run(encoder)
    assert asked == [("aa", True), ("bb", True), ("bb", False), ("bb", False)]
    (retrieval,) = find_retrieval([f"aa-bb={world / 'made.aa-bb.tsv'}"], ScoringSettings())
    assert asked[4:] == []
    retrieval.run(encoder)
    assert asked[4:] == [("aa", True), ("bb", True)]
    assert of_sides(len, ("aa", "bb")) == (len, len)


def test_batches_of_paraphrases_and_of_parallel_sentences_take_turns(built, world, tmp_path):
    workdir, _ = built
    run = workdir / "bb" / "align"
    last = json.loads((run / "metrics.jsonl").read_text().splitlines()[-1])
    assert (last["main/steps"], last["paraphrases/steps"]) == (2, 2)
    assert 0 < last["pivot"] < 2  # a cosine distance
    config = bundles.read_run(run).config
    assert config.corpus.sources == plan(world, "bb").sources
    assert config.objectives.pivot.loss == "cosine"
    assert config.tasks[0].sources == (
        f"aa-bb={workdir / 'bb' / 'data' / 'paraphrases.aa-bb.tsv'}",
    )
    assert config.tasks[0].objectives.pivot.loss == "contrastive"
    said, moved = [], shutil.copy(world / "made.aa-bb.tsv", tmp_path / "moved.tsv")
    same = dataclasses.replace(plan(world, "bb"), sources=(f"aa-bb={moved}",))
    build(world / "base", workdir, same, progress=said.append)
    assert all(line.endswith("is done") for line in said)
    for align in ("paraphrases", "parallel"):
        with pytest.raises(UserError, match="align was made with other settings"):
            build(world / "base", workdir, plan(world, "bb", align=align))


def test_paraphrases_of_the_pivot_may_come_from_any_language(world, tmp_path):
    """A sentence of dd has one translation, of which bb has shown a paraphrase."""
    rows = [line.split("\t") for line in (world / "made.aa-bb.tsv").read_text().splitlines()]
    plain = [(a, b.replace("b", "d")) for a, b in rows if not a.endswith(" x") and "y" not in b]
    (tmp_path / "dd.tsv").write_text("".join(f"{a}\t{d}\n" for a, d in plain))
    dd, bb = f"aa-dd={tmp_path / 'dd.tsv'}", f"aa-bb={world / 'made.aa-bb.tsv'}"
    of_dd = {(f"{a} x", d) for a, d in plain}
    for name, of_pivot, expected in (("alone", [dd], set()), ("all", [bb, dd], of_dd)):
        (tmp_path / name).mkdir()
        for code, sources in (("aa", of_pivot), ("dd", [dd])):
            folder, of_aa = tmp_path / name / code, tmp_path / name / "aa"
            modular._write_data(sources, code, "aa", of_aa, [], [], folder, unescape=True)
        file = tmp_path / name / "dd" / "paraphrases.aa-dd.tsv"
        found = file.read_text().splitlines() if file.exists() else []
        assert {tuple(line.split("\t")) for line in found} == expected
        assert not (tmp_path / name / "dd" / "paraphrases.dd-dd.tsv").exists()
        assert not (tmp_path / name / "aa" / "paraphrases.aa-dd.tsv").exists()


def test_text_and_paraphrases_that_are_given_count(world, tmp_path):
    """Further text joins the sentences; given paraphrases stand for those that would be found."""
    (tmp_path / "bb.txt").write_text("newb oneb\nnewb oneb\n\n")
    (tmp_path / "within.tsv").write_text("p\tq\n")
    (tmp_path / "across.tsv").write_text("b\ta\n")
    sources, of_pivot = [f"aa-bb={world / 'made.aa-bb.tsv'}"], tmp_path / "none"
    pairs = [f"bb-bb={tmp_path / 'within.tsv'}", f"bb-aa={tmp_path / 'across.tsv'}"]
    text = [f"bb={tmp_path / 'bb.txt'}"]
    for name, given, own in (("plain", [], []), ("given", text, pairs)):
        folder = tmp_path / name
        modular._write_data(sources, "bb", "aa", of_pivot, given, own, folder, unescape=True)
    before, after = (
        (tmp_path / name / "text.txt").read_text().splitlines() for name in ("plain", "given")
    )
    assert set(after) - set(before) == {"newb oneb"}
    assert len(after) == len(before) + 1
    assert (tmp_path / "given" / "paraphrases.bb-bb.tsv").read_text() == "p\tq\n"
    assert (tmp_path / "given" / "paraphrases.aa-bb.tsv").read_text() == "a\tb\n"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"text": ("bb-bb=a.tsv",)}, "--text bb-bb=a.tsv: write it like de=PATH"),
        ({"text": ("zz=a.txt",)}, "the sources, which have aa, bb"),
        ({"paraphrases": ("bb=a.tsv",)}, "write it like de-de=PATH or en-de=PATH"),
        ({"paraphrases": ("bb-cc=a.tsv",)}, "paraphrases across languages are of the pivot aa"),
        ({"dev_pairs": -1}, "--dev-pairs -1 should be 0 or more"),
    ],
)
def test_what_modules_cannot_be_made_of_is_named(world, changes, message):
    codes = ("bb", "cc") if "bb-cc=a.tsv" in changes.get("paraphrases", ()) else ("bb",)
    with pytest.raises(UserError, match=message):
        modular.chosen_languages(plan(world, *codes, **changes))


@pytest.mark.parametrize(("rows", "share"), [(0, 0.1), (10_000, 0.02), (1000, 0.1), (400, 0.1)])
def test_development_pairs_are_as_many_as_asked_for_but_no_more_than_a_tenth(rows, share):
    config = modular.holding_out(load("modular-sentence"), modular.Text((), rows), 200)
    assert (config.corpus.dev_share, config.corpus.dev_limit) == (share, 200)
    without = load("modular-language")  # one language has no P@1 to measure
    assert modular.holding_out(without, modular.Text((), rows), 200) == without
    as_before = load("modular-sentence")
    assert modular.holding_out(as_before, modular.Text((), rows), 0) == as_before


def test_a_language_without_paraphrases_is_named_before_anything_is_trained(world, tmp_path):
    (tmp_path / "dd.tsv").write_text("fgka\tfgkd\nklma\tklmd\n")
    wanted = plan(world, "bb")
    wanted = dataclasses.replace(wanted, sources=(*wanted.sources, f"aa-dd={tmp_path / 'dd.tsv'}"))
    with pytest.raises(UserError, match="hold 0 paraphrases of dd-dd, and 4 is the least"):
        build(world / "base", tmp_path / "m", wanted, progress=lambda line: None)
    assert not (tmp_path / "m" / "aa" / "start").exists()


@pytest.mark.parametrize(
    ("pairs", "size"), [(0, 96), (192, 96), (191, 64), (57, 16), (5, 2), (4, 2)]
)
def test_few_paraphrases_make_small_batches(pairs, size):
    assert modular.Text((), pairs).batch_size(96) == size


def test_finished_parts_are_not_made_again_and_others_go_on(built, world, tmp_path):
    """As after a kill in the last stage: the run is there, unfinished and not noted."""
    workdir = tmp_path / "m"
    shutil.copytree(built[0], workdir)
    expected = Encoder.load(workdir / "bb" / "align").encode(TEXT)
    description = json.loads((workdir / "modular.json").read_text())
    del description["done"]["bb/align"]
    (workdir / "modular.json").write_text(json.dumps(description))
    shutil.rmtree(workdir / "bb" / "align")
    with pytest.raises(UserError, match="align is not finished"):
        ModularEncoder.load(workdir)
    said = []
    build(world / "base", workdir, plan(world, "bb"), progress=said.append)
    assert [line.endswith("is done") for line in said] == [True] * 8 + [False]
    np.testing.assert_array_equal(Encoder.load(workdir / "bb" / "align").encode(TEXT), expected)
    with pytest.raises(UserError, match="start was made with other settings"):
        build(world / "base", workdir, dataclasses.replace(plan(world, "bb"), vocab_size=80))


def test_sigterm_leaves_the_stage_unfinished(world, tmp_path):
    workdir = tmp_path / "m"
    command = [sys.executable, "-m", "lightxling", "modular", str(world / "base")]
    command += ["--workdir", str(workdir), "--sources", *plan(world, "bb").sources]
    command += ["--pivot", "aa", "--vocab-size", "90", "--epochs", "1e6", "1", "1"]
    process = subprocess.Popen(command, env=environment(), stdout=subprocess.PIPE, text=True)
    metrics = workdir / "aa" / "language" / "metrics.jsonl"
    wait_for(lambda: metrics.exists() and metrics.read_text(), process)
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert output.rstrip().endswith("the same command goes on from there")
    assert "aa/language" not in json.loads((workdir / "modular.json").read_text())["done"]
    assert not (workdir / "aa" / "sentence").exists()


def test_an_added_language_leaves_the_others_bit_for_bit(built, world, tmp_path):
    workdir = tmp_path / "m"
    shutil.copytree(built[0], workdir)
    before = {code: ModularEncoder.load(workdir).encode(TEXT, code) for code in ("aa", "bb")}
    build(world / "base", workdir, plan(world, "bb", "cc"), progress=lambda line: None)
    after = ModularEncoder.load(workdir)
    assert after.languages == ("aa", "bb", "cc")
    for code, vectors in before.items():
        np.testing.assert_array_equal(after.encode(TEXT, code), vectors)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"languages": ("dd",)}, "--languages dd: the sources have aa, bb"),
        ({"sources": ()}, "name the parallel text"),
        ({"pivot": "zz"}, "should be of zz and another language"),
        ({"epochs": (1.0,)}, "should be three numbers above 0"),
        ({"recipe": "modulr"}, "no recipe 'modulr-language'"),
    ],
)
def test_mistakes_in_a_plan_are_named(world, tmp_path, changes, message):
    with pytest.raises(UserError, match=message):
        build(world / "base", tmp_path / "m", dataclasses.replace(plan(world, "bb"), **changes))
    assert not (tmp_path / "m").exists()


def test_adapters_left_behind_or_changed_are_named(built):
    start = change(load("modular-align"), train__init_from=str(built[0] / "bb" / "sentence"))
    theirs = bundles.read_run(built[0] / "bb" / "sentence").config.model
    for adapters, message in (
        (theirs.adapters[1:], "the adapter 'language' of .* is missing here"),
        (
            (dataclasses.replace(theirs.adapters[0], rank=3), *theirs.adapters[1:]),
            "the adapter 'language' of .* is another one here; model.adapters should hold Adapter",
        ),
    ):
        model = dataclasses.replace(theirs, adapters=adapters)
        with pytest.raises(UserError, match=message):
            read_origin(dataclasses.replace(start, model=model))


def test_a_shortened_export_is_nothing_to_start_from(world, tmp_path):
    base = bundles.load_bundle(world / "base")
    (tmp_path / "short").mkdir()
    write_format(shorten(base, leading=4), tmp_path / "short", "safetensors")
    config = Config(model=base.config)
    with pytest.raises(UserError, match="were shortened to 4"):
        read_origin(change(config, train__init_from=str(tmp_path / "short")))


def test_a_stopped_run_with_frozen_parameters_resumes_to_the_same_bits(built, tmp_path):
    straight = built[0] / "bb" / "align"
    config = bundles.read_run(straight).config
    train(change(config, train__pairs=16), tmp_path / "stopped")
    train(config, tmp_path / "stopped")
    runs = [bundles.read_run(path) for path in (straight, tmp_path / "stopped")]
    jax.tree.map(
        np.testing.assert_array_equal, *(bundles.read_run_params(run, "last") for run in runs)
    )


def test_the_teacher_must_be_as_wide(built, world, tmp_path):
    config = bundles.read_run(built[0] / "bb" / "align").config
    (tmp_path / "wide").mkdir()
    model = (world / "base.model").read_bytes()
    wide = dataclasses.replace(bundle(model, **{**SMALL, "width": 32}), languages=("aa",))
    write_format(wide, tmp_path / "wide", "safetensors")
    with pytest.raises(UserError, match=r"width model.width=16 with .* which have 32"):
        train(change(config, teacher__source=str(tmp_path / "wide")), tmp_path / "run")
