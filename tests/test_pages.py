"""The README and the pages beside and behind it: what they link to, and the commands, options,
settings, files and recipes that they name."""

import contextlib
import functools
import io
import re
import runpy
from pathlib import Path

import pytest

from lightxling.cli import COMMANDS, main
from lightxling.config.schema import AdapterConfig, Config, StageConfig, TaskConfig
from lightxling.config.settings import change, settings_of

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
GUIDES = [ROOT / f"{name}.md" for name in ("CONTRIBUTING", "CHANGELOG", "SECURITY")]
CARDS = sorted((ROOT / "lightxling").glob("*/README.md"))
every_page = pytest.mark.parametrize(
    "page", [*PAGES, *GUIDES, *CARDS], ids=lambda page: f"{page.parent.name}/{page.name}"
)


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


@every_page
def test_blocks_of_code_are_closed_and_hold_no_prose(page):
    _, code = parts(page)
    assert not [line for line in code if re.match(r"`|## |\| ", line)]


@every_page
def test_links_lead_somewhere(page):
    prose, _ = parts(page)
    links = re.findall(r"\]\(([^)#]+)[^)]*\)", "\n".join(prose))
    local = [link for link in links if "://" not in link]
    assert not [link for link in local if not (page.parent / link).exists()]


def command_lines(page: Path) -> list[tuple[str, str]]:
    """Name and arguments of every lightxling command in code, in blocks and in the text."""
    prose, code = parts(page)
    text = "\n".join(code).replace("\\\n", " ")
    lines = re.findall(r"(?:^|\$ |&& |')lightxling (\S+)([^|'\n]*)", text, re.MULTILINE)
    return lines + re.findall(r"`lightxling (\w+)([^`]*)`", "\n".join(prose))


def spans(page: Path) -> list[str]:
    """What stands in code within the text."""
    return re.findall(r"`([^`]+)`", "\n".join(parts(page)[0]))


@every_page
def test_commands_exist(page):
    placeholders = {"--help", "--completion", "--version", "help", "COMMAND", "RECIPE"}
    assert {name for name, _ in command_lines(page)} <= {*COMMANDS, *placeholders}


SETTINGS = {
    one.name
    for one in settings_of(
        change(
            Config(),
            tasks=(TaskConfig(),),
            model__adapters=(AdapterConfig(),),
            stages=(StageConfig(),),
        )
    )
}
"""Of a run with a task, a stage and an adapter."""


@functools.cache
def options(name: str) -> set[str]:
    """The options of a command, from its help text and, where it takes a recipe, the settings."""
    with contextlib.redirect_stdout(io.StringIO()) as told, contextlib.suppress(SystemExit):
        main([name, "--help"])
    found = set(re.findall(r"^[│ ]+(?:-\w.*?, )?(--[\w.-]+)", told.getvalue(), re.MULTILINE))
    if name in ("prepare", "train", "plan", "sweep"):  # which sweep takes after --
        found |= {f"--{setting.replace('_', '-')}" for setting in SETTINGS} | {"--help-all"}
    return found | {"-o", "--help"}


def options_in(text: str) -> set[str]:
    """The options that are typed in a text; the number of a task or an adapter as 0."""
    found = re.findall(r"(?<![\w-])(--[a-z][\w.-]*\w|-o)\b", text)
    return {re.sub(r"\.[1-9N]\.", ".0.", option) for option in found}


@every_page
def test_options_of_commands_exist(page):
    unknown = {
        (name, option)
        for name, arguments in command_lines(page)
        if name in COMMANDS
        for option in options_in(arguments) - options(name)
    }
    assert not unknown


@every_page
def test_options_in_the_text_exist(page):
    known = {"--version", "--completion"}.union(*map(options, COMMANDS))
    others = re.compile(r"(python3?|npm|pip|sbatch|benchmark\.py|twine|SOURCE_DATE_EPOCH)\b")
    own = "\n".join(span for span in spans(page) if not others.match(span))
    assert not options_in(own) - known


@every_page
def test_settings_in_the_text_exist(page):
    tables = "|".join(sorted({setting.partition(".")[0] for setting in SETTINGS} - {"name"}))
    named = {span for span in spans(page) if re.fullmatch(rf"({tables})(\.[a-z_0]+)+", span)}
    files = {"corpus.en", "corpus.fr", "tokenizer.json"}
    tables_too = {setting[:end] for setting in SETTINGS for end in range(len(setting))}
    assert named - files <= SETTINGS | tables_too


MADE = {f"lightxling/objectives/{name}.py" for name in ("hinge", "triplet")}
MADE |= {"configs/hinge.py", "tests/test_hinge.py"}
"""What CONTRIBUTING tells to write."""


def stands_in_the_package(name: str) -> bool:
    """Whether a dotted name is a module, or begins with one that has the next name in its text."""
    place, rest = ROOT, name.split(".")
    while rest and (place / rest[0]).is_dir():
        place /= rest.pop(0)
    if rest and (place / f"{rest[0]}.py").exists():
        file = place / f"{rest.pop(0)}.py"
    else:
        file = place / "__init__.py"
    text = file.read_text("utf-8")
    if "import *" in text:  # the face of a folder
        text = "".join(one.read_text("utf-8") for one in file.parent.glob("*.py"))
    return not rest or bool(re.search(rf"\b{rest[0]}\b", text))


@every_page
def test_files_and_modules_exist(page):
    text = page.read_text("utf-8")
    paths = set(re.findall(r"(?<![\w./])(?:lightxling|tools|configs|tests)/[\w./-]*\w", text))
    for span in spans(page):
        if match := re.fullmatch(r"([a-z_]+/\w+\.py)(?::(\w+))?", span):
            path, name = match.groups()
            file = ROOT / path if (ROOT / path).exists() else ROOT / "lightxling" / path
            assert f"lightxling/{path}" in MADE or path in MADE or file.exists(), span
            assert not name or re.search(rf"\b{name}\b", file.read_text("utf-8")), span
            paths.discard(path)
        if re.fullmatch(r"test_\w+", span):
            paths.add(f"tests/{span}.py")
    missing = {path for path in paths - MADE if not (ROOT / path).exists()}
    assert not missing - {"lightxling/lightxling"}
    dotted = re.findall(r"(?<![\w./-])lightxling(?:\.[A-Za-z_]\w*)+", text)
    assert not [name for name in dotted if not stands_in_the_package(name)]
    for module, names in re.findall(r"^from (lightxling[\w.]*) import ([\w, ]+)$", text, re.M):
        for name in re.findall(r"\w+", re.sub(r" as \w+", "", names)):
            assert name.endswith(("HingeConfig", "TripletConfig")) or stands_in_the_package(
                f"{module}.{name}"
            ), f"{module}.{name}"


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_is_on_a_page(name):
    code = re.compile(rf"(?:^|[`$ ])lightxling {name}\b", re.MULTILINE)
    assert any(code.search(page.read_text("utf-8")) for page in PAGES)


def test_the_page_of_settings_is_that_of_the_code():
    written = runpy.run_path(str(ROOT / "tools" / "settings_page.py"))["page"]()
    page = (ROOT / "docs" / "settings.md").read_text("utf-8")
    assert page == written, "run python tools/settings_page.py"


def test_the_page_of_recipes_lists_every_one():
    page = (ROOT / "docs" / "recipes.md").read_text("utf-8")
    listed = page.partition("\n## Recipes\n")[2]
    named = set(re.findall(r"`([\w.-]+)`", "".join(re.findall(r"^\|([^|]*)\|", listed, re.M))))
    recipes = {file.stem for file in (ROOT / "configs").glob("*.py")}
    modular_v1 = {name for name in recipes if name.startswith("modular-v1-")}
    assert named - {"modular-v1-..."} == recipes - modular_v1
