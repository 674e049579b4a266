"""Commands as typed: what they print, their exit codes, and no traceback."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from export_samples import bundle

from lightxling.base.errors import UserError
from lightxling.cli import COMMANDS, main
from lightxling.cli_options import USUAL, model_first
from lightxling.config.files import load, recipes
from lightxling.config.schema import Config
from lightxling.config.settings import settings_of
from lightxling.export.formats import write_format


def run(capsys, *argv) -> tuple[int, str]:
    """Exit code and all output of a command."""
    try:
        code = main([str(a) for a in argv])
    except SystemExit as stop:  # tyro's own refusals
        code = stop.code
    captured = capsys.readouterr()
    return code, captured.out + captured.err


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_with_an_example(capsys, name):
    code, text = run(capsys, name, "--help")
    assert code == 0
    assert f"Example: lightxling {name}" in text


RECIPES = ("prepare", "train", "plan")
"""Commands that have the settings of a recipe as options."""


def options(text: str) -> dict[str, str]:
    """The options in a help text, each with what is said of it."""
    unframed = re.sub(r"^│ (.*?) *│$", r"  \1", text, flags=re.MULTILINE)
    found = {}
    for block in re.findall(r"^  (-.*(?:\n {4,}\S.*)*)", unframed, re.MULTILINE):
        left, _, said = (
            block.partition("\n")
            if "  " not in block.split("\n")[0]
            else re.split(r"( {2,})", block, maxsplit=1)
        )
        found[re.search(r"--[\w.-]+", left)[0]] = " ".join(said.split())
    return found


@pytest.mark.parametrize("name", [name for name in COMMANDS if name not in RECIPES])
def test_every_option_of_a_command_has_a_text(capsys, name):
    code, text = run(capsys, name, "--help")
    found = {key: said for key, said in options(text).items() if not key.startswith("--tyro")}
    assert code == 0
    assert found.keys() >= {"--help"}
    assert not [key for key, said in found.items() if not said or said.startswith("(")]


@pytest.mark.parametrize("recipe", sorted(recipes()))
def test_every_setting_of_a_recipe_has_a_text(capsys, monkeypatch, recipe):
    monkeypatch.setenv("COLUMNS", "100")
    code, text = run(capsys, "train", recipe, "--help-all")
    told = options(text)
    unused = re.compile(r"(tasks|stages)\.\d+\.objectives\.")  # those with weight 0 are left out
    wanted = {
        f"--{one.name.replace('_', '-')}"
        for one in settings_of(load(recipe))
        if not unused.match(one.name)
    }
    assert code == 0
    assert {"--workdir", "--process-id"} | wanted <= told.keys()
    assert not [key for key, said in told.items() if not said or said.startswith("(")]


def test_help_shows_what_is_usual_and_what_the_recipe_sets(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    default, light = (
        {one.name: one.value for one in settings_of(c)} for c in (Config(), load("light"))
    )
    _, text = run(capsys, "train", "light", "--help")
    changed = {name for name in light if light[name] != default[name]} - {"name"}
    told = {name for name in light if f"--{name.replace('_', '-')}" in options(text)}
    assert set(USUAL) <= light.keys()
    assert told == set(USUAL) | changed
    assert len(text.splitlines()) < 100
    assert f"{len(light) - len(told)} more settings: lightxling train light --help-all" in text


def test_help_tells_the_range(capsys):
    _, text = run(capsys, "prepare", "light", "--help-all")
    told = options(text)
    assert "(>=0 and <1)" in told["--model.dropout"]
    assert "(>0)" in told["--optimizer.learning-rate"]
    assert "(dot | cosine)" in told["--objectives.align.similarity"]


def test_tab_shows_what_is_public_and_imports_nothing():
    script = (
        "import sys, lightxling\n"
        "shown = [name for name in dir(lightxling) if not name.startswith('_')]\n"
        "assert {'Encoder', 'config', 'train'} <= set(shown), shown\n"
        "heavy = {'numpy', 'jax', 'tyro'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
        "for name in shown: getattr(lightxling, name)\n"
        "assert lightxling.Encoder.__name__ == 'Encoder'\n"
        "assert lightxling.config.files.load('light').name == 'light'\n"
        "assert not hasattr(lightxling, 'nothing')\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_help_and_import_do_not_load_jax():
    script = (
        "import sys, lightxling\n"
        "from lightxling.cli import main\n"
        "for argv in (['--help'], ['train', 'light', '--help'], ['evaluate', '--help']):\n"
        "    try: main(argv)\n"
        "    except SystemExit: pass\n"
        "heavy = {'jax', 'tensorflow', 'torch', 'tensorflow_datasets'} & set(sys.modules)\n"
        "sys.exit(f'loaded {heavy}' if heavy else 0)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "argv", [["encode", "m", "a.txt"], ["search", "m", "a.txt"], ["mine", "m", "a", "b"],
             ["export", "m"], ["specialise", "m", "a.txt", "--language", "de", "-o", "x"],
             ["modular", "m", "--workdir", "w", "--sources", "en-de=a.tsv"]],
)  # fmt: skip
def test_a_folder_of_modules_is_refused_by_name(capsys, tmp_path, monkeypatch, argv):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "modular.json").write_text("{}")
    for name in ("a.txt", "a", "b", "a.tsv"):
        (tmp_path / name).write_text("x\ty\n")
    code, text = run(capsys, *argv)
    assert (code, "m holds an encoder for each language; give the run of one" in text) == (2, True)


def test_a_reader_that_stops_reading_is_no_error_of_ours():
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "lightxling", "--help"]
    done = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, text=True)
    os.close(writing)
    assert (done.returncode, done.stderr) == (1, "")


def test_a_full_disk_behind_standard_output_is_told():
    command = [sys.executable, "-m", "lightxling", "--help"]
    with open("/dev/full", "w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 2
    assert done.stderr.startswith("lightxling: cannot write the output: No space left on device")
    assert done.stderr.count("\n") == 1


def test_a_warning_is_one_line(tmp_path):
    (tmp_path / "long.txt").write_text("far too long " * 500)
    command = [sys.executable, "-m", "lightxling", "encode", "long.txt", "-o", "vectors.npy"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0
    (line,) = [line for line in done.stderr.splitlines() if "longer than" in line]
    assert line.startswith("lightxling: a sentence is longer than")
    assert ".py" not in done.stderr


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["trian"], "perhaps you meant train"),
        (["train", "lihgt", "--workdir", "x"], "perhaps you meant light"),
        (["train", "--workdir", "x"], "no text is named: --corpus.sources"),
        (["train", "light", "--workdir", "x", "--from-scratch", "True"], "leave it or light out"),
        (["train", "light", "--workdir", "x", "--train.batchsize", "3"], "--train.batch-size"),
        (["train", "light", "--workdir", "x", "--train.batch-size", "many"], "invalid"),
        (["train", "light"], "--workdir"),
        (["train", "light", "--workdir", "x"], "corpus.sources"),
        (["prepare", "light", "--corpus.sources", "en-fr=missing.tsv"], "missing.tsv"),
        (["prepare", "light", "--corpus.sources", "missing.tsv"], "en-fr"),
        (["prepare", "light", "--model.width", "500", "--model.heads", "8"], "496 or 504"),
        (["encode", "missing", "sentences.txt"], "missing"),
        (["search", "missing", "sentences.txt"], "missing"),
        (["search", "", "sentences.txt", "--query", "x"], "the path of the model is empty"),
        (["search", "s.txt", "--query", "x", "--k", "0"], "--k 0 should be at least 1"),
        (["search", "s.txt", "--query", "x", "--k", "-1"], "--k -1 should be at least 1"),
        (["encode", "", "sentences.txt"], "the path of the model is empty"),
        (["encode", "n" * 300], "is neither a text nor a model"),
        (["encode", "n" * 300, "sentences.txt"], "no model at"),
        (["encode", "s.txt", "--batch-size", "0"], "--batch-size 0 is too few; use 1 or more"),
        (["evaluate", "missing", "--task", "retrieval", "--data", "x.tsv"], "missing"),
        (["evaluate", "x", "--task", "bucc", "--data", "x", "--neighbours", "0"], "--neighbours 0"),
        (["evaluate", "x", "--task", "nli", "--data", "x", "--seeds", "-2"], "--seeds -2"),
        (["mine", "a.txt", "b.txt", "--neighbours", "0"], "--neighbours 0 is too few"),
        (["mine", "a", "b", "--engine", "ray", "--neighbours", "0"], "--neighbours 0 is too few"),
        (["compare"], "no run is given"),
    ],
)
def test_mistakes_end_in_one_message(capsys, tmp_path, monkeypatch, argv, message):
    monkeypatch.chdir(tmp_path)
    code, text = run(capsys, *argv)
    assert code == 2
    assert message in text.replace("\n", " ")
    assert "Traceback" not in text
    assert not list(tmp_path.iterdir())


def test_an_empty_corpus_is_named(capsys, tmp_path):
    empty = tmp_path / "empty.tsv"
    empty.touch()
    source = ("--corpus.sources", f"en-fr={empty}", "--corpus.store", tmp_path / "stores")
    code, text = run(capsys, "prepare", "light", *source)
    assert code == 2
    assert "empty" in text


def test_a_vocabulary_too_large_for_the_text_names_the_largest(capsys, corpus, tmp_path):
    source = ("--corpus.sources", f"aa-bb={corpus}", "--corpus.store", tmp_path / "stores")
    code, text = run(capsys, "prepare", "light", *source)
    assert code == 2
    assert "vocab" in text
    assert "16000" in text.replace(",", "")


def test_bad_lines_are_counted_and_placed(capsys, corpus, tmp_path):
    bad = tmp_path / "bad.tsv"
    lines = corpus.read_bytes().splitlines(keepends=True)
    bad.write_bytes(b"".join([*lines[:2], b"one column\n", b"\xff\xfe\tx\n", *lines[2:]]))
    code, text = run(
        capsys, "prepare", "light", "--corpus.sources", f"aa-bb={bad}",
        "--corpus.store", tmp_path / "stores", "--tokenizer.vocab-size", 300,
    )  # fmt: skip
    assert code == 0, text
    assert "bad.tsv:3" in text
    assert "bad.tsv:4" in text


def test_encode_reads_an_export_and_says_what_belongs_to_a_job(capsys, tmp_path):
    model, text = tmp_path / "model", tmp_path / "a.txt"
    model.mkdir()
    write_format(bundle(), model, "safetensors")
    text.write_text("the cat\n\nle chat\n")
    code, said = run(capsys, "encode", model, text, "-o", tmp_path / "a.npy")
    assert (code, np.load(tmp_path / "a.npy").shape) == (0, (3, 32)), said
    code, said = run(capsys, "encode", model, text, text, "-o", tmp_path / "b.npy")
    assert (code, "2 files are given; give one, or --engine ray" in said) == (2, True), said
    code, said = run(capsys, "encode", model, text, "--dtype", "float16")
    assert (code, "--engine ray" in said) == (2, True), said


def test_a_pipe_is_a_text(tmp_path):
    reading, writing = os.pipe()
    os.write(writing, b"the cat\nle chat\n")
    os.close(writing)
    command = [sys.executable, "-m", "lightxling", "encode", f"/dev/fd/{reading}", "-o", "v.npy"]
    done = subprocess.run(command, cwd=tmp_path, pass_fds=[reading], capture_output=True, text=True)
    os.close(reading)
    assert done.returncode == 0, done.stderr
    assert len(np.load(tmp_path / "v.npy")) == 2


def test_a_model_is_what_comes_before_the_texts():
    text, folder = str(Path(__file__)), str(Path(__file__).parent)
    assert model_first([], None) == (None, [])
    assert model_first(["-"], None) == (None, ["-"])
    assert model_first([text], None) == (None, [text])
    assert model_first([text, text], None) == (None, [text, text])
    assert model_first([folder], None) == (folder, [])
    assert model_first(["missing", text, text], None) == ("missing", [text, text])
    assert model_first(["a"], 1) == (None, ["a"])
    assert model_first(["a", "b"], 1) == ("a", ["b"])
    assert model_first(["a", "b"], 2) == (None, ["a", "b"])
    assert model_first(["a", "b", "c"], 2) == ("a", ["b", "c"])
    for inputs, rest in ((["missing"], None), ([], 1), (["a", "b", "c"], 1), (["a"], 2)):
        with pytest.raises(UserError, match=r"missing is neither|paths given"):
            model_first(inputs, rest)
