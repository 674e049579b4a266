"""How a run begins where no recipe is named, and what it says at its end."""

import json
import os
import re
import signal
import subprocess
import sys
import time

import pytest
from export_samples import bundle
from test_packaged import package  # noqa: F401, a fixture

from lightxling.cli import main
from lightxling.config.files import load
from lightxling.config.schema import Config
from lightxling.config.settings import change
from lightxling.corpus.store import describe_dev
from lightxling.saved.curve import is_rising, verdict
from lightxling.train import beginning, loop
from lightxling.train.closing import outcome, what_next


@pytest.fixture
def text(tmp_path):
    path = tmp_path / "mine.tsv"
    path.write_text("the cat\tle chat\n" * 3)
    return path


def test_it_goes_on_from_the_encoder_that_has_the_languages(package, text):  # noqa: F811
    config, said = beginning.begin([f"en-fr={text}", f"de-fr={text}"])
    assert config.train.init_from == "static"
    assert config.model == bundle().config
    assert said.startswith("6 pairs of en-fr, de-fr: going on from static")


def test_of_several_the_one_with_the_best_scores_in_them_is_taken(package, text):  # noqa: F811
    card = package / "mini" / "README.md"
    card.write_text(card.read_text("utf-8").replace("70.0 | 72.0", "90.0 | 92.0"), "utf-8")
    assert beginning.begin([f"en-fr={text}"]).config.train.init_from == "mini"
    neither_is_scored = beginning.begin([f"en-de={text}"])
    assert neither_is_scored.config.train.init_from == "static"


def test_it_begins_with_nothing_where_no_encoder_has_them(package, text):  # noqa: F811
    config, said = beginning.begin([f"en-fr={text}", f"en-cy={text}"])
    assert (config.name, config.train.init_from) == ("static", "")
    assert "no encoder in the package has cy" in said
    assert (config.model.layers, config.tokenizer.vocab_size) == (0, 2_000)  # of six pairs
    forced, said = beginning.begin([f"en-fr={text}"], from_scratch=True)
    assert forced.model == load("static").model
    assert said.endswith("from nothing")


def test_lengths_grow_with_the_text_and_repeat_it_less(package):  # noqa: F811
    card = beginning.best_card(["en", "fr"])
    for length in (beginning.go_on, lambda _, pairs: beginning.from_nothing(pairs)):
        sizes = (10, 1_000, 10_000, 60_000, 300_000, 1_000_000)
        seen = [length(card, pairs).train.pairs for pairs in sizes]
        assert seen == sorted(seen)
        passes = [a / b for a, b in zip(seen, sizes, strict=True)]
        assert passes == sorted(passes, reverse=True)
        assert passes[-1] >= 1


def test_the_command_needs_no_recipe(package, text, capsys, monkeypatch, tmp_path):  # noqa: F811
    asked = []
    monkeypatch.setattr(loop, "train", lambda config, workdir: asked.append((config, workdir)))
    words = ["train", "--workdir", "mine", "--corpus.sources", f"en-fr={text}"]
    assert main([*words, "--train.seed", "7"]) == 0
    ((config, workdir),) = asked
    assert (config.train.init_from, config.train.seed, str(workdir)) == ("static", 7, "mine")
    assert "3 pairs of en-fr: going on from static" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("curve", "expected"),
    [
        ([(0, 80.0), (10, 85.0), (20, 88.0), (30, 89.0), (40, 90.0)], True),
        ([(0, 80.0), (10, 89.0), (20, 90.0), (30, 90.0), (40, 90.1)], False),
        ([(0, 80.0), (10, 91.0), (20, 90.0), (30, 89.0), (40, 88.0)], False),
        ([(40, 90.0)], False),
    ],
)
def test_a_curve_rises_if_its_last_quarter_brought_something(curve, expected):
    assert is_rising(curve) is expected


@pytest.mark.parametrize(
    ("curve", "told"),
    [
        ([(0, 81.0), (50, 82.0), (100, 83.0)], "83.0, 2.0 better than the start (81.0), still"),
        ([(0, 81.0), (50, 80.0)], "81.0, that of the start: train longer, or on more text"),
        ([(50, 80.0), (100, 80.1)], "80.1, rising no more"),
    ],
)
def test_the_verdict_is_against_the_start(curve, told):
    assert verdict(curve).startswith(told)


def test_the_end_says_what_came_of_it_and_what_is_next(tmp_path):
    run = tmp_path / "mine"
    run.mkdir()
    scores = {0: 81.8, 50: 89.9, 100: None, 150: 91.2, 200: 91.0}
    lines = [json.dumps({"step": step, "dev_p@1": score}) for step, score in scores.items()]
    (run / "metrics.jsonl").write_text("\n".join(lines) + "\n")
    config = change(
        Config(), corpus__sources=("en-de=my text.tsv",), train__init_from="static", train__pairs=99
    )
    assert outcome(config, run) == (
        "dev P@1 91.2, 9.4 better than the start (81.8), rising no more; the best is of step 150, "
        f"in {run}/best"
    )
    commands = what_next(config, run)
    assert f"lightxling evaluate {run} --task retrieval --data en-de=TEST.tsv" in commands
    assert f"lightxling compare static {run}" in commands
    assert f"lightxling export {run}" in commands
    assert re.search(rf"--train.init-from[\s\\]+{run}(\s|$)", commands)
    assert "'en-de=my text.tsv'" in commands


def manifest(limit, read, dropped, **rows):
    return {
        "groups": [{"languages": k.split("_"), "dev_rows": n} for k, n in rows.items()],
        "counts": {"dev": {"read": read, "kept": sum(rows.values()), "dropped": dropped}},
        "config": {"corpus": {"dev_limit": limit}},
    }


def test_what_is_cut_off_a_dev_set_is_said():
    left_out = {"longer than 400 characters": 3}
    said = "\n".join(describe_dev(manifest(300, 1500, left_out, en_de=300, en_fr=250)))
    assert "of the 1,500 pairs given, left out: 3 longer than 400 characters" in said
    assert "of en-de, 300 of the pairs given are used (corpus.dev_limit=300)" in said
    assert not list(describe_dev(manifest(300, 0, {}, en_de=300)))  # split off
    assert not list(describe_dev(manifest(300, 300, {}, en_de=300)))


def test_a_small_dev_set_is_said():
    (said,) = describe_dev(manifest(2000, 0, {}, en_de=13, en_fr=1000))
    assert "only 13 of en-de; a hit more is 7.7 points" in said


DEEP = """
import hashlib, signal, sys
from lightxling.base import interrupts
interrupts.OWN_PROCESS.set()
signal.signal(signal.SIGINT, lambda *_: None)
with interrupts.watched(interrupts.{react}):
    print("deep", flush=True)
    hashlib.pbkdf2_hmac("sha256", b"a", b"b", 1_000_000_000)  # minutes, without the interpreter
"""


@pytest.mark.skipif(os.name == "nt", reason="there Ctrl-C goes to a group of processes")
@pytest.mark.parametrize(
    ("react", "presses", "told"),
    [("end", 1, "interrupted"), ("announce('after this step')", 2, "after this step")],
)
def test_ctrl_c_is_answered_while_a_library_works(react, presses, told):
    program = subprocess.Popen(
        [sys.executable, "-c", DEEP.format(react=react)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert program.stdout.readline() == "deep\n"
    for _ in range(presses):
        time.sleep(0.2)
        program.send_signal(signal.SIGINT)
    assert program.wait(timeout=30) == 130
    assert told in program.communicate()[1]
