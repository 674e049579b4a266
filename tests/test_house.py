"""The rooms of the package, and what each may know: read from the source, nothing is run."""

import ast
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tools"))
import house as plan  # noqa: E402

sys.path.pop(0)

HOUSE = plan.read_house(ROOT)
JAX = {
    "base.processes",  # several processes as one run
    "encode.encoder",  # the backend jax, where it is asked for
    "evaluate.classification",  # trains heads on vectors
    "export.stablehlo",  # its file is a program of jax
    "saved.checkpoint",  # orbax
    "saved.bundle",  # the shapes of a run's parameters
    "saved.workdir",  # names the devices of a run
}
"""Modules outside of model, objectives and train that import jax, and why."""


def test_every_module_is_in_a_room():
    loose = {plan.room_of(module) for module in HOUSE.files} - {"", "__main__", *plan.ROOMS}
    assert not loose


def test_no_import_goes_back():
    assert plan.imports_back(HOUSE) == []


def test_no_circle():
    assert plan.circles(HOUSE) == []


def names_in(text: str) -> set[str]:
    """What a module defines, assigns or imports under a name that others may import from it."""
    names = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
        elif isinstance(node, ast.ImportFrom):  # on purpose: `x as x`, or the face of a folder
            names |= {one.name for one in node.names if one.asname or "__all__" in text}
            if node.names[0].name == "*":
                source = HOUSE.files[node.module.removeprefix("lightxling.")]
                names |= names_in(source.read_text("utf-8"))
    return names


def test_every_name_that_is_imported_stands_there():
    """Also in functions, and in modules that need a package which is not installed."""
    missing = []
    for module, tree in HOUSE.trees.items():
        for node in ast.walk(tree):
            if not isinstance(node, ast.ImportFrom) or not node.module.startswith("lightxling"):
                continue
            source = node.module.partition(".")[2]
            text = HOUSE.files[source].read_text("utf-8") if source in HOUSE.files else ""
            names = names_in(text)
            missing += [
                f"{module}:{node.lineno} {one.name}"
                for one in node.names
                if one.name not in {*names, "*"}
                and f"{source}.{one.name}".strip(".") not in HOUSE.files
            ]
    assert missing == []


def test_only_training_knows_jax():
    def knows(module: str) -> bool:
        names = {name.partition(".")[0] for name, _ in plan.imported_names(HOUSE.trees[module])}
        return not names.isdisjoint({"jax", "jaxlib", "flax", "optax", "orbax"})

    found = {module for module in HOUSE.files if knows(module)}
    rooms = {"model", "objectives", "train"}
    assert {module for module in found if plan.room_of(module) not in rooms} == JAX
    assert found.isdisjoint({"model.params", "model.forward"})


def test_functions_and_files_are_short():
    assert [place for lines, _, place in plan.functions(HOUSE) if lines > 80] == []
    assert {path: n for path, n in plan.line_counts(HOUSE).items() if n > 450} == {}


@pytest.fixture
def two_rooms(tmp_path):
    """A house with one import back, within a function, which closes a circle of three files."""
    files = {
        "__init__.py": "",
        "base/files.py": "def f():\n    from lightxling.train import loop\n",
        "train/loop.py": "import jax\nfrom lightxling.train.step import step\n",
        "train/step.py": "import lightxling.base.files\n",
    }
    for name, text in files.items():
        path = tmp_path / "lightxling" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return plan.read_house(tmp_path)


def test_the_reader_of_the_house_sees_what_is_wrong(two_rooms):
    (back,) = plan.imports_back(two_rooms)
    assert back.endswith("files.py:2 imports train.loop")
    assert plan.circles(two_rooms) == [["base.files", "train.loop", "train.step"]]
    assert plan.arrows(two_rooms) == {("base", "train"): 1, ("train", "base"): 1}


def test_a_name_of_a_module_is_an_import_of_that_module():
    tree = ast.parse("from lightxling.base import files\nfrom lightxling.base.files import atomic")
    house = plan.House({"base.files": Path("a"), "base": Path("b")}, {"x": tree}, [])
    found = [module for module, _ in plan._own_imports(tree, house.files)]
    assert found == ["base.files", "base.files"]
