"""Every format gives the vectors of the encoder it was made from; damaged files are refused."""

import dataclasses
import json
import math
import re
import shlex
import struct
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from export_samples import HOSTILE, VARIANTS, WORDS, bundle, tokenizer
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

from lightxling import export as exports
from lightxling.base.errors import UserError
from lightxling.base.tree import nest
from lightxling.cli import main
from lightxling.config.schema import AdapterConfig, Config
from lightxling.corpus.pieces import Tokenizer
from lightxling.encode.encoder import Encoder
from lightxling.export import export
from lightxling.export.formats import write_format
from lightxling.export.quantize import quantize, to_int4, to_int8
from lightxling.export.settings import ExportSettings
from lightxling.export.trim import merged_from, reduce_dimensions, trim_vocabulary
from lightxling.model.params import pack, unpack
from lightxling.saved import bundle as bundles
from lightxling.saved import parameters

pytestmark = pytest.mark.filterwarnings("ignore:a sentence is longer")

TEXT = [" ".join(np.random.default_rng(i).choice(WORDS, 1 + i % 9)) for i in range(60)]

HERE = Path(__file__)
"""A text like any."""


def english(texts):
    return (("en", text) for text in texts)


def cosines(a, b):
    """Row by row; rows that are zero in both count as equal."""
    norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return np.where(norms > 0, np.sum(a * b, axis=1) / np.maximum(norms, 1e-30), 1)


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    folder = tmp_path_factory.mktemp("exported")
    write_format(quantize(bundle(embedding_width=8), "int8"), folder, "safetensors")
    return folder


@pytest.mark.parametrize("changes", VARIANTS.values(), ids=VARIANTS)
def test_safetensors_round_trip(changes, tmp_path):
    small = bundle(**changes)
    write_format(small, tmp_path, "safetensors")
    loaded = Encoder.load(tmp_path)
    texts = TEXT + HOSTILE
    np.testing.assert_array_equal(loaded.encode(texts), Encoder(small).encode(texts))
    assert loaded.languages == small.languages
    assert loaded.fingerprint == small.fingerprint()
    np.testing.assert_array_equal(
        Encoder.load(tmp_path / "model.safetensors").encode("a"), loaded.encode("a")
    )


@pytest.mark.parametrize(
    ("dtype", "least"), [("float16", 0.9999), ("bfloat16", 0.999), ("int8", 0.99), ("int4", 0.9)]
)
@pytest.mark.parametrize("changes", VARIANTS.values(), ids=VARIANTS)
def test_smaller_numbers_stay_close(changes, dtype, least, tmp_path):
    small = bundle(**changes)
    write_format(quantize(small, dtype), tmp_path, "safetensors")
    loaded = Encoder.load(tmp_path)
    assert cosines(loaded.encode(TEXT), Encoder(small).encode(TEXT)).min() > least
    assert loaded.bundle.dtype == dtype
    assert loaded.bundle.nbytes < small.nbytes * (0.45 if dtype.startswith("int") else 0.6)


def test_int8_error_is_half_a_step_and_zeros_stay():
    values = np.random.default_rng(0).normal(size=(7, 9)).astype(np.float32)
    values[3] = 0
    integers, scales = to_int8(values, 0)
    assert integers.dtype == np.int8
    assert scales.shape == (7,)
    error = np.abs(integers * scales[:, None] - values)
    assert (error <= 0.5001 * scales[:, None]).all()
    assert np.abs(integers).max(axis=1).tolist() == [127, 127, 127, 0, 127, 127, 127]
    transposed, same = to_int8(values.T, 1)
    np.testing.assert_array_equal(transposed.T, integers)
    np.testing.assert_array_equal(same, scales)


def test_int4_takes_the_scale_of_the_least_error_and_cuts_at_seven():
    values = np.random.default_rng(0).normal(size=(40, 10)).astype(np.float32)
    values[3] = 0
    values[5, 0] = 30  # one large number, which is cut for the others' sake
    integers, scales = to_int4(values)
    assert (integers.dtype, np.abs(integers).max()) == (np.int8, 7)
    for row, chosen, scale in zip(values.astype(float), integers, scales, strict=True):
        errors = []
        for share in np.arange(20, 11, -1) / 20:  # 1, 0.95, ... 0.6
            step = share * np.abs(row).max() / 7
            cut = [max(-7, min(7, round(x / step))) if step else 0 for x in row]
            errors.append((sum((x - step * q) ** 2 for x, q in zip(row, cut, strict=True)), step))
        least, step = min(errors, key=lambda found: found[0])
        assert np.square(row - float(scale) * chosen).sum() == pytest.approx(least, rel=1e-4)
    assert not integers[3].any()
    assert scales[3] == 0


def test_octets_hold_two_columns_and_give_them_back():
    every = np.arange(-8, 8, dtype=np.int8)
    integers = np.stack([every, every[::-1]])
    octets = pack(integers)
    assert octets[0].tolist() == [(low + 8) + 16 * (low + 16) for low in range(-8, 0)]
    np.testing.assert_array_equal(unpack(octets), integers)
    assert unpack(octets).dtype == np.float32


def test_int4_is_for_tables_of_even_width():
    small = quantize(bundle(embedding_width=8), "int4")
    kinds = {name: values.dtype.name for name, values in small.params.items()}
    assert kinds["words"] == "uint8"
    assert small.params["words"].shape == (small.vocab_size, 4)
    assert {kinds[name] for name in ("positions", "word_projection", "blocks.0.qkv.kernel")} == {
        "int8"
    }
    with pytest.raises(UserError, match="the table words has 7; give --dtype int8"):
        quantize(bundle(embedding_width=7), "int4")


@pytest.mark.parametrize("kind", ["bpe", "unigram"])
def test_vocabulary_trimmed_to_a_text_leaves_its_vectors(kind):
    small = bundle(tokenizer(kind))
    trimmed = trim_vocabulary(small, english(TEXT[:20]))
    assert trimmed.vocab_size < 0.9 * small.vocab_size
    np.testing.assert_array_equal(
        Encoder(trimmed).encode(TEXT[:20]), Encoder(small).encode(TEXT[:20])
    )
    assert Encoder(trimmed).encode("привет x мир").shape == (32,)  # other text still goes through


@pytest.mark.parametrize("dtype", ["int8", "int4"])
def test_trimming_integers_keeps_scales_beside_their_rows(dtype):
    small = quantize(bundle(), dtype)
    trimmed = trim_vocabulary(small, english(TEXT[:20]))
    np.testing.assert_array_equal(
        Encoder(trimmed).encode(TEXT[:20]), Encoder(small).encode(TEXT[:20])
    )


def test_number_of_pieces_is_bounded():
    trimmed = trim_vocabulary(bundle(), english(TEXT), pieces=150)
    assert trimmed.vocab_size <= 150
    with pytest.raises(UserError, match=r"--pieces 5 does not hold the \d+ pieces") as caught:
        trim_vocabulary(bundle(), english(TEXT), pieces=5)
    least = int(str(caught.value).rsplit(" ", 1)[1])
    assert f"the {least} pieces that are always kept (special ones, bytes, and" in str(caught.value)
    assert trim_vocabulary(bundle(), english(TEXT), pieces=least).vocab_size == least
    with pytest.raises(UserError, match=f"--pieces {least - 1} .* give at least {least}"):
        trim_vocabulary(bundle(), english(TEXT), pieces=least - 1)
    with pytest.raises(UserError, match="is empty"):
        trim_vocabulary(bundle(), english(["", " "]))


def test_a_small_language_keeps_its_pieces_beside_a_large_one():
    """Counted by hand: each piece of "zu" is a larger share of it than any English one of English,
    though all of those occur more often."""
    small, text = bundle(tokenizer("unigram")), [*english(WORDS[:40] * 100), ("zu", "привет")]
    names = Tokenizer(small.tokenizer).pieces()
    its_own = {names[i] for i in Tokenizer(small.tokenizer).encode(["привет"], 100)[0]}
    longer = {name for name in its_own if len(name) > 1}
    assert longer  # single characters are kept anyway
    with pytest.raises(UserError, match="give at least") as caught:
        trim_vocabulary(small, text, pieces=1)
    least = int(str(caught.value).rsplit(" ", 1)[1])
    trimmed = trim_vocabulary(small, text, pieces=least + len(longer))
    assert longer <= set(Tokenizer(trimmed.tokenizer).pieces())


def test_what_a_piece_is_merged_from():
    scores = {"a": -9.0, "b": -9.0, "c": -9.0, "ab": -2.0, "bc": -1.0, "abc": -3.0}
    assert merged_from("abc", scores) == {"a", "b", "c", "bc", "abc"}


def test_principal_components_keep_cosines_best():
    small = bundle()
    shorter = reduce_dimensions(small, TEXT, 12)
    full, cut = Encoder(small).encode(TEXT), Encoder(shorter).encode(TEXT, normalize=False)
    assert cut.shape == (60, 12)
    unnormalised = Encoder(small).encode(TEXT, normalize=False)
    np.testing.assert_allclose(cut, unnormalised @ shorter.params["projection"], atol=1e-5)
    captured = np.linalg.norm(full @ shorter.params["projection"]) ** 2
    singular = np.linalg.svd(full, compute_uv=False)
    np.testing.assert_allclose(captured, np.sum(singular[:12] ** 2), rtol=1e-4)
    assert not Encoder(shorter).encode("").any()
    again = reduce_dimensions(shorter, TEXT, 5)
    assert Encoder(again).dimension == 5
    with pytest.raises(UserError, match="--dimensions 32 should be"):
        reduce_dimensions(small, TEXT, 32)


@pytest.mark.parametrize("dtype", ["float32", "int8", "int4"])
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"layers": 0, "embedding_width": 8, "pooling": "weighted"},
        {"layers": 1, "pooling": "attention", "embedding_norm": False},
    ],
    ids=str,
)
def test_stablehlo_needs_none_of_our_code(changes, dtype, tmp_path):
    pytest.importorskip("flatbuffers")
    small = quantize(reduce_dimensions(bundle(**changes), TEXT, 12), dtype)
    write_format(small, tmp_path, "stablehlo")
    encoder = Encoder(small)
    program = jax.export.deserialize(bytearray((tmp_path / "encoder.stablehlo").read_bytes()))
    for texts in (TEXT, ["", "the cat"], HOSTILE):
        ids, offsets, _ = encoder._tokenize(texts)
        tokens = np.zeros((len(texts), np.diff(offsets).max()), np.int32)
        for i, row in enumerate(tokens):
            row[: offsets[i + 1] - offsets[i]] = ids[offsets[i] : offsets[i + 1]]
        expected = encoder.encode(texts, normalize=False)
        np.testing.assert_allclose(program.call(tokens), expected, atol=1e-5)


def test_export_reports_bytes_and_scores(tmp_path):
    model, dev = tmp_path / "model", tmp_path / "dev.tsv"
    model.mkdir()
    write_format(bundle(), model, "safetensors")
    dev.write_text("".join(f"{a}\t{a}\n" for a in dict.fromkeys(TEXT)))
    (tmp_path / "text").write_text("\n".join(TEXT))
    report = export(
        ExportSettings(
            model,
            tmp_path / "small",
            dtype="int8",
            trim=True,
            dimensions=16,
            languages=["en", "fr"],
            text=[tmp_path / "text"],
            dev=[f"en-fr={dev}"],
        )
    )
    small = Encoder.load(tmp_path / "small")
    assert (small.dimension, small.languages, small.bundle.dtype) == (16, ("en", "fr"), "int8")
    files = sum(f.stat().st_size for f in (tmp_path / "small").iterdir())
    assert report.after == files < report.before
    (tmp_path / "plain").touch()
    modes = {f.stat().st_mode for f in (tmp_path / "small").iterdir()}
    assert modes == {(tmp_path / "plain").stat().st_mode}  # whoever reads others reads these
    ((name, (before, after)),) = report.scores.items()
    assert name == f"dev en-fr ({len(set(TEXT))} candidates)"
    assert before == after == 100
    assert f"{name} P@1 100.00 -> 100.00 (+0.00)" in str(report)
    assert small.bundle.scores == {f"{name}, P@1 in %, both directions": 100.0}


@pytest.fixture
def model(tmp_path):
    (tmp_path / "model").mkdir()
    write_format(bundle(), tmp_path / "model", "safetensors")
    return tmp_path / "model"


def test_a_score_stays_with_the_encoder_that_it_was_measured_on(model, tmp_path):
    (tmp_path / "dev.tsv").write_text("".join(f"{text}\t{text}\n" for text in dict.fromkeys(TEXT)))
    (tmp_path / "text").write_text("\n".join(TEXT))
    export(ExportSettings(model, tmp_path / "measured", dev=[f"en-fr={tmp_path / 'dev.tsv'}"]))
    expected = {"dev en-fr (60 candidates), P@1 in %, both directions": 100.0}
    assert bundles.load_bundle(tmp_path / "measured").scores == expected
    text = [tmp_path / "text"]
    changes = {
        "same": {},
        "dtype": {"dtype": "float16"},
        "layers": {"layers": 1},
        "leading": {"leading": 8},
        "pieces": {"pieces": 200, "text": text},
        "dimensions": {"dimensions": 8, "text": text},
        "languages": {"languages": ["en"], "text": text},
    }
    for name, options in changes.items():
        export(ExportSettings(tmp_path / "measured", tmp_path / name, **options))
        assert bundles.load_bundle(tmp_path / name).scores == (
            expected if name == "same" else {}
        ), name
    adapted = bundle(layers=1, adapters=(AdapterConfig(name="a", reduction=4),))
    (tmp_path / "adapted").mkdir()
    write_format(dataclasses.replace(adapted, scores=expected), tmp_path / "adapted", "safetensors")
    export(ExportSettings(tmp_path / "adapted", tmp_path / "bare", adapters=[]))
    assert bundles.load_bundle(tmp_path / "bare").scores == {}


@pytest.mark.filterwarnings("ignore:3 left out")
def test_dev_pairs_are_those_that_evaluate_counts(model, tmp_path):
    (tmp_path / "a").mkdir()
    rows = ["the cat\tthe cat\n", "\t\n", "a dog\ta dog\n", "the house\t \n", " \tle chat\n"]
    for name in ("dev.tsv", "test.tsv", "a/dev.tsv"):
        (tmp_path / name).write_text("".join(rows))
    dev = [f"en-fr={tmp_path / name}" for name in ("dev.tsv", "test.tsv")]
    with pytest.warns(UserWarning, match="3 left out: blank side"):
        report = export(ExportSettings(model, tmp_path / "out", dev=dev))
    both = {f"{name} en-fr (2 candidates)": (100, 100) for name in ("dev", "test")}
    assert report.scores == both
    dev.append(f"en-fr={tmp_path / 'a' / 'dev.tsv'}")
    with pytest.raises(
        UserError, match=r"dev\.tsv and .*a/dev\.tsv would both be called dev en-fr"
    ):
        export(
            ExportSettings(tmp_path / "nothing", tmp_path / "other", dev=dev)
        )  # told before a model is read
    with pytest.raises(UserError, match="write it like en-fr="):
        export(
            ExportSettings(
                tmp_path / "nothing", tmp_path / "other", dev=[str(tmp_path / "dev.tsv")]
            )
        )


@pytest.mark.parametrize("named", [".", "model.safetensors", "../model", "part/.."])
def test_an_export_lies_beside_the_model_however_that_is_named(model, tmp_path, monkeypatch, named):
    (model / "part").mkdir()
    monkeypatch.chdir(model)
    report = export(ExportSettings(Path(named)))
    assert report.folder.resolve() == tmp_path / "model-safetensors-float32"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model", report.folder.name]
    assert Encoder.load(report.folder).dimension == 32


def test_what_an_example_or_a_message_says_can_be_typed(model, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "dev.tsv").write_text("the cat\tle chat\n")
    (tmp_path / "runs").mkdir()
    _, example = re.search(r"Example: (lightxling) (.*)", export.__doc__).groups()
    assert main(shlex.split(example)) == 2
    assert "no model at runs/en-fr" in capsys.readouterr().err
    assert main(["export", "model", "-o", "out"]) == 0
    assert main(["export", "model", "-o", "out"]) == 2
    advice = re.search(r"--overwrite( \w+)? to replace", capsys.readouterr().err)[0]
    assert main(["export", "model", "-o", "out", *advice.split()[:-2]]) == 0


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16", "int8", "int4"])
@pytest.mark.parametrize("number", [np.nan, -np.inf])
def test_an_encoder_with_nan_is_refused(dtype, number, tmp_path):
    small = quantize(bundle(), dtype)
    name = "words.scales" if dtype.startswith("int") else "blocks.0.up.kernel"
    small.params[name] = small.params[name].copy()
    small.params[name][3] = number
    write_format(small, tmp_path, "safetensors")
    with pytest.raises(UserError, match=f"has NaN or infinity in {name}"):
        bundles.load_bundle(tmp_path)


def test_a_run_with_nan_is_refused(tmp_path, monkeypatch):
    small = bundle()
    small.params["positions"][2, 1] = np.nan
    (tmp_path / "config.json").write_text('{"config": {}}')
    (tmp_path / "tokenizer.model").write_bytes(small.tokenizer)
    run = bundles.Run(tmp_path, Config(model=small.config), small.vocab_size, ("en", "fr"))
    tree = {"encoder": nest(small.params)}
    monkeypatch.setattr(bundles, "read_run", lambda path: run)
    monkeypatch.setattr(bundles, "read_run_params", lambda run, checkpoint: tree)
    with pytest.raises(UserError, match=r"checkpoint last of .* has NaN or infinity in positions"):
        bundles.load_bundle(tmp_path, "last")
    small.params["positions"][2, 1] = 0
    assert bundles.load_bundle(tmp_path).dimension == 32


def test_interrupted_export_leaves_what_was_there(tmp_path, monkeypatch):
    model = tmp_path / "model"
    model.mkdir()
    write_format(bundle(), model, "safetensors")
    export(ExportSettings(model, tmp_path / "out"))
    before = (tmp_path / "out" / "model.safetensors").read_bytes()

    def fail(small, folder, format):
        (folder / "half").write_text("x")
        raise KeyboardInterrupt

    monkeypatch.setattr(exports, "write_format", fail)
    with pytest.raises(KeyboardInterrupt):
        export(ExportSettings(model, tmp_path / "out", dtype="int8", overwrite=True))
    with pytest.raises(KeyboardInterrupt):
        export(ExportSettings(model, tmp_path / "new"))
    assert (tmp_path / "out" / "model.safetensors").read_bytes() == before
    assert sorted(f.name for f in tmp_path.iterdir()) == ["model", "out"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"output": "model"}, "exists; give another --output"),
        ({"output": "precious", "overwrite": True}, "is not an export; it is not overwritten"),
        ({"output": "no/folder"}, "there is no folder"),
        ({"output": "o", "languages": ["xx"]}, "the encoder knows en, fr, de"),
        ({"output": "o", "trim": True}, "name a text with --text FILE"),
        ({"output": "o", "dimensions": 0, "text": [HERE]}, "--dimensions 0 should be at least 1"),
        ({"output": "o", "pieces": 0, "text": [HERE]}, "--pieces 0 does not hold"),
        ({"output": "o", "text": [HERE]}, "--text .* would not be read; say what it is for"),
        ({"output": "o", "format": "adapter", "text": [HERE]}, "--text .* would not be read"),
        ({"output": "o", "format": "sentence-transformers", "dtype": "int8"}, "no int8 weights"),
    ],
)
def test_mistakes_are_explained(tmp_path, arguments, message):
    (tmp_path / "model").mkdir()
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "file").touch()
    write_format(bundle(), tmp_path / "model", "safetensors")
    with pytest.raises(UserError, match=message):
        export(ExportSettings(tmp_path / "model", tmp_path / arguments.pop("output"), **arguments))
    assert sorted(f.name for f in tmp_path.iterdir()) == ["model", "precious"]


def test_what_makes_an_encoder_smaller_does_not_go_with_adapters(tmp_path):
    def refused(message, **options):
        with pytest.raises(UserError, match=message):
            export(
                ExportSettings(tmp_path / "nothing", tmp_path / "o", format="adapter", **options)
            )

    for option in ({"trim": True}, {"dimensions": 8}, {"dtype": "int8"}):
        refused("--format adapter writes adapters as they are", **option)
    for option in ({"layers": 1}, {"leading": 8}):
        refused("--format adapter keeps all layers", **option)
    refused("no model at", dtype="float32")


@pytest.mark.parametrize(
    ("format", "package", "message"),
    [
        ("onnx", "onnx", r'--format onnx needs onnx: pip install "lightxling\[export\]"'),
        ("web", "onnx", r'--format web needs onnx: pip install "lightxling\[export\]"'),
        ("stablehlo", "flatbuffers", r'needs flatbuffers: pip install "lightxling\[export\]"'),
        ("sentence-transformers", "", "sentence-transformers has no int8 weights; use float16"),
    ],
)
def test_what_cannot_be_written_is_told_before_the_text_is_read(
    format, package, message, model, tmp_path, monkeypatch
):
    monkeypatch.setitem(sys.modules, package, None)
    settings = {"format": format, "dtype": "int8", "trim": True, "text": [tmp_path / "nothing"]}
    with pytest.raises(UserError, match=message):
        export(ExportSettings(model, tmp_path / "out", **settings))
    with pytest.raises(UserError, match=message):
        write_format(quantize(bundle(), "int8"), tmp_path / "out", format)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int8", "int4"])
def test_an_export_is_read_and_run_without_jax(dtype, tmp_path):
    small = quantize(bundle(), dtype)
    write_format(small, tmp_path, "safetensors")
    code = (
        "import sys, lightxling; "
        f"vector = lightxling.Encoder.load({str(tmp_path)!r}).encode('the cat'); "
        "assert 'jax' not in sys.modules; print(*vector)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    vector = np.array(done.stdout.split(), np.float32)
    np.testing.assert_allclose(vector, Encoder(small).encode("the cat"), atol=1e-6)


@given(st.data())
@settings(max_examples=150, deadline=None)
def test_damaged_exports_are_refused_or_read(exported, tmp_path_factory, data):
    """Any bytes changed or cut off: an encoder or a UserError, nothing else."""
    folder = tmp_path_factory.mktemp("damaged")
    damaged = data.draw(st.sampled_from(["model.safetensors", "config.json", "tokenizer.model"]))
    for file in exported.iterdir():
        content = bytearray(file.read_bytes())
        if file.name == damaged:
            near = st.integers(0, min(len(content), 3000) - 1)
            for at in data.draw(st.lists(near, max_size=4)):
                content[at] = data.draw(st.integers(0, 255))
            cut = data.draw(st.one_of(st.none(), st.integers(0, len(content))))
            del content[cut if cut is not None else len(content) :]
        (folder / file.name).write_bytes(content)
    try:
        encoder = Encoder.load(folder)
    except UserError:
        return
    assert encoder.dimension == 32


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format_version": 2}, "format version 2"),
        ({"vocab_size": -1}, "vocab_size=-1"),
        ({"vocab_size": 7}, "words is"),
        ({"dimension": 1 << 40}, "projection"),
        ({"model": None}, "has no model"),
        ({"model": {"width": "x"}}, "model.width='x' should be of type int"),
        ({"model": {"layers": 1 << 40}}, "should be at most"),
        ({"model": {"width": 64, "heads": 4, "layers": 1}}, "does not fit its config.json"),
        ({"languages": "en"}, "should be a list of codes"),
        *(
            ({"scores": scores}, "scores=.* should be numbers by name; export it again")
            for scores in ([1, 2], "abc", {"a": "x"}, {"a": True}, {"a": 10**400}, {"a": math.nan})
        ),
    ],
)
def test_hostile_configurations_are_refused(exported, tmp_path, change, message):
    for file in exported.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    description = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(description | change))
    with pytest.raises(UserError, match=message):
        Encoder.load(tmp_path)


def header(entries):
    text = json.dumps(entries).encode()
    return struct.pack("<Q", len(text)) + text


def entry(shape=(2,), offsets=(0, 8), dtype="F32"):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\0" * 7,
        struct.pack("<Q", 1 << 62) + b"{}",
        struct.pack("<Q", 2) + b"[]",
        struct.pack("<Q", 4) + b"nope",
        header({"a": entry()}) + b"\0" * 7,
        header({"a": entry()}) + b"\0" * 9,
        header({"a": entry(shape=(1 << 62, 1 << 62))}) + b"\0" * 8,
        header({"a": entry(shape=(-2, -1))}) + b"\0" * 8,
        header({"a": entry(shape=(True, 2))}) + b"\0" * 8,
        header({"a": entry(offsets=(8, 0))}) + b"\0" * 8,
        header({"a": entry(dtype="pickle")}) + b"\0" * 8,
        header({"a": {"dtype": "F32"}}) + b"\0" * 8,
        header({"a": entry(), "__metadata__": {"x": 1}}) + b"\0" * 8,
        struct.pack("<Q", 100_000) + b"[" * 100_000,
    ],
)
def test_hostile_tensor_files_are_refused(content, tmp_path):
    (tmp_path / "x").write_bytes(content)
    with pytest.raises(UserError, match="damaged or not a safetensors"):
        parameters.read_params(tmp_path / "x", {"a": (2,)})


def test_scales_must_fit(exported, tmp_path):
    params = load_file(exported / "model.safetensors")
    for file in exported.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    for wrong in (params["words.scales"][:5], params["words.scales"].astype(np.float16)):
        save_file(params | {"words.scales": wrong}, tmp_path / "model.safetensors")
        with pytest.raises(UserError, match="the scales of words do not fit"):
            bundles.load_bundle(tmp_path)


def test_a_tokenizer_of_another_model_is_refused():
    small = bundle()
    other = dataclasses.replace(small, tokenizer=tokenizer("unigram", byte_fallback=True))
    with pytest.raises(UserError, match="not from the same export"):
        Encoder(other)
