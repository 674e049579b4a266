"""The teacher's vectors: every row has that of its own text, a killed computation goes on, training
looks them up, and what does not fit is refused by name."""

import dataclasses
import hashlib
import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from lightxling.base.errors import UserError
from lightxling.config.files import to_dict
from lightxling.config.objectives import RegressionConfig, SoftConfig
from lightxling.config.schema import Config, ModelConfig, TeacherConfig, TrainConfig
from lightxling.config.settings import change
from lightxling.corpus import vectors as kept
from lightxling.corpus.batches import Batches, Groups
from lightxling.corpus.cleaning import content_hash
from lightxling.corpus.prepare import prepare
from lightxling.corpus.sources import Source
from lightxling.corpus.store import Store
from lightxling.encode.encoder import Encoder
from lightxling.model.params import shapes
from lightxling.saved import bundle as bundles
from lightxling.saved import checkpoint
from lightxling.saved.bundle import Bundle, write_bundle
from lightxling.train import teacher as teachers
from lightxling.train.loop import train

WIDTH = 6
SILENT = lambda line: None  # noqa: E731


def toy(texts):
    """A teacher that is a hash: another text, another vector."""
    digests = [hashlib.sha256(text.encode()).digest() for text in texts]
    return np.array([[byte / 256 for byte in digest[:WIDTH]] for digest in digests], np.float32)


def soft(config: Config, source="", text="", priority=("aa",), **settings) -> Config:
    """`config` with soft labels; nothing else is learnt."""
    objectives = dataclasses.replace(
        config.objectives, soft=SoftConfig(**{"weight": 1.0} | settings)
    )
    for name in ("tokens", "align", "similarity"):
        term = dataclasses.replace(getattr(objectives, name), weight=0.0)
        objectives = dataclasses.replace(objectives, **{name: term})
    return dataclasses.replace(
        config,
        objectives=objectives,
        teacher=TeacherConfig(source=str(source), text=str(text), priority=tuple(priority)),
    )


@pytest.fixture
def two_corpora(tmp_path, tiny):
    """aa-bb and bb-cc, with repeated sentences, case, and characters that no piece holds."""
    lines = {
        "one.tsv": [
            f"Wort{i % 40} Rot{i % 7} Haus\tmot{i} rouge{i % 7} maison" for i in range(150)
        ],
        "two.tsv": [f"mot{i} vert\tparola{i % 30} VERDE {chr(0x1200 + i)}" for i in range(90)],
    }
    for name, rows in lines.items():
        (tmp_path / name).write_text("\n".join(rows) + "\n", "utf-8")
    sources = (f"aa-bb={tmp_path / 'one.tsv'}", f"bb-cc={tmp_path / 'two.tsv'}")
    corpus = dataclasses.replace(tiny.corpus, sources=sources, store=str(tmp_path / "stores"))
    tokenizer = dataclasses.replace(tiny.tokenizer, vocab_size=40, character_coverage=0.98)
    return dataclasses.replace(tiny, corpus=corpus, tokenizer=tokenizer)


def expected_rows(config: Config, store: Store) -> list[tuple[str, ...]]:
    """The lines of the sources without those held out, as the store must have them: by a sentence
    in a language that comes first in some source."""
    parsed = map(Source.parse, config.corpus.sources)
    sources = [(source.languages, Path(source.path)) for source in parsed]
    leading = {codes[0] for codes, _ in sources}
    rows = [
        tuple(line.split("\t"))
        for codes, file in sources
        for line in file.read_text("utf-8").splitlines()
        if not any(
            code in leading and content_hash(text) < config.corpus.dev_share * 2**64
            for code, text in zip(codes, line.split("\t"), strict=True)
        )
    ]
    assert len(rows) == store.train.rows
    return rows


def compute(config: Config, store: Store, encode=toy, identity="toy"):
    """The vectors of a function as the teacher."""
    teacher = kept.FrozenEncoder(identity, lambda: encode)
    return teachers.sentence_vectors(config, store, teacher, progress=SILENT)


@pytest.mark.parametrize("labels", ["priority", "average"])
def test_every_row_has_the_vector_of_its_own_text(two_corpora, labels):
    config = soft(two_corpora, labels=labels, priority=("cc", "aa", "bb"))
    store = Store.open(prepare(config, progress=SILENT))
    asked = []
    vectors = compute(config, store, lambda texts: asked.extend(texts) or toy(texts))
    assert len(asked) == len(set(asked))  # each distinct sentence once

    rows = np.arange(store.train.rows)
    picked, pivot = vectors.pick(rows)
    expected = store.train.group if labels == "priority" else 0  # aa before bb, cc before bb
    np.testing.assert_array_equal(pivot, np.broadcast_to(expected, pivot.shape))
    for row, texts in enumerate(expected_rows(config, store)):
        for side in (0, 1):
            if labels == "priority" and side != pivot[row]:
                assert not picked[row, side].any()
            else:
                vector = toy([texts[side]]).astype(np.float16)[0]
                np.testing.assert_array_equal(picked[row, side], vector)
    if labels == "priority":
        assert all("Haus" in text or "VERDE" in text for text in asked)

    compute(config, store, None)  # the second time nothing is encoded
    count = len(store.groups)
    batches = Batches(
        store.train,
        Groups(np.ones(count), np.tile([0, 1], (count, 1))),
        TrainConfig(batch_size=8, buckets=(32,)),
        ModelConfig(max_length=32),
        maskable=np.ones(40, bool),
        teacher=vectors,
    )
    batch = batches[3]
    chosen = batches._epoch(0)[3]
    np.testing.assert_array_equal(batch.teacher, picked[chosen])
    np.testing.assert_array_equal(batch.pivot, pivot[chosen])
    assert len(batch.tokens) == len(batch.teacher) == 8


PROGRAM = """
import json, sys, time
from lightxling.train import teacher as teachers
from lightxling.config.schema import Config
from lightxling.config.files import from_dict
from lightxling.corpus import vectors
from lightxling.corpus.store import Store
from lightxling.corpus.vectors import FrozenEncoder
sys.path.insert(0, sys.argv[3])
from test_teacher import toy

def slow(texts):
    time.sleep(0.2)
    return toy(texts)

vectors._CHUNK = 8
config = from_dict(Config, json.loads(sys.argv[1]))
teacher = FrozenEncoder("slow", lambda: slow)
teachers.sentence_vectors(config, Store.open(sys.argv[2]), teacher)
"""


def test_a_killed_computation_goes_on_to_the_same_bytes(two_corpora, monkeypatch):
    config = soft(two_corpora, labels="average")
    config = dataclasses.replace(config, teacher=TeacherConfig(priority=("aa", "bb")))
    store = Store.open(prepare(config, progress=SILENT))
    arguments = [json.dumps(to_dict(config)), str(store.path), str(Path(__file__).parent)]
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, *arguments], stdout=subprocess.DEVNULL
    )
    end = time.monotonic() + 120
    work = store.path.parent
    while not list(work.glob(".*.computing/done.json")):
        assert process.poll() is None
        assert time.monotonic() < end
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    (half,) = work.glob(".*.computing")
    with open(half / "vectors.bin", "ab") as file:
        file.write(b"cut off in the middle of a write")

    monkeypatch.setattr(kept, "_CHUNK", 8)
    asked, lines = [], []
    teacher = kept.FrozenEncoder("slow", lambda: lambda t: asked.extend(t) or toy(t))
    resumed = teachers.sentence_vectors(config, store, teacher, progress=lines.append)
    done = resumed.manifest["sentences"] - len(asked)
    assert done >= 8
    assert any(f"going on after {done}" in line for line in lines)
    whole = compute(config, store, identity="in one go")
    np.testing.assert_array_equal(resumed.vectors, whole.vectors)
    np.testing.assert_array_equal(resumed.index, whole.index)
    assert not list(work.glob(".*.computing"))


def export_toy(tiny, folder: Path, languages=("aa", "bb"), width=8) -> Path:
    """An untrained encoder as an export of lightxling."""
    store = Store.open(prepare(tiny, progress=SILENT))
    config = ModelConfig(layers=1, width=width, heads=2, feedforward=8, max_length=32)
    rng, vocab = np.random.default_rng(0), tiny.tokenizer.vocab_size
    params = {
        name: rng.normal(size=shape).astype(np.float32)
        for name, shape in shapes(config, vocab, width).items()
    }
    folder.mkdir()
    bundle = Bundle(config, params, store.tokenizer_path.read_bytes(), languages)
    write_bundle(bundle, folder)
    return folder


def arrays(run: Path) -> dict[str, bytes]:
    """Every array of a run's last checkpoint, by name."""
    import jax
    import orbax.checkpoint as ocp

    step = checkpoint.steps(run / "checkpoints")[-1]
    with ocp.StandardCheckpointer() as checkpointer:
        tree = checkpointer.restore((run / "checkpoints" / str(step)).absolute())
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(key): np.asarray(leaf).tobytes() for key, leaf in leaves}


def test_a_run_learns_from_an_export_and_resumes_to_the_same_bits(tiny, tmp_path):
    source = export_toy(tiny, tmp_path / "teacher")
    config = soft(tiny, source, tcm=True)
    objectives = dataclasses.replace(config.objectives, regression=RegressionConfig(weight=1.0))
    config = dataclasses.replace(config, objectives=objectives)
    before = (source / bundles.PARAMETERS).read_bytes()
    train(config, tmp_path / "straight")
    shutil.copytree(tmp_path / "straight", tmp_path / "resumed")
    shutil.rmtree(tmp_path / "resumed" / "checkpoints" / "12")
    train(config, tmp_path / "resumed")  # from step 6
    assert arrays(tmp_path / "resumed") == arrays(tmp_path / "straight")
    assert (source / bundles.PARAMETERS).read_bytes() == before  # the teacher stays as it was

    lines = (tmp_path / "straight" / "metrics.jsonl").read_text().splitlines()
    losses = [json.loads(line) for line in lines]
    assert losses[-1]["regression"] < losses[0]["regression"]
    description = json.loads((tmp_path / "straight" / "config.json").read_text())
    assert description["teacher"]["width"] == 8
    encoder = Encoder.load(tmp_path / "straight")  # the learned map is not part of it
    assert encoder.dimension == 16
    (tmp_path / "teacher" / bundles.PARAMETERS).unlink()
    export_toy(tiny, tmp_path / "other", width=12)
    changed = dataclasses.replace(
        config, teacher=dataclasses.replace(config.teacher, source=str(tmp_path / "other"))
    )
    with pytest.raises(UserError, match="another teacher"):
        train(changed, tmp_path / "straight")


def matrix(folder: Path, texts, rows=None) -> tuple[Path, Path]:
    vectors = toy(texts)
    np.save(folder / "vectors.npy", vectors[:rows])
    (folder / "texts.txt").write_text("\n".join(texts) + "\n", "utf-8")
    return folder / "vectors.npy", folder / "texts.txt"


def corpus_texts(config: Config, side: int) -> list[str]:
    """One side of a corpus, with repetitions and in another order than the store's."""
    path = Path(config.corpus.sources[0].split("=")[1])
    return [line.split("\t")[side] for line in reversed(path.read_text("utf-8").splitlines())]


def test_a_matrix_gives_the_same_vectors_as_its_function(tiny, tmp_path):
    config = soft(tiny, *matrix(tmp_path, corpus_texts(tiny, 0)))
    store = Store.open(prepare(config, progress=SILENT))
    teacher = teachers.find_teacher(config)
    given = teachers.sentence_vectors(config, store, teacher, progress=SILENT)
    expected = compute(config, store)
    np.testing.assert_array_equal(given.vectors, expected.vectors)
    np.testing.assert_array_equal(given.index, expected.index)


def test_a_matrix_of_another_length_is_refused_with_both_numbers(tiny, tmp_path):
    config = soft(tiny, *matrix(tmp_path, ["a b", "c d", "e f"], rows=2))
    with pytest.raises(UserError, match=r"2 rows .* 3 lines"):
        teachers.find_teacher(config)


def test_a_matrix_that_lacks_a_sentence_is_refused(tiny, tmp_path):
    config = soft(tiny, *matrix(tmp_path, corpus_texts(tiny, 1)))
    store = Store.open(prepare(config, progress=SILENT))
    with pytest.raises(UserError, match=r"sentences of the corpus are missing in teacher"):
        teachers.sentence_vectors(config, store, teachers.find_teacher(config), progress=SILENT)


def test_vectors_of_a_repeated_line_are_counted_and_the_first_counts(tiny, tmp_path):
    config = soft(tiny, *matrix(tmp_path, ["a b", "a\u00ad b", "c"]))
    encode = teachers.find_teacher(config).load
    with pytest.warns(UserWarning, match=r"1 vectors left out: .* another vector .*txt:2"):
        vectors = encode()(["a b", "c"])
    np.testing.assert_array_equal(vectors, np.load(tmp_path / "vectors.npy")[[0, 2]])


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e6])
def test_vectors_that_are_not_finite_are_refused(tiny, bad):
    config = soft(tiny)
    store = Store.open(prepare(config, progress=SILENT))

    def broken(texts):
        vectors = toy(texts)
        vectors[3, 2] = bad
        return vectors

    with pytest.raises(UserError, match="is not finite"):
        compute(config, store, broken, identity=f"broken {bad}")


def test_vectors_that_were_altered_are_refused(tiny):
    config = soft(tiny)
    store = Store.open(prepare(config, progress=SILENT))
    compute(config, store, identity="altered")
    (folder,) = (
        path.parent
        for path in store.path.parent.glob("*-teacher-*/manifest.json")
        if "altered" in path.read_text()
    )
    content = bytearray((folder / "vectors.bin").read_bytes())
    content[5] ^= 1
    (folder / "vectors.bin").write_bytes(content)
    with pytest.raises(UserError, match="is damaged; remove it"):
        compute(config, store, None, identity="altered")


def test_sources_that_changed_since_the_store_was_made_are_refused(two_corpora):
    config = soft(two_corpora, labels="left")
    store = Store.open(prepare(config, progress=SILENT))
    path = Path(config.corpus.sources[1].split("=")[1])
    path.write_text(path.read_text("utf-8").replace("mot40 vert", "mot40 rouge"), "utf-8")
    config = dataclasses.replace(config, teacher=TeacherConfig(priority=("aa", "bb")))
    with pytest.raises(UserError, match="the sources no longer give"):
        compute(config, store)


def test_another_teacher_is_refused_before_the_text_is_read(tiny, tmp_path):
    source = export_toy(tiny, tmp_path / "toy")
    config = soft(change(tiny, corpus__store=str(tmp_path / "stores")), source)
    run = tmp_path / "run"
    run.mkdir()
    about = {"config": to_dict(config), "store": {"tokenizer": ""}, "teacher": {"sha256": "0"}}
    (run / "config.json").write_text(json.dumps(about))
    with pytest.raises(UserError, match="with another teacher than what is now in"):
        train(config, run)
    assert not (tmp_path / "stores").exists()


def test_teachers_that_cannot_be(tiny, tmp_path, monkeypatch):
    with pytest.raises(UserError, match=r"objectives\.soft: a teacher is needed; set teacher"):
        teachers.find_teacher(soft(tiny))
    with pytest.raises(UserError, match="does not exist"):
        teachers.find_teacher(soft(tiny, tmp_path / "nowhere"))
    with pytest.raises(UserError, match="has neither language of aa-bb"):
        teachers.find_teacher(soft(tiny, tmp_path, priority=("en",)))
    english = export_toy(tiny, tmp_path / "english", languages=("en",))
    assert teachers.pivot(["fr", "en"], ("en", "fr")) == 1
    with pytest.raises(UserError, match="trained on en, and is asked for bb"):
        teachers.find_teacher(soft(tiny, english, priority=("en",), labels="right"))
    with pytest.raises(UserError, match="trained on en, and is asked for aa"):
        teachers.find_teacher(soft(tiny, english))
    folder = tmp_path / "sbert"
    folder.mkdir()
    (folder / "modules.json").write_text("[]")
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    with pytest.raises(UserError, match=r"pip install .lightxling\[sentence-transformers\]"):
        teachers.find_teacher(soft(tiny, folder))
    assert teachers.find_teacher(soft(tiny, labels="hard")) is None
    assert teachers.find_teacher(tiny) is None
