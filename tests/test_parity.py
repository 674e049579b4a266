"""Recipes with a paper's name have the paper's numbers, or the page says why not."""

import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
TOOL = runpy.run_path(str(ROOT / "tools" / "parity_page.py"))


ROWS = {name: rows for name, _, rows in TOOL["TABLES"]}


@pytest.mark.parametrize("name", ROWS)
def test_a_recipe_agrees_with_its_paper_or_says_why(name):
    config, rows = TOOL["recipe"](name), ROWS[name]
    silent = [row.what for row in rows if not row.why and not row.agrees(config)]
    needless = [row.what for row in rows if row.why and row.agrees(config)]
    assert (silent, needless) == ([], [])


def test_the_page_has_what_is_measured():
    page = (ROOT / "docs" / "parity.md").read_text("utf-8")
    assert page == TOOL["page"](), "run python tools/parity_page.py"
