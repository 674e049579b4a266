"""A disk that fills up while a run writes: a clear message, and the last checkpoint whole."""

import contextlib
import dataclasses
import subprocess

import pytest

from lightxling.base.errors import UserError
from lightxling.saved import checkpoint
from lightxling.train.loop import train


@pytest.fixture
def small_disk(tmp_path):
    """A file system of its own that holds 4 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", folder], capture_output=True
    )
    if mounted.returncode:
        pytest.skip("mounting a small file system needs root")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


def test_a_full_disk_leaves_the_last_checkpoint_whole(tiny, small_disk):
    run = small_disk / "run"
    train(tiny, run)
    before = checkpoint.steps(run / "checkpoints")
    longer = dataclasses.replace(tiny, train=dataclasses.replace(tiny.train, pairs=16 * 18))
    filler = small_disk / "filler"
    with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
        while True:
            file.write(b"x" * 4096)
    with pytest.raises(UserError, match="is full"):
        train(longer, run)
    assert checkpoint.steps(run / "checkpoints") == before
    assert all(checkpoint.is_whole(run / "checkpoints" / str(step)) for step in before)

    filler.unlink()
    train(longer, run)
    assert checkpoint.steps(run / "checkpoints")[-1] == 18
