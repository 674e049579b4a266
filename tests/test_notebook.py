"""The notebook of the documentation, executed from top to bottom in an empty folder."""

import re
from pathlib import Path

import pytest

NOTEBOOK = Path(__file__).parent.parent / "docs/notebooks/first.ipynb"


@pytest.mark.tutorial
def test_the_notebook_trains_measures_draws_and_exports(tmp_path):
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    client = nbclient.NotebookClient(notebook, resources={"metadata": {"path": str(tmp_path)}})
    client.execute()
    outputs = [one for cell in notebook.cells for one in cell.get("outputs", [])]
    text = "".join(one.get("text", "") for one in outputs)
    found = re.search(r"^P@1 ([\d.]+) among (\d+)$", text, re.M)
    assert float(found[1]) > 100 / int(found[2])  # more than by chance
    drawn = [one for one in outputs if "image/png" in one.get("data", {})]
    assert len(drawn) == 2
    assert (tmp_path / "runs/first-safetensors-int8/model.safetensors").exists()


def test_it_is_kept_without_outputs():
    nbformat = pytest.importorskip("nbformat")
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    assert not [cell for cell in notebook.cells if cell.get("outputs")]
