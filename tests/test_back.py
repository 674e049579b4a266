"""A sentence-transformers folder of ours comes back: as it was written, and as others save it."""

import contextlib
import itertools
import json
import shutil

import numpy as np
import pytest
from export_samples import HOSTILE, KINDS, VARIANTS, WORDS, bundle, ids, tokenizer

from lightxling.base.errors import UserError
from lightxling.config.schema import (
    Config,
    CorpusConfig,
    ModelConfig,
    OptimizerConfig,
    TrainConfig,
)
from lightxling.config.settings import change
from lightxling.corpus.prepare import prepare
from lightxling.corpus.tokenizer_json import pieces_model
from lightxling.encode.encoder import Encoder
from lightxling.export.fast_tokenizer import fast_tokenizer
from lightxling.export.formats import write_format
from lightxling.export.quantize import quantize
from lightxling.export.trim import reduce_dimensions
from lightxling.train.loop import train
from lightxling.train.warm_start import read_origin

pytestmark = pytest.mark.filterwarnings("ignore:a sentence is longer")

TEXT = [" ".join(np.random.default_rng(i).choice(WORDS, 1 + i % 9)) for i in range(40)]
HERE = {name: changes for name, changes in VARIANTS.items() if name != "attention"}
QUICK = ("plain", "factorised", "no positions", "weighted bag")
"""Those that are tried everywhere; the others take longer together than they are worth there."""
SOME = [
    pytest.param(changes, id=name, marks=[] if name in QUICK else pytest.mark.export)
    for name, changes in HERE.items()
]
TOKENIZERS = [
    pytest.param(kind, id=name, marks=[] if name == "unigram with bytes" else pytest.mark.export)
    for name, kind in KINDS.items()
]


def write(folder, **changes):
    folder.mkdir(exist_ok=True)
    small = bundle(**changes)
    write_format(small, folder, "sentence-transformers")
    return small


def listed(folder):
    return {path.name for path in folder.iterdir()}


def edit(path, change):
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


@pytest.mark.parametrize("kind", TOKENIZERS)
def test_the_tokenizer_comes_back_from_its_json(kind, tmp_path):
    model = tokenizer(*kind)
    file = tmp_path / "tokenizer.json"
    file.write_text(json.dumps(fast_tokenizer(model, 24)))
    assert ids(pieces_model(file), TEXT + HOSTILE) == ids(model, TEXT + HOSTILE)


@pytest.mark.parametrize("changes", SOME)
def test_a_folder_opens_with_the_vectors_that_it_had(changes, tmp_path):
    small = write(tmp_path, **changes)
    back = Encoder.load(tmp_path)
    np.testing.assert_allclose(
        back.encode(TEXT + HOSTILE), Encoder(small).encode(TEXT + HOSTILE), atol=1e-6
    )
    assert back.languages == ("en", "fr", "de")
    assert back.max_length == 24


@pytest.mark.parametrize("changes", [{}, VARIANTS["weighted bag"]], ids=["plain", "bag"])
def test_shortened_vectors_and_half_numbers_come_back(changes, tmp_path):
    small = quantize(reduce_dimensions(bundle(**changes), TEXT, 12), "float16")
    write_format(small, tmp_path, "sentence-transformers")
    back = Encoder.load(tmp_path)
    assert back.dimension == 12
    np.testing.assert_allclose(back.encode(TEXT), Encoder(small).encode(TEXT), atol=3e-3)


def starting(tmp_path) -> Config:
    """A run that starts from a folder and learns next to nothing."""
    write(tmp_path / "st")
    lines = [f"{a}\t{b}\n" for a, b in itertools.pairwise(TEXT) if a != b]
    (tmp_path / "some.en-fr.tsv").write_text("".join(lines))
    return Config(
        corpus=CorpusConfig(
            sources=(f"en-fr={tmp_path / 'some.en-fr.tsv'}",),
            dev_share=0.2,
            store=str(tmp_path / "stores"),
        ),
        model=ModelConfig(width=32, heads=4, feedforward=48, max_length=24, identical_layers=False),
        optimizer=OptimizerConfig(learning_rate=1e-30, warmup_steps=0, schedule="constant"),
        train=TrainConfig(
            init_from=str(tmp_path / "st"), pairs=8, batch_size=8, buckets=(24,), dev_every=1
        ),
    )


def test_a_folder_is_a_start(tmp_path):
    config = starting(tmp_path)
    store = prepare(config, progress=lambda text: None)
    there = (store / "tokenizer.model").read_bytes()
    assert ids(there, TEXT) == ids(tokenizer(), TEXT)
    assert prepare(config, progress=lambda text: None) == store
    origin = read_origin(config)
    expected = bundle().params["blocks.1.up.kernel"]
    np.testing.assert_allclose(origin.params["encoder"]["blocks"][1]["up"]["kernel"], expected)
    with pytest.raises(UserError, match=r"model.width: 32 there, 64 here"):
        read_origin(change(config, model__width=64))


@pytest.mark.export
def test_a_run_starts_from_a_folder(tmp_path, capsys):
    train(starting(tmp_path), tmp_path / "run")
    assert f"starting from {tmp_path / 'st'}: encoder" in capsys.readouterr().out
    np.testing.assert_allclose(
        Encoder.load(tmp_path / "run").encode(TEXT),
        Encoder.load(tmp_path / "st").encode(TEXT),
        atol=1e-6,
    )


def pooled_by_two(folder):
    edit(
        folder / "1_Pooling" / "config.json",
        lambda c: (c.clear(), c.update(pooling_mode=["mean", "max"])),
    )


def another_model(folder):
    edit(folder / "config.json", lambda c: c.update(model_type="mpnet"))


def other_pieces(folder):
    edit(
        folder / "tokenizer.json",
        lambda c: c["model"].update(type="Letters", vocab={"[PAD]": 0}),
    )


def one_more_module(folder):
    edit(
        folder / "modules.json",
        lambda c: c.append({"idx": 3, "name": "3", "path": "3_LSTM", "type": "x.LSTM"}),
    )


def a_way_out(folder):
    edit(folder / "modules.json", lambda c: c[1].update(path="../other"))


def fewer_layers_than_said(folder):
    edit(folder / "config.json", lambda c: c.update(num_hidden_layers=1_000_000_000))


def without_parameters(folder):
    (folder / "model.safetensors").unlink()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (pooled_by_two, r"no encoder that lightxling reads: it pools by mean and max; read are"),
        (another_model, r"it is a 'mpnet' with 'silu'"),
        (other_pieces, r"tokenizer.json is not a tokenizer that is read: WordPiece, Unigram, BPE"),
        (one_more_module, r"an encoder has no LSTM there"),
        (a_way_out, r"modules.json is damaged \(../other is outside"),
        (fewer_layers_than_said, r"has not the arrays of a BertModel \('encoder.layer.2"),
        (without_parameters, r"cannot read .*model.safetensors"),
    ],
)
def test_what_is_not_ours_is_refused(damage, message, folder, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    damage(copy)
    with pytest.raises(UserError, match=message):
        Encoder.load(copy)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("st")
    write(folder)
    return folder


@pytest.mark.export
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("changes", HERE.values(), ids=HERE)
def test_five_steps_of_fine_tuning_come_back(changes, tmp_path):
    """Also the token types and positions, which fine-tuning moves."""
    library = pytest.importorskip("sentence_transformers")
    import torch

    small = write(tmp_path / "before", **changes)
    model = library.SentenceTransformer(str(tmp_path / "before"), device="cpu")
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    for step in range(5):
        sides = [TEXT[8 * step : 8 * step + 4], TEXT[8 * step + 4 : 8 * step + 8]]
        a, b = (model(model.tokenize(side))["sentence_embedding"] for side in sides)
        loss = torch.nn.functional.cross_entropy(5 * a @ b.T, torch.arange(4))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    model.save(str(tmp_path / "after"))
    model = library.SentenceTransformer(str(tmp_path / "after"), device="cpu")
    texts = [text for text in TEXT + HOSTILE if text.strip()]
    moved = pytest.warns(UserWarning, match=r"as they were before; freeze .*requires_grad_")
    with moved if "1_WordWeights" in listed(tmp_path / "after") else contextlib.nullcontext():
        found = Encoder.load(tmp_path / "after").encode(texts)
    assert np.abs(found - Encoder(small).encode(texts)).max() > 1e-3
    np.testing.assert_allclose(found, model.encode(texts), atol=1e-6)
