"""Odd places, orders, versions and neighbours: the same result, or a message."""

import json
import os
import random
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from export_samples import bundle

from lightxling.base.errors import UserError
from lightxling.config.schema import AdapterConfig, Config, CorpusConfig, TokenizerConfig
from lightxling.config.settings import change
from lightxling.corpus.prepare import prepare
from lightxling.corpus.store import Store
from lightxling.encode.encoder import Encoder
from lightxling.encode.modular import read_description
from lightxling.encode.search import Index
from lightxling.saved.adapters import read_adapter, write_adapter
from lightxling.saved.bundle import load_bundle, read_run, write_bundle

SILENT = lambda line: None  # noqa: E731


def command(folder: Path, *words: str, limit: int = 0, **variables: str):
    """Runs `lightxling ...` in a folder, with at most so many kilobytes of addresses."""
    shell = f"ulimit -v {limit}; " if limit else ""
    whole = [*("bash", "-c", f'{shell}exec "$@"', "-", sys.executable, "-m", "lightxling"), *words]
    path = os.pathsep.join(sys.path)
    few = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    return subprocess.run(
        whole,
        cwd=folder,
        env={**os.environ, **few, "PYTHONPATH": path, **variables},
        capture_output=True,
        text=True,
        timeout=300,
    )


@pytest.fixture
def exported(tmp_path):
    folder = tmp_path / "exported"
    folder.mkdir()
    write_bundle(bundle(), folder)
    return folder


# Order and language of the system


def store_of(sources: list[str], store: Path) -> Store:
    corpus = CorpusConfig(sources=tuple(sources), dev_share=0.1, store=str(store))
    config = Config(corpus=corpus, tokenizer=TokenizerConfig(vocab_size=60))
    return Store.open(prepare(config, progress=SILENT))


@pytest.fixture
def texts(tmp_path):
    """Three files of pairs, whose names no two orders of characters agree on."""
    draw = random.Random(0)
    words = ["".join(draw.choices("abdefgiklmnorstuvz", k=5)) for _ in range(60)]
    sides = [" ".join(draw.choices(words, k=5)) for _ in range(240)]
    rows = [f"{one}\t{other}" for one, other in zip(sides[::2], sides[1::2], strict=True)]
    names = ["a-Z.tsv", "b_É.tsv", "B1.tsv"]
    for number, name in enumerate(names):
        (tmp_path / name).write_text("".join(row + "\n" for row in rows[number::3]))
    return tmp_path, names


def test_files_of_a_glob_come_in_one_order_whatever_the_disk_says(texts, tmp_path, monkeypatch):
    folder, names = texts
    one = store_of([f"en-fr={folder}/*.tsv"], tmp_path / "one")
    real = os.scandir

    class Reversed(list):
        def __enter__(self):
            return self

        def __exit__(self, *error):
            pass

    monkeypatch.setattr(os, "scandir", lambda *at: Reversed(list(real(*at))[::-1]))
    assert [path.name for path in Path(folder).iterdir()]  # which may use it
    two = store_of([f"en-fr={folder}/*.tsv"], tmp_path / "two")
    assert one.content == two.content
    assert [Path(file["path"]).name for file in one.manifest["sources"][0]["files"]] == sorted(
        names
    )


def test_sources_in_another_order_hold_the_same_sentences(texts, tmp_path):
    """Rows are numbered in the order of the sources, which is a setting; their split and the
    tokenizer do not depend on it."""
    folder, names = texts
    stores = [
        store_of([f"en-fr={folder}/{name}" for name in order], tmp_path / f"stores-{order[0]}")
        for order in (names, names[::-1])
    ]
    one, two = ({tuple(row) for row in store.dev.texts()} for store in stores)
    assert one == two
    assert stores[0].train.rows == stores[1].train.rows
    sums = {store.manifest["tokenizer"]["sha256"] for store in stores}
    assert len(sums) == 1


LOCALES = [
    {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    {"LC_ALL": "tr_TR.UTF-8"},
    {"LC_ALL": "C", "PYTHONUTF8": "1", "PYTHONHASHSEED": "7"},
]


def test_the_language_of_the_system_changes_nothing(texts, tmp_path):
    folder, _ = texts
    contents = set()
    for number, variables in enumerate(LOCALES):
        words = ["prepare", "light", "--corpus.sources", f"en-fr={folder}/*.tsv"]
        words += ["--corpus.store", f"store{number}", "--tokenizer.vocab-size", "60"]
        done = command(folder, *words, **variables)
        assert done.returncode == 0, done.stderr
        (made,) = (path for path in (folder / f"store{number}").iterdir() if path.is_dir())
        contents.add(Store.open(made).content)
    assert len(contents) == 1


@pytest.mark.skipif(sys.platform != "linux", reason="names of files are text there")
def test_a_name_that_is_no_text_is_one_all_the_same(texts, tmp_path):
    folder, names = texts
    odd = os.fsdecode(b"\xff\xfe.tsv")
    (folder / names[0]).rename(folder / odd)
    made = store_of([f"en-fr={folder}/{odd}"], tmp_path / "stores")
    assert made.manifest["sources"][0]["files"][0]["path"].endswith(odd)
    again = store_of([f"en-fr={folder}/{odd}"], tmp_path / "stores")
    assert again.content == made.content


# Versions that are not known yet


def as_future(path: Path, change_it) -> None:
    about = json.loads(path.read_text())
    change_it(about)
    path.write_text(json.dumps(about))


def test_an_export_and_a_run_of_the_future_are_refused(exported):
    about = exported / "config.json"
    as_future(about, lambda values: values.update(format_version=2))
    with pytest.raises(UserError, match=r"format version 2, this lightxling .* reads version 1"):
        load_bundle(exported)
    as_future(about, lambda values: values.update(config={"model": {"of_the_future": 1}}))
    with pytest.raises(UserError, match=r"unknown setting model\.of_the_future"):
        read_run(exported)


def test_a_store_of_the_future_is_refused(texts, tmp_path):
    store = store_of([f"en-fr={texts[0]}/*.tsv"], tmp_path / "one")
    as_future(store.path / "manifest.json", lambda values: values.update(format=2))
    with pytest.raises(UserError, match="has format 2, this version reads 1"):
        Store.open(store.path)


def test_an_adapter_of_the_future_is_refused(tmp_path, monkeypatch):
    one = bundle(adapters=(AdapterConfig(name="de", rank=2),))
    with monkeypatch.context() as later:
        later.setattr("lightxling.saved.adapters.ADAPTER_FORMAT", "lightxling-adapter-2")
        write_adapter(one, "de", tmp_path / "de.safetensors")
    with pytest.raises(UserError, match="is not an adapter"):
        read_adapter(bundle(), tmp_path / "de.safetensors")


def test_modules_of_the_future_are_refused(tmp_path):
    about = {"format": "lightxling-modular-2", "base": "x", "languages": ["en"]}
    (tmp_path / "modular.json").write_text(json.dumps({**about, "pivot_text": [], "done": {}}))
    with pytest.raises(UserError, match=r"modular\.json is damaged"):
        read_description(tmp_path)


def test_an_index_of_the_future_is_made_again(tmp_path):
    encoder, text = Encoder(bundle()), tmp_path / "lines.txt"
    text.write_text("the cat\nle chat\n")
    Index.open(encoder, text)
    as_future(
        tmp_path / "lines.txt.index" / "origin.json", lambda values: values.update(format="9")
    )
    assert Index.open(encoder, text).rebuilt


# Little memory, no place, and others at work


def test_a_limit_of_memory_leaves_the_old_output_or_the_new_one(exported, tmp_path):
    """From too little for the interpreter's libraries to enough for everything."""
    (tmp_path / "a.txt").write_text("the cat\n" * 3000)
    assert command(tmp_path, "encode", "exported", "a.txt", "-o", "new.npy").returncode == 0
    (tmp_path / "out.npy").write_text("old")
    new, ends = (tmp_path / "new.npy").read_bytes(), []
    for megabytes in (120, 200, 240, 260, 280, 300, 320, 2000):
        done = command(
            tmp_path, "encode", "exported", "a.txt", "-o", "out.npy", limit=megabytes << 10
        )
        ends.append(done.returncode)
        written = (tmp_path / "out.npy").read_bytes()
        assert written == (b"old" if done.returncode else new)
        (tmp_path / "out.npy").write_text("old")
    assert ends[0] != 0
    assert ends[-1] == 0
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_two_commands_that_make_one_index_both_find(exported, tmp_path):
    (tmp_path / "a.txt").write_text("".join(f"the cat {n}\n" for n in range(3000)))
    words = [sys.executable, "-m", "lightxling", "search", "exported", "a.txt", "--k", "1"]
    started = [
        subprocess.Popen(
            [*words, "--query", "the cat 7"],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(3)
    ]
    told = [process.communicate(timeout=300) for process in started]
    assert [process.returncode for process in started] == [0, 0, 0], told
    assert len({answer for answer, _ in told}) == 1
    assert not Index.open(Encoder.load(exported), tmp_path / "a.txt").rebuilt
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.txt", "a.txt.index", "exported"]


@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("mount"), reason="mounts a disk")
def test_a_workdir_that_may_only_be_read_is_told(texts, tmp_path, tiny):
    from lightxling.train.loop import train

    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m,ro", "tmpfs", str(disk)]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("mounting is not allowed here")
    try:
        with pytest.raises(UserError, match="Read-only file system"):
            train(tiny, disk / "run")
        with pytest.raises(UserError, match="Read-only file system"):
            train(tiny, disk)
        with pytest.raises(UserError, match="Read-only file system"):
            prepare(change(tiny, corpus__store=str(disk)), progress=SILENT)
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


def test_an_index_whose_file_shrinks_while_it_is_mapped_ends_the_command_only(exported, tmp_path):
    """No program can go on that reads what is mapped and gone: it ends by a signal, as when it is
    killed, and the next one makes the index again."""
    (tmp_path / "a.txt").write_text("".join(f"the cat {n}\n" for n in range(3000)))
    program = """
import os, sys
from lightxling.encode.encoder import Encoder
from lightxling.encode.search import Index
index = Index.open(Encoder.load("exported"), "a.txt")
os.truncate("a.txt.index/vectors.npy", 4096)
print(len(index.search("the cat", 1)))
"""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, env=environment)
    assert done.returncode < 0
    encoder = Encoder.load(exported)
    opened = Index.open(encoder, tmp_path / "a.txt")
    assert opened.rebuilt
    assert opened.search("the cat 5", 1)[0][0].line == 6
