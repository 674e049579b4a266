"""The README and the pages behind it: what they link to, and the commands and recipes they name."""

import re
import runpy
from pathlib import Path

import pytest

from lightxling.cli import COMMANDS

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def parts(page: Path) -> tuple[list[str], list[str]]:
    """Lines outside and inside of blocks of code."""
    sides = ([], [])
    inside = False
    for line in page.read_text("utf-8").splitlines():
        if line.startswith("```"):
            inside = not inside
        else:
            sides[inside].append(line)
    assert not inside, "the last block of code is not closed"
    return sides


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_blocks_of_code_are_closed_and_hold_no_prose(page):
    _, code = parts(page)
    assert not [line for line in code if re.match(r"`|## |\| ", line)]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    prose, _ = parts(page)
    links = re.findall(r"\]\(([^)#]+)[^)]*\)", "\n".join(prose))
    local = [link for link in links if "://" not in link]
    assert not [link for link in local if not (page.parent / link).exists()]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_exist(page):
    _, code = parts(page)
    named = re.findall(r"(?:^|\$ |&& )lightxling (\S+)", "\n".join(code), re.MULTILINE)
    assert set(named) <= {*COMMANDS, "--help"}


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_is_on_a_page(name):
    code = re.compile(rf"(?:^|[`$ ])lightxling {name}\b", re.MULTILINE)
    assert any(code.search(page.read_text("utf-8")) for page in PAGES)


def test_the_page_of_settings_is_that_of_the_code():
    written = runpy.run_path(str(ROOT / "tools" / "settings_page.py"))["page"]()
    page = (ROOT / "docs" / "settings.md").read_text("utf-8")
    assert page == written, "run python tools/settings_page.py"


def test_the_readme_lists_every_recipe():
    listed = re.search(r"## Recipes\n(.*?)\n## ", PAGES[0].read_text("utf-8"), re.DOTALL)[1]
    named = set(re.findall(r"`([\w.-]+)`", "".join(re.findall(r"^\|([^|]*)\|", listed, re.M))))
    recipes = {file.stem for file in (ROOT / "configs").glob("*.py")}
    modular_v1 = {name for name in recipes if name.startswith("modular-v1-")}
    assert named - {"modular-v1-..."} == recipes - modular_v1
