"""Encoding and mining as jobs: on a Ray cluster of this machine, whose workers are killed."""

import contextlib
import dataclasses
import functools
import gzip
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from export_samples import WORDS, bundle
from hypothesis import given, settings
from hypothesis import strategies as st

from lightxling.base.errors import UserError
from lightxling.base.files import write_json
from lightxling.base.lines import SLAB
from lightxling.base.vectors import nearest
from lightxling.encode import encode_jobs, mine_jobs
from lightxling.encode.encode_jobs import JOB, encode_files
from lightxling.encode.encoder import Encoder
from lightxling.encode.jobs import Workers
from lightxling.encode.mine_files import MineSettings, mine_files
from lightxling.encode.mine_jobs import merge_nearest, mine_folders
from lightxling.encode.vector_folders import VECTORS_FORMAT, Part, Vectors, write_part
from lightxling.export.formats import write_format

PART = 16
"""Lines of a part here."""


@given(st.data())
@settings(max_examples=50, deadline=None)
def test_neighbours_of_any_shards_in_any_order_are_those_of_the_whole(data):
    rng = np.random.default_rng(data.draw(st.integers(0, 1000)))
    queries, candidates = (
        rng.normal(size=(5, 4)),
        rng.normal(size=(data.draw(st.integers(1, 30)), 4)),
    )
    k = data.draw(st.integers(1, 6))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(candidates)), max_size=6)))
    shards = list(zip([0, *cuts], [*cuts, len(candidates)], strict=True))
    best = np.empty((5, 0), np.float32), np.empty((5, 0), np.int64)
    for first, last in data.draw(st.permutations(shards)):
        if first < last:
            cosines, rows = nearest(queries, candidates[first:last], k)
            best = merge_nearest(best, (cosines, rows + first), k)
    whole = nearest(queries, candidates, k)
    np.testing.assert_array_equal(best[1], whole[1])
    np.testing.assert_allclose(best[0], whole[0], atol=1e-6)


def test_equal_cosines_are_merged_by_row():
    one = np.float32([[0.5, 0.25]]), np.array([[7, 2]])
    other = np.float32([[0.5, 0.25]]), np.array([[3, 1]])
    for a, b in ((one, other), (other, one)):
        assert merge_nearest(a, b, 3)[1].tolist() == [[3, 7, 1]]


def test_ray_is_asked_for_by_its_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    (tmp_path / "a.txt").write_text("the cat\n")
    with pytest.raises(UserError, match=r'pip install "lightxling\[ray\]"'):
        encode_files(Encoder(bundle()), [str(tmp_path / "a.txt")], tmp_path / "vectors")
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]


@pytest.mark.parametrize(
    ("files", "output", "message"),
    [
        (["a.txt", "missing.txt"], "vectors", "missing.txt"),
        (["-"], "vectors", "reads files"),
        (["a.txt", "a.txt"], "vectors", "given twice"),
        (["a.txt"], "vectors.npy", "a new folder"),
        (["a.txt"], "there", "give another name"),
        (["a.txt"], "no/vectors", "there is no folder"),
        (["a.txt"], "taken", "in the way"),
        (["a.txt"], "other", "of a job with other dtype:"),
    ],
)
def test_mistakes_are_explained_before_a_cluster_starts(
    tmp_path, monkeypatch, files, output, message
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "ray", None)
    Path("a.txt").write_text("the cat\n")
    Path("there").mkdir()
    Path("taken.writing").mkdir()
    Path("taken.writing/thesis.txt").write_text("mine")
    encoder = Encoder(bundle())
    Path("other.writing").mkdir()
    job = {
        "format": VECTORS_FORMAT,
        "encoder": encoder.fingerprint,
        "dimension": encoder.dimension,
    }
    job |= {"dtype": "float32", "normalize": True, "part": SLAB, "files": ["a.txt"]}
    write_json(Path("other.writing") / JOB, job)
    with pytest.raises(UserError, match=message):
        encode_files(encoder, files, Path(output), dtype="float16")
    assert Path("taken.writing/thesis.txt").read_text() == "mine"


def test_a_pool_has_workers_of_at_least_one_core():
    with pytest.raises(UserError, match="--worker-cpus=0 should be at least 1"):
        Workers(cpus=0)


@pytest.mark.parametrize(
    "content", ["", "[]", "{}", '{"format": 3}', "\x00", "9" * 5000, "[" * 9999]
)
def test_a_folder_without_a_manifest_holds_no_vectors(tmp_path, content):
    (tmp_path / "manifest.json").write_text(content)
    with pytest.raises(UserError, match="not a folder of vectors"):
        Vectors.open(tmp_path)


def test_a_part_whose_bytes_changed_is_refused(tmp_path):
    pytest.importorskip("pyarrow")
    numbers = np.random.default_rng(0).normal(size=(50, 8)).astype(np.float32)
    path = tmp_path / "0.parquet"
    write_part(path, "a.txt", 0, [f"text {i}" for i in range(50)], numbers)
    whole = path.read_bytes()
    about = Vectors(
        "", "", 8, "float32", True, 50, ("a.txt",), (Part(path.name, 50),), str(tmp_path)
    )
    np.testing.assert_array_equal(about.matrix(0, np.arange(50)), numbers)
    place = whole.index(numbers[20].tobytes())
    for content in (whole[:place] + b"\0\0\0\0" + whole[place + 4 :], whole[:-20], b""):
        path.write_bytes(content)
        with pytest.raises(UserError, match=r"0\.parquet is damaged"):
            about.matrix(0, np.arange(50))
    path.unlink()
    with pytest.raises(UserError, match=r"0\.parquet is damaged"):
        about.matrix(0, np.arange(50))


# On a cluster


@pytest.fixture(scope="module")
def cluster():
    """Three workers of one core each, with 100 MB for what they exchange."""
    ray = pytest.importorskip("ray")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("RAY_AUTH_MODE", "disabled")
        patch.setenv("RAY_worker_niceness", "0")
        patch.setenv("PYTHONPATH", os.pathsep.join(filter(None, sys.path)))
        context = ray.init(
            "local",
            num_cpus=3,
            object_store_memory=100 << 20,
            include_dashboard=False,
            log_to_driver=False,
            logging_level="error",
        )
        patch.setenv("RAY_ADDRESS", context.address_info["gcs_address"])
        yield ray
        ray.shutdown()


def lines(count: int, seed: int) -> list[str]:
    rng = np.random.default_rng(seed)
    return [" ".join(rng.choice(WORDS, rng.integers(0, 7))) for _ in range(count)]


@pytest.fixture(scope="module")
def texts(tmp_path_factory):
    """Three files: lines, an empty one, and a packed one whose last part is short."""
    folder = tmp_path_factory.mktemp("texts")
    content = {"a.txt": lines(45 * PART, 0), "empty.txt": [], "b.txt.gz": lines(30 * PART + 3, 1)}
    content["a.txt"][70] = "the\tcat \u2028 猫"
    paths = []
    for name, rows in content.items():
        data = "".join(row + "\n" for row in rows).encode()
        paths.append(folder / name)
        paths[-1].write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    return dict(zip(map(str, paths), content.values(), strict=True))


@pytest.fixture(scope="module")
def encoder():
    return Encoder(bundle())


def workers_of(kind: str) -> list[int]:
    """Processes of a pool on this test's cluster."""
    found = []
    for folder in Path("/proc").iterdir():
        with contextlib.suppress(OSError, ValueError):
            if (
                (folder / "cmdline")
                .read_bytes()
                .startswith(f"ray::MapWorker(MapBatches({kind})".encode())
            ):
                raylet = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
                parent = (
                    (Path("/proc") / str(raylet) / "stat").read_text().rpartition(")")[2].split()[1]
                )
                if int(parent) == os.getpid():
                    found.append(int(folder.name))
    return found


@contextlib.contextmanager
def one_worker_killed(kind: str, is_in_the_middle):
    """Kills a worker as soon as the condition holds, while all workers are stopped; yields a list
    that receives its number."""
    killed, ended = [], threading.Event()

    def kill():
        while not ended.wait(0.01):
            if not is_in_the_middle():
                continue
            found = workers_of(kind)
            for pid in found:
                os.kill(pid, signal.SIGSTOP)
            if found and is_in_the_middle():
                os.kill(found[0], signal.SIGKILL)
                killed.append(found[0])
            for pid in found[len(killed) :]:
                os.kill(pid, signal.SIGCONT)
            if killed:
                return

    thread = threading.Thread(target=kill)
    thread.start()
    try:
        yield killed
    finally:
        ended.set()
        thread.join()


def parts_in(folder: Path) -> int:
    return len(list(folder.glob("*.parquet"))) if folder.is_dir() else 0


@pytest.fixture(scope="module")
def vectors(cluster, encoder, texts, tmp_path_factory):
    """A folder of vectors of all texts, made while one worker was killed."""
    output = tmp_path_factory.mktemp("job") / "vectors"
    writing = output.with_name("vectors.writing")
    with (
        pytest.MonkeyPatch.context() as patch,
        one_worker_killed("_Encode", lambda: 2 < parts_in(writing) < 60) as killed,
    ):
        patch.setattr(encode_jobs, "SLAB", PART)
        count = encode_files(encoder, list(texts), output, workers=Workers(3))
    assert killed
    assert count == sum(map(len, texts.values()))
    return output


def in_one_process(encoder, texts) -> np.ndarray:
    return np.concatenate(
        [
            encoder.encode(rows[start : start + PART])
            for rows in texts.values()
            for start in range(0, len(rows), PART)
        ]
    )


@pytest.mark.ray
def test_a_killed_worker_loses_and_repeats_nothing(vectors, encoder, texts):
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    names = [part.name for part in Vectors.open(vectors).parts]
    assert sorted(path.name for path in vectors.iterdir()) == [*names, "manifest.json"]
    table = pa.concat_tables([pq.read_table(vectors / name) for name in names])
    assert table.schema.field("vector").type == pa.list_(pa.float32(), encoder.dimension)
    rows = [(path, i + 1, text) for path, part in texts.items() for i, text in enumerate(part)]
    found = zip(*(table[name].to_pylist() for name in ("file", "line", "text")), strict=True)
    assert list(found) == rows
    matrix = table["vector"].combine_chunks().flatten().to_numpy().reshape(len(rows), -1)
    # bit for bit with as many threads; the workers have one, this process has more
    np.testing.assert_allclose(matrix, in_one_process(encoder, texts), atol=1e-6)
    assert not vectors.with_name("vectors.writing").exists()


@pytest.mark.ray
def test_mining_with_a_killed_worker_finds_the_pairs_of_one_process(
    vectors, encoder, texts, cluster, tmp_path, monkeypatch
):
    monkeypatch.setattr(mine_jobs, "PARTS_AT_ONCE", 5)
    paths = [Path(path) for path in texts if texts[path]]
    sides = []
    for path in paths:  # the parts of one file of the whole folder
        whole = Vectors.open(vectors)
        number = whole.files.index(str(path))
        sides.append(tmp_path / path.name)
        sides[-1].mkdir()
        parts = [part for part in whole.parts if part.name.startswith(f"{number:05d}-")]
        for part in parts:
            os.link(vectors / part.name, sides[-1] / part.name)
        manifest = dataclasses.asdict(dataclasses.replace(whole, parts=tuple(parts)))
        write_json(sides[-1] / "manifest.json", manifest)
    shown, merged = [], []
    merge = mine_jobs.merge_nearest

    def counted(*args):
        merged.append(merge(*args))
        return merged[-1]

    monkeypatch.setattr(mine_jobs, "merge_nearest", counted)
    with one_worker_killed("_Nearest", lambda: 2 < len(merged) < 500) as killed:
        found = mine_folders(
            encoder.fingerprint,
            *sides,
            tmp_path / "job.tsv",
            workers=Workers(3),
            progress=shown.append,
        )
    assert killed
    encode = functools.partial(encoder.encode, normalize=False)
    one = mine_files(encode, *paths, tmp_path / "one.tsv")
    assert found == one["pairs"] > 100
    pairs = [
        {tuple(pair): float(score) for score, *pair in (line.split("\t") for line in file)}
        for file in (
            (tmp_path / name).read_text("utf-8").split("\n")[:-1] for name in ("job.tsv", "one.tsv")
        )
    ]
    assert pairs[0].keys() == pairs[1].keys()
    for pair, score in pairs[1].items():
        assert abs(pairs[0][pair] - score) < 2e-4
    scores = list(pairs[0].values())
    assert scores == sorted(scores, reverse=True)
    assert shown[0].endswith(f": {one['sentences'][0]:,} different sentences")

    with pytest.raises(UserError, match="of another encoder"):
        mine_folders("0", *sides, tmp_path / "job.tsv")
    with pytest.raises(UserError, match="jobs search exactly"):
        mine_folders("0", *sides, tmp_path / "job.tsv", settings=MineSettings(search="faiss"))


@pytest.mark.ray
def test_a_killed_command_goes_on_with_the_parts_that_lack(cluster, encoder, tmp_path):
    (tmp_path / "model").mkdir()
    write_format(bundle(), tmp_path / "model", "safetensors")
    text = (lines(3001, 2) * 120)[: 20 * SLAB]
    (tmp_path / "a.txt").write_text("".join(line + "\n" for line in text))
    command = [
        sys.executable,
        "-m",
        "lightxling.cli",
        "encode",
        tmp_path / "model",
        tmp_path / "a.txt",
    ]
    command += ["-o", tmp_path / "vectors", "--engine", "ray", "--dtype", "float16"]
    writing = tmp_path / "vectors.writing"
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    end = time.monotonic() + 300
    while not parts_in(writing):
        assert process.poll() is None
        assert time.monotonic() < end
        time.sleep(0.01)
    process.kill()
    process.wait()
    assert not (tmp_path / "vectors").exists()
    while workers_of("_Encode"):  # Ray ends the workers of a command that is gone
        assert time.monotonic() < end
        time.sleep(0.05)
    kept = sorted(writing.glob("*.parquet"))
    assert 0 < len(kept) < 20
    kept.pop().write_bytes(b"PAR1 and no more")
    (writing / ".00000-000000000001.parquet.99999.writing").write_bytes(b"half")
    before = {path.name: path.stat().st_ino for path in kept}
    again = subprocess.run(command, capture_output=True, text=True)
    assert again.returncode == 0, again.stderr
    assert "Traceback" not in again.stderr
    found = Vectors.open(tmp_path / "vectors")
    assert {
        path.name: path.stat().st_ino for path in (tmp_path / "vectors").iterdir()
    }.items() >= before.items()
    assert len(list((tmp_path / "vectors").iterdir())) == 21
    for number in (0, 19):
        expected = encoder.encode(text[number * SLAB :][:SLAB]).astype(np.float16)
        matrix = found.matrix(number, np.arange(SLAB))
        assert matrix.dtype == np.float16
        np.testing.assert_allclose(matrix, expected, atol=2**-11)


@pytest.mark.ray
def test_what_a_worker_cannot_read_is_one_message(cluster, encoder, tmp_path):
    damaged = tmp_path / "a.txt.gz"
    damaged.write_bytes(gzip.compress(b"the cat\n" * 1000)[:-20])
    with pytest.raises(UserError, match=r"a\.txt\.gz is a damaged gzip file"):
        encode_files(encoder, [str(damaged)], tmp_path / "vectors")
    with pytest.raises(UserError, match="no worker with 4 cores"):
        encode_files(encoder, [__file__], tmp_path / "more", workers=Workers(cpus=4))
