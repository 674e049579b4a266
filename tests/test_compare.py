import csv
import io
import json

import pytest
from rich.console import Console

from lightxling.config import UserError
from lightxling.evaluate.compare import compare, render


@pytest.fixture
def make(tmp_path):
    """Writes a run directory and returns its path."""

    def make(name, seed=0, width=64, accuracy=None, unfinished=False):
        path = tmp_path / name
        (path / "evaluation").mkdir(parents=True)
        config = {"model": {"width": width}, "train": {"seed": seed, "log_every": seed}}
        (path / "config.json").write_text(
            json.dumps({"config": config, "parameters": {"encoder": 1000, "training": 1500}})
        )
        (path / "tokenizer.model").write_bytes(b"x" * 96)
        records = [
            {"step": 1, "pairs": 3600, "pairs_per_second": 1.0, "peak_memory": 5_000_000},
            {
                "step": 2,
                "pairs": 7200,
                "pairs_per_second": 2.0,
                "peak_memory": 6_000_000,
                "dev_p@1": 40.0 + seed,
            },
        ]
        text = "".join(json.dumps(record) + "\n" for record in records)
        (path / "metrics.jsonl").write_text(text + ('{"step": 3, "pa' if unfinished else ""))
        if accuracy is not None:
            units = {
                "en-fr": {"scores": {"accuracy": accuracy}},
                "en-de": {"scores": {"accuracy": accuracy + 10}},
            }
            text = json.dumps({"task": "retrieval", "dataset": "dev", "results": units})
            (path / "evaluation" / "retrieval.dev.json").write_text(text)
        return path

    return make


def test_runs_that_differ_in_the_seed_are_one_row(make):
    paths = [make("a0", 0, accuracy=80.0), make("a1", 1, accuracy=84.0), make("b", 0, width=128)]
    columns, rows = compare(paths)
    assert [row["run"] for row in rows] == ["a0, a1", "b"]
    assert [row["runs"] for row in rows] == [2, 1]
    seeds, single = rows
    assert seeds["parameters"] == (1000, 0)
    assert seeds["bytes"] == (4096, 0)
    assert seeds["training pairs"] == (7200, 0)
    assert seeds["training hours"] == (1.5, 0)  # 3600 s and 1800 s
    assert seeds["peak memory"] == (6e6, 0)
    assert seeds["best dev P@1"] == (40.5, pytest.approx(0.5**0.5))
    assert seeds["retrieval.dev accuracy"] == (87, pytest.approx(8**0.5))
    assert seeds["retrieval.dev en-fr accuracy"] == (82, pytest.approx(8**0.5))
    assert single["best dev P@1"] == (40, None)
    assert single["retrieval.dev accuracy"] is None
    assert columns.index("retrieval.dev accuracy") < columns.index("retrieval.dev en-fr accuracy")


def test_the_three_forms(make):
    columns, rows = compare([make("a0", 0, accuracy=80.0), make("a1", 1, accuracy=84.0)])
    markdown = render(columns, rows, "markdown").splitlines()
    assert markdown[0] == "|  | a0, a1 (2) |"
    assert {line.count("|") for line in markdown} == {3}
    assert any("accuracy | 87.0 ± 2.8 |" in line for line in markdown)
    (row,) = csv.DictReader(io.StringIO(render(columns, rows, "csv")))
    assert float(row["retrieval.dev accuracy"]) == 87
    assert float(row["retrieval.dev accuracy sd"]) == pytest.approx(8**0.5, rel=1e-5)
    console = Console(width=100, record=True, quiet=False, file=io.StringIO())
    console.print(render(columns, rows, "table"))
    assert "a0, a1 (2)" in console.export_text()


def test_unfinished_and_empty_runs_are_shown_with_what_they_have(make, tmp_path):
    path = make("killed", unfinished=True)
    (path / "evaluation" / "sts.x.json").write_text("{half")
    new = make("new")
    (new / "metrics.jsonl").unlink()
    _, rows = compare([path])
    assert rows[0]["training pairs"] == (7200, None)
    columns, _ = compare([new])
    assert columns == ["parameters", "bytes"]


def test_exports_show_their_bytes_and_scores(make, tmp_path):
    export = make("export", accuracy=50.0)
    (export / "config.json").write_text('{"format": "lightxling"}')
    (export / "metrics.jsonl").unlink()
    _, (row,) = compare([export])
    assert row["bytes"] == (96 + 24, None)
    assert row["retrieval.dev accuracy"] == (55, None)


def test_a_folder_that_is_no_run_is_named(tmp_path):
    with pytest.raises(UserError, match=r"is no run: it has no config\.json"):
        compare([tmp_path])
    (tmp_path / "config.json").write_text("[1")
    with pytest.raises(UserError, match="damaged"):
        compare([tmp_path])


def test_what_is_no_number_is_left_out(make):
    path = make("odd", accuracy=50.0)
    with (path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 3, "pairs": 9000, "pairs_per_second": null, "dev_p@1": null}\n[1]\n')
    units = {"en-fr": {"scores": {"accuracy": "high"}}, "en-de": {"scores": {"accuracy": 30.0}}}
    (path / "evaluation" / "nli.x.json").write_text(json.dumps({"results": units}))
    columns, (row,) = compare([path])
    assert row["training pairs"] == (7200, None)
    assert row["best dev P@1"] == (40, None)
    assert row["nli.x accuracy"] == (30, None)
    assert "retrieval.dev en-fr accuracy" in columns
    columns, _ = compare([path], units=False)
    assert [c for c in columns if c.startswith("retrieval")] == ["retrieval.dev accuracy"]
