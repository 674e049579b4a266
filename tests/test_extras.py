"""What the plain install lacks is named by the extra that brings it, in one line."""

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from lightxling import cli
from lightxling.base.errors import UserError
from lightxling.base.extras import EXTRAS, needed_by, require

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
DISTRIBUTIONS = {
    "backports": "backports.zstd",
    "faiss": "faiss-cpu",
    "google": "protobuf",
    "orbax": "orbax-checkpoint",
    "prometheus_client": "prometheus-client",
    "jaxlib": "jax",
    "pyarrow": "ray",
    "sentence_transformers": "sentence-transformers",
    "torch": "sentence-transformers",
    "tensorflow_datasets": "tensorflow-datasets",
    "translate": "translate-toolkit",
}
"""Names in pyproject.toml of packages that are imported under another, or come with another."""


def distributions(requirements):
    return {re.match(r"[\w.-]+", text)[0] for text in requirements}


BASE = distributions(PROJECT["dependencies"])


def imports(path: Path):
    """(package, whether the line runs when the module is imported) of a file's imports."""
    tree = ast.parse(path.read_text("utf-8"))
    inner = {
        id(node)
        for function in ast.walk(tree)
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef)
        for node in ast.walk(function)
    }
    for node in ast.walk(tree):
        names = [one.name for one in node.names] if isinstance(node, ast.Import) else []
        names += [node.module] if isinstance(node, ast.ImportFrom) else []
        yield from ((name.partition(".")[0], id(node) not in inner) for name in names)


def third_party(path: Path):
    own = {*sys.stdlib_module_names, "compression", "lightxling"}  # the former since Python 3.14
    return {name for name, _ in imports(path) if name not in own}


def test_every_package_is_in_the_plain_install_or_in_an_extra():
    lacking = {}
    for path in sorted((ROOT / "lightxling").rglob("*.py")):
        for package in third_party(path):
            distribution = DISTRIBUTIONS.get(package, package)
            if distribution in BASE:
                continue
            extra = PROJECT["optional-dependencies"].get(EXTRAS.get(package, ""), [])
            if distribution not in distributions(extra):
                lacking[package] = str(path)
    assert lacking == {}


def test_every_extra_that_is_named_exists():
    assert set(EXTRAS.values()) <= PROJECT["optional-dependencies"].keys()


def test_the_plain_install_has_nothing_that_no_file_imports():
    used = {
        DISTRIBUTIONS.get(package, package)
        for path in (ROOT / "lightxling").rglob("*.py")
        for package in third_party(path)
    }
    assert used >= BASE


def test_devices_and_tests_come_with_training():
    for extra in ("cuda", "tpu", "test"):
        (own,) = (r for r in PROJECT["optional-dependencies"][extra] if "lightxling[" in r)
        assert "train" in own


def test_modules_that_know_no_jax_take_shapes_from_one_place():
    """jaxtyping comes with training, and takes a tenth of a second to import."""
    wrong = [
        str(path)
        for path in (ROOT / "lightxling").rglob("*.py")
        if "jaxtyping" in (names := third_party(path))
        and names.isdisjoint({"jax", "flax"})
        and path.name != "shapes.py"
    ]
    assert wrong == []


def test_shapes_say_nothing_without_jaxtyping():
    code = (
        "import sys, numpy as np; from lightxling.base.shapes import Float, Int;"
        "assert Float[np.ndarray, 'N D'] is Int[np.ndarray, ' N'] is np.ndarray;"
        "assert 'jaxtyping' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


@pytest.fixture
def without(monkeypatch):
    def remove(*packages):
        for package in packages:
            monkeypatch.setitem(sys.modules, package, None)

    return remove


def test_all_that_lacks_is_named_at_once(without):
    without("jax", "flatbuffers")
    require("this", "numpy")
    with pytest.raises(UserError) as refused:
        require("this", "jax", "numpy", "flatbuffers")
    expected = 'this needs jax, flatbuffers: pip install "lightxling[export,train]"'
    assert str(refused.value) == expected


def test_an_import_is_named_by_the_one_who_needs_it(without):
    without("faiss")
    said = r'^that needs faiss: pip install "lightxling\[faiss\]"$'
    with pytest.raises(UserError, match=said), needed_by("that"):
        import faiss  # noqa: F401


def test_other_missing_modules_are_not_explained_away():
    """Neither one of no extra, nor a part that a package of an extra should have."""
    for name in ("no_such_package", "jax.no_such_part"):
        with pytest.raises(ModuleNotFoundError), needed_by("that"):
            __import__(name)


@pytest.mark.parametrize(
    "words",
    [
        ["quickstart", "--workdir", "new"],
        ["train", "light", "--workdir", "new", "--corpus.sources", "en-fr=no.tsv"],
        ["modular", "no", "--workdir", "new", "--sources", "en-fr=no.tsv"],
    ],
)
def test_training_is_refused_before_it_writes(words, without, tmp_path, monkeypatch, capsys):
    without("jax")
    monkeypatch.chdir(tmp_path)
    assert cli.main(words) == 2
    said = f'lightxling: lightxling {words[0]} needs jax: pip install "lightxling[train]"\n'
    assert capsys.readouterr().err == said
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", ["train", "quickstart", "modular"])
def test_help_needs_no_extra(command, without, capsys):
    without("jax")
    with pytest.raises(SystemExit) as ended:
        cli.main([command, "--help"])
    assert ended.value.code == 0
    assert f"lightxling {command}" in capsys.readouterr().out


def test_the_page_of_licences_has_every_extra():
    """As a column of the table, or as one of which only that is said."""
    page = (ROOT / "docs" / "licences.md").read_text("utf-8")
    rows = re.findall(r"^\|(?: [^|]+ \|){3} ([^|]+) \|$", page, re.M)
    cells = {one for row in rows for one in row.split(", ")} - {"---"}
    named = set(re.findall(r"^- `([\w-]+)` brings", page, re.M))
    wanted = set(PROJECT["optional-dependencies"]) - {"test", "docs"}  # for its developers
    assert wanted == (cells | named) - {"plain", "extras"}
