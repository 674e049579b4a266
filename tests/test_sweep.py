"""`lightxling sweep`: which runs, which of them are trained, and what is made of their scores."""

import dataclasses
import json
import os
import signal
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from lightxling.base.errors import UserError
from lightxling.config import Config, change, load, to_dict
from lightxling.config.sweep import Sweep, plan_runs
from lightxling.evaluate.paired import difference, pack_found, shares_of, unpack_found
from lightxling.evaluate.report.sweep import front
from lightxling.train import sweep as sweeping


def test_every_recipe_value_and_seed_is_a_run():
    grid = ("optimizer.learning_rate=1e-3,3e-4", "model.layers=1,2")
    asked = Sweep(("light", "my/own.py"), Path("w"), seeds=(0, 7), grid=grid)
    runs = plan_runs(asked, ["--train.pairs", "64"])
    assert len(runs) == len({run.name for run in runs}) == 2 * 2 * 2 * 2
    assert runs[3].name == "light-learning-rate=1e-3-layers=2-7"
    assert runs[3].label == runs[2].label == "light-learning-rate=1e-3-layers=2"
    assert runs[-1].words == (
        *("my/own.py", "--train.pairs", "64", "--optimizer.learning-rate", "3e-4"),
        *("--model.layers", "2", "--train.seed", "7"),
    )


@pytest.mark.parametrize(
    ("asked", "options", "message"),
    [
        ({"recipes": ()}, [], "no recipe is given"),
        ({"seeds": ()}, [], "--seeds is empty"),
        ({"seeds": (1, 1)}, [], "two runs would be called light-1"),
        ({"recipes": ("a/x.py", "b/x.py")}, [], "two runs would be called x-0"),
        ({"grid": ("learning-rate=1,2",)}, [], "should be SETTING=VALUE,VALUE"),
        ({"grid": ("optimizer.learning-rate=1,,2",)}, [], "should be SETTING=VALUE,VALUE"),
        ({"grid": ("train.seed=1,2",)}, [], "take --seeds for seeds"),
        ({"task": ("retrieval",)}, [], "--task and --data belong together"),
        ({}, ["--train.seed=4"], "give --seeds before --"),
        ({}, ["--workdir", "x"], "give --workdir before --"),
    ],
)
def test_what_is_no_sweep_is_refused(asked, options, message):
    asked = dataclasses.replace(Sweep(("light",), Path("w")), **asked)
    with pytest.raises(UserError, match=message):
        plan_runs(asked, options)


@pytest.fixture
def training(tmp_path, monkeypatch):
    """Sweeps two recipes in `tmp_path`; a run is what it leaves behind. Returns the sweep, and the
    folders that were trained."""
    trained = []

    def train_apart(words):
        folder, seed = Path(words[-1]), int(words[words.index("--train.seed") + 1])
        trained.append(folder.name)
        if folder.name == "clean-1":
            return 2, False
        (folder / "checkpoints/4").mkdir(parents=True)
        config = change(load(words[0]), train__seed=seed)
        about = {"config": to_dict(config), "steps": 4, "store": {"tokenizer": "t"}}
        (folder / "config.json").write_text(json.dumps(about))
        record = {"step": 4, "pairs": 40, "pairs_per_second": 1.0, "dev_p@1": 40.0 + seed}
        (folder / "metrics.jsonl").write_text(json.dumps(record))
        return 0, False

    def score(words):
        folder = Path(words[0]) / "evaluation"
        folder.mkdir(exist_ok=True)
        # of 1,000 sentences `light` finds every second one, the other those and ten more
        found = np.arange(1000) % 2 == 0
        if "clean" in words[0]:
            found[1:21:2] = True
        text = pack_found(np.where(found, 1, 2))
        unit = {
            "scores": {"accuracy": 100 * float(found.mean())},
            "candidates": 1000,
            "found": {"forward": text, "backward": text},
        }
        results = {"task": "retrieval", "dataset": "dev", "results": {"en-fr": unit}}
        (folder / "retrieval.dev.json").write_text(json.dumps(results))

    monkeypatch.setattr(sweeping, "train_apart", train_apart)

    def run(recipes, **more):
        asked = Sweep(recipes, tmp_path, seeds=(0, 1), task=("retrieval",), data=("d",), **more)
        parse = lambda words: load(words[0])  # noqa: E731
        sweeping.sweep(asked, [], parse, score, print)

    return run, trained


def test_a_sweep_goes_on_where_it_was_and_ends_in_a_table(training, tmp_path, capsys):
    run, trained = training
    with pytest.raises(UserError, match=r"1 of 4 runs have failed.*clean-1;"):
        run(("light", "clean"))
    assert trained == ["light-0", "light-1", "clean-0", "clean-1"]
    told = " ".join(capsys.readouterr().out.split())
    assert "light (2)" in told
    assert "40.5 ± 0.7" in told
    with pytest.raises(UserError, match="have failed"):
        run(("light", "clean"))
    assert trained[4:] == ["clean-1"]  # the others are complete
    lines = (tmp_path / "sweep.csv").read_text().splitlines()
    assert [line.split(",")[:2] for line in lines[1:]] == [["light", "2"], ["clean", "1"]]
    page = (tmp_path / "sweep.html").read_text()
    assert "+1.0" in page
    (tmp_path / "light-0/config.json").write_text(
        json.dumps({"config": to_dict(Config()), "steps": 4, "store": {"tokenizer": "t"}})
    )
    with pytest.raises(UserError, match="light-0 holds a run with other settings"):
        run(("light",))
    assert len(trained) == 5


def test_a_run_that_another_process_trains_is_left_to_it(training, tmp_path, capsys):
    import filelock

    run, trained = training
    (tmp_path / sweeping.LOCKS).mkdir()
    with filelock.FileLock(tmp_path / sweeping.LOCKS / "light-0"):
        run(("light",))
    assert trained == ["light-1"]
    assert "trained by other processes: light-0" in capsys.readouterr().out


def test_signals_reach_the_run(tmp_path, monkeypatch):
    child = """if True:
        import signal, sys, time
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))
        open(sys.argv[1], "w").close()
        time.sleep(60)"""
    monkeypatch.setattr(sweeping, "TRAIN", ("-c", child))
    ready = tmp_path / "ready"

    def send():
        while not ready.exists():
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=send).start()
    assert sweeping.train_apart([str(ready)]) == (7, True)


def test_difference_of_recipes_that_find_the_same():
    found = np.random.default_rng(0).random((1, 300)) < 0.6
    same = difference({"en-fr": 1.0 * found}, {"en-fr": 1.0 * found})
    assert same == (0, 0, 0, 1, 1)


def test_interval_of_one_seed_is_that_of_the_mean_of_paired_differences():
    rng = np.random.default_rng(1)
    first, second = (1.0 * (rng.random((1, 2000)) < share) for share in (0.5, 0.6))
    one = difference({"a": first}, {"a": second})
    each = second - first
    half = 1.96 * 100 * each.std() / 2000**0.5
    assert one.mean == pytest.approx(100 * each.mean())
    assert (one.high - one.low) / 2 == pytest.approx(half, rel=0.08)
    assert one.p < 0.001
    # of two languages with the same sentences each, the variance of the mean is half
    both = difference({"a": first, "b": first}, {"a": second, "b": second})
    assert (both.high - both.low) / 2 == pytest.approx(half / 2**0.5, rel=0.08)
    assert both.units == 2


def test_seeds_are_drawn_too():
    # of the seeds of the second recipe one finds everything and one nothing: drawn twice each with
    # 1/4, and then it is no better
    first, second = np.zeros((1, 50)), np.stack([np.zeros(50), np.ones(50)])
    one = difference({"a": first}, {"a": second})
    assert one[:3] == (50, 0, 100)
    assert one.p == pytest.approx(2 / 4, abs=0.05)


def test_what_was_found_is_kept_in_bits():
    places = np.array([1, 2, 1, 1, 5, 1, 1, 1, 1, 2])
    assert unpack_found(pack_found(places), 10).tolist() == (places == 1).tolist()
    unit = {"candidates": 10, "found": {"forward": pack_found(places), "backward": "AAA="}}
    assert (
        shares_of({"results": {"en-fr": unit}})["en-fr"].tolist() == (0.5 * (places == 1)).tolist()
    )
    for damaged in (None, {"forward": "AAA="}, {"forward": "AAA=", "backward": "A"}):
        assert not shares_of({"results": {"en-fr": {"candidates": 10, "found": damaged}}})
    assert not shares_of({"results": {"en-fr": {**unit, "candidates": 30}}})


def test_the_front_has_what_nothing_else_beats():
    points = [(3.0, 50.0), (1.0, 40.0), (2.0, 40.0), (4.0, 49.0), (5.0, 60.0), (1.0, 40.0)]
    assert front(points) == [1, 5, 0, 4]
