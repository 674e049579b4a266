"""Kinds and sizes that no file of ours has: said at once, without a wait and without memory.

Every look is a call in a process whose memory is bounded, which ends whatever happens.
"""

import dataclasses
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from export_samples import bundle

from lightxling.base import limits
from lightxling.base.errors import UserError
from lightxling.base.vectors import map_array
from lightxling.config.files import to_dict
from lightxling.config.schema import Config
from lightxling.encode.encoder import Encoder, encode_file
from lightxling.encode.search import Index
from lightxling.evaluate.compare import compare, render
from lightxling.saved.bundle import load_bundle, read_run, write_bundle
from lightxling.saved.run import read_folder, read_metrics

LOOK = """
import resource, sys, time
from pathlib import Path
resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))
from lightxling.base.errors import UserError
from lightxling.encode.encoder import Encoder
from lightxling.encode.search import Index
from lightxling.corpus.store import Store
from lightxling.evaluate.compare import compare
from lightxling.saved.bundle import load_bundle, read_run
from lightxling.saved.adapters import read_adapter
begin = time.process_time()
for line in sys.stdin:
    try:
        eval(line)
        print("taken", flush=True)
    except UserError as error:
        print("said:", str(error).replace(chr(10), " "), flush=True)
assert time.process_time() - begin < 60
"""


def looks(calls: list[str]) -> list[str]:
    """What a person is told by each call."""
    done = subprocess.run(
        [sys.executable, "-c", LOOK],
        input="\n".join(calls),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def sparse(path: Path, size: int) -> None:
    path.unlink(missing_ok=True)
    with open(path, "wb") as file:
        file.truncate(size)


def pipe(path: Path) -> None:
    path.unlink(missing_ok=True)
    os.mkfifo(path)


def zero(path: Path) -> None:
    path.unlink(missing_ok=True)
    path.symlink_to("/dev/zero")


SPOILT = [pipe, zero, lambda path: sparse(path, 20 << 30)]


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    folder = tmp_path_factory.mktemp("exported")
    write_bundle(bundle(), folder)
    return folder


def test_no_file_of_an_export_or_a_run_is_waited_for_or_read_without_end(exported, tmp_path):
    calls, kinds = [], []
    for name in ("config.json", "model.safetensors", "tokenizer.model"):
        for number, spoil in enumerate(SPOILT):
            folder = tmp_path / f"{name}-{number}"
            shutil.copytree(exported, folder)
            spoil(folder / name)
            calls.append(f"load_bundle({str(folder)!r})")
            kinds.append(str(folder / name))
    for number, spoil in enumerate([pipe, zero, lambda path: sparse(path, 3 << 30)]):
        folder = tmp_path / f"metrics-{number}"
        shutil.copytree(exported, folder)
        spoil(folder / "metrics.jsonl")
        calls.append(f"compare([Path({str(folder)!r})])")
        kinds.append(str(folder / "metrics.jsonl"))
        store = tmp_path / f"store-{number}"
        store.mkdir()
        spoil(store / "manifest.json")
        calls.append(f"Store.open(Path({str(store)!r}))")
        kinds.append(str(store / "manifest.json"))
    for said, name in zip(looks(calls), kinds, strict=True):
        assert said.startswith("said:"), (name, said)
        assert name in said
        assert "pipe or a device" in said or "bytes" in said, said


def test_150_000_arrays_are_too_many(exported, tmp_path):
    folder = tmp_path / "many"
    shutil.copytree(exported, folder)
    one = {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}
    header = json.dumps({f"a{number}": one for number in range(150_000)}).encode()
    (folder / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header)
    with pytest.raises(UserError, match="its header has"):
        load_bundle(folder)
    with pytest.raises(UserError, match="its header has"):
        compare([folder])


@pytest.mark.parametrize("kind", ["run", "export"])
def test_sizes_of_a_description_are_bounded_before_anything_is_made(exported, tmp_path, kind):
    """100,000 adapters, a million layers, and many of both: each is a line of config.json."""
    about = json.loads((exported / "config.json").read_text())
    if kind == "run":
        model = to_dict(Config())["model"]
        about = {"config": {**to_dict(Config()), "model": model}, "vocab_size": 300}
    else:
        model = about["model"]
    adapter = {"kind": "lora", "rank": 4, "targets": ["q"]}
    whole = dict(model)
    folders = []
    for number, (layers, adapters) in enumerate([(1_000_000, 0), (2, 100_000), (1000, 999)]):
        folder = tmp_path / f"{number}"
        shutil.copytree(exported, folder)
        named = [{**adapter, "name": f"a{i}"} for i in range(adapters)]
        model.update(whole, layers=layers, adapters=named)
        (folder / "config.json").write_text(json.dumps(about))
        folders.append(folder)
    for said in looks([f"load_bundle({str(folder)!r})" for folder in folders]):
        assert said.startswith("said:")
        assert "model.layers" in said or "model.adapters" in said


def test_an_export_whose_bytes_changed_is_refused_and_one_without_sums_is_read(exported, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(exported, folder)
    path = folder / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[-2] ^= 1  # of a number: another one
    path.write_bytes(content)
    with pytest.raises(UserError, match="sha256"):
        load_bundle(folder)
    about = json.loads((folder / "config.json").read_text())
    del about["sha256"]
    (folder / "config.json").write_text(json.dumps(about))
    load_bundle(folder)


def test_settings_of_an_export_that_were_altered_are_refused(exported, tmp_path):
    """The parameters fit them all the same: the vectors would be others."""
    folder = tmp_path / "copy"
    shutil.copytree(exported, folder)
    about = json.loads((folder / "config.json").read_text())
    for key, value in (("model", {**about["model"], "heads": 2}), ("languages", ["xx"])):
        assert about[key] != value
        (folder / "config.json").write_text(json.dumps({**about, key: value}))
        with pytest.raises(UserError, match=r"config.json is damaged: its sha256"):
            load_bundle(folder)
    (folder / "config.json").write_text(json.dumps({**about, "scores": {"mine": 1.0}}, indent=9))
    load_bundle(folder)


def test_measurements_beyond_all_measure(tmp_path):
    """Integers of 4,000 digits and 1e308 break no table: sums and squares of them are infinite."""
    (tmp_path / "config.json").write_text(
        '{"config": {}, "parameters": {"encoder": 1%s}}' % ("0" * 4000)
    )
    (tmp_path / "evaluation").mkdir()
    for number, value in enumerate(["1" * 4000, "1e308", "-1e308", "1e999"]):
        (tmp_path / "metrics.jsonl").write_text(
            f'{{"step": 1, "pairs": {value}, "pairs_per_second": {value}}}\n'
            f'{{"step": {value}, "pairs": 5, "pairs_per_second": 5.0}}\n'
            '{"step": 2, "pairs": 5, "pairs_per_second": 5.0, "loss": 1.5}\n'
        )
        scores = {"results": {"a-b": {"scores": {"p@1": 0}}, "c-d": {"scores": {"p@1": 5.0}}}}
        text = json.dumps(scores).replace('"p@1": 0', f'"p@1": {value}')
        (tmp_path / "evaluation" / f"retrieval.{number}.json").write_text(text)
        found, damaged = read_metrics(tmp_path / "metrics.jsonl")
        assert [record["step"] for record in found] == [1, 2]
        assert np.isnan(found[0]["pairs"])
        assert damaged == 1
        assert "training pairs" in render(*compare([tmp_path]), "markdown")
    assert all("a-b" not in one["results"] for one in read_folder(tmp_path).results.values())


def test_an_index_with_arrays_that_are_zips_or_point_beyond_the_text(tmp_path):
    encoder, text = Encoder(bundle()), tmp_path / "lines.txt"
    text.write_text("the cat\nle chat\nthe dog\n")
    Index.open(encoder, text)
    folder = tmp_path / "lines.txt.index"

    def without_sums():
        origin = json.loads((folder / "origin.json").read_text())
        assert origin.pop("arrays")
        (folder / "origin.json").write_text(json.dumps(origin))

    without_sums()
    assert not Index.open(encoder, text).rebuilt  # one that was made before
    for far in (24, 1 << 62):
        np.save(folder / "starts.npy", np.array([0, 8, far]))
        assert Index.open(encoder, text).rebuilt
        without_sums()
    for name in ("vectors.npy", "starts.npy", "lines.npy"):
        with open(folder / name, "wb") as file:
            np.savez(file, a=np.zeros(3))
        with pytest.raises(ValueError, match="magic"):
            map_array(folder / name)
        assert Index.open(encoder, text).rebuilt
        pipe(folder / name)
        assert Index.open(encoder, text).rebuilt
    vectors = np.load(folder / "vectors.npy")
    np.save(folder / "vectors.npy", vectors[::-1])
    assert Index.open(encoder, text).rebuilt
    assert Index.open(encoder, text).search("le chat", 1)[0][0].line == 2


def test_a_text_that_is_edited_during_a_search_is_noticed(tmp_path):
    encoder, text = Encoder(bundle()), tmp_path / "lines.txt"
    text.write_text("the cat\nle chat\n")
    index = Index.open(encoder, text)
    os.utime(text)  # touched, with the same content
    assert index.search("le chat", 1)[0][0].sentence == "le chat"
    about = text.stat()
    text.write_text("THE CAT\nLE CHIEN\n"[: about.st_size])
    os.utime(text, ns=(about.st_atime_ns, about.st_mtime_ns))  # size and time as they were
    with pytest.raises(UserError, match="has changed"):
        index.search("le chat", 1)
    text.unlink()
    with pytest.raises(UserError, match="cannot read"):
        index.search("le chat", 1)


def test_limits_let_through_what_we_write(exported):
    assert load_bundle(exported).fingerprint() == bundle().fingerprint()
    for name in ("config.json", "tokenizer.model", "model.safetensors"):
        assert limits.read_bytes(exported / name) == (exported / name).read_bytes()
    with pytest.raises(UserError, match="not the folder of a run"):
        read_run(exported)


def test_a_sentence_whose_numbers_overflow_is_named(tmp_path):
    """Finite weights, and NaN or infinity in the vectors: in a file they would be believed."""
    one = bundle()
    whole = Encoder(one).encode(["the cat", "dog"], normalize=False)
    assert np.isfinite(whole).all()
    projection = np.full((one.config.width, 4), np.float32(3e38))
    spoilt = dataclasses.replace(one, params={**one.params, "projection": projection})
    encoder = Encoder(spoilt)
    text = tmp_path / "lines.txt"
    text.write_text("\n\nthe cat\n")
    for normalize in (True, False):
        with np.errstate(all="ignore"), pytest.raises(UserError, match=r"sentence 2 is not finite"):
            encoder.encode(["", "dog"], normalize=normalize)
        with np.errstate(all="ignore"), pytest.raises(UserError, match=r"line 3 of .* not finite"):
            encode_file(encoder, text, tmp_path / "a.npy", normalize=normalize)
    with np.errstate(all="ignore"), pytest.raises(UserError, match="not finite"):
        Index.open(encoder, text)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["lines.txt"]
