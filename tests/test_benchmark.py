"""The benchmark tool: what it counts as the floor, its sweeps, and one run of each measure."""

import csv
import importlib.util
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lightxling.corpus.batch import Batch
from lightxling.model import build as models
from lightxling.objectives import combine

TOOLS = Path(__file__).parent.parent / "tools"
SMALL = {"vocab": 60, "width": 16, "layers": 1}


@pytest.fixture
def tool(monkeypatch):
    """The tool as a module, without its large matrix products."""
    monkeypatch.syspath_prepend(str(TOOLS))
    spec = importlib.util.spec_from_file_location("benchmark", TOOLS / "benchmark.py")
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "benchmark", module)
    spec.loader.exec_module(module)
    for name in ("jax_rate", "numpy_rate"):
        monkeypatch.setattr(module, name, lambda: 1e9)
    return module


def dot_operations(jaxpr) -> int:
    """Operations of all matrix products of a traced function, loops included."""
    total = 0
    for equation in jaxpr.eqns:
        if equation.primitive.name == "dot_general":
            (contracted, _), _ = equation.params["dimension_numbers"]
            left = equation.invars[0].aval.shape
            sides = [left[i] for i in contracted]
            total += 2 * equation.outvars[0].aval.size * int(np.prod(sides))
        times = equation.params.get("length", 1)  # of a scan
        for value in equation.params.values():
            for inner in value if isinstance(value, tuple | list) else [value]:
                inner = getattr(inner, "jaxpr", inner)
                if hasattr(inner, "eqns"):
                    total += times * dot_operations(inner)
    return total


def test_the_floor_counts_the_products_of_the_forward_pass(tool):
    """Against a trace; the alignment's B x B products are beside the point and left out."""
    config = tool.recipe("light", **SMALL, batch=4)
    heads = combine.heads_of(config.objectives, 2)
    graphdef = models.structure(config.model, 60, heads)
    params = jax.eval_shape(lambda: models.initialise(config.model, 60, jax.random.key(0), heads))
    batch = Batch(*map(jnp.array, tool.random_pairs(config, batch=4, length=6)))
    traced = jax.make_jaxpr(lambda p: combine.loss(config.objectives, graphdef, p, batch, None))
    counted = dot_operations(traced(params).jaxpr) - 2 * 4 * 4 * 16
    assert tool.step_products(config, batch=4, length=6) == 3 * counted


def test_sweeps_are_all_combinations(tool):
    found = tool.combinations(tool.Input(batch=(1, 2), length=(3, 4), pairs=(5,)))
    assert [(row["batch"], row["length"]) for row in found] == [(1, 3), (1, 4), (2, 3), (2, 4)]


def test_the_line_is_that_of_least_squares(tool):
    assert tool.fit_line([0, 1, 2], [1, 3, 5]) == pytest.approx((2, 1))


def test_measures_of_small_problems(tool):
    small = {"config": "light", "length": 5, "repeats": 1, **SMALL}
    found = tool.measure_train(batch=16, micro_batch=8, optimizer="sgd", **small)
    assert found["optimizer_mb"] == pytest.approx(found["parameters_mb"], rel=1e-2)
    for backend in ("jax", "numpy"):
        assert tool.measure_encode(backend=backend, batch=4, **small)["sentences_per_second"] > 0
    sizes = {"queries": 5, "candidates": 20, "width": 64, "k": 1}
    assert tool.measure_retrieval(method="lightxling", repeats=1, **sizes)["p@1"] == 1


def test_a_sweep_in_fresh_processes_writes_a_table(tool, tmp_path, capsys):
    table = tmp_path / "table.csv"
    sweep = ["--batch", "8", "16", "--pairs", "64", "--repeats", "1", "--csv", str(table)]
    tool.main(["input", *sweep])
    rows = list(csv.DictReader(table.read_text().splitlines()))
    assert [row["batch"] for row in rows] == ["8", "16"]
    assert all(float(row["ratio"]) > 0 and float(row["peak_memory_gb"]) > 0 for row in rows)
    assert "batch=16" in capsys.readouterr().out


def test_a_plot_needs_one_swept_number(tool, tmp_path):
    with pytest.raises(SystemExit, match="one number"):
        tool.benchmark("input", tool.Input(), plot_file=tmp_path / "x.png")


def test_a_plot_is_written(tool, tmp_path):
    pytest.importorskip("matplotlib")
    rows = [{"batch": b, "batch_us": 2.0 * b, "peak_memory_gb": 1.0} for b in (1, 2, 4)]
    tool.plot(rows, ["batch"], tmp_path / "x.png")
    assert (tmp_path / "x.png").stat().st_size > 1000
