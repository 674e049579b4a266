"""Kill -9 at random moments, and a clock that jumps: nothing is lost and the numbers stay."""

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest

from lightxling.config.files import to_dict
from lightxling.config.objectives import ObjectivesConfig, SimilarityConfig, TokensConfig
from lightxling.config.schema import (
    Config,
    CorpusConfig,
    ModelConfig,
    TokenizerConfig,
    TrainConfig,
)
from lightxling.saved import checkpoint


class Server:
    """Processes that are forked from one that has imported everything (`fault_server.py`)."""

    def __init__(self):
        flags = {
            "XLA_FLAGS": "--xla_backend_optimization_level=0",  # half of the time is compilation
            "JAX_PLATFORMS": "cpu",
            "PYTHONPATH": os.pathsep.join(sys.path),
        }
        self.process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("fault_server.py"))],
            env={**os.environ, **flags},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    def run(
        self,
        call: str,
        log: Path,
        kill_after: float | None = None,
        stops: Sequence[float] = (),
        **arguments,
    ) -> int:
        """Calls a function; returns how it ended: 0, or -9 for one that was killed in time.

        Args:
          stops: seconds after each of which it is stopped for a tenth of a second (SIGSTOP).
        """
        print(json.dumps({"call": call, "log": str(log), **arguments}), file=self.process.stdin)
        self.process.stdin.flush()
        child = int(self.process.stdout.readline())
        for seconds in stops:
            time.sleep(seconds)
            os.kill(child, signal.SIGSTOP)
            time.sleep(0.1)
            os.kill(child, signal.SIGCONT)
        if kill_after is not None:
            time.sleep(kill_after)
            with contextlib.suppress(ProcessLookupError):  # it has ended before
                os.kill(child, signal.SIGKILL)
        return int(self.process.stdout.readline())


@pytest.fixture(scope="module")
def server():
    server = Server()
    with server.process:  # closes its pipes, which ends it
        yield server


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


EVERY = 3
"""Steps between checkpoints."""


@pytest.fixture(scope="module")
def trained(server, corpus, tmp_path_factory):
    """Settings, the folder of an uninterrupted run beside which others find what it compiled, and
    the seconds that it took."""
    folder = tmp_path_factory.mktemp("trained")
    config = Config(
        corpus=CorpusConfig(
            sources=(f"aa-bb={corpus}",), dev_share=0.1, store=str(folder / "stores")
        ),
        tokenizer=TokenizerConfig(vocab_size=300, model="unigram"),
        model=ModelConfig(layers=1, width=16, heads=2, feedforward=16, max_length=32),
        objectives=ObjectivesConfig(
            tokens=TokensConfig(weight=0.0), similarity=SimilarityConfig(weight=0.0)
        ),
        train=TrainConfig(
            pairs=16 * 12,
            batch_size=16,
            buckets=(32,),
            log_every=1,
            dev_every=4,
            checkpoint_every=EVERY,
        ),
    )
    settings = to_dict(config)
    for workdir in (folder / "warm", folder / "straight"):
        begin = time.monotonic()
        log = folder / f"{workdir.name}.log"
        assert server.run("run", log, workdir=str(workdir), config=settings) == 0, log.read_text()
    return settings, folder / "straight", time.monotonic() - begin


def check_same(run: Path, straight: Path) -> None:
    """The last and the best checkpoint and the losses, bit for bit."""
    for name in ("checkpoints/12", "best"):
        expected, found = arrays(straight / name), arrays(run / name)
        assert expected.keys() == found.keys()
        for leaf in expected:
            np.testing.assert_array_equal(found[leaf], expected[leaf], err_msg=f"{name} {leaf}")
    losses = [
        [(record["step"], record["loss"]) for record in records(path)] for path in (run, straight)
    ]
    assert losses[0] == losses[1]


def records(run: Path) -> list[dict]:
    """Whole lines of the metrics."""
    path = run / "metrics.jsonl"
    lines = path.read_text().splitlines() if path.exists() else []
    return [json.loads(line) for line in lines if line.endswith("}")]


def killed_runs(server, trained, tmp_path: Path, count: int) -> None:
    """Kills the trainer `count` times at random moments; whenever it reaches its end, it must have
    become the uninterrupted run, and another one is begun."""
    settings, straight, duration = trained
    rng = random.Random(count)
    kills = runs = 0
    while kills < count:
        runs += 1
        workdir = straight.with_name(f"run-{count}-{runs}")
        log = tmp_path / f"log{runs}"
        ended, before = -9, 0
        while ended == -9:
            after = rng.uniform(0, duration) if kills < count else None
            ended = server.run("run", log, after, workdir=str(workdir), config=settings)
            kills += ended == -9
            whole = newest_whole(workdir / "checkpoints")
            assert whole >= before
            before = whole
            if logged := records(workdir):  # before the checkpoint of the same step
                assert whole >= (logged[-1]["step"] - 1) // EVERY * EVERY
        assert ended == 0, log.read_text()
        assert "damaged" not in log.read_text()
        check_same(workdir, straight)


def test_kill_9_at_random_moments_of_training_ends_in_the_same_numbers(server, trained, tmp_path):
    killed_runs(server, trained, tmp_path, 3)


@pytest.mark.slow
def test_kill_9_at_50_random_moments_of_training(server, trained, tmp_path):
    killed_runs(server, trained, tmp_path, 50)


def test_a_clock_that_jumps_changes_nothing(server, trained):
    settings, straight, _ = trained
    run, log = straight.with_name("jumping"), straight.with_name("jumping.log")
    ended = server.run("run", log, workdir=str(run), config=settings, clock=7)
    assert ended == 0, log.read_text()
    check_same(run, straight)
    for record in records(run):
        assert record["pairs_per_second"] > 1  # 16 pairs took no day
        assert 0 <= record["input_wait"] <= 1


def test_a_run_that_is_stopped_and_goes_on_changes_nothing(server, trained):
    """As by Ctrl-Z and `fg`, or a laptop that sleeps."""
    settings, straight, duration = trained
    run, log = straight.with_name("stopped"), straight.with_name("stopped.log")
    stops = [duration / 20] * 8
    assert server.run("run", log, workdir=str(run), config=settings, stops=stops) == 0
    check_same(run, straight)


def test_a_link_to_the_folder_of_a_run_is_that_folder(server, trained):
    settings, straight, duration = trained
    run, log = straight.with_name("behind"), straight.with_name("behind.log")
    run.mkdir()
    link = straight.with_name("link")
    link.symlink_to(run)
    server.run("run", log, duration / 2, workdir=str(link), config=settings)
    assert link.is_symlink()
    assert server.run("run", log, workdir=str(run), config=settings) == 0, log.read_text()
    assert server.run("run", log, workdir=str(link), config=settings) == 0, log.read_text()
    assert link.is_symlink()
    check_same(run, straight)
    check_same(link, straight)


def test_a_store_that_is_deleted_during_training_is_missed_by_the_next_run_only(server, trained):
    """What is mapped stays; the next one prepares the same text again."""
    settings, straight, duration = trained
    stores = str(straight.with_name("lost-stores"))
    config = {**settings, "corpus": {**settings["corpus"], "store": stores}}
    run, log = straight.with_name("lost"), straight.with_name("lost.log")
    ended = server.run("run", log, workdir=str(run), config=config, lose=stores)
    assert ended == 0, log.read_text()
    check_same(run, straight)
    again, log = straight.with_name("again"), straight.with_name("again.log")
    server.run("run", log, duration * 0.7, workdir=str(again), config=config, lose=stores)
    ended = server.run("run", log, workdir=str(again), config=config)
    assert ended == 0, log.read_text()
    check_same(again, straight)


def test_a_limit_of_memory_costs_the_steps_since_the_last_checkpoint_and_no_more(server, trained):
    settings, straight, _ = trained
    run, log = straight.with_name("narrow"), straight.with_name("narrow.log")
    ends = [
        server.run("run", log, workdir=str(run), config=settings, memory=megabytes << 20)
        for megabytes in (8, 64, 256)
    ]
    assert ends[0] != 0
    newest_whole(run / "checkpoints")
    assert server.run("run", log, workdir=str(run), config=settings) == 0, log.read_text()
    check_same(run, straight)
