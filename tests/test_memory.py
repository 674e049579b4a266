"""The estimate of a step's memory: what is counted, what there is, and the refusal."""

import dataclasses
import json
from pathlib import Path
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import PartitionSpec as P

from lightxling.base.errors import UserError
from lightxling.config import change, to_dict
from lightxling.config.rules import bytes_of, validate
from lightxling.config.schema import Config
from lightxling.saved.workdir import as_fitted
from lightxling.train import memory, step
from lightxling.train.loop import train
from lightxling.train.memory import Need, check_memory, host_memory
from lightxling.train.plan import Plan
from lightxling.train.state import TrainState


def write(root: Path, **files: str) -> Path:
    for name, text in files.items():
        path = root / name.replace("__", "/").replace("_DOT_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def meminfo(mib: int) -> str:
    return f"MemTotal: 99999999 kB\nMemAvailable: {mib * 1024} kB\n"


def test_without_control_groups_the_available_memory_counts(tmp_path):
    root = write(tmp_path, proc__meminfo=meminfo(300), proc__self__cgroup="0::/\n")
    assert host_memory(root) == 300 << 20


def test_a_limit_of_any_group_above_counts_without_its_file_cache(tmp_path):
    files = {
        "proc__meminfo": meminfo(3000),
        "proc__self__cgroup": "0::/outer/inner\n",
        "sys__fs__cgroup__outer__memory_DOT_max": str(500 << 20),
        "sys__fs__cgroup__outer__memory_DOT_current": str(200 << 20),
        "sys__fs__cgroup__outer__memory_DOT_stat": f"anon 1\ninactive_file {50 << 20}\n",
        "sys__fs__cgroup__outer__inner__memory_DOT_max": "max\n",
        "sys__fs__cgroup__outer__inner__memory_DOT_current": "1\n",
    }
    assert host_memory(write(tmp_path, **files)) == 350 << 20


def test_groups_of_the_first_version(tmp_path):
    files = {
        "proc__meminfo": meminfo(3000),
        "proc__self__cgroup": "5:cpu,cpuacct:/job\n3:memory:/job\n",
        "sys__fs__cgroup__memory__job__memory_DOT_limit_in_bytes": str(100 << 20),
        "sys__fs__cgroup__memory__job__memory_DOT_usage_in_bytes": str(40 << 20),
    }
    assert host_memory(write(tmp_path, **files)) == 60 << 20


def test_unknown_memory_is_not_a_reason_to_refuse(tmp_path):
    assert host_memory(tmp_path) is None
    assert "memory: 600 MB: " in check_memory(Need(10**8, 2 * 10**8, 3 * 10**8), None, Config())


def test_a_split_leaf_counts_its_share(mesh):
    sharding = jax.sharding.NamedSharding(mesh, P("data"))
    leaf = jax.ShapeDtypeStruct((16, 3), jnp.float32, sharding=sharding)
    assert memory.size({"a": leaf, "b": jnp.zeros(5, jnp.int32)}) == 4 * (2 * 3 + 5)


def test_the_parts_are_those_of_a_known_program():
    """One step of m = g + m, x = x - m: state of known size, a gradient, and no more results."""
    n = 1 << 20

    def step(state):
        grads = jnp.sin(state.params) * jnp.sum(state.params)
        trace = state.opt_state + grads
        return TrainState(state.step + 1, state.params - trace, trace, state.best)

    vector = jax.ShapeDtypeStruct((n,), jnp.float32)
    scalar = jax.ShapeDtypeStruct((), jnp.int32)
    state = TrainState(scalar, vector, vector, scalar)
    need = memory.estimate(jax.jit(step, donate_argnums=0).lower(state).compile(), state)
    assert (need.parameters, need.optimizer) == (4 * n, 4 * n)
    assert need.temporaries < 4 * n + 10_000
    kept = memory.estimate(jax.jit(step).lower(state).compile(), state)  # not donated: both states
    assert kept.temporaries >= 8 * n


def test_what_does_not_fit_is_refused_with_what_to_lower():
    need = Need(10**9, 3 * 10**9, 2 * 10**9)
    with pytest.raises(UserError) as error:
        check_memory(need, 5 * 10**9, Config())
    message = str(error.value)
    assert "needs 6.00 GB" in message
    assert "5.00 GB are free" in message
    for setting in ("train.micro_batch=32", "batch_size", "vocab_size", "optimizer.name=adafactor"):
        assert setting in message
    smaller = dataclasses.replace(
        Config(), train=dataclasses.replace(Config().train, micro_batch=8)
    )
    with pytest.raises(UserError, match="micro_batch=4,"):
        check_memory(need, 5 * 10**9, smaller)


def test_a_run_that_cannot_fit_does_not_start(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(memory, "available", lambda: 1000)
    with pytest.raises(UserError, match="are free on each device"):
        train(tiny, tmp_path / "run")
    assert not (tmp_path / "run" / "checkpoints").exists()


def test_a_run_compiles_its_step_once(tiny, tmp_path):
    """The estimate's compiled step is the one that trains, also after a new best dev score."""
    names = []

    def listen(event: str, seconds: float, **details) -> None:
        if event.endswith("backend_compile_duration"):
            names.append(details["fun_name"])

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        train(tiny, tmp_path / "run")
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)
    assert sum("train_step" in name for name in names) == 1


def test_a_budget_is_a_number_with_its_unit():
    sizes = {"": 0, "4GB": 4 * 10**9, "1.5 gb": 1_500_000_000, "900MB": 900_000_000}
    assert {text: bytes_of(text) for text in sizes} == sizes
    for text in ("4", "GB", "0GB", "4GiB", "-1GB", "1e3MB", "4GB 1MB"):
        with pytest.raises(UserError, match=r"train\.memory=.*such as 4GB or 900MB"):
            validate(change(Config(), train__memory=text))


@pytest.fixture
def planned(monkeypatch):
    """A run of two tasks on four devices, whose steps need 100 MB and 1 MB for each pair at once;
    and the micro-batches that were compiled."""
    tried = []

    def compile_plan(plan):
        size = plan.config.train.micro_batch or 96
        tried.append(size)
        return step.Compiled(plan, {}, Need(40 * 10**6, 60 * 10**6, size * 10**6))

    class TwoTasks(Plan):
        def __init__(self, size=0):
            config = change(Config(), train__micro_batch=size, train__memory="1GB")
            tasks = [SimpleNamespace(rows=rows) for rows in (96, 144)]
            mesh = SimpleNamespace(shape={"data": 4})
            vars(self).update(config=config, tasks=tasks, mesh=mesh)

        def with_micro_batch(self, size):
            return TwoTasks(size)

    monkeypatch.setattr(step, "compile_plan", compile_plan)
    return TwoTasks(), tried


@pytest.mark.parametrize(
    ("budget", "size"), [(104, 4), (107, 4), (108, 8), (123, 16), (124, 24), (195, 24)]
)
def test_the_largest_micro_batch_that_fits_is_taken(planned, budget, size):
    # 4, 8, 12, 16 and 24 divide 48, the common divisor of the batches, and over 4 devices
    plan, tried = planned
    fitted = step.fit(plan, budget * 10**6)
    assert fitted.plan.config.train.micro_batch == size
    assert len(tried) <= 1 + 3


def test_a_budget_that_is_too_small_names_one_that_would_do(planned):
    with pytest.raises(UserError, match=r"104 MB even with 4 pairs at a time; give .* 104MB"):
        step.fit(planned[0], 103 * 10**6)


def test_a_run_goes_on_with_the_micro_batch_that_was_chosen(tmp_path):
    asked = change(Config(), train__memory="4GB")
    assert as_fitted(asked, tmp_path) == asked
    begun = change(asked, train__micro_batch=32)
    (tmp_path / "config.json").write_text(json.dumps({"config": to_dict(begun)}))
    assert as_fitted(asked, tmp_path) == begun
    other = change(asked, train__memory="2GB")  # the next machine has less: the run is the same
    assert as_fitted(other, tmp_path).train.micro_batch == 32
    assert as_fitted(Config(), tmp_path) == Config()
