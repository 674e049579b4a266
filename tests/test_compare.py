import csv
import io
import json

import pytest
from export_samples import bundle

from lightxling.base.errors import UserError
from lightxling.evaluate.compare import as_text, compare, render
from lightxling.export.formats import write_format
from lightxling.export.quantize import quantize


@pytest.fixture
def make(tmp_path):
    """Writes a run directory and returns its path."""

    def make(name, seed=0, width=64, accuracy=None, unfinished=False, units=None):
        """With `accuracy`, it was scored in two languages; `units` are results as they are kept."""
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
                "dev_candidates": 300,
            },
        ]
        text = "".join(json.dumps(record) + "\n" for record in records)
        (path / "metrics.jsonl").write_text(text + ('{"step": 3, "pa' if unfinished else ""))
        if accuracy is not None:
            units = {
                "en-fr": {"scores": {"accuracy": accuracy}, "candidates": 2000},
                "en-de": {"scores": {"accuracy": accuracy + 10}},
            }
        if units is not None:
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
    assert seeds["parameters"] == (1000, 0, 2)
    assert seeds["bytes"] == (4096, 0, 2)
    assert seeds["training pairs"] == (7200, 0, 2)
    assert seeds["training hours"] == (1.5, 0, 2)  # 3600 s and 1800 s
    assert seeds["peak memory"] == (6e6, 0, 2)
    assert seeds["best dev P@1"] == (40.5, pytest.approx(0.5**0.5), 2)
    assert seeds["retrieval.dev accuracy"] == (87, pytest.approx(8**0.5), 2)
    assert seeds["retrieval.dev en-fr accuracy"] == (82, pytest.approx(8**0.5), 2)
    assert seeds["dev candidates"] == (300, 0, 2)
    assert seeds["retrieval.dev en-fr candidates"] == (2000, 0, 2)
    column = "retrieval.dev en-fr candidates"
    assert as_text(column, seeds[column], 2) == "2,000"
    assert single["best dev P@1"] == (40, None, 1)
    assert single["retrieval.dev accuracy"] is None
    assert columns.index("retrieval.dev accuracy") < columns.index("retrieval.dev en-fr accuracy")


def scored(encoder=None, **accuracies):
    """Results of languages: en_de=17.0 is those of en-de."""
    known = {} if encoder is None else {"encoder": encoder}
    return {
        name.replace("_", "-"): {"scores": {"accuracy": value}, **known}
        for name, value in accuracies.items()
    }


def test_seeds_are_averaged_over_the_languages_that_all_have(make):
    paths = [
        make("r0", 0, units=scored(en_de=17.0, en_fr=13.0)),
        make("r1", 1, units=scored(en_de=21.0)),
        make("r2", 2),  # not evaluated
    ]
    columns, (row,) = compare(paths)
    assert row["retrieval.dev accuracy"] == (19, pytest.approx(8**0.5), 2)
    assert row["retrieval.dev en-de accuracy"] == (19, pytest.approx(8**0.5), 2)
    assert row["retrieval.dev en-fr accuracy"] == (13, None, 1)
    lines = render(columns, [row], "markdown").splitlines()
    assert "| parameters | 1,000 |" in lines  # all three
    assert "| retrieval.dev accuracy | 19.0 ± 2.8 (n=2) |" in lines
    assert "| retrieval.dev en-fr accuracy | 13.0 (n=1) |" in lines
    (cells,) = csv.DictReader(io.StringIO(render(columns, [row], "csv")))
    assert [cells[f"{column} n"] for column in ("parameters", "retrieval.dev accuracy")] == [
        "3",
        "2",
    ]


def test_seeds_without_a_common_language_have_no_mean(make):
    paths = [make("r0", 0, units=scored(en_de=1.0)), make("r1", 1, units=scored(en_fr=3.0))]
    columns, (row,) = compare(paths)
    assert "retrieval.dev accuracy" not in columns
    assert row["retrieval.dev en-de accuracy"] == (1, None, 1)
    assert row["retrieval.dev en-fr accuracy"] == (3, None, 1)


def test_a_run_given_twice_is_one_seed(make, tmp_path):
    path = make("r0", accuracy=80.0)
    (tmp_path / "link").symlink_to(path)
    _, (row,) = compare([path, tmp_path / "x" / ".." / "r0", tmp_path / "link"])
    assert (row["run"], row["runs"]) == ("r0", 1)
    assert row["retrieval.dev accuracy"] == (85, None, 1)
    with pytest.raises(UserError, match="no run is given; lightxling compare RUN"):
        compare([])


@pytest.mark.parametrize("files", [1, 2])
def test_scores_of_two_encoders_are_never_side_by_side(make, files):
    """In one file, or in two."""
    units = scored("one", en_de=17.0) | scored("one" if files == 2 else "two", en_fr=13.0)
    path = make("r0", units=units)
    if files == 2:
        other = json.dumps({"results": scored("two", en_it=5.0)})
        (path / "evaluation" / "sts.x.json").write_text(other)
    with pytest.raises(UserError, match=r"r0/evaluation holds scores of 2 encoders .*evaluate all"):
        compare([path])
    text = json.dumps({"results": scored("one", en_de=17.0) | scored(en_it=5.0)})
    for file in (path / "evaluation").iterdir():
        file.write_text(text)  # en-it is of a time when the encoder was not noted
    assert compare([path])[1][0]["retrieval.dev accuracy"] == (11, None, 1)


def test_names_are_no_markup(make):
    path = make("x[red]y:smile:", accuracy=50.0)
    file = path / "evaluation" / "retrieval.dev.json"
    file.rename(file.with_name("retrieval.a[b]c.json"))
    shown = render(*compare([path]), "table")
    assert "x[red]y:smile:" in shown
    assert "retrieval.a[b]c en-de accuracy" in shown


def test_the_three_forms(make):
    columns, rows = compare([make("a0", 0, accuracy=80.0), make("a1", 1, accuracy=84.0)])
    markdown = render(columns, rows, "markdown").splitlines()
    assert markdown[0] == "|  | a0, a1 (2) |"
    assert {line.count("|") for line in markdown} == {3}
    assert any("accuracy | 87.0 ± 2.8 |" in line for line in markdown)
    (row,) = csv.DictReader(io.StringIO(render(columns, rows, "csv")))
    assert float(row["retrieval.dev accuracy"]) == 87
    assert float(row["retrieval.dev accuracy sd"]) == pytest.approx(8**0.5, rel=1e-5)
    assert "a0, a1 (2)" in render(columns, rows, "table")


def test_unfinished_and_empty_runs_are_shown_with_what_they_have(make, tmp_path):
    path = make("killed", unfinished=True)
    (path / "evaluation" / "sts.x.json").write_text("{half")
    new = make("new")
    (new / "metrics.jsonl").unlink()
    _, rows = compare([path])
    assert rows[0]["training pairs"] == (7200, None, 1)
    columns, _ = compare([new])
    assert columns == ["parameters", "bytes"]


def test_exports_show_their_bytes_and_scores(make, tmp_path):
    export = make("export", accuracy=50.0)
    (export / "config.json").write_text('{"format": "lightxling"}')
    (export / "metrics.jsonl").unlink()
    _, (row,) = compare([export])
    assert row["bytes"] == (96 + 24, None, 1)
    assert row["retrieval.dev accuracy"] == (55, None, 1)


@pytest.mark.parametrize("dtype", ["float32", "int8", "int4"])
def test_exports_show_their_parameters(tmp_path, dtype):
    exported = bundle(layers=1, width=32)
    count = sum(values.size for values in exported.params.values())
    if dtype != "float32":
        exported = quantize(exported, dtype)  # has scales beside the parameters
    write_format(exported, tmp_path, "safetensors")
    _, (row,) = compare([tmp_path])
    assert row["parameters"] == (count, None, 1)
    file = tmp_path / "model.safetensors"
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(UserError, match=r"model\.safetensors is damaged .*export it again"):
        compare([tmp_path])


def test_a_folder_that_is_no_run_is_named(tmp_path):
    with pytest.raises(UserError, match=r"is not a run: it has no config\.json"):
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
    assert row["training pairs"] == (7200, None, 1)
    assert row["best dev P@1"] == (40, None, 1)
    assert row["nli.x accuracy"] == (30, None, 1)
    assert "retrieval.dev en-fr accuracy" in columns
    columns, _ = compare([path], units=False)
    assert not any(c.startswith("retrieval.dev en-") for c in columns)
