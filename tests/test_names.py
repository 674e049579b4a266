"""An encoder under the names of sentence-transformers, and vectors as raw numbers."""

import dataclasses

import numpy as np
import pytest
from export_samples import WORDS, bundle

from lightxling.base.errors import UserError
from lightxling.encode.encoder import Encoder, encode_file
from lightxling.encode.names import quantised

TEXT = [" ".join(np.random.default_rng(i).choice(WORDS, 1 + i % 9)) for i in range(12)]


@pytest.fixture(scope="module")
def encoder():
    return Encoder(
        dataclasses.replace(bundle(), prompts={"query": "the cat ", "passage": "a dog "})
    )


def test_arguments_of_the_other_library(encoder):
    plain = encoder.encode(TEXT)
    found = encoder.encode(
        TEXT,
        show_progress_bar=False,
        normalize_embeddings=True,
        convert_to_numpy=True,
        device="cpu",
    )
    np.testing.assert_array_equal(found, plain)
    assert isinstance(encoder.encode(TEXT, convert_to_numpy=False), list)
    one = encoder.encode(TEXT[0], precision="ubinary")
    np.testing.assert_array_equal(np.unpackbits(one), plain[0] > 0)
    assert encoder.get_sentence_embedding_dimension() == 32
    assert encoder.max_seq_length == 24
    pairwise = encoder.similarity_pairwise(plain[:6], plain[6:])
    np.testing.assert_allclose(
        pairwise, np.diag(encoder.similarity(plain[:6], plain[6:])), atol=1e-6
    )


def test_prompts_are_put_before_a_text(encoder):
    expected = encoder.encode(["the cat " + text for text in TEXT])
    np.testing.assert_array_equal(encoder.encode_query(TEXT), expected)
    np.testing.assert_array_equal(encoder.encode(TEXT, prompt="the cat "), expected)
    np.testing.assert_array_equal(
        encoder.encode_document(TEXT[0]), encoder.encode("a dog " + TEXT[0])
    )
    always = Encoder(dataclasses.replace(encoder.bundle, prompts={"": "the cat "}))
    np.testing.assert_array_equal(always.encode(TEXT), expected)
    assert not always.encode("").any()
    assert always.fingerprint != encoder.fingerprint


def test_what_has_no_meaning_is_refused(encoder):
    with pytest.raises(TypeError, match="unexpected keyword argument 'batchsize'"):
        encoder.encode(TEXT, batchsize=3)
    for named, message in (
        ({"device": "cuda"}, "device=cuda"),
        ({"precision": "int4"}, "should be float32, int8"),
        ({"precision": "int8"}, "there is one; give more, or binary"),
        ({"truncate_dim": 33}, "from 1 to 32"),
        ({"truncate_dim": 8}, "do not stand alone"),
        ({"prompt_name": "q"}, "it has query, passage"),
    ):
        with pytest.raises(UserError, match=message):
            encoder.encode(TEXT[0], **named)


def test_shorter_vectors_have_length_one_again(encoder):
    leading = Encoder(dataclasses.replace(encoder.bundle, leading=True))
    found = leading.encode(TEXT, truncate_dim=8)
    cut = encoder.encode(TEXT)[:, :8]
    np.testing.assert_allclose(found, cut / np.linalg.norm(cut, axis=1)[:, None], rtol=1e-6)


def test_saved_under_their_name_it_opens_again(encoder, tmp_path):
    encoder.save_pretrained(tmp_path / "saved")
    again = Encoder.load(tmp_path / "saved")
    np.testing.assert_array_equal(again.encode_query(TEXT), encoder.encode_query(TEXT))
    assert again.fingerprint == encoder.fingerprint
    with pytest.raises(UserError, match="exists; give the name of a new folder"):
        encoder.save_pretrained(tmp_path / "saved")


def test_raw_numbers_are_little_endian_rows(encoder, tmp_path):
    (tmp_path / "text").write_text("".join(f"{text}\n" for text in TEXT), "utf-8")
    assert encode_file(encoder, tmp_path / "text", tmp_path / "x.f32") == len(TEXT)
    found = np.fromfile(tmp_path / "x.f32", "<f4").reshape(-1, 32)  # as LASER's tools read
    np.testing.assert_array_equal(found, encoder.encode(TEXT))


@pytest.mark.export
@pytest.mark.parametrize("precision", ["int8", "uint8", "binary", "ubinary"])
def test_precisions_are_those_of_the_library(precision):
    quantize = pytest.importorskip("sentence_transformers.util").quantize_embeddings
    vectors = np.random.default_rng(0).normal(size=(50, 16)).astype(np.float32)
    np.testing.assert_array_equal(quantised(vectors, precision), quantize(vectors, precision))
