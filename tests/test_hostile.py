"""Anything at all in the files that runs, scores and indexes are read from: a message or sense."""

import contextlib
import copy
import dataclasses
import io
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from export_samples import bundle
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from rich.console import Console

from lightxling.base.errors import UserError
from lightxling.base.vectors import map_array
from lightxling.config.files import from_dict, load, to_dict
from lightxling.config.rules import validate
from lightxling.config.schema import Config
from lightxling.encode.encoder import Encoder
from lightxling.encode.search import Index
from lightxling.evaluate.compare import compare, render
from lightxling.evaluate.run import Asked, evaluate
from lightxling.saved import checkpoint
from lightxling.saved.bundle import read_run
from lightxling.saved.workdir import refuse_another_run
from lightxling.train.progress import Progress

FUZZ = settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=100
)
NUMBERS = st.sampled_from([0, -1, 1 << 62, 10**400, float("nan"), float("inf"), 1e-320])
JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(max_size=5) | st.integers() | NUMBERS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=6,
)
DEEP = b"[" * 100_000


def message(function, *args, **kwargs) -> str:
    """What a function says to the person; nothing if it takes what it was given."""
    try:
        function(*args, **kwargs)
    except UserError as error:
        return str(error)
    return ""


@st.composite
def spoiled(draw, whole) -> bytes:
    """Bytes that are no JSON at all, or the JSON of `whole` with one value replaced or left out."""
    if draw(st.integers(0, 4)) == 0:
        return draw(st.binary(max_size=60))
    value = copy.deepcopy(whole)
    place, key = [value], 0
    while isinstance(place[key], dict | list) and place[key] and draw(st.integers(0, 5)):
        place = place[key]
        key = draw(st.sampled_from(sorted(place) if isinstance(place, dict) else range(len(place))))
    if draw(st.booleans()) and not (isinstance(place, list) and place and place[0] is value):
        del place[key]
    else:
        place[key] = draw(JSON)
    top = place[0] if isinstance(place, list) and len(place) == 1 and key == 0 else value
    return json.dumps(top).encode("utf-8", "replace")


RUN = {
    "config": to_dict(Config()),
    "languages": ["en", "fr"],
    "vocab_size": 300,
    "parameters": {"encoder": 1000, "training": 1500},
    "store": {"path": "stores/x", "tokenizer": "abc"},
    "teacher": {"width": 8, "sha256": "0"},
    "miners": {"nli": "0"},
    "data": {"main": "0"},
}
FROZEN = {"teacher": "0", "miners": {"nli": "0"}}
METRICS = [
    {"step": step, "pairs": 16 * step, "pairs_per_second": 5.0, "peak_memory": 9, "dev_p@1": 1.0}
    for step in (1, 2)
]
SCORES = {
    "task": "retrieval",
    "dataset": "dev",
    "settings": {},
    "results": {
        name: {"scores": {"p@1": 50.0}, "key": "0", "encoder": "0"} for name in ("en-fr", "en-de")
    },
}


@FUZZ
@given(spoiled(RUN))
@example(DEEP)
def test_any_description_of_a_run(tmp_path, data):
    (tmp_path / "config.json").write_bytes(data)
    message(read_run, tmp_path)


@dataclasses.dataclass(frozen=True)
class AnyStore:
    manifest: dict = dataclasses.field(default_factory=lambda: {"tokenizer": {"sha256": "abc"}})
    tokenizer_path: Path = Path("tokenizer.model")
    content: str = "0"


@FUZZ
@given(spoiled(RUN))
@example(DEEP)
def test_any_description_of_a_run_to_be_resumed(tmp_path, data):
    (tmp_path / "config.json").write_bytes(data)
    refuse, stores = refuse_another_run.__wrapped__, {"main": AnyStore()}
    said = message(refuse, tmp_path, Config(), frozen=FROZEN, stores=stores)
    assert not said or str(tmp_path) in said or "setting" in said or "should be" in said


@FUZZ
@given(spoiled(to_dict(load("dual-encoder-light"))))
@example(b'{"\\n": null}')
def test_any_settings(data):
    try:
        values = json.loads(data)
    except ValueError:
        return
    assert "\n" not in message(lambda: validate(from_dict(Config, values)))


@FUZZ
@given(
    spoiled(RUN),
    st.lists(st.sampled_from(METRICS).flatmap(spoiled) | st.binary(max_size=20), max_size=3),
    spoiled(SCORES),
    st.integers(0, 2),
)
@example(DEEP, [DEEP], DEEP, 0)
@example(json.dumps(RUN).encode(), [DEEP], DEEP, 0)
def test_any_run_in_a_comparison(tmp_path, config, metrics, scores, whole):
    """Two of the three files are whole, or none."""
    good = json.dumps(RUN).encode(), [json.dumps(METRICS[0]).encode()], json.dumps(SCORES).encode()
    config, metrics, scores = (
        whole_one if whole and i == whole else bad
        for i, (whole_one, bad) in enumerate(zip(good, (config, metrics, scores), strict=True))
    )
    (tmp_path / "evaluation").mkdir(exist_ok=True)
    (tmp_path / "config.json").write_bytes(config)
    (tmp_path / "metrics.jsonl").write_bytes(b"\n".join(metrics))
    (tmp_path / "evaluation" / "retrieval.dev.json").write_bytes(scores)
    said = message(lambda: render(*compare([tmp_path]), "markdown"))
    assert not said or str(tmp_path) in said


@FUZZ
@given(st.lists(st.sampled_from(METRICS).flatmap(spoiled) | st.binary(max_size=20), max_size=4))
@example([DEEP, b'{"step": 1}', b"\xff\xfe", b"3"])
def test_a_run_goes_on_whatever_its_metrics_hold(tmp_path, lines):
    (tmp_path / "metrics.jsonl").write_bytes(b"\n".join(lines))
    with Progress(tmp_path, start=1, stop=9, console=Console(file=io.StringIO())) as progress:
        progress.log({"step": 2, "loss": 1.0}, [])
    kept = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert kept[-1] == {"step": 2, "loss": 1.0}
    assert all(record["step"] <= 1 for record in kept[:-1])


@FUZZ
@given(st.binary(max_size=40) | JSON.map(lambda value: json.dumps(value).encode()))
@example(DEEP)
def test_no_checksums_make_a_checkpoint_whole(tmp_path, data):
    (tmp_path / "array").write_bytes(b"12")
    (tmp_path / "checksums.json").write_bytes(data)
    assert not checkpoint.is_whole(tmp_path)


@pytest.fixture(scope="module")
def encoder():
    return Encoder(bundle())


@FUZZ
@given(
    st.sampled_from(["vectors.npy", "starts.npy", "lines.npy", "origin.json"]),
    st.binary(max_size=200),
    st.integers(0, 200),
)
@example("origin.json", DEEP, 0)
@example("vectors.npy", b"(" * 9000, 10)
def test_any_index_is_made_again(encoder, tmp_path, name, data, keep):
    text, index = tmp_path / "lines.txt", tmp_path / "lines.txt.index"
    text.write_text("the cat\nle chat\n")
    Index.open(encoder, text)
    whole = (index / name).read_bytes()
    (index / name).write_bytes(whole[:keep] + data)
    opened = Index.open(encoder, text)
    assert opened.search("the cat", 1)[0][0].line == 1
    shutil.rmtree(index)


@FUZZ
@given(st.binary(max_size=60), st.integers(0, 128))
@example(b"", 0)
@example(b"(" * 200, 10)
def test_any_array_is_one_or_damaged(tmp_path, data, keep):
    np.save(tmp_path / "a.npy", np.zeros((3, 2)))
    whole = (tmp_path / "a.npy").read_bytes()
    (tmp_path / "a.npy").write_bytes(whole[:keep] + data)
    with contextlib.suppress(ValueError):
        assert map_array(tmp_path / "a.npy").nbytes <= keep + len(data)


PIECES = st.sampled_from(
    [
        *(b"\t", b"\n", b"0", b"5.0", b"nan", b"-1e999", b"entailment", b"the cat", b"C", b"\0"),
        *("猫".encode(), b"\xff", b"\r", b'"', b"sports", b"a-000001", b"\x1f\x8b"),
    ]
)
FILES = {
    "sts": ["sts.en-fr.tsv"],
    "classification": ["x.train.en.tsv", "x.test.fr.tsv"],
    "mldoc": ["english.train.1000", "french.test"],
    "nli": ["x.train.en.tsv", "x.test.fr.tsv"],
    "bucc": ["fr-en.training.fr", "fr-en.training.en", "fr-en.training.gold"],
    "retrieval": ["dev.en-fr.tsv"],
}


@pytest.mark.filterwarnings("ignore:.* left out")  # of a damaged text, what is left is scored
@pytest.mark.filterwarnings("ignore:.* holds text too, and is not read")
@pytest.mark.parametrize("task", FILES)
@settings(FUZZ, max_examples=40)
@given(data=st.data())
def test_any_benchmark_file(task, tmp_path, data):
    for name in FILES[task]:
        rows = st.lists(PIECES, max_size=8).map(b"\t".join)
        content = data.draw(st.lists(rows, max_size=6).map(b"\n".join) | st.binary(max_size=60))
        (tmp_path / name).write_bytes(content)

    def encode(texts):
        return np.array([[len(text), 1, text.count("a")] for text in texts], np.float32).reshape(
            -1, 3
        )

    found = [str(tmp_path)] if task != "retrieval" else [f"en-fr={tmp_path / FILES[task][0]}"]
    asked = Asked([task], found, tmp_path / "evaluation")
    message(evaluate, encode, "0", asked, io.StringIO())
