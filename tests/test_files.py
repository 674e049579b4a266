"""Where output goes: links, pipes, devices, names that nothing can have."""

import contextlib
import os
import re
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from export_samples import bundle

from lightxling.base import files
from lightxling.base.errors import UserError
from lightxling.base.files import atomic, atomic_folder
from lightxling.encode.encoder import Encoder, encode_file
from lightxling.encode.mine_files import mine_files
from lightxling.encode.mine_jobs import mine_folders
from lightxling.encode.search import Index
from lightxling.evaluate.report import report
from lightxling.export import export
from lightxling.export.formats import write_format
from lightxling.export.settings import ExportSettings


@pytest.fixture(scope="module")
def encoder():
    return Encoder(bundle())


def read_end(path: Path) -> int:
    """Makes a pipe with a name and opens it for reading, so that a writer need not wait."""
    os.mkfifo(path)
    return os.open(path, os.O_RDONLY | os.O_NONBLOCK)


def test_a_link_stays_and_its_target_is_replaced(encoder, tmp_path):
    (tmp_path / "in").write_text("the cat\n")
    (tmp_path / "other").mkdir()
    link, target = tmp_path / "link.npy", tmp_path / "other" / "v.npy"
    link.symlink_to("other/v.npy")  # which is not there yet
    for count in (1, 2):
        (tmp_path / "in").write_text("the cat\n" * count)
        encode_file(encoder, tmp_path / "in", link)
        assert np.load(target).shape == (count, 32)
    assert os.readlink(link) == "other/v.npy"
    assert [path.name for path in (tmp_path / "other").iterdir()] == ["v.npy"]


def test_a_link_to_a_folder_stays_too(tmp_path):
    (tmp_path / "old").mkdir()
    (tmp_path / "link").symlink_to("old")
    with atomic_folder(tmp_path / "link") as folder:
        (folder / "new").touch()
    assert os.readlink(tmp_path / "link") == "old"
    assert (tmp_path / "old" / "new").exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link", "old"]


@pytest.mark.parametrize("linked", [False, True])
def test_a_pipe_is_written_to(encoder, tmp_path, linked):
    for name, text in (("a", "the cat\na dog\n"), ("b", "a dog\nle chat\n")):
        (tmp_path / name).write_text(text)
    pipe = output = tmp_path / "pipe.tsv"
    end = read_end(pipe)
    if linked:
        output = tmp_path / "out"
        output.symlink_to(pipe)
    mine_files(encoder.encode, tmp_path / "a", tmp_path / "b", output)
    assert len(os.read(end, 1000).splitlines()) == 2
    os.close(end)
    assert pipe.is_fifo()
    assert output.is_symlink() == linked


def test_a_device_stays_one(tmp_path):
    device, full = tmp_path / "null", tmp_path / "full"
    try:
        for path, number in ((device, 3), (full, 7)):
            os.mknod(path, 0o600 | stat.S_IFCHR, os.makedev(1, number))
        device.write_text("x")
    except PermissionError:
        pytest.skip("making a device needs root")
    with atomic(device) as path:
        path.write_text("gone")
    assert device.is_char_device()
    with pytest.raises(UserError, match="full: No space left"), atomic(full) as path:
        path.write_text("x")
    assert full.is_char_device()


def test_an_array_does_not_go_into_a_pipe(encoder, tmp_path):
    (tmp_path / "in").write_text("the cat\n")
    end = read_end(tmp_path / "v.npy")
    with pytest.raises(UserError, match=r"v\.npy is a pipe.*\.jsonl"):
        encode_file(encoder, tmp_path / "in", tmp_path / "v.npy")
    os.close(end)
    end = read_end(tmp_path / "v.jsonl")
    assert encode_file(encoder, tmp_path / "in", tmp_path / "v.jsonl") == 1
    assert os.read(end, 10_000).startswith(b'{"text": "the cat"')
    os.close(end)


def test_a_name_that_is_too_long_is_told(tmp_path):
    path = tmp_path / ("n" * 250)
    with pytest.raises(UserError, match="File name too long"), atomic(path) as temporary:
        temporary.write_text("x")


@pytest.mark.parametrize("writing", [atomic, atomic_folder])
@pytest.mark.parametrize("name", [".", "/"])
def test_what_has_no_name_cannot_be_written(tmp_path, monkeypatch, writing, name):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=re.escape(f"cannot write {name}: ")), writing(Path(name)):
        pass


def explode(*args, **kwargs):
    raise AssertionError("this is work")


@pytest.mark.parametrize("output", [".", "folder"])
def test_a_folder_in_the_place_of_a_file_is_told_before_the_work(
    encoder, tmp_path, monkeypatch, output
):
    monkeypatch.chdir(tmp_path)
    for name in ("folder", "folder.npy"):
        Path(name).mkdir()
    Path("a").write_text("the cat\n")
    message = re.escape(f"--output {output}") + " is a folder; give the name of a file"
    with pytest.raises(UserError, match=message):
        mine_files(explode, Path("a"), Path("a"), Path(output))
    with pytest.raises(UserError, match=message):
        mine_folders("0", Path("a"), Path("a"), Path(output))
    with pytest.raises(UserError, match=message):
        report([Path("missing")], Path(output))
    with pytest.raises(UserError, match=r"folder\.npy is a folder"):
        encode_file(encoder, "missing", Path("folder.npy"))


def test_a_point_is_no_text_and_no_export(encoder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"cannot read \.: Is a directory"):
        Index.open(encoder, ".")
    write_format(bundle(), tmp_path, "safetensors")
    with contextlib.chdir(tmp_path), pytest.raises(UserError, match=r"--output \. is not a name"):
        export(ExportSettings(Path("."), Path("."), overwrite=True))


def test_a_process_killed_at_any_step_of_replacing_loses_nothing(tmp_path):
    """Old or new, whole, for who opens it next; and the next who writes leaves nothing behind."""
    script = Path(__file__).with_name("replaced.py")
    command = [sys.executable, str(script), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 25


def test_what_another_process_is_writing_is_left_alone(tmp_path):
    """Only what has an owner that is dead is removed, and only what is ours."""
    for name in (".notes.writing", ".mine.12345678.writing"):
        (tmp_path / name).mkdir()  # has no lock: not of ours
    program = f"""
import os, pathlib, signal, sys
from lightxling.base import files
with files.scratch_folder(pathlib.Path({str(tmp_path)!r}), "vectors") as folder:
    (folder / "half").write_text("half")
    print(folder, flush=True)
    sys.stdin.read()
"""
    process = subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    folder = Path(process.stdout.readline().strip())
    writer = [
        sys.executable,
        "-c",
        "import sys, pathlib; from lightxling.base import files;"
        " files.write_json(pathlib.Path(sys.argv[1]), {})",
        str(tmp_path / "x.json"),
    ]
    subprocess.run(writer, check=True)
    assert (folder / "half").exists()
    process.kill()
    process.communicate()
    assert (folder / "half").exists()
    subprocess.run(writer, check=True)
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {".notes.writing", ".mine.12345678.writing", "x.json"}


def test_an_interrupt_between_the_renamings_brings_the_old_folder_back(tmp_path, monkeypatch):
    with files.atomic_folder(tmp_path / "a") as folder:
        (folder / "x").write_text("old")
    real = Path.rename

    def rename(self, target):
        if self.name.endswith(".writing"):
            raise KeyboardInterrupt
        return real(self, target)

    monkeypatch.setattr(Path, "rename", rename)
    with pytest.raises(KeyboardInterrupt), files.atomic_folder(tmp_path / "a") as folder:
        (folder / "x").write_text("new")
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    assert (tmp_path / "a" / "x").read_text() == "old"


def test_two_who_write_one_folder_leave_one_of_theirs_whole(tmp_path, monkeypatch):
    """Another process has put the old one aside, or given the name to its own, before a renaming
    of this one."""
    target, real, met = tmp_path / "a", Path.rename, []

    def rename(self, other):
        if self == target and "aside" not in met:
            met.append("aside")
            shutil.rmtree(target)
        if self.name.endswith(".writing") and "own" not in met:
            met.append("own")
            target.mkdir()
            (target / "x").write_text("other")
        return real(self, other)

    with files.atomic_folder(target) as folder:
        (folder / "x").write_text("old")
    monkeypatch.setattr(Path, "rename", rename)
    with files.atomic_folder(target) as folder:
        (folder / "x").write_text("new")
    assert met == ["aside", "own"]
    assert (target / "x").read_text() == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
