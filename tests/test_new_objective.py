"""What a new objective costs: the edits of CONTRIBUTING.md, made in a copy of the package."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from lightxling.base.places import packaged

ROOT = Path(__file__).parent.parent
GUIDE = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
HEADED = r"```python\n# (\S+?)(?:, ([^\n]*))?\n(.*?)```"
BLOCKS = {(path, where): code for path, where, code in re.findall(HEADED, GUIDE, re.S)}
OBJECTIVES = "lightxling/objectives/"

STEPS = """
import sys
import jax
import numpy as np
from jaxtyping import install_import_hook

install_import_hook("lightxling", "beartype.beartype")
name, sentences = sys.argv[1], int(sys.argv[2])
from lightxling import config as configs
from lightxling.config.identity import identity_of
from lightxling.corpus.batch import Batch
from lightxling.corpus.sources import Source
from lightxling.corpus.readers import read_source
from lightxling.base.lines import Problems
from lightxling.model import build as models
from lightxling.objectives.combine import heads_of
from lightxling.train.micro_batch import value_and_grad

settings = configs.ObjectivesConfig.__dataclass_fields__[name].type
assert getattr(configs, settings.__name__) is settings
assert name not in identity_of(configs.ObjectivesConfig())
objectives = configs.only(**{name: settings(weight=1.0)})
rows = configs.rows_of(objectives)
source = Source.parse("-".join(["en"] * sentences) + "=" + sys.argv[3], rows)
assert [len(row) for row in read_source(source, Problems(), rows)] == [sentences] * 2
model, heads = configs.ModelConfig(layers=0, width=8, init="scaled"), heads_of(objectives, 2)
graphdef = models.structure(model, 20, heads)
params = jax.jit(lambda key: models.initialise(model, 20, key, heads))(jax.random.key(0))
tokens = np.random.default_rng(0).integers(3, 20, (8, sentences, 5)).astype(np.int32)
gradient = jax.jit(value_and_grad(objectives, graphdef))
for _ in range(3):
    (loss, terms), gradients = gradient(params, Batch(tokens, np.zeros(8, np.int32)), None)
    params = jax.tree.map(lambda p, g: p - 0.1 * g, params, gradients)
    print(float(terms[name]))
print(*sorted(params))
"""


def insert(package: Path, marker: str, code: str, after: bool = False) -> None:
    """Puts code before (or after) the one place of the package where `marker` stands."""
    (file,) = (f for f in package.rglob("*.py") if marker in f.read_text("utf-8"))
    text = file.read_text("utf-8")
    assert text.count(marker) == 1
    file.write_text(text.replace(marker, marker + code if after else code + marker), "utf-8")


def settings(package: Path, note: str = "") -> None:
    config = next(path for path, where in BLOCKS if where == "above ObjectivesConfig")
    marker = "@dataclasses.dataclass(frozen=True)\nclass ObjectivesConfig:"
    insert(package, marker, BLOCKS[config, f"above ObjectivesConfig{note}"] + "\n\n")
    marker = "\n    def active(self)"
    insert(package, marker, BLOCKS[config, f"in ObjectivesConfig{note}"])


def two_vectors(package: Path) -> None:
    settings(package)
    (package.parent / OBJECTIVES / "hinge.py").write_text(BLOCKS[OBJECTIVES + "hinge.py", ""])


def with_a_head(package: Path) -> None:
    settings(package)
    start = BLOCKS[OBJECTIVES + "hinge.py", ""].split("def hinge_term")[0]
    end = BLOCKS[OBJECTIVES + "hinge.py", "with a head"]
    (package.parent / OBJECTIVES / "hinge.py").write_text(start + end)


def rows_of_its_own(package: Path) -> None:
    settings(package, ": rows of its own")
    (kind,) = (code for (_, where), code in BLOCKS.items() if where == "in Rows")
    insert(package, "\nRows = Literal[", kind.strip() + ", ", after=True)
    (package.parent / OBJECTIVES / "triplet.py").write_text(BLOCKS[OBJECTIVES + "triplet.py", ""])


@pytest.mark.parametrize(
    ("edit", "name", "sentences", "told", "parts"),
    [
        (two_vectors, "hinge", 2, "of two vectors", "encoder"),
        (with_a_head, "hinge", 2, "with a head of its own", "encoder hinge"),
        (rows_of_its_own, "triplet", 3, "with rows of its own", "encoder"),
    ],
)
def test_an_objective_costs_the_edits_that_are_listed(tmp_path, edit, name, sentences, told, parts):
    old, new = ROOT / "lightxling", tmp_path / "lightxling"
    data = shutil.ignore_patterns("__pycache__", *packaged(), "everyday", "*.tsv", "web")
    shutil.copytree(old, new, ignore=data)
    edit(new)
    files = [path.relative_to(new) for path in new.rglob("*.py")]
    added = [file for file in files if not (old / file).exists()]
    kept = (file for file in files if file not in added)
    touched = [file for file in kept if (new / file).read_bytes() != (old / file).read_bytes()]
    assert [file.name for file in added] == [f"{name}.py"]
    assert re.search(rf"\| {told} \| {len(touched)} \|", GUIDE), touched

    text = tmp_path / "text.tsv"
    text.write_text("a b\tb c\tc d\nb\tc\td\n")
    flags = {"PYTHONPATH": str(tmp_path), "XLA_FLAGS": "--xla_backend_optimization_level=0"}
    done = subprocess.run(
        [sys.executable, "-c", STEPS, name, str(sentences), str(text)],
        env={**os.environ, **flags},
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    *losses, last = done.stdout.splitlines()
    assert float(losses[0]) > float(losses[1]) > float(losses[2])
    assert last == parts
