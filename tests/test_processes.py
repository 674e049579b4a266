"""Several processes on the loopback address: one run, with the numbers of a single process."""

import dataclasses
import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest

from lightxling.base import processes
from lightxling.base.errors import UserError, first_line
from lightxling.config.files import to_dict
from lightxling.config.schema import Config, MeshConfig
from lightxling.config.settings import change
from lightxling.corpus.prepare import prepare
from lightxling.saved import checkpoint
from lightxling.saved.bundle import read_run, read_run_params


def free_port() -> int:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return server.getsockname()[1]


def environment(devices: int = 1, **variables: str) -> dict[str, str]:
    return {
        **os.environ,
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices} "
        "--xla_backend_optimization_level=0",
        **variables,
    }


def start(config: Config, run: Path, count: int, *, devices: int = 1, slurm: bool = False) -> list:
    """Starts `count` processes of `lightxling train`, by flags or as a step of Slurm."""
    recipe = run.with_suffix(".py")
    recipe.write_text(
        "from lightxling.config import Config, from_dict\n"
        f"config = from_dict(Config, {to_dict(config)!r})\n"
    )
    command = [sys.executable, "-m", "lightxling", "train", str(recipe), "--workdir", str(run)]
    port, started = free_port(), []
    for i in range(count):
        flags, variables = [], {}
        if slurm:
            variables = {
                "SLURM_JOB_ID": "1",
                "SLURM_STEP_NODELIST": "127.0.0.1",
                "SLURM_NTASKS": str(count),
                "SLURM_STEP_NUM_TASKS": str(count),
                "SLURM_PROCID": str(i),
                "SLURM_LOCALID": str(i),
                "JAX_COORDINATOR_PORT": str(port),
            }
        elif count > 1:
            flags = ["--coordinator-address", f"127.0.0.1:{port}"]
            flags += ["--num-processes", str(count), "--process-id", str(i)]
        started.append(
            subprocess.Popen(
                command + flags,
                env=environment(devices, **variables),
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
        )
    return started


def finish(started: list, seconds: float = 300) -> list[tuple[int, str]]:
    """Exit code and output of every process."""
    end = time.monotonic() + seconds
    try:
        texts = [process.communicate(timeout=end - time.monotonic())[0] for process in started]
    finally:
        for process in started:
            process.kill()
    return [(process.returncode, text) for process, text in zip(started, texts, strict=True)]


def succeed(started: list) -> list[str]:
    ended = finish(started)
    assert [code for code, _ in ended] == [0] * len(started), ended
    return [text for _, text in ended]


def column(run: Path, name: str) -> list[float]:
    lines = (run / "metrics.jsonl").read_text().splitlines()
    return [record[name] for record in map(json.loads, lines) if name in record]


def parameters(run: Path) -> dict[str, np.ndarray]:
    """Of the last checkpoint, by name."""
    leaves = jax.tree_util.tree_leaves_with_path(read_run_params(read_run(run), "last"))
    return {jax.tree_util.keystr(path): np.array(leaf) for path, leaf in leaves}


@pytest.fixture(scope="module")
def made(corpus, tmp_path_factory):
    """A finished run of one process, made by the first test that asks."""
    return tmp_path_factory.mktemp("alone") / "run"


@pytest.fixture
def alone(tiny, made):
    """adamw: amsgrad divides rounding by rounding where the gradient is nothing else."""
    config = change(tiny, optimizer__name="adamw", optimizer__eps=1e-4)
    if not made.exists():
        succeed(start(config, made, 1))
    return config, made


def test_four_processes_train_as_one(alone, tmp_path):
    config, one = alone
    run = tmp_path / "run"
    texts = succeed(start(dataclasses.replace(config, mesh=MeshConfig(2, 2)), run, 4))
    assert "parameters" in texts[0]
    assert not any("parameters" in text for text in texts[1:])
    for name in ("loss", "tokens", "align", "dev_p@1"):
        np.testing.assert_allclose(column(run, name), column(one, name), rtol=2e-4, err_msg=name)
    theirs = parameters(one)
    for name, leaf in parameters(run).items():
        np.testing.assert_allclose(leaf, theirs[name], atol=2e-4, err_msg=name)
    assert checkpoint.is_whole(run / "best")
    assert not list((run / "checkpoints").glob("*.writing*"))
    assert len(list(run.glob("events.*"))) == 1


def test_the_others_end_when_one_dies_and_the_run_goes_on(alone, tmp_path):
    """Started as a step of Slurm, one of two processes is killed; a single one goes on."""
    config, one = alone
    run = tmp_path / "run"
    started = start(change(config, train__checkpoint_every=4), run, 2, slurm=True)
    end = time.monotonic() + 300
    while not checkpoint.steps(run / "checkpoints"):
        assert all(process.poll() is None for process in started), finish(started)
        assert time.monotonic() < end
        time.sleep(0.02)
    started[1].kill()
    (code, text), _ = finish(started, seconds=100)
    last = checkpoint.latest_whole(run / "checkpoints")
    if last < 12:  # else it was killed after the last step
        assert code != 0
        # ours, or that of jax where it hears nothing for 20 seconds
        assert "goes on from its last checkpoint" in text or "JAX distributed service" in text
    succeed(start(config, run, 1, devices=4))
    np.testing.assert_allclose(column(run, "loss"), column(one, "loss"), rtol=2e-4)


def test_processes_with_different_settings_refuse_each_other(tiny, tmp_path):
    prepare(tiny)
    ours = start(tiny, tmp_path / "run", 2)
    ours[1].kill()
    ours[1].communicate()  # closes its pipe
    port = ours[0].args[ours[0].args.index("--coordinator-address") + 1]
    flags = ["--train.seed", "7", "--coordinator-address", port]
    other = subprocess.Popen(
        [*ours[0].args[:-6], *flags, "--num-processes", "2", "--process-id", "1"],
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    for code, text in finish([ours[0], other]):
        assert code == 2
        assert "process 1 and process 0 have different settings" in text
        assert "Traceback" not in text


@pytest.mark.parametrize(
    ("place", "message"),
    [
        (("host:1", None, 0), "belong together"),
        (("host", 2, 0), "HOST:PORT"),
        (("host:1", 2, 2), "--process-id 2 should be from 0 to 1"),
    ],
)
def test_half_an_address_is_refused(place, message):
    with pytest.raises(UserError, match=message):
        processes.join_processes(*place)


def test_a_process_alone_starts_nothing(monkeypatch):
    """An allocation of Slurm without `srun` is one process, although it has many tasks."""
    monkeypatch.setenv("SLURM_NTASKS", "8")
    assert not processes.is_launched()
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "8")
    assert processes.is_launched()


def test_an_error_without_text_is_told_by_its_name():
    assert first_line(RuntimeError("down\nat line 5")) == "down"
    assert first_line(RuntimeError()) == "RuntimeError"
