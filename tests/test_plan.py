"""`lightxling plan`: steps compiled for TPUs that are not there (marked `tpu`), and what is said of
them."""

import json
import math
import os
import subprocess
import sys

import pytest
from rich.console import Console

from lightxling.base.errors import UserError
from lightxling.config import change, load
from lightxling.config.schema import MeshConfig
from lightxling.train import forecast
from lightxling.train.forecast import CHIPS, Forecast, Planning, conclusions, table
from lightxling.train.sharding import by_row, make_mesh

FORECAST = Forecast(
    length=32,
    arguments=2_000_000_000,
    temporaries=1_000_000_000,
    operations=197e9,  # a millisecond on a v5e chip
    traffic=1_638_000_000,  # two
    sent=100e6,  # half a one
    collectives={"all-reduce": 3},
    gathered=0,
)


def test_times_are_work_over_the_chip_s_rates():
    seconds = FORECAST.seconds(CHIPS["v5e"])
    assert seconds == pytest.approx({"products": 1e-3, "memory": 2e-3, "links": 0.5e-3})


def test_the_table_fits_a_narrow_terminal(capsys):
    console = Console(width=60, highlight=False)
    console.print(table([FORECAST, FORECAST._replace(length=200)], CHIPS["v5e"], 512))
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 60
    cells = {line.split("  ")[1].strip(): line.split()[-2:] for line in lines if "  " in line}
    assert cells["tokens"] == ["32", "200"]
    assert cells["the longest"] == ["memory", "memory"]
    assert cells["pairs/s, all at once"] == ["256,000"] * 2  # 512 in 2 ms
    assert cells["pairs/s, one by one"] == ["146,286"] * 2  # 512 in 3.5 ms


def test_hours_and_money_follow_from_the_pairs():
    config = change(load("light"), train__pairs=256_000 * 3600)
    asked = Planning(on="v5e:2x2", price=1.5)
    rate = config.train.batch_size / 2e-3
    hours = config.train.pairs / rate / 3600
    fits, _, last = conclusions([FORECAST], CHIPS["v5e"], 4, config, asked)
    assert fits.startswith("fits: ")
    assert f"at least {hours:.2f} hours" in last
    assert f"{hours * 4 * 1.5:,.2f} to {hours * 1.75 * 4 * 1.5:,.2f} at 1.5 a chip-hour" in last


def test_what_is_too_large_is_told_what_to_change():
    huge = FORECAST._replace(temporaries=20_000_000_000)
    first, *_ = conclusions([huge], CHIPS["v5e"], 4, load("light"), Planning(on="v5e:2x2"))
    assert first.startswith("DOES NOT FIT")
    assert "--train.micro-batch" in first


@pytest.mark.parametrize("name", ["v5e", "h100:8", "v9:2x2", ":2x2"])
def test_chips_that_are_not_known_are_named(name):
    with pytest.raises(UserError, match="give a generation \\(v4, v5e, v5p, v6e\\)"):
        forecast.topology(name)


@pytest.mark.parametrize("recipe", ["dual-encoder", "grow", "modular-language"])
def test_recipes_that_cannot_be_planned_say_why(recipe):
    with pytest.raises(UserError, match="plan: "):
        forecast.check(load(recipe))


SCRIPT = """
import json, sys
from lightxling.config import change, load
from lightxling.train import forecast

small = {"layers": 1, "width": 128, "heads": 2, "feedforward": 256, "max_length": 32}
small = {f"model__{name}": value for name, value in small.items()}
config = change(load("light"), **small, model__embedding_width=0, tokenizer__vocab_size=8192,
                train__batch_size=64, model__compute_dtype="bfloat16")
_, devices = forecast.topology("v5e:2x2")
asked = forecast.Planning(on="v5e:2x2")
found = [forecast.forecast(change(config, mesh__model=m), devices, 32, asked) for m in (1, 2)]
json.dump([one._asdict() for one in found], sys.stdout)
"""
TABLE = 8192 * 128 * 4  # bytes in float32


@pytest.fixture(scope="module")
def compiled():
    """Forecasts of a tiny `light` on four v5e chips: the batch over four, and over two times two.

    In a process of its own: the compiler for TPUs reads flags that the tests set for CPUs.
    """
    pytest.importorskip("libtpu", reason="the extra tpu is not installed")
    environment = {key: value for key, value in os.environ.items() if key != "XLA_FLAGS"}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], env=environment, capture_output=True, text=True, check=True
    )
    return [Forecast(**one) for one in json.loads(done.stdout)]


@pytest.mark.tpu
def test_memory_is_that_of_the_state_and_falls_where_the_table_is_split(compiled):
    whole, split = compiled
    states = 4 if load("light").optimizer.name == "amsgrad" else 3  # and the parameters
    assert whole.arguments > states * TABLE
    assert whole.arguments - split.arguments == pytest.approx(states * TABLE / 2, rel=0.02)


@pytest.mark.tpu
def test_every_chip_has_its_own_sentences_where_the_table_is_split(compiled):
    """They were encoded by both chips of a pair, at twice the operations."""
    whole, split = compiled
    assert split.operations < 1.15 * whole.operations


@pytest.mark.tpu
def test_no_chip_gathers_a_table(compiled):
    """The encoder's table, its moments and its gradient stay where they are."""
    for one in compiled:
        assert one.gathered < TABLE / 2, one


@pytest.mark.tpu
def test_operations_are_those_of_the_products(compiled):
    """Forward and twice backward: 6 operations for every number of a matrix and token, 12 L D more
    a token in attention, and the logits of every sentence."""
    tokens, sentences, width = 64 * 2 * 32 / 4, 64 * 2 / 4, 128
    matrices = 4 * width * width + 2 * width * 256
    products = 6 * tokens * matrices + tokens * 12 * 32 * width
    products += 6 * sentences * (8192 * width + width * width)
    # norms, softmax and dropout come on top, a large share where the products are as small as here
    assert products < compiled[0].operations < 2.5 * products


@pytest.mark.tpu
def test_traffic_is_at_least_that_of_the_state_and_not_out_of_proportion(compiled):
    state = compiled[0].arguments
    assert 2 * state < compiled[0].traffic + state  # read and written once, or nearly
    assert compiled[0].traffic < 20 * state
    assert math.isfinite(compiled[0].sent)


@pytest.mark.parametrize(
    ("data", "model", "rows", "shards"), [(8, 1, 8, 8), (4, 2, 16, 8), (4, 2, 12, 4), (1, 8, 4, 1)]
)
def test_rows_go_over_all_devices_where_they_divide(data, model, rows, shards):
    mesh = make_mesh(MeshConfig(data=data, model=model), batch_size=rows)
    held = by_row(mesh, rows).devices_indices_map((rows,)).values()
    assert len({(part.start, part.stop) for (part,) in held}) == shards
