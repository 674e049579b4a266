"""Adapters: nothing at the start, formulas, merging, switching, files of their own."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from export_samples import WORDS, bundle
from safetensors.numpy import load_file, save_file

from lightxling.base.errors import UserError
from lightxling.config.rules import validate
from lightxling.config.schema import AdapterConfig, Config, ModelConfig
from lightxling.encode.encoder import Encoder
from lightxling.export import export
from lightxling.export.formats import write_format
from lightxling.export.settings import ExportSettings
from lightxling.model import build as models
from lightxling.saved import adapters as modules
from lightxling.saved import bundle as bundles
from lightxling.saved import parameters

TEXT = [" ".join(np.random.default_rng(i).choice(WORDS, 1 + i % 9)) for i in range(20)]
ALIGN = AdapterConfig("align", "parallel", reduction=4, scale=4.0)
LORA = AdapterConfig("de", "lora", rank=3, alpha=6.0, targets=("q", "v"))
EVERYWHERE = AdapterConfig("fr", "lora", rank=2, targets=("q", "k", "v", "out", "up", "down"))


@pytest.fixture(scope="module")
def encoder():
    """Random parameters everywhere, adapters too, so that none of them is nothing."""
    return bundle(adapters=(ALIGN, LORA, EVERYWHERE), layers=2)


@pytest.mark.parametrize("adapter", [ALIGN, LORA, EVERYWHERE], ids=lambda a: a.name)
def test_a_new_adapter_changes_no_bit(adapter):
    """Operation by operation; a compiler that fuses more may round elsewhere."""
    plain = ModelConfig(layers=1, width=16, heads=2, feedforward=24, max_length=16, dropout=0.1)
    changed = dataclasses.replace(plain, adapters=(adapter,))
    tokens, key = jnp.array([[3, 4, 5, 0], [4, 9, 8, 7]]), jax.random.key(1)
    vectors = []
    for config in (plain, changed):
        graphdef = models.structure(config, 12)
        params = models.initialise(config, 12, jax.random.key(0))
        encoder = models.merge(graphdef, params).encoder
        vectors.append((encoder(tokens), encoder(tokens, key)))
    np.testing.assert_array_equal(vectors[0][0], vectors[1][0])
    np.testing.assert_array_equal(vectors[0][1], vectors[1][1])


def test_parallel_adapters_start_as_wide_as_the_library_s():
    """kaiming_uniform_(a=sqrt(5)) is uniform up to sqrt(6 / (1 + a^2) / D) = 1 / sqrt(D), deviation
    1 / sqrt(3 D). The way up and both biases are zero."""
    plain = ModelConfig(layers=1, width=96, heads=2, feedforward=8, max_length=8)
    config = dataclasses.replace(plain, adapters=(ALIGN,))
    params = models.initialise(config, 9, jax.random.key(0))
    part = params["encoder"]["adapters"]["align"]["blocks"][0]
    down = np.array(part["down"]["kernel"])
    assert down.shape == (96, 24)
    assert 0.99 / np.sqrt(96) < np.abs(down).max() <= 1 / np.sqrt(96)
    assert down.std() == pytest.approx(1 / np.sqrt(3 * 96), rel=0.03)
    assert not any(np.any(x) for x in (part["down"]["bias"], *part["up"].values()))


def test_new_low_rank_adapters_change_no_bit_where_they_are_merged():
    plain = bundle()
    trained = bundle(adapters=(EVERYWHERE,))
    started = {n: 0 * v if n.endswith(".b") else v for n, v in trained.params.items()}
    params = started | plain.params
    changed = dataclasses.replace(trained, params=params)
    np.testing.assert_array_equal(Encoder(changed).encode(TEXT), Encoder(plain).encode(TEXT))


def test_without_adapters_the_tree_has_no_place_for_them():
    config = ModelConfig(layers=1, width=8, heads=2, feedforward=8, max_length=8)
    params = models.initialise(config, 9, jax.random.key(0))
    assert "adapters" not in params["encoder"]


def slow_vectors(encoder: bundles.Bundle, ids: list[int]) -> np.ndarray:
    """The mean-pooled vector of a sentence in float64, written after the formulas of the papers."""
    config = encoder.config
    p = {name: np.asarray(value, np.float64) for name, value in encoder.params.items()}

    def norm(x, name):
        x = (x - x.mean(1, keepdims=True)) / x.std(1, keepdims=True)
        return x * p[f"{name}.scale"] + p[f"{name}.bias"]

    def linear(x, name, targets):
        y = x @ p[f"{name}.kernel"] + p[f"{name}.bias"]
        block = name.rpartition(".")[0]
        for start, target in targets:
            for adapter in config.adapters:
                if adapter.kind == "lora" and target in adapter.targets:
                    a = p[f"adapters.{adapter.name}.{block}.{target}.a"]
                    b = p[f"adapters.{adapter.name}.{block}.{target}.b"]
                    change = (adapter.alpha / adapter.rank) * (x @ a) @ b
                    y[:, start : start + change.shape[1]] += change
        return y

    width, heads = config.width, config.heads
    x = norm(p["words"][ids] + p["positions"][1 : len(ids) + 1], "embedding_norm")
    for i in range(config.layers):
        block = f"blocks.{i}"
        qkv = linear(x, f"{block}.qkv", [(0, "q"), (width, "k"), (2 * width, "v")])
        q, k, v = (qkv[:, n * width : (n + 1) * width] for n in range(3))
        mixed = np.zeros_like(x)
        size = width // heads
        for head in range(heads):
            part = slice(head * size, (head + 1) * size)
            scores = q[:, part] @ k[:, part].T / np.sqrt(size)
            scores = np.exp(scores - scores.max(1, keepdims=True))
            mixed[:, part] = scores / scores.sum(1, keepdims=True) @ v[:, part]
        x = norm(x + linear(mixed, f"{block}.out", [(0, "out")]), f"{block}.attention_norm")
        inner = linear(x, f"{block}.up", [(0, "up")])
        y = linear(inner / (1 + np.exp(-inner)), f"{block}.down", [(0, "down")])
        for adapter in config.adapters:
            if adapter.kind == "parallel":
                name = f"adapters.{adapter.name}.{block}"
                narrow = x @ p[f"{name}.down.kernel"] + p[f"{name}.down.bias"]
                narrow[narrow < 0] = 0
                y += adapter.scale * (narrow @ p[f"{name}.up.kernel"] + p[f"{name}.up.bias"])
        x = norm(x + y, f"{block}.output_norm")
    return x.mean(axis=0)


@pytest.mark.parametrize("backend", ["numpy", "jax"])
def test_vectors_with_adapters_are_those_of_the_formulas(encoder, backend):
    fast = Encoder(encoder, backend=backend)
    ids, lengths = fast.tokenizer.encode(TEXT[:5], 24)
    expected = [slow_vectors(encoder, list(s)) for s in np.split(ids, np.cumsum(lengths)[:-1])]
    np.testing.assert_allclose(fast.encode(TEXT[:5], normalize=False), expected, atol=2e-4)


def test_merged_low_rank_adapters_are_the_applied_ones(encoder):
    applied = Encoder(encoder, backend="jax").encode(TEXT)
    merged = modules.merge_adapters(encoder)
    assert [adapter.name for adapter in merged.config.adapters] == ["align"]
    assert not any(".de." in name or ".fr." in name for name in merged.params)
    np.testing.assert_allclose(Encoder(merged, backend="jax").encode(TEXT), applied, atol=1e-5)
    assert (
        np.abs(Encoder(modules.select_adapters(encoder, ["align"])).encode(TEXT) - applied).max()
        > 1e-2
    )


@pytest.mark.parametrize("backend", ["numpy", "jax"])
def test_an_adapter_that_is_off_or_added_changes_no_bit_of_the_others(encoder, backend):
    """Off: the vectors of the encoder without it. Added: those of the other languages' adapters."""
    with_all = Encoder(encoder, backend=backend)
    without = {n: v for n, v in encoder.params.items() if not n.startswith("adapters.")}
    config = dataclasses.replace(encoder.config, adapters=())
    bare = Encoder(bundles.Bundle(config, without, encoder.tokenizer), backend=backend)
    np.testing.assert_array_equal(with_all.using().encode(TEXT), bare.encode(TEXT))

    before = dataclasses.replace(
        encoder,
        config=dataclasses.replace(config, adapters=(ALIGN, LORA)),
        params={n: v for n, v in encoder.params.items() if not n.startswith("adapters.fr.")},
    )
    np.testing.assert_array_equal(
        with_all.using("align", "de").encode(TEXT), Encoder(before, backend=backend).encode(TEXT)
    )


def test_an_adapter_file_brings_the_adapter_to_the_base(encoder, tmp_path):
    for adapter in encoder.config.adapters:
        modules.write_adapter(encoder, adapter.name, tmp_path / f"{adapter.name}.safetensors")
    (tmp_path / "base").mkdir()
    write_format(modules.select_adapters(encoder, ()), tmp_path / "base", "safetensors")
    files = [tmp_path / f"{name}.safetensors" for name in ("align", "de", "fr")]
    loaded = Encoder.load(tmp_path / "base", adapters=files)
    np.testing.assert_array_equal(loaded.encode(TEXT), Encoder(encoder).encode(TEXT))
    one = Encoder.load(tmp_path / "base", adapters=files[1:2])
    np.testing.assert_array_equal(one.encode(TEXT), Encoder(encoder).using("de").encode(TEXT))
    assert files[1].stat().st_size < 12_000  # 2 blocks x 2 projections x 2 x 32 x 3 numbers


def test_training_settings_are_no_part_of_the_base(encoder, tmp_path):
    modules.write_adapter(encoder, "de", tmp_path / "de.safetensors")
    config = dataclasses.replace(encoder.config, dropout=0.5, init="scaled", adapters=())
    bare = dataclasses.replace(modules.select_adapters(encoder, ()), config=config)
    assert [a.name for a in modules.read_adapter(bare, tmp_path / "de.safetensors").config.adapters]


def test_adapter_files_that_do_not_fit_are_refused(encoder, tmp_path):
    file = tmp_path / "de.safetensors"
    modules.write_adapter(encoder, "de", file)
    other = bundle(layers=2, seed=1)
    with pytest.raises(UserError, match=r"trained on another encoder .*en, fr, de"):
        modules.read_adapter(other, file)
    odd, about = tmp_path / "odd.safetensors", parameters.read_header(file)
    for languages in ("{", "[1]", "[" * 100_000, '"de"'):
        save_file(load_file(file), odd, {**about, "languages": languages})
        with pytest.raises(UserError, match=r"odd.safetensors is damaged \(languages=.* of codes"):
            modules.read_adapter(other, odd)
    with pytest.raises(UserError, match="the encoder has one already"):
        modules.read_adapter(encoder, file)
    with pytest.raises(UserError, match="no adapter 'it'; the encoder has align, de, fr"):
        modules.with_adapters(encoder, ["it"])
    with pytest.raises(UserError, match="cannot read"):
        modules.with_adapters(encoder, [tmp_path / "none.safetensors"])
    base = modules.select_adapters(encoder, ())
    save_file({"x": np.zeros(2)}, tmp_path / "x.safetensors")
    with pytest.raises(UserError, match=r"x.safetensors is not an adapter; `lightxling export"):
        modules.read_adapter(base, tmp_path / "x.safetensors")
    header = parameters.read_header(file)
    arrays = load_file(file)
    save_file({**arrays, "more": np.zeros(2, np.float32)}, file, header)
    with pytest.raises(UserError, match="see more"):
        modules.read_adapter(base, file)
    for broken in ("{", json.dumps({"name": "de", "kind": "prompt"}), json.dumps({"rank": "x"})):
        save_file(arrays, file, {**header, "adapter": broken})
        with pytest.raises(UserError, match=r"damaged|should be"):
            modules.read_adapter(base, file)
    file.write_bytes(b"abc")
    with pytest.raises(UserError, match="damaged or not a safetensors file"):
        modules.read_adapter(base, file)


def test_an_adapter_file_that_was_altered_is_refused(encoder, tmp_path):
    """Numbers here and there, and its settings; the first files have no sum, and are read."""
    base, file = modules.select_adapters(encoder, ()), tmp_path / "de.safetensors"
    modules.write_adapter(encoder, "de", file)
    whole, header = file.read_bytes(), parameters.read_header(file)
    for place in range(8 + int.from_bytes(whole[:8], "little"), len(whole), 401):
        file.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        with pytest.raises(UserError, match=r"de.safetensors is damaged: .* sha256"):
            modules.read_adapter(base, file)
    file.write_bytes(whole.replace(b'alpha\\": 6.0', b'alpha\\": 7.0'))
    with pytest.raises(UserError, match=r"de.safetensors is damaged: .* sha256"):
        modules.read_adapter(base, file)
    file.write_bytes(whole)
    save_file(load_file(file), file, {n: v for n, v in header.items() if n != "sha256"})
    assert modules.read_adapter(base, file).params.keys() > base.params.keys()


def test_export_writes_adapters_alone(encoder, tmp_path):
    (tmp_path / "model").mkdir()
    write_format(encoder, tmp_path / "model", "safetensors")
    report = export(
        ExportSettings(
            tmp_path / "model", tmp_path / "out", format="adapter", adapters=["de", "fr"]
        )
    )
    assert sorted(file.name for file in (tmp_path / "out").glob("*.safetensors")) == [
        "de.safetensors",
        "fr.safetensors",
    ]
    assert report.after < report.before / 4
    again = Encoder.load(tmp_path / "model", adapters=[tmp_path / "out" / "fr.safetensors"])
    np.testing.assert_array_equal(again.encode(TEXT), Encoder(encoder).using("fr").encode(TEXT))
    with pytest.raises(UserError, match="no adapters to export"):
        export(ExportSettings(tmp_path / "model", tmp_path / "o2", format="adapter", adapters=[]))
    with pytest.raises(UserError, match="leave out --dtype"):
        export(ExportSettings(tmp_path / "model", tmp_path / "o2", format="adapter", dtype="int8"))
    with pytest.raises(UserError, match="is not a run, nor an export"):
        bundles.load_bundle(tmp_path / "out")


def test_exports_have_low_rank_adapters_in_their_matrices(encoder, tmp_path):
    (tmp_path / "model").mkdir()
    write_format(encoder, tmp_path / "model", "safetensors")
    export(ExportSettings(tmp_path / "model", tmp_path / "merged"))
    small = Encoder.load(tmp_path / "merged")
    assert small.bundle.config.adapters == (ALIGN,)
    np.testing.assert_allclose(small.encode(TEXT), Encoder(encoder).encode(TEXT), atol=1e-5)
    export(ExportSettings(tmp_path / "model", tmp_path / "int8", dtype="int8", layers=1))
    assert Encoder.load(tmp_path / "int8").encode(TEXT).shape == (20, 32)
    export(ExportSettings(tmp_path / "model", tmp_path / "bag", layers=0))
    assert Encoder.load(tmp_path / "bag").bundle.config.adapters == ()
    with pytest.raises(UserError, match="no place for the parallel adapters align"):
        export(ExportSettings(tmp_path / "model", tmp_path / "st", format="sentence-transformers"))


@pytest.mark.export
def test_onnx_has_parallel_adapters(encoder):
    runtime = pytest.importorskip("onnxruntime")
    from lightxling.export.onnx import graph

    merged = modules.merge_adapters(encoder)
    session = runtime.InferenceSession(graph(merged).SerializeToString())
    fast = Encoder(encoder)
    for text in TEXT[:4]:
        ids, _ = fast.tokenizer.encode([text], 24)
        ids = ids[None].astype(np.int64)
        feed = {"input_ids": ids, "attention_mask": np.ones_like(ids)}
        (vector,) = session.run(["sentence_embedding"], feed)
        np.testing.assert_allclose(vector[0], fast.encode(text, normalize=False), atol=1e-4)


@pytest.mark.parametrize(
    ("adapters", "message"),
    [
        ((AdapterConfig("Align"),), "'Align' should be a name of its own"),
        ((AdapterConfig(""),), "should be a name of its own"),
        ((AdapterConfig("a.b"),), "should be a name of its own"),
        ((AdapterConfig("a"), AdapterConfig("a", "lora")), "should be a name of its own"),
        ((AdapterConfig("a", reduction=0),), "reduction=0 should be greater than 0"),
        ((AdapterConfig("a", reduction=1024),), "reduction=1024 of model.width=512"),
        ((AdapterConfig("a", "lora", rank=-1),), "rank=-1 should be greater than 0"),
        ((AdapterConfig("a", "lora", targets=()),), "should be some of q, k, v, out, up and down"),
        ((AdapterConfig("a", "lora", targets=("q", "q")),), "each once"),
    ],
)
def test_impossible_adapters_are_named(adapters, message):
    with pytest.raises(UserError, match=message):
        validate(Config(model=ModelConfig(adapters=adapters)))


def test_a_bag_of_vectors_has_no_layers_to_adapt():
    with pytest.raises(UserError, match=r"model.layers=0 has no layers for model.adapters"):
        validate(Config(model=ModelConfig(layers=0, adapters=(ALIGN,))))
