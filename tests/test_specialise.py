"""A tokenizer and embeddings for one language: sparsemax, vectors of contexts, copies, mixtures."""

import dataclasses

import numpy as np
import pytest
from export_samples import WORDS, bundle

from lightxling.base.errors import UserError
from lightxling.cli import main
from lightxling.corpus.pieces import Tokenizer
from lightxling.encode.encoder import Encoder
from lightxling.saved import bundle as bundles
from lightxling.train.specialise import (
    SMOOTHING,
    WINDOW,
    context_vectors,
    read_sentences,
    sparsemax,
    specialise,
    tokenizer_settings,
    transfer,
)


def slow_sparsemax(z):
    """The projection on the simplex: the threshold is found by halving, not by sorting."""
    low, high = min(z) - 1, max(z)
    for _ in range(200):
        middle = (low + high) / 2
        if np.maximum(np.array(z) - middle, 0).sum() > 1:
            low = middle
        else:
            high = middle
    return np.maximum(np.array(z) - high, 0)


def test_sparsemax_is_the_projection_on_the_simplex():
    rng = np.random.default_rng(0)
    for scale in (0.01, 0.3, 1.0, 5.0):
        z = scale * rng.normal(size=(20, 30))
        ours = sparsemax(z)
        np.testing.assert_allclose(ours, [slow_sparsemax(row) for row in z], atol=1e-12)
        np.testing.assert_allclose(ours.sum(axis=1), 1, atol=1e-12)
    np.testing.assert_allclose(sparsemax(np.array([[0.3, 0.3, 0.3]])), 1 / 3)
    np.testing.assert_allclose(sparsemax(np.array([[2.0, 0.5, 0.9]])), [[1, 0, 0]])
    np.testing.assert_allclose(sparsemax(np.array([[0.6, 0.2, -9.0]])), [[0.7, 0.3, 0]])
    np.testing.assert_allclose(sparsemax(np.array([[0.4]])), 1)


def test_vectors_of_contexts_are_the_decomposition_of_a_loop_s_matrix():
    rng = np.random.default_rng(0)
    lengths = rng.integers(1, 12, 60)
    ids = rng.integers(0, 14, lengths.sum()) + (rng.random(lengths.sum()) < 0.3)  # 15 pieces of 16
    counts, start = np.zeros((16, 16)), 0
    for length in lengths:
        sentence = ids[start : start + length]
        start += length
        for i, a in enumerate(sentence):
            for j, b in enumerate(sentence):
                if i != j and abs(i - j) <= WINDOW:
                    counts[a, b] += 1
    total = counts.sum(axis=1)
    information = np.zeros((16, 16))
    for a, b in zip(*np.nonzero(counts), strict=True):
        expected = total[a] * total[b] ** SMOOTHING / sum(t**SMOOTHING for t in total if t)
        information[a, b] = max(0, np.log(counts[a, b] / expected))
    u, s, _ = np.linalg.svd(information)
    rank = (total > 0).sum() - 1
    ours = context_vectors(ids, lengths, 16).astype(np.float64)
    np.testing.assert_allclose(ours @ ours.T, u[:, :rank] * s[:rank] @ u[:, :rank].T, atol=1e-5)
    assert (ours[total == 0] == 0).all()
    np.testing.assert_array_equal(ours, context_vectors(ids, lengths, 16))


def test_shared_pieces_are_copied_and_others_mixed_by_hand():
    rng = np.random.default_rng(0)
    old = ["<pad>", "<unk>", "<MASK>", "▁a", "▁b", "c"]
    new = ["<pad>", "<unk>", "<MASK>", "▁b", "▁new", "▁a", "▁rare", "▁none"]
    table = rng.normal(size=(6, 4)).astype(np.float32)
    table[0] = 0
    auxiliary = np.zeros((8, 2), np.float32)
    auxiliary[3], auxiliary[5], auxiliary[4] = (1, 0), (0, 2), (3, 3 * np.tan(np.pi / 8))
    asked = []

    def cut(pieces):
        asked.extend(pieces)
        return [np.array([3, 5]), np.array([1])]

    words, report = transfer(table, old, new, auxiliary, cut)
    np.testing.assert_array_equal(words[[0, 1, 2, 3, 5]], table[[0, 1, 2, 4, 3]])
    first, second = slow_sparsemax([np.cos(np.pi / 8), np.sin(np.pi / 8)])
    np.testing.assert_allclose(words[4], first * table[4] + second * table[3], rtol=1e-5)
    np.testing.assert_allclose(words[6], (table[3] + table[5]) / 2, rtol=1e-6)
    np.testing.assert_array_equal(words[7], table[1])
    assert asked == ["▁rare", "▁none"]
    assert (report.copied, report.mixed, report.composed) == (5, 1, 2)


def test_new_pieces_are_the_mean_of_their_parts():
    table = np.random.default_rng(0).normal(size=(6, 4)).astype(np.float32)
    old = ["<pad>", "<unk>", "<MASK>", "▁a", "▁b", "c"]
    new = ["<pad>", "<unk>", "<MASK>", "▁b", "▁bc", "▁none"]
    words, report = transfer(
        table, old, new, None, lambda pieces: [np.array([4, 5]), np.array([1])]
    )
    np.testing.assert_array_equal(words[:4], table[[0, 1, 2, 4]])
    np.testing.assert_allclose(words[4], (table[4] + table[5]) / 2, rtol=1e-6)
    np.testing.assert_array_equal(words[5], table[1])
    assert (report.copied, report.mixed, report.composed) == (4, 0, 2)


@pytest.fixture(scope="module")
def text():
    rng = np.random.default_rng(5)
    words = [*WORDS[:30], *("neuwort", "ganzneu", "etwasneues")]
    return [" ".join(rng.choice(words, 6)) for _ in range(400)]


@pytest.mark.parametrize("new_pieces", ["parts", "similar"])
def test_only_the_table_and_the_tokenizer_change(text, new_pieces):
    base = bundle(embedding_width=8)
    special, report = specialise(base, text, "de", 120, new_pieces)
    assert (report.mixed > 0) == (new_pieces == "similar")
    old, new = Tokenizer(base.tokenizer).pieces(), Tokenizer(special.tokenizer).pieces()
    assert special.languages == ("de",)
    assert len(new) == special.vocab_size == 120 == sum(dataclasses.astuple(report))
    for name in base.params.keys() - {"words"}:
        np.testing.assert_array_equal(special.params[name], base.params[name])
    shared = [piece for piece in new if piece in old]
    assert len(shared) == report.copied > 3
    for piece in shared:
        np.testing.assert_array_equal(
            special.params["words"][new.index(piece)], base.params["words"][old.index(piece)]
        )
    assert Encoder(special).encode(["neuwort der hund"]).shape == (1, 32)
    again, _ = specialise(base, text, "de", 120, new_pieces)
    assert again.fingerprint() == special.fingerprint()


def test_the_new_tokenizer_is_trained_like_the_old_one(text):
    from export_samples import tokenizer

    assert tokenizer_settings(tokenizer("bpe", lowercase=False)).model == "bpe"
    assert not tokenizer_settings(tokenizer("bpe", lowercase=False)).lowercase
    settings = tokenizer_settings(tokenizer("unigram", byte_fallback=True))
    assert (settings.model, settings.byte_fallback, settings.lowercase) == ("unigram", True, True)
    few, _ = specialise(bundle(tokenizer("unigram")), text[:50], "de")  # text for fewer than 340
    assert few.vocab_size < 340


def test_the_command_writes_an_encoder_to_start_from(text, tmp_path, capsys):
    from lightxling.export.formats import write_format

    (tmp_path / "base").mkdir()
    write_format(bundle(), tmp_path / "base", "safetensors")
    (tmp_path / "de.txt").write_text("\n".join([*text, "", text[0]]))
    arguments = ["specialise", str(tmp_path / "base"), str(tmp_path / "de.txt"), "--language", "de"]
    arguments += ["-o", str(tmp_path / "de" / "start"), "--vocab-size", "100"]
    assert main(arguments) == 0
    assert "100 pieces: " in capsys.readouterr().err
    assert bundles.load_bundle(tmp_path / "de" / "start").vocab_size == 100
    assert main(arguments) == 2
    assert "exists; give another --output" in capsys.readouterr().err
    assert len(read_sentences([tmp_path / "de.txt"])) == len(set(text))
    no_text = [*arguments[:2], *arguments[3:5], "-o", str(tmp_path / "new")]
    assert main(no_text) == 2
    assert "no text is given; lightxling specialise MODEL FILE" in capsys.readouterr().err
    (tmp_path / "empty").write_text("\n \n")
    with pytest.raises(UserError, match="holds no sentences"):
        read_sentences([tmp_path / "empty"])
