"""The tutorials as they stand: from top to bottom, in an empty folder."""

import contextlib
import io
import re
import runpy
import shlex
import sys
from pathlib import Path

import pytest

from lightxling.cli import main
from lightxling.saved.bundle import load_bundle

PAGES = Path(__file__).parent.parent / "docs/tutorials"


def blocks(page: str) -> list[tuple[str, str]]:
    """Language and text of every block of code."""
    return re.findall(r"^```(\w*)\n(.*?)^```", page, re.M | re.S)


def commands(block: str) -> list[tuple[list[str], list[str]]]:
    """Words of every command that is typed at a `$`, and the lines below it."""
    found = []
    for line in block.replace("\\\n", " ").splitlines():
        if line.startswith("$ "):
            found.append((shlex.split(line[2:]), []))
        elif found:
            found[-1][1].append(line)
    return found


def typed(words: list[str]) -> str:
    """What a command prints; that it ends well is seen to here."""
    told = io.StringIO()
    with contextlib.redirect_stdout(told), contextlib.redirect_stderr(told):
        if words[:2] == ["python", "-m"]:
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(sys, "argv", words[2:])
                runpy.run_module(words[2], run_name="__main__")
        else:
            assert words[0] == "lightxling"
            assert not main(words[1:]), (words, told.getvalue())
    return told.getvalue()


def without_numbers(text: str) -> str:
    return re.sub(r"\d[\d.,:]*", "0", text).strip()


def run_page(name: str) -> dict[str, str]:
    """Runs a page; output of every command, by its words. What the page shows of an output stands
    there, in that order, whatever the numbers."""
    told, names = {}, {}
    for language, text in blocks((PAGES / f"{name}.md").read_text("utf-8")):
        file = re.match(r"# (\w+\.py)\n", text)
        if language == "python" and file:
            Path(file[1]).write_text(text, "utf-8")
        elif language == "python":
            with contextlib.redirect_stdout(io.StringIO()) as out:
                exec(text, names)
            told["python"] = out.getvalue()
        else:
            for words, shown in commands(text):
                output = told[shlex.join(words)] = typed(words)
                lines = iter(without_numbers(line) for line in output.splitlines())
                for line in shown:
                    assert line == "..." or without_numbers(line) in lines, (words, line, output)
    return told


@pytest.fixture(autouse=True)
def empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")


@pytest.mark.tutorial
def test_the_trainer_has_an_encoder_no_worse_than_its_start():
    told = run_page("trainer")
    (training,) = (output for words, output in told.items() if words.startswith("lightxling train"))
    start = re.search(r"step 0: dev P@1 ([\d.]+)", training)[1]
    best = re.search(r"^dev P@1 ([\d.]+), .* the start", training, re.M)[1]
    assert float(best) >= float(start)
    (asked,) = (output for words, output in told.items() if words.startswith("lightxling search"))
    assert re.search(r"^ *0\.\d+ .*muebles", asked, re.M)
    assert load_bundle("runs/office-safetensors-int8").dtype == "int8"
    assert Path("removed.tsv").stat().st_size
    assert Path("report.html").exists()


@pytest.mark.tutorial
def test_the_researcher_has_a_table_of_two_losses():
    told = run_page("researcher")
    (table, _) = (output for words, output in told.items() if words.startswith("lightxling sweep"))
    assert re.search(r"hinge +[-+]?\d+\.\d +[-+]\d+\.\d to [-+]\d+\.\d", table)
    assert {path.name for path in Path("runs/two").glob("*-[01]")} == {
        f"{recipe}-{seed}" for recipe in ("small", "hinge") for seed in (0, 1)
    }
    assert Path("small.html").exists()


@pytest.mark.export
def test_the_shipper_has_a_page_that_is_smaller_than_the_encoder():
    pytest.importorskip("onnx")
    told = run_page("shipper")
    assert re.search(r"^0\.\d\d  \S", told["python"], re.M)
    small, whole = load_bundle("en-fr"), load_bundle("static")
    assert small.languages == ("en", "fr")
    assert small.vocab_size < whole.vocab_size / 2
    assert Path("page/index.html").exists()
    assert Path("en-fr-onnx/onnx/model_quantized.onnx").exists()
