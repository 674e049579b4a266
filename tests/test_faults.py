"""Kill -9 at random moments, and a clock that jumps: nothing is lost and the numbers stay."""

import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest
from changes import change

from lightxling.config import to_dict
from lightxling.train import checkpoint


class Server:
    """Processes that are forked from one that has imported everything (`fault_server.py`)."""

    def __init__(self):
        flags = {"XLA_FLAGS": "", "JAX_PLATFORMS": "cpu", "PYTHONPATH": os.pathsep.join(sys.path)}
        self.process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("fault_server.py"))],
            env={**os.environ, **flags},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    def run(self, call: str, log: Path, kill_after: float | None = None, **arguments) -> int:
        """Calls a function; returns how it ended: 0, or -9 for one that was killed in time."""
        print(json.dumps({"call": call, "log": str(log), **arguments}), file=self.process.stdin)
        self.process.stdin.flush()
        child = int(self.process.stdout.readline())
        if kill_after is not None:
            time.sleep(kill_after)
            with contextlib.suppress(ProcessLookupError):  # it has ended before
                os.kill(child, signal.SIGKILL)
        return int(self.process.stdout.readline())


@pytest.fixture(scope="module")
def server():
    server = Server()
    yield server
    server.process.stdin.close()
    server.process.wait()


def arrays(path: Path) -> dict[str, np.ndarray]:
    with ocp.StandardCheckpointer() as checkpointer:
        tree = checkpointer.restore(path.absolute())
    return {jax.tree_util.keystr(k): np.array(v) for k, v in jax.tree.leaves_with_path(tree)}


def newest_whole(folder: Path) -> int:
    """The step that a run would resume from; whatever has the name of a step must be whole."""
    assert all(checkpoint.is_whole(folder / str(step)) for step in checkpoint.steps(folder))
    return checkpoint.latest_whole(folder) or 0


def test_kill_9_at_50_moments_of_saving_loses_no_saved_checkpoint(server, tmp_path):
    """Only saving, pruning and restoring, over and over: almost every moment is within them."""
    rng = random.Random(0)
    log = tmp_path / "log"
    for name in ("warm", "timed"):
        start = time.monotonic()
        folder = str(tmp_path / name)
        assert server.run("save_many", log, folder=folder, steps=3) == 0, log.read_text()
    duration = time.monotonic() - start
    folder = tmp_path / "killed"
    folder.mkdir()
    journal = folder / "journal"
    journal.touch()
    saved = halves = 0
    for _ in range(50):
        after = rng.uniform(0, duration)
        ended = server.run("save_many", log, after, folder=str(folder), steps=10**6)
        assert ended == -9, log.read_text()
        halves += any(folder.rglob("*.writing*")) or any(folder.rglob("*.old"))
        lines = journal.read_text().splitlines()
        saved = max([int(line.split()[1]) for line in lines if "saved" in line], default=0)
        assert newest_whole(folder / "checkpoints") >= saved
        assert checkpoint.is_whole(folder / "best") or not (folder / "best").exists()
    assert halves  # some were half-written
    assert saved
    assert server.run("save_many", log, folder=str(folder), steps=saved + 3) == 0, log.read_text()
    assert newest_whole(folder / "checkpoints") == saved + 3
    assert arrays(folder / "best")["['moment']"][0, 0] == (saved + 3) / 4
    assert {path.name for path in folder.iterdir()} == {"best", "checkpoints", "journal"}
    assert len(list((folder / "checkpoints").iterdir())) == 2
    assert "damaged" not in log.read_text()


def killed_runs(server, tiny, tmp_path, count: int) -> None:
    """Kills the trainer `count` times at random moments; every run that reaches its end must be
    the uninterrupted one, bit for bit."""
    every = 3
    config = change(tiny, train__checkpoint_every=every, train__dev_every=4, train__log_every=1)
    settings = to_dict(config)
    straight, log = tmp_path / "straight", tmp_path / "log"
    for workdir in (tmp_path / "warm", straight):  # the first one compiles and makes the store
        begin = time.monotonic()
        assert server.run("run", log, workdir=str(workdir), config=settings) == 0, log.read_text()
    duration = time.monotonic() - begin
    rng = random.Random(count)
    kills = runs = 0
    while kills < count:
        runs += 1
        workdir = tmp_path / f"run{runs}"
        checkpoints, log = workdir / "checkpoints", tmp_path / f"log{runs}"
        ended, before = -9, 0
        while ended == -9:
            after = rng.uniform(0, duration)
            ended = server.run("run", log, after, workdir=str(workdir), config=settings)
            kills += ended == -9
            metrics = workdir / "metrics.jsonl"
            lines = metrics.read_text().splitlines() if metrics.exists() else []
            whole = newest_whole(checkpoints)
            assert whole >= before
            if lines and lines[-1].endswith("}"):
                logged = json.loads(lines[-1])["step"]  # before the checkpoint of the same step
                assert whole >= (logged - 1) // every * every
            before = whole
        assert ended == 0, log.read_text()
        assert "damaged" not in log.read_text()
        for name in ("checkpoints/12", "best"):
            expected, found = arrays(straight / name), arrays(workdir / name)
            assert expected.keys() == found.keys()
            for leaf in expected:
                np.testing.assert_array_equal(found[leaf], expected[leaf], err_msg=f"{name} {leaf}")
        losses = [
            [(r["step"], r["loss"]) for r in map(json.loads, path.read_text().splitlines())]
            for path in (workdir / "metrics.jsonl", straight / "metrics.jsonl")
        ]
        assert losses[0] == losses[1]
        shutil.rmtree(workdir)


def test_kill_9_at_random_moments_of_training_ends_in_the_same_numbers(server, tiny, tmp_path):
    killed_runs(server, tiny, tmp_path, 6)


@pytest.mark.slow
def test_kill_9_at_50_random_moments_of_training(server, tiny, tmp_path):
    killed_runs(server, tiny, tmp_path, 50)


def test_a_clock_that_jumps_changes_nothing(server, tiny, tmp_path):
    config = to_dict(change(tiny, train__log_every=1))
    for name, clock in (("straight", 0), ("jumping", 7)):
        arguments = {"workdir": str(tmp_path / name), "config": config, "clock": clock}
        assert server.run("run", tmp_path / "log", **arguments) == 0, (tmp_path / "log").read_text()
    expected = arrays(tmp_path / "straight/checkpoints/12")
    for name, leaf in arrays(tmp_path / "jumping/checkpoints/12").items():
        np.testing.assert_array_equal(leaf, expected[name], err_msg=name)
    lines = (tmp_path / "jumping" / "metrics.jsonl").read_text().splitlines()
    for record in map(json.loads, lines):
        assert record["pairs_per_second"] > 1  # 16 pairs took no day
        assert 0 <= record["input_wait"] <= 1
