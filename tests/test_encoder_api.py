import concurrent.futures
import gzip
import io
import json
import subprocess
import sys
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from export_samples import HOSTILE, VARIANTS, WORDS, bundle
from hypothesis import given, settings
from hypothesis import strategies as st

from lightxling.base.errors import UserError
from lightxling.base.files import atomic
from lightxling.base.tree import flatten, nest
from lightxling.config.files import to_dict
from lightxling.config.schema import Config, ModelConfig
from lightxling.encode import encoder as encoders
from lightxling.encode.encoder import Encoder, encode_file
from lightxling.export.formats import write_format
from lightxling.model import build
from lightxling.saved import bundle as bundles


@pytest.fixture(autouse=True)
def quiet():
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="a sentence is longer")
        yield


def sentences(count, seed=0):
    rng = np.random.default_rng(seed)
    return [" ".join(rng.choice(WORDS, rng.integers(1, 15))) for _ in range(count)]


def padded(encoder, texts):
    ids, offsets, _ = encoder._tokenize(texts)
    tokens = np.zeros((len(texts), max(np.diff(offsets).max(), 1)), np.int32)
    for row, start, stop in zip(tokens, offsets[:-1], offsets[1:], strict=True):
        row[: stop - start] = ids[start:stop]
    return tokens


@pytest.mark.parametrize("changes", [*VARIANTS.values(), {"pooling": "sum"}], ids=str)
def test_numpy_forward_is_the_training_forward(changes):
    small = bundle(**changes)
    graphdef = build.structure(small.config, small.vocab_size)
    encoder = Encoder(small, backend="numpy")
    texts = [*sentences(40), *HOSTILE]
    params = jax.tree.map(jnp.asarray, {"encoder": nest(small.params)})
    expected = build.encode_tokens(graphdef, params, jnp.asarray(padded(encoder, texts)))
    found = encoder.encode(texts, normalize=False)
    np.testing.assert_allclose(found, expected, atol=1e-5, rtol=1e-5)


def test_parameter_names_and_shapes_are_those_of_the_model():
    for changes in VARIANTS.values():
        small = bundle(**changes)
        tree = jax.eval_shape(
            lambda key, small=small: build.initialise(small.config, small.vocab_size, key),
            jax.random.key(0),
        )["encoder"]
        nested = nest(small.params)
        assert jax.tree.map(lambda x: x.shape, nested) == jax.tree.map(lambda x: x.shape, tree)
        assert flatten(nested).keys() == small.params.keys()


def test_both_backends_agree():
    small, texts = bundle(), sentences(70)
    np.testing.assert_allclose(
        Encoder(small, backend="jax").encode(texts, batch_size=16),
        Encoder(small, backend="numpy").encode(texts, batch_size=16),
        atol=1e-5,
    )


def test_jax_compiles_few_shapes_and_says_so(capsys):
    encoder = Encoder(bundle(), backend="jax")
    encoder.encode(sentences(200), batch_size=16, show_progress=True)
    shapes = set(encoder._run.compiled)
    assert len(shapes) <= 4  # 8, 12, 16 and max_length 24
    assert "compiling for batches of 16 x" in capsys.readouterr().err
    encoder.encode(sentences(200, seed=1), batch_size=16)
    assert encoder._run.compiled == shapes


@pytest.mark.parametrize("batch_size", [1, 7, 1000])
def test_order_is_kept_whatever_the_batches(batch_size, monkeypatch):
    encoder, texts = Encoder(bundle()), sentences(60)
    one_by_one = np.stack([encoder.encode(text) for text in texts])
    monkeypatch.setattr(encoders, "SLAB", 25)
    monkeypatch.setattr(encoders, "TOKENS", 40)
    np.testing.assert_allclose(encoder.encode(texts, batch_size=batch_size), one_by_one, atol=1e-6)


def test_a_string_gives_a_vector_and_a_list_a_matrix():
    encoder = Encoder(bundle())
    assert encoder.encode("the cat").shape == (32,)
    assert encoder.encode(["the cat"]).shape == (1, 32)
    assert encoder.encode([]).shape == (0, 32)
    assert encoder.encode("the cat").dtype == np.float32
    assert encoder.dimension == 32
    assert encoder.languages == ("en", "fr", "de")


def test_unit_vectors_and_zeros_for_empty_strings():
    vectors = Encoder(bundle()).encode(["the cat", "", " \n\u3000", "a dog"])
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), [1, 0, 0, 1], atol=1e-6)


def test_similarity_is_the_cosine():
    encoder = Encoder(bundle())
    vectors = encoder.encode(["the cat", "a dog", ""], normalize=False)
    cosines = encoder.similarity(vectors, vectors)
    np.testing.assert_allclose(np.diagonal(cosines), [1, 1, 0], atol=1e-6)
    expected = vectors[0] @ vectors[1] / np.linalg.norm(vectors[0]) / np.linalg.norm(vectors[1])
    np.testing.assert_allclose(encoder.similarity(vectors[0], vectors[1]), [[expected]], atol=1e-6)


def test_long_sentences_are_cut_and_counted():
    encoder = Encoder(bundle())
    words = "the cat is where the dog was and this is a house of the station in it to a " * 3
    with pytest.warns(UserWarning, match="longer than 24 tokens"):
        long = encoder.encode([words, "a dog", words])
    assert encoder.truncated == 2
    ids, offsets, _ = encoder._tokenize([words])
    assert offsets[-1] == len(ids) == 24
    np.testing.assert_allclose(long[0], long[2], atol=1e-6)
    exact = encoder.tokenizer.decode(ids)
    assert encoder.truncated == 3
    np.testing.assert_allclose(encoder.encode(exact), long[0], atol=1e-6)


def test_not_a_string_is_named():
    with pytest.raises(TypeError, match="sentence"):
        Encoder(bundle()).encode(["a", b"b"])
    with pytest.raises(TypeError, match="sentence"):
        Encoder(bundle()).encode([None])


@given(st.lists(st.text(max_size=30), max_size=8))
@settings(max_examples=50, deadline=None)
def test_any_text_gives_finite_vectors(texts):
    vectors = ENCODER.encode(texts)
    assert vectors.shape == (len(texts), 32)
    assert np.isfinite(vectors).all()


ENCODER = Encoder(bundle())


@pytest.mark.parametrize("backend", ["numpy", "jax"])
def test_threads_do_not_disturb_each_other(backend):
    encoder, texts = Encoder(bundle(), backend=backend), sentences(200)
    too_long = "the " * 100
    expected = encoder.encode([*texts, too_long])
    before = encoder.truncated
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        found = list(pool.map(encoder.encode, [[*texts, too_long]] * 16))
    for vectors in found:
        np.testing.assert_allclose(vectors, expected, atol=1e-5)
    assert encoder.truncated == before + 16


def test_fingerprint_changes_with_everything_a_vector_depends_on():
    small = bundle()
    params = {**small.params, "words": small.params["words"] + 1e-6}
    others = [
        bundle(max_length=25),
        bundle(seed=1),
        bundles.dataclasses.replace(small, params=params),
        bundles.dataclasses.replace(small, tokenizer=small.tokenizer + b"\0"),
    ]
    fingerprints = {b.fingerprint() for b in [small, bundle(), *others]}
    assert len(fingerprints) == 1 + len(others)


def test_import_is_light():
    code = (
        "import sys, lightxling; assert not {'jax', 'numpy'} & set(sys.modules); lightxling.Encoder"
    )
    code += "; assert 'jax' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_encode_file_keeps_every_line(tmp_path):
    text = tmp_path / "in.txt"
    text.write_bytes("the cat\n\nle chat\r\n\u2028x\x0cy\n\nlast".encode())
    encoder = Encoder(bundle())
    assert encode_file(encoder, text, tmp_path / "out.npy") == 6
    vectors = np.load(tmp_path / "out.npy", allow_pickle=False)
    expected = encoder.encode(["the cat", "", "le chat", "\u2028x\x0cy", "", "last"])
    np.testing.assert_allclose(vectors, expected, atol=1e-6)
    assert encode_file(encoder, text, tmp_path / "out.jsonl") == 6
    rows = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().split("\n")[:-1]]
    assert [row["text"] for row in rows][2:4] == ["le chat", "\u2028x\x0cy"]
    np.testing.assert_allclose([row["vector"] for row in rows], expected, atol=1e-6)


def test_encode_file_reads_gzip_standard_input_and_nothing(tmp_path, monkeypatch):
    encoder = Encoder(bundle())
    (tmp_path / "in.gz").write_bytes(gzip.compress(b"the cat\na dog\n"))
    assert encode_file(encoder, tmp_path / "in.gz", tmp_path / "a.npy") == 2
    stdin = io.TextIOWrapper(io.BufferedReader(io.BytesIO(b"the cat\na dog")))
    monkeypatch.setattr(sys, "stdin", stdin)
    assert encode_file(encoder, "-", tmp_path / "b.npy") == 2
    np.testing.assert_array_equal(np.load(tmp_path / "a.npy"), np.load(tmp_path / "b.npy"))
    (tmp_path / "empty").touch()
    assert encode_file(encoder, tmp_path / "empty", tmp_path / "c.npy") == 0
    assert np.load(tmp_path / "c.npy").shape == (0, 32)


def test_memory_does_not_grow_with_the_file(tmp_path, monkeypatch):
    monkeypatch.setattr(encoders, "SLAB", 10)
    seen = []

    class Watched(Encoder):
        def encode(self, sentences, *args, **kwargs):
            seen.append(len(sentences))
            return super().encode(sentences, *args, **kwargs)

    (tmp_path / "in").write_text("the cat\n" * 95)
    assert encode_file(Watched(bundle()), tmp_path / "in", tmp_path / "o.npy") == 95


def test_interruption_leaves_the_old_file(tmp_path):
    path = tmp_path / "out.npy"
    path.write_text("old")

    def interrupted():
        with atomic(path) as temporary:
            temporary.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_killed_command_leaves_the_old_file(tmp_path):
    (tmp_path / "model").mkdir()
    write_format(bundle(), tmp_path / "model", "safetensors")
    output = tmp_path / "out.npy"
    output.write_text("old")
    code = (
        "import sys, pathlib; from lightxling.encode.encoder import Encoder, encode_file; "
        "print('ready', flush=True); "
        "encode_file(Encoder.load(sys.argv[1]), '-', pathlib.Path(sys.argv[2]))"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "model"), str(output)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"ready\n"
        process.stdin.write(b"the cat\n" * (encoders.SLAB + 1))
        process.stdin.flush()
        process.kill()
    assert output.read_text() == "old"


@pytest.mark.parametrize(
    ("source", "output", "message"),
    [
        ("in", "out.txt", "end in .npy, .f32 or .jsonl"),
        ("in", "missing/out.npy", "there is no folder"),
        ("missing", "out.npy", "cannot read"),
        ("in/x", "out.npy", "cannot read .*in/x: Not a directory"),
        ("n" * 300, "out.npy", "cannot read .*: File name too long"),
        ("bad.gz", "out.npy", "damaged gzip"),
    ],
)
def test_mistakes_are_explained(tmp_path, source, output, message):
    (tmp_path / "in").write_text("the cat\n")
    (tmp_path / "bad.gz").write_bytes(gzip.compress(b"the cat\n" * 1000)[:-20])
    with pytest.raises(UserError, match=message):
        encode_file(Encoder(bundle()), tmp_path / source, tmp_path / output)
    assert not list(tmp_path.glob("*.npy"))


def test_load_explains_what_is_no_model(tmp_path):
    for name in ("nothing", "n" * 300):
        with pytest.raises(UserError, match="no model at"):
            Encoder.load(tmp_path / name)
    with pytest.raises(UserError, match="the path of the model is empty; give the folder"):
        Encoder.load("")
    with pytest.raises(UserError, match=r"cannot read .*config.json"):
        Encoder.load(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(UserError, match="is not a run, nor an export that lightxling reads"):
        Encoder.load(tmp_path)


def test_load_of_an_export_refuses_a_checkpoint(tmp_path):
    write_format(bundle(), tmp_path, "safetensors")
    with pytest.raises(UserError, match="is an export and has no checkpoints"):
        Encoder.load(tmp_path, checkpoint="last")


def test_step_zero_is_a_checkpoint_like_any(tmp_path):
    model = ModelConfig(layers=1, width=8, heads=2, feedforward=8, max_length=8)
    about = {"config": to_dict(Config(model=model)), "vocab_size": 12, "languages": ["aa", "bb"]}
    (tmp_path / "config.json").write_text(json.dumps(about))
    (tmp_path / "checkpoints" / "5").mkdir(parents=True)
    with pytest.raises(UserError, match="has no checkpoint '0'; it has best, last, 5"):
        Encoder.load(tmp_path, checkpoint=0)
