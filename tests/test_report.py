"""The page of a run: well-formed, complete, escaped, and true to the numbers it was made from."""

import dataclasses
import json
import math
import re
import shutil
import subprocess
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest

import lightxling
from lightxling import config as configs
from lightxling.base.errors import UserError
from lightxling.base.tree import flatten
from lightxling.cli import main
from lightxling.config.files import to_dict
from lightxling.config.objectives import InferenceConfig, only
from lightxling.config.schema import Config, TaskConfig
from lightxling.config.settings import change
from lightxling.evaluate.compare import compare
from lightxling.evaluate.report import charts, report, sentences
from lightxling.evaluate.report.markup import h
from lightxling.evaluate.report.pieces import html_table
from lightxling.evaluate.report.repeat import command
from lightxling.evaluate.report.runs import read_trained
from lightxling.saved.run import read_metrics

HOSTILE = '<script>alert("1")</script> & <img src=x onerror=alert(2)> \'"'


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Where the one real training of this file is kept."""
    return tmp_path_factory.mktemp("trained") / "run"


@pytest.fixture
def run(tiny, corpus, trained, tmp_path):
    """A copy of a finished run of two language pairs, with hostile development sentences."""
    if not trained.exists():
        from lightxling.train.loop import train

        lines = corpus.read_text().splitlines()
        for language, start in (("bb", 0), ("cc", 30)):
            dev = [*lines[start : start + 30], f"{HOSTILE} aa\t{HOSTILE} {language}"]
            (trained.parent / f"{language}.tsv").write_text("\n".join(dev) + "\n")
        dev = tuple(f"aa-{code}={trained.parent}/{code}.tsv" for code in ("bb", "cc"))
        sources = (*tiny.corpus.sources, f"aa-cc@2={corpus}")
        train(change(tiny, corpus__dev=dev, corpus__sources=sources), trained)
    shutil.copytree(trained, tmp_path / "run")
    results = {"scores": {"accuracy": 81.25, "forward": 80, "backward": 82.5}, "candidates": 1234}
    write_results(tmp_path / "run", "retrieval", "dev", {"aa-bb": results, HOSTILE: results})
    return tmp_path / "run"


def write_results(run: Path, task: str, dataset: str, units: dict) -> None:
    (run / "evaluation").mkdir(exist_ok=True)
    whole = {"task": task, "dataset": dataset, "settings": {"scoring": "cosine"}, "results": units}
    (run / "evaluation" / f"{task}.{dataset}.json").write_text(json.dumps(whole))


def page_of(*runs: Path) -> ET.Element:
    """The page as a tree; malformed markup is an error."""
    output = runs[0].parent / "report.html"
    report(runs, output)
    return ET.fromstring(output.read_text("utf-8").removeprefix("<!DOCTYPE html>"))


def text_of(element: ET.Element) -> str:
    return " ".join(" ".join(element.itertext()).split())


def find(page: ET.Element, tag: str, **attributes: str) -> list[ET.Element]:
    wanted = {key.rstrip("_").replace("_", "-"): value for key, value in attributes.items()}
    return [
        e
        for e in page.iter(tag)
        if all(value in e.get(key, "").split() for key, value in wanted.items())
    ]


def section(page: ET.Element, name: str) -> ET.Element:
    (found,) = find(page, "section", aria_labelledby=name)
    return found


def numbers(d: str) -> np.ndarray:
    """Points of a path of straight lines."""
    return np.array(re.findall(r"(-?[\d.]+) (-?[\d.]+)", d), float)


def places(figure: ET.Element, kind: str, axis: str) -> tuple[list[float], list[float]]:
    """Values of the ticks of an axis, as they are written, and where they stand."""
    units = {"k": 1e3, "M": 1e6, "G": 1e9}
    values, where = [], []
    for tick in find(figure, "text", class_=kind):
        text = tick.text.replace(",", "")
        factor = units.get(text[-1], 1)
        values.append(float(text.rstrip("kMG")) * factor)
        where.append(float(tick.get(axis)))
    return values, where


def curve(name, x, y, style=0):
    return charts.Series(name, name, np.array(x, float), np.array(y, float), style)


def drawn(*series, **options) -> ET.Element:
    options = {"title": "t", "name": "n", "form": str, **options}
    return ET.fromstring(charts.line_chart(series, **options))


# The whole page


def test_a_run_becomes_a_page_that_is_complete_and_needs_no_network(run):
    page = page_of(run)
    whole = (run.parent / "report.html").read_text("utf-8")
    assert not re.search(r"(?i)https?:|url\(|@import|<script|<link|<iframe|<object", whole)
    links = [value for e in page.iter() for key in ("href", "src") if (value := e.get(key))]
    ids = [e.get("id") for e in page.iter() if e.get("id")]
    assert links
    assert {link[0] for link in links} == {"#"}
    assert {link[1:] for link in links} <= set(ids)
    assert len(ids) == len(set(ids))
    headings = [text_of(e) for e in page.iter("h2")]
    assert headings == [
        "What was trained on what",
        "Losses and dev P@1",
        "Speed and memory",
        "Scores",
        "Sentences",
        "What comes next",
        "Repeat it",
    ]


def test_the_page_has_the_numbers_of_the_files(run):
    page = page_of(run)
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    about = json.loads((run / "config.json").read_text())
    losses = text_of(section(page, "curves"))
    for term in ("loss", "tokens", "align", "similarity"):
        values = [record[term] for record in records if term in record]
        for value in (values[0], min(values), max(values), values[-1]):
            assert f"{value:.4g}" in losses, term
    for key in ("dev_p@1", "dev_p@1/aa-bb", "dev_p@1/aa-cc"):
        for record in records:
            assert key not in record or f"{record[key]:.1f}" in losses
    trained_on = text_of(section(page, "trained"))
    for count in about["parameters"].values():
        assert f"{count:,}" in trained_on
    assert "aa, bb, cc" in trained_on
    assert "aa-cc × 2" in trained_on
    assert about["versions"]["jax"] in trained_on
    assert f"{records[-1]['peak_memory'] / 1e9:.2f} GB" in text_of(section(page, "cost"))
    (row,) = [e for e in section(page, "scores").iter("tr") if text_of(e).startswith("aa-bb")]
    assert text_of(row) == "aa-bb 81.2 80.0 82.5 1,234"
    assert f"among {31:,} candidates" in text_of(page)  # 30 and a hostile one
    assert "192 pairs seen, finished" in text_of(page)


def test_losses_are_explained_and_the_next_commands_stand_there(run):
    page = page_of(run)
    curves = text_of(section(page, "curves"))
    assert "align : contrastive task: a sentence finds its translation" in curves
    told = text_of(section(page, "next"))
    assert f"lightxling evaluate {run} --task retrieval" in told
    assert f"lightxling export {run} --dtype int8" in told


def test_the_score_of_the_start_stands_beside_where_text_and_settings_are_the_same(run, tmp_path):
    """Of the units, one is of other text and one the start does not have."""
    about = json.loads((run / "config.json").read_text())
    about["config"]["train"]["init_from"] = str(tmp_path / "start")
    (run / "config.json").write_text(json.dumps(about))

    def unit(accuracy, sha256):
        scores = {"accuracy": accuracy, "forward": accuracy, "backward": accuracy}
        return {"scores": scores, "candidates": 7, "data": [{"path": "x", "sha256": sha256}]}

    (tmp_path / "start").mkdir()
    names = ("aa-bb", "aa-cc", "aa-dd")
    write_results(run, "retrieval", "dev", {name: unit(90.0, "1") for name in names})
    start = {"aa-bb": unit(41.5, "1"), "aa-cc": unit(42.5, "2"), "aa-ee": unit(43.5, "1")}
    write_results(tmp_path / "start", "retrieval", "dev", start)
    told = text_of(section(page_of(run), "scores"))
    assert "P@1 of the start" in told
    assert "41.5" in told
    assert not {"42.5", "43.5"} & set(told.split())
    (tmp_path / "start/evaluation/retrieval.dev.json").unlink()
    told = text_of(section(page_of(run), "scores"))
    assert "P@1 of the start" not in told
    assert f"lightxling evaluate {tmp_path / 'start'} --task retrieval --data FILE" in told


def test_hostile_sentences_and_names_stay_text(run, tmp_path):
    evil = tmp_path / "<b>run&"
    run.rename(evil)
    about = json.loads((evil / "config.json").read_text())
    about["config"]["name"] = about["devices"] = HOSTILE + "\x00\ud800"
    about["versions"] = {HOSTILE: "$title ${body}"}
    (evil / "config.json").write_text(json.dumps(about))
    page = page_of(evil)
    assert not [e for e in page.iter() if e.tag in ("script", "img", "b") and "src" in e.attrib]
    assert not list(page.iter("script"))
    assert not list(page.iter("img"))
    assert text_of(next(page.iter("h1"))) == "<b>run&"
    quoted = [e for e in page.iter("span") if e.text == f"{HOSTILE} aa"]
    assert quoted
    assert {(e.get("lang"), e.get("dir")) for e in quoted} == {("aa", "auto")}
    assert "$title ${body}" in text_of(page)
    assert "\x00" not in (tmp_path / "report.html").read_text("utf-8")


def test_it_can_be_read_with_a_screen_reader(run, tmp_path):
    shutil.copytree(run, tmp_path / "other")
    for page in (page_of(run), page_of(run, tmp_path / "other")):
        ids = {e.get("id"): e for e in page.iter() if e.get("id")}
        pictures = list(page.iter("svg"))
        for picture in pictures:
            if picture.get("aria-hidden") == "true":
                continue
            assert picture.get("role") == "img"
            told = [ids[name] for name in picture.get("aria-labelledby").split()]
            assert [e.tag for e in told] == ["title", "desc"]
            assert all(text_of(e) for e in told)
            assert told[0] in list(picture)
        assert len(pictures) > 10
        for one in page.iter("table"):
            assert text_of(one[0])
            assert one[0].tag == "caption"
            assert all(e.get("scope") in ("row", "col") for e in one.iter("th"))
            assert all(row[0].get("scope") == "row" for row in one.find("tbody"))
        curves = [figure for figure in page.iter("figure") if find(figure, "path", class_="line")]
        assert all(len(list(figure.iter("table"))) == 1 for figure in curves)
        levels = [int(e.tag[1]) for e in page.iter() if re.fullmatch("h[1-6]", str(e.tag))]
        assert levels[0] == 1
        assert max(np.diff(levels)) <= 1
        assert page.get("lang") == "en"
        assert len(list(page.iter("main"))) == 1


@pytest.mark.parametrize("objective", ["soft", "regression", "pivot"])
def test_the_teacher_is_named_whatever_it_was_asked_for(run, objective):
    about = json.loads((run / "config.json").read_text())
    about["config"]["teacher"]["source"] = "teachers/mine"
    (run / "config.json").write_text(json.dumps(about))
    assert "teacher" not in facts_of(run)  # it is set, and was not asked
    asking = dataclasses.replace(getattr(Config().objectives, objective), weight=1.0)
    about["config"]["objectives"] = to_dict(only(**{objective: asking}))
    about["teacher"] = {"sha256": "0", "prefix": "", "width": 384}
    (run / "config.json").write_text(json.dumps(about))
    assert facts_of(run)["teacher"] == "teachers/mine, of width 384"


def facts_of(run: Path) -> dict[str, str]:
    table = next(section(page_of(run), "trained").iter("table"))
    return {text_of(row[0]): text_of(row[1]) for row in table.iter("tr")}


def test_settings_that_differ_from_the_default_come_first(run):
    (details,) = [
        e for e in section(page_of(run), "trained").iter("details") if e[0].text == "Every setting"
    ]
    about = json.loads((run / "config.json").read_text())
    wanted, default = (flatten(one) for one in (about["config"], to_dict(Config())))
    names = ["".join(row[0].itertext()) for row in details.iter("tr")][1:]
    changed = [name for name in wanted if wanted[name] != default.get(name)]
    assert set(names[: len(changed)]) == set(changed)
    assert sorted(names) == sorted(wanted)


# What may be missing


def test_every_part_may_be_missing(run):
    shutil.rmtree(run / "best")
    shutil.rmtree(run / "checkpoints")
    page = page_of(run)
    assert "has no checkpoint" in text_of(section(page, "sentences"))
    assert "11" in text_of(section(page, "trained"))  # training pairs are in the store

    shutil.rmtree(run / "evaluation")
    (run / "metrics.jsonl").unlink()
    about = json.loads((run / "config.json").read_text())
    about["store"]["path"] = str(run / "gone")
    about |= {"versions": None, "commit": None, "devices": None}
    del about["parameters"]
    (run / "config.json").write_text(json.dumps(about))
    page = page_of(run)
    assert "is not a folder; make a store with `lightxling prepare`" in text_of(page)
    assert "Nothing was logged yet" in text_of(page)
    assert "No loss was logged" in text_of(section(page, "curves"))
    assert "Dev P@1 was not measured" in text_of(section(page, "curves"))
    assert "lightxling evaluate" in text_of(section(page, "scores"))
    assert "made.aa-bb.tsv" in text_of(section(page, "trained"))  # from the settings
    assert "--corpus.sources" in text_of(section(page, "repeat"))


def test_damaged_files_are_named_and_the_rest_is_shown(run):
    with (run / "metrics.jsonl").open("a") as file:
        file.write('{"loss": 3}\n[1]\n{"step": 9000, "pairs": 9e6, "loss": null}\n{"step": 9, "pa')
    (run / "evaluation" / "sts.x.json").write_text("{half")
    (run / "evaluation" / "nli.y.json").write_text('{"results": {"en": {"scores": {"a": "b"}}}}')
    write_results(run, "sts", "z", {"en-de": {"scores": {}}, "en-fr": {"scores": {"spearman": 7}}})
    page = page_of(run)
    told = text_of(next(page.iter("header")))
    assert "3 lines are damaged in metrics.jsonl" in told
    assert "without readable scores: nli.y.json, sts.x.json" in told
    assert "9,000,000 pairs" in told
    assert "81.2" in text_of(section(page, "scores"))
    assert "en-fr 7.0" in text_of(section(page, "scores"))
    assert "en-de" not in text_of(section(page, "scores"))


def test_records_are_numbers_in_the_order_of_steps(tmp_path):
    lines = [{"step": 4, "a": 1.5}, {"step": 2, "a": None, "b": "x"}, {"step": "3"}, {"step": True}]
    (tmp_path / "m").write_text("".join(json.dumps(line) + "\n" for line in lines) + "\n{")
    records, damaged = read_metrics(tmp_path / "m")
    assert [record["step"] for record in records] == [2, 4]
    assert math.isnan(records[0].pop("a"))
    assert records == [{"step": 2}, {"step": 4, "a": 1.5}]
    assert damaged == 3
    assert read_metrics(tmp_path / "none") == ([], 0)


def test_an_unfinished_run_of_several_tasks(run):
    about = json.loads((run / "config.json").read_text())
    task = TaskConfig(name="nli", sources=("en-en=nli.tsv",), share=0.5)
    tasks = [{**to_dict(task), "objectives": to_dict(only(inference=InferenceConfig(weight=1.0)))}]
    about["config"]["tasks"] = tasks
    about["config"]["train"]["pairs"] = 1600
    (run / "config.json").write_text(json.dumps(about))
    records = [
        {"step": 3 * i, "pairs": 48 * i, "main/steps": 2 * i, "main/pairs": 32 * i, "epoch": 0.1}
        | {"nli/steps": i, "nli/pairs": 16 * i, "loss": 9.0 / i, "nli/loss": 4 - i}
        | {"nli/inference": 8.0 - i}
        for i in (1, 2)
    ]
    (run / "metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    assert read_trained(run).losses == ["loss", "nli/loss", "nli/inference"]
    assert read_trained(run).share_done == 64 / 1600
    page = page_of(run)
    titles = [text_of(e) for e in section(page, "curves").iter("figcaption")]
    assert titles == ["loss, weighted sum", "nli: loss, weighted sum", "nli: inference"]
    assert "96 pairs seen, 4 % of the way" in text_of(page)
    assert "nli: inference × 1 (0.5 of 1.5 steps)" in text_of(section(page, "trained"))


def test_a_metric_that_was_not_finite_is_a_gap():
    figure = drawn(curve("a", range(7), [1, 2, math.nan, 3, math.nan, 2, 1]))
    (line,) = find(figure, "path", class_="line")
    assert [len(numbers(part)) for part in line.get("d").split("M")[1:]] == [2, 2]
    assert len(find(figure, "circle", class_="point")) == 1  # alone between two gaps
    assert [text_of(e) for e in figure.iter("td")][1:] == [
        "1.0 (0 pairs)",
        "1.0 (0 pairs)",
        "3.0 (3 pairs)",
        "1.0 (6 pairs)",
    ]
    assert "nothing was logged" in text_of(drawn(curve("a", [1], [math.nan])))


# Several runs


def test_several_runs_are_overlaid_and_stand_side_by_side(run, tmp_path):
    other = shutil.copytree(run, tmp_path / "other")
    about = json.loads((other / "config.json").read_text())
    about["config"]["model"]["dropout"] = 0.25
    about.pop("sha256", None)  # of a run from before there was one
    (other / "config.json").write_text(json.dumps(about))
    lines = [json.loads(line) for line in (other / "metrics.jsonl").read_text().splitlines()]
    for record in lines:
        record["loss"] *= 2
    (other / "metrics.jsonl").write_text("".join(json.dumps(r) + "\n" for r in lines))
    page = page_of(run, other)
    for figure in section(page, "curves").iter("figure"):
        ends = [e.text for e in find(figure, "text", class_="end")]
        assert ends == ["A", "B"]
        colours = [e.get("class") for e in find(figure, "path", class_="line")]
        assert colours == ["line s0 d0", "line s1 d0"]
    keys = [text_of(e) for e in find(section(page, "curves"), "ul", class_="key")[0]]
    assert keys == ["A run", "B other"]
    first, second = section(page, "compared").iter("table")
    rows = {text_of(row[0]): [text_of(cell) for cell in row[1:]] for row in first.iter("tr")}
    columns, _ = compare([run, other], units=False)
    assert len(rows) == 1 + len(columns)
    assert rows["parameters"] == [f"{about['parameters']['encoder']:,}"] * 2
    assert rows["retrieval.dev accuracy: P@1 (among 1,234)"] == ["81.2", "81.2"]
    assert [text_of(row) for row in second.find("tbody")] == ["model. dropout 0.1 0.25"]
    assert [text_of(e) for e in page.iter("summary") if list(e.iter("h2"))] == ["A run", "B other"]


def test_seeds_are_one_column(run, tmp_path):
    other = shutil.copytree(run, tmp_path / "other")
    about = json.loads((other / "config.json").read_text())
    about["config"]["train"]["seed"] = 5
    (other / "config.json").write_text(json.dumps(about))
    first = next(section(page_of(run, other), "compared").iter("table"))
    assert [text_of(e) for e in first.find("thead")[0]] == [
        "",
        "A run, B other (2 seeds, mean ± standard deviation)",
    ]


def test_means_side_by_side_are_over_the_languages_that_all_have(run, tmp_path):
    other = shutil.copytree(run, tmp_path / "other")
    units = {"a": {"scores": {"accuracy": 10}}, "b": {"scores": {"accuracy": 30}}}
    write_results(run, "ranking", "x", units)
    write_results(other, "ranking", "x", {**units, "c": {"scores": {"accuracy": 99}}})
    rows = {text_of(row[0]): row for row in page_of(run, other).iter("tr")}
    assert [text_of(cell) for cell in rows["mean of 2 that all have"][1:3]] == ["20.0", "20.0"]


def test_a_run_given_twice_is_one_and_encoders_are_not_mixed(run, tmp_path):
    (tmp_path / "link").symlink_to(run)
    assert "B link" not in text_of(page_of(run, tmp_path / "link"))
    for dataset in ("x", "y"):
        unit = {"scores": {"accuracy": 3.0}, "encoder": dataset}
        write_results(run, "retrieval", dataset, {"aa-bb": unit})
    with pytest.raises(UserError, match="holds scores of 2 encoders"):
        page_of(run)


def test_more_runs_than_colours_differ_in_their_dashes():
    assert len({charts.style_classes(i) for i in range(24)}) == 24


# Charts


@pytest.mark.parametrize("zero", [False, True])
def test_points_stand_where_the_ticks_say(zero):
    rng = np.random.default_rng(3)
    x, y = np.sort(rng.uniform(0, 64_000, 40)), rng.uniform(33, 47, 40)
    figure = drawn(curve("a", x, y), zero=zero)
    (line,) = find(figure, "path", class_="line")
    points = numbers(line.get("d"))
    for axis, kind, values in ((0, "x", x), (1, "y", y)):
        ticks, where = places(figure, kind, "xy"[axis])
        slope, offset = np.polyfit(ticks, where, 1)
        shift = 4 * axis  # text hangs from its base line
        np.testing.assert_allclose(points[:, axis], slope * values + offset - shift, atol=0.11)
    ticks, _ = places(figure, "y", "y")
    assert ticks == sorted(ticks)
    assert (ticks[0] == 0) == zero
    assert ticks[0] <= y.min()
    assert y.max() <= ticks[-1]
    assert len(set(np.diff(ticks).round(9).tolist())) == 1


def test_wide_ranges_have_a_logarithmic_scale_that_says_so():
    y = np.geomspace(0.02, 50, 30)
    figure = drawn(curve("a", range(30), y))
    points = numbers(find(figure, "path", class_="line")[0].get("d"))
    ticks, where = places(figure, "y", "y")
    slope, offset = np.polyfit(np.log(ticks), where, 1)
    np.testing.assert_allclose(points[:, 1], slope * np.log(y) + offset - 4, atol=0.11)
    assert 12 <= points[:, 1].min() <= points[:, 1].max() <= 194
    assert text_of(figure.find("figcaption")) == "t, logarithmic scale"
    flat = drawn(curve("a", range(3), [7, 7, 7]))
    assert len(numbers(find(flat, "path", class_="line")[0].get("d"))) == 3


def test_long_curves_keep_their_extremes():
    rng = np.random.default_rng(0)
    y = rng.normal(size=100_000)
    y[[777, 50_001]] = 50, -60
    y[31_000] = np.nan
    kept = charts.thin(y, 300)
    assert len(kept) <= 3 * 150 + 2
    assert {0, 777, 31_000, 50_001, 99_999} <= set(kept.tolist())
    assert (np.diff(kept) > 0).all()
    for part in np.array_split(np.arange(100_000), 150):
        assert {np.nanargmin(y[part]), np.nanargmax(y[part])} <= set(kept - part[0])
    assert charts.thin(np.full(1000, np.nan), 10).tolist()[0] == 0


def test_names_at_the_ends_do_not_hide_each_other():
    moved = charts.spread([50, 10, 50.5, 51], 11, 0, 100)
    assert moved[1] == 10
    assert np.diff([moved[0], moved[2], moved[3]]).min() >= 11
    moved = charts.spread([98, 99, 100], 11, 0, 100)
    assert moved == [78, 89, 100]


def test_shades_of_a_matrix_are_the_cosines():
    cosines = np.array([[0.9, 0.1, 0.2], [0.7, 0.6, -0.1], [0.0, 0.3, 0.5]])
    figure = ET.fromstring(
        charts.matrix_chart(cosines, title="t", name="n", languages=("en", "de"))
    )
    cells = [e for e in find(figure, "rect", class_="shade") if list(e)]
    shades = [float(e.get("fill-opacity")) for e in cells]
    np.testing.assert_allclose(np.reshape(shades, (3, 3)), (cosines + 0.1) / 1.0, atol=0.006)
    assert cells[5][0].text == "2 en, 3 de: cosine -0.10"
    assert len(find(figure, "circle", class_="mark")) == 2
    assert len(find(figure, "path", class_="cross")) == 1  # row 2 finds the first
    assert "2 of 3 rows" in text_of(figure.find("figcaption"))


@pytest.mark.parametrize("stretch", [[5, 1], [1, 5]])
def test_a_map_has_one_scale_in_both_directions(stretch):
    points = np.random.default_rng(1).normal(size=(6, 2, 2)) * stretch
    pairs = [charts.Placed(str(i), ("en", "de"), (f"s{i}", f"t{i}")) for i in range(6)]
    figure = ET.fromstring(charts.map_chart(points, pairs, title="t", name="n", note="x"))
    lines = [numbers(e.get("d")) for e in find(figure, "path", class_="tie")]
    lengths = [np.linalg.norm(b - a) for a, b in lines]
    ratio = lengths / np.linalg.norm(points[:, 0] - points[:, 1], axis=1)
    np.testing.assert_allclose(ratio, ratio[0], rtol=0.02)
    assert np.min(lines) >= 0
    assert np.max(lines) <= 400
    dots = [(float(e.get("cx")), float(e.get("cy"))) for e in find(figure, "circle", class_="dot")]
    np.testing.assert_allclose(dots, [a for a, _ in lines])


def contrast(one: str, other: str) -> float:
    """Source: WCAG 2.2, "contrast ratio"."""

    def luminance(colour):
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        parts = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        return np.dot(parts, [0.2126, 0.7152, 0.0722])

    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def test_colours_are_readable_in_both_schemes():
    style = (Path(lightxling.__file__).parent / "palette.css").read_text()
    schemes = re.findall(r":root \{(.*?)\}", style, re.DOTALL)
    assert len(schemes) == 2
    for scheme in schemes:
        colours = dict(re.findall(r"--(\w+): (#\w{6})", scheme))
        for name in ("text", "muted", "s0", "s1", "s2", "s3", "s4", "s5"):
            for ground in ("back", "raised"):
                assert contrast(colours[name], colours[ground]) >= 4.5, (name, ground)
        assert contrast(colours["edge"], colours["back"]) >= 3
    assert contrast("#000000", "#ffffff") == pytest.approx(21)


def test_markup_is_escaped_unless_it_is_markup():
    made = h("p", "a < b", h("b", 3), None, ["&", ["x"]], title='"q"', hidden=True, class_=None)
    assert made == '<p title="&quot;q&quot;" hidden="">a &lt; b<b>3</b>&amp;x</p>'
    whole = html_table("<c>", ["", "n"], [("r", ["<1>"])])
    assert "<c>" not in whole
    assert "<1>" not in whole


# Sentences


def test_neighbours_are_the_nearest_and_equal_translations_are_right():
    angles = {"one": 0, "two": 90, "three": 180, "four": 270}
    angles |= {"eins": 5, "zwei": 88, "drei": 60, "vier": 271}

    def encode(texts):
        radians = np.radians([angles[text] for text in texts])
        return 3 * np.stack([np.cos(radians), np.sin(radians)], axis=1)

    def look(*texts):
        return sentences.look(sentences.Sentences(("en", "de"), list(texts), 9), encode)

    view = look(("one", "eins"), ("two", "zwei"), ("three", "drei"), ("four", "vier"))
    assert view.found == 0.75
    (wrong,) = view.wrong  # vier is 91 degrees away, zwei 92, drei 120
    assert (wrong.query, wrong.answer, wrong.other, wrong.rank) == ("three", "drei", "vier", 3)
    assert wrong.to_answer == pytest.approx(np.cos(np.radians(120)), abs=1e-6)
    assert wrong.to_other == pytest.approx(np.cos(np.radians(91)), abs=1e-6)
    assert [n.query for n in view.right] == ["two", "one", "four"]  # the narrowest first
    assert look(("one", "eins"), ("two", "drei"), ("three", "drei")).found == 1


def test_the_choice_of_sentences_covers_largest_and_smallest_and_is_even(run):
    store = read_trained(run).store
    found = sentences.of_store(store)
    assert {one.languages for one in found} == {("aa", "bb"), ("aa", "cc")}
    assert [one.total for one in found] == [31, 31]
    assert sentences.evenly(66, 4) == [0, 22, 43, 65]
    assert sentences.evenly(3, 4) == [0, 1, 2]
    assert sentences.evenly(2000, 500)[-1] == 1999


# Repeating


def parsed(command_: str, folder: Path, monkeypatch) -> configs.Config:
    """The settings that a command starts a training with."""
    from lightxling.train import loop

    script = "lightxling() { printf '%s\\0' \"$@\"; }\n" + command_
    done = subprocess.run(["bash", "-c", script], capture_output=True, cwd=folder, check=True)
    started = []
    monkeypatch.setattr(loop, "train", lambda config, workdir: started.append((config, workdir)))
    monkeypatch.chdir(folder)
    assert main(done.stdout.decode().split("\0")[:-1]) == 0
    ((config, workdir),) = started
    assert workdir == Path("runs/it's")
    return config


@pytest.mark.parametrize("recipe", ["light", "dual-encoder-light", "mine", "three-tasks"])
def test_the_command_starts_the_same_training(recipe, tmp_path, monkeypatch):
    sources = ("en-fr@2=data/*.tsv", "en-de=it's $HOME", *(f"en-{i}=x" for i in range(20)))
    shipped = recipe in configs.recipes()
    config = configs.load(recipe if shipped else "light")
    config = change(
        config,
        corpus__sources=sources,
        corpus__deduplicate=False,
        corpus__max_ratio=2.5,
        train__buckets=(8, 16),
        train__seed=7,
        tokenizer__byte_fallback=True,
        teacher__priority=(),
        optimizer__eps=1e-12,
    )
    if recipe == "mine":
        config = dataclasses.replace(config, name="mine")
    if recipe == "three-tasks":
        task = TaskConfig(sources=("en-en=a.tsv",), objectives=configs.load("light").objectives)
        tasks = tuple(dataclasses.replace(task, name=f"t{i}") for i in range(3))
        config = dataclasses.replace(config, name="three-tasks", tasks=tasks)
    got = parsed(command(config, "runs/it's"), tmp_path, monkeypatch)
    want, got = to_dict(config), to_dict(got)
    if recipe == "mine":
        assert got.pop("name") == "light"  # a shipped one, as the file is not known
        want.pop("name")
    assert got == want


# The command


def test_the_command_line(run, tmp_path, capsys):
    output = tmp_path / "page.html"
    assert main(["report", str(run), "-o", str(output)]) == 0
    assert str(output) in capsys.readouterr().err
    assert "<h1>run</h1>" in output.read_text()
    (tmp_path / "empty").mkdir()
    assert main(["report", str(run), str(tmp_path / "empty"), "-o", str(output)]) == 2
    assert "empty is not a run" in capsys.readouterr().err
    assert main(["report", str(run), "-o", str(tmp_path / "no" / "x.html")]) == 2
    assert "there is no folder" in capsys.readouterr().err
    (run / "config.json").write_text("[")
    with pytest.raises(UserError, match=r"config\.json"):
        report([run], output)
