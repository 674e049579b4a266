"""The wheel in empty environments: what works, with the lowest versions that are allowed too.

Needs uv, and the registry that pip knows. Interpreters that are not at hand are skipped.
"""

import functools
import itertools
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import lightxling

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tools"))
import measure_install as installing  # noqa: E402

sys.path.pop(0)

pytestmark = pytest.mark.skipif(shutil.which("uv") is None, reason="needs uv")

ASKED = {
    "evaluate --task classification": "train",
    "export --format onnx": "export",
    "export --format stablehlo": "export,train",
    "serve": "serve",
    "encode --engine ray": "ray",
    "train": "train",
    "plan": "train",
    "sweep": "train",
    "encode of a run": "train",
    "quickstart": "train",
    "modular": "train",
}
"""What a plain install does not do, and the extras that do."""


@pytest.fixture(scope="session")
def wheel(tmp_path_factory):
    return installing.build(ROOT, tmp_path_factory.mktemp("dist"))


@pytest.fixture(scope="module")
def plain(wheel, tmp_path_factory):
    return installing.install(tmp_path_factory.mktemp("plain") / "env", wheel)


@pytest.mark.install
def test_a_plain_install_does_all_but_what_names_its_extra(plain, tmp_path):
    found = installing.walk(plain, tmp_path)
    assert {name: asked for name, asked in found.items() if asked} == ASKED
    commands = {words.split()[0] for words in installing.WALK.values()}
    from lightxling.cli import COMMANDS

    assert commands == COMMANDS.keys()


@pytest.mark.install
def test_a_plain_install_is_smaller_than_its_lightest_rival_that_brings_no_encoder(plain, tmp_path):
    rival = installing.install(tmp_path / "env", installing.RIVAL)
    assert installing.size(plain.packages()) < installing.size(rival.packages())


@pytest.mark.install
def test_a_plain_install_encodes_at_once_and_imports_nothing_heavy(plain):
    first = installing.cold(plain)
    assert first["heavy"] == []
    expected = lightxling.Encoder.load().encode("Where is the station?")
    np.testing.assert_allclose(first["vector"], expected[:8], atol=1e-5)


@pytest.mark.install
def test_python_names_the_extra_too(plain):
    code = (
        "import lightxling\n"
        "try: lightxling.train.train\n"
        "except Exception as error: print(type(error).__name__, error)"
    )
    said = plain.run("-c", code).strip()
    assert said == 'UserError training needs jax: pip install "lightxling[train]"'


install = functools.partial(installing.install, compiles=False)
HERE = ".".join(map(str, sys.version_info[:2]))
"""The Python that runs the tests."""


def combinations(resolutions, essential):
    """(Python, resolution) of every Python; -m install asks for the essential ones, -m matrix for
    the others."""
    found = []
    for python, resolution in itertools.product(installing.PYTHONS, resolutions):
        is_essential = python == HERE and resolution in essential
        mark = pytest.mark.install if is_essential else pytest.mark.matrix
        found.append(pytest.param(python, resolution, marks=mark, id=f"{python}-{resolution}"))
    return found


@pytest.mark.parametrize(
    "resolution",
    [
        pytest.param("lowest-direct", marks=pytest.mark.install),
        pytest.param("highest", marks=pytest.mark.matrix),
    ],
)
@pytest.mark.parametrize("extras", ["export", "serve"])
def test_an_extra_does_what_asked_for_it(extras, resolution, wheel, tmp_path):
    where = install(tmp_path / "env", wheel, extras, resolution=resolution)
    names = [name for name, asked in ASKED.items() if asked == extras]
    (tmp_path / "here").mkdir()
    assert installing.walk(where, tmp_path / "here", names) == dict.fromkeys(names, "")


@pytest.mark.parametrize(
    ("python", "resolution"),
    combinations(["lowest", "lowest-direct", "highest"], ["lowest", "lowest-direct"]),
)
def test_encoding_on_every_python(python, resolution, wheel, tmp_path):
    program = installing.interpreter(python) or pytest.skip(f"no Python {python} at hand")
    beside = ["pytest>=8.2", "hypothesis>=6.100", "filelock>=3.12"]
    where = install(tmp_path / "env", wheel, "", program, resolution, beside)
    expected = lightxling.Encoder.load().encode("Where is the station?")
    np.testing.assert_allclose(installing.cold(where, 1)["vector"], expected[:8], atol=1e-5)
    copy_tests(tmp_path / "tests")
    where.run("-m", "pytest", *QUIETLY, *TESTS, cwd=tmp_path / "tests")


TESTS = ("test_encoders.py", "test_search.py", "test_lines.py", "test_screen.py")
QUIETLY = ("-q", "-W", "error", "--noconftest", "-p", "no:cacheprovider", "-p", "no:xdist")
"""Without conftest.py, which asks for training."""


def copy_tests(folder: Path) -> None:
    """Tests and what they import, where they see the installed package and not the checkout."""
    folder.mkdir()
    for file in (ROOT / "tests").glob("*.py"):
        shutil.copy(file, folder)
    (folder / "pytest.ini").write_text("[pytest]\n", "utf-8")


@pytest.mark.parametrize(
    ("python", "resolution"),
    combinations(["lowest-direct", "highest"], ["lowest-direct"]),
)
def test_training_and_what_becomes_of_it(python, resolution, wheel, tmp_path):
    program = installing.interpreter(python) or pytest.skip(f"no Python {python} at hand")
    where = install(tmp_path / "env", wheel, "train", program, resolution)
    (tmp_path / "here").mkdir()
    names = ["prepare", "train", "encode of a run", "report", "evaluate --task classification"]
    found = installing.walk(where, tmp_path / "here", names)
    assert found == dict.fromkeys(names, "")
    assert np.load(tmp_path / "here" / "run.npy").shape == (len(installing.WORDS), 16)


@pytest.mark.install
def test_it_runs_from_the_wheel_without_an_installation(wheel, tmp_path):
    installing.write_texts(tmp_path)
    command = ["uvx", "--quiet", "--python", sys.executable, "--from", wheel, "lightxling"]
    said = subprocess.run(
        [*command, "search", "texts.txt", "--query", "The train is late."],
        cwd=tmp_path, env=installing.clean(), capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    assert "Der Zug in " in said
