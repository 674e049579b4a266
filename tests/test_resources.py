"""What a machine refuses or takes away while a command works: one message, and nothing half."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from lightxling.base import files
from lightxling.base.errors import UserError

needs_mount = pytest.mark.skipif(
    os.geteuid() != 0 or not shutil.which("mount"), reason="mounts a small disk"
)

MINE = """
import sys
from pathlib import Path
from pathlib import Path
import numpy as np
from lightxling.encode import mine_files
mine_files.IN_MEMORY = 10
texts, disk = Path(sys.argv[1]), Path(sys.argv[2])
texts.write_text("".join(f"sentence {number}\\n" for number in range(4000)))
encode = lambda texts: np.random.default_rng(0).normal(size=(len(texts), 128))
try:
    mine_files.mine_files(encode, texts, texts, disk / "out.tsv")
except OSError as error:
    assert error.filename is None  # which `lightxling.cli.main` tells in one line
    print(error.strerror)
"""


@pytest.fixture
def small_disk(tmp_path):
    """A file system of its own that holds 500 kB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=500k", "tmpfs", folder]
    if subprocess.run(command, capture_output=True).returncode:
        pytest.skip("mounting is not allowed here")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


@needs_mount
def test_a_disk_that_is_too_small_for_what_is_mined_is_told(small_disk, tmp_path):
    """Written through a map of memory, it ended the process by a signal, without a word."""
    command = [sys.executable, "-c", MINE, tmp_path / "en.txt", small_disk]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, "No space left on device\n"), done.stderr
    assert not list(small_disk.iterdir())


@needs_mount
def test_a_folder_that_cannot_be_written_to_is_told(small_disk):
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    with (
        pytest.raises(UserError, match=r"cannot write .*/disk/mine-out.tsv: Read-only file"),
        files.scratch_folder(small_disk, "mine-out.tsv"),
    ):
        pass
    for writing in (files.atomic, files.atomic_folder):
        with pytest.raises(UserError, match="Read-only"), writing(small_disk / "out"):
            pass


def group_of_little_memory(megabytes: int) -> Path | None:
    """A control group whose processes are killed beyond so much; None where none can be made."""
    for root, limit in (
        ("/sys/fs/cgroup/memory", "memory.limit_in_bytes"),
        ("/sys/fs/cgroup", "memory.max"),
    ):
        group = Path(root) / f"lightxling-{os.getpid()}"
        try:
            group.mkdir()
            (group / limit).write_text(str(megabytes << 20))
            return group
        except OSError:
            with contextlib.suppress(OSError):
                group.rmdir()
    return None


@pytest.mark.skipif(os.geteuid() != 0, reason="makes a control group")
def test_a_command_that_is_killed_for_memory_leaves_the_old_output(tmp_path):
    """By the kernel (OOM killer), at sizes from too little to start with on."""
    (tmp_path / "a.txt").write_text("the cat\n" * 200)
    (tmp_path / "out.npy").write_text("old")
    command = [sys.executable, "-m", "lightxling", "encode", "a.txt", "-o", "out.npy"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    ends = []
    for megabytes in (24, 48, 64):
        if not (group := group_of_little_memory(megabytes)):
            pytest.skip("no control group of memory can be made here")
        words = ["bash", "-c", f'echo $$ > {group}/cgroup.procs && exec "$@"', "-", *command]
        done = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True)
        ends.append(done.returncode)
        group.rmdir()
        if done.returncode:
            assert (tmp_path / "out.npy").read_text() == "old"
        (tmp_path / "out.npy").write_text("old")
    assert -signal.SIGKILL in ends
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.txt", "out.npy"]
