"""Completion in shells: the scripts are run by the shells that are at hand."""

import shutil
import subprocess

import pytest
from test_cli import options, run

from lightxling.base.places import packaged
from lightxling.cli import COMMANDS
from lightxling.completion import SHELLS, described, help_text
from lightxling.config.files import recipes
from lightxling.export.quantize import DTYPES

AT_THE_END = """
COMP_WORDS=("$@")
COMP_CWORD=$(($# - 1))
_lightxling
printf '%s\\n' "${COMPREPLY[@]}"
"""


@pytest.fixture(scope="module")
def scripts(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scripts")
    (folder / "empty").mkdir()
    return folder


@pytest.fixture
def completed(scripts, capsys, monkeypatch):
    """What bash offers for the last word of a line."""
    if shutil.which("bash") is None:
        pytest.skip("needs bash")
    file = scripts / "complete.bash"
    if not file.exists():
        code, script = run(capsys, "--completion", "bash")
        assert code == 0
        file.write_text(script + AT_THE_END, "utf-8")
    monkeypatch.chdir(scripts / "empty")

    def complete(*words):
        command = ["bash", "--norc", str(file), "lightxling", *words]
        done = subprocess.run(command, capture_output=True, text=True)
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout.split()

    return complete


def test_the_first_word_is_a_command(completed):
    assert completed("e") == ["evaluate", "encode", "export"]
    assert set(COMMANDS) <= set(completed(""))


def test_options_are_those_of_the_help_text(completed, capsys):
    for name in ("encode", "export", "serve"):
        _, text = run(capsys, name, "--help")
        expected = {option for option in options(text) if not option.startswith("--tyro")}
        assert expected <= set(completed(name, "--"))
    assert completed("train", "light", "--model.wid") == ["--model.width"]
    assert completed("encode", "--model.wid") == []


def test_values_are_completed_where_they_are_few(completed):
    assert completed("export", "--format", "s") == [
        "safetensors",
        "sentence-transformers",
        "stablehlo",
    ]
    assert completed("export", "--dtype", "") == list(DTYPES)
    assert completed("--completion", "z") == ["zsh"]


def test_names_stand_beside_files(completed, scripts):
    (scripts / "empty" / "static texts.txt").write_text("a")
    assert set(packaged()) <= set(completed("encode", ""))
    assert set(completed("train", "li")) == {name for name in recipes() if name.startswith("li")}
    assert " ".join(completed("encode", "static ")) == "static texts.txt"
    assert " ".join(completed("encode", "-o", "stat")) == "static texts.txt"


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_options(name):
    found = described(name, COMMANDS[name])
    assert len(found.options) > (name != "models")
    assert not any("tyro" in option for option in found.options)


@pytest.mark.parametrize("shell", SHELLS)
def test_the_script_is_one_of_the_shell(shell, capsys, tmp_path):
    if shutil.which(shell) is None:
        pytest.skip(f"needs {shell}")
    code, script = run(capsys, "--completion", shell)
    assert code == 0
    (tmp_path / "script").write_text(script, "utf-8")
    subprocess.run([shell, "-n", tmp_path / "script"], check=True)


def test_other_shells_are_refused(capsys):
    code, said = run(capsys, "--completion", "tcsh")
    assert code == 2
    assert "--completion tcsh should be one of bash, zsh, fish" in said
    assert run(capsys, "--completion")[0] == 2


def test_a_help_text_is_not_printed(capsys):
    assert "usage: lightxling models" in help_text(COMMANDS["models"], "--help")
    assert capsys.readouterr().out == ""
