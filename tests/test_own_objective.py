"""Objectives that a recipe file brings along: docs/objectives.md, against the formulas."""

import json
import math
import re
import shlex
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from lightxling import cli
from lightxling.base.errors import UserError
from lightxling.config import Config, change, from_dict, load, only, to_dict, with_terms
from lightxling.config.objective import is_stand_in
from lightxling.config.schema import ModelConfig
from lightxling.corpus.batch import Batch
from lightxling.encode.encoder import Encoder
from lightxling.evaluate.report.repeat import command
from lightxling.model import build as models
from lightxling.objectives.combine import heads_of
from lightxling.saved.workdir import refuse_another_run
from lightxling.train.micro_batch import value_and_grad
from lightxling.train.plan import check_settings

PAGE = (Path(__file__).parent.parent / "docs/objectives.md").read_text("utf-8")
FILES = dict(re.findall(r"```python\n# (\w+\.py)\n(.*?)```", PAGE, re.S))


@pytest.fixture
def folder(tmp_path, monkeypatch):
    for name, code in FILES.items():
        (tmp_path / name).write_text(code)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def loss_and_parts(config, *micro_batches):
    """(Loss, gradients) of a batch of 8 for each size of its pieces, the vectors as float64 and the
    parameters."""
    model = ModelConfig(layers=0, width=6, max_length=8)
    heads = heads_of(config.objectives, 2)
    graphdef = models.structure(model, 30, heads)
    make = jax.jit(lambda key: models.initialise(model, 30, key, heads))
    params = make(jax.random.key(1))
    tokens = np.random.default_rng(0).integers(3, 30, (8, 2, 5)).astype(np.int32)
    tokens = jax.numpy.asarray(tokens)
    batch = Batch(tokens, jax.numpy.zeros(8, np.int32))
    found = []
    for size in micro_batches:
        gradient = jax.jit(value_and_grad(config.objectives, graphdef, size))
        (loss, _), grads = gradient(params, batch, None)
        found.append((float(loss), grads))
    encode = jax.jit(lambda tokens: models.encode_tokens(graphdef, params, tokens))
    vectors = [encode(tokens[:, side]) for side in (0, 1)]
    return found, [np.asarray(x, np.float64) for x in vectors], params


def test_barlow_twins_is_the_formula_of_the_paper(folder):
    config = change(load("barlow.py"), objectives__barlow__width=4)
    ((loss, grads), pieces), vectors, params = loss_and_parts(config, 0, 2)
    head = jax.tree.map(lambda x: np.asarray(x, np.float64), params["barlow"])
    z = []
    for x in vectors:
        hidden = np.maximum(x @ head["hidden"]["kernel"] + head["hidden"]["bias"], 0)
        x = hidden @ head["out"]["kernel"] + head["out"]["bias"]
        z.append((x - x.mean(0)) / (x.std(0) + 1e-6))
    expected = 0.0
    for i in range(4):
        for j in range(4):
            c = sum(z[0][b, i] * z[1][b, j] for b in range(8)) / 8
            expected += (1 - c) ** 2 if i == j else 0.005 * c**2
    assert loss == pytest.approx(expected, rel=1e-3)
    assert pieces[0] == pytest.approx(loss, rel=1e-5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-4), grads, pieces[1])


def test_the_sigmoid_loss_is_the_formula_of_the_paper(folder):
    ((loss, grads),), vectors, _ = loss_and_parts(load("sigmoid.py"), 0)
    x, y = (v / np.linalg.norm(v, axis=1)[:, None] for v in vectors)
    expected = 0.0
    for i in range(8):
        for j in range(8):
            logit = (1 if i == j else -1) * (10 * sum(x[i] * y[j]) - 10)
            expected += math.log(1 + math.exp(-logit)) / 8
    assert loss == pytest.approx(expected, rel=1e-5)
    assert float(grads["scale"]["bias"]) != 0


def test_a_run_of_ones_own_objective(folder, corpus, tiny, capsys):
    options = {
        "--corpus.sources": f"aa-bb={corpus}",
        "--corpus.dev-share": 0.1,
        "--corpus.store": tiny.corpus.store,  # which other tests have filled
        "--workdir": "run",
        "--tokenizer.vocab-size": 300,
        "--tokenizer.model": "unigram",
        "--model.layers": 0,
        "--model.width": 16,
        "--model.max-length": 32,
        "--train.buckets": 32,
        "--train.batch-size": 16,
        "--train.pairs": 16,
        "--train.log-every": 1,
        "--objectives.barlow.width": 8,
    }
    asked = [str(part) for option in options.items() for part in option]
    assert not cli.main(["train", "barlow.py", *asked])
    about = json.loads(Path("run/config.json").read_text())
    written = about["config"]["objectives"]["barlow"]
    assert (written["width"], written["source"]["file"]) == (8, "barlow.py")
    records = [json.loads(line) for line in Path("run/metrics.jsonl").read_text().splitlines()]
    assert records[0]["barlow"] == records[0]["loss"] > 0
    refuse_another_run(Path("run"), from_dict(Config, about["config"]))  # the same file goes on

    Path("barlow.py").write_text(Path("barlow.py").read_text() + "# changed\n")
    capsys.readouterr()
    assert cli.main(["train", "barlow.py", *asked])
    assert "another content of the file that defines objectives.barlow" in capsys.readouterr().err

    # without the file, which is not looked for: the settings stand, and nothing can be trained
    written["source"]["sha256"] = "0" * 64
    Path("run/config.json").write_text(json.dumps(about))
    Path("barlow.py").write_text("raise SystemExit('run')")
    assert Encoder.load("run").encode(["bada"]).shape == (1, 16)
    config = from_dict(Config, about["config"])
    assert is_stand_in(config.objectives.barlow)
    assert to_dict(config) == about["config"]
    with pytest.raises(UserError, match=r"objectives\.barlow is defined in barlow\.py"):
        check_settings(config)


def test_own_options_are_in_the_help(folder, capsys):
    with pytest.raises(SystemExit):
        cli.main(["train", "sigmoid.py", "--help"])
    told = capsys.readouterr().out
    assert "objectives.sigmoid: Is a pair of the batch a translation?" in told
    assert "--objectives.sigmoid.scale 10.0" in told
    assert "Inverse temperature at the start (>0)" in told


def test_an_own_objective_stands_beside_others(folder):
    objectives = with_terms(load("light").objectives, sigmoid=load("sigmoid.py").objectives.sigmoid)
    both = with_terms(objectives, barlow=load("barlow.py").objectives.barlow)
    assert list(both.active())[-2:] == ["sigmoid", "barlow"]
    config = change(Config(), objectives=both)
    assert from_dict(Config, json.loads(json.dumps(to_dict(config)))) == config
    assert load("sigmoid.py") == load("sigmoid.py")


def test_modules_beside_the_file_belong_to_it(folder):
    """In a process of its own: a module that is imported stays as it was."""
    whole = FILES["sigmoid.py"]
    (folder / "scales.py").write_text("import json, numbers_of_mine\nSTART = numbers_of_mine.TEN\n")
    (folder / "numbers_of_mine.py").write_text("TEN = 10.0\n")
    (folder / "mine.py").write_text("from scales import START\n" + whole.replace("10.0", "START"))
    seen = []
    for ten in ("10.0", "11.25", "10.0"):
        (folder / "numbers_of_mine.py").write_text(f"TEN = {ten}\n")
        code = "import sys; from lightxling.config import load; o = load('mine.py').objectives"
        code += "; print(o.sigmoid.scale, o.sigmoid.source['sha256'], len(sys.path))"
        told = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        )
        seen.append(told.stdout.split())
    assert [one[0] for one in seen] == ["10.0", "11.25", "10.0"]
    assert seen[0] == seen[2] != seen[1]
    assert seen[0][1] != seen[1][1]


HEAD = """import dataclasses
from lightxling.config import *
from lightxling.objectives.term import Term
@dataclasses.dataclass(frozen=True)
class Mine(Objective):
"""


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("    rate: float = 1.0", r"Mine has no loss: set `term = Term\(function\)`"),
        ("    term = Term(max)\n    rate: float", "non-default argument"),
        ("    term = Term(max)\n    reads: float = 1.0", "the setting reads needs another name"),
    ],
)
def test_what_cannot_be_an_objective_is_named(folder, body, message):
    (folder / "mine.py").write_text(
        f"{HEAD}{body}\nconfig = Config(objectives=only(mine=Mine()))\n"
    )
    with pytest.raises(UserError, match=message):
        load("mine.py")


def test_text_types_and_taken_names_are_refused(folder):
    code = FILES["sigmoid.py"].replace(
        "import dataclasses", "from __future__ import annotations\nimport dataclasses", 1
    )
    (folder / "text.py").write_text(code)
    with pytest.raises(UserError, match=r"take `from __future__ import annotations` out"):
        load("text.py")
    with pytest.raises(UserError, match=r"objectives\.active: the name is taken"):
        only(active=load("sigmoid.py").objectives.sigmoid)
    with pytest.raises(UserError, match="should be settings derived from Objective"):
        only(mine=ModelConfig())


@pytest.mark.parametrize(
    "mine",
    [
        {"__init__": 1, "source": {"file": "a.py", "sha256": "0", "class": "A"}},
        {"a": {}, "source": {"file": "a.py", "sha256": "0", "class": "A"}},
        {"a b": 1, "source": {"file": "a.py", "sha256": "0", "class": "A"}},
        {"lambda": 1, "source": {"file": "a.py", "sha256": "0", "class": "A"}},
        {"a": 1, "source": {"file": "a.py", "sha256": "0", "class": "A(object)\n"}},
        {"a": 1, "source": {"file": "a.py"}},
        {"weight": "x", "source": {"file": "a.py", "sha256": "0", "class": "A"}},
        {"a": 1},
    ],
)
def test_damaged_files_of_settings_make_no_classes(mine):
    with pytest.raises(UserError):
        from_dict(Config, {"objectives": {"mine": mine}})


def test_the_command_that_repeats_a_run_names_the_file(folder):
    """Typed again, it gives the same settings."""
    config = change(load("sigmoid.py"), train__pairs=640, objectives__sigmoid__scale=5.0)
    words = shlex.split(command(config, "runs/again").replace("\\\n", ""))
    assert words[:3] == ["lightxling", "train", "sigmoid.py"]
    (_, again) = cli.parse_recipe(cli.train, words[2:], cli.Launch)
    assert again == config
