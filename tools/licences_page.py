"""Writes docs/licences.md: what the wheel holds and what an installation brings, with licences.

    python tools/licences_page.py [docs/licences.md]

Installs the wheel with each extra into an empty environment and asks pip-licenses. Needs uv. Where
the services of pip-audit are reached, its findings are there too; otherwise that they were not.
"""

import json
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

import measure_install as installing

from lightxling.base.places import packaged

NAMED = {
    "sentence-transformers": "PyTorch and what it needs",
    "mteb": "PyTorch and what it needs",
    "cuda": "NVIDIA's libraries, under its own licence",
    "tpu": "libtpu, under Google's terms",
}
"""Extras of which the page says only what they bring."""

LICENCE = "Apache-2.0; who passes one on credits its corpora"
CONTENTS = f"""
| part of the wheel | licence | where it says so |
| --- | --- | --- |
| code, recipes, page of the search in a browser | Apache-2.0 | `LICENSE` |
| sentences of `quickstart` (`corpus/everyday`) | CC0-1.0 | README, "Data and licence" |
| encoders ({", ".join(packaged())}) | {LICENCE} | the card of each, `NAME/README.md` |
| `export/web/runtime-license.txt` | text of a licence | itself |

onnxruntime-web (MIT) is not in the wheel: `export --format web` fetches it from npm's registry, and
writes its licence beside it.
"""


def extras() -> list[str]:
    """Those of the package, but for its developers'; the plain installation first."""
    project = tomllib.loads((installing.ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    return ["", *sorted(set(project["optional-dependencies"]) - {"test", "docs"})]


def install(folder: Path, wheel: Path, extra: str) -> installing.Installed:
    """An empty environment that receives the wheel; nothing is compiled, as nothing is run."""
    where, what = installing.Installed(folder, 0.0), f"{wheel}[{extra}]" if extra else str(wheel)
    for command in (
        ["venv", "--no-python-downloads", "--python", sys.executable, folder],
        ["pip", "install", "--python", where.python, what],
    ):
        subprocess.run(["uv", "--quiet", *command], check=True, env=installing.clean())
    return where


def licences(where: installing.Installed) -> dict[str, tuple[str, str]]:
    """Licence and version of every package of an environment."""
    command = ["uvx", "--quiet", "pip-licenses", "--python", str(where.python), "--format", "json"]
    said = subprocess.run(
        [*command, "--from", "mixed"], check=True, capture_output=True, env=installing.clean()
    )
    return {
        row["Name"]: (" ".join(row["License"].split())[:60], row["Version"])
        for row in json.loads(said.stdout)
        if row["Name"] != "lightxling"
    }


def advisories(where: installing.Installed) -> str:
    """What pip-audit finds, in a sentence."""
    command = ["uvx", "--quiet", "pip-audit", "--path", str(where.packages()), "--format", "json"]
    done = subprocess.run(command, capture_output=True, text=True, env=installing.clean())
    try:
        packages = json.loads(done.stdout)["dependencies"]
    except ValueError:
        packages = []
    asked = [one for one in packages if "vulns" in one and one["name"] != "lightxling"]
    if not asked:
        return "not looked up: pip-audit reached no database of advisories where this was written"
    found = [f"{one['name']} {vuln['id']}" for one in asked for vuln in one["vulns"]]
    return f"{len(asked)} packages looked up; " + (", ".join(found) or "none is known")


def main() -> None:
    page = Path(sys.argv[1]) if len(sys.argv) > 1 else installing.ROOT / "docs" / "licences.md"
    known: dict[str, tuple[str, str]] = {}
    brought: dict[str, list[str]] = {}
    with tempfile.TemporaryDirectory() as text:
        wheel = installing.build(installing.ROOT, Path(text))
        for extra in [one for one in extras() if one not in NAMED]:
            where = install(Path(text) / f"env-{extra}", wheel, extra)
            found = licences(where)
            known |= found
            for name in found:
                brought.setdefault(name, []).append(extra or "plain")
            if extra == "train":
                audit = advisories(where)
    rows = [
        f"| {name} | {known[name][1]} | {known[name][0]} | "
        f"{'plain' if 'plain' in brought[name] else ', '.join(brought[name])} |"
        for name in sorted(known, key=str.lower)
    ]
    strict = [
        f"{name} (extra {', '.join(brought[name])})"
        for name in sorted(known)
        if "GPL" in known[name][0]
    ]
    lines = [
        "# Licences",
        "",
        "Written by `python tools/licences_page.py`, from what the packages say of themselves.",
        "",
        "## What the wheel holds",
        CONTENTS,
        "## What an installation brings",
        "",
        "The newest versions on Linux, and the extras that bring them; `plain` comes always. Of",
        "these extras only this is said:",
        "",
        *(f"- `{name}` brings {what}." for name, what in NAMED.items()),
        "",
        "Under the GPL, which holds for whoever passes it on together with a program that uses it:",
        f"{', '.join(strict) or 'none'}. What a package calls UNKNOWN, its own pages say.",
        "",
        f"Advisories for the extra `train`: {audit}.",
        "",
        "| package | version | licence | extras |",
        "| --- | --- | --- | --- |",
        *rows,
        "",
    ]
    page.write_text("\n".join(lines), "utf-8")


if __name__ == "__main__":
    main()
