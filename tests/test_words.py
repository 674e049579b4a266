"""Words with hash buckets and character n-grams: ids, n-grams, the encoder, a whole run."""

import dataclasses
import json
import zlib
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lightxling.base.errors import UserError
from lightxling.base.tree import nest
from lightxling.config.files import load
from lightxling.config.schema import ModelConfig, TokenizerConfig
from lightxling.corpus import tokenizer as tokenizers
from lightxling.corpus.prepare import prepare
from lightxling.corpus.store import Store
from lightxling.corpus.tokenizer import load_tokenizer
from lightxling.corpus.words import MOST, cut_words, ngram_hashes
from lightxling.encode.encoder import Encoder
from lightxling.export import export
from lightxling.export.settings import ExportSettings
from lightxling.model import build as models
from lightxling.model.params import shapes
from lightxling.saved.bundle import Bundle
from lightxling.train.loop import train
from lightxling.train.tasks import make_batches

BUCKETS = 7
WORDS = ["the", "cat", "un", "chat", "."]
MODEL = json.dumps(
    {"format": "lightxling-words", "lowercase": True, "hash_buckets": BUCKETS, "words": WORDS}
).encode()
KNOWN = 3 + len(WORDS)
SMALL = ModelConfig(
    layers=1,
    width=8,
    heads=2,
    feedforward=12,
    embedding_width=6,
    ngrams=50,
    max_length=9,
    activation="relu",
)


def bucket(word):
    return KNOWN + zlib.crc32(word.encode()) % BUCKETS


def test_text_is_cut_into_words_and_single_signs():
    words = ["c", "'", "est", "l", "'", "été", ",", "3", ".", "5", "€", "!"]
    assert cut_words("C'est l'été, 3.5 €!", True) == words
    assert cut_words("नमस्ते दुनिया", True) == ["नमस्ते", "दुनिया"]  # marks stay with their letters
    assert cut_words("The CAT", False) == ["The", "CAT"]
    assert cut_words(" \u00a0\n", True) == []


def test_half_of_a_character_is_a_word_like_others():
    assert all(ngram_hashes("a\ud800b"))


def test_unknown_words_share_the_buckets():
    tokenizer = tokenizers.read_tokenizer(MODEL)
    ids, lengths = tokenizer.encode(["The cat slept.", "", "zzz zzz un"], 9)
    assert lengths.tolist() == [4, 0, 3]
    assert ids.tolist() == [3, 4, bucket("slept"), 7, bucket("zzz"), bucket("zzz"), 5]
    assert tokenizer.vocab_size == KNOWN + BUCKETS == len(tokenizer.pieces())
    assert tokenizer.unknown(ids).tolist() == [False, False, True, False, True, True, False]
    assert tokenizer.encode(["the cat the"], 2)[0].tolist() == [3, 4]
    maskable = tokenizer.maskable()
    assert np.flatnonzero(maskable).tolist() == [3, 4, 5, 6]  # neither ids below, "." nor buckets


def test_a_lexicon_keeps_unknown_words_apart():
    tokenizer = tokenizers.read_tokenizer(MODEL)
    lexicon = tokenizer.new_lexicon()
    ids, _ = tokenizer.encode(["the dog", "un chien", "dog ."], 9, lexicon)
    assert ids.tolist() == [3, KNOWN, 5, KNOWN + 1, KNOWN, 7]
    table = tokenizer.table(np.array([0, 3, KNOWN, KNOWN + 1]), lexicon)
    assert table.rows.tolist() == [0, 3, bucket("dog"), bucket("chien")]
    assert not table.ngrams[0].any()
    grams = ["<do", "dog", "og>", "<dog", "dog>"]
    hashes = [zlib.crc32(gram.encode()) for gram in grams]
    assert table.ngrams[2].tolist() == hashes + [0] * (MOST - 5)
    np.testing.assert_array_equal(
        table.buckets(np.array([[2]]), 50)[0, 0], [1 + h % 50 for h in hashes] + [0] * (MOST - 5)
    )


def test_short_and_long_words_have_n_grams():
    assert len(ngram_hashes("a")) == 1  # <a>
    assert len(ngram_hashes("x" * 16)) == 16 + 15
    assert len(ngram_hashes("abcdefghij" * 10)) == MOST


def test_the_vocabulary_is_the_most_frequent_words(tmp_path):
    config = TokenizerConfig(model="words", vocab_size=6, hash_buckets=2)
    texts = ["b b b a a c c", "A d"]
    for name in ("one", "two"):
        tokenizers.train_tokenizer(iter(texts), config, tmp_path / name)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    tokenizer = load_tokenizer(tmp_path / "one")
    assert tokenizer.pieces()[3:6] == ["a", "b", "c"]
    assert tokenizer.vocab_size == 6 + 2


@pytest.mark.parametrize(
    "damage", [b'{"format": "lightxling-words"}', b"{", MODEL.replace(b"true", b"1"), MODEL[:-9]]
)
def test_a_damaged_vocabulary_is_refused(damage):
    with pytest.raises(UserError, match="is damaged or not a vocabulary of words"):
        tokenizers.read_tokenizer(damage)


# The encoder


def test_the_paper_s_sizes():
    """Closed form: two tables of 320, a layer on the n-grams, 320 to 512, three blocks, norms."""
    config = load("dual-encoder")
    rows = config.tokenizer.vocab_size + config.tokenizer.hash_buckets
    shapes = jax.eval_shape(lambda: models.initialise(config.model, rows, jax.random.key(0)))
    tables = 210_000 * 320 + 200_001 * 320
    block = 4 * (512 * 512 + 512) + 2 * 512 * 2048 + 2048 + 512 + 4 * 512
    total = tables + 320 * 320 + 320 + 320 * 512 + 3 * block + 2 * 512
    assert models.count_parameters(shapes["encoder"]) == total


def random_bundle():
    rng = np.random.default_rng(0)
    expected = shapes(SMALL, KNOWN + BUCKETS, SMALL.width)
    params = {
        name: (name.endswith(".scale") + rng.normal(size=shape) / 3).astype(np.float32)
        for name, shape in expected.items()
    }
    return Bundle(SMALL, params, MODEL, ("en", "fr"))


TEXTS = ["The cat slept.", "un chat dormait", "the", "", "dormir dormir zzz . the", "slept " * 12]


def letters_of(word, p):
    """Sum over the word's n-grams of tanh(W g + b), float64."""
    text, total = f"<{word}>", 0
    for n in (3, 4):
        for i in range(len(text) - n + 1):
            row = 1 + zlib.crc32(text[i : i + n].encode()) % SMALL.ngrams
            total += np.tanh(p["ngrams"][row] @ p["ngram_layer.kernel"] + p["ngram_layer.bias"])
    return total


@pytest.mark.filterwarnings("ignore:a sentence is longer")
def test_the_input_of_a_word_is_its_row_and_its_letters():
    """One sentence without a layer: the vectors are the mean of the normalised inputs."""
    bundle = random_bundle()
    p = {name: value.astype(np.float64) for name, value in bundle.params.items()}
    config = dataclasses.replace(SMALL, layers=0)
    params = {k: v for k, v in bundle.params.items() if not k.startswith("blocks")}
    encoder = Encoder(Bundle(config, params, MODEL), backend="numpy")
    found = encoder.encode(["cat dormait"], normalize=False)[0]
    rows = []
    for place, (word, row) in enumerate([("cat", 4), ("dormait", bucket("dormait"))]):
        x = (p["words"][row] + letters_of(word, p)) @ p["word_projection"] + p["positions"][
            1 + place
        ]
        x = (x - x.mean()) / np.sqrt(x.var() + 1e-12)
        rows.append(x * p["embedding_norm.scale"] + p["embedding_norm.bias"])
    np.testing.assert_allclose(found, np.mean(rows, axis=0), atol=1e-5)


@pytest.mark.filterwarnings("ignore:a sentence is longer")
def test_numpy_jax_and_an_export_agree(tmp_path):
    bundle = random_bundle()
    ours = Encoder(bundle, backend="numpy").encode(TEXTS, normalize=False)
    theirs = Encoder(bundle, backend="jax").encode(TEXTS, normalize=False)
    np.testing.assert_allclose(ours, theirs, atol=1e-5)
    assert not ours[3].any()
    from lightxling.export.formats import write_format

    (tmp_path / "out").mkdir()
    write_format(bundle, tmp_path / "out", "safetensors")
    np.testing.assert_array_equal(
        Encoder.load(tmp_path / "out").encode(TEXTS, normalize=False), ours
    )
    alone = [Encoder(bundle).encode([text], normalize=False)[0] for text in TEXTS]
    np.testing.assert_allclose(alone, ours, atol=1e-5)  # whatever stands around it


def test_padding_n_grams_bring_nothing():
    """Row 0 of the table of n-grams, and what the layer makes of it, stay outside."""
    bundle = random_bundle()
    changed = {**bundle.params, "ngrams": bundle.params["ngrams"].copy()}
    changed["ngrams"][0] += 5
    graphdef = models.structure(SMALL, KNOWN + BUCKETS)
    tokens, ngrams = jnp.array([[3, 4, 0]]), jnp.array([[[1, 2, 0], [3, 0, 0], [0, 0, 0]]])
    one, other = (
        models.encode_tokens(
            graphdef, {"encoder": jax.tree.map(jnp.asarray, nest(p))}, tokens, ngrams
        )
        for p in (bundle.params, changed)
    )
    np.testing.assert_array_equal(one, other)


# A run


@pytest.fixture
def spelled(tiny):
    """`tiny` with words, of which a third are known."""
    return dataclasses.replace(
        tiny,
        tokenizer=TokenizerConfig(model="words", vocab_size=100, hash_buckets=20),
        model=dataclasses.replace(tiny.model, ngrams=64, embedding_width=8, max_length=16),
        train=dataclasses.replace(tiny.train, pairs=16 * 4, buckets=(16,), dev_every=4),
    )


def test_batches_hold_the_rows_and_letters_of_the_text(spelled):
    store = Store.open(prepare(spelled))
    tokenizer = load_tokenizer(store.tokenizer_path)
    batches = make_batches(spelled, store, tokenizer.maskable())
    batch = batches[2]
    tokens, ngrams = batch.tokens, batch.ngrams
    assert (batch.teacher, batch.pivot, batch.labels) == (None, None, None)
    assert tokens.shape == (16, 2, 16)
    assert ngrams.shape == (16, 2, 16, MOST)
    assert (tokens >= 100).any()
    assert tokens.max() < 120
    rows = {}
    source = spelled.corpus.sources[0].split("=")[1]
    for line in Path(source).read_text().splitlines():
        for side in line.split("\t"):
            rows[tuple(tokenizer.encode([side], 16)[0].tolist())] = side.split()
    for text, letters in zip(tokens.reshape(-1, 16), ngrams.reshape(-1, 16, MOST), strict=True):
        words = rows[tuple(text[text > 0].tolist())]
        for word, found in zip(words, letters, strict=False):
            expected = [1 + h % 64 for h in ngram_hashes(word)]
            assert found[found > 0].tolist() == expected
        assert not letters[len(words) :].any()


def test_a_run_of_words_trains_and_is_loaded(spelled, tmp_path):
    run = tmp_path / "run"
    scores = train(spelled, run)
    encoder = Encoder.load(run, checkpoint="last")
    store = Store.open(prepare(spelled))
    src, tgt = (encoder.encode([row[side] for row in store.dev.texts()]) for side in (0, 1))
    from lightxling.evaluate.retrieval import precision_at_1

    assert 100 * precision_at_1(src, tgt).mean == pytest.approx(scores["dev_p@1"], abs=2)
    one, other = encoder.encode(["qqqq", "zzzzz"])
    assert np.abs(one - other).max() > 1e-3  # unknown, and still told apart
    export(ExportSettings(run, tmp_path / "out", format="safetensors", dtype="int8"))
    small = Encoder.load(tmp_path / "out").encode(["qqqq", "zzzzz"])
    np.testing.assert_allclose(small, [one, other], atol=0.1)
    with pytest.raises(UserError, match="vocabulary of words, which only lightxling reads"):
        export(ExportSettings(run, tmp_path / "onnx", format="onnx"))


def test_letters_are_those_of_words(tiny, tmp_path):
    config = dataclasses.replace(tiny, model=dataclasses.replace(tiny.model, ngrams=64))
    with pytest.raises(UserError, match="tokenizer has pieces; set tokenizer"):
        train(config, tmp_path / "run")
