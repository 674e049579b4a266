"""What needs no server library: the embeddings format, the thread that makes batches, settings."""

import base64
import dataclasses
import gzip
import json
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from export_samples import bundle
from hypothesis import given, settings
from hypothesis import strategies as st

from lightxling.base.errors import UserError
from lightxling.base.tree import nest
from lightxling.config.files import to_dict
from lightxling.config.objectives import EseConfig
from lightxling.config.schema import Config
from lightxling.encode.encoder import Encoder
from lightxling.encode.serve import protocol, server
from lightxling.encode.serve.access import KEY, read_key
from lightxling.encode.serve.batching import SHARE, Batcher
from lightxling.encode.serve.protocol import Refusal, ServedModel
from lightxling.encode.serve.settings import ServeSettings
from lightxling.export.formats import write_format
from lightxling.export.trim import reduce_dimensions
from lightxling.saved import bundle as bundles

SERVED = ServedModel("five", 8, leading=False)
LIMITS = ServeSettings(max_inputs=3, max_characters=5)


def ask(body, served: ServedModel = SERVED) -> protocol.Question:
    if not isinstance(body, bytes):
        body = json.dumps({"model": "five", **body}).encode()
    return protocol.parse_request(body, served, LIMITS)


def test_a_text_and_a_list_of_texts():
    assert ask({"input": "a"}) == protocol.Question(["a"], "float", 8)
    question = ask({"input": ["", "b"], "encoding_format": "base64", "user": "me", "dimensions": 8})
    assert question == protocol.Question(["", "b"], "base64", 8)
    nulls = dict.fromkeys(("encoding_format", "dimensions", "user", "input_type"))
    assert ask({"input": "a", **nulls}) == protocol.Question(["a"], "float", 8)


@pytest.mark.parametrize(
    ("body", "status", "param", "words"),
    [
        (b"{", 400, None, "not JSON"),
        (b"\xff\xfe\xff", 400, None, "not JSON"),
        (b"[" * 100_000, 400, None, "nested too deeply"),
        (b"[]", 400, None, "JSON object"),
        (b"{}", 400, "model", "model is missing"),
        ({}, 400, "input", "input is missing"),
        ({"input": "a", "model": "six"}, 404, "model", "this server has 'five'"),
        ({"input": "a", "model": None}, 400, "model", "model is missing"),
        ({"input": "a", "inputs": "b"}, 400, "inputs", "unknown parameter 'inputs'"),
        ({"input": "a", "größe": "b"}, 400, "größe", "unknown parameter 'größe'"),
        ({"input": "a", "\ud800": "b"}, 400, "\\ud800", "unknown parameter"),
        ({"input": "a", "model": "\ud800"}, 404, "model", "this server has 'five'"),
        ({"input": []}, 400, "input", "empty list"),
        ({"input": None}, 400, "input", "input is missing"),
        ({"input": {"a": 1}}, 400, "input", "a text or a list of texts"),
        ({"input": [15, 27]}, 400, "input", "check_embedding_ctx_length=False"),
        ({"input": [[15, 27], [3]]}, 400, "input", "token numbers"),
        ({"input": ["a", None]}, 400, "input", "number 1 is None"),
        ({"input": ["a"] * 4}, 400, "input", "4 texts; at most 3"),
        ({"input": ["a", "b" * 6]}, 400, "input", "6 characters in text 1; at most 5"),
        ({"input": "a", "encoding_format": "hex"}, 400, "encoding_format", "'hex'"),
        ({"input": "a", "encoding_format": ["float"]}, 400, "encoding_format", "'float'"),
        ({"input": "a", "dimensions": 9}, 400, "dimensions", "from 1 to 8"),
        ({"input": "a", "dimensions": 0}, 400, "dimensions", "from 1 to 8"),
        ({"input": "a", "dimensions": True}, 400, "dimensions", "from 1 to 8"),
        ({"input": "a", "dimensions": 4}, 400, "dimensions", "do not stand alone"),
    ],
)
def test_what_is_refused(body, status, param, words):
    with pytest.raises(Refusal, match=words) as caught:
        ask(body)
    assert (caught.value.status, caught.value.param) == (status, param)
    error = caught.value.body()["error"]
    assert error["type"] == "invalid_request_error"
    assert error.keys() == {"message", "type", "param", "code"}
    assert json.dumps(error, ensure_ascii=False).encode()  # as it is sent


def test_messages_do_not_repeat_what_was_sent_at_length():
    for body in ({"input": "a", "x" * 9000: 1}, {"input": {"a": "x" * 9000}}):
        with pytest.raises(Refusal) as caught:
            ask(body)
        assert len(json.dumps(caught.value.body())) < 600


def test_an_answer_holds_the_same_numbers_in_both_encodings():
    vectors = np.random.default_rng(0).normal(size=(3, 8)).astype(np.float32)
    found = {}
    for encoding in ("float", "base64"):
        question = protocol.Question(["a", "b", "c"], encoding, 8)
        body = json.loads(protocol.answer(question, SERVED, vectors, np.array([2, 0, 5])))
        assert body["usage"] == {"prompt_tokens": 7, "total_tokens": 7}
        assert [row["index"] for row in body["data"]] == [0, 1, 2]
        found[encoding] = [row["embedding"] for row in body["data"]]
    assert found["float"] == [[float(f"{number:.7g}") for number in row] for row in vectors]
    raw = [np.frombuffer(base64.b64decode(row), "<f4") for row in found["base64"]]
    np.testing.assert_array_equal(raw, vectors)


def test_fewer_dimensions_are_the_leading_ones_at_length_one():
    served = ServedModel("five", 8, leading=True)
    vectors = np.random.default_rng(0).normal(size=(2, 8)).astype(np.float32)
    vectors[1] = 0
    question = ask({"input": ["a", "b"], "dimensions": 3}, served)
    body = json.loads(protocol.answer(question, served, vectors, np.array([1, 1])))
    short = np.array([row["embedding"] for row in body["data"]])
    expected = vectors[0, :3] / np.sqrt(np.sum(np.float64(vectors[0, :3]) ** 2))
    np.testing.assert_allclose(short, [expected, np.zeros(3)], atol=1e-6)


def test_an_export_knows_whether_leading_dimensions_stand_alone(tmp_path):
    whole = bundle()
    small = reduce_dimensions(whole, [f"the {i}" for i in range(40)], 8)
    for name, model in {"whole": whole, "small": small}.items():
        (tmp_path / name).mkdir()
        write_format(model, tmp_path / name, "safetensors")
        assert bundles.load_bundle(tmp_path / name).leading is (name == "small")


@pytest.mark.parametrize("weight", [0.0, 0.5])
def test_a_run_knows_it_by_its_objectives(tmp_path, monkeypatch, weight):
    whole, config = bundle(), Config()
    ese = EseConfig(weight=weight, dimensions=16)
    objectives = dataclasses.replace(config.objectives, ese=ese)
    config = dataclasses.replace(config, model=whole.config, objectives=objectives)
    described = {"config": to_dict(config), "vocab_size": whole.vocab_size}
    (tmp_path / "config.json").write_text(json.dumps(described))
    (tmp_path / "tokenizer.model").write_bytes(whole.tokenizer)
    params = {"encoder": nest(whole.params)}
    monkeypatch.setattr(bundles, "read_run_params", lambda run, checkpoint: params)
    assert bundles.load_bundle(tmp_path).leading is (weight > 0)


# The thread that makes batches


def measured(texts: list[str]):
    """Vectors that tell their texts apart, and token counts."""
    lengths = np.array([len(text) for text in texts], np.int64)
    return np.stack([lengths, [hash(text) % 1000 for text in texts]], 1).astype(np.float32), lengths


class Gate:
    """An encoder that waits until it is let go, and remembers its batches."""

    def __init__(self):
        self.entered, self.open, self.batches = threading.Event(), threading.Event(), []

    def __call__(self, texts: list[str]):
        self.batches.append(texts)
        self.entered.set()
        assert self.open.wait(30)
        return measured(texts)


@given(st.lists(st.lists(st.sampled_from("abcd"), min_size=1, max_size=9), max_size=8))
@settings(max_examples=15, deadline=None)
def test_everyone_gets_the_vectors_of_their_texts(requests):
    batcher = Batcher(measured, batch=4, wait=0.0, limit=1000)
    with ThreadPoolExecutor(4) as pool:
        futures = list(pool.map(batcher.submit, requests))
    batcher.close()
    for texts, future in zip(requests, futures, strict=True):
        vectors, tokens = future.result(timeout=0)
        expected = measured(texts)
        np.testing.assert_array_equal(vectors, expected[0])
        np.testing.assert_array_equal(tokens, expected[1])
    assert batcher.waiting == 0
    assert not batcher.alive


def test_what_gathers_is_encoded_together_and_no_request_holds_up_the_others():
    gate = Gate()
    batcher = Batcher(gate, batch=2 * SHARE, wait=0.0, limit=1000)
    first = batcher.submit(["first"])
    assert gate.entered.wait(30)
    large, small = batcher.submit(["large"] * 5 * SHARE), batcher.submit(["small"])
    assert batcher.waiting == 5 * SHARE + 1
    gate.open.set()
    batcher.close()
    together = ["large"] * SHARE + ["small"] + ["large"] * (SHARE - 1)
    assert gate.batches[:2] == [["first"], together]
    assert max(map(len, gate.batches)) == 2 * SHARE
    assert [len(future.result()[0]) for future in (first, large, small)] == [1, 5 * SHARE, 1]


def test_a_text_waits_for_others_but_not_for_ever():
    batches = []

    def encode(texts):
        batches.append(len(texts))
        return measured(texts)

    patient = Batcher(encode, batch=3, wait=30.0, limit=100)
    futures = [patient.submit([name]) for name in "abc"]  # the third fills the batch
    assert [len(future.result(timeout=20)[0]) for future in futures] == [1, 1, 1]
    assert batches == [3]
    patient.close()
    hasty = Batcher(encode, batch=3, wait=0.01, limit=100)
    assert len(hasty.submit(["alone"]).result(timeout=20)[0]) == 1
    hasty.close()


def test_a_full_queue_sends_away_and_one_who_gave_up_is_not_encoded():
    gate = Gate()
    batcher = Batcher(gate, batch=4, wait=0.0, limit=4)
    running = batcher.submit(["running"])
    assert gate.entered.wait(30)
    waits, gives_up = batcher.submit(["waits"] * 2), batcher.submit(["gives up"] * 2)
    with pytest.raises(Refusal, match="4 texts are waiting and 4 may") as caught:
        batcher.submit(["too many"])
    assert caught.value.status == 429
    assert 1 <= caught.value.retry_after <= 60
    assert gives_up.cancel()
    gate.open.set()
    batcher.close()
    assert gate.batches == [["running"], ["waits"] * 2]
    assert len(running.result()[0]) == 1
    assert len(waits.result()[0]) == 2
    assert batcher.waiting == 0
    with pytest.raises(Refusal, match="stopping"):
        batcher.submit(["late"])


def test_a_batch_that_fails_does_not_stop_the_next():
    def encode(texts):
        if "bad" in texts:
            raise ValueError("no vector")
        return measured(texts)

    batcher = Batcher(encode, batch=1, wait=0.0, limit=10)
    futures = [batcher.submit(texts) for texts in (["bad", "x"], ["good"])]
    batcher.close()
    with pytest.raises(ValueError, match="no vector"):
        futures[0].result(timeout=0)
    assert len(futures[1].result(timeout=0)[0]) == 1


def test_a_request_that_fails_does_not_fail_those_of_its_batch():
    def encode(texts):
        if "bad" in texts:
            raise ValueError("no vector")
        return measured(texts)

    batcher = Batcher(encode, batch=9, wait=10.0, limit=10)
    futures = [batcher.submit(texts) for texts in (["a"], ["bad", "x"], ["b", "c"])]
    batcher.close()
    with pytest.raises(ValueError, match="no vector"):
        futures[1].result(timeout=0)
    for i, texts in ((0, ["a"]), (2, ["b", "c"])):
        np.testing.assert_array_equal(futures[i].result(timeout=0)[0], measured(texts)[0])


@pytest.mark.parametrize("text", ["", " \n", "a\nb", "schlüssel", "x" * 5000])
def test_a_key_that_no_header_holds_is_refused_and_not_shown(text, tmp_path):
    (tmp_path / "key").write_text(text)
    with pytest.raises(UserError, match="should hold a key") as caught:
        read_key(tmp_path / "key")
    assert not text.strip() or text not in str(caught.value)
    with pytest.raises(UserError, match="No such file"):
        read_key(tmp_path / "none")


# Settings


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch": 0}, "--batch=0 should be greater than 0"),
        ({"max_body": -1}, "--max-body=-1"),
        ({"timeout": float("nan")}, "--timeout=nan"),
        ({"port": 70_000}, "--port=70000 should be from 0"),
        ({"keep_alive": 0.0}, "--keep-alive=0.0 should be greater than 0"),
        ({"allow_origin": ("example.org",)}, "--allow-origin example.org is not the origin"),
        ({"allow_origin": ("https://a.org/b",)}, "without a path"),
        ({"wait": 40_000.0}, "--wait=40000"),
        ({"max_waiting": 10}, "--max-waiting=10 should be at least --max-inputs=2048"),
    ],
)
def test_settings_that_cannot_work_are_named(changes, message):
    with pytest.raises(UserError, match=message):
        ServeSettings(**changes).validate()


@pytest.mark.parametrize("host", ["my..host", "n" * 64 + ".org", "."])
def test_a_host_that_is_no_name_is_refused(host):
    with pytest.raises(UserError, match=f"--host {host}"):
        server.listen(host, 0)


def test_the_extra_is_named_where_it_lacks(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "starlette", None)
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    with pytest.raises(
        UserError, match=r'needs (starlette|uvicorn): pip install "lightxling\[serve\]"'
    ):
        server.serve_encoder(tmp_path, ServeSettings(), say=print)
    monkeypatch.setenv(KEY, " ")
    with pytest.raises(UserError, match="LIGHTXLING_API_KEY should hold a key"):
        server.serve_encoder(tmp_path, ServeSettings(), say=print)


def test_tokens_are_counted_as_read():
    encoder = Encoder(bundle())
    texts = ["the cat", "", "where is the station", "the cat " * 40]
    with pytest.warns(UserWarning, match="longer than 24 tokens"):
        vectors, counts = encoder.encode_counted(texts)
    pieces = [len(encoder.tokenizer._model.encode(text)) for text in texts]
    assert counts.tolist() == [min(n, 24) for n in pieces]
    np.testing.assert_array_equal(vectors, encoder.encode(texts))


def test_a_body_of_many_members_is_not_unpacked_one_by_one():
    """Each would cost a copy of all that follow it: 200,000 fit into the largest body."""
    some = b"".join(gzip.compress(b"ab") for _ in range(protocol.MEMBERS))
    assert protocol.unpack(some, "gzip", 1000) == b"ab" * protocol.MEMBERS
    with pytest.raises(protocol.Refusal, match="more than 100 members"):
        protocol.unpack(some + gzip.compress(b""), "gzip", 1000)
